//! What datamill and a keeper say to each other.

use std::ffi::OsString;

use serde::{Deserialize, Serialize};

use super::excerpt::Excerpt;

/// To the keeper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Run a command, and answer when it has ended with all below it.
    Run(Run),
    /// End what runs. Nothing happens where nothing does: its answer is on the way then.
    End,
}

/// A command for one file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) program: OsString,
    pub(crate) words: Vec<OsString>,
    /// Beside what the keeper has.
    pub(crate) environment: Vec<(String, OsString)>,
    /// Whether the descriptors of a worker that stays come along with the request: see [`WorkerEnds`](super::WorkerEnds).
    pub(crate) stays: bool,
    /// A file that is its stdin; otherwise that is empty.
    pub(crate) stdin: Option<OsString>,
    /// A file that takes its stdout; otherwise the keeper reads it.
    pub(crate) stdout: Option<OsString>,
    /// Bytes that it may have in memory, with all below it.
    pub(crate) memory: Option<u64>,
}

/// From the keeper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is set up.
    Ready,
    /// A command has ended with all that it has started.
    Ended(Ended),
}

/// What became of a command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) how: How,
    pub(crate) stdout: Excerpt,
    pub(crate) stderr: Excerpt,
    /// Processes that it has left behind, and that were ended.
    pub(crate) left: usize,
    /// Some cannot be ended. The keeper goes on with that once its stdin is closed.
    pub(crate) is_stuck: bool,
}

/// How a command has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    /// With an exit code.
    Exit(i32),
    /// By a signal that did not come from the keeper.
    Signal(i32),
    /// By the keeper, which was told to.
    Told,
    /// By the keeper, since it had more memory than it may have.
    Memory { peak: u64 },
    /// It never started: the system's number of the error, and its text.
    NotStarted(Option<i32>, String),
}
