//! What was counted in the last minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::facts::Counts;

/// What counts as lately.
const LATELY: Duration = Duration::from_secs(60);

/// Counts of some moments of the last minute, and the last moment before it.
#[derive(Debug)]
pub(super) struct Lately(Mutex<VecDeque<(Instant, Counts)>>);

impl Lately {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(VecDeque::from([(now, Counts::default())])))
    }

    /// Notes the counts of this moment. Call it every few seconds.
    pub(super) fn step(&self, now: Instant, counts: Counts) {
        let mut moments = self.0.lock();
        moments.push_back((now, counts));
        while moments.get(1).is_some_and(|(second, _)| now - *second >= LATELY) {
            moments.pop_front();
        }
    }

    /// What was counted since about a minute ago, or since the start, and in what time that was.
    pub(super) fn until(&self, now: Instant, counts: &Counts) -> (Counts, Duration) {
        let first = self.0.lock().front().copied();
        first.map_or_else(Default::default, |(then, before)| (counts.since(&before), now - then))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_a_minute_does_not_count() {
        let begun = Instant::now();
        let lately = Lately::new(begun);
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let counts = |done: u64| Counts { done, ..Counts::default() };
        assert_eq!(lately.until(at(2), &counts(8)), (counts(8), Duration::from_secs(2)));
        for seconds in (5..=300).step_by(5) {
            lately.step(at(seconds), counts(seconds));
        }
        assert_eq!(lately.until(at(302), &counts(302)), (counts(62), Duration::from_secs(62)));
        assert!(lately.0.lock().len() <= 14);
    }
}
