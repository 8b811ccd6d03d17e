//! Log lines on a topic: a ring keeps the newest lines, and a thread sends them every so often.
//!
//! The ring is bounded in lines and bytes; what did not fit is counted, and the next message says so.
//! Lines that come up while sending them are left out, or sending would never end.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use datamill_broker::Publisher;
use datamill_wire::LogMessage;
use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;

use super::clock;
use super::level::LogLevel;
use super::lines::{Line, Output};
use super::periodic::{Moment, Periodic};
use super::send::{Sender, Sent};

/// Interval where none is asked for; OpenMSIStream's.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);

/// Bytes of lines that the ring keeps.
const MAX_RING_BYTES: usize = 16 << 20;

/// Bytes of one line; the rest is cut.
const MAX_LINE_BYTES: usize = 16 << 10;

/// Bytes of one message. Brokers take 1,000,000 by default, librdkafka's own framing included.
const MAX_MESSAGE_BYTES: usize = 900_000;

/// Time for the log to take a message, and for the last ones, which the end of the program waits for.
const LIMIT: Duration = Duration::from_secs(5);
const LAST_LIMIT: Duration = Duration::from_secs(2);

/// Which lines are kept for the topic.
#[derive(Debug, Clone, Copy)]
pub struct LogTopicLines {
    /// The least level.
    pub level: LogLevel,
    /// Most lines between two messages; older ones make room.
    pub max_lines: usize,
}

/// Where log messages go, and how often.
#[derive(Debug, Clone)]
pub struct LogTopicOptions {
    /// The topic.
    pub topic: String,
    /// What identifies the program; the key is `{program_id}_log`.
    pub program_id: String,
    /// Time between two messages. Where nothing was logged, none is sent.
    pub interval: Duration,
}

thread_local! {
    /// This thread sends log lines.
    static SENDS: Cell<bool> = const { Cell::new(false) };
}

/// The newest lines that have not been sent.
pub(super) struct Ring {
    level: LevelFilter,
    max_lines: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<String>,
    bytes: usize,
    left_out: u64,
}

impl Ring {
    pub(super) fn new(lines: LogTopicLines) -> Self {
        Self { level: lines.level.filter(), max_lines: lines.max_lines.max(1), kept: Mutex::default() }
    }

    fn push(&self, mut line: String) {
        if line.len() > MAX_LINE_BYTES {
            line.truncate(line.floor_char_boundary(MAX_LINE_BYTES));
            line.push('…');
        }
        let mut kept = self.kept.lock();
        kept.bytes += line.len();
        kept.lines.push_back(line);
        self.make_room(&mut kept);
    }

    fn make_room(&self, kept: &mut Kept) {
        while kept.lines.len() > self.max_lines || kept.bytes > MAX_RING_BYTES {
            match kept.lines.pop_front() {
                Some(line) => {
                    kept.bytes -= line.len();
                    kept.left_out += 1;
                }
                None => break,
            }
        }
    }

    /// Takes the oldest lines that fit into one message; empty when there are none.
    fn take(&self) -> (u64, Vec<String>) {
        let mut kept = self.kept.lock();
        let mut lines = Vec::new();
        let mut bytes = 0;
        while let Some(line) = kept.lines.front() {
            bytes += json_len(line) + 1;
            if bytes > MAX_MESSAGE_BYTES && !lines.is_empty() {
                break;
            }
            kept.bytes -= line.len();
            lines.extend(kept.lines.pop_front());
        }
        (std::mem::take(&mut kept.left_out), lines)
    }

    /// Puts lines back that could not be sent.
    fn put_back(&self, left_out: u64, lines: Vec<String>) {
        let mut kept = self.kept.lock();
        kept.left_out += left_out;
        for line in lines.into_iter().rev() {
            kept.bytes += line.len();
            kept.lines.push_front(line);
        }
        self.make_room(&mut kept);
    }
}

impl Output for Arc<Ring> {
    fn level(&self) -> LevelFilter {
        self.level
    }

    fn write(&self, line: &Line<'_>) {
        if !SENDS.get() {
            self.push(line.full());
        }
    }
}

/// Starts the thread that sends what the ring holds.
pub(super) fn start(ring: Arc<Ring>, options: LogTopicOptions, publisher: Box<dyn Publisher>) -> io::Result<Periodic> {
    let LogTopicOptions { topic, program_id, interval } = options;
    let key = LogMessage::key(&program_id);
    let mut sender = Sender::new(publisher, topic, "log messages");
    Periodic::start("log-topic", interval, move |moment| {
        let limit = match moment {
            Moment::First => return,
            Moment::Interval => LIMIT,
            Moment::Last => LAST_LIMIT,
        };
        SENDS.set(true);
        loop {
            let (left_out, lines) = ring.take();
            if lines.is_empty() {
                break;
            }
            let note = (left_out > 0).then(|| format!("{left_out} earlier lines were left out"));
            let messages: Vec<String> = note.into_iter().chain(lines.iter().cloned()).collect();
            let message = LogMessage { timestamp: clock::now_ms() as f64 / 1000.0, messages };
            match sender.send(&key, &message.to_json(), Vec::new(), limit, moment) {
                Sent::Yes => {}
                Sent::No => {
                    ring.put_back(left_out, lines);
                    break;
                }
                Sent::Unknown => break,
            }
        }
        SENDS.set(false);
    })
}

/// Length of a text as a JSON string.
fn json_len(text: &str) -> usize {
    let escaped = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 2,
        0..32 => 6,
        _ => 1,
    });
    escaped.sum::<usize>() + 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{FakeLog, wait_until};
    use serde_json::Value;

    fn ring(max_lines: usize) -> Arc<Ring> {
        Arc::new(Ring::new(LogTopicLines { level: LogLevel::Info, max_lines }))
    }

    fn options(interval: Duration) -> LogTopicOptions {
        LogTopicOptions { topic: "logs".into(), program_id: "xrd".into(), interval }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    fn lines(value: &str) -> Vec<String> {
        let value: Value = serde_json::from_str(value).unwrap();
        assert!(value["timestamp"].as_f64().unwrap() > 1.7e9);
        value["messages"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_is_left_is_sent_at_the_end() {
        let (log, ring) = (FakeLog::default(), ring(10));
        let thread = start(Arc::clone(&ring), options(HOUR), log.publisher()).unwrap();
        ring.push("first".into());
        ring.push("second \"quoted\"".into());
        drop(thread);
        let messages = log.messages();
        assert_eq!(messages.len(), 1);
        assert_eq!((messages[0].topic.as_str(), messages[0].key.as_str()), ("logs", "xrd_log"));
        assert_eq!(lines(&messages[0].value), ["first", "second \"quoted\""]);
    }

    #[test]
    fn lines_are_sent_at_each_interval_and_silence_sends_nothing() {
        let (log, ring) = (FakeLog::default(), ring(10));
        let thread = start(Arc::clone(&ring), options(Duration::from_millis(3)), log.publisher()).unwrap();
        ring.push("first".into());
        wait_until(|| log.messages().len() == 1);
        ring.push("second".into());
        wait_until(|| log.messages().len() == 2);
        drop(thread);
        assert_eq!(log.messages().len(), 2);
    }

    #[test]
    fn the_newest_lines_are_kept_and_the_rest_is_counted() {
        let (log, ring) = (FakeLog::default(), ring(2));
        for number in 0..5 {
            ring.push(format!("line {number}"));
        }
        drop(start(ring, options(HOUR), log.publisher()).unwrap());
        assert_eq!(lines(&log.messages()[0].value), ["3 earlier lines were left out", "line 3", "line 4"]);
    }

    #[test]
    fn many_lines_become_several_messages_that_a_broker_takes() {
        let (log, ring) = (FakeLog::default(), ring(65_536));
        for number in 0..5000 {
            ring.push(format!("{number} \"\"\"\" {}", "x".repeat(400)));
        }
        ring.push("y".repeat(10 * MAX_LINE_BYTES));
        drop(start(ring, options(HOUR), log.publisher()).unwrap());
        let messages = log.messages();
        assert!(messages.len() > 2);
        assert!(messages.iter().all(|message| message.value.len() < 950_000));
        assert_eq!(messages.iter().map(|message| lines(&message.value).len()).sum::<usize>(), 5001);
    }

    #[test]
    fn lines_of_a_refused_message_are_sent_later() {
        let (log, ring) = (FakeLog::default(), ring(10));
        log.refuse(true);
        ring.push("kept".into());
        let thread = start(Arc::clone(&ring), options(Duration::from_millis(3)), log.publisher()).unwrap();
        wait_until(|| log.refused() >= 2);
        log.refuse(false);
        wait_until(|| log.messages().len() == 1);
        drop(thread);
        assert_eq!(lines(&log.messages()[0].value), ["kept"]);
    }

    #[test]
    fn lines_of_the_sending_thread_are_not_sent() {
        let ring = ring(10);
        let line = Line { time_ms: 0, level: tracing::Level::WARN, target: "t", text: "cannot send" };
        SENDS.set(true);
        ring.write(&line);
        SENDS.set(false);
        assert!(ring.take().1.is_empty());
        ring.write(&line);
        assert_eq!(ring.take().1.len(), 1);
    }

    #[test]
    fn the_length_of_a_json_string_is_known_before_it_is_made() {
        for text in ["", "plain", "a \"b\" \\ \n\t\u{1}\u{7f} µ…"] {
            assert_eq!(json_len(text), serde_json::to_string(text).unwrap().len(), "{text:?}");
        }
    }
}
