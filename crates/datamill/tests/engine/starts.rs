//! The engine over both logs: where the reading starts, and what it refuses to guess.

use std::time::Duration;

use crate::common::{Bench, ByName, Place, chunks, content, on_both_logs, registry, sizes};
use datamill::engine::{EngineError, EngineSettings, StartFrom};
use datamill::report::clock;
use datamill::settings::Pattern;

on_both_logs! {
    a_position_that_the_log_forgot_is_not_taken_for_a_first_start,
    each_first_commit_leaves_a_mark_in_the_state,
    a_start_can_be_chosen_where_nothing_is_committed_and_is_chosen_once,
    a_text_of_another_program_is_left_only_when_asked,
    offsets_of_another_program_are_taken_over,
    a_file_that_began_before_the_group_ends_as_a_note_and_one_that_began_after_as_a_failure,
    a_spread_file_that_began_before_a_start_at_the_end_ends_as_a_note,
    a_changed_filter_holds_for_what_was_not_read_before,
    a_restart_says_how_much_it_reads_again,
}

/// Three files of two records each in partition 0.
fn three_files(place: &Place) -> Bench {
    let bench = Bench::new(place, 1);
    for name in ["a", "b", "c"] {
        bench.send(&chunks(0, name, b"four", 2));
    }
    bench
}

fn from(bench: &Bench, start: StartFrom) -> EngineSettings {
    EngineSettings { start_from: Some(start), ..bench.settings() }
}

fn names(bench: &Bench) -> Vec<String> {
    sizes(bench).into_keys().collect()
}

fn a_position_that_the_log_forgot_is_not_taken_for_a_first_start(place: &Place) {
    let bench = three_files(place);
    bench.set_state(&format!("started/{}/0", bench.topic), b"");
    for settings in [bench.settings(), from(&bench, StartFrom::Committed)] {
        let error = bench.run(&settings, ByName::default()).unwrap_err();
        assert!(matches!(error, EngineError::LostPosition { partition: 0, .. }), "{error}");
        assert!(error.to_string().contains("--start_from"), "{error}");
    }
    assert!(bench.read_results().is_empty());
    let chosen = from(&bench, StartFrom::Earliest);
    assert_eq!(bench.run(&chosen, ByName::default()).unwrap().succeeded, 3);
    assert_eq!(bench.run(&chosen, ByName::default()).unwrap().succeeded, 0, "now a position is committed");
    assert_eq!(bench.run(&bench.settings(), ByName::default()).unwrap().succeeded, 0);
}

fn each_first_commit_leaves_a_mark_in_the_state(place: &Place) {
    let bench = three_files(place);
    bench.run(&bench.settings(), ByName::default()).unwrap();
    let state = bench.log.group_state(&bench.group).unwrap();
    let marks: Vec<String> = state.into_keys().filter(|key| !key.starts_with("purpose/")).collect();
    assert_eq!(marks, [format!("started/{}/0", bench.topic)]);
}

fn a_start_can_be_chosen_where_nothing_is_committed_and_is_chosen_once(place: &Place) {
    let bench = three_files(place);
    let error = bench.run(&from(&bench, StartFrom::Offset(1000)), ByName::default()).unwrap_err();
    assert!(matches!(error, EngineError::NoSuchStart { offset: 1000, from: 0, .. }), "{error}");
    bench.run(&from(&bench, StartFrom::Offset(2)), ByName::default()).unwrap();
    assert_eq!(names(&bench), ["b", "c"]);
    bench.run(&from(&bench, StartFrom::Earliest), ByName::default()).unwrap();
    assert_eq!(bench.read_results().len(), 2, "what is committed stands");

    let bench = three_files(place);
    bench.run(&from(&bench, StartFrom::Latest), ByName::default()).unwrap();
    bench.send(&chunks(0, "d", b"four", 2));
    bench.run(&from(&bench, StartFrom::Latest), ByName::default()).unwrap();
    assert_eq!(names(&bench), ["d"]);
}

fn a_text_of_another_program_is_left_only_when_asked(place: &Place) {
    let bench = three_files(place);
    bench.set_position(2, "written by something else");
    let error = bench.run(&bench.settings(), ByName::default()).unwrap_err();
    assert!(matches!(error, EngineError::Progress { .. }) && error.to_string().contains("--start_from"), "{error}");
    bench.run(&from(&bench, StartFrom::Committed), ByName::default()).unwrap();
    assert_eq!(names(&bench), ["b", "c"]);
}

fn offsets_of_another_program_are_taken_over(place: &Place) {
    let bench = three_files(place);
    bench.set_position(4, "");
    bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!(names(&bench), ["c"]);
}

fn hours_ago(hours: i64) -> Option<i64> {
    Some(clock::now_ms() - hours * 3_600_000)
}

fn statuses(bench: &Bench) -> Vec<(String, String)> {
    registry(&bench.output(), "failed_from_").into_iter().map(|row| (row[1].clone(), row[3].clone())).collect()
}

fn a_file_that_began_before_the_group_ends_as_a_note_and_one_that_began_after_as_a_failure(place: &Place) {
    let bench = Bench::new(place, 1);
    let mut settings = EngineSettings { dead_letter_topic: Some(bench.dead_letter_topic(&[])), ..bench.settings() };
    let (before, after) = (chunks(0, "before", &content(1, 1000), 100), chunks(0, "after", &content(2, 1000), 100));
    bench.send_at(&before[..6], hours_ago(27));
    bench.set_position(6, "");
    bench.send_at(&before[6..], hours_ago(26));
    bench.send_at(&after[..7], hours_ago(26));
    bench.send(&chunks(0, "now", b"abc", 100));
    settings.incomplete_after = Duration::from_secs(100 * 3600);
    let first = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((first.succeeded, first.tails, first.incomplete.len()), (1, 0, 2));

    // where the group began is known after a restart, too
    settings.incomplete_after = Duration::from_secs(24 * 3600);
    let second = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((second.tails, second.failed, second.dead_letters_of_files, second.incomplete.len()), (1, 1, 1, 0));
    assert!(second.to_string().contains("left out, as they began before the group did: 1 file;"), "{second}");
    let expected = [("after", "incomplete"), ("before", "begun_before_start")];
    let mut found = statuses(&bench);
    found.sort();
    assert_eq!(found, expected.map(|(path, status)| (path.to_owned(), status.to_owned())));
    let in_progress = registry(&bench.output(), "consuming_from_");
    assert_eq!(in_progress.len(), 1, "{in_progress:?}");
    assert_eq!(datamill::engine::failed_files(bench.log.as_ref(), &bench.topic, &bench.group).unwrap().len(), 1);
    let third = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((third.tails, third.failed, third.restart_span), (0, 0, 0));
}

fn a_spread_file_that_began_before_a_start_at_the_end_ends_as_a_note(place: &Place) {
    let bench = Bench::new(place, 2);
    let spread = |name: &str, seed| {
        let mut all = chunks(0, name, &content(seed, 1000), 100);
        all.iter_mut().enumerate().for_each(|(i, sent)| (sent.partition, sent.marked) = (i as i32 % 2, false));
        all
    };
    let (before, after) = (spread("before", 1), spread("after", 2));
    bench.send_at(&before[..5], hours_ago(30));
    bench.run(&from(&bench, StartFrom::Latest), ByName::default()).unwrap();
    bench.send_at(&before[5..], hours_ago(29));
    bench.send_at(&after[..9], hours_ago(29));
    bench.send(&spread("now", 3));
    let summary = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((summary.succeeded, summary.tails, summary.failed), (1, 1, 1), "{:?}", statuses(&bench));
    assert!(statuses(&bench).contains(&("before".to_owned(), "begun_before_start".to_owned())));
}

fn a_changed_filter_holds_for_what_was_not_read_before(place: &Place) {
    let bench = Bench::new(place, 1);
    let filtered =
        |regex| EngineSettings { download_regex: Some(Pattern::from_python(regex).unwrap()), ..bench.settings() };
    let (old, left) = (chunks(0, "old/a", b"sixsix", 2), chunks(0, "new/b", b"sixsix", 2));
    bench.send(&old[..1]);
    bench.send(&left);
    assert_eq!(bench.run(&filtered("old/"), ByName::default()).unwrap().filtered.count, 1);
    bench.send(&old[1..]);
    bench.send(&chunks(0, "old/c", b"six", 2));
    bench.send(&chunks(0, "new/d", b"six", 2));
    let second = bench.run(&filtered("new/"), ByName::default()).unwrap();
    assert_eq!((names(&bench), second.filtered.count), (vec!["new/d".to_owned(), "old/a".to_owned()], 1));
}

fn a_restart_says_how_much_it_reads_again(place: &Place) {
    let bench = Bench::new(place, 1);
    let open = chunks(0, "open", &content(1, 300), 100);
    bench.send(&open[..1]);
    let whole = chunks(0, "whole", &content(2, 300), 100);
    bench.send(&whole);
    let first = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((first.restart_span, first.bytes_read_again), (0, 0));
    let second = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((second.restart_span, second.read_again), (4, 3));
    let bytes: usize = open[..1].iter().chain(&whole).map(|sent| sent.value.len()).sum();
    assert_eq!(second.bytes_read_again, bytes as u64);
    let text = second.to_string();
    assert!(text.contains("4 messages ("), "{text}");
    assert!(text.contains(" kB) had been read before, 3 of them of finished files"), "{text}");
}
