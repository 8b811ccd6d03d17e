//! Files that end without all their chunks: those stopped coming, or came for another upload.

use std::sync::Arc;

use datamill_wire::Chunk;

use super::Assembler;
use crate::assemble::extents::Indices;
use crate::assemble::instance::{FileInfo, Instance, InstanceId, InstanceIds, State};

/// A file whose chunks stopped coming.
#[derive(Debug)]
pub(crate) struct Expired {
    pub(crate) info: Arc<FileInfo>,
    /// The chunks that are there.
    pub(crate) indices: Indices,
    /// Nobody misses it: its chunks went to another upload of its version that was incomplete when it
    /// began, or a newer version took its place.
    pub(crate) is_note: bool,
    /// The file was sent again, and is there without it.
    pub(crate) is_again: bool,
}

impl Assembler {
    /// A chunk says that uploads of its path with the hash `old` were given up. Those that fill up end at
    /// the next [`Assembler::expire`]. Following from the records alone, it is the same after a restart:
    /// an upload that is open began below the chunk that says so, which is read again.
    pub(crate) fn supersede(&mut self, partition: i32, chunk: &Chunk<'_>, old: &[u8; 64]) {
        let Some(state) = self.partitions.get(&partition) else { return };
        let filename = chunk.rebuilt_filename();
        for id in state.firsts.values() {
            let Some(instance) = self.instances.get_mut(id) else { continue };
            let version = &instance.version;
            let is_old = version.sha512 == *old && version.is_at(chunk.subdir, &filename);
            instance.superseded |= is_old && instance.spans.len() == 1 && instance.state == State::Filling;
        }
    }

    /// Ends the files that fill up and whose newest chunk is older, by `limit_ms`, than the newest record
    /// of each of their partitions; repetitions by `repetition_ms`, and those whose upload was given up at
    /// once. For repetitions, the time counts as well for which a partition gave nothing at its end: `quiet_ms`. From
    /// here on they take no chunk, and every commit MUST take all of
    /// them along until one is done: what begins after them must not be committed without them.
    ///
    /// A file stays while it is needed to tell the chunks of one that began after it, and while records
    /// are read again, which may be its own.
    pub(crate) fn expire(
        &mut self,
        limit_ms: Option<i64>,
        repetition_ms: i64,
        quiet_ms: impl Fn(i32) -> i64,
    ) -> Vec<Expired> {
        let is_stale = |_: InstanceId, instance: &Instance| {
            let limit_ms = match instance {
                Instance { superseded: true, .. } => Some(i64::MIN),
                Instance { repetition: true, .. } => Some(repetition_ms),
                _ => limit_ms,
            };
            instance.spans.iter().all(|span| {
                let quiet_ms = if instance.repetition { quiet_ms(span.partition) } else { 0 };
                self.partitions.get(&span.partition).is_some_and(|state| {
                    let age = state.newest_ms.saturating_add(quiet_ms).saturating_sub(instance.last_ms);
                    limit_ms.is_some_and(|ms| age > ms)
                })
            })
        };
        let stale = self.can_end(is_stale);
        self.end(stale)
    }

    /// Ends files that fill up, as [`Assembler::expire`] does: their chunks belong to an upload that has ended. What
    /// is left of an upload that begins with such chunks is a note.
    pub(crate) fn end_late(&mut self, late: &InstanceIds) -> Vec<Expired> {
        let ended = self.can_end(|id, _| late.contains(&id));
        let ended = self.end(ended);
        for expired in &ended {
            self.past.ended_repetitions.extend(self.instances.get(&expired.info.id).map(|instance| instance.slot));
        }
        ended
    }

    /// The files that fill up and are `wanted`, but for those of which records are read again.
    fn can_end(&self, wanted: impl Fn(InstanceId, &Instance) -> bool) -> Vec<InstanceId> {
        let is_read = |instance: &Instance| {
            instance.spans.iter().all(|span| {
                self.partitions.get(&span.partition).is_some_and(|state| state.next >= state.restored.frontier)
            })
        };
        let filling = self.instances.iter().filter(|(_, instance)| instance.state == State::Filling);
        filling.filter(|(id, instance)| is_read(instance) && wanted(**id, instance)).map(|(id, _)| *id).collect()
    }

    fn end(&mut self, mut stale: Vec<InstanceId>) -> Vec<Expired> {
        stale.sort_unstable();
        let mut ended = InstanceIds::default();
        for id in stale.into_iter().rev() {
            ended.insert(id);
            if self.listed(id, &ended).is_some() {
                ended.remove(&id);
            }
        }
        let mut expired = Vec::with_capacity(ended.len());
        for id in ended {
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.state = State::Expired;
                instance.filled = Some(InstanceId(self.next_id));
                instance.buffer = None;
                if instance.repetition {
                    self.past.ended_repetitions.insert(instance.slot);
                }
                expired.push(Expired {
                    info: Arc::new(instance.info(id)),
                    indices: std::mem::take(&mut instance.indices),
                    is_note: instance.repetition || instance.late || instance.superseded,
                    is_again: instance.again,
                });
            }
        }
        expired.sort_unstable_by_key(|expired| expired.info.id);
        expired
    }
}
