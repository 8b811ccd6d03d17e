//! Content that is on its way to its name: on the same file system, and on the disk before it gets it.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tempfile::TempPath;

use crate::assemble::{DownloadDataFile, SpillFolder};

/// The folder of one process for content that has no name yet.
#[derive(Debug)]
pub(super) struct AsideFolder {
    folder: SpillFolder,
    next: AtomicU64,
}

impl AsideFolder {
    /// Makes the folder and empties it: what is in it was left by a program that was killed.
    pub(super) fn prepare(folder: PathBuf) -> io::Result<Self> {
        Ok(Self { folder: SpillFolder::prepare(folder)?, next: AtomicU64::new(0) })
    }

    /// Makes the folder again where it was removed.
    pub(super) fn make_again(&self) -> io::Result<()> {
        std::fs::create_dir_all(self.folder.path())
    }

    /// Whether the file system does not tell `a` from `A`.
    pub(super) fn folds_case(&self) -> io::Result<bool> {
        let probe = self.folder.path().join("probe");
        File::create(&probe)?;
        let folds = self.folder.path().join("PROBE").exists();
        std::fs::remove_file(probe)?;
        Ok(folds)
    }
}

/// A whole file without a name of its own; it is removed if it gets none.
#[derive(Debug)]
pub(super) struct Aside {
    path: TempPath,
    written: Metadata,
}

impl Aside {
    /// Puts the content on the disk, with the modification time of its source. A file that lies on this
    /// file system already is linked, not copied.
    pub(super) fn write(folder: &AsideFolder, file: &DownloadDataFile) -> io::Result<Self> {
        let path = folder.folder.path().join(folder.next.fetch_add(1, Relaxed).to_string());
        let path = TempPath::try_from_path(path)?;
        let content = if file.link_to(&path) {
            File::options().write(true).open(&path)?
        } else {
            let mut content = File::create(&path)?;
            io::copy(&mut file.reader()?, &mut content)?;
            content
        };
        if let Some(time) = file.modified() {
            // a file system that keeps no such times still holds the file
            let _ = content.set_modified(time);
        }
        content.sync_all()?;
        let written = content.metadata()?;
        Ok(Self { path, written })
    }

    /// Size and times, as they are on the disk.
    pub(super) fn metadata(&self) -> &Metadata {
        &self.written
    }

    /// Gives the content its name, in place of what has it.
    pub(super) fn rename(self, to: &Path) -> io::Result<()> {
        self.path.persist(to).map_err(|error| error.error)
    }
}
