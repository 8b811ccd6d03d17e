//! Chunks in log order become whole files, and the open files of each partition become its progress.
//!
//! The k-th occurrence of a chunk belongs to the k-th open instance of its version; a chunk that does
//! not fit any (its index is there, or its bytes overlap) opens another instance. All of that follows
//! from the records alone, so a restart that reads again from W comes to the same instances.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

use datamill_wire::Chunk;

use super::budget::{Budget, Reservation};
use super::buffer::{Content, SpillFolder};
use super::instance::{FileInfo, Instance, InstanceId, Proof, Span, State, Version};
use crate::progress::{OpenKind, Progress};

/// Decides by the rebuilt relative path whether a file is wanted.
pub(crate) type Filter = Box<dyn Fn(&str) -> bool + Send>;

struct Partition {
    restored: Progress,
    next: i64,
    firsts: BTreeMap<i64, InstanceId>,
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// Its file is finished already: it is read again after a restart.
    Finished,
    /// Its file is not wanted.
    Filtered,
    /// It was taken in.
    Taken,
    /// It was taken in and is the last one of its file.
    Whole(InstanceId),
}

/// A file that has all its chunks, not verified yet.
#[derive(Debug)]
pub(crate) struct WholeFile {
    pub(crate) info: Arc<FileInfo>,
    /// `None` if the chunks leave a hole.
    pub(crate) size: Option<u64>,
    pub(crate) content: Content,
    pub(crate) reservation: Reservation,
    pub(crate) proofs: Vec<Proof>,
}

/// All files between their first chunk and their outcome, over all partitions that are owned.
pub(crate) struct Assembler {
    partitions: BTreeMap<i32, Partition>,
    instances: HashMap<InstanceId, Instance>,
    /// Instances by hash of their version, in the order of their first records.
    versions: HashMap<u64, Vec<InstanceId>>,
    hasher: RandomState,
    shadows: HashSet<InstanceId>,
    next_id: u64,
    filter: Filter,
    budget: Arc<Budget>,
    lost: Vec<(i32, i64)>,
    spread: bool,
}

impl Assembler {
    pub(crate) fn new(filter: Filter, budget: Arc<Budget>) -> Self {
        Self {
            partitions: BTreeMap::new(),
            instances: HashMap::new(),
            versions: HashMap::new(),
            hasher: RandomState::new(),
            shadows: HashSet::new(),
            next_id: 0,
            filter,
            budget,
            lost: Vec::new(),
            spread: false,
        }
    }

    /// A partition is owned from here on, read from `start`. Open files that begin below `start` are
    /// lost.
    pub(crate) fn assign(&mut self, partition: i32, restored: Progress, start: i64) {
        self.lost.extend(
            restored
                .open
                .range(..start)
                .map(|(&first, _)| (partition, first)),
        );
        self.partitions.insert(
            partition,
            Partition {
                restored,
                next: start,
                firsts: BTreeMap::new(),
            },
        );
    }

    /// A partition is owned no longer. Answers the files that had chunks in it, and whether one of
    /// them has chunks in a partition that is still owned.
    pub(crate) fn revoke(&mut self, partition: i32) -> (Vec<InstanceId>, bool) {
        let Some(state) = self.partitions.remove(&partition) else {
            return (Vec::new(), false);
        };
        let ids: Vec<_> = state.firsts.into_values().collect();
        let mut torn = false;
        for id in &ids {
            if let Some(instance) = self.instances.remove(id) {
                self.shadows.remove(id);
                self.forget(*id, &instance);
                for span in instance.spans.iter().filter(|s| s.partition != partition) {
                    torn |= self.partitions.contains_key(&span.partition);
                }
            }
        }
        (ids, torn)
    }

    fn forget(&mut self, id: InstanceId, instance: &Instance) {
        let hash = self.hash(
            &instance.version.subdir,
            &instance.version.filename,
            &instance.version.sha512,
            instance.version.total,
        );
        if let Some(ids) = self.versions.get_mut(&hash) {
            ids.retain(|i| *i != id);
            if ids.is_empty() {
                self.versions.remove(&hash);
            }
        }
    }

    fn hash(&self, subdir: &str, filename: &str, sha512: &[u8; 64], total: u32) -> u64 {
        self.hasher.hash_one((subdir, filename, sha512, total))
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
        let Some(kind) = self.pass(partition, offset) else {
            return (Added::Finished, Ok(()));
        };
        let filename = chunk.rebuilt_filename();
        let hash = self.hash(chunk.subdir, &filename, chunk.file_hash, chunk.total);
        let candidates = self.versions.get(&hash).map_or(&[][..], Vec::as_slice);
        let same = |instance: &Instance| {
            let version = &instance.version;
            *version.filename == *filename
                && *version.subdir == *chunk.subdir
                && version.sha512 == *chunk.file_hash
                && version.total == chunk.total
        };
        let mut behind = Vec::new();
        let mut found = None;
        for id in candidates {
            let Some(instance) = self.instances.get(id).filter(|i| same(i)) else {
                continue;
            };
            if instance.takes(chunk) {
                found = Some(*id);
                break;
            }
            if !instance.is_full() {
                behind.push(*id);
            }
        }
        let id = match (found, kind) {
            (Some(id), _) => id,
            (None, Pass::Finished) => return (Added::Finished, Ok(())),
            (None, Pass::Opens(shadow)) => {
                let version = Version::of(chunk);
                if !shadow.restored && !(self.filter)(&version.path) {
                    return (Added::Filtered, Ok(()));
                }
                let id = InstanceId(self.next_id);
                self.next_id += 1;
                let is_shadow = shadow.kind == OpenKind::Shadow;
                if is_shadow {
                    self.shadows.insert(id);
                }
                self.instances.insert(
                    id,
                    Instance::new(version, is_shadow, behind, &self.budget, time_ms),
                );
                self.versions.entry(hash).or_default().push(id);
                id
            }
        };
        let Some(instance) = self.instances.get_mut(&id) else {
            return (Added::Finished, Ok(()));
        };
        let known_here = instance
            .spans
            .iter()
            .any(|span| span.partition == partition);
        let written = instance.add(partition, offset, time_ms, chunk);
        self.spread |= instance.spans.len() > 1;
        let whole = instance.is_full() && instance.state == State::Filling;
        if whole {
            instance.state = State::Whole;
        }
        if !known_here && let Some(state) = self.partitions.get_mut(&partition) {
            state.firsts.insert(offset, id);
        }
        (
            if whole {
                Added::Whole(id)
            } else {
                Added::Taken
            },
            written,
        )
    }

    /// Moves the partition behind `offset` and tells what its record may be.
    fn pass(&mut self, partition: i32, offset: i64) -> Option<Pass> {
        let state = self.partitions.get_mut(&partition)?;
        if offset < state.next {
            return None;
        }
        self.lost.extend(
            state
                .restored
                .open
                .range(state.next..offset)
                .map(|(&first, _)| (partition, first)),
        );
        state.next = offset + 1;
        let restored = state.restored.open.get(&offset).copied();
        Some(if offset >= state.restored.frontier {
            Pass::Opens(Opening {
                kind: OpenKind::Open,
                restored: false,
            })
        } else if let Some(kind) = restored {
            Pass::Opens(Opening {
                kind,
                restored: true,
            })
        } else {
            Pass::Finished
        })
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
        self.lost.extend(
            state
                .restored
                .open
                .range(state.next..next)
                .map(|(&first, _)| (partition, first)),
        );
        state.next = next;
        next > state.restored.frontier
    }

    /// First offsets of open files whose records are gone from the log since the last call.
    pub(crate) fn take_lost(&mut self) -> Vec<(i32, i64)> {
        std::mem::take(&mut self.lost)
    }

    /// Hands a whole file out; the instance stays until [`Assembler::finish`]. `None` while bytes of
    /// it wait to be written to its spill file.
    pub(crate) fn take_whole(&mut self, id: InstanceId) -> Option<WholeFile> {
        let instance = self.instances.get_mut(&id)?;
        if instance
            .buffer
            .as_ref()
            .is_none_or(super::buffer::Buffer::is_unsettled)
        {
            return None;
        }
        let (content, reservation) = instance.buffer.take()?.finish();
        let info = Arc::new(FileInfo {
            id,
            version: instance.version.clone(),
            spans: instance.spans.clone(),
            first_ms: instance.first_ms,
            last_ms: instance.last_ms,
            bytes: instance.bytes,
        });
        let proofs = std::mem::take(&mut instance.proofs);
        Some(WholeFile {
            info,
            size: instance.extents.whole(),
            content,
            reservation,
            proofs,
        })
    }

    /// Moves the largest files that fill up to the folder until at most `limit` bytes are in memory.
    pub(crate) fn spill_down_to(
        &mut self,
        limit: usize,
        folder: &SpillFolder,
    ) -> io::Result<usize> {
        let mut sizes: Vec<_> = self
            .instances
            .iter()
            .filter(|(_, i)| i.state == State::Filling)
            .filter_map(|(id, i)| Some((i.buffer.as_ref()?.in_memory(), *id)))
            .filter(|(bytes, _)| *bytes > 0)
            .collect();
        sizes.sort_unstable();
        let mut spilled = 0;
        while self.budget.filling() > limit
            && let Some((_, id)) = sizes.pop()
        {
            if let Some(buffer) = self.instances.get_mut(&id).and_then(|i| i.buffer.as_mut()) {
                buffer.spill(folder)?;
                spilled += 1;
            }
        }
        Ok(spilled)
    }

    /// Writes what could not be written to spill files before. Answers the files that are whole.
    pub(crate) fn settle(&mut self) -> io::Result<Vec<InstanceId>> {
        let mut whole = Vec::new();
        for (id, instance) in &mut self.instances {
            if let Some(buffer) = instance.buffer.as_mut().filter(|b| b.is_unsettled()) {
                buffer.settle()?;
                if instance.state == State::Whole {
                    whole.push(*id);
                }
            }
        }
        whole.sort_unstable();
        Ok(whole)
    }

    /// The progress of a partition once the files in `finished` have their outcome.
    pub(crate) fn progress(
        &self,
        partition: i32,
        finished: &HashSet<InstanceId>,
    ) -> Option<Progress> {
        let state = self.partitions.get(&partition)?;
        let mut open: BTreeMap<i64, OpenKind> = state
            .restored
            .open
            .range(state.next..)
            .map(|(o, k)| (*o, *k))
            .collect();
        for (&first, id) in &state.firsts {
            if let Some(kind) = self.listed(*id, finished) {
                open.insert(first, kind);
            }
        }
        Some(Progress {
            frontier: state.next.max(state.restored.frontier),
            open,
        })
    }

    /// How an instance is listed once the files in `finished` have their outcome: open while it has
    /// none, as a shadow while something that is listed began behind it, or may still turn up in what
    /// is read again.
    fn listed(&self, id: InstanceId, finished: &HashSet<InstanceId>) -> Option<OpenKind> {
        let instance = self.instances.get(&id)?;
        if instance.state != State::Shadow && !finished.contains(&id) {
            return Some(OpenKind::Open);
        }
        let reading_again = |span: &Span| {
            self.partitions
                .get(&span.partition)
                .is_some_and(|p| p.next < p.restored.frontier)
        };
        if instance.state == State::Shadow && instance.spans.iter().any(reading_again) {
            return Some(OpenKind::Shadow);
        }
        let version = &instance.version;
        let hash = self.hash(
            &version.subdir,
            &version.filename,
            &version.sha512,
            version.total,
        );
        let siblings = self.versions.get(&hash).map_or(&[][..], Vec::as_slice);
        siblings
            .iter()
            .filter(|s| {
                self.instances
                    .get(s)
                    .is_some_and(|i| i.behind.contains(&id))
            })
            .any(|s| self.listed(*s, finished).is_some())
            .then_some(OpenKind::Shadow)
    }

    /// The files in `finished` have their outcome, durably.
    pub(crate) fn finish(&mut self, finished: &HashSet<InstanceId>) {
        let affected: Vec<InstanceId> = finished
            .iter()
            .chain(&self.shadows)
            .copied()
            .filter(|id| self.instances.contains_key(id))
            .collect();
        let (keep, go): (Vec<_>, Vec<_>) = affected
            .into_iter()
            .partition(|id| self.listed(*id, finished).is_some());
        for id in keep {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.state = State::Shadow;
                instance.buffer = None;
                self.shadows.insert(id);
            }
        }
        for id in go {
            let Some(instance) = self.instances.remove(&id) else {
                continue;
            };
            self.shadows.remove(&id);
            self.forget(id, &instance);
            for span in &instance.spans {
                if let Some(state) = self.partitions.get_mut(&span.partition) {
                    state.firsts.remove(&span.first);
                }
            }
        }
    }

    /// Whether the file has no outcome yet and its partitions are still owned.
    pub(crate) fn awaits_outcome(&self, id: InstanceId) -> bool {
        self.instances
            .get(&id)
            .is_some_and(|i| i.state == State::Whole)
    }

    /// Whether a file has chunks in more than one partition.
    pub(crate) fn is_spread(&self) -> bool {
        self.spread
    }

    /// The files that fill up, repetitions left out, in the order of their first records.
    pub(crate) fn filling(&self) -> Vec<&Instance> {
        let mut ids: Vec<_> = self
            .instances
            .iter()
            .filter(|(_, i)| i.state == State::Filling && i.behind.is_empty())
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        ids.iter().filter_map(|id| self.instances.get(id)).collect()
    }

    /// The next offset of each partition that is owned.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (i32, i64)> {
        self.partitions
            .iter()
            .map(|(partition, state)| (*partition, state.next))
    }

    /// Records between W and H over all partitions: what a restart reads again.
    pub(crate) fn span(&self) -> u64 {
        self.partitions
            .values()
            .map(|state| {
                let first = state
                    .firsts
                    .keys()
                    .next()
                    .copied()
                    .unwrap_or(state.next)
                    .min(state.next);
                state.next.abs_diff(first)
            })
            .sum()
    }
}

#[derive(Debug, Clone, Copy)]
struct Opening {
    kind: OpenKind,
    restored: bool,
}

#[derive(Debug, Clone, Copy)]
enum Pass {
    /// May open an instance.
    Opens(Opening),
    /// Belongs to an open instance or is finished.
    Finished,
}
