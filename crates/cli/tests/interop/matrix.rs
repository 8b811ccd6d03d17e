//! {OpenMSIStream, datamill} sends × {OpenMSIStream, datamill} rebuilds, as files and as metadata: the same
//! bytes, paths, keys and JSON values.

use serde_json::Value;

use crate::common::{Bench, Files, Got, files_in, noise, wait_until};
use datamill_testkit::peer;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Peer,
    Datamill,
}

/// Set by `dev/test --long`: all cells, and a file of 50 MB in each.
const LONG: &str = "DATAMILL_PEER_ALL_CELLS";

const KIB: usize = 1024;

/// Every form of name that the peer survives, and sizes around the ends of chunks.
fn tree(chunk_size: usize, big: usize) -> Files {
    let files = [
        ("one byte.dat", noise(1, 1)),
        ("no extension", noise(2, chunk_size)),
        ("run/läuft 日本 ü.csv", "a b\tc;d\n".repeat(400).into_bytes()),
        ("run/deep/er/semi;colon,comma.txt", noise(3, chunk_size + 1)),
        ("run/deep/it's \"so\".bin", noise(4, 2 * chunk_size - 1)),
        ("run/line\nbreak.txt", b"x\n".repeat(700)),
        ("100% {odd} [name] $HOME &c.tar.gz", noise(5, 3)),
        // two files whose keys are the same
        ("a/b_c.dat", noise(6, 1500)),
        ("a_b/c.dat", noise(7, 1500)),
        ("big.bin", noise(8, big)),
    ];
    files.map(|(path, content)| (path.to_owned(), content)).into()
}

/// The name that a file gets with a text appended to its stem.
fn appended(path: &str, append: &str) -> String {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    let (stem, suffix) = name.rfind('.').filter(|at| *at > 0).map_or((name, ""), |at| name.split_at(at));
    format!("{folder}{}{stem}{append}{suffix}", if folder.is_empty() { "" } else { "/" })
}

fn cell(sender: Sender, partitions: i32, chunk_size: usize, append: &str, big: usize) {
    let bench = Bench::new();
    let cell = format!("{sender:?}, {partitions} partitions, chunks of {chunk_size}, {append:?}");
    let topic = bench.topic("files", partitions);
    let sent = tree(chunk_size, big);
    bench.write_all("in", &sent);
    match sender {
        Sender::Peer => bench.peer_uploads(&topic, "in", chunk_size, append, &sent),
        Sender::Datamill => {
            let size = chunk_size.to_string();
            let args = ["upload", "in", "--config", "upload.config", "--topic_name", &topic, "--chunk_size", &size];
            bench.datamill(&args).with_code(0);
        }
    }
    let expected: Files = sent.into_iter().map(|(path, content)| (appended(&path, append), content)).collect();

    let theirs = bench.topic("theirs", 1);
    let ours = bench.topic("ours", 1);
    let (their_files, said) = (bench.path("their_files"), bench.path("download.said"));
    let (config, folder) = (bench.text("read.config"), bench.text("their_files"));
    let args = [folder.as_str(), "--config", &config, "--topic_name", &topic];
    let download = peer::start("run.py", &[&["DataFileDownloadDirectory"], &args[..]].concat(), &said);
    let reproducer = bench.peer_reproduces(&topic, &theirs, &bench.name("theirs"), "their_output", &[]);

    bench.reproduces(&topic, &ours, &bench.name("ours"), "our_output", &[]).with_code(0);
    let our_results = results(bench.read(&ours));
    assert_eq!(our_results.len(), expected.len(), "{cell}");
    let folder = bench.text("our_files");
    bench.datamill(&[&["download", &folder, "--exit-at-end"], &args[1..]].concat()).with_code(0);
    assert_same(&files_in(&bench.path("our_files")), &expected, &cell);

    let said = || format!("{cell}: {}", reproducer.said());
    if append.is_empty() {
        assert_eq!(our_results, results(bench.wait_for_records(&theirs, expected.len(), said)), "{cell}");
        reproducer.quit();
    } else {
        // Names with an appended text make its threads end before all results are sent: see `faults`.
        let theirs = results(bench.wait_for_records(&theirs, 1, said));
        assert!(theirs.iter().all(|result| our_results.contains(result)), "{cell}: {theirs:?} {our_results:?}");
        reproducer.kill9();
    }
    let size = || files_in(&their_files).values().map(Vec::len).sum::<usize>();
    let whole: usize = expected.values().map(Vec::len).sum();
    wait_until(|| format!("{cell}: {}", download.said()), || size() >= whole);
    download.quit();
    assert_same(&files_in(&their_files), &expected, &cell);
}

/// Says which path differs instead of printing megabytes.
fn assert_same(found: &Files, expected: &Files, cell: &str) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{cell}");
    for (path, content) in expected {
        assert!(found[path] == *content, "{cell}: `{path}` differs");
    }
}

/// Keys, and values as JSON, in an order that does not depend on who was first.
fn results(got: Vec<Got>) -> Vec<(String, String)> {
    let mut results: Vec<(String, String)> = got
        .into_iter()
        .map(|got| {
            let value: Value = serde_json::from_str(&got.value).unwrap();
            let mut fields: Vec<_> = value.as_object().unwrap().iter().map(|(k, v)| format!("{k}={v}")).collect();
            fields.sort();
            (got.key, fields.join(" "))
        })
        .collect();
    results.sort();
    results
}

/// The cells of a sender and a number of partitions: one in a usual run, so that each value of each
/// dimension meets each value of every other one, and all of them in a long run.
fn cells(sender: Sender, partitions: i32, usual: (usize, &str, usize)) {
    let (chunk_size, append, big) = usual;
    cell(sender, partitions, chunk_size, append, big);
    if std::env::var_os(LONG).is_none() {
        return;
    }
    for chunk_size in [KIB, 16 * KIB, 64 * KIB, 512 * KIB] {
        let big = if chunk_size == KIB { 5_000_000 } else { 50_000_000 };
        let appends: &[&str] = if sender == Sender::Peer { &["", "_copy"] } else { &[""] };
        for append in appends {
            cell(sender, partitions, chunk_size, append, big);
        }
    }
}

#[test]
fn the_peer_sends_to_one_partition() {
    cells(Sender::Peer, 1, (KIB, "", 200_000));
}

#[test]
fn the_peer_sends_to_four_partitions() {
    cells(Sender::Peer, 4, (512 * KIB, "_copy", 3_000_000));
}

#[test]
fn the_peer_sends_to_twelve_partitions() {
    cells(Sender::Peer, 12, (64 * KIB, "_v2.1", 1_000_000));
}

#[test]
fn datamill_sends_to_one_partition() {
    cells(Sender::Datamill, 1, (512 * KIB, "", 3_000_000));
}

#[test]
fn datamill_sends_to_four_partitions() {
    cells(Sender::Datamill, 4, (64 * KIB, "", 1_000_000));
}

#[test]
fn datamill_sends_to_twelve_partitions() {
    cells(Sender::Datamill, 12, (KIB, "", 200_000));
}
