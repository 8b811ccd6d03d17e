//! What became of one path: from all that is known of it to one row.

use std::collections::BTreeMap;
use std::path::Path;

use datamill_wire::{hex, result_key};

use super::copies::Copies;
use super::error::SurveyError;
use super::list::Listed;
use super::missing::version_of;
use super::table::{Failure, InFolder, Known, ResultOf, Table, versions};
use super::upload::Upload;
use crate::engine::{Reached, Standing};
use crate::ledger::FailureStatus;
use crate::report::text::counted;
use crate::report::{chain, clock};
use crate::upload::Stamp;

/// Said of a file that a group is done with, where its failures are elsewhere.
const NOT_SEEN: &str = "whether it failed is not seen here";

/// How a file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It has its result; without a topic of results, the group is done with it, or the copy is there.
    Result,
    /// It is on the topic, whole, and nothing else was asked for.
    Sent,
    /// The group has read some of it, and has no outcome for it yet.
    InHand,
    /// The group has not come to it.
    NotReached,
    /// The group is done with it, and whether it failed is not seen here.
    Passed,
    /// The group is done with it, and the topic of results has none of it.
    NoResult,
    /// It failed.
    Failed,
    /// Chunks of it are missing on the topic.
    Incomplete,
    /// It is not on the topic.
    NeverSent,
    /// Another version of it is on the topic.
    ChangedSince,
    /// It is on the topic, or among results or copies, and not in the folder.
    NotInFolder,
}

impl State {
    /// The word in tables and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Sent => "sent",
            Self::InHand => "in_hand",
            Self::NotReached => "not_reached",
            Self::Passed => "passed",
            Self::NoResult => "no_result",
            Self::Failed => "failed",
            Self::Incomplete => "incomplete",
            Self::NeverSent => "never_sent",
            Self::ChangedSince => "changed_since",
            Self::NotInFolder => "not_in_folder",
        }
    }
}

/// What became of one path.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Path of the file, relative, with `/`.
    pub path: String,
    /// How it stands.
    pub state: State,
    /// How it stands but for the folder, where it is [`State::NotInFolder`]; none where nothing but a copy, or the key of a
    /// result, is known of it.
    pub was: Option<State>,
    /// Its uploads, the oldest first.
    pub versions: Vec<Listed>,
    /// Offsets of the upload that counts, as [`Upload::offsets`] writes them.
    pub offsets: String,
    /// Where its newest result is: `partition:offset`.
    pub result: Option<String>,
    /// Whether the copy is there, where copies were asked about and the topic has the file.
    pub has_copy: Option<bool>,
    /// Why it stands so, and what is odd about it.
    pub reason: String,
    /// A person has to do something.
    pub needs_person: bool,
    /// It is a file of the folder that cannot be sent as it is.
    pub is_refused: bool,
}

/// Decides with what is known of the whole.
pub(super) struct Judge<'a> {
    pub(super) table: &'a Table,
    pub(super) group: Option<(&'a str, Reached)>,
    /// Topic of the results.
    pub(super) results: Option<&'a str>,
    /// The topic of results is another one than the one that the group has sent results to.
    pub(super) has_lost_results: bool,
    /// It is seen which files of the group failed.
    pub(super) sees_failures: bool,
    /// It is not known that the topic keeps more than the newest message of each key.
    pub(super) may_be_compacted: bool,
    /// Some results have nothing but their keys.
    pub(super) has_keyed: bool,
    pub(super) copies: Option<&'a Copies>,
    /// Files and copies are hashed whatever their sizes and times say.
    pub(super) verify: bool,
}

/// What is decided of a version.
struct Judged<'k> {
    state: State,
    was: Option<State>,
    upload: Option<&'k Upload>,
    result: Option<String>,
    has_copy: Option<bool>,
    needs_person: bool,
    notes: Vec<String>,
}

/// The key by which OpenMSIStream tells the file of a result.
pub(super) fn key_of_result(path: &str) -> String {
    let (subdir, name) = path.rsplit_once('/').unwrap_or(("", path));
    result_key(subdir, name)
}

/// What keys of results tell of a file.
enum ByKey {
    /// It has this one, which may be told by a key that others have as well.
    Result {
        place: String,
        shared: String,
    },
    /// There are fewer results with its key than files, and why.
    Unclear(String),
    Nothing,
}

impl<'k> Judged<'k> {
    fn new(state: State, upload: Option<&'k Upload>, why: impl Into<String>) -> Self {
        let why = why.into();
        let needs_person = matches!(
            state,
            State::NoResult | State::Failed | State::Incomplete | State::NeverSent | State::ChangedSince
        );
        let notes = if why.is_empty() { Vec::new() } else { vec![why] };
        Self { state, was: None, upload, result: None, has_copy: None, needs_person, notes }
    }
}

impl Judge<'_> {
    /// The row of a path.
    pub(super) fn row(&self, path: &str, known: Known) -> Result<Row, SurveyError> {
        let judged = match &known.file {
            Some(file) => self.in_folder(path, &known, file)?,
            None => None,
        };
        let judged = match judged {
            Some(judged) => judged,
            None => self.elsewhere(path, &known)?,
        };
        let Judged { state, was, upload, result, has_copy, needs_person, notes } = judged;
        let offsets = upload.map(Upload::offsets).unwrap_or_default();
        let numbers = versions(&known.uploads);
        Ok(Row {
            path: path.to_owned(),
            state,
            was,
            offsets,
            result,
            has_copy,
            reason: notes.join("; "),
            needs_person,
            is_refused: known.file.as_ref().is_some_and(|file| !file.refused.is_empty()),
            versions: known
                .uploads
                .into_iter()
                .zip(numbers)
                .map(|(upload, version)| Listed { upload, version })
                .collect(),
        })
    }

    /// A file of the folder; `None` where it is gone from there.
    fn in_folder<'k>(&self, path: &str, known: &'k Known, file: &InFolder) -> Result<Option<Judged<'k>>, SurveyError> {
        if !file.refused.is_empty() {
            return Ok(Some(Judged::new(State::NeverSent, None, format!("it cannot be sent: {}", file.refused))));
        }
        let stamp = Stamp { size: file.size, mtime_ns: file.mtime_ns };
        // what is not on the topic any more is known by its hash alone
        let left = known.uploads.is_empty() && !(known.results.is_empty() && known.failures.is_empty());
        let version = match version_of(Path::new(&file.at), stamp, &known.uploads, self.verify || left) {
            Ok(version) => version,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let why = format!("it cannot be read: {}", chain(&error));
                return Ok(Some(Judged { needs_person: true, ..Judged::new(State::NeverSent, None, why) }));
            }
        };
        if let Some(sha512) = version
            && let Some(judged) = self.of_version(path, known, &sha512)?
        {
            return Ok(Some(judged));
        }
        Ok(Some(match known.uploads.last() {
            None if self.may_be_compacted => {
                Judged::new(State::NeverSent, None, "it is not on the topic, or not any more")
            }
            None => Judged::new(State::NeverSent, None, "it is not on the topic"),
            Some(newest) => {
                let sent = clock::local_time_text(newest.first_ms);
                let what = if newest.is_whole() { "another version of it" } else { "a part of another version" };
                let mut judged =
                    Judged::new(State::ChangedSince, Some(newest), format!("the topic has {what}, sent at {sent}"));
                let older = known.results.iter().rev().find(|result| self.is_of_group(result));
                judged.notes.extend(older.map(|result| self.older(result)));
                judged
            }
        }))
    }

    /// What is known of a version; `None` where nothing is.
    fn of_version<'k>(
        &self,
        path: &str,
        known: &'k Known,
        sha512: &[u8; 64],
    ) -> Result<Option<Judged<'k>>, SurveyError> {
        let ours: Vec<&Upload> = known.uploads.iter().filter(|upload| upload.sha512 == *sha512).collect();
        let is_ours = |result: &&ResultOf| result.sha512.as_deref().is_none_or(|of| of == sha512);
        let (results, others): (Vec<&ResultOf>, Vec<&ResultOf>) =
            known.results.iter().filter(is_ours).partition(|result| self.is_of_group(result));
        let hash = hex(sha512);
        let failures: Vec<&Failure> = known.failures.iter().filter(|failure| failure.sha512 == hash).collect();
        let whole: Vec<&Upload> = ours.iter().copied().filter(|upload| upload.is_whole()).collect();
        let mut judged = match (whole.last(), ours.last()) {
            (Some(upload), _) => self.outcome(path, upload, &results, &failures)?,
            (None, Some(upload)) if results.is_empty() => Judged::new(State::Incomplete, Some(upload), &upload.fault),
            (None, upload) => match (results.last(), failures.last()) {
                (Some(result), _) => Judged {
                    result: Some(result.place.clone()),
                    ..Judged::new(State::Result, upload.copied(), "its chunks are gone from the topic")
                },
                (None, Some(failure)) => failed(None, failure),
                (None, None) => return Ok(None),
            },
        };
        if whole.len() > 1 {
            judged.notes.push(format!("sent {} times", whole.len()));
        }
        judged.notes.extend(if results.is_empty() { of_others(&others) } else { self.of_several(&results) });
        let doubled = doubled(&results);
        judged.needs_person |= !doubled.is_empty();
        judged.notes.extend(doubled);
        if judged.state != State::Result {
            let older = known.results.iter().rev().find(|result| !is_ours(result) && self.is_of_group(result));
            judged.notes.extend(older.map(|result| self.older(result)));
        }
        if let (Some(copies), Some(upload)) = (self.copies, whole.last()) {
            self.compare_copy(path, known, copies, upload, &mut judged);
        }
        Ok(Some(judged))
    }

    /// Whether a result counts: where a group is asked about, one of another group does not.
    fn is_of_group(&self, result: &ResultOf) -> bool {
        let asked = self.group.as_ref().map(|(group, _)| *group);
        asked.zip(result.group.as_deref()).is_none_or(|(asked, of)| asked == of)
    }

    /// Where the newest result of each group is, if no group is asked about and several have some.
    fn of_several(&self, results: &[&ResultOf]) -> Option<String> {
        let newest = newest_of_each(results);
        let is_said = self.group.is_none() && newest.len() > 1;
        is_said.then(|| format!("{} groups have a result: {}", newest.len(), places(&newest)))
    }

    fn older(&self, result: &ResultOf) -> String {
        let topic = self.results.unwrap_or_default();
        format!("topic `{topic}` has a result of another version of it, at {}", result.place)
    }

    /// What became of an upload that is whole.
    fn outcome<'k>(
        &self,
        path: &str,
        upload: &'k Upload,
        results: &[&ResultOf],
        failures: &[&Failure],
    ) -> Result<Judged<'k>, SurveyError> {
        let judged = |state, why: String| Judged::new(state, Some(upload), why);
        if let Some(result) = results.last() {
            let mut judged = Judged { result: Some(result.place.clone()), ..judged(State::Result, String::new()) };
            let place = format!("{}:{}", self.results.unwrap_or_default(), result.place);
            let again = failures.iter().find(|failure| failure.rerun_of.as_ref() == Some(&place));
            judged.needs_person = again.is_some();
            judged.notes.extend(again.map(|failure| format!("running it again failed: {}", told(failure))));
            return Ok(judged);
        }
        let unclear = match self.by_key(path)? {
            ByKey::Result { place, shared } => {
                return Ok(Judged { result: Some(place), ..judged(State::Result, shared) });
            }
            ByKey::Unclear(why) => Some(why),
            ByKey::Nothing => None,
        };
        if let Some(failure) = failures.iter().rev().find(|failure| is_about(failure, upload)) {
            return Ok(failed(Some(upload), failure));
        }
        let mut judged = self.by_standing(upload, unclear.is_some());
        if let Some(unclear) = unclear {
            judged.notes.insert(0, unclear);
            judged.needs_person = true;
        }
        Ok(judged)
    }

    /// The results that tell their file by a key alone.
    fn by_key(&self, path: &str) -> Result<ByKey, SurveyError> {
        if !self.has_keyed {
            return Ok(ByKey::Nothing);
        }
        let (places, paths) = self.table.keyed(&key_of_result(path))?;
        let shared = if paths > 1 {
            format!("its result is told by a key that {} have", counted(paths, "file"))
        } else {
            String::new()
        };
        Ok(match places.last() {
            Some(place) if places.len() as u64 >= paths => ByKey::Result { place: place.clone(), shared },
            Some(_) => ByKey::Unclear(format!(
                "{} have the key of {}, which do not tell whose they are",
                counted(paths, "file"),
                counted(places.len() as u64, "result")
            )),
            None => ByKey::Nothing,
        })
    }

    /// What the position of the group tells of an upload that has neither a result nor a failure of its own.
    fn by_standing<'k>(&self, upload: &'k Upload, is_unclear: bool) -> Judged<'k> {
        let judged = |state, why: String| Judged::new(state, Some(upload), why);
        let standing = self.group.as_ref().map(|(group, reached)| (*group, reached.of(&upload.spans)));
        match (standing, self.results) {
            (Some((_, Standing::NotReached)), _) => judged(State::NotReached, String::new()),
            (Some((group, Standing::InHand)), _) => {
                let waits = format!("no program of group `{group}` runs: the next one goes on with it");
                judged(State::InHand, if self.is_at_rest() { waits } else { String::new() })
            }
            (Some((group, Standing::Unknown)), _) => {
                judged(State::NotReached, format!("the position of group `{group}` does not tell what it has done"))
            }
            (Some((group, Standing::Done)), Some(results)) if !is_unclear => {
                let why = if self.has_lost_results {
                    format!("its result is gone: topic `{results}` was deleted and created again")
                } else if !self.sees_failures {
                    format!(
                        "group `{group}` has passed it, and topic `{results}` has no result of it: it failed, was left out by \
                        --start_from or --download_regex, or the topic has removed its result"
                    )
                } else {
                    format!(
                        "group `{group}` has passed it without a failure, and topic `{results}` has no result of it: it was \
                        left out by --start_from or --download_regex, or the topic has removed its result"
                    )
                };
                judged(State::NoResult, why)
            }
            (Some((_, Standing::Done)), Some(_)) => judged(State::NotReached, String::new()),
            (Some((_, Standing::Done)), None) if self.sees_failures => judged(State::Result, String::new()),
            (Some((_, Standing::Done)), None) => judged(State::Passed, NOT_SEEN.to_owned()),
            (None, Some(results)) => {
                let why = format!("topic `{results}` has no result of it; --consumer_group_id tells why");
                Judged { needs_person: true, ..judged(State::NotReached, why) }
            }
            (None, None) => judged(State::Sent, String::new()),
        }
    }

    /// Whether no program of the group runs.
    fn is_at_rest(&self) -> bool {
        self.group.as_ref().is_some_and(|(_, reached)| reached.members.is_empty())
    }

    fn compare_copy(&self, path: &str, known: &Known, copies: &Copies, upload: &Upload, judged: &mut Judged<'_>) {
        let place = copies.name();
        let wrong = match &known.copy {
            None => Some(format!("`{place}` has no copy of it")),
            Some(copy) => match copies.is_of(path, copy, upload, self.verify) {
                Ok(true) => None,
                Ok(false) => Some(format!("the copy in `{place}` is of another version")),
                Err(error) => Some(format!("the copy in `{place}` cannot be read: {}", chain(&error))),
            },
        };
        judged.has_copy = Some(wrong.is_none());
        match (judged.state, &wrong) {
            (State::Sent, Some(_)) => judged.state = State::NotReached,
            (State::Sent, None) => judged.state = State::Result,
            // a delivery that failed leaves no copy
            (State::Passed, None) => {
                judged.state = State::Result;
                judged.notes.retain(|note| note != NOT_SEEN);
            }
            _ => {}
        }
        judged.needs_person |= wrong.is_some();
        judged.notes.extend(wrong);
    }

    /// A path that is not in the folder.
    fn elsewhere<'k>(&self, path: &str, known: &'k Known) -> Result<Judged<'k>, SurveyError> {
        let newest = known.uploads.iter().rev().find(|upload| upload.is_whole()).or(known.uploads.last());
        let judged = match newest {
            Some(upload) => self.of_version(path, known, &upload.sha512)?,
            None => None,
        };
        if let Some(mut judged) = judged {
            let was = std::mem::replace(&mut judged.state, State::NotInFolder);
            judged.was = Some(was);
            judged.notes.insert(0, was.as_str().to_owned());
            return Ok(judged);
        }
        let mut judged = Judged::new(State::NotInFolder, None, "");
        let (results, others): (Vec<&ResultOf>, Vec<&ResultOf>) =
            known.results.iter().partition(|result| self.is_of_group(result));
        if let Some(result) = results.last() {
            judged.was = Some(State::Result);
            judged.result = Some(result.place.clone());
            judged.notes.push(format!("topic `{}` has a result of it", self.results.unwrap_or_default()));
        }
        judged.notes.extend(if results.is_empty() { of_others(&others) } else { self.of_several(&results) });
        if let Some(failure) = known.failures.last() {
            judged.was = Some(failed_as(failure));
            judged.notes.push(told(failure));
            judged.needs_person = true;
        }
        if let (Some(_), Some(copies)) = (&known.copy, self.copies) {
            judged.notes.push(format!("`{}` has a copy of it", copies.name()));
        }
        judged.notes.push("its chunks are not on the topic".to_owned());
        Ok(judged)
    }

    /// The row of results whose key is that of no file.
    pub(super) fn unclaimed(&self, key: &str, place: &str) -> Row {
        let topic = self.results.unwrap_or_default();
        Row {
            path: key.to_owned(),
            state: State::NotInFolder,
            was: None,
            versions: Vec::new(),
            offsets: String::new(),
            result: Some(place.to_owned()),
            has_copy: None,
            reason: format!("topic `{topic}` has a message with this key, and there is no file for it"),
            needs_person: false,
            is_refused: false,
        }
    }
}

fn failed<'k>(upload: Option<&'k Upload>, failure: &Failure) -> Judged<'k> {
    Judged::new(failed_as(failure), upload, told(failure))
}

fn failed_as(failure: &Failure) -> State {
    if failure.status == FailureStatus::Incomplete.as_str() { State::Incomplete } else { State::Failed }
}

fn told(failure: &Failure) -> String {
    format!("{}: {}", failure.status, failure.reason.lines().next().unwrap_or_default())
}

/// Whether a failure is about an upload that is whole on the topic: both begin with the same chunk. Chunks that came late
/// make the failure's offsets other ones.
fn is_about(failure: &Failure, upload: &Upload) -> bool {
    let begins = |offsets: &str| offsets.split('-').next().map(str::to_owned);
    failure.status != FailureStatus::Expired.as_str() && begins(&failure.offsets) == begins(&upload.offsets())
}

/// That other groups than the one that is asked about have a result.
fn of_others(results: &[&ResultOf]) -> Option<String> {
    let newest = newest_of_each(results);
    (!newest.is_empty()).then(|| format!("only another group has a result: {}", places(&newest)))
}

/// The place of the newest result of each group; results that name no group count as those of one.
fn newest_of_each<'r>(results: &[&'r ResultOf]) -> BTreeMap<Option<&'r str>, &'r str> {
    results.iter().map(|result| (result.group.as_deref(), result.place.as_str())).collect()
}

fn places(of_groups: &BTreeMap<Option<&str>, &str>) -> String {
    let of = |(group, place): (&Option<&str>, &&str)| match group {
        Some(group) => format!("`{group}` at {place}"),
        None => format!("one without a name at {place}"),
    };
    of_groups.iter().map(of).collect::<Vec<_>>().join(", ")
}

/// What is said of uploads that have more than one result each of one program.
fn doubled(results: &[&ResultOf]) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for result in results.iter().filter(|result| !result.answers) {
        places.entry(&result.source).or_default().push(&result.place);
    }
    let several = places.values().filter(|places| places.len() > 1);
    several
        .map(|places| format!("one upload has {}, at {}", counted(places.len() as u64, "result"), places.join(", ")))
        .collect()
}
