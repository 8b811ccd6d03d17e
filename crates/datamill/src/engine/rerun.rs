//! Files that have a result are run again because somebody asks for it.
//!
//! ```text
//!  topic of results ──the group's own, the newest of each file──▶ choose ──▶ request ──▶ group's state
//!                                                                                            │
//!    result, which names the earlier one ◀──commit, which removes the key──◀ retry/ ◀────────┘
//!
//! value  JSON: sha512, spans [[partition, first, last]]   of the upload, from the headers of its result
//!              result                                     that result, as topic:partition:offset
//!              topic_id                                   id of the topic, where the result names it
//!              by                                         whose result it is, as the group's purposes tell
//! ```
//!
//! From the key on, a request is like an entry of a file that failed ([`super::retry`]): only the owner of the partition
//! answers it, and the commit with the answer removes it. Where the function fails, the answer is an entry, which knows
//! the earlier result as well. The release 0.1.0 passes such keys over.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datamill_broker::{Error, ErrorKind, Log, Operation, Record, StateChange, StateMark};
use datamill_wire::headers;
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};

use super::delivery::StateFolder;
use super::entry::{Entry, Place, hash};
use super::purpose::{self, Reproducer};
use super::reached::{Reached, Standing};
use super::source::Source;
use super::state::key::{FileAt, Key};
use crate::assemble::Span;
use crate::read::{At, Newest, TopicReader, all_of, compare_versions, header};
use crate::report::clock;
use crate::settings::Pattern;

/// Files of one request.
pub const MOST_RERUN: u64 = 100_000;

/// The value of a request.
#[derive(Serialize, Deserialize)]
pub(super) struct Asked<'a> {
    #[serde(borrow)]
    sha512: Cow<'a, str>,
    /// Partition, first and last offset of each part of the file.
    pub(super) spans: Vec<(i32, i64, i64)>,
    /// The result that another one is asked for.
    #[serde(borrow)]
    pub(super) result: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub(super) topic_id: Option<Cow<'a, str>>,
    /// The id of the program.
    #[serde(borrow)]
    pub(super) by: Cow<'a, str>,
}

/// What a request is about, as an entry. `None` for other keys, and for what something else wrote.
pub(super) fn entry(topic: &str, key: &str, value: &[u8]) -> Option<Entry> {
    let place = Place::of_rerun(topic, key)?;
    let asked: Asked<'_> = serde_json::from_slice(value).ok()?;
    let (partition, first, _) = *asked.spans.first()?;
    if (partition, first) != (place.0.partition, place.0.first) {
        return None;
    }
    let sha512 = hash(&asked.sha512)?;
    Some(Entry::of_rerun(topic, place, sha512, &asked))
}

/// Which files are to be run again: those for which all of this holds.
#[derive(Debug, Default)]
pub struct RerunChoice {
    /// The path matches from its start.
    pub path: Option<Pattern>,
    /// The newest result was made at this time or later, milliseconds since the epoch.
    pub since_ms: Option<i64>,
    /// The newest result is of a lower version than this, or of none.
    pub version_below: Option<String>,
}

impl RerunChoice {
    fn takes(&self, record: &Record<'_>, path: &str) -> bool {
        let is_below = |wanted: &String| {
            header(record, headers::PROCESSOR_VERSION).is_none_or(|version| compare_versions(version, wanted).is_lt())
        };
        self.path.as_ref().is_none_or(|pattern| pattern.matches(path))
            && self.since_ms.is_none_or(|since| record.timestamp_ms.is_some_and(|ms| ms >= since))
            && self.version_below.as_ref().is_none_or(is_below)
    }
}

/// A file that has a result, by that result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RerunFile {
    /// Path of the file, relative, with `/`.
    pub path: String,
    /// Its SHA-512 in hexadecimal digits.
    pub sha512: String,
    /// Where its chunks are: `partition:first-last`, separated by commas.
    pub offsets: String,
    /// The result: `topic:partition:offset`.
    pub result: String,
    /// When the result was made, milliseconds since the epoch.
    pub made_ms: Option<i64>,
    /// Version of the function that computed it, where it has one.
    pub version: Option<String>,
    /// Whether somebody has asked for another one that is not there yet.
    pub requested: bool,
    spans: Vec<(i32, i64, i64)>,
    topic_id: Option<String>,
    by: String,
}

/// What was chosen of the files of a group.
#[derive(Debug, Default)]
pub struct RerunFiles {
    /// Number of files with a result of the group.
    pub all: u64,
    /// Number of those that were chosen.
    pub count: u64,
    /// The newest result of the group was made by the release 0.1.0, which does not know of such requests.
    pub newest_is_of_0_1_0: bool,
    /// These files by their paths; none where they are more than [`MOST_RERUN`].
    pub files: Vec<RerunFile>,
}

/// Why files cannot be chosen.
#[derive(Debug, thiserror::Error)]
pub enum RerunError {
    /// The group has read nothing of the topic.
    #[error("group `{group}` has never read topic `{topic}`")]
    NotBegun {
        /// The topic.
        topic: String,
        /// The group.
        group: String,
    },
    /// Its program has no results.
    #[error(
        "group `{group}` is used by {by} on topic `{topic}`, which has no results by which files can be chosen. A group that \
        is new does the whole topic again: {again}"
    )]
    NoResults {
        /// The topic.
        topic: String,
        /// The group.
        group: String,
        /// The program.
        by: String,
        /// The options of such a start.
        again: &'static str,
    },
    /// It says nothing of its program.
    #[error(
        "the state of group `{group}` does not say which program it is for on topic `{topic}`: its program works with \
        `--delivery at-least-once`, which cannot be asked to run files again, or was not started since datamill 0.1.0. \
        Start it once without that option; or a group that is new does the whole topic again: {again}"
    )]
    Unmarked {
        /// The topic.
        topic: String,
        /// The group.
        group: String,
        /// The options of such a start.
        again: &'static str,
    },
    /// Its program works without transactions.
    #[error(
        "the state of group `{group}` on topic `{topic}` is in {folder}, as its program works with `--delivery \
        at-least-once`, which cannot be asked to run files again: nothing is asked for. Start it once there without that \
        option; or a group that is new does the whole topic again: {again}"
    )]
    InFolder {
        /// The topic.
        topic: String,
        /// The group.
        group: String,
        /// Where the state is.
        folder: Box<StateFolder>,
        /// The options of such a start.
        again: &'static str,
    },
    /// The log cannot be read.
    #[error("{0}")]
    Log(#[from] Error),
}

/// How a program does a whole topic again.
pub const WHOLE_AGAIN: &str = "`--consumer_group_id NEW_GROUP --start_from earliest`";

/// Chooses files of a group by the newest results that it has of them; the topic of the files is not read. `None` where it
/// is asked to `stop` before.
///
/// # Errors
/// The group has no results, or the log cannot be read.
pub fn files_to_rerun(
    log: &Arc<dyn Log>,
    topic: &str,
    group: &str,
    choice: &RerunChoice,
    stop: &dyn Fn() -> bool,
) -> Result<Option<RerunFiles>, RerunError> {
    let found = log.topic(topic).map_err(|error| error.for_use(Operation::Describe))?;
    let reproducers = reproducers(log.as_ref(), topic, group)?;
    let source = Source::new(topic, found.id.as_deref());
    let Looked { adopted, requested, folders } = look(log.as_ref(), &source, group)?;
    if let Some(folder) = folders.into_values().find(|folder| !folder.is_left()) {
        let (topic, group) = (topic.to_owned(), group.to_owned());
        return Err(RerunError::InFolder { topic, group, folder: Box::new(folder), again: WHOLE_AGAIN });
    }
    let reached = Reached::read(log.as_ref(), &found, group, &mut |_, _| {})?;
    let mut all = RerunFiles::default();
    let mut passes = Vec::new();
    let mut newest_result = (None, false);
    for reproducer in &reproducers {
        let ours = Ours { group, reproducer, source: &source, adopted: &adopted, reached: &reached };
        let results = log.topic(&reproducer.results)?;
        let spans = all_of(log, &results)?;
        let mut newest = Newest::default();
        let mut take = |record: &Record<'_>| {
            if let Some((path, ..)) = ours.upload(record) {
                newest.add(record, choice.takes(record, path));
                let is_old = header(record, headers::GROUP).is_none();
                newest_result = newest_result.max((record.timestamp_ms, is_old));
            }
        };
        if !TopicReader::pass(log, &results, &spans, stop, &mut take)? {
            return Ok(None);
        }
        let wanted = newest.wanted();
        all.all += newest.files() as u64;
        all.count += wanted.len() as u64;
        passes.push((ours, results, spans, wanted));
    }
    all.newest_is_of_0_1_0 = newest_result.1;
    if all.count > MOST_RERUN {
        return Ok(Some(all));
    }
    let mut places: BTreeSet<Place> = BTreeSet::new();
    for (ours, results, spans, wanted) in passes.iter().filter(|(.., wanted)| !wanted.is_empty()) {
        let mut take = |record: &Record<'_>| {
            let file = ours.file(record, wanted, &requested).filter(|(place, _)| places.insert(*place));
            all.files.extend(file.map(|(_, file)| file));
        };
        if !TopicReader::pass(log, results, spans, stop, &mut take)? {
            return Ok(None);
        }
    }
    all.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Some(all))
}

/// The reproducers that the group is for.
fn reproducers(log: &dyn Log, topic: &str, group: &str) -> Result<Vec<Reproducer>, RerunError> {
    let (reproducers, other) = purpose::reproducers(log, group, topic)?;
    if !reproducers.is_empty() {
        return Ok(reproducers);
    }
    let (topic, group) = (topic.to_owned(), group.to_owned());
    let known = log.group(&group, &[&topic])?;
    Err(match other {
        Some(by) => RerunError::NoResults { topic, group, by, again: WHOLE_AGAIN },
        None if known.committed.is_empty() && known.members.is_empty() => RerunError::NotBegun { topic, group },
        None => RerunError::Unmarked { topic, group, again: WHOLE_AGAIN },
    })
}

/// What the group's state says that matters here.
struct Looked {
    /// The ids of the topic that results without one have, by partition.
    adopted: BTreeMap<i32, String>,
    /// The places of files that are asked for.
    requested: BTreeSet<Place>,
    folders: BTreeMap<String, StateFolder>,
}

fn look(log: &dyn Log, source: &Source, group: &str) -> Result<Looked, Error> {
    let mut adopted: BTreeMap<i32, String> = BTreeMap::new();
    let mut requests: BTreeSet<String> = BTreeSet::new();
    let mut folders = BTreeMap::new();
    let mut take = |key: &str, value: Option<&[u8]>| {
        if let Some(partition) = source.adopted_partition(key) {
            match value.and_then(|value| std::str::from_utf8(value).ok()) {
                Some(id) => drop(adopted.insert(partition, id.to_owned())),
                None => drop(adopted.remove(&partition)),
            }
        } else if Place::of_rerun(&source.name, key).is_some() {
            let _ = if value.is_some() { requests.insert(key.to_owned()) } else { requests.remove(key) };
        } else if let Some(folder) = StateFolder::of_change(&source.name, key, value) {
            match folder {
                Some(folder) => drop(folders.insert(key.to_owned(), folder)),
                None => drop(folders.remove(key)),
            }
        }
    };
    log.read_group_state(group, StateMark::default(), &mut take, &|| false)?;
    let places = requests.iter().filter_map(|key| Some(Place::of_rerun(&source.name, key)?.0));
    Ok(Looked { adopted, requested: places.collect(), folders })
}

/// Tells the results of one of the group's programs from others.
struct Ours<'a> {
    group: &'a str,
    reproducer: &'a Reproducer,
    source: &'a Source,
    adopted: &'a BTreeMap<i32, String>,
    reached: &'a Reached,
}

impl Ours<'_> {
    /// Path and offsets of the upload that a result is of, where the group has made it and is done with the upload.
    fn upload<'r>(&self, record: &Record<'r>) -> Option<(&'r str, Vec<Span>)> {
        let is_ours = match header(record, headers::GROUP) {
            Some(group) => group == self.group,
            // 0.1.0 named the program alone
            None => program_of(header(record, headers::PROGRAM)?) == self.reproducer.program,
        };
        if !is_ours || header(record, headers::SOURCE_TOPIC)? != &*self.source.name {
            return None;
        }
        let spans = spans_of(header(record, headers::SOURCE_OFFSETS)?)?;
        let adopted = self.adopted.get(&spans.first()?.partition).map(String::as_str);
        let is_same = self.source.is_same(header(record, headers::SOURCE_TOPIC_ID), adopted);
        let is_done = is_same && self.reached.of(&spans) == Standing::Done;
        Some((header(record, headers::SOURCE_PATH)?, spans)).filter(|_| is_done)
    }

    /// The file of a result that is wanted.
    fn file(
        &self,
        record: &Record<'_>,
        wanted: &FxHashSet<At>,
        requested: &BTreeSet<Place>,
    ) -> Option<(Place, RerunFile)> {
        if !wanted.contains(&(record.partition, record.offset)) {
            return None;
        }
        let (path, spans) = self.upload(record)?;
        let sha512 = header(record, headers::SOURCE_SHA512).filter(|sha512| hash(sha512).is_some())?;
        let first = spans.first()?;
        let place = Place::new(first.partition, first.first, path);
        let owned = |name| header(record, name).map(str::to_owned);
        let file = RerunFile {
            path: path.to_owned(),
            sha512: sha512.to_owned(),
            offsets: owned(headers::SOURCE_OFFSETS)?,
            result: format!("{}:{}:{}", record.topic, record.partition, record.offset),
            made_ms: record.timestamp_ms,
            version: owned(headers::PROCESSOR_VERSION),
            requested: requested.contains(&place),
            spans: super::entry::triples(&spans),
            topic_id: owned(headers::SOURCE_TOPIC_ID),
            by: self.reproducer.id.clone(),
        };
        Some((place, file))
    }
}

/// The name of a program, without the version of datamill.
fn program_of(program: &str) -> &str {
    program.rsplit_once(" datamill/").map_or(program, |(name, _)| name)
}

/// Offsets as the header of a result has them.
fn spans_of(offsets: &str) -> Option<Vec<Span>> {
    let span = |text: &str| {
        let (partition, offsets) = text.split_once(':')?;
        let (first, last) = offsets.split_once('-')?;
        Some(Span { partition: partition.parse().ok()?, first: first.parse().ok()?, last: last.parse().ok()? })
    };
    offsets.split(',').map(span).collect()
}

/// Asks that these files are run again, durably. The program of the group that owns a file's partition takes that up
/// within seconds, or at its start. Each file has one answer to the request: another result, or a failure.
///
/// # Errors
/// Those of the log; nothing or all was asked for.
pub fn request_rerun(log: &dyn Log, topic: &str, group: &str, files: &[RerunFile]) -> Result<(), Error> {
    let number = format!("{}-{}", clock::now_ms(), std::process::id());
    let request = |file: &RerunFile| {
        let value = Asked {
            sha512: (&*file.sha512).into(),
            spans: file.spans.clone(),
            result: (&*file.result).into(),
            topic_id: file.topic_id.as_deref().map(Cow::Borrowed),
            by: (&*file.by).into(),
        };
        let value = serde_json::to_vec(&value).map_err(|error| {
            let text = format!("the request for file `{}` cannot be written as JSON", file.path);
            Error::with_source(ErrorKind::Fatal, text, error)
        })?;
        let (partition, first, _) = file.spans.first().copied().unwrap_or_default();
        let file = FileAt { partition, first, path: &file.path };
        Ok(StateChange { key: Key::Rerun { number: &number, file }.of(topic), value: Some(value) })
    };
    let changes: Vec<StateChange> = files.iter().map(request).collect::<Result<_, Error>>()?;
    log.change_group_state(group, &changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, offsets: &str) -> RerunFile {
        RerunFile {
            path: path.to_owned(),
            sha512: "0f".repeat(64),
            offsets: offsets.to_owned(),
            result: "results:1:7".to_owned(),
            made_ms: None,
            version: None,
            requested: false,
            spans: super::super::entry::triples(&spans_of(offsets).unwrap()),
            topic_id: Some("id".to_owned()),
            by: "me".to_owned(),
        }
    }

    #[test]
    fn a_request_is_read_as_it_was_written_and_nothing_else_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let servers = format!("sqlite:{}", folder.path().join("log.db").display());
        let broker = BTreeMap::from([("bootstrap.servers".to_owned(), servers)]);
        let log = datamill_broker::open(&datamill_broker::Properties { broker, ..Default::default() }).unwrap();
        let asked = [file("a/b: c.dat", "1:2-3,1:5-5"), file("d", "0:9-9")];
        request_rerun(log.as_ref(), "t", "g", &asked).unwrap();
        let state = log.group_state("g").unwrap();
        let mut read: Vec<Entry> = state.iter().map(|(key, value)| entry("t", key, value).unwrap()).collect();
        read.sort_by(|a, b| a.path().cmp(b.path()));
        for (read, asked) in read.iter().zip(&asked) {
            assert_eq!((read.path(), &*read.sha512()), (&*asked.path, &*asked.sha512));
            assert_eq!(super::super::origin::spans_text(read.spans()), asked.offsets);
            assert_eq!((read.rerun_of(), read.by(), read.has_failed), (Some("results:1:7"), Some("me"), false));
            assert_eq!(read.topic_id(), Some("id"));
        }
        let (key, value) = state.first_key_value().unwrap();
        assert_eq!(entry("other", key, value), None);
        assert_eq!(entry("t", &key.replace("rerun/", "retry/"), value), None);
        assert_eq!(entry("t", key, b"{}"), None);
        assert_eq!(entry("t", &key.replace("0:9/", "0:8/").replace("1:2/", "1:1/"), value), None);
    }
}
