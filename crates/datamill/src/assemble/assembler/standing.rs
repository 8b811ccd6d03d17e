//! How things stand, for those who look: what fills up, what waits for its outcome, how far partitions were read.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use datamill_wire::Chunk;
use datamill_wire::name::is_root;

use super::{Assembler, Partition, Place};
use crate::assemble::instance::{Instance, InstanceId, InstanceIds, State};
use crate::facts::Backlog;
use crate::progress::OpenKind;

impl Assembler {
    /// A chunk of a path came: the uploads of its version go on, those of its other versions are outdated. Following
    /// from the records alone, it is the same after a restart. Answers the hash of the path.
    pub(super) fn outdate(&mut self, chunk: &Chunk<'_>, filename: &str) -> u64 {
        if chunk.total == 1 && self.places.is_empty() {
            return 0;
        }
        let subdir = if is_root(chunk.subdir) { "" } else { chunk.subdir };
        let place = self.hasher.hash_one((subdir, filename));
        for id in self.places.get(&place).map_or(&[][..], Vec::as_slice) {
            if let Some(instance) = self.instances.get_mut(id)
                && instance.version.is_at(subdir, filename)
            {
                instance.outdated = !instance.version.is_of(chunk, filename);
            }
        }
        place
    }

    /// An instance goes.
    pub(super) fn leave_place(&mut self, place: u64, id: InstanceId) {
        if let Some(ids) = self.places.get_mut(&place) {
            ids.retain(|i| *i != id);
            if ids.is_empty() {
                self.places.remove(&place);
            }
        }
    }

    /// The files that fill up, repetitions left out, in the order of their first records.
    pub(crate) fn filling(&self) -> Vec<(InstanceId, &Instance)> {
        let filling = self.instances.iter().filter(|(_, i)| i.state == State::Filling && !i.repetition);
        let mut filling: Vec<_> = filling.map(|(id, instance)| (*id, &**instance)).collect();
        filling.sort_unstable_by_key(|(id, _)| *id);
        filling
    }

    /// All that is in a partition was read at this time.
    pub(crate) fn at_end(&mut self, partition: i32, now_ms: i64) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.at_end_ms = now_ms;
        }
    }

    /// The files are there without these uploads, which probably do not go on: nobody waits for them.
    pub(crate) fn leave_over(&mut self, ids: &InstanceIds) {
        for id in ids {
            if let Some(instance) = self.instances.get_mut(id) {
                instance.left_over = true;
            }
        }
    }

    /// The next offset of each partition that is owned.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (i32, i64)> {
        self.partitions.iter().map(|(partition, state)| (*partition, state.next))
    }

    /// How far each owned partition was read.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.partitions.iter().map(|(&partition, state)| Place {
            partition,
            next: state.next,
            newest_ms: state.newest_ms,
            bytes: state.bytes,
        })
    }

    /// What waits for its outcome in each partition that is owned. A file with chunks in several counts where it began.
    pub(crate) fn backlog(&self) -> Vec<Backlog> {
        let of_partition = |(&partition, state): (&i32, &Partition)| {
            // listed as open, and not read again yet
            let listed = state.restored.open.range(state.next..).filter(|(_, kind)| **kind == OpenKind::Open);
            let (next, files) = (state.next.max(state.restored.frontier), listed.count() as u64);
            (partition, Backlog { partition, next, files, ..Backlog::default() })
        };
        let mut all: BTreeMap<i32, Backlog> = self.partitions.iter().map(of_partition).collect();
        for instance in self.instances.values().filter(|instance| instance.is_waited_for()) {
            let Some(backlog) = instance.spans.first().and_then(|span| all.get_mut(&span.partition)) else { continue };
            backlog.files += 1;
            backlog.messages += u64::from(instance.indices.len());
            backlog.bytes += instance.bytes;
            backlog.oldest_ms = Some(backlog.oldest_ms.map_or(instance.first_ms, |ms| ms.min(instance.first_ms)));
        }
        all.into_values().collect()
    }

    /// Offsets between W and H over all partitions: what a restart reads again.
    pub(crate) fn span(&self) -> u64 {
        let none = InstanceIds::default();
        let progress = self.partitions.keys().filter_map(|partition| self.progress(*partition, &none));
        progress.map(|progress| progress.frontier.abs_diff(progress.position())).sum()
    }
}
