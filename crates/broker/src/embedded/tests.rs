//! What only the embedded log does, beyond the conformance suite: refused files, retention, a full
//! disk, an owner whose lock was taken away, a damaged file.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::append::Appender;
use super::committer::EmbeddedCommitter;
use super::subscription::Membership;
use super::*;
use crate::contract::{
    Assigned, Commit, CommitOutcome, Committer, DeliveryGuarantee, Event, FirstStart, NewRecord, Placed, Position,
    StateChange,
};
use crate::error::ErrorKind;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("log.db")
    }

    fn open(&self) -> EmbeddedLog {
        EmbeddedLog::open(self.path().to_str().unwrap(), "").unwrap()
    }

    fn refusal(&self) -> (ErrorKind, String) {
        let error = EmbeddedLog::open(self.path().to_str().unwrap(), "").map(|_| ()).unwrap_err();
        (error.kind(), error.to_string())
    }

    /// Past the log, at the file itself.
    fn sql(&self, sql: &str) {
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }
}

fn publish(log: &EmbeddedLog, records: &[NewRecord<'_>]) -> Vec<Result<Placed>> {
    let mut publisher = log.publisher().unwrap();
    for (token, record) in records.iter().enumerate() {
        publisher.send(record, token).unwrap();
    }
    let mut outcomes = Vec::new();
    while publisher.in_flight() > 0 {
        publisher.poll(Duration::from_secs(1), &mut |delivery| outcomes.push(delivery.outcome)).unwrap();
    }
    outcomes
}

fn record<'a>(topic: &'a str, value: &'a [u8], timestamp_ms: Option<i64>) -> NewRecord<'a> {
    NewRecord { topic, partition: Some(0), value: Some(value), timestamp_ms, ..NewRecord::default() }
}

fn options(group: &str, topic: &str) -> SubscribeOptions {
    SubscribeOptions {
        group: group.to_owned(),
        instance: "host-1".to_owned(),
        membership: Default::default(),
        topics: vec![topic.to_owned()],
        identity: Default::default(),
        first_start: FirstStart::Earliest,
        queue_bytes: 1 << 20,
        delivery: DeliveryGuarantee::ExactlyOnce,
    }
}

fn assigned(session: &mut Session) -> Vec<Assigned> {
    let mut all = Vec::new();
    session
        .subscription
        .poll(Duration::from_secs(1), &mut |event| {
            if let Event::Assigned(assigned) = event {
                all.extend(assigned);
            }
        })
        .unwrap();
    all
}

fn offsets_read(log: &EmbeddedLog, topic: &str, from: i64) -> Vec<i64> {
    let mut reader = log.reader(topic, &[(0, from)]).unwrap();
    let (mut offsets, mut ended) = (Vec::new(), false);
    while !ended {
        reader
            .poll(Duration::from_secs(1), &mut |event| match event {
                Event::Record(record) => offsets.push(record.offset),
                _ => ended = true,
            })
            .unwrap();
    }
    offsets
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let place = Place::new();
    let text = "not a database, but long enough to be one at first sight ".repeat(40);
    std::fs::write(place.path(), &text).unwrap();
    let (kind, told) = place.refusal();
    assert_eq!(kind, ErrorKind::Corrupt);
    assert!(told.contains("is no log of datamill: choose another file"), "{told}");
    assert_eq!(std::fs::read_to_string(place.path()).unwrap(), text);
}

#[test]
fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    let place = Place::new();
    place.sql("CREATE TABLE samples (id INTEGER); INSERT INTO samples VALUES (1)");
    let before = std::fs::read(place.path()).unwrap();
    let (kind, told) = place.refusal();
    assert_eq!(kind, ErrorKind::Corrupt);
    assert!(told.contains("database of another program"), "{told}");
    assert!(std::fs::read(place.path()).unwrap() == before);
}

#[test]
fn a_file_of_the_first_version_is_taken_over_with_its_state() {
    let place = Place::new();
    let log = place.open();
    let change = |value: &[u8]| [StateChange { key: "k".to_owned(), value: Some(value.to_vec()) }];
    log.change_group_state("g", &change(b"old")).unwrap();
    drop(log);
    place.sql("DROP TABLE state_change; PRAGMA user_version = 1");
    let log = place.open();
    let since = (&log as &dyn Log).group_state_since("g", StateMark::default()).unwrap();
    assert_eq!(since.changes, change(b"old"));
    log.change_group_state("g", &change(b"new")).unwrap();
    assert_eq!((&log as &dyn Log).group_state_since("g", since.mark).unwrap().changes, change(b"new"));
}

#[test]
fn a_file_of_a_later_version_is_refused() {
    let place = Place::new();
    drop(place.open());
    place.sql("PRAGMA user_version = 7");
    let (kind, told) = place.refusal();
    assert_eq!(kind, ErrorKind::Corrupt);
    assert!(told.contains("tables of version 7, known here is 2"), "{told}");
}

#[test]
fn an_empty_file_becomes_a_log() {
    let place = Place::new();
    std::fs::write(place.path(), "").unwrap();
    assert!(place.open().topics().unwrap().is_empty());
}

#[test]
fn many_who_open_the_same_missing_file_at_once_have_one_log() {
    let place = Place::new();
    let ids: std::collections::BTreeSet<_> = std::thread::scope(|scope| {
        let open = || place.open().id().unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(ids.len(), 1);
}

#[test]
fn an_acknowledged_record_was_synced_in_a_log_that_says_so() {
    let place = Place::new();
    let log = place.open();
    let connection = log.connection.lock();
    let text = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
    assert_eq!(text("journal_mode").unwrap(), rusqlite::types::Value::Text("wal".to_owned()));
    assert_eq!(text("synchronous").unwrap(), rusqlite::types::Value::Integer(2), "FULL");
    assert_eq!(text("fullfsync").unwrap(), rusqlite::types::Value::Integer(1));
}

#[test]
fn expired_records_go_from_the_front_and_offsets_never_shrink() {
    let place = Place::new();
    let log = place.open();
    log.topic_for_use("t").unwrap();
    let now = clock::now_ms();
    let old = record("t", b"old", Some(now - 7_200_000));
    let (young, late) = (record("t", b"young", Some(now)), record("t", b"late", Some(now - 7_200_000)));
    let mut records = vec![old; 300];
    records.extend([young.clone(), late]);
    assert!(publish(&log, &records).iter().all(Result::is_ok));
    place.sql("UPDATE topic SET retention_ms = 3600000, swept_ms = 0");
    let log = place.open();
    // So many are not deleted in one transaction; the next one goes on.
    for (first, end) in [(256, 303), (300, 304)] {
        assert!(publish(&log, std::slice::from_ref(&young))[0].is_ok());
        assert_eq!(log.offsets("t", 0).unwrap(), Offsets { first, last_stable: end, end });
    }
    assert_eq!(offsets_read(&log, "t", 0), [300, 301, 302, 303], "a young record keeps what is behind it");
    place.sql("UPDATE topic SET retention_ms = 1, swept_ms = 0");
    std::thread::sleep(Duration::from_millis(20));
    let log = place.open();
    assert!(publish(&log, &[record("t", b"x", Some(now))])[0].is_ok());
    assert_eq!(log.offsets("t", 0).unwrap(), Offsets { first: 305, last_stable: 305, end: 305 });
    assert_eq!(offsets_read(&log, "t", 0), [0; 0]);
    place.sql("UPDATE topic SET retention_ms = NULL");
    let log = place.open();
    assert_eq!(publish(&log, &[record("t", b"y", None)])[0].as_ref().unwrap().offset, 305);
}

#[test]
fn a_subscription_says_when_records_were_deleted_before_it_read_them() {
    let place = Place::new();
    let log = place.open();
    log.topic_for_use("t").unwrap();
    publish(&log, &vec![record("t", b"v", None); 10]);
    let mut session = log.subscribe(&options("g", "t")).unwrap();
    session.subscription.hold().unwrap();
    assert_eq!(assigned(&mut session)[0].start, 0);
    place.sql("DELETE FROM record WHERE place & 0xffffffffff < 4; UPDATE partition SET first = 4");
    let error = session.subscription.poll(Duration::from_secs(1), &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange);
    assert!(error.to_string().contains("topic `t` partition 0: the records from offset 0 to 3"), "{error}");
    drop(session);
    // The next session hears it from its assignment.
    let mut session = log.subscribe(&options("g", "t")).unwrap();
    let assigned = assigned(&mut session);
    assert_eq!((assigned[0].start, assigned[0].log_start, &assigned[0].committed), (4, 4, &None));
    // Without a group, reading goes on at the first record that is there.
    assert_eq!(offsets_read(&log, "t", 1), [4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_record_that_the_file_has_lost_is_not_passed_over() {
    let place = Place::new();
    let log = place.open();
    log.topic_for_use("t").unwrap();
    publish(&log, &vec![record("t", b"v", None); 3]);
    place.sql("DELETE FROM record WHERE place & 0xffffffffff = 0");
    let mut reader = log.reader("t", &[(0, 0)]).unwrap();
    let error = reader.poll(Duration::from_secs(1), &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("topic `t` partition 0 has no record at offset 0"), "{error}");
}

#[test]
fn the_second_process_of_a_group_is_told_what_to_do() {
    let place = Place::new();
    let log = place.open();
    let _first = log.subscribe(&options("g", "t")).unwrap();
    let error = place.open().subscribe(&options("g", "t")).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    let told = error.to_string();
    let process = format!("instance `host-1`, process {}", std::process::id());
    assert!(told.contains("group `g`") && told.contains(&process) && told.contains("use Apache Kafka"), "{told}");
    assert!(place.open().subscribe(&options("other", "t")).is_ok(), "another group is free");
}

#[test]
fn an_owner_whose_lock_file_was_taken_away_is_fenced() {
    let place = Place::new();
    let log = place.open();
    log.topic_for_use("t").unwrap();
    let mut first = log.subscribe(&options("g", "t")).unwrap();
    let stale = assigned(&mut first)[0].assignment;
    std::fs::remove_file(place.folder.path().join("log.db-group-1.lock")).unwrap();
    let _second = place.open().subscribe(&options("g", "t")).unwrap();

    let positions =
        [Position { topic: "t".into(), partition: 0, assignment: stale, offset: 0, text: "stale".to_owned() }];
    let commit = Commit { positions: &positions, ..Commit::default() };
    assert!(matches!(first.committer.commit(&commit), CommitOutcome::NotOwner(of) if of == [("t".into(), 0)]));
    let state = [StateChange { key: "k".to_owned(), value: Some(b"v".to_vec()) }];
    let commit = Commit { state: &state, ..Commit::default() };
    assert!(matches!(first.committer.commit(&commit), CommitOutcome::NotOwner(of) if of == [("t".into(), 0)]));
    let mut lost = Vec::new();
    while lost.is_empty() {
        first
            .subscription
            .poll(Duration::from_secs(1), &mut |event| {
                if let Event::Revoked { partitions, lost: true } = event {
                    lost.extend(partitions);
                }
            })
            .unwrap();
    }
    assert_eq!(lost, [("t".into(), 0)]);
    let error = first.subscription.poll(Duration::ZERO, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    first.subscription.close(true).unwrap();
    assert!((&log as &dyn Log).group_state("g").unwrap().is_empty());
}

#[test]
fn a_topic_that_appears_later_is_assigned_from_its_first_record() {
    let place = Place::new();
    let log = place.open();
    let mut session =
        log.subscribe(&SubscribeOptions { first_start: FirstStart::Latest, ..options("g", "later") }).unwrap();
    assert!(assigned(&mut session).is_empty());
    let other = place.open();
    other.topic_for_use("later").unwrap();
    publish(&other, &[record("later", b"v", None)]);
    let found = assigned(&mut session);
    assert_eq!((found[0].topic.as_ref(), found[0].start), ("later", 0));
}

#[test]
fn what_another_process_wrote_is_noticed_soon() {
    let place = Place::new();
    let log = place.open();
    log.topic_for_use("t").unwrap();
    let mut reader = log.reader("t", &[(0, 0)]).unwrap();
    reader.poll(Duration::ZERO, &mut |_| {}).unwrap();
    // Another log in this process knows nothing of the first one, as another process would not.
    let other = place.open();
    let mut times = Vec::new();
    for _ in 0..21 {
        let written = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(25));
                publish(&other, &[record("t", b"v", None)]);
                Instant::now()
            });
            let mut seen = false;
            while !seen {
                reader.poll(Duration::from_secs(5), &mut |event| seen |= matches!(event, Event::Record(_))).unwrap();
            }
            let noticed = Instant::now();
            noticed.saturating_duration_since(writer.join().unwrap())
        });
        times.push(written);
    }
    times.sort_unstable();
    assert!(times[10] < Duration::from_secs(4), "noticed before the poll runs out of time: {times:?}");
}

#[test]
fn a_publisher_whose_queue_is_full_says_so_and_goes_on_after_polling() {
    let place = Place::new();
    let log = place.open();
    log.topic_for_use("t").unwrap();
    let value = vec![1_u8; 3 << 20];
    let mut publisher = log.publisher().unwrap();
    let (mut sent, mut full, mut delivered) = (0, 0, Vec::new());
    while sent < 60 {
        match publisher.send(&record("t", &value, None), sent) {
            Ok(()) => sent += 1,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::QueueFull);
                full += 1;
                publisher.poll(Duration::from_secs(1), &mut |delivery| delivered.push(delivery.token)).unwrap();
            }
        }
        assert!(publisher.in_flight() <= 60);
    }
    while publisher.in_flight() > 0 {
        publisher.poll(Duration::from_secs(1), &mut |delivery| delivered.push(delivery.token)).unwrap();
    }
    assert!(full > 0);
    assert_eq!(delivered, (0..60).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_leaves_nothing_and_passes_once_there_is_room() {
    let place = Place::new();
    let log = place.open();
    log.topic_for_use("t").unwrap();
    let mut session = log.subscribe(&options("g", "t")).unwrap();
    let assignment = assigned(&mut session)[0].assignment;
    let connection = log.file.connect().unwrap();
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    connection.pragma_update_and_check(None, "max_page_count", pages + 3, |_| Ok(())).unwrap();
    let owned = parking_lot::Mutex::new([((Arc::from("t"), 0), 1)].into());
    let membership = Arc::new(Membership { group: 1, epoch: assignment, owned });
    let mut committer = EmbeddedCommitter::new(log.file.clone(), connection, membership);
    let value = vec![1_u8; 1 << 20];
    let positions = [Position { topic: "t".into(), partition: 0, assignment, offset: 0, text: String::new() }];
    let large = [record("t", &value, None)];
    match committer.commit(&Commit { records: &large, positions: &positions, ..Commit::default() }) {
        CommitOutcome::Again(error) => {
            assert_eq!(error.kind(), ErrorKind::NoSpace);
            assert!(error.to_string().contains("free some space"), "{error}");
        }
        other => panic!("no room, but {other:?}"),
    }
    assert_eq!(log.offsets("t", 0).unwrap().end, 0);
    assert!(log.group("g", &["t"]).unwrap().committed.is_empty());
    let small = [record("t", b"small", None)];
    let outcome = committer.commit(&Commit { records: &small, positions: &positions, ..Commit::default() });
    assert!(matches!(outcome, CommitOutcome::Done(placed) if placed == [Placed { partition: 0, offset: 0 }]));
}

#[test]
fn a_file_that_others_keep_locked_is_waited_for() {
    let place = Place::new();
    let log = place.open();
    log.topic_for_use("t").unwrap();
    let other = Connection::open(place.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| publish(&log, &[record("t", b"v", None)]));
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(log.offsets("t", 0).unwrap().end, 0, "reading needs no lock");
        other.execute_batch("COMMIT").unwrap();
        assert!(waiting.join().unwrap()[0].is_ok());
    });
}

#[test]
fn a_row_of_an_unknown_topic_does_not_hinder_the_others() {
    let place = Place::new();
    let log = place.open();
    log.topic_for_use("t").unwrap();
    let outcomes = publish(&log, &[record("t", b"0", None), record("none", b"1", None), record("t", b"2", None)]);
    let told: Vec<_> = outcomes.iter().map(|o| o.as_ref().map(|p| p.offset).map_err(crate::Error::kind)).collect();
    assert_eq!(told, [Ok(0), Err(ErrorKind::UnknownTopic), Ok(1)]);
    // A topic that was missed is found once it is there.
    let mut appender = Appender::default();
    let mut connection = log.file.connect().unwrap();
    let mut append = |topic: &str| {
        let new = record(topic, b"v", None);
        let writing = log.file.write(&mut connection).unwrap();
        let row = super::append::Row::of(&new, b"");
        let fates = appender.append(&log.file, &writing.tx, std::iter::once(row)).unwrap();
        writing.commit().unwrap();
        fates[0].is_ok()
    };
    assert!(!append("soon"));
    log.topic_for_use("soon").unwrap();
    assert!(append("soon"));
}

#[test]
fn a_topic_that_is_deleted_while_it_is_read_ends_the_reading_and_takes_no_commit_over_to_the_next_one() {
    let place = Place::new();
    let log = place.open();
    log.topic_for_use("t").unwrap();
    log.topic_for_use("out").unwrap();
    publish(&log, &[record("t", b"0", None), record("t", b"1", None)]);
    let mut reader = log.reader("t", &[(0, 0)]).unwrap();
    let Session { mut subscription, mut committer } = log.subscribe(&options("g", "t")).unwrap();
    let mut assignment = 0;
    let mut records = 0;
    subscription
        .poll(Duration::from_secs(1), &mut |event| match event {
            Event::Assigned(assigned) => assignment = assigned[0].assignment,
            Event::Record(_) => records += 1,
            _ => {}
        })
        .unwrap();
    assert_eq!(records, 2);

    let other = place.open();
    other.delete_topic("t").unwrap();
    other.topic_for_use("t").unwrap();
    let result = [record("out", b"result", None)];
    let text = String::new();
    let position = Position { topic: "t".into(), partition: 0, assignment, offset: 2, text };
    // What was read before is done, and says nothing of the new topic.
    let outcome = committer.commit(&Commit { records: &result, positions: &[position], ..Commit::default() });
    assert!(matches!(outcome, CommitOutcome::Done(_)), "{outcome:?}");
    assert!(log.group("g", &["t"]).unwrap().committed.is_empty());
    for error in [
        subscription.poll(Duration::from_secs(1), &mut |_| ()).unwrap_err(),
        reader.poll(Duration::from_secs(1), &mut |_| ()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::TopicReplaced);
        assert!(error.to_string().contains("topic `t`") && error.to_string().contains("was deleted"), "{error}");
    }
    let mut reader = log.reader("t", &[(0, 0)]).unwrap();
    other.delete_topic("t").unwrap();
    let error = reader.poll(Duration::from_secs(1), &mut |_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TopicDeleted);
}

#[test]
fn the_records_of_a_deleted_topic_are_gone_also_where_the_delete_was_ended_in_between() {
    let place = Place::new();
    let log = place.open();
    for topic in ["t", "u"] {
        log.topic_for_use(topic).unwrap();
        publish(&log, &vec![record(topic, b"v", None); 1000]);
    }
    // as a process leaves it that is killed before the first record goes
    place.sql("UPDATE topic SET name = 'deleted/' || id WHERE name = 't'");
    assert_eq!(log.topics().unwrap().len(), 1);
    log.delete_topic("u").unwrap();
    let left: i64 = log.connection.lock().query_row("SELECT count(*) FROM record", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
    assert!(log.topics().unwrap().is_empty());
}

#[cfg(unix)]
#[test]
fn a_file_that_was_moved_or_replaced_takes_and_gives_nothing_more() {
    for replaced in [false, true] {
        let place = Place::new();
        let log = place.open();
        log.topic_for_use("t").unwrap();
        assert!(publish(&log, &[record("t", b"1", None)])[0].is_ok());
        let Session { mut subscription, mut committer } = log.subscribe(&options("g", "t")).unwrap();
        let mut given = Vec::new();
        while !given.iter().any(|event: &String| event == "record") {
            let name = |event: Event<'_>| if matches!(event, Event::Record(_)) { "record" } else { "other" };
            subscription.poll(Duration::from_millis(50), &mut |event| given.push(name(event).to_owned())).unwrap();
        }
        for end in ["", "-wal", "-shm"] {
            let path = PathBuf::from(format!("{}{end}", place.path().display()));
            std::fs::rename(&path, path.with_extension(format!("moved{end}"))).unwrap();
        }
        if replaced {
            place.open().topic_for_use("t").unwrap();
        }
        let kind = |result: Result<()>| {
            let error = result.unwrap_err();
            assert!(error.to_string().contains("moved, removed or replaced"), "{error}");
            error.kind()
        };
        let sent = publish(&log, &[record("t", b"2", None)]).remove(0);
        assert_eq!(kind(sent.map(|_| ())), ErrorKind::LogReplaced);
        let polled = subscription.poll(Duration::from_millis(50), &mut |_| {});
        assert_eq!(kind(polled.map(|_| ())), ErrorKind::LogReplaced);
        let CommitOutcome::Again(error) = committer.commit(&Commit::default()) else { panic!("it was committed") };
        assert_eq!(kind(Err(error)), ErrorKind::LogReplaced);
        if replaced {
            assert!(offsets_read(&place.open(), "t", 0).is_empty());
        }
    }
}
