//! A table that is replaced as a whole: written aside, then renamed over the old one.
//!
//! It is written when it changed, at most every five seconds, and for large tables so seldom that it
//! costs at most a twentieth of the time.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use csv::StringRecord;

use super::append::{header_line, reader, set_aside};
use super::aside;
use super::home::Home;
use super::trouble::Trouble;

/// Shortest time between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(5);

/// A write that took some time is followed by this many times as long without one.
const REST: u32 = 20;

/// A replaced table.
pub(crate) struct ReplacedTable {
    path: PathBuf,
    home: Home,
    header: &'static [&'static str],
    changed: bool,
    not_before: Option<Instant>,
    trouble: Trouble,
}

impl ReplacedTable {
    /// Opens the table and hands each row to `take`, the fields in the order of the header. A file that cannot be
    /// understood is set aside with a warning; it has no rows, and neither has a missing one. Errors: the file cannot
    /// be read.
    pub(crate) fn open(
        path: PathBuf,
        header: &'static [&'static str],
        take: &mut dyn FnMut(&[&str]),
    ) -> io::Result<Self> {
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            // all of it is looked at before the first row counts
            Ok(file) => match read(file, header, &mut |_| {}) {
                Ok(()) => read(File::open(&path)?, header, take).map_err(io::Error::other)?,
                Err(error) => set_aside(&path, &error.to_string())?,
            },
        }
        Ok(Self { home: Home::of(&path), path, header, changed: true, not_before: None, trouble: Trouble::default() })
    }

    /// The rows are others than those in the file.
    pub(crate) fn changed(&mut self) {
        self.changed = true;
    }

    /// Writes the table if it changed and its time has come. `rows` hands each row to the function
    /// that it is given.
    pub(crate) fn tick(&mut self, now: Instant, rows: impl FnOnce(&mut dyn FnMut(&[&str]))) {
        if self.changed && self.not_before.is_none_or(|time| now >= time) {
            let start = Instant::now();
            self.flush(rows);
            self.not_before = Some(now + WRITE_INTERVAL.max(start.elapsed() * REST));
        }
    }

    /// Writes the table if it changed.
    pub(crate) fn flush(&mut self, rows: impl FnOnce(&mut dyn FnMut(&[&str]))) {
        if self.changed {
            let result = self.write(rows);
            self.changed = !self.trouble.note(&self.path, &result);
        }
    }

    fn write(&self, rows: impl FnOnce(&mut dyn FnMut(&[&str]))) -> io::Result<()> {
        self.home.make()?;
        aside::replace(&self.path, |file| {
            file.write_all(&header_line(self.header))?;
            let mut encoder = csv::WriterBuilder::new().delimiter(b';').from_writer(file);
            let mut result = Ok(());
            rows(&mut |row| {
                if result.is_ok() {
                    result = encoder.write_record(row);
                }
            });
            result?;
            encoder.flush()
        })
    }
}

/// Hands out all rows, their fields in the order of the header.
fn read(file: File, header: &[&str], take: &mut dyn FnMut(&[&str])) -> Result<(), csv::Error> {
    let mut reader = reader(file);
    let found = reader.headers()?;
    let columns: Option<Vec<usize>> =
        header.iter().map(|name| found.iter().position(|column| column == *name)).collect();
    let Some(columns) = columns else {
        return Err(io::Error::new(ErrorKind::InvalidData, "its first line is not the header of this table").into());
    };
    let mut row = StringRecord::new();
    while reader.read_record(&mut row)? {
        let fields: Vec<&str> = columns.iter().map(|&column| &row[column]).collect();
        take(&fields);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const HEADER: &[&str] = &["name", "text"];

    fn open(path: &std::path::Path) -> (ReplacedTable, Vec<Vec<String>>) {
        let mut rows = Vec::new();
        let mut take = |row: &[&str]| rows.push(row.iter().map(|field| (*field).to_owned()).collect());
        let table = ReplacedTable::open(path.to_owned(), HEADER, &mut take).unwrap();
        (table, rows)
    }

    #[test]
    fn a_changed_table_is_written_at_most_every_five_seconds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        let (mut table, rows) = open(&path);
        assert!(rows.is_empty());
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        table.tick(start, |row| row(&["a", "1"]));
        table.tick(after(6000), |row| row(&["not", "changed"]));
        assert_eq!(fs::read_to_string(&path).unwrap(), "name;text\na;1\n");
        table.changed();
        table.tick(after(6000), |row| row(&["b", "2"]));
        table.changed();
        table.tick(after(10_900), |row| row(&["c", "3"]));
        assert_eq!(fs::read_to_string(&path).unwrap(), "name;text\nb;2\n");
        table.tick(after(11_000), |row| row(&["c", "3"]));
        assert_eq!(fs::read_to_string(&path).unwrap(), "name;text\nc;3\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn rows_come_back_by_the_names_of_their_columns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        fs::write(&path, "text;more;name\r\n\"a;\"\"b\n\";x;1\r\n").unwrap();
        let (_, rows) = open(&path);
        assert_eq!(rows, [["1", "a;\"b\n"]]);
    }

    #[test]
    fn a_damaged_table_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        for bytes in [&b"name;text\na;b;c\n"[..], b"name;text\n\xff;b\n", b"a\n", b"name"] {
            fs::write(&path, bytes).unwrap();
            let (_, rows) = open(&path);
            assert!(rows.is_empty() && !path.exists());
            let aside = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
            assert_eq!(fs::read(&aside).unwrap(), bytes);
            fs::remove_file(aside).unwrap();
        }
    }

    #[test]
    fn a_table_that_cannot_be_written_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LOGS/table.csv");
        fs::write(folder.path().join("LOGS"), "in the way").unwrap();
        let (mut table, _) = open(&folder.path().join("other.csv"));
        (table.path, table.home) = (path.clone(), Home::of(&path));
        table.flush(|row| row(&["a", "1"]));
        assert!(table.changed);
        fs::remove_file(folder.path().join("LOGS")).unwrap();
        table.flush(|row| row(&["a", "1"]));
        assert_eq!(fs::read_to_string(&path).unwrap(), "name;text\na;1\n");
    }
}
