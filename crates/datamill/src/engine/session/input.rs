//! What a session is told: what was read, what the threads report and answer, and how everything else stands.

use std::sync::Arc;
use std::time::Instant;

use datamill_broker::{Error, Record};

use super::batch::Batch;
use crate::assemble::{DroppedFile, FileInfo, InstanceIds};
use crate::engine::EngineError;
use crate::engine::entry::{Due, Entry, Place};
use crate::engine::outcome::Outcome;
use crate::engine::reread::Reread;
use crate::engine::tails::Begun;
use crate::progress::Progress;

/// A partition that is owned from now on, with all that was looked up about it.
#[derive(Debug)]
pub(in crate::engine) struct Taken {
    pub(in crate::engine) partition: i32,
    pub(in crate::engine) assignment: u64,
    /// Where reading starts.
    pub(in crate::engine) start: i64,
    pub(in crate::engine) restored: Progress,
    /// Position and whole text that are committed.
    pub(in crate::engine) committed: Option<(i64, String)>,
    /// The group starts here without progress.
    pub(in crate::engine) begun: Option<Begun>,
    /// The group's state may hold something of it without the topic's id.
    pub(in crate::engine) adopts: bool,
}

/// What comes back from the threads.
pub(in crate::engine) enum Report {
    /// What became of a file. One of a file that failed earlier has the entry that it answers, and is waited for.
    Outcome(Box<Outcome>),
    /// All of the content is needed, and a part was taken while the file filled up, or it is out of reach. One of a file
    /// that failed earlier has the entry that it answers, and is waited for.
    Again(DroppedFile, Option<Arc<Entry>>),
    /// What became of a file that was read again; `None` where the program stopped before.
    Reread(Option<Reread>),
    /// Entries of the group's state that lack chunks.
    Incomplete(Vec<Due>),
    /// Where the group's state says that the group began.
    Begun(Vec<(i32, Begun)>),
    /// These uploads probably do not go on, and the files are there without them.
    LeftOver(InstanceIds),
    /// Files of the topic lie in several partitions.
    Spread,
    /// Somebody removed these entries; these files of them were under way.
    Forgotten(Vec<(Place, String)>, InstanceIds),
}

/// How a batch ended, with what it held where that is still needed.
pub(in crate::engine) enum Answer {
    Done(Vec<Arc<FileInfo>>),
    Again(Batch, Option<Error>),
    RecordsRefused(Batch),
    Unknown(Error),
    /// Whether the topic is still the same; so is one that cannot be asked about.
    Verified(Result<(), Error>),
    /// The program cannot go on.
    Over(EngineError),
}

/// How everything else stands at a moment.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Tick {
    pub(in crate::engine) now: Instant,
    /// The time of the day, in milliseconds since the epoch.
    pub(in crate::engine) now_ms: i64,
    /// A stop was asked for.
    pub(in crate::engine) is_stopping: bool,
    /// Files that wait for a worker.
    pub(in crate::engine) waiting: usize,
    /// No file waits, runs, or has an outcome that was not reported.
    pub(in crate::engine) pool_is_idle: bool,
    /// No failed file waits for another try.
    pub(in crate::engine) retries_are_idle: bool,
    /// What the group's state says of the partitions that are owned is not known yet.
    pub(in crate::engine) is_blind: bool,
    /// Nothing is heard of the log.
    pub(in crate::engine) is_away: bool,
    /// The output folder is gone.
    pub(in crate::engine) folder_is_gone: bool,
    /// The members of the group can be seen without being one.
    pub(in crate::engine) sees_group: bool,
}

/// What happened.
pub(in crate::engine) enum Input<'e> {
    /// A record was read, at this time and at this time of the day in milliseconds.
    Record(&'e Record<'e>, Instant, i64),
    /// All records of a partition below the offset were read, at this time of the day in milliseconds.
    End {
        partition: i32,
        offset: i64,
        now_ms: i64,
    },
    /// Partitions are owned in addition to others.
    Assigned(Vec<Taken>),
    /// Partitions are owned no longer, and neither is what was `tried` of their failed files.
    Revoked {
        partitions: &'e [i32],
        lost: bool,
        tried: InstanceIds,
    },
    Report(Report),
    Answer(Answer, Instant),
    /// Time went by. Whole files that were handed out before MUST be with the pool.
    Tick(Tick),
}
