//! What users write: code that gets a whole file and answers with a message.
//!
//! [`DataFileStreamReproducer`] answers with any [`ReproducerMessage`]; [`MetadataJsonReproducer`]
//! answers with a [`Metadata`] dictionary, which goes out as JSON; [`DataFileStreamProcessor`] acts on the
//! file and answers with nothing. All may run on several threads at once; the [`Lock`] beside the file lets
//! one of them at a time touch what they share.

mod error;
mod lock;
mod message;
mod metadata;

pub use error::{ErrorKind, ProcessingError};
pub use lock::{Lock, LockGuard};
pub use message::ReproducerMessage;
pub use metadata::{Metadata, MetadataJson};

use std::sync::Arc;

use crate::assemble::{DownloadDataFile, Followers};
use crate::ledger::FailureStatus;

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

/// Code of a user as the engine runs it.
#[derive(Clone)]
pub struct UserCode {
    kind: Kind,
    /// Who takes large files before they are whole.
    followers: Option<Arc<dyn Followers>>,
}

#[derive(Clone)]
enum Kind {
    /// Each file has a message.
    Reproducer(Arc<dyn DataFileStreamReproducer>),
    /// No file has one.
    Processor(Arc<dyn DataFileStreamProcessor>),
}

impl UserCode {
    /// That of a reproducer.
    pub fn reproducer(code: impl DataFileStreamReproducer) -> Self {
        Self { kind: Kind::Reproducer(Arc::new(code)), followers: None }
    }

    /// That of a processor.
    pub fn processor(code: impl DataFileStreamProcessor) -> Self {
        Self { kind: Kind::Processor(Arc::new(code)), followers: None }
    }

    /// Lets these take large files while their chunks still come. The code gets each file in any case.
    #[cfg(feature = "object-store")]
    pub(crate) fn followed_by(self, followers: Arc<dyn Followers>) -> Self {
        Self { followers: Some(followers), ..self }
    }

    pub(crate) fn followers(&self) -> Option<Arc<dyn Followers>> {
        self.followers.clone()
    }

    /// What the registry calls a file for which it failed.
    pub(crate) fn failure_status(&self) -> FailureStatus {
        match self.kind {
            Kind::Reproducer(_) => FailureStatus::ComputingResultMessageFailed,
            Kind::Processor(_) => FailureStatus::Failed,
        }
    }

    /// Runs it for one file.
    pub(crate) fn run(
        &self,
        file: &DownloadDataFile,
        lock: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        match &self.kind {
            Kind::Reproducer(code) => match code.get_processing_result_message_for_file(file, lock)? {
                Some(message) => Ok(Some(message)),
                None => Err(ProcessingError::file_failed("the function returned no message")),
            },
            Kind::Processor(code) => code.process_downloaded_data_file(file, lock).map(|()| None),
        }
    }
}
