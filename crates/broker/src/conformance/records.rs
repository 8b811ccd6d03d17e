//! Checks of publishing and of reading without a group.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{ErrorKind, NewRecord};

use super::{
    Backend, PATIENCE, Seen, deliver, noise, of_values, only_records, publish, read_all, read_from, read_to_end, texts,
    values,
};

pub(super) fn records_of_a_partition_come_back_in_order(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "order", 2);
    let sent = values("r", 0..300);
    let mut records = of_values(&topic, &sent);
    for (i, record) in records.iter_mut().enumerate() {
        record.partition = Some((i % 2) as i32);
    }
    let placed = publish(log.as_ref(), &records);
    for partition in 0..2 {
        let read = read_all(log.as_ref(), &topic, partition);
        let sent: Vec<_> = sent.iter().skip(partition as usize).step_by(2).map(String::as_str).collect();
        assert_eq!(texts(&read), sent);
        let offsets: Vec<_> = read.iter().map(|r| r.offset).collect();
        assert!(offsets.windows(2).all(|pair| pair[0] < pair[1]), "offsets grow: {offsets:?}");
        let told: Vec<_> = placed.iter().filter(|p| p.partition == partition).map(|p| p.offset).collect();
        assert_eq!(offsets, told, "deliveries tell where the records are");
        assert!(read.iter().all(|r| r.topic == topic && r.partition == partition));
        let ends = log.offsets(&topic, partition).expect("offsets");
        assert_eq!(ends.first, offsets[0]);
        assert!(ends.last_stable > offsets[149] && ends.end >= ends.last_stable, "{ends:?}");
    }
}

pub(super) fn an_acknowledged_record_is_there_after_opening_again(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "durable", 1);
    let sent = values("d", 0..10);
    publish(log.as_ref(), &of_values(&topic, &sent[..6]));
    drop(log);
    let log = backend.open();
    assert_eq!(texts(&read_all(log.as_ref(), &topic, 0)), sent[..6]);
    publish(log.as_ref(), &of_values(&topic, &sent[6..]));
    assert_eq!(texts(&read_all(backend.open().as_ref(), &topic, 0)), sent);
}

pub(super) fn every_shape_of_record_comes_back_as_it_was(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "shapes", 1);
    let long = vec![0xa5_u8; 70_000];
    let of = |key, value, headers: &[(&'static str, &'static [u8])]| NewRecord {
        topic: &topic,
        partition: Some(0),
        key,
        value,
        headers: headers.to_vec(),
        timestamp_ms: Some(1_700_000_000_000),
    };
    let records = [
        of(Some(b"tombstone"), None, &[]),
        of(None, None, &[]),
        of(Some(b""), Some(b""), &[]),
        of(None, Some(b"value"), &[("empty", b"")]),
        of(Some(b"\xff\x00\xfe"), Some(b"\x00\xff"), &[("a", b"1"), ("b", b"\xff\xfe\x00"), ("a", b"2"), ("a", b"")]),
        of(Some(b"long"), Some(&long), &[("größe", "70 kB".as_bytes())]),
    ];
    publish(log.as_ref(), &records);
    let read = read_all(log.as_ref(), &topic, 0);
    assert_eq!(read.len(), records.len());
    for (sent, read) in records.iter().zip(&read) {
        assert_eq!(read.key.as_deref(), sent.key);
        assert_eq!(read.value.as_deref(), sent.value);
        let headers: Vec<_> = read.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        assert_eq!(headers, sent.headers);
    }
}

#[expect(clippy::disallowed_methods, reason = "what a log stamps is compared with the clock")]
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

pub(super) fn times_of_records_come_back(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "times", 1);
    let of = |timestamp_ms| NewRecord { topic: &topic, value: Some(b"t"), timestamp_ms, ..NewRecord::default() };
    let before = now();
    publish(log.as_ref(), &[of(Some(1_600_000_000_123)), of(None)]);
    let read = read_all(log.as_ref(), &topic, 0);
    assert_eq!(read[0].timestamp_ms, Some(1_600_000_000_123));
    let made = read[1].timestamp_ms.expect("a time");
    assert!((before - 60_000..=now() + 60_000).contains(&made), "{made} is not now");
}

pub(super) fn a_key_chooses_its_partition_for_ever(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "keys", 8);
    let keys = values("key", 0..64);
    let mut records = of_values(&topic, &keys);
    for (record, key) in records.iter_mut().zip(&keys) {
        record.key = Some(key.as_bytes());
        record.partition = None;
    }
    let first: Vec<_> = publish(log.as_ref(), &records).iter().map(|placed| placed.partition).collect();
    drop(log);
    let log = backend.open();
    let second: Vec<_> = publish(log.as_ref(), &records).iter().map(|placed| placed.partition).collect();
    assert_eq!(first, second);
    assert!(first.iter().all(|p| (0..8).contains(p)));
    assert!(first.iter().collect::<BTreeSet<_>>().len() >= 4, "keys spread: {first:?}");
}

pub(super) fn a_partition_that_does_not_exist_takes_nothing(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "narrow", 1);
    let sent = values("n", 0..3);
    let mut records = of_values(&topic, &sent);
    records[1].partition = Some(1);
    let mut publisher = log.publisher().expect("a publisher");
    let outcomes = deliver(publisher.as_mut(), &records);
    assert_eq!(outcomes[1].as_ref().expect_err("no such partition").kind(), ErrorKind::UnknownTopic);
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "the others are taken: {outcomes:?}");
    assert_eq!(texts(&read_all(log.as_ref(), &topic, 0)), ["n-0", "n-2"]);
}

pub(super) fn an_empty_topic_gives_its_end(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "empty", 2);
    let ends = log.offsets(&topic, 1).expect("offsets");
    assert_eq!((ends.first, ends.last_stable, ends.end), (0, 0, 0));
    let mut reader = log.reader(&topic, &[(1, 0)]).expect("a reader");
    let seen = read_to_end(reader.as_mut(), 1);
    assert_eq!(seen, [Seen::End { topic, partition: 1, offset: 0 }]);
}

pub(super) fn the_end_is_said_once_each_time_it_is_reached(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "ends", 1);
    let sent = values("e", 0..3);
    publish(log.as_ref(), &of_values(&topic, &sent[..2]));
    let mut reader = log.reader(&topic, &[(0, 0)]).expect("a reader");
    let first = read_to_end(reader.as_mut(), 0);
    assert_eq!(first.len(), 3, "{first:?}");
    let mut quiet = Vec::new();
    for _ in 0..6 {
        let count = reader.poll(Duration::from_millis(100), &mut |event| quiet.push(Seen::from(event)));
        assert_eq!(count.expect("reading works"), 0, "{quiet:?}");
    }
    publish(log.as_ref(), &of_values(&topic, &sent[2..]));
    let next = read_to_end(reader.as_mut(), 0);
    assert_eq!(next.len(), 2, "{next:?}");
    let Seen::End { offset, .. } = next[1] else { panic!("the end comes last: {next:?}") };
    assert_eq!(offset, log.offsets(&topic, 0).expect("offsets").end);
    assert_eq!(texts(&only_records(next)), ["e-2"]);
}

pub(super) fn a_reader_starts_where_it_was_told(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "starts", 2);
    let sent = values("s", 0..20);
    let placed = publish(log.as_ref(), &of_values(&topic, &sent));
    assert_eq!(texts(&read_from(log.as_ref(), &topic, 0, placed[7].offset)), sent[7..]);
    assert_eq!(texts(&read_from(log.as_ref(), &topic, 0, -5)), sent, "below the first record means at it");
    let end = log.offsets(&topic, 0).expect("offsets").end;
    assert!(read_from(log.as_ref(), &topic, 0, end).is_empty());
    let mut both = log.reader(&topic, &[(0, placed[18].offset), (1, 0)]).expect("a reader");
    let mut seen = read_to_end(both.as_mut(), 0);
    let start = std::time::Instant::now();
    while seen.iter().filter(|s| matches!(s, Seen::End { .. })).count() < 2 {
        both.poll(Duration::from_millis(100), &mut |event| seen.push(Seen::from(event))).expect("reading works");
        assert!(start.elapsed() < PATIENCE, "both partitions end: {seen:?}");
    }
    assert_eq!(texts(&only_records(seen)), sent[18..]);
}

pub(super) fn the_largest_record_passes_and_a_larger_one_is_refused(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "large", 1);
    let largest = log.topic(&topic).expect("the topic").largest_record().expect("every log knows its largest record");
    let noise = noise(2 * largest);
    let of = |size: usize| NewRecord {
        topic: &topic,
        partition: Some(0),
        key: Some(b"key"),
        value: Some(&noise[..size - 3 - 5 - 4]),
        headers: vec![("large", b"yes!")],
        timestamp_ms: None,
    };
    let above = if backend.can.exact_largest_record { largest + 1 } else { 2 * largest };
    let mut publisher = log.publisher().expect("a publisher");
    let outcomes = deliver(publisher.as_mut(), &[of(100), of(above), of(largest), of(200)]);
    let error = outcomes[1].as_ref().expect_err("it is too large");
    assert_eq!(error.kind(), ErrorKind::RecordTooLarge, "{error:?}");
    for passed in [0, 2, 3] {
        assert!(outcomes[passed].is_ok(), "only the large one fails: {:?}", outcomes[passed]);
    }
    let read = read_all(log.as_ref(), &topic, 0);
    let sizes: Vec<_> = read.iter().map(|r| r.value.as_ref().map_or(0, Vec::len) + 12).collect();
    assert_eq!(sizes, [100, largest, 200]);
    assert!(read[1].value.as_deref() == Some(&noise[..largest - 12]), "the bytes come back");
}

pub(super) fn a_reader_goes_where_it_is_sent_and_nothing_from_before_comes_along(backend: &Backend) {
    const COUNT: usize = 3_000;
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "jumps", 2);
    let sent = values("a record that is read in pieces", 0..COUNT);
    let records: Vec<NewRecord<'_>> = (0..2)
        .flat_map(|p| of_values(&topic, &sent).into_iter().map(move |r| NewRecord { partition: Some(p), ..r }))
        .collect();
    publish(log.as_ref(), &records);
    let mut reader = log.reader(&topic, &[(0, 0)]).expect("a reader");
    // on, back, to another partition, to both, to the same place again
    for starts in
        [&[(0, 2_000)][..], &[(0, 10)], &[(1, 700)], &[(1, 701), (0, 1_999)], &[(1, 701), (0, 1_999)], &[(0, 0)]]
    {
        reader.poll(Duration::from_millis(200), &mut |_| {}).expect("reading works");
        reader.go_to(starts).expect("these are there");
        let mut seen = Vec::new();
        let start = std::time::Instant::now();
        let enough = |seen: &[Seen], partition| {
            only_records(seen.to_vec()).iter().filter(|r| r.partition == partition).count() >= 50
        };
        while !starts.iter().all(|(partition, _)| enough(&seen, *partition)) {
            reader.poll(Duration::from_millis(200), &mut |event| seen.push(Seen::from(event))).expect("reading works");
            assert!(start.elapsed() < PATIENCE, "no records from {starts:?}");
        }
        let read = only_records(seen);
        assert!(read.iter().all(|record| starts.iter().any(|(partition, _)| record.partition == *partition)));
        for (partition, first) in starts {
            let offsets: Vec<i64> = read.iter().filter(|r| r.partition == *partition).map(|r| r.offset).collect();
            assert!(offsets.iter().copied().eq(*first..*first + offsets.len() as i64), "{starts:?}: {offsets:?}");
        }
    }
    let start = std::time::Instant::now();
    let mut refused = reader.go_to(&[(0, 10 * COUNT as i64)]);
    while refused.is_ok() && start.elapsed() < PATIENCE {
        refused = reader.poll(Duration::from_millis(200), &mut |_| {}).map(drop);
    }
    assert_eq!(refused.map_err(|error| error.kind()), Err(ErrorKind::OffsetOutOfRange));
}
