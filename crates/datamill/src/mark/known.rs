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

/// What is at the path, for someone who marks nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Same,
    /// Nothing, or a folder that lacks the mark of this one.
    Other,
    /// Another folder, or this one mounted anew: it has never had a mark.
    Unknown,
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

    /// The mark that it had when it was looked at last.
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.seen.lock().mark
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
    /// [`ErrorKind::NotFound`] where it is not there, or is another folder. The text names it.
    pub(crate) fn require(&self) -> io::Result<Checked> {
        let gone = |how: &str| {
            let text = format!("the folder `{}` is {how}: is its share not mounted?", self.path.display());
            Err(io::Error::new(ErrorKind::NotFound, text))
        };
        match self.check() {
            Ok(Checked::Other) => gone("another one than before"),
            Err(error) if error.kind() == ErrorKind::NotFound => gone("gone"),
            checked => checked,
        }
    }

    /// Looks what is at the path. Unlike [`KnownFolder::check`], it writes nothing.
    pub(crate) fn find(&self) -> Found {
        let mut seen = self.seen.lock();
        let (Ok(identity), Ok(mark)) = (Identity::of(&self.path), Mark::find(&self.path, &self.role)) else {
            return Found::Other;
        };
        match (mark, seen.mark) {
            (Some(mark), Some(before)) if mark == before => {}
            (Some(_), Some(_)) => return Found::Other,
            (_, before) if identity != seen.identity => {
                return if before.is_some() { Found::Other } else { Found::Unknown };
            }
            _ => {}
        }
        (seen.identity, seen.mark) = (identity, seen.mark.or(mark));
        Found::Same
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
    fn what_is_at_the_path_is_told_without_a_mark_as_well_and_nothing_is_written() {
        let place = tempfile::tempdir().unwrap();
        let (path, away) = (place.path().join("out"), place.path().join("away"));
        fs::create_dir(&path).unwrap();
        let folder = KnownFolder::open(&path, Role::Output).unwrap();
        for other in [Found::Unknown, Found::Other] {
            assert_eq!(folder.find(), Found::Same);
            fs::rename(&path, &away).unwrap();
            assert_eq!(folder.find(), Found::Other);
            fs::create_dir(&path).unwrap();
            assert_eq!(folder.find(), other);
            assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
            fs::remove_dir(&path).unwrap();
            fs::rename(&away, &path).unwrap();
            // a mark that it has got since is its own
            Mark::find_or_make(&path, &Role::Output).unwrap();
        }
        // as after a remount: another identity, the same mark
        folder.seen.lock().identity = Identity::of(Path::new("/proc")).unwrap();
        assert_eq!(folder.find(), Found::Same);
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
