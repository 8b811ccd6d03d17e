//! What a command is told, where its result is, and what is refused before anything is read.

use std::collections::BTreeMap;

use super::bench::Bench;

/// A name that would do something in a shell, and one in a folder.
const NAMES: [&str; 2] = ["it's $(touch oops) \"x\".dat", "sub/ä b.csv"];

#[test]
fn placeholders_and_environment_say_the_same_and_no_shell_reads_them() {
    for bench in Bench::both() {
        bench.upload(&NAMES);
        let names =
            ["relative_path", "filename", "subdirectory", "sha512", "size", "topic", "partition", "offset", "attempt"];
        let words: Vec<String> = names.iter().map(|name| format!("{name}={{{name}}}")).collect();
        let mut command = vec!["printf", "%s\\n"];
        command.extend(words.iter().map(String::as_str));
        assert_eq!(bench.reproduced(&["--stdout"], &command).code(), 0);
        let results = bench.results();
        assert_eq!(results.keys().collect::<Vec<_>>(), NAMES);
        for (path, value) in &results {
            let value = String::from_utf8(value.clone()).unwrap();
            let said: BTreeMap<&str, &str> = value.lines().map(|line| line.split_once('=').unwrap()).collect();
            assert_eq!(said["relative_path"], path);
            assert_eq!(said["filename"], path.trim_start_matches("sub/"));
            assert_eq!(said["subdirectory"], if path.starts_with("sub/") { "sub" } else { "" });
            assert_eq!(said["sha512"], datamill::wire::hex(&datamill::wire::sha512(path.as_bytes())));
            assert_eq!((said["size"], said["topic"]), (&*path.len().to_string(), &*bench.files));
            assert_eq!((said["offset"], said["attempt"]), ("0", "1"));
            assert!(matches!(said["partition"], "0" | "1"));
        }
        assert!(!bench.place.path("oops").exists());
    }
}

#[test]
fn the_environment_has_the_values_as_well() {
    let bench = Bench::embedded();
    bench.upload(&["sub/a.csv"]);
    bench.script(
        "says.sh",
        "env | grep '^DATAMILL_[A-Z]*=' | grep -v KEEPER | sort > \"$DATAMILL_RESULT\"; cat \"$DATAMILL_PATH\"",
    );
    let ended = bench.reproduced(&[], &["./says.sh", "{path}", "{result}"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert!(ended.stderr().contains("sub/a.csv stream=stdout file=sub/a.csv"), "{}", ended.stderr());
    let results = bench.results();
    let said = String::from_utf8(results["sub/a.csv"].clone()).unwrap();
    let names: Vec<&str> = said.lines().map(|line| line.split_once('=').unwrap().0).collect();
    let wanted = ["ATTEMPT", "FILENAME", "OFFSET", "PARTITION", "PATH", "RESULT", "SIZE", "SUBDIRECTORY", "TOPIC"];
    assert_eq!(names, wanted.map(|name| format!("DATAMILL_{name}")));
    let path = said.lines().find_map(|line| line.strip_prefix("DATAMILL_PATH=")).unwrap();
    assert!(path.ends_with("/a.csv") && path.starts_with('/'), "a real file with its own name: {path}");
}

#[test]
fn content_comes_by_path_or_stdin_and_results_go_by_path_stdout_or_with_a_suffix() {
    for (options, command) in [
        (&[][..], &["cp", "{path}", "{result}"][..]),
        (&[], &["cp", "{path}", "{result}.png"]),
        (&["--stdout"], &["cat", "{path}"]),
        (&["--stdin", "--stdout"], &["cat"]),
        (&["--stdin"], &["sh", "-c", "cat > \"$DATAMILL_RESULT.txt\""]),
        (&["--stdout", "--mode", "disk"], &["cat", "{path}"]),
    ] {
        let bench = Bench::embedded();
        bench.upload(&["a.csv"]);
        let ended = bench.reproduced(options, command);
        assert_eq!(ended.code(), 0, "{command:?}: {}", ended.stderr());
        assert_eq!(bench.results(), BTreeMap::from([("a.csv".to_owned(), b"a.csv".to_vec())]), "{command:?}");
        assert_eq!(std::fs::read_dir(bench.place.path("output/.datamill/work")).unwrap().count(), 0, "nothing stays");
    }
}

#[test]
fn a_command_without_a_result_has_failed_with_a_sentence_that_says_what_was_expected() {
    let bench = Bench::embedded();
    bench.upload(&["a.csv"]);
    assert_eq!(bench.reproduced(&["--max_attempts", "1"], &["true", "{result}"]).code(), 1);
    let failures = bench.failures();
    assert!(
        failures["a.csv"].contains("has to write the file that `{result}` or DATAMILL_RESULT names"),
        "{failures:?}"
    );
}

#[test]
fn a_command_that_cannot_work_is_refused_before_anything_is_read_or_made() {
    let bench = Bench::embedded();
    bench.place.write("plain.sh", b"#!/bin/sh\n");
    for (command, said) in [
        (&["no-such-program", "{path}"][..], "there is no program `no-such-program` in a folder of PATH"),
        (&["./missing.sh"], "missing.sh`: check the path behind `--`"),
        (&["./plain.sh"], "may not be executed: allow it with `chmod +x "),
        (&["cat", "{result}"], "`{result}` means nothing in `datamill process`"),
        (&["sh", "-c", "gzip {path}"], "write \"$DATAMILL_PATH\" there"),
    ] {
        let ended = bench.processed(&[], command);
        assert_eq!(ended.code(), 2, "{}", ended.stderr());
        assert!(ended.stderr().starts_with("error: ") && ended.stderr().contains(said), "{}", ended.stderr());
        assert!(!bench.place.path("output").exists());
    }
    let ended = bench.reproduced(&["--stdout"], &["cat", "{result}"]);
    assert!(ended.code() == 2 && ended.stderr().contains("use one of them"), "{}", ended.stderr());
}

#[test]
fn what_was_probably_meant_as_a_placeholder_is_said_at_the_start() {
    let bench = Bench::embedded();
    bench.upload(&["a.csv"]);
    let ended = bench.reproduced(&["--stdout"], &["printf", "%s", "{file_name}", "{print $1}"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert!(ended.stderr().contains("`{file_name}` is no placeholder and stays as it is; `{filename}` is one"));
    assert!(!ended.stderr().contains("{print $1}"), "{}", ended.stderr());
    assert_eq!(bench.results()["a.csv"], b"{file_name}{print $1}");
}
