//! Processors that ship whole files: to a folder, to an object store.
//!
//! Each is a processor on the engine, so there is no second loop and no second commit path. That a file is
//! done is committed after it has arrived; a crash in between makes the engine hand out the same version
//! again, and each target finds it there and does nothing. What happens to another version that is there already, [`OnExists`] says for all targets.

mod download;
mod folder;
mod on_exists;
mod origins;
#[cfg(feature = "object-store")]
mod store;

pub use download::DownloadDirectory;
pub use on_exists::OnExists;
#[cfg(feature = "object-store")]
pub(crate) use store::list as list_store;
#[cfg(feature = "object-store")]
pub use store::{ProfileError, S3TransferStreamProcessor, TargetError, TransferSettings};
