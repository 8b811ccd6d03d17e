//! `datamill try FILE … -- COMMAND`: what a command makes of local files, before there is a topic.

use std::fs;
use std::process::Command;

use super::bench::runs;
use crate::common::{Ended, Place, Running, wait_until};

/// Two files to try a command on, and a folder for what is made meanwhile.
fn place() -> Place {
    let place = Place::new();
    place.write("data/a b.csv", b"a,b\n1,2\n");
    place.write("data/c.bin", b"\xff\x00");
    fs::create_dir(place.path("temporary")).unwrap();
    place
}

fn command(place: &Place, options: &[&str], command: &[&str]) -> Command {
    let words = [&["try", "data/a b.csv", "data/c.bin"], options, &["--"], command].concat();
    let mut program = place.command(&words);
    program.env("TMPDIR", place.path("temporary"));
    program
}

/// Nothing of it stays.
fn tried(place: &Place, options: &[&str], words: &[&str]) -> Ended {
    let ended = Ended::from(command(place, options, words).output().unwrap());
    assert!(fs::read_dir(place.path("temporary")).unwrap().next().is_none(), "{}", ended.stderr());
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 2, "{}", ended.stderr());
    ended
}

#[test]
fn results_go_to_stdout_wherever_the_command_puts_them_and_what_it_says_to_stderr() {
    let place = place();
    for (options, words) in [
        (&[][..], &["cp", "{path}", "{result}"][..]),
        (&[], &["cp", "{path}", "{result}.csv"]),
        (&["--stdout"], &["cat", "{path}"]),
        (&["--stdout", "--stdin"], &["cat"]),
        (&[], &["sh", "-c", "cp \"$DATAMILL_PATH\" \"$DATAMILL_RESULT\"; echo done with $DATAMILL_FILENAME >&2"]),
    ] {
        let ended = tried(&place, options, words);
        assert_eq!(
            (ended.code(), ended.stdout()),
            (0, "a,b\n1,2\n\n(2 bytes that are not text)\n".into()),
            "{words:?}"
        );
        let said = ended.stderr();
        assert!(said.contains("data/a b.csv: 8 bytes, in ") && said.ends_with("2 with a result\n"), "{said}");
        assert_eq!(said.contains("done with a b.csv stream=stderr"), words[0] == "sh", "{said}");
    }
    let words = ["echo", "{relative_path} {subdirectory} {size} {topic} {partition} {offset} {attempt}"];
    let ended = tried(&place, &["--stdout"], &words);
    assert_eq!(ended.stdout(), "a b.csv  8 local 0 0 1\n\nc.bin  2 local 0 0 1\n\n");
}

#[test]
fn each_end_of_a_command_is_told_as_what_a_program_would_do() {
    let place = place();
    for (options, script, code, said) in [
        (&[][..], "true", 0, "2 without a result\na command without a result is one for `datamill process`"),
        (&[], "echo no header >&2; exit 3", 1, "a b.csv: failed: the command ended with exit code 3: no header"),
        (&[], "kill -SEGV $$", 1, "c.bin: failed: the command was ended by SIGSEGV"),
        (&[], "exit 75", 1, "2 not available"),
        (&[], "exit 78", 1, "with this file\nerror: 2 of the files not done"),
        (&["--processing_timeout", "0.2"], "sleep 600", 1, "failed: the command did not end within 0.2 s"),
        (&["--processing_timeout", "0"], "echo hello >&2", 0, "hello stream=stderr file=\"data/a b.csv\""),
        (
            &["--worker_memory", "100M"],
            "exec python3 -c 'import time; eaten = bytearray(b\"x\") * 300_000_000; time.sleep(600)'",
            1,
            "failed: the command had ",
        ),
    ] {
        let ended = tried(&place, options, &["sh", "-c", script]);
        let found = ended.stderr();
        assert!(ended.code() == code && found.contains(said), "{script}: {} {found}", ended.code());
        assert_eq!(ended.stdout(), "", "{script}");
    }
}

#[test]
fn a_worker_is_tried_in_one_process_and_ends_in_order() {
    let place = place();
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/workers/lines.py");
    let ended = tried(&place, &["--worker"], &["python3", example]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert_eq!(ended.stdout(), "{\"file\": \"a b.csv\", \"lines\": 2}\n{\"file\": \"c.bin\", \"lines\": 0}\n");
    assert!(!ended.stderr().contains("WARN"), "{}", ended.stderr());
}

#[test]
fn what_cannot_be_tried_is_refused_before_the_command_runs() {
    let place = place();
    for (words, said) in [
        (&["data/a b.csv", "nothing", "--", "touch", "ran"][..], "there is no file `nothing`"),
        (&["data", "--", "touch", "ran"], "`data` is a folder: name the files in it"),
        (&["data/c.bin", "--", "no-such-program"], "there is no program `no-such-program`"),
        (&["data/c.bin", "--stdout", "--", "cp", "{path}", "{result}"], "the result is either the file `{result}` or"),
        (&["--", "cat"], "datamill try [OPTIONS] <FILE>... -- <COMMAND>..."),
        (&["--", "cat"], "the files for a command stand before `--`"),
        (&["data/c.bin"], "any other program is a command, which stands with its words behind `--`"),
        (&["data/c.bin", "--processing_timeout=-1", "--", "cat"], "a number of seconds is expected, 0 or more"),
        (&["data/c.bin", "--worker", "--", "true"], "That one goes without --worker"),
        (&["a.py:f", "data/c.bin", "--worker_memory", "1G"], "<COMMAND>..."),
    ] {
        let ended = place.run(&[&["try"], words].concat());
        assert!(ended.code() == 2 && ended.stderr().contains(said), "{} {}", ended.code(), ended.stderr());
    }
    assert!(!place.path("ran").exists());
}

#[test]
fn a_signal_ends_the_command_with_all_that_it_has_started() {
    let place = place();
    let script = "setsid sleep 600 & echo $! > id; : > begun; wait";
    let program = Running(command(&place, &[], &["sh", "-c", script]).spawn().unwrap());
    wait_until("the command runs", || place.path("begun").exists());
    let id = fs::read_to_string(place.path("id")).unwrap();
    assert_eq!(program.end(), 130);
    assert!(!runs(&id));
    assert!(fs::read_dir(place.path("temporary")).unwrap().next().is_none());
}

#[test]
fn a_signal_ends_a_worker_that_never_says_hello() {
    let place = place();
    let script = "setsid sleep 600 & echo $! > id; : > begun; wait";
    let program = Running(command(&place, &["--worker"], &["sh", "-c", script]).spawn().unwrap());
    wait_until("the worker runs", || place.path("begun").exists());
    let id = fs::read_to_string(place.path("id")).unwrap();
    assert_eq!(program.end(), 130);
    wait_until("all that it has started has ended", || !runs(&id));
    assert!(fs::read_dir(place.path("temporary")).unwrap().next().is_none());
}
