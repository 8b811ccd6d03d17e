//! Files that change after each of their deliveries, as the tables of a program do that reads the topic: sent each
//! time, they would be sent for ever. They are held back for longer and longer.
//!
//! ```text
//! delivery ── change ── delivery ── change ── …   each within a minute, ten times in a row
//!     then at most once in 1, 2, 4 … 60 minutes, until the file has been left alone for twice as long
//! ```
//!
//! Nothing is lost: the last version is sent once its time has come, or after a restart. A pure state machine: the
//! caller brings the time, as the span since a moment of its choice.

use std::collections::HashMap;
use std::time::Duration;

/// Deliveries in a row, each followed by a change, after which a file is held back.
pub(super) const IN_A_ROW: u32 = 10;

/// A change within this time after a delivery counts as one that follows it.
const FOLLOWS: Duration = Duration::from_secs(60);

/// First time that a file is held back for; doubled each time.
const FIRST_HOLD: Duration = Duration::from_secs(60);

/// Longest such time.
const LONGEST_HOLD: Duration = Duration::from_secs(3600);

/// Files of which several versions were sent, one soon after the other.
#[derive(Debug, Default)]
pub(super) struct Restless {
    files: HashMap<String, Row>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    /// When the newest version was sent.
    sent: Duration,
    /// Versions sent, one soon after the other.
    count: u32,
}

impl Row {
    /// How long after its newest version the file is held back.
    fn hold(&self) -> Option<Duration> {
        let times = self.count.checked_sub(IN_A_ROW)?;
        Some(FIRST_HOLD.saturating_mul(1 << times.min(10)).min(LONGEST_HOLD))
    }

    /// The span within which a change follows the newest version.
    fn follows(&self) -> Duration {
        self.hold().map_or(FOLLOWS, |hold| hold * 2)
    }
}

impl Restless {
    /// Takes down that a version of a file is sent of which another one was delivered before. Answers the time that
    /// the next one will be held back for, where that begins now.
    pub(super) fn sent_again(&mut self, path: &str, now: Duration) -> Option<Duration> {
        let first = Row { sent: now, count: 0 };
        let row = self.files.entry(path.to_owned()).or_insert(first);
        let follows = now.saturating_sub(row.sent) <= row.follows();
        *row = Row { sent: now, count: if follows { row.count + 1 } else { 1 } };
        row.hold().filter(|_| row.count == IN_A_ROW)
    }

    /// Whether the file is held back.
    pub(super) fn holds(&self, path: &str, now: Duration) -> bool {
        let until = self.files.get(path).and_then(|row| Some(row.sent + row.hold()?));
        until.is_some_and(|until| now < until)
    }

    /// How many files there are of which several versions were sent lately.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Forgets the files that have been left alone.
    pub(super) fn tidy(&mut self, now: Duration) {
        self.files.retain(|_, row| now.saturating_sub(row.sent) <= row.follows());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Sends a file as soon as it may be, with a change at once after each delivery.
    fn times_in(span: Duration) -> u64 {
        let (mut restless, mut sent) = (Restless::default(), 0);
        for now in (0..span.as_secs()).step_by(5).map(s) {
            if !restless.holds("a", now) {
                sent += 1;
                let held = restless.sent_again("a", now);
                assert_eq!(held.is_some(), sent == u64::from(IN_A_ROW), "it is told once, at {now:?}");
            }
            restless.tidy(now);
        }
        sent
    }

    #[test]
    fn a_file_that_changes_after_each_delivery_is_sent_less_and_less_often() {
        assert_eq!(times_in(s(50)), 10);
        assert_eq!(times_in(s(100)), 10);
        assert_eq!(times_in(s(3600)), 15);
        assert!(times_in(s(24 * 3600)) < 45);
    }

    #[test]
    fn a_file_that_changes_now_and_then_is_never_held_back() {
        let mut restless = Restless::default();
        for now in (0..1000).map(|round| s(round * 61)) {
            assert!(!restless.holds("a", now));
            assert_eq!(restless.sent_again("a", now), None);
        }
        restless.tidy(s(1_000_000));
        assert!(restless.files.is_empty());
    }

    #[test]
    fn a_file_that_was_left_alone_begins_anew() {
        let mut restless = Restless::default();
        (0..9).for_each(|now| assert_eq!(restless.sent_again("a", s(now)), None));
        assert_eq!(restless.sent_again("a", s(9)), Some(s(60)));
        assert!(restless.holds("a", s(68)) && !restless.holds("b", s(68)));
        assert!(!restless.holds("a", s(69)));
        assert_eq!(restless.sent_again("a", s(69)), None);
        assert!(restless.holds("a", s(69 + 119)), "twice as long");
        assert_eq!(restless.sent_again("a", s(69 + 241)), None);
        assert!(!restless.holds("a", s(69 + 242)), "it begins anew");
    }
}
