//! The engine over both logs: user code that ends the process. A process of its own dies, and is started again as a
//! supervisor does it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::common::{Bench, Place, StopAtEnd, chunks, content, on_both_logs, settings, wait_for};
use datamill::assemble::DownloadDataFile;
use datamill::engine::{
    Control, DeliveryGuarantee, EngineError, EngineSettings, RerunChoice, StopKind, failed_files, files_to_rerun,
    forget_failures, request_rerun, request_retry,
};
use datamill::facts::Facts;
use datamill::process::{Access, Call, Clock, Needs, ProcessingError, ReproducerMessage, UserCode};
use parking_lot::Mutex;

on_both_logs! {
    one_file_among_a_thousand_that_ends_the_process_fails_and_all_others_have_their_result,
    with_at_least_once_the_ends_are_kept_in_the_output_folder,
    a_file_that_ends_the_process_when_it_is_run_again_fails_and_the_others_have_another_result,
    another_host_knows_of_the_ends_that_the_group_was_told_of,
    a_call_that_cannot_be_given_up_ends_the_program_and_counts_as_an_attempt,
    a_clean_end_and_a_stop_with_a_call_in_hand_leave_nothing,
    failures_that_are_forgotten_leave_nothing_of_their_ends,
    a_program_that_gives_up_says_why_however_its_session_ends,
}

/// Variables that tell the other process what to do.
const SERVERS: &str = "IN_HAND_SERVERS";
const NAMES: &str = "IN_HAND_NAMES";
const HOW: &str = "IN_HAND_HOW";
const ONCE: &str = "IN_HAND_EXACTLY_ONCE";
/// The file that ends the process.
const KILLS: &str = "run 7/kills.dat";
/// More starts than any of these tests needs.
const TOO_MANY: usize = 20;

/// What the function does with the file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Aborts,
    Hangs,
    Works,
}

struct Host<'a> {
    bench: &'a Bench,
    place: &'a Place,
    output: PathBuf,
    delivery: DeliveryGuarantee,
}

impl<'a> Host<'a> {
    fn new(bench: &'a Bench, place: &'a Place) -> Self {
        Self { bench, place, output: bench.output(), delivery: DeliveryGuarantee::ExactlyOnce }
    }

    /// Runs the program up to its end, whatever that is.
    fn start(&self, how: How) -> Output {
        let servers = match self.place {
            Place::Embedded => format!("sqlite:{}", self.bench.folder.path().join("log.db").display()),
            Place::Kafka => datamill_testkit::kafka::Kafka::from_env().address().to_owned(),
        };
        let output = self.output.display().to_string();
        let names = [&self.bench.topic, &self.bench.results, &self.bench.group, &output].map(String::as_str);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "in_hand::the_second_process"]);
        let once = self.delivery == DeliveryGuarantee::ExactlyOnce;
        command.env(SERVERS, servers).env(NAMES, names.join("\n")).env(HOW, format!("{how:?}"));
        command.env(ONCE, once.to_string()).output().unwrap()
    }

    /// Starts the program again until it ends as it should. Answers the exit codes of the others.
    fn supervise(&self, how: How) -> Vec<Option<i32>> {
        self.supervise_to_the_summary(how).0
    }

    /// Answers what the last start printed as well.
    fn supervise_to_the_summary(&self, how: How) -> (Vec<Option<i32>>, String) {
        let mut codes = Vec::new();
        loop {
            let ended = self.start(how);
            let printed = String::from_utf8_lossy(&ended.stdout);
            if ended.status.success() && printed.contains("1 passed") {
                return (codes, printed.into_owned());
            }
            codes.push(ended.status.code());
            let said = String::from_utf8_lossy(&ended.stderr);
            // an abort has no exit code, and a test that fails has 101
            assert!(matches!(ended.status.code(), None | Some(5)), "{said}{printed}");
            assert!(codes.len() < TOO_MANY, "{said}");
        }
    }

    /// What the output folder has of files in hand.
    fn notes(&self) -> Vec<String> {
        let names = fs::read_dir(self.output.join(".datamill")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("in_hand")).collect()
    }

    fn state(&self) -> BTreeMap<String, String> {
        match self.delivery {
            DeliveryGuarantee::ExactlyOnce => {
                let state = self.bench.log.group_state(&self.bench.group).unwrap();
                state.into_iter().map(|(key, value)| (key, String::from_utf8(value).unwrap())).collect()
            }
            DeliveryGuarantee::AtLeastOnce => self.bench.folder_state(),
        }
    }

    /// Values of the keys that begin so.
    fn entries(&self, begins: &str) -> Vec<String> {
        self.state().into_iter().filter(|(key, _)| key.starts_with(begins)).map(|(_, value)| value).collect()
    }

    /// How often the function ran for the file that ends the process, by all hosts.
    fn calls(&self) -> usize {
        fs::read_to_string(calls(&self.bench.output())).unwrap_or_default().lines().count()
    }
}

/// Where each call for the file that ends the process is written down.
fn calls(output: &Path) -> PathBuf {
    output.with_file_name("calls")
}

fn send_files(bench: &Bench, files: usize, partitions: i32) {
    let path = |i| if i == files / 2 { KILLS.to_owned() } else { format!("run {}/{i}.dat", i % 9) };
    let file = |i: usize| chunks(i as i32 % partitions, &path(i), &content(i as u64, 300 + i % 50), 200);
    bench.send(&(0..files).flat_map(file).collect::<Vec<_>>());
}

/// One result for each file but the one that ends the process.
fn assert_all_but_one(bench: &Bench, files: usize) {
    let results = bench.read_results();
    let paths: BTreeSet<&str> = results.iter().map(|result| result.path()).collect();
    assert_eq!((results.len(), paths.len()), (files - 1, files - 1), "none twice");
    assert!(!paths.contains(KILLS));
}

fn one_file_among_a_thousand_that_ends_the_process_fails_and_all_others_have_their_result(place: &Place) {
    let bench = Bench::new(place, 4);
    send_files(&bench, 1000, 4);
    let host = Host::new(&bench, place);
    assert_eq!(host.supervise(How::Aborts).len(), 3, "one death for each attempt");
    assert_all_but_one(&bench, 1000);
    let failed = host.entries("failed/");
    assert!(failed.len() == 1 && failed[0].contains(KILLS), "{failed:?}");
    for text in [
        "ended or was killed while it worked on this file, 3 times",
        r#""status":"ended_the_program""#,
        r#""attempts":3"#,
    ] {
        assert!(failed[0].contains(text), "{text}: {failed:?}");
    }
    assert!(host.notes().is_empty() && host.entries("in_hand/").is_empty());
    let failures = crate::common::registry(&host.output, "failed_from_");
    assert_eq!(failures.len(), 1, "{failures:?}");

    // it is not tried again by itself
    assert_eq!((host.supervise(How::Aborts).len(), host.calls()), (0, 3));
    let ask = || {
        let failed = failed_files(bench.log.as_ref(), &bench.topic, &bench.group).unwrap();
        request_retry(bench.log.as_ref(), &bench.topic, &bench.group, &failed).unwrap();
    };
    ask();
    assert_eq!((host.supervise(How::Aborts).len(), host.calls()), (2, 5), "one end may come from outside");
    let failed = failed_files(bench.log.as_ref(), &bench.topic, &bench.group).unwrap();
    assert_eq!((failed.len(), failed[0].attempts, failed[0].requested), (1, 5, false));
    assert!(failed[0].can_be_retried && failed[0].waits_for_a_request);
    ask();
    assert_eq!(host.supervise(How::Works).len(), 0);
    assert_eq!(bench.read_results().len(), 1000);
    assert!(host.entries("failed/").is_empty() && host.entries("in_hand/").is_empty() && host.notes().is_empty());
}

fn with_at_least_once_the_ends_are_kept_in_the_output_folder(place: &Place) {
    let bench = Bench::new(place, 1);
    send_files(&bench, 40, 1);
    let host = Host { delivery: DeliveryGuarantee::AtLeastOnce, ..Host::new(&bench, place) };
    assert_eq!(host.supervise(How::Aborts).len(), 3);
    let paths: BTreeSet<String> = bench.read_results().iter().map(|result| result.path().to_owned()).collect();
    assert!(paths.len() == 39 && !paths.contains(KILLS));
    let failed = host.entries("failed/");
    assert!(failed.len() == 1 && failed[0].contains("3 times"), "{failed:?}");
    assert!(host.entries("in_hand/").is_empty() && host.notes().is_empty());
}

fn a_file_that_ends_the_process_when_it_is_run_again_fails_and_the_others_have_another_result(place: &Place) {
    let bench = Bench::new(place, 1);
    send_files(&bench, 40, 1);
    let host = Host::new(&bench, place);
    assert_eq!(host.supervise(How::Works).len(), 0);
    let calls = host.calls();
    let (log, topic, group) = (&bench.log, bench.topic.as_str(), bench.group.as_str());
    let all = files_to_rerun(log, topic, group, &RerunChoice::default(), &|| false).unwrap().unwrap();
    assert_eq!(all.files.len(), 40);
    request_rerun(log.as_ref(), topic, group, &all.files).unwrap();
    assert_eq!((host.supervise(How::Aborts).len(), host.calls()), (2, calls + 2), "one end may come from outside");
    let failed = host.entries("failed/");
    assert!(failed.len() == 1 && failed[0].contains(KILLS) && failed[0].contains("ended_the_program"), "{failed:?}");
    assert!(host.entries("rerun/").is_empty() && host.entries("in_hand/").is_empty() && host.notes().is_empty());
    let mut results: BTreeMap<String, usize> = BTreeMap::new();
    for result in bench.read_results() {
        *results.entry(result.path().to_owned()).or_default() += 1;
    }
    assert!(results.iter().all(|(path, count)| *count == if path == KILLS { 1 } else { 2 }), "{results:?}");
    request_retry(log.as_ref(), topic, group, &failed_files(log.as_ref(), topic, group).unwrap()).unwrap();
    assert_eq!(host.supervise(How::Works).len(), 0);
    assert_eq!(bench.read_results().len(), 80);
    assert!(host.entries("failed/").is_empty());
}

fn another_host_knows_of_the_ends_that_the_group_was_told_of(place: &Place) {
    let bench = Bench::new(place, 1);
    send_files(&bench, 40, 1);
    let here = Host::new(&bench, place);
    let there = Host { output: bench.folder.path().join("there"), ..Host::new(&bench, place) };
    for _ in 0..2 {
        assert_eq!(here.start(How::Aborts).status.code(), None);
    }
    // the second start has told the first end
    assert!(!here.entries("in_hand/").is_empty());
    assert_eq!(there.supervise(How::Aborts).len(), 2, "the third end makes the attempts full");
    assert_all_but_one(&bench, 40);
    let failed = here.entries("failed/");
    assert!(failed.len() == 1 && failed[0].contains("3 times"), "{failed:?}");
    assert!(here.entries("in_hand/").is_empty() && there.notes().is_empty());
    // what the first host tells now comes too late
    assert_eq!(here.notes().len(), 1);
    assert_eq!((here.supervise(How::Aborts).len(), here.calls()), (0, 4));
    assert_all_but_one(&bench, 40);
    assert!(here.entries("in_hand/").is_empty() && here.notes().is_empty());
}

fn a_call_that_cannot_be_given_up_ends_the_program_and_counts_as_an_attempt(place: &Place) {
    let bench = Bench::new(place, 1);
    send_files(&bench, 40, 1);
    let host = Host::new(&bench, place);
    let codes = host.supervise(How::Hangs);
    // on a busy machine another one may take too long as well
    assert!(codes.len() >= 3 && codes.iter().all(|code| *code == Some(5)), "{codes:?}");
    assert_all_but_one(&bench, 40);
    let failed = host.entries("failed/");
    let reason = "3 times, as the function did not end in its time";
    assert!(failed.len() == 1 && failed[0].contains(KILLS) && failed[0].contains(reason), "{failed:?}");
    let told = fs::read_to_string(bench.output().with_file_name("told")).unwrap();
    assert_eq!(told.lines().filter(|line| *line == KILLS).count(), 3, "where it hangs is told each time");
    assert!(host.notes().is_empty() && host.entries("in_hand/").is_empty());
}

fn a_clean_end_and_a_stop_with_a_call_in_hand_leave_nothing(place: &Place) {
    let bench = Bench::new(place, 1);
    send_files(&bench, 40, 1);
    let host = Host::new(&bench, place);
    let mut settings = EngineSettings { exit_at_end: false, ..bench.settings() };
    settings.shutdown_timeout = Duration::from_millis(100);
    let (begun, let_go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (begins, goes) = (Arc::clone(&begun), Arc::clone(&let_go));
    let holds = UserCode::function(Needs::default().may_end_the_process(), move |file, _| {
        while file.relative_path() == KILLS && !goes.load(SeqCst) {
            begins.store(true, SeqCst);
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Some(ReproducerMessage::new(file.size().to_string())))
    });
    let control = Control::default();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| datamill::engine::run(&bench.log, &settings, holds, &control, &Facts::default()));
        let _stop = StopAtEnd(&control);
        wait_for("the call", || begun.load(SeqCst));
        assert_eq!(host.notes().len(), 1);
        control.stop(StopKind::Leave);
        run.join().unwrap().unwrap();
    });
    assert!(host.notes().is_empty(), "a stop is nobody's fault");
    let_go.store(true, SeqCst);
    assert_eq!(host.supervise(How::Works).len(), 0);
    assert_eq!(bench.read_results().len(), 40);
    assert!(host.notes().is_empty() && host.entries("in_hand/").is_empty());
}

fn failures_that_are_forgotten_leave_nothing_of_their_ends(place: &Place) {
    let bench = Bench::new(place, 1);
    send_files(&bench, 40, 1);
    let host = Host::new(&bench, place);
    let (deaths, printed) = host.supervise_to_the_summary(How::Aborts);
    assert_eq!(deaths.len(), 3);
    let said = |files: &str| {
        format!(
            "{files} ended the program each time, and no start tries such a file again by itself; `datamill retry \
             --status ended_the_program --topic_name {} --consumer_group_id {}",
            bench.topic, bench.group
        )
    };
    assert!(printed.contains(&said("1 file")) && !printed.contains("next start tries"), "{printed}");
    let failed = || failed_files(bench.log.as_ref(), &bench.topic, &bench.group).unwrap();
    let ask = || request_retry(bench.log.as_ref(), &bench.topic, &bench.group, &failed()).unwrap();
    ask();
    let (deaths, printed) = host.supervise_to_the_summary(How::Aborts);
    assert_eq!(deaths.len(), 2);
    assert!(printed.contains(&said("1 file")) && !printed.contains("failed earlier and failed again"), "{printed}");
    ask();
    // the second of these starts tells the first end, and leaves one itself
    assert_eq!([(); 2].map(|()| host.start(How::Aborts).status.code()), [None, None]);
    assert_eq!((host.entries("in_hand/").len(), host.notes().len()), (1, 1));
    forget_failures(bench.log.as_ref(), &bench.group, &failed()).unwrap();
    assert!(host.entries("in_hand/").is_empty() && host.entries("failed/").is_empty());
    assert_eq!(host.supervise(How::Works).len(), 0);
    assert!(host.entries("in_hand/").is_empty() && host.notes().is_empty());
    assert_all_but_one(&bench, 40);
}

fn a_program_that_gives_up_says_why_however_its_session_ends(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, KILLS, b"abc", 10));
    let mut settings = EngineSettings { exit_at_end: false, ..bench.settings() };
    settings.processing_timeout = Some(Duration::from_millis(100));
    let (log, topic) = (Arc::clone(&bench.log), bench.topic.clone());
    // the session ends for another reason as soon as it is told
    let needs = Needs::new(Access::Either, Clock::AtOnce)
        .ends_the_program_when_overdue(move |_| log.delete_topic(&topic).unwrap());
    let let_go = Arc::new(AtomicBool::new(false));
    let goes = Arc::clone(&let_go);
    let hangs = UserCode::function(needs, move |_, _| {
        while !goes.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(ProcessingError::file_failed("too late"))
    });
    let ended = bench.run_code(&settings, hangs);
    let_go.store(true, SeqCst);
    match ended {
        Err(EngineError::Overdue { file, .. }) => assert_eq!(file, KILLS),
        other => panic!("{other:?}"),
    }
}

/// Calls of the function at this moment.
static RUNNING: AtomicUsize = AtomicUsize::new(0);
/// As the lock of an interpreter.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The function of the other process.
fn function(how: How, output: &Path) -> impl Fn(&DownloadDataFile, &Call<'_>) -> Answer + Send + Sync + 'static {
    let calls = calls(output);
    move |file, call| {
        let _turn = (how == How::Hangs).then(|| ONE_AT_A_TIME.lock());
        std::thread::scope(|scope| scope.spawn(|| call.starter().begin()).join()).unwrap();
        RUNNING.fetch_add(1, SeqCst);
        if file.relative_path() == KILLS && how != How::Works {
            let mut lines = fs::File::options().append(true).create(true).open(&calls)?;
            std::io::Write::write_all(&mut lines, b"call\n")?;
            // the first time others are in hand as well
            let start = Instant::now();
            let is_first = fs::metadata(&calls)?.len() == 5;
            while how == How::Aborts && is_first && RUNNING.load(SeqCst) < 2 && start.elapsed().as_secs() < 10 {
                std::thread::yield_now();
            }
            match how {
                How::Aborts => std::process::abort(),
                How::Hangs => loop {
                    std::thread::sleep(Duration::from_secs(1));
                },
                How::Works => {}
            }
        }
        RUNNING.fetch_sub(1, SeqCst);
        Ok(Some(ReproducerMessage::new(file.size().to_string())))
    }
}

type Answer = Result<Option<ReproducerMessage>, ProcessingError>;

#[test]
#[ignore = "no test: the others start it as a process of its own"]
#[expect(clippy::disallowed_methods, reason = "a program that cannot give its function up ends so")]
fn the_second_process() {
    let names = std::env::var(NAMES).unwrap();
    let names: Vec<&str> = names.split('\n').collect();
    let [topic, results, group, output] = names[..] else { panic!("{names:?}") };
    let output = Path::new(output);
    let how = match std::env::var(HOW).unwrap().as_str() {
        "Aborts" => How::Aborts,
        "Hangs" => How::Hangs,
        _ => How::Works,
    };
    let mut properties = datamill::broker::Properties::default();
    properties.broker.insert("bootstrap.servers".to_owned(), std::env::var(SERVERS).unwrap());
    let log = datamill::broker::open(&properties).unwrap();
    let mut settings = EngineSettings { threads: 4, max_attempts: 3, ..settings(topic, results, group, output) };
    if std::env::var(ONCE).unwrap() == "false" {
        settings.delivery = DeliveryGuarantee::AtLeastOnce;
    }
    let mut needs = Needs::default().may_end_the_process();
    if how == How::Hangs {
        settings.processing_timeout = Some(Duration::from_secs(2));
        let told = output.with_file_name("told");
        needs = Needs::new(Access::Either, Clock::WhenSaid).ends_the_program_when_overdue(move |paths| {
            let mut lines = fs::File::options().append(true).create(true).open(&told).unwrap();
            std::io::Write::write_all(&mut lines, format!("{}\n", paths.join("\n")).as_bytes()).unwrap();
        });
    }
    let code = UserCode::function(needs, function(how, output));
    match datamill::engine::run(&log, &settings, code, &Control::default(), &Facts::default()) {
        Ok(summary) => println!("{summary}"),
        Err(EngineError::Overdue { .. }) => std::process::exit(5),
        Err(error) => panic!("{error}"),
    }
}
