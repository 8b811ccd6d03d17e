//! Chunks in log order become whole files, and the open files of each partition become its progress.
//!
//! The k-th occurrence of a chunk belongs to the k-th open instance of its version; a chunk that does
//! not fit any (its index is there, or its bytes overlap) opens another instance. All of that follows
//! from the records alone, so a restart that reads again from W comes to the same instances, as long
//! as it sees every instance that was filling when one without an outcome began: those are listed too,
//! as shadows. A record below H is taken by an instance that has begun in its partition, or by none.

mod complete;
mod expiry;
mod past;
mod room;
mod standing;

pub(crate) use complete::Complete;
pub(crate) use expiry::Expired;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

use datamill_wire::Chunk;
use past::Past;
use rustc_hash::FxHashMap;

use super::ahead::HashAhead;
use super::budget::Budget;
use super::buffer::{Buffer, Disk, SpillFolder};
use super::follow::Following;
use super::instance::{Instance, InstanceId, InstanceIds, State, Version};
use super::whole::{DroppedFile, WholeFile};
use crate::progress::{OpenKind, Progress};

/// Decides by the rebuilt relative path whether a file is wanted.
pub(crate) type Filter = Box<dyn Fn(&str) -> bool + Send>;

struct Partition {
    restored: Progress,
    next: i64,
    /// Time of the newest record.
    newest_ms: i64,
    /// When all that was there was read, for the last time: what is read from then on came later.
    at_end_ms: i64,
    /// Bytes of the chunks that were read.
    bytes: u64,
    firsts: BTreeMap<i64, InstanceId>,
}

/// How far a partition was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: i32,
    /// The next offset.
    pub(crate) next: i64,
    /// Time of the newest record; far in the past before the first one.
    pub(crate) newest_ms: i64,
    /// Bytes of the chunks that were read.
    pub(crate) bytes: u64,
}

/// What became of a chunk.
#[derive(Debug)]
pub(crate) enum Added {
    /// Its file is finished already: it is read again after a restart.
    Finished,
    /// Its file is not wanted.
    Filtered,
    /// It was taken in.
    Taken,
    /// It was taken in and is the first one of the file with this path, which has more.
    Begun(Arc<str>),
    /// It was taken in and is the last one of its file.
    Whole(Complete),
}

/// What is done with the content of files while they fill up.
#[derive(Default)]
struct KeptContent {
    budget: Arc<Budget>,
    ahead: Option<HashAhead>,
    following: Option<Following>,
    /// Files whose follower has not said what it takes.
    undecided: Vec<InstanceId>,
    disk: Option<Disk>,
    /// It is not kept at all.
    is_dropped: bool,
}

impl KeptContent {
    /// For a file of so many chunks. One that has more than one is hashed while it fills up.
    fn buffer(&self, chunks: u32) -> Option<Box<Buffer>> {
        let ahead = self.ahead.as_ref().filter(|_| chunks > 1);
        (!self.is_dropped).then(|| Box::new(Buffer::new(chunks, &self.budget, ahead)))
    }
}

/// All files between their first chunk and their outcome, over all partitions that are owned.
pub(crate) struct Assembler {
    partitions: BTreeMap<i32, Partition>,
    // boxed: the table grows and moves what it holds
    instances: FxHashMap<InstanceId, Box<Instance>>,
    /// Instances by hash of their version, in the order of their first records.
    versions: FxHashMap<u64, Vec<InstanceId>>,
    /// Instances of more than one chunk by hash of their path.
    places: FxHashMap<u64, Vec<InstanceId>>,
    hasher: RandomState,
    shadows: InstanceIds,
    past: Past,
    next_id: u64,
    filter: Filter,
    content: KeptContent,
    lost: Vec<(i32, i64)>,
    spread: bool,
}

impl Assembler {
    pub(crate) fn new(filter: Filter, budget: Arc<Budget>) -> Self {
        Self {
            partitions: BTreeMap::new(),
            instances: FxHashMap::default(),
            versions: FxHashMap::default(),
            places: FxHashMap::default(),
            hasher: RandomState::new(),
            shadows: InstanceIds::default(),
            past: Past::default(),
            next_id: 0,
            filter,
            content: KeptContent { budget, ..KeptContent::default() },
            lost: Vec::new(),
            spread: false,
        }
    }

    /// Numbers its instances from `first` on.
    pub(crate) fn numbered_from(mut self, first: u64) -> Self {
        self.next_id = first;
        self
    }

    /// Lets a thread hash its files while they fill up.
    pub(crate) fn hashing_ahead(mut self, ahead: &HashAhead) -> Self {
        self.content.ahead = Some(ahead.clone());
        self
    }

    /// Lets its files be followed while they fill up.
    pub(crate) fn followed(mut self, following: Option<Following>) -> Self {
        self.content.following = following;
        self
    }

    /// Lets files of so many bytes fill up on disk from their first chunk on.
    pub(crate) fn on_disk(mut self, bytes: RangeInclusive<usize>, folder: &SpillFolder) -> Self {
        self.content.disk = Some(Disk { bytes, folder: folder.clone() });
        self
    }

    /// Keeps no content: whole files are handed out as dropped ones.
    pub(crate) fn without_content(mut self) -> Self {
        self.content.is_dropped = true;
        self
    }

    /// A partition is owned from here on, read from `start`. Open files that begin below `start` are
    /// lost.
    pub(crate) fn assign(&mut self, partition: i32, restored: Progress, start: i64) {
        let (next, newest_ms, at_end_ms) = (i64::MIN, i64::MIN, i64::MIN);
        let mut state = Partition { restored, next, newest_ms, at_end_ms, bytes: 0, firsts: BTreeMap::new() };
        state.move_to(start, partition, &mut self.lost);
        self.partitions.insert(partition, state);
    }

    /// These partitions are owned no longer. Answers the files that had chunks in them, and whether
    /// one of the files has chunks in a partition that is still owned.
    pub(crate) fn revoke(&mut self, partitions: &[i32]) -> (Vec<InstanceId>, bool) {
        let revoked = partitions.iter().filter_map(|partition| self.partitions.remove(partition));
        let mut ids: Vec<_> = revoked.flat_map(|state| state.firsts.into_values()).collect();
        ids.sort_unstable();
        ids.dedup();
        let mut torn = false;
        for id in &ids {
            torn |= self.remove(*id);
        }
        (ids, torn)
    }

    /// Forgets an instance. Answers whether it had chunks in a partition that is owned.
    fn remove(&mut self, id: InstanceId) -> bool {
        let Some(instance) = self.instances.remove(&id) else {
            return false;
        };
        self.shadows.remove(&id);
        if let Some(ids) = self.versions.get_mut(&instance.slot) {
            ids.retain(|i| *i != id);
            if ids.is_empty() {
                self.versions.remove(&instance.slot);
            }
        }
        self.leave_place(instance.place, id);
        let mut owned = false;
        for span in &instance.spans {
            if let Some(state) = self.partitions.get_mut(&span.partition) {
                state.firsts.remove(&span.first);
                owned = true;
            }
        }
        owned
    }

    /// Takes the chunk at `offset` in. An error says that its bytes could not be written to the spill
    /// file; they are kept in memory, and the chunk counts as taken.
    pub(crate) fn add(
        &mut self,
        partition: i32,
        offset: i64,
        time_ms: i64,
        chunk: &Chunk<'_>,
    ) -> (Added, io::Result<()>) {
        let Some((pass, came_ms)) = self.pass(partition, offset, time_ms, chunk.data.len()) else {
            return (Added::Finished, Ok(()));
        };
        let filename = chunk.rebuilt_filename();
        let slot = self.hasher.hash_one((chunk.subdir, &*filename, chunk.file_hash, chunk.total));
        let place = self.outdate(chunk, &filename);
        let Found { id: found, repetition, again } = self.find(slot, chunk, &filename, pass, partition);
        if self.versions.get(&slot).map_or(0, Vec::len) > usize::from(found.is_some()) {
            self.pass_by(slot, found, partition, offset);
        }
        let id = match (found, pass) {
            (Some(id), _) => id,
            (None, Pass::Again) => return (Added::Finished, Ok(())),
            (None, Pass::First | Pass::Restored(_)) => {
                let version = Version::of(chunk);
                if pass == Pass::First && !(self.filter)(&version.path) {
                    return (Added::Filtered, Ok(()));
                }
                let shadow = pass == Pass::Restored(OpenKind::Shadow);
                let late = !repetition && self.past.ended_repetitions.contains(&slot);
                let again = again || self.past.whole.contains(slot);
                let buffer = if shadow { None } else { self.content.buffer(version.total) };
                let instance = Instance::new(version, slot, shadow, repetition, time_ms);
                self.open(slot, Instance { late, again, buffer, place, ..instance })
            }
        };
        self.take_in(id, found.is_none(), (partition, offset), (time_ms, came_ms), chunk)
    }

    /// The instance that a chunk belongs to.
    fn find(&self, slot: u64, chunk: &Chunk<'_>, filename: &str, pass: Pass, partition: i32) -> Found {
        let mut found = Found { id: None, repetition: false, again: false };
        for id in self.versions.get(&slot).map_or(&[][..], Vec::as_slice) {
            let Some(instance) = self.instances.get(id).filter(|i| i.version.is_of(chunk, filename)) else {
                continue;
            };
            found.repetition |= !instance.is_full() && instance.state != State::Expired;
            found.again |= instance.is_full();
            if instance.takes(chunk) && pass.may_join(instance, partition) {
                found.id = Some(*id);
                break;
            }
        }
        found
    }

    /// The chunk at this place goes to an instance, `begins` as its first one.
    fn take_in(
        &mut self,
        id: InstanceId,
        begins: bool,
        (partition, offset): (i32, i64),
        (time_ms, came_ms): (i64, i64),
        chunk: &Chunk<'_>,
    ) -> (Added, io::Result<()>) {
        let Some(instance) = self.instances.get_mut(&id) else {
            return (Added::Finished, Ok(()));
        };
        let begins_here = !instance.is_in(partition);
        let mut written = instance.add(partition, offset, time_ms, chunk);
        (instance.came_ms, instance.left_over) = (instance.came_ms.max(came_ms), false);
        if begins && chunk.total > 1 {
            if let Some(following) = &self.content.following
                && instance.begin(id, following)
            {
                self.content.undecided.push(id);
            }
            if let Some(disk) = &self.content.disk {
                written = written.and_then(|()| instance.begin_on_disk(disk));
            }
        }
        self.spread |= instance.spans.len() > 1;
        if begins_here && let Some(state) = self.partitions.get_mut(&partition) {
            state.firsts.insert(offset, id);
        }
        let full = instance.is_full();
        if full {
            instance.filled = Some(InstanceId(self.next_id));
        }
        if instance.state != State::Filling {
            return (Added::Taken, written);
        }
        let added = match (full, begins) {
            (true, _) => {
                instance.state = State::Whole;
                Added::Whole(instance.complete(id))
            }
            (false, true) => Added::Begun(Arc::clone(&instance.version.path)),
            (false, false) => Added::Taken,
        };
        (added, written)
    }

    /// A chunk goes to one of the instances of its version, or to none: the others have to know.
    fn pass_by(&mut self, slot: u64, taken_by: Option<InstanceId>, partition: i32, offset: i64) {
        let ids = self.versions.get(&slot).map_or(&[][..], Vec::as_slice);
        for id in ids.iter().filter(|id| Some(**id) != taken_by) {
            if let Some(instance) = self.instances.get_mut(id) {
                instance.pass_by(partition, offset);
            }
        }
    }

    fn open(&mut self, slot: u64, instance: Instance) -> InstanceId {
        let id = InstanceId(self.next_id);
        self.next_id += 1;
        if instance.state == State::Shadow {
            self.shadows.insert(id);
        }
        if instance.version.total > 1 {
            self.places.entry(instance.place).or_default().push(id);
        }
        self.instances.insert(id, Box::new(instance));
        self.versions.entry(slot).or_default().push(id);
        id
    }

    /// Moves the partition behind `offset` and tells what its record may be, and when it came, at the earliest. `None` if it
    /// was handed out before, or the partition is not owned.
    fn pass(&mut self, partition: i32, offset: i64, time_ms: i64, bytes: usize) -> Option<(Pass, i64)> {
        let state = self.partitions.get_mut(&partition)?;
        if offset < state.next {
            return None;
        }
        state.move_to(offset, partition, &mut self.lost);
        state.next = offset + 1;
        state.newest_ms = state.newest_ms.max(time_ms);
        state.bytes += bytes as u64;
        let pass = match state.restored.open.get(&offset) {
            Some(kind) => Pass::Restored(*kind),
            None if offset < state.restored.frontier => Pass::Again,
            None => Pass::First,
        };
        Some((pass, time_ms.max(state.at_end_ms)))
    }

    /// Whether a record was read before the partition was assigned.
    pub(crate) fn was_read_before(&self, partition: i32, offset: i64) -> bool {
        self.partitions.get(&partition).is_some_and(|state| offset < state.restored.frontier)
    }

    /// A record that holds no chunk, or the end of what is there: the partition moves behind it.
    /// Answers whether it was read for the first time.
    pub(crate) fn skip_to(&mut self, partition: i32, next: i64) -> bool {
        let Some(state) = self.partitions.get_mut(&partition) else {
            return false;
        };
        if next <= state.next {
            return false;
        }
        state.move_to(next, partition, &mut self.lost);
        next > state.restored.frontier
    }

    /// First offsets of files without an outcome whose first records turned out, since the last call,
    /// to be gone from the log.
    pub(crate) fn take_lost(&mut self) -> Vec<(i32, i64)> {
        std::mem::take(&mut self.lost)
    }

    /// Lets followers that have decided meanwhile take what is there; no further chunk need come.
    pub(crate) fn offer(&mut self) {
        let Self { content, instances, .. } = self;
        content.undecided.retain(|id| {
            let buffer = instances.get_mut(id).and_then(|instance| instance.buffer.as_mut());
            buffer.is_some_and(|buffer| buffer.offer())
        });
    }

    /// Hands out a file that is [`Complete::Unwritten`] without its content.
    pub(crate) fn drop_unwritten(&mut self, id: InstanceId) -> Option<DroppedFile> {
        let instance = self.instances.get_mut(&id)?;
        instance.buffer = None;
        match instance.complete(id) {
            Complete::Dropped(file) => Some(file),
            Complete::Here(_) | Complete::Unwritten(_) => None,
        }
    }

    /// The progress of a partition once the files in `finished` have their outcome.
    pub(crate) fn progress(&self, partition: i32, finished: &InstanceIds) -> Option<Progress> {
        let state = self.partitions.get(&partition)?;
        let mut open: BTreeMap<i64, OpenKind> =
            state.restored.open.range(state.next..).map(|(o, k)| (*o, *k)).collect();
        for (&first, id) in &state.firsts {
            if let Some(kind) = self.listed(*id, finished) {
                open.insert(first, kind);
            }
        }
        Some(Progress { frontier: state.next.max(state.restored.frontier), open })
    }

    /// How an instance is listed once the files in `finished` have their outcome: open while it has
    /// none, as a shadow while it was filling when something began that is listed.
    fn listed(&self, id: InstanceId, finished: &InstanceIds) -> Option<OpenKind> {
        if !self.shadows.contains(&id) {
            // nothing of most of very many files is touched: no version has two instances
            match finished.contains(&id) {
                false => return Some(OpenKind::Open),
                true if self.instances.len() == self.versions.len() => return None,
                true => {}
            }
        }
        let instance = self.instances.get(&id)?;
        if let Some(kind) = self.listed_by_itself(id, instance, finished) {
            return Some(kind);
        }
        // from the last one of the version back to this one: the nearest that is listed decides
        let mut nearest = None;
        for later in self.versions.get(&instance.slot)?.iter().rev().take_while(|later| **later > id) {
            let Some(sibling) = self.instances.get(later) else {
                continue;
            };
            if self.listed_by_itself(*later, sibling, finished).is_some()
                || nearest.is_some_and(|after| sibling.was_filling_when(after))
            {
                nearest = Some(*later);
            }
        }
        nearest.is_some_and(|after| instance.was_filling_when(after)).then_some(OpenKind::Shadow)
    }

    /// A restored shadow stays until it is full: what began behind it may still turn up.
    fn listed_by_itself(&self, id: InstanceId, instance: &Instance, finished: &InstanceIds) -> Option<OpenKind> {
        if instance.state == State::Shadow {
            let again = || self.partitions.values().any(|state| state.next < state.restored.frontier);
            return (!instance.is_full() && again()).then_some(OpenKind::Shadow);
        }
        (!finished.contains(&id)).then_some(OpenKind::Open)
    }

    /// The files in `finished` have their outcome, durably.
    pub(crate) fn finish(&mut self, finished: &InstanceIds) {
        let affected: Vec<InstanceId> =
            finished.iter().chain(&self.shadows).copied().filter(|id| self.instances.contains_key(id)).collect();
        let (keep, go): (Vec<_>, Vec<_>) =
            affected.iter().copied().partition(|id| self.listed(*id, finished).is_some());
        for id in affected {
            let instance = self.instances.get(&id).filter(|instance| instance.state == State::Whole);
            // a file of one chunk is never there in part
            self.past
                .whole
                .extend(instance.filter(|instance| instance.version.total > 1).map(|instance| instance.slot));
        }
        for id in keep {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.state = State::Shadow;
                instance.buffer = None;
                self.shadows.insert(id);
            }
        }
        for id in go {
            self.remove(id);
        }
    }

    /// Whether the file that begins at this offset of a partition that is owned has its outcome, or none to come.
    pub(crate) fn is_done(&self, partition: i32, first: i64) -> bool {
        let Some(state) = self.partitions.get(&partition) else { return false };
        match state.firsts.get(&first) {
            Some(id) => self.shadows.contains(id),
            None if first >= state.next => {
                first < state.restored.frontier && state.restored.open.get(&first) != Some(&OpenKind::Open)
            }
            None => true,
        }
    }

    /// Whether the file has no outcome yet and its partitions are still owned.
    pub(crate) fn awaits_outcome(&self, id: InstanceId) -> bool {
        self.instances.get(&id).is_some_and(|i| matches!(i.state, State::Whole | State::Expired))
    }

    /// Whether a file has chunks in more than one partition. From then on each commit MUST take all
    /// partitions: texts of different moments may list a finished file in one partition and not in
    /// another, and its chunks cannot be told from those of its repetition.
    pub(crate) fn is_spread(&self) -> bool {
        self.spread
    }
}

impl Partition {
    /// Reading goes on at `next`; open files that begin in between are lost.
    fn move_to(&mut self, next: i64, partition: i32, lost: &mut Vec<(i32, i64)>) {
        let passed = self.restored.open.range(self.next..next);
        lost.extend(passed.filter(|(_, kind)| **kind == OpenKind::Open).map(|(first, _)| (partition, *first)));
        self.next = next;
    }
}

/// What is there of the file of a chunk.
struct Found {
    /// The instance that the chunk belongs to.
    id: Option<InstanceId>,
    /// Another instance of its version fills up.
    repetition: bool,
    /// One of its version has all its chunks.
    again: bool,
}

/// What the record at an offset may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Never seen before: it may belong to any instance or open one.
    First,
    /// Read again, and the first one of its partition in an instance that is listed.
    Restored(OpenKind),
    /// Read again: it belongs to an instance that began in this partition, or is finished.
    Again,
}

impl Pass {
    fn may_join(self, instance: &Instance, partition: i32) -> bool {
        match self {
            Self::First => true,
            Self::Restored(kind) => {
                !instance.is_in(partition) && (kind == OpenKind::Shadow) == (instance.state == State::Shadow)
            }
            Self::Again => instance.is_in(partition),
        }
    }
}
