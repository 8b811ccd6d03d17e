//! The reading thread: it polls the log, tells the session what happened, and does what the session says.
//!
//! ```text
//!   subscription ──event──▶ Session ──Work──────▶ pool ──report──▶ Session
//!                              │ ├────Commit────▶ commit thread ──answer──▶ Session
//!                              │ ├────ReadAgain─▶ reread thread ──report──▶ Session
//!   retry thread ──report──▶   │ └────Hold, Resume──▶ subscription
//!                              ▼ End
//! ```
//! All that is decided from records, outcomes and answers is decided in [`super::session`]. Here are the threads, the
//! look-ups before a partition is taken, and the lines for people.

mod assign;
mod ending;
mod members;
mod opening;
mod spread;
mod standby;
mod tell;
mod unassigned;
mod work;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use datamill_broker::{Committer, Error, ErrorKind, Event, Log, Subscription, Topic};
use parking_lot::Mutex;

use ending::Stop;
use opening::Opening;
use spread::Newest;
use standby::Sight;
use tell::{Told, names};
use unassigned::Unassigned;

use super::commit::{CommitThread, Task};
use super::dead_letter::KeptRecords;
use super::delivery::FromLog;
use super::entry::Entry;
use super::folder::Output;
use super::in_hand::InHand;
use super::listeners::Listeners;
use super::origin::CommitSettings;
use super::purpose::Standing;
use super::reread::{RereadSettings, Rereads};
use super::retry::{Retries, RetryFailed, RetrySettings, Tried};
use super::session::{Action, Actions, Answer, End, Input, Limits, Session, Setup, Tick};
use super::state::GroupState;
use super::summary::Left;
use super::work::Pool;
use super::{Control, EngineError, EngineSettings, StopKind};
use crate::assemble::{Assembler, Budget, Following, HashAhead, InstanceIds, SpillFolder, WholeFile};
use crate::facts::{Hold, Holding};
use crate::read::Watch;
use crate::report::clock;

/// How long a poll waits while results are expected, and while nothing is.
const BUSY_POLL: Duration = Duration::from_millis(5);
const QUIET_POLL: Duration = Duration::from_millis(100);

/// New sessions in a row without one commit before the program gives up.
const MAX_REBUILDS: u32 = 5;

/// Where files are while they fill up.
pub(super) struct Filling {
    pub(super) budget: Arc<Budget>,
    pub(super) spill: SpillFolder,
    pub(super) hash_ahead: HashAhead,
    pub(super) following: Option<Following>,
}

/// What the sessions of a run know of those before.
pub(super) struct History {
    /// Whether the topic of the results is still the one of the start. `None` where there is none, or it was told.
    results: RefCell<Option<Watch>>,
    /// It was said that everything in the topic is read.
    all_read: Cell<bool>,
    /// Files of the topic lie in several partitions, as a session has found out.
    is_spread: Cell<bool>,
    /// Number of the session, from 1.
    sessions: Cell<u64>,
    /// It was said that the program has started: what can refuse a start is over.
    started: Cell<bool>,
}

impl History {
    pub(super) fn new(results: Option<Watch>) -> Self {
        Self {
            results: RefCell::new(results),
            all_read: Cell::default(),
            is_spread: Cell::default(),
            sessions: Cell::default(),
            started: Cell::default(),
        }
    }
}

/// The parts that outlive a session. They are many, since a session's threads are made from all that a run has.
pub(super) struct Engine<'a> {
    pub(super) log: &'a Arc<dyn Log>,
    pub(super) settings: &'a EngineSettings,
    pub(super) commit: Arc<CommitSettings>,
    pub(super) state: &'a GroupState<'a>,
    /// Where the state is in the output folder.
    pub(super) from_log: Option<FromLog<'a>>,
    pub(super) output: &'a Arc<Output>,
    pub(super) standing: Mutex<Standing>,
    pub(super) control: &'a Control,
    pub(super) listeners: Listeners,
    pub(super) filling: Filling,
    pub(super) pool: &'a Pool,
    /// Where user code may take the process down.
    pub(super) in_hand: Option<Arc<InHand>>,
    pub(super) tried: &'a Tried,
    pub(super) history: History,
}

enum Ended {
    /// As asked, with what is left.
    Finished(Left),
    /// The session is over, for this reason: a new one starts from what is committed.
    Rebuild(&'static str, Error),
    /// A new session cannot begin yet: brokers that have to be asked do not answer.
    Waits(Error),
    /// All partitions of a spread topic are owned again: a new session starts from what is committed.
    WholeAgain,
    /// Another member of the group reads the topic alone.
    StandsBy,
}

impl Engine<'_> {
    /// The topic that is read.
    fn topic(&self) -> &Arc<str> {
        &self.commit.source.name
    }

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
                    tracing::info!(topic = %self.topic(), "all partitions are this process's now; going on");
                }
                Ended::StandsBy => {
                    self.let_go();
                    if !self.stand_by() {
                        return Ok(Left::default());
                    }
                    continue;
                }
            }
            self.let_go();
        }
    }

    /// Files that workers have are those of a session that is over.
    fn let_go(&self) {
        self.pool.cancel(|_| true);
        if let Some(in_hand) = &self.in_hand {
            in_hand.revoke_all();
        }
    }

    fn is_stopping(&self) -> bool {
        self.control.stopping().is_some()
    }

    /// An error of the log, with what a person does about it.
    fn explain(&self, error: EngineError) -> EngineError {
        match error {
            EngineError::Log(error) if error.kind() == ErrorKind::TopicReplaced => {
                EngineError::TopicReplaced { topic: Arc::clone(self.topic()), group: self.settings.group.clone() }
            }
            other => other,
        }
    }

    fn session(&self, committed: &mut bool) -> Result<Ended, EngineError> {
        self.history.sessions.set(self.history.sessions.get() + 1);
        let opening = match self.open() {
            Err(EngineError::Log(error)) if error.kind() == ErrorKind::Retry && self.history.started.get() => {
                return Ok(Ended::Waits(error));
            }
            opening => opening?,
        };
        let Some(Opening { topic, ends, session: member }) = opening else {
            return Ok(Ended::Finished(Left::default()));
        };
        let datamill_broker::Session { subscription, committer } = member;
        let session = self.new_session(&topic, ends);
        std::thread::scope(|scope| {
            let mut reader = Reader::new(self, session, Threads::start(self, committer, scope)?);
            let ended = reader.run(subscription);
            // a program that gives up says why, however its session ends
            let ended = reader.stop.hanging.take().map_or(ended, Err);
            *committed = reader.session.has_committed();
            self.history.is_spread.set(reader.session.is_spread());
            ended
        })
    }

    fn new_session(&self, topic: &Topic, ends: Option<BTreeMap<i32, i64>>) -> Session {
        let (settings, filling) = (self.settings, &self.filling);
        // a worker may still have a file of the session before: no number occurs twice
        let assembler = Assembler::new(self.filter(), Arc::clone(&filling.budget))
            .numbered_from(self.history.sessions.get() << 40)
            .hashing_ahead(&filling.hash_ahead)
            .followed(filling.following.clone())
            .on_disk(settings.files_bytes() + 1..=settings.spill_limit.unwrap_or(usize::MAX), &filling.spill);
        let setup = Setup {
            commit: Arc::clone(&self.commit),
            limits: Limits {
                files_bytes: settings.files_bytes(),
                whole_bytes: settings.whole_bytes(),
                spill_limit: settings.spill_limit,
                skew_bytes: settings.memory_limit / 16,
            },
            facts: self.listeners.facts.clone(),
            budget: Arc::clone(&filling.budget),
            spill: filling.spill.clone(),
            in_hand: self.in_hand.clone(),
            partitions: topic.partitions,
            is_spread: self.history.is_spread.get(),
            ends,
            incomplete_after_ms: self.incomplete_after_ms(topic.retention_ms()),
            only_retries: settings.retry_failed == RetryFailed::Only,
        };
        Session::new(setup, assembler, Instant::now())
    }

    /// How old the newest chunk of a file may be, milliseconds.
    fn incomplete_after_ms(&self, retention_ms: Option<i64>) -> Option<i64> {
        let asked = self.settings.incomplete_after.as_millis();
        let asked = i64::try_from(asked).ok().filter(|ms| *ms > 0)?;
        Some(retention_ms.map_or(asked, |retention| asked.min(retention / 2)))
    }

    fn say_started(&self) {
        let settings = self.settings;
        if !self.history.started.replace(true) {
            tracing::info!(log = self.log.name(), topic = %settings.topic, result_topic = settings.result_topic,
                group = %settings.group, processor_version = settings.processor_version, output_dir = %settings.output_dir.display(), "started");
        }
    }

    fn filter(&self) -> crate::assemble::Filter {
        let pattern = self.settings.download_regex.clone();
        Box::new(move |path| pattern.as_ref().is_none_or(|pattern| pattern.matches(path)))
    }
}

/// The threads of a session, and the reader's ends.
struct Threads {
    tasks: Sender<Task>,
    answers: Receiver<Answer>,
    retries: Retries,
    rereads: Rereads,
    /// The commit thread is to be asked whether the topic is still the same.
    asks: bool,
}

impl Threads {
    fn start<'scope>(
        engine: &'scope Engine<'_>,
        committer: Box<dyn Committer>,
        scope: &'scope std::thread::Scope<'scope, '_>,
    ) -> Result<Self, EngineError> {
        let settings = engine.settings;
        let (tasks, task_queue) = crossbeam_channel::bounded(2);
        let (answer_queue, answers) = crossbeam_channel::bounded(2);
        let (retries, retry_thread) =
            Retries::new(engine.topic(), &engine.filling.budget, engine.history.sessions.get());
        let (rereads, reread_thread) = Rereads::new();
        let retry = RetrySettings {
            log: engine.log.as_ref(),
            topic: &settings.topic,
            source: &engine.commit.source,
            group: &settings.group,
            answers: engine.standing.lock().answers(),
            unasked: settings.retry_failed != RetryFailed::No,
            state: engine.state,
            tried: engine.tried,
            budget: Arc::clone(&engine.filling.budget),
            spill: &engine.filling.spill,
            entries_bytes: settings.entries_bytes(),
            filling_bytes: settings.files_bytes(),
            whole_bytes: settings.whole_bytes() / 2,
            counters: engine.listeners.facts.counters(),
        };
        let reread = RereadSettings {
            log: engine.log.as_ref(),
            topic: &settings.topic,
            budget: Arc::clone(&engine.filling.budget),
            spill: &engine.filling.spill,
            in_memory: settings.memory_limit / 16,
            counters: engine.listeners.facts.counters(),
        };
        let commit = CommitThread {
            log: engine.log.as_ref(),
            settings: Arc::clone(&engine.commit),
            kept: KeptRecords::new(&settings.output_dir),
            output: engine.output,
            state: engine.state,
            standing: &engine.standing,
            in_hand: engine.in_hand.as_deref(),
            listeners: &engine.listeners,
            tried: engine.tried,
            tasks: task_queue,
            answers: answer_queue,
        };
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        thread("datamill-commit").spawn_scoped(scope, move || commit.run(committer)).map_err(EngineError::Thread)?;
        thread("datamill-retry").spawn_scoped(scope, move || retry_thread(&retry)).map_err(EngineError::Thread)?;
        thread("datamill-reread").spawn_scoped(scope, move || reread_thread(&reread)).map_err(EngineError::Thread)?;
        Ok(Self { tasks, answers, retries, rereads, asks: false })
    }
}

/// One session, as the reading thread has it.
struct Reader<'a> {
    engine: &'a Engine<'a>,
    session: Session,
    threads: Threads,
    /// What the session said during a poll: the subscription can do nothing meanwhile.
    due: Actions,
    /// Whole files that the pool was not given yet: waking a worker costs as much as a small file.
    whole: Vec<WholeFile>,
    unassigned: Unassigned,
    sight: Sight,
    newest: Newest,
    told: Told,
    stop: Stop,
    /// What kept partitions that were assigned from being taken.
    failed: Option<EngineError>,
}

impl<'a> Reader<'a> {
    fn new(engine: &'a Engine<'a>, session: Session, threads: Threads) -> Self {
        let now = Instant::now();
        Self {
            engine,
            session,
            threads,
            due: Actions::new(),
            whole: Vec::new(),
            unassigned: Unassigned::new(now),
            sight: Sight::default(),
            newest: Newest::default(),
            told: Told::new(now),
            stop: Stop::default(),
            failed: None,
        }
    }

    fn run(&mut self, mut subscription: Box<dyn Subscription>) -> Result<Ended, EngineError> {
        if self.session.is_held() {
            subscription.hold()?;
        }
        loop {
            let now = Instant::now();
            if let Err(error) = subscription.poll(self.poll_time(), &mut |event| self.event(event, now)) {
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
            if let Some(end) = self.step(subscription.as_mut())? {
                return self.end(end, subscription);
            }
        }
    }

    /// How long the next poll waits.
    fn poll_time(&self) -> Duration {
        let works = self.session.is_waiting() || self.threads.retries.is_reading();
        let busy = !self.session.is_torn() && (works || !self.engine.pool.is_idle());
        if busy { BUSY_POLL } else { QUIET_POLL }
    }

    /// What is done after each poll. Answers how the session ends, once it does.
    fn step(&mut self, subscription: &mut dyn Subscription) -> Result<Option<End>, EngineError> {
        let due = std::mem::take(&mut self.due);
        if let Some(end) = self.perform(due, subscription)? {
            return Ok(Some(end));
        }
        let mut actions = Actions::new();
        self.gate();
        self.hand_out();
        self.retry(&mut actions)?;
        self.reread(&mut actions);
        self.collect(&mut actions)?;
        match self.threads.answers.try_recv() {
            Ok(answer) => actions.extend(self.session.on(Input::Answer(answer, Instant::now()))),
            Err(TryRecvError::Empty) => {}
            // it has panicked, and so does the program where the thread is joined
            Err(TryRecvError::Disconnected) => {
                return Ok(Some(End::Unclear(Error::new(ErrorKind::Fatal, "the commit thread is gone"))));
            }
        }
        if let Some(end) = self.perform(actions, subscription)? {
            return Ok(Some(end));
        }
        self.hand_out();
        let stopping = self.stopping();
        self.look_at_group();
        let tick = self.look(stopping.is_some());
        let actions = self.session.on(Input::Tick(tick));
        let end = self.perform(actions, subscription)?;
        self.hand_out();
        self.ask();
        let end = end.or(self.watch_ownership());
        self.unassigned.step(self.engine.log, self.engine.settings, self.session.is_member());
        self.stand();
        self.tell();
        // once nothing is left to do, a stop does not wait any longer
        let gives_up = end.is_none() && stopping.is_some() && self.stop_timed_out();
        Ok(end.or(gives_up.then_some(End::Finished)))
    }

    fn look(&self, is_stopping: bool) -> Tick {
        Tick {
            now: Instant::now(),
            now_ms: clock::now_ms(),
            is_stopping,
            waiting: self.engine.pool.waiting(),
            pool_is_idle: self.engine.pool.is_idle(),
            retries_are_idle: self.threads.retries.is_idle(),
            is_blind: self.threads.retries.is_blind(),
            is_away: self.engine.log.outage().is_some(),
            folder_is_gone: self.engine.output.is_gone(),
            sees_group: self.sight.is_clear,
        }
    }

    fn end(&self, end: End, subscription: Box<dyn Subscription>) -> Result<Ended, EngineError> {
        match end {
            End::Finished => {
                let stopping = self.engine.control.stopping().filter(|_| self.stop.has_begun());
                let left = self.left(stopping.is_some());
                subscription.close(stopping != Some(StopKind::KeepPlace))?;
                Ok(Ended::Finished(left))
            }
            End::WholeAgain => {
                subscription.close(false)?;
                Ok(Ended::WholeAgain)
            }
            End::StandsBy => {
                subscription.close(true)?;
                Ok(Ended::StandsBy)
            }
            End::Unclear(error) => Ok(Ended::Rebuild("it is unclear whether the last commit happened", error)),
            // who goes on with the group need not wait for the end of this one's session
            End::Failed(error @ (EngineError::OtherPurpose { .. } | EngineError::Spread { .. })) => {
                subscription.close(true)?;
                Err(error)
            }
            End::Failed(error) => Err(error),
        }
    }

    /// Does what the session says, up to its end.
    fn perform(&mut self, actions: Actions, subscription: &mut dyn Subscription) -> Result<Option<End>, EngineError> {
        for action in actions {
            match action {
                Action::Work(file) => self.whole.push(*file),
                Action::ReadAgain(file) => self.threads.rereads.read(file),
                Action::Drop(gone) => self.drop_files(&gone),
                Action::Finished(files) => self.threads.retries.finish(&files),
                Action::Completed(due) => self.completed(due),
                Action::Commit(batch) => {
                    let failed = batch.outcomes.iter().filter(|o| o.result.is_err() && !o.is_incomplete());
                    self.engine.tried.add(failed.map(Entry::place_for));
                    // that a commit thread is gone is noticed where its answer is taken
                    let _ = self.threads.tasks.send(Task::Commit(batch));
                }
                Action::Verify => self.threads.asks = true,
                Action::Hold => {
                    subscription.hold()?;
                    tracing::debug!("reading is held");
                }
                Action::Resume => {
                    subscription.resume()?;
                    tracing::debug!("reading goes on");
                }
                Action::HoldPartitions(held) => {
                    tracing::debug!(partitions = names(held.iter().copied()), "held until the others have caught up");
                    let topic = self.engine.topic();
                    let held: Vec<_> = held.into_iter().map(|partition| (Arc::clone(topic), partition)).collect();
                    subscription.hold_partitions(&held)?;
                }
                Action::End(end) => return Ok(Some(end)),
            }
        }
        Ok(None)
    }

    /// Asks whether the topic is still the same. The commit thread takes it up behind a commit that is under way; where
    /// its queue is full it is asked the next time round.
    fn ask(&mut self) {
        self.threads.asks &= self.threads.tasks.try_send(Task::Verify).is_err();
    }

    /// Hands the files that became whole to the pool, together. MUST come before the pool is asked whether it is idle.
    fn hand_out(&mut self) {
        if !self.whole.is_empty() {
            self.engine.pool.submit(self.whole.drain(..));
        }
    }

    /// Nobody waits for the outcomes of these files any more.
    fn drop_files(&mut self, gone: &InstanceIds) {
        self.whole.retain(|file| !gone.contains(&file.info.id));
        self.engine.pool.cancel(|id| gone.contains(&id));
    }

    fn event(&mut self, event: Event<'_>, now: Instant) {
        let actions = match event {
            Event::Record(record) => {
                if !std::mem::replace(&mut self.told.has_read, true) {
                    let (partition, offset) = (record.partition, record.offset);
                    tracing::info!(topic = %self.engine.topic(), partition, offset, "first record read");
                }
                self.session.on(Input::Record(&record, now, clock::now_ms()))
            }
            Event::End { partition, offset, .. } => {
                self.session.on(Input::End { partition, offset, now_ms: clock::now_ms() })
            }
            Event::Assigned(assigned) => self.assigned(&assigned),
            Event::Revoked { partitions, lost } => {
                let numbers: Vec<i32> = partitions.iter().map(|(_, partition)| *partition).collect();
                self.revoked(&numbers, lost)
            }
        };
        self.due.extend(actions);
    }
}
