//! How far a group is on a topic, as it is seen from outside: what it has done, what it has in hand, and what it has not
//! reached. Nothing is joined and nothing is changed.
//!
//! A position of datamill tells each file from the next by the text beside it ([`crate::progress`]). Positions of other
//! programs are offsets alone: a file is done once the position is behind all its chunks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::time::Duration;

use datamill_broker::{Committed, Error, Group, Log, Member, StateMark, Topic};
use rustc_hash::{FxBuildHasher, FxHashSet};

use super::delivery::StateFolder;
use super::entry::Place;
use super::failed::FailedFile;
use super::purpose::{self, results_of};
use super::source::Source;
use super::start::{self, Mark, Marks, read_mark};
use crate::assemble::Span;
use crate::progress::{OpenKind, Progress, decode, key_of_elsewhere};

/// How often the group's state is read where a commit comes between positions and state.
const LOOKS: usize = 5;

/// How a group stands to an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has read none of its chunks.
    NotReached,
    /// It has read a chunk, and there is no outcome yet.
    InHand,
    /// The upload has its outcome.
    Done,
    /// The position says nothing that can be understood from outside.
    Unknown,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Reached {
    /// By partition; one that is missing has no position.
    partitions: BTreeMap<i32, Position>,
    /// The topics that its results go to, with their ids where these are known, by the keys that tell them.
    results: BTreeMap<String, (String, Option<String>)>,
    /// What somebody asks for and has no answer, by a hash of its key: of which file, and whether the file has a result.
    requests: HashMap<u64, (Place, bool)>,
    /// The group's state in the log knows the topic: the failures of its programs are there as well, but for those in
    /// the `folders`.
    pub(crate) has_state: bool,
    /// Output folders that have failures of it.
    pub(crate) folders: BTreeMap<String, StateFolder>,
    /// Its live members.
    pub(crate) members: Vec<Member>,
    /// How long one that was killed is among them, where it is.
    pub(crate) killed_listed_for: Option<Duration>,
    /// Partitions whose positions were in an earlier topic of this name, and which have none in this one.
    pub(crate) replaced: BTreeSet<i32>,
    /// Partitions that had a position, which the log has forgotten.
    pub(crate) forgotten: BTreeSet<i32>,
}

/// What the group's state says.
struct State {
    results: BTreeMap<String, (String, Option<String>)>,
    requests: HashMap<u64, (Place, bool)>,
    marks: Marks,
    folders: BTreeMap<String, StateFolder>,
    /// What positions refer to, by its key.
    elsewhere: BTreeMap<String, Option<String>>,
    /// See [`Reached::has_state`]; the marks are of the group as well.
    is_known: bool,
}

impl State {
    /// Nothing, of a group with these positions.
    fn new(source: &Source, found: &Group) -> Self {
        let texts = found.committed.values().map(|committed| &committed.text).filter(|text| !source.is_foreign(text));
        let elsewhere = texts.filter_map(|text| Some((key_of_elsewhere(text)?.to_owned(), None)));
        Self {
            results: BTreeMap::new(),
            requests: HashMap::new(),
            marks: Marks::new(),
            folders: BTreeMap::new(),
            elsewhere: elsewhere.collect(),
            is_known: false,
        }
    }

    /// Takes a change in.
    fn take(
        &mut self,
        source: &Source,
        key: &str,
        value: Option<&[u8]>,
        failures: &mut dyn FnMut(&str, Option<FailedFile>),
    ) {
        self.is_known |= value.is_some() && purpose::is_mark(&source.name, key);
        if let Some(place) = Place::of_request(&source.name, key) {
            let hash = FxBuildHasher.hash_one(key);
            let is_rerun = Place::of_rerun(&source.name, key).is_some();
            match value {
                Some(_) => self.requests.insert(hash, (place, is_rerun)),
                None => self.requests.remove(&hash),
            };
        } else if purpose::is_mark(&source.name, key) {
            match value.and_then(|value| results_of(&source.name, key, value)) {
                Some(of) => self.results.insert(key.to_owned(), of),
                None => self.results.remove(key),
            };
        } else if let Some(text) = self.elsewhere.get_mut(key) {
            *text = value.map(|value| String::from_utf8_lossy(value).into_owned());
        } else if let Some(folder) = StateFolder::of_change(&source.name, key, value) {
            match folder {
                Some(folder) => self.folders.insert(key.to_owned(), folder),
                None => self.folders.remove(key),
            };
        } else if let Some(failure) = FailedFile::of_change(source, key, value) {
            self.is_known |= failure.is_some();
            failures(key, failure);
        } else if let Some((partition, mark)) = read_mark(source, key, value.unwrap_or_default()) {
            match value {
                Some(_) => self.marks.insert(partition, mark),
                None => self.marks.remove(&partition),
            };
        }
    }
}

/// The position of a partition.
#[derive(Debug)]
pub(crate) enum Position {
    /// With what is open below it.
    Datamill(Progress),
    /// An offset alone, as other programs commit it.
    Plain(i64),
    /// An offset whose text lies elsewhere, or is of another program.
    Unreadable(i64),
}

impl Position {
    /// The committed offset.
    pub(crate) fn offset(&self) -> i64 {
        match self {
            Self::Datamill(progress) => progress.position(),
            Self::Plain(offset) | Self::Unreadable(offset) => *offset,
        }
    }

    /// From where a restart goes on, as far as that can be told.
    pub(crate) fn progress(&self) -> Progress {
        match self {
            Self::Datamill(progress) => progress.clone(),
            Self::Plain(offset) | Self::Unreadable(offset) => Progress::starting_at(*offset),
        }
    }
}

impl Reached {
    /// Reads positions and state of a group. Each change of its failures on the topic goes to `failures`: a key with
    /// what is there from then on. A key may come several times, of which the last counts.
    ///
    /// # Errors
    /// Those of the log.
    pub(crate) fn read(
        log: &dyn Log,
        topic: &Topic,
        group: &str,
        failures: &mut dyn FnMut(&str, Option<FailedFile>),
    ) -> Result<Self, Error> {
        let source = Source::new(&topic.name, topic.id.as_deref());
        let mut looks = 0;
        loop {
            looks += 1;
            let found = log.group(group, &[&topic.name])?;
            let mut state = State::new(&source, &found);
            let mut take = |key: &str, value: Option<&[u8]>| state.take(&source, key, value, failures);
            log.read_group_state(group, StateMark::default(), &mut take, &|| false)?;
            // a commit in between may have replaced what a position refers to, or brought the first position with its mark
            let refers_elsewhere = state.elsewhere.values().any(Option::is_none);
            let has_position = |partition| found.committed.contains_key(&(topic.name.clone(), partition));
            let lacks_position = !state.marks.keys().all(|partition| has_position(*partition));
            let is_torn =
                refers_elsewhere || lacks_position && log.group(group, &[&topic.name])?.committed != found.committed;
            if looks == LOOKS || !is_torn {
                return Ok(Self::of_both(&source, found, state));
            }
        }
    }

    /// The same without the group's state, for an account that may not read it: of a position that refers to the state, the
    /// offset alone is known.
    ///
    /// # Errors
    /// Those of the log.
    pub(crate) fn positions(log: &dyn Log, topic: &Topic, group: &str) -> Result<Self, Error> {
        let source = Source::new(&topic.name, topic.id.as_deref());
        let found = log.group(group, &[&topic.name])?;
        let mut state = State::new(&source, &found);
        state.elsewhere.values_mut().for_each(|text| *text = Some(String::new()));
        Ok(Self::of_both(&source, found, state))
    }

    fn of_both(source: &Source, found: Group, state: State) -> Self {
        let committed = found.committed.into_iter().map(|((_, partition), committed)| (partition, committed));
        let (foreign, committed): (BTreeMap<i32, _>, BTreeMap<i32, _>) =
            committed.partition(|(_, committed)| source.is_foreign(&committed.text));
        let State { results, requests, marks, folders, elsewhere, is_known } = state;
        let position = |committed: &Committed| {
            let text = match key_of_elsewhere(&committed.text) {
                Some(key) => elsewhere.get(key).cloned().flatten(),
                None => Some(committed.text.clone()),
            };
            match text {
                Some(text) if text.is_empty() => Position::Plain(committed.offset),
                Some(text) => {
                    decode(committed.offset, &text).map_or(Position::Unreadable(committed.offset), Position::Datamill)
                }
                None => Position::Unreadable(committed.offset),
            }
        };
        let has_position = |partition: &i32| committed.contains_key(partition) || foreign.contains_key(partition);
        let lost = || marks.keys().copied().filter(|partition| !has_position(partition));
        // as a start decides: positions go with their topic, and the marks of the group stay
        let is_replaced = committed.is_empty() && !marks.is_empty() && !start::knows(&marks);
        let forgotten = lost().filter(|partition| marks.get(partition) != Some(&Mark::Other)).collect();
        let replaced = if is_replaced { lost().collect() } else { BTreeSet::new() };
        Self {
            partitions: committed.iter().map(|(partition, committed)| (*partition, position(committed))).collect(),
            results,
            requests,
            has_state: is_known || start::knows(&marks),
            folders,
            members: found.members,
            killed_listed_for: found.killed_listed_for,
            replaced: foreign.into_keys().chain(replaced).collect(),
            forgotten,
        }
    }

    /// Its position in a partition.
    pub(crate) fn position(&self, partition: i32) -> Option<&Position> {
        self.partitions.get(&partition)
    }

    /// The topics that it has sent results to, as far as its state tells.
    pub(crate) fn result_topics(&self) -> Vec<&str> {
        let topics: BTreeSet<&str> = self.results.values().map(|(topic, _)| topic.as_str()).collect();
        topics.into_iter().collect()
    }

    /// Whether this topic of results is another one than the one that the group has sent all its results to.
    pub(crate) fn has_lost_results(&self, results: &Topic) -> bool {
        let sent_to = self.results.values().find(|(name, _)| *name == results.name).and_then(|(_, id)| id.as_ref());
        sent_to.zip(results.id.as_ref()).is_some_and(|(before, now)| before != now)
    }

    /// How many files somebody asks for another try of, and for another result of.
    pub(crate) fn asked(&self) -> (u64, u64) {
        let files = |wanted: bool| {
            let of_kind = self.requests.values().filter(|(_, is_rerun)| *is_rerun == wanted);
            of_kind.map(|(place, _)| *place).collect::<FxHashSet<Place>>().len() as u64
        };
        (files(false), files(true))
    }

    /// Whether the group has ever committed a position of the topic.
    pub(crate) fn has_begun(&self) -> bool {
        !self.partitions.is_empty()
    }

    /// Whether a program of datamill has committed one of its positions.
    pub(crate) fn is_of_datamill(&self) -> bool {
        self.partitions.values().any(|position| !matches!(position, Position::Plain(_)))
    }

    /// How the group stands to an upload with these offsets.
    pub(crate) fn of(&self, spans: &[Span]) -> Standing {
        let parts: Vec<Standing> = spans.iter().map(|span| self.of_part(span)).collect();
        let has = |wanted| parts.contains(&wanted);
        match parts.first() {
            None => Standing::Unknown,
            Some(first) if parts.iter().all(|part| part == first) => *first,
            Some(_) if has(Standing::Unknown) => Standing::Unknown,
            Some(_) => Standing::InHand,
        }
    }

    fn of_part(&self, span: &Span) -> Standing {
        match self.partitions.get(&span.partition) {
            None => Standing::NotReached,
            Some(Position::Unreadable(_)) => Standing::Unknown,
            Some(Position::Plain(position)) if span.last < *position => Standing::Done,
            Some(Position::Plain(position)) if span.first < *position => Standing::InHand,
            Some(Position::Plain(_)) => Standing::NotReached,
            Some(Position::Datamill(progress)) if span.first >= progress.frontier => Standing::NotReached,
            Some(Position::Datamill(progress)) => match progress.open.get(&span.first) {
                Some(OpenKind::Open) => Standing::InHand,
                Some(OpenKind::Shadow) | None => Standing::Done,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_done_in_hand_or_not_reached_by_its_first_offset_and_by_plain_offsets() {
        let open = BTreeMap::from([(4, OpenKind::Open), (6, OpenKind::Shadow)]);
        let partitions = BTreeMap::from([
            (0, Position::Datamill(Progress { frontier: 10, open })),
            (1, Position::Plain(5)),
            (2, Position::Unreadable(1)),
        ]);
        let (replaced, forgotten, results, requests, members, folders) = Default::default();
        let (killed_listed_for, has_state) = (None, true);
        let reached = Reached {
            partitions,
            results,
            requests,
            has_state,
            folders,
            members,
            killed_listed_for,
            replaced,
            forgotten,
        };
        let of = |spans: &[(i32, i64, i64)]| {
            let spans: Vec<Span> =
                spans.iter().map(|&(partition, first, last)| Span { partition, first, last }).collect();
            reached.of(&spans)
        };
        for (spans, standing) in [
            (&[(0, 3, 12)][..], Standing::Done),
            (&[(0, 4, 5)], Standing::InHand),
            (&[(0, 6, 7)], Standing::Done),
            (&[(0, 10, 11)], Standing::NotReached),
            (&[(1, 1, 4)], Standing::Done),
            (&[(1, 4, 5)], Standing::InHand),
            (&[(1, 5, 5)], Standing::NotReached),
            (&[(1, 1, 4), (3, 0, 0)], Standing::InHand),
            (&[(2, 1, 1)], Standing::Unknown),
            (&[(3, 1, 1)], Standing::NotReached),
        ] {
            assert_eq!(of(spans), standing, "{spans:?}");
        }
    }
}
