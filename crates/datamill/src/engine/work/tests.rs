use std::path::Path;
use std::time::Instant;

use super::*;
use crate::assemble::testing::whole;
use crate::engine::in_hand::tests::{begun, noted};
use crate::process::{Access, Beginning, Clock, Needs, TellOverdue, Watch};

fn queue(sizes: &[usize]) -> Queue {
    let files = sizes.iter().enumerate().map(|(i, size)| whole(&i.to_string(), &vec![i as u8; *size]));
    Queue { ready: files.collect(), waiting: sizes.len(), ..Queue::default() }
}

fn waiting(queue: &Queue) -> Vec<&str> {
    queue.ready.iter().map(|file| &*file.info.version.path).collect()
}

#[test]
fn small_files_are_hashed_with_the_one_before_them_and_wait_on_in_their_order() {
    let mut queue = queue(&[10, 3_000, 0, 128, 7]);
    let first = queue.take().unwrap();
    let others = queue.take_others(&first).unwrap();
    assert_eq!((queue.waiting, queue.running), (1, 4));
    let [a, b, c] = &others;
    WholeFile::hash_four([&first, a, b, c]);
    queue.give_back(others);
    assert_eq!((queue.waiting, queue.running), (4, 1));
    assert_eq!(waiting(&queue), ["1", "2", "3", "4"]);
    let next = queue.take().unwrap();
    assert!(queue.take_others(&next).is_none(), "it is hashed already");
    let topic = Arc::new(SourceTopic {
        name: "files".into(),
        id: "files of this log".into(),
        by_name: None,
        own_files: Default::default(),
    });
    for file in [first, next].into_iter().chain(std::iter::from_fn(|| queue.take())) {
        let path = Arc::clone(&file.info.version.path);
        assert!(DownloadDataFile::verify(&topic, file).is_ok(), "{path}");
    }
}

#[test]
fn files_are_hashed_alone_where_fewer_than_four_are_small() {
    for sizes in [&[10, 10, 10][..], &[10, 10, 100_000, 10, 10], &[100_000, 10, 10, 10]] {
        let mut queue = queue(sizes);
        let first = queue.take().unwrap();
        assert!(queue.take_others(&first).is_none(), "{sizes:?}");
        assert_eq!((queue.waiting, queue.running), (sizes.len() - 1, 1));
    }
}

#[test]
fn after_a_stop_no_file_comes_back() {
    let mut queue = queue(&[10, 10, 10, 10]);
    let first = queue.take().unwrap();
    let others = queue.take_others(&first).unwrap();
    queue.stopping = true;
    queue.give_back(others);
    assert_eq!((queue.waiting, queue.running, queue.ready.len()), (0, 1, 0), "only the one in hand is waited for");
}

/// A call that is with user code, as the pool knows it.
fn call(pool: &Pool, in_hand: &Arc<InHand>, number: usize, path: &str, limit: Duration, clock: Clock) -> Arc<Watch> {
    let slot = in_hand.hand(number);
    let info = Arc::clone(&whole(path, b"abc").info);
    slot.prepare(&info, false, false);
    let watch = Arc::new(Watch::new(Some(limit), Some(Arc::clone(&slot) as Arc<dyn Beginning>)));
    watch.call(clock);
    let running = Running { watch: Arc::clone(&watch), info, attempt: 1, slot: Some(slot) };
    let mut queue = pool.shared.queue.lock();
    queue.running += 1;
    queue.calls.insert((number, 0), running);
    watch
}

/// What a pool of one worker works with in this folder.
fn settings(folder: &Path, in_hand: Option<Arc<InHand>>) -> WorkSettings {
    let mut run = EngineSettings::new("files", "group", "host", folder);
    (run.result_topic, run.threads, run.max_attempts) = (Some("results".to_owned()), 1, 1);
    (run.processing_timeout, run.shutdown_timeout) = (Some(Duration::from_secs(1)), Duration::ZERO);
    WorkSettings {
        run: Arc::new(run),
        topic: Arc::new(SourceTopic {
            name: "files".into(),
            id: "files of this log".into(),
            by_name: None,
            own_files: Default::default(),
        }),
        facts: Facts::default(),
        needs: Needs {
            tell_overdue: Some(TellOverdue(Arc::new(|_| {}))),
            ..Needs::new(Access::Either, Clock::WhenSaid)
        },
        together: 1,
        in_hand,
        work_folder: folder.to_owned(),
        output: Arc::new(Output::of(folder)),
    }
}

#[test]
fn calls_beside_one_that_ends_the_program_are_not_named_with_it_and_do_not_fail() {
    let folder = tempfile::tempdir().unwrap();
    let in_hand = begun(folder.path());
    let settings = settings(folder.path(), Some(Arc::clone(&in_hand)));
    let code = UserCode::function(Needs::default(), |_, _| Ok(None));
    let pool = Pool::start(settings, Arc::default(), code, &Control::default()).unwrap();
    let (over, long) = (Duration::ZERO, Duration::from_secs(3600));
    let hangs = call(&pool, &in_hand, 1, "hangs", over, Clock::AtOnce);
    let works = call(&pool, &in_hand, 2, "works", long, Clock::AtOnce);
    let waits = call(&pool, &in_hand, 3, "waits", over, Clock::WhenSaid);
    while !hangs.is_overdue() {
        std::thread::yield_now();
    }
    let named = pool.end_overdue();
    assert_eq!(named.iter().map(|path| &**path).collect::<Vec<_>>(), ["hangs"]);
    assert_eq!([&hangs, &works, &waits].map(|watch| watch.is_given_up()), [true, false, true]);
    // the process has not ended yet: what hangs is noted as such, and what it works on as what it is
    assert_eq!(noted(&in_hand), ["0 0 o hangs", "0 0 - works"]);
    // what was given up comes back after all, and what goes on takes too long in the end
    hangs.end();
    works.end();
    call(&pool, &in_hand, 2, "works", over, Clock::AtOnce);
    assert_eq!(pool.give_up_overdue().unwrap().len(), 0, "the next start has these files");
    assert_eq!(noted(&in_hand), ["0 0 o hangs", "0 0 - works"]);
    pool.join();
}

#[test]
fn what_waits_for_the_output_folder_goes_on_as_soon_as_that_is_back() {
    let place = tempfile::tempdir().unwrap();
    let (folder, away) = (place.path().join("own"), place.path().join("away"));
    std::fs::create_dir(&folder).unwrap();
    let settings = settings(&folder, None);
    let output = Arc::clone(&settings.output);
    let code = UserCode::function(Needs::default(), |_, _| Ok(None));
    let pool = Pool::start(settings, Arc::default(), code, &Control::default()).unwrap();
    std::fs::rename(&folder, &away).unwrap();
    assert!(output.require().is_err());
    // as after many tries
    let tomorrow = Instant::now() + Duration::from_secs(86_400);
    pool.shared.queue.lock().unavailable = Some((tomorrow, Hold::OutputFolder));
    pool.submit(std::iter::once(whole("file", b"abc")));
    assert_eq!(pool.standing().hold, Some(Hold::OutputFolder));
    assert!(pool.reports.try_recv().is_err(), "the folder is gone");
    std::fs::rename(&away, &folder).unwrap();
    output.require().unwrap();
    let report = pool.reports.recv_timeout(Duration::from_secs(120)).expect("it goes on");
    assert!(matches!(report, Report::Outcome(_)));
    assert_eq!(pool.standing().hold, None);
    pool.join();
}
