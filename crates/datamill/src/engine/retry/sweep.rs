//! Reads the chunks of many failed files together, in the order of the topic.
//!
//! ```text
//!   partition 0   ──▓▓A▓▓▓──▓B▓▓▓▓────────────────────────────▓▓▓C▓▓──      files A, B (interleaved with A), C, D
//!   partition 1   ────▓▓▓D▓▓▓▓─────
//!                   └ first run ┘ └ gap, too long to read ┘   └ second run ┘
//! ```
//! One reader goes over the runs, of each partition one at a time, and over what lies between neighbours: that is
//! cheaper than to go somewhere else. Each file has an assembler of its own, which takes the chunks at its own offsets,
//! so that two uploads of one version stay apart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use datamill_broker::{ErrorKind, Event, Offsets, Reader, Record};
use rustc_hash::FxHashMap;

use super::thread::{Alone, Found, Questions, RetrySettings};
use crate::assemble::{Added, Assembler, Complete, FileInfo, InstanceId, Span, Version, WholeFile};
use crate::engine::chunk_of;
use crate::engine::entry::Due;
use crate::progress::Progress;

/// How long the reading waits for records at a time.
const POLL: Duration = Duration::from_millis(100);
/// How long it waits while too much waits for user code.
const CROWDED_PAUSE: Duration = Duration::from_millis(5);
/// The wait before files are tried again that could not be read for a reason that passes.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes between two files that are read rather than passed over.
const MAX_GAP: u64 = 2 << 20;
/// What a record is taken to have while none was read.
const FIRST_GUESS: u64 = 64 << 10;

/// A file that is to be read.
pub(super) struct Wanted {
    pub(super) due: Due,
    /// Its number in this session.
    pub(super) id: InstanceId,
}

/// Why files were not read to their end.
enum Failed {
    /// The program stops, or nobody waits for an answer.
    Over(Alone),
    /// The log or the disk does not answer.
    Passing(Box<dyn std::error::Error>),
    /// One of the files cannot be read.
    Damaged(Box<dyn std::error::Error>),
}

impl From<Alone> for Failed {
    fn from(alone: Alone) -> Self {
        Self::Over(alone)
    }
}

impl From<datamill_broker::Error> for Failed {
    fn from(error: datamill_broker::Error) -> Self {
        match error.kind() {
            ErrorKind::Retry | ErrorKind::NoSpace => Self::Passing(error.into()),
            _ => Self::Damaged(error.into()),
        }
    }
}

/// See the module.
pub(super) struct Sweep<'a> {
    settings: &'a RetrySettings<'a>,
    reader: Option<Box<dyn Reader>>,
    /// Bytes and number of the records that were read.
    bytes: u64,
    records: u64,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(settings: &'a RetrySettings<'a>) -> Self {
        Self { settings, reader: None, bytes: 0, records: 0 }
    }

    /// No file is read for a while: what was fetched ahead takes no more memory.
    pub(super) fn rest(&mut self) {
        self.reader = None;
    }

    /// Reads the files, and answers each.
    pub(super) fn read(&mut self, mut files: Vec<Wanted>, questions: &mut Questions) -> Result<(), Alone> {
        let mut said = false;
        while !files.is_empty() && !questions.stop.load(Relaxed) {
            let error = match self.try_to_read(&mut files, questions) {
                Ok(()) => return Ok(()),
                Err(Failed::Over(alone)) => return Err(alone),
                Err(Failed::Passing(error)) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::error!(topic = self.settings.topic, files = files.len(),
                            error = %crate::report::chain(error.as_ref()),
                            "files that failed cannot be read again; trying until they can, nothing is lost");
                    }
                    self.reader = None;
                    self.pause(questions)?;
                    continue;
                }
                Err(Failed::Damaged(error)) => error,
            };
            // whatever is wrong, it keeps no other file from being read
            self.reader = None;
            match &files[..] {
                [one] => {
                    tracing::error!(topic = self.settings.topic, file = one.due.entry.path(),
                        error = %crate::report::chain(error.as_ref()),
                        "a file that failed cannot be read again; it is tried at the next start");
                    return questions.answer(Found::Unreadable(one.id));
                }
                _ => {
                    let others = files.split_off(files.len() / 2);
                    self.read(files, questions)?;
                    files = others;
                }
            }
        }
        Ok(())
    }

    fn pause(&self, questions: &mut Questions) -> Result<(), Alone> {
        let steps = PAUSE.as_millis() / POLL.as_millis();
        for _ in 0..steps {
            if questions.stop.load(Relaxed) {
                break;
            }
            std::thread::sleep(POLL);
            questions.look_in_between(self.settings)?;
        }
        Ok(())
    }

    /// Takes the files away that were answered.
    fn try_to_read(&mut self, files: &mut Vec<Wanted>, questions: &mut Questions) -> Result<(), Failed> {
        let mut ends: BTreeMap<i32, Offsets> = BTreeMap::new();
        let mut is_there = |span: &Span| -> Result<bool, Failed> {
            let known = match ends.get(&span.partition) {
                Some(known) => *known,
                None => {
                    let found = self.settings.log.offsets(self.settings.topic, span.partition)?;
                    *ends.entry(span.partition).or_insert(found)
                }
            };
            Ok(known.first <= span.first && span.last < known.end)
        };
        let mut there = Vec::with_capacity(files.len());
        for Wanted { due, .. } in files.iter() {
            let mut spans = due.entry.spans().iter();
            there.push(
                !due.entry.is_foreign && spans.try_fold(true, |all, span| Ok::<_, Failed>(all && is_there(span)?))?,
            );
        }
        let mut there = there.into_iter();
        for gone in files.extract_if(.., |_| there.next() == Some(false)) {
            questions.answer(Found::Gone(gone.id))?;
        }
        let mut open = OpenFiles::of(files, self.settings);
        let read = self.read_rounds(&mut open, questions);
        if read.is_ok() && !questions.stop.load(Relaxed) {
            for file in open.files.iter().filter(|file| !file.is_done && questions.awaits(file.id)) {
                questions.answer(Found::Gone(file.id))?;
            }
        }
        let answered: Vec<bool> = open.files.iter().map(|file| read.is_ok() || file.is_done).collect();
        let mut answered = answered.into_iter();
        files.retain(|_| answered.next() == Some(false));
        read
    }

    fn read_rounds(&mut self, open: &mut OpenFiles<'_>, questions: &mut Questions) -> Result<(), Failed> {
        let mean = self.bytes.checked_div(self.records).unwrap_or(FIRST_GUESS).max(1);
        let mut runs = open.runs(i64::try_from(MAX_GAP / mean).unwrap_or(i64::MAX));
        loop {
            let mut round = Vec::new();
            for runs in runs.values_mut() {
                // what nobody waits for any more is not read
                let is_wanted = |run: &Run| run.files.iter().any(|&at| open.is_wanted(at, questions));
                round.extend(std::iter::from_fn(|| runs.pop()).find(is_wanted).map(|run| run.span));
            }
            if round.is_empty() {
                return Ok(());
            }
            self.read_round(&round, open, questions)?;
            if questions.stop.load(Relaxed) {
                return Ok(());
            }
        }
    }

    /// Reads one run of each of some partitions.
    fn read_round(
        &mut self,
        round: &[Span],
        open: &mut OpenFiles<'_>,
        questions: &mut Questions,
    ) -> Result<(), Failed> {
        let settings = self.settings;
        let starts: Vec<(i32, i64)> = round.iter().map(|span| (span.partition, span.first)).collect();
        let mut ahead: BTreeMap<i32, i64> = round.iter().map(|span| (span.partition, span.last)).collect();
        let reader = match &mut self.reader {
            Some(reader) => {
                reader.go_to(&starts)?;
                reader
            }
            none => none.insert(settings.log.reader(settings.topic, &starts)?),
        };
        while !ahead.is_empty() && !questions.stop.load(Relaxed) {
            questions.look_in_between(settings)?;
            if settings.budget.whole() > settings.whole_bytes {
                std::thread::sleep(CROWDED_PAUSE);
                continue;
            }
            let mut written = Ok(());
            reader.poll(POLL, &mut |event| match event {
                Event::Record(record) => {
                    let Some(&last) = ahead.get(&record.partition) else { return };
                    if record.offset >= last {
                        ahead.remove(&record.partition);
                    }
                    if record.offset <= last {
                        self.bytes += record.value.map_or(0, <[u8]>::len) as u64;
                        self.records += 1;
                        if let Err(error) = open.record(&record, settings) {
                            written = Err(error);
                        }
                    }
                }
                Event::End { partition, offset, .. } => {
                    if ahead.get(&partition).is_some_and(|last| offset > *last) {
                        ahead.remove(&partition);
                    }
                }
                Event::Assigned(_) | Event::Revoked { .. } => {}
            })?;
            for (id, file) in open.take_whole() {
                questions.answer(Found::Whole(id, Box::new(file)))?;
            }
            written.map_err(|error| Failed::Passing(error.into()))?;
            if settings.budget.filling() > settings.filling_bytes {
                open.spill(settings).map_err(|error| Failed::Passing(error.into()))?;
            }
        }
        Ok(())
    }
}

/// Neighbouring offsets of one partition with chunks of some files.
struct Run {
    span: Span,
    files: Vec<usize>,
}

/// A file while its chunks are read again.
struct OpenFile<'f> {
    id: InstanceId,
    due: &'f Due,
    assembler: Assembler,
    /// All its chunks were read.
    is_whole: bool,
    /// It was answered.
    is_done: bool,
}

impl OpenFile<'_> {
    /// Whether a chunk at this offset may be one of this file, and not of another upload of its version.
    fn holds(&self, record: &Record<'_>) -> bool {
        let is_in = |spans: &[Span]| spans.iter().any(|span| span.holds(record.partition, record.offset));
        is_in(self.due.entry.spans()) && !is_in(self.due.entry.others())
    }
}

struct OpenFiles<'f> {
    files: Vec<OpenFile<'f>>,
    /// Files by the first bytes of their hash.
    by_hash: FxHashMap<[u8; 8], Vec<usize>>,
    /// Those that became whole. One of which something could not be written is left out.
    whole: Vec<(usize, WholeFile)>,
}

fn first_bytes(hash: &[u8; 64]) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    first
}

impl<'f> OpenFiles<'f> {
    fn of(files: &'f [Wanted], settings: &RetrySettings<'_>) -> Self {
        let mut by_hash: FxHashMap<[u8; 8], Vec<usize>> = FxHashMap::default();
        let open = |(at, file): (usize, &'f Wanted)| {
            by_hash.entry(first_bytes(file.due.entry.hash())).or_default().push(at);
            let mut assembler = Assembler::new(Box::new(|_| true), Arc::clone(&settings.budget));
            let mut firsts: BTreeMap<i32, i64> = BTreeMap::new();
            for span in file.due.entry.spans() {
                let first = firsts.entry(span.partition).or_insert(span.first);
                *first = span.first.min(*first);
            }
            for (partition, first) in firsts {
                assembler.assign(partition, Progress::starting_at(first), first);
            }
            OpenFile { id: file.id, due: &file.due, assembler, is_whole: false, is_done: false }
        };
        let files = files.iter().enumerate().map(open).collect();
        Self { files, by_hash, whole: Vec::new() }
    }

    fn is_wanted(&self, at: usize, questions: &Questions) -> bool {
        self.files.get(at).is_some_and(|file| !file.is_done && questions.awaits(file.id))
    }

    /// The runs of each partition, the first one last.
    fn runs(&self, max_gap: i64) -> BTreeMap<i32, Vec<Run>> {
        let mut spans: Vec<(i32, i64, i64, usize)> = Vec::new();
        for (at, file) in self.files.iter().enumerate() {
            spans.extend(file.due.entry.spans().iter().map(|span| (span.partition, span.first, span.last, at)));
        }
        spans.sort_unstable();
        let mut runs: BTreeMap<i32, Vec<Run>> = BTreeMap::new();
        for (partition, first, last, at) in spans {
            let runs = runs.entry(partition).or_default();
            match runs.last_mut().filter(|run| first - run.span.last <= max_gap.max(1)) {
                Some(run) => {
                    run.span.last = run.span.last.max(last);
                    run.files.push(at);
                }
                None => runs.push(Run { span: Span { partition, first, last }, files: vec![at] }),
            }
        }
        runs.values_mut().for_each(|runs| runs.reverse());
        runs
    }

    fn record(&mut self, record: &Record<'_>, settings: &RetrySettings<'_>) -> std::io::Result<()> {
        let chunk = chunk_of(record);
        settings.counters.read_one(&chunk);
        let Ok(chunk) = chunk else { return Ok(()) };
        let Some(candidates) = self.by_hash.get(&first_bytes(chunk.file_hash)) else { return Ok(()) };
        let mut version = None;
        let mut written = Ok(());
        for &at in candidates {
            let file = &mut self.files[at];
            let version = version.get_or_insert_with(|| Version::of(&chunk));
            if file.is_whole || !file.holds(record) || !file.due.entry.is_of(version) {
                continue;
            }
            let time_ms = record.timestamp_ms.unwrap_or(0);
            let (added, result) = file.assembler.add(record.partition, record.offset, time_ms, &chunk);
            if let Added::Whole(complete) = added {
                file.is_whole = true;
                if let Complete::Here(whole) = complete {
                    self.whole.push((at, whole));
                }
            }
            written = written.and(result);
        }
        written
    }

    /// The files that became whole: each is the same upload as before, under a number of its own.
    fn take_whole(&mut self) -> impl Iterator<Item = (InstanceId, WholeFile)> {
        let Self { files, whole, .. } = self;
        whole.drain(..).map(|(at, file)| {
            let OpenFile { id, due, is_done, .. } = &mut files[at];
            *is_done = true;
            let (spans, others) = (due.entry.spans().to_vec(), due.entry.others().to_vec());
            let info = FileInfo { id: *id, spans, others, ..FileInfo::clone(&file.info) };
            (*id, WholeFile { info: Arc::new(info), failed_before: true, ..file })
        })
    }

    /// Moves what fills up to the disk.
    fn spill(&mut self, settings: &RetrySettings<'_>) -> std::io::Result<()> {
        let mut files = self.files.iter_mut().filter(|file| !file.is_done);
        files.try_for_each(|file| file.assembler.spill_down_to(settings.filling_bytes / 2, settings.spill).map(drop))
    }
}
