//! Why work is held: what keeps a program from going on although there is something to do.

use std::time::Instant;

use datamill_broker::{Log, Outage};

use super::Counters;

/// Why a program holds. Nothing is lost meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hold {
    /// What user code has not done yet takes the memory or the disk that further files may take.
    Crowded,
    /// The output folder cannot be written.
    OutputFolder,
    /// Very many files are to be read again, since there was no room for their content.
    ReadingAgain,
    /// User code says that something it needs is not available.
    NotAvailable,
    /// The folder or the store that files are delivered to takes none.
    Target,
    /// Commits do not go through.
    Commits,
    /// Files lie in several partitions, and other members of the group own some of them.
    Spread,
    /// Files lie in several partitions, and another member of the group reads all of them.
    Standby,
    /// The watched folder is not there, or is another one.
    WatchedFolder,
    /// The record of what was sent cannot be written.
    Record,
    /// The broker or the embedded log takes no messages.
    Broker,
    /// The broker makes the account wait, by a quota.
    Throttled,
    /// The broker refuses the login.
    Login,
}

impl Hold {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All there are.
    pub const ALL: [Self; 13] = [
        Self::Crowded,
        Self::OutputFolder,
        Self::ReadingAgain,
        Self::NotAvailable,
        Self::Target,
        Self::Commits,
        Self::Spread,
        Self::Standby,
        Self::WatchedFolder,
        Self::Record,
        Self::Broker,
        Self::Throttled,
        Self::Login,
    ];

    /// The word for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crowded => "crowded",
            Self::OutputFolder => "output_folder",
            Self::ReadingAgain => "reading_again",
            Self::NotAvailable => "not_available",
            Self::Target => "target",
            Self::Commits => "commits",
            Self::Spread => "spread",
            Self::Standby => "standby",
            Self::WatchedFolder => "watched_folder",
            Self::Record => "record",
            Self::Broker => "broker",
            Self::Throttled => "throttled",
            Self::Login => "login",
        }
    }

    /// What holds, for people: behind "holding: ", or behind "standing by: ".
    pub const fn words(self) -> &'static str {
        match self {
            Self::Crowded => "the function has not caught up with the files that are there",
            Self::OutputFolder => {
                "the output folder cannot be written, for example because its disk is full or it is not mounted"
            }
            Self::ReadingAgain => "files whose content had no room are read again",
            Self::NotAvailable => "something that the function needs is not available",
            Self::Target => "the folder or store that the files go to takes none",
            Self::Commits => "what is done cannot be committed",
            Self::Spread => {
                "the chunks of a file lie in several partitions, and other members of the group own some of them"
            }
            Self::Standby => "another member of the group reads the topic, whose files lie in several partitions",
            Self::WatchedFolder => "the watched folder is not there, or is another one",
            Self::Record => "the record of what was sent cannot be written, for example because its disk is full",
            Self::Broker => "the broker is away, or the embedded log takes no messages",
            Self::Throttled => "the broker throttles this account, by a quota",
            Self::Login => "the broker refuses the login",
        }
    }
}

impl Hold {
    /// What a program does that is held by this, for people.
    pub(crate) const fn does(self) -> &'static str {
        if matches!(self, Self::Standby) { "standing by" } else { "holding" }
    }

    /// What the log holds by itself, whatever a program does with it.
    pub(crate) fn of_log(log: &dyn Log) -> Option<Self> {
        match log.outage() {
            Some(outage) => Some(Self::of_outage(&outage)),
            None => log.is_throttled().then_some(Self::Throttled),
        }
    }

    pub(crate) fn of_outage(outage: &Outage) -> Self {
        if outage.refuses_login { Self::Login } else { Self::Broker }
    }
}

/// How long a loop is held, and why. The loop calls [`step`](Self::step) each time round.
#[derive(Debug)]
pub(crate) struct Holding {
    now: Option<Hold>,
    last: Instant,
}

impl Holding {
    pub(crate) fn new() -> Self {
        Self { now: None, last: Instant::now() }
    }

    /// The time since the last call counts for what held then.
    pub(crate) fn step(&mut self, counters: &Counters, hold: Option<Hold>) {
        let now = Instant::now();
        if let Some(hold) = self.now {
            counters.held(hold, now - self.last);
        }
        // a loop that ended while it was held has left that behind
        if counters.hold() != hold {
            counters.holds(hold);
        }
        (self.now, self.last) = (hold, now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_time_between_two_looks_counts_for_what_held_at_the_first() {
        let (counters, mut holding) = (Counters::default(), Holding::new());
        holding.step(&counters, Some(Hold::Commits));
        assert_eq!(counters.snapshot().state.held.map(|(hold, _)| hold), Some(Hold::Commits));
        holding.last -= Duration::from_secs(5);
        holding.step(&counters, None);
        holding.last -= Duration::from_secs(7);
        holding.step(&counters, Some(Hold::Spread));
        let snapshot = counters.snapshot();
        let held = |hold: Hold| snapshot.held[hold as usize].as_secs();
        assert_eq!((held(Hold::Commits), held(Hold::Spread), held(Hold::Crowded)), (5, 0, 0));
    }

    #[test]
    fn what_held_a_loop_that_has_ended_holds_the_next_one_no_longer() {
        let counters = Counters::default();
        Holding::new().step(&counters, Some(Hold::Commits));
        Holding::new().step(&counters, None);
        assert_eq!(counters.snapshot().state.held, None);
    }

    #[test]
    fn each_reason_stands_at_its_own_number() {
        assert!(Hold::ALL.iter().enumerate().all(|(number, hold)| *hold as usize == number));
    }
}
