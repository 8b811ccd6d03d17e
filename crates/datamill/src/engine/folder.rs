//! The output folder and the lock that makes it one program's own.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datamill_broker::{FileLock, OwnFiles};

use super::EngineError;
pub(crate) use crate::mark::OWN;
use crate::mark::{KnownFolder, Role, is_filled, is_marked, is_output_folder};

/// Folder of the log file and the registry files inside the output folder.
pub(crate) const LOGS: &str = "LOGS";

/// Whether a file of this relative path would lie in a folder that the program keeps for itself, or be one of the
/// files by which programs know their folders. Case counts for nothing, as on some file systems.
pub(crate) fn is_reserved(path: &str) -> bool {
    let is_own = |part: &str| part.get(..OWN.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN));
    path.split('/').any(is_own) || path.split('/').next().is_some_and(|first| first.eq_ignore_ascii_case(LOGS))
}

/// Why no file is put at this path of a folder, where something of a program's lies there: a file of the log, or the
/// folder of another program.
pub(crate) fn taken(folder: &Path, path: &str, log: &OwnFiles) -> Option<String> {
    if log.would_hold(&folder.join(path)) {
        return Some(format!(
            "`{path}` in `{}` is a file of the embedded log, which holds the topics: nothing is put in its place. The \
            file stays in the topic; choose another folder for it",
            folder.display()
        ));
    }
    let own = path.match_indices('/').find(|(end, _)| {
        let (inside, below) = (folder.join(&path[..*end]), &path[end + 1..]);
        // two downloads may fill one folder
        let is_shared = || is_filled(&inside) && !is_reserved(below);
        is_output_folder(&inside) && !is_shared() || is_marked(&inside, &Role::Logs)
    });
    let inside = &path[..own?.0];
    Some(format!(
        "`{inside}` in `{}` is a folder in which another program keeps its own files: nothing is put into it. The file \
        stays in the topic; choose another folder for it",
        folder.display()
    ))
}

/// The output folder, locked as long as this lives.
#[derive(Debug)]
pub(super) struct OutputFolder {
    own: PathBuf,
    known: Arc<KnownFolder>,
    _lock: FileLock,
}

impl OutputFolder {
    pub(super) fn take(output_dir: &Path, log: &OwnFiles) -> Result<Self, EngineError> {
        let own = output_dir.join(OWN);
        if log.are_in(&own) {
            // what is in there is removed at a start
            return Err(EngineError::LogInside(own));
        }
        let failed = |e| EngineError::output(output_dir, e);
        std::fs::create_dir_all(&own).map_err(failed)?;
        let lock = File::options().write(true).create(true).truncate(false).open(own.join("lock")).map_err(failed)?;
        match FileLock::take(lock, Duration::ZERO) {
            Ok(lock) => {
                let known = KnownFolder::open(output_dir, Role::Output).map_err(failed)?;
                known.require().map_err(failed)?;
                Ok(Self { own, known: Arc::new(known), _lock: lock })
            }
            Err(TryLockError::WouldBlock) => Err(EngineError::OutputInUse(output_dir.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The folder, by which it is told from another one at its path.
    pub(super) fn known(&self) -> &Arc<KnownFolder> {
        &self.known
    }

    /// Folder of what the program keeps for itself.
    pub(super) fn own(&self) -> &Path {
        &self.own
    }

    /// Folder of files that fill up.
    pub(super) fn filling(&self) -> PathBuf {
        self.own.join("filling")
    }

    /// Folder of files that user code reads.
    pub(super) fn work(&self) -> PathBuf {
        self.own.join("work")
    }
}
