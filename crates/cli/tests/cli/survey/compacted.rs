//! A topic that keeps only the newest message of each key (`cleanup.policy=compact`), on a broker that has compacted it.

use datamill::broker::NewRecord;
use datamill::wire::chunk_key;
use serde_json::Value;

use super::bench::{Bench, chunk};
use crate::common::wait_until;

impl Bench {
    /// Puts these chunks of a file on the topic of the test, with the keys that an upload gives them.
    fn send_keyed(&self, path: &str, pieces: &[&[u8]], indices: &[usize]) {
        let (subdir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let whole = pieces.concat();
        let of = |index: &usize| {
            let key = chunk_key(subdir, name, *index as u32, pieces.len() as u32);
            (key, chunk(path, &whole, pieces, *index))
        };
        let records: Vec<(String, Vec<u8>)> = indices.iter().map(of).collect();
        self.publish(records.iter().map(|(key, value)| NewRecord {
            topic: &self.topic,
            partition: Some(0),
            key: Some(key.as_bytes()),
            value: Some(value),
            ..NewRecord::default()
        }));
    }
}

#[test]
fn chunks_that_compaction_took_are_told_by_all_who_look() {
    let mut bench = Bench::new(true);
    bench.topic = bench.topic.replace("files", "compacted");
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("min.compaction.lag.ms", "0"),
        ("max.compaction.lag.ms", "100"),
    ];
    bench.create(&bench.topic, 1, &settings);
    let topic = bench.topic.clone();

    // an upload says once what comes of such a topic, and so does a check
    for name in ["twice.csv", "run/a_b.csv", "bad.csv"] {
        bench.place.write(&format!("data/{name}"), &[b'1'; 3000]);
    }
    let first = bench.upload(&[]);
    assert_eq!(first.code(), 0, "{}", first.stderr());
    assert_eq!(
        first.stderr().matches("the topic is compacted: it keeps only the newest").count(),
        1,
        "{}",
        first.stderr()
    );
    let watch = ["watch", "data", "--topic_name", &topic, "--exit-at-end", "--watchdog_lag_time", "0.1"];
    let watch = bench.run(&watch).stderr();
    assert_eq!(watch.matches("the topic is compacted: it keeps only the newest").count(), 1, "{watch}");
    // all is there, and may go at any time
    let compared = bench.run(&["reconcile", "data", "--topic_name", &topic]);
    let said = compared.stderr();
    assert!(compared.code() == 1 && said.contains(&format!("topic `{topic}` is compacted: it keeps only")), "{said}");
    let check = bench.run(&["check", "--topic_name", &topic]);
    let said = check.stdout();
    assert!(check.code() == 1 && said.contains("it keeps only the newest message of each key"), "{said}");
    // a file that the group has begun
    bench.send_keyed("half.csv", &[b"1", b"1", b"1"], &[1, 2]);
    let run = bench.reproduce();
    assert_eq!((run.succeeded, run.failed, run.incomplete.len()), (2, 1, 1));

    // two are sent again and cut off, one has the keys of another path, and the one that failed is sent again as well
    bench.send_keyed("half.csv", &[b"2", b"2", b"2"], &[1]);
    bench.send_keyed("twice.csv", &[b"2", b"2", b"2"], &[1, 2]);
    bench.place.write("data/run_a/b.csv", &[b'2'; 3000]);
    bench.place.write("data/bad.csv", &[b'2'; 3000]);
    assert_eq!(bench.upload(&["--upload_regex", "run_a|bad"]).code(), 0);
    let listed = || bench.objects(0, &["ls", &topic, "--json"]);
    let has =
        |rows: &[Value], path: &str, chunks: u64| rows.iter().any(|row| row["path"] == path && row["chunks"] == chunks);
    wait_until("the compaction", || {
        // a segment is compacted once what comes after it has closed it
        bench.send_keyed("last.csv", &[b"x"], &[1]);
        let rows = listed();
        has(&rows, "twice.csv", 1) && !has(&rows, "half.csv", 2) && !has(&rows, "run/a_b.csv", 3)
    });

    let gone = "chunks 1-2 of 3 are gone: the topic keeps only the newest message of each key, and has no record at offset 0:0-";
    let cut_off = "chunk 3 of 3 is missing: the upload has not ended, or was cut off";
    let of = |rows: &[Value]| -> Vec<String> {
        let rows = rows.iter().filter(|row| row["path"] == "twice.csv");
        rows.map(|row| row["reason"].as_str().unwrap().to_owned()).collect()
    };
    for rows in [listed(), bench.objects(1, &["verify", &topic, "twice.csv", "--json"])] {
        let reasons = of(&rows);
        assert!(reasons.len() == 2 && reasons[0].starts_with(gone) && reasons[1] == cut_off, "{reasons:?}");
    }
    let args = ["reconcile", "data", "--topic_name", &topic, "--consumer_group_id", &bench.group];
    let rows = bench.objects(1, &[&args[..], &["--json"]].concat());
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let found: Vec<[String; 3]> =
        rows.iter().map(|row| ["path", "state", "reason"].map(|name| text(row, name))).collect();
    let found = |path: &str| found.iter().find(|row| row[0] == path).map(|[_, state, reason]| (&**state, &**reason));
    let (state, reason) = found("twice.csv").unwrap();
    assert!(state == "incomplete" && reason.starts_with(gone), "{state}: {reason}");
    assert_eq!(found("run/a_b.csv"), Some(("never_sent", "it is not on the topic, or not any more")));
    assert_eq!(found("run_a/b.csv"), Some(("not_reached", "")));
    let said = bench.run(&args).stderr();
    assert!(said.contains(&format!("topic `{topic}` is compacted: it keeps only the newest")), "{said}");

    // the one that failed cannot be tried again, the one that was begun cannot become whole
    assert_eq!(bench.run(&["retry", "--topic_name", &topic, "--consumer_group_id", &bench.group]).code(), 0);
    let run = bench.reproduce();
    assert_eq!((run.expired, run.failed, run.lost), (1, 1, 1), "{run}");
    assert!(run.to_string().contains("1 unfinished file lost messages that the topic has removed"), "{run}");
    let mut incomplete: Vec<&str> = run.incomplete.iter().map(|file| file.path.as_str()).collect();
    incomplete.sort_unstable();
    assert_eq!(incomplete, ["half.csv", "twice.csv"], "{run}");
    let listed = bench.run(&["retry", "--list", "--topic_name", &topic, "--consumer_group_id", &bench.group]).stdout();
    assert!(listed.lines().any(|line| line.starts_with("bad.csv") && line.contains("expired")), "{listed}");
    let status = bench.run(&["status", "--topic_name", &topic, "--consumer_group_id", &bench.group]);
    assert!(status.code() == 1 && status.stdout().contains("expired"), "{}", status.stdout());
    assert!(status.stderr().contains("is compacted: it keeps only the newest"), "{}", status.stderr());
}
