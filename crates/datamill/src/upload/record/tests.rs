use std::fs;

use super::*;

const STAMP: Stamp = Stamp { size: 3, mtime_ns: Some(-5) };
const TRACE: Option<Trace> = Some(Trace { ctime_ns: i64::MAX, inode: u64::MAX });

fn open(dir: &Path) -> Record {
    Record::open(&dir.join("r.jsonl"), "log", "t").unwrap()
}

#[test]
fn what_was_written_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut record = open(dir.path());
    assert!(!record.has_started());
    record.exists("old.csv", STAMP);
    record.start();
    record.sending("a b\n\".csv", &[1; 64]);
    record.write().unwrap();
    record.sending("half.csv", &[2; 64]);
    record.write().unwrap();
    record.delivered("a b\n\".csv", STAMP, TRACE, &[1; 64]);
    record.write().unwrap();
    drop(record);
    for _ in 0..2 {
        let record = open(dir.path());
        assert!(record.has_started());
        let known = Known { stamp: STAMP, sha512: None, trace: None };
        assert_eq!(record.known("old.csv"), Some(known));
        let known = Known { stamp: STAMP, sha512: Some([1; 64]), trace: TRACE };
        assert_eq!(record.known("a b\n\".csv"), Some(known));
        assert_eq!(record.half_sent("a b\n\".csv"), None);
        assert_eq!(record.half_sent("half.csv"), Some([2; 64]));
        assert_eq!(record.known("half.csv"), None);
    }
}

#[test]
fn what_was_acknowledged_alone_counts_if_the_topic_is_the_same_at_the_next_start() {
    for (id, is_same) in [("1", true), ("2", false)] {
        for anew in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut record = open(dir.path());
            record.set_topic_id(Some("1"), false).unwrap();
            record.acknowledged("a", STAMP, TRACE, &[1; 64]);
            record.confirmed();
            record.acknowledged("b", STAMP, TRACE, &[2; 64]);
            record.acknowledged("c", STAMP, TRACE, &[3; 64]);
            record.write().unwrap();
            if anew {
                record.add_folder("f".into()).unwrap();
            }
            drop(record);
            for _ in 0..2 {
                let mut record = open(dir.path());
                record.set_topic_id(Some(id), false).unwrap();
                record.write().unwrap();
                assert!(record.content.unconfirmed.is_empty());
                let delivered = |path| record.known(path).map(|known| known.sha512.is_some());
                assert_eq!(delivered("a"), Some(is_same), "what was confirmed exists");
                for path in ["b", "c"] {
                    assert_eq!(delivered(path), is_same.then_some(true), "{path} {anew}");
                }
            }
        }
    }
}

#[test]
fn the_folders_of_the_newest_files_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut record = open(dir.path());
    for path in ["old/a", "sub/deep/b", "top", "sub/deep/c"] {
        record.delivered(path, STAMP, TRACE, &[1; 64]);
    }
    record.write().unwrap();
    drop(record);
    let record = open(dir.path());
    assert_eq!(record.newest_folders(2), ["sub/deep", ""]);
    assert!(record.knows_folder("sub") && !record.knows_folder("top"));
}

#[test]
fn a_line_that_was_cut_off_anywhere_is_dropped_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.jsonl");
    let mut record = open(dir.path());
    record.start();
    record.delivered("a", STAMP, TRACE, &[1; 64]);
    record.write().unwrap();
    let before = fs::metadata(&path).unwrap().len();
    record.delivered("b", STAMP, TRACE, &[2; 64]);
    record.write().unwrap();
    drop(record);
    let whole = fs::read(&path).unwrap();
    for length in before as usize..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let mut record = open(dir.path());
        assert!(record.known("a").is_some() && record.has_started());
        assert_eq!(record.known("b"), None);
        record.delivered("c", STAMP, TRACE, &[3; 64]);
        record.write().unwrap();
        drop(record);
        assert!(open(dir.path()).known("c").is_some());
    }
}

#[test]
fn a_damaged_line_costs_its_own_file_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.jsonl");
    let mut record = open(dir.path());
    for name in ["a", "b", "c"] {
        record.delivered(name, STAMP, TRACE, &[1; 64]);
        record.write().unwrap();
    }
    drop(record);
    let text = fs::read_to_string(&path).unwrap().replace(r#""path":"b""#, r#""path":"x""#);
    fs::write(&path, text).unwrap();
    let record = open(dir.path());
    assert!(record.known("a").is_some() && record.known("c").is_some());
    assert!(record.known("b").is_none() && record.known("x").is_none());
}

#[test]
fn what_was_delivered_to_the_topic_before_counts_as_existing_or_as_new() {
    for sent_again in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut record = open(dir.path());
        record.exists("old.csv", STAMP);
        record.start();
        record.delivered("a.csv", STAMP, None, &[1; 64]);
        record.sending("half.csv", &[2; 64]);
        record.flush().unwrap();
        assert!(!record.set_topic_id(None, sent_again).unwrap(), "nothing is told");
        assert!(!record.set_topic_id(Some("one"), sent_again).unwrap(), "a record of release 0.1.0");
        drop(record);
        let mut record = open(dir.path());
        assert!(!record.set_topic_id(Some("one"), sent_again).unwrap());
        assert_eq!(record.known("a.csv").unwrap().sha512, Some([1; 64]));
        assert!(record.set_topic_id(Some("two"), sent_again).unwrap());
        drop(record);
        let mut record = open(dir.path());
        assert!(record.has_started() && !record.set_topic_id(Some("two"), sent_again).unwrap());
        let existing = (!sent_again).then_some(Known { stamp: STAMP, sha512: None, trace: None });
        assert_eq!((record.known("a.csv"), record.known("old.csv")), (existing, existing));
        assert_eq!((record.known("half.csv"), record.half_sent("half.csv")), (None, None));
    }
}

#[test]
fn the_record_of_another_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let other = Record::open(&dir.path().join("r.jsonl"), "other", "t");
    assert!(matches!(other, Err(RecordError::Foreign { .. })));
}

#[test]
fn many_lines_about_few_files_are_put_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.jsonl");
    let mut record = open(dir.path());
    for round in 0..1500 {
        record.delivered("a", Stamp { size: round, mtime_ns: Some(0) }, TRACE, &[1; 64]);
        record.write().unwrap();
    }
    drop(record);
    let record = open(dir.path());
    assert_eq!(record.known("a").unwrap().stamp.size, 1499);
    assert!(fs::metadata(&path).unwrap().len() < 150_000);
}
