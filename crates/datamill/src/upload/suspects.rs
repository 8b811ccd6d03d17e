//! Files that look as they did when they were delivered, size and time, and whose trace is another one. They are
//! hashed beside the work of the watch, a little at a time, and compared with what was delivered.
//!
//! ```text
//! scans ──▶ paths, bounded ──▶ read for some milliseconds, rest ──▶ same: its new trace is written down
//!              └ full: the next scan finds the rest                └▶ another: sent as a changed file is
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use datamill_wire::Sha512Hasher;

use super::scan::Candidate;
use super::stamp::{Stamp, Trace};

/// Paths that are kept; the others are found again by a later scan.
const MOST_WAITING: usize = 10_000;

/// Bytes that are read at a time.
const BLOCK: usize = 1 << 18;

/// How long the watch waits for one step, and where it has nothing else to do.
const STEP: Duration = Duration::from_millis(20);
const LONG_STEP: Duration = Duration::from_millis(200);

/// A step is followed by this many times as long without one, so that comparing takes a tenth of the time.
const REST: u32 = 9;

/// The files, and the one that is being read.
#[derive(Default)]
pub(super) struct Suspects {
    waiting: BTreeSet<String>,
    /// Some were not kept.
    left_over: bool,
    reading: Option<Reading>,
    not_before: Option<Instant>,
    block: Vec<u8>,
}

struct Reading {
    file: Candidate,
    from: File,
    hasher: Sha512Hasher,
}

/// A file that was read to its end, and did not change meanwhile.
pub(super) struct Compared {
    pub(super) file: Candidate,
    pub(super) sha512: [u8; 64],
}

impl Suspects {
    /// Takes a file in, if it is not there already.
    pub(super) fn add(&mut self, file: &Candidate) {
        if self.reading.as_ref().is_some_and(|reading| reading.file.relative == file.relative) {
            return;
        }
        if self.waiting.len() < MOST_WAITING {
            self.waiting.insert(file.relative.clone());
        } else {
            self.left_over = true;
        }
    }

    /// Whether all were compared that were found.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.reading.is_none()
    }

    /// Whether some were found that were not kept, since the last call.
    pub(super) fn take_left_over(&mut self) -> bool {
        std::mem::take(&mut self.left_over)
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Reads on for some milliseconds, if it is time to, or if nothing else is to be done. `look` answers what a path
    /// is by now, where it is still suspect. Hands out the files that were read to their end.
    pub(super) fn step(&mut self, hurry: bool, look: impl Fn(&str) -> Option<Candidate>) -> Vec<Compared> {
        let start = Instant::now();
        if self.is_empty() || !hurry && self.not_before.is_some_and(|time| start < time) {
            return Vec::new();
        }
        let mut compared = Vec::new();
        let span = if hurry { LONG_STEP } else { STEP };
        while !self.is_empty() && start.elapsed() < span {
            let Some(mut reading) = self.reading.take().or_else(|| self.open_next(&look)) else { continue };
            self.block.resize(BLOCK, 0);
            match reading.from.read(&mut self.block) {
                Ok(0) => compared.extend(reading.end()),
                Ok(count) => {
                    reading.hasher.update(&self.block[..count]);
                    self.reading = Some(reading);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.reading = Some(reading),
                // A file that cannot be read is looked at again after the next scan.
                Err(_) => {}
            }
        }
        self.not_before = Some(Instant::now() + start.elapsed() * REST);
        compared
    }

    fn open_next(&mut self, look: &impl Fn(&str) -> Option<Candidate>) -> Option<Reading> {
        let file = look(&self.waiting.pop_first()?)?;
        let from = File::open(&file.path).ok()?;
        Some(Reading { file, from, hasher: Sha512Hasher::new() })
    }
}

impl Reading {
    /// The result, if the file is still the one that was found.
    fn end(self) -> Option<Compared> {
        let metadata = self.from.metadata().ok()?;
        let is_same = Stamp::of(&metadata) == self.file.stamp && Trace::of(&metadata) == self.file.trace;
        is_same.then(|| Compared { file: self.file, sha512: self.hasher.finish() })
    }
}
