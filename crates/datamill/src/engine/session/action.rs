//! What a session wants done.

use datamill_broker::Error;

use super::batch::Batch;
use crate::assemble::{DroppedFile, InstanceIds, WholeFile};
use crate::engine::EngineError;
use crate::engine::entry::Due;

/// How a session ends.
#[derive(Debug)]
pub(in crate::engine) enum End {
    /// Nothing is left to do.
    Finished,
    /// All partitions of a spread topic are owned again: a new session starts from what is committed.
    WholeAgain,
    /// Another member of the group is to read a spread topic alone: this one leaves, and comes back once it is gone.
    StandsBy,
    /// It is unclear whether the last commit happened: a new session starts from what is committed.
    Unclear(Error),
    /// The program cannot go on.
    Failed(EngineError),
}

/// What is to be done, in this order.
pub(in crate::engine) enum Action {
    /// A whole file goes to user code.
    Work(Box<WholeFile>),
    /// A file is to be read again, one at a time.
    ReadAgain(DroppedFile),
    /// Nobody waits for the outcomes of these files any more.
    Drop(InstanceIds),
    /// These files have their outcome, durably.
    Finished(InstanceIds),
    /// Late chunks have completed a failed file.
    Completed(Due),
    Commit(Box<Batch>),
    /// Is the topic still the same?
    Verify,
    Hold,
    Resume,
    /// Of the partitions, just these are held.
    HoldPartitions(Vec<i32>),
    End(End),
}

pub(in crate::engine) type Actions = Vec<Action>;
