//! What survives when brokers die while records are sent and committed. Each test kills a broker of its
//! own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::backend_at;
use datamill_broker::conformance::{
    Backend, Member, PATIENCE, Seen, of_values, only_records, publish, read_all, values,
};
use datamill_broker::{Commit, CommitOutcome, Log, NewRecord, Position};
use datamill_testkit::kafka::Kafka;

/// Sends while the broker is killed and comes back, and counts.
#[test]
fn what_is_sent_while_the_broker_dies_and_returns_is_there_once() {
    const COUNT: usize = 3000;
    let kafka = Kafka::start_own();
    let backend = backend_at(&kafka);
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "outage", 1);
    let mut publisher = log.publisher().expect("a publisher");
    let sent = values("r", 0..COUNT);
    let mut acknowledged = BTreeMap::new();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            kafka.kill9();
            kafka.restart();
        });
        for (token, record) in of_values(&topic, &sent).iter().enumerate() {
            publisher.send(record, token).expect("the queue has room");
            publisher
                .poll(Duration::from_millis(1), &mut |delivery| {
                    let placed = delivery.outcome.expect("it is delivered once the broker is back");
                    assert!(acknowledged.insert(delivery.token, placed.offset).is_none());
                })
                .expect("polling works");
        }
        killer.join().expect("the broker comes back");
    });
    while publisher.in_flight() > 0 {
        publisher
            .poll(Duration::from_millis(100), &mut |delivery| {
                let placed = delivery.outcome.expect("it is delivered once the broker is back");
                assert!(acknowledged.insert(delivery.token, placed.offset).is_none());
            })
            .expect("polling works");
        assert!(start.elapsed() < 2 * PATIENCE, "{} are not delivered", publisher.in_flight());
    }
    assert_eq!(acknowledged.len(), COUNT);
    let read = read_all(log.as_ref(), &topic, 0);
    assert_eq!(datamill_broker::conformance::texts(&read), sent, "in order, none lost, none twice");
}

/// Copies a topic to another one, a commit per handful of records, while the broker is killed several
/// times. Whatever a commit answers, the session that follows starts from what is committed.
#[test]
fn commits_while_the_broker_dies_and_returns_lose_and_double_nothing() {
    const COUNT: usize = 4000;
    let kafka = Kafka::start_own();
    let backend = backend_at(&kafka);
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "copy", 2);
    let out = backend.topic(log.as_ref(), "copy-out", 1);
    let group = backend.name("g");
    let sent = values("r", 0..COUNT);
    let records: Vec<_> = of_values(&topic, &sent)
        .into_iter()
        .enumerate()
        .map(|(i, record)| NewRecord { partition: Some(i as i32 % 2), ..record })
        .collect();
    publish(log.as_ref(), &records);
    // The broker is killed when so many commits are done: in the middle of the next one.
    let done = AtomicUsize::new(0);
    let (mut sessions, mut slowest) = (0, Duration::ZERO);
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            for commits in [20, 150, 300] {
                let start = Instant::now();
                while done.load(Ordering::Relaxed) < commits {
                    std::thread::sleep(Duration::from_millis(1));
                    assert!(start.elapsed() < 2 * PATIENCE, "commit {commits} is not done");
                }
                kafka.kill9();
                kafka.restart();
            }
        });
        let start = Instant::now();
        let mut copied = false;
        while !copied {
            assert!(start.elapsed() < 4 * PATIENCE, "the copy does not end");
            copied = copy(log.as_ref(), &backend, [&topic, &out, &group], COUNT, &done, &mut slowest);
            sessions += 1;
        }
        killer.join().expect("the broker comes back");
    });
    let done = done.into_inner();
    println!("{done} commits in {sessions} sessions, the slowest took {slowest:?}");
    let read = read_all(log.as_ref(), &out, 0);
    let mut found: Vec<&str> = datamill_broker::conformance::texts(&read);
    found.sort_unstable();
    let mut all: Vec<&str> = sent.iter().map(String::as_str).collect();
    all.sort_unstable();
    assert_eq!(found.len(), all.len(), "none lost, none twice");
    assert_eq!(found, all);
}

/// One session of the copy from one topic to another; true when everything is committed.
fn copy(
    log: &dyn Log,
    backend: &Backend,
    [topic, out, group]: [&str; 3],
    count: usize,
    done: &AtomicUsize,
    slowest: &mut Duration,
) -> bool {
    let Ok(session) = log.subscribe(&backend.member(group, &[topic])) else {
        return false;
    };
    let mut member = Member {
        subscription: session.subscription,
        committer: session.committer,
        assigned: Vec::new(),
        backlog: VecDeque::new(),
    };
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    let mut pending = Vec::new();
    loop {
        let wait = if pending.is_empty() { 20 } else { 0 };
        if member.pump(Duration::from_millis(wait)).is_err() {
            return false;
        }
        for assigned in &member.assigned {
            next.entry(assigned.partition).or_insert(assigned.start);
        }
        if member.backlog.iter().any(|seen| matches!(seen, Seen::Revoked { .. })) {
            // Begin anew, as an engine would with the partitions that it is left with.
            return false;
        }
        pending.extend(only_records(member.backlog.drain(..)));
        let batch: Vec<_> = pending.drain(..pending.len().min(7)).collect();
        if batch.is_empty() && next.len() == 2 && next.values().sum::<i64>() == count as i64 {
            member.leave();
            return true;
        }
        for record in &batch {
            next.insert(record.partition, record.offset + 1);
        }
        let texts: Vec<String> = batch.iter().map(|record| record.text().to_owned()).collect();
        let touched: BTreeSet<i32> = batch.iter().map(|record| record.partition).collect();
        let positions: Vec<Position> =
            touched.iter().map(|partition| member.position(topic, *partition, next[partition], "copied")).collect();
        let commit = Commit { records: &of_values(out, &texts), positions: &positions, ..Commit::default() };
        while !batch.is_empty() {
            let start = Instant::now();
            let outcome = member.committer.commit(&commit);
            *slowest = start.elapsed().max(*slowest);
            match outcome {
                CommitOutcome::Done(_) => {
                    done.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                // The reading thread goes on meanwhile.
                CommitOutcome::Again(_) if member.pump(Duration::from_millis(50)).is_ok() => {}
                CommitOutcome::RecordsRefused(refused) => panic!("{refused:?}"),
                _ => return false,
            }
        }
    }
}
