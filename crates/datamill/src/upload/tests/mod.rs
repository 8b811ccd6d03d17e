//! Uploads and watches as a whole, on a log in memory that does what each test asks for.

mod again;
mod faults;
#[cfg_attr(not(unix), allow(dead_code, reason = "tests of links want more of it"))]
mod memory;
mod once;
mod own;
#[cfg(unix)]
mod replaced;
mod vanished;
mod watched;

use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::control::StopKind;
use crate::facts::Listener;
use memory::MemoryLog;

/// Bytes that differ from place to place and from seed to seed.
fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 253) as u8 ^ seed).collect()
}

fn write(root: &Path, relative: &str, content: &[u8]) {
    let path = root.join(relative);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn settings(chunk_size: usize) -> UploadSettings {
    UploadSettings { chunk_size, drain_limit: Duration::from_millis(300), ..UploadSettings::new("t") }
}

/// Uploads a folder in chunks of 8 bytes.
fn upload(log: &MemoryLog, root: &Path) -> Summary {
    upload_with(log, root, &settings(8))
}

fn upload_with(log: &MemoryLog, root: &Path, settings: &UploadSettings) -> Summary {
    let control = Control::default();
    let paths = [root.to_owned()];
    upload_paths(log, &paths, settings, &control, &Facts::default()).unwrap()
}

fn watch_settings() -> WatchSettings {
    WatchSettings { upload: settings(8), settle_for: Duration::from_millis(150), ..WatchSettings::new("t") }
}

/// A watch on a thread of its own; stopped and joined when asked for its summary, or when dropped.
struct Running {
    control: Arc<Control>,
    thread: Option<std::thread::JoinHandle<Result<Summary, UploadError>>>,
}

impl Running {
    fn start(log: &MemoryLog, root: &Path, settings: WatchSettings) -> Self {
        let (log, root) = (log.clone(), root.to_owned());
        let control = Arc::new(Control::default());
        let theirs = Arc::clone(&control);
        let thread = std::thread::spawn(move || watch(&log, &root, &settings, &theirs, &Facts::default()));
        Self { control, thread: Some(thread) }
    }

    fn stop(mut self) -> Summary {
        self.control.stop(StopKind::Leave);
        self.thread.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.control.stop(StopKind::Leave);
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(120), "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
