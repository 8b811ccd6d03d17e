//! The folder `LOGS` of a watched folder: names of the files in it, and the lock that keeps a second
//! watcher off.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use datamill_wire::{hex, sha512};

use super::error::UploadError;
use super::filter::LOGS_FOLDER;
use crate::mark::Identity;

/// Longest topic name that becomes part of a file name as it is. File systems take 255 bytes.
const LONGEST_TOPIC: usize = 180;

/// The folder, locked for one topic of one log. The lock ends with the process, however it ends.
#[derive(Debug)]
pub struct LogsFolder {
    path: PathBuf,
    topic_name: String,
    topic: String,
    name: String,
    /// Missing where it could not be taken again.
    lock: Option<File>,
}

impl LogsFolder {
    /// Makes the folder where it is missing, and locks it for `topic` in the log with this id.
    ///
    /// # Errors
    /// Where it cannot be made, and where another process has the lock.
    pub fn open(root: &Path, topic: &str, log_id: &str) -> Result<Self, UploadError> {
        let name = Self::name(topic, log_id);
        let mut folder =
            Self { path: PathBuf::new(), topic_name: topic.to_owned(), topic: file_name_part(topic), name, lock: None };
        folder.go_to(root)?;
        Ok(folder)
    }

    /// Goes over to the folder in `root`, which may be the same one, and locks that.
    ///
    /// # Errors
    /// As [`LogsFolder::open`]; then nothing is locked.
    pub fn go_to(&mut self, root: &Path) -> Result<(), UploadError> {
        // the old lock would keep this process off the same folder
        self.lock = None;
        self.path = root.join(LOGS_FOLDER);
        let refused = |source| UploadError::LogsFolder { path: self.path.clone(), source };
        fs::create_dir_all(&self.path).map_err(refused)?;
        let lock = open_lock(&self.lock_path()).map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => self.lock = Some(lock),
            Err(TryLockError::WouldBlock) => {
                return Err(UploadError::Watched { root: root.to_owned(), topic: self.topic_name.clone() });
            }
            Err(TryLockError::Error(error)) => return Err(refused(error)),
        }
        Ok(())
    }

    /// What the names of the files of one topic in one log have in common.
    pub fn name(topic: &str, log_id: &str) -> String {
        format!("{}_{}", file_name_part(topic), hex(&sha512(log_id.as_bytes())[..4]))
    }

    /// Whether the lock that is held is the one that another process would find.
    pub fn is_in_place(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| Identity::is_of(&self.lock_path(), lock))
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
        self.path.join(format!(".datamill_uploaded_to_{}.jsonl", self.name))
    }

    fn lock_path(&self) -> PathBuf {
        self.path.join(format!(".datamill_upload_to_{}.lock", self.name))
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
