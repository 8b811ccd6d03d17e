//! The state of a group: the failed files, the marks of partitions that had a position, and progress that fits
//! beside no offset. It lies in the log, where it changes within the commit; or, where the member commits without
//! transactions, in the output folder, in steps that lose nothing wherever they are cut off:
//!
//! ```text
//!   set what the positions will need ─▶ results acknowledged ─▶ positions ─▶ marks set, keys removed
//! ```
//! So the folder may hold a failure whose position never moved, and a failure that was answered. The first is
//! told by the committed progress, and forgotten; the second is tried once more.

pub(super) mod in_folder;
pub(super) mod key;

use std::collections::BTreeMap;

use datamill_broker::{
    Commit, CommitOutcome, Committer, CrashPoint, DeliveryGuarantee, Error, ErrorKind, Log, StateChange, StateMark,
    crash_point,
};
use parking_lot::Mutex;

use super::entry::{Entry, Place};
use super::folder::OutputFolder;
use super::source::Source;
use super::start::Marks;
use super::{Control, EngineError, EngineSettings, start};
use crate::progress::{OpenKind, Progress};
use in_folder::FolderState;

/// See the module.
pub(super) enum GroupState<'a> {
    /// In the log, and of all members.
    InLog { log: &'a dyn Log, group: &'a str },
    /// In the output folder, and of this place in the group alone.
    InFolder { file: Box<Mutex<FolderState>>, group: &'a str },
}

impl<'a> GroupState<'a> {
    /// The state of the group of these settings; `folder` is the output folder.
    pub(super) fn open(
        log: &'a dyn Log,
        settings: &'a EngineSettings,
        folder: Option<&OutputFolder>,
    ) -> Result<Self, EngineError> {
        let group = settings.group.as_str();
        match folder.filter(|_| settings.delivery == DeliveryGuarantee::AtLeastOnce) {
            None => Ok(Self::InLog { log, group }),
            Some(folder) => {
                let file = FolderState::open(folder.known(), &log.id()?, group)
                    .map_err(|error| EngineError::output(&settings.output_dir, error))?;
                Ok(Self::InFolder { file: Box::new(Mutex::new(file)), group })
            }
        }
    }

    /// What the map has of keys that are `wanted`: it may be too large to be held. `None` where the program is asked
    /// to stop before that is known.
    pub(super) fn load(
        &self,
        wanted: impl Fn(&str) -> bool,
        control: &Control,
    ) -> Result<Option<BTreeMap<String, Vec<u8>>>, Error> {
        let mut map = BTreeMap::new();
        let mut sink = |key: &str, value: Option<&[u8]>| match value {
            Some(value) if wanted(key) => drop(map.insert(key.to_owned(), value.to_vec())),
            _ => drop(map.remove(key)),
        };
        let mark = self.read(StateMark::default(), &mut sink, &|| control.stopping().is_some())?;
        Ok(mark.map(|_| map))
    }

    /// The marks of a topic. `None` where the program is asked to stop before they are known.
    pub(super) fn marks(&self, source: &Source, control: &Control) -> Result<Option<Marks>, Error> {
        let mut marks = Marks::new();
        let mut take = |key: &str, value: Option<&[u8]>| {
            if let Some((partition, mark)) = start::read_mark(source, key, value.unwrap_or_default()) {
                let _ = if value.is_some() { marks.insert(partition, mark) } else { marks.remove(&partition) };
            }
        };
        let read = self.read(StateMark::default(), &mut take, &|| control.stopping().is_some())?;
        Ok(read.map(|_| marks))
    }

    /// Hands out what changed since the mark of an earlier look, as [`Log::read_group_state`] does. In the folder only
    /// this process makes changes, so there is nothing that it has to be told.
    pub(super) fn read(
        &self,
        since: StateMark,
        sink: &mut dyn FnMut(&str, Option<&[u8]>),
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<StateMark>, Error> {
        match self {
            Self::InLog { log, group } => log.read_group_state(group, since, sink, stop),
            Self::InFolder { file, .. } => {
                if since != StateMark::default() {
                    return Ok(Some(since));
                }
                for (key, value) in file.lock().map() {
                    if stop() {
                        return Ok(None);
                    }
                    sink(key, Some(value));
                }
                Ok(Some(StateMark(1)))
            }
        }
    }

    /// Commits through the member's committer, the changes of the state included.
    pub(super) fn commit(&self, committer: &mut dyn Committer, commit: &Commit<'_>) -> CommitOutcome {
        let file = match self {
            Self::InLog { .. } => return committer.commit(commit),
            Self::InFolder { file, .. } => file,
        };
        let goes_ahead = |change: &&StateChange| change.value.is_some() && !key::is_started(&change.key);
        if let Err(error) = file.lock().change(commit.state.iter().filter(goes_ahead)) {
            return CommitOutcome::Again(self.unwritable(error));
        }
        crash_point(CrashPoint::StateSet);
        let outcome = committer.commit(&Commit { state: &[], ..*commit });
        if matches!(outcome, CommitOutcome::Done(_)) {
            let follows = commit.state.iter().filter(|change| !goes_ahead(change));
            if let Err(error) = file.lock().change(follows) {
                tracing::warn!(error = %crate::report::chain(&self.unwritable(error)),
                    "what was answered may be tried once more after a restart");
            }
            crash_point(CrashPoint::StateSettled);
        }
        outcome
    }

    /// Whether the state is in the output folder, and was never that of this partition.
    pub(super) fn knows_nothing_of(&self, source: &Source, partition: i32) -> bool {
        let Self::InFolder { file, .. } = self else { return false };
        !file.lock().map().contains_key(&start::mark(source, partition).key)
    }

    /// That of the output folder, where it is there.
    pub(super) fn folder(&self) -> Option<&Mutex<FolderState>> {
        match self {
            Self::InLog { .. } => None,
            Self::InFolder { file, .. } => Some(file),
        }
    }

    /// Forgets failures of a partition whose position never moved: by its committed progress, their files have
    /// no outcome yet.
    pub(super) fn settle(&self, source: &Source, partition: i32, progress: &Progress) -> Result<(), Error> {
        let Self::InFolder { file, .. } = self else { return Ok(()) };
        let mut file = file.lock();
        let undone = undone(file.map(), source, partition, progress);
        file.change(&undone).map_err(|error| self.unwritable(error))
    }

    fn unwritable(&self, error: std::io::Error) -> Error {
        let group = match self {
            Self::InLog { group, .. } | Self::InFolder { group, .. } => group,
        };
        let kind = match error.kind() {
            // what may be there again later
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded | std::io::ErrorKind::NotFound => {
                ErrorKind::NoSpace
            }
            _ => ErrorKind::Fatal,
        };
        let text = format!("cannot write the failed files of group `{group}` to the output folder");
        Error::with_source(kind, text, error)
    }
}

/// The removals of failures in a folder's state whose files have no outcome yet, by the committed progress of their
/// partition: it did not move after they were written.
pub(super) fn undone(
    map: &BTreeMap<String, Vec<u8>>,
    source: &Source,
    partition: i32,
    progress: &Progress,
) -> Vec<StateChange> {
    let adopted = map.get(&source.adopted_key(partition)).and_then(|id| std::str::from_utf8(id).ok());
    // the offsets of one of the topic before say nothing
    let is_same = |key: &str, value: &[u8]| {
        Entry::parse(&source.name, key, value).is_none_or(|entry| source.is_same(entry.topic_id(), adopted))
    };
    let is_open = |first: i64| first >= progress.frontier || progress.open.get(&first) == Some(&OpenKind::Open);
    let prefix = key::failures_of(&source.name, partition);
    let ours = map.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
    let is_undone = |(key, value): &(&String, &Vec<u8>)| {
        Place::of_key(&source.name, key).is_some_and(|(place, _)| is_open(place.first)) && is_same(key, value)
    };
    ours.filter(is_undone).map(|(key, _)| StateChange { key: key.clone(), value: None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers as it is told, and looks at the folder's state while it commits.
    struct Scripted<'a> {
        state: &'a GroupState<'a>,
        answer: Option<CommitOutcome>,
        seen: Vec<String>,
    }

    impl Committer for Scripted<'_> {
        fn commit(&mut self, commit: &Commit<'_>) -> CommitOutcome {
            assert!(commit.state.is_empty(), "the log has no part in it");
            self.seen = keys_of(self.state);
            self.answer.take().unwrap()
        }
    }

    fn keys_of(state: &GroupState<'_>) -> Vec<String> {
        state.load(|_| true, &Control::default()).unwrap().unwrap().into_keys().collect()
    }

    fn change(key: &str, value: Option<&str>) -> StateChange {
        StateChange { key: key.to_owned(), value: value.map(|value| value.as_bytes().to_vec()) }
    }

    #[test]
    fn what_positions_need_goes_ahead_of_them_and_the_rest_follows_only_once_they_moved() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = FolderState::open(&in_folder::output(folder.path()), "log", "g").unwrap();
        file.change(&[change("failed/t/0:1/old", Some("1"))]).unwrap();
        let state = GroupState::InFolder { file: Box::new(Mutex::new(file)), group: "g" };
        let changes =
            [change("started/t/0", Some("")), change("failed/t/0:1/old", None), change("failed/t/0:5/new", Some("2"))];
        let commit = Commit { state: &changes, ..Commit::default() };
        let again = CommitOutcome::Again(Error::new(ErrorKind::Retry, "later"));
        let mut committer = Scripted { state: &state, answer: Some(again), seen: Vec::new() };
        for done in [false, true] {
            let outcome = state.commit(&mut committer, &commit);
            assert_eq!(matches!(outcome, CommitOutcome::Done(_)), done);
            assert_eq!(committer.seen, ["failed/t/0:1/old", "failed/t/0:5/new"]);
            let after: Vec<String> = keys_of(&state);
            match done {
                false => assert_eq!(after, committer.seen),
                true => assert_eq!(after, ["failed/t/0:5/new", "started/t/0"]),
            }
            committer.answer = Some(CommitOutcome::Done(Vec::new()));
        }
    }

    #[test]
    fn a_failure_counts_only_where_the_committed_progress_has_passed_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = FolderState::open(&in_folder::output(folder.path()), "log", "g").unwrap();
        let keys = ["t/0:3/a", "t/0:5/open", "t/0:7/shadow", "t/0:9/beyond", "t/1:9/elsewhere", "t/2/0:9/other"];
        let keys = keys.map(|key| format!("failed/{key}"));
        file.change(&keys.each_ref().map(|key| change(key, Some("x")))).unwrap();
        let state = GroupState::InFolder { file: Box::new(Mutex::new(file)), group: "g" };
        let open = BTreeMap::from([(5, OpenKind::Open), (7, OpenKind::Shadow)]);
        state.settle(&Source::new("t", None), 0, &Progress { frontier: 9, open }).unwrap();
        let left: Vec<String> = keys_of(&state);
        let still = [0, 2, 4, 5].map(|i| keys[i].clone());
        assert_eq!(left, still);
    }

    #[test]
    fn no_position_moves_where_the_folder_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = FolderState::open(&in_folder::output(folder.path()), "log", "g").unwrap();
        file.lose_the_file();
        let state = GroupState::InFolder { file: Box::new(Mutex::new(file)), group: "g" };
        let changes = [change("failed/t/0:5/new", Some("2"))];
        let mut committer = Scripted { state: &state, answer: None, seen: Vec::new() };
        let outcome = state.commit(&mut committer, &Commit { state: &changes, ..Commit::default() });
        match outcome {
            CommitOutcome::Again(error) => assert!(error.to_string().contains("output folder"), "{error:?}"),
            other => panic!("{other:?}"),
        }
    }
}
