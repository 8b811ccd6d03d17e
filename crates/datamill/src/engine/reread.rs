//! Files whose content was dropped while they filled up, because they would have taken more disk than
//! `--spill_limit`: once all chunks were seen, their offsets are read again.
//!
//! ```text
//!   session ──DroppedFile──▶ queue ──one at a time──▶ thread: reads the offsets ──▶ Whole or Gone ──▶ session
//! ```
//!
//! The next file begins when there is room for it, so the files in the queue need none. A file whose path has
//! one in the queue stands behind it: files of one path keep their order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use datamill_broker::{Event, Log, Record};
use datamill_wire::Chunk;
use tempfile::TempPath;

use super::chunk_of;
use super::entry::Entry;
use crate::assemble::{
    Budget, Content, DroppedFile, Extents, FileInfo, Hashed, Indices, InstanceIds, Memory, Reservation, SpillFolder,
    WholeFile, write_at,
};
use crate::facts::Counters;

/// How long the reading waits for records at a time.
const POLL: Duration = Duration::from_millis(100);
/// The wait before a file is tried again that could not be read or written.
const PAUSE: Duration = Duration::from_secs(1);
/// Files in the queue above which no further records are read.
const MAX_QUEUED: usize = 1000;

/// What became of a file.
pub(super) enum Reread {
    Whole(Box<WholeFile>),
    /// Chunks are gone from the log.
    Gone(Arc<FileInfo>),
}

/// The files that wait for being read again, one at a time. One that failed earlier has the entry that it answers.
#[derive(Default)]
pub(super) struct RereadQueue {
    queue: VecDeque<(DroppedFile, Option<Arc<Entry>>)>,
    reading: Option<Reading>,
}

/// The file that is read.
struct Reading {
    info: Arc<FileInfo>,
    answers: Option<Arc<Entry>>,
    /// Nobody waits for it any more.
    is_gone: bool,
}

impl RereadQueue {
    /// A file is to be read again.
    pub(super) fn add(&mut self, file: DroppedFile, answers: Option<Arc<Entry>>) {
        self.queue.push_back((file, answers));
    }

    /// Whether a file of this path is to be read again.
    pub(super) fn has(&self, path: &str) -> bool {
        let queued = self.queue.iter().map(|(file, _)| &file.info);
        queued.chain(self.reading.iter().map(|reading| &reading.info)).any(|info| *info.version.path == *path)
    }

    /// These files are not this process's any more.
    pub(super) fn forget(&mut self, gone: &InstanceIds) {
        self.queue.retain(|(file, _)| !gone.contains(&file.info.id));
        if let Some(reading) = &mut self.reading {
            reading.is_gone |= gone.contains(&reading.info.id);
        }
    }

    /// No further file is read.
    pub(super) fn stop(&mut self) {
        self.queue.clear();
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.reading.is_none()
    }

    /// Whether so many files are to be read again that further records must wait.
    pub(super) fn is_behind(&self) -> bool {
        self.queue.len() > MAX_QUEUED
    }

    /// The file that is to be read, if none is.
    pub(super) fn next(&mut self) -> Option<DroppedFile> {
        if self.reading.is_some() {
            return None;
        }
        let (file, answers) = self.queue.pop_front()?;
        self.reading = Some(Reading { info: Arc::clone(&file.info), answers, is_gone: false });
        Some(file)
    }

    /// It was read, or will not be. Answers the entry that it answers; `None` where nobody waits for it any more.
    pub(super) fn was_read(&mut self) -> Option<Option<Arc<Entry>>> {
        self.reading.take().filter(|reading| !reading.is_gone).map(|reading| reading.answers)
    }
}

/// The reading thread's end of the thread that reads files again.
pub(super) struct Rereads {
    asks: Sender<DroppedFile>,
    found: Receiver<Option<Reread>>,
    stop: Arc<AtomicBool>,
}

impl Rereads {
    pub(super) fn new() -> (Self, impl FnOnce(&RereadSettings<'_>) + Send + use<>) {
        let (asks, asked) = crossbeam_channel::bounded::<DroppedFile>(1);
        let (finds, found) = crossbeam_channel::bounded(1);
        let stop = Arc::new(AtomicBool::new(false));
        let rereads = Self { asks, found, stop: Arc::clone(&stop) };
        let thread = move |settings: &RereadSettings<'_>| {
            while let Ok(file) = asked.recv() {
                if finds.send(settings.read_until_done(file, &stop)).is_err() {
                    return;
                }
            }
        };
        (rereads, thread)
    }

    /// Reads a file: one at a time, so there is room.
    pub(super) fn read(&self, file: DroppedFile) {
        // a thread that is gone is noticed where it is joined
        let _ = self.asks.try_send(file);
    }

    /// What was read; `None` in it where the program stopped before.
    pub(super) fn found(&self) -> Option<Option<Reread>> {
        self.found.try_recv().ok()
    }

    /// No further file is read.
    pub(super) fn stop(&self) {
        self.stop.store(true, Relaxed);
    }
}

impl Drop for Rereads {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread works with.
pub(super) struct RereadSettings<'a> {
    pub(super) log: &'a dyn Log,
    pub(super) topic: &'a str,
    pub(super) budget: Arc<Budget>,
    pub(super) spill: &'a SpillFolder,
    /// Bytes up to which a file is kept in memory.
    pub(super) in_memory: usize,
    pub(super) counters: &'a Counters,
}

impl RereadSettings<'_> {
    /// `None` when the program stops before.
    fn read_until_done(&self, file: DroppedFile, stop: &AtomicBool) -> Option<Reread> {
        let mut said = false;
        while !stop.load(Relaxed) {
            match self.read(&file, stop) {
                Ok(None) => return None,
                Ok(Some((content, reservation))) => {
                    let DroppedFile { info, size, proofs } = file;
                    return Some(Reread::Whole(Box::new(WholeFile {
                        info,
                        size,
                        content,
                        reservation,
                        proofs,
                        follower: None,
                        taken: 0,
                        failed_before: false,
                    })));
                }
                Err(Failed::Gone) => return Some(Reread::Gone(file.info)),
                Err(Failed::Passing(error)) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::error!(topic = self.topic, file = %file.info.version.path,
                            error = %crate::report::chain(error.as_ref()),
                            "a file cannot be read again; trying until it can, nothing is lost");
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        }
        None
    }

    fn read(&self, file: &DroppedFile, stop: &AtomicBool) -> Result<Option<(Content, Reservation)>, Failed> {
        // a hole is noticed later, whatever the content
        let size = usize::try_from(file.size.unwrap_or(0)).map_err(Failed::passing)?;
        let (mut target, reservation) = self.target(size)?;
        if file.size.is_none() {
            return Ok(Some((target.content(), reservation)));
        }
        let spans = &file.info.spans;
        for span in spans {
            if self.log.offsets(self.topic, span.partition).map_err(Failed::passing)?.first > span.first {
                return Err(Failed::Gone);
            }
        }
        let starts: Vec<(i32, i64)> = spans.iter().map(|span| (span.partition, span.first)).collect();
        let mut ahead: BTreeMap<i32, i64> = spans.iter().map(|span| (span.partition, span.last)).collect();
        let mut reader = self.log.reader(self.topic, &starts).map_err(Failed::passing)?;
        let mut chosen = Chosen::of(file);
        while !chosen.is_whole() {
            if ahead.is_empty() {
                return Err(Failed::Gone);
            }
            if stop.load(Relaxed) {
                return Ok(None);
            }
            let mut written = Ok(());
            let polled = reader.poll(POLL, &mut |event| match event {
                Event::Record(record) => {
                    if ahead.get(&record.partition).is_some_and(|last| record.offset >= *last) {
                        ahead.remove(&record.partition);
                    }
                    let chunk = chunk_of(&record);
                    self.counters.read_one(&chunk);
                    let Some(chunk) = chunk.ok().filter(|chunk| chosen.takes(&record, chunk)) else { return };
                    if let Err(error) = target.put(&chunk) {
                        written = Err(error);
                    }
                }
                Event::End { partition, offset, .. } => {
                    if ahead.get(&partition).is_some_and(|last| offset > *last) {
                        ahead.remove(&partition);
                    }
                }
                Event::Assigned(_) | Event::Revoked { .. } => {}
            });
            polled.map_err(Failed::passing)?;
            written.map_err(Failed::passing)?;
        }
        Ok(Some((target.content(), reservation)))
    }

    /// Where a file of so many bytes goes, with the room for it.
    fn target(&self, size: usize) -> Result<(Target, Reservation), Failed> {
        let mut reservation = Reservation::whole(&self.budget, 0);
        if size <= self.in_memory {
            reservation.grow(size);
            return Ok((Target::Memory(vec![0; size]), reservation));
        }
        reservation.grow_on_disk(size);
        Ok((Target::Disk(self.spill.create().map_err(Failed::passing)?), reservation))
    }
}

/// Where the content of a file goes.
enum Target {
    Memory(Vec<u8>),
    Disk(TempPath),
}

impl Target {
    fn put(&mut self, chunk: &Chunk<'_>) -> io::Result<()> {
        match self {
            Self::Memory(bytes) => {
                let at = chunk.offset as usize;
                bytes[at..at + chunk.data.len()].copy_from_slice(chunk.data);
                Ok(())
            }
            Self::Disk(path) => write_at(path, chunk.offset, chunk.data),
        }
    }

    fn content(self) -> Content {
        match self {
            Self::Memory(bytes) => Content::Memory(Memory::Heap(bytes), Hashed::default()),
            Self::Disk(path) => Content::Disk(path, Hashed::default()),
        }
    }
}

/// Why a file was not read.
enum Failed {
    Gone,
    Passing(Box<dyn std::error::Error>),
}

impl Failed {
    fn passing(error: impl std::error::Error + 'static) -> Self {
        Self::Passing(error.into())
    }
}

/// Tells the chunks of a file from those of other uploads of its version: by their records where all are
/// known, otherwise the first ones that fit.
struct Chosen<'a> {
    file: &'a DroppedFile,
    records: Option<HashMap<(i32, i64), u32>>,
    indices: Indices,
    extents: Extents,
}

impl<'a> Chosen<'a> {
    fn of(file: &'a DroppedFile) -> Self {
        let is_known = file.proofs.len() == file.info.version.total as usize;
        let records = file.proofs.iter().map(|proof| ((proof.partition, proof.record), proof.index));
        Self {
            file,
            records: is_known.then(|| records.collect()),
            indices: Indices::default(),
            extents: Extents::default(),
        }
    }

    fn takes(&mut self, record: &Record<'_>, chunk: &Chunk<'_>) -> bool {
        let version = &self.file.info.version;
        let is_chosen = self
            .records
            .as_ref()
            .is_none_or(|records| records.get(&(record.partition, record.offset)) == Some(&chunk.index));
        let fits = is_chosen
            && version.is_of(chunk, &chunk.rebuilt_filename())
            && !self.indices.contains(chunk.index)
            && self.extents.fits(chunk.offset, chunk.data.len() as u64)
            && chunk.offset + chunk.data.len() as u64 <= self.file.size.unwrap_or(0);
        if fits {
            self.indices.insert(chunk.index);
            self.extents.insert(chunk.offset, chunk.data.len() as u64);
        }
        fits
    }

    fn is_whole(&self) -> bool {
        self.indices.len() == self.file.info.version.total
    }
}
