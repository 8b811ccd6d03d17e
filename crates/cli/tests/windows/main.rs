//! What an instrument computer with Windows does to its files: `datamill.exe` with the embedded log, as `dev/windows` runs it.

#![cfg(windows)]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::windows::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use walkdir::WalkDir;

const WATCH: [&str; 7] = ["watch", "in", "--topic_name", "t", "--upload_existing", "--watchdog_lag_time", "0.5"];

/// FILE_ATTRIBUTE_HIDDEN
const HIDDEN: u32 = 2;

type Files = BTreeMap<String, Vec<u8>>;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("in")).unwrap();
        place
    }

    fn path(&self, relative: &str) -> PathBuf {
        relative.split('/').fold(self.0.path().to_owned(), |path, part| path.join(part))
    }

    fn write(&self, files: &Files) {
        for (name, content) in files {
            let path = self.path(&format!("in/{name}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_datamill"));
        command.current_dir(self.0.path()).args(args).stdin(Stdio::null());
        command.env_remove("OPENMSISTREAM_CONFIG_FILE_DIR");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn start(&self, args: &[&str]) -> Running {
        let quiet = self.command(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Running(quiet.unwrap())
    }

    fn upload(&self) -> Output {
        self.run(&["upload", "in", "--topic_name", "t"])
    }

    /// What is sent by a watch that ends once it has sent everything.
    fn watch_to_the_end(&self) {
        let ended = self.run(&[&WATCH[..], &["--exit-at-end"]].concat());
        assert!(ended.status.success(), "{}", text(&ended));
    }

    /// Messages of the topic.
    fn count(&self) -> usize {
        let ended = self.run(&["read", "t", "--exit-at-end"]);
        if ended.status.success() { String::from_utf8(ended.stdout).unwrap().lines().count() } else { 0 }
    }

    /// The files that a download makes of the topic.
    fn downloaded(&self) -> Files {
        let ended = self.run(&["download", "out", "--topic_name", "t", "--exit-at-end"]);
        assert!(ended.status.success(), "{}", text(&ended));
        let is_own = |name: &str| name.starts_with('.') || name.starts_with("LOGS") || name.starts_with("download_");
        let entries =
            WalkDir::new(self.path("out")).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
        let files = entries.map(|entry| {
            let relative = entry.path().strip_prefix(self.path("out")).unwrap().to_str().unwrap().replace('\\', "/");
            (relative, fs::read(entry.path()).unwrap())
        });
        files.filter(|(name, _)| !is_own(name)).collect()
    }
}

/// A program that ends with the test, whatever that finds.
struct Running(Child);

impl Running {
    /// Types `q`, and answers the exit code.
    fn quit(mut self) -> Option<i32> {
        self.0.stdin.take().unwrap().write_all(b"q\n").unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn text(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(180), "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn files<const N: usize>(all: [(&str, &[u8]); N]) -> Files {
    all.map(|(name, content)| (name.to_owned(), content.to_vec())).into()
}

#[test]
fn names_of_any_script_and_long_paths_arrive_byte_for_byte() {
    let place = Place::new();
    let deep = format!("{}/{}/{}/deep.dat", "d".repeat(100), "e".repeat(100), "f".repeat(100));
    let large: Vec<u8> = (0..3_000_000).map(|i| (i % 251) as u8).collect();
    let sent = files([
        ("Größe µm.csv", b"1"),
        ("测定/試料.dat", b"2"),
        ("a\u{308}.txt", b"decomposed"),
        ("ä.txt", b"composed"),
        ("🔬.bin", b""),
        (&deep, &large),
    ]);
    place.write(&sent);
    let ended = place.upload();
    assert!(ended.status.success(), "{}", text(&ended));
    assert_eq!(place.downloaded(), sent);
}

#[test]
fn what_windows_hides_is_left_out() {
    let place = Place::new();
    let sent = files([("a.csv", b"a")]);
    place.write(&sent);
    place.write(&files([("Thumbs.db", b"x"), ("desktop.ini", b"x")]));
    let hidden = place.path("in/hidden.csv");
    OpenOptions::new().write(true).create_new(true).attributes(HIDDEN).open(hidden).unwrap().write_all(b"x").unwrap();
    let ended = place.upload();
    assert!(ended.status.success(), "{}", text(&ended));
    assert_eq!(place.downloaded(), sent);
}

#[test]
fn a_file_that_another_program_holds_open_is_sent_once_when_that_closes_it() {
    let place = Place::new();
    let path = place.path("in/held.csv");
    let mut held = OpenOptions::new().write(true).create_new(true).share_mode(0).open(path).unwrap();
    held.write_all(b"first half, ").unwrap();
    let watch = place.start(&WATCH);
    place.write(&files([("free.csv", b"free")]));
    wait_until("the free file is sent", || place.count() == 1);
    held.write_all(b"second half").unwrap();
    drop(held);
    wait_until("the held file is sent", || place.count() == 2);
    assert_eq!(watch.quit(), Some(0));
    assert_eq!(place.downloaded(), files([("free.csv", b"free"), ("held.csv", b"first half, second half")]));
}

#[test]
fn a_burst_of_files_arrives_whole_although_the_watch_is_killed() {
    let place = Place::new();
    let watch = place.start(&WATCH);
    let sent: Files = (0..3000_u32).map(|i| (format!("{}/f{i}.dat", i % 7), i.to_le_bytes().to_vec())).collect();
    place.write(&sent);
    wait_until("some files are sent", || place.count() > 0);
    drop(watch);
    place.watch_to_the_end();
    assert_eq!(place.downloaded(), sent);
    let settled = place.count();
    place.watch_to_the_end();
    assert_eq!(place.count(), settled, "what was recorded is sent again");
}

#[test]
fn a_second_watch_of_the_folder_is_refused() {
    let place = Place::new();
    place.write(&files([("a.csv", b"a")]));
    let first = place.start(&WATCH);
    wait_until("the first watch works", || place.count() == 1);
    let second = place.run(&WATCH);
    assert!(!second.status.success() && text(&second).contains("by another process"), "{}", text(&second));
    assert_eq!(first.quit(), Some(0));
}
