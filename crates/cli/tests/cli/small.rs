//! A small file system for a watched folder, mounted in a namespace of its own. For that the tests need to be root.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use datamill_testkit::kafka::Kafka;

use crate::common::{Ended, Place, Running, record};

/// A folder `in` that is a file system of 512 KiB and 200 files, in a mount namespace of its own.
pub struct Small {
    pub place: Place,
    /// Keeps the file system mounted.
    holder: Running,
    pub topic: String,
}

impl Small {
    pub fn new(kafka: bool) -> Self {
        let place = Place::new();
        let servers = match kafka {
            true => Kafka::from_env().address().to_owned(),
            false => format!("sqlite:{}", place.path("log.db").display()),
        };
        place.write("test.config", format!("[broker]\nbootstrap.servers = {servers}\n").as_bytes());
        fs::create_dir(place.path("in")).unwrap();
        let holder = Command::new("unshare")
            .args(["-m", "sh", "-c", "mount -t tmpfs -o size=512k,nr_inodes=200 small in && echo mounted && exec cat"])
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

    /// From now on the log is in the small file system, where there is none yet.
    pub fn take_the_log_in(&self) {
        let servers = self.place.path("in/log.db");
        self.place
            .write("test.config", format!("[broker]\nbootstrap.servers = sqlite:{}\n", servers.display()).as_bytes());
    }

    /// The watched folder, seen from outside of the namespace.
    pub fn watched(&self) -> PathBuf {
        let path = self.place.path("in");
        PathBuf::from(format!("/proc/{}/root", self.holder.0.id())).join(path.strip_prefix("/").unwrap())
    }

    /// A command in the namespace.
    fn inside(&self, program: &std::ffi::OsStr) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-m", "-t", &self.holder.0.id().to_string(), "--", "sh", "-c", "cd \"$0\" && exec \"$@\""]);
        command.arg(self.place.path("")).arg(program).stdin(Stdio::null());
        command
    }

    /// Runs a command of the shell in the namespace.
    pub fn shell(&self, script: &str) {
        let done = self.inside("sh".as_ref()).args(["-c", script]).status().unwrap();
        assert!(done.success(), "`{script}`");
    }

    fn command(&self, more: &[&str]) -> Command {
        let watch = self.place.command(&["watch", "in", "--topic_name", &self.topic, "--upload_existing"]);
        let mut command = self.inside(watch.get_program());
        command.args(watch.get_args()).args(["--watchdog_lag_time", "1", "--config", "test.config"]).args(more);
        command
    }

    /// Starts a watch, whose messages go to a file outside of the small file system.
    pub fn start(&self) -> Running {
        let messages = File::create(self.place.path("messages.txt")).unwrap();
        Running(self.command(&[]).stdout(Stdio::null()).stderr(messages).spawn().unwrap())
    }

    pub fn said(&self, text: &str) -> usize {
        fs::read_to_string(self.place.path("messages.txt")).unwrap().matches(text).count()
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let mut file = File::create(self.watched().join(".fill")).unwrap();
        let full = loop {
            if let Err(error) = file.write_all(&[0; 64]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }

    /// Takes all the files that can be made.
    pub fn fill_files(&self) {
        let made = |number: u32| File::create(self.watched().join(format!(".fill{number}")));
        let full = (0..).find_map(|number| made(number).err()).unwrap();
        assert_eq!(full.kind(), ErrorKind::StorageFull, "no file can be made either");
    }

    pub fn make_room(&self) {
        for entry in fs::read_dir(self.watched()).unwrap().map(|entry| entry.unwrap()) {
            if entry.file_name().to_string_lossy().starts_with(".fill") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    pub fn recorded(&self) -> usize {
        record(&self.watched()).lines().filter(|line| line.contains("sha512")).count()
    }

    /// Ends the watch, and looks whether each file is in the topic once, also after another watch.
    pub fn end(&self, watch: Running, files: usize) {
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
