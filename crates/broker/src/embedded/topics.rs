//! Topics: their names, their settings, and what can be asked about them.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::append::LARGEST_RECORD;
use super::file::LogFile;
use super::schema::{OFFSETS, PARTITIONS, place};
use crate::contract::{NewTopic, Offsets, Topic, TopicSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::near::nearest;

/// Most partitions of one topic.
const MOST_PARTITIONS: i32 = 1024;
/// Longest name of a topic, as in Kafka.
const LONGEST_NAME: usize = 249;

/// Fails on what is no name of a topic.
pub(super) fn check_name(name: &str) -> Result<()> {
    let wrong = |why: &str| {
        let text = format!("`{}` is no name for a topic: {why}", name.escape_debug());
        Err(Error::new(ErrorKind::Settings, text))
    };
    if name.is_empty() {
        return wrong("it is empty");
    }
    if name.len() > LONGEST_NAME {
        return wrong("it is longer than 249 characters");
    }
    if name == "." || name == ".." {
        return wrong("`.` and `..` are not allowed");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return wrong("only `a-z A-Z 0-9 . _ -` are allowed");
    }
    Ok(())
}

/// The error for a topic that does not exist, with the names of those that were perhaps meant. `writes` as in
/// [`Error::unknown_topic`].
pub(super) fn unknown(file: &LogFile, connection: &Connection, name: &str, writes: bool) -> Error {
    // Without a list, the error is as true.
    let there = all(connection).unwrap_or_default();
    let near = nearest(name, there.iter().map(|topic| topic.name.as_str()), 3);
    Error::unknown_topic(name, &format!("in log `{}`", file.name), &near, &file.options, writes)
}

/// The error for a topic that was deleted while it was read.
pub(super) fn deleted(file: &LogFile, connection: &Connection, name: &str) -> Error {
    match find(connection, name) {
        Ok(Some(_)) => Error::topic_replaced(name),
        Ok(None) => Error::topic_deleted(name),
        Err(error) => file.failed("read", error),
    }
}

/// The error for a partition that does not exist.
pub(super) fn no_partition(name: &str, partition: i32, partitions: usize) -> Error {
    let text = format!("topic `{name}` has no partition {partition}: it has {partitions}, counted from 0");
    Error::new(ErrorKind::UnknownTopic, text)
}

/// Creates a topic.
pub(super) fn create(file: &LogFile, connection: &mut Connection, topic: &NewTopic) -> Result<()> {
    let name = &topic.name;
    check_name(name)?;
    if !(1..=MOST_PARTITIONS).contains(&topic.partitions) {
        let text = format!("topic `{name}` cannot have {} partitions: 1 to {MOST_PARTITIONS}", topic.partitions);
        return Err(Error::new(ErrorKind::Settings, text));
    }
    let mut retention_ms = None;
    for (key, value) in &topic.settings {
        if key != "retention.ms" {
            let text = format!("topic `{name}`: unknown setting `{key}`; the embedded log knows `retention.ms`");
            return Err(Error::new(ErrorKind::Settings, text));
        }
        retention_ms = match value.parse::<i64>() {
            Ok(-1) => None,
            Ok(ms) if ms > 0 => Some(ms),
            _ => {
                let text = format!(
                    "topic `{name}`: setting `retention.ms` cannot be `{value}`: milliseconds above 0, or -1 for ever"
                );
                return Err(Error::new(ErrorKind::Settings, text));
            }
        };
    }
    let created = file.in_one_step(connection, "create a topic in", |tx| {
        if find(tx, name)?.is_some() {
            return Ok(Created::WasThere);
        }
        insert(tx, name, topic.partitions, retention_ms)
    })?;
    match created {
        Created::Done => Ok(()),
        Created::WasThere => {
            let text = format!("topic `{name}` exists already in log `{}`", file.name);
            Err(Error::new(ErrorKind::Exists, text))
        }
        Created::NoNumbers => Err(no_numbers(file)),
    }
}

/// The topic, created with one partition where it does not exist.
pub(super) fn for_use(file: &LogFile, connection: &mut Connection, name: &str) -> Result<Topic> {
    check_name(name)?;
    let read = |error| file.failed("read", error);
    if let Some(topic) = find(connection, name).map_err(read)? {
        return Ok(topic);
    }
    let mut is_new = false;
    let made = file.in_one_step(connection, "create a topic in", |tx| {
        if find(tx, name)?.is_none() {
            is_new = true;
            if let Created::NoNumbers = insert(tx, name, 1, None)? {
                return Ok(None);
            }
        }
        find(tx, name)
    })?;
    if is_new && made.is_some() {
        tracing::info!(topic = name, "the topic did not exist: made it, with one partition");
    }
    made.ok_or_else(|| no_numbers(file))
}

/// Begins the name of what is left of a deleted topic: no topic can have it.
const DELETED: &str = "deleted/";
/// Records that one transaction deletes at most: others write in between.
const DELETED_AT_ONCE: i64 = 256;

/// Deletes a topic: at once for all who ask for it, then its records bit by bit. Its row and those of its partitions
/// stay under a name that no topic can have, so that their numbers never come again: a process that still has one
/// finds neither the records of another topic there nor a place to write to. What an earlier delete that was ended
/// left over goes as well.
pub(super) fn delete(file: &LogFile, connection: &mut Connection, name: &str) -> Result<()> {
    let was_there = file.in_one_step(connection, "delete a topic in", |tx| {
        let Some(Known { number, partitions, .. }) = known(tx, name)? else { return Ok(false) };
        tx.execute("UPDATE topic SET name = ?2 || id WHERE number = ?1", params![number, DELETED])?;
        for number in partitions {
            tx.execute("DELETE FROM position WHERE partition = ?1", [number])?;
        }
        Ok(true)
    })?;
    if !was_there {
        return Err(unknown(file, connection, name, false));
    }
    while file.in_one_step(connection, "delete the records of a topic in", delete_some)? > 0 {}
    Ok(())
}

/// Deletes some records of topics that were deleted, and answers how many.
fn delete_some(tx: &Transaction<'_>) -> rusqlite::Result<usize> {
    let mut of_deleted = tx.prepare_cached(
        "SELECT partition.number FROM partition JOIN topic ON topic.number = partition.topic
         WHERE substr(topic.name, 1, length(?1)) = ?1",
    )?;
    let numbers: Vec<i64> = of_deleted.query_map([DELETED], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for number in numbers {
        let mut some = tx.prepare_cached(
            "DELETE FROM record WHERE place IN
                 (SELECT place FROM record WHERE place >= ?1 AND place < ?2 ORDER BY place LIMIT ?3)",
        )?;
        let count = some.execute([place(number, 0), place(number, OFFSETS), DELETED_AT_ONCE])?;
        if count > 0 {
            return Ok(count);
        }
    }
    Ok(0)
}

enum Created {
    Done,
    WasThere,
    NoNumbers,
}

fn no_numbers(file: &LogFile) -> Error {
    Error::new(ErrorKind::NoSpace, format!("log `{}` cannot hold more than {PARTITIONS} partitions", file.name))
}

fn insert(tx: &Transaction<'_>, name: &str, partitions: i32, retention_ms: Option<i64>) -> rusqlite::Result<Created> {
    let taken: i64 = tx.query_row("SELECT coalesce(max(number), 0) FROM partition", [], |row| row.get(0))?;
    if taken + i64::from(partitions) >= PARTITIONS {
        return Ok(Created::NoNumbers);
    }
    let id = uuid::Uuid::new_v4().to_string();
    tx.execute("INSERT INTO topic (name, id, retention_ms) VALUES (?1, ?2, ?3)", params![name, id, retention_ms])?;
    let topic = tx.last_insert_rowid();
    let mut statement = tx.prepare("INSERT INTO partition (topic, partition) VALUES (?1, ?2)")?;
    for partition in 0..partitions {
        statement.execute(params![topic, partition])?;
    }
    Ok(Created::Done)
}

const COLUMNS: &str = "SELECT name, id, retention_ms, (SELECT count(*) FROM partition WHERE topic = number_of_topic)
    FROM (SELECT number AS number_of_topic, name, id, retention_ms FROM topic)";

fn of_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Topic> {
    Ok(Topic {
        name: row.get(0)?,
        id: Some(row.get(1)?),
        partitions: row.get(3)?,
        settings: Some(TopicSettings {
            largest_record: Some(LARGEST_RECORD),
            retention_ms: row.get(2)?,
            compacted: false,
        }),
    })
}

/// The topic, if it exists.
pub(super) fn find(connection: &Connection, name: &str) -> rusqlite::Result<Option<Topic>> {
    connection.prepare_cached(&format!("{COLUMNS} WHERE name = ?1"))?.query_row([name], of_row).optional()
}

/// All topics, by name.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Topic>> {
    let is_there = "WHERE substr(name, 1, length(?1)) <> ?1";
    let mut statement = connection.prepare_cached(&format!("{COLUMNS} {is_there} ORDER BY name"))?;
    statement.query_map([DELETED], of_row)?.collect()
}

/// A topic with what is needed to write to it or read from it.
#[derive(Debug)]
pub(super) struct Known {
    /// Number of the topic.
    pub(super) number: i64,
    /// Its id.
    pub(super) id: String,
    /// Numbers of its partitions, in their order.
    pub(super) partitions: Vec<i64>,
    /// Records older than this may be deleted, milliseconds.
    pub(super) retention_ms: Option<i64>,
}

/// A topic by its name.
pub(super) fn known(connection: &Connection, name: &str) -> rusqlite::Result<Option<Known>> {
    let found = connection
        .prepare_cached("SELECT number, id, retention_ms FROM topic WHERE name = ?1")?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((number, id, retention_ms)) = found else { return Ok(None) };
    let mut statement =
        connection.prepare_cached("SELECT number FROM partition WHERE topic = ?1 ORDER BY partition")?;
    let partitions = statement.query_map([number], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(Some(Known { number, id, partitions, retention_ms }))
}

/// The ends of a partition.
pub(super) fn offsets(file: &LogFile, connection: &Connection, name: &str, partition: i32) -> Result<Offsets> {
    let read = |error| file.failed("read", error);
    let topic = known(connection, name).map_err(read)?.ok_or_else(|| unknown(file, connection, name, false))?;
    let number = usize::try_from(partition).ok().and_then(|at| topic.partitions.get(at));
    let number = number.ok_or_else(|| no_partition(name, partition, topic.partitions.len()))?;
    connection
        .prepare_cached("SELECT first, next FROM partition WHERE number = ?1")
        .and_then(|mut statement| {
            statement.query_row([number], |row| {
                let end = row.get(1)?;
                // One transaction of SQLite is visible whole or not at all: nothing is undecided.
                Ok(Offsets { first: row.get(0)?, last_stable: end, end })
            })
        })
        .map_err(read)
}
