//! A file of a topic, and how it may fail.

use std::fmt;

/// A file of a topic, as tables and pages show it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileRow {
    /// Path of the rebuilt file relative to the producer's root, with `/`.
    pub rel_filepath: String,
    /// Number of chunks of this version of the file.
    pub n_chunks: u32,
    /// Time of its first record, milliseconds since the epoch.
    pub first_message_ms: i64,
    /// Time of its most recent record, milliseconds since the epoch.
    pub most_recent_message_ms: i64,
    /// SHA-512 of the whole file in hexadecimal digits.
    pub sha512: String,
    /// Where its records are: `partition:first-last,…`.
    pub offsets: String,
}

impl FileRow {
    /// The last part of the path.
    pub fn filename(&self) -> &str {
        self.rel_filepath.rsplit('/').next().unwrap_or_default()
    }
}

/// A file whose chunks are not all there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FillingFile {
    /// The file.
    pub row: FileRow,
    /// Number of chunks that are there.
    pub there: u32,
    /// Bytes of these chunks.
    pub bytes: u64,
    /// What is to be expected of the others.
    pub rest: Rest,
}

/// What is to be expected of the chunks of a file that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rest {
    /// That they come.
    #[default]
    Comes,
    /// That they do not come: there was none for ten minutes, and everything in the topic was read. The upload was
    /// probably cut off.
    CutOff,
    /// Nothing: a newer version of the file has come since.
    Outdated,
    /// Nothing: the file is there without them. It was sent again, and that upload was probably cut off.
    SentAgain,
}

/// A file that waits before it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingFile {
    /// Its path as it is rebuilt.
    pub file: String,
    /// What it waits for.
    pub wait: Wait,
    /// When it was seen first, milliseconds since the epoch.
    pub found_ms: i64,
    /// When it was seen to change last, milliseconds since the epoch.
    pub changed_ms: i64,
}

/// What a file waits for before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// That it is left alone for long enough.
    Settle,
    /// It changed after each of its deliveries and is held back for a time.
    HeldBack,
}

impl Wait {
    /// What it waits for, for people: behind the name of the file.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Settle => "is sent once it no longer changes",
            Self::HeldBack => "is held back, since it changed after each of its deliveries",
        }
    }
}

/// How a file failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureStatus {
    /// The bytes that arrived are not the bytes that were sent.
    MismatchedHash,
    /// User code of a program that re-produces nothing failed.
    Failed,
    /// User code did not compute a result.
    ComputingResultMessageFailed,
    /// The log never takes the result.
    ProducingMessageFailed,
    /// Its chunks stopped coming before all were there.
    Incomplete,
    /// It began before the group did, so that only its last chunks were read: a note, no failure.
    BegunBefore,
    /// A file that failed cannot be tried again: its chunks are gone from the log.
    Expired,
    /// The process ended while user code had the file in hand, in each attempt.
    EndedTheProgram,
}

impl FailureStatus {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::MismatchedHash,
        Self::Failed,
        Self::ComputingResultMessageFailed,
        Self::ProducingMessageFailed,
        Self::Incomplete,
        Self::BegunBefore,
        Self::Expired,
        Self::EndedTheProgram,
    ];

    /// The word in the tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MismatchedHash => "mismatched_hash",
            Self::Failed => "failed",
            Self::ComputingResultMessageFailed => "computing_result_message_failed",
            Self::ProducingMessageFailed => "producing_message_failed",
            Self::Incomplete => "incomplete",
            Self::BegunBefore => "begun_before_start",
            Self::Expired => "expired",
            Self::EndedTheProgram => "ended_the_program",
        }
    }
}

impl FailureStatus {
    /// How it failed, for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::MismatchedHash => "its bytes are not those that were sent",
            Self::Failed | Self::ComputingResultMessageFailed => "the function failed",
            Self::ProducingMessageFailed => "its result was refused",
            Self::Incomplete => "chunks of it are missing",
            Self::BegunBefore => "it began before the group did",
            Self::Expired => "its chunks are gone from the topic",
            Self::EndedTheProgram => "the program ended while the function had it",
        }
    }
}

impl fmt::Display for FailureStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
