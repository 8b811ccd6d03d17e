//! What an output folder has of the group's state goes into the log, at a start with transactions. All partitions go
//! along, whoever owns them: the failures of each are listed, and tried when it is assigned the next time.

use std::collections::{BTreeMap, BTreeSet};

use datamill_broker::{Committed, CrashPoint, Error, Log, StateChange, StateMark, crash_point};
use parking_lot::Mutex;
use uuid::Uuid;

use super::{Part, StateFolder, gone, is_folder, key_in_log, key_of, key_of_unknown, set};
use crate::engine::entry::Place;
use crate::engine::folder::OutputFolder;
use crate::engine::purpose::{self, Known};
use crate::engine::source::Source;
use crate::engine::state::in_folder::FolderState;
use crate::engine::state::key::Key;
use crate::engine::state::undone;
use crate::engine::{Control, EngineError, EngineSettings, start};
use crate::progress::{Progress, decode, key_of_elsewhere};

/// Brings what the output folder has of the state of this group and topic into the log. MUST come before the group is
/// joined: failed files are looked up when a partition is assigned. `known` is what a look at the log said of the group.
///
/// # Errors
/// The log or the folder cannot be used.
pub(in crate::engine) fn to_log(
    log: &dyn Log,
    settings: &EngineSettings,
    source: &Source,
    output: &OutputFolder,
    known: Known,
    control: &Control,
) -> Result<(), EngineError> {
    let unusable = |error| EngineError::output(&settings.output_dir, error);
    let group = settings.group.as_str();
    let file = FolderState::find(output.known(), &log.id()?, group).map_err(unusable)?;
    let file = file.filter(|file| file.map().keys().any(|key| is_of_topic(source, key)));
    if file.is_none() && matches!(known, Known::State | Known::Unclear) {
        return Ok(());
    }
    let positions = positions(log, source, group)?;
    let Some(there) = There::read(log, source, group, control)? else { return Ok(()) };
    let own = key_of(&source.name, output.known());
    let mut changes = there.left_behind(source, &own, file.is_some());
    let is_elsewhere = || positions.values().any(|committed| !committed.text.is_empty());
    if file.is_none() && known == Known::Nothing && is_elsewhere() {
        let folder = StateFolder::unknown();
        tracing::warn!(topic = %source.name, group, output_dir = %output.known().path().display(),
            "the group has positions, and neither the log nor this output folder has anything of its state: failed files of \
            runs with --delivery at-least-once are in another output folder. Start the program once there without that option");
        changes.push(folder.change(key_of_unknown(&source.name)));
    }
    let Some(mut file) = file else {
        return if changes.is_empty() { Ok(()) } else { Ok(log.change_group_state(group, &changes)?) };
    };
    let number =
        file.map().get(&Key::Taking.of(&source.name)).and_then(|number| String::from_utf8(number.clone()).ok());
    let mut failures = 0;
    if !there.has_taken(&own, number.as_deref()) {
        let number = number.unwrap_or_else(|| Uuid::new_v4().to_string());
        file.change(&[set(Key::Taking.of(&source.name), number.as_bytes())]).map_err(unusable)?;
        crash_point(CrashPoint::StateNumbered);
        let goes = going(file.map(), source, &positions, &there.marks);
        failures = goes.iter().filter(|change| is_failure(source, change)).count();
        changes.extend(goes);
        changes.push(StateFolder { taken: Some(number), ..StateFolder::of(output.known()) }.change(own));
    }
    if !changes.is_empty() {
        log.change_group_state(group, &changes)?;
    }
    crash_point(CrashPoint::StateInLog);
    empty(&mut file, source).map_err(unusable)?;
    if file.map().is_empty() {
        file.remove().map_err(unusable)?;
    }
    if failures > 0 {
        tracing::info!(topic = %source.name, group, files = failures, output_dir = %output.known().path().display(),
            "failed files of runs with --delivery at-least-once were in the output folder, and are in the group's state in \
            the log from now on");
    }
    Ok(())
}

/// Empties a folder's state that the log has taken, where the run that brought it there died before it did that. For a
/// start without transactions: its account may see nothing of the log's state, then the folder's counts.
///
/// # Errors
/// The log or the folder cannot be used.
pub(in crate::engine) fn empty_where_taken(
    log: &dyn Log,
    settings: &EngineSettings,
    source: &Source,
    output: &OutputFolder,
    file: &Mutex<FolderState>,
    control: &Control,
) -> Result<(), EngineError> {
    let mut file = file.lock();
    let Some(number) =
        file.map().get(&Key::Taking.of(&source.name)).map(|number| String::from_utf8_lossy(number).into_owned())
    else {
        return Ok(());
    };
    let there = match There::read(log, source, &settings.group, control) {
        Ok(None) => return Ok(()),
        Ok(Some(there)) => there,
        Err(error) if error.is_denied() => There::default(),
        Err(error) => return Err(error.into()),
    };
    let emptied = if there.has_taken(&key_of(&source.name, output.known()), Some(&number)) {
        empty(&mut file, source)
    } else {
        file.change(&[gone(Key::Taking.of(&source.name))])
    };
    emptied.map_err(|error| EngineError::output(&settings.output_dir, error))
}

/// What the log has of the group's state on the topic, as far as it matters here.
#[derive(Default)]
struct There {
    marks: BTreeSet<String>,
    folders: BTreeMap<String, StateFolder>,
}

impl There {
    /// `None` where the program is asked to stop meanwhile.
    fn read(log: &dyn Log, source: &Source, group: &str, control: &Control) -> Result<Option<Self>, Error> {
        let mut there = Self::default();
        let mut take = |key: &str, value: Option<&[u8]>| {
            if let Some(Part::Mark(_)) = Part::of(&source.name, key) {
                let _ = if value.is_some() { there.marks.insert(key.to_owned()) } else { there.marks.remove(key) };
            } else if is_folder(&source.name, key) {
                match value.and_then(|value| serde_json::from_slice(value).ok()) {
                    Some(folder) => drop(there.folders.insert(key.to_owned(), folder)),
                    None => drop(there.folders.remove(key)),
                }
            }
        };
        let read = log.read_group_state(group, StateMark::default(), &mut take, &|| control.stopping().is_some())?;
        Ok(read.map(|_| there))
    }

    fn has_taken(&self, own: &str, number: Option<&str>) -> bool {
        number.is_some() && self.folders.get(own).and_then(|folder| folder.taken.as_deref()) == number
    }

    /// Other folders with failures are left behind; the own one has none, where it has no state. That of an unknown
    /// program is taken to be the first one whose state is found.
    fn left_behind(&self, source: &Source, own: &str, has_state: bool) -> Vec<StateChange> {
        let unknown = key_of_unknown(&source.name);
        let holds = self.folders.iter().filter(|(_, folder)| folder.taken.is_none());
        let change = |(key, folder): (&String, &StateFolder)| match () {
            () if key == own => (!has_state).then(|| gone(key.clone())),
            () if *key == unknown => has_state.then(|| gone(key.clone())),
            () => (!folder.left).then(|| StateFolder { left: true, ..folder.clone() }.change(key.clone())),
        };
        holds.filter_map(change).collect()
    }
}

fn positions(log: &dyn Log, source: &Source, group: &str) -> Result<BTreeMap<i32, Committed>, Error> {
    let found = log.group(group, &[&source.name]).map_err(Error::of_member)?;
    Ok(found.committed.into_iter().map(|((_, partition), committed)| (partition, committed)).collect())
}

fn is_of_topic(source: &Source, key: &str) -> bool {
    let key = key_in_log(&source.name, key).unwrap_or(key);
    Part::of(&source.name, key).is_some() || purpose::is_mark(&source.name, key) || *key == Key::Taking.of(&source.name)
}

fn is_progress(source: &Source, key: &str) -> bool {
    matches!(Key::parse(&source.name, key), Some(Key::Progress { .. }))
}

fn is_failure(source: &Source, change: &StateChange) -> bool {
    change.value.is_some() && Place::of_key(&source.name, &change.key).is_some()
}

/// The changes of the log's state: what the folder has, but for failures whose position never moved, texts that no
/// position names, and marks that the log has. What the folder knew to be in the log, and has answered, is removed there.
fn going(
    map: &BTreeMap<String, Vec<u8>>,
    source: &Source,
    positions: &BTreeMap<i32, Committed>,
    marks: &BTreeSet<String>,
) -> Vec<StateChange> {
    let named: Vec<&str> = positions.values().filter_map(|committed| key_of_elsewhere(&committed.text)).collect();
    let failures = map.keys().filter_map(|key| Some(Place::of_key(&source.name, key)?.0.partition));
    let undone = failures.collect::<BTreeSet<i32>>().into_iter().filter_map(|partition| {
        let progress = progress(map, source, partition, positions.get(&partition))?;
        Some(undone(map, source, partition, &progress))
    });
    let undone: BTreeSet<String> = undone.flatten().map(|change| change.key).collect();
    let goes = |key: &String| match Part::of(&source.name, key) {
        Some(Part::Owned(_)) if is_progress(source, key) => named.contains(&key.as_str()),
        Some(Part::Owned(_)) => !undone.contains(key),
        Some(Part::Mark(_)) => !marks.contains(key),
        None => false,
    };
    let mut changes: BTreeMap<&str, Option<&[u8]>> = BTreeMap::new();
    for (key, value) in map {
        match key_in_log(&source.name, key).filter(|there| Part::of(&source.name, there).is_some()) {
            Some(there) => drop(changes.entry(there).or_insert(None)),
            None if goes(key) => drop(changes.insert(key, Some(value))),
            None => {}
        }
    }
    let change =
        |(key, value): (&str, Option<&[u8]>)| StateChange { key: key.to_owned(), value: value.map(<[u8]>::to_vec) };
    changes.into_iter().map(change).collect()
}

/// The progress by which failures are told whose position never moved; `None` where it does not tell.
fn progress(
    map: &BTreeMap<String, Vec<u8>>,
    source: &Source,
    partition: i32,
    committed: Option<&Committed>,
) -> Option<Progress> {
    match committed {
        // a position that the broker forgot is told by the mark
        None if map.contains_key(&start::mark(source, partition).key) => None,
        None => Some(Progress::starting_at(0)),
        Some(committed) if source.is_foreign(&committed.text) => Some(Progress::starting_at(0)),
        Some(Committed { offset, text }) => {
            let elsewhere = key_of_elsewhere(text).and_then(|key| map.get(key));
            let text = elsewhere.map_or_else(|| text.as_str().into(), |text| String::from_utf8_lossy(text));
            decode(*offset, &text).ok()
        }
    }
}

/// Removes all that a folder's state has of the topic, its number last.
fn empty(file: &mut FolderState, source: &Source) -> std::io::Result<()> {
    let number = Key::Taking.of(&source.name);
    let all = file.map().keys().filter(|key| **key != number && is_of_topic(source, key)).cloned();
    let all: Vec<StateChange> = all.map(gone).chain([gone(number.clone())]).collect();
    file.change(&all)
}
