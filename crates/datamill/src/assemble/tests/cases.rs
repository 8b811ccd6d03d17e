//! Single cases, each with the sentence that it shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use datamill_wire::Chunk;

use super::super::{Added, Assembler, Budget, CUT_OFF_MS, Complete, InstanceId, InstanceIds, SpillFolder, WholeFile};
use crate::progress::{OpenKind, Progress};

fn assembler(partitions: i32) -> Assembler {
    let mut assembler = Assembler::new(Box::new(|_| true), Arc::default());
    for partition in 0..partitions {
        assembler.assign(partition, Progress::starting_at(0), 0);
    }
    assembler
}

fn chunk(index: u32, total: u32) -> Chunk<'static> {
    Chunk {
        filename: "a.dat",
        file_hash: &[1; 64],
        chunk_hash: &[0; 64],
        offset: u64::from(index) * 4 - 4,
        index,
        total,
        subdir: "",
        filename_append: "",
        data: b"data",
        mtime: None,
    }
}

fn add(assembler: &mut Assembler, partition: i32, offset: i64, index: u32, total: u32) -> Added {
    let (added, written) = assembler.add(partition, offset, 0, &chunk(index, total));
    written.unwrap();
    added
}

fn complete(added: Added) -> Complete {
    match added {
        Added::Whole(complete) => complete,
        other => panic!("{other:?}, not whole"),
    }
}

fn whole(added: Added) -> InstanceId {
    complete(added).info().id
}

fn ids(files: &[WholeFile]) -> Vec<InstanceId> {
    files.iter().map(|file| file.info.id).collect()
}

#[test]
fn a_hundred_uploads_of_one_version_at_the_same_time_are_committed_at_once() {
    let mut assembler = assembler(1);
    let uploads = 100;
    let mut finished = InstanceIds::default();
    for offset in 0..3 * uploads {
        let added = add(&mut assembler, 0, offset, (offset / uploads) as u32 + 1, 3);
        if offset >= 2 * uploads {
            finished.insert(whole(added));
        }
    }
    let progress = assembler.progress(0, &finished).unwrap();
    assert_eq!(progress, Progress::starting_at(3 * uploads));
    let last = *finished.iter().max().unwrap();
    finished.remove(&last);
    let progress = assembler.progress(0, &finished).unwrap();
    assert_eq!(progress.open.values().filter(|kind| **kind == OpenKind::Shadow).count(), 99);
    assert_eq!(progress.open.get(&99), Some(&OpenKind::Open));
}

#[test]
fn a_record_read_again_is_not_taken_by_a_repetition_that_began_in_another_partition() {
    let mut assembler = assembler(2);
    // the file is in both partitions, and its first chunk came twice
    add(&mut assembler, 0, 0, 1, 2);
    let first = whole(add(&mut assembler, 1, 1, 2, 2));
    add(&mut assembler, 0, 1, 1, 2);
    let finished = InstanceIds::from_iter([first]);
    let restored: Vec<Progress> = (0..2).map(|p| assembler.progress(p, &finished).unwrap()).collect();
    assert_eq!(restored[0].open, BTreeMap::from([(1, OpenKind::Open)]));
    assert_eq!(restored[1], Progress::starting_at(2));

    let mut assembler = self::assembler(0);
    assembler.assign(0, restored[0].clone(), 1);
    // an older position of the other partition, as another file holds it there
    assembler.assign(1, restored[1].clone(), 0);
    assert!(matches!(add(&mut assembler, 0, 1, 1, 2), Added::Begun(_)));
    assert!(matches!(add(&mut assembler, 1, 1, 2, 2), Added::Finished));
}

#[test]
fn a_spread_file_is_torn_only_when_a_part_of_its_partitions_goes() {
    for (revoked, torn) in [(&[0, 1][..], false), (&[0], true), (&[2], false)] {
        let mut assembler = assembler(3);
        add(&mut assembler, 0, 0, 1, 3);
        add(&mut assembler, 1, 0, 2, 3);
        assert!(assembler.is_spread());
        let (ids, is_torn) = assembler.revoke(revoked);
        assert_eq!((ids.len(), is_torn), (usize::from(revoked != [2]), torn), "{revoked:?}");
    }
}

#[test]
fn a_finished_file_that_is_listed_for_its_repetition_is_not_named_as_lost() {
    let mut assembler = assembler(0);
    let open = BTreeMap::from([(3, OpenKind::Shadow), (5, OpenKind::Open), (9, OpenKind::Open)]);
    assembler.assign(0, Progress { frontier: 20, open }, 4);
    assert_eq!(assembler.take_lost(), []);
    assert_eq!(assembler.span(), 15);
    add(&mut assembler, 0, 7, 1, 2);
    assert_eq!(assembler.take_lost(), [(0, 5)]);
    assembler.skip_to(0, 20);
    assert_eq!(assembler.take_lost(), [(0, 9)]);
    assert_eq!(assembler.progress(0, &InstanceIds::default()), Some(Progress::starting_at(20)));
}

#[test]
fn a_file_whose_bytes_cannot_be_written_is_handed_out_once_they_can() {
    let folder = tempfile::tempdir().unwrap();
    let spill = SpillFolder::prepare(folder.path().join("spill")).unwrap();
    let budget = Arc::new(Budget::default());
    let mut assembler = Assembler::new(Box::new(|_| true), Arc::clone(&budget));
    assembler.assign(0, Progress::starting_at(0), 0);
    add(&mut assembler, 0, 0, 1, 3);
    assert_eq!(assembler.spill_down_to(0, &spill).unwrap(), 1);
    assert_eq!(budget.filling(), 0);

    let aside = folder.path().join("aside");
    std::fs::rename(spill.path(), &aside).unwrap();
    let (added, written) = assembler.add(0, 1, 0, &chunk(2, 3));
    assert!(matches!(added, Added::Taken));
    written.unwrap_err();
    let (added, written) = assembler.add(0, 2, 0, &chunk(3, 3));
    let Complete::Unwritten(info) = complete(added) else { panic!("it is handed out") };
    written.unwrap_err();
    assembler.settle().unwrap_err();
    assert_eq!(budget.filling(), 8);

    std::fs::rename(&aside, spill.path()).unwrap();
    let settled = assembler.settle().unwrap();
    assert_eq!(ids(&settled), [info.id]);
    assert_eq!(settled[0].size, Some(12));
    drop(settled);
    assert_eq!(budget.filling() + budget.whole(), 0);
}

#[test]
fn a_file_that_is_too_large_for_the_memory_fills_up_on_disk_from_its_first_chunk_on() {
    let folder = tempfile::tempdir().unwrap();
    let spill = SpillFolder::prepare(folder.path().join("spill")).unwrap();
    let budget = Arc::new(Budget::default());
    let mut assembler = Assembler::new(Box::new(|_| true), Arc::clone(&budget)).on_disk(9..=12, &spill);
    assembler.assign(0, Progress::starting_at(0), 0);
    add(&mut assembler, 0, 0, 1, 2);
    assert_eq!((budget.filling(), budget.filling_on_disk()), (4, 0));
    add(&mut assembler, 0, 1, 1, 3);
    assert_eq!((budget.filling(), budget.filling_on_disk()), (4, 4));
    add(&mut assembler, 0, 2, 2, 3);
    let Complete::Here(file) = complete(add(&mut assembler, 0, 3, 3, 3)) else { panic!("it is not handed out") };
    assert_eq!((budget.whole_on_disk(), file.size), (12, Some(12)));

    add(&mut assembler, 0, 4, 1, 4);
    assert_eq!(budget.filling(), 8, "there is not so much disk");
    std::fs::remove_dir_all(spill.path()).unwrap();
    let (added, written) = assembler.add(0, 5, 0, &chunk(1, 3));
    assert!(matches!(added, Added::Begun(_)));
    assert_eq!(budget.filling(), 12, "what cannot be written is kept");
    written.unwrap_err();
}

#[test]
fn a_file_that_could_be_written_is_handed_out_although_the_next_one_could_not() {
    let folder = tempfile::tempdir().unwrap();
    let spill = SpillFolder::prepare(folder.path().join("spill")).unwrap();
    let mut assembler = assembler(1);
    // two uploads at the same time, both spilled
    add(&mut assembler, 0, 0, 1, 2);
    add(&mut assembler, 0, 1, 1, 2);
    assembler.spill_down_to(0, &spill).unwrap();
    let aside = folder.path().join("aside");
    std::fs::rename(spill.path(), &aside).unwrap();
    let mut expected = Vec::new();
    for offset in 2..4 {
        let (added, written) = assembler.add(0, offset, 0, &chunk(2, 2));
        written.unwrap_err();
        expected.push(whole(added));
    }
    // one of the two files is there again, then the other one
    std::fs::create_dir(spill.path()).unwrap();
    for entry in std::fs::read_dir(&aside).unwrap() {
        assembler.settle().unwrap_err();
        let name = entry.unwrap().file_name();
        std::fs::rename(aside.join(&name), spill.path().join(&name)).unwrap();
    }
    assert_eq!(ids(&assembler.settle().unwrap()), expected);
}

#[test]
fn chunks_that_come_after_a_repetition_ended_are_a_note_too() {
    let mut assembler = assembler(1);
    let mut add_at = |offset: i64, index, ms| assembler.add(0, offset, ms, &chunk(index, 3)).1.unwrap();
    // the second upload completes the first, and stops
    for (offset, index) in [(0, 1), (1, 2), (2, 1), (3, 2), (4, 3)] {
        add_at(offset, index, 0);
    }
    assembler.finish(&InstanceIds::from_iter([InstanceId(0)]));
    assembler.skip_to(0, 5);
    assembler.add(0, 5, 100, &Chunk { filename: "b.dat", ..chunk(1, 1) }).1.unwrap();
    let ended = assembler.expire(Some(1000), 10, |_| 0);
    assert_eq!(ended.iter().map(|e| e.is_note).collect::<Vec<_>>(), [true]);
    assembler.finish(&InstanceIds::from_iter([ended[0].info.id]));
    assembler.add(0, 6, 100, &chunk(3, 3)).1.unwrap();
    assembler.add(0, 7, 2000, &Chunk { filename: "c.dat", ..chunk(1, 1) }).1.unwrap();
    let late = assembler.expire(Some(1000), 10, |_| 0);
    assert_eq!(late.iter().map(|e| e.is_note).collect::<Vec<_>>(), [true], "what is left over is no failure");
}

/// Files, messages and bytes that wait.
fn waits(assembler: &Assembler) -> (u64, u64, u64) {
    let backlog = assembler.backlog();
    (backlog[0].files, backlog[0].messages, backlog[0].bytes)
}

#[test]
fn what_a_repeated_upload_leaves_over_waits_for_nothing_and_ends_in_a_partition_that_is_quiet() {
    let mut assembler = assembler(1);
    add(&mut assembler, 0, 0, 1, 3);
    add(&mut assembler, 0, 1, 2, 3);
    assert_eq!(waits(&assembler), (1, 2, 8));
    // the second upload begins anew
    add(&mut assembler, 0, 2, 1, 3);
    add(&mut assembler, 0, 3, 2, 3);
    assert_eq!(waits(&assembler), (1, 2, 8), "it is the file that waits already");
    let first = InstanceIds::from_iter([whole(add(&mut assembler, 0, 4, 3, 3))]);
    assert_eq!(waits(&assembler), (1, 3, 12));
    let progress = assembler.progress(0, &first).unwrap();
    assert_eq!(progress.position(), 0, "chunks of the second upload may still come");
    assembler.finish(&first);
    assert_eq!(waits(&assembler), (0, 0, 0));

    let mut again = Assembler::new(Box::new(|_| true), Arc::default());
    again.assign(0, progress, 0);
    for (offset, index) in [(0, 1), (1, 2), (2, 1), (3, 2), (4, 3)] {
        add(&mut again, 0, offset, index, 3);
    }
    for mut assembler in [assembler, again] {
        assert_eq!((waits(&assembler), assembler.filling().len()), ((0, 0, 0), 0));
        assert!(assembler.expire(Some(1000), 10, |_| 10).is_empty());
        let ended = assembler.expire(Some(1000), 10, |_| 11);
        assert_eq!(ended.iter().map(|ended| ended.is_note).collect::<Vec<_>>(), [true]);
        let ended = InstanceIds::from_iter([ended[0].info.id]);
        assert_eq!(assembler.progress(0, &ended), Some(Progress::starting_at(5)));
    }
}

#[test]
fn a_quiet_partition_ends_no_upload_that_nothing_completed() {
    let mut assembler = assembler(1);
    add(&mut assembler, 0, 0, 1, 3);
    assert!(assembler.expire(Some(1000), 10, |_| 1_000_000).is_empty());
    assert_eq!(waits(&assembler), (1, 1, 4));
}

#[test]
fn an_upload_is_not_waited_for_while_the_last_chunk_of_its_path_is_one_of_another_version() {
    let newer = |index| Chunk { file_hash: &[2; 64], ..chunk(index, 2) };
    let mut assembler = assembler(1);
    let is_cut_off = |assembler: &Assembler| {
        assembler.filling().iter().map(|(_, file)| file.is_cut_off(i64::MAX)).collect::<Vec<_>>()
    };
    add(&mut assembler, 0, 0, 1, 3);
    assembler.add(0, 1, 0, &Chunk { subdir: "other", ..newer(1) }).1.unwrap();
    assembler.add(0, 2, 0, &Chunk { filename: "b.dat", ..newer(1) }).1.unwrap();
    assert_eq!((waits(&assembler), is_cut_off(&assembler)), ((3, 3, 12), vec![true; 3]), "files of other paths");
    assembler.add(0, 3, 0, &Chunk { subdir: ".", ..newer(1) }).1.unwrap();
    assert_eq!((waits(&assembler), is_cut_off(&assembler)), ((3, 3, 12), vec![false, true, true, true]));
    let newest = InstanceIds::from_iter([whole(assembler.add(0, 4, 0, &Chunk { subdir: ".", ..newer(2) }).0)]);
    assembler.finish(&newest);
    assert_eq!(waits(&assembler), (2, 2, 8));

    let mut again = Assembler::new(Box::new(|_| true), Arc::default());
    again.assign(0, assembler.progress(0, &InstanceIds::default()).unwrap(), 0);
    add(&mut again, 0, 0, 1, 3);
    again.add(0, 3, 0, &newer(1)).1.unwrap();
    assert_eq!(is_cut_off(&again), [false], "the newer version is finished, and its chunks are read again");

    add(&mut assembler, 0, 5, 2, 3);
    assert_eq!(waits(&assembler), (3, 4, 16), "it goes on");
    whole(add(&mut assembler, 0, 6, 3, 3));
}

#[test]
fn what_was_not_there_when_all_was_read_came_later_whatever_its_time() {
    let mut assembler = assembler(1);
    let is_quiet = |assembler: &Assembler, now_ms| assembler.filling()[0].1.is_quiet(now_ms);
    add(&mut assembler, 0, 0, 1, 3);
    assert!(is_quiet(&assembler, CUT_OFF_MS + 1));
    assembler.at_end(0, 5_000);
    assert!(is_quiet(&assembler, CUT_OFF_MS + 1), "it was there before");
    add(&mut assembler, 0, 1, 2, 3);
    assert!(!is_quiet(&assembler, 5_000 + CUT_OFF_MS) && is_quiet(&assembler, 5_001 + CUT_OFF_MS));
}

#[test]
fn nobody_waits_for_a_part_of_a_file_that_was_sent_again_and_is_whole() {
    let mut assembler = assembler(1);
    let now_ms = CUT_OFF_MS + 1;
    add(&mut assembler, 0, 0, 1, 2);
    let first = InstanceIds::from_iter([whole(add(&mut assembler, 0, 1, 2, 2))]);
    // it need not have its outcome
    let (again, _) = assembler.add(0, 2, 0, &chunk(1, 2));
    assert!(matches!(again, Added::Begun(_)), "{again:?}");
    assembler.finish(&first);
    let again = assembler.filling()[0].0;
    let part = |assembler: &Assembler| {
        let filling = assembler.filling();
        (filling[0].1.is_cut_off(now_ms), filling[0].1.is_quiet(now_ms), waits(assembler).0)
    };
    assert_eq!(part(&assembler), (false, true, 1), "it may go on");
    assembler.leave_over(&InstanceIds::from_iter([again]));
    assert_eq!(part(&assembler), (false, true, 0));
    assembler.add(0, 3, 0, &Chunk { filename: "b.dat", ..chunk(1, 3) }).1.unwrap();
    let ended = assembler.expire(Some(i64::MIN), i64::MAX, |_| 0);
    let notes: Vec<_> = ended.iter().map(|ended| (ended.is_note, ended.is_again)).collect();
    assert_eq!(notes, [(false, true), (false, false)]);
    // one that begins later is told as well
    assembler.finish(&ended.iter().map(|ended| ended.info.id).collect());
    let second = InstanceIds::from_iter([whole(assembler.add(0, 4, 0, &Chunk { filename: "c.dat", ..chunk(1, 1) }).0)]);
    assembler.finish(&second);
    add(&mut assembler, 0, 5, 1, 2);
    assert!(assembler.filling()[0].1.again);
}
