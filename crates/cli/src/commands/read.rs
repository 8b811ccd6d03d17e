//! `datamill read`: messages as JSON lines.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use datamill::broker::{ErrorKind, Record};
use datamill::program::Exit;
use datamill::read::{Start, TopicReader};
use datamill::report::logging::say;
use datamill::report::{chain, clock};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::output::{LogArgs, has_reader, is_wanted};

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
pub(crate) struct ReadArgs {
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
    from: Start,
    /// Only this partition
    #[arg(long, short = 'p', value_name = "P")]
    partition: Option<i32>,
    /// Stop at the end that the topic had at the start, instead of waiting for more
    #[arg(long = "exit-at-end", short = 'e')]
    exit_at_end: bool,
    /// Only the newest result of each file, of what is in the topic now: that of its latest upload, and of several
    /// results of one upload the last one. Messages that name no file by a header are told apart by their keys
    #[arg(long)]
    newest: bool,
}

pub(crate) fn run(args: &ReadArgs) -> anyhow::Result<Exit> {
    let topic = args.topic.as_ref().or(args.topic_name.as_ref()).context("no topic is named")?;
    let log = args.log.open_existing()?;
    let mut reader = if args.newest {
        match TopicReader::newest(&log, topic, args.partition, args.from, &|| !has_reader())? {
            Some(reader) => reader,
            None => return Ok(Exit::Done),
        }
    } else {
        TopicReader::open(&log, topic, args.partition, args.from, !args.exit_at_end)?
    };
    let mut printer = Printer {
        out: BufWriter::with_capacity(1 << 16, io::stdout().lock()),
        left: args.count.unwrap_or(u64::MAX),
        json_values: args.json_values,
        outcome: Ok(true),
    };
    let mut is_away = false;
    while !reader.is_at_end() && printer.wants_more() && has_reader() {
        match reader.poll(WAIT, &mut |record| printer.print(record)) {
            Ok(()) => is_away = false,
            Err(error) if error.kind() == ErrorKind::Retry => {
                if !std::mem::replace(&mut is_away, true) {
                    say(format_args!("the log does not answer, trying again until it does: {}", chain(&error)));
                }
            }
            Err(error) => return Err(error.into()),
        }
        printer.flush();
    }
    printer.outcome.context("the messages cannot be printed")?;
    Ok(Exit::Done)
}

struct Printer<W: Write> {
    out: W,
    left: u64,
    json_values: bool,
    /// Whether the output is still wanted.
    outcome: io::Result<bool>,
}

impl<W: Write> Printer<W> {
    fn wants_more(&self) -> bool {
        self.left > 0 && matches!(self.outcome, Ok(true))
    }

    fn print(&mut self, record: &Record<'_>) {
        if !self.wants_more() {
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

    fn record(offset: i64) -> Record<'static> {
        Record {
            topic: "t",
            partition: 2,
            offset,
            timestamp_ms: Some(0),
            key: Some(b"k\"1"),
            value: Some(&[0xff, 0x00]),
            headers: vec![("h", b"1"), ("h", &[0x80])],
        }
    }

    fn printer(left: u64) -> Printer<Vec<u8>> {
        Printer { out: Vec::new(), left, json_values: false, outcome: Ok(true) }
    }

    #[test]
    fn a_line_holds_everything_and_binary_as_base64() {
        let mut printer = printer(9);
        printer.print(&record(7));
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
            let mut printer = Printer { json_values: true, ..printer(9) };
            printer.print(&Record { value: Some(value.as_bytes()), ..record(0) });
            let line = String::from_utf8(printer.out).unwrap();
            assert!(line.contains(&format!("\"value\":{printed},")), "{line}");
        }
    }

    #[test]
    fn it_stops_after_the_count() {
        let mut printer = printer(2);
        (0..5).for_each(|offset| printer.print(&record(offset)));
        assert!(!printer.wants_more());
        assert_eq!(printer.out.iter().filter(|byte| **byte == b'\n').count(), 2);
    }
}
