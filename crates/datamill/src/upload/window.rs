//! How many bytes may be on their way to the log: about what it takes in half a minute.
//!
//! A record that is not acknowledged in time (five minutes on Kafka, `delivery.timeout.ms`) is given up, and its file begins
//! anew. Over a slow link, or below a quota, a queue that is full would take longer than that, again and again. And a record
//! bears the time at which it was handed over, by which readers tell an upload that was cut off from one that is slow.
//!
//! ```text
//!   acknowledged soon ─▶ wider, up to what was asked for       acknowledged late ─▶ narrower       given up ─▶ as at the start
//! ```

use std::time::Duration;

/// What may be on its way before anything was acknowledged.
const FIRST: usize = 4 << 20;
/// It never gets narrower than this.
const LEAST: usize = 256 << 10;
/// Acknowledged sooner than this, the log takes more.
const SOON: Duration = Duration::from_secs(15);
/// Acknowledged later than this, it has too much.
const LATE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    most: usize,
    now: usize,
}

impl Window {
    /// A window of at most so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { most, now: FIRST.min(most) }
    }

    /// Whether so many bytes may follow those that are on their way; one record always may.
    pub(super) fn has_room(&self, in_flight: usize, bytes: usize) -> bool {
        in_flight == 0 || in_flight + bytes <= self.now
    }

    /// A record of so many bytes was acknowledged, this long after it was handed over.
    pub(super) fn acknowledged(&mut self, bytes: usize, took: Duration) {
        if took < SOON {
            self.now = self.now.saturating_add(bytes).min(self.most);
        } else if took > LATE {
            self.now = self.now.saturating_sub(bytes).max(LEAST.min(self.most));
        }
    }

    /// A record was given up.
    pub(super) fn given_up(&mut self) {
        self.now = self.now.min(FIRST);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Sends records over a link that takes so many bytes a second, and answers the longest time to an acknowledgement in
    /// seconds, the first records left out, and the widest window.
    fn sent(most: usize, record: usize, rate: usize, seconds: usize, skip: usize) -> (usize, usize) {
        let mut window = Window::new(most);
        let (mut on_its_way, mut in_flight, mut credit) = (VecDeque::new(), 0, 0);
        let (mut longest, mut widest) = (0, 0);
        for now in 0..seconds {
            while window.has_room(in_flight, record) {
                on_its_way.push_back(now);
                in_flight += record;
            }
            widest = widest.max(in_flight);
            credit += rate;
            while credit >= record
                && let Some(since) = on_its_way.pop_front()
            {
                (credit, in_flight) = (credit - record, in_flight - record);
                window.acknowledged(record, Duration::from_secs((now - since) as u64));
                if now >= skip {
                    longest = longest.max(now - since);
                }
            }
        }
        (longest, widest)
    }

    #[test]
    fn over_a_slow_link_no_record_waits_until_it_is_given_up() {
        for rate in [20_000, 55_000, 200_000] {
            let (longest, _) = sent(64_000_000, 524_288, rate, 3_000, 0);
            assert!(longest < 250, "{rate} bytes a second: {longest} s");
            let (longest, widest) = sent(64_000_000, 524_288, rate, 3_000, 1_000);
            assert!(longest <= 60, "{rate} bytes a second: {longest} s");
            assert!(widest >= 524_288);
        }
    }

    #[test]
    fn a_fast_link_gets_all_that_was_asked_for() {
        let (_, widest) = sent(64_000_000, 524_288, 100_000_000, 20, 0);
        assert!(widest > 63_000_000, "{widest}");
        let (_, widest) = sent(1_000_000, 524_288, 100_000_000, 20, 0);
        assert_eq!(widest, 524_288);
    }

    #[test]
    fn one_record_may_always_go_and_a_record_that_was_given_up_makes_it_narrow_again() {
        let mut window = Window::new(64_000_000);
        assert!(window.has_room(0, 100_000_000));
        window.acknowledged(60_000_000, Duration::ZERO);
        assert!(window.has_room(40_000_000, 1));
        window.given_up();
        assert!(!window.has_room(FIRST, 1) && window.has_room(FIRST - 1, 1));
    }
}
