//! What running programs tell about themselves: heartbeats (counters) and log messages (lines). Both
//! are JSON objects; the caller brings the time and decides what a counter starts from.
//!
//! ```text
//! heartbeat   key {program_id}_heartbeat
//!             {"timestamp": ISO 8601 in UTC, "n_messages_read": n, "n_bytes_read": n,
//!              "n_messages_processed": n, "n_bytes_processed": n,
//!              "n_messages_produced": n, "n_bytes_produced": n}     since the heartbeat before
//! log         key {program_id}_log
//!             {"timestamp": seconds since the epoch, "messages": [line, …]}
//! ```

use serde_json::{Map, Value};

/// A heartbeat. Counters count since the heartbeat before; one that is `None` is left out: programs
/// that re-produce have all six, processors and downloads the first four, uploads the last two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Time of day in ISO 8601, UTC.
    pub timestamp: String,
    /// Messages read from the topic.
    pub n_messages_read: Option<u64>,
    /// Bytes of those messages.
    pub n_bytes_read: Option<u64>,
    /// Messages whose file has been handled.
    pub n_messages_processed: Option<u64>,
    /// Bytes of those messages.
    pub n_bytes_processed: Option<u64>,
    /// Messages that the log has acknowledged.
    pub n_messages_produced: Option<u64>,
    /// Bytes of those messages.
    pub n_bytes_produced: Option<u64>,
}

impl Heartbeat {
    /// The key of the heartbeats of a program.
    pub fn key(program_id: &str) -> String {
        format!("{program_id}_heartbeat")
    }

    /// The value of the message.
    pub fn to_json(&self) -> String {
        let counters = [
            ("n_messages_read", self.n_messages_read),
            ("n_bytes_read", self.n_bytes_read),
            ("n_messages_processed", self.n_messages_processed),
            ("n_bytes_processed", self.n_bytes_processed),
            ("n_messages_produced", self.n_messages_produced),
            ("n_bytes_produced", self.n_bytes_produced),
        ];
        let mut object = Map::new();
        object.insert("timestamp".into(), self.timestamp.as_str().into());
        for (name, counter) in counters {
            if let Some(count) = counter {
                object.insert(name.into(), count.into());
            }
        }
        Value::Object(object).to_string()
    }
}

/// The log lines of a program since its log message before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogMessage {
    /// Seconds since the Unix epoch.
    pub timestamp: f64,
    /// Formatted lines, the oldest first.
    pub messages: Vec<String>,
}

impl LogMessage {
    /// The key of the log messages of a program.
    pub fn key(program_id: &str) -> String {
        format!("{program_id}_log")
    }

    /// The value of the message. A timestamp that is no number becomes `null`.
    pub fn to_json(&self) -> String {
        let mut object = Map::new();
        object.insert("timestamp".into(), self.timestamp.into());
        object.insert("messages".into(), self.messages.as_slice().into());
        Value::Object(object).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_counters_are_left_out_and_zero_ones_are_not() {
        let upload = Heartbeat {
            timestamp: "2026-03-02T09:15:00.250000+00:00".into(),
            n_messages_produced: Some(0),
            n_bytes_produced: Some(u64::MAX),
            ..Heartbeat::default()
        };
        assert_eq!(
            upload.to_json(),
            r#"{"timestamp":"2026-03-02T09:15:00.250000+00:00","n_messages_produced":0,"n_bytes_produced":18446744073709551615}"#
        );
        assert_eq!(Heartbeat::key("xrd"), "xrd_heartbeat");
    }

    #[test]
    fn all_six_counters_have_their_names() {
        let heartbeat = Heartbeat {
            timestamp: "t".into(),
            n_messages_read: Some(1),
            n_bytes_read: Some(2),
            n_messages_processed: Some(3),
            n_bytes_processed: Some(4),
            n_messages_produced: Some(5),
            n_bytes_produced: Some(6),
        };
        assert_eq!(
            heartbeat.to_json(),
            r#"{"timestamp":"t","n_messages_read":1,"n_bytes_read":2,"n_messages_processed":3,"n_bytes_processed":4,"n_messages_produced":5,"n_bytes_produced":6}"#
        );
    }

    #[test]
    fn a_log_message_keeps_the_order_and_escapes_its_lines() {
        let log = LogMessage {
            timestamp: 1_700_000_000.25,
            messages: vec!["first \"one\"".into(), "second\nline µ".into()],
        };
        assert_eq!(log.to_json(), r#"{"timestamp":1700000000.25,"messages":["first \"one\"","second\nline µ"]}"#);
        assert_eq!(LogMessage::key("xrd"), "xrd_log");
    }
}
