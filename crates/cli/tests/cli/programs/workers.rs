//! Workers that stay: what they get, how they end, and what that means for their files.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::bench::{Bench, runs};
use crate::common::{Running, bytes, wait_until};

/// What the workers of these tests begin with.
const BEGIN: &str = r#"
import json, os, signal, struct, subprocess, sys, time
source = open(int(os.environ["DATAMILL_INPUT"]), "rb")
target = open(int(os.environ["DATAMILL_OUTPUT"]), "wb", buffering=0)
def say(payload=b"", **header):
    text = json.dumps(header).encode()
    whole = struct.pack(">I", len(text)) + text + payload
    while whole:
        whole = whole[target.write(whole):]
def hello(**more):
    say(type="hello", version=1, **more)
def files():
    while length := source.read(4):
        file = json.loads(source.read(*struct.unpack(">I", length)))
        yield file, open(file["path"], "rb").read() if "path" in file else source.read(file["bytes"])
def result(file, payload, **more):
    say(payload, type="result", id=file["id"], bytes=len(payload), **more)
"#;

impl Bench {
    fn worker(&self, text: &str) {
        self.place.write("worker.py", format!("{BEGIN}{text}").as_bytes());
    }

    fn worked(&self, options: &[&str]) -> crate::common::Ended {
        self.reproduced(&[options, &["--worker"]].concat(), &["python3", "worker.py"])
    }

    fn works(&self, options: &[&str]) -> Running {
        let mut program = self.reproduce(&[options, &["--worker"]].concat(), &["python3", "worker.py"]);
        Running(program.spawn().unwrap())
    }

    /// The results as texts.
    fn texts(&self) -> BTreeMap<String, String> {
        self.results().into_iter().map(|(path, value)| (path, String::from_utf8(value).unwrap())).collect()
    }
}

#[test]
fn a_worker_gets_a_thousand_files_in_one_process() {
    for bench in Bench::both() {
        bench.worker("hello()\nfor file, content in files(): result(file, b'%d %s' % (os.getpid(), content))");
        let names: Vec<String> = (0..1000).map(|number| format!("{number}.dat")).collect();
        bench.upload(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let ended = bench.worked(&["--n_threads", "1"]);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        let results = bench.texts();
        assert_eq!(results.len(), 1000);
        let ids: BTreeSet<&str> = results.values().map(|text| text.split_once(' ').unwrap().0).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        assert!(results.iter().all(|(path, text)| text.ends_with(&format!(" {path}"))));
    }
}

/// Does to each file what its name says.
const JUDGED: &str = r#"
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
tries = {}
hello()
for file, content in files():
    name = file["filename"]
    match name:
        case "hangs": time.sleep(600)
        case "crashes": os.kill(os.getpid(), signal.SIGSEGV)
        case "eats":
            eaten = bytearray(b"x") * 300_000_000
            time.sleep(600)
        case "complains":
            for _ in range(1000): os.write(2, b"x" * 100_000)
            os.write(2, b"\nthe end\n")
        case "leaves":
            left = subprocess.Popen(["sleep", "600"], start_new_session=True)
            open("left", "w").write(str(left.pid))
        case "closes":
            kept = os.dup(2)
            for number in 0, 1, 2: os.close(number)
            result(file, b"done with " + content)
            # a later file has to say on stderr what is wrong
            os.dup2(kept, 2)
            continue
        case "shuts": target.close(); time.sleep(600)
        case "babbles": os.write(target.fileno(), b"hello world"); time.sleep(600)
        case "exits":
            print("no licence", file=sys.stderr, flush=True)
            os._exit(7)
        case "waits":
            with open("tries", "a") as tries: tries.write("x")
            if os.path.getsize("tries") < 3:
                say(type="not_available", id=file["id"], reason="the licence server is away")
                continue
        case "fails":
            say(type="failed", id=file["id"], reason="no header")
            continue
        case "claims":
            say(type="result", id=file["id"], text="x", headers=[["datamill.source.path", "another"]])
            continue
    result(file, b"done with " + content)
"#;

const FILES: [&str; 14] = [
    "hangs",
    "crashes",
    "eats",
    "complains",
    "leaves",
    "closes",
    "shuts",
    "babbles",
    "exits",
    "waits",
    "fails",
    "claims",
    "good 1",
    "good 2",
];

#[test]
fn each_file_has_the_outcome_that_its_worker_gives_it_and_nothing_is_left_running() {
    for bench in Bench::both() {
        bench.worker(JUDGED);
        bench.upload(&FILES);
        let options = ["--max_attempts", "1", "--processing_timeout", "20", "--worker_memory", "150M"];
        let ended = bench.worked(&options);
        let said = ended.stderr();
        assert_eq!(ended.code(), 1, "{said}");
        let done = ["closes", "complains", "good 1", "good 2", "leaves", "waits"];
        let wanted: BTreeMap<String, String> = done.map(|name| (name.to_owned(), format!("done with {name}"))).into();
        assert_eq!(bench.texts(), wanted, "{said}");
        let failures = bench.failures();
        for (name, reason) in [
            ("hangs", "the worker did not answer within 20 s, and was ended with all that it had started"),
            ("crashes", "the worker was ended by SIGSEGV"),
            ("eats", "more than --worker_memory (150.0 MiB)"),
            ("shuts", "the worker closed its descriptor for answers"),
            ("babbles", "a header of 1751477356 bytes"),
            ("exits", "the worker ended with exit code 7: no licence"),
            ("fails", "no header"),
            ("claims", "names that begin with `datamill.` are datamill's own"),
        ] {
            let found = failures.get(name).unwrap_or_else(|| panic!("`{name}` has not failed: {said}"));
            assert!(found.contains(reason), "{name}: {found}");
        }
        assert_eq!(failures.len(), 8, "{failures:?}");
        assert!(!runs(&std::fs::read_to_string(bench.place.path("left")).unwrap()), "what left the session is ended");
        assert!(said.contains("the licence server is away"), "{said}");
        assert!(said.contains("the end stream=stderr file=complains"), "{}", said.len());
        assert!(said.contains("100.0 MB left out") && said.len() < 1_000_000, "{}", said.len());
    }
}

#[test]
fn of_files_that_a_worker_has_together_the_one_that_it_dies_of_fails_alone() {
    let bench = Bench::embedded();
    bench.worker(
        "hello()\nfor file, content in files():\n    if content.startswith(b'bad'): os._exit(9)\n    result(file, content)",
    );
    let names: Vec<String> =
        (0..40).map(|number| format!("{} {number}", if number % 10 == 5 { "bad" } else { "good" })).collect();
    bench.upload(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let ended = bench.worked(&["--max_attempts", "1", "--n_threads", "1"]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr());
    let (results, failures) = (bench.texts(), bench.failures());
    assert!(results.iter().all(|(path, text)| path == text && path.starts_with("good")));
    assert!(failures.iter().all(|(path, reason)| path.starts_with("bad") && reason.contains("exit code 9")));
    assert_eq!((results.len(), failures.len()), (36, 4));
}

#[test]
fn files_that_take_long_do_not_wait_behind_another_one_while_a_worker_is_free() {
    let bench = Bench::embedded();
    // the first worker with a second file keeps it until the other one has done all others
    bench.worker(
        "hello()\nfor number, (file, content) in enumerate(files(), 1):\n    if number == 1: time.sleep(0.1)\n    \
             if number == 2:\n        try: os.mkdir('kept')\n        except OSError: pass\n        else:\n            \
             until = time.monotonic() + 60\n            \
             while os.path.getsize('done') < 7 and time.monotonic() < until: time.sleep(0.01)\n            \
             if os.path.getsize('done') < 7: say(type='stop', id=file['id'], reason='files wait here'); continue\n    \
             with open('done', 'a') as done: done.write('x')\n    result(file, content)",
    );
    bench.upload(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    let ended = bench.worked(&["--n_threads", "2"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert_eq!(bench.texts().len(), 8);
}

#[test]
fn a_worker_whose_time_is_over_is_replaced_for_each_attempt() {
    let bench = Bench::embedded();
    bench.worker("open('starts', 'a').write('x')\nhello()\nfor file, content in files(): time.sleep(600)");
    bench.upload(&["a", "b"]);
    let options = ["--max_attempts", "2", "--processing_timeout", "0.5", "--n_threads", "1"];
    let ended = bench.worked(&options);
    assert_eq!(ended.code(), 1, "{}", ended.stderr());
    assert_eq!(ended.stderr().matches("it runs again").count(), 2, "{}", ended.stderr());
    assert!(bench.failures().values().all(|reason| reason.contains("did not answer within 0.5 s")));
    // one more stands ready after the last attempt, if it comes to that before the end
    let starts = std::fs::read(bench.place.path("starts")).unwrap().len();
    assert!((4..=5).contains(&starts), "{starts}");
}

#[test]
fn a_worker_is_started_again_after_its_number_of_files_and_ends_in_order() {
    let bench = Bench::embedded();
    bench.worker(
        "hello()\nfor file, content in files(): result(file, b'%d' % os.getpid())\nopen('ended', 'a').write('x')",
    );
    bench.upload(&["a", "b", "c", "d", "e", "f"]);
    let ended = bench.worked(&["--worker_restart_after", "2", "--n_threads", "1"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    let mut files_of = BTreeMap::new();
    bench.texts().into_values().for_each(|id| *files_of.entry(id).or_insert(0) += 1);
    assert_eq!(files_of.into_values().collect::<Vec<_>>(), [2, 2, 2]);
    // the three that had files, and the one that was ready for the next
    assert_eq!(std::fs::read(bench.place.path("ended")).unwrap(), b"xxxx");
}

#[test]
fn a_worker_that_ends_between_two_files_costs_no_file_an_attempt() {
    // one that ends in order may have read ahead; of another one it counts what it has read
    for (source, end) in [("source", "sys.exit(0)"), ("os.fdopen(os.dup(source.fileno()), 'rb', 0)", "os._exit(3)")] {
        let bench = Bench::embedded();
        bench.worker(&format!(
            "source = {source}\nhello()\nfor number, (file, content) in enumerate(files(), 1):\n    \
             result(file, f'{{os.getpid()}} {{len(content)}}'.encode())\n    if number == 10: {end}"
        ));
        for number in 0..60 {
            // some are in the frame, others in memory that is shared
            let size = if number % 4 == 0 { 100_000 + number } else { 2_000 + number };
            bench.place.write(&format!("data/of {size}"), &vec![7; size]);
        }
        bench.upload(&[]);
        for (options, name) in [(&[][..], "many"), (&["--processing_timeout", "30"], "one")] {
            let group = ["--consumer_group_id", name, "--max_attempts", "1", "--n_threads", "1"];
            let ended = bench.worked(&[&group, options].concat());
            assert_eq!(ended.code(), 0, "{end}: {}", ended.stderr());
        }
        let mut files_of = BTreeMap::<String, usize>::new();
        for message in bench.place.messages(&bench.results) {
            let text = String::from_utf8(bytes(&message["value"])).unwrap();
            let (id, size) = text.split_once(' ').unwrap();
            let path = message["headers"].as_array().unwrap().iter().find(|h| h[0] == "datamill.source.path").unwrap();
            assert_eq!(path[1], format!("of {size}"));
            *files_of.entry(id.to_owned()).or_default() += 1;
        }
        assert_eq!(files_of.into_values().collect::<Vec<_>>(), [10; 12]);
    }
}

#[test]
fn a_worker_that_ends_without_an_answer_costs_its_file_an_attempt_however_it_ends() {
    let bench = Bench::embedded();
    bench.worker("open('starts', 'a').write('x')\nhello()");
    bench.upload(&["a", "b"]);
    let ended = bench.worked(&["--max_attempts", "2", "--n_threads", "1"]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr());
    let failures = bench.failures();
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(failures.values().all(|reason| reason.contains("the worker ended with exit code 0")), "{failures:?}");
}

#[test]
fn content_of_each_size_and_mode_comes_whole_and_by_a_path_with_its_name_where_that_is_asked_for() {
    let sizes = [0, 1, 65_536, 65_537, 1 << 20, (64 << 20) + 1];
    for (mode, wanted) in [("memory", "any"), ("memory", "path"), ("disk", "any"), ("both", "any")] {
        let bench = Bench::embedded();
        bench.worker(&format!(
            "import hashlib\nhello(content='{wanted}')\nfor file, content in files():\n    \
             if '{wanted}' == 'path' and os.path.basename(file['path']) != file['filename']: os._exit(1)\n    \
             if len(content) != file['size'] or hashlib.sha512(content).hexdigest() != file['sha512']: os._exit(2)\n    \
             result(file, str(len(content)).encode())"
        ));
        // the largest once: it takes its time
        let sizes = if (mode, wanted) == ("memory", "any") { &sizes[..] } else { &sizes[..5] };
        for size in sizes {
            let content: Vec<u8> = (0..*size).map(|number: usize| (number >> 3) as u8).collect();
            bench.place.write(&format!("data/of {size}"), &content);
        }
        bench.upload(&[]);
        let ended = bench.worked(&["--mode", mode]);
        assert_eq!(ended.code(), 0, "{mode} {wanted}: {}", ended.stderr());
        assert!(bench.texts().iter().all(|(path, text)| *path == format!("of {text}")));
        assert_eq!(bench.results().len(), sizes.len());
    }
}

#[test]
fn a_worker_is_told_of_its_files_and_results_have_keys_and_headers() {
    let bench = Bench::embedded();
    bench.worker(
        "hello()\nfor file, content in files():\n    result(file, json.dumps(file).encode(), key='mine', headers=[['raw', {'base64': '/w=='}]], \
         warning='an odd file')",
    );
    bench.upload(&["sub/ä b.csv"]);
    let ended = bench.worked(&[]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert!(ended.stderr().contains("an odd file"), "{}", ended.stderr());
    let message = &bench.place.messages(&bench.results)[0];
    assert_eq!(message["key"], "mine");
    let headers = message["headers"].as_array().unwrap();
    assert!(headers.contains(&serde_json::json!(["raw", { "base64": "/w==" }])), "{headers:?}");
    let file: serde_json::Value = serde_json::from_slice(&bench.results()["sub/ä b.csv"]).unwrap();
    let sha512 = datamill::wire::hex(&datamill::wire::sha512("sub/ä b.csv".as_bytes()));
    for (name, value) in [
        ("relative_path", serde_json::json!("sub/ä b.csv")),
        ("filename", "ä b.csv".into()),
        ("subdirectory", "sub".into()),
        ("sha512", sha512.into()),
        ("size", 12.into()),
        ("bytes", 12.into()),
        ("chunks", 1.into()),
        ("topic", (&*bench.files).into()),
        ("offset", 0.into()),
        ("attempt", 1.into()),
        ("is_last_attempt", false.into()),
    ] {
        assert_eq!(file[name], value, "{name}");
    }
    assert!(file["modified"].as_f64().unwrap() > 1e9);
}

#[test]
fn a_processor_answers_with_nothing_and_a_result_is_its_failure() {
    let bench = Bench::embedded();
    bench.worker(
        "hello()\nfor file, content in files():\n    if content == b'b': result(file, content)\n    \
         else: open('seen', 'w').write(os.environ['DATAMILL_COMMAND']); say(type='nothing', id=file['id'])",
    );
    bench.upload(&["a", "b"]);
    let ended = bench.processed(&["--worker", "--max_attempts", "1"], &["python3", "worker.py"]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr());
    assert_eq!(bench.failures().into_keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(std::fs::read(bench.place.path("seen")).unwrap(), b"process");
}

#[test]
fn a_worker_has_its_own_descriptors_alone_whatever_datamill_was_started_with() {
    let bench = Bench::embedded();
    bench.worker(
        "open_now = sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1]\nhello()\n\
         for file, content in files(): result(file, json.dumps(open_now).encode())",
    );
    bench.upload(&["a"]);
    let program = bench.reproduce(&["--exit-at-end", "--worker"], &["python3", "worker.py"]);
    let mut outer = Command::new("sh");
    outer.args(["-c", "exec 7< . 8> kept; exec \"$@\"", "sh"]).arg(program.get_program()).args(program.get_args());
    outer.current_dir(bench.place.path("")).stdin(Stdio::null());
    let ended = bench.ended(outer);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert_eq!(bench.texts()["a"], "[0, 1, 2, 3, 4, 5]");
}

#[test]
fn a_worker_that_cannot_begin_stops_the_program_with_its_reason() {
    let bench = Bench::embedded();
    bench.upload(&["a"]);
    for (text, said) in [
        ("print('no module of this name', file=sys.stderr); sys.exit(1)", "exit code 1: no module of this name"),
        ("say(type='hello', version=2)\ntime.sleep(600)", "the worker speaks version 2 of the protocol"),
        ("say(type='nothing', id=1)\ntime.sleep(600)", "it has answered where it had no file"),
        ("os.write(target.fileno(), b'hello world')\ntime.sleep(600)", "a header of 1751477356 bytes"),
    ] {
        bench.worker(text);
        let ended = bench.worked(&[]);
        assert!(ended.code() != 0 && ended.stderr().contains(said), "{} {}", ended.code(), ended.stderr());
    }
    for (command, said) in [
        (&["no-such-program"][..], "there is no program `no-such-program` in a folder of PATH"),
        (&["cat", "{path}"], "`{path}` means nothing with --worker"),
    ] {
        let ended = bench.reproduced(&["--worker"], command);
        assert!(ended.code() == 2 && ended.stderr().contains(said), "{} {}", ended.code(), ended.stderr());
    }
    assert!(bench.results().is_empty());
}

#[test]
fn a_worker_that_cannot_begin_again_stops_the_program_and_the_file_is_left_to_the_next_start() {
    let bench = Bench::embedded();
    let text = "if os.path.exists('broken'): print('disk gone', file=sys.stderr); sys.exit(4)\nhello()\n\
                for file, content in files(): open('broken', 'w').close(); os._exit(5)";
    bench.worker(text);
    bench.upload(&["a"]);
    let ended = bench.worked(&["--n_threads", "1"]);
    assert_eq!(ended.code(), 3, "{}", ended.stderr());
    assert!(ended.stderr().contains("before the worker had said hello"), "{}", ended.stderr());
    assert!(ended.stderr().contains("exit code 4: disk gone"), "{}", ended.stderr());
    bench.worker("hello()\nfor file, content in files(): result(file, content)");
    assert_eq!(bench.worked(&[]).code(), 0);
    assert_eq!(bench.results().len(), 1);
}

#[test]
fn an_answer_that_asks_for_a_stop_stops_the_program() {
    let bench = Bench::embedded();
    bench.worker("hello()\nfor file, content in files(): say(type='stop', id=file['id'], reason='no licence')");
    bench.upload(&["a"]);
    let ended = bench.worked(&[]);
    assert!(ended.code() == 3 && ended.stderr().contains("no licence"), "{} {}", ended.code(), ended.stderr());
}

/// Works on one file for ever, unless it may go on.
const ONCE: &str = "hello()\nfor file, content in files():\n    if not os.path.exists('go'):\n        \
                    subprocess.Popen(['sleep', '600'], start_new_session=True)\n        open('begun', 'w').close()\n        \
                    time.sleep(600)\n    result(file, b'%d' % file['attempt'])";

#[test]
fn a_stop_waits_for_the_worker_and_then_ends_it_with_all_below() {
    for bench in Bench::both() {
        bench.worker(ONCE);
        bench.upload(&["a", "b"]);
        let program = bench.works(&["--shutdown_timeout", "1", "--n_threads", "1"]);
        wait_until("the worker has a file", || bench.place.path("begun").exists());
        assert_eq!(program.end(), 0);
        bench.wait_until_nothing_is_left();
        bench.place.write("go", b"");
        let ended = bench.worked(&[]);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        assert_eq!(bench.texts(), ["a", "b"].map(|name| (name.to_owned(), "1".to_owned())).into());
        assert!(bench.failures().is_empty());
    }
}

#[test]
fn a_worker_that_has_nothing_to_do_ends_in_order_at_a_stop() {
    let bench = Bench::embedded();
    bench.worker(
        "hello()\nfor file, content in files(): result(file, content); open('begun', 'w').close()\n\
         print('closing the instrument', flush=True)\nopen('ended', 'a').write('x')",
    );
    bench.upload(&["a"]);
    let program = bench.works(&[]);
    wait_until("the worker had a file", || bench.place.path("begun").exists());
    assert_eq!(program.end(), 0);
    assert_eq!(std::fs::read(bench.place.path("ended")).unwrap(), b"xx", "both workers");
}

#[test]
fn nothing_is_left_of_a_worker_when_datamill_is_killed() {
    for bench in Bench::both() {
        bench.worker(ONCE);
        bench.upload(&["a"]);
        let mut program = bench.works(&[]);
        wait_until("the worker has a file", || bench.place.path("begun").exists());
        assert!(bench.processes().len() >= 6, "the program, its keepers, the workers and what one has started");
        program.0.kill().unwrap();
        program.0.wait().unwrap();
        bench.wait_until_nothing_is_left();
        bench.place.write("go", b"");
        assert_eq!(bench.worked(&[]).code(), 0);
        assert_eq!(bench.results().len(), 1);
    }
}

#[test]
fn a_keeper_that_is_killed_costs_the_file_an_attempt_and_nothing_is_left_of_its_worker() {
    for bench in Bench::both() {
        bench.worker(
            "hello()\nfor file, content in files():\n    if file['attempt'] == 1:\n        \
             subprocess.Popen(['sleep', '600'], start_new_session=True)\n        os.kill(os.getppid(), 9)\n        \
             time.sleep(600)\n    result(file, b'%d' % file['attempt'])",
        );
        bench.upload(&["a", "b"]);
        let ended = bench.worked(&[]);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        assert!(ended.stderr().contains("was ended from outside (SIGKILL"), "{}", ended.stderr());
        assert!(bench.texts().len() == 2);
    }
}

#[test]
fn a_worker_that_is_killed_while_it_has_nothing_to_do_costs_no_file_an_attempt() {
    let bench = Bench::embedded();
    bench.worker(
        "open('ids', 'a').write(f'{os.getpid()} ')\nhello()\n\
         for file, content in files(): result(file, b'%d' % file['attempt'])",
    );
    bench.upload(&["a"]);
    let program = bench.works(&["--n_threads", "1"]);
    wait_until("the worker had a file", || bench.results().len() == 1);
    let id = std::fs::read_to_string(bench.place.path("ids")).unwrap();
    let mut kill = Command::new("kill");
    kill.args(["-9", id.trim()]).process_group(0);
    assert!(kill.status().unwrap().success());
    wait_until("the worker has ended", || !runs(id.trim()));
    std::fs::remove_file(bench.place.path("data/a")).unwrap();
    bench.upload(&["b"]);
    wait_until("the next worker had a file", || bench.results().len() == 2);
    assert_eq!(program.end(), 0);
    assert_eq!(bench.texts()["b"], "1");
}
