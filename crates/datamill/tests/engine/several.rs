//! The engine over both logs with workers that have several small files at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{Bench, Place, chunks, content, on_both_logs, sizes, wait_for};
use datamill::assemble::DownloadDataFile;
use datamill::engine::EngineError;
use datamill::process::{
    Access, Answer, Call, Clock, Needs, ProcessingError, ReproducerMessage, Several, Starter, ThreadBody, Together,
    UserCode, Worker, WorkerThread, Workers, spawn_thread,
};
use parking_lot::Mutex;

on_both_logs! {
    small_files_come_together_and_each_has_its_own_outcome,
    an_outcome_does_not_wait_for_a_file_beside_it,
    a_panic_fails_the_files_that_have_no_answer_and_the_worker_goes_on,
    of_files_together_only_the_one_that_hangs_is_overdue,
    files_on_disk_and_files_with_a_limited_time_come_alone,
    a_worker_that_takes_none_together_gets_each_by_itself,
}

/// Files that a worker has at once.
const MOST: usize = 8;

/// A file with a worker.
struct Held {
    place: usize,
    name: String,
    size: usize,
    starter: Starter,
}

/// Answers for all that a worker has, or for some of them.
type Answers = dyn Fn(&[Held], &dyn Together) -> Vec<(usize, Answer)> + Send + Sync;

#[derive(Clone)]
struct Code {
    needs: Needs,
    answers: Arc<Answers>,
    takes_several: bool,
    /// The most files that a worker had at once.
    most: Arc<AtomicUsize>,
    /// Names of the files that came alone, and the attempt that it was.
    alone: Arc<Mutex<BTreeMap<String, u32>>>,
    /// Names of the files that came with others, or might have.
    together: Arc<Mutex<BTreeSet<String>>>,
}

impl Code {
    fn new(
        needs: Needs,
        answers: impl Fn(&[Held], &dyn Together) -> Vec<(usize, Answer)> + Send + Sync + 'static,
    ) -> Self {
        let needs = needs.with_small_files_together(MOST);
        let (most, alone, together) = Default::default();
        Self { needs, answers: Arc::new(answers), takes_several: true, most, alone, together }
    }

    fn code(&self) -> UserCode {
        UserCode::new(self.clone())
    }
}

impl Workers for Code {
    fn needs(&self) -> Needs {
        self.needs.clone()
    }

    fn spawn(&self, name: &str, body: ThreadBody) -> io::Result<Box<dyn WorkerThread>> {
        spawn_thread(name, body)
    }

    fn start(&self) -> Result<Box<dyn Worker>, ProcessingError> {
        Ok(Box::new(Hand { code: self.clone(), held: Vec::new() }))
    }
}

struct Hand {
    code: Code,
    held: Vec<Held>,
}

impl Worker for Hand {
    fn run(&mut self, file: &DownloadDataFile, call: &Call<'_>) -> Answer {
        call.begin();
        self.code.alone.lock().insert(file.filename().to_owned(), call.attempt());
        sized(file.size() as usize)
    }

    fn several(&mut self) -> Option<&mut dyn Several> {
        if self.code.takes_several { Some(self) } else { None }
    }

    fn stop(self: Box<Self>) {}
}

impl Several for Hand {
    fn begin(&mut self, place: usize, file: &DownloadDataFile, call: &Call<'_>) -> Result<(), ProcessingError> {
        self.code.together.lock().insert(file.filename().to_owned());
        if file.filename() == "refused" {
            return Err(ProcessingError::file_failed("not this one"));
        }
        let (name, size) = (file.filename().to_owned(), file.size() as usize);
        self.held.push(Held { place, name, size, starter: call.starter() });
        self.code.most.fetch_max(self.held.len(), SeqCst);
        Ok(())
    }

    fn answers(&mut self, together: &dyn Together) -> Vec<(usize, Answer)> {
        let held = std::mem::take(&mut self.held);
        let answers = (self.code.answers)(&held, together);
        self.held = held.into_iter().filter(|held| answers.iter().all(|(place, _)| *place != held.place)).collect();
        answers
    }
}

fn sized(size: usize) -> Answer {
    Ok(Some(ReproducerMessage::new(size.to_string())))
}

fn send(bench: &Bench, names: impl IntoIterator<Item = String>) -> BTreeMap<String, Vec<String>> {
    let mut expected = BTreeMap::new();
    for (i, name) in names.into_iter().enumerate() {
        bench.send(&chunks(0, &name, &content(i as u64, 50 + i), 1000));
        expected.insert(name, vec![(50 + i).to_string()]);
    }
    expected
}

fn numbered(files: usize) -> impl Iterator<Item = String> {
    (0..files).map(|i| format!("f{i:03}"))
}

fn small_files_come_together_and_each_has_its_own_outcome(place: &Place) {
    let bench = Bench::new(place, 1);
    let names = ["fails", "later", "no message", "refused"].map(str::to_owned);
    let mut expected = send(&bench, numbered(20).chain(names).chain((20..60).map(|i| format!("f{i:03}"))));
    bench.send(&chunks(0, "large", &content(7, 100_000), 1000));
    expected.insert("large".to_owned(), vec!["100000".to_owned()]);
    let code = Code::new(Needs::default(), |held, together| {
        assert!(together.path(MOST).is_err() && !together.is_given_up(0), "nothing is there");
        let answer = |held: &Held| match held.name.as_str() {
            "fails" => Err(ProcessingError::file_failed("it is no diffractogram")),
            "later" => Err(ProcessingError::not_available("the detector is off")),
            "no message" => Ok(None),
            _ => {
                let path = together.path(held.place).unwrap();
                assert!(path.ends_with(&held.name), "{path:?}");
                sized(std::fs::metadata(path).unwrap().len() as usize)
            }
        };
        // the last first, and half of them the next time
        held.iter().rev().take(held.len().div_ceil(2)).map(|held| (held.place, answer(held))).collect()
    });
    let mut settings = bench.settings();
    settings.max_attempts = 2;
    let summary = bench.run_code(&settings, code.code()).unwrap();
    assert_eq!((summary.succeeded, summary.failed), (65, 0));
    assert_eq!(sizes(&bench), expected);
    let most = code.most.load(SeqCst);
    assert!((2..=MOST).contains(&most), "{most}");
    let (together, alone) = (code.together.lock(), code.alone.lock());
    for (name, next) in [("fails", 2), ("later", 1), ("no message", 2), ("refused", 2)] {
        let next = if together.contains(name) { next } else { 1 };
        assert_eq!(alone.get(name), Some(&next), "its last call is one for itself");
    }
    assert!(alone.contains_key("large") && !together.contains("large"));
}

fn an_outcome_does_not_wait_for_a_file_beside_it(place: &Place) {
    let bench = Arc::new(Bench::new(place, 1));
    let expected = send(&bench, numbered(MOST));
    let looked = Arc::clone(&bench);
    let code = Code::new(Needs::default(), move |held, _| {
        if held.len() == 1 {
            wait_for("the others have their results", || looked.read_results().len() == MOST - 1);
        }
        let answered = held.len().max(2) - 1;
        held[..answered].iter().map(|held| (held.place, sized(held.size))).collect()
    });
    let mut settings = bench.settings();
    settings.threads = 1;
    let summary = bench.run_code(&settings, code.code()).unwrap();
    assert_eq!(summary.succeeded, MOST as u64);
    assert_eq!(sizes(&bench), expected);
}

fn a_panic_fails_the_files_that_have_no_answer_and_the_worker_goes_on(place: &Place) {
    let bench = Bench::new(place, 1);
    let expected = send(&bench, numbered(3 * MOST));
    let panics = AtomicUsize::new(0);
    let code = Code::new(Needs::default(), move |held, _| {
        if panics.fetch_add(1, SeqCst) == 1 {
            panic!("no memory for it");
        }
        held[..1].iter().map(|held| (held.place, sized(held.size))).collect()
    });
    let mut settings = bench.settings();
    (settings.threads, settings.max_attempts) = (1, 1);
    let summary = bench.run_code(&settings, code.code()).unwrap();
    assert!(summary.failed > 0 && summary.failed < MOST as u64, "{summary:?}");
    assert_eq!(summary.succeeded + summary.failed, expected.len() as u64);
    let results = sizes(&bench);
    assert_eq!(results.len() as u64, summary.succeeded);
    assert!(results.iter().all(|(name, sizes)| expected[name] == *sizes));
}

fn of_files_together_only_the_one_that_hangs_is_overdue(place: &Place) {
    let bench = Bench::new(place, 1);
    send(&bench, numbered(MOST));
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let notes = Arc::clone(&told);
    let needs = Needs::new(Access::Either, Clock::WhenSaid)
        .ends_the_program_when_overdue(move |paths| notes.lock().extend(paths.iter().map(ToString::to_string)));
    let code = Code::new(needs, |held, together| {
        // all begin, all but one end at once, and no answer is given while that one hangs
        for held in held {
            held.starter.begin();
            if held.name != "f003" {
                held.starter.end();
            }
        }
        let hangs = held.iter().find(|held| held.name == "f003");
        wait_for("the call is given up", || hangs.is_none_or(|held| together.is_given_up(held.place)));
        held.iter().map(|held| (held.place, sized(held.size))).collect()
    });
    let mut settings = bench.settings();
    (settings.threads, settings.processing_timeout) = (1, Some(Duration::from_millis(300)));
    let ended = bench.run_code(&settings, code.code());
    assert!(matches!(ended, Err(EngineError::Overdue { .. })), "{ended:?}");
    assert_eq!(*told.lock(), ["f003"]);
}

fn files_on_disk_and_files_with_a_limited_time_come_alone(place: &Place) {
    let bench = Bench::new(place, 1);
    let expected = send(&bench, numbered(20));
    let mut settings = bench.settings();
    settings.processing_timeout = Some(Duration::from_secs(60));
    let code = Code::new(Needs::default(), |_, _| unreachable!("one at a time"));
    let summary = bench.run_code(&settings, code.code()).unwrap();
    assert_eq!((summary.succeeded, sizes(&bench)), (20, expected));
    assert_eq!(code.alone.lock().len(), 20);
    let by_path = Code::new(Needs::new(Access::Path, Clock::AtOnce), |_, _| unreachable!("one at a time"));
    let settings = datamill::engine::EngineSettings { group: format!("{}-2", bench.group), ..bench.settings() };
    assert_eq!(bench.run_code(&settings, by_path.code()).unwrap().succeeded, 20);
}

fn a_worker_that_takes_none_together_gets_each_by_itself(place: &Place) {
    let bench = Bench::new(place, 1);
    let expected = send(&bench, numbered(20));
    let code = Code::new(Needs::default(), |_, _| unreachable!("one at a time"));
    let code = Code { takes_several: false, ..code };
    let summary = bench.run_code(&bench.settings(), code.code()).unwrap();
    assert_eq!((summary.succeeded, summary.failed, sizes(&bench)), (20, 0, expected));
    assert_eq!(code.alone.lock().len(), 20);
}
