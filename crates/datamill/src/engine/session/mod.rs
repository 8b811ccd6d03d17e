//! One session as a machine: what happened goes in, what is to be done comes out.
//!
//! ```text
//!   read.rs ──Input: events, reports, answers, ticks──▶ Session::on ──Actions──▶ read.rs does them
//!
//!               ┌ intake     records ─▶ chunks ─▶ whole files                 ─▶ Work, ReadAgain
//!               │ ownership  what is assigned, divided, torn
//!               │ settling   who leaves a topic that one member alone can read
//!     Session ──┤ pending    outcomes, ended files, records without a chunk   ─▶ one batch: Commit
//!               │ pacing     when the next commit is due
//!               │ flow       what holds the reading                           ─▶ Hold, Resume
//!               │ quiet      how long partitions have given nothing
//!               └ ending     ends, stops, the last look at the topic          ─▶ Verify, End
//! ```
//!
//! It knows no log, no clock, no thread and no channel: time comes with its input, and how the threads stand comes with
//! each tick. It touches the disk through the spill folder alone, as the assembler does. Each part owns its fields, and
//! no other file can name them. What needs several parts is in this file; `view` tells how they stand.
//!
//! What holds at each moment:
//! - A file that is whole is in one place: with the threads that work on it, in `pending`, or in the one batch that is
//!   under way.
//! - A batch is made in one go, from outcomes and from the progress that holds once they are durable. While it is under
//!   way no other one is made.
//! - The outcome of a file counts only while its partitions are owned. A partition that was revoked takes along what
//!   waits; what of it is under way is fenced by its assignment number and falls away when the batch comes back.
//! - A session that was torn, see [`ownership`], commits nothing any more.

mod action;
mod batch;
mod committed;
mod ending;
mod flow;
mod input;
mod intake;
mod late;
mod ownership;
mod pacing;
mod pending;
mod quiet;
mod settling;
mod skew;
#[cfg(test)]
mod tests;
mod view;

pub(super) use action::{Action, Actions, End};
pub(super) use batch::{Batch, Note, Source as BatchSource};
pub(super) use input::{Answer, Input, Report, Taken, Tick};
pub(super) use view::Outside;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use datamill_broker::ErrorKind;

use ending::Ending;
use flow::Flow;
use intake::Intake;
use ownership::Ownership;
use pacing::Pacing;
use pending::{Around, Expiry, Pending};
use quiet::Quiet;
use settling::Settling;

use super::in_hand::InHand;
use super::origin::CommitSettings;
use super::outcome::Outcome;
use super::reread::Reread;
use crate::assemble::{Assembler, Budget, InstanceIds, SpillFolder, WholeFile};
use crate::facts::Facts;

/// What files may take, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// In memory, filling and whole.
    pub(super) files_bytes: usize,
    /// In memory, whole ones and results.
    pub(super) whole_bytes: usize,
    /// On disk.
    pub(super) spill_limit: Option<usize>,
    /// What a partition gives before it is held again for others.
    pub(super) skew_bytes: usize,
}

/// What a session is made from.
pub(super) struct Setup {
    pub(super) commit: Arc<CommitSettings>,
    pub(super) limits: Limits,
    pub(super) facts: Facts,
    pub(super) budget: Arc<Budget>,
    pub(super) spill: SpillFolder,
    /// Where user code may take the process down.
    pub(super) in_hand: Option<Arc<InHand>>,
    /// Partitions of the topic.
    pub(super) partitions: i32,
    /// Files of the topic are known to lie in several partitions.
    pub(super) is_spread: bool,
    /// Where they ended at the start, if the run ends there.
    pub(super) ends: Option<BTreeMap<i32, i64>>,
    /// How old the newest chunk of a file may be, milliseconds.
    pub(super) incomplete_after_ms: Option<i64>,
    /// Nothing but failed files is done.
    pub(super) only_retries: bool,
}

/// See the module.
pub(super) struct Session {
    commit: Arc<CommitSettings>,
    in_hand: Option<Arc<InHand>>,
    budget: Arc<Budget>,
    incomplete_after_ms: Option<i64>,
    only_retries: bool,
    intake: Intake,
    ownership: Ownership,
    settling: Settling,
    pending: Pending,
    pacing: Pacing,
    flow: Flow,
    quiet: Quiet,
    ending: Ending,
    /// The output folder was gone at the last tick.
    folder_was_gone: bool,
}

impl Session {
    /// A session that owns nothing yet.
    pub(super) fn new(setup: Setup, assembler: Assembler, now: Instant) -> Self {
        let Setup { commit, limits, facts, budget, in_hand, partitions, only_retries, .. } = setup;
        Self {
            intake: Intake::new(assembler, facts, Arc::clone(&budget), setup.spill, &limits),
            ownership: Ownership::of(partitions, setup.is_spread),
            settling: Settling::default(),
            pending: Pending::new(Arc::clone(&budget)),
            pacing: Pacing::from(now),
            flow: Flow::new(&limits, Arc::clone(&budget), only_retries),
            quiet: Quiet::default(),
            ending: Ending::at(setup.ends, commit.source.id.is_some()),
            commit,
            in_hand,
            budget,
            incomplete_after_ms: setup.incomplete_after_ms,
            only_retries,
            folder_was_gone: false,
        }
    }

    /// Something happened: what is to be done about it.
    pub(super) fn on(&mut self, input: Input<'_>) -> Actions {
        let mut actions = Actions::new();
        match input {
            Input::Record(record, now, now_ms) => {
                let unusable = self.intake.record(record, (now, now_ms), &mut self.ownership, &mut actions);
                unusable.into_iter().for_each(|record| self.pending.add_unusable(record));
            }
            Input::End { partition, offset, now_ms } => {
                self.intake.assembler.skip_to(partition, offset);
                self.intake.assembler.at_end(partition, now_ms);
                self.ending.reach(partition, offset);
                self.flow.end(partition, offset);
            }
            Input::Assigned(partitions) => self.assigned(partitions),
            Input::Revoked { partitions, lost, tried } => self.revoked(partitions, lost, tried, &mut actions),
            Input::Report(report) => self.report(report, &mut actions),
            Input::Answer(answer, now) => self.answer(answer, now, &mut actions),
            Input::Tick(tick) => self.tick(tick, &mut actions),
        }
        actions
    }

    fn assigned(&mut self, partitions: Vec<Taken>) {
        self.ownership.joins();
        for taken in partitions {
            let Taken { partition, assignment, start, restored, committed, begun, adopts } = taken;
            self.intake.assembler.assign(partition, restored, start);
            self.ownership.assign(partition, assignment);
            self.pending.assign(partition, committed, adopts, begun);
        }
    }

    fn revoked(&mut self, partitions: &[i32], lost: bool, tried: InstanceIds, actions: &mut Actions) {
        self.ownership.revoke(partitions, lost);
        let (gone, is_torn) = self.intake.assembler.revoke(partitions);
        let gone: InstanceIds = gone.into_iter().chain(tried).collect();
        self.intake.forget(&gone);
        self.pending.revoke(partitions, &gone);
        self.flow.revoke(partitions);
        self.ending.revoke(partitions);
        if is_torn {
            self.ownership.tears();
        }
        if !gone.is_empty() {
            actions.push(Action::Drop(gone));
        }
    }

    fn report(&mut self, report: Report, actions: &mut Actions) {
        match report {
            Report::Outcome(outcome) => {
                let is_awaited = match &outcome.answers {
                    // an entry of the topic before has made room for a failure at the same place of this one
                    Some(entry) => !(entry.is_foreign && self.pending.has_entry(entry.place)),
                    None => self.intake.awaits(outcome.info.id),
                };
                if is_awaited {
                    self.pending.add(*outcome);
                }
            }
            Report::Again(file, answers) => {
                let path = Arc::clone(&file.info.version.path);
                if self.intake.read_again(file, answers) {
                    tracing::info!(file = %path, topic = %self.commit.source.name,
                        "what was sent of it while its chunks came is of no use; it is read again");
                }
            }
            Report::Reread(found) => {
                let Some(answers) = self.intake.was_read_again() else { return };
                match found {
                    Some(Reread::Whole(file)) => {
                        let failed_before = answers.is_some();
                        actions.push(Action::Work(Box::new(WholeFile { failed_before, ..*file })));
                    }
                    Some(Reread::Gone(info)) => {
                        let mut outcome = Outcome::gone(info, &self.budget);
                        outcome.answers = answers;
                        self.pending.add(outcome);
                    }
                    None => {}
                }
            }
            Report::Incomplete(entries) => self.pending.know_incomplete(entries),
            Report::Begun(all) => self.pending.know_begun(all),
            Report::Spread => self.ownership.hears_of_a_file(|| false),
            Report::LeftOver(uploads) => self.intake.assembler.leave_over(&uploads),
            Report::Forgotten(entries, gone) => {
                self.pending.forget(&entries);
                self.pending.drop_files(&gone);
                self.intake.forget(&gone);
                if !gone.is_empty() {
                    actions.push(Action::Drop(gone));
                }
            }
        }
    }

    fn answer(&mut self, answer: Answer, now: Instant, actions: &mut Actions) {
        match answer {
            Answer::Done(files) => {
                let finished: InstanceIds = files.iter().map(|info| info.id).collect();
                self.intake.assembler.finish(&finished);
                self.pacing.done();
                let (pending, around) = self.parts();
                let whole = pending.done(around, &finished);
                actions.push(Action::Finished(finished));
                actions.extend(whole.into_iter().map(Action::Completed));
            }
            Answer::Again(batch, error) => {
                let is_first = self.pacing.again(now);
                match error {
                    Some(error) if !matches!(error.kind(), ErrorKind::Retry | ErrorKind::NoSpace) => {
                        return actions.push(Action::End(End::Failed(error.into())));
                    }
                    Some(error) if is_first => {
                        tracing::warn!(error = %crate::report::chain(&error), "a commit did not happen; trying again");
                    }
                    _ => {}
                }
                self.pending.take_back(batch, self.ownership.owned());
            }
            Answer::RecordsRefused(batch) => {
                self.pacing.refused(now);
                self.pending.take_back(batch, self.ownership.owned());
            }
            Answer::Verified(Ok(())) => self.ending.is_verified(),
            Answer::Verified(Err(error)) => actions.push(Action::End(End::Failed(error.into()))),
            Answer::Over(error) => actions.push(Action::End(End::Failed(error))),
            Answer::Unknown(error) => actions.push(Action::End(match error.kind() {
                ErrorKind::Fenced | ErrorKind::Denied | ErrorKind::DeniedExactlyOnce | ErrorKind::Settings => {
                    End::Failed(error.into())
                }
                _ => End::Unclear(error),
            })),
        }
    }

    fn tick(&mut self, tick: Tick, actions: &mut Actions) {
        if tick.is_stopping && !self.ending.is_stopping() {
            self.ending.stop();
            self.intake.stop();
        }
        if std::mem::replace(&mut self.folder_was_gone, tick.folder_is_gone) && !tick.folder_is_gone {
            self.pacing.at_once(tick.now);
        }
        self.intake.report_lost();
        self.intake.settle(tick.now, actions);
        self.intake.assembler.offer();
        if self.flow.has_room(tick.waiting) {
            self.intake.read_next_again(actions);
        }
        // a file that goes to the pool now keeps it from being idle
        let pool_is_idle = tick.pool_is_idle && actions.is_empty();
        let tick = Tick { pool_is_idle, ..tick };
        self.ownership.watch();
        if self.ownership.is_torn() && !self.pacing.is_committing() && self.ownership.owns_all() {
            return actions.push(Action::End(End::WholeAgain));
        }
        if self.leaves(tick) {
            return actions.push(Action::End(End::StandsBy));
        }
        self.hold(tick, actions);
        let is_near = self.ending.is_stopping() || self.is_at_end(tick);
        let is_ending = self.ending.verify(is_near, tick.now, actions);
        self.begin_commit(tick, is_ending, actions);
        if is_ending && self.is_idle(pool_is_idle) {
            actions.push(Action::End(End::Finished));
        }
    }

    /// Whether another member of the group is to read the topic alone. One that runs to the end of the topic, or is asked
    /// to stop, does not wait for that; a commit that is under way comes first.
    fn leaves(&mut self, tick: Tick) -> bool {
        let may_leave = tick.sees_group && !self.ending.is_stopping() && self.ends().is_none();
        let leaves = self.settling.leaves(&self.ownership, may_leave, tick.now);
        leaves && !self.pacing.is_committing()
    }

    /// Holds the reading while too much waits for user code or for the disk, and before a stop.
    fn hold(&mut self, tick: Tick, actions: &mut Actions) {
        let stays_held = self.ending.is_stopping() || self.only_retries || self.ownership.is_torn();
        let hold = self.flow.is_crowded(tick.waiting) || self.intake.holds().is_some() || stays_held;
        self.flow.hold(hold, actions);
        if self.ownership.is_spread() {
            let places: Vec<_> = self.intake.assembler.places().collect();
            self.flow.hold_those_ahead(&places, self.intake.is_filling_up(), tick.now, actions);
        }
    }

    /// Begins a commit if it is time for one.
    fn begin_commit(&mut self, tick: Tick, ending: bool, actions: &mut Actions) {
        if self.ownership.is_torn() || !self.pacing.may_begin(tick.now) {
            return;
        }
        // what files without all their chunks are is not known before the group's state was looked at
        if !tick.is_blind && self.pacing.expires(ending, tick.now) {
            self.expire(tick, ending && !self.ending.is_stopping());
        }
        let Some(reach) = self.pacing.due(self.pending.load(), ending, tick.now) else { return };
        let (pending, around) = self.parts();
        match pending.batch(around, reach) {
            Ok(None) => {}
            Ok(Some(batch)) => {
                self.pacing.begins(tick.now);
                actions.push(Action::Commit(Box::new(batch)));
            }
            Err(error) => actions.push(Action::End(End::Unclear(error))),
        }
    }

    /// Ends files whose chunks stopped coming.
    fn expire(&mut self, tick: Tick, nothing_comes: bool) {
        // while the reading is held or the log is away, it says nothing that a partition gives nothing
        let positions = self.intake.assembler.positions();
        let at_end: Vec<_> = positions.filter(|(p, next)| !tick.is_away && self.is_read_to(*p, *next)).collect();
        self.quiet.look(at_end.into_iter(), tick.now);
        let quiet_ms = |partition| {
            let at_end = if nothing_comes { self.quiet_at_end(partition, tick.now_ms) } else { 0 };
            self.quiet.ms(partition, tick.now).max(at_end)
        };
        let quiet_ms = self.ownership.owned().keys().map(|partition| (*partition, quiet_ms(*partition))).collect();
        self.pending.expire(Expiry {
            settings: &self.commit,
            owned: self.ownership.owned(),
            assembler: &mut self.intake.assembler,
            limit_ms: self.incomplete_after_ms,
            nothing_comes,
            quiet_ms,
            is_spread: self.ownership.is_spread(),
        });
    }

    /// Of a run that ends by itself: for how many milliseconds a partition has given nothing. It is told by the clock,
    /// where nothing came during the run.
    fn quiet_at_end(&self, partition: i32, now_ms: i64) -> i64 {
        let mut places = self.intake.assembler.places().filter(|place| place.partition == partition);
        let idle = places.find(|place| self.ends().and_then(|ends| ends.get(&partition)) == Some(&place.next));
        idle.map_or(0, |place| now_ms.saturating_sub(place.newest_ms).max(0))
    }

    /// What waits, and what a batch of it is made from beside it.
    fn parts(&mut self) -> (&mut Pending, Around<'_>) {
        let around = Around {
            settings: &self.commit,
            owned: self.ownership.owned(),
            assembler: &self.intake.assembler,
            in_hand: self.in_hand.as_deref(),
        };
        (&mut self.pending, around)
    }

    /// Whether everything that was in the topic at the start has been read and has its outcome.
    fn is_at_end(&self, tick: Tick) -> bool {
        let reads_again = !tick.retries_are_idle || !self.intake.reads_nothing_again();
        let is_whole = self.ownership.is_member() && !self.ownership.is_torn();
        if !is_whole || !tick.pool_is_idle || reads_again {
            return false;
        }
        self.only_retries || self.intake.holds().is_none() && self.ending.is_reached(&self.intake.assembler)
    }

    /// Whether nothing waits for a commit any more.
    fn is_idle(&mut self, pool_is_idle: bool) -> bool {
        if self.pacing.is_committing() || !pool_is_idle {
            return false;
        }
        let is_torn = self.ownership.is_torn();
        let (pending, around) = self.parts();
        is_torn || pending.is_committed(around)
    }
}
