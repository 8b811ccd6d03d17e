//! A folder whose files the peer has sent and made results of: its topics have no headers, its groups positions alone.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::common::{Bench, Files, noise, pieces, wait_until};

/// What `datamill` prints as objects, with its exit code.
fn objects(bench: &Bench, code: i32, args: &[&str]) -> Vec<Value> {
    let ended = bench.datamill(&[args, &["--config", "read.config", "--json"]].concat());
    ended.with_code(code);
    ended.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn cells<'a>(rows: &'a [Value], name: &str) -> BTreeMap<&'a str, &'a str> {
    rows.iter().map(|row| (row["path"].as_str().unwrap(), row[name].as_str().unwrap())).collect()
}

#[test]
fn a_folder_is_reconciled_with_what_the_peer_has_sent_and_made_of_it() {
    let bench = Bench::new();
    let (topic, results, group) = (bench.topic("files", 3), bench.topic("results", 1), bench.name("group"));
    let file = |(path, seed, len): (&str, u64, usize)| (path.to_owned(), noise(seed, len));
    // the keys of two results are the same
    let sent: Files =
        [("a.dat", 1, 2500), ("run/b ü.dat", 2, 4000), ("a/b_c.dat", 3, 1500), ("a_b/c.dat", 4, 1500)].map(file).into();
    bench.write_all("in", &sent);
    bench.peer_uploads(&topic, "in", 1000, "", &sent);
    let running = bench.peer_reproduces(&topic, &results, &group, "output", &[]);
    bench.wait_for_records(&results, sent.len(), || running.said());
    let end = |partition| bench.log.offsets(&topic, partition).unwrap().end;
    let committed = || bench.log.group(&group, &[&topic]).unwrap().committed;
    // a partition that has no chunk has no position
    let is_behind =
        |partition| committed().get(&(topic.clone(), partition)).map_or(0, |at| at.offset) >= end(partition);
    wait_until(|| format!("{:?}", committed()), || (0..3).all(is_behind));
    running.quit();

    let later: Files = [file(("later.dat", 5, 3000))].into();
    bench.write_all("in", &later);
    bench.peer_uploads(&topic, "in", 1000, "", &later);
    let killed = noise(6, 3000);
    bench.write("in/killed.dat", &killed);
    bench.send(&topic, &pieces("killed.dat", &killed, 1000, 3)[..2]);
    bench.write("in/never.dat", "never");

    let args = ["reconcile", "in", "--topic_name", &topic, "--consumer_group_id", &group, "--results", &results];
    for more in [&[][..], &["--verify"]] {
        let rows = objects(&bench, 1, &[&args[..], more].concat());
        let expected = BTreeMap::from([
            ("a.dat", "result"),
            ("run/b ü.dat", "result"),
            ("a/b_c.dat", "result"),
            ("a_b/c.dat", "result"),
            ("later.dat", "not_reached"),
            ("killed.dat", "incomplete"),
            ("never.dat", "never_sent"),
        ]);
        assert_eq!(cells(&rows, "state"), expected, "{more:?}");
        let reasons = cells(&rows, "reason");
        assert_eq!((reasons["a.dat"], reasons["later.dat"]), ("", ""), "{more:?}");
        assert_eq!(reasons["a_b/c.dat"], "its result is told by a key that 2 files have");
    }
    assert_eq!(objects(&bench, 0, &["ls", &topic]).len(), 6);
    let verified = objects(&bench, 1, &["verify", &topic]);
    assert_eq!(verified.iter().filter(|row| row["state"] == "right").count(), 5, "{verified:?}");
    bench.datamill(&["get", &topic, "run/b ü.dat", "-o", "got", "--config", "read.config"]).with_code(0);
    assert_eq!(std::fs::read(bench.path("got")).unwrap(), sent["run/b ü.dat"]);
    let only_missing = ["upload", "in", "--topic_name", &topic, "--config", "upload.config", "--only-missing"];
    let said = bench.datamill(&only_missing).with_code(0);
    assert!(said.contains("sent 2 files"), "{said}");
}
