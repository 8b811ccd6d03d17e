//! The peer: the released OpenMSIStream, run as processes through the drivers in `crates/testkit/peer`.
//! Tests that need it fail without it; they never skip.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Names the Python interpreter that has OpenMSIStream, as `dev/peer` prints it.
pub const INTERPRETER: &str = "DATAMILL_TEST_PEER";

/// How long a program of the peer may take to end once it was told to.
const END_WITHIN: Duration = Duration::from_secs(60);

/// A driver (`upload.py`, …) with its arguments. Panics where `DATAMILL_TEST_PEER` is not set.
pub fn command(driver: &str, args: &[&str]) -> Command {
    let python = std::env::var(INTERPRETER)
        .unwrap_or_else(|_| panic!("no peer: run dev/test, or set {INTERPRETER} to what dev/peer prints"));
    let mut command = Command::new(python);
    // File names beyond ASCII are the same whatever the locale is.
    command.env("PYTHONUTF8", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg("-u").arg(folder().join(driver)).args(args).stdin(Stdio::null());
    command
}

/// Runs a driver to its end and answers what it printed. Panics with what it said where it fails.
pub fn run(driver: &str, args: &[&str]) -> String {
    let output = command(driver, args).output().expect("the interpreter of the peer can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{driver} {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Starts a driver that runs until it is stopped.
pub fn start(driver: &str, args: &[&str], said: &Path) -> Running {
    let mut command = command(driver, args);
    let file = std::fs::File::create(said).expect("the file for the output can be made");
    let other = file.try_clone().expect("a file can be used twice");
    let child = command.stdin(Stdio::piped()).stdout(file).stderr(other).spawn();
    Running { child: child.expect("the interpreter of the peer can be run"), said: said.to_owned() }
}

/// The folder of the drivers.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peer")
}

/// A program of the peer that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    said: PathBuf,
}

impl Running {
    /// Types `q` on its console and waits until it has ended. Answers what it said.
    pub fn quit(mut self) -> String {
        let mut console = self.child.stdin.take().expect("its console is a pipe");
        // A program that ended by itself takes nothing any more; its exit code tells.
        let _ = console.write_all(b"q\n").and_then(|()| console.flush());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            assert!(start.elapsed() < END_WITHIN, "the peer does not end: {}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        };
        assert!(status.success(), "{}", self.said());
        self.said()
    }

    /// Ends it as a power cut does.
    pub fn kill9(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        let mut text = Vec::new();
        let mut file = std::fs::File::open(&self.said).expect("the output is there");
        file.read_to_end(&mut text).expect("the output can be read");
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
