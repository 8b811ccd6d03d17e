//! Whole files to an object store: S3 and its likes, Azure, Google Cloud Storage, WebDAV, a local folder.
//!
//! ```text
//!  DownloadDataFile ─▶ key.rs ─▶ look: head request ─▶ same version there: done
//!                                  │ nothing, or a version that gives way (OnExists)
//!                                  ▼
//!            up to 8 MiB: put · larger: parts, a few at once, out of the mapped file
//!            on the condition that nothing came in between; origin.rs goes along as metadata
//!                                  │
//!                                  ▼
//!                        look again: size and SHA-512 are those of the file: done
//! ```
//!
//! A large file that fills up on disk is on its way before it is whole (`early.rs`): its parts are not seen until
//! all of the above was done.
//!
//! Bytes on the way are checked by SHA-256 where the store takes it. The content is neither copied nor read
//! back. All of it runs on a small runtime of the processor's own, since the engine's threads know nothing
//! of it; what a failure means for the engine is decided in `failure.rs`.

mod connector;
mod early;
mod failure;
mod key;
mod list;
mod origin;
mod orphans;
mod parts;
mod profile;
mod target;
mod transfer;
mod trial;

pub(crate) use list::list;
pub use profile::ProfileError;
pub use target::TargetError;
pub use transfer::{S3TransferStreamProcessor, TransferSettings};
