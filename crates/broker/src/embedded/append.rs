//! Puts records behind the last ones of their partitions, within a transaction of the caller, and
//! deletes what is older than its topic keeps.

use std::collections::HashMap;

use rusqlite::{Transaction, params};

use super::file::LogFile;
use super::schema::{OFFSETS, offset_of, place};
use super::topics::{self, Known};
use super::{clock, headers};
use crate::contract::{NewRecord, Placed};
use crate::error::{Error, ErrorKind, Result};

/// Largest record: bytes of key, value, and names and values of headers together. Far more than a
/// chunk, and little enough that a few of them fit into the memory of a small machine.
pub const LARGEST_RECORD: usize = 64 << 20;
/// How often a topic is searched for expired records, milliseconds.
const SWEEP_EVERY_MS: i64 = 60_000;
/// Most records that one transaction deletes from a partition; what is left goes with the next ones.
const SWEEP_RECORDS: usize = 256;

/// A record as it goes into its row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: Option<i32>,
    pub(super) timestamp_ms: i64,
    pub(super) key: Option<&'a [u8]>,
    /// As [`headers::encode`] makes them.
    pub(super) headers: &'a [u8],
    pub(super) value: Option<&'a [u8]>,
}

impl<'a> Row<'a> {
    /// The row of a record whose headers were encoded.
    pub(super) fn of(record: &NewRecord<'a>, headers: &'a [u8]) -> Self {
        Self {
            topic: record.topic,
            partition: record.partition,
            timestamp_ms: record.timestamp_ms.unwrap_or_else(clock::now_ms),
            key: record.key,
            headers,
            value: record.value,
        }
    }
}

/// Fails on a record that is too large for every log of this kind; otherwise tells its bytes.
pub(super) fn check_size(record: &NewRecord<'_>) -> Result<usize> {
    let headers = record.headers.iter().map(|(name, value)| name.len() + value.len());
    let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + headers.sum::<usize>();
    if bytes > LARGEST_RECORD {
        let text = format!(
            "a record of {bytes} bytes for topic `{}` is too large: the embedded log takes {LARGEST_RECORD}",
            record.topic.escape_debug()
        );
        return Err(Error::new(ErrorKind::RecordTooLarge, text));
    }
    Ok(bytes)
}

/// The headers of a record as a blob.
pub(super) fn encode_headers(record: &NewRecord<'_>) -> Vec<u8> {
    let mut blob = Vec::new();
    headers::encode(&record.headers, &mut blob);
    blob
}

/// Appends records.
#[derive(Default)]
pub(super) struct Appender {
    /// The topics of the transaction under way: another process may delete one between two.
    topics: HashMap<String, Known>,
    /// Turn of the records that name neither a partition nor a key.
    spread: usize,
}

impl Appender {
    /// Appends the rows in their order. The inner results tell the fate of each: one that has no place
    /// to go (`UnknownTopic`) is left out, and the others are appended.
    pub(super) fn append<'r>(
        &mut self,
        file: &LogFile,
        tx: &Transaction<'_>,
        rows: impl Iterator<Item = Row<'r>>,
    ) -> rusqlite::Result<Vec<Result<Placed>>> {
        self.topics.clear();
        let mut ends: HashMap<i64, i64> = HashMap::new();
        let mut fates = Vec::new();
        let mut insert = tx
            .prepare_cached("INSERT INTO record (place, timestamp, key, headers, value) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        for row in rows {
            let (number, partition) = match self.locate(file, tx, &row)? {
                Ok(found) => found,
                Err(error) => {
                    fates.push(Err(error));
                    continue;
                }
            };
            let end = match ends.entry(number) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    let mut next = tx.prepare_cached("SELECT next FROM partition WHERE number = ?1")?;
                    entry.insert(next.query_row([number], |row| row.get(0))?)
                }
            };
            let offset = *end;
            if offset >= OFFSETS - 1 {
                let text = format!("topic `{}` partition {partition} is full: it had 2^40 records", row.topic);
                fates.push(Err(Error::new(ErrorKind::Fatal, text)));
                continue;
            }
            let headers = (!row.headers.is_empty()).then_some(row.headers);
            insert.execute(params![place(number, offset), row.timestamp_ms, row.key, headers, row.value])?;
            *end += 1;
            fates.push(Ok(Placed { partition, offset }));
        }
        let mut update = tx.prepare_cached("UPDATE partition SET next = ?2 WHERE number = ?1")?;
        for (number, end) in &ends {
            update.execute([number, end])?;
        }
        for topic in self.topics.values() {
            if let Some(retention_ms) = topic.retention_ms
                && topic.partitions.iter().any(|number| ends.contains_key(number))
            {
                sweep(tx, topic, clock::now_ms(), retention_ms)?;
            }
        }
        Ok(fates)
    }

    /// Number and index of the partition where a row belongs.
    fn locate(&mut self, file: &LogFile, tx: &Transaction<'_>, row: &Row<'_>) -> rusqlite::Result<Result<(i64, i32)>> {
        if !self.topics.contains_key(row.topic) {
            let Some(known) = topics::known(tx, row.topic)? else {
                return Ok(Err(topics::unknown(file, tx, row.topic, true)));
            };
            self.topics.insert(row.topic.to_owned(), known);
        }
        let partitions = &self.topics[row.topic].partitions;
        let at = match (row.partition, row.key) {
            (Some(partition), _) => usize::try_from(partition).ok().filter(|&at| at < partitions.len()),
            (None, Some(key)) => Some((hash(key) % partitions.len() as u64) as usize),
            (None, None) => {
                self.spread = self.spread.wrapping_add(1);
                Some(self.spread % partitions.len())
            }
        };
        Ok(match at {
            // The number of partitions of a topic was an `i32` when it was created.
            Some(at) => Ok((partitions[at], at as i32)),
            None => Err(topics::no_partition(row.topic, row.partition.unwrap_or_default(), partitions.len())),
        })
    }
}

/// FNV-1a with 64 bits, which chooses the partition of a key; it MUST stay the same for ever.
fn hash(key: &[u8]) -> u64 {
    key.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Deletes the records at the front of each partition that are older than the topic keeps, if that was
/// not done within the last minute. A record that is younger protects those behind it, whatever their
/// times are: offsets vanish from the front only.
fn sweep(tx: &Transaction<'_>, topic: &Known, now_ms: i64, retention_ms: i64) -> rusqlite::Result<()> {
    let is_due = tx
        .prepare_cached("UPDATE topic SET swept_ms = ?2 WHERE number = ?1 AND NOT swept_ms BETWEEN ?3 AND ?2")?
        .execute([topic.number, now_ms, now_ms.saturating_sub(SWEEP_EVERY_MS)])?;
    if is_due == 0 {
        return Ok(());
    }
    let keep_from_ms = now_ms.saturating_sub(retention_ms);
    let mut more = false;
    for &number in &topic.partitions {
        let (first, next): (i64, i64) = tx
            .prepare_cached("SELECT first, next FROM partition WHERE number = ?1")?
            .query_row([number], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut expired = 0;
        let mut keep = first;
        let mut look = tx.prepare_cached(
            "SELECT place, timestamp FROM record WHERE place >= ?1 AND place < ?2 ORDER BY place LIMIT ?3",
        )?;
        let mut rows = look.query(params![place(number, first), place(number, next), SWEEP_RECORDS as i64])?;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(1)? >= keep_from_ms {
                break;
            }
            keep = offset_of(row.get(0)?) + 1;
            expired += 1;
        }
        if expired == 0 {
            continue;
        }
        more |= expired == SWEEP_RECORDS;
        tx.prepare_cached("DELETE FROM record WHERE place >= ?1 AND place < ?2")?
            .execute([place(number, first), place(number, keep)])?;
        tx.prepare_cached("UPDATE partition SET first = ?2 WHERE number = ?1")?.execute([number, keep])?;
    }
    if more {
        tx.prepare_cached("UPDATE topic SET swept_ms = 0 WHERE number = ?1")?.execute([topic.number])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::hash;

    #[test]
    fn the_hash_of_a_key_is_pinned() {
        // Published vectors of FNV-1a 64.
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
