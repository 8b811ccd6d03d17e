//! The tables of one program: what is filling, what failed, what is done.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::BuildHasher;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxBuildHasher;

use super::names::{file_name_part, table_of_failures};
use crate::durable::{self, AppendedTable, ReplacedTable};
use crate::facts::{Fact, FailureStatus, FileRow, FillingFile, Listener};
use crate::report::clock::{self, LocalTimes};
use parking_lot::Mutex;

const IN_PROGRESS: &[&str] =
    &["filename", "rel_filepath", "status", "n_chunks", "first_message", "most_recent_message"];
const COMPLETED: &[&str] = &["filename", "rel_filepath", "n_chunks", "first_message", "processed_at"];
const FAILURES: &[&str] = &["time", "rel_filepath", "sha512", "status", "reason", "offsets"];

/// Between the fields that are kept of a failed file: no field holds it.
const BETWEEN: &str = "\u{1f}";

/// Status of a file whose chunks are not all there.
const FILLING: &str = "in_progress";

/// What the program does with whole files, which names the table of those that are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerKind {
    /// It produces a result for each to this topic.
    Reproducer {
        /// Topic of the results.
        result_topic: String,
    },
    /// It produces nothing.
    Processor,
}

/// Which tables to keep, and where.
#[derive(Debug, Clone)]
pub struct LedgerOptions {
    /// The output folder; the tables are in `LOGS` in there.
    pub output_dir: PathBuf,
    /// The topic that is read.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// What the program does.
    pub kind: LedgerKind,
}

/// Rows that could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MissingRows {
    /// In the table of files that are done.
    pub(crate) done: u64,
    /// In the table of failures.
    pub(crate) failures: u64,
}

/// The tables. Rows wait in memory: call [`Ledger::tick`] several times a second and
/// [`Ledger::flush`] at the end.
///
/// Only one process may write the tables of an output folder and a group.
pub struct Ledger {
    in_progress: ReplacedTable,
    completed: AppendedTable,
    failures: AppendedTable,
    /// The times in the rows of completed files.
    first_message: LocalTimes,
    completed_at: LocalTimes,
    filling: Arc<[FillingFile]>,
    /// What the table has of failed files, by path: the fields from the status on. There may be very many.
    failed: BTreeMap<Box<str>, Box<str>>,
}

impl Ledger {
    /// Opens the tables or makes them. Rows of files that failed in an earlier run are read back;
    /// those that were filling are not: the log tells what is still open. Half a row that a crash left
    /// is removed, and a file that cannot be understood is set aside, both with a warning.
    ///
    /// Errors: the folder cannot be made or written. The text names it.
    pub fn open(options: LedgerOptions) -> io::Result<Self> {
        let folder = options.output_dir.join("LOGS");
        Self::open_in(&folder, &options).map_err(|error| {
            let text = format!("cannot write the registry in `{}`: {error}", folder.display());
            io::Error::new(error.kind(), text)
        })
    }

    fn open_in(folder: &std::path::Path, options: &LedgerOptions) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let (topic, group) = (file_name_part(&options.topic), file_name_part(&options.group));
        let completed = match &options.kind {
            LedgerKind::Reproducer { result_topic } => {
                format!("results_produced_to_{}.csv", file_name_part(result_topic))
            }
            LedgerKind::Processor => format!("processed_from_{topic}_by_{group}.csv"),
        };
        let in_progress = folder.join(format!("consuming_from_{topic}_in_progress_by_{group}.csv"));
        let mut failed = BTreeMap::new();
        let mut take = |row: &[&str]| {
            if let [_, path, rest @ ..] = row
                && rest.first() != Some(&FILLING)
            {
                failed.insert((*path).into(), rest.join(BETWEEN).into());
            }
        };
        let in_progress = ReplacedTable::open(in_progress, IN_PROGRESS, &mut take)?;
        Ok(Self {
            in_progress,
            completed: AppendedTable::open(folder.join(completed), COMPLETED)?,
            failures: AppendedTable::open(folder.join(table_of_failures(&options.topic, &options.group)), FAILURES)?
                .caught_up(),
            first_message: LocalTimes::default(),
            completed_at: LocalTimes::default(),
            filling: Arc::default(),
            failed,
        })
    }

    /// The file has its result, or was processed, at `when_ms` (milliseconds since the epoch).
    pub fn completed(&mut self, file: &FileRow, when_ms: i64) {
        self.completed.append(&[
            file.filename(),
            &file.rel_filepath,
            &file.n_chunks.to_string(),
            self.first_message.text(file.first_message_ms),
            self.completed_at.text(when_ms),
        ]);
    }

    /// The file failed at `when_ms` (milliseconds since the epoch). It stays in the table of files in
    /// progress until [`Ledger::cleared`], across restarts.
    pub fn failed(&mut self, file: &FileRow, status: FailureStatus, reason: &str, when_ms: i64) {
        let path = file.rel_filepath.as_str();
        let time = clock::local_time_text(when_ms);
        self.failures.append(&[&time, path, &file.sha512, status.as_str(), reason, &file.offsets]);
        let [_, _, rest @ ..] = &in_progress_row(file, status.as_str());
        self.failed.insert(path.into(), rest.join(BETWEEN).into());
        self.in_progress.changed();
    }

    /// A file has failed earlier, and only the table of failures lacks it: see [`Ledger::take_lost_failures`].
    pub(crate) fn failed_before(&mut self, when_ms: i64, failure: &FailedBefore<'_>) {
        let FailedBefore { path, sha512, status, reason, offsets } = failure;
        self.failures.append(&[&clock::local_time_text(when_ms), path, sha512, status, reason, offsets]);
    }

    /// How many failures the table of failures lacks because it could not be written, once it can be again.
    pub(crate) fn take_lost_failures(&mut self) -> u64 {
        self.failures.take_lost()
    }

    /// So many failures are still to be added.
    pub(crate) fn owe_failures(&mut self, rows: u64) {
        self.failures.owe(rows);
    }

    /// The failures that are in the table of failures, those of earlier months included.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn failures_in_table(&mut self) -> io::Result<HashSet<FailureKey>> {
        self.failures.flush();
        let mut known = HashSet::new();
        for file in self.failures.files() {
            for row in durable::rows(&file)? {
                let row = row?;
                let field = |at: usize| row.get(at).unwrap_or_default();
                known.insert(FailureKey::of(field(1), field(3), field(5)));
            }
        }
        Ok(known)
    }

    /// A file has no outcome, at `when_ms` (milliseconds since the epoch), and that is no failure: the table of
    /// failures names it, that of files in progress does not.
    pub fn noted(&mut self, file: &FileRow, status: FailureStatus, reason: &str, when_ms: i64) {
        let time = clock::local_time_text(when_ms);
        self.failures.append(&[&time, &file.rel_filepath, &file.sha512, status.as_str(), reason, &file.offsets]);
    }

    /// A file that failed has its result after all, or is given up.
    pub fn cleared(&mut self, rel_filepath: &str) {
        if self.failed.remove(rel_filepath).is_some() {
            self.in_progress.changed();
        }
    }

    /// The files whose chunks are not all there; replaces those of the call before.
    pub fn set_filling(&mut self, files: &Arc<[FillingFile]>) {
        if *files != self.filling {
            self.filling = Arc::clone(files);
            self.in_progress.changed();
        }
    }

    /// The failed files that are in the table: path and status.
    pub fn failed_files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.failed.iter().map(|(path, rest)| (&**path, rest.split(BETWEEN).next().unwrap_or_default()))
    }

    /// Writes what is due: appended rows after a second, the table of files in progress after five.
    pub fn tick(&mut self) {
        let now = Instant::now();
        self.completed.tick(now);
        self.failures.tick(now);
        let (filling, failed) = (&self.filling, &self.failed);
        self.in_progress.tick(now, |row| in_progress_rows(filling, failed, row));
    }

    /// Writes all that waits, for the last time. Answers how many rows the tables lack.
    pub(crate) fn close(&mut self) -> MissingRows {
        self.flush();
        MissingRows { done: self.completed.close(), failures: self.failures.close() }
    }

    /// Writes all that waits.
    pub fn flush(&mut self) {
        self.completed.flush();
        self.failures.flush();
        let (filling, failed) = (&self.filling, &self.failed);
        self.in_progress.flush(|row| in_progress_rows(filling, failed, row));
    }
}

/// The outcomes of files become rows, and so do the files that fill up. Whoever holds the lock for longer writes to the
/// disk, on the thread that tells all of these.
impl Listener for Mutex<Ledger> {
    fn hear(&self, fact: &Fact<'_>) {
        match *fact {
            Fact::Done { file, again, at_ms, .. } => {
                let mut ledger = self.lock();
                if again {
                    ledger.cleared(&file.rel_filepath);
                }
                ledger.completed(file, at_ms);
            }
            Fact::Failed { file, status, reason, at_ms, .. } => self.lock().failed(file, status, reason, at_ms),
            Fact::BegunBefore { file, reason, at_ms } => {
                self.lock().noted(file, FailureStatus::BegunBefore, reason, at_ms);
            }
            Fact::Filling(files) => self.lock().set_filling(files),
            _ => {}
        }
    }
}

/// A failure, as a row of the table of failures tells it from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FailureKey(u64);

/// A failure of earlier, as the table has it.
pub(crate) struct FailedBefore<'a> {
    pub(crate) path: &'a str,
    pub(crate) sha512: &'a str,
    pub(crate) status: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) offsets: &'a str,
}

impl FailureKey {
    pub(crate) fn of(path: &str, status: &str, offsets: &str) -> Self {
        Self(FxBuildHasher.hash_one((path, status, offsets)))
    }
}

fn in_progress_rows(filling: &[FillingFile], failed: &BTreeMap<Box<str>, Box<str>>, row: &mut dyn FnMut(&[&str])) {
    for (path, rest) in failed {
        let filename = path.rsplit('/').next().unwrap_or_default();
        let mut fields = vec![filename, path];
        fields.extend(rest.split(BETWEEN));
        row(&fields);
    }
    for file in filling {
        row(&in_progress_row(&file.row, FILLING).each_ref().map(String::as_str));
    }
}

fn in_progress_row(file: &FileRow, status: &str) -> [String; 6] {
    [
        file.filename().to_owned(),
        file.rel_filepath.clone(),
        status.to_owned(),
        file.n_chunks.to_string(),
        clock::local_time_text(file.first_message_ms),
        clock::local_time_text(file.most_recent_message_ms),
    ]
}

#[cfg(test)]
mod tests;
