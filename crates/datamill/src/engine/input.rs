//! The topic that is read, which may not be there yet.

use std::time::Duration;

use datamill_broker::{ErrorKind, Log, Result, Topic};

use super::Control;
use crate::report::chain;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The topic. Where the log makes topics on first use and `waits`, one that is missing is waited for: the first upload
/// makes it. A reader never does, since its name may be mistyped. `None` once a stop is asked for.
///
/// # Errors
/// Those of the log, that there is no such topic among them.
pub(crate) fn topic(log: &dyn Log, name: &str, waits: bool, control: &Control) -> Result<Option<Topic>> {
    let mut told = false;
    loop {
        match log.topic(name) {
            Ok(topic) => {
                if told {
                    tracing::info!(topic = name, "the topic is there now: going on");
                }
                return Ok(Some(topic));
            }
            Err(error) if error.kind() == ErrorKind::UnknownTopic && waits && log.makes_topics() => {
                if !std::mem::replace(&mut told, true) {
                    let text = chain(&error);
                    let end = if text.ends_with('?') { "" } else { "." };
                    tracing::warn!("{text}{end} Waiting for it: the first upload to it makes it");
                }
            }
            Err(error) => return Err(error),
        }
        if control.stopping().is_some() {
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
