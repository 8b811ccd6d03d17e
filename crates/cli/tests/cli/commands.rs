//! The commands as a user types them.

use std::io::Read;
use std::process::Stdio;

use crate::common::{Place, Running, bytes, wait_until};
use serde_json::Value;

#[test]
fn what_is_uploaded_can_be_read_again() {
    let place = Place::new();
    place.write("data/a.csv", b"text");
    place.write("data/sub/with space ü.bin", &[0xff; 5000]);
    place.write("data/run.log", b"no");
    place.write("data/.hidden", b"no");
    let ended = place.run(&["upload", "data", "--topic_name", "t", "--chunk-size", "1024"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert_eq!(ended.stdout(), "");
    for part in ["sent 2 files", "6 messages", "1 hidden: `.hidden`", "1 log file: `run.log`"] {
        assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
    }
    let files = place.whole_files("t");
    assert_eq!(files.len(), 2);
    assert_eq!(files[&("a.csv".to_owned(), b"text".to_vec())], 1);
    assert_eq!(files[&("sub/with space ü.bin".to_owned(), vec![0xff; 5000])], 1);
}

#[test]
fn a_log_file_is_turned_at_the_size_that_is_given_and_a_few_older_ones_stay() {
    let place = Place::new();
    for number in 0..400 {
        place.write(&format!("data/{number}.csv"), number.to_string().as_bytes());
    }
    let log = ["--logger_file_path", "LOGS/sent.log", "--logger_file_level", "debug", "--log_max_size", "4K"];
    let ended = place.run(&[&["upload", "data", "--topic_name", "t"], &log[..]].concat());
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    let entries = std::fs::read_dir(place.path("LOGS")).unwrap().map(|entry| entry.unwrap());
    let mut sizes: Vec<_> =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())).collect();
    sizes.sort();
    let names: Vec<&str> = sizes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["sent.1.log", "sent.2.log", "sent.3.log", "sent.log"]);
    assert!(sizes.iter().all(|(_, size)| *size <= 4096), "{sizes:?}");
}

#[test]
fn messages_are_chosen_by_place_and_count() {
    let place = Place::new();
    for number in 0..10 {
        place.write(&format!("data/{number}.csv"), number.to_string().as_bytes());
    }
    place.run(&["upload", "data", "--topic_name", "t"]);
    let read = |args: &[&str]| -> Vec<i64> {
        let ended = place.run(&[&["read", "t"], args].concat());
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        let lines = ended.stdout();
        let offset = |line: &str| serde_json::from_str::<Value>(line).unwrap()["offset"].as_i64().unwrap();
        lines.lines().map(offset).collect()
    };
    assert_eq!(read(&["--exit-at-end"]), (0..10).collect::<Vec<_>>());
    assert_eq!(read(&["--from", "-3", "--exit_at_end"]), [7, 8, 9]);
    assert_eq!(read(&["-o", "4", "-c", "2"]), [4, 5]);
    assert_eq!(read(&["--from", "end", "-e"]), [] as [i64; 0]);
    assert_eq!(read(&["--partition", "0", "--count", "1"]), [0]);
    let message = &place.messages("t")[3];
    assert_eq!((message["topic"].as_str(), message["partition"].as_i64()), (Some("t"), Some(0)));
    assert_eq!(bytes(&message["key"]), b"_3.csv_chunk_1_of_1");
    assert_eq!(message["headers"], serde_json::json!([]));
    assert!(message["timestamp"].as_str().unwrap().ends_with("+00:00"));
    place.run(&["upload", "data/3.csv", "--topic_name", "several"]);
    place.write("data/several.csv", &[b'x'; 2000]);
    place.run(&["upload", "data/several.csv", "--topic_name", "several", "--chunk_size", "1024"]);
    let headers: Vec<Value> = place.messages("several").into_iter().map(|message| message["headers"].clone()).collect();
    let several = serde_json::json!([["datamill.chunk", "1"]]);
    assert_eq!(headers, [serde_json::json!([]), several.clone(), several], "where a file has several chunks");
}

#[test]
fn a_reader_who_has_had_enough_is_no_error() {
    let place = Place::new();
    place.write("data/big.bin", &[0xff; 4_000_000]);
    place.run(&["upload", "data", "--topic_name", "t"]);
    let mut child = place.command(&["read", "t"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[cfg(unix)]
#[test]
fn reading_ends_when_the_reader_of_its_output_is_gone_also_where_no_message_comes() {
    let place = Place::new();
    place.write("data/one.csv", b"1");
    place.run(&["upload", "data", "--topic_name", "t"]);
    for from in ["earliest", "latest"] {
        let child = place.command(&["read", "--topic_name", "t", "--from", from]).stdout(Stdio::piped()).spawn();
        let mut child = Running(child.unwrap());
        let mut out = child.0.stdout.take().unwrap();
        if from == "earliest" {
            out.read_exact(&mut [0; 10]).unwrap();
        } else {
            std::thread::sleep(std::time::Duration::from_secs(1));
            assert!(child.0.try_wait().unwrap().is_none(), "it waits for messages");
        }
        drop(out);
        assert_eq!(child.0.wait().unwrap().code(), Some(0), "{from}");
    }
}

#[test]
fn values_that_are_json_are_printed_as_json_where_that_is_asked_for() {
    let place = Place::new();
    place.run(&["demo"]);
    let read = |more: &[&str]| -> Vec<Value> {
        let args = ["read", "metadata", "--exit-at-end", "--config", "datamill-demo/demo.config"];
        let ended = place.run(&[&args[..], more].concat());
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        ended.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let texts = read(&[]);
    let values = read(&["--json-values"]);
    assert_eq!(values.len(), 9);
    for (text, value) in texts.iter().zip(&values) {
        let parsed: Value = serde_json::from_str(text["value"].as_str().unwrap()).unwrap();
        assert!(value["value"].is_object() && value["value"] == parsed, "{value}");
    }
}

#[test]
fn a_topic_is_named_once() {
    let place = Place::new();
    for args in [&["read"][..], &["read", "t", "--topic_name", "t"]] {
        let ended = place.run(args);
        assert_eq!(ended.code(), 2);
        assert!(ended.stderr().contains("TOPIC"), "{}", ended.stderr());
    }
}

#[test]
fn a_demo_can_be_moved() {
    let place = Place::new();
    assert_eq!(place.run(&["demo"]).code(), 0);
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    std::fs::rename(place.path("datamill-demo"), place.path("elsewhere/demo")).unwrap();
    let ended = place.run(&["read", "metadata", "--exit-at-end", "--config", "elsewhere/demo/demo.config"]);
    assert_eq!((ended.code(), ended.stdout().lines().count()), (0, 9), "{}", ended.stderr());
}

#[test]
fn topics_are_created_listed_and_described() {
    let place = Place::new();
    let ended = place.run(&["topic", "create", "t", "--partitions", "3", "--setting", "retention.ms=86400000"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert_eq!(ended.stdout(), "");
    let again = place.run(&["topic", "create", "t"]);
    assert_eq!(again.code(), 2);
    assert!(again.stderr().contains("`t`"), "{}", again.stderr());
    assert!(place.run(&["topic", "list"]).stdout().contains("t      3           1 d"));
    let list: Value = serde_json::from_str(&place.run(&["topic", "list", "--json"]).stdout()).unwrap();
    assert_eq!(list[0]["partitions"], 3);
    place.write("x", b"1");
    place.run(&["upload", "x", "--topic_name", "t"]);
    let described = place.run(&["topic", "describe", "t", "--json"]).stdout();
    let described: Value = serde_json::from_str(&described).unwrap();
    let ends: i64 = described["ends"].as_array().unwrap().iter().map(|p| p["end"].as_i64().unwrap()).sum();
    assert_eq!(ends, 1);
    assert!(place.run(&["topic", "describe", "t"]).stdout().contains("last stable"));
}

#[cfg(unix)]
#[test]
fn what_is_wrong_is_said_in_one_sentence_with_exit_code_2() {
    let place = Place::new();
    place.write("data/a", b"a");
    place.write("bad.config", b"[broker]\nbootstrap.servers = $DATAMILL_TEST_NOT_SET\n");
    place.write("other.config", b"[broker]\nbootstrap.servers = sqlite:other.db\n");
    place.write("not.config", b"[broker]\nbootstrap.servers = sqlite:bad.config\n");
    let _socket = std::os::unix::net::UnixListener::bind(place.path("socket")).unwrap();
    for (args, part) in [
        (&["upload", "none", "--topic_name", "t"][..], "`none`"),
        (&["upload", "data"], "--topic_name"),
        (&["upload", "data", "--topic_name", "t", "--chunk_size", "1000"], "power of two"),
        (&["upload", "data", "--topic_name", "t", "--upload_regex", "(a"], "`(a`"),
        (&["upload", "data", "--topic_name", "t", "--config", "none.config"], "none.config"),
        (&["upload", "data", "--topic_name", "t", "--config", "bad.config"], "DATAMILL_TEST_NOT_SET"),
        (&["upload", "data", "--topic_name", "b/d"], "b/d"),
        (&["watch", "none", "--topic_name", "t"], "`none`"),
        (&["watch", "data", "--topic_name", "t", "--watchdog_lag_time", "-1"], "watchdog_lag_time"),
        (&["upload", "socket", "--topic_name", "t"], "neither a file nor a folder"),
        (&["watch", "bad.config", "--topic_name", "t"], "it is not a folder"),
        (&["topic", "describe", "t", "--config", "other.config"], "there is no log `other.db`"),
        (&["topic", "list", "--config", "not.config"], "`bad.config` is no log of datamill"),
        (&["demo", "--folder", "data"], "was not made by a demo"),
        (&["topic", "create", "t", "--partitions", "-3"], "1 or more"),
        (&["topic", "create", "t", "--setting", "x"], "KEY=VALUE"),
        (&["grind"], "grind"),
    ] {
        let ended = place.run(args);
        assert_eq!(ended.code(), 2, "{args:?}: {}", ended.stderr());
        assert!(ended.stderr().contains(part), "{args:?}: {}", ended.stderr());
        assert_eq!(ended.stdout(), "");
        let errors = ended.stderr().lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{args:?}: {}", ended.stderr());
        for unwanted in ["os error", "Error code", "panicked"] {
            assert!(!ended.stderr().contains(unwanted), "{args:?}: {}", ended.stderr());
        }
    }
    assert!(!place.path("none").exists() && !place.path("other.db").exists());
}

#[test]
fn a_mistake_leaves_no_log_behind() {
    let place = Place::new();
    let here = place.path("").canonicalize().unwrap();
    let no_log =
        format!("there is no log `datamill.db` in the folder `{}`, and no configuration is named", here.display());
    let store = format!("file://{}/store", here.display());
    for (args, part) in [
        (&["upload", "none", "--topic_name", "t"][..], "`none` cannot be sent, check the path: "),
        (&["watch", "none", "--topic_name", "t"], "`none` cannot be watched, check the path: "),
        (&["read", "t"], &no_log),
        (&["topic", "list"], &no_log),
        (&["download", "mirror", "--topic_name", "t"], &no_log),
        (&["transfer", "--to", &store, "--topic_name", "t"], &no_log),
        (&["process", "--topic_name", "t", "--", "true"], &no_log),
        (&["reproduce", "--consumer_topic_name", "t", "--producer_topic_name", "r", "--", "true"], &no_log),
        (&["rekey", "t", "r"], &no_log),
    ] {
        let ended = place.run(args);
        assert_eq!(ended.code(), 2);
        assert!(ended.stderr().contains(part), "{args:?}: {}", ended.stderr());
    }
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), 0);
}

#[test]
fn a_topic_that_does_not_exist_is_named() {
    let place = Place::new();
    assert_eq!(place.run(&["topic", "create", "t"]).code(), 0);
    for args in [["read", "none", "-e"].as_slice(), &["topic", "describe", "none"]] {
        let ended = place.run(args);
        assert_eq!(ended.code(), 2);
        assert!(ended.stderr().contains("there is no topic `none`"), "{}", ended.stderr());
    }
}

#[test]
fn an_upload_that_finds_no_file_says_so_and_ends_with_1() {
    let place = Place::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    place.write("data/a.csv", b"a");
    place.write("data/.hidden", b"a");
    for args in [&["empty"][..], &["data", "--upload_regex", "b"], &["data", "--upload_regex", ".*hidden"]] {
        let ended = place.run(&[&["upload", "--topic_name", "t"], args].concat());
        assert_eq!(ended.code(), 1, "{args:?}: {}", ended.stderr());
        assert!(ended.stderr().contains("found no file to send"), "{args:?}: {}", ended.stderr());
        assert!(ended.stderr().contains("sent 0 files to topic `t`"), "{args:?}: {}", ended.stderr());
    }
}

#[test]
fn a_name_cannot_steer_the_terminal() {
    let place = Place::new();
    place.write("data/.hidden\n\u{1b}[31m", b"x");
    let ended = place.run(&["upload", "data", "--topic_name", "t"]);
    assert!(ended.stderr().contains(r"`.hidden\n\u{1b}[31m`"), "{}", ended.stderr());
}

#[test]
fn outputs_that_are_closed_are_no_error() {
    let place = Place::new();
    place.write("data/a", b"a");
    let sending = ["upload", "data", "--topic_name", "t"];
    for (args, code) in [(&["demo"][..], 0), (&sending, 0), (&["read", "none"], 2)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = place.command(args);
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        assert_eq!(command.status().unwrap().code(), Some(code), "{args:?}");
    }
}

// The kernel's own files are the only ones at hand whose size is not that of their bytes.
#[cfg(target_os = "linux")]
#[test]
fn a_file_whose_size_is_wrong_is_not_sent_and_named_at_once() {
    let place = Place::new();
    place.write("good.csv", b"good");
    for (path, readable) in
        [("/proc/cpuinfo", "more can be read"), ("/sys/class/net/lo/address", "only `18` can be read")]
    {
        let ended = place.run(&["upload", path, "good.csv", "--topic_name", "t"]);
        assert_eq!(ended.code(), 1, "{}", ended.stderr());
        let name = path.rsplit('/').next().unwrap();
        for part in [
            readable,
            "sent 1 file ",
            &format!("not sent: 1 with a size that is not that of the bytes that can be read: `{name}`"),
        ] {
            assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
        }
    }
    assert!(place.whole_files("t").keys().all(|(path, _)| path == "good.csv"));
}

#[cfg(unix)]
#[test]
fn files_that_could_not_be_sent_make_the_exit_code_1() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    place.write("data/good.csv", b"good");
    let bad = std::ffi::OsStr::from_bytes(b"bad\xff.csv");
    std::fs::write(place.path("data").join(bad), "x").unwrap();
    let ended = place.run(&["upload", "data", "--topic_name", "t"]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr());
    assert!(ended.stderr().contains("not UTF-8"), "{}", ended.stderr());
    assert_eq!(place.messages("t").len(), 1);
}

/// What a hang-up does to a program that runs on and on.
#[cfg(unix)]
#[test]
fn a_hang_up_stops_a_program_in_order_and_is_ignored_where_whoever_started_it_says_so() {
    use rustix::process::{Pid, Signal, kill_process};

    let watch = ["watch", "data", "--topic_name", "u", "--upload_existing", "--watchdog_lag_time", "0.1"];
    let download = ["download", "mirror", "--topic_name", "t"];
    for (words, sign) in [(&watch[..], "data/LOGS/uploaded_to_u.csv"), (&download, "mirror/a.csv")] {
        for is_ignored in [false, true] {
            let place = Place::new();
            place.write("data/a.csv", b"text");
            assert_eq!(place.run(&["upload", "data", "--topic_name", "t"]).code(), 0);
            let asked = place.command(words);
            // these tests may run where it is ignored, as below `nohup`
            let mut command = std::process::Command::new("env");
            command.arg(if is_ignored { "--ignore-signal=HUP" } else { "--default-signal=HUP" });
            for (name, value) in asked.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            command.arg(asked.get_program()).args(words).current_dir(place.path("")).stdin(Stdio::null());
            let child = Running(command.stderr(Stdio::piped()).spawn().unwrap());
            wait_until(sign, || place.path(sign).exists());
            kill_process(Pid::from_child(&child.0), Signal::HUP).unwrap();
            match is_ignored {
                true => assert_eq!(child.end(), 0, "{words:?}: it ends by the next signal"),
                false => {
                    let mut child = child;
                    assert_eq!(child.0.wait().unwrap().code(), Some(0), "{words:?}");
                }
            }
        }
    }
}
