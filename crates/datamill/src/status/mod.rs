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

use std::fmt;
use std::sync::Arc;

use datamill_broker::{Log, Outage};

use crate::facts::{Counters, Hold, Snapshot};
use crate::report::clock;
use crate::report::heartbeat::ProgramKind;

/// The program that is shown.
#[derive(Clone)]
pub struct Shown {
    /// Its name.
    pub program: String,
    /// What it does.
    pub kind: ProgramKind,
    /// Its numbers.
    pub counters: Arc<Counters>,
    /// The log that it works on, where that is known: whether it is away, and how that shows.
    pub log: Option<Arc<dyn Log>>,
    /// What it reads, if it reads files.
    pub source: Option<Source>,
    /// What happened last. It MUST be among the listeners of the program's facts.
    pub recent: Arc<Recent>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, kind, source, .. } = self;
        let shown = &mut f.debug_struct("Shown");
        shown.field("program", program).field("kind", kind).field("source", source).finish_non_exhaustive()
    }
}

impl Shown {
    /// Its numbers, and what holds it: a log that is away holds whatever the program does, also where it is not in the loop
    /// that looks.
    fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.counters.snapshot();
        if let Some(outage) = self.outage() {
            let lasts_ms = i64::try_from(outage.lasts.as_millis()).unwrap_or(i64::MAX);
            snapshot.state.held = Some((Hold::of_outage(&outage), clock::now_ms().saturating_sub(lasts_ms)));
        }
        snapshot
    }

    /// Since when the log is away.
    fn outage(&self) -> Option<Outage> {
        self.log.as_ref()?.outage()
    }
}
