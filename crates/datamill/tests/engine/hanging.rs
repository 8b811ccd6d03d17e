//! The engine over both logs: functions that do not end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{Bench, ByName, Place, chunks, content, on_both_logs, sizes, wait_for};
use datamill::assemble::DownloadDataFile;
use datamill::engine::EngineError;
use datamill::process::{DataFileStreamReproducer, Lock, ProcessingError, ReproducerMessage};

on_both_logs! {
    a_function_that_does_not_end_fails_its_file_and_holds_nobody_up,
    the_file_behind_one_that_hangs_has_its_turn,
    too_many_functions_that_hang_end_the_program_after_what_is_ready_is_committed,
    who_waits_for_a_lock_that_is_never_given_back_is_given_up_too,
}

/// Files whose content begins with `h` hang until they are let go.
#[derive(Clone, Default)]
struct Hangs {
    let_go: Arc<AtomicBool>,
    with_lock: bool,
}

impl DataFileStreamReproducer for Hangs {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        lock: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        let _one_at_a_time = self.with_lock.then(|| lock.acquire());
        while file.bytes()?.starts_with(b"h") && !self.let_go.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Some(ReproducerMessage::new(file.size().to_string())))
    }
}

/// Lets the functions go when the test is over.
impl Drop for LetGo {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

struct LetGo(Arc<AtomicBool>);

impl Hangs {
    fn until_the_end_of_the_test() -> (Self, LetGo) {
        let code = Self::default();
        let guard = LetGo(Arc::clone(&code.let_go));
        (code, guard)
    }
}

fn reasons(bench: &Bench) -> Vec<String> {
    let state = bench.log.group_state(&bench.group).unwrap();
    let failed = state.iter().filter(|(key, _)| key.starts_with("failed/"));
    failed.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
}

fn a_function_that_does_not_end_fails_its_file_and_holds_nobody_up(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "hangs", b"h", 10));
    for i in 0..20 {
        bench.send(&chunks(0, &format!("good {i}"), &content(i, 100), 60));
    }
    let mut settings = bench.settings();
    (settings.threads, settings.max_attempts) = (1, 3);
    settings.processing_timeout = Some(Duration::from_millis(100));
    let (code, let_go) = Hangs::until_the_end_of_the_test();
    let summary = bench.run(&settings, code).unwrap();
    assert_eq!((summary.succeeded, summary.failed), (20, 1));
    let reasons = reasons(&bench);
    assert!(reasons[0].contains("did not end within 0.1 s") && reasons[0].contains(r#""attempts":1"#), "{reasons:?}");
    drop(let_go);
    settings.processing_timeout = None;
    let summary = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((summary.succeeded, summary.failed), (1, 0), "it is tried again at the next start");
    assert_eq!(bench.read_results().len(), 21);
}

fn the_file_behind_one_that_hangs_has_its_turn(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "same", b"hangs", 10));
    bench.send(&chunks(0, "same", b"good", 10));
    let mut settings = bench.settings();
    settings.processing_timeout = Some(Duration::from_millis(100));
    let (code, _let_go) = Hangs::until_the_end_of_the_test();
    let summary = bench.run(&settings, code).unwrap();
    assert_eq!((summary.succeeded, summary.failed), (1, 1));
    assert_eq!(sizes(&bench), [("same".to_owned(), vec!["4".to_owned()])].into());
}

fn too_many_functions_that_hang_end_the_program_after_what_is_ready_is_committed(place: &Place) {
    let bench = Bench::new(place, 1);
    for i in 0..10 {
        bench.send(&chunks(0, &format!("hangs {i}"), b"h", 10));
    }
    let mut settings = bench.settings();
    settings.exit_at_end = false;
    settings.processing_timeout = Some(Duration::from_millis(50));
    let (code, _let_go) = Hangs::until_the_end_of_the_test();
    match bench.run(&settings, code) {
        Err(EngineError::Hanging { functions, .. }) => assert!((4..10).contains(&functions), "{functions}"),
        other => panic!("{other:?}"),
    }
    let failed = reasons(&bench).len();
    assert!((4..10).contains(&failed), "what was given up is recorded, the rest is for the next start: {failed}");
    settings.exit_at_end = true;
    settings.processing_timeout = None;
    let summary = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((summary.succeeded, summary.failed), (10, 0));
    assert_eq!(bench.read_results().len(), 10);
}

fn who_waits_for_a_lock_that_is_never_given_back_is_given_up_too(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "hangs", b"h", 10));
    for i in 0..10 {
        bench.send(&chunks(0, &format!("good {i}"), b"abc", 10));
    }
    let mut settings = bench.settings();
    // the one that hangs has the lock before any other is begun
    settings.threads = 1;
    settings.processing_timeout = Some(Duration::from_millis(50));
    let (code, let_go) = Hangs::until_the_end_of_the_test();
    let ended = bench.run(&settings, Hangs { with_lock: true, ..code });
    assert!(matches!(ended, Err(EngineError::Hanging { .. })), "{ended:?}");
    drop(let_go);
    settings.processing_timeout = None;
    bench.run(&settings, ByName::default()).unwrap();
    wait_for("one result for each file", || bench.read_results().len() == 11);
}
