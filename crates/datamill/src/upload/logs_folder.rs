//! The folder `LOGS` of a watched folder: names of the files in it, and the lock that keeps a second
//! watcher off.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use datamill_wire::{hex, sha512};

use super::error::UploadError;
use super::filter::LOGS_FOLDER;

/// Longest topic name that becomes part of a file name as it is. File systems take 255 bytes.
const LONGEST_TOPIC: usize = 180;

/// The folder, locked for one topic of one log. The lock ends with the process, however it ends.
#[derive(Debug)]
pub struct LogsFolder {
    path: PathBuf,
    topic: String,
    log: String,
    _lock: File,
}

impl LogsFolder {
    /// Makes the folder where it is missing, and locks it for `topic` in the log with this id.
    ///
    /// # Errors
    /// Where it cannot be made, and where another process has the lock.
    pub fn open(root: &Path, topic: &str, log_id: &str) -> Result<Self, UploadError> {
        let path = root.join(LOGS_FOLDER);
        let log = hex(&sha512(log_id.as_bytes())[..4]);
        let topic_part = file_name_part(topic);
        let lock_path = path.join(format!(".datamill_upload_to_{topic_part}_{log}.lock"));
        let refused = |source| UploadError::LogsFolder { path: path.clone(), source };
        fs::create_dir_all(&path).map_err(refused)?;
        let lock = open_lock(&lock_path).map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(UploadError::Watched { root: root.to_owned(), topic: topic.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(refused(error)),
        }
        Ok(Self { path, topic: topic_part, log, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The topic as file names hold it.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Where the durable record is.
    pub fn record(&self) -> PathBuf {
        self.path.join(format!(".datamill_uploaded_to_{}_{}.jsonl", self.topic, self.log))
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).read(true).write(true).open(path)
}

/// The name of a topic for file names: names that are too long end in a part of their hash.
fn file_name_part(topic: &str) -> String {
    match topic.get(..LONGEST_TOPIC) {
        Some(start) if topic.len() > LONGEST_TOPIC => {
            format!("{start}_{}", hex(&sha512(topic.as_bytes())[..4]))
        }
        _ => topic.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_watcher_of_the_same_topic_and_log_is_kept_off() {
        let dir = tempfile::tempdir().unwrap();
        let first = LogsFolder::open(dir.path(), "t", "log").unwrap();
        let second = LogsFolder::open(dir.path(), "t", "log");
        assert!(matches!(second, Err(UploadError::Watched { .. })), "{second:?}");
        LogsFolder::open(dir.path(), "u", "log").unwrap();
        LogsFolder::open(dir.path(), "t", "other").unwrap();
        drop(first);
        LogsFolder::open(dir.path(), "t", "log").unwrap();
    }

    #[test]
    fn the_longest_topic_fits_into_file_names() {
        let dir = tempfile::tempdir().unwrap();
        let topic = "x".repeat(249);
        let folder = LogsFolder::open(dir.path(), &topic, "log").unwrap();
        fs::write(folder.record(), "").unwrap();
        let other = format!("{}y", &topic[1..]);
        assert_ne!(file_name_part(&topic), file_name_part(&other));
    }
}
