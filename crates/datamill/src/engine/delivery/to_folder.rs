//! What the log has of the group's state goes to the output folder, at a start without transactions: of each partition
//! when it is assigned, since an owner before, with transactions, may answer a failure until then.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::BuildHasher;

use datamill_broker::{Assigned, CrashPoint, Error, Log, StateChange, StateMark, crash_point};
use parking_lot::Mutex;
use rustc_hash::{FxBuildHasher, FxHashSet};

use super::{Part, StateFolder, gone, key_in_log, key_of, set};
use crate::engine::EngineError;
use crate::engine::entry::{Entry, Place};
use crate::engine::folder::OutputFolder;
use crate::engine::purpose::{self, Answers};
use crate::engine::source::Source;
use crate::engine::state::in_folder::FolderState;
use crate::engine::state::key::Key;
use crate::progress::key_of_elsewhere;

/// See the module.
pub(in crate::engine) struct FromLog<'a> {
    log: &'a dyn Log,
    group: &'a str,
    source: &'a Source,
    file: &'a Mutex<FolderState>,
    /// Which failures are this program's to answer: the others stay in the log.
    answers: Answers,
    key: String,
    own: StateFolder,
    has_told_requests: Cell<bool>,
    has_told_refusal: Cell<bool>,
}

/// What the log has of some partitions.
#[derive(Default)]
struct There {
    owned: BTreeMap<String, Vec<u8>>,
    marks: BTreeMap<String, Vec<u8>>,
    /// Hashes of the keys of requests on the topic.
    requests: FxHashSet<u64>,
    /// The log has a state of the group on the topic.
    has_state: bool,
    own: Option<StateFolder>,
}

impl<'a> FromLog<'a> {
    pub(in crate::engine) fn new(
        log: &'a dyn Log,
        group: &'a str,
        source: &'a Source,
        output: &OutputFolder,
        file: &'a Mutex<FolderState>,
        answers: Answers,
    ) -> Self {
        let (key, own) = (key_of(&source.name, output.known()), StateFolder::of(output.known()));
        let (has_told_requests, has_told_refusal) = Default::default();
        Self { log, group, source, file, answers, key, own, has_told_requests, has_told_refusal }
    }

    /// Takes what the log has of these partitions, which are this process's. Answers whether that is done: not where the
    /// program is asked to stop meanwhile. An account that may not see the state in the log goes on without it.
    ///
    /// # Errors
    /// The state in the log cannot be read, or the folder cannot be written.
    pub(in crate::engine) fn take(&self, all: &[Assigned], stop: &dyn Fn() -> bool) -> Result<bool, EngineError> {
        let there = match self.read(all, stop) {
            Ok(Some(there)) => there,
            Ok(None) => return Ok(false),
            Err(error) if error.is_denied() => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        self.tell_requests(there.requests.len());
        let failures = self.copy(&there).map_err(|error| EngineError::output(self.folder(), error))?;
        crash_point(CrashPoint::StateInFolder);
        if failures > 0 {
            tracing::info!(topic = %self.source.name, group = self.group, files = failures,
                output_dir = %self.folder().display(),
                "failed files that the log kept are in the output folder from now on, as this program runs with --delivery \
                at-least-once: `datamill status` and `datamill retry` do not see them");
        }
        self.leave(&there).map_err(|error| EngineError::output(self.folder(), error))?;
        Ok(true)
    }

    /// The key in the folder that says that the log has this one as well.
    fn in_log(&self, key: &str) -> String {
        Key::InLog { key }.of(&self.source.name)
    }

    fn folder(&self) -> &std::path::Path {
        std::path::Path::new(&self.own.folder)
    }

    fn read(&self, all: &[Assigned], stop: &dyn Fn() -> bool) -> Result<Option<There>, Error> {
        let named: Vec<&str> = all.iter().filter_map(|a| key_of_elsewhere(&a.committed.as_ref()?.text)).collect();
        let is_ours = |partition: i32| all.iter().any(|assigned| assigned.partition == partition);
        let topic = &self.source.name;
        let is_wanted =
            |key: &str| !matches!(Key::parse(topic, key), Some(Key::Progress { .. })) || named.contains(&key);
        let mut there = There::default();
        let mut take = |key: &str, value: Option<&[u8]>| {
            if Place::of_request(topic, key).is_some() {
                let hash = FxBuildHasher.hash_one(key);
                let _ = if value.is_some() { there.requests.insert(hash) } else { there.requests.remove(&hash) };
                return;
            }
            if key == self.key {
                there.own = value.and_then(|value| serde_json::from_slice(value).ok());
                return;
            }
            let part = Part::of(&self.source.name, key);
            there.has_state |= value.is_some() && (part.is_some() || purpose::is_mark(topic, key));
            let kept = match part {
                Some(Part::Owned(partition)) if is_ours(partition) && is_wanted(key) => &mut there.owned,
                Some(Part::Mark(partition)) if is_ours(partition) => &mut there.marks,
                _ => return,
            };
            match value.filter(|value| self.is_mine(key, value)) {
                Some(value) => drop(kept.insert(key.to_owned(), value.to_vec())),
                None => drop(kept.remove(key)),
            }
        };
        let read = self.log.read_group_state(self.group, StateMark::default(), &mut take, stop)?;
        Ok(read.map(|_| there))
    }

    /// What is no failure goes along as well.
    fn is_mine(&self, key: &str, value: &[u8]) -> bool {
        Place::of_key(&self.source.name, key).is_none()
            || Entry::parse(&self.source.name, key, value).is_none_or(|entry| self.answers.is_mine(entry.by()))
    }

    /// Puts into the folder what it does not know to be in the log already. Answers how many failures these are.
    fn copy(&self, there: &There) -> std::io::Result<usize> {
        let mut file = self.file.lock();
        let new: Vec<(&String, &Vec<u8>)> =
            there.owned.iter().filter(|(key, _)| !file.map().contains_key(&self.in_log(key))).collect();
        let failures = new.iter().filter(|(key, _)| Place::of_key(&self.source.name, key).is_some()).count();
        let marks = there.marks.iter().filter(|(key, _)| !file.map().contains_key(*key));
        let marks: Vec<StateChange> = marks.map(|(key, value)| set(key.clone(), value)).collect();
        let entries = new.iter().map(|(key, value)| set((*key).clone(), value));
        // an entry without such a key is copied once more, one that lacks the entry counts as answered
        let notes = new.iter().map(|(key, _)| set(self.in_log(key), &[]));
        let changes: Vec<StateChange> = marks.into_iter().chain(entries).chain(notes).collect();
        file.change(&changes)?;
        Ok(failures)
    }

    /// Removes from the log what the folder has of it, and says there that failures are in a folder from now on.
    fn leave(&self, there: &There) -> std::io::Result<()> {
        let is_ours = |key: &str| Part::of(&self.source.name, key).is_some();
        let copied: Vec<String> = {
            let file = self.file.lock();
            let notes = file.map().keys().filter_map(|key| key_in_log(&self.source.name, key));
            notes.filter(|key| is_ours(key)).map(str::to_owned).collect()
        };
        let is_new = there.own.as_ref() != Some(&self.own) && (there.has_state || !copied.is_empty());
        if copied.is_empty() && !is_new {
            return Ok(());
        }
        let own = is_new.then(|| self.own.change(self.key.clone()));
        let changes: Vec<StateChange> = copied.iter().cloned().map(gone).chain(own).collect();
        if let Err(error) = self.log.change_group_state(self.group, &changes) {
            if !self.has_told_refusal.replace(true) {
                tracing::warn!(topic = %self.source.name, group = self.group, error = %crate::report::chain(&error),
                    "the group's state in the log cannot be changed: `datamill status` and `datamill retry` go on to show \
                    failed files there as they were before this start");
            }
            return Ok(());
        }
        crash_point(CrashPoint::StateLeftLog);
        let notes: Vec<StateChange> = copied.iter().map(|key| gone(self.in_log(key))).collect();
        self.file.lock().change(&notes)
    }

    fn tell_requests(&self, requests: usize) {
        if requests > 0 && !self.has_told_requests.replace(true) {
            tracing::warn!(topic = %self.source.name, group = self.group, requests,
                "requests of `datamill retry` or `datamill rerun` wait, which a program with --delivery at-least-once does \
                not answer: start it once without that option");
        }
    }
}
