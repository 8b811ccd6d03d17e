//! One file per command: its options, one conversion to checked settings, and the call of the library.

pub mod check;
pub mod demo;
pub mod download;
pub mod function;
pub mod get;
pub mod ls;
pub mod program;
pub mod read;
pub mod reconcile;
pub mod rekey;
pub mod rerun;
pub mod retry;
pub mod status;
pub mod topic;
pub mod transfer;
pub mod upload;
pub mod verify;
pub mod watch;

mod output;
mod sending;
mod survey;

pub use program::{IsolateArgs, LimitArgs};
pub use sending::Sending;
pub use upload::UploadArgs;
pub use watch::WatchArgs;
