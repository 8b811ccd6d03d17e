//! What the reading thread commits when: outcomes, and the progress that holds once they are durable,
//! become a batch at one moment; the answer to it decides what waits again.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill_broker::{ErrorKind, Position, StateChange};

use super::{Move, Reader, Verified, overflow_key};
use crate::assemble::{CUT_OFF_MS, InstanceIds};
use crate::engine::EngineError;
use crate::engine::commit::{Answer, Batch, Note, Task};
use crate::engine::dead_letter::Unusable;
use crate::engine::entry::{Due, Entry};
use crate::engine::in_hand::Spot;
use crate::engine::outcome::Outcome;
use crate::engine::retry::RetryFailed;
use crate::engine::start;
use crate::progress::{elsewhere, encode};

/// Results are committed together about this often.
const COMMIT_EVERY: Duration = Duration::from_millis(100);
/// Positions that moved without a result are committed this often.
const IDLE_COMMIT_EVERY: Duration = Duration::from_secs(10);
/// So many files make a commit due at once: what follows the last one of a topic is the time of one commit.
const COMMIT_FILES: usize = 2048;
/// Bytes of results in one commit, unless one result alone is larger.
const COMMIT_BYTES: usize = 32 << 20;
/// Waits after a commit that did not happen; the last one repeats.
const COMMIT_WAITS_MS: [u64; 5] = [50, 200, 500, 1000, 3000];
/// How often files are looked for whose chunks stopped coming.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);

impl Reader<'_> {
    /// Takes the answer to the last commit.
    pub(super) fn answered(&mut self) -> Result<ControlFlow<datamill_broker::Error>, EngineError> {
        let Ok(answer) = self.answers.try_recv() else { return Ok(ControlFlow::Continue(())) };
        self.committing = self.committing.filter(|_| matches!(answer, Answer::Verified(_)));
        match answer {
            Answer::Done(files) => {
                let finished: InstanceIds = files.iter().map(|info| info.id).collect();
                self.intake.assembler.finish(&finished);
                self.retries.finish(&finished);
                if let Some(in_hand) = &self.engine.in_hand {
                    in_hand.forget(&std::mem::take(&mut self.answering));
                }
                self.retry_completed(&finished);
                self.committed_once = true;
                for m in std::mem::take(&mut self.moving) {
                    self.marked.insert(m.partition);
                    if self.owned.get(&m.partition) == Some(&m.assignment) {
                        self.tails.committed(m.partition);
                        self.committed.insert(m.partition, (m.offset, m.text));
                    }
                }
                self.failures_in_a_row = 0;
            }
            Answer::Again(batch, error) => {
                if let Some(error) = error {
                    if !matches!(error.kind(), ErrorKind::Retry | ErrorKind::NoSpace) {
                        return Err(error.into());
                    }
                    if self.failures_in_a_row == 0 {
                        tracing::warn!(error = %crate::report::chain(&error), "a commit did not happen; trying again");
                    }
                }
                let wait = COMMIT_WAITS_MS[self.failures_in_a_row.min(COMMIT_WAITS_MS.len() - 1)];
                self.failures_in_a_row += 1;
                self.not_before = Instant::now() + Duration::from_millis(wait);
                self.take_back(batch);
            }
            Answer::RecordsRefused(batch) => {
                self.take_back(batch);
                self.not_before = Instant::now();
                self.last_commit = Instant::now() - COMMIT_EVERY;
            }
            Answer::Verified(same) => {
                self.verified = Verified::Yes;
                same?;
            }
            Answer::Over(error) => return Err(error),
            Answer::Unknown(error) => {
                if matches!(
                    error.kind(),
                    ErrorKind::Fenced | ErrorKind::Denied | ErrorKind::DeniedExactlyOnce | ErrorKind::Settings
                ) {
                    return Err(error.into());
                }
                return Ok(ControlFlow::Break(error));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// What was to be committed waits again, except what belongs to partitions that went meanwhile.
    fn take_back(&mut self, batch: Batch) {
        let mut kept: Vec<_> = batch.outcomes.into_iter().filter(|o| self.awaits(o.info.id)).collect();
        kept.append(&mut self.ready);
        (self.expired, self.ready) = kept.into_iter().partition(Outcome::is_incomplete);
        self.notes = batch.notes.into_iter().filter(|note| self.awaits(note.info.id)).collect();
        let owned = |m: &Move| self.owned.get(&m.partition) == Some(&m.assignment);
        let still: HashSet<i32> = self.moving.iter().filter(|m| owned(m)).map(|m| m.partition).collect();
        let mut kept: Vec<_> = batch.unusable.into_iter().filter(|u| still.contains(&u.partition)).collect();
        kept.append(&mut self.intake.unusable);
        self.intake.unusable = kept;
    }

    /// Whether there is something that makes a commit due soon.
    pub(super) fn waits_for_commit(&self) -> bool {
        !self.ready.is_empty() || !self.expired.is_empty() || !self.notes.is_empty() || !self.intake.unusable.is_empty()
    }

    /// Makes a batch if it is time for one.
    pub(super) fn maybe_commit(&mut self, ending: bool) {
        let now = Instant::now();
        if self.committing.is_some() || self.torn || now < self.not_before {
            return;
        }
        self.expire(now, ending);
        let since = now - self.last_commit;
        let unusable = self.intake.unusable.iter().map(Unusable::bytes);
        let bytes: usize = self.ready.iter().map(Outcome::bytes).chain(unusable).sum();
        // others may decide by the first position of a partition where those that have none start
        let all = since >= IDLE_COMMIT_EVERY || ending || self.tails.is_new();
        let due = if self.waits_for_commit() {
            since >= COMMIT_EVERY || self.ready.len() >= COMMIT_FILES || bytes >= COMMIT_BYTES || ending
        } else {
            since >= IDLE_COMMIT_EVERY || ending || self.tails.is_new() && since >= COMMIT_EVERY
        };
        if !due {
            return;
        }
        let mut outcomes = self.take_ready();
        outcomes.append(&mut self.expired);
        // a failure at the same place of the topic that is read takes the place of one of the topic before
        outcomes.sort_by_key(|outcome| !outcome.answers.as_ref().is_some_and(|entry| entry.is_foreign));
        let notes = std::mem::take(&mut self.notes);
        let moves = self.moves(&outcomes, &notes, all);
        let answering = self.answered_ends(&outcomes);
        if outcomes.is_empty() && notes.is_empty() && moves.is_empty() && answering.is_empty() {
            return;
        }
        self.last_commit = now;
        let failed = outcomes.iter().filter(|outcome| outcome.result.is_err() && !outcome.is_incomplete());
        self.engine.tried.add(failed.map(Entry::place_for));
        // a frontier that moves takes the dead letters of all records below it along
        let unusable = std::mem::take(&mut self.intake.unusable);
        let (positions, mut state) = self.positions(&moves);
        state.extend(answering.iter().map(|key| StateChange { key: key.clone(), value: None }));
        self.answering = answering;
        self.moving = moves;
        let is_sent = self.tasks.send(Task::Commit(Batch { outcomes, notes, unusable, positions, state })).is_ok();
        self.committing = is_sent.then_some(now);
    }

    /// Ends the files whose chunks stopped coming, and uploads that complete one of those. What they are is not
    /// known before the group's state was looked at.
    fn expire(&mut self, now: Instant, ending: bool) {
        if self.retries.is_blind() || now - self.last_expire < EXPIRE_EVERY && !ending {
            return;
        }
        self.last_expire = now;
        let nothing_comes = ending && self.stop_since.is_none();
        for outcome in self.late.look(&mut self.intake.assembler, nothing_comes, &self.engine.budget) {
            self.ended_incomplete(outcome);
        }
        self.watch_quiet(now);
        let limit_ms = self.incomplete_after_ms;
        let repetition_ms = limit_ms.map_or(CUT_OFF_MS, |ms| ms.min(CUT_OFF_MS));
        let at_end: HashMap<i32, i64> = match nothing_comes {
            true => self.owned.keys().map(|partition| (*partition, self.quiet_at_end(*partition))).collect(),
            false => HashMap::new(),
        };
        let quiet_ms = |partition| self.quiet.ms(partition, now).max(at_end.get(&partition).copied().unwrap_or(0));
        for expired in self.intake.assembler.expire(limit_ms, repetition_ms, quiet_ms) {
            if expired.is_note || expired.is_again {
                self.notes.push(Note { info: expired.info, tail: None });
                continue;
            }
            let outcome = self.late.outcome(expired, &self.engine.budget);
            match self.tails.reason(&outcome, limit_ms.unwrap_or(i64::MAX), self.intake.spread) {
                Some(reason) => self.notes.push(Note { info: outcome.info, tail: Some(reason) }),
                None => self.ended_incomplete(outcome),
            }
        }
    }

    /// Keys about ends of a process that go once these outcomes are durable.
    pub(super) fn answered_ends(&self, outcomes: &[Outcome]) -> Vec<String> {
        let Some(in_hand) = &self.engine.in_hand else { return Vec::new() };
        let of_this_topic = |outcome: &&Outcome| outcome.answers.as_ref().is_none_or(|entry| !entry.is_foreign);
        let spots = outcomes.iter().filter(of_this_topic).map(|outcome| Spot::of(&outcome.info)).collect();
        in_hand.answered(&spots, |spot| self.intake.assembler.is_done(spot.partition, spot.first))
    }

    fn ended_incomplete(&mut self, outcome: Outcome) {
        if let Err(failure) = &outcome.result {
            let source = self.engine.source.id.as_deref();
            let entry = Arc::new(Entry::after(&self.engine.topic, source, &self.engine.by, &outcome, failure));
            if let Some(&assignment) = self.owned.get(&entry.partition()) {
                self.late.expect(outcome.info.id, Due { entry, assignment });
            }
        }
        self.expired.push(outcome);
    }

    /// Files that have all their chunks since this commit are tried again.
    fn retry_completed(&mut self, finished: &InstanceIds) {
        for due in self.late.finish(finished) {
            let file = due.entry.path();
            if self.engine.settings.retry_failed == RetryFailed::No {
                tracing::info!(file, topic = %self.engine.topic,
                    "late chunks have completed a file; it is left alone until somebody asks for another try");
            } else {
                tracing::info!(file, topic = %self.engine.topic, "late chunks have completed a file; it is tried again");
                self.retries.push(due);
            }
        }
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

    /// What the progress of the owned partitions is once these outcomes are durable, where that differs
    /// from what is committed: of all partitions, or of those that the outcomes touch. Files that are
    /// spread over partitions make it all of them. An outcome that answers an earlier failure takes a
    /// position along in any case: only the partition's owner may commit it.
    pub(super) fn moves(&self, outcomes: &[Outcome], notes: &[Note], all: bool) -> Vec<Move> {
        let ended = || outcomes.iter().map(|o| &o.info).chain(notes.iter().map(|note| &note.info));
        let finished: InstanceIds = ended().map(|info| info.id).collect();
        let answers = outcomes.iter().filter_map(|o| o.answers.as_ref());
        let answered: HashSet<i32> = answers.map(|entry| entry.partition()).collect();
        let touched = ended().flat_map(|info| info.spans.iter().map(|s| s.partition));
        let unusable = self.intake.unusable.iter().map(|u| u.partition);
        let touched: HashSet<i32> = touched.chain(unusable).collect();
        let all = all || self.intake.assembler.is_spread();
        let wanted = self.owned.iter().filter(|(partition, _)| all || touched.contains(partition));
        let moves = wanted.filter_map(|(&partition, &assignment)| {
            let progress = self.intake.assembler.progress(partition, &finished)?;
            let (offset, text) = encode(&progress, self.engine.source.tag.as_ref());
            Some(Move { partition, assignment, offset, text })
        });
        moves
            .filter(|m| {
                let before = self.committed.get(&m.partition);
                answered.contains(&m.partition) || before.is_none_or(|old| *old != (m.offset, m.text.clone()))
            })
            .collect()
    }

    /// The positions of these moves. A text that does not fit beside an offset goes into the group's
    /// state, and goes from there once it fits.
    fn positions(&self, moves: &[Move]) -> (Vec<Position>, Vec<StateChange>) {
        let source = &self.engine.source;
        let overflows = |text: &str| text.len() > datamill_broker::MAX_PROGRESS_TEXT;
        let mut state = Vec::new();
        let position = |m: &Move| {
            if !self.marked.contains(&m.partition) {
                state.push(start::mark(source, m.partition));
                state.extend(source.adopt(m.partition).filter(|_| self.adopting.contains(&m.partition)));
            }
            state.extend(self.tails.change(source, m.partition));
            let key = |text: &str| overflow_key(&self.engine.topic, m.partition, text);
            let before = self.committed.get(&m.partition).map(|(_, text)| text).filter(|text| overflows(text));
            let before = before.map(|text| key(text));
            let mut text = m.text.clone();
            if overflows(&text) {
                if before.is_none() {
                    tracing::debug!(topic = %self.engine.topic, partition = m.partition,
                        "the progress of the unfinished files does not fit beside the position; the group's state has it");
                }
                let key = key(&text);
                text = elsewhere(&key, source.tag.as_ref());
                state.push(StateChange { key, value: Some(m.text.clone().into_bytes()) });
            }
            if let Some(key) = before.filter(|key| text != elsewhere(key, source.tag.as_ref())) {
                state.push(StateChange { key, value: None });
            }
            let topic = Arc::clone(&self.engine.topic);
            Position { topic, partition: m.partition, assignment: m.assignment, offset: m.offset, text }
        };
        (moves.iter().map(position).collect(), state)
    }
}
