//! A folder that mirrors a topic.
//!
//! ```text
//!  memory, or spilled file ──write or link──▶ .datamill/aside/{process}/n ──fsync──┐
//!                                                                                 rename ──▶ DIR/a/b.csv
//!  .datamill/origins/xx ◀──lock: which version is there? ─────────────────────────┘  then fsync of DIR/a, then
//!                                                                                  the record of where it came from
//! ```
//!
//! Whether a version is written is decided under a lock that all processes of the folder share, from what
//! is recorded of the one that is there ([`super::origins`]), so that late repetitions of older versions
//! never replace newer ones, whoever wrote them. Before and after each file, the folder is looked at
//! ([`super::folder`]): what went to another one does not count.

mod aside;
mod trouble;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use datamill_broker::OwnFiles;
use datamill_wire::Sha512Hasher;
use parking_lot::Mutex;

use self::aside::{Aside, AsideFolder};
use super::OnExists;
use super::folder::TargetFolder;
use super::on_exists::{Decision, LONGEST_NAME, Order, Stand, version_name};
use super::origins::{Found, Locked, Origin, Origins, kept};
use crate::assemble::DownloadDataFile;
use crate::durable::sync_folder;
use crate::engine::taken;
use crate::mark::{OWN, is_reserved};
use crate::process::{DataFileStreamProcessor, Lock, ProcessingError, Target, UserCode};

/// Folders that are known to be durable; more are made so again.
const MAX_DURABLE: usize = 10_000;

/// Keeps a folder like the topic: each file under its relative path, with its modification time.
///
/// A file appears under its name only when it is whole, verified and on the disk. The same version is
/// never written twice. Several processes may share the folder, each with an output folder of its own.
#[derive(Debug)]
pub struct DownloadDirectory {
    folder: PathBuf,
    /// The folder of the program's log and registry, where it lies in the folder: no file goes there.
    output: Option<PathBuf>,
    /// This process's name among those that share the folder.
    process: String,
    on_exists: OnExists,
    target: TargetFolder,
    parts: OnceLock<Parts>,
    preparing: Mutex<()>,
    durable: Mutex<HashSet<PathBuf>>,
    /// Files that have taken the place of another version.
    replaced: Arc<AtomicU64>,
}

/// What is made when the first file comes: then the engine holds the lock on the output folder.
#[derive(Debug)]
struct Parts {
    aside: AsideFolder,
    origins: Origins,
}

/// What is at a path.
enum There {
    Nothing,
    /// This version, and where it was read from if that is recorded.
    Same(Option<Origin>),
    /// Another one.
    Other(Stand),
}

impl DownloadDirectory {
    /// Files go to `folder`, which is made where it is missing, and removed again where the program does not get so far
    /// that its group knows it; `output_dir` is the program's.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(folder: &Path, output_dir: &Path, on_exists: OnExists) -> io::Result<Self> {
        let target = TargetFolder::open_or_make(folder)?;
        std::fs::create_dir_all(output_dir)?;
        let (folder, output_dir) = (target.path().to_owned(), output_dir.canonicalize()?);
        let inside = output_dir.strip_prefix(&folder).ok().filter(|inside| !inside.as_os_str().is_empty());
        Ok(Self {
            output: inside.map(Path::to_owned),
            process: crate::program::instance(&output_dir),
            target,
            folder,
            on_exists,
            parts: OnceLock::new(),
            preparing: Mutex::default(),
            durable: Mutex::default(),
            replaced: Arc::default(),
        })
    }

    /// Files that have taken the place of another version so far, for who asks once the program has ended.
    pub fn replaced(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.replaced)
    }

    /// The engine's view of it. Unlike [`UserCode::processor`], its group is for this folder alone.
    pub fn into_user_code(self) -> UserCode {
        let (folder, is_kept) = (self.folder.clone(), self.target.is_kept());
        UserCode::processor(self).delivering_to(Target::Folder(folder), is_kept)
    }

    fn parts(&self, log: &OwnFiles) -> Result<&Parts, ProcessingError> {
        if let Some(parts) = self.parts.get() {
            return Ok(parts);
        }
        // once: what one worker has put there already must not be emptied by the next one
        let _preparing = self.preparing.lock();
        if let Some(parts) = self.parts.get() {
            return Ok(parts);
        }
        let own = self.folder.join(OWN);
        if log.are_in(&own) {
            return Err(ProcessingError::stop(crate::engine::EngineError::LogInside(own)));
        }
        let made = AsideFolder::prepare(own.join("aside").join(&self.process)).and_then(|aside| {
            let origins = Origins::open(own.join("origins"), aside.folds_case()?)?;
            Ok(Parts { aside, origins })
        });
        let parts = made.map_err(|error| trouble::with_folder(&self.folder, &error))?;
        Ok(self.parts.get_or_init(|| parts))
    }

    /// Looks whether the folder is the one that it was. What the program keeps in it is made again where it was removed.
    fn check(&self) -> Result<(), ProcessingError> {
        if self.target.was_cleared()?
            && let Some(parts) = self.parts.get()
        {
            let made = parts.aside.make_again().and_then(|()| parts.origins.make_again());
            made.map_err(|error| trouble::with_folder(&self.folder, &error))?;
        }
        Ok(())
    }

    /// Whether the path lies where the program keeps things of its own.
    fn is_reserved(&self, path: &str) -> bool {
        is_reserved(path) || self.output.as_ref().is_some_and(|output| Path::new(path).starts_with(output))
    }

    /// Gives the content its name, and records where it came from.
    fn place(&self, content: Aside, target: &str, locked: &mut Locked, origin: &Origin) -> Result<(), ProcessingError> {
        self.rename(content, target)?;
        // before the record: one that outlived a power cut without its file would make that of the version
        // before a stranger
        self.settle(target)?;
        if let Err(error) = locked.set(origin) {
            tracing::warn!(file = target, error = %error,
                "where the file came from cannot be recorded; its modification time will tell");
        }
        Ok(())
    }

    fn deliver(&self, file: &DownloadDataFile) -> Result<(), ProcessingError> {
        let parts = self.parts(file.own_files())?;
        let comes = kept(Stand::of(file));
        let path = file.relative_path();
        let beside = match path.rsplit_once('/') {
            Some((folder, name)) => format!("{folder}/{}", version_name(name, file.sha512(), LONGEST_NAME)),
            None => version_name(path, file.sha512(), LONGEST_NAME),
        };
        // locked for a look, then, when the content is aside, for another look and the rename
        let mut aside = None;
        loop {
            let mut locked = self.lock(parts, path)?;
            let mut replaces = false;
            let target = match self.look(&locked, file, path)? {
                There::Nothing => path,
                There::Same(origin) => return self.renew(&mut locked, file, &comes, path, origin.as_ref()),
                There::Other(there) => match self.on_exists.decide(comes.against(&there)) {
                    Decision::Replace => {
                        replaces = true;
                        path
                    }
                    Decision::KeepBoth => {
                        drop(locked);
                        locked = self.lock(parts, &beside)?;
                        match self.look(&locked, file, &beside)? {
                            There::Nothing => &beside,
                            There::Same(_) => return self.settle(path),
                            There::Other(_) => {
                                return Err(ProcessingError::file_failed(format_args!(
                                    "`{beside}` is there with another content, and `{path}` with another version: \
                                    rename one of them"
                                )));
                            }
                        }
                    }
                    Decision::Leave => {
                        tracing::info!("another version, which is there already, stays (--on_exists)");
                        return Ok(());
                    }
                    Decision::Fail => {
                        return Err(ProcessingError::file_failed(
                            "another version is there already (--on_exists fail)",
                        ));
                    }
                },
            };
            let Some(content) = aside.take() else {
                drop(locked);
                aside = Some(Aside::write(&parts.aside, file).map_err(|e| trouble::with_content(&self.folder, &e))?);
                continue;
            };
            let origin = Origin::of(file, &comes, content.metadata());
            self.place(content, target, &mut locked, &origin)?;
            drop(locked);
            if replaces {
                self.replaced.fetch_add(1, Relaxed);
                tracing::info!("another version was there already; this one has taken its place");
            } else if target != path {
                tracing::warn!(kept_as = target, "another version is there already; both are kept");
            }
            return Ok(());
        }
    }

    fn lock(&self, parts: &Parts, path: &str) -> Result<Locked, ProcessingError> {
        parts.origins.lock(path).map_err(|error| trouble::with_folder(&self.folder, &error))
    }

    /// What is at the path. A file of the log is not even opened.
    fn look(&self, locked: &Locked, file: &DownloadDataFile, path: &str) -> Result<There, ProcessingError> {
        let target = self.folder.join(path);
        if let Some(reason) = taken(&self.folder, path, file.own_files()) {
            return Err(ProcessingError::file_failed(reason));
        }
        let there = match target.symlink_metadata() {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(There::Nothing),
            Err(error) => return Err(trouble::with_name(&self.folder, path, &error)),
        };
        let recorded = match locked.find() {
            Found::Origin(origin) => Some(origin),
            Found::Nothing => None,
            Found::OtherCase => {
                return Err(ProcessingError::file_failed(format_args!(
                    "the file system does not tell `{path}` from another file of the topic whose path differs only in \
                    case and is there already"
                )));
            }
        };
        if there.is_dir() {
            return Err(ProcessingError::file_failed(format_args!(
                "`{path}` is a folder in `{}`",
                self.folder.display()
            )));
        }
        if !there.is_file() {
            return Ok(There::Other(Stand::default()));
        }
        if let Some(origin) = recorded.filter(|origin| origin.is_of(&there)) {
            return Ok(match origin.has_content(file.sha512()) {
                true => There::Same(Some(origin)),
                false => There::Other(origin.stand()),
            });
        }
        let same = there.len() == file.size()
            && hash(&target).map_err(|e| trouble::with_name(&self.folder, path, &e))? == *file.sha512();
        Ok(match same {
            true => There::Same(None),
            false => There::Other(Stand { place: None, modified: there.modified().ok() }),
        })
    }

    /// The same content is there: it counts as of this upload from now on, if that is not an older one.
    fn renew(
        &self,
        locked: &mut Locked,
        file: &DownloadDataFile,
        comes: &Stand,
        path: &str,
        recorded: Option<&Origin>,
    ) -> Result<(), ProcessingError> {
        let stays = |recorded: &Origin| {
            let there = recorded.stand();
            there.place == comes.place || comes.against(&there) == Order::Older
        };
        if !recorded.is_some_and(stays) {
            let target = self.folder.join(path);
            let renewed = target.metadata().and_then(|there| locked.set(&Origin::of(file, comes, &there)));
            renewed.map_err(|error| trouble::with_folder(&self.folder, &error))?;
        }
        tracing::debug!("this version is there already");
        self.settle(path)
    }

    fn rename(&self, content: Aside, path: &str) -> Result<(), ProcessingError> {
        let target = self.folder.join(path);
        let made = target.parent().map_or(Ok(()), std::fs::create_dir_all);
        let renamed = made.and_then(|()| content.rename(&target));
        renamed.map_err(|error| trouble::with_name(&self.folder, path, &error))
    }

    /// Makes the name durable: the folder that it is in, and once each folder above.
    fn settle(&self, path: &str) -> Result<(), ProcessingError> {
        let failed = |error: io::Error| trouble::with_folder(&self.folder, &error);
        let target = self.folder.join(path);
        let Some(folder) = target.parent() else { return Ok(()) };
        sync_folder(folder).map_err(failed)?;
        if self.durable.lock().contains(folder) {
            return Ok(());
        }
        for above in folder.ancestors().skip(1).take_while(|above| above.starts_with(&self.folder)) {
            sync_folder(above).map_err(failed)?;
        }
        let mut durable = self.durable.lock();
        if durable.len() >= MAX_DURABLE {
            durable.clear();
        }
        durable.insert(folder.to_owned());
        Ok(())
    }
}

impl DataFileStreamProcessor for DownloadDirectory {
    fn process_downloaded_data_file(&self, file: &DownloadDataFile, _: &Lock) -> Result<(), ProcessingError> {
        if self.is_reserved(file.relative_path()) {
            return Err(ProcessingError::file_failed(
                "its path is one that the program keeps for itself in the folder",
            ));
        }
        self.check()?;
        let delivered = self.deliver(file);
        self.check()?;
        delivered
    }
}

fn hash(path: &Path) -> io::Result<[u8; 64]> {
    let mut file = File::open(path)?;
    let mut hasher = Sha512Hasher::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&block[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn workers_that_have_the_first_files_at_once_prepare_the_folder_once() {
        for _ in 0..50 {
            let place = tempfile::tempdir().unwrap();
            let open = DownloadDirectory::open(&place.path().join("d"), &place.path().join("o"), OnExists::default());
            let directory = open.unwrap();
            let together = Barrier::new(8);
            let work = &|number: u8| {
                together.wait();
                directory.parts(&OwnFiles::default()).unwrap();
                let mine = directory.folder.join(OWN).join("aside").join(&directory.process).join(number.to_string());
                std::fs::write(&mine, [number]).unwrap();
                std::thread::yield_now();
                assert_eq!(std::fs::read(&mine).unwrap(), [number]);
            };
            std::thread::scope(|scope| (0..8).for_each(|number| drop(scope.spawn(move || work(number)))));
        }
    }
}
