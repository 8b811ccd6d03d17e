//! Whether the failures of a group can be seen from outside. They are where its positions and results are committed: in the
//! group's state in the log. A program that commits without transactions keeps them in its output folder, and another
//! program than datamill keeps none. Then nothing in the log says whether files failed, and nobody may say that none did.

use datamill_broker::{Error, Log, Topic};

use crate::engine::Reached;
use crate::ledger::table_of_failures;

/// Why it is not seen which files of a group failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unseen {
    /// It has positions of datamill, and the log has no state of it.
    InFolder,
    /// It has positions of another program.
    OfAnotherProgram,
}

impl Unseen {
    /// `None` where the failures are seen, and where the group has not begun.
    pub(super) fn of(reached: &Reached) -> Option<Self> {
        if reached.has_state || !reached.has_begun() {
            return None;
        }
        Some(if reached.is_of_datamill() { Self::InFolder } else { Self::OfAnotherProgram })
    }

    /// In a sentence without its end: where they can be seen.
    pub(super) fn sentence(self, group: &str, topic: &str) -> String {
        match self {
            Self::InFolder => format!(
                "which files of group `{group}` failed is not seen here: nothing of them is in the log, as with --delivery \
                at-least-once. The table LOGS/{} in the output folder of each of its programs names them, and so does its \
                topic of dead letters, where it has one",
                table_of_failures(topic, group)
            ),
            Self::OfAnotherProgram => format!(
                "which files of group `{group}` failed is not seen here: its positions are those of another program than \
                datamill"
            ),
        }
    }
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
