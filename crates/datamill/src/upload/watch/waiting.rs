//! Which files wait before they are sent, for whoever looks at the program.

use std::time::{Duration, Instant};

use super::Watch;
use crate::facts::{Fact, Wait, WaitingFile};
use crate::report::clock;

/// How often it is told which files wait, and of how many at most.
const WAITING_EVERY: Duration = Duration::from_secs(2);
const WAITING_TOLD: usize = 50;

impl Watch<'_> {
    /// Tells which files wait, where any does, or did when it was told last.
    pub(super) fn tell_waiting(&mut self) {
        let (is_due, were_any) =
            self.waiting_told.map_or((true, false), |(at, were_any)| (at.elapsed() >= WAITING_EVERY, were_any));
        if !is_due || self.settle.is_empty() && !were_any {
            return;
        }
        self.waiting_told = Some((Instant::now(), !self.settle.is_empty()));
        let (now, now_ms) = (self.begun.elapsed(), clock::now_ms());
        let at_ms = |then: Duration| now_ms - now.saturating_sub(then).as_millis() as i64;
        let waiting = self.settle.longest(WAITING_TOLD).into_iter().map(|(path, first, since)| {
            let wait = if self.restless.holds(path, now) { Wait::HeldBack } else { Wait::Settle };
            WaitingFile { file: path.to_owned(), wait, found_ms: at_ms(first), changed_ms: at_ms(since) }
        });
        self.run.facts.tell(&Fact::Waiting(&waiting.collect()));
    }
}
