//! Mounts of a test's own, in a mount namespace that goes with it. For that the tests need to be root.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use datamill_testkit::kafka::Kafka;

use crate::common::{Place, Running};

/// A folder with the configuration `test.config`, a topic, and a mount namespace.
pub struct Namespace {
    pub place: Place,
    pub topic: String,
    /// Keeps the namespace.
    holder: Running,
}

impl Namespace {
    /// `mount` is a command that mounts something, in the folder in which `folders` are made before.
    pub fn new(kafka: bool, folders: &[&str], mount: &str) -> Self {
        let place = Place::new();
        let servers = match kafka {
            true => Kafka::from_env().address().to_owned(),
            false => format!("sqlite:{}", place.path("log.db").display()),
        };
        place.write("test.config", format!("[broker]\nbootstrap.servers = {servers}\n").as_bytes());
        for folder in folders {
            std::fs::create_dir(place.path(folder)).unwrap();
        }
        let holder = Command::new("unshare")
            .args(["-m", "sh", "-c", &format!("{mount} && echo mounted && exec cat")])
            .current_dir(place.path(""))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut holder = Running(holder.unwrap());
        let mut said = String::new();
        BufReader::new(holder.0.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "mounted\n", "the tests need to be root, to mount something");
        let unique = (datamill::report::clock::now_ms(), std::thread::current().id());
        let topic = format!("mounts-{unique:?}").replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "");
        let made = place.run(&["topic", "create", &topic, "--config", "test.config"]);
        assert_eq!(made.code(), 0, "{}", made.stderr());
        Self { place, topic, holder }
    }

    /// A program that runs in the namespace, in the folder.
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-m", "-t", &self.holder.0.id().to_string(), "--", "sh", "-c", "cd \"$0\" && exec \"$@\""]);
        command.arg(self.place.path("")).arg(program).stdin(Stdio::null());
        command
    }

    /// The folder of this name as it is in the namespace, seen from outside.
    pub fn seen(&self, folder: &str) -> PathBuf {
        let path = self.place.path(folder);
        PathBuf::from(format!("/proc/{}/root", self.holder.0.id())).join(path.strip_prefix("/").unwrap())
    }
}
