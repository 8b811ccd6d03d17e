//! `datamill read`: messages as JSON lines.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use datamill::broker::{Error, ErrorKind, Event, Log, Offsets, Record};
use datamill::program::Exit;
use datamill::report::logging::say;
use datamill::report::{chain, clock};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::output::{LogArgs, has_reader, is_wanted};

/// Time between two looks whether the topic is still there.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How long one wait for messages lasts; after each, it is looked whether stdout is still read.
const WAIT: Duration = Duration::from_millis(200);

/// Print the messages of a topic as JSON lines
///
/// Each line is an object:
///
///   {"topic": …, "partition": …, "offset": …, "timestamp": ISO 8601 in UTC or null,
///    "key": TEXT or null, "value": TEXT or null, "headers": [[NAME, TEXT], …]}
///
/// TEXT is a string where the bytes are UTF-8, and otherwise an object {"base64": "…"}. With --json_values,
/// a value that is itself JSON stands there as it is, for `jq .value`. Without --exit-at-end or --count,
/// reading goes on until it is stopped or nobody reads the output any more.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ReadArgs {
    /// Topic to read
    #[arg(value_name = "TOPIC", required_unless_present = "topic_name", conflicts_with = "topic_name")]
    topic: Option<String>,
    /// The same, as the other programs name it
    #[arg(long = "topic_name", visible_alias = "consumer_topic_name", value_name = "TOPIC")]
    topic_name: Option<String>,
    #[command(flatten)]
    log: LogArgs,
    /// Print values that are JSON as they are, not as text
    #[arg(long = "json_values")]
    json_values: bool,
    /// Stop after so many messages
    #[arg(long, short = 'c', value_name = "N")]
    count: Option<u64>,
    /// Where to start in each partition: earliest or beginning, latest or end, an offset, or -N for the last N messages
    #[arg(long, short = 'o', value_name = "WHERE", default_value = "earliest", allow_hyphen_values = true)]
    from: From,
    /// Only this partition
    #[arg(long, short = 'p', value_name = "P")]
    partition: Option<i32>,
    /// Stop at the end that the topic had at the start, instead of waiting for more
    #[arg(long = "exit-at-end", short = 'e')]
    exit_at_end: bool,
}

/// Where reading starts in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Earliest,
    Latest,
    Offset(i64),
    Last(i64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "earliest" | "beginning" => return Ok(Self::Earliest),
            "latest" | "end" => return Ok(Self::Latest),
            _ => {}
        }
        let number: i64 = text
            .parse()
            .map_err(|_| "write `earliest`, `latest`, an offset, or `-N` for the last N messages".to_owned())?;
        Ok(if number < 0 { Self::Last(number.saturating_neg()) } else { Self::Offset(number) })
    }
}

impl From {
    fn start(self, ends: &Offsets) -> i64 {
        let wanted = match self {
            Self::Earliest => ends.first,
            Self::Latest => ends.last_stable,
            Self::Offset(offset) => offset,
            Self::Last(count) => ends.last_stable.saturating_sub(count),
        };
        wanted.clamp(ends.first, ends.last_stable.max(ends.first))
    }
}

pub fn run(args: &ReadArgs) -> anyhow::Result<Exit> {
    let topic = args.topic.as_ref().or(args.topic_name.as_ref()).context("no topic is named")?;
    let log = args.log.open_existing()?;
    let partitions = partitions(log.as_ref(), topic, args.partition)?;
    let mut starts = Vec::new();
    let mut open = Vec::new();
    for partition in partitions {
        let ends = log.offsets(topic, partition)?;
        let start = args.from.start(&ends);
        if !args.exit_at_end || start < ends.last_stable {
            starts.push((partition, start));
            open.push((partition, ends.last_stable));
        }
    }
    if starts.is_empty() {
        return Ok(Exit::Done);
    }
    let mut reader = log.reader(topic, &starts)?;
    let mut printer = Printer {
        out: BufWriter::with_capacity(1 << 16, io::stdout().lock()),
        left: args.count.unwrap_or(u64::MAX),
        open,
        exit_at_end: args.exit_at_end,
        json_values: args.json_values,
        outcome: Ok(true),
    };
    let mut is_away = false;
    let mut watched = Watched::new(log.as_ref(), topic)?;
    while printer.wants_more() && has_reader() {
        match reader.poll(WAIT, &mut |event| printer.take(&event)) {
            Ok(count) => {
                is_away = false;
                watched.heard(count)?;
            }
            Err(error) if error.kind() == ErrorKind::Retry => {
                if !std::mem::replace(&mut is_away, true) {
                    say(format_args!("the log does not answer, trying again until it does: {}", chain(&error)));
                }
            }
            Err(error) => return Err(watched.explain(error).into()),
        }
        printer.flush();
    }
    printer.outcome.context("the messages cannot be printed")?;
    Ok(Exit::Done)
}

/// The topic that is read: where nothing comes, it is looked whether it is still there. A broker does not say by itself
/// that it was deleted, or created again, for half a minute or ever.
struct Watched<'a> {
    log: &'a dyn Log,
    name: &'a str,
    id: Option<String>,
    looked: Instant,
    is_unknown: bool,
}

impl<'a> Watched<'a> {
    fn new(log: &'a dyn Log, name: &'a str) -> Result<Self, Error> {
        let id = log.topic_now(name)?.id;
        Ok(Self { log, name, id, looked: Instant::now(), is_unknown: false })
    }

    /// So many events came. Fails where the topic is no longer the one that it was; a broker that does not know it at one
    /// look may not have heard of it.
    fn heard(&mut self, count: usize) -> Result<(), Error> {
        if count > 0 || self.looked.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.looked = Instant::now();
        match self.log.topic_now(self.name) {
            Ok(now) if now.id.is_some() && now.id != self.id => return Err(Error::topic_replaced(self.name)),
            Err(error) if error.kind() == ErrorKind::UnknownTopic => {
                if std::mem::replace(&mut self.is_unknown, true) {
                    return Err(Error::topic_deleted(self.name));
                }
            }
            // a log that does not answer is waited for
            _ => self.is_unknown = false,
        }
        Ok(())
    }

    /// The error, or that the topic is another one, which explains it.
    fn explain(&self, error: Error) -> Error {
        match self.log.topic_now(self.name) {
            Ok(now) if now.id.is_some() && now.id != self.id => Error::topic_replaced(self.name),
            _ => error,
        }
    }
}

fn partitions(log: &dyn Log, topic: &str, wanted: Option<i32>) -> anyhow::Result<Vec<i32>> {
    let count = log.topic(topic)?.partitions;
    match wanted {
        None => Ok((0..count).collect()),
        Some(partition) if (0..count).contains(&partition) => Ok(vec![partition]),
        Some(partition) => {
            bail!("topic `{topic}` has no partition `{partition}`: it has `{count}`, counted from 0")
        }
    }
}

struct Printer<W: Write> {
    out: W,
    left: u64,
    /// Partitions whose end has not been reached, and the end that they had at the start.
    open: Vec<(i32, i64)>,
    exit_at_end: bool,
    json_values: bool,
    /// Whether the output is still wanted.
    outcome: io::Result<bool>,
}

impl<W: Write> Printer<W> {
    fn wants_more(&self) -> bool {
        self.left > 0 && matches!(self.outcome, Ok(true)) && !(self.exit_at_end && self.open.is_empty())
    }

    fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Record(record) => {
                if self.is_open(record.partition, record.offset) {
                    self.print(record);
                }
                self.reached(record.partition, record.offset + 1);
            }
            Event::End { partition, offset, .. } => self.reached(*partition, *offset),
            Event::Assigned(_) | Event::Revoked { .. } => {}
        }
    }

    fn is_open(&self, partition: i32, offset: i64) -> bool {
        !self.exit_at_end || self.open.iter().any(|(open, end)| *open == partition && offset < *end)
    }

    fn reached(&mut self, partition: i32, offset: i64) {
        self.open.retain(|(open, end)| *open != partition || offset < *end);
    }

    fn print(&mut self, record: &Record<'_>) {
        if self.left == 0 || !matches!(self.outcome, Ok(true)) {
            return;
        }
        self.left -= 1;
        let line = Line {
            topic: record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp_ms.map(clock::iso8601_utc),
            key: record.key.map(Text),
            value: record.value.map(|value| self.value(value)),
            headers: record.headers.iter().map(|(name, value)| (*name, Text(value))).collect(),
        };
        let written = serde_json::to_writer(&mut self.out, &line).map_err(io::Error::from);
        self.outcome = is_wanted(written.and_then(|()| self.out.write_all(b"\n")));
    }

    fn value<'a>(&self, bytes: &'a [u8]) -> Content<'a> {
        let json = self.json_values.then(|| on_one_line(bytes)).flatten();
        json.map_or(Content::Text(Text(bytes)), Content::Json)
    }

    fn flush(&mut self) {
        if matches!(self.outcome, Ok(true)) {
            self.outcome = is_wanted(self.out.flush());
        }
    }
}

/// The JSON in these bytes as it stands there, its numbers digit by digit. Line ends are between its parts alone.
fn on_one_line(bytes: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(bytes).ok()?;
    RawValue::from_string(text.replace(['\n', '\r'], " ")).ok()
}

#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: Option<String>,
    key: Option<Text<'a>>,
    value: Option<Content<'a>>,
    headers: Vec<(&'a str, Text<'a>)>,
}

/// A value as it is printed.
#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(Text<'a>),
    Json(Box<RawValue>),
}

/// Bytes as text, or as `{"base64": …}` where they are none.
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Binary {
            base64: Cow<'static, str>,
        }
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Binary { base64: STANDARD.encode(self.0).into() }.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: i32, offset: i64) -> Event<'static> {
        Event::Record(Record {
            topic: "t",
            partition,
            offset,
            timestamp_ms: Some(0),
            key: Some(b"k\"1"),
            value: Some(&[0xff, 0x00]),
            headers: vec![("h", b"1"), ("h", &[0x80])],
        })
    }

    fn printer(exit_at_end: bool, left: u64, open: &[(i32, i64)]) -> Printer<Vec<u8>> {
        Printer { out: Vec::new(), left, open: open.to_vec(), exit_at_end, json_values: false, outcome: Ok(true) }
    }

    #[test]
    fn a_line_holds_everything_and_binary_as_base64() {
        let mut printer = printer(false, 9, &[]);
        printer.take(&record(2, 7));
        assert_eq!(
            String::from_utf8(printer.out).unwrap(),
            "{\"topic\":\"t\",\"partition\":2,\"offset\":7,\"timestamp\":\"1970-01-01T00:00:00.000000+00:00\",\
             \"key\":\"k\\\"1\",\"value\":{\"base64\":\"/wA=\"},\"headers\":[[\"h\",\"1\"],[\"h\",{\"base64\":\"gA==\"}]]}\n"
        );
    }

    #[test]
    fn a_value_that_is_json_is_printed_as_it_is_where_that_is_asked_for() {
        for (value, printed) in
            [("{\"b\": 1.50,\n\"a\": [null]}", "{\"b\": 1.50, \"a\": [null]}"), ("12", "12"), ("{no", r#""{no""#)]
        {
            let mut printer = Printer { json_values: true, ..printer(false, 9, &[]) };
            let mut event = record(0, 0);
            let Event::Record(record) = &mut event else { unreachable!() };
            record.value = Some(value.as_bytes());
            printer.take(&event);
            let line = String::from_utf8(printer.out).unwrap();
            assert!(line.contains(&format!("\"value\":{printed},")), "{line}");
        }
    }

    #[test]
    fn it_stops_at_the_ends_that_were_there_at_the_start() {
        let mut printer = printer(true, u64::MAX, &[(0, 2), (1, 1)]);
        for event in [record(0, 0), record(1, 0), record(1, 1)] {
            printer.take(&event);
        }
        assert!(printer.wants_more());
        // The record below the end may be one that readers do not see.
        printer.take(&Event::End { topic: "t", partition: 0, offset: 2 });
        assert!(!printer.wants_more());
        assert_eq!(printer.out.iter().filter(|byte| **byte == b'\n').count(), 2);
    }

    #[test]
    fn it_stops_after_the_count() {
        let mut printer = printer(false, 2, &[(0, 9)]);
        (0..5).for_each(|offset| printer.take(&record(0, offset)));
        assert!(!printer.wants_more());
        assert_eq!(printer.out.iter().filter(|byte| **byte == b'\n').count(), 2);
    }

    #[test]
    fn places_are_read_and_stay_within_the_topic() {
        let ends = Offsets { first: 10, last_stable: 20, end: 25 };
        for (text, start) in [
            ("beginning", 10),
            ("earliest", 10),
            ("end", 20),
            ("latest", 20),
            ("15", 15),
            ("3", 10),
            ("99", 20),
            ("-4", 16),
            ("-99", 10),
        ] {
            assert_eq!(text.parse::<From>().unwrap().start(&ends), start, "{text}");
        }
        assert!("middle".parse::<From>().is_err());
    }
}
