//! A table that grows: rows wait in memory for a second at most and are appended to the file. With the first row of a
//! month another file is begun, and the one before goes to a folder beside it that is named after its last month:
//!
//! ```text
//! LOGS/processed_from_raw_by_lab.csv                rows of this month
//! LOGS/2026-10/processed_from_raw_by_lab.csv        of the one before; each has a header
//! ```
//!
//! A crash may leave half a row at the end of the file. It is found when the file is opened: quotes
//! are counted from the start, so that a line end inside a quoted field is not taken for the end of a
//! row.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use tracing::warn;

use super::home::{self, Home};
use super::trouble::{Trouble, is_full};
use crate::mark::Identity;
use crate::report::{chain, clock};

/// Longest time that a row waits.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of rows that are written without waiting further.
const FLUSH_BYTES: usize = 1 << 20;

/// Bytes of rows that wait for a file that cannot be written; further rows are lost to the table.
const MAX_WAITING: usize = 16 << 20;

/// Longest half row that is taken for one; where more does not parse, the file is damaged.
const MAX_TORN: u64 = 1 << 20;

/// An appended table.
pub(crate) struct AppendedTable {
    path: PathBuf,
    home: Home,
    header: &'static [&'static str],
    file: Option<File>,
    rows: csv::Writer<Vec<u8>>,
    rows_bytes: usize,
    /// Encoded rows that the file has not taken yet; the first one may be there in part.
    unwritten: Vec<u8>,
    lost: u64,
    /// Lost rows are made anew by the owner.
    is_caught_up: bool,
    last_write: Option<Instant>,
    /// Month of the last row in the file. None for a file without rows.
    month: Option<String>,
    trouble: Trouble,
}

fn encoder() -> csv::Writer<Vec<u8>> {
    csv::WriterBuilder::new().delimiter(b';').from_writer(Vec::new())
}

impl AppendedTable {
    /// Opens or makes the table and repairs the end of it. A file that is no such table is set aside
    /// with a warning. On a full disk the rows wait from the start. Errors: the file cannot be read or written.
    pub(crate) fn open(path: PathBuf, header: &'static [&'static str]) -> io::Result<Self> {
        repair(&path, header)?;
        let month = month_of(&path, header);
        let mut table = Self {
            home: Home::of(&path),
            path,
            header,
            file: None,
            rows: encoder(),
            rows_bytes: 0,
            unwritten: Vec::new(),
            lost: 0,
            is_caught_up: false,
            last_write: None,
            month,
            trouble: Trouble::default(),
        };
        match table.write() {
            Err(error) if !is_full(&error) => Err(error),
            written => {
                table.trouble.note(&table.path, &written);
                Ok(table)
            }
        }
    }

    /// The owner makes rows anew that were lost while the file refused to be written: see [`Self::take_lost`].
    pub(crate) fn caught_up(self) -> Self {
        Self { is_caught_up: true, ..self }
    }

    /// How many rows were lost, once the file is written again.
    pub(crate) fn take_lost(&mut self) -> u64 {
        if self.unwritten.is_empty() && !self.trouble.is_failing() { mem::take(&mut self.lost) } else { 0 }
    }

    /// So many rows are to be made anew.
    pub(crate) fn owe(&mut self, rows: u64) {
        self.lost += rows;
    }

    /// No row comes any more. Answers how many the file lacks.
    pub(crate) fn close(&mut self) -> u64 {
        self.flush();
        let rows = csv::ReaderBuilder::new().delimiter(b';').has_headers(false).from_reader(&*self.unwritten);
        let is_row = |row: &csv::StringRecord| row.iter().ne(self.header.iter().copied());
        let unwritten = rows.into_records().flatten().filter(is_row).count() as u64;
        mem::take(&mut self.lost) + unwritten
    }

    fn tell_lost(&mut self) {
        if self.lost > 0 && !self.is_caught_up {
            let rows = mem::take(&mut self.lost);
            warn!(file = %self.path.display(), rows, "rows are missing in the registry file: it could not be written for too long");
        }
    }

    /// The files of the table: that of this month and those before.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let (folder, name) = (self.path.parent(), self.path.file_name().unwrap_or_default());
        let beside = folder.and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
        let before = beside.filter(|entry| is_month(&entry.file_name())).map(|entry| entry.path().join(name));
        let files = before.flat_map(|file| (1..).map(move |number| numbered(&file, number)).take_while(|f| f.exists()));
        files.chain([self.path.clone()]).collect()
    }

    /// Adds a row. It must have as many fields as the header.
    pub(crate) fn append(&mut self, fields: &[&str]) {
        if self.unwritten.len() + self.rows_bytes > MAX_WAITING {
            self.lost += 1;
            return;
        }
        debug_assert_eq!(fields.len(), self.header.len());
        self.rows_bytes += fields.iter().map(|field| field.len() + 1).sum::<usize>();
        // Writing to memory fails only for a wrong number of fields.
        if self.rows.write_record(fields).is_err() {
            self.lost += 1;
        }
        // Rows that come faster than anybody looks at the time are waited for, unless the file refuses them.
        if self.rows_bytes >= FLUSH_BYTES && self.unwritten.is_empty() {
            self.flush();
        }
    }

    /// Writes what has waited long enough.
    pub(crate) fn tick(&mut self, now: Instant) {
        let waits = self.rows_bytes > 0 || !self.unwritten.is_empty();
        let due = self.last_write.is_none_or(|last| now.duration_since(last) >= FLUSH_INTERVAL);
        let full = self.rows_bytes >= FLUSH_BYTES && self.unwritten.is_empty();
        if waits && (due || full) {
            self.last_write = Some(now);
            self.flush();
        }
    }

    /// Writes all that waits.
    pub(crate) fn flush(&mut self) {
        if self.rows_bytes == 0 && self.unwritten.is_empty() {
            return;
        }
        let result = self.write();
        if self.trouble.note(&self.path, &result) {
            self.tell_lost();
        }
    }

    /// Begins another file, if this is the first row of a month. Half a row is first written to its end.
    fn turn(&mut self) {
        let now = clock::local_month(clock::now_ms());
        let before = self.month.replace(now).filter(|before| Some(before) != self.month.as_ref());
        let Some(before) = before else { return };
        self.file = None;
        if let Err(error) = keep(&self.path, &before) {
            let file = self.path.display();
            warn!(%file, error = %chain(&error), "the rows of a new month follow those of the one before, since the file \
                cannot be moved to a folder for that month");
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if self.rows_bytes > 0 && self.unwritten.is_empty() {
            self.turn();
        }
        let rows = mem::replace(&mut self.rows, encoder());
        self.rows_bytes = 0;
        // Ends in memory: nothing there can fail.
        self.unwritten.extend(rows.into_inner().map_err(|error| io::Error::other(error.to_string()))?);
        // Somebody may have moved the file away to start another one, or its folder.
        let is_gone = |file: &File| !Identity::is_of(&self.path, file);
        self.file.take_if(|file| is_gone(file));
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                self.home.make()?;
                let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
                let header = header_line(self.header);
                // one that a file before this one did not take
                if self.unwritten.starts_with(&header) {
                    self.unwritten.drain(..header.len());
                }
                if file.seek(SeekFrom::End(0))? == 0 {
                    self.unwritten.splice(..0, header);
                }
                none.insert(file)
            }
        };
        let mut written = 0;
        let result = loop {
            match file.write(&self.unwritten[written..]) {
                _ if written == self.unwritten.len() => break Ok(()),
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.unwritten.drain(..written);
        result
    }
}

/// Month of the last row of a table, by the time of its file.
fn month_of(path: &Path, header: &[&str]) -> Option<String> {
    let found = fs::metadata(path).ok().filter(|found| found.len() > header_line(header).len() as u64)?;
    let since = found.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(clock::local_month(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
}

/// Whether a folder is named after a month.
fn is_month(name: &OsStr) -> bool {
    let is_digit = |at: usize, byte: u8| if at == 4 { byte == b'-' } else { byte.is_ascii_digit() };
    let name = name.as_encoded_bytes();
    name.len() == 7 && name.iter().enumerate().all(|(at, byte)| is_digit(at, *byte))
}

/// The file of a month; a clock that was wrong may have made another one before.
fn numbered(file: &Path, number: u32) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    if number > 1 {
        name.push(format!(".{number}"));
    }
    name.into()
}

/// Moves a file to the folder of its month.
fn keep(path: &Path, month: &str) -> io::Result<()> {
    let kept = path.with_file_name(month).join(path.file_name().unwrap_or_default());
    let free = || (1..).map(|number| numbered(&kept, number)).find(|file| !file.exists());
    let made = kept.parent().map_or(Ok(()), home::make);
    match made.and_then(|()| fs::rename(path, free().unwrap_or_else(|| kept.clone()))) {
        // somebody has moved it away, or its folder
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        moved => moved,
    }
}

/// The header as the first line of a file.
pub(super) fn header_line(header: &[&str]) -> Vec<u8> {
    let mut line = header.join(";").into_bytes();
    line.push(b'\n');
    line
}

/// Sets a file aside that cannot be used; nothing of it is lost.
pub(super) fn set_aside(path: &Path, why: &str) -> io::Result<()> {
    let aside = super::aside::set_aside(path)?;
    warn!(file = %path.display(), moved_to = %aside.display(), reason = why, "a registry file cannot be used and was set aside");
    Ok(())
}

/// Makes the file end with a whole row.
fn repair(path: &Path, header: &[&str]) -> io::Result<()> {
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let (rows_end, end) = ends(&mut file)?;
    if end == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::Start(0))?;
    let mut reader = reader((&file).take(64 << 10));
    if reader.headers().map_or(true, |found| found.iter().ne(header.iter().copied())) {
        drop(reader);
        return set_aside(path, "its first line is not the header of this table");
    }
    drop(reader);
    if rows_end == end {
        return Ok(());
    }
    if end - rows_end > MAX_TORN {
        return set_aside(path, "a quote is open that never ends");
    }
    let mut torn = Vec::new();
    file.seek(SeekFrom::Start(rows_end))?;
    file.read_to_end(&mut torn)?;
    if is_whole(&torn, header.len()) {
        return file.write_all(b"\n");
    }
    file.set_len(rows_end)?;
    let torn = String::from_utf8_lossy(&torn);
    warn!(file = %path.display(), row = %torn, "removed half a row at the end of a registry file, which a crash had left there");
    Ok(())
}

/// Whether this is a row that lacks nothing but its line end.
fn is_whole(row: &[u8], fields: usize) -> bool {
    if row.iter().filter(|&&byte| byte == b'"').count() % 2 == 1 {
        return false;
    }
    let mut reader = csv::ReaderBuilder::new().delimiter(b';').has_headers(false).from_reader(row);
    matches!(reader.records().next(), Some(Ok(record)) if record.len() == fields)
}

/// The rows of a table, without its header.
pub(crate) fn rows(path: &Path) -> io::Result<csv::StringRecordsIntoIter<File>> {
    Ok(reader(File::open(path)?).into_records())
}

pub(super) fn reader<R: Read>(from: R) -> csv::Reader<R> {
    csv::ReaderBuilder::new().delimiter(b';').from_reader(from)
}

/// The end of the last whole row, and the end of the file.
fn ends(file: &mut File) -> io::Result<(u64, u64)> {
    let mut block = vec![0; 64 << 10];
    let (mut rows_end, mut end, mut quoted) = (0, 0, false);
    loop {
        let count = match file.read(&mut block) {
            Ok(0) => return Ok((rows_end, end)),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for (position, &byte) in (end + 1..).zip(&block[..count]) {
            match byte {
                b'"' => quoted = !quoted,
                b'\n' if !quoted => rows_end = position,
                _ => {}
            }
        }
        end += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const HEADER: &[&str] = &["name", "text"];

    fn folder() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        (folder, path)
    }

    fn rows(path: &Path) -> Vec<Vec<String>> {
        let mut reader = reader(File::open(path).unwrap());
        assert_eq!(reader.headers().unwrap(), HEADER);
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn rows_come_back_whatever_they_hold() {
        let (_folder, path) = folder();
        let fields = [["a;b", "quote \" and \"\""], ["line\nend\r\n", " spaces "], ["", "ä…"], ["#x", "="]];
        for half in fields.chunks(2) {
            let mut table = AppendedTable::open(path.clone(), HEADER).unwrap();
            half.iter().for_each(|row| table.append(row));
            table.flush();
        }
        assert_eq!(rows(&path), fields);
    }

    #[test]
    fn rows_are_written_a_second_later_at_most() {
        let (_folder, path) = folder();
        let mut table = AppendedTable::open(path.clone(), HEADER).unwrap();
        let start = Instant::now();
        table.append(&["1", ""]);
        table.tick(start);
        assert_eq!(rows(&path).len(), 1);
        table.append(&["2", ""]);
        table.tick(start + Duration::from_millis(900));
        assert_eq!(rows(&path).len(), 1);
        table.tick(start + Duration::from_millis(1000));
        assert_eq!(rows(&path).len(), 2);
    }

    #[test]
    fn half_a_row_at_the_end_is_removed_wherever_it_was_torn() {
        let (_folder, path) = folder();
        let whole = "name;text\nfirst;1\n";
        let last = "\"se;c\"\"o\nnd\";\"2\n;\"";
        for cut in 1..last.len() {
            fs::write(&path, format!("{whole}{}", &last[..cut])).unwrap();
            let mut table = AppendedTable::open(path.clone(), HEADER).unwrap();
            table.append(&["third", "3"]);
            table.flush();
            let rows = rows(&path);
            assert_eq!(rows.first().unwrap(), &["first", "1"], "cut at {cut}");
            assert_eq!(rows.last().unwrap(), &["third", "3"], "cut at {cut}");
            assert!(rows.len() <= 3, "cut at {cut}");
        }
        fs::write(&path, format!("{whole}{last}")).unwrap();
        drop(AppendedTable::open(path.clone(), HEADER).unwrap());
        assert_eq!(rows(&path)[1], ["se;c\"o\nnd", "2\n;"]);
    }

    #[test]
    fn a_file_that_is_something_else_is_set_aside() {
        let (folder, path) = folder();
        for text in ["other;columns\n1;2\n".to_owned(), format!("name;text\n\"{}", "x".repeat(2 << 20))] {
            fs::write(&path, &text).unwrap();
            drop(AppendedTable::open(path.clone(), HEADER).unwrap());
            assert!(rows(&path).is_empty());
            let aside: Vec<PathBuf> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            let aside = aside.iter().find(|file| **file != path).unwrap();
            assert_eq!(fs::read_to_string(aside).unwrap(), text);
            fs::remove_file(aside).unwrap();
        }
    }

    #[test]
    fn a_table_that_python_began_is_continued() {
        let (_folder, path) = folder();
        fs::write(&path, "name;text\r\n\"a;b\";1\r\n").unwrap();
        let mut table = AppendedTable::open(path.clone(), HEADER).unwrap();
        table.append(&["c", "2"]);
        table.flush();
        assert_eq!(rows(&path), [["a;b", "1"], ["c", "2"]]);
    }

    #[test]
    fn each_month_has_a_file_with_a_header_and_those_before_are_kept() {
        let (folder, path) = folder();
        let mut table = AppendedTable::open(path.clone(), HEADER).unwrap();
        for (month, name) in [(None, "a"), (Some("2001-01"), "b"), (Some("2001-02"), "c"), (Some("2001-01"), "d")] {
            table.month = month.map(str::to_owned).or(table.month);
            table.append(&[name, "1"]);
            table.flush();
            table.append(&[name, "2"]);
            table.flush();
        }
        let of = |month: &str| folder.path().join(month).join("table.csv");
        let names = |path: &Path| rows(path).into_iter().map(|row| row.concat()).collect::<Vec<_>>();
        assert_eq!(names(&path), ["d1", "d2"]);
        assert_eq!(
            (names(&of("2001-01")), names(&of("2001-02"))),
            (vec!["a1".to_owned(), "a2".into()], vec!["b1".into(), "b2".into()])
        );
        let again = folder.path().join("2001-01/table.csv.2");
        assert_eq!(names(&again), ["c1", "c2"]);
        let mut files = table.files();
        files.sort();
        assert_eq!(files, [of("2001-01"), again, of("2001-02"), path]);
    }

    #[test]
    fn a_file_of_an_earlier_month_is_kept_with_the_first_row_after_a_start() {
        let (folder, path) = folder();
        fs::write(&path, "name;text\na;1\n").unwrap();
        let middle_of_june = UNIX_EPOCH + Duration::from_secs(1_750_000_000);
        let aged = || File::options().write(true).open(&path).unwrap().set_modified(middle_of_june).unwrap();
        aged();
        let mut table = AppendedTable::open(path.clone(), HEADER).unwrap();
        assert_eq!(rows(&path), [["a", "1"]], "nothing has come");
        table.append(&["b", "2"]);
        table.flush();
        assert_eq!(rows(&path), [["b", "2"]]);
        assert_eq!(rows(&folder.path().join("2025-06/table.csv")), [["a", "1"]]);
        fs::write(&path, "name;text\n").unwrap();
        aged();
        let mut table = AppendedTable::open(path.clone(), HEADER).unwrap();
        table.append(&["c", "3"]);
        table.flush();
        assert!(!folder.path().join("2025-06/table.csv.2").exists(), "there are no rows to keep");
    }

    #[test]
    fn a_file_that_cannot_be_moved_to_its_month_is_continued() {
        let (folder, path) = folder();
        let mut table = AppendedTable::open(path.clone(), HEADER).unwrap();
        table.append(&["a", "1"]);
        table.flush();
        fs::write(folder.path().join("2001-01"), "in the way").unwrap();
        table.month = Some("2001-01".to_owned());
        table.append(&["b", "2"]);
        table.flush();
        assert_eq!(rows(&path), [["a", "1"], ["b", "2"]]);
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_again() {
        let (folder, path) = folder();
        let mut table = AppendedTable::open(path.clone(), HEADER).unwrap();
        fs::rename(&path, folder.path().join("old.csv")).unwrap();
        table.append(&["a", "1"]);
        table.flush();
        assert_eq!(rows(&path), [["a", "1"]]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn rows_wait_while_the_disk_is_full() {
        let (folder, path) = folder();
        let mut table = AppendedTable::open(path.clone(), HEADER).unwrap();
        let aside = folder.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        for name in ["a", "b"] {
            table.append(&[name, "1"]);
            table.flush();
        }
        assert!(rows(&aside).is_empty());
        fs::rename(&aside, &path).unwrap();
        table.flush();
        assert_eq!(rows(&path), [["a", "1"], ["b", "1"]]);
    }

    #[test]
    fn a_folder_that_was_removed_is_made_again_and_nothing_in_the_place_of_the_one_above() {
        let (folder, _) = folder();
        let (above, away) = (folder.path().join("share"), folder.path().join("away"));
        let path = above.join("LOGS/table.csv");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut table = AppendedTable::open(path.clone(), HEADER).unwrap();
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        table.append(&["a", "1"]);
        table.flush();
        assert_eq!(rows(&path), [["a", "1"]]);
        fs::rename(&above, &away).unwrap();
        table.append(&["b", "2"]);
        table.flush();
        assert!(!above.exists(), "the share is not mounted");
        // its mount point is there
        fs::create_dir(&above).unwrap();
        table.flush();
        assert_eq!(fs::read_dir(&above).unwrap().count(), 0);
        fs::remove_dir(&above).unwrap();
        fs::rename(&away, &above).unwrap();
        table.flush();
        assert_eq!(rows(&path), [["a", "1"], ["b", "2"]]);
    }

    #[test]
    fn what_cannot_be_written_waits_and_is_bounded() {
        let (folder, _) = folder();
        let path = folder.path().join("LOGS/table.csv");
        fs::create_dir(path.parent().unwrap()).unwrap();
        let mut table = AppendedTable::open(path.clone(), HEADER).unwrap();
        let moved = folder.path().with_extension("moved");
        fs::rename(folder.path(), &moved).unwrap();
        let long = "x".repeat(1 << 20);
        for _ in 0..40 {
            table.append(&["a", &long]);
            table.flush();
        }
        assert!(table.unwritten.len() < MAX_WAITING + (2 << 20));
        assert!(table.lost > 20);
        let lost = table.lost;
        assert_eq!(table.close(), 40);
        table.owe(lost);
        fs::rename(&moved, folder.path()).unwrap();
        table.flush();
        table.append(&["b", "2"]);
        table.flush();
        assert_eq!(table.lost, 0);
        let rows = rows(&path);
        assert!(rows.len() > 10 && rows.len() < 20, "{}", rows.len());
        assert_eq!(rows.last().unwrap(), &["b", "2"]);
    }
}
