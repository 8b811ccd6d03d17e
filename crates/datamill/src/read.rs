//! Reads the messages of a topic without a group: up to the ends that it has, or on and on.
//!
//! ```text
//!  broker's reader ──records below the ends──▶ sink
//!        ▲
//!        ├── watch.rs: is it still the same topic?
//!        └── last.rs: where do the last N messages begin?
//! ```

mod last;
mod newest;
mod version;
mod watch;

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use datamill_broker::{Error, ErrorKind, Event, Log, Offsets, Reader, Record, Result, Topic};

use rustc_hash::FxHashSet;

use last::Last;
pub(crate) use newest::{At, Newest, header};
pub(crate) use version::compare_versions;
pub use version::is_comparable_version;
pub(crate) use watch::Watch;

/// Where reading starts in each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first message.
    Earliest,
    /// Behind the last message.
    Latest,
    /// At this offset.
    Offset(i64),
    /// So many messages before the end, of those that can be read.
    Last(i64),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "earliest" | "beginning" => return Ok(Self::Earliest),
            "latest" | "end" => return Ok(Self::Latest),
            _ => {}
        }
        let number: i64 = text
            .parse()
            .map_err(|_| "write `earliest`, `latest`, an offset, or `-N` for the last N messages".to_owned())?;
        Ok(number.into())
    }
}

/// An offset; a negative number is that many messages before the end.
impl From<i64> for Start {
    fn from(number: i64) -> Self {
        if number < 0 { Self::Last(number.saturating_neg()) } else { Self::Offset(number) }
    }
}

impl Start {
    /// The offset in a partition with these ends.
    fn within(self, ends: &Offsets) -> i64 {
        let wanted = match self {
            Self::Earliest => ends.first,
            Self::Latest => ends.last_stable,
            Self::Offset(offset) => offset,
            // further back where not all of these offsets have messages
            Self::Last(count) => ends.last_stable.saturating_sub(count),
        };
        wanted.clamp(ends.first, ends.last_stable.max(ends.first))
    }
}

/// A part of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The partition.
    pub partition: i32,
    /// Offset of the first record.
    pub first: i64,
    /// The offset behind the last record.
    pub end: i64,
}

/// See the module.
pub struct TopicReader {
    /// `None` where there is nothing to read.
    reader: Option<Box<dyn Reader>>,
    /// Where the last messages begin is looked for first.
    last: Option<Last>,
    open: Ends,
    watch: Watch,
    /// Nothing else is handed out.
    only: Option<FxHashSet<At>>,
}

/// The wait for records of a first pass, and the one after which it asks a log that is away again.
const PASS_WAIT: Duration = Duration::from_millis(200);

/// The ends that have not been reached, by partition.
struct Ends(BTreeMap<i32, i64>);

impl Ends {
    fn of<'s>(spans: impl IntoIterator<Item = &'s Span>) -> Self {
        Self(spans.into_iter().map(|span| (span.partition, span.end)).collect())
    }

    /// Hands a record below the end of its partition out.
    fn take(&mut self, event: &Event<'_>, sink: &mut dyn FnMut(&Record<'_>)) {
        let (partition, next) = match event {
            Event::Record(record) => (record.partition, record.offset + 1),
            Event::End { partition, offset, .. } => (*partition, *offset),
            Event::Assigned(_) | Event::Revoked { .. } => return,
        };
        let Some(&end) = self.0.get(&partition) else { return };
        if let Event::Record(record) = event
            && record.offset < end
        {
            sink(record);
        }
        if next >= end {
            self.0.remove(&partition);
        }
    }
}

impl TopicReader {
    /// Reads a topic, or one `partition` of it, up to the ends that it has now; where it `follows`, on and on.
    ///
    /// # Errors
    /// A topic or a partition that is not there, and what else the log says.
    pub fn open(log: &Arc<dyn Log>, name: &str, partition: Option<i32>, start: Start, follows: bool) -> Result<Self> {
        let topic = log.topic(name)?;
        let (ends, spans): (Vec<Offsets>, Vec<Span>) =
            spans_of(log, &topic, partition, start, follows)?.into_iter().unzip();
        let mut reader = Self::of_spans(log, &topic, &spans)?;
        if let Start::Last(count) = start
            && reader.reader.is_some()
        {
            reader.last = Some(Last::new(count, &ends, &spans));
        }
        Ok(reader)
    }

    /// Reads these parts of a topic.
    ///
    /// # Errors
    /// What the log says.
    pub(crate) fn of_spans(log: &Arc<dyn Log>, topic: &Topic, spans: &[Span]) -> Result<Self> {
        let spans = || spans.iter().filter(|span| span.first < span.end);
        let starts: Vec<(i32, i64)> = spans().map(|span| (span.partition, span.first)).collect();
        let reader = (!starts.is_empty()).then(|| log.reader(&topic.name, &starts)).transpose()?;
        let open = Ends::of(spans());
        Ok(Self { reader, last: None, open, watch: Watch::new(log, topic), only: None })
    }

    /// Reads the newest result of each file, of what is in the topic now: it is read twice, and keeps some 100 bytes for
    /// each file. The result of the later upload is the newer one, and of results of one upload the later one. `None`
    /// where it is asked to `stop` during the first time.
    ///
    /// # Errors
    /// As those of [`open`](Self::open) and [`poll`](Self::poll).
    pub fn newest(
        log: &Arc<dyn Log>,
        name: &str,
        partition: Option<i32>,
        start: Start,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Self>> {
        let topic = log.topic(name)?;
        let spans = spans_of(log, &topic, partition, start, false)?;
        let spans: Vec<Span> = spans.into_iter().map(|(_, span)| span).collect();
        let mut newest = Newest::default();
        if !Self::pass(log, &topic, &spans, stop, &mut |record| newest.add(record, true))? {
            return Ok(None);
        }
        Ok(Some(Self { only: Some(newest.wanted()), ..Self::of_spans(log, &topic, &spans)? }))
    }

    /// Hands out all of these parts of a topic, also where the log is away for a while. Answers whether it came to the end
    /// before it was asked to `stop`.
    pub(crate) fn pass(
        log: &Arc<dyn Log>,
        topic: &Topic,
        spans: &[Span],
        stop: &dyn Fn() -> bool,
        sink: &mut dyn FnMut(&Record<'_>),
    ) -> Result<bool> {
        let mut reader = Self::of_spans(log, topic, spans)?;
        while !reader.is_at_end() {
            if stop() {
                return Ok(false);
            }
            match reader.poll(PASS_WAIT, sink) {
                Err(error) if error.kind() == ErrorKind::Retry => std::thread::sleep(PASS_WAIT),
                polled => polled?,
            }
        }
        Ok(true)
    }

    /// Whether all ends are reached.
    pub fn is_at_end(&self) -> bool {
        self.open.0.is_empty()
    }

    /// Waits at most `timeout` for records, and hands out those below the ends, each partition's in order.
    ///
    /// # Errors
    /// [`ErrorKind::Retry`] where the log is away for the moment: call it again. All others end the reading;
    /// [`ErrorKind::TopicReplaced`] and [`ErrorKind::TopicDeleted`] where the topic is no longer the one that it was.
    pub fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(&Record<'_>)) -> Result<()> {
        let Self { reader: Some(reader), last, open, watch, only } = self else { return Ok(()) };
        watch.check()?;
        let mut sink = |record: &Record<'_>| {
            if only.as_ref().is_none_or(|only| only.contains(&(record.partition, record.offset))) {
                sink(record);
            }
        };
        let polled = match last {
            Some(looking) => looking.poll(reader.as_mut(), timeout).map(|found| {
                if let Some(spans) = found {
                    *open = Ends::of(&spans);
                    *last = None;
                }
            }),
            None => reader.poll(timeout, &mut |event| open.take(&event, &mut sink)).map(drop),
        };
        match polled {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Retry => Err(error),
            Err(error) => Err(watch.explain(error)),
        }
    }
}

/// All that is in a topic now.
pub(crate) fn all_of(log: &Arc<dyn Log>, topic: &Topic) -> Result<Vec<Span>> {
    let spans = spans_of(log, topic, None, Start::Earliest, false)?;
    Ok(spans.into_iter().map(|(_, span)| span).collect())
}

/// The part of each partition, or of one, from the start to the end of now; where the reading `follows`, without an end.
/// With the ends of the partition.
fn spans_of(
    log: &Arc<dyn Log>,
    topic: &Topic,
    partition: Option<i32>,
    start: Start,
    follows: bool,
) -> Result<Vec<(Offsets, Span)>> {
    let (name, all) = (&topic.name, 0..topic.partitions);
    if let Some(partition) = partition.filter(|partition| !all.contains(partition)) {
        let text = format!("topic `{name}` has no partition `{partition}`: it has `{}`, counted from 0", all.end);
        return Err(Error::new(ErrorKind::UnknownTopic, text));
    }
    let wanted = all.filter(|number| partition.is_none_or(|partition| partition == *number));
    wanted
        .map(|partition| {
            let ends = log.offsets(name, partition)?;
            let end = if follows { i64::MAX } else { ends.last_stable };
            Ok((ends, Span { partition, first: start.within(&ends), end }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(text.parse::<Start>().unwrap().within(&ends), start, "{text}");
        }
        assert!("middle".parse::<Start>().is_err());
    }

    fn record(partition: i32, offset: i64) -> Event<'static> {
        Event::Record(Record {
            topic: "t",
            partition,
            offset,
            timestamp_ms: None,
            key: None,
            value: None,
            headers: Vec::new(),
        })
    }

    #[test]
    fn records_below_the_ends_are_handed_out_and_no_others() {
        let mut ends = Ends([(0, 2), (1, 1)].into());
        let mut seen = Vec::new();
        for event in [record(0, 0), record(1, 0), record(1, 1)] {
            ends.take(&event, &mut |record| seen.push((record.partition, record.offset)));
        }
        assert_eq!(ends.0, [(0, 2)].into());
        // the record below the end may be one that readers do not see
        ends.take(&Event::End { topic: "t", partition: 0, offset: 2 }, &mut |_| unreachable!());
        assert!(ends.0.is_empty());
        assert_eq!(seen, [(0, 0), (1, 0)]);
    }
}
