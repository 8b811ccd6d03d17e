//! The engine: records in, results and progress out.
//!
//! ```text
//!  read.rs ──what happened──▶ session ──whole file──▶ work.rs ──outcome──▶ session ──batch──▶ commit.rs
//!  one thread: polls the log, does what the session says       n threads             one thread
//! ```
//!
//! The session owns all state between a record and its commit, and the reading thread owns the session; the others get
//! values and give values back. The reading thread never waits for user code or for a commit, so the membership in the
//! group holds however slow they are. Queues: whole files (bounded by the memory limit: reading is held above
//! a quarter of it), outcomes (1024, and the memory limit), commits (one).

mod alike;
mod catch_up;
mod chunk;
mod commit;
mod dead_letter;
mod delivery;
mod entry;
mod error;
mod failed;
mod folder;
mod in_hand;
pub(crate) mod input;
mod lines;
mod listeners;
mod origin;
mod outcome;
mod purpose;
mod reached;
mod read;
mod reread;
mod rerun;
mod retry;
mod run;
mod session;
mod settings;
mod source;
mod start;
mod state;
mod summary;
mod tails;
mod take_over;
mod work;

pub use crate::control::{Control, StopKind};
pub(crate) use chunk::chunk_of;
pub use datamill_broker::DeliveryGuarantee;
pub use delivery::{StateFolder, forget_folders, state_folders};
pub(crate) use entry::hash as sha512_of_hex;
pub use error::EngineError;
pub use failed::{FailedFile, failed_files, forget_failures, request_retry};
pub(crate) use folder::taken;
pub(crate) use origin::spans_text;
pub(crate) use purpose::mark_copy;
pub(crate) use reached::{Position, Reached, Standing};
pub use rerun::{
    MOST_RERUN, RerunChoice, RerunError, RerunFile, RerunFiles, WHOLE_AGAIN, files_to_rerun, request_rerun,
};
pub use retry::RetryFailed;
pub use run::run;
pub use settings::EngineSettings;
pub use start::StartFrom;
pub use summary::Summary;
pub use take_over::{TakenOver, take_over};

/// What a stop means.
const LEFT_AT_STOP: &str = "files in hand are finished, the rest is for the next start";
