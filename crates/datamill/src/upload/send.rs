//! Chunks become records, and deliveries become files that are delivered or not.
//!
//! ```text
//! chunk ──▶ window of bytes ──▶ Publisher ──▶ log
//!              ▲ full: poll        │ delivery(token)
//!              └── token ──▶ file ◀┘   all chunks acknowledged: delivered
//!                                      one refused: the file as a whole is not
//! ```
//!
//! All chunks of a file go to the partition that its path chooses. What is in flight is bounded in
//! bytes and by the time that the log needs for them (`window`); [`Sender::send_chunk`] waits while there is no room.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use datamill_broker::{Delivery, Error, ErrorKind, Log, NewRecord, Publisher, Topic};
use datamill_wire::{Chunk, headers, partition_for};
use tracing::{info, warn};

use super::ranges::Ranges;
use super::window::Window;
use crate::control::Control;
use crate::report::{chain, clock};

/// How long one wait for room lasts before the caller is asked whether to go on.
const WAIT: Duration = Duration::from_millis(100);

/// Deliveries that stay away for this long are worth a message.
const SILENCE: Duration = Duration::from_secs(10);

/// Number of a file that is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct FileId(u64);

/// What became of a file all of whose chunks were handed over.
#[derive(Debug)]
pub(super) struct Finished {
    /// Which file.
    pub file: FileId,
    /// `Ok` where the log acknowledged every chunk.
    pub outcome: Result<(), NotDelivered>,
}

/// Why a file was not delivered.
#[derive(Debug, thiserror::Error)]
#[error("chunk `{chunk}` of `{total}` of file `{file}` was not delivered to topic `{topic}`{advice}")]
pub struct NotDelivered {
    /// Topic that it was meant for.
    pub topic: String,
    /// Relative path of the file.
    pub file: String,
    /// Number of the chunk that failed first.
    pub chunk: u32,
    /// Number of the file's chunks.
    pub total: u32,
    advice: &'static str,
    /// What the log said.
    #[source]
    pub error: Error,
}

impl NotDelivered {
    /// Whether the file may be taken when it is sent again later.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self.error.kind(), ErrorKind::Retry | ErrorKind::NoSpace)
    }

    /// Whether it concerns this file alone: others may be taken.
    pub(crate) fn is_of_the_file(&self) -> bool {
        self.error.kind().refuses_record()
    }
}

/// What is acknowledged is counted here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// Records.
    pub messages: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

/// Sends chunks of files and keeps account of them.
pub(super) struct Sender<'a> {
    /// Tells why records are not acknowledged.
    log: &'a dyn Log,
    control: &'a Control,
    publisher: Box<dyn Publisher>,
    topic: String,
    partitions: i32,
    window: Window,
    in_flight_bytes: usize,
    next_token: usize,
    next_file: u64,
    tokens: HashMap<usize, InFlight>,
    files: HashMap<FileId, Account>,
    finished: VecDeque<Finished>,
    acknowledged: Acknowledged,
    message: Vec<u8>,
    last_delivery: Instant,
    away: bool,
    /// That the log is away was said here, so its return is.
    tells_return: bool,
}

struct InFlight {
    file: FileId,
    chunk: u32,
    bytes: usize,
    value_bytes: usize,
    since: Instant,
}

struct Account {
    relative: String,
    total: u32,
    partition: i32,
    superseded: Vec<String>,
    delivered: Ranges,
    outstanding: usize,
    all_handed_over: bool,
    failure: Option<(u32, Error)>,
}

impl<'a> Sender<'a> {
    /// A sender to `topic`, with at most `window` bytes in flight (one record
    /// at least).
    pub(super) fn new(
        log: &'a dyn Log,
        control: &'a Control,
        publisher: Box<dyn Publisher>,
        topic: &Topic,
        window: usize,
    ) -> Self {
        Self {
            log,
            control,
            publisher,
            topic: topic.name.clone(),
            partitions: topic.partitions,
            window: Window::new(window),
            in_flight_bytes: 0,
            next_token: 0,
            next_file: 0,
            tokens: HashMap::new(),
            files: HashMap::new(),
            finished: VecDeque::new(),
            acknowledged: Acknowledged::default(),
            message: Vec::new(),
            last_delivery: Instant::now(),
            away: false,
            tells_return: false,
        }
    }

    /// Files that begin from now on find the topic with so many partitions.
    pub(super) fn set_partitions(&mut self, partitions: i32) {
        self.partitions = partitions;
    }

    /// Opens the account of a file. `superseded` are the hashes, in hexadecimal, of versions whose
    /// sending was given up and whose place this one takes.
    pub(super) fn begin(&mut self, relative: &str, total: u32, superseded: Vec<String>) -> FileId {
        let file = FileId(self.next_file);
        self.next_file += 1;
        let account = Account {
            relative: relative.to_owned(),
            total,
            partition: partition_for(relative, self.partitions),
            superseded,
            delivered: Ranges::default(),
            outstanding: 0,
            all_handed_over: false,
            failure: None,
        };
        self.files.insert(file, account);
        file
    }

    /// Hands a chunk over, after waiting for room in the window. `go_on` is asked while it waits.
    /// Breaks where the rest of the file is of no use: `go_on` said no, or a chunk of the file failed
    /// already.
    ///
    /// # Errors
    /// Where the log will take nothing more of anybody.
    pub(super) fn send_chunk(
        &mut self,
        file: FileId,
        chunk: &Chunk<'_>,
        go_on: &dyn Fn(Instant) -> bool,
    ) -> Result<ControlFlow<()>, Error> {
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        chunk.encode(&mut message);
        let result = self.send_record(file, chunk, &message, go_on);
        self.message = message;
        result
    }

    fn send_record(
        &mut self,
        file: FileId,
        chunk: &Chunk<'_>,
        message: &[u8],
        go_on: &dyn Fn(Instant) -> bool,
    ) -> Result<ControlFlow<()>, Error> {
        let key = chunk.key();
        let bytes = message.len() + key.len();
        loop {
            let Some(account) = self.files.get(&file) else {
                return Ok(ControlFlow::Break(()));
            };
            if account.failure.is_some() || !go_on(self.last_delivery) {
                return Ok(ControlFlow::Break(()));
            }
            if !self.window.has_room(self.in_flight_bytes, bytes) {
                self.poll(WAIT)?;
                continue;
            }
            let several = (chunk.total > 1).then_some((headers::CHUNK_VERSION, headers::CHUNK_VERSION_1.as_bytes()));
            let old = account.superseded.iter().map(|hash| (headers::SUPERSEDES, hash.as_bytes()));
            let record = NewRecord {
                topic: &self.topic,
                partition: Some(account.partition),
                key: Some(key.as_bytes()),
                value: Some(message),
                headers: several.into_iter().chain(chunk.mtime_header()).chain(old).collect(),
                timestamp_ms: Some(clock::now_ms()),
            };
            match self.publisher.send(&record, self.next_token) {
                Ok(()) => break,
                Err(error) => self.not_taken_on(file, chunk.index, error)?,
            }
        }
        let since = Instant::now();
        if self.tokens.is_empty() {
            self.last_delivery = since;
        }
        let sent = InFlight { file, chunk: chunk.index, bytes, value_bytes: message.len(), since };
        self.tokens.insert(self.next_token, sent);
        self.next_token += 1;
        self.in_flight_bytes += bytes;
        if let Some(account) = self.files.get_mut(&file) {
            account.outstanding += 1;
        }
        Ok(ControlFlow::Continue(()))
    }

    fn not_taken_on(&mut self, file: FileId, chunk: u32, error: Error) -> Result<(), Error> {
        match error.kind() {
            ErrorKind::QueueFull => {
                self.poll(WAIT)?;
            }
            ErrorKind::Retry | ErrorKind::NoSpace => {
                self.goes_away(&error);
                self.wait_out(WAIT)?;
            }
            kind if kind.refuses_record() => {
                if let Some(account) = self.files.get_mut(&file) {
                    account.failure.get_or_insert((chunk, error));
                }
            }
            _ => return Err(error),
        }
        Ok(())
    }

    /// Says that all chunks of the file that will ever come were handed over. Its outcome follows
    /// from [`Sender::finished`] once the last of them was acknowledged.
    pub(super) fn end(&mut self, file: FileId) {
        if let Some(account) = self.files.get_mut(&file) {
            account.all_handed_over = true;
        }
        self.settle(file);
    }

    /// Closes the account of a file that changed while it was read: it has no outcome.
    pub(super) fn abandon(&mut self, file: FileId) {
        self.files.remove(&file);
    }

    /// Waits at most `timeout` for deliveries.
    ///
    /// # Errors
    /// Where the log will take nothing more of anybody.
    pub(super) fn poll(&mut self, timeout: Duration) -> Result<(), Error> {
        let mut deliveries = Vec::new();
        let polled = self.publisher.poll(timeout, &mut |delivery| deliveries.push(delivery));
        for delivery in deliveries {
            self.take(delivery);
        }
        match polled {
            Ok(0) if !self.tokens.is_empty() && !self.log.is_throttled() && self.last_delivery.elapsed() > SILENCE => {
                if self.is_news_that_it_is_away() {
                    warn!(
                        topic = self.topic,
                        "no record was acknowledged for `{}` s: waiting until the log is there again, nothing is lost",
                        SILENCE.as_secs()
                    );
                }
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::Retry | ErrorKind::NoSpace) => {
                self.goes_away(&error);
                std::thread::sleep(timeout.min(WAIT));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Polls for `span` even where there is nothing to wait for.
    fn wait_out(&mut self, span: Duration) -> Result<(), Error> {
        let start = Instant::now();
        self.poll(span)?;
        std::thread::sleep(span.saturating_sub(start.elapsed()));
        Ok(())
    }

    fn take(&mut self, delivery: Delivery) {
        let Some(sent) = self.tokens.remove(&delivery.token) else {
            return;
        };
        self.in_flight_bytes -= sent.bytes;
        self.last_delivery = Instant::now();
        match delivery.outcome {
            Ok(_) => {
                self.acknowledged.messages += 1;
                self.acknowledged.bytes += sent.value_bytes as u64;
                self.window.acknowledged(sent.bytes, self.last_delivery - sent.since);
                self.away = false;
                if std::mem::take(&mut self.tells_return) {
                    info!(topic = self.topic, "the log takes records again");
                }
                if let Some(account) = self.files.get_mut(&sent.file) {
                    account.delivered.insert(sent.chunk);
                    account.outstanding -= 1;
                }
            }
            Err(error) => {
                if matches!(error.kind(), ErrorKind::Retry | ErrorKind::NoSpace) {
                    self.window.given_up();
                    self.goes_away(&error);
                }
                if let Some(account) = self.files.get_mut(&sent.file) {
                    account.failure.get_or_insert((sent.chunk, error));
                    account.outstanding -= 1;
                }
            }
        }
        self.settle(sent.file);
    }

    /// Closes the account of a file whose last delivery came.
    fn settle(&mut self, file: FileId) {
        let done = |account: &Account| account.all_handed_over && account.outstanding == 0;
        if !self.files.get(&file).is_some_and(done) {
            return;
        }
        if let Some(account) = self.files.remove(&file) {
            let outcome = match account.failure {
                None => Ok(()),
                Some((chunk, error)) => Err(NotDelivered {
                    topic: self.topic.clone(),
                    file: account.relative,
                    chunk,
                    total: account.total,
                    advice: match error.kind() {
                        ErrorKind::RecordTooLarge => {
                            ": use a smaller `--chunk_size`, or raise the topic's `max.message.bytes`"
                        }
                        _ => "",
                    },
                    error,
                }),
            };
            self.finished.push_back(Finished { file, outcome });
        }
    }

    /// What a log that is away means then is said at the end.
    fn is_stopping(&self) -> bool {
        self.control.stopping().is_some()
    }

    /// Notes that the log is away. Answers whether that is to be said: an outage is said by the log itself.
    fn is_news_that_it_is_away(&mut self) -> bool {
        let is_news = !std::mem::replace(&mut self.away, true) && self.log.outage().is_none() && !self.is_stopping();
        self.tells_return |= is_news;
        is_news
    }

    fn goes_away(&mut self, error: &Error) {
        if self.is_news_that_it_is_away() {
            warn!(
                topic = self.topic,
                error = %chain(error),
                "the log takes no records: trying again until it does, nothing is lost"
            );
        }
    }

    /// The next file whose outcome is known.
    pub(super) fn finished(&mut self) -> Option<Finished> {
        self.finished.pop_front()
    }

    /// The chunks of a file that were acknowledged.
    pub(super) fn delivered(&self, file: FileId) -> Option<&Ranges> {
        self.files.get(&file).map(|account| &account.delivered)
    }

    /// Whether the log takes no records, or acknowledges none.
    pub(super) fn is_away(&self) -> bool {
        self.away
    }

    /// When a record was acknowledged last, or sent after all before it were.
    pub(super) fn last_delivery(&self) -> Instant {
        self.last_delivery
    }

    /// Records whose delivery is not known.
    pub(super) fn in_flight(&self) -> usize {
        self.tokens.len()
    }

    /// What was acknowledged since the start.
    pub(super) fn acknowledged(&self) -> Acknowledged {
        self.acknowledged
    }
}
