//! A folder is watched: files that are new or changed are sent once they have been left alone.
//!
//! ```text
//! hints ─┐                                            ┌─ delivered as it is: nothing
//!        ├─▶ look at the file ──▶ the record knows? ──┤
//! scans ─┘                                            └─ settle ──▶ ready ──▶ Run ──▶ log
//! ```
//!
//! A scan of the whole tree decides, every few seconds, or less often where it takes long; the events of the file system,
//! and looks at the busy folders of a large tree, only make it faster. Nothing is sent when a file is deleted. Each scan looks first
//! whether the folder and its record are still what they were ([`super::place`]).
//!
//! A process that is killed sends again, after its restart, what it had not written down: see
//! [`super::record`] for what that can repeat.

mod hold;
mod known;
mod slices;
mod waiting;

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill_broker::Log;
use tracing::{info, warn};

use hold::Hold;
use slices::Looks;

use super::busy::{self, Busy};
use super::error::UploadError;
use super::filter::Reason;
use super::hints::Hints;
use super::ledger::Ledger;
use super::lines::Lines;
use super::logs_folder::LogsFolder;
use super::not_sent::NotSent;
use super::place::{Arrival, Place};
use super::record::{Known, Record};
use super::registry::Registry;
use super::restless::{IN_A_ROW, Restless};
use super::run::{Job, Run, Sent};
use super::scan::{Candidate, Found, Scanner};
use super::settle::{Ready, Settle};
use super::stop::Stop;
use super::summary::Summary;
use super::suspects::Suspects;
use super::{WatchSettings, check_settings, new_run, prefix_words};
use crate::control::Control;
use crate::facts::{Fact, Facts};
use crate::report::named::Named;
use crate::report::{chain, text};

/// Time between scans where events tell of changes in between.
const SCAN_BESIDE_EVENTS: Duration = Duration::from_secs(10);

/// Time between scans where nothing else tells of changes.
const SCAN_ALONE: Duration = Duration::from_secs(2);

/// A scan takes at most this part of the time.
const SCAN_SHARE: u32 = 10;

/// Longest time between scans of the largest tree.
const LONGEST_BETWEEN_SCANS: Duration = Duration::from_secs(600);

/// Files are sent for this long without another look whether the folder is still the same one.
const COMPARE_EVERY: Duration = Duration::from_millis(100);

/// Longest time that the loop waits for something to happen.
const TICK: Duration = Duration::from_millis(200);

/// Longest time that it waits while files are to be compared.
const BETWEEN_STEPS: Duration = Duration::from_millis(50);

/// With `exit_at_end`, files that have been changing for this long are left out.
const PATIENCE: Duration = Duration::from_secs(60);

/// Watches `directory` and sends what is new or changed to a topic of `log`, until `control` asks for a stop or,
/// with [`WatchSettings::exit_at_end`], until everything that was there has been sent.
///
/// A broker that goes away is waited for. When a stop is asked for, the file in hand is finished and
/// acknowledgements are waited for, both at most for [`super::UploadSettings::drain_limit`].
///
/// # Errors
/// Where it cannot start: the folder, the record in it, another watcher, the topic. What breaks the
/// work off later is in the summary.
pub fn watch(
    log: &dyn Log,
    directory: &Path,
    settings: &WatchSettings,
    control: &Control,
    facts: &Facts,
) -> Result<Summary, UploadError> {
    let scanner =
        Scanner::new(directory, settings.upload.path_prefix.clone(), settings.upload.filter.clone(), log.own_files())
            .map_err(|source| UploadError::Path { path: directory.to_owned(), source })?;
    let stop = Stop::new(log, control, settings.upload.drain_limit);
    check_settings(&settings.upload)?;
    let facts = facts.heard_by(Arc::new(Lines));
    let mut run = when_there_is_room(&stop, || {
        let topic = log.topic_for_use(&settings.upload.topic)?;
        new_run(log, &topic, &settings.upload, control, &facts)
    })?;
    let (topic, log_id) = (&settings.upload.topic, log.id()?);
    let opened = when_there_is_room(&run.stop, || {
        let logs_dir = settings.logs_dir.as_deref();
        let (place, mut record, arrival) = Place::open(directory, logs_dir, topic, &log_id, settings.new_folder)?;
        check_prefix(directory, &record, settings)?;
        record.set_path_prefix(settings.upload.path_prefix.as_str())?;
        let is_another = record.set_topic_id(run.topic_id(), settings.upload_existing)?;
        Ok((place, record, arrival, is_another))
    });
    let (place, record, arrival, is_another) = match opened {
        Err(error) if error.is_full() => return Ok(run.close(Err(error))),
        opened => opened?,
    };
    run.retry_after(settings.retry_after);
    if is_another {
        tell_another_topic(topic, &place, settings.upload_existing);
    }
    run.write_down_in(Ledger::new(record, open_registry(place.logs())?));
    info!(log = log.name(), topic, "watching `{}`", directory.display());
    run.facts.tell(&Fact::Sends { from: &directory.display().to_string(), topic });
    let hints = if settings.polling { None } else { hints(&place) };
    let mut watch = Watch::new(place, scanner, run, hints, settings);
    let work = match watch.start(arrival) {
        Err(error) if error.is_full() => Err(error),
        started => started.and_then(|()| watch.work(settings.exit_at_end)),
    };
    let work = work.and_then(|is_at_end| {
        if settings.exit_at_end && !is_at_end {
            watch.run.summary.cut_short = Some("the next start sends the rest");
        }
        watch.keep_record()
    });
    watch.name_held_back();
    watch.name_folder();
    for (path, reason) in watch.not_sent.into_failures() {
        watch.run.summary.leave_out(reason, path);
    }
    Ok(watch.run.close(work))
}

/// Does what needs room on the disk, again and again where there is none, until a stop is asked for.
fn when_there_is_room<T>(stop: &Stop<'_>, mut work: impl FnMut() -> Result<T, UploadError>) -> Result<T, UploadError> {
    let mut said = false;
    loop {
        match work() {
            Err(error) if error.is_full() && !stop.is_requested() => {
                if !std::mem::replace(&mut said, true) {
                    warn!(error = %chain(&error), "the disk is full: waiting until there is room");
                }
                std::thread::sleep(TICK);
            }
            done => return done,
        }
    }
}

/// Files have other paths with another prefix: that may be meant, or an option that was forgotten.
fn check_prefix(root: &Path, record: &Record, settings: &WatchSettings) -> Result<(), UploadError> {
    let (before, now) = (record.path_prefix(), settings.upload.path_prefix.as_str());
    if before == now || !record.has_started() || settings.new_folder {
        return Ok(());
    }
    Err(UploadError::OtherPrefix { root: root.to_owned(), before: prefix_words(before), now: prefix_words(now) })
}

/// Says that the record is one of the topic that had the name before.
fn tell_another_topic(topic: &str, place: &Place, sent_again: bool) {
    let what = match sent_again {
        true => "what was sent to the one before is sent again",
        false => {
            "what was sent to the one before counts as existing and is not sent again (`--upload_existing` sends it)"
        }
    };
    warn!(topic, "the topic was deleted and created again since `{}` was watched: {what}", place.root().display());
}

fn open_registry(logs: &LogsFolder) -> Result<Registry, UploadError> {
    Registry::open(logs.path(), &logs.topic())
        .map_err(|source| UploadError::LogsFolder { path: logs.path().to_owned(), source })
}

fn hints(place: &Place) -> Option<Hints> {
    match Hints::start(place.root(), place.logs().path().to_owned()) {
        Ok(hints) => Some(hints),
        Err(error) => {
            warn!(
                error,
                "the system does not tell of changes in `{}`: finding them by scans alone, as `--use_polling_observer` does",
                place.root().display()
            );
            None
        }
    }
}

fn between_scans(hints: Option<&Hints>) -> Duration {
    // Windows may lose events, and nobody is told
    if hints.is_some() && !cfg!(windows) { SCAN_BESIDE_EVENTS } else { SCAN_ALONE }
}

/// The path of a file as a scan finds it: Windows may tell of a change by the short name that a file has beside its own
/// (`LONGFI~1.CSV`).
fn long_name(path: &Path) -> Cow<'_, Path> {
    if cfg!(windows) && !path.is_symlink() {
        path.canonicalize().map_or(Cow::Borrowed(path), Cow::Owned)
    } else {
        Cow::Borrowed(path)
    }
}

struct Watch<'a> {
    place: Place,
    hold: Hold,
    /// When the folder was compared last with what it was.
    compared: Instant,
    /// Files that were there at the first start, and were not sent then, are sent.
    upload_existing: bool,
    polling: bool,
    scanner: Scanner,
    run: Run<'a>,
    settle: Settle,
    restless: Restless,
    hints: Option<Hints>,
    between_scans: Duration,
    begun: Instant,
    next_scan: Instant,
    /// How long the next scan begins after the end of the last one.
    pause: Duration,
    looks: Looks,
    busy: Busy,
    not_sent: NotSent,
    suspects: Suspects,
    tell_every: Option<Duration>,
    told: Instant,
    /// When it was told last which files wait, and whether there were any.
    waiting_told: Option<(Instant, bool)>,
}

impl<'a> Watch<'a> {
    fn new(place: Place, scanner: Scanner, run: Run<'a>, hints: Option<Hints>, settings: &WatchSettings) -> Self {
        Self {
            place,
            hold: Hold::default(),
            compared: Instant::now(),
            upload_existing: settings.upload_existing,
            polling: settings.polling,
            settle: Settle::new(settings.settle_for),
            restless: Restless::default(),
            between_scans: between_scans(hints.as_ref()),
            scanner,
            run,
            hints,
            begun: Instant::now(),
            next_scan: Instant::now(),
            pause: Duration::ZERO,
            looks: Looks::default(),
            busy: Busy::default(),
            not_sent: NotSent::default(),
            suspects: Suspects::default(),
            tell_every: settings.tell_every,
            told: Instant::now(),
            waiting_told: None,
        }
    }

    fn start(&mut self, arrival: Arrival) -> Result<(), UploadError> {
        if arrival == Arrival::First {
            return self.take_existing("is watched for the first time", false);
        }
        let record = self.run.ledger.as_ref().map(|ledger| &ledger.record);
        self.busy.begin_with(record.map_or_else(Vec::new, |record| record.newest_folders(busy::MOST_FOLDERS)));
        let existing = record.map_or(0, |record| record.existing());
        if existing > 0 && !self.upload_existing {
            self.run.facts.tell(&Fact::Existing { files: existing });
            info!(
                "not sent, since already there when `{}` was watched for the first time: {} (`--upload_existing` sends them)",
                self.place.root().display(),
                text::counted(existing, "file")
            );
        }
        Ok(())
    }

    /// Nothing is known of the folder: what is there is sent only if that is asked for.
    fn take_existing(&mut self, why: &str, is_change: bool) -> Result<(), UploadError> {
        let Some(ledger) = &mut self.run.ledger else {
            return Ok(());
        };
        let root = self.scanner.root();
        let mut existing = Named::default();
        if !self.upload_existing {
            let record = &mut ledger.record;
            let walked = self.scanner.walk(root, &mut |found| {
                if let Found::File(file) = found
                    && record.known(&file.relative).is_none_or(|known| known.stamp != file.stamp)
                {
                    record.exists(&file.relative, file.stamp);
                    existing.add(file.relative);
                }
                if record.is_much_waiting() {
                    // where that fails, the lines stay in memory, and the last write says why
                    let _ = record.flush();
                }
                true
            });
            walked.map_err(|source| UploadError::Path { path: root.to_owned(), source })?;
        }
        ledger.record.start();
        when_there_is_room(&self.run.stop, || Ok(ledger.record.flush()?))?;
        let (root, topic) = (root.display(), &self.run.summary.topic);
        if existing.count == 0 && is_change {
            warn!(topic, "`{root}` {why}: what is there is sent");
        } else if existing.count == 0 {
            info!(topic, "`{root}` {why}");
        } else {
            self.run.facts.tell(&Fact::Existing { files: existing.count });
            let count = text::counted(existing.count, "file");
            warn!(topic, "`{root}` {why}: not sent, since already there: {count} (`--upload_existing` sends them)");
        }
        self.run.summary.leave_out_all(Reason::Existing, existing);
        Ok(())
    }

    /// Works until it is stopped. Answers whether it has come to its end before.
    fn work(&mut self, exit_at_end: bool) -> Result<bool, UploadError> {
        let mut scanned = false;
        while !self.run.stop.is_requested() {
            let lost = self.hints.as_ref().is_some_and(Hints::were_lost);
            if lost {
                self.scan_soon();
            }
            let wanted = !(exit_at_end && scanned) || self.hold.holds;
            if wanted && (self.looks.is_scanning() || Instant::now() >= self.next_scan) {
                scanned = self.scan() || scanned;
            }
            self.look_beside();
            self.send_ready()?;
            while !self.run.is_held()
                && !self.hold.holds
                && let Some(job) = self.run.next_put_off()
            {
                self.send(job)?;
            }
            self.compare(exit_at_end && scanned);
            if exit_at_end && scanned && !self.hold.holds {
                self.leave_out_restless();
                if self.suspects.is_empty() && self.suspects.take_left_over() {
                    scanned = false;
                    self.next_scan = Instant::now();
                    continue;
                }
                if !self.looks.go_on()
                    && self.suspects.is_empty()
                    && self.settle.is_empty()
                    && self.run.is_idle()
                    && !self.run.is_held()
                {
                    return Ok(true);
                }
                self.look_again();
            }
            self.tell();
            self.wait()?;
        }
        Ok(false)
    }

    fn tell(&mut self) {
        if self.tell_every.is_some_and(|interval| self.told.elapsed() >= interval) {
            self.told = Instant::now();
            self.run.tell();
        }
    }

    /// Waits for acknowledgements or hints, and looks at what the hints name.
    fn wait(&mut self) -> Result<(), UploadError> {
        let mut timeout = TICK;
        let now = self.begun.elapsed();
        if let Some(due) = self.settle.next_due(|path| self.run.is_busy(path) || self.restless.holds(path, now)) {
            timeout = timeout.min(due.saturating_sub(self.begun.elapsed()));
        }
        if !self.suspects.is_empty() {
            timeout = timeout.min(BETWEEN_STEPS);
        }
        timeout = if self.looks.go_on() { Duration::ZERO } else { timeout.max(Duration::from_millis(20)) };
        (self.run.unsettled, self.run.has_no_folder) = (self.settle.len(), self.hold.holds);
        self.tell_waiting();
        let hinted = match &self.hints {
            Some(hints) if !self.run.is_in_flight() => hints.wait(timeout),
            Some(hints) => hints.wait(Duration::ZERO),
            None => Default::default(),
        };
        let waited = self.hints.is_some() && !self.run.is_in_flight();
        for path in hinted {
            self.take_hint(&path);
        }
        self.run.pump(if waited { Duration::ZERO } else { timeout })
    }

    fn take_hint(&mut self, path: &Path) {
        if path != self.scanner.root() && path.is_dir() && !path.is_symlink() {
            self.look_below(path.to_owned());
        } else if let Some(found) = self.scanner.look(&long_name(path)) {
            self.see(found);
        }
    }

    fn see(&mut self, found: Found) {
        match found {
            Found::File(file) if self.is_news(&file) => {
                self.settle.observe(&file.relative, file.stamp, self.begun.elapsed());
            }
            Found::File(file) => {
                self.settle.forget(&file.relative);
                self.suspect(&file);
            }
            Found::LeftOut { path, reason, detail } => {
                if self.not_sent.take(&path, reason) {
                    let detail = detail.as_deref();
                    self.run.facts.tell(&Fact::LeftOut { file: &path, reason, detail });
                    if !reason.is_failure() {
                        self.run.summary.leave_out(reason, path);
                    }
                }
            }
        }
    }

    /// Whether the file, as it is, was neither delivered nor refused a short time ago, nor there at the first start if
    /// such files are not sent.
    fn is_news(&self, file: &Candidate) -> bool {
        !self.is_recorded(file) && !self.run.waits(&file.relative, file.stamp)
    }

    fn is_recorded(&self, file: &Candidate) -> bool {
        let known = self.run.ledger.as_ref().and_then(|ledger| ledger.record.known(&file.relative));
        let is_done = |known: &Known| known.sha512.is_some() || !self.upload_existing;
        known.is_some_and(|known| known.stamp == file.stamp && is_done(&known))
    }

    /// At the end: where the record was removed since the last scan, the next start would know nothing.
    fn keep_record(&mut self) -> Result<(), UploadError> {
        self.run.drain()?;
        if !self.run.is_on_its_way() {
            self.may_go_on();
        }
        Ok(())
    }

    /// Whether the next scan has to look first: what is at the path may be another folder already.
    fn is_suspicious(&mut self) -> bool {
        if !self.hold.holds && self.compared.elapsed() >= COMPARE_EVERY {
            self.compared = Instant::now();
            if !matches!(self.place.has_same_root(), Ok(true)) {
                self.hold.holds = true;
                self.next_scan = Instant::now();
            }
        }
        self.hold.holds
    }

    fn send_ready(&mut self) -> Result<(), UploadError> {
        if self.run.is_held() {
            return Ok(());
        }
        let (run, restless, now) = (&self.run, &self.restless, self.begun.elapsed());
        let ready = self.settle.ready(now, |path| run.is_busy(path) || restless.holds(path, now));
        for Ready { path, stamp } in ready {
            if self.run.stop.is_requested() || self.is_suspicious() {
                return Ok(());
            }
            if self.run.is_held() {
                self.settle.observe(&path, stamp, self.begun.elapsed());
                continue;
            }
            match self.scanner.look(&self.scanner.path_of(&path)) {
                // It may have been delivered since it was seen last.
                Some(Found::File(file)) if file.stamp == stamp && self.is_news(&file) => {
                    let job = self.job(file);
                    self.send(job)?;
                }
                Some(found) => self.see(found),
                None => {}
            }
        }
        Ok(())
    }

    fn send(&mut self, job: Job) -> Result<(), UploadError> {
        let path = self.scanner.path_of(&job.relative);
        let relative = job.relative.clone();
        let is_another_version = job.known.is_some() && job.put_off == 0;
        match self.run.send(job)? {
            sent @ (Sent::OnItsWay | Sent::Unchanged) => {
                self.not_sent.healed(&relative);
                if sent == Sent::OnItsWay {
                    self.busy.sent(&relative, self.begun.elapsed());
                }
                if sent == Sent::OnItsWay && is_another_version {
                    self.hold_back(&relative);
                }
            }
            Sent::PutOff => {}
            Sent::Changing | Sent::HeldOpen => {
                // It waits until it has been left alone again.
                if let Some(found) = self.scanner.look(&path) {
                    self.see(found);
                }
            }
            Sent::LeftOut(reason, detail) => {
                self.see(Found::LeftOut { path: relative, reason, detail });
            }
        }
        Ok(())
    }

    /// Holds a file back that has changed after each of many deliveries.
    fn hold_back(&mut self, relative: &str) {
        if let Some(hold) = self.restless.sent_again(relative, self.begun.elapsed()) {
            warn!(
                file = relative,
                "the file has changed soon after each of its last `{IN_A_ROW}` deliveries: it is held back for `{}` s, \
                and for longer each time; does a program write it that reads topic `{}`? then let that program write \
                outside of `{}`",
                hold.as_secs(),
                self.run.summary.topic,
                self.scanner.root().display()
            );
        }
    }

    /// Counts the files whose last version was held back to the end.
    fn name_held_back(&mut self) {
        let now = self.begun.elapsed();
        for path in self.settle.paths() {
            if self.restless.holds(&path, now) {
                self.not_sent.take(&path, Reason::Restless);
            }
        }
    }

    fn job(&self, file: Candidate) -> Job {
        let known = self.run.ledger.as_ref().and_then(|ledger| ledger.record.known(&file.relative));
        let known = known.and_then(|known| known.sha512);
        Job { relative: file.relative, path: file.path, known, put_off: 0 }
    }

    /// Looks at the files that are waited for, where no scan does.
    fn look_again(&mut self) {
        for path in self.settle.paths() {
            match self.scanner.look(&self.scanner.path_of(&path)) {
                Some(found) => self.see(found),
                None => self.settle.forget(&path),
            }
        }
    }

    fn leave_out_restless(&mut self) {
        let now = self.begun.elapsed();
        for path in self.settle.paths() {
            if self.restless.holds(&path, now) {
                self.settle.forget(&path);
                self.see(Found::LeftOut { path, reason: Reason::Restless, detail: None });
            }
        }
        let patience = PATIENCE.max(self.settle.lag() * 10);
        let Some(earliest) = self.begun.elapsed().checked_sub(patience) else {
            return;
        };
        for path in self.settle.give_up(earliest) {
            self.see(Found::LeftOut { path, reason: Reason::Changing, detail: None });
        }
    }
}
