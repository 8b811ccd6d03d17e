//! Somebody takes a large file while its chunks still come, out of the file on disk that it fills up in.
//!
//! ```text
//!  Assembler: a file goes to disk ──Begun──▶ Followers ──Follower──▶ Buffer ──grown(end)──▶ Follower
//!                                                                       │ whole: goes along with the content
//!                                                                       ▼ given up: dropped
//! ```
//! What is taken is not verified: whoever takes it must not let anybody see it before the whole file is. What
//! was taken and hashed leaves the disk; a file whose taker fails after that is read again from the topic.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

#[cfg(feature = "object-store")]
use memmap2::{Mmap, MmapOptions};

use super::ahead::Hashed;
use super::file::SourceTopic;
use super::instance::{InstanceId, Span, Version};

/// What is known of a file that fills up.
#[derive(Debug)]
#[cfg_attr(not(feature = "object-store"), expect(dead_code, reason = "deliveries to object stores alone follow files"))]
pub(crate) struct Begun<'a> {
    pub(crate) id: InstanceId,
    pub(crate) topic: &'a Arc<SourceTopic>,
    pub(crate) version: &'a Version,
    /// Where its first chunk was read; all chunks so far are in this partition.
    pub(crate) span: Span,
    /// Time of its first record, milliseconds since the epoch.
    pub(crate) first_ms: i64,
    /// Bytes that it comes to if all its chunks are as large as the largest so far.
    pub(crate) bytes: u64,
}

/// Decides which files are followed.
pub(crate) trait Followers: fmt::Debug + Send + Sync {
    /// A file goes to disk for the first time. MUST NOT block: the thread that reads the topic asks.
    ///
    /// `content` opens what is there, which MUST be read only below the ends that the follower is told.
    fn begin(&self, begun: &Begun<'_>, content: &dyn Fn() -> io::Result<Growth>) -> Option<Box<dyn Follower>>;
}

/// The content of a file that fills up on disk.
#[derive(Debug)]
#[cfg_attr(not(feature = "object-store"), expect(dead_code, reason = "deliveries to object stores alone follow files"))]
pub(crate) struct Growth {
    pub(super) file: File,
    pub(super) hashed: Hashed,
}

#[cfg(feature = "object-store")]
impl Growth {
    /// Maps a part, whose bytes are there.
    pub(crate) fn part(&self, offset: u64, len: usize) -> io::Result<Mmap> {
        let mut part = MmapOptions::new();
        // SAFETY: the mapped file lies in a folder that the program made for files that fill up, under an output
        // folder that it holds a lock on. The program appends to it, never writes a byte twice and never truncates
        // it; renaming and removing it keep the inode. What leaves it does so by `taken`, whose caller has dropped
        // the maps of that.
        #[allow(unsafe_code)]
        let map = unsafe { part.offset(offset).len(len).map(&self.file) }?;
        Ok(map)
    }

    /// The first `end` bytes are needed no more, and none of them is mapped: what is hashed of them leaves the disk,
    /// where the file system can give up a part of a file.
    pub(crate) fn taken(&self, end: u64) {
        #[cfg(target_os = "linux")]
        if let Some(gone) = self.hashed.give_up(end) {
            use rustix::fs::FallocateFlags;
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            if let Err(error) = rustix::fs::fallocate(&self.file, punch, gone.start, gone.end - gone.start) {
                tracing::debug!(%error, "what was taken of a file stays on disk");
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = end;
    }
}

/// Follows one file. It lives as long as the file's content, whole or not; when it is dropped before it was asked
/// for the whole file, that will not come.
pub(crate) trait Follower: fmt::Debug + Send + Sync {
    /// The first `end` bytes of the file are there, and do not change any more. MUST NOT block.
    fn grown(&self, end: u64);
}

/// The followers of an assembler's files, and the topic that these come from.
#[derive(Debug, Clone)]
pub(crate) struct Following {
    pub(crate) topic: Arc<SourceTopic>,
    pub(crate) followers: Arc<dyn Followers>,
}
