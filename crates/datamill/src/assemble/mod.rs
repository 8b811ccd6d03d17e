//! Chunks become whole files.
//!
//! ```text
//!  chunk ──▶ Assembler ──▶ Instance (indices, extents, buffer) ──▶ WholeFile ──verify──▶ DownloadDataFile
//!               │                        │
//!               ▼                        ▼ above the memory limit
//!       Progress per partition      spill folder
//! ```
//!
//! The assembler is a pure state machine over records in log order: it knows no clock and no network,
//! and touches the disk only through the spill folder.

mod assembler;
mod budget;
mod buffer;
mod extents;
mod file;
mod instance;

pub(crate) use assembler::{Added, Assembler, Expired, Filter, WholeFile};
pub(crate) use budget::{Budget, Reservation};
pub(crate) use buffer::SpillFolder;
pub(crate) use file::SourceTopic;
#[cfg(all(test, feature = "object-store"))]
pub(crate) use file::testing;
pub use file::{DownloadDataFile, DownloadReader, Mode};
pub(crate) use instance::FileInfo;
pub use instance::{InstanceId, Span, Version};

#[cfg(test)]
mod tests;
