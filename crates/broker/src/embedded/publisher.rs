//! Sends records from a thread of its own, many in one transaction.
//!
//! ```text
//!   send ──▶ waiting (at most QUEUE_BYTES, or one record that is larger) ──▶ the writing thread: one transaction
//!   poll ◀── done    (at most QUEUE_RECORDS with those that wait)        ◀── for all that waits, up to BATCH_BYTES
//! ```
//! While one transaction reaches the disk, the next one gathers: a lone record is written at once,
//! and many of them share the cost of a sync.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::append::{self, Appender, Row};
use super::file::{LogFile, kind_of, words};
use crate::contract::{Delivery, NewRecord, Placed, Publisher};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of records that wait or are being written.
const QUEUE_BYTES: usize = 32 << 20;
/// Records whose delivery was not handed out.
const QUEUE_RECORDS: usize = 10_000;
/// Bytes of records from which a transaction takes no more.
const BATCH_BYTES: usize = 8 << 20;
/// Pause between two transactions while more waits: longer than other processes sleep before they ask
/// for the lock again, so that a busy publisher leaves them room.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a record waits for a file that others keep locked before it fails.
const GIVE_UP: Duration = Duration::from_secs(120);

/// A publisher to one file.
pub(super) struct EmbeddedPublisher {
    file: Arc<LogFile>,
    shared: Arc<Shared>,
    in_flight: usize,
    thread: Option<JoinHandle<()>>,
    topic: Arc<str>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write, or no more to come.
    to_write: Condvar,
    /// There is something to hand out.
    to_hand_out: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Bytes of what waits and of what is being written.
    bytes: usize,
    done: VecDeque<Delivery>,
    /// The publisher is gone.
    stop: bool,
    /// The thread is gone.
    dead: bool,
}

/// A record that waits: key, headers and value one behind the other.
struct Waiting {
    token: usize,
    topic: Arc<str>,
    partition: Option<i32>,
    timestamp_ms: i64,
    bytes: Box<[u8]>,
    key: Option<usize>,
    headers: usize,
    has_value: bool,
}

impl Waiting {
    fn row(&self) -> Row<'_> {
        let (key, rest) = self.bytes.split_at(self.key.unwrap_or(0));
        let (headers, value) = rest.split_at(self.headers);
        Row {
            topic: &self.topic,
            partition: self.partition,
            timestamp_ms: self.timestamp_ms,
            key: self.key.map(|_| key),
            headers,
            value: self.has_value.then_some(value),
        }
    }
}

impl EmbeddedPublisher {
    pub(super) fn start(file: Arc<LogFile>) -> Result<Self> {
        let connection = file.connect()?;
        let shared = Arc::new(Shared::default());
        let writer = Writer { file: file.clone(), connection, appender: Appender::default(), shared: shared.clone() };
        let thread = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| Error::with_source(ErrorKind::Fatal, "no thread to write the log with", error))?;
        Ok(Self { file, shared, in_flight: 0, thread: Some(thread), topic: "".into() })
    }

    fn dead(&self) -> Error {
        Error::new(ErrorKind::Fatal, format!("the thread that writes log `{}` is gone", self.file.name))
    }
}

impl Publisher for EmbeddedPublisher {
    fn send(&mut self, record: &NewRecord<'_>, token: usize) -> Result<()> {
        let size = append::check_size(record)?;
        let full = || Err(Error::new(ErrorKind::QueueFull, format!("the queue to log `{}` is full", self.file.name)));
        if self.in_flight >= QUEUE_RECORDS {
            return full();
        }
        {
            let queue = self.shared.queue.lock();
            if queue.dead {
                return Err(self.dead());
            }
            if queue.bytes > 0 && queue.bytes + size > QUEUE_BYTES {
                return full();
            }
        }
        if *self.topic != *record.topic {
            self.topic = record.topic.into();
        }
        let headers = append::encode_headers(record);
        let parts = [record.key.unwrap_or_default(), &headers, record.value.unwrap_or_default()];
        let waiting = Waiting {
            token,
            topic: self.topic.clone(),
            partition: record.partition,
            timestamp_ms: Row::of(record, &headers).timestamp_ms,
            bytes: parts.concat().into(),
            key: record.key.map(<[u8]>::len),
            headers: headers.len(),
            has_value: record.value.is_some(),
        };
        let mut queue = self.shared.queue.lock();
        queue.bytes += waiting.bytes.len();
        queue.waiting.push_back(waiting);
        drop(queue);
        self.in_flight += 1;
        self.shared.to_write.notify_one();
        Ok(())
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Delivery)) -> Result<usize> {
        let start = Instant::now();
        let mut queue = self.shared.queue.lock();
        while queue.done.is_empty() {
            if queue.dead && self.in_flight > 0 {
                return Err(self.dead());
            }
            let Some(left) = timeout.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else {
                return Ok(0);
            };
            self.shared.to_hand_out.wait_for(&mut queue, left);
        }
        let done = std::mem::take(&mut queue.done);
        drop(queue);
        let count = done.len();
        for delivery in done {
            self.in_flight -= 1;
            sink(delivery);
        }
        Ok(count)
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl Drop for EmbeddedPublisher {
    /// What waits is not written any more; the transaction under way ends first.
    fn drop(&mut self) {
        self.shared.queue.lock().stop = true;
        self.shared.to_write.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was said by the thread.
            let _ = thread.join();
        }
    }
}

/// The writing thread.
struct Writer {
    file: Arc<LogFile>,
    connection: Connection,
    appender: Appender,
    shared: Arc<Shared>,
}

/// Says that the thread is gone, however it went.
struct Farewell(Arc<Shared>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.queue.lock().dead = true;
        self.0.to_hand_out.notify_all();
    }
}

impl Writer {
    fn run(mut self) {
        let _farewell = Farewell(self.shared.clone());
        while let Some(batch) = self.next_batch() {
            let outcomes = self.write(&batch);
            let mut queue = self.shared.queue.lock();
            for (waiting, outcome) in batch.iter().zip(outcomes) {
                queue.bytes -= waiting.bytes.len();
                queue.done.push_back(Delivery { token: waiting.token, outcome });
            }
            let more = !queue.waiting.is_empty();
            drop(queue);
            self.shared.to_hand_out.notify_all();
            drop(batch);
            if more {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// What waits, up to the bytes of a transaction; `None` once the publisher is gone.
    fn next_batch(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.shared.queue.lock();
        while queue.waiting.is_empty() && !queue.stop {
            self.shared.to_write.wait(&mut queue);
        }
        if queue.stop {
            return None;
        }
        let mut bytes = 0;
        let mut batch = Vec::new();
        while bytes < BATCH_BYTES
            && let Some(waiting) = queue.waiting.pop_front()
        {
            bytes += waiting.bytes.len();
            batch.push(waiting);
        }
        Some(batch)
    }

    /// Writes a batch, again while others keep the file locked.
    fn write(&mut self, batch: &[Waiting]) -> Vec<Result<Placed>> {
        let start = Instant::now();
        loop {
            if !self.file.is_in_place() {
                return batch.iter().map(|_| Err(self.file.replaced())).collect();
            }
            let error = match self.try_write(batch) {
                Ok(outcomes) => {
                    self.file.committed(&self.connection);
                    return outcomes;
                }
                Err(error) => error,
            };
            if kind_of(&error) == ErrorKind::Retry && start.elapsed() < GIVE_UP && !self.shared.queue.lock().stop {
                continue;
            }
            return batch.iter().map(|_| Err(self.failed(&error))).collect();
        }
    }

    fn failed(&self, error: &rusqlite::Error) -> Error {
        let kind = kind_of(error);
        let mut text = format!("the record was not written to log `{}`", self.file.name);
        if kind == ErrorKind::NoSpace {
            text.push_str(": free some space on its disk");
        }
        Error::with_source(kind, text, words(error))
    }

    fn try_write(&mut self, batch: &[Waiting]) -> rusqlite::Result<Vec<Result<Placed>>> {
        let writing = self.file.write(&mut self.connection)?;
        let outcomes = self.appender.append(&self.file, &writing.tx, batch.iter().map(Waiting::row))?;
        writing.commit()?;
        Ok(outcomes)
    }
}
