//! The folder that files go to, looked at before and after each file: a share that is not mounted, and a folder that
//! was moved away or made again, hold the program until it is back. Nothing counts as done that went to another one.
//!
//! Device, inode and mount tell that at once. What they leave open the mark of the folder decides ([`crate::mark`]):
//! a share that was mounted anew has another mount and the same mark.

use std::io::{self, ErrorKind as Io};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::mark::{Identity, Mark, Role};
use crate::process::ProcessingError;

/// How long the identity is enough: a file system that took the place of another one may have its numbers.
const READ_EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct TargetFolder {
    path: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    identity: Option<Identity>,
    /// Missing up to the first check of a folder that had none.
    mark: Option<Mark>,
    /// When the mark was read last, and was this one.
    read: Option<Instant>,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    AsBefore,
    /// The mark was removed, and perhaps more of what datamill keeps in the folder. It has its mark again.
    Cleared,
}

impl TargetFolder {
    /// The folder as it is now.
    ///
    /// # Errors
    /// It is not there or cannot be read.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let seen = Seen { identity: Identity::of(&path)?, mark: Mark::find(&path, &Role::Target)?, read: None };
        Ok(Self { path, seen: Mutex::new(seen) })
    }

    #[cfg(feature = "object-store")]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks whether the folder is the one that it was when it was opened. The first check marks it.
    ///
    /// # Errors
    /// It is another one, or it cannot be looked at or marked: the program holds.
    pub(super) fn check(&self) -> Result<Checked, ProcessingError> {
        let mut seen = self.seen.lock();
        let cannot = |error| with_folder(&self.path, &error);
        let identity = Identity::of(&self.path).map_err(cannot)?;
        let is_same = identity == seen.identity;
        if is_same && seen.read.is_some_and(|read| read.elapsed() < READ_EVERY) {
            return Ok(Checked::AsBefore);
        }
        let mut checked = Checked::AsBefore;
        let mark = match (Mark::find(&self.path, &Role::Target).map_err(cannot)?, seen.mark) {
            (None, None) if is_same => Mark::find_or_make(&self.path, &Role::Target).map_err(cannot)?,
            (None, Some(before)) if is_same => {
                checked = Checked::Cleared;
                before.give(&self.path, &Role::Target).map_err(cannot)?
            }
            (Some(mark), None) if is_same => mark,
            (Some(mark), Some(before)) if mark == before => mark,
            _ => {
                return Err(ProcessingError::not_available(format_args!(
                    "the folder `{}` is another one than before: is its share not mounted? If the folder was made again \
                    on purpose, stop the program and start it once with --same_group",
                    self.path.display()
                )));
            }
        };
        *seen = Seen { identity, mark: Some(mark), read: Some(Instant::now()) };
        Ok(checked)
    }
}

/// Something that concerns the whole folder: the program holds.
pub(super) fn with_folder(folder: &Path, error: &io::Error) -> ProcessingError {
    let what = match error.kind() {
        Io::StorageFull => "the disk is full".to_owned(),
        Io::QuotaExceeded => "the quota of the account is used up".to_owned(),
        Io::NotFound => "it or its folder `.datamill` is gone; is it on a share that is not mounted?".to_owned(),
        Io::PermissionDenied => "this account may not write there".to_owned(),
        Io::ReadOnlyFilesystem => "it is mounted read-only".to_owned(),
        _ => error.to_string(),
    };
    ProcessingError::not_available(format_args!("cannot write to the folder `{}`: {what}", folder.display()))
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;
    use crate::process::ErrorKind;

    #[test]
    fn another_folder_at_the_path_holds_until_the_one_before_is_back() {
        let place = tempfile::tempdir().unwrap();
        let (path, away) = (place.path().join("mirror"), place.path().join("away"));
        fs::create_dir(&path).unwrap();
        let folder = TargetFolder::open(path.clone()).unwrap();
        folder.check().unwrap();
        fs::rename(&path, &away).unwrap();
        assert_eq!(folder.check().unwrap_err().kind(), ErrorKind::NotAvailable);
        assert!(!path.exists());
        for marked in [false, true] {
            fs::create_dir(&path).unwrap();
            if marked {
                Mark::find_or_make(&path, &Role::Target).unwrap();
            }
            let error = folder.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotAvailable);
            assert!(error.to_string().contains("--same_group"), "{error}");
            assert_eq!(fs::read_dir(&path).unwrap().count(), usize::from(marked), "nothing is written there");
            fs::remove_dir_all(&path).unwrap();
        }
        fs::rename(&away, &path).unwrap();
        folder.check().unwrap();
    }

    #[test]
    fn a_folder_that_is_another_one_before_its_first_file_is_not_marked() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("mirror");
        fs::create_dir(&path).unwrap();
        let folder = TargetFolder::open(path.clone()).unwrap();
        fs::rename(&path, place.path().join("away")).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(folder.check().unwrap_err().kind(), ErrorKind::NotAvailable);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn a_mark_that_was_removed_is_given_again_and_a_copy_of_the_folder_counts_as_it() {
        let place = tempfile::tempdir().unwrap();
        let folder = TargetFolder::open(place.path().to_owned()).unwrap();
        folder.check().unwrap();
        let mark = Mark::find(place.path(), &Role::Target).unwrap().unwrap();
        fs::remove_dir_all(place.path().join(".datamill")).unwrap();
        std::thread::sleep(READ_EVERY);
        assert_eq!(folder.check().unwrap(), Checked::Cleared);
        assert_eq!(Mark::find(place.path(), &Role::Target).unwrap(), Some(mark));
        // as after a remount: another identity, the same mark
        folder.seen.lock().identity = Identity::of(Path::new("/proc")).unwrap();
        assert_eq!(folder.check().unwrap(), Checked::AsBefore);
    }
}
