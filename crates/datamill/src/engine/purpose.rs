//! What a group is for. Programs of one group share the files of a topic, so programs that do different things with
//! them must not be in one group: each would do a part. The group's state says who has begun with a topic.
//!
//! ```text
//! hash in the key: 16 hex digits of the SHA-512 of kind, a zero byte and target
//! value  JSON: kind            reproducer | processor | download | transfer | copy
//!              target          result topic | name of the program | id of the folder's mark | URL, or that of a folder |
//!                              topic that is copied to
//!              shown           name of the program | the same | path of the folder | the same as target
//!              download_regex  of the last start, where there was one
//!              result_topic_id  of a reproducer: id of the topic that has all its results, of the first start whose log
//!                              told it, or of a later one with --same_group
//!              first           true for the one that marked the group first: what carries no mark belongs to it
//! ```
//!
//! A program looks before it joins the group, and marks the group before it commits anything else. Then it looks
//! again: of two that mark a group at the same moment, the one whose mark comes later in the log gives in. So neither
//! has done a file that was the other's. A group has several purposes only where somebody asked for that.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use datamill_broker::{Commit, CommitOutcome, Committer, Error, ErrorKind, Log, StateChange, StateMark};
use datamill_wire::{hex, sha512};
use serde::{Deserialize, Serialize};

use super::delivery::StateFolder;
use super::source::Source;
use super::state::GroupState;
use super::state::key::Key;
use super::{Control, EngineError, EngineSettings, start};
use crate::mark::{self, Mark, Role};
use crate::process::{Target, UserCode};

const REPRODUCER: &str = "reproducer";
const PROCESSOR: &str = "processor";
const DOWNLOAD: &str = "download";
const TRANSFER: &str = "transfer";
const COPY: &str = "copy";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Purpose {
    kind: String,
    target: String,
    shown: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    download_regex: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result_topic_id: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    first: bool,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, target, shown, .. } = self;
        match kind.as_str() {
            REPRODUCER => write!(f, "the reproducer `{shown}` with results in topic `{target}`"),
            PROCESSOR => write!(f, "the processor `{shown}`"),
            DOWNLOAD => write!(f, "the download into the folder `{shown}`"),
            TRANSFER => write!(f, "the transfer to `{shown}`"),
            COPY => write!(f, "`datamill rekey` with topic `{target}` as its destination"),
            _ => write!(f, "`{shown}` ({kind})"),
        }
    }
}

impl Purpose {
    fn new(kind: &str, target: &str, shown: &str) -> Self {
        let [kind, target, shown] = [kind, target, shown].map(str::to_owned);
        Self { kind, target, shown, download_regex: None, result_topic_id: None, first: false }
    }

    /// Tells it from others of the topic.
    fn id(&self) -> String {
        hex(&sha512(format!("{}\0{}", self.kind, self.target).as_bytes())[..8])
    }

    /// Its key in the group's state.
    fn key(&self, topic: &str) -> String {
        Key::Purpose { id: &self.id() }.of(topic)
    }
}

/// What a key of a group's state tells of the results of a topic's files: their topic, and its id where that is known.
pub(super) fn results_of(topic: &str, key: &str, value: &[u8]) -> Option<(String, Option<String>)> {
    is_mark(topic, key).then_some(())?;
    let purpose: Purpose = serde_json::from_slice(value).ok()?;
    (purpose.kind == REPRODUCER).then_some((purpose.target, purpose.result_topic_id))
}

/// Whether a key of a group's state says what the group is for on this topic.
pub(super) fn is_mark(topic: &str, key: &str) -> bool {
    matches!(Key::parse(topic, key), Some(Key::Purpose { .. }))
}

/// The purposes of a group on a topic by their keys, each with the place of its mark in the log.
type Marks = BTreeMap<String, (usize, Purpose)>;

/// What a look at the state in the log says of a group, before it is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It has a state on the topic, and all of it is in the log.
    State,
    /// Failed files are in output folders.
    Folders,
    /// The log has nothing of it.
    Nothing,
    /// Not all of the state was seen.
    Unclear,
}

/// What was read of a group's state.
#[derive(Default)]
struct Read {
    marks: Marks,
    /// Keys of output folders that have failed files.
    folders: BTreeSet<String>,
    /// There are other keys of the topic.
    has_state: bool,
    is_whole: bool,
}

impl Read {
    fn known(&self) -> Known {
        match () {
            () if !self.is_whole => Known::Unclear,
            () if !self.folders.is_empty() => Known::Folders,
            () if self.has_state || !self.marks.is_empty() => Known::State,
            () => Known::Nothing,
        }
    }
}

/// How long a first look waits for what comes next: while a run that died has left a transaction open, the end of the
/// state is not told. What it leaves out is looked at once that transaction is aborted.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How long it waits for the first change: a busy machine or broker needs some time to begin.
const FIRST_CHANGE: Duration = Duration::from_secs(8);

/// Reads them up to the end, or in a first look to where nothing more comes in time.
fn read(
    log: &dyn Log,
    group: &str,
    topic: &str,
    is_first_look: bool,
    control: Option<&Control>,
) -> Result<Read, Error> {
    let source = Source::new(topic, None);
    let mut found = Read::default();
    let mut place = 0;
    let give_up_at = Cell::new(Instant::now() + FIRST_CHANGE);
    let mut sink = |key: &str, value: Option<&[u8]>| {
        give_up_at.set(Instant::now() + FIRST_LOOK);
        if is_mark(topic, key) {
            place += 1;
            match value.and_then(|value| serde_json::from_slice(value).ok()) {
                Some(purpose) => drop(found.marks.insert(key.to_owned(), (place, purpose))),
                None => drop(found.marks.remove(key)),
            }
        } else if let Some(folder) = StateFolder::of_change(topic, key, value) {
            let _ = if folder.is_some() { found.folders.insert(key.to_owned()) } else { found.folders.remove(key) };
        } else {
            found.has_state |= start::read_mark(&source, key, &[]).is_some();
        }
    };
    let stop = || {
        is_first_look && Instant::now() > give_up_at.get()
            || control.is_some_and(|control| control.stopping().is_some())
    };
    let read = log.read_group_state(group, StateMark::default(), &mut sink, &stop)?;
    found.is_whole = read.is_some();
    Ok(found)
}

/// What this program has to do with its group.
#[derive(Debug)]
pub(super) struct Standing {
    topic: String,
    group: String,
    own: Purpose,
    /// Is set once the group may know it.
    is_kept: Arc<AtomicBool>,
    /// It can be told from others: not for a folder that cannot be marked.
    is_known: bool,
    /// The mark of this program that the group has.
    before: Option<Purpose>,
    /// Id of the topic that results go to, where the log tells it.
    result_topic_id: Option<String>,
    /// It was said that this is another topic than before.
    has_told: bool,
    /// All marks were seen.
    is_whole: bool,
    known: Known,
    /// Nobody else may have marked the group meanwhile.
    alone: bool,
    same_group: bool,
}

impl Standing {
    /// Looks at the group before it is joined. `None` when the program was stopped meanwhile.
    ///
    /// # Errors
    /// The group is another program's, or the state cannot be read.
    pub(super) fn look(
        log: &dyn Log,
        settings: &EngineSettings,
        state: &GroupState<'_>,
        code: &UserCode,
        control: &Control,
    ) -> Result<Option<Self>, EngineError> {
        let (topic, group) = (&settings.topic, &settings.group);
        let found = match read(log, group, topic, true, Some(control)) {
            Ok(found) => found,
            // the state of this program is in its folder: what others left in the log is more than it has to know
            Err(error) if error.is_denied() && matches!(state, GroupState::InFolder { .. }) => {
                Read { is_whole: true, ..Read::default() }
            }
            Err(error) => return Err(error.into()),
        };
        let (known, is_whole, mut marks) = (found.known(), found.is_whole, found.marks);
        if control.stopping().is_some() {
            return Ok(None);
        }
        if let GroupState::InFolder { .. } = state {
            let found = state.load(|key| is_mark(topic, key), control)?.unwrap_or_default();
            let found =
                found.into_iter().filter_map(|(key, value)| Some((key, (0, serde_json::from_slice(&value).ok()?))));
            marks.extend(found);
        }
        let own = purpose_of(settings, code, &marks)?;
        let mut standing = Self {
            topic: topic.clone(),
            group: group.clone(),
            is_known: !own.target.is_empty(),
            before: None,
            result_topic_id: None,
            has_told: false,
            alone: false,
            is_whole: is_whole || matches!(state, GroupState::InFolder { .. }),
            known,
            same_group: settings.same_group,
            own,
            is_kept: Arc::clone(code.target_is_kept()),
        };
        standing.decide(&marks)?;
        if let Some(before) = &standing.before {
            standing.tell_changes(before);
        }
        Ok(Some(standing))
    }

    /// What follows from the marks that are there.
    fn decide(&mut self, marks: &Marks) -> Result<(), EngineError> {
        let before = marks.get(&self.key()).map(|(_, before)| before.clone());
        let other = marks.values().map(|(_, other)| other).find(|other| other.id() != self.own.id());
        match (&before, other) {
            (Some(before), _) => self.own.first = before.first,
            (None, Some(theirs)) if !self.same_group => return Err(self.refused(theirs)),
            (None, other) => self.own.first = other.is_none(),
        }
        self.alone = before.is_none() && !self.same_group;
        self.before = before;
        self.keep_result_topic();
        Ok(())
    }

    /// Results go to the topic with this id.
    pub(super) fn writes_to(&mut self, id: Option<&str>) {
        self.result_topic_id = id.map(str::to_owned);
        self.keep_result_topic();
    }

    /// The group keeps the id of the topic that has all its results, so each start says that some are gone. One with
    /// `--same_group` takes the new topic for that one.
    fn keep_result_topic(&mut self) {
        let before = self.before.as_ref().and_then(|before| before.result_topic_id.clone());
        let now = self.result_topic_id.clone();
        if before.is_some() && now.is_some() && before != now && !std::mem::replace(&mut self.has_told, true) {
            self.tell_lost_results();
        }
        self.own.result_topic_id = if self.same_group { now.or(before) } else { before.or(now) };
    }

    fn tell_lost_results(&self) {
        let (group, result_topic) = (&self.group, &self.own.target);
        if self.same_group {
            tracing::warn!(
                group,
                result_topic,
                "the topic of the results was deleted and created again: the group goes on with the new one, and the \
                results that went with the old one are not made again"
            );
        } else {
            tracing::error!(group, result_topic, "{}", lost_results(&self.topic));
        }
    }

    /// Whether the mark is to be written.
    fn is_new(&self) -> bool {
        self.is_known && self.before.as_ref() != Some(&self.own)
    }

    fn tell_changes(&self, before: &Purpose) {
        let (topic, group) = (&self.topic, &self.group);
        if before.kind == REPRODUCER && before.shown != self.own.shown {
            tracing::warn!(
                group,
                topic,
                before = before.shown,
                now = self.own.shown,
                "a program of another name was started with this group and result topic: if it is not the same one \
                under a new name, both share the files; give this one a group of its own with --consumer_group_id"
            );
        }
        if before.download_regex != self.own.download_regex {
            tracing::warn!(group, topic, "{}", changed_regex(before, &self.own));
        }
    }

    fn refused(&self, theirs: &Purpose) -> EngineError {
        EngineError::OtherPurpose {
            topic: self.topic.clone(),
            group: self.group.clone(),
            theirs: theirs.to_string(),
            ours: self.own.to_string(),
        }
    }

    /// What the look at the group said of its state in the log.
    pub(super) fn known(&self) -> Known {
        self.known
    }

    /// Who the failures of this program belong to.
    pub(super) fn id(&self) -> String {
        self.own.id()
    }

    /// Which failures this program answers.
    pub(super) fn answers(&self) -> Answers {
        Answers { own: self.own.id(), unmarked: self.own.first, all: self.same_group }
    }

    fn key(&self) -> String {
        self.own.key(&self.topic)
    }

    /// Marks the group, in a commit of its own. Answers why that did not happen, and whether another try may help.
    pub(super) fn mark(
        &mut self,
        log: &dyn Log,
        state: &GroupState<'_>,
        committer: &mut dyn Committer,
    ) -> Result<(), Unmarked> {
        if !self.is_whole {
            let marks = read(log, &self.group, &self.topic, false, None).map_err(Unmarked::again)?.marks;
            self.decide(&marks).map_err(Unmarked::Over)?;
            self.is_whole = true;
        }
        self.is_kept.store(true, Relaxed);
        if !self.is_new() {
            return Ok(());
        }
        let value = serde_json::to_vec(&self.own).map_err(|error| {
            Unmarked::Over(Error::with_source(ErrorKind::Fatal, "a mark cannot be written as JSON", error).into())
        })?;
        self.change(state, committer, Some(value))?;
        if let (true, GroupState::InLog { .. }) = (self.alone, state) {
            let marks = read(log, &self.group, &self.topic, false, None).map_err(Unmarked::again)?.marks;
            let place = marks.get(&self.key()).map(|(place, _)| *place);
            let earlier = marks.values().find(|(at, other)| other.id() != self.own.id() && Some(*at) < place);
            if let Some((_, theirs)) = earlier {
                let refused = self.refused(theirs);
                // otherwise the next start has this mark, and goes on
                self.change(state, committer, None)?;
                self.is_kept.store(false, Relaxed);
                return Err(Unmarked::Over(refused));
            }
        }
        self.before = Some(self.own.clone());
        self.alone = false;
        Ok(())
    }

    fn change(
        &self,
        state: &GroupState<'_>,
        committer: &mut dyn Committer,
        value: Option<Vec<u8>>,
    ) -> Result<(), Unmarked> {
        let change = [StateChange { key: self.key(), value }];
        match state.commit(committer, &Commit { state: &change, ..Commit::default() }) {
            CommitOutcome::Done(_) => Ok(()),
            CommitOutcome::Again(error) => Err(Unmarked::again(error)),
            CommitOutcome::Unknown(error) => Err(Unmarked::Unknown(error)),
            // it holds neither positions nor records
            CommitOutcome::NotOwner(_) | CommitOutcome::RecordsRefused(_) => Ok(()),
        }
    }
}

/// Why a group is not marked, or does not know yet what an earlier run left.
#[derive(Debug)]
pub(super) enum Unmarked {
    /// It may be marked later.
    Again(Error),
    /// It is not known whether it is.
    Unknown(Error),
    /// The program cannot go on.
    Over(EngineError),
}

impl Unmarked {
    /// For a commit that did not happen.
    pub(super) fn again(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Retry | ErrorKind::NoSpace => Self::Again(error),
            _ => Self::Over(error.into()),
        }
    }
}

/// What it means that the topic of results was deleted and created again.
pub(super) fn lost_results(topic: &str) -> String {
    format!(
        "the topic of the results was deleted and created again: results of before went with the old one, and this group \
        does not make them again. A new group makes a result of every file of topic `{topic}`, also of those that have one \
        in the new topic: start the program with another --consumer_group_id and --start_from earliest. To go on without \
        the lost results, start it once with --same_group"
    )
}

/// What a regular expression means that is another one than at the last start.
fn changed_regex(before: &Purpose, now: &Purpose) -> String {
    let named = |regex: &Option<String>| match regex {
        Some(regex) => format!("--download_regex '{regex}'"),
        None => "no --download_regex".to_owned(),
    };
    let (was, is) = (named(&before.download_regex), named(&now.download_regex));
    let Some(old) = &before.download_regex else {
        return format!(
            "this group was started with {was} the last time, and now with {is}: from here on, files that do not match are left out"
        );
    };
    let rest = now.download_regex.as_ref().map_or_else(String::new, |new| format!("(?:{new})"));
    format!(
        "this group was started with {was} the last time, and now with {is}: files that were left out until now are \
        behind it and are not looked at again. To have those as well, run the program once more in a new group: \
        --consumer_group_id create_new --start_from earliest --exit-at-end --download_regex '(?!{old}){rest}'"
    )
}

/// Marks a group as that of a copy of the topic. Answers who else it is for, if somebody. An account that may not use
/// the group's state goes on without.
///
/// # Errors
/// Those of the log.
pub(crate) fn mark_copy(log: &dyn Log, group: &str, topic: &str, destination: &str) -> Result<Option<String>, Error> {
    let own = Purpose { first: true, ..Purpose::new(COPY, destination, destination) };
    let marks = match read(log, group, topic, true, None) {
        Ok(found) => found.marks,
        Err(error) if error.is_denied() => return Ok(None),
        Err(error) => return Err(error),
    };
    if let Some((_, other)) = marks.values().find(|(_, other)| other.id() != own.id()) {
        return Ok(Some(other.to_string()));
    }
    let key = own.key(topic);
    if marks.contains_key(&key) {
        return Ok(None);
    }
    let value = serde_json::to_vec(&own)
        .map_err(|error| Error::with_source(ErrorKind::Fatal, "a mark cannot be written as JSON", error))?;
    match log.change_group_state(group, &[StateChange { key, value: Some(value) }]) {
        Err(error) if !error.is_denied() => Err(error),
        _ => Ok(None),
    }
}

/// A reproducer that a group is for on a topic.
#[derive(Debug)]
pub(super) struct Reproducer {
    pub(super) id: String,
    pub(super) program: String,
    pub(super) results: String,
}

/// The reproducers that a group is for on a topic, and another program where there are none.
///
/// # Errors
/// Those of the log.
pub(super) fn reproducers(log: &dyn Log, group: &str, topic: &str) -> Result<(Vec<Reproducer>, Option<String>), Error> {
    let marks = read(log, group, topic, false, None)?.marks;
    let (ours, others): (Vec<_>, Vec<_>) =
        marks.into_values().map(|(_, purpose)| purpose).partition(|purpose| purpose.kind == REPRODUCER);
    let reproducer =
        |purpose: Purpose| Reproducer { id: purpose.id(), program: purpose.shown, results: purpose.target };
    Ok((ours.into_iter().map(reproducer).collect(), others.first().map(ToString::to_string)))
}

/// Which failures a program answers.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    own: String,
    unmarked: bool,
    all: bool,
}

impl Answers {
    /// Whether those that belong to `by` are among them; those of 0.1.0 say nothing.
    pub(super) fn is_mine(&self, by: Option<&str>) -> bool {
        self.all || by.map_or(self.unmarked, |by| by == self.own)
    }
}

/// What the program of these settings and this code is for.
fn purpose_of(settings: &EngineSettings, code: &UserCode, marks: &Marks) -> Result<Purpose, EngineError> {
    let program = settings.program.rsplit_once(" datamill/").map_or(&*settings.program, |(name, _)| name);
    let in_folder = |kind, folder: &Path| {
        let mark = folder_mark(settings, kind, folder, marks)?;
        let mark = mark.map_or_else(String::new, |mark| mark.to_string());
        Ok::<_, EngineError>(Purpose::new(kind, &mark, &folder.display().to_string()))
    };
    let purpose = match (code.target(), &settings.result_topic) {
        (Some(Target::Folder(folder)), _) => in_folder(DOWNLOAD, folder)?,
        #[cfg(feature = "object-store")]
        (Some(Target::Url(url)), _) => Purpose::new(TRANSFER, url, url),
        #[cfg(feature = "object-store")]
        (Some(Target::StoreFolder(folder)), _) => in_folder(TRANSFER, folder)?,
        (None, Some(result_topic)) => Purpose::new(REPRODUCER, result_topic, program),
        (None, None) => Purpose::new(PROCESSOR, program, program),
    };
    let download_regex = settings.download_regex.as_ref().map(|pattern| pattern.as_str().to_owned());
    Ok(Purpose { download_regex, ..purpose })
}

/// The mark of the folder of a delivery. A folder without one is marked, unless the group has a folder already: then
/// this is another one, or its share is not mounted.
///
/// `None` where the folder may only be read: each file says so.
fn folder_mark(
    settings: &EngineSettings,
    kind: &str,
    folder: &Path,
    marks: &Marks,
) -> Result<Option<Mark>, EngineError> {
    let unusable = |source| EngineError::Folder { folder: folder.to_owned(), source };
    if let Some(mark) = Mark::find(folder, &Role::Target).map_err(unusable)? {
        return Ok(Some(mark));
    }
    let before = marks.values().map(|(_, purpose)| purpose).find(|purpose| purpose.kind == kind);
    if let Some(before) = before.filter(|_| !settings.same_group) {
        return Err(EngineError::UnmarkedFolder {
            folder: folder.to_owned(),
            before: before.shown.clone(),
            group: settings.group.clone(),
            topic: settings.topic.clone(),
        });
    }
    match Mark::find_or_make(folder, &Role::Target) {
        Err(error) if mark::is_refused(&error) => Ok(None),
        mark => mark.map(Some).map_err(unusable),
    }
}
