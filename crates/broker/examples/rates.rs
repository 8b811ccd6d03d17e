//! Measures a log: seconds to publish and to read small and large records, and how long a commit takes.
//!
//! ```text
//! cargo run --release -p datamill-broker --example rates -- sqlite:/tmp/rates.db
//! cargo run --release -p datamill-broker --example rates -- 127.0.0.1:9092
//! ```
//! The topics that it makes have names of their own and stay.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use datamill_broker::{
    Commit, CommitOutcome, DeliveryGuarantee, ErrorKind, Event, FirstStart, Log, NewRecord, NewTopic, Position,
    Properties, SubscribeOptions, open,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let address = std::env::args().nth(1).ok_or("give a log: sqlite:PATH or host:port")?;
    let broker = BTreeMap::from([("bootstrap.servers".to_owned(), address)]);
    let log = open(&Properties { broker, ..Properties::default() })?;
    let unique = uuid::Uuid::new_v4().simple().to_string();
    for (count, size) in [(20_000, 4 << 10), (512, 512 << 10)] {
        let topic = format!("rates-{size}-{unique}");
        create(log.as_ref(), &topic)?;
        let published = publish(log.as_ref(), &topic, count, size)?;
        let read = drain(log.as_ref(), &topic, count)?;
        let mib = (count * size) as f64 / f64::from(1 << 20);
        println!(
            "{count} x {size} bytes: published in {published:.3} s ({:.0} MiB/s), read in {read:.3} s ({:.0} MiB/s)",
            mib / published,
            mib / read
        );
    }
    let topic = format!("rates-commit-{unique}");
    create(log.as_ref(), &topic)?;
    for (what, records, size, count) in [
        ("one result of 1 KiB", 1, 1024, 500),
        ("64 results of 1 KiB", 64, 1024, 500),
        ("20,000 results of 200 bytes", 20_000, 200, 20),
    ] {
        let value = vec![b'x'; size];
        let record = NewRecord { topic: &topic, partition: Some(0), value: Some(&value), ..NewRecord::default() };
        let mut times = commits(log.as_ref(), &topic, &vec![record; records], count)?;
        times.sort_unstable();
        let [p50, p99, most] = [times[times.len() / 2], times[times.len() * 99 / 100], times[times.len() - 1]];
        println!("commit of {what} and a position: p50 {p50:?}, p99 {p99:?}, most {most:?}");
    }
    Ok(())
}

fn create(log: &dyn Log, name: &str) -> Result<()> {
    let settings = BTreeMap::new();
    log.create_topic(&NewTopic { name: name.to_owned(), partitions: 1, replication: 1, settings })?;
    Ok(())
}

fn publish(log: &dyn Log, topic: &str, count: usize, size: usize) -> Result<f64> {
    let value: Vec<u8> = (0..size).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13) as u8).collect();
    let mut publisher = log.publisher()?;
    let mut failed = None;
    let start = Instant::now();
    for token in 0..count {
        let record = NewRecord { topic, partition: Some(0), value: Some(&value), ..NewRecord::default() };
        while let Err(error) = publisher.send(&record, token) {
            if error.kind() != ErrorKind::QueueFull {
                return Err(error.into());
            }
            publisher
                .poll(Duration::from_secs(1), &mut |delivery| failed = delivery.outcome.err().or(failed.take()))?;
        }
    }
    while publisher.in_flight() > 0 {
        publisher.poll(Duration::from_secs(1), &mut |delivery| failed = delivery.outcome.err().or(failed.take()))?;
    }
    let time = start.elapsed().as_secs_f64();
    failed.map_or(Ok(time), |error| Err(error.into()))
}

fn options(topic: &str) -> SubscribeOptions {
    SubscribeOptions {
        group: format!("group-of-{topic}"),
        instance: "rates".to_owned(),
        membership: Default::default(),
        topics: vec![topic.to_owned()],
        identity: Default::default(),
        first_start: FirstStart::Earliest,
        queue_bytes: 16 << 20,
        delivery: DeliveryGuarantee::ExactlyOnce,
    }
}

fn drain(log: &dyn Log, topic: &str, count: usize) -> Result<f64> {
    let mut session = log.subscribe(&options(topic))?;
    let start = Instant::now();
    let (mut records, mut sum) = (0, 0_usize);
    while records < count {
        session.subscription.poll(Duration::from_secs(1), &mut |event| {
            if let Event::Record(record) = event {
                records += 1;
                sum += record.value.map_or(0, |value| value.iter().step_by(512).map(|&byte| usize::from(byte)).sum());
            }
        })?;
    }
    let time = start.elapsed().as_secs_f64();
    std::hint::black_box(sum);
    session.subscription.close(true)?;
    Ok(time)
}

fn commits(log: &dyn Log, topic: &str, records: &[NewRecord<'_>], count: usize) -> Result<Vec<Duration>> {
    let mut session = log.subscribe(&options(topic))?;
    let mut assignment = None;
    while assignment.is_none() {
        session.subscription.poll(Duration::from_secs(1), &mut |event| {
            if let Event::Assigned(assigned) = event {
                assignment = assigned.first().map(|assigned| assigned.assignment);
            }
        })?;
    }
    let assignment = assignment.unwrap_or_default();
    let mut times = Vec::new();
    for _ in 0..count {
        let text = "x".repeat(100);
        let positions = [Position { topic: topic.into(), partition: 0, assignment, offset: 0, text }];
        let start = Instant::now();
        match session.committer.commit(&Commit { records, positions: &positions, state: &[] }) {
            CommitOutcome::Done(_) => times.push(start.elapsed()),
            other => return Err(format!("{other:?}").into()),
        }
        session.subscription.poll(Duration::ZERO, &mut |_| {})?;
    }
    session.subscription.close(true)?;
    Ok(times)
}
