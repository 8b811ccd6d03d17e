//! Files that failed get another try: only the offsets of their chunks are read.
//!
//! ```text
//!              ┌──Look: partitions are owned, and every 2 s──▶ retry thread: reads the group's state,
//!   read.rs ───┤                                                 or what changed in it
//!              └──Read: one entry at a time──────────────────▶ reads its offsets, assembles ──▶ Whole or Gone ──▶ read.rs
//! ```
//!
//! From there the file goes through the pool and the commit like any other. The commit that answers an
//! entry carries a position of the entry's partition, so that only its owner can make it; and the state
//! is read after the partition was assigned, so that what an earlier owner did is seen.
//!
//! Each entry of a partition is tried once after the partition was assigned, and again whenever somebody
//! asks for it (`datamill retry`). A request that comes while its file is tried is kept until that try has
//! its outcome, and the entry is read anew then.

mod thread;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use super::entry::{Due, Entry};
use super::outcome::Outcome;
use super::tails::Begun;
use crate::assemble::{Budget, InstanceId, InstanceIds, WholeFile};
pub(super) use thread::RetrySettings;
use thread::{Ask, Found, Look, Seen};

/// What is done with the files that failed in earlier runs of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum RetryFailed {
    /// Each is tried once, beside the files that come in.
    #[default]
    Now,
    /// Each is tried once, and the program ends without reading anything else.
    Only,
    /// They are left alone, but for those of which somebody asks for another try.
    No,
}

/// How often it is looked for requests.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Begins the numbers of files that are retried: no other instance has such a number.
const FIRST_ID: u64 = 1 << 63;

/// What the reading thread has to do about a retry.
pub(super) enum Retried {
    Whole(Box<WholeFile>),
    Outcome(Box<Outcome>),
    /// Files that lack chunks, of partitions that were assigned.
    Incomplete(Vec<Due>),
    /// Where the group began to read partitions that were assigned.
    Begun(Vec<(i32, Begun)>),
    /// Somebody removed the entries of these keys. Answers the files that were under way.
    Forgotten(Vec<String>, Vec<InstanceId>),
}

/// The reading thread's side: what is to be retried, and what is under way.
pub(super) struct Retries {
    asks: Sender<Ask>,
    found: Receiver<Found>,
    stop: Arc<AtomicBool>,
    budget: Arc<Budget>,
    /// Partitions whose entries were not looked at since they were assigned.
    assigned: BTreeMap<i32, u64>,
    last_look: Instant,
    /// What the group's state says of the partitions that are owned is not known yet.
    is_blind: bool,
    /// All of the state has to be read: for requests whose files were under way.
    look_again: bool,
    pending: VecDeque<Due>,
    asked: bool,
    /// Files between the log and their commit.
    running: HashMap<InstanceId, Arc<Entry>>,
    /// Keys of entries of which somebody asked for another try while one was under way.
    asked_meanwhile: HashSet<String>,
    /// Keys of entries whose files had an outcome since the last question: an answer to it may not know.
    changed: HashSet<String>,
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
            assigned: BTreeMap::new(),
            last_look: Instant::now(),
            is_blind: false,
            look_again: false,
            pending: VecDeque::new(),
            asked: false,
            running: HashMap::new(),
            asked_meanwhile: HashSet::new(),
            changed: HashSet::new(),
            next_id: FIRST_ID | session << 40,
        };
        (retries, move |settings: &RetrySettings<'_>| settings.run(&asked, &finds, &stop))
    }

    /// The partition is owned: its entries are to be retried.
    pub(super) fn assign(&mut self, partition: i32, assignment: u64) {
        self.assigned.insert(partition, assignment);
        self.is_blind = true;
    }

    /// These partitions are owned no longer. Answers the files that were under way.
    pub(super) fn revoke(&mut self, partitions: &[i32]) -> Vec<InstanceId> {
        self.assigned.retain(|partition, _| !partitions.contains(partition));
        self.pending.retain(|due| !partitions.contains(&due.entry.partition()));
        let gone = self.running.extract_if(|_, entry| partitions.contains(&entry.partition()));
        gone.map(|(id, _)| id).collect()
    }

    /// No further file is tried.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Relaxed);
        self.assigned.clear();
        self.look_again = false;
        self.pending.clear();
    }

    /// Whether no file waits for its retry. Those that the pool has are the pool's.
    pub(super) fn is_idle(&self) -> bool {
        !self.asked && !self.look_again && self.assigned.is_empty() && self.pending.is_empty()
    }

    /// Whether the entries of a partition that is owned were not looked at. It stays so at a stop.
    pub(super) fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// The entry that a file's outcome answers.
    pub(super) fn answered_by(&self, id: InstanceId) -> Option<&Arc<Entry>> {
        self.running.get(&id)
    }

    /// The files have their outcome, durably.
    pub(super) fn finish(&mut self, finished: &InstanceIds) {
        for (_, entry) in self.running.extract_if(|id, _| finished.contains(id)) {
            self.look_again |= self.asked_meanwhile.remove(&entry.key);
            self.changed.insert(entry.key.clone());
        }
    }

    /// One more file to be retried; it takes the place of one with the same entry that waits.
    pub(super) fn push(&mut self, due: Due) {
        if self.stop.load(Relaxed) {
            return;
        }
        match self.pending.iter_mut().find(|waiting| waiting.entry.key == due.entry.key) {
            Some(waiting) => *waiting = due,
            None => self.pending.push_back(due),
        }
    }

    /// One step: takes what was found, and asks for the next unless too much waits already.
    pub(super) fn step(&mut self, owned: &BTreeMap<i32, u64>, tried: &HashSet<String>, crowded: bool) -> Vec<Retried> {
        let retried = self.found.try_recv().map_or_else(
            |_| Vec::new(),
            |found| {
                self.asked = false;
                self.take(found, owned, tried)
            },
        );
        if self.asked || self.stop.load(Relaxed) {
            return retried;
        }
        let whole = self.look_again || !self.assigned.is_empty();
        if whole || (self.last_look.elapsed() >= LOOK_EVERY && !owned.is_empty()) {
            self.last_look = Instant::now();
            self.look_again = false;
            self.changed.clear();
            let assigned = std::mem::take(&mut self.assigned).into_keys().collect();
            self.ask(Ask::Look(Look { assigned, owned: owned.clone(), whole }));
        } else if !crowded && let Some(due) = self.pending.pop_front() {
            self.next_id += 1;
            self.ask(Ask::Read(due, InstanceId(self.next_id)));
        }
        retried
    }

    fn ask(&mut self, ask: Ask) {
        // one question at a time: there is room
        self.asked = self.asks.try_send(ask).is_ok();
    }

    fn take(&mut self, found: Found, owned: &BTreeMap<i32, u64>, tried: &HashSet<String>) -> Vec<Retried> {
        let is_owner = |due: &Due| owned.get(&due.entry.partition()) == Some(&due.assignment);
        if self.stop.load(Relaxed) {
            return Vec::new();
        }
        match found {
            Found::Seen(Seen { due, incomplete, begun, removed }) => {
                self.is_blind = !self.assigned.is_empty();
                let forgotten = self.forget(&removed);
                let (mut waiting, mut requested) = (0, 0);
                for due in due.into_iter().filter(is_owner) {
                    let (key, is_request) = (&due.entry.key, !due.entry.requests.is_empty());
                    let is_running = self.running.values().any(|entry| entry.key == *key);
                    if is_running || self.changed.contains(key) {
                        // what was read of it is not what holds after its outcome
                        if is_request && is_running {
                            self.asked_meanwhile.insert(key.clone());
                        }
                        self.look_again |= is_request && !is_running;
                    } else if is_request || !tried.contains(key) {
                        waiting += 1;
                        requested += usize::from(is_request);
                        self.push(due);
                    }
                }
                if waiting > 0 {
                    tracing::info!(files = waiting, requested, "files that failed earlier are tried again");
                }
                let incomplete = incomplete.into_iter().filter(is_owner).collect();
                let begun = begun.into_iter().filter(|(partition, _)| owned.contains_key(partition)).collect();
                vec![Retried::Forgotten(removed, forgotten), Retried::Incomplete(incomplete), Retried::Begun(begun)]
            }
            Found::Whole(due, whole) if is_owner(&due) => {
                self.running.insert(whole.info.id, due.entry);
                vec![Retried::Whole(whole)]
            }
            Found::Gone(due, id) if is_owner(&due) => {
                self.running.insert(id, Arc::clone(&due.entry));
                vec![Retried::Outcome(Box::new(Outcome::expired(due.entry, id, &self.budget)))]
            }
            Found::Whole(..) | Found::Gone(..) | Found::Nothing => Vec::new(),
        }
    }

    /// These entries are gone. The program's own commits remove entries as well: of those nothing is left here.
    fn forget(&mut self, removed: &[String]) -> Vec<InstanceId> {
        if removed.is_empty() {
            return Vec::new();
        }
        let removed: HashSet<&String> = removed.iter().collect();
        self.pending.retain(|due| !removed.contains(&due.entry.key));
        let gone = self.running.extract_if(|_, entry| removed.contains(&entry.key));
        gone.map(|(id, _)| id).collect()
    }
}

impl Drop for Retries {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}
