//! The lock of a consumer group: an empty file beside the log that its owner keeps locked.
//!
//! The file is named `LOG-group-NUMBER.lock` after the group's number in the log. The operating
//! system gives the lock up when its owner ends, however that happens. The file itself stays: taking it
//! away while someone else opens it would make two owners.

use std::fs::{OpenOptions, TryLockError};
use std::path::PathBuf;
use std::time::Duration;

use super::file::LogFile;
use crate::error::{Error, ErrorKind, Result};
use crate::file_lock::FileLock;

/// How long a lock may be refused before it counts as held: those who only look whether it is held,
/// or are about to end, give it up within this time.
const PATIENCE: Duration = Duration::from_millis(500);

fn path(file: &LogFile, group: i64) -> PathBuf {
    let mut path = file.path.clone().into_os_string();
    path.push(format!("-group-{group}.lock"));
    path.into()
}

fn failed(file: &LogFile, group: i64, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        std::io::ErrorKind::StorageFull => ErrorKind::NoSpace,
        _ => ErrorKind::Settings,
    };
    Error::with_source(kind, format!("the lock file `{}` cannot be used", path(file, group).display()), error)
}

/// The lock of a group. `None` where someone else holds it.
pub(super) fn take(file: &LogFile, group: i64) -> Result<Option<FileLock>> {
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path(file, group));
    let lock = open.map_err(|error| failed(file, group, error))?;
    match FileLock::take(lock, PATIENCE) {
        Ok(lock) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(file, group, error)),
    }
}

/// Someone holds the lock of a group.
pub(super) fn is_held(file: &LogFile, group: i64) -> Result<bool> {
    let lock = match OpenOptions::new().read(true).open(path(file, group)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(file, group, error)),
    };
    match lock.try_lock_shared() {
        Ok(()) => {
            // at once, as a child process may still have the file
            let _ = lock.unlock();
            Ok(false)
        }
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(failed(file, group, error)),
    }
}
