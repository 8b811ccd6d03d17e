//! What users write: code that gets a whole file and answers with a message.
//!
//! [`DataFileStreamReproducer`] answers with any [`ReproducerMessage`]; [`MetadataJsonReproducer`]
//! answers with a [`Metadata`] dictionary, which goes out as JSON; [`DataFileStreamProcessor`] acts on the
//! file and answers with nothing. All may run on several threads at once; the [`Lock`] beside the file lets
//! one of them at a time touch what they share.
//!
//! All three reach the engine through one port ([`Workers`] and [`Worker`]), and so does code that needs more: a life
//! of its own on each thread, threads of its own making, a path in every mode, a clock that starts later.

mod call;
mod error;
mod largest;
mod lock;
mod message;
mod metadata;
mod port;
mod trial;
mod user_code;

pub(crate) use call::{Beginning, Watch, placing_failed};
pub use call::{Call, Starter};
pub use error::{ErrorKind, ProcessingError};
pub use largest::largest_entry;
pub use lock::{Lock, LockGuard};
pub use message::ReproducerMessage;
pub use metadata::{Metadata, MetadataJson};
pub(crate) use port::TellMismatch;
#[cfg(test)]
pub(crate) use port::TellOverdue;
pub use port::{
    Access, Answer, Clock, Needs, Several, ThreadBody, Together, Worker, WorkerThread, Workers, spawn_thread,
};
pub use trial::Trial;
pub use user_code::UserCode;

use std::path::PathBuf;

use crate::assemble::DownloadDataFile;

/// Computes a message from each whole file of a topic; the message goes to another topic.
///
/// The function runs on a pool of `--n_consumer_threads` threads, never on the one that reads the
/// topic. It may run again for the same file after a crash; its message is produced exactly once.
pub trait DataFileStreamReproducer: Send + Sync + 'static {
    /// Computes the message for one file.
    ///
    /// # Errors
    /// An error, `None` or a panic means that the result could not be computed: the function runs again,
    /// up to `--max_attempts` times; then the failure is recorded with the file's name, nothing is
    /// produced, and the program goes on with other files. The error's
    /// [`kind`](ProcessingError::kind) can also ask the program to hold or to stop.
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        lock: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError>;
}

/// Computes a dictionary from each whole file of a topic; it goes to another topic as a JSON string.
pub trait MetadataJsonReproducer: Send + Sync + 'static {
    /// Computes the dictionary for one file.
    ///
    /// # Errors
    /// As [`DataFileStreamReproducer::get_processing_result_message_for_file`].
    fn get_metadata_dict_for_file(&self, file: &DownloadDataFile, lock: &Lock) -> Result<Metadata, ProcessingError>;
}

/// Acts on each whole file of a topic: stores it, transfers it, analyses it. Nothing is produced.
///
/// The function runs on a pool of `--n_consumer_threads` threads, never on the one that reads the topic.
/// That the file is done is committed **after** the function has ended. So after a crash in between the
/// function runs again for the same version of the file: its effect MUST bear that, for example by
/// writing aside and renaming, by a key made from [`DownloadDataFile::relative_path`] and
/// [`DownloadDataFile::sha512`], or by looking first whether the effect is there.
pub trait DataFileStreamProcessor: Send + Sync + 'static {
    /// Acts on one file.
    ///
    /// # Errors
    /// An error or a panic means that the file could not be processed: the function runs again, up to
    /// `--max_attempts` times; then the failure is recorded with the file's name, and the program goes on
    /// with other files. The error's [`kind`](ProcessingError::kind) can also ask the program to hold or to
    /// stop.
    fn process_downloaded_data_file(&self, file: &DownloadDataFile, lock: &Lock) -> Result<(), ProcessingError>;
}

/// Where code puts files: what a group that delivers is for.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A folder that carries a mark.
    Folder(PathBuf),
    /// An object store, and where in it.
    #[cfg(feature = "object-store")]
    Url(String),
    /// A folder that carries a mark, as an object store.
    #[cfg(feature = "object-store")]
    StoreFolder(PathBuf),
}
