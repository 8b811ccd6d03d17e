//! Workers that stay: a program that is started once for each thread, and gets one file after the other.
//!
//! ```text
//!  engine's thread                                 worker
//!  port.rs ─ process.rs ──frames of files──▶ 3      reads, works,
//!                       ◀──────answers────── 4      answers
//!            content.rs ──what is large────▶ 5
//!            printed.rs ◀────────────────── stdout, stderr
//!                │
//!              keeper: starts it, looks at its memory, ends it with all below it
//! ```
//!
//! The frames are in `frames.rs`; `docs/workers.md` has them for who writes a worker. The worker gets the next file while the answer
//! to an earlier one is not there yet, where files are small and their time has no limit: threads and processes change
//! once for several. It works on them in their order. So the first one that has no answer is the one that it dies of; the others are
//! handed to the next worker.

#[cfg(feature = "bench")]
pub(crate) mod bench;
mod content;
mod frames;
mod gone;
mod hand;
mod port;
mod printed;
mod process;

pub(crate) use port::Stays;
