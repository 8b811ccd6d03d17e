//! The last heartbeat of each program, out of the topic that they go to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use datamill_broker::Log;
use datamill_wire::{Heartbeat, headers};
use serde_json::Value;

use super::error::SurveyError;
use super::pass::{all_of, read};
use super::problem::{Problem, ProblemKind, Subject};
use crate::control::Control;
use crate::facts::Hold;
use crate::read::header;
use crate::report::clock;
use crate::report::text::{count, duration};
use crate::status::is_long;

/// Messages that are read at most of each partition, the last ones.
const MOST: i64 = 10_000;

/// The last heartbeat of a program.
#[derive(Debug, Clone, PartialEq)]
pub struct LastHeartbeat {
    /// What identifies the program.
    pub program: String,
    /// Time of the message, milliseconds since the epoch.
    pub time_ms: i64,
    /// What it says: the time of the program, and what was done since the heartbeat before.
    pub message: Value,
    /// What held the program then, and since when, in milliseconds since the epoch.
    pub held: Option<(Hold, i64)>,
    /// The program has said with it that it ends.
    pub has_ended: bool,
    /// The group of the program and its name in it, where it says them.
    pub member: Option<(String, String)>,
}

/// The heartbeats of a topic.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Heartbeats {
    /// The last one of each program, by the programs' names.
    pub last: Vec<LastHeartbeat>,
    /// Messages that were read and are not heartbeats.
    pub others: u64,
}

impl Heartbeats {
    /// The names in a group of programs that have ended.
    pub fn ended(&self, group: &str) -> BTreeSet<String> {
        // a program that was started again may have another name in its heartbeats, and has the same one in its group
        let mut newest: BTreeMap<&str, &LastHeartbeat> = BTreeMap::new();
        for heartbeat in &self.last {
            let Some((_, name)) = heartbeat.member.as_ref().filter(|(of, _)| of == group) else { continue };
            let known = newest.entry(name).or_insert(heartbeat);
            if known.time_ms <= heartbeat.time_ms {
                *known = heartbeat;
            }
        }
        let ended = newest.into_iter().filter(|(_, heartbeat)| heartbeat.has_ended);
        ended.map(|(name, _)| name.to_owned()).collect()
    }

    /// What needs a person who asks about this group, or about none.
    pub fn problems(&self, topic: &str, group: Option<&str>, now_ms: i64) -> Vec<Problem> {
        // programs in no group, and those of other versions, do not say their groups
        let is_of_other =
            |heartbeat: &LastHeartbeat| heartbeat.member.as_ref().is_some_and(|(of, _)| Some(&**of) != group);
        let found = match (group, self.others) {
            (Some(group), _) if !self.last.is_empty() && self.last.iter().all(is_of_other) => {
                format!("has heartbeats of other groups alone, and none of group `{group}`")
            }
            _ if !self.last.is_empty() => {
                return self.last.iter().filter_map(|heartbeat| heartbeat.problem(now_ms)).collect();
            }
            (_, 0) => "is empty".to_owned(),
            (_, 1) => "has no heartbeat: its message is none".to_owned(),
            (_, many) => format!("has no heartbeat: its last {} messages are none", count(many)),
        };
        let text = format!(
            "topic `{topic}` {found}. Check --heartbeat_topic_name, and that the programs are started with the same one"
        );
        vec![Problem::new(ProblemKind::NoHeartbeats, Subject::Heartbeats(topic.to_owned()), text)]
    }
}

/// A heartbeat that is older says nothing about now: twice the usual time between two.
const STALE_MS: i64 = 1_800_000;

impl LastHeartbeat {
    /// What held the program when it said so, or that it has ended, in words.
    pub fn said(&self) -> Option<String> {
        if self.has_ended { Some("it has ended".to_owned()) } else { self.holding() }
    }

    fn holding(&self) -> Option<String> {
        let (hold, since_ms) = self.held?;
        let span = duration(Duration::from_millis(u64::try_from(self.time_ms - since_ms).unwrap_or(0)));
        Some(format!("{} for {span}: {}", hold.does(), hold.words()))
    }

    /// What needs a person.
    fn problem(&self, now_ms: i64) -> Option<Problem> {
        let (hold, since_ms) = self.held?;
        let is_new = now_ms.saturating_sub(self.time_ms) < STALE_MS;
        let text =
            || format!("program `{}` said in its last heartbeat: {}", self.program, self.holding().unwrap_or_default());
        let is_bad = is_new && is_long(hold, self.time_ms.saturating_sub(since_ms));
        is_bad.then(|| Problem::new(ProblemKind::Holding, Subject::Program(self.program.clone()), text()))
    }
}

/// The last heartbeat of each program. Other messages of the topic are counted.
///
/// # Errors
/// Those of the log.
pub fn last_heartbeats(log: &Arc<dyn Log>, topic: &str, control: &Control) -> Result<Heartbeats, SurveyError> {
    let topic = log.topic(topic)?;
    let mut spans = all_of(log.as_ref(), &topic)?;
    for span in &mut spans {
        span.first = span.first.max(span.end.saturating_sub(MOST));
    }
    let mut last: BTreeMap<String, LastHeartbeat> = BTreeMap::new();
    let (end_of_key, mut others) = (Heartbeat::key(""), 0);
    read(log, &topic, &spans, control, &mut |record| {
        let key = record.key.and_then(|key| std::str::from_utf8(key).ok()?.strip_suffix(end_of_key.as_str()));
        let message = record.value.and_then(|value| serde_json::from_slice::<Value>(value).ok());
        let (Some(program), Some(message), Some(time_ms)) = (key, message, record.timestamp_ms) else {
            others += 1;
            return Ok(true);
        };
        if last.get(program).is_none_or(|known| known.time_ms <= time_ms) {
            let reason = header(record, headers::HELD);
            let hold = Hold::ALL.into_iter().find(|hold| Some(hold.as_str()) == reason);
            let held = hold.zip(header(record, headers::HELD_SINCE).and_then(|since| clock::parse(since).ok()));
            let has_ended = header(record, headers::ENDED).is_some();
            let member = header(record, headers::GROUP).zip(header(record, headers::INSTANCE));
            let member = member.map(|(group, instance)| (group.to_owned(), instance.to_owned()));
            let program = program.to_owned();
            last.insert(program.clone(), LastHeartbeat { program, time_ms, message, held, has_ended, member });
        }
        Ok(true)
    })?;
    Ok(Heartbeats { last: last.into_values().collect(), others })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_that_lasts_needs_a_person_as_long_as_its_heartbeat_is_new() {
        let problem = |hold, held_seconds: i64, told_seconds: i64| {
            let time_ms = 1_800_000_000_000;
            let held = Some((hold, time_ms - held_seconds * 1000));
            let program = "xrd".to_owned();
            let last = LastHeartbeat { program, time_ms, message: Value::Null, held, has_ended: false, member: None };
            last.problem(time_ms + told_seconds * 1000)
        };
        let found = problem(Hold::OutputFolder, 65, 1700).unwrap();
        assert_eq!((found.kind, found.subject), (ProblemKind::Holding, Subject::Program("xrd".to_owned())));
        let said =
            "program `xrd` said in its last heartbeat: holding for 1 min 5 s: the output folder cannot be written";
        assert!(found.text.starts_with(said), "{}", found.text);
        assert_eq!(problem(Hold::OutputFolder, 30, 0), None);
        assert_eq!(problem(Hold::OutputFolder, 65, 1801), None);
        assert_eq!(problem(Hold::Crowded, 6500, 0), None);
    }
    fn of(instance: &str, time_ms: i64, has_ended: bool) -> LastHeartbeat {
        let (program, member) = (format!("{instance}-{time_ms}"), Some(("g".to_owned(), instance.to_owned())));
        LastHeartbeat { program, time_ms, message: Value::Null, held: None, has_ended, member }
    }

    #[test]
    fn a_member_has_ended_whose_newest_heartbeat_says_so() {
        let last = vec![of("a", 1, true), of("a", 2, false), of("b", 1, false), of("b", 2, true), of("c", 1, false)];
        let heartbeats = Heartbeats { last, others: 0 };
        assert_eq!(heartbeats.ended("g"), BTreeSet::from(["b".to_owned()]));
        assert!(heartbeats.ended("other").is_empty());
        for (group, problems) in [(Some("g"), 0), (None, 0), (Some("other"), 1)] {
            assert_eq!(heartbeats.problems("beats", group, 0).len(), problems, "{group:?}");
        }
    }

    #[test]
    fn a_topic_without_heartbeats_needs_a_person() {
        for (others, words) in
            [(0, "topic `beats` is empty"), (1, "its message is none"), (1200, "last 1,200 messages")]
        {
            let [problem] = &Heartbeats { last: Vec::new(), others }.problems("beats", Some("g"), 0)[..] else {
                panic!("one")
            };
            assert_eq!(problem.kind, ProblemKind::NoHeartbeats);
            assert!(problem.text.contains(words), "{}", problem.text);
        }
    }
}
