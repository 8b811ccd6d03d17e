//! Consumer groups: their positions and state, and the epoch that tells their owners apart.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::file::LogFile;
use super::lock;
use crate::contract::{Committed, StateChange, StateMark};
use crate::error::Result;
use crate::examined::{Group, Member};

/// Who owns a group, or owned it last.
pub(super) struct Owner {
    pub(super) instance: String,
    pub(super) process: i64,
}

/// Number of a group, if it was ever joined.
pub(super) fn number(connection: &Connection, group: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT number FROM consumer_group WHERE name = ?1")?
        .query_row([group], |row| row.get(0))
        .optional()
}

/// Number of a group that is made if need be.
pub(super) fn number_for_use(file: &LogFile, connection: &mut Connection, group: &str) -> Result<i64> {
    if let Some(number) = number(connection, group).map_err(|error| file.failed("read", error))? {
        return Ok(number);
    }
    file.in_one_step(connection, "make a consumer group in", |tx| {
        tx.execute("INSERT OR IGNORE INTO consumer_group (name) VALUES (?1)", [group])?;
        tx.query_row("SELECT number FROM consumer_group WHERE name = ?1", [group], |row| row.get(0))
    })
}

/// Makes a process the owner of a group and gives its epoch. What was committed under an earlier one
/// counts; nothing can be committed under it any more.
pub(super) fn own(file: &LogFile, connection: &mut Connection, group: i64, instance: &str) -> Result<u64> {
    file.in_one_step(connection, "join a group of", |tx| {
        tx.execute(
            "UPDATE consumer_group SET epoch = epoch + 1, instance = ?2, process = ?3 WHERE number = ?1",
            params![group, instance, std::process::id()],
        )?;
        epoch(tx, group)
    })
}

/// Ends the ownership of an epoch, if it is still that one's.
pub(super) fn disown(file: &LogFile, connection: &mut Connection, group: i64, of: u64) -> Result<()> {
    file.in_one_step(connection, "leave a group of", |tx| {
        if epoch(tx, group)? == of {
            tx.execute("UPDATE consumer_group SET epoch = epoch + 1 WHERE number = ?1", [group])?;
        }
        Ok(())
    })
}

/// The epoch of a group. It counts up by one at a time from 0, far below the limits of both types.
pub(super) fn epoch(connection: &Connection, group: i64) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT epoch FROM consumer_group WHERE number = ?1")?
        .query_row([group], |row| row.get::<_, i64>(0).map(i64::unsigned_abs))
}

/// Who owns a group, or owned it last.
pub(super) fn owner(file: &LogFile, connection: &Connection, group: i64) -> Result<Owner> {
    connection
        .query_row("SELECT instance, process FROM consumer_group WHERE number = ?1", [group], |row| {
            Ok(Owner { instance: row.get(0)?, process: row.get(1)? })
        })
        .map_err(|error| file.failed("read", error))
}

/// What a group committed last for a partition.
pub(super) fn committed(connection: &Connection, group: i64, partition: i64) -> rusqlite::Result<Option<Committed>> {
    connection
        .prepare_cached("SELECT next, text FROM position WHERE consumer_group = ?1 AND partition = ?2")?
        .query_row([group, partition], |row| Ok(Committed { offset: row.get(0)?, text: row.get(1)? }))
        .optional()
}

/// A group as it can be seen from outside.
pub(super) fn look(file: &LogFile, connection: &Connection, group: &str, topics: &[&str]) -> Result<Group> {
    let read = |error| file.failed("read", error);
    let Some(number) = number(connection, group).map_err(read)? else { return Ok(Group::default()) };
    let mut seen = Group::default();
    for &topic in topics {
        positions(connection, number, topic, &mut seen.committed).map_err(read)?;
    }
    if lock::is_held(file, number)? {
        let Owner { instance, process } = owner(file, connection, number)?;
        seen.members.push(Member {
            id: format!("{instance}-{process}"),
            instance: Some(instance),
            client_id: "datamill".to_owned(),
            host: "this machine".to_owned(),
            owned: Vec::new(),
        });
    }
    Ok(seen)
}

/// The groups with a position in a topic, by name.
pub(super) fn of_topic(connection: &Connection, topic: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT consumer_group.name
         FROM topic JOIN partition ON partition.topic = topic.number
                    JOIN position ON position.partition = partition.number
                    JOIN consumer_group ON consumer_group.number = position.consumer_group
         WHERE topic.name = ?1 ORDER BY consumer_group.name",
    )?;
    statement.query_map([topic], |row| row.get(0))?.collect()
}

fn positions(
    connection: &Connection,
    group: i64,
    topic: &str,
    into: &mut BTreeMap<(String, i32), Committed>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT partition.partition, position.next, position.text
         FROM topic JOIN partition ON partition.topic = topic.number
                    JOIN position ON position.partition = partition.number
         WHERE topic.name = ?1 AND position.consumer_group = ?2",
    )?;
    let mut rows = statement.query(params![topic, group])?;
    while let Some(row) = rows.next()? {
        into.insert((topic.to_owned(), row.get(0)?), Committed { offset: row.get(1)?, text: row.get(2)? });
    }
    Ok(())
}

/// Changes the state of a group, as a part of a transaction.
pub(super) fn change_state(tx: &Transaction<'_>, group: i64, changes: &[StateChange]) -> rusqlite::Result<()> {
    for change in changes {
        match &change.value {
            Some(value) => tx
                .prepare_cached(
                    "INSERT INTO state (consumer_group, key, value) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET value = excluded.value",
                )?
                .execute(params![group, change.key, value])?,
            None => tx
                .prepare_cached("DELETE FROM state WHERE consumer_group = ?1 AND key = ?2")?
                .execute(params![group, change.key])?,
        };
        // a new number, above all that there ever were
        tx.prepare_cached("INSERT OR REPLACE INTO state_change (consumer_group, key) VALUES (?1, ?2)")?
            .execute(params![group, change.key])?;
    }
    Ok(())
}

/// Hands out what changed in the state of a group behind a mark, in one look at the file.
pub(super) fn read_state(
    connection: &Connection,
    group: &str,
    since: StateMark,
    sink: &mut dyn FnMut(&str, Option<&[u8]>),
    stop: &dyn Fn() -> bool,
) -> rusqlite::Result<Option<StateMark>> {
    let mut statement = connection.prepare_cached(
        // by the number alone: the plus keeps SQLite from going through all keys of the group
        "SELECT state_change.number, state_change.key, state.value
         FROM state_change LEFT JOIN state ON state.consumer_group = state_change.consumer_group
                                          AND state.key = state_change.key
         WHERE state_change.number > ?2
           AND +state_change.consumer_group = (SELECT number FROM consumer_group WHERE name = ?1)
         ORDER BY state_change.number",
    )?;
    let mut rows = statement.query(params![group, since.0])?;
    let mut mark = since;
    while let Some(row) = rows.next()? {
        if stop() {
            return Ok(None);
        }
        mark = StateMark(row.get(0)?);
        sink(row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_blob_or_null()?);
    }
    Ok(Some(mark))
}
