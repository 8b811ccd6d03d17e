//! Runs the built command in a folder of its own, on the embedded log in that folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use datamill::wire::{Chunk, sha512};
use serde_json::Value;

/// The data of each chunk, as often as it came.
type Chunks = BTreeMap<u32, Vec<Vec<u8>>>;

pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub fn write(&self, relative: &str, content: &[u8]) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_datamill"));
        command.current_dir(self.dir.path()).args(args).stdin(Stdio::null());
        command.env_remove("OPENMSISTREAM_CONFIG_FILE_DIR");
        command
    }

    pub fn run(&self, args: &[&str]) -> Ended {
        Ended(self.command(args).output().unwrap())
    }

    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// All messages of a topic, as `datamill read` prints them, from the log that `test.config` names, if it is there.
    pub fn messages(&self, topic: &str) -> Vec<Value> {
        let config: &[&str] = if self.path("test.config").exists() { &["--config", "test.config"] } else { &[] };
        let ended = self.run(&[&["read", topic, "--exit-at-end"], config].concat());
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        ended.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How often each file is in a topic whole, by path and content; every version that is whole must
    /// hash to what it says.
    pub fn whole_files(&self, topic: &str) -> BTreeMap<(String, Vec<u8>), usize> {
        let mut open: BTreeMap<(String, [u8; 64]), Chunks> = BTreeMap::new();
        let mut whole = BTreeMap::new();
        for message in self.messages(topic) {
            let value = bytes(&message["value"]);
            let chunk = Chunk::decode(&value).unwrap();
            chunk.verify().unwrap();
            let path = chunk.rebuilt_path();
            let chunks = open.entry((path.clone(), *chunk.file_hash)).or_default();
            chunks.entry(chunk.index).or_default().push(chunk.data.to_vec());
            if (1..=chunk.total).all(|index| chunks.get(&index).is_some_and(|all| !all.is_empty())) {
                let parts = (1..=chunk.total).flat_map(|index| chunks.get_mut(&index).unwrap().remove(0));
                let content: Vec<u8> = parts.collect();
                assert_eq!(sha512(&content), *chunk.file_hash, "`{path}` is mixed");
                *whole.entry((path, content)).or_default() += 1;
            }
        }
        whole
    }
}

/// Bytes as `datamill read` prints them.
pub fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Object(binary) => {
            let text = binary["base64"].as_str().unwrap();
            base64::engine::general_purpose::STANDARD.decode(text).unwrap()
        }
        other => panic!("no bytes: {other}"),
    }
}

pub struct Ended(Output);

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self(output)
    }
}

impl Ended {
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    pub fn stdout(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }
}

/// A program that ends with the test, whatever that finds.
pub struct Running(pub Child);

impl Running {
    /// Interrupts it, as Ctrl-C does, and answers its exit code.
    pub fn end(mut self) -> i32 {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), rustix::process::Signal::INT).unwrap();
        self.0.wait().unwrap().code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(180), "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The lines of the durable record in a watched folder.
pub fn record(watched: &Path) -> String {
    let Ok(entries) = fs::read_dir(watched.join("LOGS")) else {
        return String::new();
    };
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let path = paths.find(|path| path.extension().is_some_and(|end| end == "jsonl"));
    path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
}
