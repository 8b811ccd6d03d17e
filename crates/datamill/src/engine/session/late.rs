//! Chunks that come after their file has ended as incomplete.
//!
//! An upload that shares no chunk with an incomplete file of its version belongs to that file: it ends, and in the
//! same commit its chunks are added to the entry. It ends when both together are all chunks and no further chunk
//! came since the last look, or when its own chunks stopped coming. An entry with all chunks is tried again like any
//! other: its file is rebuilt from the offsets of both.
//!
//! ```text
//!   entry 1-7 of 10, incomplete     ┐  one commit    entry 1-10 of 10   retry
//!   upload 8-10, filling            ┘ ────────────▶  offsets of both   ───────▶  result, entry removed
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::assemble::{Assembler, Budget, Expired, FileInfo, IndexRun, InstanceId, InstanceIds, Span, together};
use crate::engine::entry::{Due, Entry, Place};
use crate::engine::outcome::Outcome;

/// The incomplete files of the partitions that are owned.
#[derive(Default)]
pub(super) struct LateChunks {
    /// Entries that lack chunks, by path.
    lacking: HashMap<String, Vec<Due>>,
    /// What becomes of an entry with the commit of the upload that has ended.
    coming: HashMap<InstanceId, Due>,
    /// All entries that were in a commit: what was read of them may be older.
    ours: HashSet<Place>,
    /// Chunks that an upload had at the last look.
    seen: HashMap<InstanceId, u32>,
}

impl LateChunks {
    /// Entries that lack chunks, as the group's state has them.
    pub(super) fn know(&mut self, entries: Vec<Due>) {
        for due in entries {
            if !self.ours.contains(&due.entry.place) {
                self.forget(due.entry.place, due.entry.path());
                self.lacking.entry(due.entry.path().to_owned()).or_default().push(due);
            }
        }
    }

    /// These partitions are owned no longer.
    pub(super) fn revoke(&mut self, partitions: &[i32]) {
        let is_ours = |due: &Due| !partitions.contains(&due.entry.partition());
        self.lacking.retain(|_, all| {
            all.retain(is_ours);
            !all.is_empty()
        });
        self.coming.retain(|_, due| is_ours(due));
        self.ours.retain(|place| !partitions.contains(&place.partition));
    }

    /// The entry of this file is gone.
    pub(super) fn forget(&mut self, place: Place, path: &str) {
        if let Some(all) = self.lacking.get_mut(path) {
            all.retain(|due| due.entry.place != place);
            if all.is_empty() {
                self.lacking.remove(path);
            }
        }
    }

    /// Whether the entry of this place is in a commit, or was.
    pub(super) fn has(&self, place: Place) -> bool {
        self.ours.contains(&place) || self.coming.values().any(|due| due.entry.place == place)
    }

    /// Ends the uploads that complete an entry: at once where nothing more is to come, and else when no chunk came
    /// since the last look. What begins with the missing chunks may be a whole upload.
    pub(super) fn look(&mut self, assembler: &mut Assembler, ending: bool, budget: &Arc<Budget>) -> Vec<Outcome> {
        if self.lacking.is_empty() {
            return Vec::new();
        }
        let mut seen = HashMap::new();
        let mut late = InstanceIds::default();
        for (id, instance) in assembler.filling() {
            let Some(entries) = self.lacking.get(&*instance.version.path) else { continue };
            let (runs, count) = (instance.indices.runs(), instance.indices.len());
            let all = [(1, instance.version.total)];
            let completes = |due: &Due| {
                due.entry.is_of(&instance.version)
                    && together(due.entry.chunks(), &runs).is_some_and(|chunks| chunks == all)
            };
            if !instance.superseded && entries.iter().any(completes) {
                seen.insert(id, count);
                if ending || self.seen.get(&id) == Some(&count) {
                    late.insert(id);
                }
            }
        }
        self.seen = seen;
        let ended = assembler.end_late(&late).into_iter();
        ended.map(|ended| self.outcome(ended, budget)).collect()
    }

    /// The outcome of an upload whose chunks stopped coming: it belongs to an entry, or is a failure of its own.
    pub(super) fn outcome(&mut self, ended: Expired, budget: &Arc<Budget>) -> Outcome {
        let runs = ended.indices.runs();
        match self.take(&ended.info, &runs) {
            Some((entry, chunks)) => Outcome::late(&ended.info, chunks, entry, budget),
            None => Outcome::incomplete(ended, budget),
        }
    }

    /// The entry that an upload belongs to, and the chunks of both: one that it completes, or else the oldest. It is
    /// not known any more until the commit.
    fn take(&mut self, info: &FileInfo, runs: &[IndexRun]) -> Option<(Arc<Entry>, Vec<IndexRun>)> {
        let entries = self.lacking.get_mut(&*info.version.path)?;
        let fits = |due: &Due| {
            let is_before = due.entry.spans().iter().all(|span| is_before(span, info));
            let chunks = together(due.entry.chunks(), runs).filter(|_| is_before && due.entry.is_of(&info.version))?;
            let is_partial = chunks != [(1, info.version.total)];
            Some((is_partial, due.entry.spans().first().map(|span| span.first), chunks))
        };
        let candidates = entries.iter().enumerate().filter_map(|(index, due)| Some((fits(due)?, index)));
        let ((_, _, chunks), index) = candidates.min()?;
        let due = entries.swap_remove(index);
        Some((due.entry, chunks))
    }

    /// The outcome goes into a commit: what the entry is after it.
    pub(super) fn expect(&mut self, id: InstanceId, due: Due) {
        self.coming.insert(id, due);
    }

    /// These uploads have their outcome, durably. Answers the entries that have all their chunks.
    pub(super) fn finish(&mut self, finished: &InstanceIds) -> Vec<Due> {
        let mut whole = Vec::new();
        for (_, due) in self.coming.extract_if(|id, _| finished.contains(id)) {
            self.ours.insert(due.entry.place);
            if due.entry.lacks_chunks() {
                self.lacking.entry(due.entry.path().to_owned()).or_default().push(due);
            } else if due.entry.can_be_retried() {
                whole.push(due);
            }
        }
        whole
    }
}

/// Whether the span ends before the upload begins in its partition.
fn is_before(span: &Span, info: &FileInfo) -> bool {
    info.spans.iter().all(|later| later.partition != span.partition || span.last < later.first)
}
