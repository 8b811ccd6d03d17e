//! Where the peer is wrong: what it does, so that a release of it that does otherwise is noticed, and what
//! datamill does instead. docs/migrating-from-openmsistream.md has the table.

use datamill_testkit::peer;

use crate::common::{Bench, Files, Piece, files_in, noise, pieces, wait_until};

/// Results of both reproducers over these records and a last file, whose result tells that the peer is through.
/// Answers sizes of the files with a result, the peer's and ours, and the exit code of ours.
fn both(bench: &Bench, records: &[Piece], last: bool) -> (Vec<u64>, Vec<u64>, i32) {
    let topic = bench.topic("files", 1);
    let (theirs, ours) = (bench.topic("theirs", 1), bench.topic("ours", 1));
    bench.send(&topic, records);
    let group = bench.name("theirs");
    let running = bench.peer_reproduces(&topic, &theirs, &group, "their_output", &[]);
    if last {
        bench.send(&topic, &pieces("last.dat", b"the last file", 100, 1));
        let is_last = |key: &str| key == "_last.dat_chunk_processing_result";
        wait_until(|| running.said(), || bench.read(&theirs).iter().any(|got| is_last(&got.key)));
        running.quit();
    } else {
        // It meets the record again at each restart of its thread.
        wait_until(|| running.said(), || running.said().matches("Traceback").count() >= 2);
        bench.send(&topic, &pieces("last.dat", b"the last file", 100, 1));
        std::thread::sleep(std::time::Duration::from_secs(2));
        running.kill9();
    }
    let ended = bench.reproduces(&topic, &ours, &bench.name("ours"), "our_output", &[]);
    let size = |value: &str| serde_json::from_str::<serde_json::Value>(value).unwrap()["size"].as_u64().unwrap();
    let sizes = |topic: &str| {
        let mut sizes: Vec<u64> = bench.read(topic).iter().map(|got| size(&got.value)).collect();
        sizes.sort_unstable();
        sizes
    };
    (sizes(&theirs), sizes(&ours), ended.code())
}

#[test]
fn a_file_rewritten_while_it_is_read_has_a_result_for_each_version() {
    let bench = Bench::new();
    let (first, second) =
        (pieces("run/a.dat", &noise(1, 5000), 1000, 1), pieces("run/a.dat", &noise(2, 3000), 1000, 1));
    let records = [&first[..2], &second[..], &first[2..]].concat();
    let (theirs, ours, code) = both(&bench, &records, true);
    assert_eq!((ours, code), (vec![13, 3000, 5000], 0));
    assert_eq!(theirs, [13, 5000]);
}

#[test]
fn a_message_that_is_no_chunk_is_left_out() {
    let bench = Bench::new();
    let garbage = Piece { partition: 0, key: "x".to_owned(), value: b"no chunk".to_vec() };
    let records = [pieces("a.dat", b"before", 100, 1), vec![garbage], pieces("b.dat", b"and after", 100, 1)].concat();
    let (theirs, ours, code) = both(&bench, &records, false);
    assert_eq!((ours, code), (vec![6, 9, 13], 1));
    assert_eq!(theirs, [6]);
}

#[test]
fn results_of_renamed_files_are_sent_and_the_program_goes_on() {
    let bench = Bench::new();
    let files: Files = (0..6).map(|i| (format!("{i}.dat"), noise(i, 10 + i as usize))).collect();
    let topic = bench.topic("files", 1);
    bench.write_all("in", &files);
    bench.peer_uploads(&topic, "in", 1024, "_copy", &files);
    let (theirs, ours) = (bench.topic("theirs", 1), bench.topic("ours", 1));
    let running = bench.peer_reproduces(&topic, &theirs, &bench.name("theirs"), "their_output", &[]);
    wait_until(|| running.said(), || running.said().contains("KeyError"));
    running.kill9();
    bench.reproduces(&topic, &ours, &bench.name("ours"), "our_output", &[]).with_code(0);
    let keys: Vec<String> = bench.read(&ours).into_iter().map(|got| got.key).collect();
    assert_eq!(keys.len(), 6);
    assert!(keys.contains(&"_0_copy.dat_chunk_processing_result".to_owned()), "{keys:?}");
}

#[test]
fn an_empty_file_is_sent_and_the_peer_makes_it() {
    let bench = Bench::new();
    let topic = bench.topic("files", 2);
    let files = Files::from([("run/empty.dat".to_owned(), Vec::new()), ("full.dat".to_owned(), b"x".to_vec())]);
    bench.write_all("in", &files);
    let args = ["upload", "in", "--config", "upload.config", "--topic_name", &topic];
    bench.datamill(&args).with_code(0);
    let (config, folder) = (bench.text("read.config"), bench.text("their_files"));
    let args = ["DataFileDownloadDirectory", &folder, "--config", &config, "--topic_name", &topic];
    let download = peer::start("run.py", &args, &bench.path("download.said"));
    wait_until(|| download.said(), || files_in(&bench.path("their_files")).len() == 2);
    download.quit();
    assert_eq!(files_in(&bench.path("their_files")), files);
}
