//! What needs a person: a sentence for people, with a kind and a subject for programs.

use std::fmt;
use std::path::{Path, PathBuf};

/// Something that needs a person. Its display form is a sentence without its end, with what mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub kind: ProblemKind,
    /// What it is about.
    pub subject: Subject,
    /// The sentence.
    pub text: String,
}

impl Problem {
    /// One of them.
    pub fn new(kind: ProblemKind, subject: Subject, text: impl Into<String>) -> Self {
        Self { kind, subject, text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a problem is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A consumer group.
    Group(String),
    /// A watched folder.
    Folder(PathBuf),
    /// A topic of heartbeats.
    Heartbeats(String),
    /// A program, by the name in its heartbeats or its own; where it does not answer, by its address.
    Program(String),
}

impl Subject {
    /// The word for programs.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Group(_) => "group",
            Self::Folder(_) => "folder",
            Self::Heartbeats(_) => "heartbeat_topic",
            Self::Program(_) => "program",
        }
    }

    /// Which one it is.
    pub fn name(&self) -> String {
        match self {
            Self::Group(name) | Self::Heartbeats(name) | Self::Program(name) => name.clone(),
            Self::Folder(path) => path.to_string_lossy().into_owned(),
        }
    }

    pub(super) fn folder(path: &Path) -> Self {
        Self::Folder(path.to_owned())
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal),* $(,)?) => {
        /// What is wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ProblemKind {
            $($(#[$doc])* $kind,)*
        }

        impl ProblemKind {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The word for programs. It stays what it is.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)*
                }
            }
        }
    };
}

kinds! {
    /// Files failed.
    FilesFailed = "files_failed",
    /// Files lack chunks.
    FilesIncomplete = "files_incomplete",
    /// Which files failed is not in the log.
    FailuresNotSeen = "failures_not_seen",
    /// Uploads were probably cut off.
    CutOff = "cut_off",
    /// Files wait, and the group has never read the topic.
    NotStarted = "not_started",
    /// The group has no position on the topic, and has some on others.
    OtherTopic = "other_topic",
    /// Files or requests wait, and no program of the group runs.
    NoProgram = "no_program",
    /// The topic was deleted and created again.
    TopicReplaced = "topic_replaced",
    /// The topic keeps only the newest message of each key.
    TopicCompacted = "topic_compacted",
    /// The log has forgotten the position of the group.
    PositionLost = "position_lost",
    /// What stands beside the position of the group cannot be read.
    PositionUnreadable = "position_unreadable",
    /// Records were removed before the group read them.
    RecordsRemoved = "records_removed",
    /// A program holds for long, or has not joined its group.
    Holding = "holding",
    /// The program that was asked is of another group or topic.
    OtherProgram = "other_program",
    /// The topic of heartbeats has none.
    NoHeartbeats = "no_heartbeats",
    /// Files of a watched folder wait, and no watch runs.
    NoWatch = "no_watch",
    /// Files of a watched folder cannot be sent.
    CannotBeSent = "cannot_be_sent",
    /// A part of what was asked about cannot be looked at.
    NotSeen = "not_seen",
}
