//! Which files user code has in hand, where it says that it may take the process down.
//!
//! Nothing is committed by a process that dies, so the file that killed it would come first at the next start, for
//! ever. So it is written down before each call, and the next start finds it:
//!
//! ```text
//! .datamill/in_hand-{16 hex digits of the SHA-512 of log, topic and group, with zero bytes between}
//!     slots of `crate::durable`, one for each worker behind the head
//!       head  "1 {run} {id of the topic, or -} {topic} {group}"
//!       slot  "{partition} {first offset} {flags, or -} {path}" while user code has the file; the path is for people
//!
//! in the group's state, for each end and file:
//!        JSON: path      for people
//!              alone     nothing else had user code: this file ended the process
//!              again     the file had failed before, and was tried again
//!              overdue   the call had taken longer than its time
//!              topic_id  id of the topic, where the log told it
//! ```
//! ```text
//!  worker ──slot──▶ file ──the process dies, the next start──▶ group's state ──▶ all members: alone, or failed
//! ```
//! A key is written for each end and each file, before the first call of the next start, so that another host knows it
//! as well. Each end has a key of its own, so that writing it twice counts once, and no host changes what another one
//! wrote. The owner of the partition removes the keys of a file with its outcome, and those that came too late.
//!
//! What the run before left counts for its files from the start on, whatever is assigned or revoked before the state has
//! it. Then the state tells it like all else: what is known of a partition goes with the partition, and comes with the
//! look at the state that follows an assignment.
//!
//! An end with one file in hand is put down to that file. With several it is not known whose fault it was: each of them
//! is tried alone, and ends that a file had beside others count for it once it has ended the process alone.

mod known;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use datamill_broker::{Commit, CommitOutcome, Committer, Error, ErrorKind, StateChange, StateMark};
use datamill_wire::{hex, sha512};
use parking_lot::{Mutex, RwLock};

pub(super) use known::Deaths;
use known::{End, Ends, Known};

use super::EngineError;
use super::entry::{Entry, Place};
use super::purpose::Unmarked;
use super::rerun;
use super::source::Source;
use super::state::GroupState;
use super::state::key::Key;
use crate::assemble::{FileInfo, Span};
use crate::durable::{Slots, is_full};
use crate::process::Beginning;
use crate::report::clock;

/// Files that a line names.
const NAMED: usize = 5;

/// Where a file begins in the topic: in the least of its partitions, with the first offset there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) partition: i32,
    pub(super) first: i64,
}

impl Spot {
    pub(super) fn of(info: &FileInfo) -> Self {
        Self::of_spans(&info.spans)
    }

    pub(super) fn of_spans(spans: &[Span]) -> Self {
        let spots = spans.iter().map(|span| Self { partition: span.partition, first: span.first });
        spots.min().unwrap_or(Self { partition: 0, first: 0 })
    }
}

/// The spot that a key of the group's state is about. `None` for other keys.
pub(super) fn spot_of_key(topic: &str, key: &str) -> Option<Spot> {
    match Key::parse(topic, key)? {
        Key::InHand { partition, first, .. } => Some(Spot { partition, first }),
        _ => None,
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct InHand {
    path: PathBuf,
    head: String,
    slots: usize,
    source: Source,
    /// None before the state has what the run before left, and once the program stops.
    file: RwLock<Option<Slots>>,
    is_silent: AtomicBool,
    known: Mutex<Known>,
    is_written: AtomicBool,
}

impl InHand {
    /// Reads what the run before left in the folder `own`, for workers of these numbers.
    pub(super) fn open(own: &Path, log_id: &str, source: &Source, group: &str, workers: usize) -> io::Result<Self> {
        let topic = &source.name;
        let name = hex(&sha512(format!("{log_id}\0{topic}\0{group}").as_bytes())[..8]);
        let path = own.join(format!("in_hand-{name}"));
        let run = format!("{}-{}", clock::now_ms(), std::process::id());
        let head = format!("1 {run} {} {topic} {group}", source.id.as_deref().unwrap_or("-"));
        let left = left_by(&Slots::read(&path)?, source);
        tell(topic, &left);
        let (file, known) = (RwLock::new(None), Mutex::new(Known { left, ..Known::default() }));
        let (is_silent, is_written) = Default::default();
        Ok(Self { path, head, slots: workers, source: source.clone(), file, is_silent, known, is_written })
    }

    /// Takes what the run before left into the group's state, in a commit of its own; then the workers may begin.
    pub(super) fn write_down(&self, state: &GroupState<'_>, committer: &mut dyn Committer) -> Result<(), Unmarked> {
        if self.is_written() {
            return Ok(());
        }
        self.drop_forgotten(state).map_err(Unmarked::again)?;
        let left = self.changes().map_err(|error| {
            Unmarked::Over(
                Error::with_source(ErrorKind::Fatal, "what was in hand cannot be written as JSON", error).into(),
            )
        })?;
        if !left.is_empty() {
            match state.commit(committer, &Commit { state: &left, ..Commit::default() }) {
                // it holds neither positions nor records
                CommitOutcome::Done(_) | CommitOutcome::NotOwner(_) | CommitOutcome::RecordsRefused(_) => {}
                CommitOutcome::Again(error) => return Err(Unmarked::again(error)),
                CommitOutcome::Unknown(error) => return Err(Unmarked::Unknown(error)),
            }
        }
        let made = Slots::make(&self.path, &self.head, self.slots).map_err(|error| {
            let folder = self.path.parent().and_then(Path::parent).unwrap_or(&self.path);
            if is_full(&error) {
                let text = format!("cannot note in the output folder `{}` what is in hand", folder.display());
                Unmarked::Again(Error::with_source(ErrorKind::NoSpace, text, error))
            } else {
                Unmarked::Over(EngineError::output(folder, error))
            }
        })?;
        *self.file.write() = Some(made);
        self.is_written.store(true, Relaxed);
        Ok(())
    }

    /// What the run before left, as changes of the group's state.
    fn changes(&self) -> Result<Vec<StateChange>, serde_json::Error> {
        let known = self.known.lock();
        let change =
            |(key, end): (&String, &End)| Ok(StateChange { key: key.clone(), value: Some(serde_json::to_vec(end)?) });
        known.left.values().flatten().map(change).collect()
    }

    /// Leaves out what the run before left of tries whose failed files, or requests to run them again, are in the group's
    /// state no longer: somebody has forgotten them, and nobody would remove the keys.
    fn drop_forgotten(&self, state: &GroupState<'_>) -> Result<(), Error> {
        let is_again = |of_spot: &BTreeMap<String, End>| of_spot.values().any(|end| end.again);
        let again: BTreeSet<Spot> = {
            let known = self.known.lock();
            known.left.iter().filter(|(_, of_spot)| is_again(of_spot)).map(|(spot, _)| *spot).collect()
        };
        if again.is_empty() {
            return Ok(());
        }
        let topic = &self.source.name;
        let mut tried: HashMap<String, Spot> = HashMap::new();
        let mut take = |key: &str, value: Option<&[u8]>| {
            let entry = match value {
                Some(value) if Place::of_key(topic, key).is_some() => Entry::parse(topic, key, value),
                Some(value) => rerun::entry(topic, key, value),
                None => None,
            };
            match entry.map(|entry| Spot::of_spans(entry.spans())).filter(|spot| again.contains(spot)) {
                Some(spot) => drop(tried.insert(key.to_owned(), spot)),
                None => drop(tried.remove(key)),
            }
        };
        state.read(StateMark::default(), &mut take, &|| false)?;
        let tried: BTreeSet<Spot> = tried.into_values().collect();
        let mut known = self.known.lock();
        for spot in again.difference(&tried) {
            if let Some(of_spot) = known.left.get_mut(spot) {
                of_spot.retain(|_, end| !end.again);
            }
        }
        known.left.retain(|_, of_spot| !of_spot.is_empty());
        Ok(())
    }

    /// Whether user code may begin: the group knows what the run before left.
    pub(super) fn is_written(&self) -> bool {
        self.is_written.load(Relaxed)
    }

    /// What a worker's slot says of its calls.
    pub(super) fn hand(self: &Arc<Self>, number: usize) -> Arc<HandSlot> {
        Arc::new(HandSlot { in_hand: Arc::clone(self), number, file: Mutex::default() })
    }

    fn set(&self, number: usize, text: &str) {
        let Some(Err(error)) = self.file.read().as_ref().map(|file| file.set(number, text)) else { return };
        if !self.is_silent.swap(true, Relaxed) {
            tracing::error!(file = %self.path.display(), %error,
                "the files in hand cannot be written down: one that ends the process does so again after each start");
        }
    }

    /// The program ends as it should, whatever is in hand.
    pub(super) fn close(&self) {
        let own = self.file.write().take();
        if own.is_some()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::debug!(file = %self.path.display(), %error, "it cannot be removed");
        }
    }

    /// Takes what a change of the group's state says of an end.
    pub(super) fn know(&self, change: StateChange) {
        let StateChange { key, value } = change;
        let Some(spot) = spot_of_key(&self.source.name, &key) else { return };
        let mut known = self.known.lock();
        match value.map(|value| serde_json::from_slice(&value)) {
            Some(Ok(end)) => drop(known.told.entry(spot).or_default().insert(key, end)),
            Some(Err(error)) => {
                tracing::warn!(key, %error, "an entry of the group's state is not understood; left alone");
            }
            None => known.remove(spot, &key),
        }
    }

    /// A session is over, and no partition is this process's.
    pub(super) fn revoke_all(&self) {
        let mut known = self.known.lock();
        let Known { left, lost, told } = &mut *known;
        lost.extend(left.keys().map(|spot| spot.partition));
        told.clear();
    }

    /// These partitions are this process's, and the group's state will be read for them.
    pub(super) fn assign(&self, partitions: impl Iterator<Item = i32>) {
        let mut known = self.known.lock();
        for partition in partitions {
            // nobody answers what was left before the state has it
            if self.is_written() && known.lost.remove(&partition) {
                known.left.retain(|spot, _| spot.partition != partition);
            }
        }
    }

    /// These partitions are not this process's any more.
    pub(super) fn revoke(&self, partitions: &[i32]) {
        let mut known = self.known.lock();
        known.lost.extend(partitions);
        known.told.retain(|spot, _| !partitions.contains(&spot.partition));
    }

    /// The ends that a file had a part in, now or when it was tried again; none for almost all files.
    pub(super) fn deaths(&self, info: &FileInfo, again: bool) -> Option<Deaths> {
        let known = self.known.lock();
        if known.is_empty() {
            return None;
        }
        let is_mine = |end: &&End| end.again == again && self.is_of_this_topic(end);
        let mine: Vec<&End> = known.of(Spot::of(info)).into_values().filter(is_mine).collect();
        let count = |is: fn(&End) -> bool| mine.iter().filter(|end| is(end)).count() as u32;
        let all = mine.len() as u32;
        (all > 0).then(|| Deaths { all, alone: count(|end| end.alone), overdue: count(|end| end.overdue) })
    }

    fn is_of_this_topic(&self, end: &End) -> bool {
        self.source.is_same(end.topic_id.as_deref(), None)
    }

    /// Keys that go with a commit: of the files that have their outcome with it, and those that came too late.
    pub(super) fn answered(&self, outcomes: &BTreeSet<Spot>, is_done: impl Fn(Spot) -> bool) -> Vec<String> {
        let known = self.known.lock();
        let is_answered = |spot: Spot, end: &End| {
            outcomes.contains(&spot) || !self.is_of_this_topic(end) || !end.again && is_done(spot)
        };
        let of = |spot: Spot| {
            let keys = known.of(spot).into_iter().filter(|(_, end)| is_answered(spot, end));
            keys.map(|(key, _)| key.to_owned()).collect::<Vec<_>>()
        };
        known.spots().into_iter().flat_map(of).collect()
    }

    /// These keys are gone from the group's state.
    pub(super) fn forget(&self, keys: &[String]) {
        let mut known = self.known.lock();
        for key in keys {
            if let Some(spot) = spot_of_key(&self.source.name, key) {
                known.remove(spot, key);
            }
        }
    }
}

/// What a file of slots says, by the keys that the group's state gets.
fn left_by(slots: &[String], source: &Source) -> Ends {
    let mut head = slots.first().map(|head| head.split(' ')).into_iter().flatten();
    let (Some("1"), Some(run), Some(id)) = (head.next(), head.next(), head.next()) else { return Ends::new() };
    let id = Some(id).filter(|id| *id != "-");
    if !source.is_same(id, None) {
        return Ends::new();
    }
    let mut left: Vec<(Spot, End)> = slots[1..].iter().filter_map(|slot| End::of_slot(slot, id)).collect();
    if let [(_, end)] = &mut left[..] {
        end.alone = true;
    }
    let key = |Spot { partition, first }| Key::InHand { run, partition, first }.of(&source.name);
    left.into_iter().map(|(spot, end)| (spot, BTreeMap::from([(key(spot), end)]))).collect()
}

fn tell(topic: &str, left: &Ends) {
    if left.is_empty() {
        return;
    }
    let paths: Vec<&str> = left.values().flat_map(BTreeMap::values).map(|end| end.path.as_str()).collect();
    let more = if paths.len() > NAMED { ", …" } else { "" };
    tracing::warn!(
        topic,
        files = format!("{}{more}", paths[..paths.len().min(NAMED)].join(", ")),
        "the program ended the last time while it worked on these files; each is tried while nothing else runs"
    );
}

/// The slot of a worker.
#[derive(Debug)]
pub(super) struct HandSlot {
    in_hand: Arc<InHand>,
    number: usize,
    /// The file of the call, and whether user code has it.
    file: Mutex<Option<(Spot, End, bool)>>,
}

impl HandSlot {
    /// See [`InHand::deaths`].
    pub(super) fn deaths(&self, info: &FileInfo, again: bool) -> Option<Deaths> {
        self.in_hand.deaths(info, again)
    }

    /// The next calls are about this file.
    pub(super) fn prepare(&self, info: &FileInfo, alone: bool, again: bool) {
        let (path, topic_id) = (info.version.path.to_string(), None);
        let end = End { path, alone, again, overdue: false, topic_id };
        *self.file.lock() = Some((Spot::of(info), end, false));
    }

    /// The call takes longer than its time, and the program ends for that: that stays noted, also where it ends after all
    /// before the program does.
    pub(super) fn is_overdue(&self) {
        let mut file = self.file.lock();
        if let Some((spot, end, _)) = &mut *file {
            end.overdue = true;
            self.in_hand.set(self.number, &end.slot(*spot));
        }
    }
}

impl Beginning for HandSlot {
    fn begins(&self) {
        let mut file = self.file.lock();
        if let Some((spot, end, has_begun)) = &mut *file {
            *has_begun = true;
            self.in_hand.set(self.number, &end.slot(*spot));
        }
    }

    fn has_ended(&self) {
        if let Some((_, end, has_begun)) = &mut *self.file.lock()
            && std::mem::take(has_begun)
            && !end.overdue
        {
            self.in_hand.set(self.number, "");
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
