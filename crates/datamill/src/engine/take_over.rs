//! Takes over a group of OpenMSIStream, whose consumers commit chunks that they only hold in memory: files that
//! they had not finished lie below the committed positions.
//!
//! ```text
//! in-progress table ──paths──┐
//! log, first record .. committed offset ──▶ assembler ──▶ progress of each partition ──▶ one commit
//! ```
//!
//! What is left open is what has no result yet: uploads that were incomplete at the committed positions, and
//! the last whole upload of each file in the table. The commit leaves the positions as a program of datamill
//! that was stopped at this moment would have left them, so that the start that follows is a restart like any
//! other.

mod table;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill_broker::{
    Assigned, Commit, CommitOutcome, Committed, Event, Log, MAX_PROGRESS_TEXT, Member, Position, Session, StateChange,
    SubscribeOptions, Topic,
};
use datamill_wire::Chunk;

use super::folder::OutputFolder;
use super::purpose::Standing;
use super::source::Source;
use super::state::{GroupState, key};
use super::{Control, EngineError, EngineSettings, start};
use crate::assemble::{Added, Assembler, InstanceId, InstanceIds, Version};
use crate::process::UserCode;
use crate::progress::{Progress, elsewhere, encode};
use crate::read::{Span, TopicReader};
use crate::report::text::{counted, counted_with};

/// How long a wait for records or for partitions lasts.
const POLL: Duration = Duration::from_millis(100);
/// How long the group may take to give this process all partitions.
const ASSIGNED_WITHIN: Duration = Duration::from_secs(60);
/// Time between two lines about the state.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What was found below the positions of the group.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TakenOver {
    /// The table of files in progress.
    pub table: PathBuf,
    /// Files in the table.
    pub listed: usize,
    /// Whole files of the table: they get their result.
    pub whole: Vec<String>,
    /// Files that have only some of their chunks below the positions: they get their result once all are there.
    pub incomplete: Vec<String>,
    /// Files of the table that have no chunk in the topic, below the positions.
    pub gone: Vec<String>,
    /// Messages that were read for it.
    pub messages: u64,
}

impl fmt::Display for TakenOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, listed, whole, incomplete, gone, messages } = self;
        write!(
            f,
            "{} looked through below the positions of the group; `{}` names {} ",
            counted_with(*messages, "message", "was", "were"),
            table.display(),
            counted(*listed as u64, "file")
        )?;
        write!(f, "without a result. Left to do: {}", counted(whole.len() as u64, "whole file"))?;
        let (have, their) = if incomplete.len() == 1 { ("has", "its") } else { ("have", "their") };
        write!(f, ", {} that {have} only a part of {their} chunks there", counted(incomplete.len() as u64, "file"))?;
        match gone.as_slice() {
            [] => Ok(()),
            gone => write!(f, "; no longer in the topic, upload them again: {}", gone.join(", ")),
        }
    }
}

/// Reads what OpenMSIStream's program with this output folder had not finished, and commits positions for the
/// group of `settings` that leave it to do. `None` where the group's positions are datamill's already, where it
/// has none, or where the program was told to stop meanwhile.
///
/// # Errors
/// No such folder, members in the group, no table in the folder, positions of both programs, and what the log says.
pub fn take_over(
    log: &Arc<dyn Log>,
    settings: &EngineSettings,
    folder: &Path,
    code: &UserCode,
    control: &Control,
) -> Result<Option<TakenOver>, EngineError> {
    let (topic, group) = (settings.topic.as_str(), settings.group.as_str());
    if !folder.is_dir() {
        return Err(EngineError::NoFolder(folder.to_owned()));
    }
    let there = log.topic(topic)?;
    let source = Source::new(topic, there.id.as_deref());
    let positions = plain_positions(log.as_ref(), topic, group)?;
    if positions.is_empty() {
        return Ok(None);
    }
    let output = OutputFolder::take(&settings.output_dir, &log.own_files())?;
    let group_state = GroupState::open(log.as_ref(), settings, Some(&output))?;
    if Standing::look(log.as_ref(), settings, &group_state, code, control)?.is_none() {
        return Ok(None);
    }
    let table = table::Table::read(folder, topic, group)?;
    tracing::info!(topic, group, table = %table.file.display(), files = table.len(), "taking the group over");
    let mut scan = Scan::new(settings, &source, &table);
    let span = |(partition, end)| {
        let first = log.offsets(topic, partition)?.first;
        Ok::<_, EngineError>(Span { partition, first, end })
    };
    let mut spans = positions.into_iter().map(span).collect::<Result<Vec<_>, _>>()?;
    // Where the records below a position are gone with the position, the start itself says so.
    spans.retain(|span| span.first <= span.end);
    if !scan.read(log, &there, &spans, control)? {
        return Ok(None);
    }
    let moves = scan.finish(&spans);
    commit(log.as_ref(), settings, &source, &group_state, &moves, control)?;
    Ok(Some(scan.taken(&table)))
}

/// The committed offsets that have no text of datamill beside them; none where all have.
fn plain_positions(log: &dyn Log, topic: &str, group: &str) -> Result<BTreeMap<i32, i64>, EngineError> {
    let found = log.group(group, &[topic])?;
    let (plain, ours): (Vec<_>, Vec<_>) = found.committed.into_iter().partition(|(_, c)| c.text.is_empty());
    if plain.is_empty() {
        return Ok(BTreeMap::new());
    }
    if !ours.is_empty() {
        return Err(EngineError::MixedPositions { topic: topic.into(), group: group.to_owned() });
    }
    if !found.members.is_empty() {
        return Err(in_use(group, found.members));
    }
    Ok(plain.into_iter().map(|((_, partition), Committed { offset, .. })| (partition, offset)).collect())
}

fn in_use(group: &str, members: Vec<Member>) -> EngineError {
    let members = members.into_iter().map(|member| member.id).collect();
    EngineError::GroupInUse { group: group.to_owned(), members }
}

/// The records below the positions, as an engine sees them.
struct Scan<'a> {
    source: &'a Source,
    assembler: Assembler,
    table: &'a table::Table,
    /// The last whole upload of each file of the table.
    whole: HashMap<String, InstanceId>,
    /// Rows of the table that have chunks here.
    found: HashSet<usize>,
    messages: u64,
}

impl<'a> Scan<'a> {
    fn new(settings: &EngineSettings, source: &'a Source, table: &'a table::Table) -> Self {
        let pattern = settings.download_regex.clone();
        let filter = Box::new(move |path: &str| pattern.as_ref().is_none_or(|pattern| pattern.matches(path)));
        Self {
            source,
            assembler: Assembler::new(filter, Arc::default()).without_content(),
            table,
            whole: HashMap::new(),
            found: HashSet::new(),
            messages: 0,
        }
    }

    /// Reads the spans. Answers whether it came to the end.
    fn read(
        &mut self,
        log: &Arc<dyn Log>,
        topic: &Topic,
        spans: &[Span],
        control: &Control,
    ) -> Result<bool, EngineError> {
        for span in spans {
            self.assembler.assign(span.partition, Progress::starting_at(span.first), span.first);
        }
        let mut reader = TopicReader::of_spans(log, topic, spans)?;
        let mut told = Instant::now();
        while !reader.is_at_end() {
            if control.stopping().is_some() {
                return Ok(false);
            }
            reader.poll(POLL, &mut |record| {
                self.messages += 1;
                self.record(record.partition, record.offset, record.value.unwrap_or_default());
            })?;
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                tracing::info!(messages = self.messages, "looking through what the group has read");
            }
        }
        Ok(true)
    }

    fn record(&mut self, partition: i32, offset: i64, value: &[u8]) {
        let Ok(chunk) = Chunk::decode(value) else { return };
        let version = Version::of(&chunk);
        let row = self.table.row_of(&version.path).or_else(|| self.table.row_of(&sent_as(&chunk)));
        self.found.extend(row);
        // Nothing is written to a disk, so nothing can fail to be written.
        let (added, _) = self.assembler.add(partition, offset, 0, &chunk);
        if let Added::Whole(whole) = added {
            let id = whole.info().id;
            let done = if row.is_some() { self.whole.insert(version.path.to_string(), id) } else { Some(id) };
            self.assembler.finish(&done.into_iter().collect());
        }
    }

    /// Position and text of each partition.
    fn finish(&mut self, spans: &[Span]) -> Vec<(i32, i64, String)> {
        for span in spans {
            self.assembler.skip_to(span.partition, span.end);
        }
        let moved = |span: &Span| {
            let progress = self.assembler.progress(span.partition, &InstanceIds::default())?;
            let (offset, text) = encode(&progress, self.source.tag.as_ref());
            Some((span.partition, offset, text))
        };
        spans.iter().filter_map(moved).collect()
    }

    fn taken(self, table: &table::Table) -> TakenOver {
        let filling = self.assembler.filling().into_iter();
        let mut incomplete: Vec<String> = filling.map(|(_, file)| file.version.path.to_string()).collect();
        let mut whole: Vec<String> = self.whole.into_keys().collect();
        incomplete.sort();
        whole.sort();
        TakenOver {
            table: table.file.clone(),
            listed: table.len(),
            gone: table
                .paths()
                .enumerate()
                .filter(|(row, _)| !self.found.contains(row))
                .map(|(_, p)| p.to_owned())
                .collect(),
            whole,
            incomplete,
            messages: self.messages,
        }
    }
}

/// The path of the file that was sent, which the table may hold in place of the rebuilt one.
fn sent_as(chunk: &Chunk<'_>) -> String {
    if datamill_wire::name::is_root(chunk.subdir) {
        chunk.filename.to_owned()
    } else {
        format!("{}/{}", chunk.subdir, chunk.filename)
    }
}

/// Commits the positions as a member of the group, which must still be at those that were looked at.
fn commit(
    log: &dyn Log,
    settings: &EngineSettings,
    source: &Source,
    group_state: &GroupState<'_>,
    moves: &[(i32, i64, String)],
    control: &Control,
) -> Result<(), EngineError> {
    let Session { mut subscription, mut committer } = log.subscribe(&SubscribeOptions {
        group: settings.group.clone(),
        instance: settings.instance.clone(),
        topics: vec![settings.topic.clone()],
        identity: source.identity(),
        first_start: datamill_broker::FirstStart::Earliest,
        queue_bytes: settings.queue_bytes(),
        membership: settings.membership,
        delivery: settings.delivery,
    })?;
    subscription.hold()?;
    let mut owned: BTreeMap<i32, Assigned> = BTreeMap::new();
    let begun = Instant::now();
    loop {
        subscription.poll(POLL, &mut |event| match event {
            Event::Assigned(assigned) => owned.extend(assigned.into_iter().map(|a| (a.partition, a))),
            Event::Revoked { partitions, .. } => owned.retain(|p, _| !partitions.iter().any(|(_, gone)| gone == p)),
            Event::Record(_) | Event::End { .. } => {}
        })?;
        if control.stopping().is_some() {
            return Ok(subscription.close(true)?);
        }
        if !moves.iter().all(|(partition, ..)| owned.contains_key(partition)) {
            if begun.elapsed() > ASSIGNED_WITHIN {
                return Err(in_use(&settings.group, log.group(&settings.group, &[&settings.topic])?.members));
            }
            continue;
        }
        let (positions, state) = positions(source, moves, &owned);
        let commit = Commit { records: &[], positions: &positions, state: &state };
        match group_state.commit(committer.as_mut(), &commit) {
            CommitOutcome::Done(_) => return Ok(subscription.close(true)?),
            CommitOutcome::NotOwner(_) => owned.clear(),
            CommitOutcome::Again(error) | CommitOutcome::Unknown(error) if error.is_denied() => {
                return Err(error.into());
            }
            CommitOutcome::Again(error) if begun.elapsed() < ASSIGNED_WITHIN => {
                tracing::debug!(error = %crate::report::chain(&error), "the positions are not committed yet");
            }
            CommitOutcome::Again(error) | CommitOutcome::Unknown(error) => return Err(EngineError::Session(error)),
            CommitOutcome::RecordsRefused(refused) => {
                if let Some((_, error)) = refused.into_iter().next() {
                    return Err(error.into());
                }
            }
        }
    }
}

/// The positions, and the changes of the group's state that belong to them.
fn positions(
    source: &Source,
    moves: &[(i32, i64, String)],
    owned: &BTreeMap<i32, Assigned>,
) -> (Vec<Position>, Vec<StateChange>) {
    let mut state = Vec::new();
    let positions: Vec<Position> = moves
        .iter()
        .filter_map(|(partition, offset, text)| {
            state.push(start::mark(source, *partition));
            let text = if text.len() > MAX_PROGRESS_TEXT {
                let key = key::of_progress(&source.name, *partition, text);
                state.push(StateChange { key: key.clone(), value: Some(text.clone().into_bytes()) });
                elsewhere(&key, source.tag.as_ref())
            } else {
                text.clone()
            };
            let assignment = owned.get(partition)?.assignment;
            Some(Position { topic: Arc::clone(&source.name), partition: *partition, assignment, offset: *offset, text })
        })
        .collect();
    (positions, state)
}
