//! The engine over both logs while its output folder is gone, as where a share is unmounted: its mount point is there.

use std::sync::atomic::Ordering::SeqCst;

use crate::common::{Bench, Place, StopAtEnd, Told, chunks, content, on_both_logs, registry, wait_for};
use crate::status::serve;
use datamill::assemble::Mode;
use datamill::engine::{Control, EngineSettings};
use datamill::facts::Hold;
use datamill_testkit::http::get;

on_both_logs! {
    with_files_on_disk_it_holds_what_needs_the_folder_and_misses_no_copy,
    with_files_in_memory_results_go_on_and_it_is_told,
}

const FILES: [&str; 3] = ["before", "d/in_hand", "d/meanwhile"];

/// Files that come before, while the function has them, and meanwhile.
fn a_folder_that_is_gone_for_a_while(place: &Place, mode: Mode) {
    let bench = Bench::new(place, 1);
    let send = |number: usize| bench.send(&chunks(0, FILES[number], &content(number as u64, 3000), 1000));
    let (server, facts) = serve(&bench, &bench.topic);
    let (control, code) = (Control::default(), Told::default());
    let settings = EngineSettings { mode, exit_at_end: false, ..bench.settings() };
    let (state, done) = (|| facts.counters().snapshot().state, || facts.counters().counts().done);
    let held = || state().held.map(|(hold, _)| hold);
    let (output, away) = (bench.output(), bench.folder.path().join("away"));
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&control);
        let told = code.clone();
        let run = scope.spawn(|| bench.run_counted(&settings, told, &control, &facts));
        send(0);
        wait_for("the first result", || done() == 1);
        code.holds.store(true, SeqCst);
        send(1);
        wait_for("the function to have the second file", || code.calls() == 2);
        std::fs::rename(&output, &away).unwrap();
        std::fs::create_dir(&output).unwrap();
        wait_for("that the folder is gone", || state().is_folder_gone);
        send(2);
        code.holds.store(false, SeqCst);
        if mode == Mode::Memory {
            wait_for("the other results", || done() == 3);
            assert_eq!(get(server.address(), "/readyz").status, 200);
        } else {
            wait_for("the hold", || held() == Some(Hold::OutputFolder));
            assert_eq!(done(), 1);
        }
        let gone = format!("the folder `{}` is another one than before: is its share not mounted?", output.display());
        let page = get(server.address(), "/").body;
        assert!(page.contains(&gone), "{page}");
        assert_eq!(page.contains("holding: the output folder cannot be written"), mode != Mode::Memory, "{page}");
        let metrics = get(server.address(), "/metrics").body;
        assert!(metrics.contains("\ndatamill_output_folder_gone 1\n"), "{metrics}");
        // the tables are written every few seconds
        std::thread::sleep(std::time::Duration::from_secs(6));
        assert_eq!(std::fs::read_dir(&output).unwrap().count(), 0, "something was made in its place");
        std::fs::remove_dir(&output).unwrap();
        std::fs::rename(&away, &output).unwrap();
        wait_for("all results", || done() == 3);
        wait_for("that the folder is back", || !state().is_folder_gone && held().is_none());
        assert!(!get(server.address(), "/").body.contains(&gone));
        drop(stop);
        let summary = run.join().unwrap().unwrap();
        assert_eq!((summary.succeeded, summary.failed), (3, 0), "{summary}");
    });
    assert_eq!(bench.read_results().len(), 3);
    let mut rows: Vec<_> = registry(&output, "results_produced_to").into_iter().map(|row| row[1].clone()).collect();
    rows.sort();
    assert_eq!(rows, FILES);
    for (number, path) in FILES.iter().enumerate() {
        let copy = std::fs::read(output.join(path)).ok();
        assert_eq!(copy, (mode != Mode::Memory).then(|| content(number as u64, 3000)), "{path}");
    }
}

fn with_files_on_disk_it_holds_what_needs_the_folder_and_misses_no_copy(place: &Place) {
    a_folder_that_is_gone_for_a_while(place, Mode::Disk);
    a_folder_that_is_gone_for_a_while(place, Mode::Both);
}

fn with_files_in_memory_results_go_on_and_it_is_told(place: &Place) {
    a_folder_that_is_gone_for_a_while(place, Mode::Memory);
}
