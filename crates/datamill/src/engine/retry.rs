//! Files that failed in an earlier run get another try: only the offsets of their chunks are read.
//!
//! ```text
//!              ┌──Load: a partition is owned──▶ retry thread: reads the group's state
//!   read.rs ───┤                                     │
//!              └──Read: one entry at a time───▶ reads its offsets, assembles ──▶ Whole or Gone ──▶ read.rs
//! ```
//!
//! From there the file goes through the pool and the commit like any other. The commit that answers an
//! entry carries a position of the entry's partition, so that only its owner can make it; and the state
//! is read after the partition was assigned, so that what an earlier owner did is seen.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use datamill_broker::{ErrorKind, Event, Log};
use datamill_wire::Chunk;

use super::entry::{Due, Entry};
use super::state::GroupState;
use super::work::Outcome;
use crate::assemble::{Added, Assembler, Budget, FileInfo, InstanceId, SpillFolder, Version, WholeFile};
use crate::progress::Progress;
use crate::report::Counters;

/// What is done with the files that failed in earlier runs of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum RetryFailed {
    /// Each is tried once, beside the files that come in.
    #[default]
    Now,
    /// Each is tried once, and the program ends without reading anything else.
    Only,
    /// They are left alone.
    No,
}

/// How often the group's state is asked for while the log does not answer, and the wait between.
const LOADS: u32 = 12;
const LOAD_WAIT: Duration = Duration::from_secs(1);
/// How long the reading of one file waits for records at a time.
const POLL: Duration = Duration::from_millis(100);
/// Begins the numbers of files that are retried: no other instance has such a number.
const FIRST_ID: u64 = 1 << 63;

/// What the retry thread is asked.
enum Ask {
    /// The entries of these partitions, with their assignment numbers.
    Load(BTreeMap<i32, u64>),
    /// The file of an entry.
    Read(Due, InstanceId),
}

/// What it answers.
enum Found {
    Entries(Vec<Due>),
    Whole(Due, Box<WholeFile>),
    /// Chunks are gone from the log.
    Gone(Due, InstanceId),
    /// It could not be told; said already.
    Nothing,
}

/// What the reading thread has to do about a retry.
pub(super) enum Retried {
    Whole(Box<WholeFile>),
    Outcome(Box<Outcome>),
}

/// The reading thread's side: what is to be retried, and what is under way.
pub(super) struct Retries {
    asks: Sender<Ask>,
    found: Receiver<Found>,
    stop: Arc<AtomicBool>,
    budget: Arc<Budget>,
    to_load: BTreeMap<i32, u64>,
    pending: VecDeque<Due>,
    asked: bool,
    /// Files between the log and their commit.
    running: HashMap<InstanceId, Arc<Entry>>,
    next_id: u64,
}

impl Retries {
    /// With the session's number, so that no number of a file occurs twice.
    pub(super) fn new(budget: &Arc<Budget>, session: u64) -> (Self, impl FnOnce(&RetrySettings<'_>) + Send + use<>) {
        let (asks, asked) = crossbeam_channel::bounded(1);
        let (finds, found) = crossbeam_channel::bounded(1);
        let stop = Arc::new(AtomicBool::new(false));
        let retries = Self {
            asks,
            found,
            stop: Arc::clone(&stop),
            budget: Arc::clone(budget),
            to_load: BTreeMap::new(),
            pending: VecDeque::new(),
            asked: false,
            running: HashMap::new(),
            next_id: FIRST_ID | session << 40,
        };
        let thread = move |settings: &RetrySettings<'_>| {
            while let Ok(ask) = asked.recv() {
                if finds.send(settings.answer(ask, &stop)).is_err() {
                    return;
                }
            }
        };
        (retries, thread)
    }

    /// The partition is owned: its entries are to be retried.
    pub(super) fn assign(&mut self, partition: i32, assignment: u64) {
        self.to_load.insert(partition, assignment);
    }

    /// These partitions are owned no longer. Answers the files that were under way.
    pub(super) fn revoke(&mut self, partitions: &[i32]) -> Vec<InstanceId> {
        self.to_load.retain(|partition, _| !partitions.contains(partition));
        self.pending.retain(|due| !partitions.contains(&due.entry.partition()));
        let gone = self.running.extract_if(|_, entry| partitions.contains(&entry.partition()));
        gone.map(|(id, _)| id).collect()
    }

    /// No further file is tried.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Relaxed);
        self.to_load.clear();
        self.pending.clear();
    }

    /// Whether no file waits for its retry. Those that the pool has are the pool's.
    pub(super) fn is_idle(&self) -> bool {
        !self.asked && self.to_load.is_empty() && self.pending.is_empty()
    }

    /// The entry that a file's outcome answers.
    pub(super) fn answered_by(&self, id: InstanceId) -> Option<&Arc<Entry>> {
        self.running.get(&id)
    }

    /// The files have their outcome, durably.
    pub(super) fn finish(&mut self, finished: &HashSet<InstanceId>) {
        self.running.retain(|id, _| !finished.contains(id));
    }

    /// One step: takes what was found, and asks for the next unless too much waits already.
    pub(super) fn step(
        &mut self,
        owned: &BTreeMap<i32, u64>,
        tried: &HashSet<String>,
        crowded: bool,
    ) -> Option<Retried> {
        let retried = self.found.try_recv().ok().and_then(|found| {
            self.asked = false;
            self.take(found, owned, tried)
        });
        if !self.asked && !self.to_load.is_empty() {
            let partitions = std::mem::take(&mut self.to_load);
            self.ask(Ask::Load(partitions));
        } else if !self.asked
            && !crowded
            && let Some(due) = self.pending.pop_front()
        {
            self.next_id += 1;
            self.ask(Ask::Read(due, InstanceId(self.next_id)));
        }
        retried
    }

    fn ask(&mut self, ask: Ask) {
        // one question at a time: there is room
        self.asked = self.asks.try_send(ask).is_ok();
    }

    fn take(&mut self, found: Found, owned: &BTreeMap<i32, u64>, tried: &HashSet<String>) -> Option<Retried> {
        let is_owner = |due: &Due| owned.get(&due.entry.partition()) == Some(&due.assignment);
        if self.stop.load(Relaxed) {
            return None;
        }
        match found {
            Found::Entries(entries) => {
                let entries = entries.into_iter().filter(|due| is_owner(due) && !tried.contains(&due.entry.key));
                self.pending.extend(entries);
                if !self.pending.is_empty() {
                    tracing::info!(files = self.pending.len(), "files that failed earlier are tried again");
                }
                None
            }
            Found::Whole(due, whole) => is_owner(&due).then(|| {
                self.running.insert(whole.info.id, due.entry);
                Retried::Whole(whole)
            }),
            Found::Gone(due, id) => is_owner(&due).then(|| {
                self.running.insert(id, Arc::clone(&due.entry));
                Retried::Outcome(Box::new(Outcome::expired(due.entry, id, &self.budget)))
            }),
            Found::Nothing => None,
        }
    }
}

impl Drop for Retries {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// What the retry thread works with.
pub(super) struct RetrySettings<'a> {
    pub(super) log: &'a dyn Log,
    pub(super) topic: &'a str,
    pub(super) group: &'a str,
    pub(super) state: &'a GroupState<'a>,
    pub(super) budget: Arc<Budget>,
    pub(super) spill: &'a SpillFolder,
    /// Bytes of filling files above which this one goes to disk.
    pub(super) filling_limit: usize,
    pub(super) counters: &'a Counters,
}

impl RetrySettings<'_> {
    fn answer(&self, ask: Ask, stop: &AtomicBool) -> Found {
        match ask {
            Ask::Load(partitions) => self.load(&partitions, stop),
            Ask::Read(due, id) => {
                let path = due.entry.path().to_owned();
                self.read(due, id, stop).unwrap_or_else(|error| {
                    tracing::error!(topic = self.topic, file = %path, error = %crate::report::chain(error.as_ref()),
                        "a file that failed cannot be read again; it is tried at the next start");
                    Found::Nothing
                })
            }
        }
    }

    fn load(&self, partitions: &BTreeMap<i32, u64>, stop: &AtomicBool) -> Found {
        for attempt in 1.. {
            let error = match self.state.load() {
                Ok(state) => return Found::Entries(self.entries(&state, partitions)),
                Err(error) => error,
            };
            if stop.load(Relaxed) {
                break;
            }
            if error.kind() != ErrorKind::Retry || attempt == LOADS {
                tracing::error!(group = self.group, error = %crate::report::chain(&error),
                    "the failed files of the group cannot be looked up; they are tried at the next start");
                break;
            }
            std::thread::sleep(LOAD_WAIT);
        }
        Found::Nothing
    }

    fn entries(&self, state: &BTreeMap<String, Vec<u8>>, partitions: &BTreeMap<i32, u64>) -> Vec<Due> {
        let prefix = Entry::prefix(self.topic);
        let ours = state.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        let entries = ours.filter_map(|(key, value)| {
            let entry = Entry::parse(key, value);
            if entry.is_none() {
                tracing::warn!(group = self.group, key, "an entry of the group's state is not understood; left alone");
            }
            entry.filter(Entry::can_be_retried)
        });
        let due = entries.filter_map(|entry| {
            let assignment = *partitions.get(&entry.partition())?;
            Some(Due { entry: Arc::new(entry), assignment })
        });
        due.collect()
    }

    fn read(&self, due: Due, id: InstanceId, stop: &AtomicBool) -> Result<Found, Box<dyn std::error::Error>> {
        let spans = due.entry.spans();
        for span in &spans {
            if self.log.offsets(self.topic, span.partition)?.first > span.first {
                return Ok(Found::Gone(due, id));
            }
        }
        let mut assembler = Assembler::new(Box::new(|_| true), Arc::clone(&self.budget));
        for span in &spans {
            assembler.assign(span.partition, Progress::starting_at(span.first), span.first);
        }
        let starts: Vec<(i32, i64)> = spans.iter().map(|span| (span.partition, span.first)).collect();
        let mut ahead: BTreeMap<i32, i64> = spans.iter().map(|span| (span.partition, span.last)).collect();
        let mut reader = self.log.reader(self.topic, &starts)?;
        let mut whole = None;
        while whole.is_none() && !ahead.is_empty() {
            if stop.load(Relaxed) {
                return Ok(Found::Nothing);
            }
            let mut written = Ok(());
            reader.poll(POLL, &mut |event| match event {
                Event::Record(record) => {
                    let Some(&last) = ahead.get(&record.partition) else { return };
                    if record.offset >= last {
                        ahead.remove(&record.partition);
                    }
                    let value = record.value.unwrap_or_default();
                    self.counters.read(1, value.len() as u64);
                    let chunk = Chunk::decode(value).ok().filter(|chunk| due.entry.is_of(&Version::of(chunk)));
                    let Some(chunk) = chunk.filter(|_| record.offset <= last && whole.is_none()) else { return };
                    let time_ms = record.timestamp_ms.unwrap_or(0);
                    let (added, result) = assembler.add(record.partition, record.offset, time_ms, &chunk);
                    if let Added::Whole(id) = added {
                        whole = Some(id);
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
        let Some(file) = whole.and_then(|id| assembler.take_whole(id)) else {
            return Ok(Found::Gone(due, id));
        };
        // the same upload as before, under a number of its own
        let info = FileInfo { id, spans, ..FileInfo::clone(&file.info) };
        Ok(Found::Whole(due, Box::new(WholeFile { info: Arc::new(info), failed_before: true, ..file })))
    }
}
