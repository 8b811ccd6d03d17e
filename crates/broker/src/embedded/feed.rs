//! Reads partitions in batches: what a reader and a subscription have in common.
//!
//! ```text
//!   partition rows ──refresh──▶ cursors (position, first, next) ──fill──▶ batch (bytes of several rows) ──▶ sink
//! ```
//! Rows are copied into the batch and the statement ends before anything is handed out: an open one
//! would keep the write-ahead log from being emptied for as long as the sink takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};

use super::file::LogFile;
use super::headers;
use super::schema::{offset_of, place};
use super::topics;
use crate::contract::{Event, Record};
use crate::error::{Error, ErrorKind, Result};

/// Most bytes of records that are read in one go, whatever the reader allows.
pub(super) const LARGEST_BATCH_BYTES: usize = 4 << 20;
/// Fewest bytes, lest each record need a query.
const SMALLEST_BATCH_BYTES: usize = 64 << 10;
/// Most records that one poll hands out.
const BATCH_ROWS: usize = 4096;
/// Pauses between two looks at a log where nothing happens.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// One partition that is read.
pub(super) struct Cursor {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// Number of the partition in the file.
    pub(super) number: i64,
    /// Offset of the next record to be handed out.
    pub(super) position: i64,
    /// The ends of the partition when last looked at.
    pub(super) first: i64,
    pub(super) next: i64,
    /// The end that was said last.
    pub(super) said: Option<i64>,
    /// Nothing of it is handed out.
    pub(super) held: bool,
}

impl Cursor {
    /// A partition from a position on; its ends are to be looked up.
    pub(super) fn new(topic: Arc<str>, partition: i32, number: i64, position: i64) -> Self {
        Self { topic, partition, number, position, first: 0, next: 0, said: None, held: false }
    }
}

/// What happens where records that were to be read next were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// Reading goes on at the first record that is there.
    Skip,
    /// It is an error: nobody read them.
    Refuse,
}

/// Reads partitions of one file.
pub(super) struct Feed {
    file: Arc<LogFile>,
    pub(super) connection: Connection,
    pub(super) cursors: Vec<Cursor>,
    gap: Gap,
    batch_bytes: usize,
    batch: Batch,
    /// The cursor that is read first next time.
    turn: usize,
    /// What SQLite said when the file was last looked at; it says something else after a commit.
    version: Option<i64>,
    /// What was written by this process when last looked at.
    seen: u64,
    pause: Duration,
}

/// Rows that were read.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    rows: Vec<BatchRow>,
}

/// Lengths of what a row left in the bytes of its batch, in this order.
struct BatchRow {
    cursor: usize,
    offset: i64,
    timestamp_ms: i64,
    key: Option<usize>,
    headers: usize,
    value: Option<usize>,
}

impl Feed {
    pub(super) fn new(file: Arc<LogFile>, connection: Connection, gap: Gap, queue_bytes: usize) -> Self {
        Self {
            file,
            connection,
            cursors: Vec::new(),
            gap,
            batch_bytes: queue_bytes.clamp(SMALLEST_BATCH_BYTES, LARGEST_BATCH_BYTES),
            batch: Batch::default(),
            turn: 0,
            version: None,
            seen: 0,
            pause: SHORTEST_PAUSE,
        }
    }

    /// The file was written to since this was last asked, by whoever it was.
    pub(super) fn is_changed(&mut self) -> Result<bool> {
        if !self.file.is_in_place() {
            return Err(self.file.replaced());
        }
        let version = self
            .connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(|error| self.file.failed("read", error))?;
        Ok(self.version.replace(version) != Some(version))
    }

    /// Looks up the ends of all partitions that are read.
    pub(super) fn refresh(&mut self) -> Result<()> {
        if let Some(gone) = self.read_ends().map_err(|error| self.file.failed("read", error))? {
            return Err(topics::deleted(&self.file, &self.connection, &self.cursors[gone].topic));
        }
        for at in 0..self.cursors.len() {
            let cursor = &self.cursors[at];
            if cursor.position < cursor.first {
                self.skip_to_first(at)?;
            }
        }
        Ok(())
    }

    /// Answers the cursor whose topic was deleted, if there is one.
    fn read_ends(&mut self) -> rusqlite::Result<Option<usize>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT first, next FROM partition WHERE number = ?1 AND topic = (SELECT number FROM topic WHERE name = ?2)",
        )?;
        for (at, cursor) in self.cursors.iter_mut().enumerate() {
            let ends = statement.query_row(params![cursor.number, cursor.topic], |row| Ok((row.get(0)?, row.get(1)?)));
            match ends.optional()? {
                Some((first, next)) => (cursor.first, cursor.next) = (first, next),
                None => return Ok(Some(at)),
            }
        }
        Ok(None)
    }

    fn skip_to_first(&mut self, at: usize) -> Result<()> {
        let cursor = &mut self.cursors[at];
        if self.gap == Gap::Refuse {
            let text = format!(
                "topic `{}` partition {}: the records from offset {} to {} were deleted by the topic's retention \
                 before they were read",
                cursor.topic,
                cursor.partition,
                cursor.position,
                cursor.first - 1
            );
            return Err(Error::new(ErrorKind::OffsetOutOfRange, text));
        }
        cursor.position = cursor.first;
        Ok(())
    }

    /// Hands out what is there, up to the bytes of a batch, and the ends that were reached. All
    /// partitions get their share of a batch, and another one is the first each time.
    pub(super) fn hand_out(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        let count = self.cursors.len();
        if count == 0 {
            return Ok(0);
        }
        self.turn = (self.turn + 1) % count;
        self.batch.clear(self.batch_bytes);
        let is_ready = |cursor: &Cursor| cursor.position < cursor.next && !cursor.held;
        let mut ready = self.cursors.iter().filter(|cursor| is_ready(cursor)).count();
        let mut ended = Vec::new();
        for step in 0..count {
            let at = (self.turn + step) % count;
            if is_ready(&self.cursors[at]) {
                let left = self.batch_bytes.saturating_sub(self.batch.bytes.len());
                self.fill(at, left / ready.max(1))?;
                ready -= 1;
            }
            let cursor = &mut self.cursors[at];
            if cursor.position >= cursor.next && !cursor.held && cursor.said != Some(cursor.position) {
                cursor.said = Some(cursor.position);
                ended.push((self.batch.rows.len(), at));
            }
        }
        let mut ended = ended.into_iter().peekable();
        let mut rest = self.batch.bytes.as_slice();
        let handed_out = self.batch.rows.len() + ended.len();
        for index in 0..=self.batch.rows.len() {
            while let Some((_, at)) = ended.next_if(|&(before, _)| before == index) {
                let cursor = &self.cursors[at];
                sink(Event::End { topic: &cursor.topic, partition: cursor.partition, offset: cursor.position });
            }
            if let Some(row) = self.batch.rows.get(index) {
                sink(Event::Record(row.record(&self.cursors[row.cursor], &mut rest)?));
            }
        }
        if handed_out > 0 {
            self.pause = SHORTEST_PAUSE;
        }
        Ok(handed_out)
    }

    /// Reads rows of one partition into the batch: one, and more while they fit into so many bytes.
    fn fill(&mut self, at: usize, bytes: usize) -> Result<()> {
        if self.batch.rows.len() >= BATCH_ROWS {
            return Ok(());
        }
        let wanted = self.cursors[at].position;
        let before = self.batch.rows.len();
        self.read_rows(at, bytes).map_err(|error| self.file.failed("read", error))?;
        let found = self.batch.rows.get(before).map(|row| row.offset);
        if found == Some(wanted) {
            return Ok(());
        }
        // Records were deleted after the ends were looked up, or the file has lost some.
        self.cursors[at].position = wanted;
        self.batch.undo(before);
        self.refresh()?;
        let cursor = &self.cursors[at];
        if cursor.position == wanted {
            let text = format!(
                "log `{}` is damaged: topic `{}` partition {} has no record at offset {wanted}",
                self.file.name, cursor.topic, cursor.partition
            );
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
        Ok(())
    }

    fn read_rows(&mut self, at: usize, bytes: usize) -> rusqlite::Result<()> {
        let cursor = &mut self.cursors[at];
        let limit = self.batch.bytes.len() + bytes;
        let mut statement = self.connection.prepare_cached(
            "SELECT place, timestamp, key, headers, value FROM record WHERE place >= ?1 AND place < ?2 ORDER BY place",
        )?;
        let mut rows = statement.query([place(cursor.number, cursor.position), place(cursor.number, cursor.next)])?;
        while let Some(row) = rows.next()? {
            let offset = offset_of(row.get(0)?);
            let (key, headers, value) = (
                row.get_ref(2)?.as_blob_or_null()?,
                row.get_ref(3)?.as_blob_or_null()?,
                row.get_ref(4)?.as_blob_or_null()?,
            );
            let parts = [key.unwrap_or_default(), headers.unwrap_or_default(), value.unwrap_or_default()];
            self.batch
                .bytes
                .reserve_exact(parts.iter().map(|part| part.len()).sum::<usize>().max(SMALLEST_BATCH_BYTES));
            for part in parts {
                self.batch.bytes.extend_from_slice(part);
            }
            self.batch.rows.push(BatchRow {
                cursor: at,
                offset,
                timestamp_ms: row.get(1)?,
                key: key.map(<[u8]>::len),
                headers: parts[1].len(),
                value: value.map(<[u8]>::len),
            });
            cursor.position = offset + 1;
            if self.batch.bytes.len() >= limit || self.batch.rows.len() >= BATCH_ROWS {
                break;
            }
        }
        Ok(())
    }

    /// Waits for a commit of this process, or until it is time to look for those of others. False once
    /// `timeout` has passed since `start`.
    pub(super) fn wait(&mut self, start: Instant, timeout: Duration) -> bool {
        let Some(left) = timeout.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else {
            return false;
        };
        self.file.written.wait(&mut self.seen, self.pause.min(left));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

impl Batch {
    /// Empties the batch; room that a record of unusual size took is given back.
    fn clear(&mut self, keep_bytes: usize) {
        self.rows.clear();
        self.bytes.clear();
        if self.bytes.capacity() > 2 * keep_bytes {
            self.bytes.shrink_to(keep_bytes);
        }
    }

    /// Takes back the rows from this one on.
    fn undo(&mut self, rows: usize) {
        let bytes: usize = self.rows.drain(rows..).map(|row| row.bytes()).sum();
        self.bytes.truncate(self.bytes.len() - bytes);
    }
}

impl BatchRow {
    fn bytes(&self) -> usize {
        self.key.unwrap_or(0) + self.headers + self.value.unwrap_or(0)
    }

    /// The record of this row, whose bytes come first in `rest` and are taken off it.
    fn record<'a>(&self, cursor: &'a Cursor, rest: &mut &'a [u8]) -> Result<Record<'a>> {
        let mut take = |length: usize| {
            let (bytes, behind) = rest.split_at(length);
            *rest = behind;
            bytes
        };
        let key = self.key.map(&mut take);
        let headers = headers::decode(take(self.headers)).map_err(|error| {
            let text =
                format!("topic `{}` partition {} offset {} is damaged", cursor.topic, cursor.partition, self.offset);
            Error::with_source(ErrorKind::Corrupt, text, error)
        })?;
        Ok(Record {
            topic: &cursor.topic,
            partition: cursor.partition,
            offset: self.offset,
            timestamp_ms: Some(self.timestamp_ms),
            key,
            value: self.value.map(take),
            headers,
        })
    }
}
