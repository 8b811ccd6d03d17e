//! The folder that files go to, looked at before and after each file ([`crate::mark`]): while its share is not mounted,
//! or another folder is at its path, the program holds. Nothing counts as done that went to another folder.

use std::io::{self, ErrorKind as Io};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::mark::{Checked, KnownFolder, OWN, Role};
use crate::process::ProcessingError;

/// See the module. A folder that this start has made goes with it, where nothing but its mark was put into it and no
/// group knows that: a start that was refused leaves nothing behind, and no later one misses a folder that it knows.
#[derive(Debug)]
pub(super) struct TargetFolder {
    known: KnownFolder,
    is_new: bool,
    is_kept: Arc<AtomicBool>,
}

impl TargetFolder {
    /// The folder as it is now; it is made where it is missing.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub(super) fn open_or_make(path: &Path) -> io::Result<Self> {
        let is_new = !path.exists();
        std::fs::create_dir_all(path)?;
        let known = KnownFolder::open(&path.canonicalize()?, Role::Target)?;
        Ok(Self { known, is_new, is_kept: Arc::default() })
    }

    /// Is set once a group may know the folder.
    pub(super) fn is_kept(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_kept)
    }

    pub(super) fn path(&self) -> &Path {
        self.known.path()
    }

    /// Looks whether the folder is the one that it was when it was opened; answers whether what datamill keeps in it
    /// was removed. The first look marks the folder.
    ///
    /// # Errors
    /// It is another one, or it cannot be looked at or marked: the program holds.
    pub(super) fn was_cleared(&self) -> Result<bool, ProcessingError> {
        let path = self.known.path();
        match self.known.check().map_err(|error| with_folder(path, &error))? {
            Checked::AsBefore => Ok(false),
            Checked::Cleared => Ok(true),
            Checked::Other => Err(ProcessingError::not_available(format_args!(
                "the folder `{}` is another one than before: is its share not mounted? If the folder was made again on \
                purpose, stop the program and start it once with --same_group",
                path.display()
            ))),
        }
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

impl Drop for TargetFolder {
    fn drop(&mut self) {
        if self.is_new && !self.is_kept.load(Relaxed) && self.known.is_in_place() {
            remove_unused(self.known.path());
        }
    }
}

/// Removes a folder that holds nothing but its mark.
fn remove_unused(folder: &Path) {
    if std::fs::remove_dir(folder).is_ok() {
        return;
    }
    let holds_only = |folder: &Path, name: &str| {
        std::fs::read_dir(folder).is_ok_and(|entries| entries.flatten().all(|entry| entry.file_name() == name))
    };
    let (own, mark) = (folder.join(OWN), Role::Target.file_in(folder));
    if holds_only(folder, OWN) && mark.file_name().is_some_and(|name| holds_only(&own, &name.to_string_lossy())) {
        // whatever stays is looked at at the next start
        let _ = std::fs::remove_file(mark);
        let _ = std::fs::remove_dir(own);
        let _ = std::fs::remove_dir(folder);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_a_start_has_made_goes_with_it_unless_it_is_known_filled_or_another_one() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/mirror");
        drop(TargetFolder::open_or_make(&path).unwrap());
        assert!(!path.exists() && place.path().join("a").exists());
        let marked = TargetFolder::open_or_make(&path).unwrap();
        marked.was_cleared().unwrap();
        assert!(Role::Target.file_in(&path).exists());
        drop(marked);
        assert!(!path.exists());

        let filled = TargetFolder::open_or_make(&path).unwrap();
        std::fs::write(path.join("scan.csv"), "1").unwrap();
        drop(filled);
        std::fs::remove_file(path.join("scan.csv")).unwrap();
        // it was there before this start
        drop(TargetFolder::open_or_make(&path).unwrap());
        std::fs::remove_dir(&path).unwrap();

        let known = TargetFolder::open_or_make(&path).unwrap();
        known.was_cleared().unwrap();
        known.is_kept().store(true, Relaxed);
        drop(known);
        assert!(Role::Target.file_in(&path).exists());
        std::fs::remove_dir_all(&path).unwrap();

        let moved = TargetFolder::open_or_make(&path).unwrap();
        std::fs::rename(&path, place.path().join("away")).unwrap();
        std::fs::create_dir(&path).unwrap();
        drop(moved);
        assert!(path.exists(), "another folder is at its path");
    }
}
