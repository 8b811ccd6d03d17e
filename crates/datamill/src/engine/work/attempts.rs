//! What a worker does with a file: verify it, place it on disk, run user code until that is done with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill_wire::headers;

use super::life::{Hand, Seat};
use super::queue::{Place, Running};
use super::{Processed, Report, Shared};
use crate::assemble::{DownloadDataFile, FileInfo, Mode, NotVerified, WholeFile};
use crate::engine::in_hand::{Deaths, HandSlot};
use crate::engine::outcome::{Failure, Outcome};
use crate::facts::{Fact, FailureStatus, Hold};
use crate::panics;
use crate::process::{
    Access, Answer, Call, ErrorKind, ProcessingError, ReproducerMessage, TellMismatch, placing_failed,
};

/// The first wait while something that user code needs is not available; it doubles up to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(30);
/// How often is looked meanwhile whether the output folder is back.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The wait before a function that failed runs again for the same file; it doubles up to the last.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LAST_BACKOFF: Duration = Duration::from_secs(10);

/// A file as the function gets it.
pub(super) struct Prepared {
    pub(super) info: Arc<FileInfo>,
    pub(super) file: DownloadDataFile,
    /// Attempts that were made before.
    pub(super) before: u32,
    pub(super) max_attempts: u32,
    failed_before: bool,
}

impl Shared {
    /// What the registry calls a file for which user code failed.
    pub(super) fn failure_status(&self) -> FailureStatus {
        if self.settings.run.result_topic.is_some() {
            FailureStatus::ComputingResultMessageFailed
        } else {
            FailureStatus::Failed
        }
    }

    /// The file as the function gets it, or its outcome where it does not get it. `None` when the program stops before.
    pub(super) fn prepare(
        &self,
        whole: WholeFile,
        slot: Option<&Arc<HandSlot>>,
    ) -> Option<Result<Prepared, Processed>> {
        let info = Arc::clone(&whole.info);
        // A file that failed before has had its waits: new files do not stand behind it.
        let failed_before = whole.failed_before;
        let max_attempts = if failed_before { 1 } else { self.settings.run.max_attempts };
        let mut file = match DownloadDataFile::verify(&self.settings.topic, whole) {
            Ok(file) => file,
            Err(NotVerified::Again(dropped)) => return Some(Err(Report::Again(dropped).into())),
            // its content is there, out of reach
            Err(NotVerified::Read(_, dropped)) if self.settings.output.require().is_err() => {
                return Some(Err(Report::Again(dropped).into()));
            }
            Err(error) => {
                let failed = self.failed(info, FailureStatus::MismatchedHash, crate::report::chain(&error));
                if let NotVerified::Mismatch(_, file) = &error {
                    self.tell_mismatch(file);
                }
                return Some(Err(failed.into()));
            }
        };
        let mut before = 0;
        if let Some(slot) = slot {
            let deaths = slot.deaths(&info, failed_before);
            before = deaths.map_or(0, Deaths::attempts);
            if let Some(deaths) = deaths.filter(|deaths| deaths.are_enough(max_attempts)) {
                let failure = Failure::new(FailureStatus::EndedTheProgram, deaths.reason());
                return Some(Err(Report::Outcome(self.outcome(info, Err(failure), before, None)).into()));
            }
            slot.prepare(&info, deaths.is_some() && self.runs_alone(), failed_before);
        }
        if self.settings.run.mode != Mode::Memory
            && let Some(reason) = self.refusal(&file)
        {
            return Some(Err(self.failed(info, self.failure_status(), reason).into()));
        }
        if self.settings.run.mode != Mode::Memory
            && let Err(error) = self.when_available(|| self.place(&mut file, failed_before).map_err(placing_failed))?
        {
            let reason = error.to_string();
            return Some(Err(self.failed(info, self.failure_status(), reason).into()));
        }
        Some(Ok(Prepared { info, file, before, max_attempts, failed_before }))
    }

    /// Runs the function for the file, from this answer on where there is one. `None` when the program stops before the
    /// file has an outcome, or the run is given up.
    pub(super) fn compute(
        &self,
        mut prepared: Prepared,
        hand: &mut Hand,
        place: usize,
        first: Option<Answer>,
    ) -> Option<Processed> {
        let (attempts, computed) = self.attempts(&mut prepared, hand, place, first)?;
        Some(self.concluded(prepared, attempts, computed))
    }

    /// The outcome of a file whose function has answered for the last time.
    pub(super) fn concluded(&self, prepared: Prepared, attempts: u32, computed: Answer) -> Processed {
        let Prepared { info, file, .. } = prepared;
        if file.is_asked_again() {
            return Report::Again(file.into_dropped()).into();
        }
        let (placed, content) = if file.path().is_some() { (Some(file), None) } else { (None, Some(file)) };
        let result = match computed {
            Ok(message) => Ok(message),
            Err(error) if error.kind() == ErrorKind::Stop => {
                let path = Arc::clone(&info.version.path);
                return Report::Stop { path, reason: error.to_string() }.into();
            }
            Err(error) => Err(Failure::new(self.failure_status(), error.to_string())),
        };
        let report = Report::Outcome(self.outcome(info, result, attempts, placed));
        Processed { report, content }
    }

    /// Lets code have a file that is not what was uploaded; whatever becomes of that, the file has failed.
    fn tell_mismatch(&self, file: &DownloadDataFile) {
        let Some(TellMismatch(tell)) = &self.settings.needs.tell_mismatch else { return };
        if let Err(panic) = panics::caught(|| tell(file)) {
            tracing::warn!(error = %panic, "the code that wants files with a wrong hash has failed");
        }
    }

    /// Why the file cannot go to the output folder.
    fn refusal(&self, file: &DownloadDataFile) -> Option<String> {
        let path = file.relative_path();
        if crate::mark::is_reserved(path) {
            return Some("its path is one that the program keeps for itself in the output folder".to_owned());
        }
        crate::engine::folder::taken(self.settings.output.path(), path, file.own_files())
    }

    /// Puts the file on disk, where the code finds it.
    fn place(&self, file: &mut DownloadDataFile, failed_before: bool) -> std::io::Result<()> {
        self.settings.output.require()?;
        file.place(&self.settings.work_folder, self.stays_in_memory())?;
        let output = self.settings.output.path();
        // a version that came later may be there already
        if self.settings.needs.public_names && !(failed_before && output.join(file.relative_path()).exists()) {
            file.show(output)?;
        }
        Ok(())
    }

    /// Whether the bytes of a file that is on disk are in memory as well.
    fn stays_in_memory(&self) -> bool {
        self.settings.run.mode == Mode::Both || self.settings.needs.access == Access::Bytes
    }

    /// Whether nothing but the file in hand is with user code.
    fn runs_alone(&self) -> bool {
        let queue = self.queue.lock();
        queue.runs_alone && queue.given_up.is_empty()
    }

    /// Runs the function until it is done with the file, asks to stop, or has failed often enough. `first` is what it
    /// has answered already. Answers how many attempts were made.
    /// `None` when the program stops before, or the run is given up.
    fn attempts(
        &self,
        prepared: &mut Prepared,
        hand: &mut Hand,
        place: usize,
        mut first: Option<Answer>,
    ) -> Option<(u32, Answer)> {
        let Prepared { info, file, before, max_attempts, failed_before } = prepared;
        let (mut attempts, max_attempts, again) = (*before, *max_attempts, *failed_before);
        let mut wait = FIRST_BACKOFF;
        loop {
            if self.settings.needs.access == Access::Path
                && let Err(error) = self.when_available(|| self.lend(file))?
            {
                return Some((attempts, Err(error)));
            }
            attempts += 1;
            let is_last = attempts >= max_attempts;
            let (path, attempt) = (&*info.version.path, attempts);
            if first.is_none() {
                self.settings.facts.tell(&Fact::Started { file: path, attempt, again });
            }
            let mut took = None;
            let computed = self.when_available(|| {
                if let Some(answer) = first.take() {
                    return answer;
                }
                let begun = Instant::now();
                let computed = self.run_in_time(file, info, (attempt, is_last), hand, place);
                took = Some(hand.seats[place].watch.took().unwrap_or_else(|| begun.elapsed()));
                self.unless_gone(file, computed)
            })?;
            if let Some(took) = took {
                self.settings.facts.tell(&Fact::Ran { file: path, took });
            }
            if hand.seats[place].watch.is_given_up() {
                return None;
            }
            file.take_back();
            match computed {
                Err(error)
                    if error.kind() == ErrorKind::FileFailed && attempts < max_attempts && !file.is_asked_again() =>
                {
                    let (file, attempt) = (&*info.version.path, attempts);
                    let (status, reason) = (self.failure_status(), &*error.to_string());
                    let facts = &self.settings.facts;
                    facts.tell(&Fact::AttemptFailed { file, attempt, max_attempts, status, reason, wait });
                }
                computed => return Some((attempts, computed)),
            }
            if !self.pause(wait) {
                return None;
            }
            wait = (wait * 2).min(LAST_BACKOFF);
        }
    }

    /// Waits. `false` when the program stops.
    fn pause(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        let mut queue = self.queue.lock();
        while !queue.stopping && !self.wake.wait_until(&mut queue, until).timed_out() {}
        !queue.stopping
    }

    /// The file failed before the function ran.
    fn failed(&self, info: Arc<FileInfo>, status: FailureStatus, reason: String) -> Report {
        Report::Outcome(self.outcome(info, Err(Failure::new(status, reason)), 0, None))
    }

    pub(super) fn outcome(
        &self,
        info: Arc<FileInfo>,
        result: Result<Option<ReproducerMessage>, Failure>,
        attempts: u32,
        file: Option<DownloadDataFile>,
    ) -> Outcome {
        Outcome::new(info, result, attempts, file, &self.budget)
    }

    pub(super) fn call<'a>(&'a self, seat: &'a Seat, attempt: u32, is_last: bool) -> Call<'a> {
        Call {
            attempt,
            is_last,
            lock: &self.lock,
            watch: &seat.watch,
            stopping: &self.stopping,
            folder: &self.settings.work_folder,
        }
    }

    /// The call is about to be made, and is watched from here on where that is needed.
    pub(super) fn begin_call(&self, place: Place, seat: &Seat, info: &Arc<FileInfo>, attempt: u32) {
        if !seat.watch.is_needed() {
            return;
        }
        seat.watch.call(self.settings.needs.clock);
        if self.settings.run.processing_timeout.is_some() {
            let (watch, slot) = (Arc::clone(&seat.watch), seat.slot.clone());
            self.queue.lock().calls.insert(place, Running { watch, info: Arc::clone(info), attempt, slot });
        }
    }

    /// The call has come back. `false` where it was given up.
    pub(super) fn end_call(&self, place: Place, seat: &Seat) -> bool {
        if !seat.watch.is_needed() {
            return true;
        }
        seat.watch.end();
        self.settings.run.processing_timeout.is_none() || self.queue.lock().calls.remove(&place).is_some()
    }

    /// Runs the function where its time is watched, if it is limited.
    fn run_in_time(
        &self,
        file: &DownloadDataFile,
        info: &Arc<FileInfo>,
        (attempt, is_last): (u32, bool),
        hand: &mut Hand,
        place: usize,
    ) -> Answer {
        let Hand { number, seats, worker } = hand;
        let (seat, place) = (&seats[place], (*number, place));
        self.begin_call(place, seat, info, attempt);
        let call = self.call(seat, attempt, is_last);
        let answer = panics::caught(|| worker.run(file, &call));
        let answer = self.checked(answer.unwrap_or_else(|panic| Err(ProcessingError::file_failed(panic))));
        if self.end_call(place, seat) { answer } else { Err(ProcessingError::file_failed("it was given up")) }
    }

    /// Runs `attempt` until it answers anything but "not available". `None` when the program stops.
    fn when_available<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, ProcessingError>,
    ) -> Option<Result<T, ProcessingError>> {
        let mut wait = FIRST_WAIT;
        loop {
            if !self.wait_until_available() {
                return None;
            }
            if wait > FIRST_WAIT {
                self.make_work_folder();
            }
            match attempt() {
                Err(error) if error.kind() == ErrorKind::NotAvailable => {
                    let hold = self.hold();
                    let mut queue = self.queue.lock();
                    if queue.stopping {
                        return None;
                    }
                    if queue.unavailable.is_none() {
                        tracing::warn!(error = %error, "not available; holding, nothing is skipped");
                    }
                    queue.unavailable = Some((Instant::now() + wait, hold));
                    drop(queue);
                    self.settings.facts.tell(&Fact::NotAvailable { error: &error.to_string(), wait });
                    wait = (wait * 2).min(LAST_WAIT);
                }
                answer => {
                    if self.queue.lock().unavailable.take().is_some() {
                        // the file at hand may be another than the one that had to wait
                        tracing::info!(parent: None, "available again; going on");
                        self.wake.notify_all();
                    }
                    return Some(answer);
                }
            }
        }
    }

    /// Waits while something is known not to be available. `false` when the program stops.
    fn wait_until_available(&self) -> bool {
        let mut queue = self.queue.lock();
        while let Some((until, hold)) = queue.unavailable {
            let is_back = hold == Hold::OutputFolder && !self.settings.output.is_gone();
            if queue.stopping || is_back || Instant::now() >= until {
                break;
            }
            let look = Instant::now() + LOOK_EVERY;
            self.wake.wait_until(&mut queue, until.min(look));
        }
        !queue.stopping
    }

    /// Makes the folder of files that code reads, where somebody has removed it. What is wrong with it is told by who needs
    /// it.
    fn make_work_folder(&self) {
        if self.settings.output.require().is_ok() {
            let _ = std::fs::create_dir_all(&self.settings.work_folder);
        }
    }

    /// What holds where something is not available.
    fn hold(&self) -> Hold {
        match self.code.target() {
            Some(_) => Hold::Target,
            None if self.settings.output.require().is_err() => Hold::OutputFolder,
            None => Hold::NotAvailable,
        }
    }

    /// An answer of user code that had a file on disk: where that has failed and the folder is gone, the file was out of
    /// reach, and has not failed.
    fn unless_gone(&self, file: &DownloadDataFile, answer: Answer) -> Answer {
        match answer {
            Err(error) if error.kind() == ErrorKind::FileFailed && file.path().is_some() => {
                Err(self.settings.output.require().map_or_else(placing_failed, |()| error))
            }
            answer => answer,
        }
    }

    /// Places the file for code that needs a path, in whatever mode.
    fn lend(&self, file: &DownloadDataFile) -> Result<(), ProcessingError> {
        file.lend(&self.settings.work_folder).map(drop).map_err(placing_failed)
    }

    /// A message where the program has a topic for results, and none where it has not.
    pub(super) fn checked(&self, answer: Answer) -> Answer {
        let message = answer?;
        let own = |name: &str| {
            format!(
                "the result has a header `{name}`, and names that begin with `{}` are datamill's own: choose another one",
                headers::OWN
            )
        };
        let problem = match (&message, self.settings.run.result_topic.is_some()) {
            (None, true) => Some("the function returned no message".to_owned()),
            (Some(_), false) => {
                Some("the function returned a message, but the program has no topic for results".to_owned())
            }
            (Some(result), true) => {
                result.headers().find(|(name, _)| name.starts_with(headers::OWN)).map(|(name, _)| own(name))
            }
            (None, false) => None,
        };
        problem.map_or(Ok(message), |problem| Err(ProcessingError::file_failed(problem)))
    }
}
