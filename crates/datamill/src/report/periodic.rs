//! A thread that does one thing at the start, then every so often, and once more at the end.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

/// When it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    First,
    Interval,
    Last,
}

/// The running thread. Dropping it does the last turn and waits for it.
pub(super) struct Periodic {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Periodic {
    pub(super) fn start(
        name: &str,
        interval: Duration,
        mut turn: impl FnMut(Moment) + Send + 'static,
    ) -> io::Result<Self> {
        // Nothing is ever sent: the end of the channel is the signal.
        let (stop, stopped) = bounded::<()>(0);
        let interval = interval.max(Duration::from_millis(1));
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            turn(Moment::First);
            let mut next = Instant::now() + interval;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_deadline(next) {
                turn(Moment::Interval);
                next = (next + interval).max(Instant::now());
            }
            turn(Moment::Last);
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Periodic {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported by the panic hook; the program ends all the same.
            let _ = thread.join();
        }
    }
}
