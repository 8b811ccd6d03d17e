//! Records become chunks, chunks become whole files, whole files go to the pool.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill_broker::{Assigned, Record};
use datamill_wire::headers;

use super::dead_letter::Unusable;
use super::entry;
use super::reread::Rereads;
use super::work::Pool;
use super::{EngineSettings, chunk_of};
use crate::assemble::{Added, Assembler, Budget, InstanceId, Reservation, SpillFolder, WholeFile};
use crate::facts::{Fact, Facts, Hold};
use crate::progress::Progress;
use crate::report::clock;

/// How often writing to a full disk is tried again.
const SETTLE_EVERY: Duration = Duration::from_secs(1);

/// Takes records in, for one session.
pub(super) struct Intake<'a> {
    pub(super) assembler: Assembler,
    pub(super) topic: Arc<str>,
    pub(super) facts: &'a Facts,
    pub(super) pool: &'a Pool,
    pub(super) budget: Arc<Budget>,
    pub(super) spill: &'a SpillFolder,
    /// Bytes of files in memory, filling and whole, above which the largest that fill up go to disk.
    files_limit: usize,
    /// Bytes on disk of files, filling and whole, above which the content of the largest that fill up is
    /// dropped.
    spill_limit: Option<usize>,
    /// Files whose content was dropped.
    pub(super) rereads: Rereads,
    dropping: bool,
    pub(super) partitions: i32,
    /// A file of this topic may have chunks in all partitions.
    pub(super) spread: bool,
    /// Records that hold no chunk and whose dead letters are not committed.
    pub(super) unusable: Vec<Unusable>,
    disk_failed: Option<Instant>,
    /// Files that became whole since the pool was given the last ones.
    whole: Vec<WholeFile>,
}

impl<'a> Intake<'a> {
    #[expect(clippy::too_many_arguments, reason = "one place makes it, from the parts of the engine")]
    pub(super) fn new(
        assembler: Assembler,
        topic: Arc<str>,
        facts: &'a Facts,
        pool: &'a Pool,
        budget: Arc<Budget>,
        spill: &'a SpillFolder,
        rereads: Rereads,
        settings: &EngineSettings,
        partitions: i32,
    ) -> Self {
        Self {
            assembler,
            topic,
            facts,
            pool,
            budget,
            spill,
            files_limit: settings.files_bytes(),
            spill_limit: settings.spill_limit,
            rereads,
            dropping: false,
            partitions,
            spread: false,
            unusable: Vec::new(),
            disk_failed: None,
            whole: Vec::new(),
        }
    }

    /// Partitions are owned from here on, with the progress that was committed last.
    pub(super) fn assign(&mut self, assigned: &Assigned, restored: Progress) {
        tracing::debug!(topic = %self.topic, partition = assigned.partition, offset = assigned.start,
            frontier = restored.frontier, "assigned");
        self.assembler.assign(assigned.partition, restored, assigned.start);
    }

    /// Takes one record in.
    pub(super) fn record(&mut self, record: &Record<'_>) {
        if self.assembler.was_read_before(record.partition, record.offset) {
            self.facts.counters().read_again(record.value.unwrap_or_default().len() as u64);
        }
        let chunk = chunk_of(record);
        self.facts.counters().read_one(&chunk);
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                if self.assembler.skip_to(record.partition, record.offset + 1) {
                    let error = match record.value {
                        Some(_) => crate::report::chain(&error),
                        None => "the message has no value".to_owned(),
                    };
                    let (partition, offset) = (record.partition, record.offset);
                    self.facts.tell(&Fact::Undecodable { partition, offset, error: &error });
                    let reserve = |bytes| Reservation::whole(&self.budget, bytes);
                    self.unusable.push(Unusable::of(record, error, reserve));
                }
                return;
            }
        };
        if chunk.total > 1 && self.partitions > 1 && !self.spread {
            self.spread = !record.headers.iter().any(|(name, _)| *name == headers::CHUNK_VERSION);
        }
        // a clock that is ahead elsewhere must not age the files of others
        let time_ms = record.timestamp_ms.unwrap_or(0).min(clock::now_ms());
        let (added, written) = self.assembler.add(record.partition, record.offset, time_ms, &chunk);
        for (_, old) in record.headers.iter().filter(|(name, _)| *name == headers::SUPERSEDES) {
            if let Some(old) = std::str::from_utf8(old).ok().and_then(entry::hash) {
                self.assembler.supersede(record.partition, &chunk, &old);
            }
        }
        if let Err(error) = written {
            self.disk_error(&error);
        }
        match added {
            Added::Whole(id) => {
                let (file, chunks) = (self.assembler.path(id).unwrap_or_default(), chunk.total);
                if chunks == 1 {
                    self.facts.tell(&Fact::FirstChunk { file, chunks });
                }
                self.facts.tell(&Fact::Whole { file, chunks });
                self.submit(id);
            }
            Added::Begun(id) => {
                let file = self.assembler.path(id).unwrap_or_default();
                self.facts.tell(&Fact::FirstChunk { file, chunks: chunk.total });
            }
            Added::Finished => self.facts.counters().read_again_of_finished(),
            // a file is counted once, at its first chunk
            Added::Filtered if chunk.index == 1 => self.facts.tell(&Fact::Filtered { file: &chunk.rebuilt_path() }),
            Added::Filtered => {}
            Added::Taken => {}
        }
        let is_full =
            self.budget.filling() > self.filling_limit() || self.budget.filling_on_disk() > self.filling_disk_limit();
        if is_full
            && self.disk_failed.is_none()
            && let Err(error) = self.make_room()
        {
            self.disk_error(&error);
        }
    }

    /// All that is in a partition was read, up to this offset.
    pub(super) fn at_end(&mut self, partition: i32, offset: i64) {
        self.assembler.skip_to(partition, offset);
        self.assembler.at_end(partition, clock::now_ms());
    }

    /// Moves files that fill up to the disk, and drops the content of the largest where they may take no more
    /// of it.
    fn make_room(&mut self) -> io::Result<()> {
        let in_memory = self.filling_limit() / 4 * 3;
        let dropped = self.assembler.drop_down_to(in_memory, self.filling_disk_limit());
        if dropped > 0 {
            tracing::debug!(files = dropped, "files that fill up are dropped");
            if !std::mem::replace(&mut self.dropping, true) {
                tracing::warn!(
                    "files that fill up need more disk than --spill_limit: the largest are read again from the topic \
                    once all their chunks are there, nothing is lost"
                );
            }
        }
        let files = self.assembler.spill_down_to(in_memory, self.spill)?;
        tracing::debug!(files, "files that fill up go to disk");
        Ok(())
    }

    /// Bytes of disk that files that fill up may take: what whole ones leave, and at least half.
    fn filling_disk_limit(&self) -> usize {
        self.spill_limit.map_or(usize::MAX, |limit| limit - self.budget.whole_on_disk().min(limit / 2))
    }

    /// Bytes that files that fill up may take: what whole ones leave, and at least two fifths.
    fn filling_limit(&self) -> usize {
        self.files_limit.saturating_sub(self.budget.whole()).max(self.files_limit / 5 * 2)
    }

    /// Whether files that fill up take more than half of the memory that they may, or are on disk already.
    pub(super) fn is_filling_up(&self) -> bool {
        self.budget.filling() > self.filling_limit() / 2 || self.budget.filling_on_disk() > 0
    }

    /// Hands the files that became whole to the pool, together: waking a worker costs as much as a small
    /// file. MUST come before the pool is asked whether it is idle, and before partitions go.
    pub(super) fn hand_out(&mut self) {
        if !self.whole.is_empty() {
            self.pool.submit_all(self.whole.drain(..));
        }
    }

    fn submit(&mut self, id: InstanceId) {
        let Some(path) = self.assembler.path(id) else { return };
        // files of one path reach user code in the order in which they became whole
        let is_behind = self.rereads.has(path);
        if let Some(dropped) = self.assembler.take_dropped(id, is_behind) {
            self.rereads.add(dropped);
        } else if let Some(whole) = self.assembler.take_whole(id) {
            self.whole.push(whole);
        }
        // one that is not handed out here waits for the disk; `settle` hands it out
    }

    fn disk_error(&mut self, error: &io::Error) {
        if self.disk_failed.is_none() {
            tracing::error!(folder = %self.spill.path().display(), error = %error,
                "cannot write to the output folder; reading is held until it works again, nothing is lost. If the disk is \
                full, make room on it; --spill_limit bounds what the program takes for unfinished files");
        }
        self.disk_failed = Some(Instant::now());
    }

    /// Why reading must wait: for the disk, or for files that are read again.
    pub(super) fn holds(&self) -> Option<Hold> {
        let disk = self.disk_failed.map(|_| Hold::OutputFolder);
        disk.or_else(|| self.rereads.is_behind().then_some(Hold::ReadingAgain))
    }

    /// Tries again to write what could not be written.
    pub(super) fn settle(&mut self) {
        if self.disk_failed.is_none_or(|at| at.elapsed() < SETTLE_EVERY) {
            return;
        }
        let settled = self.spill.create().and_then(|_| self.assembler.settle()).and_then(|whole| {
            self.make_room()?;
            Ok(whole)
        });
        match settled {
            Ok(whole) => {
                self.disk_failed = None;
                tracing::info!("the output folder can be written again; going on");
                for id in whole {
                    self.submit(id);
                }
            }
            Err(error) => self.disk_error(&error),
        }
    }

    /// Reports open files whose first records are gone from the log.
    pub(super) fn report_lost(&mut self) {
        for (partition, offset) in self.assembler.take_lost() {
            self.facts.tell(&Fact::Lost { partition, offset });
        }
    }
}
