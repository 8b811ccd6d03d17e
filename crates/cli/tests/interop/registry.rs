//! Registry files have the names and columns of those that the peer really writes, and Python's csv module
//! reads them.

use std::collections::BTreeMap;
use std::path::Path;

use datamill_testkit::peer;

use crate::common::{Bench, Files, noise, wait_until};

/// The rows of a file as Python's csv module reads them, the header first.
fn rows(file: &Path) -> Vec<Vec<String>> {
    let printed = peer::run("rows.py", &[file.to_str().unwrap()]);
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The header, and the values of a column by relative path, without the quotes that the peer puts around texts.
fn column(file: &Path, name: &str) -> (Vec<String>, BTreeMap<String, String>) {
    let mut rows = rows(file).into_iter();
    let header = rows.next().unwrap();
    let at = |name: &str| header.iter().position(|column| column == name).unwrap();
    let plain = |text: &str| text.trim_matches('\'').to_owned();
    let values = rows.map(|row| {
        assert_eq!(row.len(), header.len(), "{row:?}");
        (plain(&row[at("rel_filepath")]), plain(&row[at(name)]))
    });
    let values = values.collect();
    (header, values)
}

/// Both wrote this file with the same columns and the same values in one of them.
fn assert_alike(bench: &Bench, theirs: &str, ours: &str, name: &str) {
    let (their_header, their_values) = column(&bench.path(theirs), name);
    let (our_header, our_values) = column(&bench.path(ours), name);
    assert_eq!(our_header, their_header, "{ours}");
    assert_eq!(our_values, their_values, "{ours}");
}

fn files() -> Files {
    let files = [
        ("root.dat", noise(1, 2500)),
        ("run/semi;colon.dat", noise(2, 100)),
        ("run/läuft.dat", noise(3, 4096)),
        ("run/\"so\".dat", noise(4, 1025)),
        ("fails.dat", b"fail, at the root".to_vec()),
        ("run/fails.dat", b"fail, in a folder".to_vec()),
    ];
    files.map(|(path, content)| (path.to_owned(), content)).into()
}

#[test]
fn tables_of_a_reproducer_are_those_of_the_peer() {
    let bench = Bench::new();
    let topic = bench.topic("files", 1);
    bench.write_all("in", &files());
    bench.peer_uploads(&topic, "in", 1024, "", &files());
    let (theirs, ours) = (bench.topic("theirs", 1), bench.topic("ours", 1));
    let group = bench.name("group");
    let running = bench.peer_reproduces(&topic, &theirs, &format!("{group}-p"), "their_output", &[]);
    bench.wait_for_records(&theirs, 4, || running.said());
    // Its table of what is in progress may be five seconds behind.
    let table = bench.path(&format!("their_output/LOGS/consuming_from_{topic}_in_progress_by_{group}-p.csv"));
    wait_until(|| running.said(), || table.is_file() && column(&table, "status").1.len() == 2);
    running.quit();
    bench.reproduces(&topic, &ours, &group, "our_output", &["--max_attempts", "1"]).with_code(1);

    let in_progress =
        |output: &str, group: &str| format!("{output}/LOGS/consuming_from_{topic}_in_progress_by_{group}.csv");
    let (theirs_in_progress, ours_in_progress) =
        (in_progress("their_output", &format!("{group}-p")), in_progress("our_output", &group));
    for name in ["filename", "status", "n_chunks"] {
        assert_alike(&bench, &theirs_in_progress, &ours_in_progress, name);
    }
    let (theirs, ours) = (
        format!("their_output/LOGS/results_produced_to_{theirs}.csv"),
        format!("our_output/LOGS/results_produced_to_{ours}.csv"),
    );
    for name in ["filename", "n_chunks"] {
        assert_alike(&bench, &theirs, &ours, name);
    }
}

#[test]
fn tables_of_a_processor_are_those_of_the_peer() {
    let bench = Bench::new();
    let topic = bench.topic("files", 1);
    bench.write_all("in", &files());
    bench.peer_uploads(&topic, "in", 1024, "", &files());
    let (their_group, our_group) = (bench.name("theirs"), bench.name("ours"));
    let table = |name: &str, output: &str, group: &str| {
        let name = name.replace("TOPIC", &topic);
        format!("{output}/LOGS/{name}_by_{group}.csv")
    };
    let (processed, in_progress) = ("processed_from_TOPIC", "consuming_from_TOPIC_in_progress");
    let (config, output) = (bench.text("read.config"), bench.text("their_output"));
    let running = peer::start("process.py", &[&config, &topic, &their_group, &output], &bench.path("process.said"));
    // Its tables may not be written before it ends.
    let place = (topic.clone(), 0);
    let end = bench.log.offsets(&topic, 0).unwrap().end;
    let committed = || bench.log.group(&their_group, &[&topic]).unwrap().committed.get(&place).map(|at| at.offset);
    wait_until(|| running.said(), || committed() >= Some(end));
    wait_until(|| running.said(), || running.said().matches("was not able to be processed").count() == 2);
    running.quit();
    let args = ["--config", "read.config", "--consumer_topic_name", &topic, "--consumer_group_id", &our_group];
    let more = ["--output_dir", "our_output", "--exit-at-end", "--max_attempts", "1"];
    bench.inspect(&[&args[..], &more].concat()).with_code(1);
    for (name, columns) in
        [(processed, &["filename", "n_chunks"][..]), (in_progress, &["filename", "status", "n_chunks"])]
    {
        let (theirs, ours) = (table(name, "their_output", &their_group), table(name, "our_output", &our_group));
        columns.iter().for_each(|column| assert_alike(&bench, &theirs, &ours, column));
    }
}

#[test]
fn tables_of_a_watched_folder_are_those_of_the_peer() {
    let bench = Bench::new();
    let (theirs, ours) = (bench.topic("theirs", 2), bench.topic("ours", 2));
    for folder in ["their_in", "our_in"] {
        bench.write_all(folder, &files());
    }
    let config = bench.text("upload.config");
    let options = ["--config", &config, "--upload_existing", "--chunk_size", "1024", "--n_threads", "1"];
    let folder = bench.text("their_in");
    let args = [&["DataFileUploadDirectory", folder.as_str(), "--topic_name", &theirs], &options[..]].concat();
    let running = peer::start("run.py", &args, &bench.path("watch.said"));
    let chunks: usize = files().values().map(|content| content.len().div_ceil(1024)).sum();
    bench.wait_for_records(&theirs, chunks, || running.said());
    running.quit();
    let args = [&["watch", "our_in", "--topic_name", &ours, "--exit-at-end"], &options[..]].concat();
    bench.datamill(&args).with_code(0);
    bench.wait_for_records(&ours, chunks, String::new);

    for name in ["filename", "n_chunks"] {
        let (theirs, ours) =
            (format!("their_in/LOGS/uploaded_to_{theirs}.csv"), format!("our_in/LOGS/uploaded_to_{ours}.csv"));
        assert_alike(&bench, &theirs, &ours, name);
    }
    let (theirs, ours) = (
        format!("their_in/LOGS/upload_to_{theirs}_in_progress.csv"),
        format!("our_in/LOGS/upload_to_{ours}_in_progress.csv"),
    );
    assert_alike(&bench, &theirs, &ours, "n_chunks_delivered");
}
