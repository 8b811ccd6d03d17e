//! The folder that files go to, looked at before and after each file ([`crate::mark`]): while its share is not mounted,
//! or another folder is at its path, the program holds. Nothing counts as done that went to another folder.

use std::io::{self, ErrorKind as Io};
use std::path::{Path, PathBuf};

use crate::mark::{Checked, KnownFolder, OWN, Role};
use crate::process::ProcessingError;

/// See the module.
#[derive(Debug)]
pub(super) struct TargetFolder(KnownFolder);

impl TargetFolder {
    /// The folder as it is now.
    ///
    /// # Errors
    /// It is not there or cannot be read.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        KnownFolder::open(&path, Role::Target).map(Self)
    }

    #[cfg(feature = "object-store")]
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Looks whether the folder is the one that it was when it was opened; answers whether what datamill keeps in it
    /// was removed. The first look marks the folder.
    ///
    /// # Errors
    /// It is another one, or it cannot be looked at or marked: the program holds.
    pub(super) fn was_cleared(&self) -> Result<bool, ProcessingError> {
        let path = self.0.path();
        match self.0.check().map_err(|error| with_folder(path, &error))? {
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

/// Removes a folder that a start has made, if the start was refused before anything but its mark was put into it.
pub fn remove_unused(folder: &Path) {
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
