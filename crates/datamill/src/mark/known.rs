//! A folder that is used for a while, looked at again and again: a share that is not mounted, and a folder that was
//! moved away or made again, are told from it.
//!
//! Device, inode and mount tell at once. What they leave open the mark decides: a share that was mounted anew has
//! another mount and the same mark.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Identity, Mark, Role};

/// How long the identity is enough: a file system that took the place of another one may have its numbers.
const READ_EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct KnownFolder {
    path: PathBuf,
    role: Role,
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
pub(crate) enum Checked {
    AsBefore,
    /// The mark was removed, and perhaps more of what datamill keeps in the folder. It has its mark again.
    Cleared,
    /// It is another folder.
    Other,
}

impl KnownFolder {
    /// The folder as it is now.
    ///
    /// # Errors
    /// It is not there or cannot be read.
    pub(crate) fn open(path: &Path, role: Role) -> io::Result<Self> {
        let seen = Seen { identity: Identity::of(path)?, mark: Mark::find(path, &role)?, read: None };
        Ok(Self { path: path.to_owned(), role, seen: Mutex::new(seen) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the very folder that was opened, or found by its mark since, is at the path.
    pub(crate) fn is_in_place(&self) -> bool {
        Identity::of(&self.path).is_ok_and(|identity| identity == self.seen.lock().identity)
    }

    /// Looks whether the folder is the one that it was when it was opened. The first check marks it.
    ///
    /// # Errors
    /// It is not there, or it cannot be read or marked.
    pub(crate) fn check(&self) -> io::Result<Checked> {
        let mut seen = self.seen.lock();
        let identity = Identity::of(&self.path)?;
        let is_same = identity == seen.identity;
        if is_same && seen.read.is_some_and(|read| read.elapsed() < READ_EVERY) {
            return Ok(Checked::AsBefore);
        }
        let mut checked = Checked::AsBefore;
        let mark = match (Mark::find(&self.path, &self.role)?, seen.mark) {
            (None, None) if is_same => Mark::find_or_make(&self.path, &self.role)?,
            (None, Some(before)) if is_same => {
                checked = Checked::Cleared;
                before.give(&self.path, &self.role)?
            }
            (Some(mark), None) if is_same => mark,
            (Some(mark), Some(before)) if mark == before => mark,
            _ => return Ok(Checked::Other),
        };
        *seen = Seen { identity, mark: Some(mark), read: Some(Instant::now()) };
        Ok(checked)
    }

    /// As [`KnownFolder::check`], where another folder is an error as well.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where it is another folder.
    pub(crate) fn require(&self) -> io::Result<Checked> {
        match self.check()? {
            Checked::Other => Err(io::Error::new(
                ErrorKind::NotFound,
                format!("the folder `{}` is another one than before: is its share not mounted?", self.path.display()),
            )),
            checked => Ok(checked),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn another_folder_at_the_path_holds_until_the_one_before_is_back() {
        let place = tempfile::tempdir().unwrap();
        let (path, away) = (place.path().join("mirror"), place.path().join("away"));
        fs::create_dir(&path).unwrap();
        let folder = KnownFolder::open(&path, Role::Target).unwrap();
        folder.check().unwrap();
        fs::rename(&path, &away).unwrap();
        assert_eq!(folder.check().unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!path.exists());
        for marked in [false, true] {
            fs::create_dir(&path).unwrap();
            if marked {
                Mark::find_or_make(&path, &Role::Target).unwrap();
            }
            assert_eq!(folder.check().unwrap(), Checked::Other);
            assert!(folder.require().unwrap_err().to_string().contains("is its share not mounted?"));
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
        let folder = KnownFolder::open(&path, Role::Target).unwrap();
        fs::rename(&path, place.path().join("away")).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(folder.check().unwrap(), Checked::Other);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn a_mark_that_was_removed_is_given_again_and_a_copy_of_the_folder_counts_as_it() {
        let place = tempfile::tempdir().unwrap();
        let folder = KnownFolder::open(place.path(), Role::Target).unwrap();
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
