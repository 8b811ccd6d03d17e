//! One commit, whole: outcomes with their records, the positions that hold once these are durable, and the changes of
//! the group's state.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use datamill_broker::{Error, ErrorKind, NewRecord, Position, StateChange};
use datamill_wire::headers;

use crate::assemble::FileInfo;
use crate::engine::dead_letter::{Letter, Unusable};
use crate::engine::entry::Entry;
use crate::engine::origin::{CommitSettings, Origin};
use crate::engine::outcome::{Failure, Outcome};
use crate::facts::FailureStatus;
use crate::process::{ReproducerMessage, largest_entry};
use crate::report::text;

/// An upload that ends without an outcome.
pub(in crate::engine) struct Note {
    pub(in crate::engine) info: Arc<FileInfo>,
    /// It began before the group did; this says so. `None` for what is left of a repetition.
    pub(in crate::engine) tail: Option<String>,
}

/// Whose record is published, by its number in the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::engine) enum Source {
    /// A file's result.
    Result(usize),
    /// A file's dead letter.
    File(usize),
    /// A record's dead letter.
    Record(usize),
}

/// What is committed in one step.
pub(in crate::engine) struct Batch {
    pub(in crate::engine) outcomes: Vec<Outcome>,
    /// Where each of them came from.
    pub(in crate::engine) origins: Vec<Origin>,
    pub(in crate::engine) notes: Vec<Note>,
    /// Records that hold no chunk.
    pub(in crate::engine) unusable: Vec<Unusable>,
    /// The dead letters; those for which there is no room are left out.
    pub(in crate::engine) letters: Vec<(Source, Letter)>,
    pub(in crate::engine) positions: Vec<Position>,
    pub(in crate::engine) state: Vec<StateChange>,
}

/// What ends with a commit.
#[derive(Default)]
pub(super) struct Ended {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) notes: Vec<Note>,
    pub(super) unusable: Vec<Unusable>,
}

impl Batch {
    /// The whole batch, from what ends with it and from what moves: positions, with the changes of the group's state
    /// that these take along.
    ///
    /// # Errors
    /// A failure cannot be written as JSON.
    pub(super) fn of(
        settings: &CommitSettings,
        ended: Ended,
        (positions, mut state): (Vec<Position>, Vec<StateChange>),
    ) -> Result<Self, Error> {
        let Ended { outcomes, notes, unusable } = ended;
        for outcome in &outcomes {
            state.extend(outcome.answers.iter().flat_map(|entry| entry.answers()));
            match &outcome.result {
                Ok(_) => {
                    state.extend(outcome.answers.iter().filter(|entry| entry.has_failed).map(|entry| entry.removal()));
                }
                Err(failure) => {
                    let entry = Entry::after(&settings.source, &settings.by, outcome, failure);
                    state.push(entry.change().map_err(|error| unwritable(&outcome.info, error))?);
                }
            }
        }
        let origins = outcomes.iter().map(|outcome| Origin::of(&outcome.info)).collect();
        let letters = letters(settings, &outcomes, &origins, &unusable);
        Ok(Self { outcomes, origins, notes, unusable, letters, positions, state })
    }

    /// The records to publish, and whose each is.
    pub(in crate::engine) fn records<'b>(&'b self, settings: &'b CommitSettings) -> (Vec<Source>, Vec<NewRecord<'b>>) {
        let mut sources = Vec::with_capacity(self.outcomes.len());
        let mut records = Vec::with_capacity(self.outcomes.len());
        for (index, (outcome, origin)) in self.outcomes.iter().zip(&self.origins).enumerate() {
            let (Ok(Some(message)), Some(topic)) = (&outcome.result, &settings.result_topic) else { continue };
            sources.push(Source::Result(index));
            records.push(result(topic, outcome, message, origin, settings));
        }
        if let Some(topic) = &settings.dead_letters {
            for (source, letter) in &self.letters {
                sources.push(*source);
                records.push(letter.record(topic));
            }
        }
        (sources, records)
    }

    /// Records were refused for good: results become failures, and dead letters shorter.
    pub(in crate::engine) fn refused(&mut self, sources: &[Source], refused: Vec<(usize, Error)>) {
        let letters: HashMap<Source, &Letter> = self.letters.iter().map(|(source, letter)| (*source, letter)).collect();
        let mut said = None;
        for (index, error) in refused {
            let Some(source) = sources.get(index) else { continue };
            match (source, letters.get(source).map(|letter| letter.refused(error.kind()))) {
                (Source::Result(i), _) => {
                    let outcome = &mut self.outcomes[*i];
                    let mut reason = format!("the result was refused: {}", crate::report::chain(&error));
                    if error.kind() == ErrorKind::RecordTooLarge
                        && let Ok(Some(message)) = &outcome.result
                    {
                        reason += &size_of(message);
                    }
                    outcome.result = Err(Failure::new(FailureStatus::ProducingMessageFailed, reason));
                }
                (Source::File(i), Some(room)) => {
                    self.outcomes[*i].room = room;
                    said.get_or_insert(error);
                }
                (Source::Record(i), Some(room)) => {
                    self.unusable[*i].room = room;
                    said.get_or_insert(error);
                }
                _ => {}
            }
        }
        if let Some(error) = said {
            tracing::warn!(error = %crate::report::chain(&error), "a dead letter was refused");
        }
    }
}

fn result<'b>(
    topic: &'b str,
    outcome: &'b Outcome,
    message: &'b ReproducerMessage,
    origin: &'b Origin,
    settings: &'b CommitSettings,
) -> NewRecord<'b> {
    let own = message.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    let mut all: Vec<(&str, &[u8])> = own.chain(origin.headers(settings)).collect();
    if let Some(entry) = &outcome.answers {
        let failure = entry.has_failed.then_some((headers::RETRY_OF, entry.key.as_bytes()));
        let result = entry.rerun_of().map(|result| (headers::RERUN_OF, result.as_bytes()));
        all.extend(failure.into_iter().chain(result));
    }
    NewRecord {
        topic,
        partition: None,
        key: Some(message.key.as_deref().unwrap_or(origin.key.as_bytes())),
        value: Some(&message.value),
        headers: all,
        timestamp_ms: None,
    }
}

fn letters(
    settings: &CommitSettings,
    outcomes: &[Outcome],
    origins: &Vec<Origin>,
    unusable: &[Unusable],
) -> Vec<(Source, Letter)> {
    let Some(topic) = &settings.dead_letters else { return Vec::new() };
    let files = outcomes.iter().zip(origins).enumerate().filter_map(|(i, (outcome, origin))| {
        let failure = outcome.result.as_ref().err().filter(|_| !outcome.has_failed_before())?;
        Some((Source::File(i), Letter::of_file(topic, settings, outcome, origin, failure)?))
    });
    let records = unusable.iter().enumerate();
    let records = records.filter_map(|(i, r)| Some((Source::Record(i), Letter::of_record(topic, settings, r)?)));
    files.chain(records).collect()
}

fn unwritable(info: &FileInfo, error: serde_json::Error) -> Error {
    let text = format!("the failure of file `{}` cannot be written as JSON", info.version.path);
    Error::with_source(ErrorKind::Fatal, text, error)
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
