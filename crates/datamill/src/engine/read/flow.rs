//! What holds the reading, and what is told of how it stands.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::TrySendError;
use datamill_broker::{ErrorKind, Subscription};

use super::Reader;
use super::ownership::names;
use crate::assemble::{Instance, InstanceIds, Mode, Place};
use crate::engine::EngineError;
use crate::engine::commit::{self, Task};
use crate::engine::purpose::lost_results;
use crate::facts::{Fact, FillingFile, Hold, Rest, State};
use crate::report::clock;

/// How often the registry learns of files that fill up.
const FILLING_EVERY: Duration = Duration::from_secs(4);
/// A partition whose newest record is no older is read to its end, or nearly.
const RECENT_MS: i64 = 60_000;
/// A commit that takes longer is shown as one that does not go through: the broker is away, or lacks what it is to write to.
const COMMIT_WITHIN: Duration = Duration::from_secs(5);

impl Reader<'_> {
    /// Holds the reading while too much waits for user code or for the disk, and before a stop.
    pub(super) fn flow(&mut self, subscription: &mut dyn Subscription) -> Result<(), EngineError> {
        let stays_held = self.stop_since.is_some() || self.only_retries() || self.torn;
        let hold = self.is_crowded() || self.intake.holds().is_some() || stays_held;
        if hold != self.held {
            self.held = hold;
            if hold {
                subscription.hold()?
            } else {
                subscription.resume()?;
                self.skew.restart();
            }
            tracing::debug!(hold, "reading");
        }
        if self.intake.spread && !self.held {
            self.hold_those_ahead(subscription)?;
        }
        Ok(())
    }

    /// Of a topic that spreads files over partitions, holds those that are read far ahead of the others.
    fn hold_those_ahead(&mut self, subscription: &mut dyn Subscription) -> Result<(), EngineError> {
        let places: Vec<_> = self.intake.assembler.places().collect();
        if self.skew.step(&places, self.intake.is_filling_up(), Instant::now()) {
            let held = self.skew.held();
            tracing::debug!(partitions = names(held.iter().copied()), "held until the others have caught up");
            let topic = &self.engine.topic;
            let held: Vec<_> = held.iter().map(|partition| (Arc::clone(topic), *partition)).collect();
            subscription.hold_partitions(&held)?;
        }
        Ok(())
    }

    /// Lets others see how the program stands, and what it waits for.
    pub(super) fn stand(&mut self) {
        let (pool, budget) = (self.engine.pool.standing(), &self.engine.budget);
        let counters = self.engine.listeners.facts.counters();
        counters.stand(&State {
            partitions: self.owned.len() as u64,
            is_member: self.is_member,
            waiting: pool.waiting,
            in_hand: pool.running,
            memory_filling: budget.filling() as u64,
            memory_whole: budget.whole() as u64,
            disk_filling: budget.filling_on_disk() as u64,
            disk_whole: budget.whole_on_disk() as u64,
            ..State::default()
        });
        if counters.is_asked_for_backlog() {
            counters.answer_backlog(self.intake.assembler.backlog());
        }
        let commits_late = self.committing.is_some_and(|since| since.elapsed() >= COMMIT_WITHIN);
        let needs_folder = self.engine.settings.mode != Mode::Memory || self.failures_in_a_row > 0;
        let also = [
            (needs_folder && self.engine.output.is_gone()).then_some(Hold::OutputFolder),
            self.torn.then_some(Hold::Spread),
            Hold::of_log(self.engine.log.as_ref()),
            (self.failures_in_a_row > 0 || commits_late).then_some(Hold::Commits),
            pool.hold,
            (self.held && self.is_crowded()).then_some(Hold::Crowded),
        ];
        let hold = self.intake.holds().or_else(|| also.into_iter().flatten().next());
        self.holding.step(counters, hold.filter(|_| self.stop_since.is_none()));
    }

    /// Says once that the topic of the results is not the one any more that it was.
    fn tell_lost_results(&self) {
        let (settings, mut watch) = (&self.engine.settings, self.engine.results.borrow_mut());
        let Some(error) = watch.as_mut().and_then(|watch| watch.check().err()) else { return };
        *watch = None;
        let (group, result_topic) = (&settings.group, settings.result_topic.as_deref());
        match error.kind() {
            ErrorKind::TopicReplaced => {
                tracing::error!(group, result_topic, "{}", lost_results(&settings.topic));
            }
            _ => tracing::error!(
                group,
                result_topic,
                "the topic of the results was deleted, and all results with it: the next result ends the program"
            ),
        }
    }

    /// Says once that nothing is left to do for the moment, where the program goes on all the same.
    fn tell_all_read(&self) {
        let engine = self.engine;
        if self.ends.is_some() || engine.all_read.get() || self.stop_since.is_some() || self.owned.is_empty() {
            return;
        }
        let mut positions = self.intake.assembler.positions();
        let is_read = positions.all(|(partition, next)| self.ends_seen.get(&partition) == Some(&next));
        let works =
            self.committing.is_some() || self.waits_for_commit() || !engine.pool.is_idle() || !self.retries.is_idle();
        if is_read && !works && self.intake.rereads.is_idle() {
            engine.all_read.set(true);
            tracing::info!(topic = %engine.topic, "everything in the topic is read; waiting for more");
        }
    }

    /// The files that fill up. Says once of each that its upload was probably cut off.
    fn filling(&mut self) -> Vec<FillingFile> {
        let now_ms = clock::now_ms();
        // a topic that is written to all the time is never read to its end
        let places = self.intake.assembler.places();
        let is_read = |place: &Place| {
            self.is_read_to(place.partition, place.next) || now_ms.saturating_sub(place.newest_ms) < RECENT_MS
        };
        let read: HashSet<i32> = places.filter(is_read).map(|place| place.partition).collect();
        let rest = |file: &Instance| {
            let is_over = || file.is_quiet(now_ms) && file.spans.iter().all(|span| read.contains(&span.partition));
            match (file.outdated, file.again) {
                (true, _) => Rest::Outdated,
                (false, true) if is_over() => Rest::SentAgain,
                (false, false) if file.is_cut_off(now_ms) && is_over() => Rest::CutOff,
                _ => Rest::Comes,
            }
        };
        let (mut filling, mut cut_off, mut new) = (Vec::new(), InstanceIds::default(), Vec::new());
        let mut left_over = InstanceIds::default();
        for (id, file) in self.intake.assembler.filling() {
            let of = FillingFile {
                row: commit::file_row(&file.version, &file.spans, file.first_ms, file.last_ms),
                there: file.indices.len(),
                bytes: file.bytes,
                rest: rest(file),
            };
            if of.rest == Rest::SentAgain {
                left_over.insert(id);
            }
            if of.rest == Rest::CutOff {
                cut_off.insert(id);
                if !self.cut_off.contains(&id) {
                    new.push(of.clone());
                }
            }
            filling.push(of);
        }
        self.cut_off = cut_off;
        self.intake.assembler.leave_over(&left_over);
        if !new.is_empty() {
            self.engine.listeners.facts.tell(&Fact::CutOff(&new));
        }
        filling
    }

    /// Lines and rows about the state.
    pub(super) fn tell(&mut self) {
        self.tell_lost_results();
        self.tell_all_read();
        let every = Duration::from_secs(self.engine.settings.update_seconds);
        let update = !every.is_zero() && self.last_update.elapsed() >= every;
        if self.engine.control.take_check() || update {
            self.last_update = Instant::now();
            tracing::info!(
                filling = self.intake.assembler.filling().len(),
                waiting = self.engine.pool.waiting(),
                span = self.intake.assembler.span(),
                "{}",
                self.engine.listeners.tally.line()
            );
        }
        if self.last_filling.elapsed() >= FILLING_EVERY && self.committing.is_none() {
            self.last_filling = Instant::now();
            let filling = self.filling();
            // a queue that is full gets the files of the next time
            let task = Task::Filling(filling.into());
            if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.tasks.try_send(task) {
                tracing::debug!("the registry is behind");
            }
        }
    }
}
