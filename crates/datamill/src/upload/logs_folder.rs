//! The folder in which a watch keeps its record and its tables: where it is, names of the files in it, and the locks
//! that keep a second watcher off.
//!
//! ```text
//! ROOT/LOGS            usually, also beside OpenMSIStream's tables
//! ROOT/LOGS_datamill   where LOGS is the user's own
//! DIR                  where the user says so; outside of ROOT, the name of the record holds the path of ROOT as well
//! ```

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use datamill_broker::FileLock;
use datamill_wire::{hex, sha512};
use tracing::debug;

use super::error::UploadError;
use super::one_watcher::OneWatcher;
use super::own_folders::is_logs_of_programs;
use crate::mark::{Identity, LOGS, Mark, Role, is_marked, is_refused};

/// Name of the folder where the user has a folder `LOGS` of his own.
const BESIDE_LOGS: &str = "LOGS_datamill";

/// Longest topic name that becomes part of a file name as it is. File systems take 255 bytes.
const LONGEST_TOPIC: usize = 170;

/// The folder for the record and the tables of a watch of `root`, made where it is missing: `logs_dir` where the user
/// names one.
///
/// # Errors
/// Where it cannot be made or written to, and where the user has folders of all the names that it could have.
pub fn logs_folder(root: &Path, logs_dir: Option<&Path>) -> Result<PathBuf, UploadError> {
    let path = match logs_dir {
        Some(path) => path.to_owned(),
        None => usual(root)?,
    };
    let made = fs::create_dir_all(&path).and_then(|()| match Mark::find_or_make(&path, &Role::Logs) {
        Err(error) if is_refused(&error) => Err(error),
        Err(error) => {
            // The names of the files in it tell what it is as well.
            debug!(file = %path.display(), error = %error, "the folder gets no mark");
            Ok(())
        }
        Ok(_) => Ok(()),
    });
    match made {
        Ok(()) => Ok(path),
        // Whoever needs a file in it waits until there is room.
        Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Ok(path),
        Err(source) => Err(UploadError::LogsFolder { path, source }),
    }
}

/// Where the folder is if the user says nothing. A folder that has been used stays the one that is used.
fn usual(root: &Path) -> Result<PathBuf, UploadError> {
    let (logs, beside) = (root.join(LOGS), root.join(BESIDE_LOGS));
    if !is_marked(&beside, &Role::Logs) && (!logs.exists() || is_logs_of_programs(&logs)) {
        return Ok(logs);
    }
    let is_users = beside.exists() && !is_logs_of_programs(&beside);
    if is_users { Err(UploadError::NoLogsFolder { logs, beside }) } else { Ok(beside) }
}

/// The folder, locked for one topic of one log. The locks end with the process, however it ends.
#[derive(Debug)]
pub(crate) struct LogsFolder {
    /// The path that the user named as the watched folder.
    named: PathBuf,
    logs_dir: Option<PathBuf>,
    path: PathBuf,
    topic_name: String,
    log_id: String,
    /// What follows the topic and the log in the name of the record.
    of_root: String,
    /// Both are missing where they could not be taken again.
    lock: Option<FileLock>,
    one_watcher: Option<OneWatcher>,
}

impl LogsFolder {
    /// Makes the folder where it is missing, and locks it for `topic` in the log with this id. `root` is where the
    /// path `named` leads, without links; `logs_dir` as in [`logs_folder`].
    ///
    /// # Errors
    /// As [`logs_folder`]; where another process watches the folder; and where `logs_dir` is named although there is
    /// a record in the usual place, as what that names would be sent twice.
    pub(crate) fn open(
        named: &Path,
        root: &Path,
        logs_dir: Option<&Path>,
        topic: &str,
        log_id: &str,
    ) -> Result<Self, UploadError> {
        let mut folder = Self::unlocked(named, logs_dir, topic, log_id);
        folder.go_to(root)?;
        Ok(folder)
    }

    /// Where the folder is, is not known yet.
    fn unlocked(named: &Path, logs_dir: Option<&Path>, topic: &str, log_id: &str) -> Self {
        Self {
            named: named.to_owned(),
            logs_dir: logs_dir.map(Path::to_owned),
            path: PathBuf::new(),
            topic_name: topic.to_owned(),
            log_id: log_id.to_owned(),
            of_root: String::new(),
            lock: None,
            one_watcher: None,
        }
    }

    /// The folder as it is, to look at what is in it: nothing is made or locked. The rest as in [`LogsFolder::open`].
    ///
    /// # Errors
    /// Where the user has folders of all the names that it could have.
    pub(crate) fn seen(
        named: &Path,
        root: &Path,
        logs_dir: Option<&Path>,
        topic: &str,
        log_id: &str,
    ) -> Result<Self, UploadError> {
        let path = logs_dir.map_or_else(|| usual(root), |path| Ok(path.to_owned()))?;
        let path = path.canonicalize().unwrap_or(path);
        let of_root = of_root(named, &path, root);
        Ok(Self { of_root, path, ..Self::unlocked(named, logs_dir, topic, log_id) })
    }

    /// Whether a process of this machine has the lock, as the system's list of locks says: trying it would keep a watch
    /// off that starts at this moment. `None` where there is no such list.
    pub(crate) fn is_locked(&self) -> Option<bool> {
        is_in_locks(&self.lock_in(&self.path))
    }

    /// Goes over to the folder for `root`, which may be the same one, and locks that.
    ///
    /// # Errors
    /// As [`LogsFolder::open`]; then nothing is locked.
    pub(crate) fn go_to(&mut self, root: &Path) -> Result<(), UploadError> {
        // the old locks would keep this process off the same folder
        (self.lock, self.one_watcher) = (None, None);
        let path = logs_folder(root, self.logs_dir.as_deref())?;
        let refused = |source| UploadError::LogsFolder { path: path.clone(), source };
        // where the disk is full, it may not be there
        let made = if path.exists() { Ok(()) } else { fs::create_dir_all(&path) };
        let real = made.and_then(|()| path.canonicalize()).map_err(refused)?;
        let watched = || UploadError::Watched { root: root.to_owned(), topic: self.topic_name.clone() };
        let one_watcher =
            OneWatcher::take(root, &format!("{}\n{}", self.topic_name, self.log_id)).map_err(|()| watched())?;
        let is_outside = !real.starts_with(root);
        let of_root = of_root(&self.named, &real, root);
        let usual = [LOGS, BESIDE_LOGS].map(|name| root.join(name));
        if !usual.contains(&real) {
            let records = usual.map(|usual| usual.join(self.record_name("")));
            if let Some(record) = records.into_iter().find(|record| record.exists()) {
                return Err(UploadError::RecordElsewhere { record, to: real.join(self.record_name(&of_root)) });
            }
        }
        let lock = open_lock(&self.lock_in(&real)).map_err(refused)?;
        let lock = FileLock::take(lock, Duration::ZERO).map_err(|error| match error {
            TryLockError::WouldBlock if is_outside => UploadError::LogsFolderInUse(path.clone()),
            TryLockError::WouldBlock => watched(),
            TryLockError::Error(error) => refused(error),
        })?;
        (self.lock, self.one_watcher) = (Some(lock), one_watcher);
        (self.path, self.of_root) = (real, of_root);
        Ok(())
    }

    /// What the names of the files of one topic in one log have in common.
    pub(crate) fn name(topic: &str, log_id: &str) -> String {
        format!("{}_{}", file_name_part(topic), digits(log_id.as_ref()))
    }

    /// Whether the lock that is held is the one that another process would find.
    pub(crate) fn is_in_place(&self) -> bool {
        self.lock.as_ref().is_some_and(|lock| Identity::is_of(&self.lock_in(&self.path), lock))
    }

    /// The folder, without links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The topic as file names hold it.
    pub(crate) fn topic(&self) -> String {
        file_name_part(&self.topic_name)
    }

    /// Where the durable record is.
    pub(crate) fn record(&self) -> PathBuf {
        self.path.join(self.record_name(&self.of_root))
    }

    fn record_name(&self, of_root: &str) -> String {
        format!(".datamill_uploaded_to_{}{of_root}.jsonl", Self::name(&self.topic_name, &self.log_id))
    }

    fn lock_in(&self, folder: &Path) -> PathBuf {
        folder.join(format!(".datamill_upload_to_{}.lock", Self::name(&self.topic_name, &self.log_id)))
    }
}

/// What the name of the record says of the watched folder, where it lies outside of that.
fn of_root(named: &Path, logs: &Path, root: &Path) -> String {
    if logs.starts_with(root) { String::new() } else { format!("_{}", digits(named.as_os_str())) }
}

#[cfg(target_os = "linux")]
fn is_in_locks(path: &Path) -> Option<bool> {
    use std::os::unix::fs::MetadataExt;

    let locks = fs::read_to_string("/proc/locks").ok()?;
    let Ok(inode) = fs::metadata(path).map(|found| found.ino()) else { return Some(false) };
    // the device of the list is not the one that file systems made of others tell
    let of_inode = format!(":{inode} ");
    Some(locks.lines().any(|line| line.contains(" FLOCK ") && line.contains(&of_inode)))
}

#[cfg(not(target_os = "linux"))]
fn is_in_locks(_: &Path) -> Option<bool> {
    None
}

fn open_lock(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).read(true).write(true).open(path)
}

fn digits(of: &OsStr) -> String {
    hex(&sha512(of.as_encoded_bytes())[..4])
}

/// The name of a topic for file names: names that are too long end in a part of their hash.
fn file_name_part(topic: &str) -> String {
    match topic.get(..LONGEST_TOPIC) {
        Some(start) if topic.len() > LONGEST_TOPIC => format!("{start}_{}", digits(topic.as_ref())),
        _ => topic.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_at(root: &Path, logs_dir: Option<&Path>, topic: &str, log: &str) -> Result<LogsFolder, UploadError> {
        LogsFolder::open(root, root, logs_dir, topic, log)
    }

    fn open(root: &Path, topic: &str, log: &str) -> Result<LogsFolder, UploadError> {
        open_at(&root.canonicalize().unwrap(), None, topic, log)
    }

    #[test]
    fn a_second_watcher_of_the_same_topic_and_log_is_kept_off() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), "t", "log").unwrap();
        let second = open(dir.path(), "t", "log");
        assert!(matches!(second, Err(UploadError::Watched { .. })), "{second:?}");
        open(dir.path(), "u", "log").unwrap();
        open(dir.path(), "t", "other").unwrap();
        drop(first);
        open(dir.path(), "t", "log").unwrap();
    }

    #[test]
    fn a_second_watcher_on_this_machine_is_kept_off_wherever_its_record_is() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = dir.path().canonicalize().unwrap();
        let _first = open_at(&root, Some(&elsewhere.path().join("a")), "t", "log").unwrap();
        for logs_dir in [None, Some(elsewhere.path().join("b"))] {
            let second = open_at(&root, logs_dir.as_deref(), "t", "log");
            assert!(matches!(second, Err(UploadError::Watched { .. })), "{second:?}");
        }
    }

    #[test]
    fn a_record_elsewhere_is_for_one_folder_and_is_not_begun_beside_the_one_that_is_there() {
        let elsewhere = tempfile::tempdir().unwrap();
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, two] = dirs.each_ref().map(|dir| dir.path().canonicalize().unwrap());
        let first = open_at(&one, Some(elsewhere.path()), "t", "log").unwrap();
        fs::write(first.record(), "").unwrap();
        let second = open_at(&two, Some(elsewhere.path()), "t", "log");
        assert!(matches!(second, Err(UploadError::LogsFolderInUse(_))), "{second:?}");
        let used = first.record();
        drop(first);
        let second = open_at(&two, Some(elsewhere.path()), "t", "log").unwrap();
        assert_ne!(second.record(), used);
        drop(second);
        assert_eq!(open_at(&one, Some(elsewhere.path()), "t", "log").unwrap().record(), used);

        let usual = open_at(&two, None, "t", "log").unwrap().record();
        fs::write(&usual, "").unwrap();
        let error = open_at(&two, Some(elsewhere.path()), "t", "log").unwrap_err();
        assert!(matches!(&error, UploadError::RecordElsewhere { record, .. } if *record == usual), "{error}");
        let named = open_at(&two, Some(&two.join("LOGS")), "t", "log").unwrap();
        assert_eq!(named.record(), usual, "the usual place may be named as well");
    }

    #[test]
    fn a_folder_of_the_users_is_left_to_him() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("LOGS")).unwrap();
        fs::write(root.join("LOGS/scan.csv"), "data").unwrap();
        assert_eq!(logs_folder(&root, None).unwrap(), root.join("LOGS_datamill"));
        // also once another program begins to keep its tables there
        fs::write(root.join("LOGS/uploaded_to_t.csv"), "").unwrap();
        assert_eq!(logs_folder(&root, None).unwrap(), root.join("LOGS_datamill"));
        assert!(!is_marked(&root.join("LOGS"), &Role::Logs));

        fs::remove_dir_all(root.join("LOGS_datamill")).unwrap();
        assert_eq!(logs_folder(&root, None).unwrap(), root.join("LOGS"), "it holds a table of OpenMSIStream");
        assert!(is_marked(&root.join("LOGS"), &Role::Logs));

        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("LOGS")).unwrap();
        fs::create_dir(dir.path().join("LOGS_datamill")).unwrap();
        let error = logs_folder(dir.path(), None).unwrap_err();
        assert!(error.to_string().contains("--logs_dir"), "{error}");
    }

    #[test]
    fn the_longest_topic_fits_into_file_names() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let topic = "x".repeat(249);
        let root = dir.path().canonicalize().unwrap();
        let folder = open_at(&root, Some(elsewhere.path()), &topic, "log").unwrap();
        fs::write(folder.record(), "").unwrap();
        let other = format!("{}y", &topic[1..]);
        assert_ne!(file_name_part(&topic), file_name_part(&other));
    }
}
