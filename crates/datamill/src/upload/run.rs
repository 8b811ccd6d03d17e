//! Jobs in, summary out: what `upload` and `watch` have in common. One thread cuts and sends; files
//! whose chunks wait for their acknowledgement stay in hand meanwhile.
//!
//! ```text
//! Job ──▶ first pass ──▶ same content as delivered? ──▶ written down, done
//!   ▲          │ no
//!   │     second pass ──▶ Sender ──▶ in hand ──▶ acknowledged ──▶ same topic? ──▶ written down, done
//!   │          │ changed                 │ not delivered
//!   └─ later ◀─┴─────────────────────────┘
//! ```

mod held_open;
mod version;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracing::{debug, error, info};

use super::cut::CutError;
use super::error::{Broken, UploadError};
use super::filter::Reason;
use super::ledger::Ledger;
use super::registry::Row;
use super::send::{Acknowledged, FileId, Finished, Sender};
use super::stamp::{Stamp, Trace};
use super::stop::Stop;
use super::summary::Summary;
use super::target::Target;
use crate::facts::{Fact, Facts, Hold, Holding, State};
use crate::report::{chain, tell_outage, text};
use held_open::{HeldOpen, is_held_open};
use version::Partial;

/// Times that a file which changed while it was read is cut anew at once.
const QUICK_CHANGES: u32 = 3;

/// First wait before a file that was not taken, or kept changing, is tried again; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A file that is to be sent.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Path under which it is rebuilt.
    pub(super) relative: String,
    /// Where it is read.
    pub(super) path: PathBuf,
    /// Hash of what was delivered of it before: the same content is not sent again.
    pub(super) known: Option<[u8; 64]>,
    /// Times that it was put off.
    pub(super) put_off: u32,
}

/// How far a call of [`Run::send`] came with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sent {
    /// All chunks are on their way.
    OnItsWay,
    /// The record cannot be written at the moment: [`Run::next_put_off`] hands it out again.
    PutOff,
    /// Its content was delivered before.
    Unchanged,
    /// It changed each time that it was read.
    Changing,
    /// Another program has it open and lets nobody read it.
    HeldOpen,
    /// It is not sent, for this reason, about which this can be said.
    LeftOut(Reason, Option<String>),
}

struct InHand {
    job: Job,
    stamp: Stamp,
    trace: Option<Trace>,
    sha512: [u8; 64],
    total: u32,
    started_ms: i64,
}

/// A file that failed.
struct Waiting {
    stamp: Stamp,
    /// When it is tried again as it is.
    until: Option<Instant>,
}

/// The work of one upload or watch.
pub(super) struct Run<'a> {
    pub(super) stop: Stop<'a>,
    pub(super) summary: Summary,
    pub(super) ledger: Option<Ledger>,
    /// What goes between stem and suffix of the names under which files are rebuilt.
    pub(super) filename_append: String,
    pub(super) facts: Facts,
    /// Files that have not settled, as a watch sees it.
    pub(super) unsettled: usize,
    /// The watched folder is not there, or is another one.
    pub(super) has_no_folder: bool,
    holding: Holding,
    chunk_size: usize,
    sender: Sender<'a>,
    target: Target<'a>,
    in_hand: HashMap<FileId, InHand>,
    /// Files that are acknowledged, and for which the topic has to be asked about once more.
    acknowledged: Vec<InHand>,
    later: Vec<(Instant, Job)>,
    busy: HashSet<String>,
    held_open: HeldOpen,
    /// Versions of which some chunks may be in the topic and never all, by path.
    half_sent: HashMap<String, Vec<[u8; 64]>>,
    /// Files that are tried again after a time, or as soon as they have another stamp.
    waiting: HashMap<String, Waiting>,
    /// How long that time is; `None` for an upload, which tries once.
    retry_after: Option<Duration>,
    /// What the log said of files that it refused and has not taken since.
    refused: BTreeMap<String, String>,
    reported: Acknowledged,
    begun: Instant,
}

impl<'a> Run<'a> {
    pub(super) fn new(stop: Stop<'a>, facts: Facts, chunk_size: usize, sender: Sender<'a>, target: Target<'a>) -> Self {
        Self {
            stop,
            summary: Summary { topic: target.name().to_owned(), ..Summary::default() },
            ledger: None,
            filename_append: String::new(),
            facts,
            unsettled: 0,
            has_no_folder: false,
            holding: Holding::new(),
            chunk_size,
            sender,
            target,
            in_hand: HashMap::new(),
            acknowledged: Vec::new(),
            later: Vec::new(),
            busy: HashSet::new(),
            held_open: HeldOpen::default(),
            half_sent: HashMap::new(),
            waiting: HashMap::new(),
            retry_after: None,
            refused: BTreeMap::new(),
            reported: Acknowledged::default(),
            begun: Instant::now(),
        }
    }

    /// What is sent is written down here.
    pub(super) fn write_down_in(&mut self, ledger: Ledger) {
        self.facts = self.facts.heard_by(ledger.registry());
        self.ledger = Some(ledger);
    }

    /// Whether a file is being sent or waits for its next try.
    pub(super) fn is_busy(&self, relative: &str) -> bool {
        self.busy.contains(relative)
    }

    /// Whether any file is being sent or waits for its next try.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_on_its_way() && self.later.is_empty()
    }

    /// Whether nothing further may be sent, since the record cannot be written.
    pub(super) fn is_held(&self) -> bool {
        self.ledger.as_ref().is_some_and(Ledger::is_behind)
    }

    /// Whether a file has begun to be sent and has no outcome yet.
    pub(super) fn is_on_its_way(&self) -> bool {
        !self.in_hand.is_empty() || !self.acknowledged.is_empty() || self.is_in_flight()
    }

    /// Forgets the files that were put off; whoever wants them sent finds them again.
    pub(super) fn drop_put_off(&mut self) {
        for (_, job) in self.later.drain(..) {
            self.busy.remove(&job.relative);
        }
    }

    /// Whether acknowledgements are waited for.
    pub(super) fn is_in_flight(&self) -> bool {
        self.sender.in_flight() > 0
    }

    /// The topic's id, where the log tells it.
    pub(super) fn topic_id(&self) -> Option<&str> {
        self.target.id()
    }

    /// Files that the log refuses, or that cannot be read right, are handed to [`Run::send`] again after this time.
    pub(super) fn retry_after(&mut self, span: Duration) {
        self.retry_after = Some(span);
    }

    /// Whether the file, as it is, failed so short a time ago that it is not tried again yet.
    pub(super) fn waits(&self, relative: &str, stamp: Stamp) -> bool {
        let waiting = self.waiting.get(relative);
        waiting
            .is_some_and(|waiting| waiting.stamp == stamp && waiting.until.is_none_or(|until| Instant::now() < until))
    }

    /// Lets the file wait for its next try. Answers whether it failed as it is for the first time.
    fn wait(&mut self, relative: &str, stamp: Stamp) -> bool {
        let until = self.retry_after.map(|span| Instant::now() + span);
        let before = self.waiting.insert(relative.to_owned(), Waiting { stamp, until });
        before.is_none_or(|before| before.stamp != stamp)
    }

    /// The file is in the log: it waits for nothing.
    fn healed(&mut self, relative: &str) {
        self.waiting.remove(relative);
        if self.refused.remove(relative).is_some() {
            info!(file = relative, "the file that was refused before is delivered");
        }
    }

    /// Cuts and sends one file. Files that the log cannot take at the moment are tried again by
    /// [`Run::send_later`].
    pub(super) fn send(&mut self, job: Job) -> Result<Sent, UploadError> {
        if let Some(ledger) = &self.ledger
            && let Some(hash) = ledger.record.half_sent(&job.relative)
        {
            self.add_half_sent(&job.relative, hash);
        }
        self.busy.insert(job.relative.clone());
        let mut partial = None;
        let sent = self.send_versions(&job, &mut partial);
        if let Some(partial) = partial {
            self.give_up(&job.relative, &partial);
        }
        match &sent {
            Ok(Sent::HeldOpen) => self.held_open.again(&job.relative),
            _ => self.held_open.forget(&job.relative),
        }
        match &sent {
            Ok(Sent::OnItsWay) => {}
            Ok(Sent::PutOff) => self.put_off(job),
            Err(_) => {
                self.busy.remove(&job.relative);
                self.summary.leave_out(Reason::Stopped, job.relative);
            }
            _ => {
                self.busy.remove(&job.relative);
            }
        }
        sent
    }

    /// Sends the version of a file that is there, and the one that follows where it changes meanwhile.
    fn send_versions(&mut self, job: &Job, partial: &mut Option<Partial>) -> Result<Sent, UploadError> {
        for attempt in 0..=QUICK_CHANGES {
            if attempt > 0 {
                debug!(file = job.relative, "the file changed while it was read, reading it anew");
                self.pump(Duration::from_millis(5 << attempt))?;
            }
            let error = match self.send_version(job, partial) {
                Ok(sent) => return Ok(sent),
                Err(Broken::Upload(error)) => return Err(error),
                Err(Broken::Cut(error)) => error,
            };
            return Ok(match error {
                CutError::Changed => continue,
                CutError::Ended => Sent::LeftOut(Reason::Stopped, None),
                CutError::Read(error) if error.kind() == io::ErrorKind::NotFound => {
                    Sent::LeftOut(Reason::Vanished, None)
                }
                CutError::Read(error) if is_held_open(&error) => Sent::HeldOpen,
                CutError::Read(error) => Sent::LeftOut(Reason::Unreadable, Some(error.to_string())),
                CutError::Size { stamp, .. } => {
                    self.wait(&job.relative, stamp);
                    Sent::LeftOut(Reason::Size, Some(error.to_string()))
                }
                CutError::TooManyChunks { .. } => Sent::LeftOut(Reason::TooManyChunks, Some(error.to_string())),
                error => Sent::LeftOut(Reason::Unreadable, Some(chain(&error))),
            });
        }
        Ok(Sent::Changing)
    }

    /// Puts a file off: it is sent by [`Run::send_later`] after a wait that grows with each time.
    pub(super) fn put_off(&mut self, mut job: Job) {
        let wait = FIRST_WAIT.saturating_mul(1 << job.put_off.min(10)).min(LONGEST_WAIT);
        job.put_off += 1;
        self.busy.insert(job.relative.clone());
        self.later.push((Instant::now() + wait, job));
    }

    /// Takes out the next file whose wait is over; none once a stop is asked for.
    pub(super) fn next_put_off(&mut self) -> Option<Job> {
        if self.stop.is_requested() {
            return None;
        }
        let now = Instant::now();
        let at = self.later.iter().position(|(due, _)| *due <= now)?;
        Some(self.later.swap_remove(at).1)
    }

    /// Waits at most `timeout` for acknowledgements and closes the accounts that they complete.
    pub(super) fn pump(&mut self, timeout: Duration) -> Result<(), UploadError> {
        if timeout.is_zero() && self.sender.in_flight() == 0 {
            // Nothing can come.
        } else if self.sender.in_flight() == 0 {
            std::thread::sleep(timeout);
        } else {
            self.sender.poll(timeout)?;
        }
        let acknowledged = self.sender.acknowledged();
        if acknowledged != self.reported {
            let messages = acknowledged.messages - self.reported.messages;
            let bytes = acknowledged.bytes - self.reported.bytes;
            self.facts.tell(&Fact::Acknowledged { messages, bytes });
            self.reported = acknowledged;
        }
        while let Some(finished) = self.sender.finished() {
            self.finish(finished)?;
        }
        if !self.acknowledged.is_empty() && self.target.confirms(self.sender.in_flight() == 0)? {
            std::mem::take(&mut self.acknowledged).into_iter().for_each(|file| self.deliver(file));
            if let Some(ledger) = &mut self.ledger {
                ledger.confirmed();
            }
        }
        self.stand();
        if self.stop.take_check() {
            self.tell();
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.tick(rows(&self.in_hand, &self.sender));
        }
        Ok(())
    }

    /// Lets others see how the work stands, and what it waits for.
    fn stand(&mut self) {
        let counters = self.facts.counters();
        counters.stand(&State {
            is_member: true,
            waiting: (self.unsettled + self.later.len()) as u64,
            in_hand: (self.in_hand.len() + self.acknowledged.len()) as u64,
            ..State::default()
        });
        let holds = [
            self.has_no_folder.then_some(Hold::WatchedFolder),
            self.is_held().then_some(Hold::Record),
            Hold::of_log(self.target.log()),
            self.sender.is_away().then_some(Hold::Broker),
        ];
        self.holding.step(counters, holds.into_iter().flatten().next());
    }

    /// One line about the state.
    pub(super) fn tell(&self) {
        tell(&self.summary, self.in_hand.len(), self.later.len());
    }

    fn finish(&mut self, finished: Finished) -> Result<(), UploadError> {
        let Some(in_hand) = self.in_hand.remove(&finished.file) else {
            return Ok(());
        };
        match finished.outcome {
            Ok(()) if self.target.id().is_some() => {
                if let Some(ledger) = &mut self.ledger {
                    ledger.acknowledged(&in_hand.job.relative, in_hand.stamp, in_hand.trace, &in_hand.sha512);
                }
                self.acknowledged.push(in_hand);
            }
            Ok(()) => {
                self.write_down(&in_hand.job.relative, in_hand.stamp, in_hand.trace, &in_hand.sha512);
                self.deliver(in_hand);
            }
            Err(error) if !error.may_pass() && !error.is_of_the_file() => {
                // What ends the upload is not the file's: it stays in hand, and is named as not sent.
                self.in_hand.insert(finished.file, in_hand);
                return Err(error.into());
            }
            Err(error) => {
                let InHand { job, stamp, sha512, total, .. } = in_hand;
                self.busy.remove(&job.relative);
                if total > 1 {
                    self.add_half_sent(&job.relative, sha512);
                }
                if error.may_pass() {
                    debug!(file = job.relative, error = chain(&error), "the file is sent again later");
                    self.put_off(job);
                } else {
                    self.is_refused(job.relative, stamp, chain(&error));
                }
            }
        }
        Ok(())
    }

    fn is_refused(&mut self, relative: String, stamp: Stamp, error: String) {
        let is_first = self.wait(&relative, stamp);
        let again_after = self.retry_after;
        self.facts.tell(&Fact::Refused { file: &relative, error: &error, again_after, is_first });
        self.refused.insert(relative, error);
    }

    /// The file is in the topic.
    fn deliver(&mut self, file: InHand) {
        let InHand { job, stamp, total, started_ms, .. } = file;
        self.busy.remove(&job.relative);
        self.half_sent.remove(&job.relative);
        self.healed(&job.relative);
        self.summary.files += 1;
        self.summary.bytes += stamp.size;
        let (file, bytes, chunks, began_ms) = (&*job.relative, stamp.size, total, started_ms);
        self.facts.tell(&Fact::Delivered { file, bytes, chunks, began_ms });
    }

    /// Takes down in the durable record that this content is in the log.
    fn write_down(&mut self, relative: &str, stamp: Stamp, trace: Option<Trace>, sha512: &[u8; 64]) {
        if let Some(ledger) = &mut self.ledger {
            ledger.delivered(relative, stamp, trace, sha512);
        }
    }

    /// Waits until nothing is in flight and everything is written down, as long as it may.
    pub(super) fn drain(&mut self) -> Result<(), UploadError> {
        let is_left = |run: &Self| run.is_in_flight() || !run.acknowledged.is_empty() || run.is_held();
        let heard = |run: &Self| run.is_in_flight().then(|| run.sender.last_delivery());
        while is_left(self) && self.stop.may_go_on(heard(self)) {
            self.pump(if self.is_in_flight() { Duration::from_millis(100) } else { Duration::from_millis(5) })?;
        }
        self.pump(Duration::ZERO)
    }

    /// Closes all accounts. `work` is how the work ended.
    pub(super) fn close(mut self, work: Result<(), UploadError>) -> Summary {
        let ended = work.and_then(|()| self.drain());
        let ended = match (&mut self.ledger, ended) {
            (Some(ledger), ended) => {
                let written = ledger.flush(rows(&self.in_hand, &self.sender));
                ended.and(written)
            }
            (None, ended) => ended,
        };
        if let Err(error) = ended.map_err(|error| self.target.explain(error)) {
            let what = if self.ledger.is_some() { "watch" } else { "upload" };
            error!(topic = self.summary.topic, error = chain(&error), "the {what} ends before everything was sent");
            self.summary.broken_off = Some(chain(&error));
            self.summary.refusal = error.refusal();
        }
        let meaning = match &self.ledger {
            Some(_) => "What was not acknowledged is sent at the next start",
            None => "What is named as not sent may be on the topic in part or as a whole",
        };
        tell_outage(self.target.log(), self.stop.control, meaning);
        let in_hand = self.in_hand.into_values().chain(self.acknowledged).map(|in_hand| in_hand.job);
        for job in in_hand.chain(self.later.into_iter().map(|(_, job)| job)) {
            self.summary.leave_out(Reason::Stopped, job.relative);
        }
        self.refused.into_values().for_each(|error| self.summary.failed.add(error));
        self.summary.messages = self.sender.acknowledged().messages;
        self.summary.elapsed = self.begun.elapsed();
        self.summary
    }
}

/// The files in hand as the registry shows them.
fn rows<'a>(in_hand: &'a HashMap<FileId, InHand>, sender: &'a Sender<'_>) -> impl Iterator<Item = Row<'a>> {
    in_hand.iter().filter_map(|(id, file)| {
        Some(Row {
            relative: &file.job.relative,
            total: file.total,
            started_ms: file.started_ms,
            delivered: sender.delivered(*id)?,
        })
    })
}

/// One line about the state.
fn tell(summary: &Summary, in_hand: usize, later: usize) {
    info!(
        topic = summary.topic,
        "sent {} ({}); {} on the way, {} put off",
        text::counted(summary.files, "file"),
        text::bytes(summary.bytes),
        text::counted(in_hand as u64, "file"),
        text::count(later as u64)
    );
}
