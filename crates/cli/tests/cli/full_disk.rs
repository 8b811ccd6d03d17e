//! `datamill watch` where the watched folder has no room for the record. The folder is a file system of 512 KiB, in a
//! mount namespace of its own, for which the tests need to be root.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use datamill_testkit::kafka::Kafka;

use crate::common::{Ended, Place, Running, record, wait_until};

struct Small {
    place: Place,
    /// Keeps the file system mounted.
    holder: Running,
    topic: String,
}

impl Small {
    fn new(kafka: bool) -> Self {
        let place = Place::new();
        let servers = match kafka {
            true => Kafka::from_env().address().to_owned(),
            false => format!("sqlite:{}", place.path("log.db").display()),
        };
        place.write("test.config", format!("[broker]\nbootstrap.servers = {servers}\n").as_bytes());
        fs::create_dir(place.path("in")).unwrap();
        let holder = Command::new("unshare")
            .args(["-m", "sh", "-c", "mount -t tmpfs -o size=512k small in && echo mounted && exec cat"])
            .current_dir(place.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut holder = Running(holder.unwrap());
        let mut said = String::new();
        BufReader::new(holder.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "mounted\n", "the tests need to be root, to mount a small file system");
        let unique = (datamill::report::clock::now_ms(), std::thread::current().id());
        let topic = format!("small-{unique:?}").replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "");
        let small = Self { place, holder, topic };
        let made = small.place.run(&["topic", "create", &small.topic, "--config", "test.config"]);
        assert_eq!(made.code(), 0, "{}", made.stderr());
        small
    }

    /// The watched folder, seen from outside of the namespace.
    fn watched(&self) -> PathBuf {
        let path = self.place.path("in");
        PathBuf::from(format!("/proc/{}/root", self.holder.0.id())).join(path.strip_prefix("/").unwrap())
    }

    fn command(&self, more: &[&str]) -> Command {
        let watch = self.place.command(&["watch", "in", "--topic_name", &self.topic, "--upload_existing"]);
        let mut command = Command::new("nsenter");
        command.args(["-m", "-t", &self.holder.0.id().to_string(), "--wd=."]).current_dir(self.place.path(""));
        command.arg("--").arg(watch.get_program()).args(watch.get_args());
        command.args(["--watchdog_lag_time", "1", "--config", "test.config"]).args(more);
        command.stdin(Stdio::null());
        command
    }

    /// Starts a watch, whose messages go to a file outside of the small file system.
    fn start(&self) -> Running {
        let messages = File::create(self.place.path("messages.txt")).unwrap();
        Running(self.command(&[]).stdout(Stdio::null()).stderr(messages).spawn().unwrap())
    }

    fn said(&self, text: &str) -> usize {
        fs::read_to_string(self.place.path("messages.txt")).unwrap().matches(text).count()
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = File::create(self.watched().join(".fill")).unwrap();
        let full = loop {
            if let Err(error) = file.write_all(&[0; 64]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }

    fn make_room(&self) {
        fs::remove_file(self.watched().join(".fill")).unwrap();
    }

    fn recorded(&self) -> usize {
        record(&self.watched()).lines().filter(|line| line.contains("sha512")).count()
    }

    /// Ends the watch, and looks whether each file is in the topic once, also after another watch.
    fn end(&self, watch: Running, files: usize) {
        assert_eq!(watch.end(), 0, "{}", fs::read_to_string(self.place.path("messages.txt")).unwrap());
        let again = Ended::from(self.command(&["--exit-at-end"]).output().unwrap());
        assert_eq!(again.code(), 0, "{}", again.stderr());
        assert!(again.stderr().contains("sent 0 files"), "{}", again.stderr());
        let whole = self.place.whole_files(&self.topic);
        assert_eq!(whole.len(), files);
        assert!(whole.values().all(|times| *times == 1), "{whole:?}");
        let table = fs::read_to_string(self.watched().join(format!("LOGS/uploaded_to_{}.csv", self.topic))).unwrap();
        assert_eq!(table.lines().count(), 1 + files);
    }
}

fn a_full_disk_holds_a_watch_until_there_is_room(kafka: bool) {
    let small = Small::new(kafka);
    let watch = small.start();
    wait_until("the first start", || record(&small.watched()).contains("started"));
    // More than there are lines of the record in what is left of its last block.
    for number in 0..60 {
        fs::write(small.watched().join(format!("{number}.csv")), number.to_string()).unwrap();
    }
    small.fill();
    let held = "no further file is sent until the record can be written";
    wait_until("the full disk", || small.said(held) > 0);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(small.recorded() < 60);
    small.make_room();
    wait_until("the whole record", || small.recorded() == 60);
    assert_eq!((small.said(held), small.said("is written again: going on")), (1, 1));
    small.end(watch, 60);
}

fn a_watch_that_is_started_on_a_full_disk_waits_for_room(kafka: bool) {
    let small = Small::new(kafka);
    fs::write(small.watched().join("a.csv"), "a").unwrap();
    small.fill();
    let watch = small.start();
    wait_until("the full disk", || small.said("waiting until there is room") > 0);
    small.make_room();
    wait_until("the file", || small.recorded() == 1);
    assert_eq!(small.said("waiting until there is room"), 1);
    small.end(watch, 1);
}

#[test]
fn a_full_disk_holds_a_watch_until_there_is_room_on_the_embedded_log() {
    a_full_disk_holds_a_watch_until_there_is_room(false);
}

#[test]
fn a_full_disk_holds_a_watch_until_there_is_room_on_kafka() {
    a_full_disk_holds_a_watch_until_there_is_room(true);
}

#[test]
fn a_watch_that_is_started_on_a_full_disk_waits_for_room_on_the_embedded_log() {
    a_watch_that_is_started_on_a_full_disk_waits_for_room(false);
}

#[test]
fn a_watch_that_is_started_on_a_full_disk_waits_for_room_on_kafka() {
    a_watch_that_is_started_on_a_full_disk_waits_for_room(true);
}
