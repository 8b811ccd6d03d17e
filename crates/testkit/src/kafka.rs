//! A real Apache Kafka for tests: the one that all tests of a run share, or one of a test's own that
//! may be killed. Tests that need Kafka fail without it; they never skip.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Names the broker that the tests of a run share, as `host:port`.
pub const SHARED: &str = "DATAMILL_TEST_KAFKA";

/// A broker that was killed comes back under its number once its session is over.
const SHORT_SESSION: &str = "broker.session.timeout.ms=1000\nbroker.heartbeat.interval.ms=200\n";

/// The same for three brokers, which share the processor.
const SESSION_OF_THREE: &str = "broker.session.timeout.ms=3000\nbroker.heartbeat.interval.ms=500\n";

/// A Kafka that runs. One of a test's own is stopped when this is dropped.
#[derive(Debug)]
pub struct Kafka {
    address: String,
    folder: Option<TempDir>,
}

/// Whether the version of Apache Kafka that is tested offers the group protocol `consumer`, as those from 4.0 on do.
pub fn offers_the_consumer_protocol() -> bool {
    std::env::var("DATAMILL_KAFKA_VERSION").map_or(true, |version| !version.starts_with("3."))
}

impl Kafka {
    /// The broker that `DATAMILL_TEST_KAFKA` names. Panics where it is not set.
    pub fn from_env() -> Self {
        let address = std::env::var(SHARED)
            .unwrap_or_else(|_| panic!("no Kafka: run dev/test, or set {SHARED} to a broker's host:port"));
        Self { address, folder: None }
    }

    /// Starts a broker on a free port in a temporary folder, with `dev/kafka`.
    pub fn start_own() -> Self {
        Self::start_own_with("")
    }

    /// As [`Kafka::start_own`], with further lines for the broker's properties.
    pub fn start_own_with(properties: &str) -> Self {
        Self::start(&[], &format!("{SHORT_SESSION}{properties}"))
    }

    /// Starts three brokers of one cluster, with three copies of each topic.
    pub fn start_three_with(properties: &str) -> Self {
        Self::start(&["three"], &format!("{SESSION_OF_THREE}{properties}"))
    }

    fn start(args: &[&str], properties: &str) -> Self {
        let folder =
            tempfile::Builder::new().prefix("datamill-kafka-").tempdir().expect("a temporary folder can be made");
        let mut kafka = Self { address: String::new(), folder: Some(folder) };
        kafka.address = kafka.run_with("start", args, properties);
        kafka
    }

    /// `host:port`, the value for `bootstrap.servers`; of three brokers, all of them.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Kills the broker with SIGKILL. Only for one that this test started.
    pub fn kill9(&self) {
        self.run("kill9");
    }

    /// Starts the broker again after [`Kafka::kill9`], on the same port with the same data.
    pub fn restart(&self) {
        self.run("restart");
    }

    /// Holds the broker's process: it takes connections and answers nothing. [`Kafka::go_on`] lets it go on.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Ends [`Kafka::pause`].
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.own_folder().join("pid")).expect("the broker runs");
        let sent = Command::new("kill").args([name, pid.trim()]).status().expect("there is `kill`");
        assert!(sent.success(), "no process {pid}");
    }

    /// Lets a broker answer again after [`Kafka::pause`] or [`Kafka::kill9`].
    pub fn go_on_or_restart(&self) {
        match self.own_folder().join("pid").exists() {
            true => self.go_on(),
            false => self.restart(),
        }
    }

    /// Limits all accounts, in the words of `dev/kafka quota`.
    pub fn quota(&self, limit: &str) {
        self.run_with("quota", &[limit], "");
    }

    fn own_folder(&self) -> &Path {
        self.folder.as_ref().expect("only a broker of the test's own is changed").path()
    }

    /// Kills one of three brokers, 1 to 3, with SIGKILL.
    pub fn kill9_one(&self, number: usize) {
        self.run_with("kill9", &[&number.to_string()], "");
    }

    /// Starts one of three brokers again, and waits until its copies are in sync.
    pub fn restart_one(&self, number: usize) {
        self.run_with("restart", &[&number.to_string()], "");
    }

    fn run(&self, command: &str) -> String {
        self.run_with(command, &[], "")
    }

    fn run_with(&self, command: &str, args: &[&str], properties: &str) -> String {
        let mut script = Command::new(script());
        script.arg(command).arg(self.own_folder()).args(args).env("DATAMILL_KAFKA_PROPERTIES", properties);
        let output = script.output().expect("dev/kafka can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "dev/kafka {command} {args:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // Nothing of it is kept, so it need not be ended gently. It may be dead already.
            let _ = Command::new(script()).arg("kill9").arg(folder.path()).output();
        }
    }
}

pub(crate) fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../dev/kafka")
}
