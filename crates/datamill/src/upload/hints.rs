//! What the file system tells by itself, as hints: paths that are worth a look. Whatever is lost here,
//! the next scan finds.
//!
//! ```text
//! file system ──▶ notify's thread ──▶ bounded channel of paths ──▶ watch loop
//!                        └─ full, or events were lost ──▶ flag: scan soon
//! ```
//!
//! On Linux each folder is watched by itself, so that one that cannot be watched leaves its files to the scans and
//! takes no other folder along. Elsewhere the system watches the tree as a whole.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{ErrorKind, Event, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::warn;
use walkdir::WalkDir;

use crate::report::chain;

/// Paths that may wait for the watch loop.
const WAITING: usize = 4096;

/// Whether each folder is watched by itself.
const EACH_FOLDER: bool = cfg!(target_os = "linux");

/// The source of hints.
pub(super) struct Hints {
    paths: Receiver<PathBuf>,
    lost: Arc<AtomicBool>,
    own: PathBuf,
    // Events end when it is dropped.
    watcher: RecommendedWatcher,
    /// The system watches no more folders: said once.
    is_full: bool,
}

impl Hints {
    /// Hints about everything below `root`, what is below `own` aside.
    ///
    /// # Errors
    /// Why the root cannot be watched.
    pub(super) fn start(root: &Path, own: PathBuf) -> Result<Self, String> {
        let (sender, paths) = bounded(WAITING);
        let lost = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&lost);
        let theirs = own.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            pass_on(event, &theirs, &sender, &flag);
        });
        let mut watcher = watcher.map_err(|error| reason(&error))?;
        let mode = if EACH_FOLDER { RecursiveMode::NonRecursive } else { RecursiveMode::Recursive };
        watcher.watch(root, mode).map_err(|error| reason(&error))?;
        let mut hints = Self { paths, lost, own, watcher, is_full: false };
        hints.add_below(root, 1);
        Ok(hints)
    }

    /// Hints also about a folder that appeared, and all folders in it.
    pub(super) fn add(&mut self, folder: &Path) {
        self.add_below(folder, 0);
    }

    fn add_below(&mut self, folder: &Path, depth: usize) {
        if !EACH_FOLDER {
            return;
        }
        let is_hidden = |entry: &walkdir::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
        let entries = WalkDir::new(folder).min_depth(depth).into_iter().filter_entry(|entry| {
            entry.file_type().is_dir() && entry.path() != self.own && (entry.depth() == 0 || !is_hidden(entry))
        });
        // Whatever cannot be read or watched is reported by the scans, or gone.
        for entry in entries.flatten() {
            if let Err(error) = self.watcher.watch(entry.path(), RecursiveMode::NonRecursive)
                && matches!(error.kind, ErrorKind::MaxFilesWatch)
            {
                if !std::mem::replace(&mut self.is_full, true) {
                    warn!(
                        folder = %entry.path().display(),
                        "{}: scans alone find what changes in this folder and in further ones", reason(&error)
                    );
                }
                return;
            }
        }
    }

    /// Waits at most `timeout` for a hint; hands out what is there, each path once, up to a bounded
    /// number.
    pub(super) fn wait(&self, timeout: Duration) -> BTreeSet<PathBuf> {
        let first = self.paths.recv_timeout(timeout).ok();
        first.into_iter().chain(self.paths.try_iter().take(WAITING)).collect()
    }

    /// Whether hints were lost since the last call.
    pub(super) fn were_lost(&self) -> bool {
        self.lost.swap(false, Ordering::Relaxed)
    }
}

/// What went wrong, in words for people.
fn reason(error: &notify::Error) -> String {
    match &error.kind {
        ErrorKind::Io(error) => chain(error),
        ErrorKind::MaxFilesWatch => {
            "the system's limit of watched folders is reached (raise `fs.inotify.max_user_watches`)".to_owned()
        }
        ErrorKind::PathNotFound => "the folder is not there".to_owned(),
        ErrorKind::Generic(text) => text.clone(),
        ErrorKind::WatchNotFound | ErrorKind::InvalidConfig(_) => "the folder cannot be watched".to_owned(),
    }
}

fn pass_on(event: notify::Result<Event>, own: &Path, sender: &Sender<PathBuf>, lost: &AtomicBool) {
    let Ok(event) = event else {
        lost.store(true, Ordering::Relaxed);
        return;
    };
    if event.need_rescan() {
        lost.store(true, Ordering::Relaxed);
    }
    let is_news = match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Remove(_) => false,
        _ => true,
    };
    if !is_news {
        return;
    }
    for path in event.paths {
        if !path.starts_with(own) && sender.try_send(path).is_err() {
            lost.store(true, Ordering::Relaxed);
        }
    }
}
