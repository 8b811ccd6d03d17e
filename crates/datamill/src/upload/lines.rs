//! The lines of the log about files that are sent.

use tracing::{debug, error, info, warn};

use crate::facts::{Fact, Listener, Reason};

/// Writes them.
pub(super) struct Lines;

impl Listener for Lines {
    fn hear(&self, fact: &Fact<'_>) {
        match *fact {
            Fact::LeftOut { file, reason, detail } => match reason {
                reason if reason.is_failure() => warn!(file, error = detail, "not sent: {}", reason.of(1)),
                Reason::Filled => warn!(file, "left out: {}", reason.of(1)),
                Reason::OwnFolder => info!(file, "left out: {}", reason.of(1)),
                _ => debug!(file, error = detail, "left out: {}", reason.of(1)),
            },
            Fact::Refused { file, error, again_after: None, .. } => error!(file, error, "the file is not delivered"),
            Fact::Refused { file, error, again_after: Some(span), is_first: true } => {
                error!(file, error, "the file is not delivered, it is tried again every {} s", span.as_secs())
            }
            Fact::Refused { file, error, .. } => debug!(file, error, "the file is not delivered, again"),
            Fact::Delivered { file, chunks, .. } => debug!(file, chunks, "the file is delivered"),
            _ => {}
        }
    }
}
