//! Checks with many and with large records.

use crate::{NewRecord, SubscribeOptions};

use super::kill::{Role, Second};
use super::{Backend, Member, noise, of_values, publish, values};

pub(super) fn many_small_records_pass_in_order(backend: &Backend) {
    const COUNT: usize = 20_000;
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "many", 1);
    let sent = values("small record of some bytes", 0..COUNT);
    publish(log.as_ref(), &of_values(&topic, &sent));
    let mut member = Member::join(log.as_ref(), &backend.member(&backend.name("g"), &[&topic]), 1);
    let read = member.records(COUNT);
    assert_eq!(read.len(), COUNT);
    assert!(read.iter().map(super::Kept::text).eq(sent.iter().map(String::as_str)), "order and bytes");
    member.leave();
}

/// Number of large records, of 1 MiB each where the topic takes that.
const LARGE: usize = 64;
/// What a reader may hold of 64 MiB, in bytes: its queue, one record in each stage, and its own needs.
const MAY_HOLD: u64 = 32 << 20;

pub(super) fn large_records_are_read_in_bounded_memory(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "bulk", 1);
    let size = log.topic(&topic).expect("the topic").largest_record().map_or(1 << 20, |largest| largest.min(1 << 20));
    let large = noise(size);
    for i in 0..LARGE {
        let value: Vec<u8> = large.iter().map(|byte| byte ^ i as u8).collect();
        publish(log.as_ref(), &[NewRecord { topic: &topic, value: Some(&value), ..NewRecord::default() }]);
    }
    // In a process of its own, where the memory of no other test counts.
    let mut second = Second::start(backend, Role::Drain, &[&topic, &backend.name("g")]);
    let lines = second.lines_to_end();
    let told = lines.iter().find_map(|line| line.strip_prefix("drained ")).expect("the second process drained");
    let numbers: Vec<u64> = told.split(' ').map(|number| number.parse().expect("a number")).collect();
    let [records, bytes, grown] = numbers[..] else { panic!("three numbers, not `{told}`") };
    assert_eq!((records, bytes), (LARGE as u64, (LARGE * size) as u64));
    assert!(grown < MAY_HOLD, "{grown} bytes were held to read {bytes}");
}

/// In the second process: reads what [`large_records_are_read_in_bounded_memory`] published and
/// prints how many records and bytes there were and by how many bytes the memory grew at most.
pub(super) fn drain(backend: &Backend, topic: &str, group: &str) {
    let log = backend.open();
    let options = SubscribeOptions { queue_bytes: 4 << 20, ..backend.member(group, &[topic]) };
    let mut member = Member::join(log.as_ref(), &options, 1);
    let mut large = Vec::new();
    let before = anonymous_memory();
    let (mut records, mut bytes, mut peak) = (0, 0, before);
    while records < LARGE {
        for record in member.records(1) {
            let value = record.value.expect("a value");
            if large.len() != value.len() {
                large = noise(value.len());
            }
            let right = value.iter().zip(&large).all(|(&byte, &known)| byte == known ^ records as u8);
            assert!(right, "record {records} comes back as it was");
            records += 1;
            bytes += value.len();
            peak = peak.max(anonymous_memory());
        }
    }
    println!("drained {records} {bytes} {}", peak.saturating_sub(before));
    member.leave();
}

/// Bytes of anonymous memory of this process; 0 where the system does not tell.
fn anonymous_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0_u64) * 1024
}
