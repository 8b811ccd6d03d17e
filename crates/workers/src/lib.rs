//! Any program as user code: a command that runs for each file, in processes that cannot hold or outlive datamill.
//!
//! ```text
//!  engine's thread ──Run──▶ keeper ──spawns──▶ command ──▶ whatever that starts
//!        ▲                    │  ▲                │                  │
//!        └──────Ended─────────┘  └──exit code, stdout, stderr        │
//!                                └──what is orphaned becomes its child, and is ended
//! ```
//!
//! [`CommandSettings`] is what a user asks for; it becomes [`UserCode`](datamill::process::UserCode) for the engine's port. Each
//! thread of the pool has one keeper (`keeper/`), a small process of the same program that lives as long as the thread.
//! It ends all that is below it after each file, at a limit, and when datamill is gone, however that ended.
//!
//! This is for Linux: elsewhere [`CommandSettings::into_user_code`] says that it is not there.

#![warn(unreachable_pub)]

mod error;
mod settings;

#[cfg(target_os = "linux")]
mod address_space;
#[cfg(target_os = "linux")]
mod command;
#[cfg(target_os = "linux")]
mod find;
#[cfg(target_os = "linux")]
mod keeper;
#[cfg(target_os = "linux")]
mod outcome;
#[cfg(target_os = "linux")]
mod stop;
#[cfg(target_os = "linux")]
mod words;
#[cfg(target_os = "linux")]
mod worker;

pub use error::CommandError;
#[cfg(target_os = "linux")]
pub use keeper::{keep, keep_warm};
pub use settings::{CommandSettings, KEEPER, KeeperStart, Results, find_program};
#[cfg(all(feature = "bench", target_os = "linux"))]
pub use worker::bench::PortAlone;

/// There is no keeper on this system.
#[cfg(not(target_os = "linux"))]
pub fn keep() -> u8 {
    2
}

/// There is no keeper on this system.
#[cfg(not(target_os = "linux"))]
pub fn keep_warm(
    _: impl FnOnce() -> std::io::Result<()>,
    _: impl FnMut([i32; 5], &[(String, std::ffi::OsString)]) -> std::io::Result<i32>,
) -> u8 {
    2
}
