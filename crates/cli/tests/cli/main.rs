//! The command `datamill` as a process, on the embedded log.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::too_many_lines, reason = "a test that tells one story is read from its beginning to its end")]

mod commands;
mod common;
mod download;
#[cfg(target_os = "linux")]
mod full_disk;
mod function;
#[cfg(target_os = "linux")]
mod healed;
mod namespace;
#[cfg(unix)]
mod outages;
mod own_folders;
mod own_topics;
mod permissions;
#[cfg(target_os = "linux")]
mod programs;
mod readme;
mod rekey;
mod rerun;
mod retry;
#[cfg(target_os = "linux")]
mod service;
#[cfg(target_os = "linux")]
mod small;
mod status;
#[cfg(unix)]
mod stops;
mod survey;
mod topic_again;
mod topics;
mod transfer;
#[cfg(target_os = "linux")]
mod vanish;
mod watch;
