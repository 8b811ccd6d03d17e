//! What the file system tells by itself, as hints: paths that are worth a look. Whatever is lost here,
//! the next scan finds.
//!
//! ```text
//! file system ──▶ notify's thread ──▶ bounded channel of paths ──▶ watch loop
//!                        └─ full, or events were lost ──▶ flag: scan soon
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

/// Paths that may wait for the watch loop.
const WAITING: usize = 4096;

/// The source of hints.
pub(super) struct Hints {
    paths: Receiver<PathBuf>,
    lost: Arc<AtomicBool>,
    // Events end when it is dropped.
    _watcher: RecommendedWatcher,
}

impl Hints {
    /// Hints about everything below `root`, what is below `own` aside.
    pub(super) fn start(root: &Path, own: PathBuf) -> notify::Result<Self> {
        let (sender, paths) = bounded(WAITING);
        let lost = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&lost);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            pass_on(event, &own, &sender, &flag);
        })?;
        watcher.watch(root, RecursiveMode::Recursive)?;
        Ok(Self { paths, lost, _watcher: watcher })
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
