//! The keeper: a small process between a thread of datamill and the commands that it runs.
//!
//! ```text
//!  datamill                     keeper (one for each thread)             command
//!  handle.rs ──requests──▶ stdin                                      stdin: the file, or nothing
//!            ◀──answers─── stdout  keep.rs ◀──────────────── pipes ── stdout, stderr
//!                                  below.rs: /proc, SIGKILL, waitpid
//! ```
//!
//! A worker that stays is started in the same way. What it is connected to comes along with the request (`ends.rs`), so datamill
//! and the worker talk without the keeper, which looks after the worker and ends it.
//!
//! The keeper is a child subreaper, so whatever loses its parent below it becomes its child, in whichever group or session
//! it is. Only children are killed: their ids cannot be another process's before the keeper has waited for them. That is
//! done again until there is no child, after each command, at a limit, when it is told to, and when its stdin closes,
//! which the end of datamill causes. It hears no signal but SIGKILL. Should that hit it, `marked.rs` finds what it has
//! left by an environment variable: datamill at once, or the next one where all were killed.
//!
//! A frame is a length in four bytes, little-endian, then that many bytes of JSON (`frames.rs`, `protocol.rs`); both ends
//! are the same program.

mod below;
mod ends;
mod excerpt;
mod frames;
mod handle;
mod keep;
mod marked;
mod protocol;
mod reading;

pub(crate) use ends::{CONTENT, INPUT, OUTPUT, WorkerEnds};
pub(crate) use excerpt::Excerpt;
pub(crate) use frames::wait;
pub(crate) use handle::{Keeper, Lost};
pub use keep::{keep, keep_warm};
pub(crate) use protocol::{Ended, How, Run};
pub(crate) use reading::Reading;
