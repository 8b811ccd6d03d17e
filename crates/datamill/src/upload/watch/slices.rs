//! The folder is looked at in slices: a scan of a large tree, or of a slow share, keeps nothing else waiting.
//!
//! ```text
//! scan of everything ─────────┐
//! folders that appeared ──────┼─▶ a slice ──▶ still the same folder? ──▶ what was found
//! folders that are busy ──────┘
//! ```
//!
//! A scan waits while many files wait to be sent, so that it does not fill the memory with the rest.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{LONGEST_BETWEEN_SCANS, SCAN_SHARE, TICK, Watch};
use crate::upload::error::UploadError;
use crate::upload::record::Record;
use crate::upload::scan::{Found, Walk, Walker};
use crate::upload::settle::Settle;
use crate::upload::stamp::{Stamp, Trace};

/// How long a slice takes.
const SLICE: Duration = Duration::from_millis(50);

/// Files that may wait when a scan goes on; more of them where a file has to be left alone for longer than
/// [`USUAL_LAG`].
const MOST_WAITING: usize = 50_000;

/// The usual time for which a file has to be left alone.
const USUAL_LAG: Duration = Duration::from_secs(3);

/// Folders that may wait to be looked at; a scan finds the others.
const MOST_BESIDE: usize = 1_000;

/// How often a scan that takes long asks whether the folder and the record are still what they were.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// What is being looked at.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// The scan of everything.
    whole: Option<Look>,
    /// The scan waits until files have been sent.
    waits: bool,
    /// Something was missed while it ran.
    again: bool,
    /// When it was asked last whether the folder is the same.
    asked: Option<Instant>,
    /// What else is being looked at, one after the other.
    beside: VecDeque<Look>,
}

/// A look at a folder.
#[derive(Debug)]
struct Look {
    walk: Walk,
    /// It is about the files of the folder, and about folders in it of which nothing is known.
    is_of_busy: bool,
    /// What is wanted and cannot be sent.
    failing: HashSet<String>,
    took: Duration,
}

impl Look {
    fn new(folder: &Path, is_of_busy: bool) -> Self {
        Self { walk: Walk::new(folder), is_of_busy, failing: HashSet::new(), took: Duration::ZERO }
    }
}

impl Looks {
    /// Whether there is something to be looked at now.
    pub(super) fn go_on(&self) -> bool {
        self.whole.is_some() && !self.waits || !self.beside.is_empty()
    }

    /// Whether everything is being scanned.
    pub(super) fn is_scanning(&self) -> bool {
        self.whole.is_some()
    }

    /// Forgets what was to be looked at.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// How far a slice came.
enum Slice {
    More,
    Ended,
    /// The folder is another one: what was found may be of either.
    AnotherFolder,
}

/// Tells what is news.
struct News<'a> {
    record: Option<&'a Record>,
    settle: &'a Settle,
    upload_existing: bool,
    is_of_busy: bool,
    found: Vec<Found>,
}

impl Walker for News<'_> {
    fn enters(&mut self, relative: &str) -> bool {
        !self.is_of_busy || self.record.is_some_and(|record| !record.knows_folder(relative))
    }

    fn is_settled(&mut self, relative: &str, stamp: Stamp, trace: Option<Trace>) -> bool {
        let Some(known) = self.record.and_then(|record| record.known(relative)) else {
            return false;
        };
        let is_done = if known.sha512.is_some() { known.trace == trace } else { !self.upload_existing };
        known.stamp == stamp && is_done && !self.settle.waits_for(relative)
    }

    fn take(&mut self, found: Found) {
        self.found.push(found);
    }
}

impl Watch<'_> {
    /// Scans everything, a slice at each call. Answers whether it is done.
    pub(super) fn scan(&mut self) -> bool {
        if self.hold.holds {
            self.looks.clear();
        }
        if self.looks.whole.is_none() || self.looks.asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
            if !self.may_go_on() {
                self.looks.clear();
                return false;
            }
            self.looks.asked = Some(Instant::now());
        }
        let root = self.place.root().to_owned();
        let mut look = self.looks.whole.take().unwrap_or_else(|| Look::new(&root, false));
        debug_assert_eq!(look.walk.from(), root);
        // no folder is kept open while it waits: its file system could not be unmounted
        self.looks.waits = look.walk.is_between_folders() && self.has_much_to_send();
        if self.looks.waits {
            self.looks.whole = Some(look);
            return false;
        }
        match self.slice(&mut look) {
            Ok(Slice::More) => {
                self.looks.whole = Some(look);
                false
            }
            Ok(Slice::Ended) => {
                self.heal(&root, &look.failing);
                self.restless.tidy(self.begun.elapsed());
                self.busy.scanned();
                self.not_sent.scanned();
                self.pause = (look.took * SCAN_SHARE).clamp(self.between_scans, LONGEST_BETWEEN_SCANS);
                let pause = if std::mem::take(&mut self.looks.again) { TICK } else { self.pause };
                self.next_scan = Instant::now() + pause;
                true
            }
            Ok(Slice::AnotherFolder) => {
                self.next_scan = Instant::now();
                false
            }
            Err(source) => {
                self.hold_for(&UploadError::Path { path: root, source });
                false
            }
        }
    }

    /// Looks at what is to be looked at beside the scan, for a slice.
    pub(super) fn look_beside(&mut self) {
        if self.hold.holds {
            self.looks.beside.clear();
        }
        let is_pause_long = self.pause > self.between_scans;
        if self.looks.beside.is_empty() && (self.looks.is_scanning() || is_pause_long) && !self.has_much_to_send() {
            let due = self.busy.due(self.begun.elapsed());
            let due: BTreeSet<PathBuf> = due.iter().map(|folder| self.scanner.path_of(folder)).collect();
            for folder in due {
                self.looks.beside.push_back(Look::new(&folder, true));
            }
        }
        let Some(mut look) = self.looks.beside.pop_front() else {
            return;
        };
        match self.slice(&mut look) {
            Ok(Slice::More) => self.looks.beside.push_front(look),
            Ok(Slice::Ended) if look.is_of_busy => self.busy.looked(look.took),
            Ok(Slice::Ended) => {
                let folder = look.walk.from().to_owned();
                self.heal(&folder, &look.failing);
            }
            Ok(Slice::AnotherFolder) => self.next_scan = Instant::now(),
            // the folder is gone, or a scan will say what is the matter
            Err(_) => {}
        }
    }

    /// A folder appeared, or can be read now: files in it may have come before anybody watched it.
    pub(super) fn look_below(&mut self, folder: PathBuf) {
        if !self.scanner.is_entered(&folder) {
            return;
        }
        if let Some(hints) = &mut self.hints {
            hints.add(&folder);
        }
        let is_there = |look: &Look| !look.is_of_busy && look.walk.is_new() && look.walk.from() == folder;
        if self.looks.beside.iter().any(is_there) {
            return;
        }
        if self.looks.beside.len() < MOST_BESIDE {
            self.looks.beside.push_back(Look::new(&folder, false));
        } else {
            self.scan_soon();
        }
    }

    /// Something was not taken note of that only a scan finds.
    pub(super) fn scan_soon(&mut self) {
        self.next_scan = self.next_scan.min(Instant::now() + TICK);
        // what was scanned already has to be scanned once more
        self.looks.again = self.looks.is_scanning();
    }

    fn slice(&mut self, look: &mut Look) -> std::io::Result<Slice> {
        let start = Instant::now();
        let mut news = News {
            record: self.run.ledger.as_ref().map(|ledger| &ledger.record),
            settle: &self.settle,
            upload_existing: self.upload_existing,
            is_of_busy: look.is_of_busy,
            found: Vec::new(),
        };
        let mut more = true;
        while more && start.elapsed() < SLICE && !self.run.stop.is_requested() {
            more = self.scanner.step(&mut look.walk, &mut news)?;
        }
        let mut found = news.found;
        // the first few of what is left out are named
        found.sort_unstable_by(|a, b| a.path().cmp(b.path()));
        if !self.place.has_same_root()? {
            return Ok(Slice::AnotherFolder);
        }
        look.failing.extend(found.iter().filter_map(Found::failure).map(str::to_owned));
        found.into_iter().for_each(|found| self.see(found));
        look.took += start.elapsed();
        Ok(if more { Slice::More } else { Slice::Ended })
    }

    /// Whether the rest is better found later. Files that are held back wait for another reason.
    fn has_much_to_send(&self) -> bool {
        let times = (self.settle.lag().as_secs() / USUAL_LAG.as_secs()).max(1) as usize;
        self.settle.len() >= MOST_WAITING.saturating_mul(times) + self.restless.len()
    }
}
