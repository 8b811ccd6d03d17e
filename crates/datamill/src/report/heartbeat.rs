//! Heartbeats: every so often a program says on a topic that it lives and what it did since.
//!
//! The first one goes out at the start, the last one at the end. A heartbeat that was refused is made
//! up for: the counts of the next one begin where the last delivered one ended.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use datamill_broker::Publisher;
use datamill_wire::{Heartbeat as Message, headers};

use super::clock;
use super::periodic::{Moment, Periodic};
use super::send::{Sender, Sent};
use crate::facts::{Counters, Counts};

/// Interval where none is asked for; OpenMSIStream's.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(900);

/// Time for the log to take a heartbeat, and for the last one, which the end of the program waits for.
const LIMIT: Duration = Duration::from_secs(5);
const LAST_LIMIT: Duration = Duration::from_secs(2);

/// What a program does, which decides which counts its heartbeats hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramKind {
    /// Reads, processes and produces: all six.
    Reproducer,
    /// Reads and processes: four.
    Consumer,
    /// Produces: two.
    Producer,
}

impl ProgramKind {
    /// The word for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reproducer => "reproducer",
            Self::Consumer => "processor",
            Self::Producer => "upload",
        }
    }
}

/// Where heartbeats go, and how often.
#[derive(Debug, Clone)]
pub struct HeartbeatOptions {
    /// The topic.
    pub topic: String,
    /// What identifies the program; the key is `{program_id}_heartbeat`.
    pub program_id: String,
    /// Time between two.
    pub interval: Duration,
    /// Which counts are sent.
    pub kind: ProgramKind,
    /// The group of the program and its name in it, where it is in one.
    pub member: Option<(String, String)>,
}

/// The running heartbeat. Dropping it sends the last one and waits for it, some seconds at most.
pub struct Heartbeat {
    _thread: Periodic,
}

impl Heartbeat {
    /// Starts the thread and sends the first heartbeat. Errors: no thread can be started. What goes
    /// wrong with the log later is one warning and never stops the program.
    pub fn start(
        options: HeartbeatOptions,
        publisher: Box<dyn Publisher>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let HeartbeatOptions { topic, program_id, interval, kind, member } = options;
        let key = Message::key(&program_id);
        let mut sender = Sender::new(publisher, topic, "heartbeats");
        let mut told = Counts::default();
        let thread = Periodic::start("heartbeat", interval, move |moment| {
            let snapshot = counters.snapshot();
            let counts = snapshot.counts;
            let now_ms = clock::now_ms();
            let message = message(kind, now_ms, &counts.since(&told));
            let limit = if moment == Moment::Last { LAST_LIMIT } else { LIMIT };
            // what ends holds nothing
            let held = snapshot.state.held.filter(|_| moment != Moment::Last);
            let held = held.map(|(hold, since_ms)| (hold.as_str(), clock::iso8601_utc(since_ms)));
            let ended = (moment == Moment::Last).then(|| clock::iso8601_utc(now_ms));
            let mut beside: Vec<(&str, &[u8])> = Vec::new();
            if let Some((group, instance)) = &member {
                beside.extend([(headers::GROUP, group.as_bytes()), (headers::INSTANCE, instance.as_bytes())]);
            }
            if let Some((hold, since)) = &held {
                beside.extend([(headers::HELD, hold.as_bytes()), (headers::HELD_SINCE, since.as_bytes())]);
            }
            beside.extend(ended.as_ref().map(|ended| (headers::ENDED, ended.as_bytes())));
            match sender.send(&key, &message.to_json(), beside, limit, moment) {
                Sent::Yes | Sent::Unknown => told = counts,
                Sent::No => {}
            }
        })?;
        Ok(Self { _thread: thread })
    }
}

/// A program id that is unique among running programs: `{program}_{host}_{process}`.
pub(crate) fn default_program_id(program: &str) -> String {
    let host = gethostname::gethostname();
    format!("{program}_{}_{}", host.to_string_lossy(), std::process::id())
}

fn message(kind: ProgramKind, now_ms: i64, counts: &Counts) -> Message {
    let consumes = (kind != ProgramKind::Producer).then_some(counts);
    let produces = (kind != ProgramKind::Consumer).then_some(counts);
    Message {
        timestamp: clock::iso8601_utc(now_ms),
        n_messages_read: consumes.map(|counts| counts.messages_read),
        n_bytes_read: consumes.map(|counts| counts.bytes_read),
        n_messages_processed: consumes.map(|counts| counts.messages_processed),
        n_bytes_processed: consumes.map(|counts| counts.bytes_processed),
        n_messages_produced: produces.map(|counts| counts.messages_produced),
        n_bytes_produced: produces.map(|counts| counts.bytes_produced),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Hold, Holding};
    use crate::report::testing::{FakeLog, wait_until};
    use serde_json::{Value, json};

    fn options(interval: Duration, kind: ProgramKind) -> HeartbeatOptions {
        let member = Some(("g".to_owned(), "one".to_owned()));
        HeartbeatOptions { topic: "beats".into(), program_id: "xrd".into(), interval, kind, member }
    }

    fn counts(value: &str) -> Value {
        let mut value: Value = serde_json::from_str(value).unwrap();
        let timestamp = value.as_object_mut().unwrap().remove("timestamp").unwrap();
        assert!(timestamp.as_str().unwrap().ends_with("+00:00"));
        value
    }

    #[test]
    fn the_first_is_sent_at_the_start_and_the_last_at_the_end() {
        let log = FakeLog::default();
        let counters = Arc::new(Counters::default());
        let hour = Duration::from_secs(3600);
        let heartbeat =
            Heartbeat::start(options(hour, ProgramKind::Producer), log.publisher(), Arc::clone(&counters)).unwrap();
        wait_until(|| log.messages().len() == 1);
        counters.produced(3, 300);
        drop(heartbeat);
        let messages = log.messages();
        assert_eq!(messages.len(), 2);
        assert_eq!((messages[0].topic.as_str(), messages[0].key.as_str()), ("beats", "xrd_heartbeat"));
        assert_eq!(counts(&messages[0].value), json!({"n_messages_produced": 0, "n_bytes_produced": 0}));
        assert_eq!(counts(&messages[1].value), json!({"n_messages_produced": 3, "n_bytes_produced": 300}));
    }

    #[test]
    fn between_them_one_is_sent_at_each_interval() {
        let log = FakeLog::default();
        let short = Duration::from_millis(5);
        let heartbeat =
            Heartbeat::start(options(short, ProgramKind::Consumer), log.publisher(), Arc::default()).unwrap();
        wait_until(|| log.messages().len() >= 4);
        drop(heartbeat);
    }

    #[test]
    fn what_holds_stands_beside_the_message_and_goes_with_the_hold() {
        let log = FakeLog::default();
        let counters = Arc::new(Counters::default());
        let mut holding = Holding::new();
        holding.step(&counters, Some(Hold::OutputFolder));
        let hour = Duration::from_secs(3600);
        let beats = |counters: &Arc<Counters>| {
            let options = options(hour, ProgramKind::Consumer);
            drop(Heartbeat::start(options, log.publisher(), Arc::clone(counters)).unwrap());
        };
        beats(&counters);
        holding.step(&counters, None);
        beats(&counters);
        let messages = log.messages();
        assert_eq!(messages.len(), 4);
        let names = |index: usize| -> Vec<&str> { messages[index].headers.iter().map(|(name, _)| &**name).collect() };
        let member = ["datamill.group", "datamill.instance"];
        assert_eq!(names(0), [&member[..], &["datamill.held", "datamill.held_since"]].concat());
        assert_eq!(messages[0].headers[2].1, "output_folder");
        assert!(clock::parse(&messages[0].headers[3].1).is_ok_and(|ms| ms <= clock::now_ms()), "{messages:?}");
        // what ends says so, and holds nothing
        let ended = [&member[..], &["datamill.ended"]].concat();
        assert_eq!([names(1), names(2), names(3)], [ended.clone(), member.to_vec(), ended]);
        assert!(clock::parse(&messages[1].headers[2].1).is_ok_and(|ms| ms <= clock::now_ms()), "{messages:?}");
        assert!(messages.iter().all(|message| counts(&message.value).as_object().unwrap().len() == 4));
    }

    #[test]
    fn each_kind_of_program_has_its_counts() {
        let all = Counts {
            messages_read: 1,
            bytes_read: 2,
            messages_processed: 3,
            bytes_processed: 4,
            messages_produced: 5,
            bytes_produced: 6,
            ..Counts::default()
        };
        for (kind, fields) in [(ProgramKind::Reproducer, 6), (ProgramKind::Consumer, 4), (ProgramKind::Producer, 2)] {
            let value = counts(&message(kind, 0, &all).to_json());
            assert_eq!(value.as_object().unwrap().len(), fields, "{kind:?}");
        }
    }

    #[test]
    fn counts_of_a_refused_heartbeat_are_in_the_next_one() {
        let log = FakeLog::default();
        log.refuse(true);
        let counters = Arc::new(Counters::default());
        counters.produced(1, 10);
        let short = Duration::from_millis(5);
        let heartbeat =
            Heartbeat::start(options(short, ProgramKind::Producer), log.publisher(), Arc::clone(&counters)).unwrap();
        wait_until(|| log.refused() >= 2);
        assert!(log.messages().is_empty());
        log.refuse(false);
        wait_until(|| !log.messages().is_empty());
        drop(heartbeat);
        assert_eq!(counts(&log.messages()[0].value), json!({"n_messages_produced": 1, "n_bytes_produced": 10}));
    }

    #[test]
    fn the_default_program_id_names_program_host_and_process() {
        let id = default_program_id("upload");
        assert!(id.starts_with("upload_") && id.ends_with(&format!("_{}", std::process::id())), "{id}");
    }
}
