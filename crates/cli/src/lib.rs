//! The command `datamill`: data files to a log, a look at what is in it, and Python functions on whole files.
//!
//! Two programs have it: the Rust program of `main.rs`, and the command in the Python package. Both give the words that
//! were typed to [`parse`], and do what is [`Next`]. Nothing here reads the words of the process, and nothing ends it
//! but a second signal.
//!
//! Data goes to stdout, everything else to stderr. Exit codes are those of [`datamill::program::Exit`].

#![warn(unreachable_pub)]

mod commands;
mod function;
mod words;

pub use commands::{IsolateArgs, LimitArgs, Sending, UploadArgs, WatchArgs};
pub use function::{FunctionCall, What};
pub use words::{Called, Next, Task, command_line, parse};
