//! The committed progress of one partition as a value.
//!
//! What is committed is a position W with a short text. Together they say: every file whose first
//! record lies below the frontier H is finished, except the files in the open list; W is the first
//! record that is still needed. After a restart reading goes on at W, and for a record below H its
//! file's first offset alone decides whether the file is open or finished.
//!
//! ```text
//!            W                         H
//!  ──────────┼────────────┼───┼────────┼──────────▶ offsets
//!  all done  ▲            ▲   ▲        never seen
//!            first offsets of the open files
//! ```

mod codec;

pub use codec::{ProgressError, TopicTag, decode, elsewhere, encode, is_tagged};
pub(crate) use codec::{is_foreign, key_of_elsewhere};

use std::collections::BTreeMap;

/// Why an offset is in the open list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpenKind {
    /// An instance of a file without an outcome.
    Open,
    /// An instance that has its outcome, kept because a repetition of it is still open: which chunk
    /// belongs to which of the two can only be told by seeing both from their first record on.
    Shadow,
}

/// W, H and the open files of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// H: the next offset that was never seen.
    pub frontier: i64,
    /// First offset and kind of each open instance below H.
    pub open: BTreeMap<i64, OpenKind>,
}

impl Progress {
    /// Progress of a group that starts at `position` and knows nothing of what lies below.
    pub fn starting_at(position: i64) -> Self {
        Self { frontier: position, open: BTreeMap::new() }
    }

    /// W: the first offset that is still needed.
    pub fn position(&self) -> i64 {
        self.open.keys().next().copied().unwrap_or(self.frontier)
    }
}
