//! The command `datamill` as a process, on the embedded log.

mod commands;
mod common;
mod watch;
