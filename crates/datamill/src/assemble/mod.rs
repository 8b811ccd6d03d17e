//! Chunks become whole files.
//!
//! ```text
//!  chunk ──▶ Assembler ──▶ Instance (indices, extents, buffer) ──▶ WholeFile ──verify──▶ DownloadDataFile
//!               │                        │
//!               ▼                        ▼ above the memory limit
//!       Progress per partition      spill folder ──above --spill_limit──▶ dropped: read again once all
//!                                        │                              chunks were seen
//!                                        ▼
//!                                  Follower, which takes what is there before the file is whole
//! ```
//!
//! The assembler is a pure state machine over records in log order: it knows no clock and no network,
//! and touches the disk only through the spill folder.

mod ahead;
mod assembler;
mod budget;
mod buffer;
mod extents;
mod file;
mod follow;
mod instance;
mod memory;
mod source_topic;
mod whole;

pub(crate) use ahead::{HashAhead, Hashed};
pub(crate) use assembler::{Added, Assembler, Complete, Expired, Filter, Place};
pub(crate) use budget::{Budget, Reservation};
pub(crate) use buffer::{Content, SpillFolder, write_at};
pub(crate) use extents::{Extents, IndexRun, Indices, together};
pub(crate) use file::NotVerified;
#[cfg(test)]
pub(crate) use file::testing;
pub use file::{DownloadDataFile, DownloadReader, Mode, SharedContent};
#[cfg(feature = "object-store")]
pub(crate) use follow::{Begun, Follower, Part, Taking};
pub(crate) use follow::{Followers, Following};
pub(crate) use instance::{CUT_OFF_MS, FileInfo, Instance, InstanceIds};
pub use instance::{InstanceId, Span, Version};
pub(crate) use memory::Memory;
pub(crate) use source_topic::SourceTopic;
pub(crate) use whole::{DroppedFile, WholeFile};

#[cfg(test)]
pub(crate) mod tests;
