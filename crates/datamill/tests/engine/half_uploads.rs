//! The engine over both logs: what uploads that were cut off leave behind, and where a restart begins.

use crate::common::{Bench, ByName, Place, chunks, content, on_both_logs, sizes};
use datamill::engine::Control;
use datamill::report::clock;
use datamill::survey::{GroupStatus, group_status};
use datamill::wire::{headers, hex, sha512};

on_both_logs! {
    what_a_restarted_uploader_leaves_over_holds_the_position_for_minutes_only,
    an_older_version_that_was_cut_off_is_not_behind_once_a_newer_one_is_there,
    an_upload_that_was_given_up_for_a_newer_version_ends_with_it,
    an_upload_that_nothing_supersedes_is_waited_for,
}

fn minutes_ago(minutes: i64) -> Option<i64> {
    Some(clock::now_ms() - minutes * 60_000)
}

/// The committed position of partition 0, and the end of it.
fn position(bench: &Bench) -> (i64, i64) {
    let group = bench.log.group(&bench.group, &[&bench.topic]).unwrap();
    let committed = group.committed.get(&(bench.topic.clone(), 0)).unwrap().offset;
    (committed, bench.log.offsets(&bench.topic, 0).unwrap().end)
}

fn status(bench: &Bench) -> GroupStatus {
    group_status(&bench.log, &bench.topic, &bench.group, true, &Default::default(), &Control::default()).unwrap()
}

/// Files and messages that wait, as they are seen from outside.
fn lag(bench: &Bench) -> (u64, u64) {
    let lag = status(bench).lag;
    assert_eq!(lag.seconds == Some(0.0), lag.messages == 0, "{lag:?}");
    (lag.files.unwrap(), lag.messages)
}

fn what_a_restarted_uploader_leaves_over_holds_the_position_for_minutes_only(place: &Place) {
    for (minutes, is_over) in [(3, false), (30, true)] {
        let bench = Bench::new(place, 1);
        let mut settings = bench.settings();
        settings.dead_letter_topic = Some(bench.dead_letter_topic(&[]));
        let file = chunks(0, "file.dat", &content(1, 1000), 100);
        bench.send_at(&file[..6], minutes_ago(minutes));
        let first = bench.run(&settings, ByName::default()).unwrap();
        assert_eq!((first.succeeded, first.incomplete.len(), lag(&bench)), (0, 1, (1, 6)));
        bench.send_at(&file, minutes_ago(minutes));
        let second = bench.run(&settings, ByName::default()).unwrap();
        assert_eq!((second.succeeded, second.failed, second.incomplete.len()), (1, 0, 0));
        assert_eq!(lag(&bench), (0, 0), "the version has its result");
        let (committed, end) = position(&bench);
        assert_eq!(committed, if is_over { end } else { 0 }, "{minutes} minutes after its last chunk");
        let third = bench.run(&settings, ByName::default()).unwrap();
        assert_eq!((third.succeeded, third.failed), (0, 0));
        assert_eq!(sizes(&bench)["file.dat"], ["1000"]);

        // another whole upload has a result of its own, whatever the second one has left over
        bench.send_at(&file, minutes_ago(minutes));
        let fourth = bench.run(&settings, ByName::default()).unwrap();
        assert_eq!((fourth.succeeded, fourth.failed, lag(&bench)), (1, 0, (0, 0)));
        assert_eq!(sizes(&bench)["file.dat"], ["1000", "1000"]);
        let letters = settings.dead_letter_topic.as_deref().unwrap();
        assert_eq!(crate::common::read_all(bench.log.as_ref(), letters).len(), 0);
    }
}

fn an_older_version_that_was_cut_off_is_not_behind_once_a_newer_one_is_there(place: &Place) {
    let bench = Bench::new(place, 1);
    let old = chunks(0, "run/file.dat", &content(1, 1000), 100);
    bench.send_at(&old[..7], minutes_ago(60));
    bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((lag(&bench), status(&bench).cut_off), ((1, 7), 1));
    let new = chunks(0, "run/file.dat", &content(2, 1100), 100);
    bench.send_at(&new[..4], minutes_ago(30));
    assert_eq!((lag(&bench), status(&bench).cut_off), ((1, 4), 1), "of the newer version more is to come");
    bench.send_at(&new[4..], minutes_ago(30));
    let second = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((second.succeeded, second.incomplete.len()), (1, 0));
    assert_eq!((lag(&bench), status(&bench).cut_off), ((0, 0), 0));
    // it is waited for all the same
    bench.send(&old[7..]);
    assert_eq!(bench.run(&bench.settings(), ByName::default()).unwrap().succeeded, 1);
    assert_eq!(sizes(&bench)["run/file.dat"].len(), 2);
    assert_eq!(position(&bench).0, position(&bench).1);
}

fn an_upload_that_was_given_up_for_a_newer_version_ends_with_it(place: &Place) {
    let bench = Bench::new(place, 1);
    let old = content(1, 1000);
    bench.send(&chunks(0, "run/file.dat", &old, 100)[..7]);
    let other = chunks(0, "other/file.dat", &old, 100);
    bench.send(&other[..7]);
    let old_hash = hex(&sha512(&old));
    let new = chunks(0, "run/file.dat", &content(2, 1100), 100);
    bench.send_with(&new, None, &[(headers::SUPERSEDES, old_hash.as_bytes())]);
    let mut settings = bench.settings();
    settings.incomplete_after = std::time::Duration::ZERO;
    let first = bench.run(&settings, ByName::default()).unwrap();
    let incomplete: Vec<&str> = first.incomplete.iter().map(|file| file.path.as_str()).collect();
    assert_eq!((first.succeeded, first.failed, incomplete), (1, 0, vec!["other/file.dat"]));
    assert_eq!(position(&bench).0, 7, "the file of another folder is in flight");
    bench.send(&other[7..]);
    assert_eq!(bench.run(&settings, ByName::default()).unwrap().succeeded, 1);
    let (committed, end) = position(&bench);
    assert!(end - committed <= 1, "{committed} of {end}");
    assert_eq!(sizes(&bench)["run/file.dat"], ["1100"]);
}

fn an_upload_that_nothing_supersedes_is_waited_for(place: &Place) {
    let bench = Bench::new(place, 1);
    let old = chunks(0, "file.dat", &content(1, 1000), 100);
    bench.send(&old[..7]);
    let hash = hex(&sha512(b"some other version"));
    let new = chunks(0, "file.dat", &content(2, 1100), 100);
    bench.send_with(&new, None, &[(headers::SUPERSEDES, hash.as_bytes()), (headers::SUPERSEDES, b"no hash")]);
    assert_eq!(bench.run(&bench.settings(), ByName::default()).unwrap().succeeded, 1);
    assert_eq!(position(&bench).0, 0);
    bench.send(&old[7..]);
    let second = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((second.succeeded, second.incomplete.len()), (1, 0));
}
