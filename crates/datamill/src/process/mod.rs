//! What users write: code that gets a whole file and answers with a message.
//!
//! [`DataFileStreamReproducer`] answers with any [`ReproducerMessage`]; [`MetadataJsonReproducer`]
//! answers with a [`Metadata`] dictionary, which goes out as JSON. Both may run on several threads at
//! once; the [`Lock`] beside the file lets one of them at a time touch what they share.

mod error;
mod lock;
mod message;
mod metadata;

pub use error::{ErrorKind, ProcessingError};
pub use lock::{Lock, LockGuard};
pub use message::ReproducerMessage;
pub use metadata::{Metadata, MetadataJson};

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
