//! Where the reading of a partition starts: at what is committed, and where that is missing or of no use,
//! where a person says. Nothing is guessed.
//!
//! The broker forgets the positions of a group without members after some days. The group's state outlives
//! that: its entries `started/{topic}/{partition}` tell a position that is gone from a first start.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use datamill_broker::{Assigned, FirstStart, Log, StateChange};

use super::EngineError;
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

/// Begins the keys that say that the group has committed a position of a partition.
const MARK: &str = "started/";

fn key(topic: &str, partition: i32) -> String {
    format!("{MARK}{topic}/{partition}")
}

/// Whether a key of the group's state is such a mark.
pub(super) fn is_mark(key: &str) -> bool {
    key.starts_with(MARK)
}

/// Goes with the first position of a partition that a session commits.
pub(super) fn mark(topic: &str, partition: i32) -> StateChange {
    StateChange { key: key(topic, partition), value: Some(Vec::new()) }
}

/// What a start is decided from.
pub(super) struct Start<'a> {
    pub(super) log: &'a dyn Log,
    pub(super) topic: &'a Arc<str>,
    pub(super) group: &'a str,
    pub(super) asked: Option<StartFrom>,
    /// The group's state, where a partition has no committed position.
    pub(super) state: Option<BTreeMap<String, Vec<u8>>>,
}

impl Start<'_> {
    /// The progress to go on from; `committed` is what the text beside the committed position says.
    pub(super) fn progress(
        &self,
        assigned: &Assigned,
        committed: Option<Result<Progress, ProgressError>>,
    ) -> Result<Progress, EngineError> {
        let partition = assigned.partition;
        let (topic, group) = (Arc::clone(self.topic), self.group.to_owned());
        let trouble = match committed {
            Some(Ok(progress)) if assigned.start <= progress.frontier => return Ok(progress),
            Some(Ok(Progress { frontier: from, .. })) => {
                EngineError::LostGround { topic, partition, from, to: assigned.start, group }
            }
            Some(Err(source)) => EngineError::Progress { topic, partition, group, source },
            None => {
                let started = |state: &BTreeMap<_, _>| state.contains_key(&key(&topic, partition));
                if !self.state.as_ref().is_some_and(started) {
                    return match self.asked {
                        None | Some(StartFrom::Committed) => Ok(Progress::starting_at(assigned.start)),
                        Some(asked) => self.at(asked, assigned),
                    };
                }
                EngineError::LostPosition { topic, partition, group }
            }
        };
        match self.asked {
            None => Err(trouble),
            Some(StartFrom::Committed) if assigned.committed.is_none() => Err(trouble),
            Some(asked) => {
                let progress = self.at(asked, assigned)?;
                tracing::warn!(reason = %crate::report::chain(&trouble), offset = progress.frontier, partition,
                    topic = %self.topic, "starting where --start_from says");
                Ok(progress)
            }
        }
    }

    /// Reading begins at the start of the assignment at the latest; the records below this are passed over.
    fn at(&self, asked: StartFrom, assigned: &Assigned) -> Result<Progress, EngineError> {
        let ends = self.log.offsets(self.topic, assigned.partition)?;
        let at = match asked {
            StartFrom::Committed | StartFrom::Earliest => assigned.start,
            StartFrom::Latest => ends.last_stable.max(assigned.start),
            StartFrom::Offset(offset) if (ends.first..=ends.end).contains(&offset) && offset >= assigned.start => {
                offset
            }
            StartFrom::Offset(offset) => {
                let (topic, partition) = (Arc::clone(self.topic), assigned.partition);
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
        let topic = Arc::from("t");
        let start = |asked| Start { log: log.as_ref(), topic: &topic, group: "g", asked, state: None };
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
