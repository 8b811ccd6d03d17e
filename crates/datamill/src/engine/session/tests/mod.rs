//! A session against the model of the assembler, over random logs and schedules of reading, work, ticks, commits with
//! every answer, revocations, deaths and stops. There is no log, clock, thread or channel: a broker of a few lines keeps
//! what was committed.
//!
//! `DATAMILL_SCHEDULES=1000000` runs as many schedules as asked for instead of a fast subset, and
//! `DATAMILL_SEED=n` only the one with that seed. A failure prints its seed and the smallest schedule that still fails.

mod account;
mod broker;
mod checks;
mod run;
mod schedule;

use run::check;
use schedule::{Schedule, schedule, shrink};

use crate::assemble::tests::scenario::Kind;
use crate::assemble::tests::search::Search;

/// A mistake that is made on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    None,
    /// A position passes an open file.
    PositionTooFar,
    /// A frontier passes a record that was not read.
    FrontierTooFar,
    /// The positions of a commit are left out, and with them its fence.
    PositionsLeftOut,
    /// An outcome is left out of its commit.
    OutcomeForgotten,
    /// The entry of a failed file is not written.
    FailureForgotten,
    /// The entry of a failed file stays though that has its result.
    RemovalForgotten,
    /// The mark of a partition's first position is not written.
    MarkForgotten,
    /// A record without a chunk is passed without a word.
    UnusableForgotten,
    /// What ended without all its chunks is left out of the commit.
    EndedForgotten,
    /// A commit under an older assignment is taken.
    FenceSkipped,
    /// A commit that did not happen is taken for one that did.
    AgainTakenForDone,
    /// A commit that happened is made again.
    DoneTakenForAgain,
    /// The answer to a commit is lost.
    AnswerLost,
    /// A revocation is not heard of.
    RevocationUnheard,
    /// Reading goes on though it is to be held.
    HoldUnheard,
    /// A hold is never lifted.
    ResumeUnheard,
    /// The end is taken for reached while user code has files.
    WorkForgotten,
}

const MISTAKES: [Mistake; 17] = [
    Mistake::PositionTooFar,
    Mistake::FrontierTooFar,
    Mistake::PositionsLeftOut,
    Mistake::OutcomeForgotten,
    Mistake::FailureForgotten,
    Mistake::RemovalForgotten,
    Mistake::MarkForgotten,
    Mistake::UnusableForgotten,
    Mistake::EndedForgotten,
    Mistake::FenceSkipped,
    Mistake::AgainTakenForDone,
    Mistake::DoneTakenForAgain,
    Mistake::AnswerLost,
    Mistake::RevocationUnheard,
    Mistake::HoldUnheard,
    Mistake::ResumeUnheard,
    Mistake::WorkForgotten,
];

fn holds_for_random_schedules(kind: Kind, fast: u64) {
    search(kind, Mistake::None).holds(fast);
}

fn search(kind: Kind, mistake: Mistake) -> Search<Kind, Mistake, Schedule> {
    Search { kind, mistake, make: schedule, check, shrink }
}

#[test]
fn every_upload_has_exactly_one_outcome_whatever_is_answered_and_revoked() {
    holds_for_random_schedules(Kind::Whole, 10_000);
}

#[test]
fn files_that_are_spread_are_committed_by_who_owns_all_partitions_and_once() {
    holds_for_random_schedules(Kind::Spread, 5_000);
}

#[test]
fn the_check_finds_each_mistake_that_is_made_on_purpose() {
    for mistake in MISTAKES {
        assert!(search(Kind::Whole, mistake).first_failure(2_000).is_some(), "{mistake:?} is not noticed");
    }
}
