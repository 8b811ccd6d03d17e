//! A broker that makes an account wait, since a quota is used up: it answers, says for how long it reads nothing further
//! from the client, and keeps to that. So a program is silent that has nothing wrong with it.
//!
//! ```text
//!   answer ─▶ librdkafka ─▶ heard (the client's quota) ─▶ Throttle ──1 s in all──▶ one line, a line every few minutes,
//!                                                                                 a line once it is over
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::client::Client;
use tracing::{info, warn};

use super::native;
use super::watch::{REMINDER, Watch};

/// Waits that are shorter in all are not worth a line.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// A quota is used up again and again: it is over once nothing was heard for so long after the last wait.
const OVER_AFTER: Duration = Duration::from_secs(15);

/// What a client does that a quota limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quota {
    Sending,
    Reading,
}

impl Quota {
    fn name(self) -> &'static str {
        match self {
            Self::Sending => "producer_byte_rate",
            Self::Reading => "consumer_byte_rate",
        }
    }
}

/// Who hears of a client's waits, by the address of the client.
static LISTENERS: Mutex<BTreeMap<usize, (Weak<Watch>, Quota)>> = Mutex::new(BTreeMap::new());

/// Lets the watch of the log hear for how long a broker makes this client wait. MUST come before the client is used.
pub(super) fn listen<C: ClientContext>(client: &Client<C>, watch: &Arc<Watch>, quota: Quota) {
    let mut listeners = LISTENERS.lock();
    listeners.retain(|_, (watch, _)| watch.strong_count() > 0);
    listeners.insert(native::on_throttle(client), (Arc::downgrade(watch), quota));
}

/// A broker makes a client wait for so many milliseconds.
pub(super) fn heard(client: usize, ms: u64) {
    let listener = LISTENERS.lock().get(&client).and_then(|(watch, quota)| Some((watch.upgrade()?, *quota)));
    if let Some((watch, quota)) = listener {
        watch.throttle.waits(Duration::from_millis(ms), quota, Instant::now());
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Throttle {
    waits: Mutex<Option<Waits>>,
}

/// Waits that follow on each other.
struct Waits {
    quota: Quota,
    since: Instant,
    /// When the last one is over.
    until: Instant,
    /// All of them, each moment once.
    sum: Duration,
    told: Option<Instant>,
}

/// What there is to say.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Begins(Quota, Duration),
    GoesOn(Quota, Duration, Duration),
    Over(Duration),
}

impl Throttle {
    fn waits(&self, time: Duration, quota: Quota, now: Instant) {
        if time.is_zero() {
            return;
        }
        let mut waits = self.waits.lock();
        let waits = waits.get_or_insert(Waits { quota, since: now, until: now, sum: Duration::ZERO, told: None });
        let until = now + time;
        waits.sum += until.saturating_duration_since(waits.until.max(now));
        waits.until = waits.until.max(until);
        waits.quota = quota;
    }

    /// Whether it was told, and is so still.
    pub(super) fn lasts(&self) -> bool {
        self.waits.lock().as_ref().is_some_and(|waits| waits.told.is_some())
    }

    /// Says what there is to say.
    pub(super) fn tell(&self, servers: &str) {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        match self.line(Instant::now()) {
            Some(Line::Begins(quota, sum)) => warn!(
                "broker `{servers}` throttles this account: it makes it wait for {}, by a quota such as `{}`. Nothing is \
                lost, the work takes longer",
                seconds(sum),
                quota.name()
            ),
            Some(Line::GoesOn(quota, sum, lasts)) => warn!(
                "broker `{servers}` still throttles this account: it made it wait for {} of the last {}, by a quota such as \
                `{}`",
                seconds(sum),
                seconds(lasts),
                quota.name()
            ),
            Some(Line::Over(sum)) => {
                info!("broker `{servers}` no longer throttles this account, which waited for {} in all", seconds(sum));
            }
            None => {}
        }
    }

    fn line(&self, now: Instant) -> Option<Line> {
        let mut all = self.waits.lock();
        let waits = all.as_mut()?;
        let (sum, lasts) = (waits.sum, now.duration_since(waits.since));
        if now > waits.until + OVER_AFTER {
            let told = waits.told;
            *all = None;
            return told.map(|_| Line::Over(sum));
        }
        match waits.told {
            None if sum < WORTH_A_LINE => None,
            None => {
                waits.told = Some(now);
                Some(Line::Begins(waits.quota, sum))
            }
            Some(told) if now.duration_since(told) < REMINDER => None,
            Some(_) => {
                waits.told = Some(now);
                Some(Line::GoesOn(waits.quota, sum.min(lasts), lasts))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_told_once_and_again_and_when_they_are_over() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let wait = |ms, now| throttle.waits(Duration::from_millis(ms), Quota::Sending, at(now));
        assert_eq!(throttle.line(at(0)), None);
        wait(0, 0);
        wait(600, 0);
        assert_eq!(throttle.line(at(10)), None, "too short");
        // two connections wait at the same time
        wait(600, 100);
        assert_eq!(throttle.line(at(110)), None);
        assert!(!throttle.lasts());
        wait(4_000, 1_000);
        assert_eq!(throttle.line(at(1_500)), Some(Line::Begins(Quota::Sending, Duration::from_millis(4_700))));
        assert_eq!(throttle.line(at(1_600)), None);
        assert!(throttle.lasts());
        for second in (5..200).step_by(5) {
            wait(2_000, second * 1_000);
        }
        let told = throttle.line(at(200_000));
        assert_eq!(told, Some(Line::GoesOn(Quota::Sending, Duration::from_millis(82_700), Duration::from_secs(200))));
        assert_eq!(throttle.line(at(205_000)), None, "it may come again");
        assert_eq!(throttle.line(at(213_000)), Some(Line::Over(Duration::from_millis(82_700))));
        assert!(!throttle.lasts());
        assert_eq!(throttle.line(at(300_000)), None);
    }

    #[test]
    fn short_waits_that_are_over_are_forgotten_without_a_line() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        throttle.waits(Duration::from_millis(900), Quota::Reading, start);
        assert_eq!(throttle.line(start + Duration::from_secs(30)), None);
        throttle.waits(Duration::from_millis(900), Quota::Reading, start + Duration::from_secs(31));
        assert_eq!(throttle.line(start + Duration::from_secs(32)), None);
    }
}
