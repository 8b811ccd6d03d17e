//! The tables of the file, how a connection to it is set up, and which files are refused.
//!
//! ```text
//! file       SQLite 3, application_id "DMLG", user_version = VERSION, WAL
//! log        one row: id, a UUID made with the file
//! topic      number, name (`deleted/ID`: it was deleted), id (UUID), retention_ms (NULL: for ever), swept_ms (last look
//!            for expired records); no row ever goes, so that no number comes again
//! partition  number, topic, partition (from 0), first and next offset; `next` never shrinks
//! record     place = partition.number << 40 | offset, timestamp (ms since the epoch), key, headers (see `headers`), value
//! consumer_group  number, name, epoch (raised whenever ownership changes), instance and process id of the last owner
//! position   one row for each group and partition: next offset wanted, text
//! state      one row for each group and key
//! state_change  one row for each group and key that was ever changed: the number of its newest change, over all groups
//! ```
//! A partition is one range of `record`, in order of its offsets. At most 2^22 partitions, of 2^40
//! records each, over the life of a file.

use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::file::{kind_of, words};
use crate::error::{Error, ErrorKind, Result};

/// "DMLG": says to everybody that the file is datamill's.
const APPLICATION_ID: i32 = 0x444d_4c47;
/// Version of the tables. Version 1 had no `state_change`.
const VERSION: i32 = 2;
/// Bytes of a page. Large enough that a chunk of 512 KiB is not scattered over a hundred pages, small
/// enough that a commit of one small record does not write much more than the record.
const PAGE_BYTES: i32 = 16 << 10;
/// Pages in the write-ahead log from which a writer copies them into the file: 32 MiB, so that a bulk
/// of large records pays for few of these copies.
const CHECKPOINT_PAGES: i32 = 2048;
/// Bytes that the write-ahead log keeps on the disk when it is empty.
const WAL_KEPT_BYTES: i64 = 64 << 20;
/// How long a connection sleeps before it asks again for a lock that another process holds, and how
/// often it asks. SQLite's own waiting grows to 100 ms, which writers that take turns would feel.
const BUSY_SLEEP: Duration = Duration::from_micros(500);
const BUSY_TRIES: i32 = 10_000;

/// Bits of a place that hold the offset.
const OFFSET_BITS: u32 = 40;
/// Offsets are below this.
pub(super) const OFFSETS: i64 = 1 << OFFSET_BITS;
/// Numbers of partitions are below this.
pub(super) const PARTITIONS: i64 = 1 << (62 - OFFSET_BITS);

/// Place of a record: the key of its row.
pub(super) fn place(partition_number: i64, offset: i64) -> i64 {
    debug_assert!((0..=OFFSETS).contains(&offset));
    (partition_number << OFFSET_BITS) + offset
}

/// The offset in a place.
pub(super) fn offset_of(place: i64) -> i64 {
    place & (OFFSETS - 1)
}

const TABLES: &str = "
CREATE TABLE log (id TEXT NOT NULL) STRICT;
CREATE TABLE topic (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    id TEXT NOT NULL,
    retention_ms INTEGER,
    swept_ms INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE partition (
    number INTEGER PRIMARY KEY,
    topic INTEGER NOT NULL REFERENCES topic (number),
    partition INTEGER NOT NULL,
    first INTEGER NOT NULL DEFAULT 0,
    next INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, partition)
) STRICT;
CREATE TABLE record (
    place INTEGER PRIMARY KEY,
    timestamp INTEGER NOT NULL,
    key BLOB,
    headers BLOB,
    value BLOB
) STRICT;
CREATE TABLE consumer_group (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    epoch INTEGER NOT NULL DEFAULT 0,
    instance TEXT NOT NULL DEFAULT '',
    process INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE position (
    consumer_group INTEGER NOT NULL REFERENCES consumer_group (number),
    partition INTEGER NOT NULL REFERENCES partition (number),
    next INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (consumer_group, partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE state (
    consumer_group INTEGER NOT NULL REFERENCES consumer_group (number),
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (consumer_group, key)
) STRICT;
";

const TABLES_OF_VERSION_2: &str = "
CREATE TABLE state_change (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    consumer_group INTEGER NOT NULL REFERENCES consumer_group (number),
    key TEXT NOT NULL,
    UNIQUE (consumer_group, key)
) STRICT;
INSERT INTO state_change (consumer_group, key) SELECT consumer_group, key FROM state;
";

/// Opens the file, makes its tables if it is empty, and gives its id.
pub(super) fn open(path: &std::path::Path, name: &str) -> Result<(Connection, String)> {
    let failed = |error: rusqlite::Error| refusal(name, error);
    let mut connection = raw(path).map_err(failed)?;
    if is_foreign(&connection).map_err(failed)? {
        let text = format!("`{name}` is a database of another program: choose another file for the log");
        return Err(Error::new(ErrorKind::Corrupt, text));
    }
    if connection.is_readonly("main").map_err(failed)? {
        let text = format!("log file `{name}` cannot be written: change its permissions, or choose another file");
        return Err(Error::new(ErrorKind::Denied, text));
    }
    connection.pragma_update(None, "page_size", PAGE_BYTES).map_err(failed)?;
    use_wal(&connection).map_err(failed)?;
    set_up(&connection).map_err(failed)?;
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let version: i32 = tx.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    match version {
        VERSION => {}
        1 => {
            tx.execute_batch(TABLES_OF_VERSION_2).map_err(failed)?;
            tx.pragma_update(None, "user_version", VERSION).map_err(failed)?;
        }
        0 => {
            tx.execute_batch(TABLES).map_err(failed)?;
            tx.execute_batch(TABLES_OF_VERSION_2).map_err(failed)?;
            let id = uuid::Uuid::new_v4().to_string();
            tx.execute("INSERT INTO log (id) VALUES (?1)", [id]).map_err(failed)?;
            tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
            tx.pragma_update(None, "user_version", VERSION).map_err(failed)?;
        }
        other => {
            let text = format!(
                "log file `{name}` was made by another version of datamill (tables of version {other}, known here is \
                 {VERSION}): use that version, or choose another file"
            );
            return Err(Error::new(ErrorKind::Corrupt, text));
        }
    }
    let id = tx.query_row("SELECT id FROM log", [], |row| row.get(0)).map_err(failed)?;
    tx.commit().map_err(failed)?;
    Ok((connection, id))
}

/// One more connection to a file that [`open`] accepted.
pub(super) fn connect(path: &std::path::Path) -> rusqlite::Result<Connection> {
    let connection = raw(path)?;
    set_up(&connection)?;
    Ok(connection)
}

fn raw(path: &std::path::Path) -> rusqlite::Result<Connection> {
    // Without SQLITE_OPEN_URI: a name is a name.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(|tries| {
        std::thread::sleep(BUSY_SLEEP);
        tries < BUSY_TRIES
    }))?;
    Ok(connection)
}

/// What holds for a connection and not for the file. FULL syncs the write-ahead log at each commit;
/// the `fullfsync`s make that reach the disk on macOS and mean nothing elsewhere.
fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Turns the write-ahead log on. SQLite does not wait when another process does the same at once.
fn use_wal(connection: &Connection) -> rusqlite::Result<()> {
    let mut tries = 0;
    loop {
        let mode = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            Err(error) if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) || tries > BUSY_TRIES => {
                return Err(error);
            }
            Ok(mode) if tries > BUSY_TRIES => {
                let text = format!("the write-ahead log cannot be used, journal mode `{mode}`");
                return Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(14), Some(text)));
            }
            _ => std::thread::sleep(BUSY_SLEEP),
        }
        tries += 1;
    }
}

/// A database with something in it that does not bear our mark.
fn is_foreign(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let application = number("application_id")?;
    if application == APPLICATION_ID {
        return Ok(false);
    }
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    // Between the two questions another process may have made the tables.
    let ours = number("application_id")? == APPLICATION_ID;
    Ok(!ours && (application != 0 || tables > 0 || number("user_version")? != 0))
}

/// Why a file cannot be opened as a log, in words for the person who named it.
fn refusal(name: &str, error: rusqlite::Error) -> Error {
    let kind = kind_of(&error);
    let text = match (error.sqlite_error_code(), kind) {
        (Some(ErrorCode::NotADatabase), _) => {
            format!("`{name}` is no log of datamill: choose another file for the log")
        }
        (Some(ErrorCode::CannotOpen), _) => {
            format!("log file `{name}` cannot be opened: check that its folder can be written")
        }
        // Also where there is no room for the memory that the processes share.
        (Some(ErrorCode::SystemIoFailure), _) => {
            format!("log file `{name}` cannot be opened: check that its disk has room and works")
        }
        (_, ErrorKind::Denied) => format!("log file `{name}` or its folder cannot be written: change the permissions"),
        (_, ErrorKind::NoSpace) => format!("no room for log file `{name}`: free some space on its disk"),
        _ => format!("log file `{name}` cannot be opened"),
    };
    let kind = if kind == ErrorKind::Fatal { ErrorKind::Settings } else { kind };
    match error.sqlite_error_code() {
        // The text says it all.
        Some(ErrorCode::NotADatabase | ErrorCode::CannotOpen) => Error::new(kind, text),
        _ => Error::with_source(kind, text, words(&error)),
    }
}
