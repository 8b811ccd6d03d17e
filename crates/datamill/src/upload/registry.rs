//! The producer's registry for people: two CSV files in the folder `LOGS`, safe to open and copy while
//! the program runs. It is a view; [`super::record`] is what a restart relies on.
//!
//! ```text
//! upload_to_{topic}_in_progress.csv   filename;rel_filepath;n_chunks;n_chunks_delivered;n_chunks_to_send;
//!                                     started;chunks_delivered;chunks_to_send
//!     replaced as a whole, at most every 5 s; chunks as runs: 1-4 7
//! uploaded_to_{topic}.csv             filename;rel_filepath;n_chunks;started;completed
//!     appended within a second
//! ```
//! A table that cannot be written is said once and tried again; the work goes on without it. Times are those of this machine's zone. Fields with `;`, quotes or line breaks are quoted as CSV does.

use std::io;
use std::path::Path;
use std::time::Instant;

use parking_lot::Mutex;

use super::ranges::Ranges;
use super::scan::split;
use crate::durable::{AppendedTable, ReplacedTable};
use crate::facts::{Fact, Listener};
use crate::report::clock::{self, LocalTimes};

const IN_PROGRESS: &[&str] = &[
    "filename",
    "rel_filepath",
    "n_chunks",
    "n_chunks_delivered",
    "n_chunks_to_send",
    "started",
    "chunks_delivered",
    "chunks_to_send",
];
const COMPLETED: &[&str] = &["filename", "rel_filepath", "n_chunks", "started", "completed"];

/// A file that is being sent.
#[derive(Debug)]
pub struct Row<'a> {
    /// Relative path.
    pub relative: &'a str,
    /// Number of chunks.
    pub total: u32,
    /// When its sending began, milliseconds since the Unix epoch.
    pub started_ms: i64,
    /// Chunks that were acknowledged.
    pub delivered: &'a Ranges,
}

/// Both tables.
pub struct Registry {
    in_progress: ReplacedTable,
    /// The table in the file has rows.
    shows_rows: bool,
    completed: AppendedTable,
    started: LocalTimes,
    ended: LocalTimes,
}

impl Registry {
    /// Opens or makes the tables of `topic` in `folder`. Half a row that a crash left is removed, and a file that
    /// cannot be understood is set aside, both with a warning.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(folder: &Path, topic: &str) -> io::Result<Self> {
        let path = folder.join(format!("upload_to_{topic}_in_progress.csv"));
        // The rows of an earlier run are no longer true: what it had on its way is sent anew.
        let in_progress = ReplacedTable::open(path, IN_PROGRESS, &mut |_| {})?;
        let completed = AppendedTable::open(folder.join(format!("uploaded_to_{topic}.csv")), COMPLETED)?;
        let (started, ended) = Default::default();
        let mut registry = Self { in_progress, shows_rows: false, completed, started, ended };
        registry.flush(std::iter::empty());
        Ok(registry)
    }

    /// Adds a file to those that were uploaded.
    pub fn completed(&mut self, relative: &str, total: u32, started_ms: i64) {
        let (_, filename) = split(relative);
        let started = self.started.text(started_ms);
        let ended = self.ended.text(clock::now_ms());
        self.completed.append(&[filename, relative, &total.to_string(), started, ended]);
    }

    /// Writes what is due. `rows` are the files that are being sent.
    pub fn tick<'a>(&mut self, rows: impl Iterator<Item = Row<'a>>) {
        let now = Instant::now();
        self.completed.tick(now);
        let mut rows = rows.peekable();
        if rows.peek().is_some() || self.shows_rows {
            self.in_progress.changed();
        }
        let shows_rows = &mut self.shows_rows;
        self.in_progress.tick(now, |row| *shows_rows = in_progress_rows(rows, row));
    }

    /// Writes all that waits.
    pub fn flush<'a>(&mut self, rows: impl Iterator<Item = Row<'a>>) {
        self.completed.flush();
        self.in_progress.changed();
        let shows_rows = &mut self.shows_rows;
        self.in_progress.flush(|row| *shows_rows = in_progress_rows(rows, row));
    }
}

impl Listener for Mutex<Registry> {
    fn hear(&self, fact: &Fact<'_>) {
        if let Fact::Delivered { file, chunks, began_ms, .. } = *fact {
            self.lock().completed(file, chunks, began_ms);
        }
    }
}

/// Answers whether there are any.
fn in_progress_rows<'a>(rows: impl Iterator<Item = Row<'a>>, write: &mut dyn FnMut(&[&str])) -> bool {
    let mut any = false;
    for row in rows {
        let (_, filename) = split(row.relative);
        let missing = row.delivered.missing(row.total);
        write(&[
            filename,
            row.relative,
            &row.total.to_string(),
            &row.delivered.count().to_string(),
            &missing.count().to_string(),
            &clock::local_time_text(row.started_ms),
            &row.delivered.to_string(),
            &missing.to_string(),
        ]);
        any = true;
    }
    any
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn rows(path: &Path) -> Vec<Vec<String>> {
        let mut reader = csv::ReaderBuilder::new().delimiter(b';').has_headers(false).from_path(path).unwrap();
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
    }

    fn flush(registry: &mut Registry) {
        registry.flush(std::iter::empty());
    }

    #[test]
    fn completed_files_are_appended_and_quoted() {
        let dir = tempfile::tempdir().unwrap();
        for round in 1..3 {
            let mut registry = Registry::open(dir.path(), "t").unwrap();
            registry.completed("sub/a;\"b\"\n.csv", 3, 0);
            flush(&mut registry);
            let rows = rows(&dir.path().join("uploaded_to_t.csv"));
            assert_eq!(rows.len(), 1 + round);
            assert_eq!(rows[0], COMPLETED);
            assert_eq!(rows[round][..3], ["a;\"b\"\n.csv", "sub/a;\"b\"\n.csv", "3"]);
            assert_eq!(rows[round][3], clock::local_time_text(0));
        }
    }

    #[test]
    fn a_table_that_cannot_be_read_is_set_aside_and_never_overwritten() {
        for name in ["uploaded_to_t.csv", "upload_to_t_in_progress.csv"] {
            let dir = tempfile::tempdir().unwrap();
            let text = "my;own;table\n1;2;3\n";
            fs::write(dir.path().join(name), text).unwrap();
            let mut registry = Registry::open(dir.path(), "t").unwrap();
            registry.completed("a.csv", 1, 0);
            flush(&mut registry);
            assert_eq!(rows(&dir.path().join("uploaded_to_t.csv")).len(), 2);
            let entries = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
            let aside: Vec<_> = entries.filter(|path| path.to_string_lossy().contains(".damaged-")).collect();
            assert_eq!(aside.len(), 1, "{name}");
            assert_eq!(fs::read_to_string(&aside[0]).unwrap(), text);
        }
    }

    #[test]
    fn the_table_in_progress_shows_runs() {
        let dir = tempfile::tempdir().unwrap();
        let mut registry = Registry::open(dir.path(), "t").unwrap();
        let path = dir.path().join("upload_to_t_in_progress.csv");
        assert_eq!(rows(&path), [IN_PROGRESS]);
        let mut delivered = Ranges::default();
        [1, 2, 5].into_iter().for_each(|number| delivered.insert(number));
        let row = Row { relative: "s/a.csv", total: 6, started_ms: 0, delivered: &delivered };
        registry.tick(std::iter::once(row));
        let epoch = clock::local_time_text(0);
        let expected = ["a.csv", "s/a.csv", "6", "3", "3", &epoch, "1-2 5", "3-4 6"];
        assert_eq!(rows(&path)[1], expected);
        flush(&mut registry);
        assert_eq!(rows(&path), [IN_PROGRESS]);
    }
}
