//! A folder with a topic of files, on which commands run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use datamill_testkit::kafka::Kafka;

use crate::common::{Ended, Place, bytes, wait_until};

/// What all that a program has started has in its environment.
const MARK: &str = "DATAMILL_TEST_OF_PROGRAMS";

pub struct Bench {
    pub place: Place,
    pub files: String,
    pub results: String,
    mark: String,
}

impl Bench {
    pub fn embedded() -> Self {
        Self::on("sqlite:lab.db")
    }

    pub fn both() -> [Self; 2] {
        [Self::embedded(), Self::on(Kafka::from_env().address())]
    }

    fn on(servers: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let place = Place::new();
        // a short session, since what a killed program held goes to the next one when its session is over
        let consumer = "auto.offset.reset = earliest\nsession.timeout.ms = 6000\nheartbeat.interval.ms = 500\n";
        let consumer = if servers.starts_with("sqlite:") { "auto.offset.reset = earliest\n" } else { consumer };
        let config = format!("[broker]\nbootstrap.servers = {servers}\n\n[consumer]\n{consumer}");
        place.write("test.config", config.as_bytes());
        let now = datamill::report::clock::now_ms();
        let mark = format!("{now}-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let bench =
            Self { files: format!("programs-{mark}"), results: format!("programs-results-{mark}"), place, mark };
        for topic in [&bench.files, &bench.results] {
            let ended = bench.place.run(&["topic", "create", topic, "--partitions", "2", "--config", "test.config"]);
            assert_eq!(ended.code(), 0, "{}", ended.stderr());
        }
        bench
    }

    /// Sends files of these names, with their names as content.
    pub fn upload(&self, names: &[&str]) {
        for name in names {
            self.place.write(&format!("data/{name}"), name.as_bytes());
        }
        let ended = self.place.run(&["upload", "data", "--topic_name", &self.files, "--config", "test.config"]);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
    }

    /// An executable script of the shell.
    pub fn script(&self, name: &str, text: &str) {
        self.place.write(name, format!("#!/bin/sh\n{text}\n").as_bytes());
        fs::set_permissions(self.place.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn reproduce(&self, options: &[&str], command: &[&str]) -> Command {
        let topics = ["reproduce", "--consumer_topic_name", &self.files, "--producer_topic_name", &self.results];
        self.program(&topics, options, command)
    }

    pub fn process(&self, options: &[&str], command: &[&str]) -> Command {
        self.program(&["process", "--topic_name", &self.files], options, command)
    }

    fn program(&self, topics: &[&str], options: &[&str], command: &[&str]) -> Command {
        let common = ["--config", "test.config", "--consumer_group_id", &self.mark, "--output_dir", "output"];
        let mut program = self.place.command(&[topics, &common, options, &["--"], command].concat());
        program.env(MARK, &self.mark);
        program
    }

    /// Runs it to the end of the topic. Nothing is left of it then.
    pub fn reproduced(&self, options: &[&str], command: &[&str]) -> Ended {
        self.ended(self.reproduce(&[options, &["--exit-at-end"]].concat(), command))
    }

    pub fn processed(&self, options: &[&str], command: &[&str]) -> Ended {
        self.ended(self.process(&[options, &["--exit-at-end"]].concat(), command))
    }

    pub fn ended(&self, mut program: Command) -> Ended {
        let ended = Ended::from(program.output().unwrap());
        self.wait_until_nothing_is_left();
        ended
    }

    pub fn wait_until_nothing_is_left(&self) {
        wait_until("all that was started has ended", || self.processes().is_empty());
    }

    /// What runs of all that the programs have started, the programs included.
    pub fn processes(&self) -> Vec<i32> {
        let variable = format!("{MARK}={}", self.mark).into_bytes();
        let has_it = |id: &i32| {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|known| known == variable)
        };
        let entries = fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(has_it).collect()
    }

    /// The results by the files' names; each has one.
    pub fn results(&self) -> BTreeMap<String, Vec<u8>> {
        let mut results = BTreeMap::new();
        for message in self.place.messages(&self.results) {
            let headers = message["headers"].as_array().unwrap();
            let path = headers.iter().find(|header| header[0] == "datamill.source.path").map(|header| text(&header[1]));
            let path = path.unwrap();
            assert!(results.insert(path.clone(), bytes(&message["value"])).is_none(), "`{path}` has two results");
        }
        results
    }

    /// The failures by the files' names, with their reasons.
    pub fn failures(&self) -> BTreeMap<String, String> {
        let group = ["retry", "--topic_name", &self.files, "--consumer_group_id", &self.mark];
        let ended = self.place.run(&[&group[..], &["--config", "test.config", "--list", "--json"]].concat());
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        let files = ended.stdout();
        let files = files.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        files.map(|file| (text(&file["path"]), text(&file["reason"]))).collect()
    }
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// Whether a process is there that was not waited for.
pub fn runs(id: &str) -> bool {
    Path::new("/proc").join(id.trim()).exists()
}
