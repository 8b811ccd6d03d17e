//! A topic that was deleted and created again.

use std::collections::BTreeMap;

use datamill::broker::NewTopic;
use datamill::engine::DeliveryGuarantee;

use super::super::bench::{Bench, on_both_logs};
use super::{kinds, said};
use crate::common::{Running, wait_until};

impl Bench {
    /// Deletes the topic of the files and creates it again.
    fn create_again(&self) {
        self.log.delete_topic(&self.topic).unwrap();
        // a broker may be about to delete the files of the old one
        let again = || NewTopic { name: self.topic.clone(), partitions: 2, replication: 1, settings: BTreeMap::new() };
        wait_until("the topic to be created again", || self.log.create_topic(&again()).is_ok());
    }

    /// Both that look at positions say this, and a comparison of the folder too.
    fn says_of_positions(&self, words: &str) {
        let found = self.standing(1, &[]);
        assert_eq!(kinds(&found), [["topic_replaced", "group", self.group.as_str()]], "{found}");
        assert!(said(&found).contains(words), "{words}: {found}");
        let of = ["--topic_name", &self.topic, "--consumer_group_id", &self.group];
        let check = self.run(&[&["check"], &of[..]].concat());
        assert!(check.code() == 1 && check.stdout().contains(words), "{words}: {}", check.stdout());
        let compared = self.run(&[&["reconcile", "data"], &of[..]].concat());
        assert!(compared.code() == 1 && compared.stderr().contains(words), "{words}: {}", compared.stderr());
    }
}

fn a_topic_that_was_created_again_since_the_group_read_it_needs_a_person(bench: &Bench) {
    let words = format!("topic `{}` was deleted and created again since the group committed partition", bench.topic);
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.reproduce();
    bench.create_again();
    bench.says_of_positions(&words);
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.says_of_positions(&words);
}

fn a_topic_that_was_created_again_below_a_program_that_runs_needs_a_person(bench: &Bench) {
    use rustix::process::{Pid, Signal, kill_process};

    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    let args = ["download", "mirror", "--topic_name", &bench.topic, "--consumer_group_id", &bench.group];
    let running = Running(bench.place.start(&[&args[..], &["--config", "test.config"]].concat()));
    wait_until("the commit", || !bench.log.group(&bench.group, &[&bench.topic]).unwrap().committed.is_empty());
    // it would end by itself within seconds
    kill_process(Pid::from_child(&running.0), Signal::STOP).unwrap();
    bench.create_again();
    bench.says_of_positions("was deleted and created again since the group committed partition");
}

fn positions_beyond_the_end_of_a_topic_that_was_created_again_need_a_person(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    // another program that commits where it was in the old topic
    bench.set_plain_position(&bench.group, 1, 100);
    bench.says_of_positions(&format!("the position of partition 1 is beyond the end of topic `{}`", bench.topic));
}

fn a_position_that_was_committed_for_the_topic_before_needs_a_person(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    // what a program commits that has not noticed yet, also one at-least-once
    bench.set_position(&bench.group, 0, 0, "D2AAAAAAAAtext");
    bench.says_of_positions("was deleted and created again since the group committed partition 0: start");
}

fn a_group_at_least_once_whose_topic_was_created_again_is_told_what_may_be_the_cause(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.reproduce_with(DeliveryGuarantee::AtLeastOnce);
    bench.create_again();
    assert_eq!(bench.upload(&[]).code(), 0);
    // its state is in its output folder, and the log has nothing of it any more
    let found = bench.standing(1, &[]);
    assert_eq!(kinds(&found), [["not_started", "group", bench.group.as_str()]], "{found}");
    assert!(
        said(&found).contains("If it has read it before, the topic was deleted and created again since"),
        "{found}"
    );
}

on_both_logs!(
    a_topic_that_was_created_again_since_the_group_read_it_needs_a_person,
    a_topic_that_was_created_again_below_a_program_that_runs_needs_a_person,
    positions_beyond_the_end_of_a_topic_that_was_created_again_need_a_person,
    a_position_that_was_committed_for_the_topic_before_needs_a_person,
    a_group_at_least_once_whose_topic_was_created_again_is_told_what_may_be_the_cause,
);
