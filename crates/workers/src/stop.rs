//! What a stop of the program means for what runs.

use std::time::{Duration, Instant};

use datamill::process::ProcessingError;

/// A signal that ends a service reaches its commands as well, and they may be faster.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

/// Whether the program is asked to stop, or is so in a moment.
pub(crate) fn is_stopping_soon(is_stopping: impl Fn() -> bool) -> bool {
    let since = Instant::now();
    while !is_stopping() && since.elapsed() < KNOWN_WITHIN {
        std::thread::sleep(Duration::from_millis(20));
    }
    is_stopping()
}

/// The file has no outcome, and is left to the next start.
pub(crate) fn stopped(what: &str) -> ProcessingError {
    ProcessingError::not_available(format_args!("the program stops, and the {what} was ended"))
}

/// Why what runs is to end before it does so by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Time,
    Stop,
}

/// When what runs is to end.
#[derive(Debug)]
pub(crate) struct End {
    shutdown_timeout: Duration,
    stops_at: Option<Instant>,
}

impl End {
    pub(crate) fn new(shutdown_timeout: Duration) -> Self {
        Self { shutdown_timeout, stops_at: None }
    }

    /// Whether it is to end now.
    pub(crate) fn look(&mut self, deadline: Option<Instant>, is_stopping: bool) -> Option<Over> {
        let now = Instant::now();
        if is_stopping {
            self.stops_at.get_or_insert(now + self.shutdown_timeout);
        }
        if self.stops_at.is_some_and(|at| now >= at) {
            Some(Over::Stop)
        } else {
            deadline.is_some_and(|at| now >= at).then_some(Over::Time)
        }
    }
}
