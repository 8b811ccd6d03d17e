//! Somebody takes a large file while its chunks still come, out of the file on disk that it fills up in.
//!
//! ```text
//!  Assembler: a file goes to disk ──Begun──▶ Followers ──Follower──▶ Buffer ──grown(end)──▶ Follower
//!                                                                       │ whole: goes along with the content
//!                                                                       ▼ given up: dropped
//! ```
//! What is taken is not verified: whoever takes it must not let anybody see it before the whole file is.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

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
    fn begin(&self, begun: &Begun<'_>, content: &dyn Fn() -> io::Result<File>) -> Option<Box<dyn Follower>>;
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
