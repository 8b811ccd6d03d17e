//! What a program tells about itself while it runs: heartbeats, log lines, and texts for
//! people. Nothing here can stop the program: what cannot be told is told once that it cannot.
//!
//! ```text
//! facts ───▶ Counters ──every 900 s──▶ Heartbeat ─────────────▶ heartbeat topic
//! tracing ─▶ Lines ─┬─▶ stderr (short, coloured on a terminal)
//!                   ├─▶ log file (appended, and turned where it becomes too large)
//!                   └─▶ ring of 65,536 lines ──every 60 s────▶ log topic
//! ```

pub mod clock;
pub mod heartbeat;
mod level;
mod lines;
mod log_file;
pub mod log_topic;
pub mod logging;
pub(crate) mod named;
mod outage;
mod periodic;
mod printed;
mod programs;
mod send;
#[cfg(target_os = "linux")]
pub(crate) mod service_manager;
#[cfg(test)]
mod testing;
pub mod text;

pub use level::{LogLevel, UnknownLevel};
pub(crate) use outage::tell_outage;
pub use text::chain;
