//! Says once that a table cannot be written, and once that it can again.

use std::error::Error;
use std::io;
use std::path::Path;

use tracing::{info, warn};

#[derive(Default)]
pub(super) struct Trouble {
    failing: bool,
}

/// Whether there is no room, which may change.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn what_to_do(error: &io::Error) -> &'static str {
    match error.kind() {
        _ if is_full(error) => "make room on its disk",
        io::ErrorKind::NotFound => "its folder is gone; put it back, or mount the share that it is on",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "make its folder writable",
        _ => "look at its folder and the disk",
    }
}

impl Trouble {
    /// Whether the table could not be written when that was tried last.
    pub(super) fn is_failing(&self) -> bool {
        self.failing
    }

    /// Takes note of how writing went. Returns whether it went well.
    pub(super) fn note(&mut self, path: &Path, result: &io::Result<()>) -> bool {
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    info!(file = %path.display(), "the registry file is written again");
                }
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(
                        file = %path.display(),
                        error = error as &(dyn Error + 'static),
                        "cannot write a registry file; the program goes on and tries again: {}",
                        what_to_do(error)
                    );
                }
                false
            }
        }
    }
}
