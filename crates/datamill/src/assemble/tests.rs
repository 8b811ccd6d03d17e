//! The assembler against a model, over random logs and schedules of crashes.
//!
//! `DATAMILL_SCHEDULES=1000000` runs as many schedules as asked for instead of a fast subset, and
//! `DATAMILL_SEED=n` only the one with that seed. A failure prints its seed and the smallest scenario
//! that still fails.

mod cases;
pub(crate) mod model;
mod run;
pub(crate) mod scenario;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use run::{Mutant, check};
use scenario::{Kind, Scenario, scenario, shrink};

fn outcome(scenario: &Scenario, mutant: Mutant) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| check(scenario, mutant))).unwrap_or_else(|_| Err("a panic".to_owned()))
}

pub(crate) fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

/// The first seed below `schedules` that fails, with what it violates.
fn first_failure(kind: Kind, mutant: Mutant, schedules: u64) -> Option<(u64, String)> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let found = AtomicBool::new(false);
    let search = |thread: u64| {
        (thread..schedules).step_by(threads as usize).take_while(|_| !found.load(Relaxed)).find_map(|seed| {
            let violation = outcome(&scenario(seed, kind), mutant).err()?;
            found.store(true, Relaxed);
            Some((seed, violation))
        })
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|t| scope.spawn(move || search(t))).collect();
        workers.into_iter().filter_map(|w| w.join().unwrap()).min()
    })
}

fn holds_for_random_schedules(kind: Kind, share_of_fast: u64) {
    let failure = match number("DATAMILL_SEED") {
        Some(seed) => outcome(&scenario(seed, kind), Mutant::None).err().map(|violation| (seed, violation)),
        None => first_failure(kind, Mutant::None, number("DATAMILL_SCHEDULES").unwrap_or(share_of_fast)),
    };
    let Some((seed, violation)) = failure else {
        return;
    };
    let smallest = shrink(scenario(seed, kind), |s| outcome(s, Mutant::None).is_err());
    let of_smallest = outcome(&smallest, Mutant::None).unwrap_err();
    panic!("DATAMILL_SEED={seed}: {violation}\nat its smallest: {of_smallest}\n{smallest:?}");
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
        assert!(first_failure(Kind::Whole, mutant, 5_000).is_some(), "{mutant:?} is not noticed");
    }
}
