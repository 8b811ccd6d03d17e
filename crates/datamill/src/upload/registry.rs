//! The producer's registry for people: two CSV files in the folder `LOGS`, safe to open and copy while
//! the program runs. It is a view; [`super::record`] is what a restart relies on.
//!
//! ```text
//! upload_to_{topic}_in_progress.csv   filename;rel_filepath;n_chunks;n_chunks_delivered;n_chunks_to_send;
//!                                     started;chunks_delivered;chunks_to_send
//!     written aside and renamed, at most every 5 s; chunks as runs: 1-4 7
//! uploaded_to_{topic}.csv             filename;rel_filepath;n_chunks;started;completed
//!     appended, whole lines at a time
//! ```
//! Times are those of this machine's zone. Fields with `;`, quotes or line breaks are quoted as CSV does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::ranges::Ranges;
use super::scan::split;
use crate::report::clock;

/// Longest time that the table of uploads in progress is behind.
const RENEW_EVERY: Duration = Duration::from_secs(5);

const IN_PROGRESS: [&str; 8] = [
    "filename",
    "rel_filepath",
    "n_chunks",
    "n_chunks_delivered",
    "n_chunks_to_send",
    "started",
    "chunks_delivered",
    "chunks_to_send",
];
const COMPLETED: [&str; 5] = ["filename", "rel_filepath", "n_chunks", "started", "completed"];

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
#[derive(Debug)]
pub struct Registry {
    in_progress: PathBuf,
    completed: File,
    lines: csv::Writer<Vec<u8>>,
    has_lines: bool,
    renewed: Option<Instant>,
    rows_written: usize,
}

impl Registry {
    /// Opens or makes the tables of `topic` in `folder`. A line that a crash cut off is dropped.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(folder: &Path, topic: &str) -> io::Result<Self> {
        let path = folder.join(format!("uploaded_to_{topic}.csv"));
        mend(&path)?;
        let completed = OpenOptions::new().append(true).open(&path)?;
        let mut registry = Self {
            in_progress: folder.join(format!("upload_to_{topic}_in_progress.csv")),
            completed,
            lines: writer(Vec::new()),
            has_lines: false,
            renewed: None,
            rows_written: 0,
        };
        registry.renew(std::iter::empty())?;
        Ok(registry)
    }

    /// Adds a file to those that were uploaded; [`Registry::flush`] writes it.
    ///
    /// # Errors
    /// What the CSV writer says.
    pub fn completed(&mut self, relative: &str, total: u32, started_ms: i64) -> io::Result<()> {
        let (_, filename) = split(relative);
        let (total, started) = (total.to_string(), clock::local_time_text(started_ms));
        let completed = clock::local_time_text(clock::now_ms());
        self.has_lines = true;
        self.lines.write_record([filename, relative, &total, &started, &completed])?;
        Ok(())
    }

    /// Appends the files that were completed since the last time.
    ///
    /// # Errors
    /// What the file system says.
    pub fn flush(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.has_lines) {
            return Ok(());
        }
        let lines = std::mem::replace(&mut self.lines, writer(Vec::new()));
        let bytes = lines.into_inner().map_err(|error| error.into_error())?;
        self.completed.write_all(&bytes)
    }

    /// Whether it is time to renew the table of uploads in progress.
    pub fn is_due(&self) -> bool {
        self.renewed.is_none_or(|at| at.elapsed() >= RENEW_EVERY)
    }

    /// Writes the table of uploads in progress, aside, and renames it. Nothing is written where it
    /// was empty and is.
    ///
    /// # Errors
    /// What the file system says.
    pub fn renew<'a>(&mut self, rows: impl Iterator<Item = Row<'a>>) -> io::Result<()> {
        let mut table = writer(Vec::new());
        table.write_record(IN_PROGRESS)?;
        let mut count = 0;
        for row in rows {
            let (_, filename) = split(row.relative);
            let missing = row.delivered.missing(row.total);
            table.write_record([
                filename,
                row.relative,
                &row.total.to_string(),
                &row.delivered.count().to_string(),
                &missing.count().to_string(),
                &clock::local_time_text(row.started_ms),
                &row.delivered.to_string(),
                &missing.to_string(),
            ])?;
            count += 1;
        }
        let was_renewed = self.renewed.replace(Instant::now()).is_some();
        if was_renewed && count == 0 && self.rows_written == 0 {
            return Ok(());
        }
        self.rows_written = count;
        let bytes = table.into_inner().map_err(|error| error.into_error())?;
        write_aside(&self.in_progress, &bytes)
    }
}

fn writer<W: Write>(into: W) -> csv::Writer<W> {
    csv::WriterBuilder::new().delimiter(b';').quote_style(csv::QuoteStyle::Necessary).from_writer(into)
}

fn write_aside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("csv.aside");
    fs::write(&aside, bytes)?;
    fs::rename(&aside, path)
}

/// Makes sure that the table of completed uploads is there, with its header line, and ends in a whole
/// line.
fn mend(path: &Path) -> io::Result<()> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut reader =
        csv::ReaderBuilder::new().delimiter(b';').has_headers(false).flexible(true).from_reader(bytes.as_slice());
    let mut whole = 0;
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record)? {
        let end = reader.position().byte() as usize;
        if record.len() == COMPLETED.len() && bytes[..end].ends_with(b"\n") {
            whole = end;
        }
    }
    if whole == bytes.len() && whole > 0 {
        return Ok(());
    }
    if whole == 0 {
        let mut table = writer(Vec::new());
        table.write_record(COMPLETED)?;
        let header = table.into_inner().map_err(|error| error.into_error())?;
        return write_aside(path, &header);
    }
    write_aside(path, &bytes[..whole])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(path: &Path) -> Vec<Vec<String>> {
        let mut reader = csv::ReaderBuilder::new().delimiter(b';').has_headers(false).from_path(path).unwrap();
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn completed_files_are_appended_and_quoted() {
        let dir = tempfile::tempdir().unwrap();
        for round in 1..3 {
            let mut registry = Registry::open(dir.path(), "t").unwrap();
            registry.completed("sub/a;\"b\"\n.csv", 3, 0).unwrap();
            registry.flush().unwrap();
            let rows = rows(&dir.path().join("uploaded_to_t.csv"));
            assert_eq!(rows.len(), 1 + round);
            assert_eq!(rows[0], COMPLETED);
            assert_eq!(rows[round][..3], ["a;\"b\"\n.csv", "sub/a;\"b\"\n.csv", "3"]);
            assert_eq!(rows[round][3], clock::local_time_text(0));
        }
    }

    #[test]
    fn a_line_that_was_cut_off_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uploaded_to_t.csv");
        let mut registry = Registry::open(dir.path(), "t").unwrap();
        registry.completed("first.csv", 1, 0).unwrap();
        registry.flush().unwrap();
        let kept = fs::read(&path).unwrap().len();
        registry.completed("with\nbreak.csv", 1, 0).unwrap();
        registry.flush().unwrap();
        drop(registry);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let mut registry = Registry::open(dir.path(), "t").unwrap();
            registry.completed("next.csv", 1, 0).unwrap();
            registry.flush().unwrap();
            let names: Vec<String> = rows(&path).into_iter().map(|row| row[1].clone()).collect();
            let expected: &[&str] =
                if length < kept { &["rel_filepath", "next.csv"] } else { &["rel_filepath", "first.csv", "next.csv"] };
            assert_eq!(names, expected, "cut at {length}");
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
        registry.renew(std::iter::once(row)).unwrap();
        let epoch = clock::local_time_text(0);
        let expected = ["a.csv", "s/a.csv", "6", "3", "3", &epoch, "1-2 5", "3-4 6"];
        assert_eq!(rows(&path)[1], expected);
        registry.renew(std::iter::empty()).unwrap();
        assert_eq!(rows(&path), [IN_PROGRESS]);
    }
}
