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
//! in the log: `in_folder`, for each output folder
//!        JSON: folder, host   where it is; empty where that is not known
//!              left           true: a program with transactions was started elsewhere since, and answers requests
//!              taken          number of the state that the log has taken; then the folder has nothing
//!
//! in the folder's state
//!        `taking`             number of the state that is on its way to the log
//!        `in_log`             empty: the log has a key as well, as it was when it was copied
//! ```
//! By the first one, whoever looks from outside knows that failures are in a folder that cannot be seen from there.

mod to_folder;
mod to_log;

use std::collections::BTreeMap;
use std::fmt;

use datamill_broker::{Error, Log, StateChange, StateMark};
use serde::{Deserialize, Serialize};

use super::state::key::{FileAt, Key};
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
        is_folder(topic, key).then_some(())?;
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

/// Whether a key in the log is about a folder.
fn is_folder(topic: &str, key: &str) -> bool {
    matches!(Key::parse(topic, key), Some(Key::InFolder { .. }))
}

/// The key in the log for a folder.
fn key_of(topic: &str, folder: &KnownFolder) -> String {
    let id = folder.mark().map_or_else(String::new, |mark| mark.to_string());
    Key::InFolder { mark: &id }.of(topic)
}

/// The key in the log for the folder of a program that is not known.
fn key_of_unknown(topic: &str) -> String {
    Key::InFolder { mark: "unknown" }.of(topic)
}

/// The key that another one is about, which the log has as well. `None` for other keys.
fn key_in_log<'k>(topic: &str, key: &'k str) -> Option<&'k str> {
    match Key::parse(topic, key)? {
        Key::InLog { key } => Some(key),
        _ => None,
    }
}

/// What a key of the group's state is about, that goes along where the delivery changes.
enum Part {
    /// It ends with an outcome or a position of this partition, so it is in one place alone.
    Owned(i32),
    /// It is true wherever it is.
    Mark(i32),
}

impl Part {
    /// `None` for other keys.
    fn of(topic: &str, key: &str) -> Option<Self> {
        match Key::parse(topic, key)? {
            Key::Failed(FileAt { partition, .. }) | Key::InHand { partition, .. } | Key::Progress { partition, .. } => {
                Some(Self::Owned(partition))
            }
            Key::Started { partition } | Key::Begun { partition } | Key::Adopted { partition } => {
                Some(Self::Mark(partition))
            }
            Key::Retry { .. }
            | Key::Rerun { .. }
            | Key::Purpose { .. }
            | Key::InFolder { .. }
            | Key::Taking
            | Key::InLog { .. } => None,
        }
    }
}

fn set(key: String, value: &[u8]) -> StateChange {
    StateChange { key, value: Some(value.to_vec()) }
}

fn gone(key: String) -> StateChange {
    StateChange { key, value: None }
}
