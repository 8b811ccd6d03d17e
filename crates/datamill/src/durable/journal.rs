//! A file of checked lines to which lines are appended.
//!
//! ```text
//! line   = check " " json "\n"
//! check  = first 8 hex digits of the SHA-512 of json
//! ```
//!
//! The owner holds in memory what the lines amount to, and says what they mean; here they are read, written and
//! brought to the disk. A line that a crash cut off is dropped when the file is opened. Where the check of another
//! line fails, a copy of the file is kept, and the file is written anew without that line. It is also written anew
//! where it holds far more lines than the owner needs.
//!
//! ```text
//! file     │ synced ............│ written ...│ torn
//! memory   │ owner's entries    │ waiting ..........│
//! ```
//! Lines stay in memory until the disk has them. A write that broke off goes on where it ended. After a sync that
//! failed nobody knows what the disk has, so the file is cut to what was synced and the lines are written again.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use datamill_wire::{hex, sha512};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::aside;
use crate::mark::Identity;

/// Lines that may be in the file beyond twice as many as the owner needs.
const MAY_BE_DEAD: usize = 1_000;

/// What is in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Lines that were handed out.
    pub(crate) lines: usize,
    /// Lines whose check failed.
    pub(crate) damaged: usize,
    /// Bytes up to the end of the last line.
    whole: u64,
    /// More bytes follow: a line without its end.
    torn: bool,
}

impl Contents {
    /// Reads the file and hands each line to `take`, in order. A missing file has no lines.
    pub(crate) fn load<L: DeserializeOwned>(path: &Path, mut take: impl FnMut(L)) -> io::Result<Self> {
        let mut contents = Self::default();
        let mut reader = match File::open(path) {
            Ok(file) => BufReader::with_capacity(64 << 10, file),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(contents),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let count = reader.read_until(b'\n', &mut bytes)?;
            let Some(text) = bytes.strip_suffix(b"\n") else {
                contents.torn = count > 0;
                return Ok(contents);
            };
            contents.whole += count as u64;
            match parse(text) {
                Some(line) => {
                    contents.lines += 1;
                    take(line);
                }
                None => contents.damaged += 1,
            }
        }
    }
}

fn parse<L: DeserializeOwned>(text: &[u8]) -> Option<L> {
    let (check, json) = text.split_at_checked(9)?;
    let same = check[..8] == *check_of(json).as_bytes() && check[8] == b' ';
    if same { serde_json::from_slice(json).ok() } else { None }
}

fn check_of(json: &[u8]) -> String {
    hex(&sha512(json)[..4])
}

/// Takes the lines of a file that is written anew.
pub(crate) struct Lines<'a> {
    into: &'a mut dyn Write,
    text: Vec<u8>,
    count: usize,
    bytes: u64,
}

impl<'a> Lines<'a> {
    fn new(into: &'a mut dyn Write) -> Self {
        Self { into, text: Vec::new(), count: 0, bytes: 0 }
    }

    /// Adds a line.
    pub(crate) fn push(&mut self, line: &impl Serialize) -> io::Result<()> {
        self.text.clear();
        push_line(&mut self.text, line);
        self.count += 1;
        self.bytes += self.text.len() as u64;
        self.into.write_all(&self.text)
    }
}

fn push_line(text: &mut Vec<u8>, line: &impl Serialize) {
    // What lines are made of, texts and numbers, always becomes JSON.
    let json = serde_json::to_string(line).unwrap_or_default();
    text.extend_from_slice(check_of(json.as_bytes()).as_bytes());
    text.push(b' ');
    text.extend_from_slice(json.as_bytes());
    text.push(b'\n');
}

/// See the module. One process at a time may have a file open.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// None where it was closed to be replaced and could not be opened again.
    file: Option<File>,
    /// Lines in the file, those that wait included.
    lines: usize,
    /// The file is written anew when it has more lines than this and than the owner needs.
    renew_above: usize,
    /// Bytes of the file that the disk has.
    synced: u64,
    /// The lines after these, and how many bytes of them are in the file.
    waiting: Vec<u8>,
    waiting_lines: usize,
    written: usize,
    /// When the oldest of these lines came.
    since: Option<Instant>,
    /// What follows the synced bytes in the file is not known.
    broken: bool,
}

impl Journal {
    /// Opens a file whose contents were loaded, or makes it. `live` is how many lines the owner needs, `all` hands
    /// them over. Answers also where a copy of a damaged file is kept.
    pub(crate) fn open(
        path: &Path,
        contents: &Contents,
        live: usize,
        all: &dyn Fn(&mut Lines<'_>) -> io::Result<()>,
    ) -> io::Result<(Self, Option<PathBuf>)> {
        let kept = if contents.damaged > 0 { Some(aside::keep_copy(path)?) } else { None };
        let anew = kept.is_some() || contents.lines == 0 || contents.lines > limit(live);
        let (lines, synced) = if anew { write_anew(path, all)? } else { (contents.lines, contents.whole) };
        let file = OpenOptions::new().append(true).open(path)?;
        if !anew {
            if contents.torn {
                file.set_len(contents.whole)?;
            }
            file.sync_data()?;
        }
        Ok((Self::of(path, file, lines, synced), kept))
    }

    fn of(path: &Path, file: File, lines: usize, synced: u64) -> Self {
        Self {
            path: path.to_owned(),
            file: Some(file),
            lines,
            renew_above: 0,
            synced,
            waiting: Vec::new(),
            waiting_lines: 0,
            written: 0,
            since: None,
            broken: false,
        }
    }

    /// Makes the file at `path` anew from what the owner has, in place of what may be there, and goes on in it. Where that
    /// fails, the journal goes on in the file before.
    pub(crate) fn go_to(&mut self, path: &Path, all: &dyn Fn(&mut Lines<'_>) -> io::Result<()>) -> io::Result<()> {
        self.let_go();
        let (lines, synced) = write_anew(path, all)?;
        let file = OpenOptions::new().append(true).open(path)?;
        *self = Self::of(path, file, lines, synced);
        Ok(())
    }

    /// Whether the path still leads to the file that is written to.
    pub(crate) fn is_in_place(&self) -> bool {
        self.file.as_ref().map_or_else(|| self.path.exists(), |file| Identity::is_of(&self.path, file))
    }

    /// Adds a line, in memory: [`Journal::write`] takes it to the file.
    pub(crate) fn push(&mut self, line: &impl Serialize) {
        push_line(&mut self.waiting, line);
        self.waiting_lines += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    /// Writes the lines that were added; the operating system has them when this returns. `live` and `all` are as
    /// for [`Journal::open`]: the file is written anew from them where it is long or can no longer be used.
    ///
    /// After an error the lines stay, and the next call goes on.
    pub(crate) fn write(&mut self, live: usize, all: &dyn Fn(&mut Lines<'_>) -> io::Result<()>) -> io::Result<()> {
        let lines = self.lines + self.waiting_lines;
        if lines > limit(live).max(self.renew_above) && self.renew(all).is_err() {
            // As on a full disk, where there may still be room for the new lines.
            self.renew_above = 2 * lines;
        }
        if self.broken {
            self.mend(all)?;
        }
        let file = open(&self.path, &mut self.file)?;
        while self.written < self.waiting.len() {
            match file.write(&self.waiting[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Brings what was written to the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        if let Err(error) = open(&self.path, &mut self.file).and_then(|file| file.sync_data()) {
            self.broken = true;
            return Err(error);
        }
        self.synced += self.written as u64;
        self.waiting.drain(..self.written);
        self.written = 0;
        if self.waiting.is_empty() {
            self.lines += std::mem::take(&mut self.waiting_lines);
            self.since = None;
        }
        Ok(())
    }

    /// Whether a line has been on its way to the disk for this long.
    pub(crate) fn waits_for(&self, span: Duration) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= span)
    }

    /// Bytes of the lines that are not on the disk.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting.len()
    }

    /// Drops the lines that are not on the disk; the next write cuts off what the file has of them.
    pub(crate) fn take_back(&mut self) {
        self.waiting.clear();
        self.waiting_lines = 0;
        self.written = 0;
        self.since = None;
        self.broken = true;
    }

    /// Makes the file end with what was synced.
    fn mend(&mut self, all: &dyn Fn(&mut Lines<'_>) -> io::Result<()>) -> io::Result<()> {
        let synced = self.synced;
        let cut = open(&self.path, &mut self.file).and_then(|file| {
            let has_all = file.metadata()?.len() >= synced;
            if has_all { file.set_len(synced).map(|()| true) } else { Ok(false) }
        });
        if !matches!(cut, Ok(true)) {
            return self.renew(all);
        }
        self.written = 0;
        self.broken = false;
        Ok(())
    }

    /// Writes the file anew from what the owner has. The lines that wait come after that.
    fn renew(&mut self, all: &dyn Fn(&mut Lines<'_>) -> io::Result<()>) -> io::Result<()> {
        self.let_go();
        let (lines, synced) = write_anew(&self.path, all)?;
        self.file = None;
        open(&self.path, &mut self.file)?;
        (self.lines, self.synced) = (lines, synced);
        self.written = 0;
        self.broken = false;
        self.renew_above = 0;
        Ok(())
    }

    /// Closes the file where it may be replaced only then: Windows replaces no file that is open, but on its own newest
    /// file systems.
    fn let_go(&mut self) {
        if cfg!(windows) {
            self.file = None;
        }
    }
}

/// The file, which is opened where it is not.
fn open<'f>(path: &Path, file: &'f mut Option<File>) -> io::Result<&'f mut File> {
    let opened = match file.take() {
        Some(open) => open,
        None => OpenOptions::new().append(true).open(path)?,
    };
    Ok(file.insert(opened))
}

fn limit(live: usize) -> usize {
    2 * live + MAY_BE_DEAD
}

/// Answers how many lines and bytes the file has.
fn write_anew(path: &Path, all: &dyn Fn(&mut Lines<'_>) -> io::Result<()>) -> io::Result<(usize, u64)> {
    let mut size = (0, 0);
    aside::replace_synced(path, |file| {
        let mut lines = Lines::new(file);
        all(&mut lines)?;
        size = (lines.count, lines.bytes);
        Ok(())
    })?;
    Ok(size)
}

#[cfg(test)]
impl Journal {
    /// From now on the file cannot be written to through its handle.
    pub(crate) fn lose_the_file(&mut self) {
        self.file = Some(File::open(&self.path).unwrap());
    }
}

#[cfg(test)]
mod tests;
