//! When an upload ends because it was told to.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tracing::info;

use crate::control::Control;

/// How long a log that acknowledges nothing is waited for.
const SILENCE: Duration = Duration::from_secs(5);

/// A request to stop and how long it may take.
#[derive(Debug)]
pub(super) struct Stop<'a> {
    control: &'a Control,
    limit: Duration,
    deadline: Cell<Option<Instant>>,
}

impl<'a> Stop<'a> {
    pub(super) fn new(control: &'a Control, limit: Duration) -> Self {
        Self { control, limit, deadline: Cell::new(None) }
    }

    /// Whether somebody asked for a line about the state since the last call.
    pub(super) fn take_check(&self) -> bool {
        self.control.take_check()
    }

    /// Nothing more is to be begun.
    pub(super) fn is_requested(&self) -> bool {
        let requested = self.control.stopping().is_some();
        if requested && self.deadline.get().is_none() {
            self.deadline.set(Some(Instant::now() + self.limit));
            info!(
                "stopping: what was begun is finished, for {} s at most; a second signal ends the program at once",
                self.limit.as_secs()
            );
        }
        requested
    }

    /// What was begun may go on: as long as the limit says, and not where the log has acknowledged nothing since
    /// `heard` or since the request, whichever was later, for longer than a log takes that is there.
    pub(super) fn may_go_on(&self, heard: Option<Instant>) -> bool {
        if !self.is_requested() {
            return true;
        }
        let Some(deadline) = self.deadline.get() else { return true };
        let now = Instant::now();
        let asked = deadline.checked_sub(self.limit).unwrap_or(now);
        now < deadline && heard.is_none_or(|heard| now.duration_since(heard.max(asked)) < SILENCE)
    }
}
