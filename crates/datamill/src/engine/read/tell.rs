//! What is told of how a session stands.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crossbeam_channel::TrySendError;
use datamill_broker::ErrorKind;

use super::Reader;
use crate::assemble::{Instance, InstanceIds, Mode, Place};
use crate::engine::commit::Task;
use crate::engine::origin::file_row;
use crate::engine::purpose::lost_results;
use crate::engine::session::{Input, Outside, Report};
use crate::facts::{Fact, FillingFile, Hold, Holding, Rest, State};
use crate::report::clock;

/// How often the registry learns of files that fill up.
const FILLING_EVERY: Duration = Duration::from_secs(4);
/// A partition whose newest record is no older is read to its end, or nearly.
const RECENT_MS: i64 = 60_000;

/// Partitions as one text, `none` for none.
pub(super) fn names(partitions: impl Iterator<Item = i32>) -> String {
    let names: Vec<String> = partitions.map(|p| p.to_string()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(",") }
}

/// What was told, and when.
pub(super) struct Told {
    /// The first record was read.
    pub(super) has_read: bool,
    update: Instant,
    filling: Instant,
    /// What to do about a spread topic.
    warning: Option<Instant>,
    /// Files that were told to be cut off, and have had no chunk since.
    cut_off: InstanceIds,
    holding: Holding,
}

impl Told {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            has_read: false,
            update: now,
            filling: now,
            warning: None,
            cut_off: InstanceIds::default(),
            holding: Holding::new(),
        }
    }

    /// Whether it is time to say once more what to do about a spread topic.
    pub(super) fn is_to_warn(&mut self, every: Duration) -> bool {
        let is_time = self.warning.is_none_or(|at| at.elapsed() >= every);
        if is_time {
            self.warning = Some(Instant::now());
        }
        is_time
    }
}

impl Reader<'_> {
    /// Lets others see how the program stands, and what it waits for.
    pub(super) fn stand(&mut self) {
        let (pool, budget) = (self.engine.pool.standing(), &self.engine.filling.budget);
        let counters = self.engine.listeners.facts.counters();
        counters.stand(&State {
            partitions: self.session.owned().len() as u64,
            is_member: self.session.is_member(),
            waiting: pool.waiting,
            in_hand: pool.running,
            memory_filling: budget.filling() as u64,
            memory_whole: budget.whole() as u64,
            disk_filling: budget.filling_on_disk() as u64,
            disk_whole: budget.whole_on_disk() as u64,
            ..State::default()
        });
        if counters.is_asked_for_backlog() {
            counters.answer_backlog(self.session.assembler().backlog());
        }
        let outside = Outside {
            waiting: pool.waiting as usize,
            folder_is_gone: self.engine.output.is_gone(),
            needs_folder: self.engine.settings.mode != Mode::Memory,
            of_log: Hold::of_log(self.engine.log.as_ref()),
            of_pool: pool.hold,
        };
        let hold = self.session.why_it_holds(outside, Instant::now());
        self.told.holding.step(counters, hold);
    }

    /// Says once that the topic of the results is not the one any more that it was.
    fn tell_lost_results(&self) {
        let (settings, mut watch) = (&self.engine.settings, self.engine.history.results.borrow_mut());
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
        let history = &self.engine.history;
        if self.session.ends().is_some() || history.all_read.get() || self.stop.has_begun() {
            return;
        }
        if self.session.is_caught_up() && self.engine.pool.is_idle() && self.threads.retries.is_idle() {
            history.all_read.set(true);
            tracing::info!(topic = %self.engine.topic(), "everything in the topic is read; waiting for more");
        }
    }

    /// The files that fill up. Says once of each that its upload was probably cut off.
    fn filling(&mut self) -> Vec<FillingFile> {
        let now_ms = clock::now_ms();
        // a topic that is written to all the time is never read to its end
        let places = self.session.assembler().places();
        let is_read = |place: &Place| {
            self.session.is_read_to(place.partition, place.next) || now_ms.saturating_sub(place.newest_ms) < RECENT_MS
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
        for (id, file) in self.session.assembler().filling() {
            let of = FillingFile {
                row: file_row(&file.version, &file.spans, file.first_ms, file.last_ms),
                there: file.indices.len(),
                bytes: file.bytes,
                rest: rest(file),
            };
            if of.rest == Rest::SentAgain {
                left_over.insert(id);
            }
            if of.rest == Rest::CutOff {
                cut_off.insert(id);
                if !self.told.cut_off.contains(&id) {
                    new.push(of.clone());
                }
            }
            filling.push(of);
        }
        self.told.cut_off = cut_off;
        self.due.extend(self.session.on(Input::Report(Report::LeftOver(left_over))));
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
        let update = !every.is_zero() && self.told.update.elapsed() >= every;
        if self.engine.control.take_check() || update {
            self.told.update = Instant::now();
            tracing::info!(
                filling = self.session.assembler().filling().len(),
                waiting = self.engine.pool.waiting(),
                span = self.session.assembler().span(),
                "{}",
                self.engine.listeners.tally.line()
            );
        }
        if self.told.filling.elapsed() >= FILLING_EVERY && !self.session.is_committing() {
            self.told.filling = Instant::now();
            let filling = self.filling();
            // a queue that is full gets the files of the next time
            let task = Task::Filling(filling.into());
            if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.threads.tasks.try_send(task) {
                tracing::debug!("the registry is behind");
            }
        }
    }
}
