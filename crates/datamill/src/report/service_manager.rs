//! What the service manager is told that started the program (systemd, `Type=notify`): that it is set up, that it still works,
//! and that it ends. It is told by datagrams to the socket that `NOTIFY_SOCKET` names.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use super::periodic::{Moment, Periodic};
use crate::facts::Counters;

/// How often the service manager is told where it does not ask for it.
const INTERVAL: Duration = Duration::from_secs(30);

/// Tells the service manager as long as it is there.
pub(crate) struct ServiceManager {
    _thread: Periodic,
}

impl ServiceManager {
    /// `None` where no service manager wants to be told.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub(crate) fn start(counters: Arc<Counters>) -> io::Result<Option<Self>> {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(None);
        }
        let interval = sd_notify::watchdog_enabled().map_or(INTERVAL, |limit| limit / 3);
        let mut watched = Watched::default();
        let thread = Periodic::start("service-manager", interval, move |moment| {
            let told = match moment {
                Moment::First => sd_notify::notify(&[NotifyState::Ready, NotifyState::Watchdog]),
                Moment::Interval if watched.works(counters.turns()) => sd_notify::notify(&[NotifyState::Watchdog]),
                Moment::Interval => Ok(()),
                Moment::Last => sd_notify::notify(&[NotifyState::Stopping, NotifyState::Watchdog]),
            };
            if let Err(error) = told {
                tracing::debug!(%error, "the service manager could not be told");
            }
        })?;
        Ok(Some(Self { _thread: thread }))
    }
}

/// Whether the thread that steers the work comes round.
#[derive(Default)]
struct Watched {
    turns: u64,
}

impl Watched {
    /// Before its first turn a program may look at a large folder or topic for a long time, and nothing is known of it.
    fn works(&mut self, turns: u64) -> bool {
        let before = std::mem::replace(&mut self.turns, turns);
        turns == 0 || turns != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_not_begun_or_comes_round_works_and_who_stands_still_does_not() {
        let mut watched = Watched::default();
        assert_eq!(
            [0, 0, 4, 9, 9, 9, 10].map(|turns| watched.works(turns)),
            [true, true, true, true, false, false, true]
        );
    }
}
