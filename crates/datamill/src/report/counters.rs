//! The six counts of a running program. Stages add to them, heartbeats and the console look.

use std::sync::atomic::{AtomicU64, Ordering};

use datamill_broker::Record;
use datamill_wire::{Chunk, ChunkError, headers};

/// Counts since the start of the program, to be shared between threads.
///
/// The counts are statistics: they are not ordered against each other or against anything else.
#[derive(Debug, Default)]
pub struct Counters {
    messages_read: AtomicU64,
    bytes_read: AtomicU64,
    messages_processed: AtomicU64,
    bytes_processed: AtomicU64,
    messages_produced: AtomicU64,
    bytes_produced: AtomicU64,
}

/// The counts at one moment, or between two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages read from the topic.
    pub messages_read: u64,
    /// Bytes of those messages.
    pub bytes_read: u64,
    /// Messages whose file has been handled.
    pub messages_processed: u64,
    /// Bytes of those messages.
    pub bytes_processed: u64,
    /// Messages that the log has acknowledged.
    pub messages_produced: u64,
    /// Bytes of those messages.
    pub bytes_produced: u64,
}

impl Counters {
    /// Decodes a message that was read, and counts it as OpenMSIStream does: the bytes are those of file content, and a
    /// message that holds no chunk has none.
    pub(crate) fn message<'a>(&self, record: &Record<'a>) -> Result<Chunk<'a>, ChunkError> {
        let mut chunk = Chunk::decode(record.value.unwrap_or_default());
        self.read(1, chunk.as_ref().map_or(0, |chunk| chunk.data.len() as u64));
        if let Ok(chunk) = &mut chunk
            && chunk.mtime.is_none()
            && let Some((_, told)) = record.headers.iter().find(|(name, _)| *name == headers::MTIME)
        {
            chunk.take_mtime_header(told);
        }
        chunk
    }

    /// Messages were read, with this many bytes of file content.
    pub fn read(&self, messages: u64, bytes: u64) {
        self.messages_read.fetch_add(messages, Ordering::Relaxed);
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Messages with this many bytes were handled: the file that they belong to has its outcome.
    pub fn processed(&self, messages: u64, bytes: u64) {
        self.messages_processed.fetch_add(messages, Ordering::Relaxed);
        self.bytes_processed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Messages with this many bytes are durable in the log.
    pub fn produced(&self, messages: u64, bytes: u64) {
        self.messages_produced.fetch_add(messages, Ordering::Relaxed);
        self.bytes_produced.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The counts of this moment.
    pub fn snapshot(&self) -> Counts {
        Counts {
            messages_read: self.messages_read.load(Ordering::Relaxed),
            bytes_read: self.bytes_read.load(Ordering::Relaxed),
            messages_processed: self.messages_processed.load(Ordering::Relaxed),
            bytes_processed: self.bytes_processed.load(Ordering::Relaxed),
            messages_produced: self.messages_produced.load(Ordering::Relaxed),
            bytes_produced: self.bytes_produced.load(Ordering::Relaxed),
        }
    }
}

impl Counts {
    /// What was counted between `earlier` and this moment.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            messages_read: self.messages_read.saturating_sub(earlier.messages_read),
            bytes_read: self.bytes_read.saturating_sub(earlier.bytes_read),
            messages_processed: self.messages_processed.saturating_sub(earlier.messages_processed),
            bytes_processed: self.bytes_processed.saturating_sub(earlier.bytes_processed),
            messages_produced: self.messages_produced.saturating_sub(earlier.messages_produced),
            bytes_produced: self.bytes_produced.saturating_sub(earlier.bytes_produced),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_taken_between_two_moments() {
        let counters = Counters::default();
        counters.read(2, 200);
        counters.produced(1, 5);
        let first = counters.snapshot();
        assert_eq!(
            first,
            Counts { messages_read: 2, bytes_read: 200, messages_produced: 1, bytes_produced: 5, ..Counts::default() }
        );
        counters.read(1, 50);
        counters.processed(3, 250);
        let between = counters.snapshot().since(&first);
        assert_eq!(
            between,
            Counts {
                messages_read: 1,
                bytes_read: 50,
                messages_processed: 3,
                bytes_processed: 250,
                ..Counts::default()
            }
        );
    }
}
