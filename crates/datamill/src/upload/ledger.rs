//! What a watch writes down: the durable record, on which a restart relies, and the registry for
//! people, without which the work goes on.
//!
//! Where the record cannot be written, as on a full disk, what was acknowledged stays in memory and is tried again
//! each second. Until it is written nothing further is sent: a restart would send it twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{info, warn};

use super::error::UploadError;
use super::record::{Record, RecordError};
use super::registry::{Registry, Row};
use super::stamp::{Stamp, Trace};
use crate::report::chain;

/// Time between two tries to write a record that could not be written.
const RETRY: Duration = Duration::from_secs(1);

/// Both accounts of a watch.
pub(super) struct Ledger {
    pub(super) record: Record,
    registry: Arc<Mutex<Registry>>,
    /// The record could not be written: when it is tried again.
    behind: Option<Instant>,
}

impl Ledger {
    pub(super) fn new(record: Record, registry: Registry) -> Self {
        Self { record, registry: Arc::new(Mutex::new(registry)), behind: None }
    }

    /// Goes on with other tables, and with a record that was written anew.
    pub(super) fn go_over_to(&mut self, registry: Registry) {
        *self.registry.lock() = registry;
        self.behind = None;
    }

    /// Whether the record lacks something that was to be written down.
    pub(super) fn is_behind(&self) -> bool {
        self.behind.is_some()
    }

    /// Chunks of this version are about to be sent.
    pub(super) fn sending(&mut self, relative: &str, sha512: &[u8; 64]) {
        self.record.sending(relative, sha512);
        self.write();
    }

    /// This content is in the log.
    pub(super) fn delivered(&mut self, relative: &str, stamp: Stamp, trace: Option<Trace>, sha512: &[u8; 64]) {
        self.record.delivered(relative, stamp, trace, sha512);
        self.write();
    }

    /// This content was acknowledged; whether its topic is still the same is not known yet.
    pub(super) fn acknowledged(&mut self, relative: &str, stamp: Stamp, trace: Option<Trace>, sha512: &[u8; 64]) {
        self.record.acknowledged(relative, stamp, trace, sha512);
        self.write();
    }

    /// All that was acknowledged is in the topic.
    pub(super) fn confirmed(&mut self) {
        self.record.confirmed();
        self.write();
    }

    /// A file that was delivered before is the same with this trace. Of many such lines, few wait in memory.
    pub(super) fn is_same(&mut self, relative: &str, trace: Option<Trace>) {
        self.record.is_same(relative, trace);
        if self.behind.is_none() && self.record.is_much_waiting() {
            let written = self.record.flush();
            self.note(written);
        }
    }

    /// The registry, which hears of the files.
    pub(super) fn registry(&self) -> Arc<Mutex<Registry>> {
        Arc::clone(&self.registry)
    }

    /// Writes what is due; `rows` are the files that are being sent.
    pub(super) fn tick<'a>(&mut self, rows: impl Iterator<Item = Row<'a>>) {
        self.registry.lock().tick(rows);
        let written = match self.behind {
            None => self.record.sync_if_due(),
            Some(at) if Instant::now() < at => return,
            Some(_) => self.record.flush(),
        };
        self.note(written);
    }

    /// Writes all that waits, and brings the record to the disk.
    pub(super) fn flush<'a>(&mut self, rows: impl Iterator<Item = Row<'a>>) -> Result<(), UploadError> {
        self.registry.lock().flush(rows);
        self.record.flush().map_err(|source| match self.record.not_written() {
            0 => source.into(),
            files => UploadError::NotWrittenDown { files, source },
        })
    }

    fn write(&mut self) {
        if self.behind.is_none() {
            let written = self.record.write();
            self.note(written);
        }
    }

    fn note(&mut self, written: Result<(), RecordError>) {
        match written {
            Ok(()) => {
                if self.behind.take().is_some() {
                    info!(file = %self.record.path().display(), "the record of what was sent is written again: going on");
                }
            }
            Err(error) => {
                if self.behind.replace(Instant::now() + RETRY).is_none() {
                    warn!(
                        error = %chain(&error),
                        "no further file is sent until the record can be written; what was delivered is written down then"
                    );
                }
            }
        }
    }
}
