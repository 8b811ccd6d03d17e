//! User code and local files: what the engine does with a file, but for everything around it.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tempfile::TempDir;

use super::{Answer, Call, Clock, Lock, ProcessingError, UserCode, Watch, Worker};
use crate::assemble::DownloadDataFile;
use crate::control::Control;

/// Code of a user that runs on local files as it would on those of a topic: one after the other, with one attempt each.
/// Nothing is sent or kept.
pub struct Trial {
    worker: Box<dyn Worker>,
    clock: Clock,
    watch: Arc<Watch>,
    lock: Lock,
    stopping: Arc<AtomicBool>,
    folder: TempDir,
}

impl Trial {
    /// Starts a worker. A stop that `control` is asked for reaches the call that runs.
    ///
    /// Code that [ends overdue calls](super::Needs::ends_overdue_calls) does so after `processing_timeout`; other code takes
    /// the time that it likes.
    ///
    /// # Errors
    /// The worker does not start.
    pub fn start(
        code: &UserCode,
        processing_timeout: Option<Duration>,
        control: &Control,
    ) -> Result<Self, ProcessingError> {
        let workers = code.workers();
        let clock = workers.needs().clock;
        let stopping = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stopping);
        control.at_stop(move || told.store(true, Relaxed));
        let watch = Arc::new(Watch::new(processing_timeout, None));
        let worker = workers.start()?;
        // made last: whoever does not wait for the start leaves nothing
        let folder = TempDir::new().map_err(ProcessingError::stop)?;
        Ok(Self { worker, clock, watch, lock: Lock::default(), stopping, folder })
    }

    /// Runs it on a file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn run(&mut self, path: &Path) -> io::Result<Answer> {
        let file = DownloadDataFile::local(path)?;
        let call = Call {
            attempt: 1,
            is_last: true,
            lock: &self.lock,
            watch: &self.watch,
            stopping: &self.stopping,
            folder: self.folder.path(),
        };
        self.watch.call(self.clock);
        let answer = self.worker.run(&file, &call);
        self.watch.end();
        Ok(answer)
    }

    /// Ends the worker.
    pub fn end(self) {
        self.worker.stop();
    }
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial").field("clock", &self.clock).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Access, Needs, ReproducerMessage};

    #[test]
    fn code_gets_a_local_file_as_one_of_a_topic_and_nothing_of_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b.csv");
        std::fs::write(&path, "content").unwrap();
        let code = UserCode::function(Needs::new(Access::Path, Clock::WhenSaid), |file, call| {
            call.begin();
            assert!(call.deadline().is_some() && call.is_last_attempt() && !call.is_stopping());
            let lent = call.path(file)?;
            let text = format!("{} {} {}", file.relative_path(), file.n_chunks(), lent.display());
            Ok(Some(ReproducerMessage::new(text).with_key(std::fs::read(lent).unwrap())))
        });
        let control = Control::default();
        let mut trial = Trial::start(&code, Some(Duration::from_secs(60)), &control).unwrap();
        let message = trial.run(&path).unwrap().unwrap().unwrap();
        let text = String::from_utf8(message.value().to_vec()).unwrap();
        let lent = text.strip_prefix("a b.csv 1 ").unwrap();
        assert!(lent.ends_with("/a b.csv") && !Path::new(lent).exists(), "{lent}");
        assert_eq!(message.key(), Some(&b"content"[..]));
        assert!(trial.run(folder.path()).is_err());
        trial.end();
    }
}
