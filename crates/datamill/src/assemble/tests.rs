//! The assembler against a model, over random logs and schedules of crashes.
//!
//! `DATAMILL_SCHEDULES=1000000` runs as many schedules as asked for instead of a fast subset, and
//! `DATAMILL_SEED=n` only the one with that seed. A failure prints its seed and the smallest scenario
//! that still fails.

mod cases;
pub(crate) mod model;
mod run;
pub(crate) mod scenario;
pub(crate) mod search;

use run::{Mutant, check};
use scenario::{Kind, Scenario, scenario, shrink};
use search::Search;

fn holds_for_random_schedules(kind: Kind, fast: u64) {
    search(kind, Mutant::None).holds(fast);
}

fn search(kind: Kind, mistake: Mutant) -> Search<Kind, Mutant, Scenario> {
    Search { kind, mistake, make: scenario, check, shrink }
}

#[test]
fn every_upload_has_exactly_one_outcome_whatever_crashes() {
    holds_for_random_schedules(Kind::Whole, 30_000);
}

#[test]
fn files_that_are_spread_over_all_partitions_have_exactly_one_outcome() {
    holds_for_random_schedules(Kind::Spread, 10_000);
}

#[test]
fn repetitions_of_spread_files_are_told_apart() {
    holds_for_random_schedules(Kind::SpreadRepeated, 10_000);
}

#[test]
fn the_check_finds_each_mistake_that_is_made_on_purpose() {
    for mutant in [
        Mutant::OpenListIgnored,
        Mutant::FrontierIgnored,
        Mutant::ShadowsDropped,
        Mutant::ShadowsReopened,
        Mutant::EndedNotCommitted,
    ] {
        assert!(search(Kind::Whole, mutant).first_failure(5_000).is_some(), "{mutant:?} is not noticed");
    }
}
