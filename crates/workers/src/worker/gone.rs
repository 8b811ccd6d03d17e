//! Why a worker is gone, and what that means.

use datamill::process::ProcessingError;

use crate::keeper::{Excerpt, How, Lost};
use crate::outcome::{Limits, ending, not_started, with_last_words};

/// Why there is no worker any more.
#[derive(Debug)]
pub(super) enum Gone {
    /// It has ended by itself, was not started, or the keeper has ended it.
    Ended(How),
    /// It cannot answer any more, and was ended.
    Closed,
    /// What it has written is no answer, and it was ended.
    Nonsense(String),
    /// Its keeper is gone.
    Lost(Lost),
    /// There is no keeper for it.
    NoKeeper(String),
}

impl Gone {
    /// The reason, with the last lines of its stderr.
    pub(super) fn reason(&self, stderr: &Excerpt, limits: Limits) -> String {
        let how = match self {
            Self::Ended(how) => ending("worker", how, limits),
            Self::Closed => "the worker closed its descriptor for answers, and was ended".to_owned(),
            Self::Nonsense(why) => {
                format!("the worker did not keep to the protocol in docs/workers.md, and was ended: {why}")
            }
            Self::Lost(lost) => format!("the worker has no known end: {lost}"),
            Self::NoKeeper(text) => text.clone(),
        };
        with_last_words(how, stderr)
    }

    /// What it means where the worker had not said hello. A failure means that it may be started again.
    pub(super) fn before_hello(&self, stderr: &Excerpt, limits: Limits) -> ProcessingError {
        match self {
            Self::Ended(How::NotStarted(number, text)) => not_started("worker", *number, text),
            Self::NoKeeper(text) => ProcessingError::not_available(text),
            _ => {
                let reason = self.reason(stderr, limits);
                let hint = if self.is_in_order() {
                    ". Is it a program that runs once for each file? That one goes without --worker"
                } else {
                    ""
                };
                ProcessingError::file_failed(format_args!("before the worker had said hello: {reason}{hint}"))
            }
        }
    }

    /// Whether the process has ended without anybody having ended it.
    pub(super) fn is_by_itself(&self) -> bool {
        matches!(self, Self::Ended(How::Exit(_) | How::Signal(_)))
    }

    /// Whether it has ended as a program does that is done.
    pub(super) fn is_in_order(&self) -> bool {
        matches!(self, Self::Ended(How::Exit(0)))
    }

    /// Whether its keeper can look after another one.
    pub(super) fn leaves_keeper(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Closed | Self::Nonsense(_))
    }
}
