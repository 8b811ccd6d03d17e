//! A small file system for a watched folder, mounted in a namespace of its own. For that the tests need to be root.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::common::{Ended, Place, Running, record};
use crate::namespace::Namespace;

/// A folder `in` that is a file system of 512 KiB and 200 files.
pub struct Small(Namespace);

impl Small {
    pub fn new(kafka: bool) -> Self {
        Self(Namespace::new(kafka, &["in"], "mount -t tmpfs -o size=512k,nr_inodes=200 small in"))
    }

    pub fn place(&self) -> &Place {
        &self.0.place
    }

    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// From now on the log is in the small file system, where there is none yet.
    pub fn take_the_log_in(&self) {
        let servers = self.place().path("in/log.db");
        self.place()
            .write("test.config", format!("[broker]\nbootstrap.servers = sqlite:{}\n", servers.display()).as_bytes());
    }

    /// The watched folder, seen from outside of the namespace.
    pub fn watched(&self) -> PathBuf {
        self.0.seen("in")
    }

    /// Runs a command of the shell in the namespace.
    pub fn shell(&self, script: &str) {
        let done = self.0.inside("sh").args(["-c", script]).status().unwrap();
        assert!(done.success(), "`{script}`");
    }

    fn command(&self, more: &[&str]) -> Command {
        let watch = self.place().command(&["watch", "in", "--topic_name", self.topic(), "--upload_existing"]);
        let mut command = self.0.inside(watch.get_program());
        command.args(watch.get_args()).args(["--watchdog_lag_time", "1", "--config", "test.config"]).args(more);
        command
    }

    /// Starts a watch, whose messages go to a file outside of the small file system.
    pub fn start(&self) -> Running {
        let messages = File::create(self.place().path("messages.txt")).unwrap();
        Running(self.command(&[]).stdout(Stdio::null()).stderr(messages).spawn().unwrap())
    }

    pub fn said(&self, text: &str) -> usize {
        fs::read_to_string(self.place().path("messages.txt")).unwrap().matches(text).count()
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
        assert_eq!(watch.end(), 0, "{}", fs::read_to_string(self.place().path("messages.txt")).unwrap());
        let again = Ended::from(self.command(&["--exit-at-end"]).output().unwrap());
        assert_eq!(again.code(), 0, "{}", again.stderr());
        assert!(again.stderr().contains("sent 0 files"), "{}", again.stderr());
        let whole = self.place().whole_files(self.topic());
        assert_eq!(whole.len(), files);
        assert!(whole.values().all(|times| *times == 1), "{whole:?}");
        let table = fs::read_to_string(self.watched().join(format!("LOGS/uploaded_to_{}.csv", self.topic()))).unwrap();
        assert_eq!(table.lines().count(), 1 + files);
    }
}
