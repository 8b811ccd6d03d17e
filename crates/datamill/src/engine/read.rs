//! The reading thread: it polls the log, feeds the assembler and the pool, and decides what is
//! committed when.

mod batch;
mod ending;
mod flow;
mod opening;
mod ownership;
mod pool;
mod quiet;
mod unassigned;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use datamill_broker::{ErrorKind, Event, Log, Session, Subscription};
use datamill_wire::{hex, sha512};
use parking_lot::Mutex;

use opening::Opening;
use ownership::names;
use quiet::Quiet;
use unassigned::Unassigned;

use super::assemble::Intake;
use super::commit::{self, Answer, CommitSettings, Note, Task};
use super::dead_letter::{DeadLetterTopic, KeptRecords};
use super::folder::Output;
use super::in_hand::InHand;
use super::late::LateChunks;
use super::listeners::Listeners;
use super::outcome::Outcome;
use super::purpose::Standing;
use super::reread::{RereadSettings, Rereads};
use super::retry::{Retries, RetryFailed, RetrySettings, Tried};
use super::skew::Skew;
use super::source::Source;
use super::state::GroupState;
use super::summary::Left;
use super::tails::Tails;
use super::work::Pool;
use super::{Control, EngineError, EngineSettings, StopKind};
use crate::assemble::{Assembler, Budget, Following, HashAhead, InstanceIds, SpillFolder};
use crate::facts::{Fact, Hold, Holding};
use crate::read::Watch;

/// How long a poll waits while results are expected, and while nothing is.
const BUSY_POLL: Duration = Duration::from_millis(5);
const QUIET_POLL: Duration = Duration::from_millis(100);
/// How long the end of a run waits for the answer whether the topic is still the same: a broker that is away does
/// not answer.
const VERIFIED_WITHIN: Duration = Duration::from_secs(5);

/// The key of the group's state for the progress of a partition that does not fit beside its offset. Each text
/// has a key of its own: what is committed names a text that is there until the next one is.
pub(super) fn overflow_key(topic: &str, partition: i32, text: &str) -> String {
    format!("progress/{topic}/{partition}/{}", hex(&sha512(text.as_bytes())[..8]))
}

/// New sessions in a row without one commit before the program gives up.
const MAX_REBUILDS: u32 = 5;

/// The parts that outlive a session.
pub(super) struct Engine<'a> {
    pub(super) log: &'a Arc<dyn Log>,
    pub(super) settings: &'a EngineSettings,
    pub(super) topic: Arc<str>,
    pub(super) source: Source,
    pub(super) dead_letters: Option<DeadLetterTopic>,
    pub(super) state: &'a GroupState<'a>,
    pub(super) output: &'a Arc<Output>,
    pub(super) standing: Mutex<Standing>,
    /// Whose the failures of this program are.
    pub(super) by: String,
    pub(super) control: &'a Control,
    pub(super) listeners: Listeners,
    pub(super) budget: Arc<Budget>,
    pub(super) spill: SpillFolder,
    pub(super) hash_ahead: HashAhead,
    pub(super) following: Option<Following>,
    pub(super) pool: &'a Pool,
    /// Where user code may take the process down.
    pub(super) in_hand: Option<Arc<InHand>>,
    /// Whether the topic of the results is still the one of the start. `None` where there is none, or it was told.
    pub(super) results: RefCell<Option<Watch>>,
    /// It was said that everything in the topic is read.
    pub(super) all_read: Cell<bool>,
    /// Number of the session, from 1.
    pub(super) sessions: Cell<u64>,
    /// It was said that the program has started: what can refuse a start is over.
    pub(super) started: Cell<bool>,
    pub(super) tried: &'a Tried,
}

enum Ended {
    /// As asked, with what is left.
    Finished(Left),
    /// The session is over, for this reason: a new one starts from what is committed.
    Rebuild(&'static str, datamill_broker::Error),
    /// A new session cannot begin yet: brokers that have to be asked do not answer.
    Waits(datamill_broker::Error),
    /// All partitions of a spread topic are owned again: a new session starts from what is committed.
    WholeAgain,
}

impl Engine<'_> {
    /// Runs sessions until one ends as asked. Answers what is left.
    pub(super) fn run(&self) -> Result<Left, EngineError> {
        let (mut rebuilds, mut waits) = (0, false);
        loop {
            let mut committed = false;
            let ended = match self.session(&mut committed) {
                Err(EngineError::Log(error)) if error.kind() == ErrorKind::Retry && self.is_stopping() => {
                    Ended::Rebuild("the log does not answer", error)
                }
                ended => ended.map_err(|error| self.explain(error))?,
            };
            let waited = std::mem::replace(&mut waits, matches!(ended, Ended::Waits(_)));
            match ended {
                Ended::Finished(left) => return Ok(left),
                Ended::Waits(error) => {
                    if !waited {
                        tracing::warn!(error = %crate::report::chain(&error), "waiting until brokers answer");
                    }
                    let hold = Hold::of_log(self.log.as_ref()).unwrap_or(Hold::Broker);
                    Holding::new().step(self.listeners.facts.counters(), Some(hold));
                    self.rest();
                    if self.control.stopping().is_some() {
                        return Ok(Left::default());
                    }
                    continue;
                }
                Ended::Rebuild(what, error) => {
                    if self.is_stopping() {
                        tracing::warn!(error = %crate::report::chain(&error), "{what}; the next start goes on from what \
                            is committed");
                        return Ok(Left::default());
                    }
                    rebuilds = if committed { 1 } else { rebuilds + 1 };
                    if rebuilds > MAX_REBUILDS {
                        return Err(EngineError::Session(error));
                    }
                    tracing::warn!(error = %crate::report::chain(&error), "{what}; starting again from what is committed");
                }
                Ended::WholeAgain => {
                    tracing::info!(topic = %self.topic, "all partitions are this process's now; going on");
                }
            }
            self.pool.cancel(|_| true);
            if let Some(in_hand) = &self.in_hand {
                in_hand.revoke_all();
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.control.stopping().is_some()
    }

    /// An error of the log, with what a person does about it.
    fn explain(&self, error: EngineError) -> EngineError {
        match error {
            EngineError::Log(error) if error.kind() == ErrorKind::TopicReplaced => {
                EngineError::TopicReplaced { topic: Arc::clone(&self.topic), group: self.settings.group.clone() }
            }
            other => other,
        }
    }

    fn session(&self, committed: &mut bool) -> Result<Ended, EngineError> {
        let settings = self.settings;
        self.sessions.set(self.sessions.get() + 1);
        let opening = match self.open() {
            Err(EngineError::Log(error)) if error.kind() == ErrorKind::Retry && self.started.get() => {
                return Ok(Ended::Waits(error));
            }
            opening => opening?,
        };
        let Some(Opening { topic, ends, session: Session { subscription, committer } }) = opening else {
            return Ok(Ended::Finished(Left::default()));
        };
        let commit_settings = CommitSettings {
            topic: Arc::clone(&self.topic),
            topic_id: self.source.id.clone(),
            result_topic: settings.result_topic.clone(),
            dead_letters: self.dead_letters.clone(),
            kept: KeptRecords::new(&settings.output_dir),
            group: settings.group.clone(),
            program: settings.program.clone(),
            processor_version: settings.processor_version.clone(),
            output: Arc::clone(self.output),
            by: self.by.clone(),
        };
        let (tasks, task_queue) = crossbeam_channel::bounded(2);
        let (answer_queue, answers) = crossbeam_channel::bounded(2);
        let (retries, retry_thread) = Retries::new(&self.topic, &self.budget, self.sessions.get());
        let retry_settings = RetrySettings {
            log: self.log.as_ref(),
            topic: &settings.topic,
            source: &self.source,
            group: &settings.group,
            answers: self.standing.lock().answers(),
            unasked: settings.retry_failed != RetryFailed::No,
            state: self.state,
            tried: self.tried,
            budget: Arc::clone(&self.budget),
            spill: &self.spill,
            entries_bytes: settings.entries_bytes(),
            filling_bytes: settings.files_bytes(),
            whole_bytes: settings.whole_bytes() / 2,
            counters: self.listeners.facts.counters(),
        };
        let (rereads, reread_thread) = Rereads::new();
        let reread_settings = RereadSettings {
            log: self.log.as_ref(),
            topic: &settings.topic,
            budget: Arc::clone(&self.budget),
            spill: &self.spill,
            in_memory: settings.memory_limit / 16,
            counters: self.listeners.facts.counters(),
        };
        std::thread::scope(|scope| {
            let (log, listeners, state) = (self.log.as_ref(), &self.listeners, self.state);
            let (tried, standing, in_hand) = (self.tried, &self.standing, self.in_hand.as_deref());
            std::thread::Builder::new()
                .name("datamill-commit".to_owned())
                .spawn_scoped(scope, move || {
                    let (mut committer, mut standing) = (committer, standing.lock());
                    let marked = commit::mark(
                        log,
                        committer.as_mut(),
                        state,
                        &mut standing,
                        in_hand,
                        &listeners.facts,
                        &task_queue,
                        &answer_queue,
                    );
                    let Some(waiting) = marked else { return };
                    drop(standing);
                    commit::run(
                        log,
                        &commit_settings,
                        committer,
                        state,
                        waiting,
                        listeners,
                        tried,
                        &task_queue,
                        &answer_queue,
                    );
                })
                .map_err(EngineError::Thread)?;
            std::thread::Builder::new()
                .name("datamill-retry".to_owned())
                .spawn_scoped(scope, move || retry_thread(&retry_settings))
                .map_err(EngineError::Thread)?;
            std::thread::Builder::new()
                .name("datamill-reread".to_owned())
                .spawn_scoped(scope, move || reread_thread(&reread_settings))
                .map_err(EngineError::Thread)?;
            let mut reader = Reader::new(self, topic.partitions, ends, tasks, answers, retries, rereads);
            reader.incomplete_after_ms = self.incomplete_after_ms(topic.retention_ms());
            let ended = reader.run(subscription);
            // a program that gives up says why, however its session ends
            let ended = reader.hanging.take().map_or(ended, Err);
            *committed = reader.committed_once;
            ended
        })
    }

    /// How old the newest chunk of a file may be, milliseconds.
    fn incomplete_after_ms(&self, retention_ms: Option<i64>) -> Option<i64> {
        let asked = self.settings.incomplete_after.as_millis();
        let asked = i64::try_from(asked).ok().filter(|ms| *ms > 0)?;
        Some(retention_ms.map_or(asked, |retention| asked.min(retention / 2)))
    }

    fn say_started(&self) {
        let settings = self.settings;
        if !self.started.replace(true) {
            tracing::info!(log = self.log.name(), topic = %settings.topic, result_topic = settings.result_topic,
                group = %settings.group, processor_version = settings.processor_version, output_dir = %settings.output_dir.display(), "started");
        }
    }

    fn filter(&self) -> crate::assemble::Filter {
        let pattern = self.settings.download_regex.clone();
        Box::new(move |path| pattern.as_ref().is_none_or(|pattern| pattern.matches(path)))
    }
}

/// Whether the topic was found to be still the same, since the end of the run is near.
enum Verified {
    No,
    Asked(Instant),
    Yes,
}

/// The progress of a partition that is to be committed.
struct Move {
    partition: i32,
    assignment: u64,
    offset: i64,
    text: String,
}

/// One session.
struct Reader<'a> {
    engine: &'a Engine<'a>,
    intake: Intake<'a>,
    ends: Option<BTreeMap<i32, i64>>,
    tasks: Sender<Task>,
    answers: Receiver<Answer>,
    retries: Retries,
    /// Assignment number of each owned partition.
    owned: BTreeMap<i32, u64>,
    ready: Vec<Outcome>,
    /// Since when a commit is under way.
    committing: Option<Instant>,
    verified: Verified,
    committed_once: bool,
    /// Position and whole text committed last, by partition.
    committed: HashMap<i32, (i64, String)>,
    /// Partitions of which the group's state may hold something without the topic's id.
    adopting: HashSet<i32>,
    /// Partitions with a position that this session has committed.
    marked: HashSet<i32>,
    /// What the commit under way makes of it.
    moving: Vec<Move>,
    /// Keys of the group's state about ends of a process, which the commit under way removes.
    answering: Vec<String>,
    last_commit: Instant,
    not_before: Instant,
    failures_in_a_row: usize,
    last_update: Instant,
    last_filling: Instant,
    last_expire: Instant,
    incomplete_after_ms: Option<i64>,
    /// Files that expired and are not committed: each commit takes all of them.
    expired: Vec<Outcome>,
    late: LateChunks,
    tails: Tails,
    /// Uploads that ended without an outcome and are not committed.
    notes: Vec<Note>,
    /// The group has said what this process owns, if only nothing.
    is_member: bool,
    unassigned: Unassigned,
    read_once: bool,
    held: bool,
    holding: Holding,
    skew: Skew,
    /// The ends of partitions that were reached last.
    ends_seen: BTreeMap<i32, i64>,
    quiet: Quiet,
    /// Files that were told to be cut off, and have had no chunk since.
    cut_off: InstanceIds,
    failed: Option<EngineError>,
    stop_since: Option<Instant>,
    /// Failed files waited for another try when the stop began.
    has_retries_left: bool,
    /// Why the program gives up, once it stops for that.
    hanging: Option<EngineError>,
    /// A part of the partitions of a spread topic was owned in this session: it commits nothing any more.
    torn: bool,
    /// When it was said last what to do about that.
    last_warning: Option<Instant>,
}

impl<'a> Reader<'a> {
    fn new(
        engine: &'a Engine<'a>,
        partitions: i32,
        ends: Option<BTreeMap<i32, i64>>,
        tasks: Sender<Task>,
        answers: Receiver<Answer>,
        retries: Retries,
        rereads: Rereads,
    ) -> Self {
        // a worker may still have a file of the session before: no number occurs twice
        let assembler = Assembler::new(engine.filter(), Arc::clone(&engine.budget))
            .numbered_from(engine.sessions.get() << 40)
            .hashing_ahead(&engine.hash_ahead)
            .followed(engine.following.clone())
            .on_disk(
                engine.settings.files_bytes() + 1..=engine.settings.spill_limit.unwrap_or(usize::MAX),
                &engine.spill,
            );
        let intake = Intake::new(
            assembler,
            Arc::clone(&engine.topic),
            &engine.listeners.facts,
            engine.pool,
            Arc::clone(&engine.budget),
            &engine.spill,
            rereads,
            engine.settings,
            partitions,
        );
        let now = Instant::now();
        Self {
            engine,
            intake,
            ends,
            tasks,
            answers,
            retries,
            owned: BTreeMap::new(),
            ready: Vec::new(),
            committing: None,
            verified: Verified::No,
            committed_once: false,
            committed: HashMap::new(),
            adopting: HashSet::new(),
            marked: HashSet::new(),
            moving: Vec::new(),
            answering: Vec::new(),
            last_commit: now,
            not_before: now,
            failures_in_a_row: 0,
            last_update: now,
            last_filling: now,
            last_expire: now,
            incomplete_after_ms: None,
            expired: Vec::new(),
            late: LateChunks::default(),
            tails: Tails::default(),
            notes: Vec::new(),
            is_member: false,
            unassigned: Unassigned::new(now),
            read_once: false,
            held: false,
            holding: Holding::new(),
            skew: Skew::new(engine.settings.memory_limit / 16),
            ends_seen: BTreeMap::new(),
            quiet: Quiet::default(),
            cut_off: InstanceIds::default(),
            failed: None,
            stop_since: None,
            has_retries_left: false,
            hanging: None,
            torn: false,
            last_warning: None,
        }
    }

    fn run(&mut self, mut subscription: Box<dyn Subscription>) -> Result<Ended, EngineError> {
        if self.only_retries() {
            subscription.hold()?;
            self.held = true;
        }
        let engine = self.engine;
        loop {
            let works = self.committing.is_some() || self.waits_for_commit() || self.retries.is_reading();
            let works = works || matches!(self.verified, Verified::Asked(_));
            let busy = !self.torn && (works || !self.engine.pool.is_idle());
            let timeout = if busy { BUSY_POLL } else { QUIET_POLL };
            if let Err(error) = subscription.poll(timeout, &mut |event| self.event(event)) {
                return match error.kind() {
                    ErrorKind::Retry => Ok(Ended::Rebuild("the log can be read no longer in this session", error)),
                    _ => Err(error.into()),
                };
            }
            match self.failed.take() {
                // the group's state may wait for a transaction that another session has left open
                Some(EngineError::Log(error)) if error.kind() == ErrorKind::Retry => {
                    return Ok(Ended::Rebuild("the partitions that were assigned cannot be looked up now", error));
                }
                Some(error) => return Err(error),
                None => {}
            }
            self.gate();
            self.intake.report_lost();
            self.intake.settle();
            self.intake.hand_out();
            self.intake.assembler.offer();
            self.retry()?;
            self.reread();
            self.collect()?;
            match self.answered() {
                // the program that the group is for need not wait for the end of this one's session
                Err(error @ EngineError::OtherPurpose { .. }) => {
                    subscription.close(true)?;
                    return Err(error);
                }
                Err(error) => return Err(error),
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(error)) => {
                    return Ok(Ended::Rebuild("it is unclear whether the last commit happened", error));
                }
            }
            self.watch_ownership()?;
            self.unassigned.step(engine.log, engine.settings, self.is_member);
            if self.torn && self.committing.is_none() && self.owns_all() {
                subscription.close(false)?;
                return Ok(Ended::WholeAgain);
            }
            self.flow(subscription.as_mut())?;
            self.stand();
            self.tell();
            let stopping = self.stopping();
            let at_end = self.at_end();
            let verified = self.verify(stopping.is_some() || at_end);
            self.maybe_commit(verified && (stopping.is_some() || at_end));
            let keep_place = match stopping {
                Some(kind) if verified && self.is_idle() || self.stop_timed_out() => kind == StopKind::KeepPlace,
                None if verified && self.at_end() && self.is_idle() => false,
                _ => continue,
            };
            let left = self.left(stopping.is_some());
            subscription.close(!keep_place)?;
            return Ok(Ended::Finished(left));
        }
    }

    fn event(&mut self, event: Event<'_>) {
        if matches!(event, Event::Assigned(_) | Event::Revoked { .. }) {
            self.intake.hand_out();
        }
        match event {
            Event::Record(record) => {
                if !std::mem::replace(&mut self.read_once, true) {
                    let (partition, offset) = (record.partition, record.offset);
                    tracing::info!(topic = %self.engine.topic, partition, offset, "first record read");
                }
                self.intake.record(&record);
            }
            Event::End { partition, offset, .. } => {
                self.intake.at_end(partition, offset);
                self.ends_seen.insert(partition, offset);
                self.skew.end(partition, offset);
            }
            Event::Assigned(assigned) => {
                self.is_member = true;
                match self.assign(&assigned) {
                    Ok(read_again) => {
                        self.engine.say_started();
                        self.engine.listeners.facts.tell(&Fact::Assigned { read_again });
                        let partitions = names(assigned.iter().map(|a| a.partition));
                        tracing::info!(topic = %self.engine.topic, partitions, read_again, "partitions assigned");
                    }
                    Err(error) => drop(self.failed.get_or_insert(error)),
                }
            }
            Event::Revoked { partitions, lost } => {
                // the group goes on without this process until it has joined again: that is no end
                self.is_member &= !lost;
                self.engine.listeners.facts.tell(&Fact::Revoked);
                self.revoke(&partitions, lost);
            }
        }
    }
}
