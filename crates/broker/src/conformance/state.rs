//! Checks of a group's state that is looked at and changed without joining the group.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Commit, Log, StateMark};

use super::commits::change;
use super::{Backend, Member, of_values, publish, texts, values};

/// Follows the state as the map that its changes make.
struct Follower {
    mark: StateMark,
    map: BTreeMap<String, Vec<u8>>,
}

impl Follower {
    fn new() -> Self {
        Self { mark: StateMark::default(), map: BTreeMap::new() }
    }

    /// Takes what changed, and gives the keys that did.
    fn look(&mut self, log: &dyn Log, group: &str) -> Vec<String> {
        let whole = self.mark == StateMark::default();
        let since = log.group_state_since(group, self.mark).expect("a look at the state");
        self.mark = since.mark;
        let mut keys: Vec<String> = since.changes.iter().map(|change| change.key.clone()).collect();
        for change in since.changes {
            assert!(!whole || change.value.is_some(), "the whole map holds no removed key: {}", change.key);
            match change.value {
                Some(value) => self.map.insert(change.key, value),
                None => self.map.remove(&change.key),
            };
        }
        assert_eq!(self.map, log.group_state(group).expect("the state"), "followed and read whole");
        keys.sort();
        keys
    }
}

pub(super) fn changes_from_outside_come_with_the_commits_and_disturb_no_member(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "outside", 1);
    let sent = values("r", 0..20);
    publish(log.as_ref(), &of_values(&topic, &sent[..10]));
    let options = backend.member(&backend.name("g"), &[&topic]);
    let mut member = Member::join(log.as_ref(), &options, 1);
    let read = member.records(10);
    let positions = [member.position(&topic, 0, 5, "before")];
    let state = [change("both", Some(b"commit")), change("commit", Some(b"c")), change("removed", Some(b"c"))];
    member.commit(&Commit { positions: &positions, state: &state, ..Commit::default() });

    let outside = backend.open();
    for round in 0..3 {
        let value = format!("outside {round}");
        let changes = [change("both", Some(value.as_bytes())), change("outside", Some(b"")), change("removed", None)];
        outside.change_group_state(&options.group, &changes).expect("a change from outside");
    }
    let state = outside.group_state(&options.group).expect("the state");
    let told: Vec<_> = state.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
    assert_eq!(told, [("both", b"outside 2".as_slice()), ("commit", b"c"), ("outside", b"")]);

    // the member goes on under the same assignment, and its commits come after
    publish(log.as_ref(), &of_values(&topic, &sent[10..]));
    assert_eq!(texts(&member.records(10)), sent[10..]);
    assert_eq!(texts(&read), sent[..10]);
    let positions = [member.position(&topic, 0, 20, "after")];
    let state = [change("both", None), change("outside", Some(b"again"))];
    member.commit(&Commit { positions: &positions, state: &state, ..Commit::default() });
    let state = log.group_state(&options.group).expect("the state");
    let told: Vec<_> = state.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
    assert_eq!(told, [("commit", b"c".as_slice()), ("outside", b"again")]);
    member.pump_for(Duration::from_millis(100));
    assert_eq!(member.assigned.len(), 1, "nobody has lost anything");
    member.leave();
}

pub(super) fn a_look_at_the_state_gives_what_changed_since_the_last_one(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "since", 1);
    let options = backend.member(&backend.name("g"), &[&topic]);
    let group = options.group.as_str();
    let mut follower = Follower::new();
    assert!(follower.look(log.as_ref(), group).is_empty(), "nothing was ever committed");
    let mut member = Member::join(log.as_ref(), &options, 1);
    let position = member.position(&topic, 0, 0, "x");
    let mut commit = |state: &[_]| {
        member.commit(&Commit { positions: std::slice::from_ref(&position), state, ..Commit::default() });
    };
    commit(&[change("a", Some(b"1")), change("b", Some(b"1")), change("gone", Some(b"1"))]);
    assert_eq!(follower.look(log.as_ref(), group), ["a", "b", "gone"]);
    assert!(follower.look(log.as_ref(), group).is_empty(), "nothing changed");
    commit(&[]);
    assert!(follower.look(log.as_ref(), group).is_empty(), "a position is no state");
    let large = vec![7; 200_000];
    commit(&[change("a", Some(b"2")), change("gone", None)]);
    commit(&[change("a", Some(&large)), change("c", Some(b""))]);
    backend.open().change_group_state(group, &[change("d", Some(b"o"))]).expect("a change from outside");
    assert_eq!(follower.look(log.as_ref(), group), ["a", "c", "d", "gone"], "each key once, with its newest value");
    let other = backend.name("other");
    log.change_group_state(&other, &[change("a", Some(b"x"))]).expect("a change from outside");
    assert!(follower.look(log.as_ref(), group).is_empty(), "another group has a state of its own");
    // whoever comes later sees the same, and nothing of what is gone
    let mut late = Follower::new();
    assert_eq!(late.look(backend.open().as_ref(), group), ["a", "b", "c", "d"]);
    commit(&[change("a", None), change("b", None), change("c", None), change("d", None)]);
    assert_eq!(late.look(log.as_ref(), group), follower.look(log.as_ref(), group));
    assert!(late.map.is_empty());
    member.leave();
}

pub(super) fn a_group_that_never_was_can_be_given_a_state(backend: &Backend) {
    let log = backend.open();
    let group = backend.name("g");
    log.change_group_state(&group, &[]).expect("nothing at all is a change too");
    let changes = [change("k", Some(b"v")), change("never there", None)];
    log.change_group_state(&group, &changes).expect("a change from outside");
    let state = log.group_state(&group).expect("the state");
    assert_eq!(state, BTreeMap::from([("k".to_owned(), b"v".to_vec())]));
    let topic = backend.topic(log.as_ref(), "given", 1);
    let member = Member::join(log.as_ref(), &backend.member(&group, &[&topic]), 1);
    assert_eq!(member.of(&topic, 0).committed, None);
    assert_eq!(log.group_state(&group).expect("the state"), state);
    member.leave();
}

pub(super) fn a_large_state_is_handed_out_in_order_and_stops_when_told(backend: &Backend) {
    const COUNT: usize = 5_000;
    let log = backend.open();
    let group = backend.name("g");
    let all: Vec<_> = (0..COUNT).map(|i| change(&format!("k{i:05}"), Some(b"v"))).collect();
    log.change_group_state(&group, &all).expect("a change from outside");
    log.change_group_state(&group, &[change("k00007", None)]).expect("a change from outside");
    let mut keys = Vec::new();
    let mut sink = |key: &str, value: Option<&[u8]>| keys.push((key.to_owned(), value.is_some()));
    let whole = log.read_group_state(&group, StateMark::default(), &mut sink, &|| false).expect("the state");
    assert!(whole.is_some_and(|mark| mark > StateMark::default()));
    assert_eq!(keys.last(), Some(&("k00007".to_owned(), false)), "the last change comes last");
    assert!(keys.iter().filter(|(_, there)| *there).is_sorted(), "in the order of the changes");
    assert!(keys.len() >= COUNT);

    let seen = std::cell::Cell::new(0);
    let mut sink = |_: &str, _: Option<&[u8]>| seen.set(seen.get() + 1);
    let stop = || seen.get() > 0;
    let stopped = log.read_group_state(&group, StateMark::default(), &mut sink, &stop).expect("no error");
    assert_eq!(stopped, None);
    assert!(seen.get() < COUNT, "{seen:?}");
}
