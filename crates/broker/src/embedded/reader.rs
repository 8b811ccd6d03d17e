//! Reads partitions of one topic without a group.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::feed::{Cursor, Feed, Gap, LARGEST_BATCH_BYTES};
use super::file::LogFile;
use super::topics;
use crate::contract::{Event, Reader};
use crate::error::{Error, ErrorKind, Result};

/// A reader of one topic.
pub(super) struct EmbeddedReader {
    feed: Feed,
    topic: Arc<str>,
    /// Numbers of its partitions in the file.
    partitions: Vec<i64>,
}

impl EmbeddedReader {
    pub(super) fn open(file: &Arc<LogFile>, topic: &str, starts: &[(i32, i64)]) -> Result<Self> {
        let connection = file.connect()?;
        let known = topics::known(&connection, topic).map_err(|error| file.failed("read", error))?;
        let known = known.ok_or_else(|| topics::unknown(file, &connection, topic, false))?;
        let feed = Feed::new(file.clone(), connection, Gap::Skip, LARGEST_BATCH_BYTES);
        let mut reader = Self { feed, topic: topic.into(), partitions: known.partitions };
        reader.assign(starts)?;
        Ok(reader)
    }

    fn assign(&mut self, starts: &[(i32, i64)]) -> Result<()> {
        let cursor = |&(partition, position): &(i32, i64)| {
            let number = usize::try_from(partition).ok().and_then(|at| self.partitions.get(at));
            let number = *number.ok_or_else(|| topics::no_partition(&self.topic, partition, self.partitions.len()))?;
            Ok(Cursor::new(self.topic.clone(), partition, number, position))
        };
        self.feed.cursors = starts.iter().map(cursor).collect::<Result<_>>()?;
        self.feed.refresh()?;
        for cursor in &self.feed.cursors {
            if cursor.position > cursor.next {
                return Err(self.out_of_range(cursor.partition, cursor.position));
            }
        }
        Ok(())
    }

    fn out_of_range(&self, partition: i32, position: i64) -> Error {
        let cursor = self.feed.cursors.iter().find(|cursor| cursor.partition == partition);
        let (first, next) = cursor.map_or((0, 0), |cursor| (cursor.first, cursor.next));
        let text = format!(
            "topic `{}` partition {partition} goes from offset {first} to {next}: it cannot be read from {position}",
            self.topic
        );
        Error::new(ErrorKind::OffsetOutOfRange, text)
    }
}

impl Reader for EmbeddedReader {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        let start = Instant::now();
        loop {
            if self.feed.is_changed()? {
                self.feed.refresh()?;
            }
            let count = self.feed.hand_out(sink)?;
            if count > 0 || !self.feed.wait(start, timeout) {
                return Ok(count);
            }
        }
    }

    fn go_to(&mut self, starts: &[(i32, i64)]) -> Result<()> {
        self.assign(starts)?;
        let moved = starts.iter().zip(&self.feed.cursors).find(|((_, start), cursor)| cursor.position != *start);
        match moved {
            Some(((partition, start), _)) => Err(self.out_of_range(*partition, *start)),
            None => Ok(()),
        }
    }
}
