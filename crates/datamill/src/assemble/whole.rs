//! Files that have all their chunks, as the assembler hands them out.

use std::sync::Arc;

use super::budget::Reservation;
use super::buffer::Content;
use super::follow::Follower;
use super::instance::{FileInfo, Proof};

/// A file that has all its chunks, not verified yet.
#[derive(Debug)]
pub(crate) struct WholeFile {
    pub(crate) info: Arc<FileInfo>,
    /// `None` if the chunks leave a hole.
    pub(crate) size: Option<u64>,
    pub(crate) content: Content,
    pub(crate) reservation: Reservation,
    pub(crate) proofs: Vec<Proof>,
    /// Whoever followed it, and has taken so many of its first bytes: the content is what comes behind them.
    pub(crate) follower: Option<Box<dyn Follower>>,
    pub(crate) taken: u64,
    /// It failed in an earlier run, with all its attempts.
    pub(crate) failed_before: bool,
}

/// A file that has all its chunks and whose content was dropped.
#[derive(Debug)]
pub(crate) struct DroppedFile {
    pub(crate) info: Arc<FileInfo>,
    /// `None` if the chunks leave a hole.
    pub(crate) size: Option<u64>,
    pub(crate) proofs: Vec<Proof>,
}

impl WholeFile {
    /// Drops its content, and whoever followed it.
    pub(crate) fn dropped(self) -> DroppedFile {
        let Self { info, size, proofs, .. } = self;
        DroppedFile { info, size, proofs }
    }
}
