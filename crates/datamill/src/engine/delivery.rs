//! A group that changes its way of delivery keeps its failures in sight. With transactions its state is in the log, and
//! without them in the output folder of each program. Whichever way a program starts, what the other place has comes to the
//! one of this start:
//!
//! ```text
//!  exactly once (to_log.rs)                           at least once (to_folder.rs)
//!  before the group is joined, all partitions:        when it is assigned, a partition:
//!    folder: `taking`, a number                         folder: entries, and that the log has them too
//!    log:    entries, and that number as `taken`        log:    entries removed; `in_folder`
//!    folder: emptied                                    folder: that the log has them is forgotten
//! ```
//! Each line is one step, so an entry is in one place or known to be in both, wherever the steps are cut off: one that was
//! answered in one place does not come back from the other. Where the account may not change the state in the log, the last
//! two steps on the right stay undone until a start that may.
//!
//! ```text
//! in the log
//! key    in_folder/{topic}/{id of the output folder's mark}
//! value  JSON: folder, host   where it is; empty where that is not known
//!              left           true: a program with transactions was started elsewhere since, and answers requests
//!              taken          number of the state that the log has taken; then the folder has nothing
//!
//! in the folder's state
//! key    taking/{topic}       number of the state that is on its way to the log
//! key    in_log/{key}         none: the log has this key as well, as it was when it was copied
//! ```
//! By the first one, whoever looks from outside knows that failures are in a folder that cannot be seen from there.

mod to_folder;
mod to_log;

use std::collections::BTreeMap;
use std::fmt;

use datamill_broker::{Error, Log, StateChange, StateMark};
use serde::{Deserialize, Serialize};

use super::entry::Place;
use super::in_hand::spot_of_key;
use super::session::overflow_partition;
use super::source::Source;
use super::start;
use super::tails::Begun;
use crate::mark::KnownFolder;
pub(super) use to_folder::FromLog;
pub(super) use to_log::{empty_where_taken, to_log};

/// An output folder that has failed files of a group, as the log knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateFolder {
    folder: String,
    #[serde(default)]
    host: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    left: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    taken: Option<String>,
}

impl StateFolder {
    fn of(folder: &KnownFolder) -> Self {
        let host = gethostname::gethostname().to_string_lossy().into_owned();
        Self { folder: folder.path().to_string_lossy().into_owned(), host, left: false, taken: None }
    }

    /// One of a program that is not known.
    fn unknown() -> Self {
        Self { folder: String::new(), host: String::new(), left: true, taken: None }
    }

    /// Whether programs of the group were started elsewhere since, which answer requests.
    pub fn is_left(&self) -> bool {
        self.left
    }

    /// What a change of a group's state says of such a folder of this topic. `None` for other keys.
    pub(crate) fn of_change(topic: &str, key: &str, value: Option<&[u8]>) -> Option<Option<Self>> {
        if !key.starts_with(&prefix(topic)) {
            return None;
        }
        let folder: Option<Self> = value.and_then(|value| serde_json::from_slice(value).ok());
        Some(folder.filter(|folder| folder.taken.is_none()))
    }

    fn change(&self, key: String) -> StateChange {
        // texts and a flag always become JSON
        StateChange { key, value: Some(serde_json::to_vec(self).unwrap_or_default()) }
    }
}

impl fmt::Display for StateFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.folder, &*self.host) {
            ("", _) => f.write_str("the output folder of a program of the group"),
            (folder, "") => write!(f, "the output folder `{folder}`"),
            (folder, host) => write!(f, "the output folder `{folder}` on host `{host}`"),
        }
    }
}

/// The output folders with failed files of a group on a topic, by the keys of the group's state.
///
/// # Errors
/// Those of the log.
pub fn state_folders(log: &dyn Log, topic: &str, group: &str) -> Result<BTreeMap<String, StateFolder>, Error> {
    let mut folders = BTreeMap::new();
    let mut take = |key: &str, value: Option<&[u8]>| match StateFolder::of_change(topic, key, value) {
        Some(Some(folder)) => drop(folders.insert(key.to_owned(), folder)),
        Some(None) => drop(folders.remove(key)),
        None => {}
    };
    log.read_group_state(group, StateMark::default(), &mut take, &|| false)?;
    Ok(folders)
}

/// Takes it that these folders are gone, and the failed files in them with them.
///
/// # Errors
/// Those of the log; nothing or all was forgotten.
pub fn forget_folders(log: &dyn Log, group: &str, keys: impl Iterator<Item = String>) -> Result<(), Error> {
    let changes: Vec<StateChange> = keys.map(|key| StateChange { key, value: None }).collect();
    log.change_group_state(group, &changes)
}

fn prefix(topic: &str) -> String {
    format!("in_folder/{topic}/")
}

/// The key in the log for a folder.
fn key_of(topic: &str, folder: &KnownFolder) -> String {
    let id = folder.mark().map_or_else(String::new, |mark| mark.to_string());
    format!("{}{id}", prefix(topic))
}

/// The key in the log for the folder of a program that is not known.
fn key_of_unknown(topic: &str) -> String {
    format!("{}unknown", prefix(topic))
}

/// The number of a folder's state that is on its way to the log.
fn taking(topic: &str) -> String {
    format!("taking/{topic}")
}

/// The key in a folder's state that says that the log has this one as well.
fn in_log(key: &str) -> String {
    format!("{IN_LOG}{key}")
}

const IN_LOG: &str = "in_log/";

/// What a key of the group's state is about, that goes along where the delivery changes.
enum Part {
    /// It ends with an outcome or a position of this partition, so it is in one place alone.
    Owned(i32),
    /// It is true wherever it is.
    Mark(i32),
}

impl Part {
    /// `None` for other keys.
    fn of(source: &Source, key: &str) -> Option<Self> {
        let topic = &source.name;
        let owned = Place::of_key(topic, key).map(|(place, _)| place.partition);
        let owned = owned.or_else(|| spot_of_key(topic, key).map(|spot| spot.partition));
        let owned = owned.or_else(|| overflow_partition(topic, key));
        let mark = || {
            let started = start::read_mark(source, key, &[]).map(|(partition, _)| partition);
            started.or_else(|| Begun::partition(topic, key)).or_else(|| source.adopted_partition(key))
        };
        owned.map(Self::Owned).or_else(|| mark().map(Self::Mark))
    }
}

fn set(key: String, value: &[u8]) -> StateChange {
    StateChange { key, value: Some(value.to_vec()) }
}

fn gone(key: String) -> StateChange {
    StateChange { key, value: None }
}
