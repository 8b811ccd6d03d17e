//! The folder that is watched, as it is now. The user named a path, and that can lead to another folder at
//! any moment: a share is mounted or is not, a link is turned, the folder is made again, `LOGS` is removed.
//!
//! ```text
//! at the start          record is there          record is missing
//!   mark                goes on                  stops: the record was lost (unless `--new_folder`)
//!   no mark             of 0.1.0, or not to      first start
//!                       be marked: goes on
//!
//! while it runs         device, inode, mount and mark of the root, and whether the record and its lock are
//!                       the open files, are compared at each scan
//!   the same folder     record and lock are written anew from memory
//!   another, marked     goes on from the record in it
//!   another, mounted    as at a first start; the record is written there
//!   another otherwise   what is there is new; the record is written there
//! ```
//!
//! The record names the folders that it knows: by their marks, and one that cannot be marked (it may only be
//! read) by its path. A record that lies in the folder itself needs no name to belong to it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use tracing::info;

use super::error::UploadError;
use super::logs_folder::LogsFolder;
use super::record::Record;
use crate::mark::{Identity, Mark, Role, is_refused};

/// How the folder at the path stands to the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The record knows it, and it is the folder that it was.
    Same,
    /// The record knows it, and it was mounted anew or is back at the path.
    Back,
    /// It was watched before, and has a record of its own, which takes the place of the one before.
    OwnRecord,
    /// Nothing is known of it: what is there counts as existing.
    First,
    /// It took the place of another one while that was watched: what is there is new.
    Replaced,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Place {
    named: PathBuf,
    topic: String,
    log_id: String,
    role: Role,
    root: PathBuf,
    identity: Option<Identity>,
    mark: Option<Mark>,
    logs: LogsFolder,
}

impl Place {
    /// Opens `directory` at the start of a watch, with its record, which is in `logs_dir` or at its usual place.
    /// `new_folder`: that the record was lost is known.
    ///
    /// # Errors
    /// Where the folder or its record cannot be used, and where the record was lost.
    pub(super) fn open(
        directory: &Path,
        logs_dir: Option<&Path>,
        topic: &str,
        log_id: &str,
        new_folder: bool,
    ) -> Result<(Self, Record, Arrival), UploadError> {
        let at_path = |source| UploadError::Path { path: directory.to_owned(), source };
        let named = std::path::absolute(directory).map_err(at_path)?;
        let root = fs::canonicalize(&named).map_err(at_path)?;
        let identity = Identity::of(&root).map_err(at_path)?;
        let role = Role::Watched { name: LogsFolder::name(topic, log_id) };
        let mark = find_mark(&root, &role)?;
        let logs = LogsFolder::open(&named, &root, logs_dir, topic, log_id)?;
        let path = logs.record();
        let (topic, log_id) = (topic.to_owned(), log_id.to_owned());
        let mut place = Self { named, topic, log_id, role, root, identity, mark, logs };
        if mark.is_some() && !path.exists() && !new_folder {
            return Err(place.lost());
        }
        let mut record = Record::open(&path, &place.log_id, &place.topic)?;
        let known = place.has_record_inside() || record.folders().is_empty() || place.is_known(mark, &record);
        place.settle(mark, &mut record)?;
        let arrival = if record.has_started() && known { Arrival::Same } else { Arrival::First };
        Ok((place, record, arrival))
    }

    /// The root, without links.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The path that the user named.
    pub(super) fn named(&self) -> &Path {
        &self.named
    }

    /// The folder of the record.
    pub(super) fn logs(&self) -> &LogsFolder {
        &self.logs
    }

    /// Whether everything is still what it was.
    ///
    /// # Errors
    /// Where the folder is gone or cannot be read.
    pub(super) fn is_unchanged(&self, record: &Record) -> io::Result<bool> {
        let same_root = fs::canonicalize(&self.named)? == self.root && self.has_same_root()?;
        let same_logs = self.logs.is_in_place() && record.is_in_place();
        Ok(same_root && same_logs && Mark::find(&self.root, &self.role)? == self.mark)
    }

    /// Whether the path of the root leads to the same folder, as far as the file system can tell.
    ///
    /// # Errors
    /// Where nothing is there.
    pub(super) fn has_same_root(&self) -> io::Result<bool> {
        Ok(Identity::of(&self.root)? == self.identity)
    }

    /// Goes over to what is at the path now. Nothing may be on its way to the log.
    ///
    /// # Errors
    /// Where that cannot be used; then nothing may be sent before another call succeeds.
    pub(super) fn arrive(&mut self, record: &mut Record) -> Result<Arrival, UploadError> {
        let named = self.named.clone();
        let at_path = |source| UploadError::Path { path: named.clone(), source };
        let root = fs::canonicalize(&self.named).map_err(at_path)?;
        let identity = Identity::of(&root).map_err(at_path)?;
        let before = (std::mem::replace(&mut self.root, root), std::mem::replace(&mut self.identity, identity));
        let arrival = self.arrive_from(&before, record);
        if arrival.is_err() {
            (self.root, self.identity) = before;
        }
        arrival
    }

    fn arrive_from(
        &mut self,
        before: &(PathBuf, Option<Identity>),
        record: &mut Record,
    ) -> Result<Arrival, UploadError> {
        let mark = find_mark(&self.root, &self.role)?;
        let same_folder =
            (&self.root, &self.identity) == (&before.0, &before.1) && mark.is_none_or(|_| mark == self.mark);
        // some file systems number their files anew at any time
        let same_record = self.root == before.0 && mark == self.mark && record.is_in_place();
        let is_same = same_folder || same_record;
        self.logs.go_to(&self.root)?;
        let path = self.logs.record();
        let has_own = self.has_record_inside() && path.exists();
        let is_mounted = match (&before.1, &self.identity) {
            (Some(before), Some(now)) => !now.shares_mount(before),
            _ => false,
        };
        let arrival = if is_same {
            Arrival::Same
        } else if self.is_known(mark, record) {
            Arrival::Back
        } else if has_own {
            // the folder that it belongs to may be read again
            let _ = record.flush();
            *record = Record::open(&path, &self.log_id, &self.topic)?;
            Arrival::OwnRecord
        } else if mark.is_some() && self.has_record_inside() {
            return Err(self.lost());
        } else if self.root == before.0 && is_mounted {
            Arrival::First
        } else {
            Arrival::Replaced
        };
        if arrival == Arrival::Back && has_own {
            // another process may have gone on with it meanwhile
            record.add_from(&path)?;
        }
        if arrival != Arrival::OwnRecord {
            record.write_at(&path)?;
        }
        // a mark that was removed is given again
        let mark = match (mark, self.mark) {
            (None, Some(before)) if is_same => before.give(&self.root, &self.role).ok(),
            (mark, _) => mark,
        };
        self.settle(mark, record)?;
        Ok(arrival)
    }

    /// Marks the folder where it has no mark, and names it in the record.
    fn settle(&mut self, mark: Option<Mark>, record: &mut Record) -> Result<(), UploadError> {
        let refused = |source| UploadError::Mark { root: self.root.clone(), source };
        self.mark = match mark.map_or_else(|| Mark::find_or_make(&self.root, &self.role), Ok) {
            Ok(mark) => Some(mark),
            Err(error) if is_refused(&error) => {
                info!(
                    "`{}` may only be read: without a mark in it, the folder is known by its path alone",
                    self.root.display()
                );
                None
            }
            Err(error) => return Err(refused(error)),
        };
        let name = self.name(self.mark);
        if !record.folders().contains(&name) {
            record.add_folder(name)?;
        }
        Ok(())
    }

    fn has_record_inside(&self) -> bool {
        self.logs.record().starts_with(&self.root)
    }

    fn is_known(&self, mark: Option<Mark>, record: &Record) -> bool {
        record.folders().contains(&self.name(mark))
    }

    /// What the record calls the folder.
    fn name(&self, mark: Option<Mark>) -> String {
        mark.map_or_else(|| self.named.display().to_string(), |mark| mark.to_string())
    }

    fn lost(&self) -> UploadError {
        UploadError::LostRecord { root: self.root.clone(), topic: self.topic.clone(), record: self.logs.record() }
    }
}

fn find_mark(root: &Path, role: &Role) -> Result<Option<Mark>, UploadError> {
    match Mark::find(root, role) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(None),
        found => found.map_err(|source| UploadError::Mark { root: root.to_owned(), source }),
    }
}
