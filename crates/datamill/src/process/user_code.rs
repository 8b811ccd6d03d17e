//! Code of a user as programs hand it to the engine, and the adapters from what users write to the port.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::port::{Needs, ThreadBody, Worker, WorkerThread, Workers, spawn_thread};
use super::{Call, DataFileStreamProcessor, DataFileStreamReproducer, ProcessingError, ReproducerMessage, Target};
use crate::assemble::DownloadDataFile;

/// Code of a user as the engine runs it.
#[derive(Clone)]
pub struct UserCode {
    workers: Arc<dyn Workers>,
    version: Option<String>,
    target: Option<Target>,
    target_is_kept: Arc<AtomicBool>,
}

impl UserCode {
    /// Code that brings workers of its own.
    pub fn new(workers: impl Workers) -> Self {
        Self { workers: Arc::new(workers), version: None, target: None, target_is_kept: Arc::default() }
    }

    /// The code of a reproducer, which all threads share.
    pub fn reproducer(code: impl DataFileStreamReproducer) -> Self {
        Self::function(Needs::default(), move |file, call| {
            code.get_processing_result_message_for_file(file, call.lock())
        })
    }

    /// The code of a processor, which all threads share.
    pub fn processor(code: impl DataFileStreamProcessor) -> Self {
        Self::function(Needs::default(), move |file, call| {
            code.process_downloaded_data_file(file, call.lock()).map(|()| None)
        })
    }

    /// A function that all threads share, and what it needs. See [`Worker::run`].
    pub fn function<F>(needs: Needs, function: F) -> Self
    where
        F: Fn(&DownloadDataFile, &Call<'_>) -> Result<Option<ReproducerMessage>, ProcessingError>
            + Send
            + Sync
            + 'static,
    {
        Self::new(Shared { needs, function: Arc::new(function) })
    }

    /// Says which version of itself the code is, as in `with_version(env!("CARGO_PKG_VERSION"))`: each result names it.
    /// `--processor_version` goes before it.
    pub fn with_version(self, version: impl Into<String>) -> Self {
        Self { version: Some(version.into()), ..self }
    }

    pub(crate) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Says where the code puts files, and what is set once a group may know that.
    pub(crate) fn delivering_to(self, target: Target, is_kept: Arc<AtomicBool>) -> Self {
        Self { target: Some(target), target_is_kept: is_kept, ..self }
    }

    pub(crate) fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    pub(crate) fn target_is_kept(&self) -> &Arc<AtomicBool> {
        &self.target_is_kept
    }

    pub(crate) fn workers(&self) -> &dyn Workers {
        &*self.workers
    }
}

/// A function that all threads share: a worker is a reference to it.
struct Shared<F> {
    needs: Needs,
    function: Arc<F>,
}

struct SharedWorker<F>(Arc<F>);

impl<F> Workers for Shared<F>
where
    F: Fn(&DownloadDataFile, &Call<'_>) -> Result<Option<ReproducerMessage>, ProcessingError> + Send + Sync + 'static,
{
    fn needs(&self) -> Needs {
        self.needs.clone()
    }

    fn spawn(&self, name: &str, body: ThreadBody) -> io::Result<Box<dyn WorkerThread>> {
        spawn_thread(name, body)
    }

    fn start(&self) -> Result<Box<dyn Worker>, ProcessingError> {
        Ok(Box::new(SharedWorker(Arc::clone(&self.function))))
    }
}

impl<F> Worker for SharedWorker<F>
where
    F: Fn(&DownloadDataFile, &Call<'_>) -> Result<Option<ReproducerMessage>, ProcessingError>,
{
    fn run(&mut self, file: &DownloadDataFile, call: &Call<'_>) -> Result<Option<ReproducerMessage>, ProcessingError> {
        (self.0)(file, call)
    }

    fn stop(self: Box<Self>) {}
}
