//! datamill goes on where a program of the peer was stopped halfway: every file has its result at the end.

use crate::common::{Bench, Got, Piece, noise, pieces, wait_until};

/// The paths-with-`/`-as-`_` of the results, in order.
fn names(results: &[Got]) -> Vec<&str> {
    let mut names: Vec<&str> =
        results.iter().map(|got| got.key.strip_suffix("_chunk_processing_result").unwrap()).collect();
    names.sort_unstable();
    names
}

/// Every second of these.
fn halves(pieces: &[Piece]) -> (Vec<Piece>, Vec<Piece>) {
    let (first, second): (Vec<_>, Vec<_>) = pieces.iter().enumerate().partition(|(i, _)| i % 2 == 0);
    let bare = |half: Vec<(usize, &Piece)>| half.into_iter().map(|(_, piece)| piece.clone()).collect();
    (bare(first), bare(second))
}

/// Sends what the peer finishes, what it reads in part, and what it fails at; then the rest. Answers the results
/// of the peer, which is stopped in between, and those of datamill.
fn stop_halfway(partitions: i32, kill: bool) {
    let bench = Bench::new();
    let topic = bench.topic("files", partitions);
    let (theirs, ours) = (bench.topic("theirs", 1), bench.topic("ours", 1));
    let group = bench.name("group");
    let whole = ["whole.dat", "run/it's \"whole\".dat"].map(|path| pieces(path, &noise(1, 5000), 1000, partitions));
    let half = ["half.dat", "run/half;ü.dat"].map(|path| halves(&pieces(path, &noise(2, 7300), 1000, partitions)));
    let mut fails = ["fails.dat", "run/fails\n.dat"].map(|path| {
        let content = [b"fail".as_slice(), &noise(3, 3000)].concat();
        pieces(path, &content, 1000, partitions)
    });
    bench.send(&topic, &whole.concat());
    bench.send(&topic, &half.clone().map(|(first, _)| first).concat());
    bench.send(&topic, &fails.concat());
    // The peer does not commit the chunk that completes a file that fails, but the ones behind it.
    bench.send(&topic, &pieces("after.dat", &noise(5, 1000 * partitions as usize), 1000, partitions));

    let running = bench.peer_reproduces(&topic, &theirs, &group, "their_output", &[]);
    bench.wait_for_records(&theirs, 3, || running.said());
    wait_until(|| running.said(), || running.said().matches("failed to extract JSON metadata").count() == 2);
    let end = |partition| bench.log.offsets(&topic, partition).unwrap().end;
    let committed = || bench.log.group(&group, &[&topic]).unwrap();
    let is_behind = |partition| {
        committed().committed.get(&(topic.clone(), partition)).is_some_and(|at| at.offset >= end(partition))
    };
    wait_until(|| format!("{:?}", committed()), || (0..partitions).all(is_behind));
    // What it has sent leaves its table when the broker has said so.
    let table = bench.path(&format!("their_output/LOGS/consuming_from_{topic}_in_progress_by_{group}.csv"));
    let listed = || std::fs::read_to_string(&table).unwrap_or_default();
    wait_until(listed, || !["whole", "after"].iter().any(|sent| listed().contains(sent)));
    if kill {
        running.kill9();
    } else {
        running.quit();
    }
    assert_eq!(names(&bench.read(&theirs)), ["_after.dat", "_whole.dat", "run_it's \"whole\".dat"]);
    assert!(committed().committed.values().all(|at| at.text.is_empty()), "the peer commits plain positions");

    // What it had not is sent after that: the rest of the halves, and a file of its own.
    bench.send(&topic, &half.map(|(_, second)| second).concat());
    bench.send(&topic, &pieces("last.dat", &noise(4, 2500), 1000, partitions));
    let take_over = ["--take_over", "their_output", "--max_attempts", "1"];
    let ended = loop {
        let ended = bench.reproduces(&topic, &ours, &group, "our_output", &take_over);
        if ended.code() != 2 {
            break ended;
        }
        // The broker takes some time to notice that a killed member is gone.
        assert!(kill && ended.stderr().contains("cannot be taken over while it has members"), "{}", ended.stderr());
        std::thread::sleep(std::time::Duration::from_millis(500));
    };
    let said = ended.with_code(1);
    assert!(said.contains("names 4 files without a result. Left to do: 2 whole files, 2 files that have"), "{said}");
    assert_eq!(names(&bench.read(&ours)), ["_half.dat", "_last.dat", "run_half;ü.dat"]);
    let failures = bench.text(&format!("our_output/LOGS/failed_from_{topic}_by_{group}.csv"));
    let failures = std::fs::read_to_string(failures).unwrap();
    for file in fails.iter_mut() {
        let filename = if file[0].key.starts_with('_') { "fails.dat" } else { "fails\n.dat" };
        assert!(failures.contains(filename), "{failures}");
    }

    // The options may stay as they are.
    let said = bench.reproduces(&topic, &ours, &group, "our_output", &take_over).with_code(1);
    assert!(said.contains("there is nothing to take over"), "{said}");
    assert_eq!(bench.read(&ours).len(), 3, "{said}");
}

#[test]
fn a_peer_that_was_stopped_halfway_is_taken_over_on_one_partition() {
    stop_halfway(1, false);
}

#[test]
fn a_peer_that_was_killed_halfway_is_taken_over_on_four_partitions() {
    stop_halfway(4, true);
}

/// The positions of the peer are taken as they are, in the middle of files: their ends are named and are no failures.
#[test]
fn without_the_option_the_ends_of_files_that_the_peer_had_begun_are_a_note() {
    let bench = Bench::new();
    let topic = bench.topic("files", 2);
    let (theirs, ours) = (bench.topic("theirs", 1), bench.topic("ours", 1));
    let group = bench.name("group");
    let begun = pieces("begun.dat", &noise(1, 9000), 1000, 2);
    bench.send(&topic, &begun[..5]);
    bench.send(&topic, &pieces("whole.dat", &noise(2, 4000), 1000, 2));
    let running = bench.peer_reproduces(&topic, &theirs, &group, "their_output", &[]);
    bench.wait_for_records(&theirs, 1, || running.said());
    running.quit();
    let committed = bench.log.group(&group, &[&topic]).unwrap().committed;
    assert!(committed.len() == 2 && committed.values().all(|at| at.text.is_empty()), "{committed:?}");

    bench.send(&topic, &begun[5..]);
    bench.send(&topic, &pieces("after.dat", &noise(3, 4000), 1000, 2)[..3]);
    bench.reproduces(&topic, &ours, &group, "our_output", &[]).with_code(1);
    // Some time of the records later, both are given up.
    std::thread::sleep(std::time::Duration::from_secs(5));
    bench.send(&topic, &pieces("last.dat", &noise(4, 4000), 1000, 2));
    let said = bench.reproduces(&topic, &ours, &group, "our_output", &["--incomplete_after", "0.001"]).with_code(1);
    assert!(said.contains("left out, as they began before the group did: 1 file;"), "{said}");
    assert_eq!(names(&bench.read(&ours)), ["_last.dat"]);
    let failures = bench.path(&format!("our_output/LOGS/failed_from_{topic}_by_{group}.csv"));
    let failures = std::fs::read_to_string(failures).unwrap();
    let row = |path: &str| failures.lines().find(|row| row.contains(path)).unwrap_or_else(|| panic!("{failures}"));
    assert!(row("begun.dat").contains("begun_before_start") && row("after.dat").contains("incomplete"), "{failures}");
    let said = bench.reproduces(&topic, &ours, &group, "our_output", &[]).with_code(0);
    assert!(!said.contains("began before"), "{said}");
}

#[test]
fn a_folder_without_the_table_of_the_group_is_refused() {
    let bench = Bench::new();
    let (topic, results) = (bench.topic("files", 1), bench.topic("ours", 1));
    let group = bench.name("group");
    bench.send(&topic, &pieces("a.dat", b"x", 10, 1));
    let running = bench.peer_reproduces(&topic, &results, &group, "their_output", &[]);
    bench.wait_for_records(&results, 1, || running.said());
    running.quit();
    std::fs::create_dir(bench.path("in")).unwrap();
    let said = bench.reproduces(&topic, &results, &group, "our_output", &["--take_over", "in"]).with_code(2);
    assert!(said.contains("in_progress_by_") && said.contains("in `in`"), "{said}");
    let said = bench.reproduces(&topic, &results, &group, "our_output", &[]).with_code(0);
    assert!(said.contains("positions that another program committed"), "{said}");
}
