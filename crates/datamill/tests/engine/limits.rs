//! The engine over both logs: what happens where memory and disk are small.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{Bench, ByName, Place, Sent, StopAtEnd, chunks, content, on_both_logs, sizes, wait_for};
use datamill::assemble::Mode;
use datamill::engine::{Control, EngineSettings};
use datamill::facts::Facts;
use datamill::report::clock;

on_both_logs! {
    files_beyond_the_spill_limit_are_read_again_and_come_through_once,
    a_stop_while_files_are_dropped_loses_and_doubles_nothing,
    a_dropped_file_keeps_its_chunks_apart_from_those_of_a_repetition,
    a_version_that_came_later_is_the_one_that_stays_also_when_the_earlier_was_dropped,
    a_disk_that_cannot_be_written_holds_the_reading_and_keeps_the_membership,
    a_partition_of_a_spread_topic_is_not_read_far_ahead_of_the_others,
}

/// The chunks of all files in turn, so that all fill up at the same time.
fn in_turn(files: &[Vec<Sent>]) -> Vec<Sent> {
    let rounds = files.iter().map(Vec::len).max().unwrap_or(0);
    (0..rounds).flat_map(|i| files.iter().filter_map(move |file| file.get(i).cloned())).collect()
}

/// Files of 60,000 bytes each in two partitions.
fn files(count: u64) -> Vec<(String, Vec<u8>)> {
    (0..count).map(|i| (format!("d/{i}.dat"), content(i, 60_000))).collect()
}

fn cut(files: &[(String, Vec<u8>)]) -> Vec<Vec<Sent>> {
    files.iter().enumerate().map(|(i, (path, bytes))| chunks(i as i32 % 2, path, bytes, 4_000)).collect()
}

/// Room for three files in memory and as many as this on disk.
fn small(bench: &Bench, spill_limit: usize) -> EngineSettings {
    EngineSettings { memory_limit: 600_000, spill_limit: Some(spill_limit), ..bench.settings() }
}

fn filling(bench: &Bench) -> PathBuf {
    bench.output().join(".datamill").join("filling")
}

fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Looks at a folder all the time, and answers the most bytes that were in it.
fn watching<T>(folder: &Path, work: impl FnOnce() -> T) -> (T, u64) {
    let (over, most) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                most.fetch_max(bytes_in(folder), SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let done = work();
        over.store(true, SeqCst);
        (done, most.load(SeqCst))
    })
}

fn assert_all_there(bench: &Bench, files: &[(String, Vec<u8>)], on_disk: bool) {
    let sizes = sizes(bench);
    assert_eq!(sizes.len(), files.len());
    for (path, bytes) in files {
        assert_eq!(sizes[path], [bytes.len().to_string()], "{path}");
        if on_disk {
            assert!(std::fs::read(bench.output().join(path)).unwrap() == *bytes, "{path}");
        }
    }
    assert_eq!(std::fs::read_dir(filling(bench)).unwrap().count(), 0, "nothing is left of files that filled up");
}

fn files_beyond_the_spill_limit_are_read_again_and_come_through_once(place: &Place) {
    for (mode, spill_limit) in [(Mode::Memory, 150_000), (Mode::Disk, 150_000), (Mode::Both, 0)] {
        let bench = Bench::new(place, 2);
        let files = files(20);
        bench.send(&in_turn(&cut(&files)));
        let settings = EngineSettings { mode, ..small(&bench, spill_limit) };
        let (summary, most) = watching(&filling(&bench), || bench.run(&settings, ByName::default()).unwrap());
        assert_eq!((summary.succeeded, summary.failed), (20, 0), "{mode:?} {spill_limit}");
        assert_all_there(&bench, &files, mode != Mode::Memory);
        assert!(most <= spill_limit as u64 + 60_000, "{mode:?}: {most} bytes were on disk");
    }
}

fn a_stop_while_files_are_dropped_loses_and_doubles_nothing(place: &Place) {
    let bench = Bench::new(place, 2);
    let files = files(20);
    let records = in_turn(&cut(&files));
    let settings = EngineSettings { exit_at_end: false, ..small(&bench, 100_000) };
    for part in records.chunks(records.len() / 3 + 1) {
        bench.send(part);
        let control = Control::default();
        std::thread::scope(|scope| {
            let _stop = StopAtEnd(&control);
            scope.spawn(|| bench.run_controlled(&settings, ByName::default(), &control).unwrap());
            wait_for("files that fill up on disk", || bytes_in(&filling(&bench)) > 0);
        });
    }
    let settings = EngineSettings { exit_at_end: true, ..settings };
    bench.run(&settings, ByName::default()).unwrap();
    assert_all_there(&bench, &files, false);
}

fn a_dropped_file_keeps_its_chunks_apart_from_those_of_a_repetition(place: &Place) {
    let bench = Bench::new(place, 1);
    let good = chunks(0, "a.dat", &content(1, 60_000), 4_000);
    // the first upload has a byte that is wrong, which only its hash can tell
    let mut bad = good.clone();
    let middle = bad[3].value.len() / 2;
    bad[3].value[middle] ^= 1;
    // each chunk of the second upload comes while the first one fills up
    let both: Vec<Sent> = bad.into_iter().zip(good).flat_map(|(bad, good)| [bad, good]).collect();
    bench.send(&both);
    let settings = EngineSettings { memory_limit: 60_000, ..small(&bench, 0) };
    let summary = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((summary.succeeded, summary.failed), (1, 1), "{summary}");
    assert_eq!(sizes(&bench)["a.dat"], ["60000"]);
}

fn a_version_that_came_later_is_the_one_that_stays_also_when_the_earlier_was_dropped(place: &Place) {
    let bench = Bench::new(place, 1);
    let (old, new) = (content(1, 60_000), content(2, 1_000));
    bench.send(&chunks(0, "a.dat", &old, 4_000));
    bench.send(&chunks(0, "a.dat", &new, 4_000));
    let settings = EngineSettings { mode: Mode::Disk, memory_limit: 100_000, ..small(&bench, 0) };
    let facts = Facts::default();
    let summary = bench.run_counted(&settings, ByName::default(), &Control::default(), &facts).unwrap();
    assert!(facts.counters().counts().messages_read > 2 * 15, "the earlier one was dropped and read again");
    assert_eq!((summary.succeeded, summary.failed), (2, 0));
    assert_eq!(sizes(&bench)["a.dat"].len(), 2);
    assert!(std::fs::read(bench.output().join("a.dat")).unwrap() == new, "the version later in the log wins");
}

fn a_disk_that_cannot_be_written_holds_the_reading_and_keeps_the_membership(place: &Place) {
    let bench = Bench::new(place, 2);
    let files = files(20);
    let records = in_turn(&cut(&files));
    let (first, rest) = records.split_at(records.len() / 2);
    let settings = EngineSettings { exit_at_end: false, spill_limit: None, ..small(&bench, 0) };
    let (control, code) = (Control::default(), ByName::default());
    let calls = Arc::clone(&code.calls);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&control);
        let run = scope.spawn(|| bench.run_controlled(&settings, code, &control).unwrap());
        bench.send(first);
        wait_for("files that fill up on disk", || bytes_in(&filling(&bench)) > 0);
        let aside = bench.folder.path().join("aside");
        std::fs::rename(filling(&bench), &aside).unwrap();
        bench.send(rest);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(calls.load(SeqCst), 0, "no file is whole");
        let members = bench.log.group(&bench.group, &[&bench.topic]).unwrap().members;
        assert_eq!(members.len(), 1, "the member stays");
        std::fs::rename(&aside, filling(&bench)).unwrap();
        wait_for("all results", || calls.load(SeqCst) == 20);
        control.stop(datamill::engine::StopKind::Leave);
        assert_eq!(run.join().unwrap().succeeded, 20);
    });
    assert_all_there(&bench, &files, false);
}

fn a_partition_of_a_spread_topic_is_not_read_far_ahead_of_the_others(place: &Place) {
    const FILES: u64 = 100;
    let bench = Bench::new(place, 2);
    // Each file begins in the first partition, which is read four times as fast as the second, where it ends.
    let mut all = Vec::new();
    for i in 0..FILES {
        let mut records = chunks(0, &format!("spread/{i}.dat"), &content(i, 101_000), 100_000);
        records[1].partition = 1;
        records.iter_mut().for_each(|record| record.marked = false);
        records.extend((0..3).flat_map(|n| chunks(1, &format!("beside/{i}-{n}.dat"), &content(n, 100_000), 100_000)));
        records.rotate_left(2);
        // not so old that the log would let go of them
        let time_ms = clock::now_ms() - (FILES - i) as i64 * 2_000;
        all.extend(records.into_iter().map(|record| (record, Some(time_ms))));
    }
    bench.send_each(all.iter().map(|(record, time_ms)| (record, *time_ms)), &[]);
    let settings = EngineSettings { memory_limit: 4 << 20, ..bench.settings() };
    let (summary, most) = watching(&filling(&bench), || bench.run(&settings, ByName::default()).unwrap());
    assert_eq!((summary.succeeded, summary.failed), (4 * FILES, 0));
    assert!(sizes(&bench).values().all(|sizes| sizes.len() == 1));
    println!("most bytes on disk: {most}");
    assert!(most < 3_000_000, "{most} bytes of halves of files were on disk");
}
