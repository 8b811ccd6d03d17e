//! The output folder and the lock that makes it one program's own.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill_broker::{FileLock, OwnFiles};
use datamill_wire::name::fault_on_windows;
use parking_lot::Mutex;

use super::EngineError;
use crate::assemble::DownloadDataFile;
use crate::durable::is_full;
use crate::facts::{Fact, Facts};
use crate::mark::{KnownFolder, OWN, Role, is_filled, is_marked, is_output_folder, is_reserved};

/// Why no file is put at this path of a folder, where the system has no such path, or something of a program's lies
/// there: a file of the log, or the folder of another program.
pub(crate) fn taken(folder: &Path, path: &str, log: &OwnFiles) -> Option<String> {
    if cfg!(windows)
        && let Some(fault) = fault_on_windows(path)
    {
        return Some(format!("no file can have the path `{path}` on this system: it {fault}"));
    }
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

/// How often it is looked whether the folder is there, where nothing is to be put into it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The output folder while the program runs: it may go away, as a share does that is unmounted, and come back. Whoever
/// makes something in it asks [`require`](Self::require) first, so that nothing is made in what is at its path meanwhile.
/// Once it is gone that is told, and once it is back.
pub(super) struct Output {
    known: Arc<KnownFolder>,
    facts: Facts,
    seen: Mutex<Seen>,
    /// Files that have their outcome, and whose place in the folder was gone.
    unplaced: Mutex<Vec<(Arc<str>, Box<DownloadDataFile>)>>,
}

struct Seen {
    is_gone: bool,
    looked: Instant,
}

impl Output {
    pub(super) fn new(known: &Arc<KnownFolder>, facts: &Facts) -> Self {
        let seen = Mutex::new(Seen { is_gone: false, looked: Instant::now() });
        Self { known: Arc::clone(known), facts: facts.clone(), seen, unplaced: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        self.known.path()
    }

    /// Looks whether the folder is there.
    ///
    /// # Errors
    /// It is gone, or another one is at its path. The text names it.
    pub(super) fn require(&self) -> io::Result<()> {
        let found = self.known.require();
        let mut seen = self.seen.lock();
        seen.looked = Instant::now();
        if std::mem::replace(&mut seen.is_gone, found.is_err()) != found.is_err() {
            let text = found.as_ref().err().map(ToString::to_string);
            // others may look at the same time: what is told last is so
            self.facts.tell(&Fact::OutputFolder { gone: text.as_deref() });
        }
        found.map(drop)
    }

    /// Looks whether the folder is there, once in a while and each time while it is gone, and puts files into it that wait
    /// for that.
    pub(super) fn tick(&self) {
        let is_due = {
            let seen = self.seen.lock();
            seen.is_gone || seen.looked.elapsed() >= LOOK_EVERY
        };
        if is_due {
            // what comes of it is told
            let _ = self.place_rest();
        }
    }

    /// As it was found last.
    pub(super) fn is_gone(&self) -> bool {
        self.seen.lock().is_gone
    }

    /// Gives a file that has its outcome its place. Where the folder is gone, the file waits for that.
    pub(super) fn place(&self, mut file: Box<DownloadDataFile>) {
        let path: Arc<str> = file.relative_path().into();
        let mut unplaced = self.unplaced.lock();
        if !unplaced.is_empty() {
            // an earlier version of it may wait
            return unplaced.push((path, file));
        }
        match file.publish(self.path()) {
            Ok(()) => {}
            Err(error) if is_full(&error) || self.require().is_err() => unplaced.push((path, file)),
            Err(error) => tell_unplaced(&path, &error.to_string()),
        }
    }

    /// Gives the files that wait their places.
    ///
    /// # Errors
    /// The folder is gone, or has no room.
    pub(super) fn place_rest(&self) -> io::Result<()> {
        self.require()?;
        let mut unplaced = self.unplaced.lock();
        while let Some((path, file)) = unplaced.first_mut() {
            match file.publish(self.path()) {
                Err(error) if is_full(&error) => return Err(error),
                Err(error) => {
                    self.require()?;
                    tell_unplaced(path, &error.to_string());
                }
                Ok(()) => {}
            }
            unplaced.remove(0);
        }
        Ok(())
    }

    /// The run is over: names the files that have not got their places.
    pub(super) fn end(&self) {
        if let Err(error) = self.place_rest() {
            let error = error.to_string();
            self.unplaced.lock().drain(..).for_each(|(path, _)| tell_unplaced(&path, &error));
        }
    }
}

fn tell_unplaced(file: &str, error: &str) {
    tracing::error!(
        file,
        error,
        "the file cannot get its place in the output folder; its outcome is committed, and \
        `datamill get` fetches the file"
    );
}

#[cfg(test)]
impl Output {
    /// This folder, as the engine has it.
    pub(super) fn of(folder: &Path) -> Self {
        let known = KnownFolder::open(folder, Role::Output).unwrap();
        known.require().unwrap();
        Self::new(&Arc::new(known), &Facts::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_windows_cannot_hold_is_refused_there_alone() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a:b.csv", "sub/nul", "..\\..\\out.csv", "name."] {
            let refusal = taken(folder.path(), path, &OwnFiles::default());
            assert_eq!(refusal.is_some(), cfg!(windows), "{path}: {refusal:?}");
        }
        assert_eq!(taken(folder.path(), "sub/a.csv", &OwnFiles::default()), None);
    }
}
