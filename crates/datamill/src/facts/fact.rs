//! The facts.

use std::sync::Arc;
use std::time::Duration;

use super::{FailureStatus, FileRow, FillingFile, Reason, WaitingFile};

/// Something that happened to a file, or to the messages that files are made of. `file` is its path as it is rebuilt, with
/// `/` between its parts, and may hold any character.
#[derive(Debug, Clone, Copy)]
pub enum Fact<'a> {
    // An upload or a watch.
    /// Files are looked for from here on.
    Sends {
        /// The folder that is watched, or what is uploaded.
        from: &'a str,
        /// The topic that they are sent to.
        topic: &'a str,
    },
    /// So many files with so many bytes will be sent, as far as can be told.
    Planned {
        /// Number of files.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// All chunks of a file are on their way.
    Sent {
        /// The file.
        file: &'a str,
        /// Its size.
        bytes: u64,
    },
    /// The log acknowledged messages.
    Acknowledged {
        /// How many.
        messages: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// The topic has a whole file.
    Delivered {
        /// The file.
        file: &'a str,
        /// Its size.
        bytes: u64,
        /// Number of its chunks.
        chunks: u32,
        /// When its first chunk was sent, milliseconds since the epoch.
        began_ms: i64,
    },
    /// A file looked changed, and holds what was delivered before.
    Unchanged {
        /// The file.
        file: &'a str,
    },
    /// A file is not sent.
    LeftOut {
        /// The file, or the folder that is not entered.
        file: &'a str,
        /// Why.
        reason: Reason,
        /// What more can be said about that.
        detail: Option<&'a str>,
    },
    /// So many files are not sent, since they were there when the folder was watched for the first time.
    Existing {
        /// Number of files.
        files: u64,
    },
    /// These files, and at most so many as are worth showing, wait before they are sent. It is told every few seconds.
    Waiting(&'a Arc<[WaitingFile]>),
    /// The log does not take a file.
    Refused {
        /// The file.
        file: &'a str,
        /// What the log said.
        error: &'a str,
        /// After this time it is tried again. `None` for an upload, which tries once.
        again_after: Option<Duration>,
        /// It was refused for the first time as it is.
        is_first: bool,
    },

    // A program that reads files.
    /// Partitions were assigned to this process.
    Assigned {
        /// Messages of theirs that had been read before and are read again.
        read_again: u64,
    },
    /// Partitions are not this process's any more.
    Revoked,
    /// A message holds no chunk of a file.
    Undecodable {
        /// Its partition.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// What is wrong with it.
        error: &'a str,
    },
    /// The first chunk of a file was read.
    FirstChunk {
        /// The file.
        file: &'a str,
        /// Number of its chunks.
        chunks: u32,
    },
    /// All chunks of a file were read.
    Whole {
        /// The file.
        file: &'a str,
        /// Number of its chunks.
        chunks: u32,
    },
    /// The chunks of these files are not all there. It is told every few seconds.
    Filling(&'a Arc<[FillingFile]>),
    /// No chunk of these files came for ten minutes, so their uploads were probably cut off. It is told once, and again
    /// where chunks came and stopped once more.
    CutOff(&'a [FillingFile]),
    /// `--download_regex` leaves out a file.
    Filtered {
        /// The file.
        file: &'a str,
    },
    /// A file lost its first chunk to the topic's retention before it was whole.
    Lost {
        /// The chunk's partition.
        partition: i32,
        /// Its offset.
        offset: i64,
    },
    /// User code begins with a file.
    Started {
        /// The file.
        file: &'a str,
        /// Which of its attempts it is, from 1.
        attempt: u32,
        /// It failed in an earlier run, or since somebody asked for another try.
        again: bool,
    },
    /// User code has ended with a file, well or not.
    Ran {
        /// The file.
        file: &'a str,
        /// How long it took.
        took: Duration,
    },
    /// User code failed for a file and will run for it again.
    AttemptFailed {
        /// The file.
        file: &'a str,
        /// Which of its attempts it was, from 1.
        attempt: u32,
        /// How many it may have.
        max_attempts: u32,
        /// What the file's status would be.
        status: FailureStatus,
        /// Why.
        reason: &'a str,
        /// When it runs again.
        wait: Duration,
    },
    /// User code says that something it needs is not available, and is asked again after a time.
    NotAvailable {
        /// What it said.
        error: &'a str,
        /// When it is asked again.
        wait: Duration,
    },
    /// The output folder is gone, or another one is at its path, as where its share is not mounted; or it is back.
    OutputFolder {
        /// What is wrong, with the name of the folder. `None` where it is back.
        gone: Option<&'a str>,
    },
    /// A file has its result, or was processed: durably.
    Done {
        /// The file.
        file: &'a FileRow,
        /// Its size.
        bytes: u64,
        /// Bytes of its result, where it has one.
        result: Option<u64>,
        /// It answers a failure.
        again: bool,
        /// It has another result, since somebody asked to run it again.
        rerun: bool,
        /// When, in milliseconds since the epoch.
        at_ms: i64,
    },
    /// A file has failed: durably.
    Failed {
        /// The file.
        file: &'a FileRow,
        /// Bytes of its chunks that are there.
        bytes: u64,
        /// How.
        status: FailureStatus,
        /// Why.
        reason: &'a str,
        /// How often user code ran for it, in all starts together.
        attempts: u32,
        /// It had failed before.
        again: bool,
        /// It has a result, and somebody asked to run it again.
        rerun: bool,
        /// When, in milliseconds since the epoch.
        at_ms: i64,
    },
    /// Chunks of an incomplete file came late and were added to it.
    CameLate {
        /// The file.
        file: &'a FileRow,
    },
    /// Only the end of a file was read, since it began before the group did. That is no failure.
    BegunBefore {
        /// The file.
        file: &'a FileRow,
        /// How that is known.
        reason: &'a str,
        /// When, in milliseconds since the epoch.
        at_ms: i64,
    },
    /// An upload of a file ends without an outcome: a newer version takes its place, or the same one was sent again.
    Replaced {
        /// The file.
        file: &'a FileRow,
        /// A newer version follows it. Otherwise it is what is left of a repeated upload.
        by_newer: bool,
    },
    /// A dead letter was sent.
    DeadLetter {
        /// The file that failed. `None` for a message that holds no chunk.
        file: Option<&'a str>,
    },
    /// The topic of dead letters took none for this.
    NoDeadLetter {
        /// The file that failed.
        file: Option<&'a str>,
        /// Partition and offset of the message that holds no chunk.
        message: Option<(i32, i64)>,
    },
    /// Results, failures and positions are durable.
    Committed {
        /// Number of files that have their outcome with it.
        files: u64,
        /// How long it took.
        took: Duration,
    },
    /// A commit did not happen, and is tried again.
    NotCommitted {
        /// What the log said, where it said something.
        error: Option<&'a str>,
    },
}
