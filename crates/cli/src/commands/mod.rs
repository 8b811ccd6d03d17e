//! One file per command: its options, one conversion to checked settings, and the call of the library.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod download;
pub(crate) mod function;
pub(crate) mod get;
pub(crate) mod ls;
pub(crate) mod program;
pub(crate) mod read;
pub(crate) mod reconcile;
pub(crate) mod rekey;
pub(crate) mod rerun;
pub(crate) mod retry;
pub(crate) mod service;
pub(crate) mod status;
pub(crate) mod topic;
pub(crate) mod transfer;
pub(crate) mod upload;
pub(crate) mod verify;
pub(crate) mod watch;

mod output;
mod sending;
mod survey;
mod trial;

pub use program::{IsolateArgs, LimitArgs};
pub use sending::Sending;
pub use upload::UploadArgs;
pub use watch::WatchArgs;
