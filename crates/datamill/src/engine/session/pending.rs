//! What waits for a commit: outcomes, files that ended without all their chunks, records that hold no chunk. One
//! function makes the whole batch of it, with the positions that hold once it is durable.
//!
//! A batch that is under way is nowhere else. What of it belongs to partitions that go meanwhile is kept in mind, so
//! that it falls away where the batch comes back.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datamill_broker::{Error, StateChange};

use super::batch::{Batch, Ended, Note};
use super::committed::{Committed, Move};
use super::late::LateChunks;
use super::pacing::{COMMIT_BYTES, Load, Reach};
use crate::assemble::{Assembler, Budget, CUT_OFF_MS, InstanceIds};
use crate::engine::dead_letter::Unusable;
use crate::engine::entry::{Due, Entry, Place};
use crate::engine::in_hand::{InHand, Spot};
use crate::engine::origin::CommitSettings;
use crate::engine::outcome::Outcome;
use crate::engine::tails::{Begun, Tails};
use crate::progress::encode;

/// What a batch is made from beside what waits.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) settings: &'a CommitSettings,
    /// Assignment number of each owned partition.
    pub(super) owned: &'a BTreeMap<i32, u64>,
    pub(super) assembler: &'a Assembler,
    pub(super) in_hand: Option<&'a InHand>,
}

/// What the commit under way makes of it.
#[derive(Default)]
struct UnderWay {
    moves: Vec<Move>,
    /// Keys of the group's state about ends of a process, which it removes.
    answering: Vec<String>,
    /// Files that are waited for no longer since it began.
    gone: InstanceIds,
}

/// See the module.
pub(super) struct Pending {
    ready: Vec<Outcome>,
    /// Files that expired and are not committed: each commit takes all of them.
    expired: Vec<Outcome>,
    /// Uploads that ended without an outcome and are not committed.
    notes: Vec<Note>,
    /// Records that hold no chunk and whose dead letters are not committed.
    unusable: Vec<Unusable>,
    late: LateChunks,
    tails: Tails,
    committed: Committed,
    under_way: UnderWay,
    budget: Arc<Budget>,
}

impl Pending {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            ready: Vec::new(),
            expired: Vec::new(),
            notes: Vec::new(),
            unusable: Vec::new(),
            late: LateChunks::default(),
            tails: Tails::default(),
            committed: Committed::default(),
            under_way: UnderWay::default(),
            budget,
        }
    }

    /// A partition is owned, with what is committed of it; the group begins there where it has `begun`.
    pub(super) fn assign(&mut self, partition: i32, at: Option<(i64, String)>, adopts: bool, begun: Option<Begun>) {
        if let Some(begun) = begun {
            self.tails.begin(partition, begun);
        }
        self.committed.assign(partition, at, adopts);
    }

    /// These partitions are owned no longer, and nobody waits for the outcomes of the files that are gone.
    pub(super) fn revoke(&mut self, partitions: &[i32], gone: &InstanceIds) {
        self.late.revoke(partitions);
        self.tails.revoke(partitions);
        self.committed.revoke(partitions);
        self.unusable.retain(|record| !partitions.contains(&record.partition));
        self.drop_files(gone);
    }

    /// Nobody waits for the outcomes of these files any more.
    pub(super) fn drop_files(&mut self, gone: &InstanceIds) {
        self.ready.retain(|outcome| !gone.contains(&outcome.info.id));
        self.expired.retain(|outcome| !gone.contains(&outcome.info.id));
        self.notes.retain(|note| !gone.contains(&note.info.id));
        self.under_way.gone.extend(gone);
    }

    /// A file has its outcome.
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.ready.push(outcome);
    }

    /// A record holds no chunk.
    pub(super) fn add_unusable(&mut self, record: Unusable) {
        self.unusable.push(record);
    }

    /// Whether the entry of this place is in a commit, or was.
    pub(super) fn has_entry(&self, place: Place) -> bool {
        self.late.has(place)
    }

    /// Entries of the group's state that lack chunks.
    pub(super) fn know_incomplete(&mut self, entries: Vec<Due>) {
        self.late.know(entries);
    }

    /// Where the group's state says that the group began.
    pub(super) fn know_begun(&mut self, all: Vec<(i32, Begun)>) {
        all.into_iter().for_each(|(partition, begun)| self.tails.know(partition, begun));
    }

    /// Somebody removed these entries.
    pub(super) fn forget(&mut self, entries: &[(Place, String)]) {
        entries.iter().for_each(|(place, path)| self.late.forget(*place, path));
    }

    /// Whether nothing makes a commit due soon.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.expired.is_empty() && self.notes.is_empty() && self.unusable.is_empty()
    }

    /// What waits.
    pub(super) fn load(&self) -> Load {
        let unusable = self.unusable.iter().map(Unusable::bytes);
        Load {
            is_empty: self.is_empty(),
            files: self.ready.len(),
            bytes: self.ready.iter().map(Outcome::bytes).chain(unusable).sum(),
            has_new_start: self.tails.is_new(),
        }
    }

    /// Makes the batch of a commit: what ended, the positions that hold once that is durable, and the changes of the
    /// group's state, all taken at this moment. `None` where nothing ended and nothing moves.
    ///
    /// # Errors
    /// A failure cannot be written as JSON.
    pub(super) fn batch(&mut self, around: Around<'_>, reach: Reach) -> Result<Option<Batch>, Error> {
        let mut outcomes = self.take_ready();
        outcomes.append(&mut self.expired);
        // a failure at the same place of the topic that is read takes the place of one of the topic before
        outcomes.sort_by_key(|outcome| !outcome.answers.as_ref().is_some_and(|entry| entry.is_foreign));
        let notes = std::mem::take(&mut self.notes);
        let moves = self.moves(around, &outcomes, &notes, reach);
        let answering = answered_ends(around, &outcomes);
        if outcomes.is_empty() && notes.is_empty() && moves.is_empty() && answering.is_empty() {
            return Ok(None);
        }
        let (source, mut state) = (&around.settings.source, Vec::new());
        let mut positions = Vec::with_capacity(moves.len());
        for to in &moves {
            positions.push(self.committed.position(source, to, &mut state));
            state.extend(self.tails.change(source, to.partition));
        }
        state.extend(answering.iter().map(|key| StateChange { key: key.clone(), value: None }));
        // a frontier that moves takes the dead letters of all records below it along
        let unusable = std::mem::take(&mut self.unusable);
        self.under_way = UnderWay { moves, answering, gone: InstanceIds::default() };
        Batch::of(around.settings, Ended { outcomes, notes, unusable }, (positions, state)).map(Some)
    }

    /// Whether a commit of what waits no longer would change nothing.
    pub(super) fn is_committed(&self, around: Around<'_>) -> bool {
        self.is_empty() && self.moves(around, &[], &[], Reach::All).is_empty() && answered_ends(around, &[]).is_empty()
    }

    /// The batch under way is durable: these files have their outcome. Answers the entries that have all their chunks
    /// with it.
    pub(super) fn done(&mut self, around: Around<'_>, finished: &InstanceIds) -> Vec<Due> {
        let UnderWay { moves, answering, .. } = std::mem::take(&mut self.under_way);
        if let Some(in_hand) = around.in_hand {
            in_hand.forget(&answering);
        }
        for to in &moves {
            if around.owned.get(&to.partition) == Some(&to.assignment) {
                self.tails.committed(to.partition);
            }
        }
        self.committed.moved(moves, around.owned);
        self.late.finish(finished)
    }

    /// The batch under way did not happen: what it held waits again, except what belongs to partitions that went
    /// meanwhile.
    pub(super) fn take_back(&mut self, batch: Batch, owned: &BTreeMap<i32, u64>) {
        let UnderWay { moves, gone, .. } = std::mem::take(&mut self.under_way);
        let mut kept: Vec<_> = batch.outcomes.into_iter().filter(|o| !gone.contains(&o.info.id)).collect();
        kept.append(&mut self.ready);
        let (mut expired, ready) = kept.into_iter().partition(Outcome::is_incomplete);
        self.ready = ready;
        self.expired.append(&mut expired);
        self.notes.extend(batch.notes.into_iter().filter(|note| !gone.contains(&note.info.id)));
        let is_owned = |to: &&Move| owned.get(&to.partition) == Some(&to.assignment);
        let still: HashSet<i32> = moves.iter().filter(is_owned).map(|to| to.partition).collect();
        let mut kept: Vec<_> = batch.unusable.into_iter().filter(|u| still.contains(&u.partition)).collect();
        kept.append(&mut self.unusable);
        self.unusable = kept;
    }

    fn take_ready(&mut self) -> Vec<Outcome> {
        let mut bytes = 0;
        let fit = self.ready.iter().take_while(|outcome| {
            let first = bytes == 0;
            bytes += outcome.bytes();
            first || bytes <= COMMIT_BYTES
        });
        let count = fit.count();
        let rest = self.ready.split_off(count);
        std::mem::replace(&mut self.ready, rest)
    }

    /// What the progress of the owned partitions is once these outcomes are durable, where that differs from what is
    /// committed: of all partitions, or of those that the outcomes touch. Files that are spread over partitions make it
    /// all of them. An outcome that answers an earlier failure takes a position along in any case: only the partition's
    /// owner may commit it.
    fn moves(&self, around: Around<'_>, outcomes: &[Outcome], notes: &[Note], reach: Reach) -> Vec<Move> {
        let ended = || outcomes.iter().map(|o| &o.info).chain(notes.iter().map(|note| &note.info));
        let finished: InstanceIds = ended().map(|info| info.id).collect();
        let answers = outcomes.iter().filter_map(|o| o.answers.as_ref());
        let answered: HashSet<i32> = answers.map(|entry| entry.partition()).collect();
        let touched = ended().flat_map(|info| info.spans.iter().map(|s| s.partition));
        let touched: HashSet<i32> = touched.chain(self.unusable.iter().map(|u| u.partition)).collect();
        let all = reach == Reach::All || around.assembler.is_spread();
        let wanted = around.owned.iter().filter(|(partition, _)| all || touched.contains(partition));
        let moves = wanted.filter_map(|(&partition, &assignment)| {
            let progress = around.assembler.progress(partition, &finished)?;
            let (offset, text) = encode(&progress, around.settings.source.tag.as_ref());
            Some(Move { partition, assignment, offset, text })
        });
        moves.filter(|to| answered.contains(&to.partition) || self.committed.differs(to)).collect()
    }
}

/// Keys about ends of a process that go once these outcomes are durable.
fn answered_ends(around: Around<'_>, outcomes: &[Outcome]) -> Vec<String> {
    let Some(in_hand) = around.in_hand else { return Vec::new() };
    let of_this_topic = |outcome: &&Outcome| outcome.answers.as_ref().is_none_or(|entry| !entry.is_foreign);
    let spots = outcomes.iter().filter(of_this_topic).map(|outcome| Spot::of(&outcome.info)).collect();
    in_hand.answered(&spots, |spot| around.assembler.is_done(spot.partition, spot.first))
}

/// What ends files whose chunks stopped coming.
pub(super) struct Expiry<'a> {
    pub(super) settings: &'a CommitSettings,
    pub(super) owned: &'a BTreeMap<i32, u64>,
    pub(super) assembler: &'a mut Assembler,
    /// How old the newest chunk of a file may be, milliseconds.
    pub(super) limit_ms: Option<i64>,
    /// No further chunk is to come.
    pub(super) nothing_comes: bool,
    /// For how many milliseconds partitions have given nothing at their ends.
    pub(super) quiet_ms: BTreeMap<i32, i64>,
    /// Files have chunks in several partitions.
    pub(super) is_spread: bool,
}

impl Pending {
    /// Ends the files whose chunks stopped coming, and uploads that complete one of those. What they are is not
    /// known before the group's state was looked at.
    pub(super) fn expire(&mut self, expiry: Expiry<'_>) {
        let Expiry { settings, owned, assembler, limit_ms, nothing_comes, quiet_ms, is_spread } = expiry;
        for outcome in self.late.look(assembler, nothing_comes, &self.budget) {
            self.ended_incomplete(settings, owned, outcome);
        }
        let repetition_ms = limit_ms.map_or(CUT_OFF_MS, |ms| ms.min(CUT_OFF_MS));
        let quiet_ms = |partition| quiet_ms.get(&partition).copied().unwrap_or(0);
        for expired in assembler.expire(limit_ms, repetition_ms, quiet_ms) {
            if expired.is_note || expired.is_again {
                self.notes.push(Note { info: expired.info, tail: None });
                continue;
            }
            let outcome = self.late.outcome(expired, &self.budget);
            match self.tails.reason(&outcome, limit_ms.unwrap_or(i64::MAX), is_spread) {
                Some(reason) => self.notes.push(Note { info: outcome.info, tail: Some(reason) }),
                None => self.ended_incomplete(settings, owned, outcome),
            }
        }
    }

    fn ended_incomplete(&mut self, settings: &CommitSettings, owned: &BTreeMap<i32, u64>, outcome: Outcome) {
        if let Err(failure) = &outcome.result {
            let entry = Arc::new(Entry::after(&settings.source, &settings.by, &outcome, failure));
            if let Some(&assignment) = owned.get(&entry.partition()) {
                self.late.expect(outcome.info.id, Due { entry, assignment });
            }
        }
        self.expired.push(outcome);
    }

    /// What has ended without all its chunks and waits for a commit. One of late chunks has those of its entry as well.
    #[cfg(test)]
    pub(super) fn ended(&self) -> impl Iterator<Item = &crate::assemble::FileInfo> {
        let files = self.expired.iter().map(|outcome| &*outcome.info);
        files.chain(self.notes.iter().map(|note| &*note.info))
    }
}
