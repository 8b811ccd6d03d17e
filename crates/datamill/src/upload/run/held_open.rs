//! Files that another program has open without letting anybody read them, as Windows allows: they are still being written, and
//! are tried again.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use tracing::warn;

/// It is said of a file once it has been held open for so long.
const TOLD_AFTER: Duration = Duration::from_secs(60);

/// ERROR_SHARING_VIOLATION and ERROR_LOCK_VIOLATION of Windows. These numbers mean something else elsewhere.
const OF_WINDOWS: [i32; 2] = [32, 33];

/// Whether the file cannot be read since another program holds it.
pub(super) fn is_held_open(error: &io::Error) -> bool {
    cfg!(windows) && error.raw_os_error().is_some_and(|number| OF_WINDOWS.contains(&number))
}

/// Files that could not be read for that at their last try.
#[derive(Debug, Default)]
pub(super) struct HeldOpen(HashMap<String, Held>);

#[derive(Debug)]
struct Held {
    since: Instant,
    is_told: bool,
}

impl HeldOpen {
    /// Takes down one more try in vain.
    pub(super) fn again(&mut self, file: &str) {
        let held = self.0.entry(file.to_owned()).or_insert_with(|| Held { since: Instant::now(), is_told: false });
        if held.since.elapsed() >= TOLD_AFTER && !std::mem::replace(&mut held.is_told, true) {
            warn!(
                file,
                "another program has the file open and lets nobody read it: it is sent once that program closes it"
            );
        }
    }

    /// The file could be read, or is not wanted any more.
    pub(super) fn forget(&mut self, file: &str) {
        self.0.remove(file);
    }
}
