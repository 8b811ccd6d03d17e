//! What a watch writes down: the durable record, on which a restart relies, and the registry for
//! people, without which the work goes on.

use std::io;

use tracing::warn;

use super::record::Record;
use super::registry::{Registry, Row};

/// Both accounts of a watch.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) record: Record,
    registry: Registry,
    /// The registry could not be written: said once.
    registry_fails: bool,
}

impl Ledger {
    pub(super) fn new(record: Record, registry: Registry) -> Self {
        Self { record, registry, registry_fails: false }
    }

    /// A file is in the log whole.
    pub(super) fn completed(&mut self, relative: &str, total: u32, started_ms: i64) {
        let written = self.registry.completed(relative, total, started_ms);
        self.registry_said(written);
    }

    /// Whether the registry wants to be renewed.
    pub(super) fn is_due(&self) -> bool {
        self.registry.is_due()
    }

    /// Renews the registry; `rows` are the files that are being sent.
    pub(super) fn renew<'a>(&mut self, rows: impl Iterator<Item = Row<'a>>) {
        let written = self.registry.flush().and_then(|()| self.registry.renew(rows));
        self.registry_said(written);
    }

    fn registry_said(&mut self, written: io::Result<()>) {
        match written {
            Ok(()) => self.registry_fails = false,
            Err(error) => {
                if !std::mem::replace(&mut self.registry_fails, true) {
                    warn!(error = %error, "the registry files in `LOGS` cannot be written");
                }
            }
        }
    }
}
