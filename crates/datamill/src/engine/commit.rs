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

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use datamill_broker::{
    Commit, CommitOutcome, Committer, CrashPoint, Error, ErrorKind, Log, NewRecord, Position, StateChange, crash_point,
};
use datamill_wire::{headers, hex};

use super::EngineError;
use super::catch_up::catch_up;
use super::dead_letter::{DeadLetterTopic, KeptRecords, Letter, Unusable};
use super::entry::Entry;
use super::folder::Output;
use super::in_hand::InHand;
use super::listeners::Listeners;
use super::outcome::{Failure, Outcome};
use super::purpose::{Standing, Unmarked};
use super::retry::Tried;
use super::state::GroupState;
use crate::assemble::{FileInfo, Span, Version};
use crate::facts::{Fact, Facts, FailureStatus, FileRow, FillingFile};
use crate::process::{ReproducerMessage, largest_entry};
use crate::report::{clock, text};

/// An upload that ends without an outcome.
pub(super) struct Note {
    pub(super) info: Arc<FileInfo>,
    /// It began before the group did; this says so. `None` for what is left of a repetition.
    pub(super) tail: Option<String>,
}

/// What is to be committed in one step.
pub(super) struct Batch {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) notes: Vec<Note>,
    /// Records that get a dead letter.
    pub(super) unusable: Vec<Unusable>,
    pub(super) positions: Vec<Position>,
    pub(super) state: Vec<StateChange>,
}

/// How a batch ended, with what it held where that is still needed.
pub(super) enum Answer {
    Done(Vec<Arc<FileInfo>>),
    Again(Batch, Option<Error>),
    RecordsRefused(Batch),
    Unknown(Error),
    /// Whether the topic is still the same; so is one that cannot be asked about.
    Verified(Result<(), Error>),
    /// The program cannot go on.
    Over(EngineError),
}

/// What the commit thread is told.
pub(super) enum Task {
    Commit(Batch),
    /// The end of the run is near: is the topic still the same?
    Verify,
    /// Files that fill up, for the registry.
    Filling(Arc<[FillingFile]>),
}

/// Where results go and what is written beside them.
pub(super) struct CommitSettings {
    pub(super) topic: Arc<str>,
    /// Where the log tells it.
    pub(super) topic_id: Option<Arc<str>>,
    pub(super) result_topic: Option<String>,
    pub(super) dead_letters: Option<DeadLetterTopic>,
    /// Where records are kept that hold no chunk, if there is no topic for their dead letters.
    pub(super) kept: KeptRecords,
    pub(super) group: String,
    pub(super) program: String,
    pub(super) processor_version: Option<String>,
    pub(super) output: Arc<Output>,
    /// Whose the failures are.
    pub(super) by: String,
}

/// Wait before the group is marked again.
const MARK_AGAIN: Duration = Duration::from_millis(500);

/// Marks the group as this program's, before anything else is committed, and takes what an earlier run had in hand into
/// its state. Answers the tasks that came meanwhile; `None` where the thread has nothing more to do.
#[expect(clippy::too_many_arguments, reason = "the thread's ends, from the parts of one session")]
pub(super) fn mark(
    log: &dyn Log,
    committer: &mut dyn Committer,
    state: &GroupState<'_>,
    standing: &mut Standing,
    in_hand: Option<&InHand>,
    facts: &Facts,
    tasks: &Receiver<Task>,
    answers: &Sender<Answer>,
) -> Option<Vec<Task>> {
    let (mut waiting, mut is_said) = (Vec::new(), false);
    loop {
        let marked = standing.mark(log, state, committer);
        let marked = marked.and_then(|()| in_hand.map_or(Ok(()), |in_hand| in_hand.write_down(state, committer)));
        let over = match marked {
            Ok(()) => return Some(waiting),
            Err(Unmarked::Again(error)) => {
                let error = crate::report::chain(&error);
                facts.tell(&Fact::NotCommitted { error: Some(&error) });
                if !std::mem::replace(&mut is_said, true) {
                    tracing::warn!(%error, "a commit did not happen; trying again");
                }
                match tasks.recv_timeout(MARK_AGAIN) {
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
        drop(answers.send(over));
        return None;
    }
}

/// Runs the commit thread until the reader drops its end.
#[expect(clippy::too_many_arguments, reason = "the thread's ends, from the parts of one session")]
pub(super) fn run(
    log: &dyn Log,
    settings: &CommitSettings,
    mut committer: Box<dyn Committer>,
    state: &GroupState<'_>,
    waiting: Vec<Task>,
    listeners: &Listeners,
    tried: &Tried,
    tasks: &Receiver<Task>,
    answers: &Sender<Answer>,
) {
    let mut waiting = waiting.into_iter();
    loop {
        match waiting.next().map_or_else(|| tasks.recv_timeout(Duration::from_millis(500)), Ok) {
            Ok(Task::Commit(batch)) => {
                listeners.lines.tell_others();
                let answer = commit(settings, committer.as_mut(), state, &listeners.facts, batch);
                if let Answer::Again(_, error) = &answer {
                    let error = error.as_ref().map(|error| crate::report::chain(error));
                    listeners.facts.tell(&Fact::NotCommitted { error: error.as_deref() });
                }
                if answers.send(answer).is_err() {
                    return;
                }
            }
            Ok(Task::Verify) => {
                if answers.send(Answer::Verified(verify(log, settings))).is_err() {
                    return;
                }
            }
            Ok(Task::Filling(files)) => listeners.facts.tell(&Fact::Filling(&files)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                listeners.lines.tell_others();
                listeners.lines.tell_rest(true);
                return;
            }
        }
        listeners.lines.tell_rest(false);
        settings.output.tick();
        let mut ledger = listeners.ledger.lock();
        ledger.tick();
        catch_up(&settings.topic, state, &mut ledger, tried);
    }
}

fn verify(log: &dyn Log, settings: &CommitSettings) -> Result<(), Error> {
    match log.topic_now(&settings.topic) {
        Ok(now) if now.id.is_some() && now.id.as_deref() != settings.topic_id.as_deref() => {
            Err(Error::topic_replaced(&settings.topic))
        }
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::debug!(topic = %settings.topic, error = %crate::report::chain(&error), "the topic cannot be asked about");
            Ok(())
        }
    }
}

fn commit(
    settings: &CommitSettings,
    committer: &mut dyn Committer,
    group_state: &GroupState<'_>,
    facts: &Facts,
    mut batch: Batch,
) -> Answer {
    if settings.dead_letters.is_none()
        && let Err(error) = settings.kept.keep(settings, &batch.unusable)
    {
        return Answer::Again(batch, Some(Error::new(ErrorKind::NoSpace, error.to_string())));
    }
    if batch.outcomes.iter().any(|outcome| outcome.file.is_some())
        && let Err(error) = settings.output.place_rest()
    {
        // files that get their place there once they are committed
        return Answer::Again(batch, Some(Error::new(ErrorKind::NoSpace, error.to_string())));
    }
    let origins: Vec<Origin<'_>> = batch.outcomes.iter().map(|o| Origin::of(settings, &o.info)).collect();
    let letters = letters(settings, &batch);
    let mut sources = Vec::with_capacity(batch.outcomes.len());
    let mut records = Vec::with_capacity(batch.outcomes.len());
    let mut state = std::mem::take(&mut batch.state);
    for (index, (outcome, origin)) in batch.outcomes.iter().zip(&origins).enumerate() {
        state.extend(outcome.answers.iter().flat_map(|entry| entry.answers()));
        match &outcome.result {
            Ok(message) => {
                state.extend(outcome.answers.iter().filter(|entry| entry.has_failed).map(|entry| entry.removal()));
                let (Some(message), Some(topic)) = (message, &settings.result_topic) else { continue };
                sources.push(Source::Result(index));
                let own = message.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
                let mut all: Vec<(&str, &[u8])> = own.chain(origin.headers()).collect();
                if let Some(entry) = &outcome.answers {
                    let failure = entry.has_failed.then_some((headers::RETRY_OF, entry.key.as_bytes()));
                    let result = entry.rerun_of().map(|result| (headers::RERUN_OF, result.as_bytes()));
                    all.extend(failure.into_iter().chain(result));
                }
                records.push(NewRecord {
                    topic,
                    partition: None,
                    key: Some(message.key.as_deref().unwrap_or(origin.key.as_bytes())),
                    value: Some(&message.value),
                    headers: all,
                    timestamp_ms: None,
                });
            }
            Err(failure) => {
                let entry = Entry::after(&settings.topic, settings.topic_id.as_deref(), &settings.by, outcome, failure);
                match entry.change() {
                    Ok(change) => state.push(change),
                    Err(error) => return Answer::Unknown(unwritable(&outcome.info, error)),
                }
            }
        }
    }
    if let Some(topic) = &settings.dead_letters {
        for (source, letter) in &letters {
            sources.push(*source);
            records.push(letter.record(topic));
        }
    }
    let commit = Commit { records: &records, positions: &batch.positions, state: &state };
    crash_point(CrashPoint::Made);
    let begun = Instant::now();
    match group_state.commit(committer, &commit) {
        CommitOutcome::Done(_) => {
            crash_point(CrashPoint::Answered);
            drop(records);
            facts.tell(&Fact::Committed { files: batch.outcomes.len() as u64, took: begun.elapsed() });
            if settings.dead_letters.is_some() {
                tell_letters(facts, &batch, &letters);
            }
            tell_notes(facts, &batch.notes);
            let rows = origins.into_iter().map(|origin| origin.row);
            let mut done = after(settings, facts, batch.outcomes.into_iter().zip(rows));
            done.extend(batch.notes.into_iter().map(|note| note.info));
            crash_point(CrashPoint::Registered);
            Answer::Done(done)
        }
        CommitOutcome::Again(error) => Answer::Again(batch, Some(error)),
        CommitOutcome::NotOwner(_) => Answer::Again(batch, None),
        CommitOutcome::RecordsRefused(refused) => {
            drop(records);
            let letters: HashMap<Source, &Letter> = letters.iter().map(|(source, letter)| (*source, letter)).collect();
            let mut said = None;
            for (index, error) in refused {
                let Some(source) = sources.get(index) else { continue };
                match (source, letters.get(source).map(|letter| letter.refused(error.kind()))) {
                    (Source::Result(i), _) => {
                        let outcome = &mut batch.outcomes[*i];
                        let mut reason = format!("the result was refused: {}", crate::report::chain(&error));
                        if error.kind() == ErrorKind::RecordTooLarge
                            && let Ok(Some(message)) = &outcome.result
                        {
                            reason += &size_of(message);
                        }
                        outcome.result = Err(Failure::new(FailureStatus::ProducingMessageFailed, reason));
                    }
                    (Source::File(i), Some(room)) => {
                        batch.outcomes[*i].room = room;
                        said.get_or_insert(error);
                    }
                    (Source::Record(i), Some(room)) => {
                        batch.unusable[*i].room = room;
                        said.get_or_insert(error);
                    }
                    _ => {}
                }
            }
            if let Some(error) = said {
                tracing::warn!(error = %crate::report::chain(&error), "a dead letter was refused");
            }
            Answer::RecordsRefused(batch)
        }
        CommitOutcome::Unknown(error) => Answer::Unknown(error),
    }
}

fn unwritable(info: &FileInfo, error: serde_json::Error) -> Error {
    let text = format!("the failure of file `{}` cannot be written as JSON", info.version.path);
    Error::with_source(datamill_broker::ErrorKind::Fatal, text, error)
}

/// Whose record is to be published, by its number in the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    /// A file's result.
    Result(usize),
    /// A file's dead letter.
    File(usize),
    /// A record's dead letter.
    Record(usize),
}

/// The dead letters of a batch; those for which there is no room are left out.
fn letters(settings: &CommitSettings, batch: &Batch) -> Vec<(Source, Letter)> {
    let Some(topic) = &settings.dead_letters else { return Vec::new() };
    let files = batch.outcomes.iter().enumerate().filter_map(|(i, outcome)| {
        let failure = outcome.result.as_ref().err().filter(|_| !outcome.has_failed_before())?;
        Some((Source::File(i), Letter::of_file(topic, settings, outcome, failure)?))
    });
    let records = batch.unusable.iter().enumerate();
    let records = records.filter_map(|(i, r)| Some((Source::Record(i), Letter::of_record(topic, settings, r)?)));
    files.chain(records).collect()
}

/// Tells the dead letters that are committed, and what went without one.
fn tell_letters(facts: &Facts, batch: &Batch, letters: &[(Source, Letter)]) {
    let sent: HashSet<Source> = letters.iter().map(|(source, _)| *source).collect();
    let first_failures = |(_, outcome): &(usize, &Outcome)| outcome.result.is_err() && !outcome.has_failed_before();
    for (i, outcome) in batch.outcomes.iter().enumerate().filter(first_failures) {
        let file = Some(&*outcome.info.version.path);
        facts.tell(&match sent.contains(&Source::File(i)) {
            true => Fact::DeadLetter { file },
            false => Fact::NoDeadLetter { file, message: None },
        });
    }
    for (i, record) in batch.unusable.iter().enumerate() {
        facts.tell(&match sent.contains(&Source::Record(i)) {
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
    settings: &CommitSettings,
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
        let superseded = outcome.answers.is_some() && settings.output.path().join(&*info.version.path).exists();
        if let Some(placed) = outcome.file.filter(|_| !superseded) {
            settings.output.place(placed);
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

/// What a result that is too large has, and which entry of its JSON takes the most.
fn size_of(message: &ReproducerMessage) -> String {
    let size = |bytes: usize| text::bytes(bytes as u64);
    let mut told = format!("; the result has {}", size(message.value.len()));
    if let Ok(json) = str::from_utf8(&message.value)
        && let Some((entry, bytes)) = largest_entry(json)
    {
        let _ = write!(told, ", its largest entry `{entry}` has {}", size(bytes));
    }
    told
}

/// A file as the registry shows it.
pub(super) fn file_row(version: &Version, spans: &[Span], first_ms: i64, last_ms: i64) -> FileRow {
    FileRow {
        rel_filepath: version.path.to_string(),
        n_chunks: version.total,
        first_message_ms: first_ms,
        most_recent_message_ms: last_ms,
        sha512: hex(&version.sha512),
        offsets: spans_text(spans),
    }
}

/// `partition:first-last` for each partition, separated by commas.
pub(crate) fn spans_text(spans: &[Span]) -> String {
    let mut text = String::new();
    for span in spans {
        let comma = if text.is_empty() { "" } else { "," };
        // writing to a string does not fail
        let _ = write!(text, "{comma}{}:{}-{}", span.partition, span.first, span.last);
    }
    text
}

/// Where a result came from: the texts of its key and headers.
pub(super) struct Origin<'a> {
    pub(super) key: String,
    pub(super) topic: &'a str,
    topic_id: Option<&'a str>,
    program: &'a str,
    group: &'a str,
    processor_version: Option<&'a str>,
    pub(super) row: FileRow,
}

impl<'a> Origin<'a> {
    pub(super) fn of(settings: &'a CommitSettings, info: &FileInfo) -> Self {
        let version = &info.version;
        Self {
            key: datamill_wire::result_key(version.subdir(), version.filename()),
            topic: &settings.topic,
            topic_id: settings.topic_id.as_deref(),
            program: &settings.program,
            group: &settings.group,
            processor_version: settings.processor_version.as_deref(),
            row: file_row(version, &info.spans, info.first_ms, info.last_ms),
        }
    }

    /// The headers of a result, and of a dead letter.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let all = [
            (headers::SOURCE_TOPIC, self.topic.as_bytes()),
            (headers::SOURCE_PATH, self.row.rel_filepath.as_bytes()),
            (headers::SOURCE_SHA512, self.row.sha512.as_bytes()),
            (headers::SOURCE_OFFSETS, self.row.offsets.as_bytes()),
            (headers::PROGRAM, self.program.as_bytes()),
            (headers::GROUP, self.group.as_bytes()),
        ];
        let version = self.processor_version.map(|version| (headers::PROCESSOR_VERSION, version.as_bytes()));
        all.into_iter().chain(self.topic_id.map(|id| (headers::SOURCE_TOPIC_ID, id.as_bytes()))).chain(version)
    }
}
