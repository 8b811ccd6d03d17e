//! Somebody takes a large file in parts while its chunks still come.
//!
//! ```text
//!  Assembler: the first chunk came ──Begun──▶ Followers ──Follower──▶ Buffer ──Part──▶ Follower
//!                                                                       │ whole: goes along with the rest
//!                                                                       ▼ given up: dropped
//! ```
//! What is taken is not verified: whoever takes it must not let anybody see it before the whole file is. What
//! was taken is there no longer; a file whose taker fails after that is read again from the topic.

use std::fmt;
use std::sync::Arc;

use datamill_wire::Sha512Hasher;

use super::budget::Reservation;
use super::instance::{InstanceId, Span, Version};
use super::source_topic::SourceTopic;

/// What is known of a file whose first chunk has come.
#[derive(Debug)]
#[cfg_attr(not(feature = "object-store"), expect(dead_code, reason = "deliveries to object stores alone follow files"))]
pub(crate) struct Begun<'a> {
    pub(crate) id: InstanceId,
    pub(crate) topic: &'a Arc<SourceTopic>,
    pub(crate) version: &'a Version,
    /// Where its first chunk was read.
    pub(crate) span: Span,
    /// Time of its first record, milliseconds since the epoch.
    pub(crate) first_ms: i64,
    /// Bytes that it comes to if all its chunks are as large as the first one.
    pub(crate) bytes: u64,
    /// Bytes that all files which are followed may hold besides the parts that were taken.
    pub(crate) room: usize,
}

/// Decides which files are followed.
pub(crate) trait Followers: fmt::Debug + Send + Sync {
    /// The first bytes of a file have come. MUST NOT block: the thread that reads the topic asks.
    fn begin(&self, begun: &Begun<'_>) -> Option<Box<dyn Follower>>;
}

/// Follows one file. It lives as long as the file's content, whole or not; when it is dropped before it was asked
/// for the whole file, that will not come.
pub(crate) trait Follower: fmt::Debug + Send + Sync {
    /// What it does just now. MUST NOT block.
    fn taking(&self) -> Taking;

    /// Takes the part that comes next. MUST NOT block.
    fn take(&self, part: Part);

    /// The SHA-512 of all parts so far, once it is taken. `None` if the follower is over, and they are lost.
    fn hashed(&self) -> Option<Sha512Hasher>;
}

/// What a follower does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(any(feature = "object-store", test)),
    expect(dead_code, reason = "deliveries to object stores alone follow files")
)]
pub(crate) enum Taking {
    /// It does not know yet whether it takes anything.
    NotYet,
    /// It takes all from the beginning on, in parts of so many bytes.
    Parts(usize),
    /// It takes no more. What it has taken is lost.
    Over,
}

/// Bytes of a file that somebody takes. They count as memory until they are dropped.
#[derive(Debug)]
pub(crate) struct Part {
    bytes: Vec<u8>,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What of a file is taken in parts, and the part that still fills up.
#[derive(Debug)]
pub(super) struct Stream {
    /// Bytes of a part.
    size: usize,
    taken: u64,
    rest: Vec<u8>,
}

impl Stream {
    pub(super) fn new(size: usize) -> Self {
        Self { size, taken: 0, rest: Vec::new() }
    }

    /// Bytes that came.
    pub(super) fn end(&self) -> u64 {
        self.taken + self.rest.len() as u64
    }

    /// Bytes in the parts that were taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes of a part.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Bytes that are not taken yet.
    pub(super) fn rest(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn into_rest(self) -> Vec<u8> {
        self.rest
    }

    /// Takes the bytes that come next, and hands the parts over that are full with them.
    pub(super) fn add(&mut self, mut bytes: &[u8], follower: &dyn Follower, reserve: impl Fn(usize) -> Reservation) {
        while !bytes.is_empty() {
            self.rest.reserve_exact(self.size - self.rest.len());
            let (now, later) = bytes.split_at(bytes.len().min(self.size - self.rest.len()));
            self.rest.extend_from_slice(now);
            bytes = later;
            if self.rest.len() == self.size {
                let bytes = std::mem::take(&mut self.rest);
                self.taken += bytes.len() as u64;
                follower.take(Part { _reservation: reserve(bytes.len()), bytes });
            }
        }
    }
}

/// The followers of an assembler's files.
#[derive(Debug, Clone)]
pub(crate) struct Following {
    /// The topic that the files come from.
    pub(crate) topic: Arc<SourceTopic>,
    pub(crate) followers: Arc<dyn Followers>,
    /// See [`Begun::room`].
    pub(crate) room: usize,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

    use datamill_wire::Chunk;

    use super::super::{Assembler, Budget};
    use super::*;
    use crate::progress::Progress;

    /// Takes parts of four bytes as soon as it may, and counts them.
    #[derive(Debug, Clone, Default)]
    struct Counting {
        may: Arc<AtomicBool>,
        parts: Arc<AtomicUsize>,
    }

    impl Followers for Counting {
        fn begin(&self, _: &Begun<'_>) -> Option<Box<dyn Follower>> {
            Some(Box::new(self.clone()))
        }
    }

    impl Follower for Counting {
        fn taking(&self) -> Taking {
            if self.may.load(Relaxed) { Taking::Parts(4) } else { Taking::NotYet }
        }

        fn take(&self, _: Part) {
            self.parts.fetch_add(1, Relaxed);
        }

        fn hashed(&self) -> Option<Sha512Hasher> {
            None
        }
    }

    /// The first of two chunks.
    fn begun(filename: &str) -> Chunk<'_> {
        Chunk {
            filename,
            file_hash: &[0; 64],
            chunk_hash: &[0; 64],
            offset: 0,
            index: 1,
            total: 2,
            subdir: "",
            filename_append: "",
            data: &[7; 10],
            mtime: None,
        }
    }

    #[test]
    fn a_follower_takes_what_is_there_though_no_chunk_follows_but_nothing_of_a_file_that_is_gone() {
        let budget = Arc::new(Budget::default());
        let counting = Counting::default();
        let topic = Arc::new(SourceTopic {
            name: "files".into(),
            id: "1".into(),
            by_name: None,
            own_files: Default::default(),
        });
        let following = Following { topic, followers: Arc::new(counting.clone()), room: 100 };
        let mut assembler = Assembler::new(Box::new(|_| true), Arc::clone(&budget)).followed(Some(following));
        for (partition, filename) in [(0, "kept"), (1, "gone")] {
            assembler.assign(partition, Progress::starting_at(0), 0);
            assembler.add(partition, 0, 0, &begun(filename)).1.unwrap();
        }
        assembler.offer();
        assert_eq!((counting.parts.load(Relaxed), budget.filling()), (0, 20));
        assembler.revoke(&[1]);
        counting.may.store(true, Relaxed);
        for _ in 0..2 {
            assembler.offer();
            assert_eq!((counting.parts.load(Relaxed), budget.filling()), (2, 2));
        }
    }
}
