//! The last heartbeat of each program, out of the topic that they go to.

use std::collections::BTreeMap;
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
use crate::report::text::duration;
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
}

/// A heartbeat that is older says nothing about now: twice the usual time between two.
const STALE_MS: i64 = 1_800_000;

impl LastHeartbeat {
    /// What held the program when it said so, in words.
    pub fn holding(&self) -> Option<String> {
        let (hold, since_ms) = self.held?;
        let span = duration(Duration::from_millis(u64::try_from(self.time_ms - since_ms).unwrap_or(0)));
        Some(format!("holding for {span}: {}", hold.words()))
    }

    /// What needs a person.
    pub fn problem(&self, now_ms: i64) -> Option<Problem> {
        let (hold, since_ms) = self.held?;
        let is_new = now_ms.saturating_sub(self.time_ms) < STALE_MS;
        let text =
            || format!("program `{}` said in its last heartbeat: {}", self.program, self.holding().unwrap_or_default());
        let is_bad = is_new && is_long(hold, self.time_ms.saturating_sub(since_ms));
        is_bad.then(|| Problem::new(ProblemKind::Holding, Subject::Program(self.program.clone()), text()))
    }
}

/// The last heartbeat of each program, by the programs' names. Other messages of the topic are left out.
///
/// # Errors
/// Those of the log.
pub fn last_heartbeats(log: &Arc<dyn Log>, topic: &str, control: &Control) -> Result<Vec<LastHeartbeat>, SurveyError> {
    let topic = log.topic(topic)?;
    let mut spans = all_of(log.as_ref(), &topic)?;
    for span in &mut spans {
        span.first = span.first.max(span.end.saturating_sub(MOST));
    }
    let mut last: BTreeMap<String, LastHeartbeat> = BTreeMap::new();
    let end_of_key = Heartbeat::key("");
    read(log, &topic, &spans, control, &mut |record| {
        let key = record.key.and_then(|key| std::str::from_utf8(key).ok()?.strip_suffix(end_of_key.as_str()));
        let message = record.value.and_then(|value| serde_json::from_slice::<Value>(value).ok());
        if let (Some(program), Some(message), Some(time_ms)) = (key, message, record.timestamp_ms)
            && last.get(program).is_none_or(|known| known.time_ms <= time_ms)
        {
            let reason = header(record, headers::HELD);
            let hold = Hold::ALL.into_iter().find(|hold| Some(hold.as_str()) == reason);
            let held = hold.zip(header(record, headers::HELD_SINCE).and_then(|since| clock::parse(since).ok()));
            last.insert(program.to_owned(), LastHeartbeat { program: program.to_owned(), time_ms, message, held });
        }
        Ok(true)
    })?;
    Ok(last.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_that_lasts_needs_a_person_as_long_as_its_heartbeat_is_new() {
        let problem = |hold, held_seconds: i64, told_seconds: i64| {
            let time_ms = 1_800_000_000_000;
            let held = Some((hold, time_ms - held_seconds * 1000));
            let last = LastHeartbeat { program: "xrd".to_owned(), time_ms, message: Value::Null, held };
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
}
