//! How long things take, counted in steps that grow by half a decade.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper ends of the steps but for the last, which has none: 1 ms to 1,000 s.
const BOUNDS_US: [u64; 13] = [
    1_000,
    3_000,
    10_000,
    30_000,
    100_000,
    300_000,
    1_000_000,
    3_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    300_000_000,
    1_000_000_000,
];

/// Times, to be shared between threads.
// on lines of the cache of its own, as counts are
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Times {
    steps: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Times {
    pub(super) fn add(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let step = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        self.steps[step].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    pub(super) fn histogram(&self) -> Histogram {
        Histogram {
            steps: self.steps.each_ref().map(|step| step.load(Relaxed)),
            sum: Duration::from_micros(self.sum_us.load(Relaxed)),
        }
    }
}

/// Times that something took, up to one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram {
    steps: [u64; BOUNDS_US.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

impl Histogram {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.steps.iter().sum()
    }

    /// The steps: the upper end in seconds, infinite for the last one, and how many times fell into the step. A time that
    /// is in one step is in no other.
    pub fn steps(&self) -> impl Iterator<Item = (f64, u64)> {
        let ends = BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        ends.zip(self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_step_that_it_does_not_exceed() {
        let times = Times::default();
        for us in [0, 1_000, 1_001, 2_999_999, 1_000_000_001] {
            times.add(Duration::from_micros(us));
        }
        let histogram = times.histogram();
        let counted: Vec<(f64, u64)> = histogram.steps().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(0.001, 2), (0.003, 1), (3.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((histogram.count(), histogram.sum.as_secs()), (5, 1003));
    }
}
