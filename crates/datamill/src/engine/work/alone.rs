//! User code that may take the process down: files that ended it run alone, and a call that is overdue ends the program.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Pool;

/// How long somebody may take to say where the calls hang that end the program: what they need may be in use there.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

impl Pool {
    /// Whether no file is taken up for now.
    pub(in crate::engine) fn hold(&self, held: bool) {
        let mut queue = self.shared.queue.lock();
        if std::mem::replace(&mut queue.held, held) && !held {
            self.shared.wake.notify_all();
        }
    }

    /// It is known of more files that they ended the process.
    pub(in crate::engine) fn sort_out(&self) {
        self.shared.queue.lock().sort_out();
        self.shared.wake.notify_all();
    }

    /// Where a call that is overdue ends the program: gives up those that are, and those that have not begun, and tells
    /// the workers to end. Answers the paths of the first.
    pub(in crate::engine) fn end_overdue(&self) -> Vec<Arc<str>> {
        if self.shared.settings.needs.tell_overdue.is_none() {
            return Vec::new();
        }
        let mut queue = self.shared.queue.lock();
        let overdue = queue.end_overdue();
        if overdue.is_empty() {
            return Vec::new();
        }
        queue.stopping = true;
        self.shared.stopping.store(true, Relaxed);
        drop(queue);
        self.shared.wake.notify_all();
        let noted = overdue.into_iter().map(|call| {
            call.slot.iter().for_each(|slot| slot.is_overdue());
            Arc::clone(&call.info.version.path)
        });
        noted.collect()
    }

    /// Lets user code say where these calls hang.
    pub(in crate::engine) fn tell_overdue(&self, paths: &[Arc<str>]) {
        let Some(tell) = self.shared.settings.needs.tell_overdue.clone() else { return };
        let (done, told) = crossbeam_channel::bounded(1);
        let paths = paths.to_vec();
        let thread = std::thread::Builder::new().name("datamill-overdue".to_owned());
        let spawned = thread.spawn(move || {
            (tell.0)(&paths);
            // nobody waits any more where it took too long
            let _ = done.send(());
        });
        if spawned.is_err() || told.recv_timeout(TOLD_WITHIN).is_err() {
            tracing::warn!("where the calls hang could not be told");
        }
    }
}
