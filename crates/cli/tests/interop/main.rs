//! datamill and OpenMSIStream, the released package, on one Apache Kafka: each reads what the other writes,
//! with the same configuration files and command lines.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::too_many_lines, reason = "a test that tells one story is read from its beginning to its end")]

mod common;
mod faults;
mod matrix;
mod options;
mod own_folders;
mod registry;
mod release_0_1_0;
mod reports;
mod survey;
mod take_over;
