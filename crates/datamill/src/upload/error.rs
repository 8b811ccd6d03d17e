//! Why an upload could not start, or cannot go on.

use std::io;
use std::path::PathBuf;

use datamill_broker::ErrorKind;

use super::cut::CutError;
use super::record::RecordError;
use super::send::NotDelivered;
use crate::durable::is_full;
use crate::report::text;

/// Why an upload could not start, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// A path that the user named is not there or cannot be read.
    #[error("`{path}` cannot be sent, check the path")]
    Path {
        /// The path.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// What the topic has already cannot be told.
    #[error(transparent)]
    Survey(#[from] Box<crate::survey::SurveyError>),
    /// A path that the user named is a pipe, a socket or a device.
    #[error("`{0}` is neither a file nor a folder")]
    Special(PathBuf),
    /// The chunk size is none.
    #[error("the chunk size `{0}` is not a power of two between 1 and {max}: `524288` is the usual one", max = super::MAX_CHUNK_SIZE)]
    ChunkSize(usize),
    /// The text for the names of rebuilt files cannot be in a name.
    #[error("`{0}` cannot be in the name of a file: leave `/` out of what is appended to names")]
    FilenameAppend(String),
    /// Two files would be rebuilt under the same path.
    #[error(
        "`{first}` and `{second}` would both be sent as `{relative}`: upload a folder that holds both, or each by itself with another `--path_prefix`"
    )]
    SamePath {
        /// The path under which both would be rebuilt.
        relative: String,
        /// One file.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
    },
    /// The folder was watched with another prefix before.
    #[error(
        "`{root}` was watched {before}, and now {now}: all its files would be sent again, under other paths. Start the watch \
        as before, or once with `--new_folder` if they are to have these paths from now on"
    )]
    OtherPrefix {
        /// The folder.
        root: PathBuf,
        /// What was given before, in words.
        before: String,
        /// What is given now.
        now: String,
    },
    /// Another process watches the same folder for the same topic.
    #[error("`{root}` is watched for topic `{topic}` by another process: stop that one first")]
    Watched {
        /// The folder.
        root: PathBuf,
        /// The topic.
        topic: String,
    },
    /// The folder for datamill's own files cannot be used.
    #[error(
        "datamill keeps its record of what was sent in `{path}`, which cannot be written: give the account the permission \
        to write there, or name a folder of its own for the record with `--logs_dir`"
    )]
    LogsFolder {
        /// The folder.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The watch ends with a record that lacks something.
    #[error("not written down, and so sent again at the next start: {}", text::counted(*files, "delivered file"))]
    NotWrittenDown {
        /// How many.
        files: u64,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// The folder was watched before, and the record of that is gone.
    #[error(
        "`{root}` was watched for topic `{topic}` before, and the record of what was sent, `{record}`, is gone: put it \
        back, name its folder with `--logs_dir` if it is elsewhere, or start once with `--new_folder`, which counts what is there as existing: it is not sent, or with \
        `--upload_existing` all of it is sent (again)"
    )]
    LostRecord {
        /// The folder.
        root: PathBuf,
        /// The topic.
        topic: String,
        /// Where the record was.
        record: PathBuf,
    },
    /// The mark of the folder cannot be used.
    #[error("the mark by which `{root}` is known again cannot be read or written")]
    Mark {
        /// The folder.
        root: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The topic is another one than the one that was sent to.
    #[error(
        "topic `{topic}` was deleted and created again while files were sent to it: what was on its way has failed, and \
        what was sent before went with the topic that was deleted. Start the program again to send to the new one (a \
        watch sends what it had sent before with `--upload_existing`)"
    )]
    TopicReplaced {
        /// The topic.
        topic: String,
    },
    /// The user has folders of both names that the folder for datamill's own files could have.
    #[error(
        "`{logs}` and `{beside}` are folders of yours, in which datamill puts nothing: name a folder for its record \
        of what was sent with `--logs_dir`"
    )]
    NoLogsFolder {
        /// The usual folder.
        logs: PathBuf,
        /// The one that takes its place.
        beside: PathBuf,
    },
    /// Another process keeps its record of another folder there.
    #[error(
        "`{0}` holds the record of a watch of another folder, which is running: give each watched folder a \
        `--logs_dir` of its own"
    )]
    LogsFolderInUse(PathBuf),
    /// There is a record in the usual place.
    #[error(
        "what was sent of this folder is recorded in `{record}`, and would be sent again by a second record: watch it \
        without `--logs_dir`, or stop every watch of it and move that file to `{to}`"
    )]
    RecordElsewhere {
        /// The record that is there.
        record: PathBuf,
        /// Where the record would be.
        to: PathBuf,
    },
    /// The record of what was sent cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The log refuses what concerns more than one file.
    #[error("{0}")]
    Log(#[from] datamill_broker::Error),
    /// The log refused a chunk for a reason that concerns every file.
    #[error(transparent)]
    NotDelivered(#[from] NotDelivered),
}

impl UploadError {
    /// Whether the place of the record, or the log, has no room, which may change.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::LogsFolder { source, .. }
            | Self::Mark { source, .. }
            | Self::Record(RecordError::Io { source, .. }) => is_full(source),
            Self::Log(error) => error.kind() == ErrorKind::NoSpace,
            _ => false,
        }
    }

    /// What kind of refusal of the log it is, where it is one.
    pub(super) fn refusal(&self) -> Option<ErrorKind> {
        match self {
            Self::Log(error) | Self::NotDelivered(NotDelivered { error, .. }) => Some(error.kind()),
            _ => None,
        }
    }
}

/// Why one try with a file ended early.
pub(super) enum Broken {
    /// Something about the file.
    Cut(CutError),
    /// Something about everything.
    Upload(UploadError),
}

impl From<CutError> for Broken {
    fn from(error: CutError) -> Self {
        Self::Cut(error)
    }
}

impl From<UploadError> for Broken {
    fn from(error: UploadError) -> Self {
        Self::Upload(error)
    }
}
