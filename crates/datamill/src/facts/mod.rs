//! What happens to files, told once, in the place where it happens, and heard by everybody who wants to know.
//!
//! ```text
//! upload/  ──┐              ┌─▶ Counters ──▶ heartbeats, the summary, metrics and the status page
//! engine/  ──┼──▶ Facts ────┼─▶ log lines        (`lines.rs` in engine/ and in upload/)
//! rekey    ──┘    tell      ├─▶ rows of tables   (`ledger/`, `upload/registry.rs`)
//!                           └─▶ progress bars, Python programs, whatever a program adds
//! ```
//!
//! ```
//! use std::sync::Arc;
//!
//! use datamill::facts::{Fact, Facts, Listener};
//!
//! /// Prints the files that failed.
//! struct Failures;
//!
//! impl Listener for Failures {
//!     fn hear(&self, fact: &Fact<'_>) {
//!         if let Fact::Failed { file, reason, .. } = *fact {
//!             println!("{}: {reason}", file.rel_filepath);
//!         }
//!     }
//! }
//!
//! // `engine::run`, `upload_paths` and `watch` take these; a program that is `Prepared` has them as a field
//! let facts = Facts::default().heard_by(Arc::new(Failures));
//! assert_eq!(facts.counters().counts().failed(), 0);
//! ```
//!
//! A fact borrows what it says, so one that nobody listens to costs nothing. Listeners hear it on the thread on which it
//! happened. [`Counters`] are read at any time, without a lock.

mod backlog;
mod counters;
mod fact;
mod file;
mod hold;
mod left_out;
mod times;

pub use backlog::Backlog;
pub use counters::{Counters, Counts, Snapshot, State};
pub use fact::Fact;
pub use file::{FailureStatus, FileRow, FillingFile, Rest, Wait, WaitingFile};
pub use hold::Hold;
pub(crate) use hold::Holding;
pub use left_out::Reason;
pub use times::Histogram;

use std::sync::Arc;

/// Hears what happens to files.
pub trait Listener: Send + Sync {
    /// Something happened. It is called on the thread on which it did, between two files: it MUST be short, and MUST NOT
    /// wait for a broker, another host, or a lock that somebody holds who does.
    fn hear(&self, fact: &Fact<'_>);
}

/// Where facts are told. A clone has the same counters, and listeners that are added to it are its own.
#[derive(Clone, Default)]
pub struct Facts {
    counters: Arc<Counters>,
    listeners: Vec<Arc<dyn Listener>>,
}

impl Facts {
    /// Facts that this one hears as well, after all others.
    #[must_use]
    pub fn heard_by(&self, listener: Arc<dyn Listener>) -> Self {
        let mut facts = self.clone();
        facts.listeners.push(listener);
        facts
    }

    /// Something happened: the counters have it before anybody else hears of it.
    pub fn tell(&self, fact: &Fact<'_>) {
        self.counters.hear(fact);
        self.listeners.iter().for_each(|listener| listener.hear(fact));
    }

    /// The counters, which may be looked at on any thread.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Listener for Heard {
        fn hear(&self, fact: &Fact<'_>) {
            if let Fact::Delivered { file, .. } = fact {
                self.0.lock().push((*file).to_owned());
            }
        }
    }

    fn delivered(file: &str) -> Fact<'_> {
        Fact::Delivered { file, bytes: 7, chunks: 1, began_ms: 0 }
    }

    #[test]
    fn all_listeners_hear_a_fact_and_the_counters_count_it_once() {
        let (one, two) = (Arc::new(Heard::default()), Arc::new(Heard::default()));
        let facts = Facts::default().heard_by(one.clone());
        let more = facts.heard_by(two.clone());
        facts.tell(&delivered("a"));
        more.tell(&delivered("b"));
        assert_eq!((one.0.lock().join(" "), two.0.lock().join(" ")), ("a b".to_owned(), "b".to_owned()));
        let counts = facts.counters().counts();
        assert_eq!((counts.delivered, counts.delivered_bytes), (2, 14));
    }
}
