//! Random schedules for a session, as plain data that prints, replays and shrinks.

use crate::assemble::tests::scenario::{Kind, Rng, Scenario, scenario};
use crate::assemble::tests::search::Fails;

/// What becomes of the commit that is under way, in the log and by what is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    /// It did not happen, for a reason that passes.
    Again,
    /// One of its records is refused for good.
    Refused(u64),
    /// It is not known whether it happened.
    Unknown {
        happened: bool,
    },
}

/// One step of a schedule.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Up to so many records of a partition, and its end where that is reached.
    Read {
        partition: usize,
        records: usize,
    },
    /// The files with user code that `pick` names have their outcome.
    Work {
        pick: u64,
        fails: bool,
    },
    /// A failed file of a partition that is owned is tried again.
    Retry {
        pick: u64,
        fails: bool,
    },
    Tick {
        ms: u64,
    },
    /// The fate of the commit under way is decided.
    Decide(Fate),
    /// The session learns of it.
    Answer,
    /// The group's state was looked at for late chunks.
    Look,
    Revoke {
        mask: u8,
        lost: bool,
    },
    /// Partitions that nobody owns are assigned.
    Assign {
        mask: u8,
    },
    /// The program dies and starts again.
    Crash,
    /// A stop is asked for.
    Stop,
}

/// A log, how little room there is, and a schedule.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    pub(super) scenario: Scenario,
    /// Bytes that whole files may take.
    pub(super) whole_bytes: usize,
    pub(super) incomplete_after_ms: Option<i64>,
    pub(super) has_letters: bool,
    pub(super) steps: Vec<Step>,
}

pub(super) fn schedule(seed: u64, kind: Kind) -> Schedule {
    let scenario = Scenario { steps: Vec::new(), ..scenario(seed, kind) };
    let mut rng = Rng::new(!seed);
    let partitions = scenario.log.len();
    let expires = kind == Kind::Whole && rng.chance(50);
    Schedule {
        whole_bytes: if rng.chance(50) { 40 } else { 1 << 20 },
        incomplete_after_ms: expires.then(|| 5 + rng.below(25) as i64),
        has_letters: rng.chance(50),
        steps: (0..20 + rng.below(80)).map(|_| step(&mut rng, partitions)).collect(),
        scenario,
    }
}

fn step(rng: &mut Rng, partitions: usize) -> Step {
    match rng.below(100) {
        0..30 => Step::Read { partition: rng.below(partitions), records: 1 + rng.below(24) },
        30..45 => Step::Work { pick: rng.next() | rng.next(), fails: rng.chance(25) },
        45..49 => Step::Retry { pick: rng.next(), fails: rng.chance(40) },
        49..68 => Step::Tick { ms: [1, 60, 150, 6_000, 11_000][rng.below(5)] },
        68..78 => Step::Decide(match rng.below(10) {
            0..6 => Fate::Done,
            6 | 7 => Fate::Again,
            8 => Fate::Refused(rng.next()),
            _ => Fate::Unknown { happened: rng.chance(50) },
        }),
        78..87 => Step::Answer,
        87 => Step::Look,
        88..91 => Step::Revoke { mask: rng.next() as u8, lost: rng.chance(30) },
        91..97 => Step::Assign { mask: rng.next() as u8 },
        97 | 98 => Step::Crash,
        _ => Step::Stop,
    }
}

/// The smallest schedule found that still fails, by leaving out steps and records.
pub(super) fn shrink(mut schedule: Schedule, fails: Fails<'_, Schedule>) -> Schedule {
    let mut size = schedule.steps.len().div_ceil(2);
    while size > 0 {
        let mut from = 0;
        while from < schedule.steps.len() {
            let mut smaller = schedule.clone();
            smaller.steps.drain(from..(from + size).min(schedule.steps.len()));
            if fails(&smaller) { schedule = smaller } else { from += size }
        }
        size /= 2;
    }
    for partition in 0..schedule.scenario.log.len() {
        let mut at = 0;
        while at < schedule.scenario.log[partition].len() {
            let mut smaller = schedule.clone();
            smaller.scenario.log[partition].remove(at);
            if fails(&smaller) { schedule = smaller } else { at += 1 }
        }
    }
    schedule
}
