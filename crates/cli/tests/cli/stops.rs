//! How uploads, watches and programs end when they are stopped, and what they say before that.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Stdio;

use datamill_testkit::http::get;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Place, Running, wait_until};

/// A program whose words are in a file.
struct Program<'a> {
    running: Running,
    place: &'a Place,
}

impl<'a> Program<'a> {
    fn start(place: &'a Place, args: &[&str]) -> Self {
        let said = File::create(place.path("said.txt")).unwrap();
        let child = place.command(args).stdout(Stdio::null()).stderr(said).spawn().unwrap();
        Self { running: Running(child), place }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.place.path("said.txt")).unwrap()
    }

    fn wait_for(&self, words: &str) {
        wait_until(words, || self.said().contains(words));
    }

    /// Where it serves its status.
    fn address(&self) -> SocketAddr {
        self.wait_for("the status is served");
        let said = self.said();
        said.split_once("http://").unwrap().1.split_once('/').unwrap().0.parse().unwrap()
    }

    /// Stops it. Answers the exit code and what it said.
    fn stop(mut self, signal: Signal) -> (i32, String) {
        kill_process(Pid::from_child(&self.running.0), signal).unwrap();
        let code = self.running.0.wait().unwrap().code().unwrap();
        (code, self.said())
    }
}

#[test]
fn an_upload_that_is_stopped_ends_with_3_and_the_hint_that_it_gives_sends_the_rest() {
    const FILES: usize = 20_000;
    let place = Place::new();
    (0..FILES).for_each(|number| place.write(&format!("data/{number}.csv"), number.to_string().as_bytes()));
    for (topic, signal) in [("a", Signal::INT), ("b", Signal::TERM)] {
        let upload = ["upload", "data", "--topic_name", topic];
        let running = Program::start(&place, &upload);
        // signals are heeded, and it has only just begun
        running.wait_for("no broker configured");
        let (code, said) = running.stop(signal);
        assert_eq!(code, 3, "{said}");
        let hint = "stopped before everything was sent: the same command with `--only-missing` sends what is missing";
        assert!(said.contains(hint), "{said}");
        for sent in ["sent ", "sent 0 files"] {
            let rest = place.run(&[&upload[..], &["--only-missing"]].concat());
            assert_eq!(rest.code(), 0, "{}", rest.stderr());
            assert!(rest.stderr().contains(sent), "{}", rest.stderr());
        }
    }
}

#[test]
fn a_watch_names_its_topic_in_its_status_and_ends_with_0_when_it_is_stopped() {
    let place = Place::new();
    place.write("data/a.csv", b"a");
    let watch = ["watch", "data", "--topic_name", "files", "--status_listen", "0"];
    let running = Program::start(&place, &watch);
    let address = running.address();
    running.wait_for("watching");
    let status = || serde_json::from_str::<serde_json::Value>(&get(address, "/status.json").body).unwrap();
    wait_until("the topic", || status()["topic"] == "files");
    assert_eq!((&status()["kind"], &status()["group"]), (&"upload".into(), &serde_json::Value::Null));
    let (code, said) = running.stop(Signal::TERM);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn rows_that_the_tables_lack_at_a_stop_are_said_with_where_to_look() {
    let place = Place::new();
    let store = format!("file://{}", place.path("store").display());
    let upload = |name: &str| {
        place.write(&format!("in/{name}"), name.as_bytes());
        assert_eq!(place.run(&["upload", &format!("in/{name}"), "--topic_name", "files"]).code(), 0);
    };
    upload("first");
    let transfer = ["transfer", "--to", &store, "--topic_name", "files", "--output_dir", "own"];
    let running = Program::start(&place, &[&transfer[..], &["--consumer_group_id", "g"]].concat());
    let is_there = |name: &str| wait_until(name, || place.path("store/files").join(name).exists());
    is_there("first");
    let rows = || fs::read_to_string(place.path("own/LOGS/processed_from_files_by_g.csv")).unwrap_or_default();
    wait_until("the first row", || rows().contains("first;first;"));
    fs::rename(place.path("own"), place.path("away")).unwrap();
    upload("second");
    upload("third");
    is_there("second");
    is_there("third");
    let (code, said) = running.stop(Signal::INT);
    assert_eq!(code, 0, "{said}");
    let lacks = "/own/LOGS` lack 2 rows of files that are done and 0 rows of failures, since they could not be written. The \
        outcomes are committed: `datamill reconcile DIR --topic_name files --consumer_group_id g` shows what became";
    assert!(said.contains(lacks), "{said}");
    assert!(!place.path("own").exists());
    // with its folder, it says nothing of the kind
    fs::rename(place.path("away"), place.path("own")).unwrap();
    upload("fourth");
    let running = Program::start(&place, &[&transfer[..], &["--consumer_group_id", "g"]].concat());
    is_there("fourth");
    let (code, said) = running.stop(Signal::INT);
    assert!(code == 0 && !said.contains(" lack "), "{said}");
}
