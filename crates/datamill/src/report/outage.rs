//! What is said last where a program was stopped while its log did not answer.

use datamill_broker::Log;

use super::clock;
use crate::control::Control;

/// Says since when the log is away, how that shows, and what it means, where a stop was asked for and it is so.
pub(crate) fn tell_outage(log: &dyn Log, control: &Control, meaning: &str) {
    let Some(outage) = log.outage().filter(|_| control.stopping().is_some()) else { return };
    let since_ms = clock::now_ms().saturating_sub(i64::try_from(outage.lasts.as_millis()).unwrap_or(i64::MAX));
    let (log, since, cause) = (&outage.log, clock::local_time_text(since_ms), &outage.cause);
    tracing::warn!("stopped while {log} was away, since {since}: {cause}. {meaning}");
}
