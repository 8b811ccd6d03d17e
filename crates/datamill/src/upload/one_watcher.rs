//! A lock in the folder for temporary files of this machine, for each folder that is watched: two watchers whose
//! records lie at different places do not see each other's locks there, and would send everything twice.
//!
//! The file is named after device and inode of the folder. It is empty, and removed at the end; one that a killed
//! watcher left behind is used again. Where the folder for temporary files cannot be used, there is no lock.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use datamill_broker::FileLock;
use datamill_wire::{hex, sha512};

use crate::mark::Identity;

/// How often the file is opened again that another watcher removed meanwhile.
const TRIES: usize = 10;

/// The lock, until it is dropped.
#[derive(Debug)]
pub(super) struct OneWatcher {
    path: PathBuf,
    _file: FileLock,
}

impl OneWatcher {
    /// The lock for watching `root` for `what`; `None` where there can be none. It is an error that another process
    /// has it.
    pub(super) fn take(root: &Path, what: &str) -> Result<Option<Self>, ()> {
        let name = hex(&sha512(format!("{}\n{what}", name_of(root)).as_bytes())[..8]);
        let path = std::env::temp_dir().join(format!("datamill-watch-{name}.lock"));
        for _ in 0..TRIES {
            // Accounts share the folder: a file of another one can be locked, but neither made again nor written.
            let file = match File::create_new(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => match File::open(&path) {
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    opened => opened,
                },
                made => made,
            };
            let Ok(file) = file else { return Ok(None) };
            let file = match FileLock::take(file, Duration::ZERO) {
                Ok(file) => file,
                Err(TryLockError::WouldBlock) => return Err(()),
                Err(TryLockError::Error(_)) => return Ok(None),
            };
            if Identity::is_of(&path, &file) {
                return Ok(Some(Self { path, _file: file }));
            }
        }
        Ok(None)
    }
}

/// What tells a folder from others on this machine, by whichever mount it is reached.
fn name_of(root: &Path) -> String {
    #[cfg(unix)]
    if let Ok(found) = fs::metadata(root) {
        use std::os::unix::fs::MetadataExt;
        return format!("{}:{}", found.dev(), found.ino());
    }
    root.to_string_lossy().into_owned()
}

impl Drop for OneWatcher {
    fn drop(&mut self) {
        // Whoever opened it meanwhile looks whether it is still there.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_the_lock_and_nothing_stays_behind() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let first = OneWatcher::take(dir.path(), "t").unwrap().unwrap();
            assert!(OneWatcher::take(dir.path(), "t").is_err());
            let other = OneWatcher::take(dir.path(), "u").unwrap().unwrap();
            let paths = [first.path.clone(), other.path.clone()];
            drop((first, other));
            assert!(paths.iter().all(|path| !path.exists()));
        }
    }

    #[test]
    fn of_many_at_once_exactly_one_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        if let Ok(Some(lock)) = OneWatcher::take(dir.path(), "t") {
                            assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                            inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                            drop(lock);
                        }
                    }
                });
            }
        });
    }
}
