//! Who hears the facts of one run: the summary, the lines of the log, and the rows of the tables. What the program adds
//! hears them as well.

use std::sync::Arc;

use datamill_broker::Log;
use parking_lot::Mutex;

use super::lines::Lines;
use super::summary::Tally;
use crate::facts::Facts;
use crate::ledger::Ledger;

/// See the module.
#[derive(Clone)]
pub(super) struct Listeners {
    /// Where the facts are told.
    pub(super) facts: Facts,
    pub(super) tally: Arc<Tally>,
    pub(super) lines: Arc<Lines>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
}

impl Listeners {
    pub(super) fn of_run(facts: &Facts, log: &dyn Log, topic: &Arc<str>, tally: Tally, ledger: Ledger) -> Self {
        let (tally, lines) = (Arc::new(tally), Arc::new(Lines::about(log, topic)));
        let ledger = Arc::new(Mutex::new(ledger));
        let facts = facts.heard_by(tally.clone()).heard_by(lines.clone()).heard_by(ledger.clone());
        Self { facts, tally, lines, ledger }
    }
}
