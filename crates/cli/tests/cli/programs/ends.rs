//! How commands end, and what that means for their files.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::bench::{Bench, runs};
use crate::common::{Running, wait_until};

/// Does to each file what its name says. What it starts in a session of its own leaves its id.
const JUDGED: &str = r#"
case "$DATAMILL_FILENAME" in
hangs) sleep 600 ;;
crashes) kill -SEGV $$ ;;
eats) (head -c 300M /dev/zero; sleep 600) | tail -c 300M > /dev/null ;;
complains) head -c 100000000 /dev/zero >&2; echo the end >&2 ;;
leaves) setsid sleep 600 & echo $! > "left"; while [ ! -s left ]; do sleep 0.05; done ;;
closes) exec 0<&- 1>&- 2>&- ;;
waits) echo x >> tries; if [ "$(wc -l < tries)" -lt 3 ]; then echo the licence server is away >&2; exit 75; fi ;;
fails) echo line 1 >&2; echo no header >&2; exit 3 ;;
esac
echo "done with $DATAMILL_FILENAME" > "$DATAMILL_RESULT"
"#;

const FILES: [&str; 10] =
    ["hangs", "crashes", "eats", "complains", "leaves", "closes", "waits", "fails", "good 1", "good 2"];

#[test]
fn each_file_has_the_outcome_that_its_command_gives_it_and_nothing_is_left_running() {
    for bench in Bench::both() {
        bench.script("judged.sh", JUDGED);
        bench.upload(&FILES);
        let options = ["--max_attempts", "1", "--processing_timeout", "20", "--worker_memory", "100M"];
        let ended = bench.reproduced(&options, &["./judged.sh"]);
        let said = ended.stderr();
        assert_eq!(ended.code(), 1, "{said}");
        let done = ["closes", "complains", "good 1", "good 2", "leaves", "waits"];
        let wanted: BTreeMap<String, Vec<u8>> =
            done.map(|name| (name.to_owned(), format!("done with {name}\n").into_bytes())).into();
        assert_eq!(bench.results(), wanted, "{said}");
        let failures = bench.failures();
        for (name, reason) in [
            ("hangs", "the command did not end within 20 s, and was ended with all that it had started"),
            ("crashes", "the command was ended by SIGSEGV"),
            ("eats", "more than --worker_memory (100.0 MiB)"),
            ("fails", "the command ended with exit code 3: line 1 | no header"),
        ] {
            let found = failures.get(name).unwrap_or_else(|| panic!("`{name}` has not failed: {said}"));
            assert!(found.contains(reason), "{name}: {found}");
        }
        assert_eq!(failures.len(), 4, "{failures:?}");
        assert!(
            !runs(&std::fs::read_to_string(bench.place.path("left")).unwrap()),
            "what left the session is ended, too"
        );
        assert!(said.contains("a process that it had started still ran"), "{said}");
        assert!(said.contains("not available") && said.contains("the licence server is away"), "{said}");
        // of what it prints, the log has the beginning, the end and a count
        assert!(said.contains("the end stream=stderr file=complains"), "{}", said.len());
        assert!(said.contains("100.0 MB left out") && said.len() < 1_000_000, "{}", said.len());
    }
}

#[test]
fn a_command_whose_time_is_over_runs_again_up_to_the_attempts_that_it_has() {
    let bench = Bench::embedded();
    bench.script("hangs.sh", "sleep 600");
    bench.upload(&["a", "b", "c"]);
    let options = ["--max_attempts", "2", "--processing_timeout", "0.5", "--n_threads", "1"];
    let ended = bench.processed(&options, &["./hangs.sh"]);
    // six runs that were ended, and none that was given up
    let said = ended.stderr();
    assert_eq!(ended.code(), 1, "{said}");
    assert_eq!(said.matches("it runs again").count(), 3, "{said}");
    for reason in bench.failures().values() {
        assert!(reason.contains("did not end within 0.5 s"), "{reason}");
    }
}

#[test]
fn exit_code_78_stops_the_program_and_the_file_is_left_to_the_next_start() {
    let bench = Bench::embedded();
    bench.script("stops.sh", "[ -e mended ] || { echo no licence >&2; exit 78; }; echo done > $DATAMILL_RESULT");
    bench.upload(&["a"]);
    let ended = bench.reproduced(&[], &["./stops.sh"]);
    assert_eq!(ended.code(), 3);
    assert!(ended.stderr().contains("(exit code 78): no licence"), "{}", ended.stderr());
    bench.place.write("mended", b"");
    assert_eq!(bench.reproduced(&[], &["./stops.sh"]).code(), 0);
    assert_eq!(bench.results().len(), 1);
}

#[test]
fn a_stop_waits_for_the_command_and_then_ends_it_with_all_below() {
    for bench in Bench::both() {
        bench.script("once.sh", "[ -e go ] || { setsid sleep 600 & touch begun; sleep 600; }; echo $DATAMILL_ATTEMPT");
        bench.upload(&["a"]);
        let program = bench.reproduce(&["--stdout", "--shutdown_timeout", "1"], &["./once.sh"]).spawn().unwrap();
        let program = Running(program);
        wait_until("the command has begun", || bench.place.path("begun").exists());
        assert_eq!(program.end(), 0);
        bench.wait_until_nothing_is_left();
        bench.place.write("go", b"");
        let ended = bench.reproduced(&["--stdout"], &["./once.sh"]);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        assert_eq!(bench.results(), BTreeMap::from([("a".to_owned(), b"1\n".to_vec())]));
        assert!(bench.failures().is_empty());
    }
}

#[test]
fn a_command_that_is_done_in_time_has_its_outcome_at_a_stop() {
    let bench = Bench::embedded();
    bench.script("slow.sh", "touch begun; while [ ! -e go ]; do sleep 0.05; done; echo done");
    bench.upload(&["a"]);
    let program = Running(bench.reproduce(&["--stdout", "--shutdown_timeout", "600"], &["./slow.sh"]).spawn().unwrap());
    wait_until("the command has begun", || bench.place.path("begun").exists());
    let go = bench.place.path("go");
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        std::fs::write(go, "").unwrap();
    });
    assert_eq!(program.end(), 0);
    later.join().unwrap();
    assert_eq!(bench.results().len(), 1);
}

#[test]
fn nothing_is_left_of_a_command_when_datamill_is_killed() {
    for bench in Bench::both() {
        bench.script("once.sh", "[ -e go ] || { setsid sleep 600 & touch begun; sleep 600; }; echo done");
        bench.upload(&["a"]);
        let mut program = bench.reproduce(&["--stdout"], &["./once.sh"]).spawn().unwrap();
        wait_until("the command has begun", || bench.place.path("begun").exists());
        assert!(bench.processes().len() >= 5, "the program, its keepers, the command and what that has started");
        program.kill().unwrap();
        program.wait().unwrap();
        bench.wait_until_nothing_is_left();
        bench.place.write("go", b"");
        assert_eq!(bench.reproduced(&["--stdout"], &["./once.sh"]).code(), 0);
        assert_eq!(bench.results().len(), 1);
    }
}

#[test]
fn what_is_left_where_datamill_and_its_keepers_are_killed_at_once_is_ended_by_the_next_start() {
    let bench = Bench::embedded();
    bench.script("once.sh", "[ -e go ] || { setsid sleep 600 & touch begun; sleep 600; }; echo done");
    bench.upload(&["a"]);
    let mut program = bench.reproduce(&["--stdout"], &["./once.sh"]).spawn().unwrap();
    wait_until("the command has begun", || bench.place.path("begun").exists());
    let is_ours = |id: &i32| std::fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe.ends_with("datamill"));
    let ours: Vec<Pid> = bench.processes().into_iter().filter(is_ours).filter_map(Pid::from_raw).collect();
    assert!(ours.len() >= 3, "the program and its keepers");
    // none has time to see that another one is gone
    for signal in [Signal::STOP, Signal::KILL] {
        ours.iter().for_each(|process| kill_process(*process, signal).unwrap());
    }
    program.wait().unwrap();
    bench.place.write("go", b"");
    // nothing is left once it has ended
    assert_eq!(bench.reproduced(&["--stdout"], &["./once.sh"]).code(), 0);
    assert_eq!(bench.results().len(), 1);
}

#[test]
fn a_keeper_that_is_killed_costs_its_file_an_attempt_and_nothing_is_left_of_its_command() {
    for bench in Bench::both() {
        let text =
            "[ $DATAMILL_ATTEMPT = 1 ] && { setsid sleep 600 & kill -9 $PPID; sleep 600; }; echo $DATAMILL_ATTEMPT";
        bench.script("kills.sh", text);
        bench.upload(&["a", "b"]);
        let ended = bench.reproduced(&["--stdout"], &["./kills.sh"]);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        assert!(ended.stderr().contains("was ended from outside (SIGKILL"), "{}", ended.stderr());
        let results = bench.results();
        assert!(results.len() == 2 && results.values().all(|attempt| attempt == b"2\n"), "{results:?}");
    }
}

#[test]
fn a_keeper_that_is_stopped_is_ended_with_its_command_when_its_time_is_over() {
    let bench = Bench::embedded();
    bench.script("stops.sh", "kill -STOP $PPID; sleep 600");
    bench.upload(&["a"]);
    let ended = bench.processed(&["--max_attempts", "1", "--processing_timeout", "10"], &["./stops.sh"]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr());
    assert!(bench.failures()["a"].contains("was ended from outside (SIGKILL"), "{:?}", bench.failures());
}
