//! The failed files of a group as a person sees them, also while programs of the group run.

use std::collections::{BTreeMap, BTreeSet};

use datamill_broker::{Error, ErrorKind, Log, StateChange, StateMark};

use super::entry::{Entry, Place};
use super::in_hand::{Spot, spot_of_key};
use super::origin::spans_text;
use super::source::Source;
use super::state::key::Key;
use crate::report::clock;
use crate::report::text::shell_word;

/// A file that has no result, as an entry of its group's state says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedFile {
    /// Path of the file, relative, with `/`.
    pub path: String,
    /// Its SHA-512 in hexadecimal digits.
    pub sha512: String,
    /// Number of its chunks.
    pub n_chunks: u32,
    /// Where they are: `partition:first-last`, separated by commas.
    pub offsets: String,
    /// What kind of failure it is.
    pub status: String,
    /// Why it failed.
    pub reason: String,
    /// How often the function ran for it.
    pub attempts: u32,
    /// Whether another try can come to anything: not where chunks are missing.
    pub can_be_retried: bool,
    /// The result that it has, as `topic:partition:offset`, where it failed when it was run again.
    pub rerun_of: Option<String>,
    /// No start tries it by itself: only where somebody asks for that.
    pub waits_for_a_request: bool,
    /// Whether somebody has asked for another try that it has not had.
    pub requested: bool,
    key: String,
    spot: Spot,
    /// Keys of ends of a process with it in hand.
    ends: BTreeSet<String>,
}

impl FailedFile {
    /// The failure of this topic that a change of a group's state is about, with what is there from then on. `None` for
    /// other keys.
    pub(super) fn of_change(topic: &Source, key: &str, value: Option<&[u8]>) -> Option<Option<Self>> {
        Place::of_key(&topic.name, key)?;
        // the offsets of one of a topic that was deleted say nothing
        let entry = value.and_then(|value| Entry::parse(&topic.name, key, value));
        Some(entry.filter(|entry| topic.is_same(entry.topic_id(), None)).map(Self::of))
    }

    fn of(entry: Entry) -> Self {
        Self {
            path: entry.path().to_owned(),
            sha512: entry.sha512(),
            n_chunks: entry.n_chunks(),
            offsets: spans_text(entry.spans()),
            status: entry.status().to_owned(),
            reason: entry.reason().to_owned(),
            attempts: entry.attempts(),
            can_be_retried: entry.can_be_retried(),
            rerun_of: entry.rerun_of().map(str::to_owned),
            waits_for_a_request: entry.waits_for_a_request(),
            requested: false,
            spot: Spot::of_spans(entry.spans()),
            ends: BTreeSet::new(),
            key: entry.key.into(),
        }
    }
}

/// The failed files of a group on a topic, in the order of their offsets.
///
/// # Errors
/// Those of the log.
pub fn failed_files(log: &dyn Log, topic: &str, group: &str) -> Result<Vec<FailedFile>, Error> {
    let mut files: BTreeMap<Place, FailedFile> = BTreeMap::new();
    let mut requests: BTreeSet<String> = BTreeSet::new();
    let mut ends: BTreeMap<Spot, BTreeSet<String>> = BTreeMap::new();
    let mut take = |key: &str, value: Option<&[u8]>| {
        if Place::of_request(topic, key).is_some() {
            match value {
                Some(_) => requests.insert(key.to_owned()),
                None => requests.remove(key),
            };
        } else if let Some((place, _)) = Place::of_key(topic, key) {
            match value.and_then(|value| Entry::parse(topic, key, value)) {
                Some(entry) => files.insert(place, FailedFile::of(entry)),
                None => files.remove(&place),
            };
        } else if let Some(spot) = spot_of_key(topic, key) {
            let of_spot = ends.entry(spot).or_default();
            match value {
                Some(_) => of_spot.insert(key.to_owned()),
                None => of_spot.remove(key),
            };
        }
    };
    log.read_group_state(group, StateMark::default(), &mut take, &|| false)?;
    for place in requests.iter().filter_map(|key| Place::of_request(topic, key)) {
        if let Some(file) = files.get_mut(&place) {
            file.requested = true;
        }
    }
    for file in files.values_mut() {
        file.ends = ends.get(&file.spot).cloned().unwrap_or_default();
    }
    Ok(files.into_values().collect())
}

/// The command about the failed files of a group, for a message to people.
pub(super) fn retry_command(log: &dyn Log, topic: &str, group: &str, option: &str) -> String {
    log.command(&format!("retry {option} --topic_name {topic} --consumer_group_id {}", shell_word(group)))
}

/// Asks for another try of these files, durably. The program of the group that owns a file's partition takes that up
/// within seconds, or at its start.
///
/// # Errors
/// Those of the log; nothing or all was asked for.
pub fn request_retry(log: &dyn Log, topic: &str, group: &str, files: &[FailedFile]) -> Result<(), Error> {
    let number = format!("{}-{}", clock::now_ms(), std::process::id());
    let request = |file: &FailedFile| {
        let Some(Key::Failed(file)) = Key::parse(topic, &file.key) else {
            let text = format!("file `{}` did not fail on topic `{topic}`", file.path);
            return Err(Error::new(ErrorKind::Settings, text));
        };
        Ok(StateChange { key: Key::Retry { number: &number, file }.of(topic), value: Some(Vec::new()) })
    };
    let changes: Vec<StateChange> = files.iter().map(request).collect::<Result<_, Error>>()?;
    log.change_group_state(group, &changes)
}

/// Removes these failures from the group's state, and what it knows of their part in ends of a program: the files are not
/// tried again. One that is being tried at this
/// moment may have its result all the same, or fail again and be listed again.
///
/// # Errors
/// Those of the log; nothing or all was removed.
pub fn forget_failures(log: &dyn Log, group: &str, files: &[FailedFile]) -> Result<(), Error> {
    let keys = files.iter().flat_map(|file| std::iter::once(&file.key).chain(&file.ends));
    let changes: Vec<StateChange> = keys.map(|key| StateChange { key: key.clone(), value: None }).collect();
    log.change_group_state(group, &changes)
}
