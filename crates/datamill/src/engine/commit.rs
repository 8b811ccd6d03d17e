//! The only place that publishes results and moves positions.
//!
//! ```text
//!  read ──Batch (bounded: one at a time)──▶ commit thread ──▶ log: results + positions + state, one step
//!    ▲                                          │
//!    └───────────────Answer─────────────────────┴──▶ then: public files, facts (counters, registry, log)
//! ```
//!
//! The reader makes a [`Batch`] from outcomes and from the progress that holds once they are durable,
//! both taken at one moment. The commit is all or nothing; what the reader does with each answer:
//!
//! | answer | the outcomes | the session |
//! |---|---|---|
//! | `Done` | forgotten | goes on |
//! | `Again`, not the owner | kept, tried again; those of revoked partitions fall away | goes on |
//! | `RecordsRefused` | these become failures, or shorter dead letters; the rest is tried again | goes on |
//! | `Unknown` | forgotten | a new one starts from what is committed |

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use datamill_broker::{Commit, CommitOutcome, Committer, CrashPoint, Error, ErrorKind, Log, crash_point};
use parking_lot::Mutex;

use super::catch_up::catch_up;
use super::dead_letter::KeptRecords;
use super::folder::Output;
use super::in_hand::InHand;
use super::listeners::Listeners;
use super::origin::{CommitSettings, file_row};
use super::outcome::{Failure, Outcome};
use super::purpose::{Standing, Unmarked};
use super::retry::Tried;
use super::session::{Answer, Batch, BatchSource, Note};
use super::state::GroupState;
use crate::assemble::FileInfo;
use crate::facts::{Fact, Facts, FileRow, FillingFile};
use crate::report::clock;

/// What the commit thread is told.
pub(super) enum Task {
    Commit(Box<Batch>),
    /// The end of the run is near: is the topic still the same?
    Verify,
    /// Files that fill up, for the registry.
    Filling(Arc<[FillingFile]>),
}

/// Wait before the group is marked again.
const MARK_AGAIN: Duration = Duration::from_millis(500);

/// The commit thread: what it works with, and its ends.
pub(super) struct CommitThread<'a> {
    pub(super) log: &'a dyn Log,
    pub(super) settings: Arc<CommitSettings>,
    /// Where records are kept that hold no chunk, if there is no topic for their dead letters.
    pub(super) kept: KeptRecords,
    pub(super) output: &'a Output,
    pub(super) state: &'a GroupState<'a>,
    pub(super) standing: &'a Mutex<Standing>,
    pub(super) in_hand: Option<&'a InHand>,
    pub(super) listeners: &'a Listeners,
    pub(super) tried: &'a Tried,
    pub(super) tasks: Receiver<Task>,
    pub(super) answers: Sender<Answer>,
}

impl CommitThread<'_> {
    /// Runs until the reader drops its end.
    pub(super) fn run(self, mut committer: Box<dyn Committer>) {
        if let Some(waiting) = self.mark(committer.as_mut()) {
            self.work(committer.as_mut(), waiting);
        }
    }

    /// Marks the group as this program's, before anything else is committed, and takes what an earlier run had in hand
    /// into its state. Answers the tasks that came meanwhile; `None` where the thread has nothing more to do.
    fn mark(&self, committer: &mut dyn Committer) -> Option<Vec<Task>> {
        let mut standing = self.standing.lock();
        let facts = &self.listeners.facts;
        let (mut waiting, mut is_said) = (Vec::new(), false);
        loop {
            let marked = standing.mark(self.log, self.state, committer);
            let in_hand = |in_hand: &InHand| in_hand.write_down(self.state, committer);
            let marked = marked.and_then(|()| self.in_hand.map_or(Ok(()), in_hand));
            let over = match marked {
                Ok(()) => return Some(waiting),
                Err(Unmarked::Again(error)) => {
                    let error = crate::report::chain(&error);
                    facts.tell(&Fact::NotCommitted { error: Some(&error) });
                    if !std::mem::replace(&mut is_said, true) {
                        tracing::warn!(%error, "a commit did not happen; trying again");
                    }
                    match self.tasks.recv_timeout(MARK_AGAIN) {
                        Ok(Task::Filling(files)) => facts.tell(&Fact::Filling(&files)),
                        Ok(task) => waiting.push(task),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return None,
                    }
                    continue;
                }
                Err(Unmarked::Unknown(error)) => Answer::Unknown(error),
                Err(Unmarked::Over(error)) => Answer::Over(error),
            };
            // whoever does not listen has ended
            drop(self.answers.send(over));
            return None;
        }
    }

    fn work(&self, committer: &mut dyn Committer, waiting: Vec<Task>) {
        let Listeners { facts, lines, ledger, .. } = self.listeners;
        let mut waiting = waiting.into_iter();
        loop {
            match waiting.next().map_or_else(|| self.tasks.recv_timeout(Duration::from_millis(500)), Ok) {
                Ok(Task::Commit(batch)) => {
                    lines.tell_others();
                    let answer = self.commit(committer, *batch);
                    if let Answer::Again(_, error) = &answer {
                        let error = error.as_ref().map(|error| crate::report::chain(error));
                        facts.tell(&Fact::NotCommitted { error: error.as_deref() });
                    }
                    if self.answers.send(answer).is_err() {
                        return;
                    }
                }
                Ok(Task::Verify) => {
                    if self.answers.send(Answer::Verified(self.verify())).is_err() {
                        return;
                    }
                }
                Ok(Task::Filling(files)) => facts.tell(&Fact::Filling(&files)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    lines.tell_others();
                    lines.tell_rest(true);
                    return;
                }
            }
            lines.tell_rest(false);
            self.output.tick();
            let mut ledger = ledger.lock();
            ledger.tick();
            catch_up(&self.settings.source.name, self.state, &mut ledger, self.tried);
        }
    }

    fn verify(&self) -> Result<(), Error> {
        let source = &self.settings.source;
        match self.log.topic_now(&source.name) {
            Ok(now) if now.id.is_some() && now.id.as_deref() != source.id.as_deref() => {
                Err(Error::topic_replaced(&source.name))
            }
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(topic = %source.name, error = %crate::report::chain(&error), "the topic cannot be asked about");
                Ok(())
            }
        }
    }

    /// What must be there before a batch is committed: the records without a topic for their dead letters on disk, and
    /// the output folder, where files get their places that have their outcome with it.
    fn prepare(&self, batch: &Batch) -> std::io::Result<()> {
        if self.settings.dead_letters.is_none() {
            self.kept.keep(&self.settings, self.output, &batch.unusable)?;
        }
        if batch.outcomes.iter().any(|outcome| outcome.file.is_some()) {
            self.output.place_rest()?;
        }
        Ok(())
    }

    fn commit(&self, committer: &mut dyn Committer, mut batch: Batch) -> Answer {
        if let Err(error) = self.prepare(&batch) {
            return Answer::Again(batch, Some(Error::new(ErrorKind::NoSpace, error.to_string())));
        }
        let (sources, records) = batch.records(&self.settings);
        let commit = Commit { records: &records, positions: &batch.positions, state: &batch.state };
        crash_point(CrashPoint::Made);
        let begun = Instant::now();
        match self.state.commit(committer, &commit) {
            CommitOutcome::Done(_) => {
                crash_point(CrashPoint::Answered);
                drop(records);
                Answer::Done(self.done(batch, begun.elapsed()))
            }
            CommitOutcome::Again(error) => Answer::Again(batch, Some(error)),
            CommitOutcome::NotOwner(_) => Answer::Again(batch, None),
            CommitOutcome::RecordsRefused(refused) => {
                drop(records);
                batch.refused(&sources, refused);
                Answer::RecordsRefused(batch)
            }
            CommitOutcome::Unknown(error) => Answer::Unknown(error),
        }
    }

    /// A batch is durable: everybody hears of it.
    fn done(&self, batch: Batch, took: Duration) -> Vec<Arc<FileInfo>> {
        let facts = &self.listeners.facts;
        facts.tell(&Fact::Committed { files: batch.outcomes.len() as u64, took });
        if self.settings.dead_letters.is_some() {
            tell_letters(facts, &batch);
        }
        tell_notes(facts, &batch.notes);
        let rows = batch.origins.into_iter().map(|origin| origin.row);
        let mut done = after(self.output, facts, batch.outcomes.into_iter().zip(rows));
        done.extend(batch.notes.into_iter().map(|note| note.info));
        crash_point(CrashPoint::Registered);
        done
    }
}

/// Tells the dead letters that are committed, and what went without one.
fn tell_letters(facts: &Facts, batch: &Batch) {
    let sent: HashSet<BatchSource> = batch.letters.iter().map(|(source, _)| *source).collect();
    let first_failures = |(_, outcome): &(usize, &Outcome)| outcome.result.is_err() && !outcome.has_failed_before();
    for (i, outcome) in batch.outcomes.iter().enumerate().filter(first_failures) {
        let file = Some(&*outcome.info.version.path);
        facts.tell(&match sent.contains(&BatchSource::File(i)) {
            true => Fact::DeadLetter { file },
            false => Fact::NoDeadLetter { file, message: None },
        });
    }
    for (i, record) in batch.unusable.iter().enumerate() {
        facts.tell(&match sent.contains(&BatchSource::Record(i)) {
            true => Fact::DeadLetter { file: None },
            false => Fact::NoDeadLetter { file: None, message: Some((record.partition, record.offset)) },
        });
    }
}

/// Tells which uploads ended without an outcome.
fn tell_notes(facts: &Facts, notes: &[Note]) {
    for Note { info, tail } in notes {
        let file = &file_row(&info.version, &info.spans, info.first_ms, info.last_ms);
        facts.tell(&match tail {
            Some(reason) => Fact::BegunBefore { file, reason, at_ms: clock::now_ms() },
            None => Fact::Replaced { file, by_newer: info.superseded },
        });
    }
}

/// What follows a commit: the files get their public names, and everybody hears of them.
fn after(
    output: &Output,
    facts: &Facts,
    outcomes: impl ExactSizeIterator<Item = (Outcome, FileRow)>,
) -> Vec<Arc<FileInfo>> {
    let at_ms = clock::now_ms();
    let mut done = Vec::with_capacity(outcomes.len());
    for (outcome, row) in outcomes {
        let (file, again) = (&row, outcome.has_failed_before());
        let rerun = outcome.answers.as_ref().is_some_and(|entry| entry.rerun_of().is_some());
        if outcome.is_incomplete() && again {
            facts.tell(&Fact::CameLate { file });
            done.push(outcome.info);
            continue;
        }
        let attempts = outcome.all_attempts();
        let info = outcome.info;
        // a version that came later may be there already
        let superseded = outcome.answers.is_some() && output.path().join(&*info.version.path).exists();
        if let Some(placed) = outcome.file.filter(|_| !superseded) {
            output.place(placed);
        }
        crash_point(CrashPoint::Published);
        let bytes = info.bytes;
        match outcome.result {
            Ok(message) => {
                let result = message.map(|message| message.value.len() as u64);
                facts.tell(&Fact::Done { file, bytes, result, again, rerun, at_ms });
            }
            Err(Failure { status, reason }) => {
                let reason = reason.as_str();
                facts.tell(&Fact::Failed { file, bytes, status, reason, attempts, again, rerun, at_ms });
            }
        }
        done.push(info);
    }
    done
}
