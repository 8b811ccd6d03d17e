//! Whether a set-up is right, before anything is started: one line for each thing that was looked at. Nothing is changed.

mod group;

use std::collections::BTreeMap;
use std::sync::Arc;

use datamill_broker::{Error, Examined, ExaminedTopic, Log, Operation, Permission, Topic, TopicSettings};

use super::pass::all_of;
use crate::report::text::{COMPACTED, bytes, count, counted, duration};
use crate::report::{chain, clock};
use crate::status::read_times;
use crate::upload::DEFAULT_CHUNK_SIZE;

/// Bytes that a message of a chunk has besides the data of the chunk, with a path of usual length.
const BESIDE_DATA: usize = 2048;

/// Files that wait for longer than a topic keeps them are lost: a weekend is the least.
const LEAST_RETENTION_MS: i64 = 3 * 86_400_000;

/// Time that a transaction of datamill may take before the broker gives it up, milliseconds.
const TRANSACTION_MS: i64 = 15_000;

/// Time by which clocks may differ, milliseconds.
const APART_MS: i64 = 60_000;

/// Bytes beside an offset: what the broker keeps by default.
const TEXT_BYTES: i64 = 4096;

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is right.
    Ok,
    /// It is worth knowing, or cannot be seen.
    Note,
    /// A person has to mend it.
    Mend,
}

impl Verdict {
    /// The word at the beginning of a line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Mend => "mend",
        }
    }
}

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it stands.
    pub verdict: Verdict,
    /// What was looked at, in a few words.
    pub what: String,
    /// What was seen, and what mends it.
    pub text: String,
}

impl Finding {
    /// One of them.
    pub fn new(verdict: Verdict, what: impl Into<String>, text: impl Into<String>) -> Self {
        Self { verdict, what: what.into(), text: text.into() }
    }

    fn failed(what: impl Into<String>, error: &Error) -> Self {
        Self::new(Verdict::Mend, what, chain(error))
    }
}

/// Looks at a log, a topic of files and a group.
pub fn check_log(log: &Arc<dyn Log>, topic: Option<&str>, group: Option<&str>) -> Vec<Finding> {
    let mut all = Findings { all: Vec::new(), account: log.account() };
    let found = topic.and_then(|name| match log.topic(name) {
        Ok(topic) => Some(topic),
        Err(error) if error.is_denied() => {
            all.may(format!("topic `{name}`"), &[], group.is_some(), name);
            None
        }
        Err(error) => {
            all.all.push(Finding::failed(format!("topic `{name}`"), &error));
            None
        }
    });
    let names: Vec<&str> = found.iter().map(|topic| topic.name.as_str()).collect();
    let examined = match log.examine(&names, group) {
        Ok(examined) => examined,
        Err(error) => {
            all.all.push(Finding::failed("permissions", &error));
            Examined::default()
        }
    };
    if let Some(topic) = &found {
        let details = examined.topics.iter().find(|of| of.name == topic.name);
        all.topic(log, topic, details, group.is_some());
    }
    if let Some(settings) = &examined.broker {
        all.broker(settings);
    } else if examined.state_topic.is_some() || !examined.topics.is_empty() {
        all.unseen(
            "settings of the broker",
            "limits for transactions and for the positions of groups",
            Permission::on_cluster(Operation::DescribeConfigs),
        );
    }
    if let Some(group) = group {
        all.group(log, group, found.as_ref(), &examined);
    }
    all.all
}

struct Findings<'a> {
    all: Vec<Finding>,
    /// Name of the account, where it is known.
    account: Option<&'a str>,
}

impl Findings<'_> {
    /// The command that gives a permission to the account.
    fn command(&self, needed: Permission) -> String {
        needed.of_account(self.account).command()
    }

    fn ok(&mut self, what: impl Into<String>, text: impl Into<String>) {
        self.all.push(Finding::new(Verdict::Ok, what, text));
    }

    fn note(&mut self, what: impl Into<String>, text: impl Into<String>) {
        self.all.push(Finding::new(Verdict::Note, what, text));
    }

    fn mend(&mut self, what: impl Into<String>, text: impl Into<String>) {
        self.all.push(Finding::new(Verdict::Mend, what, text));
    }

    /// Something that the account may not see: nothing is concluded from it.
    fn unseen(&mut self, what: impl Into<String>, lacking: &str, needed: Permission) {
        let text = format!("{lacking} cannot be seen without {needed}; ");
        self.note(what, text + &format!("`{}` gives it", self.command(needed)));
    }

    fn topic(&mut self, log: &Arc<dyn Log>, topic: &Topic, details: Option<&ExaminedTopic>, is_read: bool) {
        let name = &topic.name;
        let of = |what: &str| format!("topic `{name}`: {what}");
        let parts = counted(u64::from(topic.partitions.unsigned_abs()), "partition");
        self.ok(format!("topic `{name}`"), format!("is there, with {parts}"));
        if topic.id.is_none() {
            self.note(of("id"), "the broker tells none (brokers do from version 2.8 on): a topic that is deleted and created again is not noticed");
        }
        if let Some(operations) = details.and_then(|details| details.operations.as_ref()) {
            self.may(of("permissions"), operations, is_read, name);
        }
        match topic.settings {
            Some(settings) => self.kept(&of, settings),
            None => self.unseen(
                of("settings"),
                "its largest message, compaction, retention and times",
                Permission::on_topic(Operation::DescribeConfigs, name),
            ),
        }
        if let Some(details) = details {
            self.settings(&of, details);
        }
        self.clock(log, topic, &of);
    }

    /// What the topic takes, and for how long it keeps that.
    fn kept(&mut self, of: &dyn Fn(&str) -> String, settings: TopicSettings) {
        match settings.largest_record {
            None => self.note(of("largest message"), "the broker does not tell it"),
            Some(largest) if largest >= DEFAULT_CHUNK_SIZE + BESIDE_DATA => {
                self.ok(of("largest message"), format!("{}, chunks of the usual size fit", bytes(largest as u64)));
            }
            Some(largest) => {
                let room = largest.saturating_sub(BESIDE_DATA);
                let fits = if room == 0 { 0 } else { 1_usize << room.ilog2() };
                self.mend(of("largest message"), format!(
                    "{}, chunks of the usual size ({}) do not fit: set `max.message.bytes` of the topic to 1048588, or upload \
                    with --chunk_size {fits}", bytes(largest as u64), bytes(DEFAULT_CHUNK_SIZE as u64)
                ));
            }
        }
        if settings.compacted {
            self.mend(of("compaction"), COMPACTED);
        }
        match settings.retention_ms {
            Some(ms) if ms < LEAST_RETENTION_MS => self.mend(of("retention"), format!(
                "records go after {}, and files that wait for longer are lost: set `retention.ms` of the topic to {LEAST_RETENTION_MS} \
                or more, or -1", age(ms)
            )),
            Some(ms) => self.ok(of("retention"), format!("records stay for {}: files that wait for longer are lost", age(ms))),
            None => self.ok(of("retention"), "records stay for ever"),
        }
    }

    /// What the account may do with a topic: it reads it, or at least writes to it.
    fn may(&mut self, what: String, operations: &[Operation], is_read: bool, topic: &str) {
        let words: Vec<String> = operations.iter().map(|operation| format!("`{operation:?}`")).collect();
        let has = |operation| operations.contains(&operation);
        let lacks = match (has(Operation::Read), has(Operation::Write)) {
            (false, _) if is_read => Some(("`Read`", "")),
            (false, false) => Some(("`Read` (to process) or `Write` (to upload)", ", or the same with `Write`")),
            _ => None,
        };
        match lacks {
            None => self.ok(what, format!("the account may {}", words.join(", "))),
            Some((lacks, or)) => {
                let command = self.command(Permission::on_topic(Operation::Read, topic));
                self.mend(what, format!("the account lacks the permission {lacks}: `{command}`{or}"));
            }
        }
    }

    fn settings(&mut self, of: &dyn Fn(&str) -> String, details: &ExaminedTopic) {
        let Some(settings) = &details.settings else {
            if let Some(copies) = details.copies {
                self.note(
                    of("copies"),
                    format!("it has {copies}; how many of them have a record before it is acknowledged cannot be seen"),
                );
            }
            return;
        };
        let number = |key: &str| settings.get(key)?.parse::<i64>().ok();
        if let Some(most) = number("retention.bytes").filter(|most| *most >= 0) {
            self.note(
                of("retention"),
                format!(
                    "beyond {} in a partition, the oldest records go whether they were read or not (`retention.bytes`)",
                    bytes(most.unsigned_abs())
                ),
            );
        }
        let is_senders = settings.get("message.timestamp.type").is_none_or(|of| of != "LogAppendTime");
        let oldest = number("message.timestamp.before.max.ms").filter(|_| is_senders);
        match oldest {
            Some(ms) if ms < APART_MS => self.mend(
                of("times"),
                format!(
                    "records that are more than {} old are refused, and with them the marks that end transactions: set \
                `message.timestamp.before.max.ms` of the topic to {APART_MS} or more",
                    age(ms)
                ),
            ),
            _ if is_senders => self.ok(of("times"), "records have the times of their senders"),
            _ => self.ok(of("times"), "records have the times at which the broker took them"),
        }
        let in_sync = number("min.insync.replicas").unwrap_or(1);
        match details.copies.and_then(|copies| i64::try_from(copies).ok()) {
            Some(copies) if copies < in_sync => self.mend(of("copies"), format!(
                "it has {copies}, and {in_sync} have to be in sync for a record to be taken: lower `min.insync.replicas`, or add copies"
            )),
            Some(copies) if in_sync < 2 => self.note(of("copies"), format!(
                "it has {copies}, of which 1 has to have a record: what was acknowledged may go with the broker that had it. Where \
                there are several brokers, make topics with `--replication 3 --setting min.insync.replicas=2`"
            )),
            Some(copies) => self.ok(of("copies"), format!("it has {copies}, of which {in_sync} have a record before it is acknowledged")),
            None => {}
        }
    }

    /// Records of the future say that two clocks differ.
    fn clock(&mut self, log: &Arc<dyn Log>, topic: &Topic, of: &dyn Fn(&str) -> String) {
        let mut times = BTreeMap::new();
        let read = all_of(log.as_ref(), topic).and_then(|spans| {
            let last = spans.iter().filter(|span| span.first < span.end).map(|span| (span.partition, span.end - 1));
            let starts: Vec<(i32, i64)> = last.collect();
            if starts.is_empty() { Ok(()) } else { read_times(log.as_ref(), &topic.name, &starts, &mut times) }
        });
        // one that may only write cannot read
        if read.is_err() {
            return;
        }
        let Some(newest) = times.values().map(|(_, time_ms)| *time_ms).max() else { return };
        let ahead = newest.saturating_sub(clock::now_ms());
        if ahead > APART_MS {
            self.mend(of("clocks"), format!(
                "its newest record is {} ahead of the clock of this machine: set the clock of this machine, or of the one that uploads",
                age(ahead)
            ));
        } else {
            self.ok(of("clocks"), "no record is from the future");
        }
    }

    fn broker(&mut self, settings: &BTreeMap<String, String>) {
        let number = |key: &str| settings.get(key)?.parse::<i64>().ok();
        match number("transaction.max.timeout.ms") {
            Some(ms) if ms < TRANSACTION_MS => self.mend(
                "transactions",
                format!("the broker allows {} for one: raise its `transaction.max.timeout.ms` to 60000", age(ms)),
            ),
            Some(ms) => self.ok(
                "transactions",
                format!("the broker allows {} for one, {} are needed", age(ms), age(TRANSACTION_MS)),
            ),
            None => {}
        }
        match number("offset.metadata.max.bytes") {
            Some(most) if most < TEXT_BYTES => self.mend("text beside positions", format!(
                "the broker keeps {most} bytes: set its `offset.metadata.max.bytes` to {TEXT_BYTES}, which is the default"
            )),
            _ => {}
        }
        if let Some(minutes) = number("offsets.retention.minutes") {
            let kept = age(minutes.saturating_mul(60_000));
            let text = format!(
                "a group without members keeps its positions for {kept} (`offsets.retention.minutes`); after that it has to \
                be started with --start_from"
            );
            if minutes < 1440 { self.mend("positions", text) } else { self.ok("positions", text) }
        }
    }
}

/// The first ones of many names.
pub(super) fn named(names: &[impl AsRef<str>]) -> String {
    const MOST: usize = 20;
    let mut text = names.iter().take(MOST).map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ");
    if names.len() > MOST {
        text.push_str(&format!(" and {} more", count((names.len() - MOST) as u64)));
    }
    text
}

fn age(ms: i64) -> String {
    duration(std::time::Duration::from_millis(ms.unsigned_abs()))
}
