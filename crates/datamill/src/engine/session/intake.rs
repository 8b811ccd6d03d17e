//! Records become chunks, chunks become whole files.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill_broker::Record;
use datamill_wire::headers;

use super::ownership::Ownership;
use super::{Action, Actions, Limits};
use crate::assemble::{
    Added, Assembler, Budget, Complete, DroppedFile, InstanceId, InstanceIds, Reservation, SpillFolder,
};
use crate::engine::chunk::is_kept;
use crate::engine::chunk_of;
use crate::engine::dead_letter::Unusable;
use crate::engine::entry::{self, Entry};
use crate::engine::reread::RereadQueue;
use crate::facts::{Fact, Facts, Hold};

/// How often writing to a full disk is tried again.
const SETTLE_EVERY: Duration = Duration::from_secs(1);

/// Takes records in, for one session.
pub(super) struct Intake {
    pub(super) assembler: Assembler,
    facts: Facts,
    budget: Arc<Budget>,
    spill: SpillFolder,
    /// Bytes of files in memory, filling and whole, above which the largest that fill up go to disk.
    files_limit: usize,
    /// Bytes on disk of files, filling and whole, above which the content of the largest that fill up is
    /// dropped.
    spill_limit: Option<usize>,
    /// Files whose content was dropped.
    rereads: RereadQueue,
    dropping: bool,
    /// When the output folder could not be written last.
    disk_failed: Option<Instant>,
}

impl Intake {
    pub(super) fn new(
        assembler: Assembler,
        facts: Facts,
        budget: Arc<Budget>,
        spill: SpillFolder,
        limits: &Limits,
    ) -> Self {
        Self {
            assembler,
            facts,
            budget,
            spill,
            files_limit: limits.files_bytes,
            spill_limit: limits.spill_limit,
            rereads: RereadQueue::default(),
            dropping: false,
            disk_failed: None,
        }
    }

    /// Takes one record in. Answers one that holds no chunk and was not read before.
    pub(super) fn record(
        &mut self,
        record: &Record<'_>,
        at: (Instant, i64),
        ownership: &mut Ownership,
        actions: &mut Actions,
    ) -> Option<Unusable> {
        let (now, now_ms) = at;
        if self.assembler.was_read_before(record.partition, record.offset) {
            self.facts.counters().read_again(record.value.unwrap_or_default().len() as u64);
        }
        let chunk = chunk_of(record);
        self.facts.counters().read_one(&chunk);
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                let error = match record.value {
                    Some(_) => crate::report::chain(&error),
                    None => "the message has no value".to_owned(),
                };
                return self.unusable(record, error);
            }
        };
        if chunk.total > 1 {
            ownership.hears_of_a_file(|| is_kept(record));
        }
        // a clock that is ahead elsewhere must not age the files of others
        let time_ms = record.timestamp_ms.unwrap_or(0).min(now_ms);
        let (added, written) = self.assembler.add(record.partition, record.offset, time_ms, &chunk);
        for (_, old) in record.headers.iter().filter(|(name, _)| *name == headers::SUPERSEDES) {
            if let Some(old) = std::str::from_utf8(old).ok().and_then(entry::hash) {
                self.assembler.supersede(record.partition, &chunk, &old);
            }
        }
        if let Err(error) = written {
            self.disk_error(&error, now);
        }
        match added {
            Added::Whole(complete) => {
                let (file, chunks) = (&*complete.info().version.path, chunk.total);
                if chunks == 1 {
                    self.facts.tell(&Fact::FirstChunk { file, chunks });
                }
                self.facts.tell(&Fact::Whole { file, chunks });
                self.hand_out(complete, actions);
            }
            Added::Begun(file) => self.facts.tell(&Fact::FirstChunk { file: &file, chunks: chunk.total }),
            Added::Finished => self.facts.counters().read_again_of_finished(),
            // a file is counted once, at its first chunk
            Added::Filtered if chunk.index == 1 => self.facts.tell(&Fact::Filtered { file: &chunk.rebuilt_path() }),
            Added::Filtered | Added::Taken => {}
        }
        self.keep_room(now);
        None
    }

    fn unusable(&mut self, record: &Record<'_>, error: String) -> Option<Unusable> {
        let (partition, offset) = (record.partition, record.offset);
        if !self.assembler.skip_to(partition, offset + 1) {
            return None;
        }
        self.facts.tell(&Fact::Undecodable { partition, offset, error: &error });
        Some(Unusable::of(record, error, |bytes| Reservation::whole(&self.budget, bytes)))
    }

    fn keep_room(&mut self, now: Instant) {
        let is_full =
            self.budget.filling() > self.filling_limit() || self.budget.filling_on_disk() > self.filling_disk_limit();
        if is_full
            && self.disk_failed.is_none()
            && let Err(error) = self.make_room()
        {
            self.disk_error(&error, now);
        }
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
        let files = self.assembler.spill_down_to(in_memory, &self.spill)?;
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

    /// A whole file goes on its way. One that cannot be handed out waits for the disk: [`Intake::settle`] does it.
    fn hand_out(&mut self, complete: Complete, actions: &mut Actions) {
        // files of one path reach user code in the order in which they became whole
        let is_behind = self.rereads.has(&complete.info().version.path);
        match complete {
            Complete::Here(file) if is_behind => self.rereads.add(file.dropped(), None),
            Complete::Here(file) => actions.push(Action::Work(Box::new(file))),
            Complete::Dropped(file) => self.rereads.add(file, None),
            Complete::Unwritten(info) if is_behind => {
                self.assembler.drop_unwritten(info.id).into_iter().for_each(|file| self.rereads.add(file, None));
            }
            Complete::Unwritten(_) => {}
        }
    }

    fn disk_error(&mut self, error: &io::Error, now: Instant) {
        if self.disk_failed.is_none() {
            tracing::error!(folder = %self.spill.path().display(), error = %error,
                "cannot write to the output folder; reading is held until it works again, nothing is lost. If the disk is \
                full, make room on it; --spill_limit bounds what the program takes for unfinished files");
        }
        self.disk_failed = Some(now);
    }

    /// Why reading must wait: for the disk, or for files that are read again.
    pub(super) fn holds(&self) -> Option<Hold> {
        let disk = self.disk_failed.map(|_| Hold::OutputFolder);
        disk.or_else(|| self.rereads.is_behind().then_some(Hold::ReadingAgain))
    }

    /// Tries again to write what could not be written.
    pub(super) fn settle(&mut self, now: Instant, actions: &mut Actions) {
        if self.disk_failed.is_none_or(|at| now - at < SETTLE_EVERY) {
            return;
        }
        let settled = self.spill.create().and_then(|_| self.assembler.settle()).and_then(|whole| {
            whole.into_iter().for_each(|file| self.hand_out(Complete::Here(file), actions));
            self.make_room()
        });
        match settled {
            Ok(()) => {
                self.disk_failed = None;
                tracing::info!("the output folder can be written again; going on");
            }
            Err(error) => self.disk_error(&error, now),
        }
    }

    /// Reports open files whose first records are gone from the log.
    pub(super) fn report_lost(&mut self) {
        for (partition, offset) in self.assembler.take_lost() {
            self.facts.tell(&Fact::Lost { partition, offset });
        }
    }

    /// A file is to be read again, if its outcome is still waited for. Answers whether it is.
    pub(super) fn read_again(&mut self, file: DroppedFile, answers: Option<Arc<Entry>>) -> bool {
        let awaits = answers.is_some() || self.awaits(file.info.id);
        if awaits {
            self.rereads.add(file, answers);
        }
        awaits
    }

    /// The file that was to be read again was, or will not be. Answers the entry that it answers; `None` where nobody waits
    /// for it any more.
    pub(super) fn was_read_again(&mut self) -> Option<Option<Arc<Entry>>> {
        self.rereads.was_read()
    }

    /// Begins to read the next file again, if one waits and none is read.
    pub(super) fn read_next_again(&mut self, actions: &mut Actions) {
        actions.extend(self.rereads.next().map(Action::ReadAgain));
    }

    /// No file waits for being read again, and none is read.
    pub(super) fn reads_nothing_again(&self) -> bool {
        self.rereads.is_idle()
    }

    /// No further file is read again.
    pub(super) fn stop(&mut self) {
        self.rereads.stop();
    }

    /// These files are not this process's any more.
    pub(super) fn forget(&mut self, gone: &InstanceIds) {
        self.rereads.forget(gone);
    }

    /// Whether the outcome of a file of this topic is waited for.
    pub(super) fn awaits(&self, id: InstanceId) -> bool {
        self.assembler.awaits_outcome(id)
    }
}
