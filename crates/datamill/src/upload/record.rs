//! What was delivered from a watched folder, durable: one file per log and topic in the folder `LOGS`.
//!
//! ```text
//! .datamill_uploaded_to_{topic}_{8 hex digits of the SHA-512 of the log's id}.jsonl
//!     line   = check " " json "\n"
//!     check  = first 8 hex digits of the SHA-512 of json
//!     json   = {"log":ID,"topic":T}                                          first line
//!            | {"started":true}                                              the first start is over
//!            | {"path":P,"size":N,"mtime_ns":N,"sha512":HEX}                 delivered
//!            | {"path":P,"size":N,"mtime_ns":N}                              there at the first start, not sent
//!            | {"path":P,"sending":HEX}                                      some chunks may be in the topic
//! ```
//!
//! Lines are appended, the last one about a path counts. A line that a crash cut off is dropped when
//! the file is opened; so is one whose check fails, with a warning: its file is sent again. Opening
//! writes the file anew (aside, then renamed) where it holds more dead lines than live ones.
//!
//! A file is written down once the log has acknowledged its last chunk. A process that is killed
//! between the two sends the file again after its restart: as the same version, whole, under the same
//! path, so that readers see a repeated upload. Lines reach the operating system at once and the disk
//! within a second: after a power failure, the files delivered in the last second may be repeated too.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use datamill_wire::{hex, sha512};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::stamp::Stamp;

/// Longest time that a written line waits for its way to the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Why the record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file system refuses.
    #[error(
        "the record of what was sent, `{path}`, cannot be read or written: make sure that the folder can be written to and has room"
    )]
    Io {
        /// The record.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The file is that of another log or topic, or no record at all.
    #[error("`{path}` is not the record of topic `{topic}` in this log: move it away to start anew")]
    Foreign {
        /// The record.
        path: PathBuf,
        /// The topic that is uploaded to.
        topic: String,
    },
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its stamp when it was delivered, or when it was there at the first start.
    pub stamp: Stamp,
    /// The hash of what was delivered; `None` where nothing was.
    pub sha512: Option<[u8; 64]>,
}

#[derive(Debug, Default)]
struct Entry {
    known: Option<Known>,
    sending: Option<[u8; 64]>,
}

/// The record of one watched folder, log and topic.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    file: File,
    entries: HashMap<Box<str>, Entry>,
    started: bool,
    unsynced_since: Option<Instant>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Header {
        log: String,
        topic: String,
    },
    Started {
        started: bool,
    },
    Sending {
        path: String,
        sending: String,
    },
    Known {
        path: String,
        size: u64,
        mtime_ns: i64,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        sha512: Option<String>,
    },
}

impl Record {
    /// Opens or makes the record at `path` for this log and topic.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or belongs to another log or topic.
    pub fn open(path: &Path, log_id: &str, topic: &str) -> Result<Self, RecordError> {
        let io_error = |source| RecordError::Io { path: path.to_owned(), source };
        let mut entries = HashMap::new();
        let mut started = false;
        let loaded = match File::open(path) {
            Ok(file) => Some(load(file).map_err(io_error)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_error(error)),
        };
        let mut renew = true;
        if let Some(Loaded { lines, bad, torn }) = loaded {
            let count = lines.len();
            let mut lines = lines.into_iter();
            match lines.next() {
                Some(Line::Header { log, topic: named }) if log == log_id && named == topic => {}
                None if bad == 0 => {}
                _ => {
                    let (path, topic) = (path.to_owned(), topic.to_owned());
                    return Err(RecordError::Foreign { path, topic });
                }
            }
            lines.for_each(|line| apply(line, &mut entries, &mut started));
            if bad > 0 {
                warn!(
                    file = %path.display(),
                    "`{bad}` damaged lines in the record of what was sent: their files are sent again"
                );
            }
            renew = torn || bad > 0 || count == 0 || count > 2 * entries.len() + 100;
        }
        if renew {
            write_aside(path, log_id, topic, &entries, started).map_err(io_error)?;
        }
        let file = OpenOptions::new().append(true).open(path).map_err(io_error)?;
        Ok(Self { path: path.to_owned(), file, entries, started, unsynced_since: None })
    }

    /// Whether the first start is over: what was there then has been dealt with.
    pub fn has_started(&self) -> bool {
        self.started
    }

    /// What is known of a file.
    pub fn known(&self, path: &str) -> Option<Known> {
        self.entries.get(path).and_then(|entry| entry.known)
    }

    /// The hash of a version of which some chunks may be in the topic, and not all.
    pub fn half_sent(&self, path: &str) -> Option<[u8; 64]> {
        self.entries.get(path).and_then(|entry| entry.sending)
    }

    /// Writes down that the file was delivered with this stamp and hash, or was delivered before with
    /// this hash and has this stamp by now.
    ///
    /// # Errors
    /// Where the line cannot be written.
    pub fn delivered(&mut self, path: &str, stamp: Stamp, hash: &[u8; 64]) -> Result<(), RecordError> {
        let entry = Entry { known: Some(Known { stamp, sha512: Some(*hash) }), sending: None };
        self.entries.insert(path.into(), entry);
        self.append(&known_line(path, stamp, Some(hash)))
    }

    /// Writes down that chunks of this version are about to be sent.
    ///
    /// # Errors
    /// Where the line cannot be written.
    pub fn sending(&mut self, path: &str, hash: &[u8; 64]) -> Result<(), RecordError> {
        self.entries.entry(path.into()).or_default().sending = Some(*hash);
        self.append(&Line::Sending { path: path.to_owned(), sending: hex(hash) })
    }

    /// Ends the first start: `existing` are the files that were there and are not sent.
    ///
    /// # Errors
    /// Where the lines cannot be written and brought to the disk.
    pub fn start(&mut self, existing: &[(String, Stamp)]) -> Result<(), RecordError> {
        let mut text = Vec::new();
        for (path, stamp) in existing {
            let known = Some(Known { stamp: *stamp, sha512: None });
            self.entries.insert(path.as_str().into(), Entry { known, sending: None });
            push_line(&mut text, &known_line(path, *stamp, None));
        }
        push_line(&mut text, &Line::Started { started: true });
        self.started = true;
        self.write(&text)?;
        self.sync()
    }

    fn append(&mut self, line: &Line) -> Result<(), RecordError> {
        let mut text = Vec::new();
        push_line(&mut text, line);
        self.write(&text)
    }

    fn write(&mut self, text: &[u8]) -> Result<(), RecordError> {
        self.unsynced_since.get_or_insert_with(Instant::now);
        self.file.write_all(text).map_err(|source| self.io_error(source))
    }

    /// Brings to the disk what has been waiting for a second.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn sync_if_due(&mut self) -> Result<(), RecordError> {
        match self.unsynced_since {
            Some(since) if since.elapsed() >= SYNC_EVERY => self.sync(),
            _ => Ok(()),
        }
    }

    /// Brings everything to the disk.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn sync(&mut self) -> Result<(), RecordError> {
        if self.unsynced_since.take().is_some() {
            self.file.sync_data().map_err(|source| self.io_error(source))?;
        }
        Ok(())
    }

    fn io_error(&self, source: io::Error) -> RecordError {
        RecordError::Io { path: self.path.clone(), source }
    }
}

struct Loaded {
    lines: Vec<Line>,
    /// Lines whose check failed.
    bad: usize,
    /// The last line has no end.
    torn: bool,
}

fn load(file: File) -> io::Result<Loaded> {
    let mut reader = BufReader::new(file);
    let mut loaded = Loaded { lines: Vec::new(), bad: 0, torn: false };
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(loaded);
        }
        let Some(text) = bytes.strip_suffix(b"\n") else {
            loaded.torn = true;
            return Ok(loaded);
        };
        match parse(text) {
            Some(line) => loaded.lines.push(line),
            None => loaded.bad += 1,
        }
    }
}

fn parse(text: &[u8]) -> Option<Line> {
    let (check, json) = text.split_at_checked(9)?;
    let same = check[..8] == *check_of(json).as_bytes() && check[8] == b' ';
    if same { serde_json::from_slice(json).ok() } else { None }
}

fn check_of(json: &[u8]) -> String {
    hex(&sha512(json)[..4])
}

fn apply(line: Line, entries: &mut HashMap<Box<str>, Entry>, started: &mut bool) {
    match line {
        Line::Header { .. } => {}
        Line::Started { started: is } => *started = is,
        Line::Sending { path, sending } => {
            entries.entry(path.into()).or_default().sending = unhex(&sending);
        }
        Line::Known { path, size, mtime_ns, sha512 } => {
            let stamp = Stamp { size, mtime_ns };
            let known = Some(Known { stamp, sha512: sha512.as_deref().and_then(unhex) });
            entries.insert(path.into(), Entry { known, sending: None });
        }
    }
}

fn known_line(path: &str, stamp: Stamp, sha512: Option<&[u8; 64]>) -> Line {
    Line::Known {
        path: path.to_owned(),
        size: stamp.size,
        mtime_ns: stamp.mtime_ns,
        sha512: sha512.map(|hash| hex(hash)),
    }
}

fn push_line(text: &mut Vec<u8>, line: &Line) {
    // Strings and numbers always become JSON.
    let json = serde_json::to_string(line).unwrap_or_default();
    text.extend_from_slice(check_of(json.as_bytes()).as_bytes());
    text.push(b' ');
    text.extend_from_slice(json.as_bytes());
    text.push(b'\n');
}

fn write_aside(
    path: &Path,
    log_id: &str,
    topic: &str,
    entries: &HashMap<Box<str>, Entry>,
    started: bool,
) -> io::Result<()> {
    let mut text = Vec::new();
    push_line(&mut text, &Line::Header { log: log_id.to_owned(), topic: topic.to_owned() });
    let aside = path.with_extension("jsonl.aside");
    let mut file = io::BufWriter::new(File::create(&aside)?);
    for (name, entry) in entries {
        if let Some(known) = entry.known {
            push_line(&mut text, &known_line(name, known.stamp, known.sha512.as_ref()));
        }
        if let Some(hash) = entry.sending {
            push_line(&mut text, &Line::Sending { path: name.to_string(), sending: hex(&hash) });
        }
        file.write_all(&text)?;
        text.clear();
    }
    if started {
        push_line(&mut text, &Line::Started { started });
    }
    file.write_all(&text)?;
    file.into_inner()?.sync_all()?;
    fs::rename(&aside, path)?;
    sync_folder(path)
}

/// Makes a rename durable where folders can be synced.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix)
        && let Some(folder) = path.parent()
    {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn unhex(text: &str) -> Option<[u8; 64]> {
    let digits = text.as_bytes();
    if digits.len() != 128 {
        return None;
    }
    let mut bytes = [0; 64];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { size: 3, mtime_ns: -5 };

    fn open(dir: &Path) -> Record {
        Record::open(&dir.join("r.jsonl"), "log", "t").unwrap()
    }

    #[test]
    fn what_was_written_is_there_after_opening_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = open(dir.path());
        assert!(!record.has_started());
        record.start(&[("old.csv".into(), STAMP)]).unwrap();
        record.sending("a b\n\".csv", &[1; 64]).unwrap();
        record.sending("half.csv", &[2; 64]).unwrap();
        record.delivered("a b\n\".csv", STAMP, &[1; 64]).unwrap();
        drop(record);
        for _ in 0..2 {
            let record = open(dir.path());
            assert!(record.has_started());
            let known = Known { stamp: STAMP, sha512: None };
            assert_eq!(record.known("old.csv"), Some(known));
            let known = Known { stamp: STAMP, sha512: Some([1; 64]) };
            assert_eq!(record.known("a b\n\".csv"), Some(known));
            assert_eq!(record.half_sent("a b\n\".csv"), None);
            assert_eq!(record.half_sent("half.csv"), Some([2; 64]));
            assert_eq!(record.known("half.csv"), None);
        }
    }

    #[test]
    fn a_line_that_was_cut_off_anywhere_is_dropped_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        let mut record = open(dir.path());
        record.start(&[]).unwrap();
        record.delivered("a", STAMP, &[1; 64]).unwrap();
        let before = fs::metadata(&path).unwrap().len();
        record.delivered("b", STAMP, &[2; 64]).unwrap();
        drop(record);
        let whole = fs::read(&path).unwrap();
        for length in before as usize..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let mut record = open(dir.path());
            assert!(record.known("a").is_some() && record.has_started());
            assert_eq!(record.known("b"), None);
            record.delivered("c", STAMP, &[3; 64]).unwrap();
            drop(record);
            assert!(open(dir.path()).known("c").is_some());
        }
    }

    #[test]
    fn a_damaged_line_costs_its_own_file_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        let mut record = open(dir.path());
        for name in ["a", "b", "c"] {
            record.delivered(name, STAMP, &[1; 64]).unwrap();
        }
        drop(record);
        let text = fs::read_to_string(&path).unwrap().replace(r#""path":"b""#, r#""path":"x""#);
        fs::write(&path, text).unwrap();
        let record = open(dir.path());
        assert!(record.known("a").is_some() && record.known("c").is_some());
        assert!(record.known("b").is_none() && record.known("x").is_none());
    }

    #[test]
    fn the_record_of_another_log_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        let other = Record::open(&dir.path().join("r.jsonl"), "other", "t");
        assert!(matches!(other, Err(RecordError::Foreign { .. })));
    }

    #[test]
    fn many_lines_about_few_files_are_put_together() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        let mut record = open(dir.path());
        for round in 0..500 {
            record.delivered("a", Stamp { size: round, mtime_ns: 0 }, &[1; 64]).unwrap();
        }
        drop(record);
        let long = fs::metadata(&path).unwrap().len();
        let record = open(dir.path());
        assert_eq!(record.known("a").unwrap().stamp.size, 499);
        assert!(fs::metadata(&path).unwrap().len() < long / 100);
    }
}
