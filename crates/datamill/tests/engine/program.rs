//! The example program as a process: killed, stopped, misused.
//!
//! Cargo builds the examples of a package before it runs its tests, into a folder beside the tests'.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Bench, Place, wait_for};
use datamill::engine::Control;
use datamill::facts::Facts;
use datamill::upload::{UploadSettings, upload_paths};

/// The built example program.
pub fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().nth(2).unwrap().join("examples").join("xrd_metadata");
    assert!(built.exists(), "`{}` is not built: run `cargo build --release --examples`", built.display());
    built
}

/// A configuration that leads to the log of the bench, in the bench's folder.
fn configured(bench: &Bench) -> PathBuf {
    let config = bench.folder.path().join("test.config");
    let log = bench.folder.path().join("log.db");
    fs::write(&config, format!("[broker]\nbootstrap.servers = sqlite:{}\n", log.display())).unwrap();
    config
}

/// The program on the topics of the bench, with more options.
fn program(bench: &Bench, options: &[&str]) -> Command {
    program_in("output", bench, options)
}

fn program_in(output: &str, bench: &Bench, options: &[&str]) -> Command {
    let mut command = Command::new(example());
    command.current_dir(bench.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.env_remove("OPENMSISTREAM_CONFIG_FILE_DIR").arg("--config").arg(configured(bench));
    command.args(["--consumer_topic_name", &bench.topic, "--producer_topic_name", &bench.results]);
    command.args(["--consumer_group_id", &bench.group, "--output_dir", output]).args(options);
    command
}

fn ended(output: &Output) -> (i32, String) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    (output.status.code().unwrap_or_else(|| panic!("ended by a signal: {text}")), text)
}

pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// A file as a diffractometer writes it, or one whose header is cut off.
fn scan(number: usize) -> String {
    let rows = [0, 10, 400, 1500][number % 4];
    let mut text = format!("[Measurement conditions]\nSample identification,sample {number}\n");
    if !is_bad(number) {
        text.push_str("\n[Scan points]\nAngle,Intensity\n");
    }
    (0..rows).for_each(|row| text.push_str(&format!("{}.{:02},{}\n", row / 50, row % 50, row * number)));
    text
}

pub fn is_bad(number: usize) -> bool {
    number % 25 == 7
}

pub fn upload(bench: &Bench, folder: &str, numbers: std::ops::Range<usize>) {
    let root = bench.folder.path().join(folder);
    for number in numbers {
        let path = root.join(format!("{}/scan {number}.csv", number % 5));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, scan(number)).unwrap();
    }
    let settings = UploadSettings { chunk_size: 4096, ..UploadSettings::new(&bench.topic) };
    let uploaded =
        upload_paths(bench.log.as_ref(), &[root], &settings, &Control::default(), &Facts::default()).unwrap();
    assert!(uploaded.is_complete(), "{uploaded}");
}

/// How many results each file has.
pub fn results(bench: &Bench) -> BTreeMap<String, usize> {
    let mut results = BTreeMap::new();
    for result in bench.read_results() {
        let path = result.path();
        let number = path.rsplit_once("scan ").unwrap().1.trim_end_matches(".csv");
        let value: serde_json::Value = serde_json::from_slice(&result.value).unwrap();
        assert_eq!(value["Sample identification"], format!("sample {number}"), "`{path}`");
        *results.entry(path.to_owned()).or_default() += 1;
    }
    results
}

#[test]
fn killed_at_any_moment_it_gives_each_good_file_exactly_one_result() {
    const FILES: usize = 400;
    let bench = Bench::new(&Place::Embedded, 3);
    // The moments of the kills, the same in each run of this test.
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut kills = 0;
    std::thread::scope(|scope| {
        let uploads = scope.spawn(|| {
            for batch in 0..20 {
                upload(&bench, &format!("in{batch}"), batch * FILES / 20..(batch + 1) * FILES / 20);
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        // each round ends in a kill, unless the program has ended by itself
        for _ in (0..200).take_while(|round| !uploads.is_finished() || *round < 12) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let mode = ["memory", "disk", "both"][(random >> 32) as usize % 3];
            let mut child = program(&bench, &["--mode", mode]).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(20 + random % 300));
            child.kill().unwrap();
            kills += usize::from(child.wait().unwrap().code().is_none());
        }
    });
    assert!(kills > 5, "only {kills} kills");
    let last = program(&bench, &["--exit-at-end"]).output().unwrap();
    assert!([0, 1].contains(&ended(&last).0), "{}", ended(&last).1);
    let good = (0..FILES).filter(|number| !is_bad(*number));
    let expected: BTreeMap<_, _> = good.map(|number| (format!("{}/scan {number}.csv", number % 5), 1)).collect();
    assert_eq!(results(&bench), expected, "after {kills} kills");
    // Nothing is done again once all is done.
    let again = program(&bench, &["--exit-at-end", "--retry_failed", "no"]).output().unwrap();
    assert_eq!(ended(&again).0, 0, "{}", ended(&again).1);
    assert!(ended(&again).1.contains("0 files of topic"), "{}", ended(&again).1);
    assert_eq!(results(&bench), expected);
}

#[test]
fn a_signal_or_a_typed_q_stops_it_in_order_with_a_summary() {
    for how in ["-INT", "-TERM", "q"] {
        let bench = Bench::new(&Place::Embedded, 1);
        upload(&bench, "in", 0..5);
        let mut child = program(&bench, &[]).stdin(Stdio::piped()).spawn().unwrap();
        wait_for("the results", || results(&bench).len() == 5);
        let asked = Instant::now();
        match how {
            "q" => child.stdin.take().unwrap().write_all(b"what\nc\nq\n").unwrap(),
            name => signal(&child, name),
        }
        let (code, text) = ended(&child.wait_with_output().unwrap());
        assert_eq!(code, 0, "{how}: {text}");
        assert!(asked.elapsed() < Duration::from_secs(120), "{how}: {:?}", asked.elapsed());
        assert!(text.contains("5 files of topic") && text.contains("results are in topic"), "{how}: {text}");
        if how == "q" {
            assert!(text.contains("`what` means nothing here") && text.contains("5 files processed"), "{text}");
        }
    }
}

#[test]
fn a_file_that_fails_is_named_and_makes_the_exit_code_1() {
    let bench = Bench::new(&Place::Embedded, 1);
    upload(&bench, "in", 5..9);
    let (code, text) = ended(&program(&bench, &["--exit-at-end"]).output().unwrap());
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("file=\"2/scan 7.csv\"") && text.contains("1 failed"), "{text}");
    let logs = bench.folder.path().join("output/LOGS");
    let failed = fs::read_to_string(logs.join(format!("failed_from_{}_by_{}.csv", bench.topic, bench.group))).unwrap();
    assert!(failed.contains("2/scan 7.csv") && failed.contains("ends before `[Scan points]`"), "{failed}");
    assert!(fs::read_to_string(logs.join("XrdMetadata.log")).unwrap().contains("2/scan 7.csv"));
}

#[test]
fn one_program_at_a_time_has_an_output_folder_and_a_group_of_the_embedded_log() {
    let bench = Bench::new(&Place::Embedded, 1);
    upload(&bench, "in", 0..2);
    let mut first = program(&bench, &[]).spawn().unwrap();
    wait_for("the results", || results(&bench).len() == 2);
    let taken =
        format!("another running program uses the output folder `{}`", bench.folder.path().join("output").display());
    for (output, part) in [("output", &*taken), ("other", "one process for each group")] {
        let (code, text) = ended(&program_in(output, &bench, &["--exit-at-end"]).output().unwrap());
        assert_eq!(code, 2, "{text}");
        assert_one_sentence(&text, part);
    }
    signal(&first, "-TERM");
    assert_eq!(first.wait().unwrap().code(), Some(0));
}

/// One line that begins with `error: `, and it holds `part`.
fn assert_one_sentence(text: &str, part: &str) {
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    assert!(errors[0].contains(part), "no `{part}` in: {text}");
    for unwanted in ["os error", "Error {", "Err(", "panicked", "RUST_BACKTRACE", "Error code"] {
        assert!(!text.contains(unwanted), "`{unwanted}` in: {text}");
    }
}

#[test]
fn what_is_wrong_is_said_in_one_sentence_with_exit_code_2() {
    let place = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(place.path().join(name), text).unwrap();
    write("file", "no log at all, but long enough to be looked at");
    // a reader makes no log here
    write("datamill.db", "");
    write("unset.config", "[broker]\nbootstrap.servers = sqlite:x.db\nsasl.password = $DATAMILL_TEST_NOT_SET\n");
    write("bare.config", "bootstrap.servers = sqlite:x.db\n");
    write("open.config", "[broker\nbootstrap.servers = sqlite:x.db\n");
    write("odd.config", "[broker]\nbootstrap.serverz = sqlite:x.db\n");
    write("database.config", "[broker]\nbootstrap.servers = sqlite:file\n");
    write("folder.config", "[broker]\nbootstrap.servers = sqlite:none/x.db\n");
    let topics = ["--consumer_topic_name", "t", "--producer_topic_name", "r"];
    for (args, part) in [
        (&["--consumer_topik_name", "t"][..], "'--consumer_topik_name'"),
        (&["--consumer_topic_name", "t"], "required arguments"),
        (&["--topic_name", "t"], "results cannot go to topic `t`"),
        (&["--config", "none.config"], "there is no configuration file `none.config`"),
        (&["--config", "."], "`.` is a folder"),
        (&["--config", "unset.config"], "none of this name is set"),
        (&["--config", "bare.config"], "put a line such as `[broker]`"),
        (&["--config", "open.config"], "a section is written `[name]`"),
        (&["--config", "odd.config"], "did you mean `bootstrap.servers`"),
        (&["--config", "database.config"], "`file` is no log of datamill"),
        (&["--config", "folder.config"], "the folder `none`"),
        (&["--output_dir", "file"], "choose another one with --output_dir: it is a file"),
        (&["--output_dir", "file/below"], "choose another one with --output_dir: "),
        (&["--logger_file_path", "."], "`--logger_file_path`"),
        (&["--download_regex", "(("], "opening parenthesis without closing parenthesis"),
        (&["--consumer_group_id", ""], "the name is empty"),
        (&["--n_threads", "0"], "--n_consumer_threads"),
        (&["--mode", "ram"], "'ram'"),
        (&["--memory_limit", "lots"], "`256M`"),
        (&["--memory_limit", "5"], "5 bytes are too few to work with: 8M is the least"),
        (&["--memory_limit", "8191K"], "8387584 bytes are too few"),
    ] {
        let mut command = Command::new(example());
        command.current_dir(place.path()).stdin(Stdio::null()).env_remove("OPENMSISTREAM_CONFIG_FILE_DIR");
        command.arg("--exit-at-end").args(args);
        let names_topics = args.iter().any(|arg| arg.starts_with("--") && arg.contains("topi"));
        if !names_topics {
            command.args(topics);
        }
        let start = Instant::now();
        let (code, text) = ended(&command.output().unwrap());
        assert_eq!(code, 2, "{args:?}: {text}");
        assert_one_sentence(&text, part);
        assert!(start.elapsed() < Duration::from_secs(60), "{args:?}: {:?}", start.elapsed());
    }
}

#[test]
fn a_program_whose_broker_is_away_at_the_start_says_that_it_can_be_started_again() {
    let place = tempfile::tempdir().unwrap();
    let config = "[broker]\nbootstrap.servers = 127.0.0.1:1\nsasl.password = very-secret\n";
    fs::write(place.path().join("away.config"), config).unwrap();
    let mut command = Command::new(example());
    command.current_dir(place.path()).stdin(Stdio::null()).env_remove("OPENMSISTREAM_CONFIG_FILE_DIR");
    command.args(["--consumer_topic_name", "t", "--producer_topic_name", "r", "--config", "away.config"]);
    let (code, text) = ended(&command.output().unwrap());
    assert_eq!(code, 3, "{text}");
    assert_one_sentence(&text, "broker `127.0.0.1:1` does not answer");
    assert!(
        text.trim_end().ends_with("Nothing is lost: start it again, as a supervisor does after exit code 3"),
        "{text}"
    );
    assert!(!text.contains("very-secret"), "{text}");
}
