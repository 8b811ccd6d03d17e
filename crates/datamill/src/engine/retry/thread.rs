//! The retry thread: it looks at the group's state and reads the chunks of failed files, and looks in between.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use datamill_broker::{Error, Log};
use parking_lot::Mutex;

use super::Tried;
use super::look::{Known, Look, Seen};
use super::sweep::{Sweep, Wanted};
use crate::assemble::{Budget, InstanceId, InstanceIds, SpillFolder, WholeFile};
use crate::engine::purpose::Answers;
use crate::engine::source::Source;
use crate::engine::state::GroupState;
use crate::facts::Counters;

/// After this time without a question the reader is given up.
const REST_AFTER: Duration = Duration::from_secs(5);

/// What the retry thread is asked. There is one of each at a time.
pub(super) enum Ask {
    /// The entries of the group's state.
    Look(Look),
    /// The files of entries, in the order of their places.
    Read(Vec<Wanted>),
}

/// What it answers.
pub(super) enum Found {
    /// To a look. `None` where it could not be told, and that was said.
    Seen(Option<Seen>),
    /// To a look: the account may not read the state.
    Denied(Error),
    Whole(InstanceId, Box<WholeFile>),
    /// Chunks are gone from the log.
    Gone(InstanceId),
    /// It cannot be read in this run, and that was said.
    Unreadable(InstanceId),
    /// All files that were asked for have been answered, but where the program stops or nobody waits for one.
    Read,
}

/// What the retry thread works with.
pub(in crate::engine) struct RetrySettings<'a> {
    pub(in crate::engine) log: &'a dyn Log,
    pub(in crate::engine) topic: &'a str,
    pub(in crate::engine) source: &'a Source,
    pub(in crate::engine) group: &'a str,
    pub(in crate::engine) state: &'a GroupState<'a>,
    /// Which failures are this program's to answer.
    pub(in crate::engine) answers: Answers,
    /// Whether files are tried that nobody asks for.
    pub(in crate::engine) unasked: bool,
    pub(in crate::engine) tried: &'a Tried,
    pub(in crate::engine) budget: Arc<Budget>,
    pub(in crate::engine) spill: &'a SpillFolder,
    /// Bytes of entries that wait to be tried.
    pub(in crate::engine) entries_bytes: usize,
    /// Bytes of filling files above which these go to disk.
    pub(in crate::engine) filling_bytes: usize,
    /// Bytes of whole files above which no more is read: half of what holds the reading of other files.
    pub(in crate::engine) whole_bytes: usize,
    pub(in crate::engine) counters: &'a Counters,
}

/// Nobody waits for an answer any more.
pub(super) struct Alone;

/// The files that the retry thread reads and somebody waits for.
pub(super) type Awaited = Arc<Mutex<InstanceIds>>;

/// The ends of the retry thread.
pub(super) struct Questions {
    pub(super) asked: Receiver<Ask>,
    pub(super) finds: Sender<Found>,
    pub(super) awaited: Awaited,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) known: Known,
}

impl Questions {
    pub(super) fn answer(&self, found: Found) -> Result<(), Alone> {
        self.finds.send(found).map_err(|_| Alone)
    }

    pub(super) fn awaits(&self, id: InstanceId) -> bool {
        self.awaited.lock().contains(&id)
    }

    fn look(&mut self, settings: &RetrySettings<'_>, look: &Look) -> Result<(), Alone> {
        let seen = settings.look(look, &mut self.known, &self.stop);
        self.answer(seen.map_or_else(Found::Denied, Found::Seen))
    }

    /// Answers a look that is asked for while files are read.
    pub(super) fn look_in_between(&mut self, settings: &RetrySettings<'_>) -> Result<(), Alone> {
        match self.asked.try_recv() {
            Ok(Ask::Look(look)) => self.look(settings, &look),
            // files are asked for once those before are answered
            Ok(Ask::Read(_)) | Err(TryRecvError::Empty) => Ok(()),
            Err(TryRecvError::Disconnected) => Err(Alone),
        }
    }
}

impl RetrySettings<'_> {
    /// Answers questions until nobody asks any more.
    pub(super) fn run(&self, mut questions: Questions) {
        let mut sweep = Sweep::new(self);
        loop {
            let answered = match questions.asked.recv_timeout(REST_AFTER) {
                Ok(Ask::Look(look)) => questions.look(self, &look),
                Ok(Ask::Read(files)) => sweep.read(files, &mut questions).and_then(|()| questions.answer(Found::Read)),
                Err(RecvTimeoutError::Timeout) => {
                    sweep.rest();
                    Ok(())
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if answered.is_err() {
                return;
            }
        }
    }
}
