//! Runs a schedule: the harness reads, works, commits and answers as the threads around a session do.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use datamill_broker::{Error, ErrorKind, Record};
use datamill_wire::{Chunk, headers};

use super::super::batch::Batch;
use super::super::{Action, Actions, Answer, End, Input, Limits, Report, Session, Setup, Taken, Tick};
use super::Mistake;
use super::account::Account;
use super::broker::{Broker, spoil};
use super::schedule::{Fate, Schedule, Step};
use crate::assemble::tests::scenario::What;
use crate::assemble::{
    Assembler, Budget, Content, DroppedFile, FileInfo, Hashed, InstanceId, InstanceIds, Memory, Reservation,
    SpillFolder, WholeFile,
};
use crate::engine::entry::{Due, Entry};
use crate::engine::origin::CommitSettings;
use crate::engine::outcome::{Failure, Outcome};
use crate::engine::reread::Reread;
use crate::engine::source::Source;
use crate::facts::{Facts, FailureStatus};
use crate::process::ReproducerMessage;
use crate::progress::TopicTag;

pub(super) type Checked = Result<(), String>;

pub(super) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

const TOPIC: &str = "files";
const TOPIC_ID: &str = "id";
/// Numbers of files that are tried again: no other file has such a number.
const FIRST_TRY: u64 = 1 << 63;
/// Rounds within which a session with a broker that answers comes to its end.
const ROUNDS: usize = 400;

/// Nothing of these few bytes ever goes to it.
static SPILL: LazyLock<(tempfile::TempDir, SpillFolder)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let spill = SpillFolder::prepare(folder.path().join("spill")).unwrap();
    (folder, spill)
});

pub(super) fn tag() -> TopicTag {
    TopicTag::of(TOPIC_ID)
}

/// A commit between its beginning and its answer.
struct UnderWay {
    batch: Batch,
    answer: Option<Decided>,
}

enum Decided {
    Done,
    NotOwner,
    Again,
    Refused(u64),
    Unknown,
}

/// What the threads around a session have.
#[derive(Default)]
struct Threads {
    is_held: bool,
    has_been_asked: bool,
    is_stopping: bool,
    /// The files that user code has.
    at_work: Vec<WholeFile>,
    tries: HashMap<InstanceId, Arc<Entry>>,
    /// The file that is read again.
    reading: Option<DroppedFile>,
    under_way: Option<UnderWay>,
    ended: Option<End>,
}

pub(super) struct Run<'a> {
    pub(super) schedule: &'a Schedule,
    pub(super) mistake: Mistake,
    pub(super) account: Account<'a>,
    budget: Arc<Budget>,
    settings: Arc<CommitSettings>,
    session: Session,
    threads: Threads,
    pub(super) broker: Broker,
    now: Instant,
    /// Number of the next record of each partition.
    next: Vec<usize>,
    last_try: u64,
}

fn settings(schedule: &Schedule) -> CommitSettings {
    let dead = || datamill_broker::Topic { name: "dead".to_owned(), id: None, partitions: 1, settings: None };
    CommitSettings {
        source: Source::new(TOPIC, Some(TOPIC_ID)),
        result_topic: Some("results".to_owned()),
        dead_letters: schedule.has_letters.then(|| dead().into()),
        group: "g".to_owned(),
        program: "p".to_owned(),
        processor_version: None,
        by: "me".to_owned(),
    }
}

/// Runs the schedule to its end. The error says what differs from the model.
pub(super) fn check(schedule: &Schedule, mistake: Mistake) -> Checked {
    let partitions = schedule.scenario.log.len();
    let budget = Arc::new(Budget::default());
    let (settings, now) = (Arc::new(settings(schedule)), Instant::now());
    let mut run = Run {
        schedule,
        mistake,
        account: Account::of(&schedule.scenario),
        session: session(schedule, &settings, &budget, 1, now),
        budget: Arc::clone(&budget),
        settings,
        threads: Threads::default(),
        broker: Broker::of(partitions),
        now,
        next: vec![0; partitions],
        last_try: FIRST_TRY,
    };
    run.assign(u8::MAX);
    for step in &schedule.steps {
        run.step(*step)?;
        run.begin_again()?;
    }
    run.finish()?;
    drop(run);
    ensure(budget.filling() + budget.whole() == 0, || "memory stays taken when everything is gone".into())
}

fn session(
    schedule: &Schedule,
    settings: &Arc<CommitSettings>,
    budget: &Arc<Budget>,
    number: u64,
    now: Instant,
) -> Session {
    let scenario = &schedule.scenario;
    let unwanted: HashSet<String> =
        scenario.versions.iter().filter(|v| !v.wanted).map(|v| format!("sub/{}", v.filename)).collect();
    let assembler = Assembler::new(Box::new(move |path| !unwanted.contains(path)), Arc::clone(budget));
    let whole_bytes = schedule.whole_bytes;
    let setup = Setup {
        commit: Arc::clone(settings),
        limits: Limits { files_bytes: 1 << 30, whole_bytes, spill_limit: None, skew_bytes: 1 << 30 },
        facts: Facts::default(),
        budget: Arc::clone(budget),
        spill: SPILL.1.clone(),
        in_hand: None,
        partitions: scenario.log.len() as i32,
        is_spread: false,
        ends: Some((0..).zip(scenario.ends.iter().copied()).collect::<BTreeMap<i32, i64>>()),
        incomplete_after_ms: schedule.incomplete_after_ms,
        only_retries: false,
    };
    Session::new(setup, assembler.numbered_from(number << 40), now)
}

impl Run<'_> {
    fn partitions(&self) -> usize {
        self.next.len()
    }

    fn step(&mut self, step: Step) -> Checked {
        match step {
            Step::Read { partition, records } => self.read(partition, records),
            Step::Work { pick, fails } => self.work(pick, fails),
            Step::Retry { pick, fails } => self.retry(pick, fails),
            Step::Tick { ms } => self.tick(ms),
            Step::Decide(fate) => self.decide(fate),
            Step::Answer => self.answer(),
            Step::Look => self.look(),
            Step::Revoke { mask, lost } => self.revoke(mask, lost),
            Step::Assign { mask } => {
                self.assign(mask);
                Ok(())
            }
            Step::Crash => {
                self.crash();
                Ok(())
            }
            Step::Stop => {
                self.threads.is_stopping = true;
                self.threads.at_work.clear();
                Ok(())
            }
        }
    }

    fn on(&mut self, input: Input<'_>) -> Checked {
        let actions = self.session.on(input);
        self.perform(actions)
    }

    fn perform(&mut self, actions: Actions) -> Checked {
        for action in actions {
            match action {
                Action::Work(file) => {
                    if !self.threads.is_stopping {
                        self.threads.at_work.push(*file);
                    }
                }
                Action::Drop(gone) => self.threads.at_work.retain(|file| !gone.contains(&file.info.id)),
                Action::Finished(files) => self.threads.tries.retain(|id, _| !files.contains(id)),
                Action::Completed(due) => {
                    ensure(!due.entry.lacks_chunks(), || format!("{} is not complete", due.entry.path()))?;
                }
                Action::Commit(batch) => {
                    ensure(self.threads.under_way.is_none(), || "two commits are under way".into())?;
                    self.threads.under_way = Some(UnderWay { batch: *batch, answer: None });
                }
                Action::Verify => self.threads.has_been_asked = true,
                Action::Hold => self.threads.is_held = self.mistake != Mistake::HoldUnheard,
                Action::Resume => self.threads.is_held = self.mistake == Mistake::ResumeUnheard,
                Action::ReadAgain(file) => {
                    ensure(self.threads.reading.is_none(), || "two files are read again at a time".into())?;
                    self.threads.reading = Some(file);
                }
                Action::HoldPartitions(_) => {}
                Action::End(end) => self.threads.ended = Some(end),
            }
        }
        Ok(())
    }

    fn read(&mut self, partition: usize, records: usize) -> Checked {
        let scenario = &self.schedule.scenario;
        for _ in 0..records {
            if self.threads.is_held || self.broker.assigned[partition].is_none() {
                return Ok(());
            }
            let Some(record) = scenario.log[partition].get(self.next[partition]) else {
                let (partition, offset) = (partition as i32, scenario.ends[partition]);
                return self.on(Input::End { partition, offset, now_ms: offset });
            };
            self.next[partition] += 1;
            let mut value = b"no chunk".to_vec();
            let mut told: Vec<(&str, &[u8])> = Vec::new();
            if let What::Chunk { version, cut, index } = record.what {
                let of = &scenario.versions[version];
                let (offset, data) = of.chunk(cut, index);
                let chunk = Chunk {
                    filename: &of.filename,
                    file_hash: &of.sha512,
                    chunk_hash: &[0; 64],
                    offset,
                    index,
                    total: of.total,
                    subdir: "sub",
                    filename_append: "",
                    data,
                    mtime: None,
                };
                value.clear();
                chunk.encode(&mut value);
                if !scenario.spread {
                    told.push((headers::CHUNK_VERSION, b"1"));
                }
            }
            let record = Record {
                topic: TOPIC,
                partition: partition as i32,
                offset: record.offset,
                timestamp_ms: Some(record.offset),
                key: None,
                value: Some(&value),
                headers: told,
            };
            self.on(Input::Record(&record, self.now, i64::MAX))?;
        }
        Ok(())
    }

    fn made(&self, info: Arc<FileInfo>, fails: bool) -> Outcome {
        let failure = || Failure::new(FailureStatus::ComputingResultMessageFailed, "it failed".to_owned());
        let result = if fails { Err(failure()) } else { Ok(Some(ReproducerMessage::new("result"))) };
        Outcome::new(info, result, 1, None, &self.budget)
    }

    fn work(&mut self, pick: u64, fails: bool) -> Checked {
        let mut number = 0;
        let (done, kept) = std::mem::take(&mut self.threads.at_work).into_iter().partition(|_| {
            number += 1;
            pick >> ((number - 1) % 64) & 1 == 1
        });
        self.threads.at_work = kept;
        let done: Vec<WholeFile> = done;
        for file in done {
            let mut outcome = Box::new(self.made(Arc::clone(&file.info), fails));
            outcome.answers = self.threads.tries.get(&file.info.id).cloned();
            ensure(file.failed_before == outcome.answers.is_some(), || {
                "it is not known whether it failed before".into()
            })?;
            drop(file);
            self.on(Input::Report(Report::Outcome(outcome)))?;
        }
        self.read_again()
    }

    /// The file that is read again is there, or will not come.
    fn read_again(&mut self) -> Checked {
        let Some(DroppedFile { info, size, proofs }) = self.threads.reading.take() else { return Ok(()) };
        let content = Content::Memory(Memory::default(), Hashed::default());
        let reservation = Reservation::whole(&self.budget, 0);
        let (follower, taken, failed_before) = (None, 0, false);
        let file = WholeFile { info, size, content, reservation, proofs, follower, taken, failed_before };
        let found = (!self.threads.is_stopping).then(|| Reread::Whole(Box::new(file)));
        self.on(Input::Report(Report::Reread(found)))
    }

    /// The entries of failed files, as the group's state has them.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let failed = self.broker.state.iter().filter(|(key, _)| key.starts_with("failed/"));
        failed.map(|(key, value)| Entry::parse("files", key, value).unwrap()).collect()
    }

    fn retry(&mut self, pick: u64, fails: bool) -> Checked {
        let is_due = |entry: &Entry| {
            self.broker.assigned[entry.partition() as usize].is_some()
                && entry.can_be_retried()
                && self.threads.tries.values().all(|tried| tried.key != entry.key)
        };
        let due: Vec<Entry> = self.entries().into_iter().filter(is_due).collect();
        if due.is_empty() || self.threads.is_stopping {
            return Ok(());
        }
        let entry = Arc::new(due[pick as usize % due.len()].clone());
        self.last_try += 1;
        let id = InstanceId(self.last_try);
        self.threads.tries.insert(id, Arc::clone(&entry));
        let info = Arc::new(entry.info(id));
        if pick >> 60 & 3 == 0 {
            // its content is out of reach
            let file = DroppedFile { info, size: Some(0), proofs: Vec::new() };
            return self.on(Input::Report(Report::Again(file, Some(entry))));
        }
        let mut outcome = self.made(info, fails);
        outcome.answers = Some(entry);
        self.on(Input::Report(Report::Outcome(Box::new(outcome))))
    }

    /// Entries that lack chunks are known to the session.
    fn look(&mut self) -> Checked {
        let due = |entry: Entry| {
            let assignment = self.broker.assigned[entry.partition() as usize]?;
            entry.lacks_chunks().then(|| Due { entry: Arc::new(entry), assignment })
        };
        let due = self.entries().into_iter().filter_map(due).collect();
        self.on(Input::Report(Report::Incomplete(due)))
    }

    fn tick(&mut self, ms: u64) -> Checked {
        self.now += Duration::from_millis(ms);
        let tick = Tick {
            now: self.now,
            now_ms: 0,
            is_stopping: self.threads.is_stopping,
            waiting: self.threads.at_work.len(),
            pool_is_idle: self.threads.at_work.is_empty() || self.mistake == Mistake::WorkForgotten,
            retries_are_idle: true,
            is_blind: false,
            is_away: false,
            folder_is_gone: false,
            sees_group: false,
        };
        let was_crowded = self.session.is_crowded(self.threads.at_work.len());
        let actions = self.session.on(Input::Tick(tick));
        let is_torn = self.session.is_torn();
        let begins = actions.iter().any(|action| matches!(action, Action::Commit(_)));
        ensure(!is_torn || !begins, || "a session that was torn commits".into())?;
        self.perform(actions)?;
        self.note_ends(begins)?;
        ensure(!was_crowded || self.threads.is_held || self.threads.ended.is_some(), || {
            "reading goes on while too much waits".into()
        })?;
        let must_be_held = was_crowded || self.threads.is_stopping || is_torn;
        ensure(!self.session.is_held() || must_be_held || self.threads.ended.is_some(), || {
            "it is held for nothing".into()
        })
    }

    /// Takes down what was ended at this tick: an upload that the model has incomplete up to here. It waits, or is in the
    /// commit that `begins`.
    fn note_ends(&mut self, begins: bool) -> Checked {
        let of_batch = self.threads.under_way.as_ref().filter(|_| begins).map(|under_way| &under_way.batch);
        let outcomes = of_batch.into_iter().flat_map(|batch| &batch.outcomes).filter(|o| o.is_incomplete());
        let late = outcomes.clone().filter_map(|o| Some((o.info.id, o.answers.as_ref()?.spans().len())));
        let late: HashMap<InstanceId, usize> = late.collect();
        let notes = of_batch.into_iter().flat_map(|batch| &batch.notes).map(|note| &*note.info);
        let infos = outcomes.map(|o| &*o.info).chain(notes).chain(self.session.pending.ended());
        let places: Vec<(i32, i64)> = infos
            .map(|info| {
                let span = info.spans[late.get(&info.id).copied().unwrap_or(0)];
                (span.partition, span.first)
            })
            .collect();
        for place in places {
            if self.account.has_ended(place) || self.broker.assigned[place.0 as usize].is_none() {
                continue;
            }
            let next = self.session.assembler().positions().find(|(p, _)| *p == place.0);
            let Some((_, next)) = next else { continue };
            self.account.end(place, next)?;
        }
        Ok(())
    }

    fn decide(&mut self, fate: Fate) -> Checked {
        let Some(mut under_way) = self.threads.under_way.take_if(|commit| commit.answer.is_none()) else {
            return Ok(());
        };
        let is_taken = self.broker.takes(&under_way.batch) || self.mistake == Mistake::FenceSkipped;
        let happens = is_taken && matches!(fate, Fate::Done | Fate::Unknown { happened: true });
        if happens {
            spoil(&mut under_way.batch, self.mistake);
            self.store(&under_way.batch)?;
        }
        under_way.answer = Some(match fate {
            Fate::Unknown { .. } => Decided::Unknown,
            _ if !is_taken => Decided::NotOwner,
            Fate::Done => Decided::Done,
            Fate::Again => Decided::Again,
            Fate::Refused(which) => Decided::Refused(which),
        });
        self.threads.under_way = Some(under_way);
        Ok(())
    }

    /// The commit happens.
    fn store(&mut self, batch: &Batch) -> Checked {
        let before = self.entries();
        self.broker.store(batch);
        self.count(batch, &before)?;
        for info in batch.outcomes.iter().filter(|o| o.is_incomplete()).map(|o| &o.info) {
            self.account.keep_ends(info);
        }
        batch.notes.iter().for_each(|note| self.account.keep_ends(&note.info));
        self.check_stored(batch)
    }

    fn answer(&mut self) -> Checked {
        if std::mem::take(&mut self.threads.has_been_asked) {
            self.on(Input::Answer(Answer::Verified(Ok(())), self.now))?;
        }
        let Some(UnderWay { mut batch, answer: Some(answer) }) = self.threads.under_way.take_if(|c| c.answer.is_some())
        else {
            return Ok(());
        };
        let files = |batch: &Batch| {
            let outcomes = batch.outcomes.iter().map(|outcome| Arc::clone(&outcome.info));
            outcomes.chain(batch.notes.iter().map(|note| Arc::clone(&note.info))).collect()
        };
        let later = || Some(Error::new(ErrorKind::Retry, "later"));
        let answer = match (answer, self.mistake) {
            (_, Mistake::AnswerLost) => return Ok(()),
            (Decided::Done, Mistake::DoneTakenForAgain) => Answer::Again(batch, later()),
            (Decided::Done, _) | (Decided::Again, Mistake::AgainTakenForDone) => Answer::Done(files(&batch)),
            (Decided::NotOwner, _) => Answer::Again(batch, None),
            (Decided::Again, _) => Answer::Again(batch, later()),
            (Decided::Refused(which), _) => {
                let (sources, records) = batch.records(&self.settings);
                let index = which as usize % records.len().max(1);
                drop(records);
                batch.refused(&sources, vec![(index, Error::new(ErrorKind::RecordTooLarge, "too large"))]);
                Answer::RecordsRefused(batch)
            }
            (Decided::Unknown, _) => Answer::Unknown(Error::new(ErrorKind::Retry, "unknown")),
        };
        self.on(Input::Answer(answer, self.now))
    }

    fn revoke(&mut self, mask: u8, lost: bool) -> Checked {
        let is_gone = |p: &usize| mask >> p & 1 == 1 && self.broker.assigned[*p].is_some();
        let gone: Vec<i32> = (0..self.partitions()).filter(is_gone).map(|p| p as i32).collect();
        gone.iter().for_each(|partition| self.broker.assigned[*partition as usize] = None);
        if self.mistake == Mistake::RevocationUnheard {
            return Ok(());
        }
        let tried = self.threads.tries.extract_if(|_, entry| gone.contains(&entry.partition())).map(|(id, _)| id);
        let tried: InstanceIds = tried.collect();
        self.on(Input::Revoked { partitions: &gone, lost, tried })?;
        self.account.forget_ends(|partition| gone.contains(&partition));
        Ok(())
    }

    fn assign(&mut self, mask: u8) {
        let mut taken = Vec::new();
        for partition in (0..self.partitions()).filter(|p| mask >> p & 1 == 1) {
            if self.broker.assigned[partition].is_some() {
                continue;
            }
            let restored = self.broker.progress(partition, self.schedule.scenario.first);
            let start = restored.position();
            self.next[partition] = self.schedule.scenario.log[partition].partition_point(|r| r.offset < start);
            taken.push(Taken {
                partition: partition as i32,
                assignment: self.broker.assign(partition),
                start,
                restored,
                committed: self.broker.committed[partition].clone(),
                begun: None,
                adopts: false,
            });
        }
        // nothing but the assembler's filling is touched
        drop(self.session.on(Input::Assigned(taken)));
    }

    /// The session is over, whatever is under way.
    fn crash(&mut self) {
        self.threads = Threads::default();
        self.broker.assigned.fill(None);
        self.last_try += 1;
        let number = self.last_try - FIRST_TRY + 1;
        self.session = session(self.schedule, &self.settings, &self.budget, number, self.now);
        self.account.forget_ends(|_| true);
        self.assign(u8::MAX);
    }

    /// A session that has ended is followed by another one.
    fn begin_again(&mut self) -> Checked {
        match self.threads.ended.take() {
            None => return Ok(()),
            Some(End::Finished) => {
                ensure(self.threads.under_way.is_none(), || "it ends while a commit is under way".into())?;
                // of partitions that it does not own it knows nothing
                if !self.threads.is_stopping && self.broker.assigned.iter().all(Option::is_some) {
                    self.check_end()?;
                }
            }
            Some(End::WholeAgain | End::StandsBy | End::Unclear(_)) => {}
            Some(End::Failed(error)) => return Err(format!("it fails: {error}")),
        }
        self.crash();
        Ok(())
    }

    /// Everything is read, gets its outcome and is committed, until the session ends by itself.
    fn finish(&mut self) -> Checked {
        self.threads.is_stopping.then(|| self.crash());
        for _ in 0..ROUNDS {
            self.assign(u8::MAX);
            for partition in 0..self.partitions() {
                self.read(partition, usize::MAX)?;
            }
            self.tick(200)?;
            self.work(u64::MAX, false)?;
            self.decide(Fate::Done)?;
            self.answer()?;
            if matches!(self.threads.ended, Some(End::Finished)) {
                return self.check_end();
            }
            self.begin_again()?;
        }
        Err("the session does not come to its end".into())
    }
}
