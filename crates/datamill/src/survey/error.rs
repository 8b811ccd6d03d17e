//! Why a topic cannot be looked through.

use std::io;
use std::path::{Path, PathBuf};

use crate::report::text::{count, counted};

/// A temporary folder, which goes with what is answered.
pub(super) fn temporary_folder() -> Result<tempfile::TempDir, SurveyError> {
    let made = tempfile::Builder::new().prefix("datamill-").tempdir();
    made.map_err(|error| SurveyError::Temporary(of_folder(&std::env::temp_dir(), &error)))
}

/// Why nothing can be made in a folder, without the name that `tempfile` made up for it.
pub(super) fn of_folder(folder: &Path, error: &io::Error) -> io::Error {
    std::fs::metadata(folder).err().unwrap_or_else(|| error.kind().into())
}

/// How many of the messages of a topic are not chunks of files, in words.
pub fn not_chunks(others: u64, messages: u64) -> String {
    let is = if others == 1 { "is not a chunk" } else { "are not chunks" };
    format!("{} of {} {is} of files", count(others), counted(messages, "message"))
}

/// See the module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SurveyError {
    /// The log refused something.
    #[error("{0}")]
    Log(#[from] datamill_broker::Error),
    /// The temporary table of what was found.
    #[error(
        "cannot use the temporary table in the folder `{}`: make room there, or name another folder in TMPDIR",
        std::env::temp_dir().display()
    )]
    Table(#[from] rusqlite::Error),
    /// The temporary files of what is rebuilt.
    #[error(
        "cannot write temporary files in the folder `{}`: make room there, or name another folder in TMPDIR",
        std::env::temp_dir().display()
    )]
    Temporary(#[source] io::Error),
    /// A folder or file of the user.
    #[error("cannot read `{}`", path.display())]
    Path {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that was to be written.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Whoever listens to what is found has failed.
    #[error("what was found cannot be printed")]
    Output(#[source] io::Error),
    /// The group has no position on the topic.
    #[error("group `{group}` has never read topic `{topic}`: check --consumer_group_id and --topic_name. {readers}")]
    Group {
        /// Group.
        group: String,
        /// Topic.
        topic: String,
        /// The groups that have, as a sentence.
        readers: String,
    },
    /// A program does not tell how it stands.
    #[error(
        "no program tells at `{address}` how it stands: check the address, and that the program has --status_listen"
    )]
    Program {
        /// Where it was asked.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no record of a watch.
    #[error(
        "no watch has sent files of folder `{}` to topic `{topic}`: check the folder and --topic_name, and name the folder of \
        the watch's record with --logs_dir where it is not in the watched folder. {reconcile} compares any folder with the topic",
        folder.display()
    )]
    NeverWatched {
        /// The folder.
        folder: PathBuf,
        /// Topic.
        topic: String,
        /// The command for a folder that is not watched.
        reconcile: String,
    },
    /// The paths of a watched folder have another prefix.
    #[error("folder `{}` is watched {prefix}: give the same here, since files are known by their paths on the topic", folder.display())]
    OtherPrefix {
        /// The folder.
        folder: PathBuf,
        /// What the watch has, in words.
        prefix: String,
    },
    /// The folder for the record of a watch.
    #[error(transparent)]
    Watch(Box<crate::upload::UploadError>),
    /// The record of a watch.
    #[error(transparent)]
    Record(#[from] crate::upload::RecordError),
    /// The file is not on the topic, or not whole, or not in that version.
    #[error("{0}")]
    NotThere(String),
    /// What is on the topic is not what its uploader has hashed.
    #[error("file `{path}` at the offsets {offsets} of topic `{topic}` is damaged: {reason}. Upload it again")]
    Damaged {
        /// Topic.
        topic: String,
        /// Path of the file.
        path: String,
        /// Where its chunks are.
        offsets: String,
        /// What is wrong.
        reason: String,
    },
    /// The topic holds something else than files.
    #[error(
        "topic `{topic}` has no files: {}. Check the name of the topic; {read} shows what it has",
        not_chunks(*messages, *messages)
    )]
    NotFiles {
        /// Topic.
        topic: String,
        /// How many messages it has.
        messages: u64,
        /// The command that shows them.
        read: String,
    },
    /// The store of the copies.
    #[cfg(feature = "object-store")]
    #[error(transparent)]
    Target(#[from] crate::deliver::TargetError),
    /// The store does not answer or refuses.
    #[cfg(feature = "object-store")]
    #[error("cannot list what is in `{store}`: {reason}")]
    Store {
        /// The URL.
        store: String,
        /// What it said.
        reason: String,
    },
    /// It was asked to stop.
    #[error("stopped before the end; nothing was changed")]
    Stopped,
}

// an error of an upload may be one of these in turn
impl From<crate::upload::UploadError> for SurveyError {
    fn from(error: crate::upload::UploadError) -> Self {
        Self::Watch(Box::new(error))
    }
}
