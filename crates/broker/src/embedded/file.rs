//! What all parts of one opened log share: its file, the turn to write, and the news of a commit.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, FairMutex, FairMutexGuard, Mutex};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::{location, schema};
use crate::error::{Error, ErrorKind, Result};
use crate::own_files::Identity;

/// Bytes of the write-ahead log from which a writer stops the others for a moment to empty it. Where
/// two processes write at once, one always adds to it while the other copies, and it would grow for ever.
const WAL_TOO_LONG_BYTES: u64 = 128 << 20;

/// One opened file.
pub(super) struct LogFile {
    /// The real path.
    pub(super) path: PathBuf,
    /// The path as it was given, for people.
    pub(super) name: String,
    /// See [`crate::Properties::options`].
    pub(super) options: String,
    /// The id in the file.
    pub(super) id: String,
    /// Told after each commit of this process, so that its readers need not find out by looking.
    pub(super) written: Signal,
    /// Writers of this process take turns in the order in which they came: a busy publisher would
    /// otherwise keep the committer waiting, as SQLite's lock is not fair.
    turn: FairMutex<()>,
    /// Which file it is.
    identity: Option<Identity>,
}

/// A write that has the lock of the file.
pub(super) struct Writing<'a> {
    /// The transaction.
    pub(super) tx: Transaction<'a>,
    _turn: FairMutexGuard<'a, ()>,
}

impl Writing<'_> {
    /// Makes it last. Where this fails, the transaction was rolled back.
    pub(super) fn commit(self) -> rusqlite::Result<()> {
        self.tx.commit()
    }
}

/// The files that are open in this process.
static OPEN: Mutex<Vec<Weak<LogFile>>> = Mutex::new(Vec::new());

/// The files that are open in this process.
pub(super) fn open_files() -> Vec<Arc<LogFile>> {
    OPEN.lock().iter().filter_map(Weak::upgrade).collect()
}

impl LogFile {
    /// Opens or makes the file.
    pub(super) fn open(path: &str, options: &str) -> Result<(Arc<Self>, Connection)> {
        let real = location::resolve(path)?;
        let (connection, id) = schema::open(&real, path)?;
        let file = Self {
            identity: Identity::at(&real),
            path: real,
            name: path.to_owned(),
            options: options.to_owned(),
            id,
            written: Signal::default(),
            turn: FairMutex::new(()),
        };
        let file = Arc::new(file);
        let mut open = OPEN.lock();
        open.retain(|file| file.strong_count() > 0);
        open.push(Arc::downgrade(&file));
        Ok((file, connection))
    }

    /// One more connection.
    pub(super) fn connect(&self) -> Result<Connection> {
        schema::connect(&self.path).map_err(|error| self.failed("open", error))
    }

    /// Whether the file is still the one at its path. What is written to one that was moved, removed or replaced is in no
    /// log that the next program opens, so it must not count as written.
    pub(super) fn is_in_place(&self) -> bool {
        self.identity.is_none() || Identity::at(&self.path) == self.identity
    }

    /// The error for a file that [is not in its place](Self::is_in_place).
    pub(super) fn replaced(&self) -> Error {
        let text = format!(
            "the file of log `{}` was moved, removed or replaced while it was used: put it back and start again, or start \
             again to go on with what is there now",
            self.name
        );
        Error::new(ErrorKind::LogReplaced, text)
    }

    /// Begins to write: waits for the turn in this process, then for the lock of the file.
    pub(super) fn write<'a>(&'a self, connection: &'a mut Connection) -> rusqlite::Result<Writing<'a>> {
        let turn = self.turn.lock();
        Ok(Writing { tx: connection.transaction_with_behavior(TransactionBehavior::Immediate)?, _turn: turn })
    }

    /// Writes in one transaction; nothing where `work` fails.
    pub(super) fn in_one_step<T>(
        &self,
        connection: &mut Connection,
        what: &str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let step = |connection: &mut Connection| {
            let writing = self.write(connection)?;
            let answer = work(&writing.tx)?;
            writing.commit()?;
            Ok(answer)
        };
        if !self.is_in_place() {
            return Err(self.replaced());
        }
        let answer = step(connection).map_err(|error| self.failed(what, error))?;
        self.committed(connection);
        Ok(answer)
    }

    /// What follows each commit: tells those who wait, and keeps the write-ahead log short.
    pub(super) fn committed(&self, connection: &Connection) {
        self.written.tell();
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        if std::fs::metadata(wal).is_ok_and(|wal| wal.len() > WAL_TOO_LONG_BYTES) {
            let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            if let Err(error) = emptied {
                // What was committed is safe; the next commit tries again.
                tracing::warn!(log = self.name, error = %error, "the write-ahead log could not be emptied");
            }
        }
    }

    /// The error of a step that SQLite refused; `what` completes "cannot … log `x`".
    pub(super) fn failed(&self, what: &str, error: rusqlite::Error) -> Error {
        let kind = kind_of(&error);
        let mut text = format!("cannot {what} log `{}`", self.name);
        if kind == ErrorKind::NoSpace {
            text.push_str(": free some space on its disk");
        }
        Error::with_source(kind, text, words(&error))
    }
}

/// What SQLite says of an error: its text alone, since its source says the same again with a number.
pub(super) fn words(error: &rusqlite::Error) -> String {
    error.to_string()
}

/// What a caller can do about an error of SQLite.
pub(super) fn kind_of(error: &rusqlite::Error) -> ErrorKind {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            ErrorKind::Retry
        }
        Some(ErrorCode::DiskFull) => ErrorKind::NoSpace,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => ErrorKind::Denied,
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => ErrorKind::Corrupt,
        _ => ErrorKind::Fatal,
    }
}

/// Wakes those who wait for something to be written.
#[derive(Default)]
pub(super) struct Signal {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Signal {
    /// Something was written.
    pub(super) fn tell(&self) {
        *self.count.lock() += 1;
        self.changed.notify_all();
    }

    /// Waits until something was written since the last look, or for this time.
    pub(super) fn wait(&self, seen: &mut u64, time: Duration) {
        let mut count = self.count.lock();
        if *count == *seen {
            self.changed.wait_for(&mut count, time);
        }
        *seen = *count;
    }
}
