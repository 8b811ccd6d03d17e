//! What was delivered from a watched folder, durable: one file per log and topic in the folder `LOGS`.
//!
//! ```text
//! .datamill_uploaded_to_{topic}_{8 hex digits of the SHA-512 of the log's id}.jsonl
//!     a journal of `crate::durable`; its lines are
//!       {"log":ID,"topic":T,"topic_id":ID,"folders":[F,…],"path_prefix":P}   first line
//!     | {"started":true}                                              the first start is over
//!     | {"path":P,"size":N,"mtime_ns":N,"sha512":HEX,                 delivered
//!        "ctime_ns":N,"inode":N}
//!     | {"path":P,"size":N,"mtime_ns":N}                              there at the first start, not sent
//!     | {"path":P,"sending":HEX}                                      some chunks may be in the topic
//!     | {"confirmed":false}                                           what follows is acknowledged alone, until
//!     | {"confirmed":true}                                            the topic was seen to be the same afterwards
//! ```
//!
//! F is the id of the mark ([`crate::mark`]) of a folder that the record was used for, or the path of one that cannot
//! be marked. Release 0.1.0 wrote no folders, no `topic_id`, and no `ctime_ns` and `inode`. A topic that was deleted
//! and created again has another id: what was delivered to the one before counts as existing from then on. The last
//! line about a path counts. The file of a line that is damaged is sent again.
//!
//! What was acknowledged alone counts as delivered if the topic has the same id at the next start, else as never sent.
//!
//! A file is written down once the log has acknowledged its last chunk. A process that is killed
//! between the two sends the file again after its restart: as the same version, whole, under the same
//! path, so that readers see a repeated upload. Lines reach the operating system at once and the disk
//! within a second: after a power failure, the files delivered in the last second may be repeated too.

mod files;
mod look;

pub(crate) use look::look;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use datamill_wire::hex;
use serde::{Deserialize, Serialize};
use tracing::warn;

use files::{FileNumber, Files};

use super::stamp::{Stamp, Trace};
use crate::durable::{Contents, Journal, Lines};

/// Longest time that a written line waits for its way to the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Bytes of lines that may wait to be written.
const MUCH: usize = 1 << 20;

/// Folders that a record names at most.
const MOST_FOLDERS: usize = 100;

/// Files that are looked at for each of the newest folders.
const FILES_FOR_A_FOLDER: usize = 1_000;

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
pub(crate) struct Known {
    /// Its stamp when it was delivered, or when it was there at the first start.
    pub stamp: Stamp,
    /// The hash of what was delivered; `None` where nothing was.
    pub sha512: Option<[u8; 64]>,
    /// Its trace then, or when its content was last compared.
    pub trace: Option<Trace>,
}

/// The record of one watched folder, log and topic.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    journal: Journal,
    content: Content,
    /// Files that were delivered and are not written down yet.
    not_written: u64,
}

/// What the lines amount to.
#[derive(Debug, Default)]
struct Content {
    header: Option<(String, String)>,
    topic_id: Option<String>,
    folders: Vec<String>,
    path_prefix: String,
    started: bool,
    files: Files,
    /// Files that were acknowledged since the topic was last seen to be the same.
    unconfirmed: Vec<FileNumber>,
    /// Lines are read of files that were acknowledged alone.
    is_open: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Header {
        log: String,
        topic: String,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        topic_id: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty", default)]
        folders: Vec<String>,
        #[serde(skip_serializing_if = "String::is_empty", default)]
        path_prefix: String,
    },
    Started {
        started: bool,
    },
    Confirmed {
        confirmed: bool,
    },
    Sending {
        path: String,
        sending: String,
    },
    Known {
        path: String,
        size: u64,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        mtime_ns: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        sha512: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        ctime_ns: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none", default)]
        inode: Option<u64>,
    },
}

impl Record {
    /// Opens or makes the record at `path` for this log and topic.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or belongs to another log or topic.
    pub(super) fn open(path: &Path, log_id: &str, topic: &str) -> Result<Self, RecordError> {
        let io_error = |source| RecordError::Io { path: path.to_owned(), source };
        let mut content = Content::default();
        let mut first = true;
        let contents = Contents::load(path, |line| {
            content.apply(line, std::mem::take(&mut first));
        });
        let contents = contents.map_err(io_error)?;
        let own = (log_id.to_owned(), topic.to_owned());
        let is_empty = contents.lines == 0 && contents.damaged == 0;
        if content.header.as_ref() != Some(&own) && !is_empty {
            return Err(RecordError::Foreign { path: path.to_owned(), topic: topic.to_owned() });
        }
        content.header = Some(own);
        let live = content.files.len();
        let (journal, kept) = Journal::open(path, &contents, live, &|lines| content.write(lines)).map_err(io_error)?;
        if let Some(kept) = kept {
            warn!(
                file = %kept.display(),
                lines = contents.damaged,
                "the record of what was sent is damaged: the files of these lines are sent again"
            );
        }
        Ok(Self { path: path.to_owned(), journal, content, not_written: 0 })
    }

    /// Says which topic of its name is sent to, where that is known. Answers whether the record is one of another topic:
    /// then what was delivered to that one counts as existing, or as new if it is to be `sent_again`.
    ///
    /// # Errors
    /// Where the file cannot be written anew.
    pub(super) fn set_topic_id(&mut self, id: Option<&str>, sent_again: bool) -> Result<bool, RecordError> {
        let Some(id) = id.filter(|id| self.content.topic_id.as_deref() != Some(*id)) else {
            self.confirmed();
            return Ok(false);
        };
        let before = self.content.topic_id.replace(id.to_owned());
        let unconfirmed = std::mem::take(&mut self.content.unconfirmed);
        if before.is_some() {
            let files = &mut self.content.files;
            unconfirmed.iter().for_each(|file| files.know(*file, None));
            for file in files.numbers() {
                let known = files.known(file).filter(|_| !sent_again);
                files.know(file, known.map(|known| Known { sha512: None, trace: None, ..known }));
                files.send(file, None);
            }
        }
        if let Err(error) = self.write_at(&self.path.clone()) {
            self.content.topic_id = before;
            return Err(error);
        }
        Ok(before.is_some())
    }

    /// The prefix of the paths, with which the folder was watched the last time.
    pub(super) fn path_prefix(&self) -> &str {
        &self.content.path_prefix
    }

    /// Says which prefix the paths have from now on.
    ///
    /// # Errors
    /// Where the file cannot be written anew.
    pub(super) fn set_path_prefix(&mut self, prefix: &str) -> Result<(), RecordError> {
        if self.content.path_prefix == prefix {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.content.path_prefix, prefix.to_owned());
        self.write_at(&self.path.clone()).inspect_err(|_| self.content.path_prefix = before)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many files count as existing: they were there at the first start, and are not sent as they are.
    pub(super) fn existing(&self) -> u64 {
        let files = &self.content.files;
        let is_existing = |file: &FileNumber| files.known(*file).is_some_and(|known| known.sha512.is_none());
        files.numbers().filter(is_existing).count() as u64
    }

    /// The folders that it was used for, as [`Record::add_folder`] was told.
    pub(super) fn folders(&self) -> &[String] {
        &self.content.folders
    }

    /// Names a further folder; of many, the oldest are forgotten.
    ///
    /// # Errors
    /// Where the file cannot be written anew.
    pub(super) fn add_folder(&mut self, folder: String) -> Result<(), RecordError> {
        if self.content.folders.len() >= MOST_FOLDERS {
            self.content.folders.remove(0);
        }
        self.content.folders.push(folder);
        self.write_at(&self.path.clone())
    }

    /// Whether the path of the record still leads to the file that is written to.
    pub(super) fn is_in_place(&self) -> bool {
        self.journal.is_in_place()
    }

    /// Writes all that is known to a new file at `path`, in place of what may be there, and goes on in it.
    ///
    /// # Errors
    /// Where that cannot be written; then the record is what it was.
    pub(super) fn write_at(&mut self, path: &Path) -> Result<(), RecordError> {
        let gone_to = self.journal.go_to(path, &|lines| self.content.write(lines));
        gone_to.map_err(|source| RecordError::Io { path: path.to_owned(), source })?;
        self.path = path.to_owned();
        self.not_written = 0;
        Ok(())
    }

    /// Adds what the file at `path` knows of files of which this record knows nothing.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(super) fn add_from(&mut self, path: &Path) -> Result<(), RecordError> {
        let mut other = Content::default();
        let loaded = Contents::load(path, |line| other.apply(line, false));
        loaded.map_err(|source| RecordError::Io { path: path.to_owned(), source })?;
        let files = &mut self.content.files;
        for theirs in other.files.numbers() {
            let file = files.find_or_add(&other.files.path(theirs));
            if files.known(file).is_none() && files.sending(file).is_none() {
                files.know(file, other.files.known(theirs));
                files.send(file, other.files.sending(theirs).copied());
            }
        }
        Ok(())
    }

    /// Whether the first start is over: what was there then has been dealt with.
    pub(super) fn has_started(&self) -> bool {
        self.content.started
    }

    /// What is known of a file.
    pub(super) fn known(&self, path: &str) -> Option<Known> {
        self.content.files.known(self.content.files.find(path)?)
    }

    /// Whether files are known in this folder or below it.
    pub(super) fn knows_folder(&self, path: &str) -> bool {
        self.content.files.has_folder(path)
    }

    /// The folders of the files that the record has known for the shortest time, at most `most` of them.
    pub(super) fn newest_folders(&self, most: usize) -> Vec<String> {
        let files = &self.content.files;
        let mut folders: Vec<String> = Vec::new();
        for file in files.numbers().rev().take(most * FILES_FOR_A_FOLDER) {
            let folder = files.folder_of(file);
            if folders.len() < most && !folders.iter().any(|known| known == folder) {
                folders.push(folder.to_owned());
            }
        }
        folders
    }

    /// The hash of a version of which some chunks may be in the topic, and not all.
    pub(super) fn half_sent(&self, path: &str) -> Option<[u8; 64]> {
        self.content.files.sending(self.content.files.find(path)?).copied()
    }

    /// Takes down that the file was delivered with this hash, or was delivered before with this hash, and
    /// looks like this by now. [`Record::write`] writes it.
    pub(super) fn delivered(&mut self, path: &str, stamp: Stamp, trace: Option<Trace>, hash: &[u8; 64]) {
        let known = Known { stamp, sha512: Some(*hash), trace };
        self.journal.push(&known_line(path, &known));
        self.content.know(path, known);
        self.not_written += 1;
    }

    /// As [`Record::delivered`], of a file of which it is not known yet whether its topic is still the same.
    pub(super) fn acknowledged(&mut self, path: &str, stamp: Stamp, trace: Option<Trace>, hash: &[u8; 64]) {
        if self.content.unconfirmed.is_empty() {
            self.journal.push(&Line::Confirmed { confirmed: false });
        }
        self.delivered(path, stamp, trace, hash);
        self.content.unconfirmed.extend(self.content.files.find(path));
    }

    /// Takes down that all that was acknowledged is in the topic.
    pub(super) fn confirmed(&mut self) {
        if !self.content.unconfirmed.is_empty() {
            self.content.unconfirmed = Vec::new();
            self.journal.push(&Line::Confirmed { confirmed: true });
        }
    }

    /// Takes down that a file that was delivered is the same with this trace.
    pub(super) fn is_same(&mut self, path: &str, trace: Option<Trace>) {
        if let Some(known) = self.known(path)
            && known.sha512.is_some()
        {
            let known = Known { trace, ..known };
            self.journal.push(&known_line(path, &known));
            self.content.files.find(path).into_iter().for_each(|file| self.content.files.know(file, Some(known)));
        }
    }

    /// Forgets how a file looked whose content is another one by now: as it looks, it is news. A restart finds that
    /// again, by its trace.
    pub(super) fn is_another(&mut self, path: &str) {
        let Some((file, known)) = self.content.files.find(path).zip(self.known(path)) else {
            return;
        };
        let stamp = Stamp { mtime_ns: None, ..known.stamp };
        self.content.files.know(file, Some(Known { stamp, ..known }));
    }

    /// Takes down that chunks of this version are about to be sent. [`Record::write`] writes it.
    pub(super) fn sending(&mut self, path: &str, hash: &[u8; 64]) {
        self.content.sending(path, Some(*hash));
        self.journal.push(&Line::Sending { path: path.to_owned(), sending: hex(hash) });
    }

    /// Takes down that a file was there at the first start, and is not sent.
    pub(super) fn exists(&mut self, path: &str, stamp: Stamp) {
        let known = Known { stamp, sha512: None, trace: None };
        self.journal.push(&known_line(path, &known));
        self.content.know(path, known);
    }

    /// Ends the first start: what was there has been taken down. [`Record::flush`] makes it last.
    pub(super) fn start(&mut self) {
        self.content.started = true;
        self.journal.push(&Line::Started { started: true });
    }

    /// Writes what was taken down; the operating system has it when this returns. After an error the next call
    /// goes on.
    ///
    /// # Errors
    /// Where the lines cannot be written.
    pub(super) fn write(&mut self) -> Result<(), RecordError> {
        let live = self.content.files.len();
        let written = self.journal.write(live, &|lines| self.content.write(lines));
        written.map_err(|source| self.io_error(source))?;
        self.not_written = 0;
        Ok(())
    }

    /// Whether more waits to be written than should be kept in memory.
    pub(super) fn is_much_waiting(&self) -> bool {
        self.journal.waiting_bytes() > MUCH
    }

    /// Files that were delivered and are not written down.
    pub(super) fn not_written(&self) -> u64 {
        self.not_written
    }

    /// Brings to the disk what has been waiting for a second.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub(super) fn sync_if_due(&mut self) -> Result<(), RecordError> {
        if self.journal.waits_for(SYNC_EVERY) { self.flush() } else { Ok(()) }
    }

    /// Writes everything and brings it to the disk.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub(super) fn flush(&mut self) -> Result<(), RecordError> {
        self.write()?;
        self.sync()
    }

    fn sync(&mut self) -> Result<(), RecordError> {
        self.journal.sync().map_err(|source| self.io_error(source))
    }

    fn io_error(&self, source: io::Error) -> RecordError {
        RecordError::Io { path: self.path.clone(), source }
    }
}

impl Content {
    /// Takes a line of the file, which is the first one or not.
    fn apply(&mut self, line: Line, is_first: bool) {
        match line {
            Line::Header { log, topic, topic_id, folders, path_prefix } if is_first => {
                self.header = Some((log, topic));
                self.topic_id = topic_id;
                self.folders = folders;
                self.path_prefix = path_prefix;
            }
            Line::Header { .. } => {}
            Line::Started { started } => self.started = started,
            Line::Confirmed { confirmed } => {
                self.is_open = !confirmed;
                self.unconfirmed.clear();
            }
            Line::Sending { path, sending } => {
                self.sending(&path, unhex(&sending));
            }
            Line::Known { path, size, mtime_ns, sha512, ctime_ns, inode } => {
                let stamp = Stamp { size, mtime_ns };
                let trace = ctime_ns.zip(inode).map(|(ctime_ns, inode)| Trace { ctime_ns, inode });
                let file = self.know(&path, Known { stamp, sha512: sha512.as_deref().and_then(unhex), trace });
                if self.is_open {
                    self.unconfirmed.push(file);
                }
            }
        }
    }

    fn know(&mut self, path: &str, known: Known) -> FileNumber {
        let file = self.files.find_or_add(path);
        self.files.know(file, Some(known));
        self.files.send(file, None);
        file
    }

    fn sending(&mut self, path: &str, hash: Option<[u8; 64]>) {
        let file = self.files.find_or_add(path);
        self.files.send(file, hash);
    }

    fn write(&self, lines: &mut Lines<'_>) -> io::Result<()> {
        if let Some((log, topic)) = &self.header {
            lines.push(&Line::Header {
                log: log.clone(),
                topic: topic.clone(),
                topic_id: self.topic_id.clone(),
                folders: self.folders.clone(),
                path_prefix: self.path_prefix.clone(),
            })?;
        }
        let unconfirmed: HashSet<FileNumber> = self.unconfirmed.iter().copied().collect();
        let is_confirmed = |file: &FileNumber| !unconfirmed.contains(file);
        self.files.numbers().filter(is_confirmed).try_for_each(|file| self.write_file(file, lines))?;
        if self.started {
            lines.push(&Line::Started { started: true })?;
        }
        if unconfirmed.is_empty() {
            return Ok(());
        }
        lines.push(&Line::Confirmed { confirmed: false })?;
        let is_unconfirmed = |file: &FileNumber| unconfirmed.contains(file);
        self.files.numbers().filter(is_unconfirmed).try_for_each(|file| self.write_file(file, lines))
    }

    fn write_file(&self, file: FileNumber, lines: &mut Lines<'_>) -> io::Result<()> {
        if let Some(known) = self.files.known(file) {
            lines.push(&known_line(&self.files.path(file), &known))?;
        }
        match self.files.sending(file) {
            Some(hash) => lines.push(&Line::Sending { path: self.files.path(file), sending: hex(hash) }),
            None => Ok(()),
        }
    }
}

fn known_line(path: &str, known: &Known) -> Line {
    Line::Known {
        path: path.to_owned(),
        size: known.stamp.size,
        mtime_ns: known.stamp.mtime_ns,
        sha512: known.sha512.map(|hash| hex(&hash)),
        ctime_ns: known.trace.map(|trace| trace.ctime_ns),
        inode: known.trace.map(|trace| trace.inode),
    }
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
mod tests;
