//! `datamill retry`: what it shows, what it asks for, and that programs do it.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use datamill::assemble::DownloadDataFile;
use datamill::broker::{Log, Properties};
use datamill::engine::{Control, EngineSettings, RetryFailed, StopKind, Summary};
use datamill::facts::Facts;
use datamill::process::{DataFileStreamReproducer, Lock, ProcessingError, ReproducerMessage, UserCode};
use serde_json::Value;

use crate::common::{Ended, Place, wait_until};

/// Fails for files whose names begin with `bad`, while it is told to.
#[derive(Clone)]
struct Bad(Arc<AtomicBool>);

impl DataFileStreamReproducer for Bad {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        if file.filename().starts_with("bad") && self.0.load(SeqCst) {
            return Err(ProcessingError::file_failed(format!("no calibration\nfor {}", file.filename())));
        }
        Ok(Some(ReproducerMessage::new("done")))
    }
}

/// A folder with a log, on which these files failed for group `g`.
struct Bench {
    place: Place,
    log: Arc<dyn Log>,
    fails: Arc<AtomicBool>,
}

impl Bench {
    fn new() -> Self {
        let place = Place::new();
        for name in ["bad one.dat", "sub/bad two.dat", "good.dat"] {
            place.write(&format!("data/{name}"), name.as_bytes());
        }
        assert_eq!(place.run(&["upload", "data", "--topic_name", "t"]).code(), 0);
        let servers = format!("sqlite:{}", place.path("datamill.db").display());
        let broker = BTreeMap::from([("bootstrap.servers".to_owned(), servers)]);
        let log = datamill::broker::open(&Properties { broker, ..Properties::default() }).unwrap();
        let bench = Self { place, log, fails: Arc::new(AtomicBool::new(true)) };
        assert_eq!(bench.run(RetryFailed::Now, true, &Control::default()).failed, 2);
        bench
    }

    /// Runs a program of the group.
    fn run(&self, retry_failed: RetryFailed, exit_at_end: bool, control: &Control) -> Summary {
        let settings = EngineSettings {
            result_topic: Some("results".to_owned()),
            program: "test".to_owned(),
            threads: 1,
            max_attempts: 1,
            memory_limit: 64 << 20,
            retry_failed,
            incomplete_after: Duration::ZERO,
            exit_at_end,
            update_seconds: 0,
            shutdown_timeout: Duration::from_secs(10),
            ..EngineSettings::new("t", "g", "one", self.place.path("output"))
        };
        let code = UserCode::reproducer(Bad(self.fails.clone()));
        datamill::engine::run(&self.log, &settings, code, control, &Facts::default()).unwrap()
    }

    fn retry(&self, args: &[&str]) -> Ended {
        self.place.run(&[&["retry", "--topic_name", "t", "--consumer_group_id", "g"], args].concat())
    }

    /// Paths that are listed, and whether a retry is asked for.
    fn listed(&self, args: &[&str]) -> Vec<(String, bool)> {
        let ended = self.retry(&[&["--list", "--json"], args].concat());
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        let files = ended.stdout();
        let files = files.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        files.map(|file| (file["path"].as_str().unwrap().to_owned(), file["requested"].as_bool().unwrap())).collect()
    }
}

#[test]
fn failed_files_are_shown_and_chosen() {
    let bench = Bench::new();
    let table = bench.retry(&["--list"]);
    assert_eq!(table.code(), 0, "{}", table.stderr());
    for part in ["path", "computing_result_message_failed", "sub/bad two.dat", "no calibration…", "yes", "0:"] {
        assert!(table.stdout().contains(part), "{part}: {}", table.stdout());
    }
    assert_eq!(table.stdout().lines().count(), 3, "{}", table.stdout());
    let paths = |args: &[&str]| bench.listed(args).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    assert_eq!(paths(&["--path", "sub/"]), ["sub/bad two.dat"]);
    assert_eq!(paths(&["--path", ".*bad one"]), ["bad one.dat"]);
    assert_eq!(paths(&["--reason", "bad two"]), ["sub/bad two.dat"]);
    assert_eq!(paths(&["--status", "computing_result_message_failed"]).len(), 2);
    let none = bench.retry(&["--list", "--status", "expired"]);
    assert_eq!((none.code(), none.stdout().as_str()), (0, ""));
    assert!(none.stderr().contains("none of the 2 failed files"), "{}", none.stderr());
}

#[test]
fn a_retry_is_asked_for_while_no_program_runs_and_while_one_does() {
    let bench = Bench::new();
    let ended = bench.retry(&["--path", "bad"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    for part in ["another try of 1 failed file is asked for", "no program of group `g` runs", "`--retry_failed no`"] {
        assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
    }
    assert_eq!(bench.listed(&[]), [("bad one.dat".to_owned(), true), ("sub/bad two.dat".to_owned(), false)]);
    bench.fails.store(false, SeqCst);
    assert_eq!(bench.run(RetryFailed::No, true, &Control::default()).retried, 1);
    assert_eq!(bench.listed(&[]), [("sub/bad two.dat".to_owned(), false)]);

    let control = Control::default();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| bench.run(RetryFailed::No, false, &control));
        wait_until("the program", || !bench.log.group("g", &["t"]).unwrap().members.is_empty());
        let ended = bench.retry(&[]);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        assert!(ended.stderr().contains("the program of group `g` that runs tries "), "{}", ended.stderr());
        wait_until("the result", || bench.log.group_state("g").unwrap().keys().all(|key| !key.contains("bad")));
        control.stop(StopKind::Leave);
        assert_eq!(run.join().unwrap().retried, 1);
    });
    let ended = bench.retry(&[]);
    assert_eq!(ended.code(), 0);
    assert!(ended.stderr().contains("group `g` has no failed files on topic `t`"), "{}", ended.stderr());
}

#[test]
fn a_file_that_fails_again_is_told_with_what_ends_that() {
    let bench = Bench::new();
    let summary = bench.run(RetryFailed::Now, true, &Control::default());
    assert_eq!((summary.failed_again, summary.is_clean()), (2, false));
    let forget = "`datamill retry --forget --topic_name t --consumer_group_id g` takes them off the list for good";
    let told = format!("`--retry_failed no` leaves them alone, and {forget}");
    assert!(summary.to_string().contains(&told), "{summary}");
    assert!(bench.run(RetryFailed::No, true, &Control::default()).is_clean());
}

#[test]
fn failures_are_forgotten_only_when_that_is_confirmed() {
    let bench = Bench::new();
    let forget = |answer: &str| {
        let args = ["retry", "--topic-name", "t", "--consumer-group-id", "g", "--forget", "--path", "sub"];
        let mut child = bench
            .place
            .command(&args)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for answer in ["", "no\n"] {
        let (code, said) = forget(answer);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("never be tried again") && said.contains("nothing was forgotten"), "{said}");
    }
    assert_eq!(bench.listed(&[]).len(), 2);
    let (code, said) = forget("yes\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 failed file is forgotten"), "{said}");
    assert_eq!(bench.listed(&[]), [("bad one.dat".to_owned(), false)]);
    let ended = bench.retry(&["--forget", "--yes"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    bench.fails.store(false, SeqCst);
    assert_eq!(bench.run(RetryFailed::Now, true, &Control::default()).retried, 0);
}

#[test]
fn mistakes_are_named() {
    let bench = Bench::new();
    let mistake = |args: &[&str], said: &str| {
        let ended = bench.place.run(args);
        assert_eq!(ended.code(), 2, "{args:?}: {}", ended.stderr());
        assert!(ended.stderr().contains(said), "{args:?}: {}", ended.stderr());
    };
    let read = "Group `g` has read topic `t`";
    mistake(
        &["retry", "--topic_name", "t"],
        &format!("no consumer group is named: give it with --consumer_group_id. {read}"),
    );
    mistake(&["retry", "--topic_name", "t", "--consumer_group_id", "gg"], read);
    mistake(&["retry", "--topic_name", "results"], "No group has read topic `results` yet");
    mistake(&["retry", "--topic_name", "u", "--consumer_group_id", "g"], "there is no topic `u`");
    mistake(&["retry", "--topic_name", "t", "--consumer_group_id", "h"], "group `h` has never read topic `t`");
    mistake(&["retry", "--topic_name", "t", "--consumer_group_id", "g", "--path", "("], "--path cannot be used");
    mistake(&["retry", "--topic_name", "t", "--consumer_group_id", "g", "--status", "lost"], "expired");
    mistake(&["retry", "--topic_name", "t", "--consumer_group_id", "g", "--list", "--forget"], "--forget");
}
