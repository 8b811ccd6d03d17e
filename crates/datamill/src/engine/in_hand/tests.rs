use datamill_broker::{Log, Properties};

use super::*;
use crate::assemble::testing::whole;
use crate::engine::outcome::{Failure, Outcome};
use crate::ledger::FailureStatus;

fn source() -> Source {
    Source::new("files", Some("id"))
}

fn open(folder: &Path) -> Arc<InHand> {
    Arc::new(InHand::open(folder, "log", &source(), "g", 2).unwrap())
}

/// The next run, once the group's state has what the run before left.
pub(in crate::engine) fn begun(folder: &Path) -> Arc<InHand> {
    let in_hand = open(folder);
    *in_hand.file.write() = Some(Slots::make(&in_hand.path, &in_hand.head, in_hand.slots).unwrap());
    in_hand
}

/// What the slots say.
pub(in crate::engine) fn noted(in_hand: &InHand) -> Vec<String> {
    let slots = Slots::read(&in_hand.path).unwrap();
    slots.into_iter().skip(1).filter(|slot| !slot.is_empty()).collect()
}

fn info(path: &str, first: i64) -> FileInfo {
    let spans = vec![Span { partition: 3, first, last: first }];
    FileInfo { spans, ..FileInfo::clone(&whole(path, b"abc").info) }
}

/// What the group's state says of an end.
fn told(key: &str, more: &str) -> StateChange {
    StateChange { key: key.to_owned(), value: Some(format!(r#"{{"path":"x"{more}}}"#).into_bytes()) }
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
        assert_eq!(next.changes().unwrap().len(), 2, "as long as the group's state does not have them");
        assert_eq!(next.deaths(&a, true), None, "it had not failed before");
    }
    assert!(InHand::open(folder.path(), "log", &source(), "other", 2).unwrap().known.lock().is_empty());
    let again = Source::new("files", Some("another id"));
    assert!(InHand::open(folder.path(), "log", &again, "g", 2).unwrap().known.lock().is_empty(), "of the topic before");
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
    for _ in 0..2 {
        first.changes().unwrap().into_iter().for_each(|change| second.know(change));
    }
    assert_eq!((deaths(&second, &a), deaths(&second, &b)), (Some((2, 2)), Some((1, 0))));
    let reason = second.deaths(&a, false).unwrap().reason();
    assert!(reason.starts_with("the program ended or was killed while it worked on this file, 2 times. "), "{reason}");
}

#[test]
fn a_call_that_was_overdue_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let run = begun(folder.path());
    let (a, hand) = (info("a", 1), run.hand(1));
    begin(&hand, &a);
    hand.is_overdue();
    // it comes back before the process ends: that is how it was all the same
    hand.has_ended();
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
    assert!(open(folder.path()).known.lock().is_empty());
}

#[test]
fn keys_go_with_the_outcome_of_their_file_or_where_it_had_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let in_hand = open(folder.path());
    let keys = [
        ("in_hand/files/1-2/3:1", ""),
        ("in_hand/files/1-2/3:2", r#","alone":true"#),
        ("in_hand/files/1-2/3:3", r#","again":true"#),
        ("in_hand/files/1-2/3:4", r#","topic_id":"old""#),
        ("in_hand/files/1-2/3:5", r#","topic_id":"id""#),
    ];
    keys.iter().for_each(|(key, more)| in_hand.know(told(key, more)));
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

#[test]
fn what_the_run_before_left_counts_whatever_is_revoked_before_the_state_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let (a, log) = (info("a", 1), log(folder.path()));
    begin(&begun(folder.path()).hand(1), &a);
    let run = open(folder.path());
    run.revoke(&[3]);
    run.assign([3].into_iter());
    assert_eq!(deaths(&run, &a), Some((1, 1)));
    let left = run.changes().unwrap();
    write_down(&run, &log).unwrap();
    // the look that the assignment asked for may have come before that, or after it
    assert_eq!(deaths(&run, &a), Some((1, 1)));
    left.iter().for_each(|change| run.know(change.clone()));
    assert_eq!(deaths(&run, &a), Some((1, 1)), "once");
    assert_eq!(ends(&log), [left[0].key.clone()]);
}

#[test]
fn what_is_known_of_a_partition_goes_with_it_once_the_state_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b, log) = (info("a", 1), info("b", 2), log(folder.path()));
    begin(&begun(folder.path()).hand(1), &a);
    let run = open(folder.path());
    write_down(&run, &log).unwrap();
    run.assign([3].into_iter());
    run.know(told("in_hand/files/1-2/3:2", ""));
    assert_eq!((deaths(&run, &a), deaths(&run, &b)), (Some((1, 1)), Some((1, 0))));
    // another member has answered both meanwhile, or the log is another one
    for lose in [|run: &InHand| run.revoke(&[3]), |run: &InHand| run.revoke_all()] {
        lose(&run);
        run.assign([3].into_iter());
        assert_eq!((deaths(&run, &a), deaths(&run, &b)), (None, None));
        run.know(told("in_hand/files/1-2/3:2", ""));
    }
    // somebody has removed the key
    run.know(StateChange { key: "in_hand/files/1-2/3:2".to_owned(), value: None });
    assert_eq!(deaths(&run, &b), None);
}

#[test]
fn ends_of_tries_of_files_that_were_forgotten_meanwhile_are_not_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b, log) = (info("a", 1), info("b", 2), log(folder.path()));
    let entry = |info: &FileInfo| {
        let failure = Failure::new(FailureStatus::EndedTheProgram, "it did".to_owned());
        let outcome = Outcome::new(Arc::new(info.clone()), Err(failure.clone()), 2, None, &Arc::default());
        Entry::after(&source(), "me", &outcome, &failure)
    };
    log.change_group_state("g", &[entry(&a).change().unwrap(), entry(&b).change().unwrap()]).unwrap();
    let dying = begun(folder.path());
    for (number, info) in [(1, &a), (2, &b)] {
        let hand = dying.hand(number);
        hand.prepare(info, false, true);
        hand.begins();
    }
    log.change_group_state("g", &[entry(&b).removal()]).unwrap();
    let run = open(folder.path());
    write_down(&run, &log).unwrap();
    let ends = ends(&log);
    assert!(ends.len() == 1 && ends[0].ends_with("/3:1"), "{ends:?}");
    assert_eq!([&a, &b].map(|info| run.deaths(info, true).is_some()), [true, false]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_holds_the_start_with_a_sentence_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(".datamill");
    std::fs::create_dir(&own).unwrap();
    let (run, log) = (open(&own), log(folder.path()));
    let name = format!(".{}.tmp", run.path.file_name().unwrap().display());
    std::os::unix::fs::symlink("/dev/full", own.join(name)).unwrap();
    match write_down(&run, &log) {
        Err(Unmarked::Again(error)) => {
            let said = crate::report::chain(&error);
            assert!(said.contains("cannot note in the output folder") && said.contains("No space left"), "{said}");
            assert!(
                said.contains(&folder.path().display().to_string()) && error.kind() == ErrorKind::NoSpace,
                "{said}"
            );
        }
        _ => panic!("it is not held"),
    }
    assert!(!run.is_written(), "no user code begins");
    write_down(&run, &log).unwrap();
    assert!(run.is_written());
}

fn log(folder: &Path) -> Arc<dyn Log> {
    let mut properties = Properties::default();
    properties.broker.insert("bootstrap.servers".to_owned(), format!("sqlite:{}", folder.join("log.db").display()));
    datamill_broker::open(&properties).unwrap()
}

/// Keys of ends in the group's state.
fn ends(log: &Arc<dyn Log>) -> Vec<String> {
    let state = log.group_state("g").unwrap();
    state.into_keys().filter(|key| key.starts_with("in_hand/")).collect()
}

struct Commits<'a>(&'a dyn Log);

impl Committer for Commits<'_> {
    fn commit(&mut self, commit: &Commit<'_>) -> CommitOutcome {
        self.0.change_group_state("g", commit.state).unwrap();
        CommitOutcome::Done(Vec::new())
    }
}

fn write_down(run: &InHand, log: &Arc<dyn Log>) -> Result<(), Unmarked> {
    run.write_down(&GroupState::InLog { log: log.as_ref(), group: "g" }, &mut Commits(log.as_ref()))
}
