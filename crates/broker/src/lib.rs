//! The log contract of datamill and its two backends.
//!
//! [`contract`] says what a log does. `kafka` does it on Apache Kafka through librdkafka, `embedded`
//! in one SQLite file. Both pass the same conformance suite
//! (module `conformance`, behind the feature of that name). [`open`] chooses by `bootstrap.servers`.

#![warn(unreachable_pub)]

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod contract;
mod crash;
mod embedded;
mod error;
mod examined;
mod file_lock;
mod kafka;
mod near;
mod open;
mod own_files;
mod permission;
mod secret;
mod topic;

pub use contract::*;
#[cfg(feature = "crash_points")]
pub use crash::CRASH_AT;
pub use crash::{CrashPoint, crash_point};
pub use embedded::LARGEST_RECORD as LARGEST_EMBEDDED;
pub use error::{Error, ErrorKind, Result};
pub use examined::{Examined, ExaminedTopic, Group, Member, Operation, Outage, Readers};
pub use file_lock::FileLock;
pub use near::nearest;
pub use open::{Properties, open, own_files};
pub use own_files::OwnFiles;
pub use permission::{Permission, shell_word};
pub use secret::{is_secret, may_hold_secret};
