//! One version of a file on its way into the log: which one it is, and the chunks of the second pass. A file that
//! changes meanwhile is sent in the version that follows; what was sent of a version that is given up is named to those who
//! read the topic.

use std::fs::File;
use std::time::Duration;

use datamill_wire::{Chunk, hex};
use tracing::info;

use super::{InHand, Job, Run, Sent, tell};
use crate::facts::Fact;
use crate::report::clock;
use crate::upload::cut::{CutError, Pieces, Version, cut};
use crate::upload::error::{Broken, UploadError};
use crate::upload::scan::split;
use crate::upload::send::FileId;

/// Versions given up that the records of their successor name at most.
const MOST_SUPERSEDED: usize = 16;

/// A version that is being handed over.
pub(super) struct Partial {
    file: FileId,
    sha512: [u8; 64],
    /// Modification time in its chunks, in seconds.
    mtime: Option<f64>,
    /// Chunks handed over.
    sent: u32,
}

impl Run<'_> {
    /// Sends the version that is there. `partial` is what the try before left half-sent: the
    /// same content goes on where that one broke off, another one takes its place.
    pub(super) fn send_version(&mut self, job: &Job, partial: &mut Option<Partial>) -> Result<Sent, Broken> {
        let mut file = File::open(&job.path).map_err(CutError::Read)?;
        let (stop, counters) = (&self.stop, self.facts.counters());
        let go_on = || {
            counters.turn();
            stop.may_go_on(None)
        };
        let version = cut(&mut file, self.chunk_size, &go_on)?;
        if let Some(old) = partial.take_if(|old| old.sha512 != version.sha512) {
            info!(
                file = job.relative,
                "the file changed while it was sent: its new version takes the place of the old one"
            );
            self.give_up(&job.relative, &old);
        }
        if partial.is_none() && job.known == Some(version.sha512) {
            self.write_down(&job.relative, version.stamp, version.trace, &version.sha512);
            self.summary.unchanged += 1;
            self.facts.tell(&Fact::Unchanged { file: &job.relative });
            self.healed(&job.relative);
            return Ok(Sent::Unchanged);
        }
        let partial_now = match partial.take() {
            Some(old) => old,
            None => {
                if version.total() > 1
                    && let Some(ledger) = &mut self.ledger
                {
                    ledger.sending(&job.relative, &version.sha512);
                }
                if self.is_held() {
                    return Ok(Sent::PutOff);
                }
                self.begin(job, &version)?
            }
        };
        let partial_now = partial.insert(partial_now);
        self.send_pieces(job, version.pieces(&mut file, partial_now.sent)?, &version, partial_now)?;
        if let Some(done) = partial.take() {
            if let Some(in_hand) = self.in_hand.get_mut(&done.file) {
                (in_hand.stamp, in_hand.trace) = (version.stamp, version.trace);
            }
            self.sender.end(done.file);
            self.facts.tell(&Fact::Sent { file: &job.relative, bytes: version.stamp.size });
        }
        Ok(Sent::OnItsWay)
    }

    /// Opens the account of a version.
    fn begin(&mut self, job: &Job, version: &Version) -> Result<Partial, UploadError> {
        self.sender.set_partitions(self.target.partitions()?);
        let superseded = self.half_sent.get(&job.relative).into_iter().flatten();
        let superseded = superseded.filter(|hash| **hash != version.sha512).map(|hash| hex(hash)).collect();
        let file = self.sender.begin(&job.relative, version.total(), superseded);
        let in_hand = InHand {
            job: job.clone(),
            stamp: version.stamp,
            trace: version.trace,
            sha512: version.sha512,
            total: version.total(),
            started_ms: clock::now_ms(),
        };
        self.in_hand.insert(file, in_hand);
        Ok(Partial { file, sha512: version.sha512, mtime: version.stamp.mtime_seconds(), sent: 0 })
    }

    /// Sends what the second pass hands out. Ends well also where a chunk was refused: the account of the file knows.
    fn send_pieces(
        &mut self,
        job: &Job,
        mut pieces: Pieces<'_>,
        version: &Version,
        partial: &mut Partial,
    ) -> Result<(), Broken> {
        let (subdir, filename) = split(&job.relative);
        while let Some(piece) = pieces.next()? {
            let chunk = Chunk {
                filename,
                file_hash: &version.sha512,
                chunk_hash: piece.sha512,
                offset: piece.offset,
                index: piece.index,
                total: version.total(),
                subdir,
                filename_append: &self.filename_append,
                data: piece.data,
                mtime: partial.mtime,
            };
            let (stop, summary, counters) = (&self.stop, &self.summary, self.facts.counters());
            let (in_hand, later) = (self.in_hand.len(), self.later.len());
            let go_on = |heard| {
                counters.turn();
                if stop.take_check() {
                    tell(summary, in_hand, later);
                }
                stop.may_go_on(Some(heard))
            };
            let sent = self.sender.send_chunk(partial.file, &chunk, &go_on).map_err(UploadError::from)?;
            self.pump(Duration::ZERO)?;
            if sent.is_break() {
                let is_refused = self.stop.may_go_on(Some(self.sender.last_delivery()));
                return if is_refused { Ok(()) } else { Err(CutError::Ended.into()) };
            }
            partial.sent = piece.index;
        }
        Ok(())
    }

    /// Closes the account of a version that will not be completed.
    pub(super) fn give_up(&mut self, relative: &str, partial: &Partial) {
        self.sender.abandon(partial.file);
        self.in_hand.remove(&partial.file);
        if partial.sent > 0 {
            self.add_half_sent(relative, partial.sha512);
        }
    }

    pub(in crate::upload) fn add_half_sent(&mut self, relative: &str, hash: [u8; 64]) {
        let versions = self.half_sent.entry(relative.to_owned()).or_default();
        if !versions.contains(&hash) {
            versions.push(hash);
            if versions.len() > MOST_SUPERSEDED {
                versions.remove(0);
            }
        }
    }
}
