//! The look at the group's state: which failed files are to be tried.
//!
//! A group may have very many failed files. The state is read as it comes, only what is to be tried is kept, and of
//! that no more than has room: the files that come first in the topic. The next look, once these are tried, gives the
//! ones behind them.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use datamill_broker::{ErrorKind, StateChange, StateMark};
use rustc_hash::{FxBuildHasher, FxHashSet};

use super::thread::RetrySettings;
use crate::engine::entry::{Due, Entry, Place};
use crate::engine::failed::retry_command;
use crate::engine::in_hand;
use crate::engine::purpose::Answers;
use crate::engine::rerun;
use crate::engine::source::Source;
use crate::engine::tails::Begun;

/// How often the group's state is asked for while the log does not answer, and the wait between.
const LOOKS: u32 = 12;
const LOOK_WAIT: Duration = Duration::from_secs(1);

/// Which entries are asked for.
pub(super) struct Look {
    /// Partitions of which all entries are, for the first time since they were assigned.
    pub(super) assigned: BTreeSet<i32>,
    /// Partitions of which further entries are.
    pub(super) further: BTreeSet<i32>,
    /// Partitions with their assignment numbers: entries that somebody asks for.
    pub(super) owned: BTreeMap<i32, u64>,
    /// All of the state has to be read, not only what changed.
    pub(super) whole: bool,
}

/// Entries of the group's state.
#[derive(Default)]
pub(super) struct Seen {
    /// Those that are to be tried, in the order of their places: of partitions that were assigned, and those that
    /// somebody asks for.
    pub(super) due: Vec<Due>,
    /// There are more of them, in these partitions.
    pub(super) further: BTreeSet<i32>,
    /// Those that lack chunks, of partitions that were assigned.
    pub(super) incomplete: Vec<Due>,
    /// Where the group began to read partitions that were assigned.
    pub(super) begun: Vec<(i32, Begun)>,
    /// Keys of those that were removed since the last look.
    pub(super) removed: Vec<String>,
    /// What the state says of ends of a process with a file in hand, of partitions that are owned, with the numbers of
    /// their assignments.
    pub(super) ends: Vec<(StateChange, u64)>,
}

/// What is known from one look to the next.
#[derive(Default)]
pub(super) struct Known {
    mark: StateMark,
    /// Keys of the requests, by the place of their entry.
    requests: HashMap<Place, BTreeSet<String>>,
    /// Hashes of the keys of requests that were answered. A key that is there again asks for nothing: whoever asked did
    /// not know that it was written, and wrote it once more.
    answered: FxHashSet<u64>,
    /// Such keys.
    stale: Vec<String>,
    /// The topic's id that entries without one have, by partition.
    adopted: BTreeMap<i32, String>,
}

impl Known {
    /// Takes a change of the state that tells the id of what has none. Answers whether it is such a change.
    fn adopts(&mut self, source: &Source, key: &str, value: Option<&[u8]>) -> bool {
        let Some(partition) = source.adopted_partition(key) else { return false };
        match value.and_then(|value| std::str::from_utf8(value).ok()) {
            Some(id) => drop(self.adopted.insert(partition, id.to_owned())),
            None => drop(self.adopted.remove(&partition)),
        }
        true
    }

    /// Takes a change of the state, if it is about a request. Answers the place of its entry.
    fn request(&mut self, topic: &str, key: &str, is_there: bool) -> Option<Place> {
        let place = Place::of_request(topic, key)?;
        let keys = self.requests.entry(place).or_default();
        let hash = FxBuildHasher.hash_one(key);
        if !is_there {
            keys.remove(key);
            self.answered.insert(hash);
        } else if self.answered.contains(&hash) {
            self.stale.push(key.to_owned());
        } else {
            keys.insert(key.to_owned());
        }
        if keys.is_empty() {
            self.requests.remove(&place);
        }
        Some(place)
    }
}

/// What a look at the whole state gives, while it is read.
struct Gathered<'a> {
    look: &'a Look,
    source: &'a Source,
    unasked: bool,
    /// Bytes of entries that have room.
    room: usize,
    bytes: usize,
    due: BTreeMap<Place, Entry>,
    /// Files with a result that somebody asks to run again.
    reruns: BTreeMap<Place, Entry>,
    /// Places of failed files that cannot be tried, though somebody asks for it.
    hopeless: HashSet<Place>,
    /// Places whose entries are gone, by the changes that were read so far.
    removed: FxHashSet<Place>,
    /// Places of which an earlier reading said so: they take no room from others.
    gone: &'a FxHashSet<Place>,
    further: BTreeSet<i32>,
    incomplete: BTreeMap<Place, Entry>,
    begun: BTreeMap<i32, Begun>,
    /// Places of entries that cannot be tried.
    given_up: HashSet<Place>,
    /// Places of entries that are tried where somebody asks for it, and not otherwise.
    left_alone: HashSet<Place>,
    /// See [`Seen::ends`].
    ends: BTreeMap<String, (Vec<u8>, u64)>,
    /// Places of entries that can be tried and that somebody asks for.
    answerable: HashSet<Place>,
    /// Places of entries that another program of the group answers, and whether they were assigned now.
    of_others: HashMap<Place, bool>,
    answers: &'a Answers,
}

impl<'a> Gathered<'a> {
    fn new(settings: &'a RetrySettings<'_>, look: &'a Look, gone: &'a FxHashSet<Place>) -> Self {
        Self {
            look,
            gone,
            removed: FxHashSet::default(),
            source: settings.source,
            unasked: settings.unasked,
            room: settings.entries_bytes,
            bytes: 0,
            due: BTreeMap::new(),
            reruns: BTreeMap::new(),
            hopeless: HashSet::new(),
            further: BTreeSet::new(),
            incomplete: BTreeMap::new(),
            begun: BTreeMap::new(),
            given_up: HashSet::new(),
            left_alone: HashSet::new(),
            ends: BTreeMap::new(),
            answerable: HashSet::new(),
            of_others: HashMap::new(),
            answers: &settings.answers,
        }
    }

    /// The entry of this place is what it is now, or gone. One that was tried counts where somebody asks for it.
    fn entry(&mut self, at: &At<'_>, key: &str, value: Option<&[u8]>) {
        let place = at.place;
        match value {
            Some(_) => drop(self.removed.remove(&place)),
            None => drop(self.removed.insert(place)),
        }
        if self.gone.contains(&place) {
            return;
        }
        if let Some(before) = self.due.remove(&place) {
            self.bytes -= before.bytes();
        }
        self.incomplete.remove(&place);
        self.hopeless.remove(&place);
        self.given_up.remove(&place);
        self.left_alone.remove(&place);
        self.answerable.remove(&place);
        self.of_others.remove(&place);
        let Some(value) = value.filter(|_| self.look.owned.contains_key(&place.partition)) else { return };
        let is_new = self.look.assigned.contains(&place.partition);
        let is_further = self.look.further.contains(&place.partition);
        let is_next = (is_new || is_further) && !at.is_tried;
        if !at.is_asked_for && !is_next && !is_new {
            return;
        }
        let entry = Entry::parse(&self.source.name, key, value).map(|entry| entry.for_a_try(self.source.id.as_ref()));
        let Some(mut entry) = entry else {
            tracing::warn!(key, "an entry of the group's state is not understood; left alone");
            return;
        };
        if !self.answers.is_mine(entry.by()) {
            self.of_others.insert(place, is_new);
            return;
        }
        entry.is_foreign = !self.source.is_same(entry.topic_id(), at.adopted);
        // one of another topic gets its outcome without a look at its offsets
        let is_given_up = if entry.is_foreign { entry.is_expired() } else { !entry.can_be_retried() };
        if is_given_up {
            self.hopeless.insert(place);
            if is_new {
                self.given_up.insert(place);
                if entry.lacks_chunks() {
                    self.incomplete.insert(place, entry);
                }
            }
        } else if !at.is_asked_for && !entry.is_foreign && entry.waits_for_a_request() {
            if is_new {
                self.left_alone.insert(place);
            }
        } else if at.is_asked_for || is_next && (self.unasked || entry.is_foreign) {
            if at.is_asked_for {
                self.answerable.insert(place);
            }
            self.bytes += entry.bytes();
            self.due.insert(place, entry);
            self.make_room();
        }
    }

    /// Somebody asks to run a file again that has a result.
    fn rerun(&mut self, key: &str, value: &[u8], adopted: &BTreeMap<i32, String>) {
        let Some(entry) = rerun::entry(&self.source.name, key, value) else {
            tracing::warn!(key, "a request in the group's state is not understood; left out");
            return;
        };
        let mut entry = entry.for_a_try(self.source.id.as_ref());
        let place = entry.place;
        if !self.look.owned.contains_key(&place.partition) {
            return;
        }
        if !self.answers.is_mine(entry.by()) {
            self.of_others.entry(place).or_insert(false);
            return;
        }
        let adopted = adopted.get(&place.partition).map(String::as_str);
        entry.is_foreign = !self.source.is_same(entry.topic_id(), adopted);
        self.bytes += entry.bytes();
        if let Some(before) = self.reruns.insert(place, entry) {
            self.bytes -= before.bytes();
        }
        self.make_room();
    }

    /// Leaves out the files that come last in the topic where there is no room for them.
    fn make_room(&mut self) {
        while self.bytes > self.room && self.due.len() + self.reruns.len() > 1 {
            let is_rerun = self.reruns.last_key_value().map(|(place, _)| place)
                > self.due.last_key_value().map(|(place, _)| place);
            let last = if is_rerun { self.reruns.pop_last() } else { self.due.pop_last() };
            if let Some((last, entry)) = last {
                self.bytes -= entry.bytes();
                self.further.insert(last.partition);
            }
        }
    }

    /// All that are to be tried: of a file that has failed when it was run again, its entry.
    fn all_due(&mut self) -> BTreeMap<Place, Entry> {
        let mut due = std::mem::take(&mut self.due);
        for (place, mut asked) in std::mem::take(&mut self.reruns) {
            asked.has_failed = self.hopeless.contains(&place);
            match due.entry(place) {
                Slot::Occupied(mut failed) => failed.get_mut().runs_again(&asked),
                Slot::Vacant(none) => drop(none.insert(asked)),
            }
        }
        due
    }

    /// Whether entries were left out for want of room that had some only because those in it are gone: a log may tell
    /// of an entry, and that it was removed much later.
    fn hides_some(&self) -> bool {
        !self.further.is_empty() && self.removed.iter().any(|place| !self.gone.contains(place))
    }

    /// Whether an entry is not here that somebody asks for, though there would have been room for it.
    fn lacks(&self, requests: &HashMap<Place, BTreeSet<String>>) -> bool {
        let mut ours = requests.keys().filter(|place| self.look.owned.contains_key(&place.partition));
        self.further.is_empty()
            && ours.any(|place| !self.due.contains_key(place) && !self.of_others.contains_key(place))
    }

    /// Takes a change of the state, if it is about an end of a process with a file in hand.
    fn end(&mut self, key: &str, value: Option<&[u8]>) -> bool {
        let Some(spot) = in_hand::spot_of_key(&self.source.name, key) else { return false };
        match value.zip(self.look.owned.get(&spot.partition)) {
            Some((value, assignment)) => drop(self.ends.insert(key.to_owned(), (value.to_vec(), *assignment))),
            None => drop(self.ends.remove(key)),
        }
        true
    }

    fn begun(&mut self, key: &str, value: Option<&[u8]>, adopted: &BTreeMap<i32, String>) {
        let partition = Begun::partition(&self.source.name, key).filter(|p| self.look.assigned.contains(p));
        let Some(partition) = partition else { return };
        let adopted = adopted.get(&partition).map(String::as_str);
        match value.and_then(|value| Begun::parse(self.source, adopted, value)) {
            Some(begun) => drop(self.begun.insert(partition, begun)),
            None => drop(self.begun.remove(&partition)),
        }
    }
}

/// What is known of an entry before it is read.
struct At<'a> {
    place: Place,
    /// It had its try in this process.
    is_tried: bool,
    is_asked_for: bool,
    /// The topic's id, if the entry has none.
    adopted: Option<&'a str>,
}

impl RetrySettings<'_> {
    /// `None` where nothing can be told, which is said, or the program stops.
    ///
    /// # Errors
    /// The account may not read the state.
    pub(super) fn look(
        &self,
        look: &Look,
        known: &mut Known,
        stop: &AtomicBool,
    ) -> datamill_broker::Result<Option<Seen>> {
        // there is no mark yet, also while the group has no state
        let is_first = known.mark == StateMark::default();
        let (mut removed, mut ends) = (Vec::new(), Vec::new());
        let mut is_asked = false;
        if !is_first {
            match self.changes(look, known, &mut removed, &mut ends, stop) {
                Ok(Some(asked)) => is_asked = asked,
                Ok(None) => return Ok(None),
                Err(error) if error.is_denied() => return Err(error),
                Err(error) => {
                    tracing::debug!(group = self.group, error = %crate::report::chain(&error),
                        "the group's state cannot be looked at; it is tried again");
                    if !look.whole {
                        return Ok(None);
                    }
                }
            }
        }
        if !is_first && !look.whole && !is_asked {
            return Ok(Some(Seen { removed, ends, ..Seen::default() }));
        }
        let mut seen = self.whole(look, known, is_first, stop)?.unwrap_or_default();
        seen.removed = removed;
        // what changed was read before all of it
        seen.ends.splice(..0, ends);
        Ok(Some(seen))
    }

    /// Takes what changed since the last look. Answers whether somebody asks for an entry of a partition that is owned,
    /// and nothing where the program stops.
    fn changes(
        &self,
        look: &Look,
        known: &mut Known,
        removed: &mut Vec<String>,
        ends: &mut Vec<(StateChange, u64)>,
        stop: &AtomicBool,
    ) -> datamill_broker::Result<Option<bool>> {
        let mut is_asked = false;
        let mark = known.mark;
        let is_owned = |partition: i32| look.owned.contains_key(&partition);
        let mut take = |key: &str, value: Option<&[u8]>| {
            if let Some(place) = known.request(self.topic, key, value.is_some()) {
                is_asked |= value.is_some() && is_owned(place.partition);
            } else if value.is_none() && Place::of_key(self.topic, key).is_some() {
                removed.push(key.to_owned());
            } else if let Some(spot) = in_hand::spot_of_key(self.topic, key) {
                let change = || StateChange { key: key.to_owned(), value: value.map(<[u8]>::to_vec) };
                ends.extend(look.owned.get(&spot.partition).map(|assignment| (change(), *assignment)));
            } else {
                known.adopts(self.source, key, value);
            }
        };
        let next = self.state.read(mark, &mut take, &|| stop.load(Relaxed))?;
        if let Some(next) = next {
            known.mark = next;
        }
        Ok(next.map(|_| is_asked))
    }

    /// Reads all of the state. `None` when that is not possible, which is said.
    fn whole(
        &self,
        look: &Look,
        known: &mut Known,
        is_first: bool,
        stop: &AtomicBool,
    ) -> datamill_broker::Result<Option<Seen>> {
        for attempt in 1.. {
            let mut gone = FxHashSet::default();
            let mut read = self.read_whole(look, known, is_first, &gone, stop);
            // A first look learns of these once it has passed the entries.
            let is_other = known.adopted.values().any(|id| self.source.id.as_ref().is_some_and(|ours| **ours != **id));
            if is_first && matches!(&read, Ok(Some(found)) if is_other || found.lacks(&known.requests)) {
                read = self.read_whole(look, known, false, &gone, stop);
            }
            if let Ok(Some(found)) = &mut read
                && found.hides_some()
            {
                let removed = std::mem::take(&mut found.removed);
                drop(read);
                gone = removed;
                read = self.read_whole(look, known, false, &gone, stop);
            }
            let error = match read {
                Ok(Some(found)) => return Ok(Some(self.seen(found, known))),
                Ok(None) => return Ok(None),
                Err(error) if error.is_denied() => return Err(error),
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
        Ok(None)
    }

    /// A first look learns of the requests as well; later ones know them from what changed.
    fn read_whole<'l>(
        &'l self,
        look: &'l Look,
        known: &mut Known,
        is_first: bool,
        gone: &'l FxHashSet<Place>,
        stop: &AtomicBool,
    ) -> datamill_broker::Result<Option<Gathered<'l>>> {
        let mut found = Gathered::new(self, look, gone);
        if is_first {
            known.requests.clear();
        }
        let mut take = |key: &str, value: Option<&[u8]>| {
            if let Some((place, _)) = Place::of_key(self.topic, key) {
                let adopted = known.adopted.get(&place.partition).map(String::as_str);
                let is_asked_for = known.requests.contains_key(&place);
                let is_tried = !is_first && self.tried.contains(place);
                found.entry(&At { place, is_tried, is_asked_for, adopted }, key, value);
            } else if is_first && known.adopts(self.source, key, value) {
                // that is all
            } else if is_first && let Some(place) = known.request(self.topic, key, value.is_some()) {
                // the entry of a request comes before it
                if value.is_some() && found.due.contains_key(&place) {
                    found.answerable.insert(place);
                }
            } else if let Some((place, _)) = Place::of_rerun(self.topic, key) {
                // those that were answered may come before their end
                let is_asked_for = known.requests.get(&place).is_some_and(|keys| keys.contains(key));
                if let Some(value) = value.filter(|_| is_asked_for) {
                    found.rerun(key, value, &known.adopted);
                }
            } else if !found.end(key, value) {
                found.begun(key, value, &known.adopted);
            }
        };
        let next = self.state.read(StateMark::default(), &mut take, &|| stop.load(Relaxed))?;
        let Some(next) = next else { return Ok(None) };
        // What was removed between two reads has to be told by the next one.
        if is_first {
            known.mark = next;
        }
        Ok(Some(found))
    }

    fn seen(&self, mut found: Gathered<'_>, known: &mut Known) -> Seen {
        let due = found.all_due();
        let Gathered { look, further, incomplete, begun, given_up, left_alone, ends, answerable, of_others, .. } =
            found;
        let of_others_now = of_others.values().filter(|is_new| **is_new).count();
        if of_others_now > 0 {
            tracing::info!(
                files = of_others_now,
                group = self.group,
                "failed files of another program that uses this group are left to that program"
            );
        }
        if !given_up.is_empty() {
            tracing::info!(
                files = given_up.len(),
                group = self.group,
                "failed files that cannot be tried again, as chunks are missing; {} shows them",
                retry_command(self.log, self.topic, self.group, "--list")
            );
        }
        if !left_alone.is_empty() {
            tracing::warn!(
                files = left_alone.len(),
                group = self.group,
                "failed files that ended the program are not tried again by themselves; {} asks for another try",
                retry_command(self.log, self.topic, self.group, "--status ended_the_program")
            );
        }
        if further.is_empty() {
            let is_void = |place: &Place| {
                look.owned.contains_key(&place.partition)
                    && !answerable.contains(place)
                    && !of_others.contains_key(place)
            };
            let void = known.requests.extract_if(|place, _| is_void(place) && !due.contains_key(place));
            let void: Vec<String> = void.flat_map(|(_, keys)| keys).chain(known.stale.drain(..)).collect();
            self.drop_requests(void);
        }
        let end = |(key, (value, assignment))| (StateChange { key, value: Some(value) }, assignment);
        let with_assignment = |entry: Entry| {
            let assignment = *look.owned.get(&entry.partition())?;
            Some(Due { entry: Arc::new(entry), assignment })
        };
        let with_requests = |(place, mut entry): (Place, Entry)| {
            entry.requests.extend(known.requests.get(&place).into_iter().flatten().cloned());
            with_assignment(entry)
        };
        Seen {
            due: due.into_iter().filter_map(with_requests).collect(),
            further,
            incomplete: incomplete.into_values().filter_map(with_assignment).collect(),
            begun: begun.into_iter().collect(),
            removed: Vec::new(),
            ends: ends.into_iter().map(end).collect(),
        }
    }

    /// Removes requests that ask for nothing: their entries are gone, or cannot be tried.
    fn drop_requests(&self, keys: Vec<String>) {
        if keys.is_empty() {
            return;
        }
        let files = keys.len();
        let changes: Vec<StateChange> = keys.into_iter().map(|key| StateChange { key, value: None }).collect();
        match self.log.change_group_state(self.group, &changes) {
            Ok(()) => tracing::info!(
                files,
                group = self.group,
                "another try was asked for of files that have their result, were forgotten, or lack chunks; left out"
            ),
            // they are found again at the next start
            Err(error) => tracing::debug!(files, error = %crate::report::chain(&error), "requests cannot be removed"),
        }
    }
}
