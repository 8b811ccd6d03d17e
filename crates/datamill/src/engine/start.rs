//! Where the reading of a partition starts: at what is committed, and where that is missing or of no use,
//! where a person says. Nothing is guessed.
//!
//! The broker forgets the positions of a group without members after some days, and those in a topic that is
//! deleted at once. The group's state outlives that: its marks tell a position that is gone from a first start.
//! The value of a mark is the id of the topic in which the group has committed a position of the partition, or empty where
//! the id is not known.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use datamill_broker::{Assigned, FirstStart, Log, StateChange};

use super::EngineError;
use super::source::Source;
use super::state::key::Key;
use crate::progress::{Progress, ProgressError};

/// Where a group starts in the partitions whose committed position is missing or cannot be used. Where the
/// committed position can be used, reading goes on there all the same: so the choice does nothing more once
/// the group has committed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartFrom {
    /// At the committed offset, without what was known of unfinished files there.
    Committed,
    /// At the first record that is there, though not below a committed position.
    Earliest,
    /// Behind the last record that is there.
    Latest,
    /// At this offset, of each partition.
    Offset(i64),
}

impl FromStr for StartFrom {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "committed" => Ok(Self::Committed),
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => match text.parse() {
                Ok(offset) if offset >= 0 => Ok(Self::Offset(offset)),
                _ => Err("write `committed`, `earliest`, `latest` or an offset"),
            },
        }
    }
}

impl StartFrom {
    /// What the log does where nothing is committed.
    pub(super) fn first_start(self) -> FirstStart {
        match self {
            Self::Latest => FirstStart::Latest,
            Self::Committed | Self::Earliest | Self::Offset(_) => FirstStart::Earliest,
        }
    }
}

/// Goes with the first position of a partition that a session commits.
pub(super) fn mark(source: &Source, partition: i32) -> StateChange {
    let id = source.id.as_ref().map_or(&[][..], |id| id.as_bytes());
    StateChange { key: Key::Started { partition }.of(&source.name), value: Some(id.to_vec()) }
}

/// Whether the topic of a mark is the one that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// It may be: the mark, or the log, does not tell an id.
    Untold,
    Same,
    Other,
}

/// The marks of a topic, by partition.
pub(super) type Marks = BTreeMap<i32, Mark>;

/// What an entry of the group's state says, if it is a mark of this topic.
pub(super) fn read_mark(source: &Source, key: &str, value: &[u8]) -> Option<(i32, Mark)> {
    let Key::Started { partition } = Key::parse(&source.name, key)? else { return None };
    let mark = match source.id.as_ref() {
        Some(id) if id.as_bytes() == value => Mark::Same,
        Some(_) if !value.is_empty() => Mark::Other,
        _ => Mark::Untold,
    };
    Some((partition, mark))
}

/// Whether the group has a mark that may be of the topic that is read.
pub(super) fn knows(marks: &Marks) -> bool {
    marks.values().any(|mark| *mark != Mark::Other)
}

/// What a start is decided from.
pub(super) struct Start<'a> {
    pub(super) log: &'a dyn Log,
    pub(super) source: &'a Source,
    pub(super) group: &'a str,
    pub(super) asked: Option<StartFrom>,
    /// Those of the group, where a partition has no committed position.
    pub(super) marks: &'a Marks,
}

impl Start<'_> {
    /// The progress to go on from; `committed` is what the text beside the committed position says.
    pub(super) fn progress(
        &self,
        assigned: &Assigned,
        committed: Option<Result<Progress, ProgressError>>,
    ) -> Result<Progress, EngineError> {
        let partition = assigned.partition;
        let (topic, group) = (Arc::clone(&self.source.name), self.group.to_owned());
        let is_foreign = assigned.committed.as_ref().is_some_and(|c| self.source.is_foreign(&c.text));
        let trouble = match committed {
            Some(_) if is_foreign => EngineError::TopicReplaced { topic, group },
            Some(Ok(progress)) if assigned.start <= progress.frontier => return Ok(progress),
            Some(Ok(Progress { frontier: from, .. })) => {
                EngineError::LostGround { topic, partition, from, to: assigned.start, group }
            }
            Some(Err(source)) => EngineError::Progress { topic, partition, group, source },
            None if assigned.added => return Ok(Progress::starting_at(assigned.start)),
            None => match self.marks.get(&partition) {
                Some(Mark::Same | Mark::Untold) => EngineError::LostPosition { topic, partition, group },
                // it was added to the topic while all positions were forgotten
                None if knows(self.marks) => return Ok(Progress::starting_at(assigned.start)),
                Some(Mark::Other) => EngineError::TopicReplaced { topic, group },
                None if !self.marks.is_empty() => EngineError::TopicReplaced { topic, group },
                None => {
                    return match self.asked {
                        None | Some(StartFrom::Committed) => Ok(Progress::starting_at(assigned.start)),
                        Some(asked) => self.at(asked, assigned),
                    };
                }
            },
        };
        match self.asked {
            None => Err(trouble),
            Some(StartFrom::Committed) if assigned.committed.is_none() || is_foreign => Err(trouble),
            Some(asked) => {
                let progress = self.at(asked, assigned)?;
                tracing::warn!(reason = %trouble.what_happened(), offset = progress.frontier, partition,
                    topic = %self.source.name, "starting where --start_from says");
                Ok(progress)
            }
        }
    }

    /// Reading begins at the start of the assignment at the latest; the records below this are passed over.
    fn at(&self, asked: StartFrom, assigned: &Assigned) -> Result<Progress, EngineError> {
        let ends = self.log.offsets(&self.source.name, assigned.partition)?;
        let at = match asked {
            StartFrom::Committed | StartFrom::Earliest => assigned.start,
            StartFrom::Latest => ends.last_stable.max(assigned.start),
            StartFrom::Offset(offset) if (ends.first..=ends.end).contains(&offset) && offset >= assigned.start => {
                offset
            }
            StartFrom::Offset(offset) => {
                let (topic, partition) = (Arc::clone(&self.source.name), assigned.partition);
                return Err(EngineError::NoSuchStart { topic, partition, offset, from: assigned.start, to: ends.end });
            }
        };
        Ok(Progress::starting_at(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An assignment with this committed position, in a log of no records that begins there.
    fn assigned(start: i64, committed: Option<i64>) -> Assigned {
        let committed = committed.map(|offset| datamill_broker::Committed { offset, text: String::new() });
        Assigned { topic: "t".into(), partition: 0, assignment: 1, start, committed, added: false, log_start: start }
    }

    #[test]
    fn records_that_vanished_below_the_frontier_cost_open_files_and_above_it_stop_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let mut properties = datamill_broker::Properties::default();
        let servers = format!("sqlite:{}", folder.path().join("log.db").display());
        properties.broker.insert("bootstrap.servers".to_owned(), servers);
        let log = datamill_broker::open(&properties).unwrap();
        log.topic_for_use("t").unwrap();
        let source = Source::new("t", None);
        let marks = Marks::new();
        let start = |asked| Start { log: log.as_ref(), source: &source, group: "g", asked, marks: &marks };
        let progress = || Progress { frontier: 40, open: BTreeMap::from([(30, crate::progress::OpenKind::Open)]) };

        assert_eq!(start(None).progress(&assigned(40, Some(30)), Some(Ok(progress()))).unwrap(), progress());
        let lost = start(None).progress(&assigned(50, Some(30)), Some(Ok(progress()))).unwrap_err();
        assert!(matches!(lost, EngineError::LostGround { from: 40, to: 50, .. }), "{lost}");
        assert!(lost.to_string().contains("--start_from earliest"), "{lost}");
        for asked in [StartFrom::Earliest, StartFrom::Committed, StartFrom::Latest] {
            let found = start(Some(asked)).progress(&assigned(50, Some(30)), Some(Ok(progress()))).unwrap();
            assert_eq!(found, Progress::starting_at(50));
        }
        let usable = start(Some(StartFrom::Latest)).progress(&assigned(30, Some(30)), Some(Ok(progress())));
        assert_eq!(usable.unwrap(), progress(), "a position that can be used is used");
    }

    #[test]
    fn a_mark_tells_the_topic_before_from_the_one_that_is_read() {
        let (old, new, untold) =
            (Source::new("t/u", Some("a")), Source::new("t/u", Some("b")), Source::new("t/u", None));
        for (written, read, expected) in [
            (&old, &old, Mark::Same),
            (&old, &new, Mark::Other),
            (&old, &untold, Mark::Untold),
            (&untold, &new, Mark::Untold),
        ] {
            let StateChange { key, value } = mark(written, 3);
            assert_eq!(read_mark(read, &key, &value.unwrap()), Some((3, expected)));
        }
        assert_eq!(read_mark(&Source::new("t", Some("a")), "started/t/u/3", b"a"), None);
    }

    #[test]
    fn a_start_is_a_word_or_an_offset() {
        for (text, start) in [
            ("committed", Ok(StartFrom::Committed)),
            ("earliest", Ok(StartFrom::Earliest)),
            ("latest", Ok(StartFrom::Latest)),
            ("17", Ok(StartFrom::Offset(17))),
        ] {
            assert_eq!(text.parse(), start);
        }
        assert!("-1".parse::<StartFrom>().is_err() && "first".parse::<StartFrom>().is_err());
    }
}
