//! The engine over both logs with code that brings workers of its own: their lives, their threads, their calls.

use std::cell::Cell;
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crate::common::{Bench, Place, chunks, content, on_both_logs, sizes, wait_for};
use datamill::assemble::DownloadDataFile;
use datamill::engine::{Control, EngineError, StopKind, Summary};
use datamill::facts::Facts;
use datamill::process::{
    Access, Call, Clock, Needs, ProcessingError, ReproducerMessage, ThreadBody, UserCode, Worker, WorkerThread,
    Workers, spawn_thread,
};
use datamill::program::{ReproducerArgs, run_program};
use datamill::wire::Chunk;
use parking_lot::Mutex;

on_both_logs! {
    a_worker_starts_once_on_its_thread_before_its_first_file_and_stops_once_after_its_last,
    a_worker_that_was_given_up_learns_of_it_and_is_stopped_when_its_call_returns,
    code_that_ends_its_calls_is_never_given_up_and_an_overdue_call_is_an_attempt,
    threads_may_come_from_the_code_and_are_waited_for,
    a_call_tells_its_attempt_its_deadline_and_the_shared_lock,
    who_wants_files_with_a_wrong_hash_gets_them_as_they_arrived_and_they_have_failed,
    files_that_wait_for_their_turn_are_not_given_up_and_one_that_hangs_in_its_turn_is,
    code_that_cannot_start_ends_the_program_before_anything_is_read,
    a_worker_that_cannot_take_the_place_of_one_that_was_given_up_ends_the_program,
    an_answer_that_does_not_fit_the_program_is_a_failure_of_the_file,
    a_stop_that_takes_its_time_is_waited_for_and_one_that_panics_harms_nobody,
    a_program_that_is_stopped_while_its_code_starts_ends,
}

type Answer = Result<Option<ReproducerMessage>, ProcessingError>;

/// What a worker lived through.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Started,
    File(String),
    Stopped,
}

/// Whether a start fails, counted from 1, and why.
type Fails = fn(usize) -> Option<&'static str>;

/// Code of which all is noted, with the thread on which it happened.
#[derive(Clone)]
struct Noted<F> {
    needs: Needs,
    fails: Fails,
    spawn: fn(&str, ThreadBody) -> io::Result<Box<dyn WorkerThread>>,
    run: F,
    stop: fn(),
    starts: Arc<AtomicUsize>,
    events: Arc<Mutex<Vec<(ThreadId, Event)>>>,
}

impl<F: Fn(&DownloadDataFile, &Call<'_>) -> Answer + Clone + Send + Sync + 'static> Noted<F> {
    fn new(run: F) -> Self {
        let (starts, events) = Default::default();
        Self { needs: Needs::default(), fails: |_| None, spawn: spawn_thread, run, stop: || {}, starts, events }
    }

    fn note(&self, event: Event) {
        self.events.lock().push((std::thread::current().id(), event));
    }

    fn all(&self) -> Vec<Event> {
        self.events.lock().iter().map(|(_, event)| event.clone()).collect()
    }

    fn count(&self, event: &Event) -> usize {
        self.all().iter().filter(|noted| *noted == event).count()
    }

    /// The events of each thread, in their order.
    fn lives(&self) -> Vec<Vec<Event>> {
        let events = self.events.lock().clone();
        let mut threads: Vec<ThreadId> = Vec::new();
        events.iter().for_each(|(thread, _)| {
            if !threads.contains(thread) {
                threads.push(*thread)
            }
        });
        let of = |thread| events.iter().filter(|(t, _)| *t == thread).map(|(_, event)| event.clone()).collect();
        threads.into_iter().map(of).collect()
    }

    fn code(&self) -> UserCode {
        UserCode::new(self.clone())
    }
}

impl<F: Fn(&DownloadDataFile, &Call<'_>) -> Answer + Clone + Send + Sync + 'static> Workers for Noted<F> {
    fn needs(&self) -> Needs {
        self.needs.clone()
    }

    fn spawn(&self, name: &str, body: ThreadBody) -> io::Result<Box<dyn WorkerThread>> {
        (self.spawn)(name, body)
    }

    fn start(&self) -> Result<Box<dyn Worker>, ProcessingError> {
        match (self.fails)(self.starts.fetch_add(1, SeqCst) + 1) {
            Some("panic") => panic!("no detector on this bus"),
            Some(reason) => return Err(ProcessingError::not_available(reason)),
            None => self.note(Event::Started),
        }
        Ok(Box::new(self.clone()))
    }
}

impl<F: Fn(&DownloadDataFile, &Call<'_>) -> Answer + Clone + Send + Sync + 'static> Worker for Noted<F> {
    fn run(&mut self, file: &DownloadDataFile, call: &Call<'_>) -> Answer {
        self.note(Event::File(file.filename().to_owned()));
        (self.run)(file, call)
    }

    fn stop(self: Box<Self>) {
        (self.stop)();
        self.note(Event::Stopped);
    }
}

fn size_of(file: &DownloadDataFile) -> Answer {
    Ok(Some(ReproducerMessage::new(file.size().to_string())))
}

fn counts(summary: &Summary) -> (u64, u64) {
    (summary.succeeded, summary.failed)
}

fn a_worker_starts_once_on_its_thread_before_its_first_file_and_stops_once_after_its_last(place: &Place) {
    let bench = Bench::new(place, 1);
    for i in 0..40 {
        bench.send(&chunks(0, &format!("f{i}"), &content(i, 50), 60));
    }
    bench.send(&chunks(0, "panics", b"abc", 60));
    let code = Noted::new(|file: &DownloadDataFile, _: &Call<'_>| match file.filename() {
        "panics" => panic!("cannot read it"),
        _ => size_of(file),
    });
    let mut settings = bench.settings();
    settings.threads = 3;
    let summary = bench.run_code(&settings, code.code()).unwrap();
    assert_eq!(counts(&summary), (40, 1));
    let lives = code.lives();
    assert_eq!(lives.len(), 3, "{lives:?}");
    for life in &lives {
        assert_eq!((life.first(), life.last()), (Some(&Event::Started), Some(&Event::Stopped)), "{life:?}");
        let files = life.iter().filter(|event| matches!(event, Event::File(_))).count();
        assert_eq!(files, life.len() - 2, "{life:?}");
    }
    let files = code.all().into_iter().filter(|event| matches!(event, Event::File(_))).count();
    assert_eq!(files, 41);
}

fn a_worker_that_was_given_up_learns_of_it_and_is_stopped_when_its_call_returns(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "hangs", b"h", 10));
    bench.send(&chunks(0, "good", b"good", 10));
    let mut settings = bench.settings();
    (settings.threads, settings.processing_timeout) = (1, Some(Duration::from_millis(100)));
    let code = Noted::new(|file: &DownloadDataFile, call: &Call<'_>| {
        if file.filename() == "hangs" {
            wait_for("the call is given up", || call.is_given_up());
        }
        size_of(file)
    });
    let summary = bench.run_code(&settings, code.code()).unwrap();
    assert_eq!(counts(&summary), (1, 1));
    wait_for("both are stopped", || code.count(&Event::Stopped) == 2);
    let mut lives = code.lives();
    lives.sort_by_key(|life| life[1] == Event::File("good".to_owned()));
    let life = |file: &str| vec![Event::Started, Event::File(file.to_owned()), Event::Stopped];
    assert_eq!(lives, [life("hangs"), life("good")]);
    assert_eq!(sizes(&bench), [("good".to_owned(), vec!["4".to_owned()])].into(), "the late answer is dropped");
}

fn code_that_ends_its_calls_is_never_given_up_and_an_overdue_call_is_an_attempt(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a", b"abc", 10));
    let mut settings = bench.settings();
    (settings.threads, settings.processing_timeout) = (1, Some(Duration::from_millis(50)));
    let mut code = Noted::new(|file: &DownloadDataFile, call: &Call<'_>| {
        if call.attempt() == 1 {
            // longer than the engine takes to look at its calls, many times
            let late = call.deadline().unwrap() + Duration::from_millis(500);
            wait_for("the call is overdue", || Instant::now() > late);
            assert!(!call.is_given_up());
            return Err("ended by itself".into());
        }
        size_of(file)
    });
    code.needs = Needs::default().ends_overdue_calls();
    settings.max_attempts = 2;
    assert_eq!(counts(&bench.run_code(&settings, code.code()).unwrap()), (1, 0));
    assert_eq!((code.count(&Event::Started), code.count(&Event::File("a".to_owned()))), (1, 2));
}

thread_local! {
    static IS_OURS: Cell<bool> = const { Cell::new(false) };
}

/// Threads that [`our_thread`] made and that have not ended.
static OURS: AtomicUsize = AtomicUsize::new(0);

struct Ours(Arc<AtomicBool>);

impl WorkerThread for Ours {
    fn has_ended(&self) -> bool {
        self.0.load(SeqCst)
    }
}

/// A thread as another language would make it: without the name, and with a handle of its own.
fn our_thread(_: &str, body: ThreadBody) -> io::Result<Box<dyn WorkerThread>> {
    let ended = Arc::new(AtomicBool::new(false));
    let says = Arc::clone(&ended);
    std::thread::spawn(move || {
        IS_OURS.set(true);
        OURS.fetch_add(1, SeqCst);
        body();
        // a moment that the engine has to wait for
        std::thread::sleep(Duration::from_millis(20));
        OURS.fetch_sub(1, SeqCst);
        says.store(true, SeqCst);
    });
    Ok(Box::new(Ours(ended)))
}

fn threads_may_come_from_the_code_and_are_waited_for(place: &Place) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock();
    let bench = Bench::new(place, 1);
    for path in ["hangs", "panics", "a", "b", "c"] {
        bench.send(&chunks(0, path, path.as_bytes(), 10));
    }
    let mut settings = bench.settings();
    (settings.threads, settings.processing_timeout) = (1, Some(Duration::from_millis(200)));
    let code = Noted::new(|file: &DownloadDataFile, call: &Call<'_>| {
        assert!(IS_OURS.get(), "the code runs on a thread that it made");
        match file.filename() {
            "hangs" => wait_for("the call is given up", || call.is_given_up()),
            "panics" => panic!("on a thread without a name"),
            _ => {}
        }
        size_of(file)
    });
    let code = Noted { spawn: our_thread, ..code };
    let summary = bench.run_code(&settings, code.code()).unwrap();
    assert_eq!(counts(&summary), (3, 2));
    wait_for("the one that hung ends as well", || OURS.load(SeqCst) == 0);
    assert_eq!((code.count(&Event::Started), code.count(&Event::Stopped)), (2, 2));
    let state = bench.log.group_state(&bench.group).unwrap();
    let reasons: Vec<_> = state.values().map(|value| String::from_utf8_lossy(value)).collect();
    assert!(reasons.iter().any(|reason| reason.contains("on a thread without a name")), "{reasons:?}");
}

fn who_wants_files_with_a_wrong_hash_gets_them_as_they_arrived_and_they_have_failed(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "good", &content(1, 300), 100));
    let mut wrong = chunks(0, "wrong", &content(2, 300), 100);
    let mut value = Vec::new();
    Chunk { data: &[0; 100], ..Chunk::decode(&wrong[1].value).unwrap() }.encode(&mut value);
    wrong[1].value = value;
    bench.send(&wrong);
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut code = Noted::new(|file: &DownloadDataFile, _: &Call<'_>| size_of(file));
    code.needs = Needs::default().tells_mismatches({
        let told = Arc::clone(&told);
        move |file| {
            told.lock().push((file.relative_path().to_owned(), file.bytes().unwrap().to_vec()));
            panic!("whatever becomes of it");
        }
    });
    assert_eq!(counts(&bench.run_code(&bench.settings(), code.code()).unwrap()), (1, 1));
    let arrived = [&content(2, 300)[..100], &[0; 100], &content(2, 300)[200..]].concat();
    assert_eq!(*told.lock(), [("wrong".to_owned(), arrived)]);
    assert_eq!(code.count(&Event::File("wrong".to_owned())), 0);
    // the next start tries it again
    bench.run_code(&bench.settings(), code.code()).unwrap();
    assert_eq!(told.lock().len(), 2);
}

fn a_call_tells_its_attempt_its_deadline_and_the_shared_lock(place: &Place) {
    for limit in [None, Some(Duration::from_secs(3600))] {
        let bench = Bench::new(place, 1);
        bench.send(&chunks(0, "late", b"abc", 10));
        bench.send(&chunks(0, "bad", b"abc", 10));
        let mut settings = bench.settings();
        (settings.max_attempts, settings.processing_timeout) = (3, limit);
        let seen: Arc<Mutex<Vec<(String, u32, bool)>>> = Arc::default();
        let noted = Arc::clone(&seen);
        let code = UserCode::function(Needs::default(), move |file, call| {
            let _one_at_a_time = call.lock().acquire();
            noted.lock().push((file.filename().to_owned(), call.attempt(), call.is_last_attempt()));
            assert!(!call.is_given_up());
            let left = call.deadline().map(|deadline| deadline.duration_since(Instant::now()));
            assert_eq!(left.is_some(), limit.is_some());
            assert!(left <= limit && left.is_none_or(|left| left > Duration::from_secs(1800)), "{left:?}");
            match (file.filename(), call.attempt()) {
                ("late", 1) => Err("not yet".into()),
                ("bad", _) => Err("never".into()),
                _ => size_of(file),
            }
        });
        let summary = bench.run_code(&settings, code).unwrap();
        assert_eq!(counts(&summary), (1, 1));
        let of = |path: &str| -> Vec<(u32, bool)> {
            seen.lock().iter().filter(|(p, ..)| p == path).map(|(_, attempt, last)| (*attempt, *last)).collect()
        };
        assert_eq!(of("late"), [(1, false), (2, false)]);
        assert_eq!(of("bad"), [(1, false), (2, false), (3, true)]);
    }
}

fn files_that_wait_for_their_turn_are_not_given_up_and_one_that_hangs_in_its_turn_is(place: &Place) {
    let bench = Bench::new(place, 1);
    let limit = Duration::from_millis(400);
    bench.send(&chunks(0, "hangs", b"h", 10));
    for i in 0..8 {
        bench.send(&chunks(0, &format!("f{i}"), b"abc", 10));
    }
    let mut settings = bench.settings();
    (settings.threads, settings.processing_timeout) = (4, Some(limit));
    let first_call: Arc<Mutex<Option<Instant>>> = Arc::default();
    let code = UserCode::function(Needs::new(Access::Either, Clock::WhenSaid), move |file, call| {
        let first = *first_call.lock().get_or_insert_with(Instant::now);
        // no file has its turn before much more than the limit is over
        while first.elapsed() < 3 * limit {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(call.deadline().is_none() && !call.is_given_up());
        // said by the one who takes the file, which may be another thread
        std::thread::scope(|scope| scope.spawn(|| call.begin()).join()).unwrap();
        assert!(call.deadline().is_some());
        if file.filename() == "hangs" {
            wait_for("the call is given up", || call.is_given_up());
        }
        size_of(file)
    });
    let summary = bench.run_code(&settings, code).unwrap();
    assert_eq!(counts(&summary), (8, 1));
    assert!(!sizes(&bench).contains_key("hangs"));
}

fn code_that_cannot_start_ends_the_program_before_anything_is_read(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a", b"abc", 10));
    let mut settings = bench.settings();
    settings.threads = 2;
    let good = Noted::new(|file: &DownloadDataFile, _: &Call<'_>| size_of(file));
    let cases: [(Fails, &str); 2] = [
        (|start| (start == 2).then_some("there is no model"), "there is no model"),
        (|start| (start == 1).then_some("panic"), "no detector on this bus"),
    ];
    for (fails, reason) in cases {
        let code = Noted { fails, starts: Arc::default(), events: Arc::default(), ..good.clone() };
        match bench.run_code(&settings, code.code()) {
            Err(EngineError::NotStarted(said)) => assert!(said.contains(reason), "{said}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(code.all(), [Event::Started, Event::Stopped], "the other one is stopped, and no file was taken up");
        assert!(bench.log.group(&bench.group, &[&bench.topic]).unwrap().committed.is_empty());
    }
    // a thread that runs nothing is no worker either
    let nothing = Noted { spawn: |name, _| spawn_thread(name, Box::new(|| {})), ..good.clone() };
    assert!(matches!(bench.run_code(&settings, nothing.code()), Err(EngineError::NotStarted(_))));
    let none = Noted { spawn: |_, _| Err(io::Error::other("no threads are left")), ..good.clone() };
    assert!(matches!(bench.run_code(&settings, none.code()), Err(EngineError::Thread(_))));
    assert_eq!(counts(&bench.run_code(&settings, good.code()).unwrap()), (1, 0));
}

fn a_worker_that_cannot_take_the_place_of_one_that_was_given_up_ends_the_program(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "hangs", b"h", 10));
    let mut settings = bench.settings();
    settings.exit_at_end = false;
    (settings.threads, settings.processing_timeout) = (1, Some(Duration::from_millis(100)));
    let code = Noted::new(|file: &DownloadDataFile, call: &Call<'_>| {
        wait_for("the call is given up", || call.is_given_up());
        size_of(file)
    });
    let code = Noted { fails: |start| (start == 2).then_some("the licence is in use"), ..code };
    match bench.run_code(&settings, code.code()) {
        Err(EngineError::NotReplaced(reason)) => assert_eq!(reason, "the licence is in use"),
        other => panic!("{other:?}"),
    }
}

fn an_answer_that_does_not_fit_the_program_is_a_failure_of_the_file(place: &Place) {
    for has_results in [true, false] {
        let bench = Bench::new(place, 1);
        bench.send(&chunks(0, "none", b"abc", 10));
        bench.send(&chunks(0, "some", b"abc", 10));
        let mut settings = bench.settings();
        settings.result_topic = settings.result_topic.filter(|_| has_results);
        let code = UserCode::function(Needs::default(), |file, _| match file.filename() {
            "none" => Ok(None),
            _ => size_of(file),
        });
        let summary = bench.run_code(&settings, code).unwrap();
        assert_eq!(counts(&summary), (1, 1));
        let state = bench.log.group_state(&bench.group).unwrap();
        let failed: Vec<_> = state.iter().filter(|(key, _)| key.starts_with("failed/")).collect();
        let (path, reason, status) = match has_results {
            true => ("none", "returned no message", "computing_result_message_failed"),
            false => ("some", "has no topic for results", "failed"),
        };
        let text = String::from_utf8_lossy(failed[0].1);
        assert!(text.contains(&format!("\"{path}\"")) && text.contains(reason) && text.contains(status), "{text}");
    }
}

fn a_stop_that_takes_its_time_is_waited_for_and_one_that_panics_harms_nobody(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a", b"abc", 10));
    let code = Noted::new(|file: &DownloadDataFile, _: &Call<'_>| size_of(file));
    let slow = Noted { stop: || std::thread::sleep(Duration::from_millis(700)), ..code.clone() };
    assert_eq!(counts(&bench.run_code(&bench.settings(), slow.code()).unwrap()), (1, 0));
    assert_eq!(slow.count(&Event::Stopped), 2, "the program ends after its workers");
    bench.send(&chunks(0, "b", b"abc", 10));
    let panics = Noted { stop: || panic!("the connection is gone"), ..code };
    assert_eq!(counts(&bench.run_code(&bench.settings(), panics.code()).unwrap()), (1, 0));
}

fn a_program_that_is_stopped_while_its_code_starts_ends(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a", b"abc", 10));
    let mut settings = bench.settings();
    settings.exit_at_end = false;
    let control = Control::default();
    // ends in any case, so that the thread does
    let slow = |_| {
        std::thread::sleep(Duration::from_secs(20));
        None
    };
    let code = Noted::new(|file: &DownloadDataFile, _: &Call<'_>| size_of(file));
    let code = Noted { fails: slow, ..code };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_for("the code starts", || code.starts.load(SeqCst) > 0);
            control.stop(StopKind::Leave);
        });
        let summary = datamill::engine::run(&bench.log, &settings, code.code(), &control, &Facts::default());
        assert_eq!(counts(&summary.unwrap()), (0, 0));
    });
    assert!(code.all().is_empty(), "nothing has started yet, and nothing was waited for");
}

#[test]
fn a_program_whose_code_cannot_start_says_why_and_ends_with_exit_code_2() {
    let bench = Bench::new(&Place::Embedded, 1);
    let config = bench.folder.path().join("test.config");
    let log = bench.folder.path().join("log.db");
    std::fs::write(&config, format!("[broker]\nbootstrap.servers = sqlite:{}\n", log.display())).unwrap();
    let test = std::env::current_exe().unwrap();
    let mut command = Command::new(test);
    command.args(["--exact", "port::the_second_process", "--ignored", "--nocapture"]);
    command.current_dir(bench.folder.path()).env(TOPICS, format!("{} {}", bench.topic, bench.results));
    let ended = command.output().unwrap();
    let text = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors, ["error: the function could not start, and nothing was read: there is no model `xrd.onnx`"]);
}

/// Variable that tells the other process what to read.
const TOPICS: &str = "PORT_TEST_TOPICS";

#[test]
#[ignore = "no test: the one before starts it as a process of its own"]
fn the_second_process() {
    use clap::{Args, FromArgMatches};

    let topics = std::env::var(TOPICS).unwrap();
    let (topic, results) = topics.split_once(' ').unwrap();
    let args = ["models", "--config", "test.config", "--consumer_topic_name", topic, "--producer_topic_name", results];
    let matches = ReproducerArgs::augment_args(clap::Command::new("models")).get_matches_from(args);
    let args = ReproducerArgs::from_arg_matches(&matches).unwrap();
    let code = Noted::new(|file: &DownloadDataFile, _: &Call<'_>| size_of(file));
    let code = Noted { fails: |_| Some("there is no model `xrd.onnx`"), ..code };
    assert_eq!(run_program(&args, "models", code.code()).code(), 2);
}
