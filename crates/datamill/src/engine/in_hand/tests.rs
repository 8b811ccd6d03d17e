use super::*;
use crate::assemble::Span;
use crate::assemble::testing::whole;

fn source() -> Source {
    Source::new("files", Some("id"))
}

fn open(folder: &Path) -> Arc<InHand> {
    Arc::new(InHand::open(folder, "log", &source(), "g", 2).unwrap())
}

/// The next run, once the group's state has what the run before left.
fn begun(folder: &Path) -> Arc<InHand> {
    let in_hand = open(folder);
    *in_hand.file.write() = Some(Slots::make(&in_hand.path, &in_hand.head, in_hand.slots).unwrap());
    in_hand
}

fn info(path: &str, first: i64) -> FileInfo {
    let spans = vec![Span { partition: 3, first, last: first }];
    FileInfo { spans, ..FileInfo::clone(&whole(path, b"abc").info) }
}

fn begin(slot: &HandSlot, info: &FileInfo) {
    slot.prepare(info, false, false);
    slot.begins();
}

fn deaths(in_hand: &InHand, info: &FileInfo) -> Option<(u32, u32)> {
    in_hand.deaths(info, false).map(|deaths| (deaths.all, deaths.attempts()))
}

#[test]
fn the_next_start_knows_the_files_that_were_in_hand_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let run = begun(folder.path());
    let (a, b, c) = (info("a", 1), info("b with spaces\nand lines", 2), info("c", 3));
    let hands = [run.hand(1), run.hand(2)];
    begin(&hands[0], &c);
    hands[0].has_ended();
    begin(&hands[0], &a);
    begin(&hands[1], &b);
    drop(run);
    for _ in 0..2 {
        let next = open(folder.path());
        assert_eq!([&a, &b, &c].map(|info| deaths(&next, info)), [Some((1, 0)), Some((1, 0)), None]);
        assert_eq!(next.left.len(), 2, "as long as the group's state does not have them");
        assert_eq!(next.deaths(&a, true), None, "it had not failed before");
    }
    assert!(InHand::open(folder.path(), "log", &source(), "other", 2).unwrap().left.is_empty());
    let again = Source::new("files", Some("another id"));
    assert!(InHand::open(folder.path(), "log", &again, "g", 2).unwrap().left.is_empty(), "of the topic before");
}

#[test]
fn ends_beside_others_count_for_a_file_once_it_has_ended_the_process_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (info("a", 1), info("b", 2));
    let run = begun(folder.path());
    begin(&run.hand(1), &a);
    begin(&run.hand(2), &b);
    drop(run);
    let first = open(folder.path());
    let head = first.head.replacen("1 ", "1 later-", 1);
    *first.file.write() = Some(Slots::make(&first.path, &head, first.slots).unwrap());
    begin(&first.hand(1), &a);
    let second = open(folder.path());
    // what another start has written to the group's state
    for change in first.left.iter().chain(&first.left) {
        second.know(change.key.clone(), change.value.as_ref().unwrap());
    }
    assert_eq!((deaths(&second, &a), deaths(&second, &b)), (Some((2, 2)), Some((1, 0))));
    let reason = second.deaths(&a, false).unwrap().reason();
    assert!(reason.starts_with("the program ended while it worked on this file, 2 times. "), "{reason}");
}

#[test]
fn a_call_that_was_overdue_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let run = begun(folder.path());
    let (a, hand) = (info("a", 1), run.hand(1));
    begin(&hand, &a);
    hand.is_overdue();
    let reason = open(folder.path()).deaths(&a, false).unwrap().reason();
    assert!(reason.contains("on this file, once, as the function did not end in its time."), "{reason}");
}

#[test]
fn a_program_that_ends_as_it_should_leaves_nothing_and_notes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let run = begun(folder.path());
    let (a, hand) = (info("a", 1), run.hand(1));
    begin(&hand, &a);
    run.close();
    begin(&hand, &a);
    hand.has_ended();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(open(folder.path()).left.is_empty());
}

#[test]
fn keys_go_with_the_outcome_of_their_file_or_where_it_had_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let in_hand = open(folder.path());
    let value = |text: &str| format!(r#"{{"path":"x"{text}}}"#);
    let keys = [
        ("in_hand/files/1-2/3:1", value("")),
        ("in_hand/files/1-2/3:2", value(r#","alone":true"#)),
        ("in_hand/files/1-2/3:3", value(r#","again":true"#)),
        ("in_hand/files/1-2/3:4", value(r#","topic_id":"old""#)),
        ("in_hand/files/1-2/3:5", value(r#","topic_id":"id""#)),
    ];
    keys.iter().for_each(|(key, value)| in_hand.know((*key).to_owned(), value.as_bytes()));
    for key in ["in_hand/other/1-2/3:1", "failed/files/3:1/x", "in_hand/files/3:1"] {
        assert_eq!(spot_of_key("files", key), None);
    }
    let outcome = BTreeSet::from([Spot { partition: 3, first: 1 }]);
    let answered = in_hand.answered(&outcome, |spot| spot.first == 2 || spot.first == 3);
    assert_eq!(answered, [0, 1, 3].map(|at: usize| keys[at].0), "the one that failed before may be tried again");
    in_hand.forget(&answered);
    assert!(in_hand.answered(&outcome, |_| false).is_empty());
    assert_eq!(deaths(&in_hand, &info("x", 5)), Some((1, 0)));
    in_hand.revoke(&[3]);
    assert_eq!(deaths(&in_hand, &info("x", 5)), None);
}
