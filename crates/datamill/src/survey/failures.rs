//! Whether the failures of a group can be seen from outside. They are where its positions and results are committed: in the
//! group's state in the log. A program that commits without transactions keeps them in its output folder, and another
//! program than datamill keeps none. Then nothing in the log says whether files failed, and nobody may say that none did.
//! Where the log had a state before, it names the folders that have failures now.

use datamill_broker::{Error, Log, Topic};

use crate::engine::{Reached, StateFolder};
use crate::ledger::table_of_failures;

/// Why it is not seen which files of a group failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unseen {
    /// Its programs keep them in output folders: these, where the log names them.
    InFolder(Vec<StateFolder>),
    /// Its programs keep them in the log, and failures of earlier runs are in these output folders.
    Left(Vec<StateFolder>),
    /// It has positions of another program.
    OfAnotherProgram,
}

impl Unseen {
    /// `None` where the failures are seen, and where the group has not begun.
    pub(super) fn of(reached: &Reached) -> Option<Self> {
        if !reached.folders.is_empty() {
            return Self::in_folders(reached.folders.values().cloned().collect());
        }
        if reached.has_state || !reached.has_begun() {
            return None;
        }
        Some(if reached.is_of_datamill() { Self::InFolder(Vec::new()) } else { Self::OfAnotherProgram })
    }

    fn in_folders(folders: Vec<StateFolder>) -> Option<Self> {
        match folders.iter().all(StateFolder::is_left) {
            _ if folders.is_empty() => None,
            true => Some(Self::Left(folders)),
            false => Some(Self::InFolder(folders)),
        }
    }

    /// Whether what the log knows of failures is not all that programs of the group have now.
    pub(super) fn hides_all(&self) -> bool {
        !matches!(self, Self::Left(_))
    }

    /// Whether that is something for a person.
    pub(super) fn is_of_datamill(&self) -> bool {
        *self != Self::OfAnotherProgram
    }

    /// In a sentence without its end: where they can be seen.
    pub(super) fn sentence(&self, group: &str, topic: &str) -> String {
        let table = table_of_failures(topic, group);
        match self {
            Self::InFolder(folders) if folders.is_empty() => format!(
                "which files of group `{group}` failed is not seen here: nothing of them is in the log, as with --delivery \
                at-least-once. The table LOGS/{table} in the output folder of each of its programs names them, and so does \
                its topic of dead letters, where it has one"
            ),
            Self::InFolder(folders) => format!(
                "which files of group `{group}` failed is not seen here: its programs run with --delivery at-least-once, and \
                keep them in {}. The table LOGS/{table} there names them, and so does its topic of dead letters, where it \
                has one. A start there without that option brings them back",
                named(folders)
            ),
            Self::Left(folders) => format!(
                "group `{group}` may have more failed files in {}, of runs with --delivery at-least-once: start its program \
                once there without that option",
                named(folders)
            ),
            Self::OfAnotherProgram => format!(
                "which files of group `{group}` failed is not seen here: its positions are those of another program than \
                datamill"
            ),
        }
    }
}

fn named(folders: &[StateFolder]) -> String {
    folders.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// In a sentence without its end, why it is not seen which files of a group failed, and where it is. `None` where the
/// failures are seen, and where the group has not begun.
///
/// # Errors
/// Those of the log.
pub fn unseen_failures(log: &dyn Log, topic: &Topic, group: &str) -> Result<Option<String>, Error> {
    let reached = Reached::read(log, topic, group, &mut |_, _| {})?;
    Ok(Unseen::of(&reached).map(|unseen| unseen.sentence(group, &topic.name)))
}

/// In a sentence without its end, that failures of a group are in these output folders. `None` where there are none.
pub fn failures_in_folders(folders: impl Iterator<Item = StateFolder>, topic: &str, group: &str) -> Option<String> {
    Unseen::in_folders(folders.collect()).map(|unseen| unseen.sentence(group, topic))
}
