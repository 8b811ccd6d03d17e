//! The state of a group as a file in the output folder, which one process at a time has open.
//!
//! ```text
//! .datamill/state-{16 hex digits of the SHA-512 of the log's id, a zero byte and the group's name}.jsonl
//!     a journal of `crate::durable`; its lines are
//!       {"log":ID,"group":G}      first line, for people
//!     | {"key":K,"value":V}       the last line about a key counts
//!     | {"key":K}                 the key is removed
//! ```
//!
//! Lines are on the disk when a change returns. A line that a crash cut off is dropped when the file is opened:
//! nothing that follows from it has happened.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use datamill_broker::StateChange;
use datamill_wire::{hex, sha512};
use serde::{Deserialize, Serialize};

use crate::durable::{Contents, Journal, Lines};
use crate::mark::{KnownFolder, OWN};

/// See the module.
#[derive(Debug)]
pub(in crate::engine) struct FolderState {
    folder: Arc<KnownFolder>,
    path: PathBuf,
    header: Line,
    journal: Journal,
    map: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Header {
        log: String,
        group: String,
    },
    Change {
        key: String,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        value: Option<String>,
    },
}

impl FolderState {
    /// Opens or makes the file of this log and group in an output folder.
    pub(in crate::engine) fn open(folder: &Arc<KnownFolder>, log_id: &str, group: &str) -> io::Result<Self> {
        let path = path(folder, log_id, group);
        let mut map = BTreeMap::new();
        let contents = Contents::load(&path, |line| apply(line, &mut map))?;
        let header = Line::Header { log: log_id.to_owned(), group: group.to_owned() };
        let (journal, kept) = Journal::open(&path, &contents, map.len(), &|lines| all(&header, &map, lines))?;
        if let Some(kept) = kept {
            tracing::error!(file = %kept.display(), group, lines = contents.damaged,
                "the group's state in the output folder is damaged: the failed files of these lines are forgotten");
        }
        Ok(Self { folder: Arc::clone(folder), path, header, journal, map })
    }

    /// Opens the file where it is there.
    pub(in crate::engine) fn find(folder: &Arc<KnownFolder>, log_id: &str, group: &str) -> io::Result<Option<Self>> {
        if path(folder, log_id, group).try_exists()? { Self::open(folder, log_id, group).map(Some) } else { Ok(None) }
    }

    /// Removes the file.
    pub(in crate::engine) fn remove(self) -> io::Result<()> {
        self.folder.require()?;
        std::fs::remove_file(&self.path)
    }

    pub(in crate::engine) fn map(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.map
    }

    /// Changes the map; all of it is on the disk when this returns. After an error it may be there or not, and
    /// the map is as before.
    pub(in crate::engine) fn change<'c>(
        &mut self,
        changes: impl IntoIterator<Item = &'c StateChange>,
    ) -> io::Result<()> {
        let is_new = |change: &&StateChange| self.map.get(&change.key) != change.value.as_ref();
        let changes: Vec<&StateChange> = changes.into_iter().filter(is_new).collect();
        if changes.is_empty() {
            return Ok(());
        }
        let written = self.write(&changes);
        if written.is_err() {
            self.journal.take_back();
            return written;
        }
        for change in changes {
            match &change.value {
                Some(value) => drop(self.map.insert(change.key.clone(), value.clone())),
                None => drop(self.map.remove(&change.key)),
            }
        }
        Ok(())
    }

    /// A file that was removed is made again. Where another folder is at the path, as where a share is not mounted,
    /// nothing is written.
    fn write(&mut self, changes: &[&StateChange]) -> io::Result<()> {
        self.folder.require()?;
        if !self.journal.is_in_place() {
            tracing::warn!(file = %self.path.display(), "the group's state in the output folder was removed, and is written anew");
            self.journal.go_to(&self.path, &|lines| all(&self.header, &self.map, lines))?;
        }
        for change in changes {
            self.journal.push(&line(&change.key, change.value.as_deref())?);
        }
        self.journal.write(self.map.len(), &|lines| all(&self.header, &self.map, lines))?;
        self.journal.sync()
    }
}

fn path(folder: &KnownFolder, log_id: &str, group: &str) -> PathBuf {
    let name = hex(&sha512(format!("{log_id}\0{group}").as_bytes())[..8]);
    folder.path().join(OWN).join(format!("state-{name}.jsonl"))
}

/// An output folder as the engine has it.
#[cfg(test)]
pub(in crate::engine) fn output(folder: &std::path::Path) -> Arc<KnownFolder> {
    let known = KnownFolder::open(folder, crate::mark::Role::Output).unwrap();
    known.require().unwrap();
    Arc::new(known)
}

#[cfg(test)]
impl FolderState {
    /// From now on the file cannot be written to, as where the disk is full.
    pub(super) fn lose_the_file(&mut self) {
        self.journal.lose_the_file();
    }
}

fn apply(line: Line, map: &mut BTreeMap<String, Vec<u8>>) {
    match line {
        Line::Change { key, value: Some(value) } => drop(map.insert(key, value.into_bytes())),
        Line::Change { key, value: None } => drop(map.remove(&key)),
        Line::Header { .. } => {}
    }
}

fn all(header: &Line, map: &BTreeMap<String, Vec<u8>>, lines: &mut Lines<'_>) -> io::Result<()> {
    lines.push(header)?;
    map.iter().try_for_each(|(key, value)| lines.push(&line(key, Some(value))?))
}

fn line(key: &str, value: Option<&[u8]>) -> io::Result<Line> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
    let value = value.map(text).transpose().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Line::Change { key: key.to_owned(), value })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::path::{Path, PathBuf};

    use super::*;

    fn set(key: &str, value: &str) -> StateChange {
        StateChange { key: key.to_owned(), value: Some(value.as_bytes().to_vec()) }
    }

    fn gone(key: &str) -> StateChange {
        StateChange { key: key.to_owned(), value: None }
    }

    fn open(folder: &Path) -> FolderState {
        FolderState::open(&output(folder), "log", "g").unwrap()
    }

    fn keys(state: &FolderState) -> Vec<&str> {
        state.map().keys().map(String::as_str).collect()
    }

    fn file_in(folder: &Path) -> PathBuf {
        drop(open(folder));
        let mut files = fs::read_dir(folder.join(OWN)).unwrap().map(|entry| entry.unwrap().path());
        files.find(|path| path.extension().is_some_and(|end| end == "jsonl")).unwrap()
    }

    #[test]
    fn what_was_changed_is_there_after_opening_again_and_each_group_and_log_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut state = open(folder.path());
        state.change(&[set("a", "1"), set("b\n\"ü", "2"), set("c", "")]).unwrap();
        state.change(&[set("a", "3"), gone("c"), gone("never")]).unwrap();
        drop(state);
        for _ in 0..2 {
            let state = open(folder.path());
            assert_eq!(keys(&state), ["a", "b\n\"ü"]);
            assert_eq!(state.map()["a"], b"3");
        }
        for (log, group) in [("log", "h"), ("other", "g")] {
            assert!(FolderState::open(&output(folder.path()), log, group).unwrap().map().is_empty());
        }
    }

    #[test]
    fn after_a_write_that_failed_the_file_is_whole_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = file_in(folder.path());
        let mut state = open(folder.path());
        state.change(&[set("a", "1")]).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"0123abcd {\"ke").unwrap();
        state.lose_the_file();
        assert!(state.change(&[set("b", "2")]).is_err());
        assert_eq!(keys(&state), ["a"]);
        state.change(&[set("b", "2")]).unwrap();
        drop(state);
        assert_eq!(keys(&open(folder.path())), ["a", "b"]);
        assert_eq!(fs::read_dir(folder.path().join(OWN)).unwrap().count(), 2, "no damaged line, but the mark");
    }

    #[test]
    fn a_file_that_was_removed_is_written_anew_and_nothing_goes_to_another_folder() {
        let place = tempfile::tempdir().unwrap();
        let (folder, away) = (place.path().join("out"), place.path().join("away"));
        fs::create_dir(&folder).unwrap();
        let mut state = open(&folder);
        state.change(&[set("a", "1")]).unwrap();
        fs::remove_dir_all(folder.join(OWN)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        state.change(&[set("b", "2")]).unwrap();
        fs::rename(&folder, &away).unwrap();
        assert!(state.change(&[set("c", "3")]).is_err());
        fs::create_dir(&folder).unwrap();
        assert!(state.change(&[set("c", "3")]).is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir(&folder).unwrap();
        fs::rename(&away, &folder).unwrap();
        state.change(&[set("c", "3")]).unwrap();
        drop(state);
        assert_eq!(keys(&open(&folder)), ["a", "b", "c"]);
    }
}
