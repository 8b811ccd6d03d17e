//! `datamill watch` and the peer's upload program beside each other in one folder: what is the programs' own is not
//! sent, and what is the user's is.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use datamill::wire::Chunk;
use datamill_testkit::peer;

use crate::common::{Bench, Ended, wait_until};

/// The paths of the files in a topic, by the chunks in it.
fn paths(bench: &Bench, topic: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut reader = bench.log.reader(topic, &[(0, 0)]).unwrap();
    let mut at_end = false;
    while !at_end {
        let read = reader.poll(Duration::from_secs(5), &mut |event| match event {
            datamill::broker::Event::Record(record) => {
                paths.insert(Chunk::decode(record.value.unwrap()).unwrap().rebuilt_path());
            }
            datamill::broker::Event::End { .. } => at_end = true,
            _ => {}
        });
        read.unwrap();
    }
    paths
}

fn set(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

/// The peer on the folder `in`, to a topic of its own.
fn peer_watches(bench: &Bench, topic: &str, options: &[&str]) -> peer::Running {
    let (config, folder) = (bench.text("upload.config"), bench.text("in"));
    let args = ["DataFileUploadDirectory", &folder, "--config", &config, "--topic_name", topic, "--upload_existing"];
    peer::start("run.py", &[&args[..], options].concat(), &bench.path("peer.said"))
}

fn watch(bench: &Bench, topic: &str, options: &[&str]) -> Ended {
    let config = bench.text("upload.config");
    let args = ["watch", "in", "--topic_name", topic, "--config", &config, "--upload_existing", "--exit-at-end"];
    bench.datamill(&[&args[..], options].concat())
}

#[test]
fn tables_of_an_upload_that_runs_beside_a_watch_are_not_sent_by_it() {
    let bench = Bench::new();
    let (theirs, ours) = (bench.topic("theirs", 1), bench.topic("ours", 1));
    bench.write("in/a.csv", "a");
    let running = peer_watches(&bench, &theirs, &[]);
    bench.wait_for_records(&theirs, 1, || running.said());
    // it writes the other table when it ends
    let table = bench.path(&format!("in/LOGS/upload_to_{theirs}_in_progress.csv"));
    wait_until(|| running.said(), || table.exists());
    // they count as the programs' own without a mark, and get one
    assert!(!bench.path("in/LOGS/.datamill_logs").exists());
    for (round, new) in ["", "b.csv", "sub/c.csv"].into_iter().enumerate() {
        if !new.is_empty() {
            bench.write(&format!("in/{new}"), new);
            bench.wait_for_records(&theirs, round + 1, || running.said());
        }
        let said = watch(&bench, &ours, &[]).with_code(0);
        assert!(said.contains("sent 1 file "), "round {round}: {said}");
        assert!(said.contains("left out: 1 datamill's or OpenMSIStream's own folder: `LOGS/`"), "{said}");
    }
    assert!(bench.path("in/LOGS/.datamill_logs").exists());
    let data = set(&["a.csv", "b.csv", "sub/c.csv"]);
    assert_eq!((paths(&bench, &theirs), paths(&bench, &ours)), (data.clone(), data));
    running.quit();
}

#[test]
fn a_folder_logs_of_the_users_is_sent_while_an_upload_runs_beside_the_watch() {
    let bench = Bench::new();
    let (theirs, ours) = (bench.topic("theirs", 1), bench.topic("ours", 1));
    bench.write("in/LOGS/instrument.csv", "of the instrument");
    bench.write("in/a.csv", "a");
    // the peer keeps its tables in another folder, which has to be in the watched one and to have no dot in its name
    let tables = bench.text("in/peer_logs");
    let running = peer_watches(&bench, &theirs, &["--logger_file_path", &tables]);
    bench.wait_for_records(&theirs, 2, || running.said());
    let without = ["--upload_regex", "(?!peer_logs/)"];
    let said = watch(&bench, &ours, &without).with_code(0);
    assert!(said.contains("sent 2 files "), "{said}");
    assert!(said.contains("own folder: `LOGS_datamill/`"), "{said}");
    bench.write("in/LOGS/second.csv", "of the instrument");
    bench.wait_for_records(&theirs, 3, || running.said());
    assert!(watch(&bench, &ours, &without).with_code(0).contains("sent 1 file "));
    let data = set(&["LOGS/instrument.csv", "LOGS/second.csv", "a.csv"]);
    assert_eq!(paths(&bench, &ours), data);
    // the peer leaves out no tables but its own
    let theirs: BTreeSet<String> =
        paths(&bench, &theirs).into_iter().filter(|path| !path.contains("_datamill/")).collect();
    assert_eq!(theirs, data);
    assert_eq!(fs::read_dir(bench.path("in/LOGS")).unwrap().count(), 2, "no program puts anything there");
    running.quit();
}
