//! The retry thread: it looks at the group's state and reads the chunks of failed files.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use datamill_broker::{ErrorKind, Event, Log, StateChange, StateChanges, StateMark};

use crate::assemble::{Added, Assembler, Budget, FileInfo, InstanceId, Span, SpillFolder, Version, WholeFile};
use crate::engine::entry::{Due, Entry, Request};
use crate::engine::source::Source;
use crate::engine::state::GroupState;
use crate::engine::tails::Begun;
use crate::progress::Progress;
use crate::report::Counters;

/// How often the group's state is asked for while the log does not answer, and the wait between.
const LOOKS: u32 = 12;
const LOOK_WAIT: Duration = Duration::from_secs(1);
/// How long the reading of one file waits for records at a time.
const POLL: Duration = Duration::from_millis(100);

/// What the retry thread is asked.
pub(super) enum Ask {
    /// The entries of the group's state.
    Look(Look),
    /// The file of an entry.
    Read(Due, InstanceId),
}

/// Which entries are asked for.
pub(super) struct Look {
    /// Partitions of which all entries are.
    pub(super) assigned: BTreeSet<i32>,
    /// Partitions with their assignment numbers: entries that somebody asks for.
    pub(super) owned: BTreeMap<i32, u64>,
    /// All of the state has to be read, not only what changed.
    pub(super) whole: bool,
}

/// What it answers.
pub(super) enum Found {
    Seen(Seen),
    Whole(Due, Box<WholeFile>),
    /// Chunks are gone from the log.
    Gone(Due, InstanceId),
    /// It could not be told, and that was said; or nothing changed.
    Nothing,
}

/// Entries of the group's state.
#[derive(Default)]
pub(super) struct Seen {
    /// Those that are to be tried: of partitions that were assigned, and those that somebody asks for.
    pub(super) due: Vec<Due>,
    /// Those that lack chunks, of partitions that were assigned.
    pub(super) incomplete: Vec<Due>,
    /// Where the group began to read partitions that were assigned.
    pub(super) begun: Vec<(i32, Begun)>,
    /// Keys of those that were removed since the last look.
    pub(super) removed: Vec<String>,
}

/// What the retry thread works with.
pub(in crate::engine) struct RetrySettings<'a> {
    pub(in crate::engine) log: &'a dyn Log,
    pub(in crate::engine) topic: &'a str,
    pub(in crate::engine) source: &'a Source,
    pub(in crate::engine) group: &'a str,
    pub(in crate::engine) state: &'a GroupState<'a>,
    /// Whether files are tried that nobody asks for.
    pub(in crate::engine) unasked: bool,
    pub(in crate::engine) budget: Arc<Budget>,
    pub(in crate::engine) spill: &'a SpillFolder,
    /// Bytes of filling files above which this one goes to disk.
    pub(in crate::engine) filling_limit: usize,
    pub(in crate::engine) counters: &'a Counters,
}

impl RetrySettings<'_> {
    /// Answers questions until nobody asks any more.
    pub(super) fn run(&self, asked: &Receiver<Ask>, finds: &Sender<Found>, stop: &AtomicBool) {
        let mut mark = StateMark::default();
        while let Ok(ask) = asked.recv() {
            let found = match ask {
                Ask::Look(look) => self.look(&look, &mut mark, stop),
                Ask::Read(due, id) => {
                    let path = due.entry.path().to_owned();
                    self.read(due, id, stop).unwrap_or_else(|error| {
                        tracing::error!(topic = self.topic, file = %path, error = %crate::report::chain(error.as_ref()),
                            "a file that failed cannot be read again; it is tried at the next start");
                        Found::Nothing
                    })
                }
            };
            if finds.send(found).is_err() {
                return;
            }
        }
    }

    fn look(&self, look: &Look, mark: &mut StateMark, stop: &AtomicBool) -> Found {
        // there is no mark yet, also while the group has no state
        let first = *mark == StateMark::default();
        let mut removed = Vec::new();
        let mut requested = false;
        if !first {
            match self.since(*mark) {
                Ok(StateChanges { changes, mark: next }) => {
                    let prefix = Entry::prefix(self.topic);
                    requested = changes.iter().any(|change| change.value.is_some() && self.is_request(change, look));
                    removed.extend(
                        changes.into_iter().filter(|c| c.value.is_none() && c.key.starts_with(&prefix)).map(|c| c.key),
                    );
                    *mark = next;
                }
                Err(error) => {
                    tracing::debug!(group = self.group, error = %crate::report::chain(&error),
                        "the group's state cannot be looked at; it is tried again");
                    if !look.whole {
                        return Found::Nothing;
                    }
                }
            }
        }
        let seen = if first || look.whole || requested { self.whole(look, mark, stop) } else { None };
        Found::Seen(Seen { removed, ..seen.unwrap_or_default() })
    }

    fn since(&self, mark: StateMark) -> datamill_broker::Result<StateChanges> {
        self.state.since(mark)
    }

    fn is_request(&self, change: &StateChange, look: &Look) -> bool {
        let request = Request::parse(self.topic, &change.key).and_then(|request| request.partition());
        request.is_some_and(|partition| look.owned.contains_key(&partition))
    }

    /// Reads all of the state. `None` when that is not possible, which is said.
    fn whole(&self, look: &Look, mark: &mut StateMark, stop: &AtomicBool) -> Option<Seen> {
        for attempt in 1.. {
            let error = match self.since(StateMark::default()) {
                Ok(StateChanges { changes, mark: next }) => {
                    *mark = next;
                    return Some(self.entries(changes, look));
                }
                Err(error) => error,
            };
            if stop.load(Relaxed) {
                break;
            }
            if error.kind() != ErrorKind::Retry || attempt == LOOKS {
                tracing::error!(group = self.group, error = %crate::report::chain(&error),
                    "the failed files of the group cannot be looked up; they are tried at the next start");
                break;
            }
            std::thread::sleep(LOOK_WAIT);
        }
        None
    }

    fn entries(&self, state: Vec<StateChange>, look: &Look) -> Seen {
        let mut requests: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for change in state.iter().filter(|change| self.is_request(change, look)) {
            if let Some(request) = Request::parse(self.topic, &change.key) {
                requests.entry(request.entry()).or_default().push(change.key.clone());
            }
        }
        let prefix = Entry::prefix(self.topic);
        let begun = look.assigned.iter().filter_map(|p| Some((*p, Begun::parse(self.source, *p, &state)?)));
        let mut seen = Seen { begun: begun.collect(), ..Seen::default() };
        let owned = look.owned.keys().map(|partition| (*partition, self.source.adopted(*partition, &state)));
        let adopted: BTreeMap<i32, Option<&str>> = owned.collect();
        let mut given_up = 0;
        for change in state.iter().filter(|change| change.key.starts_with(&prefix)) {
            let Some(mut entry) = Entry::parse(&change.key, change.value.as_deref().unwrap_or_default()) else {
                tracing::warn!(
                    group = self.group,
                    key = change.key,
                    "an entry of the group's state is not understood; left alone"
                );
                continue;
            };
            let partition = entry.partition();
            let Some(&assignment) = look.owned.get(&partition) else { continue };
            let is_new = look.assigned.contains(&partition);
            let adopted = adopted.get(&partition).copied().flatten();
            entry.is_foreign = !self.source.is_same(entry.topic_id(), adopted);
            if entry.is_foreign && !entry.is_expired() {
                // it gets that outcome, without a look at its offsets
                entry.requests = requests.remove(&entry.key).unwrap_or_default();
                if is_new || !entry.requests.is_empty() {
                    seen.due.push(Due { entry: Arc::new(entry), assignment });
                }
            } else if entry.can_be_retried() {
                entry.requests = requests.remove(&entry.key).unwrap_or_default();
                if !entry.requests.is_empty() || is_new && self.unasked {
                    seen.due.push(Due { entry: Arc::new(entry), assignment });
                }
            } else if is_new {
                given_up += 1;
                if entry.lacks_chunks() {
                    seen.incomplete.push(Due { entry: Arc::new(entry), assignment });
                }
            }
        }
        if given_up > 0 {
            tracing::info!(
                files = given_up,
                group = self.group,
                "failed files that cannot be tried again, as chunks are missing; `datamill retry --list` shows them"
            );
        }
        self.drop_requests(requests.into_values().flatten().collect());
        seen
    }

    /// Removes requests that ask for nothing: their entries are gone, or cannot be tried.
    fn drop_requests(&self, keys: Vec<String>) {
        if keys.is_empty() {
            return;
        }
        let files = keys.len();
        let changes: Vec<StateChange> = keys.into_iter().map(|key| StateChange { key, value: None }).collect();
        match self.log.change_group_state(self.group, None, &changes) {
            Ok(()) => tracing::info!(
                files,
                group = self.group,
                "another try was asked for of files that have their result, were forgotten, or lack chunks; left out"
            ),
            // they are found again at the next start
            Err(error) => tracing::debug!(files, error = %crate::report::chain(&error), "requests cannot be removed"),
        }
    }

    fn read(&self, due: Due, id: InstanceId, stop: &AtomicBool) -> Result<Found, Box<dyn std::error::Error>> {
        if due.entry.is_foreign {
            return Ok(Found::Gone(due, id));
        }
        let spans = due.entry.spans();
        for span in &spans {
            if self.log.offsets(self.topic, span.partition)?.first > span.first {
                return Ok(Found::Gone(due, id));
            }
        }
        let mut reading = Reading {
            assembler: Assembler::new(Box::new(|_| true), Arc::clone(&self.budget)),
            others: due.entry.others(),
            whole: None,
        };
        for spans in rounds(&spans) {
            if reading.whole.is_none() && !self.read_spans(&due.entry, &spans, &mut reading, stop)? {
                return Ok(Found::Nothing);
            }
        }
        let Some(file) = reading.whole.and_then(|id| reading.assembler.take_whole(id)) else {
            return Ok(Found::Gone(due, id));
        };
        // the same upload as before, under a number of its own
        let info = FileInfo { id, spans, others: reading.others, ..FileInfo::clone(&file.info) };
        Ok(Found::Whole(due, Box::new(WholeFile { info: Arc::new(info), failed_before: true, ..file })))
    }

    /// Reads one span of each partition. `false` if the program stops before the end.
    fn read_spans(
        &self,
        entry: &Entry,
        spans: &[Span],
        reading: &mut Reading,
        stop: &AtomicBool,
    ) -> Result<bool, Box<dyn std::error::Error>> {
        let Reading { assembler, others, whole } = reading;
        for span in spans {
            assembler.assign(span.partition, Progress::starting_at(span.first), span.first);
        }
        let starts: Vec<(i32, i64)> = spans.iter().map(|span| (span.partition, span.first)).collect();
        let mut ahead: BTreeMap<i32, i64> = spans.iter().map(|span| (span.partition, span.last)).collect();
        let mut reader = self.log.reader(self.topic, &starts)?;
        while whole.is_none() && !ahead.is_empty() {
            if stop.load(Relaxed) {
                return Ok(false);
            }
            let mut written = Ok(());
            reader.poll(POLL, &mut |event| match event {
                Event::Record(record) => {
                    let Some(&last) = ahead.get(&record.partition) else { return };
                    if record.offset >= last {
                        ahead.remove(&record.partition);
                    }
                    let chunk = self.counters.message(&record).ok();
                    let chunk = chunk.filter(|chunk| entry.is_of(&Version::of(chunk)));
                    let Some(chunk) = chunk.filter(|_| record.offset <= last && whole.is_none()) else { return };
                    if others.iter().any(|run| run.holds(record.partition, record.offset)) {
                        return;
                    }
                    let time_ms = record.timestamp_ms.unwrap_or(0);
                    let (added, result) = assembler.add(record.partition, record.offset, time_ms, &chunk);
                    if let Added::Whole(id) = added {
                        *whole = Some(id);
                    }
                    if result.is_err() {
                        written = result;
                    }
                }
                Event::End { partition, offset, .. } => {
                    if ahead.get(&partition).is_some_and(|last| offset > *last) {
                        ahead.remove(&partition);
                    }
                }
                Event::Assigned(_) | Event::Revoked { .. } => {}
            })?;
            written?;
            if self.budget.filling() > self.filling_limit {
                assembler.spill_down_to(self.filling_limit / 2, self.spill)?;
            }
        }
        Ok(true)
    }
}

/// A file while its chunks are read again.
struct Reading {
    assembler: Assembler,
    /// Where chunks of other uploads of its version are.
    others: Vec<Span>,
    whole: Option<InstanceId>,
}

/// The spans in groups that can be read together, each with one span of a partition at most, in order.
fn rounds(spans: &[Span]) -> Vec<Vec<Span>> {
    let mut rounds: Vec<(HashSet<i32>, Vec<Span>)> = Vec::new();
    for span in spans {
        let round = rounds.iter().position(|(partitions, _)| !partitions.contains(&span.partition));
        let round = round.unwrap_or_else(|| {
            rounds.push(Default::default());
            rounds.len() - 1
        });
        rounds[round].0.insert(span.partition);
        rounds[round].1.push(*span);
    }
    rounds.into_iter().map(|(_, spans)| spans).collect()
}
