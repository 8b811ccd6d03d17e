//! The last heartbeat of each program, out of the topic that they go to.

use std::collections::BTreeMap;
use std::sync::Arc;

use datamill_broker::Log;
use datamill_wire::Heartbeat;
use serde_json::Value;

use super::error::SurveyError;
use super::pass::{all_of, read};
use crate::control::Control;

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
            last.insert(program.to_owned(), LastHeartbeat { program: program.to_owned(), time_ms, message });
        }
        Ok(true)
    })?;
    Ok(last.into_values().collect())
}
