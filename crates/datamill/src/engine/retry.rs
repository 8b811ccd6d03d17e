//! Files that failed get another try: only the offsets of their chunks are read, those of many files together.
//!
//! ```text
//!              ┌──Look: partitions are owned, and every 2 s──▶ look.rs: reads the group's state,
//!   read.rs ───┤                                                 or what changed in it
//!              └──Read: up to 2048 entries, in order─────────▶ sweep.rs: reads their offsets, assembles
//!                                                                ──▶ Whole or Gone, one by one ──▶ read.rs
//! ```
//!
//! From there the file goes through the pool and the commit like any other; a commit takes as many answers along as
//! there are. The commit that answers an entry carries a position of the entry's partition, so that only its owner can
//! make it; and the state is read after the partition was assigned, so that what an earlier owner did is seen.
//!
//! Each entry of a partition is tried once after the partition was assigned, and again whenever somebody
//! asks for it (`datamill retry`). A request to run a file again that has a result (`datamill rerun`) holds what an entry
//! does, and goes the same way. A request that comes while its file is tried is kept until that try has
//! its outcome, and the entry is read anew then.
//!
//! Memory: entries that wait have a share of their own, beyond which they stay in the group's state; content counts as
//! that of other files does, and no further file is read while whole ones have half of what holds the reading.

mod look;
mod sweep;
mod thread;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use datamill_broker::{Error, StateChange};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;

use super::entry::{Due, Entry, Place};
use super::in_hand::spot_of_key;
use super::outcome::Outcome;
use super::tails::Begun;
use crate::assemble::{Budget, InstanceId, InstanceIds, WholeFile};
use look::{Known, Look, Seen};
use sweep::Wanted;
pub(super) use thread::RetrySettings;
use thread::{Ask, Awaited, Found, Questions};

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
/// Files that are read together.
const READ_AT_ONCE: usize = 2048;
/// Answers on their way from the retry thread.
const ANSWERS: usize = 256;

/// What the reading thread has to do about a retry.
pub(super) enum Retried {
    Whole(Box<WholeFile>),
    Outcome(Box<Outcome>),
    /// Files that lack chunks, of partitions that were assigned.
    Incomplete(Vec<Due>),
    /// Where the group began to read partitions that were assigned.
    Begun(Vec<(i32, Begun)>),
    /// What the group's state says of ends of a process with files of our partitions in hand.
    InHand(Vec<StateChange>),
    /// The account may not read the group's state.
    Denied(Error),
    /// Somebody removed the entries with these places and paths. Answers the files that were under way.
    Forgotten(Vec<(Place, String)>, Vec<InstanceId>),
}

/// Failures that this process had a hand in: it does not try them again unless somebody asks for it.
#[derive(Debug, Default)]
pub(super) struct Tried(Mutex<FxHashSet<Place>>);

impl Tried {
    pub(super) fn add(&self, places: impl IntoIterator<Item = Place>) {
        self.0.lock().extend(places);
    }

    pub(super) fn contains(&self, place: Place) -> bool {
        self.0.lock().contains(&place)
    }
}

/// A file between its entry and the commit of its outcome.
struct UnderWay {
    id: InstanceId,
    due: Due,
    /// It left the log; until then the retry thread has it.
    is_read: bool,
}

/// The reading thread's side: what is to be retried, and what is under way.
pub(super) struct Retries {
    topic: Arc<str>,
    asks: Sender<Ask>,
    found: Receiver<Found>,
    awaited: Awaited,
    stop: Arc<AtomicBool>,
    budget: Arc<Budget>,
    /// Partitions whose entries were not looked at since they were assigned.
    assigned: BTreeSet<i32>,
    /// Partitions with more entries than had room at the last look.
    further: BTreeSet<i32>,
    last_look: Instant,
    /// What the group's state says of the partitions that are owned is not known yet.
    is_blind: bool,
    /// All of the state has to be read: for requests whose files were under way.
    look_again: bool,
    pending: BTreeMap<Place, Due>,
    is_looking: bool,
    is_reading: bool,
    under_way: HashMap<Place, UnderWay>,
    /// Places of the files that are under way.
    places: HashMap<InstanceId, Place>,
    /// Entries of which somebody asked for another try while one was under way.
    asked_meanwhile: HashSet<Place>,
    /// Entries whose files had an outcome since the last question: an answer to it may not know.
    changed: HashSet<Place>,
    next_id: u64,
}

impl Retries {
    /// With the session's number, so that no number of a file occurs twice.
    pub(super) fn new(
        topic: &Arc<str>,
        budget: &Arc<Budget>,
        session: u64,
    ) -> (Self, impl FnOnce(&RetrySettings<'_>) + Send + use<>) {
        let (asks, asked) = crossbeam_channel::bounded(2);
        let (finds, found) = crossbeam_channel::bounded(ANSWERS);
        let stop = Arc::new(AtomicBool::new(false));
        let awaited = Awaited::default();
        let retries = Self {
            topic: Arc::clone(topic),
            asks,
            found,
            awaited: Arc::clone(&awaited),
            stop: Arc::clone(&stop),
            budget: Arc::clone(budget),
            assigned: BTreeSet::new(),
            further: BTreeSet::new(),
            last_look: Instant::now(),
            is_blind: false,
            look_again: false,
            pending: BTreeMap::new(),
            is_looking: false,
            is_reading: false,
            under_way: HashMap::new(),
            places: HashMap::new(),
            asked_meanwhile: HashSet::new(),
            changed: HashSet::new(),
            next_id: FIRST_ID | session << 40,
        };
        let questions = Questions { asked, finds, awaited, stop, known: Known::default() };
        (retries, move |settings: &RetrySettings<'_>| settings.run(questions))
    }

    /// The partition is owned: its entries are to be retried.
    pub(super) fn assign(&mut self, partition: i32) {
        self.assigned.insert(partition);
        self.is_blind = true;
    }

    /// These partitions are owned no longer. Answers the files that were under way.
    pub(super) fn revoke(&mut self, partitions: &[i32]) -> Vec<InstanceId> {
        let is_gone = |place: &Place| partitions.contains(&place.partition);
        self.assigned.retain(|partition| !partitions.contains(partition));
        self.further.retain(|partition| !partitions.contains(partition));
        self.pending.retain(|place, _| !is_gone(place));
        let gone: Vec<Place> = self.under_way.keys().copied().filter(is_gone).collect();
        gone.into_iter().filter_map(|place| self.end(place)).map(|ended| ended.id).collect()
    }

    /// No further file is tried.
    pub(super) fn stop(&mut self) {
        self.stop.store(true, Relaxed);
        self.assigned.clear();
        self.further.clear();
        self.look_again = false;
        self.pending.clear();
    }

    /// Whether no file waits for its retry. Those that the pool has are the pool's.
    pub(super) fn is_idle(&self) -> bool {
        let asks = self.is_looking || self.is_reading || self.look_again;
        !asks && self.assigned.is_empty() && self.further.is_empty() && self.pending.is_empty()
    }

    /// Whether failed files are known that wait for their retry, or may be found in partitions that were not looked at.
    pub(super) fn has_files(&self) -> bool {
        let has_asked = self.is_blind || self.is_reading;
        has_asked || !(self.assigned.is_empty() && self.further.is_empty() && self.pending.is_empty())
    }

    /// Whether the outcome of a retry is not committed.
    pub(super) fn has_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Whether files are being read.
    pub(super) fn is_reading(&self) -> bool {
        self.is_reading
    }

    /// Whether the entries of a partition that is owned were not looked at. It stays so at a stop.
    pub(super) fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// The entry that a file's outcome answers.
    pub(super) fn answered_by(&self, id: InstanceId) -> Option<&Arc<Entry>> {
        let under_way = self.under_way.get(self.places.get(&id)?)?;
        under_way.is_read.then_some(&under_way.due.entry)
    }

    /// The files have their outcome, durably.
    pub(super) fn finish(&mut self, finished: &InstanceIds) {
        for id in finished {
            if let Some(place) = self.places.get(id).copied() {
                self.end(place);
                self.look_again |= self.asked_meanwhile.remove(&place);
                self.changed.insert(place);
            }
        }
    }

    /// One more file to be retried; it takes the place of one with the same entry that waits.
    pub(super) fn push(&mut self, due: Due) {
        if !self.stop.load(Relaxed) {
            self.pending.insert(due.entry.place, due);
        }
    }

    /// One step: takes what was found, and asks for the next unless too much waits already.
    pub(super) fn step(&mut self, owned: &BTreeMap<i32, u64>, tried: &Tried, crowded: bool) -> Vec<Retried> {
        let mut retried = Vec::new();
        while retried.len() < 4 * ANSWERS
            && let Ok(found) = self.found.try_recv()
        {
            self.take(found, owned, tried, &mut retried);
        }
        if self.stop.load(Relaxed) {
            return retried;
        }
        if !self.is_looking {
            self.look(owned);
        }
        if !self.is_reading && !crowded && !self.pending.is_empty() {
            self.read();
        }
        retried
    }

    fn look(&mut self, owned: &BTreeMap<i32, u64>) {
        let is_time = self.last_look.elapsed() >= LOOK_EVERY;
        // what is under way would come once more
        let goes_on = !self.further.is_empty()
            && self.pending.is_empty()
            && !self.is_reading
            && (self.under_way.is_empty() || is_time);
        let whole = self.look_again || !self.assigned.is_empty() || goes_on;
        if whole || (is_time && !owned.is_empty()) {
            self.last_look = Instant::now();
            self.look_again = false;
            self.changed.clear();
            let assigned = std::mem::take(&mut self.assigned);
            let further = if goes_on { std::mem::take(&mut self.further) } else { BTreeSet::new() };
            let look = Look { assigned, further, owned: owned.clone(), whole };
            // one look and one reading at a time: there is room
            self.is_looking = self.asks.try_send(Ask::Look(look)).is_ok();
        }
    }

    fn read(&mut self) {
        let mut files = Vec::with_capacity(self.pending.len().min(READ_AT_ONCE));
        let mut kept = Vec::new();
        while files.len() < READ_AT_ONCE
            && let Some((place, due)) = self.pending.pop_first()
        {
            // one try of an entry at a time
            if self.under_way.contains_key(&place) {
                kept.push((place, due));
                continue;
            }
            self.next_id += 1;
            let id = InstanceId(self.next_id);
            self.awaited.lock().insert(id);
            self.places.insert(id, place);
            self.under_way.insert(place, UnderWay { id, due: due.clone(), is_read: false });
            files.push(Wanted { due, id });
        }
        self.pending.extend(kept);
        self.is_reading = !files.is_empty() && self.asks.try_send(Ask::Read(files)).is_ok();
    }

    /// Forgets a file that is under way.
    fn end(&mut self, place: Place) -> Option<UnderWay> {
        let ended = self.under_way.remove(&place)?;
        self.places.remove(&ended.id);
        self.awaited.lock().remove(&ended.id);
        Some(ended)
    }

    /// The file has left the log, if anybody still waits for it.
    fn leaves_the_log(&mut self, id: InstanceId) -> Option<&Due> {
        self.awaited.lock().remove(&id);
        let under_way = self.under_way.get_mut(self.places.get(&id)?)?;
        under_way.is_read = true;
        Some(&under_way.due)
    }

    fn take(&mut self, found: Found, owned: &BTreeMap<i32, u64>, tried: &Tried, retried: &mut Vec<Retried>) {
        match found {
            Found::Seen(seen) => {
                self.is_looking = false;
                // one look that takes long does not follow upon another: in between, no file may wait for its retry
                self.last_look = Instant::now();
                if let Some(seen) = seen.filter(|_| !self.stop.load(Relaxed)) {
                    self.see(seen, owned, tried, retried);
                }
            }
            Found::Denied(error) => {
                self.is_looking = false;
                retried.push(Retried::Denied(error));
            }
            Found::Whole(id, whole) => {
                if self.leaves_the_log(id).is_some() {
                    retried.push(Retried::Whole(whole));
                }
            }
            Found::Gone(id) => {
                if let Some(due) = self.leaves_the_log(id) {
                    let entry = Arc::clone(&due.entry);
                    retried.push(Retried::Outcome(Box::new(Outcome::expired(entry, id, &self.budget))));
                }
            }
            Found::Unreadable(id) => {
                if let Some(place) = self.places.get(&id).copied() {
                    self.end(place);
                    tried.add([place]);
                }
            }
            Found::Read => {
                self.is_reading = false;
                // what was not answered, as the program stops
                let left: Vec<InstanceId> = self.awaited.lock().iter().copied().collect();
                let left: Vec<Place> = left.iter().filter_map(|id| self.places.get(id).copied()).collect();
                left.into_iter().for_each(|place| drop(self.end(place)));
            }
        }
    }

    fn see(&mut self, seen: Seen, owned: &BTreeMap<i32, u64>, tried: &Tried, retried: &mut Vec<Retried>) {
        let is_owner = |due: &Due| owned.get(&due.entry.partition()) == Some(&due.assignment);
        let Seen { due, further, incomplete, begun, removed, ends } = seen;
        let is_ours = |(change, assignment): &(StateChange, u64)| {
            spot_of_key(&self.topic, &change.key).is_some_and(|spot| owned.get(&spot.partition) == Some(assignment))
        };
        retried.push(Retried::InHand(ends.into_iter().filter(is_ours).map(|(change, _)| change).collect()));
        self.is_blind = !self.assigned.is_empty();
        self.further.extend(further.into_iter().filter(|partition| owned.contains_key(partition)));
        let of_key = |key: String| Place::of_key(&self.topic, &key).map(|(place, path)| (place, path.to_owned()));
        let removed: Vec<(Place, String)> = removed.into_iter().filter_map(of_key).collect();
        let forgotten = self.forget(&removed);
        let (mut waiting, mut requested, mut expire, mut rerun) = (0, 0, 0, 0);
        for due in due.into_iter().filter(is_owner) {
            let (place, is_request) = (due.entry.place, !due.entry.requests.is_empty());
            if let Some(under_way) = self.under_way.get(&place) {
                // what was read of it is not what holds after its outcome
                if is_request && under_way.due.entry.requests != due.entry.requests {
                    self.asked_meanwhile.insert(place);
                }
            } else if self.changed.contains(&place) {
                self.look_again |= is_request;
            } else if is_request || !tried.contains(place) {
                if due.entry.is_foreign {
                    expire += 1;
                } else if !due.entry.has_failed {
                    rerun += 1;
                } else {
                    waiting += 1;
                    requested += usize::from(is_request);
                }
                self.push(due);
            }
        }
        if waiting > 0 {
            let more = if self.further.is_empty() { "" } else { "; more come after these" };
            tracing::info!(files = waiting, requested, "files that failed earlier are tried again{more}");
        }
        if rerun > 0 {
            let more = if self.further.is_empty() { "" } else { "; more come after these" };
            tracing::info!(files = rerun, "files that have a result are run again, as it was asked for{more}");
        }
        if expire > 0 {
            tracing::info!(files = expire, "files of the topic that was deleted cannot be tried any more: they expire");
        }
        retried.push(Retried::Forgotten(removed, forgotten));
        retried.push(Retried::Incomplete(incomplete.into_iter().filter(is_owner).collect()));
        let begun = begun.into_iter().filter(|(partition, _)| owned.contains_key(partition)).collect();
        retried.push(Retried::Begun(begun));
    }

    /// These entries are gone. The program's own commits remove entries as well: of those nothing is left here.
    fn forget(&mut self, removed: &[(Place, String)]) -> Vec<InstanceId> {
        let mut gone = Vec::new();
        for (place, _) in removed {
            self.pending.remove(place);
            gone.extend(self.end(*place).map(|ended| ended.id));
        }
        gone
    }
}

impl Drop for Retries {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}
