//! A program that dies between any two steps of a commit, one after another, and is started again: every
//! file has one outcome. A process of its own dies, at the point that its environment names.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::too_many_lines, reason = "a test that tells one story is read from its beginning to its end")]

#[path = "../../datamill/tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use common::{Bench, Place, Sent, chunks, content, read_all};
use datamill::assemble::{DownloadDataFile, Mode};
use datamill::engine::{
    Control, DeliveryGuarantee, EngineSettings, RerunChoice, RerunFile, files_to_rerun, request_rerun,
};
use datamill::facts::Facts;
use datamill::process::{DataFileStreamReproducer, Lock, ProcessingError, ReproducerMessage};
use datamill::wire::{headers, hex, sha512};
use datamill_broker::{CRASH_AT, CrashPoint};

/// Variables that tell the other process what to do.
const SERVERS: &str = "CRASH_TEST_SERVERS";
const NAMES: &str = "CRASH_TEST_NAMES";
const FAILS: &str = "CRASH_TEST_FAILS";
const ONCE: &str = "CRASH_TEST_EXACTLY_ONCE";
const SLOW: &str = "CRASH_TEST_SLOW";
/// Where a start changes the delivery of its group, and whether that start is exactly-once.
const CHANGES: [(bool, CrashPoint); 4] = [
    (true, CrashPoint::StateNumbered),
    (true, CrashPoint::StateInLog),
    (false, CrashPoint::StateInFolder),
    (false, CrashPoint::StateLeftLog),
];
/// Tests that run side by side; each waits for a process most of the time.
const AT_ONCE: usize = 6;

/// What the commit holds that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// The mark of what the group is for, then what [`Case::Outcomes`] has.
    Mark,
    /// Results, a failure with its dead letter, the dead letter of a record, the position.
    Outcomes,
    /// The result of a file that failed in an earlier run.
    Retry,
    /// The position alone, with an open file.
    Position,
    /// Late chunks that complete a file which had ended as incomplete; its result comes with the next commit.
    Late,
}

impl Case {
    const ALL: [Self; 5] = [Self::Mark, Self::Outcomes, Self::Retry, Self::Position, Self::Late];

    /// Whether files and a record are there that have outcomes at once.
    fn has_outcomes(self) -> bool {
        self.fails() || self == Self::Retry
    }

    /// Whether the function fails in the run that dies.
    fn fails(self) -> bool {
        matches!(self, Self::Mark | Self::Outcomes)
    }

    /// Whether a commit of this kind on this log passes the point.
    fn passes(self, point: CrashPoint, place: &Place, delivery: DeliveryGuarantee) -> bool {
        let name = format!("{point:?}");
        let here = match place {
            Place::Kafka => !name.starts_with("Embedded"),
            Place::Embedded => !name.starts_with("Kafka"),
        };
        let in_folder = matches!(point, CrashPoint::StateSet | CrashPoint::StateSettled);
        let in_transaction = matches!(point, CrashPoint::KafkaBegun | CrashPoint::KafkaPositions);
        let passed = match delivery {
            DeliveryGuarantee::ExactlyOnce => !in_folder,
            DeliveryGuarantee::AtLeastOnce => !in_transaction,
        };
        // transfers and changes of delivery have tests of their own
        let passed = passed && !name.starts_with("Transfer") && !CHANGES.iter().any(|(_, change)| *change == point);
        here && passed && (self != Self::Position || point != CrashPoint::Published)
    }
}

#[test]
fn on_the_embedded_log_every_file_has_one_outcome_wherever_a_commit_is_cut_off() {
    everywhere(&Place::Embedded, DeliveryGuarantee::ExactlyOnce);
}

#[test]
fn on_kafka_every_file_has_one_outcome_wherever_a_commit_is_cut_off() {
    everywhere(&Place::Kafka, DeliveryGuarantee::ExactlyOnce);
}

#[test]
fn on_the_embedded_log_at_least_once_loses_nothing_wherever_a_commit_is_cut_off() {
    everywhere(&Place::Embedded, DeliveryGuarantee::AtLeastOnce);
}

#[test]
fn on_kafka_at_least_once_loses_nothing_wherever_a_commit_is_cut_off() {
    everywhere(&Place::Kafka, DeliveryGuarantee::AtLeastOnce);
}

#[test]
fn on_the_embedded_log_each_file_is_run_again_once_wherever_a_commit_is_cut_off() {
    again_everywhere(&Place::Embedded);
}

#[test]
fn on_kafka_each_file_is_run_again_once_wherever_a_commit_is_cut_off() {
    again_everywhere(&Place::Kafka);
}

#[test]
fn on_the_embedded_log_each_file_is_run_again_once_where_the_program_is_killed() {
    again_after_a_kill(&Place::Embedded);
}

#[test]
fn on_kafka_each_file_is_run_again_once_where_the_program_is_killed() {
    again_after_a_kill(&Place::Kafka);
}

#[test]
fn on_the_embedded_log_a_failure_has_one_result_wherever_a_change_of_delivery_is_cut_off() {
    change_everywhere(&Place::Embedded);
}

#[test]
fn on_kafka_a_failure_has_one_result_wherever_a_change_of_delivery_is_cut_off() {
    change_everywhere(&Place::Kafka);
}

/// After the crash, starts with either delivery come first, and the other one follows.
fn change_everywhere(place: &Place) {
    let all: Vec<_> = CHANGES.iter().flat_map(|change| [(*change, true), (*change, false)]).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(((once, point), then)) = all.get(next.fetch_add(1, Relaxed)) {
                    change(place, *once, *point, *then);
                }
            });
        }
    });
}

fn change(place: &Place, once: bool, point: CrashPoint, then: bool) {
    let what = format!("{point:?}, then exactly once: {then}");
    let bench = Bench::new(place, 2);
    bench.dead_letter_topic(&[]);
    for (i, path) in ["good.dat", "bad/a.dat", "bad/b.dat"].into_iter().enumerate() {
        bench.send(&chunks(i as i32 % 2, path, &content(i as u64, 900), 300));
    }
    finished(start(&bench, place, !once, true, None), &what);
    let died = start(&bench, place, once, true, Some(point));
    let said = String::from_utf8_lossy(&died.stderr);
    assert!(!died.status.success() && said.contains(&format!("crash point {point:?}\n")), "{what}: {said}");
    for once in [then, !then, then] {
        finished(start(&bench, place, once, false, None), &what);
    }
    let results = bench.read_results();
    let mut paths: Vec<&str> = results.iter().map(common::Got::path).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["bad/a.dat", "bad/b.dat", "good.dat"], "{what}");
    assert_eq!(results.iter().filter(|got| got.headers.contains_key(headers::RETRY_OF)).count(), 2, "{what}");
    let mut state: Vec<String> = bench.log.group_state(&bench.group).unwrap().into_keys().collect();
    if !then {
        state.extend(bench.folder_state().into_keys());
    }
    state.retain(|key| key.contains("failed/"));
    assert!(state.is_empty(), "{what}: {state:?}");
}

fn everywhere(place: &Place, delivery: DeliveryGuarantee) {
    let all = Case::ALL.iter().flat_map(|case| CrashPoint::ALL.iter().map(|point| (*case, *point)));
    let all: Vec<_> = all.filter(|(case, point)| case.passes(*point, place, delivery)).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((case, point)) = all.get(next.fetch_add(1, Relaxed)) {
                    println!("{case:?} at {point:?}");
                    crash(place, delivery, *case, *point);
                }
            });
        }
    });
}

fn crash(place: &Place, delivery: DeliveryGuarantee, case: Case, point: CrashPoint) {
    let bench = Bench::new(place, 2);
    let once = delivery == DeliveryGuarantee::ExactlyOnce;
    let start = |fails, at| start(&bench, place, once, fails, at);
    let dead = bench.dead_letter_topic(&[]);
    let what = format!("{case:?} at {point:?}");
    let file = |i: usize| chunks(i as i32 % 2, &format!("f/{i}.dat"), &content(i as u64, 1000 + i), 300);
    let bad = chunks(0, "bad/b.dat", &content(77, 900), 300);
    let open = chunks(1, "open.dat", &content(78, 900), 300);
    let late = chunks(0, "late.dat", &content(79, 900), 300);
    let junk = Sent { partition: 0, key: "junk".into(), value: b"junk".to_vec(), marked: true };
    if case != Case::Mark {
        finished(start(false, None), &what);
    }
    if case.has_outcomes() {
        bench.send(&(0..5).flat_map(file).collect::<Vec<_>>());
        bench.send(&bad);
        bench.send(&[junk]);
    }
    bench.send(&open[..2]);
    if case == Case::Late {
        bench.send_at(&late[..2], Some(datamill::report::clock::now_ms() - 26 * 3_600_000));
        bench.send(&chunks(0, "f/5.dat", &content(5, 1005), 300));
    }
    if matches!(case, Case::Retry | Case::Late) {
        finished(start(true, None), &what);
    }
    if case == Case::Late {
        bench.send(&late[2..]);
    }

    let died = start(case.fails(), Some(point));
    let said = String::from_utf8_lossy(&died.stderr);
    assert!(!died.status.success() && said.contains(&format!("crash point {point:?}\n")), "{what}: {said}");

    // the one that comes after it, and one that finds nothing more to do but the end of the open file
    finished(start(case.fails(), None), &what);
    bench.send(&open[2..]);
    finished(start(case.fails(), None), &what);

    let mut expected: BTreeMap<String, Vec<u8>> = BTreeMap::from([("open.dat".into(), content(78, 900))]);
    if case.has_outcomes() {
        expected.extend((0..5).map(|i| (format!("f/{i}.dat"), content(i as u64, 1000 + i))));
    }
    if case == Case::Retry {
        expected.insert("bad/b.dat".into(), content(77, 900));
    }
    if case == Case::Late {
        expected.extend([("f/5.dat".into(), content(5, 1005)), ("late.dat".into(), content(79, 900))]);
    }
    let mut results: Vec<_> = bench.read_results();
    results.sort_by(|a, b| a.path().cmp(b.path()));
    // between the acknowledgement and the position, or the end of a failure that was answered
    let may_double =
        !once && (point == CrashPoint::KafkaSent || matches!(case, Case::Retry | Case::Late) && is_settling(point));
    let sent = results.len();
    if may_double {
        results.dedup_by(|a, b| (a.path(), &a.value) == (b.path(), &b.value));
        assert!(sent <= 2 * results.len(), "{what}: {sent} results");
    }
    let got: Vec<_> = results.iter().map(|r| (r.path().to_owned(), r.value.clone())).collect();
    let wanted: Vec<_> = expected.iter().map(|(path, c)| (path.clone(), hex(&sha512(c)).into_bytes())).collect();
    assert_eq!(names(&got), names(&wanted), "{what}: results");
    assert_eq!(got, wanted, "{what}");
    let retried = results.iter().filter(|r| r.headers.contains_key(headers::RETRY_OF)).count();
    assert_eq!(retried, usize::from(matches!(case, Case::Retry | Case::Late)), "{what}: results of retries");
    let letters = read_all(bench.log.as_ref(), &dead);
    let expected_letters = match case {
        Case::Mark | Case::Outcomes | Case::Retry => 2,
        Case::Position => 0,
        Case::Late => 1,
    };
    let most = if may_double { 2 * expected_letters } else { expected_letters };
    assert!((expected_letters..=most).contains(&letters.len()), "{what}: dead letters {letters:?}");
    let mut state = bench.log.group_state(&bench.group).unwrap();
    if !once {
        assert!(state.is_empty(), "{what}: {:?}", state.keys());
        state = bench.folder_state().into_iter().map(|(key, value)| (key, value.into_bytes())).collect();
    }
    let failed = state.keys().filter(|key| key.starts_with("failed/")).count();
    assert_eq!(failed, usize::from(case.fails()), "{what}: {:?}", state.keys());
    for (path, content) in expected.iter().filter(|_| is_before(point, CrashPoint::Answered)) {
        assert!(std::fs::read(bench.output().join(path)).unwrap() == *content, "{what}: {path}");
    }
}

fn again_everywhere(place: &Place) {
    let once = DeliveryGuarantee::ExactlyOnce;
    let points: Vec<_> = CrashPoint::ALL.iter().filter(|point| Case::Retry.passes(**point, place, once)).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(1, Relaxed)) {
                    let (bench, asked) = asked_to_run_again(place, 5);
                    let died = start(&bench, place, true, false, Some(**point));
                    let said = String::from_utf8_lossy(&died.stderr);
                    assert!(!died.status.success() && said.contains(&format!("crash point {point:?}\n")), "{said}");
                    finished(start(&bench, place, true, false, None), point);
                    finished(start(&bench, place, true, false, None), point);
                    assert_run_again_once(&bench, &asked, point);
                }
            });
        }
    });
}

fn again_after_a_kill(place: &Place) {
    let (bench, asked) = asked_to_run_again(place, 60);
    let is_again = |got: &common::Got| got.headers.contains_key(headers::RERUN_OF);
    let again = || bench.read_results().iter().filter(|got| is_again(got)).count();
    for least in [5, 25] {
        let mut command = command(&bench, place, true, false, None);
        let mut child = command.env(SLOW, "true").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        common::wait_for("some results", || again() >= least);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    finished(start(&bench, place, true, false, None), &"after the kills");
    finished(start(&bench, place, true, false, None), &"with nothing to do");
    assert_run_again_once(&bench, &asked, &"kills");
}

/// A group that has a result of each of these files, and is asked for another one.
fn asked_to_run_again(place: &Place, files: usize) -> (Bench, Vec<RerunFile>) {
    let bench = Bench::new(place, 2);
    bench.dead_letter_topic(&[]);
    let file = |i: usize| chunks(i as i32 % 2, &format!("f/{i}.dat"), &content(i as u64, 1000 + i), 300);
    bench.send(&(0..files).flat_map(file).collect::<Vec<_>>());
    finished(start(&bench, place, true, false, None), &"the first results");
    let (topic, group) = (bench.topic.as_str(), bench.group.as_str());
    let found = files_to_rerun(&bench.log, topic, group, &RerunChoice::default(), &|| false).unwrap().unwrap();
    assert_eq!(found.files.len(), files);
    request_rerun(bench.log.as_ref(), topic, group, &found.files).unwrap();
    (bench, found.files)
}

/// Each file has two results of the same content, of which the second names the first, and nothing is left to do.
fn assert_run_again_once(bench: &Bench, asked: &[RerunFile], what: &impl Debug) {
    let mut again: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let results = bench.read_results();
    for got in &results {
        let of = got.headers.get(headers::RERUN_OF);
        again.entry(got.path().to_owned()).or_default().extend(of.cloned());
    }
    assert_eq!(results.len(), 2 * asked.len(), "{what:?}: {again:?}");
    for file in asked {
        assert_eq!(again[&file.path], [file.result.as_str()], "{what:?}: {}", file.path);
        let values: Vec<_> = results.iter().filter(|got| got.path() == file.path).map(|got| &got.value).collect();
        assert!(values[0] == values[1], "{what:?}: {}", file.path);
    }
    let state = bench.log.group_state(&bench.group).unwrap();
    let left: Vec<_> = state.keys().filter(|key| key.starts_with("rerun/") || key.starts_with("failed/")).collect();
    assert!(left.is_empty(), "{what:?}: {left:?}");
}

/// Whether what a crash at this point leaves undone is done again: files get their public names after the
/// commit.
fn is_before(point: CrashPoint, end: CrashPoint) -> bool {
    point < end && !is_settling(point) && point != CrashPoint::StateSettled
}

/// Whether the positions have moved here, and what was answered is not forgotten yet.
fn is_settling(point: CrashPoint) -> bool {
    matches!(point, CrashPoint::KafkaCommitted | CrashPoint::EmbeddedCommitted)
}

fn names(files: &[(String, Vec<u8>)]) -> Vec<&str> {
    files.iter().map(|(path, _)| path.as_str()).collect()
}

fn start(bench: &Bench, place: &Place, once: bool, fails: bool, at: Option<CrashPoint>) -> Output {
    command(bench, place, once, fails, at).output().unwrap()
}

fn command(bench: &Bench, place: &Place, once: bool, fails: bool, at: Option<CrashPoint>) -> Command {
    let servers = match place {
        Place::Embedded => format!("sqlite:{}", bench.folder.path().join("log.db").display()),
        Place::Kafka => datamill_testkit::kafka::Kafka::from_env().address().to_owned(),
    };
    let output = bench.output().display().to_string();
    let names = [&bench.topic, &bench.results, &bench.group, &output].map(String::as_str);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "the_second_process"]);
    command
        .env(SERVERS, servers)
        .env(NAMES, names.join("\n"))
        .env(FAILS, fails.to_string())
        .env(ONCE, once.to_string());
    if let Some(point) = at {
        command.env(CRASH_AT, format!("{point:?}"));
    }
    command
}

fn finished(output: Output, what: &impl Debug) {
    let (said, printed) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success() && printed.contains("1 passed"), "{what:?}: {said}{printed}");
}

struct Hash {
    fails: bool,
    is_slow: bool,
}

impl DataFileStreamReproducer for Hash {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        if self.is_slow {
            std::thread::sleep(Duration::from_millis(100));
        }
        if self.fails && file.subdirectory() == "bad" {
            return Err(ProcessingError::file_failed("on purpose"));
        }
        Ok(Some(ReproducerMessage::new(hex(&sha512(file.bytes()?)))))
    }
}

#[test]
#[ignore = "no test: the others start it as a process of its own"]
fn the_second_process() {
    let names = std::env::var(NAMES).unwrap();
    let names: Vec<&str> = names.split('\n').collect();
    let [topic, results, group, output] = names[..] else { panic!("{names:?}") };
    let mut properties = datamill::broker::Properties::default();
    properties.broker.insert("bootstrap.servers".to_owned(), std::env::var(SERVERS).unwrap());
    let log = datamill::broker::open(&properties).unwrap();
    let settings = EngineSettings {
        mode: Mode::Disk,
        delivery: match std::env::var(ONCE).unwrap() == "true" {
            true => DeliveryGuarantee::ExactlyOnce,
            false => DeliveryGuarantee::AtLeastOnce,
        },
        dead_letter_topic: Some(topic.replace("files", "dead")),
        ..common::settings(topic, results, group, Path::new(output))
    };
    let code = Hash { fails: std::env::var(FAILS).unwrap() == "true", is_slow: std::env::var(SLOW).is_ok() };
    datamill::engine::run(
        &log,
        &settings,
        datamill::process::UserCode::reproducer(code),
        &Control::default(),
        &Facts::default(),
    )
    .unwrap();
}
