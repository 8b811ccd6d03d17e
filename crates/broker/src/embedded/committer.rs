//! The committing half of a member: one transaction of SQLite for each commit.

use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, Transaction, params};

use super::append::{self, Appender, Row};
use super::file::LogFile;
use super::groups;
use super::subscription::Membership;
use crate::contract::{Commit, CommitOutcome, Committer, MAX_PROGRESS_TEXT, Placed, Position};
use crate::crash::{CrashPoint, crash_point};
use crate::error::{Error, ErrorKind};

/// Commits for one member.
pub(super) struct EmbeddedCommitter {
    file: Arc<LogFile>,
    connection: Connection,
    membership: Arc<Membership>,
    appender: Appender,
}

/// Why a transaction was given up before its end; nothing of it happened.
enum Refused {
    Sql(rusqlite::Error),
    Outcome(CommitOutcome),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl EmbeddedCommitter {
    pub(super) fn new(file: Arc<LogFile>, connection: Connection, membership: Arc<Membership>) -> Self {
        Self { file, connection, membership, appender: Appender::default() }
    }

    /// All that a commit does, up to making it last.
    fn prepare(
        file: &LogFile,
        appender: &mut Appender,
        membership: &Membership,
        tx: &Transaction<'_>,
        commit: &Commit<'_>,
    ) -> Result<Vec<Placed>, Refused> {
        crash_point(CrashPoint::EmbeddedBegun);
        let is_owner = groups::epoch(tx, membership.group)? == membership.epoch;
        let owned = membership.owned.lock();
        let partition_of = |position: &Position| (position.topic.clone(), position.partition);
        let stale: Vec<_> = commit
            .positions
            .iter()
            .filter(|position| {
                !is_owner || position.assignment != membership.epoch || !owned.contains_key(&partition_of(position))
            })
            .map(partition_of)
            .collect();
        if !stale.is_empty() {
            return Err(Refused::Outcome(CommitOutcome::NotOwner(stale)));
        }
        if !is_owner {
            return Err(Refused::Outcome(CommitOutcome::NotOwner(owned.keys().cloned().collect())));
        }

        let headers: Vec<_> = commit.records.iter().map(append::encode_headers).collect();
        let rows = commit.records.iter().zip(&headers).map(|(record, headers)| Row::of(record, headers));
        let placed: Result<Vec<_>, Error> = appender.append(file, tx, rows)?.into_iter().collect();
        let placed = placed.map_err(|error| Refused::Outcome(CommitOutcome::Again(error)))?;
        crash_point(CrashPoint::EmbeddedAppended);

        let mut upsert = tx.prepare_cached(
            "INSERT INTO position (consumer_group, partition, next, text) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET next = excluded.next, text = excluded.text",
        )?;
        for position in commit.positions {
            let number = owned[&partition_of(position)];
            upsert.execute(params![membership.group, number, position.offset, position.text])?;
        }
        crash_point(CrashPoint::EmbeddedPositions);
        groups::change_state(tx, membership.group, commit.state)?;
        crash_point(CrashPoint::EmbeddedState);
        Ok(placed)
    }
}

/// Fails on a text that no log keeps.
fn check_text(position: &Position) -> Result<(), Error> {
    let Position { topic, partition, text, .. } = position;
    let why = if !text.is_ascii() {
        "is not ASCII".to_owned()
    } else if text.len() > MAX_PROGRESS_TEXT {
        format!("has {} characters, more than {MAX_PROGRESS_TEXT}", text.len())
    } else {
        return Ok(());
    };
    let text = format!("the text beside the position of topic `{topic}` partition {partition} {why}");
    Err(Error::new(ErrorKind::Fatal, text))
}

impl Committer for EmbeddedCommitter {
    fn commit(&mut self, commit: &Commit<'_>) -> CommitOutcome {
        if let Err(error) = commit.positions.iter().try_for_each(check_text) {
            return CommitOutcome::Again(error);
        }
        let records = commit.records.iter().enumerate();
        let refused: Vec<_> = records.filter_map(|(i, record)| Some((i, append::check_size(record).err()?))).collect();
        if !refused.is_empty() {
            return CommitOutcome::RecordsRefused(refused);
        }
        let again = |error| CommitOutcome::Again(self.file.failed("commit to", error));
        let writing = match self.file.write(&mut self.connection) {
            Ok(writing) => writing,
            Err(error) => return again(error),
        };
        let prepared = Self::prepare(&self.file, &mut self.appender, &self.membership, &writing.tx, commit);
        let placed = match prepared {
            Ok(placed) => placed,
            Err(Refused::Outcome(outcome)) => return outcome,
            Err(Refused::Sql(error)) => return again(error),
        };
        if !self.file.is_in_place() {
            return CommitOutcome::Again(self.file.replaced());
        }
        match writing.commit() {
            Ok(()) => {}
            // The frame that ends the transaction was not written.
            Err(error) if matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DiskFull)) => {
                return again(error);
            }
            Err(error) => return CommitOutcome::Unknown(self.file.failed("tell whether a commit reached", error)),
        }
        crash_point(CrashPoint::EmbeddedCommitted);
        self.file.committed(&self.connection);
        CommitOutcome::Done(placed)
    }
}
