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
}

impl EmbeddedReader {
    pub(super) fn open(file: &Arc<LogFile>, topic: &str, starts: &[(i32, i64)]) -> Result<Self> {
        let connection = file.connect()?;
        let known = topics::known(&connection, topic).map_err(|error| file.failed("read", error))?;
        let known = known.ok_or_else(|| topics::unknown(file, topic))?;
        let mut feed = Feed::new(file.clone(), connection, Gap::Skip, LARGEST_BATCH_BYTES);
        let name: Arc<str> = topic.into();
        for &(partition, position) in starts {
            let number = usize::try_from(partition).ok().and_then(|at| known.partitions.get(at));
            let number = *number.ok_or_else(|| topics::no_partition(topic, partition, known.partitions.len()))?;
            feed.cursors.push(Cursor::new(name.clone(), partition, number, position));
        }
        feed.refresh()?;
        for cursor in &feed.cursors {
            if cursor.position > cursor.next {
                let text = format!(
                    "topic `{topic}` partition {} ends at offset {}: it cannot be read from {}",
                    cursor.partition, cursor.next, cursor.position
                );
                return Err(Error::new(ErrorKind::OffsetOutOfRange, text));
            }
        }
        Ok(Self { feed })
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
}
