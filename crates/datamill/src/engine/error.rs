//! Why an engine cannot run or go on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::progress::ProgressError;
use crate::report::text::counted;

/// Why an engine ended without being asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The output folder cannot be used.
    #[error("cannot write to the output folder `{}`, choose another one with --output_dir", folder.display())]
    Output {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process works in the output folder.
    #[error("another running program uses the output folder `{}`; stop it first, or choose another folder with --output_dir", .0.display())]
    OutputInUse(PathBuf),
    /// The log lies where the program keeps, and removes, things of its own.
    #[error(
        "the embedded log is in `{}`, which the program empties: move the log to another folder, and name it there in \
        `bootstrap.servers`", .0.display()
    )]
    LogInside(PathBuf),
    /// Threads cannot be started.
    #[error("cannot start threads")]
    Thread(#[source] io::Error),
    /// The log refused something for good.
    #[error("{0}")]
    Log(#[source] datamill_broker::Error),
    /// The account lacks a permission that exactly-once delivery needs.
    #[error(
        "{0}; or start the program with --delivery at-least-once, which needs no more than to read the topic as the \
        group, and to write what is sent"
    )]
    Rights(datamill_broker::Error),
    /// What is committed for the group cannot be understood.
    #[error(
        "the progress committed for group `{group}` in topic `{topic}`, partition {partition}, cannot be used; \
        was it written by another program? Go on at the committed offset with --start_from committed, or choose \
        another --consumer_group_id, which begins anew: each file then gets another result"
    )]
    Progress {
        /// Group.
        group: String,
        /// Topic.
        topic: Arc<str>,
        /// Partition.
        partition: i32,
        /// Why.
        #[source]
        source: ProgressError,
    },
    /// Records were removed from the topic before they were read.
    #[error(
        "topic `{topic}`, partition {partition}: the records from offset {from} to {last} were removed before \
        group `{group}` read them; nothing was guessed. To go on with what is left, start it with --start_from earliest",
        last = .to - 1
    )]
    LostGround {
        /// Topic.
        topic: Arc<str>,
        /// Partition.
        partition: i32,
        /// First offset that was not read.
        from: i64,
        /// First offset that is there.
        to: i64,
        /// Group.
        group: String,
    },
    /// The group had committed a position, and the log has forgotten it.
    #[error(
        "the position that group `{group}` had committed in topic `{topic}`, partition {partition}, is gone. A broker \
        forgets the positions of a group without members after `offsets.retention.minutes` (7 days by default), and at \
        once where the topic is deleted or somebody deletes the group or its positions; nothing was guessed. Say where to start with --start_from: earliest does everything again, so that each file gets another \
        result; latest leaves out what is there; an offset begins there"
    )]
    LostPosition {
        /// Topic.
        topic: Arc<str>,
        /// Partition.
        partition: i32,
        /// Group.
        group: String,
    },
    /// The topic is another one than the one that the group knows.
    #[error(
        "topic `{topic}` was deleted and created again: what group `{group}` has committed is about the topic that was \
        there before, and nothing was guessed. Say where to start in the new one with --start_from: earliest reads all \
        of it, latest leaves out what is there, an offset begins there. Failed files of the topic before are given up"
    )]
    TopicReplaced {
        /// Topic.
        topic: Arc<str>,
        /// Group.
        group: String,
    },
    /// `--start_from` names an offset where no reading can start.
    #[error(
        "reading cannot start at offset {offset} of topic `{topic}`, partition {partition}, as --start_from says: \
        offsets from {from} to {to} are possible"
    )]
    NoSuchStart {
        /// Topic.
        topic: Arc<str>,
        /// Partition.
        partition: i32,
        /// Offset that was asked for.
        offset: i64,
        /// First offset that is possible.
        from: i64,
        /// Last offset that is possible.
        to: i64,
    },
    /// The topic spreads files over partitions that are not all this process's.
    #[error(
        "topic `{topic}` spreads the chunks of one file over several partitions, and other members of group \
        `{group}` own some of them; let one process read this topic, or copy it with {command}"
    )]
    Spread {
        /// The command that copies it.
        command: String,
        /// Topic.
        topic: Arc<str>,
        /// Group.
        group: String,
    },
    /// The group is another program's.
    #[error(
        "group `{group}` is used for topic `{topic}` by {theirs}. Programs of one group share the files of a topic, so \
        {ours} would take some of its files away and get only a part. Give this program a group of its own with \
        --consumer_group_id; if both are to share the files, or this one takes the place of the other, start it once \
        with --same_group"
    )]
    OtherPurpose {
        /// Topic.
        topic: String,
        /// Group.
        group: String,
        /// What the group is for.
        theirs: String,
        /// What this program would do.
        ours: String,
    },
    /// The folder of a delivery is not the one that the group puts files into.
    #[error(
        "the folder `{}` does not carry the mark of the one into which group `{group}` puts the files of topic `{topic}` (`{before}`). \
        If it is on a share, is the share mounted? For another folder, choose another group with --consumer_group_id: \
        what a group was given does not come again. To go on with this folder all the same, start once with \
        --same_group",
        folder.display()
    )]
    UnmarkedFolder {
        /// The folder.
        folder: PathBuf,
        /// Where the folder of the group was.
        before: String,
        /// Group.
        group: String,
        /// Topic.
        topic: String,
    },
    /// The folder of a delivery cannot be used.
    #[error("cannot use the folder `{}`", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A group that is to be taken over has members.
    #[error(
        "group `{group}` cannot be taken over while it has members: {}. Stop the programs of OpenMSIStream in it; one \
        that was killed counts for some time (`session.timeout.ms`, 45 s by default)",
        members.join(", ")
    )]
    GroupInUse {
        /// Group.
        group: String,
        /// Its members.
        members: Vec<String>,
    },
    /// A group that is to be taken over has positions of both programs.
    #[error(
        "group `{group}` cannot be taken over: in topic `{topic}`, some positions are OpenMSIStream's and some are \
        datamill's, so that it cannot be told which files have a result. Choose another --consumer_group_id and say \
        where it starts with --start_from; what lies behind that gets another result where it has one"
    )]
    MixedPositions {
        /// Topic.
        topic: Arc<str>,
        /// Group.
        group: String,
    },
    /// The folder of a group that is to be taken over is not there.
    #[error("there is no folder `{}`, which --take_over names: name the output folder of the OpenMSIStream program", .0.display())]
    NoFolder(PathBuf),
    /// The table of a group that is to be taken over is not there.
    #[error(
        "there is no file `{name}` in `{}`: name the output folder of the OpenMSIStream program that ran with this \
        group",
        folder.display()
    )]
    NoTable {
        /// Where it was looked for.
        folder: PathBuf,
        /// The table.
        name: String,
    },
    /// The table of a group that is to be taken over cannot be read.
    #[error("cannot read the table `{}`: {problem}", file.display())]
    Table {
        /// The table.
        file: PathBuf,
        /// Why.
        problem: String,
    },
    /// User code asked the program to stop.
    #[error("stopped at file `{file}`, which the next start begins with: {reason}")]
    Stopped {
        /// File.
        file: String,
        /// What the function said.
        reason: String,
    },
    /// User code could not start.
    #[error("the function could not start, and nothing was read: {0}")]
    NotStarted(String),
    /// User code could not start again in the place of a function that did not end.
    #[error("a function did not end in its time, and another worker could not start in its place: {0}")]
    NotReplaced(String),
    /// Too many functions do not end.
    #[error(
        "{} did not end within {seconds} s and still {}, so the program ends; what was worked on there has failed. Find out what the \
        function waits for, or give it more time with --processing_timeout, and start the program again",
        counted(*functions as u64, "function"),
        if *functions == 1 { "runs" } else { "run" }
    )]
    Hanging {
        /// Functions that were given up and still run.
        functions: usize,
        /// Time that each may take.
        seconds: f64,
    },
    /// A function does not end, and cannot be given up while the process goes on.
    #[error(
        "the function did not end within {seconds} s for file `{file}`, and cannot be given up alone, so the program ends. \
        That counts as an attempt; start it again, as a supervisor does: the file is tried while nothing else runs, and has \
        failed after --max_attempts. If the function needs more time, give it with --processing_timeout"
    )]
    Overdue {
        /// Files whose functions take longer than their time.
        file: String,
        /// Time that each may take.
        seconds: f64,
    },
    /// The session with the log ended for an unclear reason too often.
    #[error("the session with the log could not be kept")]
    Session(#[source] datamill_broker::Error),
}

impl From<datamill_broker::Error> for EngineError {
    fn from(error: datamill_broker::Error) -> Self {
        match error.kind() {
            datamill_broker::ErrorKind::DeniedExactlyOnce => Self::Rights(error.of_member()),
            _ => Self::Log(error),
        }
    }
}

impl EngineError {
    /// What happened, for a start that a person has decided: not what to do about it.
    pub(super) fn what_happened(&self) -> String {
        match self {
            Self::Progress { source, .. } => format!("the progress committed there cannot be used: {source}"),
            Self::LostGround { from, to, .. } => {
                format!("the records from offset {from} to {} were removed before the group read them", to - 1)
            }
            Self::LostPosition { .. } => "the position that the group had committed is gone".to_owned(),
            Self::TopicReplaced { .. } => {
                "the topic was deleted and created again; failed files of the topic before are given up".to_owned()
            }
            other => crate::report::chain(other),
        }
    }

    pub(crate) fn output(folder: &Path, source: io::Error) -> Self {
        Self::Output { folder: folder.to_owned(), source }
    }
}
