//! How a program stands, over HTTP: for Prometheus, for whoever starts programs and looks after them, and for a browser.
//!
//! ```text
//!  engine, upload ──▶ Counters ◀── snapshot ── metrics.rs, health.rs ◀── server.rs ◀── GET
//!  never waits        atomics   ◀── question ── lag.rs ──▶ the log       one thread, a runtime of its own
//!                 ──▶ Recent   ◀── page.rs ── at the start, then as server-sent events
//! ```
//!
//! It shows and does not steer: there is nothing but `GET`. Whoever asks reads the counters; no thread that works
//! waits for an answer, and what goes wrong here is at most a line in the log.

mod address;
mod health;
mod html;
mod lag;
mod lately;
mod listening;
mod metrics;
mod page;
mod recent;
mod server;

pub use address::{NotAnAddress, StatusAddress};
pub(crate) use health::is_long;
pub use lag::Source;
pub(crate) use lag::{Density, PartitionLag, read_times};
pub use listening::listening;
pub use recent::Recent;
pub use server::Server;

use std::sync::Arc;

use crate::facts::Counters;
use crate::report::heartbeat::ProgramKind;

/// The program that is shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its name.
    pub program: String,
    /// What it does.
    pub kind: ProgramKind,
    /// Its numbers.
    pub counters: Arc<Counters>,
    /// What it reads, if it reads files.
    pub source: Option<Source>,
    /// What happened last. It MUST be among the listeners of the program's facts.
    pub recent: Arc<Recent>,
}
