//! The folder of files that are open for long, as `LOGS`. Where somebody removed it, it is made again, in the very folder
//! that it was in: while a share is not mounted, its mount point is there, and nothing is made in that.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::mark::{Found, KnownFolder, Role};

/// See the module.
#[derive(Debug)]
pub(crate) struct Home {
    folder: PathBuf,
    /// The folder above. `None` where it cannot be looked at.
    above: Option<KnownFolder>,
}

impl Home {
    /// The folder of this file, which is there.
    pub(crate) fn of(file: &Path) -> Self {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let folder = file.parent().unwrap_or(&file).to_owned();
        let above = folder.parent().and_then(|above| KnownFolder::open(above, Role::Output).ok());
        Self { folder, above }
    }

    /// Makes the folder where it was removed.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where the folder above is gone, or another one is at its path.
    pub(crate) fn make(&self) -> io::Result<()> {
        let is_there = match self.above.as_ref().map(KnownFolder::find) {
            None | Some(Found::Same) => None,
            Some(Found::Other) => Some(false),
            Some(Found::Unknown) => Some(self.folder.is_dir()),
        };
        match is_there {
            Some(true) => Ok(()),
            Some(false) => {
                let above = self.folder.parent().unwrap_or(&self.folder).display();
                let text =
                    format!("the folder `{above}` is gone, or is another one than before: is its share not mounted?");
                Err(io::Error::new(ErrorKind::NotFound, text))
            }
            None => make(&self.folder),
        }
    }
}

/// Makes a folder, but none above it.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}
