//! What fails in the same way over and over is told a few times, and then counted.
//!
//! Two failures are alike if they have the same status, and reasons that differ in nothing but the name of the file and
//! words with digits. The registry and the group's state have every failure; here it is only about lines in the log.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use rustc_hash::FxBuildHasher;

use crate::ledger::FailureStatus;

/// Failures of a kind that are told each, and the time after which one more is, with the number of those between.
const TOLD: u32 = 5;
const EVERY: Duration = Duration::from_secs(30);
/// Kinds that are told apart; what differs from all of these is of one more kind.
const MAX_KINDS: usize = 200;
/// Bytes of a reason that are looked at.
const MAX_REASON: usize = 300;
/// Files at the beginning of a run that say something about all that follow, if they fail alike.
pub(super) const FIRST_FILES: u32 = 100;

/// The failures of one run.
#[derive(Debug, Default)]
pub(super) struct Alike {
    kinds: HashMap<u64, Kind>,
    first: First,
}

#[derive(Debug, Default)]
struct Kind {
    told: u32,
    last: Option<Instant>,
    untold: u64,
    /// The reason of one that was not told.
    example: String,
}

/// The files at the beginning of a run.
#[derive(Debug, Default)]
struct First {
    failed: u32,
    kind: u64,
    is_over: bool,
}

/// What is said about a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The failure itself, with the number of those that were like it and were not told. `None` where it is counted.
    pub(super) after: Option<u64>,
    /// It is the last of the first files of the run, and all of them have failed alike.
    pub(super) is_hundredth: bool,
}

impl Alike {
    /// A file has failed.
    pub(super) fn failed(&mut self, now: Instant, status: FailureStatus, reason: &str, path: &str) -> Told {
        let kind = FxBuildHasher.hash_one((status, shape(reason, path)));
        Told { after: self.tell(now, kind, reason), is_hundredth: self.first.failed(kind) }
    }

    /// A file has its result.
    pub(super) fn succeeded(&mut self) {
        self.first.is_over = true;
    }

    fn tell(&mut self, now: Instant, kind: u64, reason: &str) -> Option<u64> {
        let is_known = self.kinds.contains_key(&kind) || self.kinds.len() < MAX_KINDS;
        let kind = self.kinds.entry(if is_known { kind } else { 0 }).or_default();
        let is_time = kind.last.is_none_or(|last| now.duration_since(last) >= EVERY);
        if kind.told < TOLD || is_time {
            kind.told += 1;
            kind.last = Some(now);
            return Some(std::mem::take(&mut kind.untold));
        }
        if kind.untold == 0 {
            reason.clone_into(&mut kind.example);
        }
        kind.untold += 1;
        None
    }

    /// The kinds that have untold failures and were not told of for a while, or `all` that have some: how many, and the
    /// reason of one of them.
    pub(super) fn rest(&mut self, now: Instant, all: bool) -> Vec<(u64, String)> {
        let is_due = |kind: &&mut Kind| {
            kind.untold > 0 && (all || kind.last.is_none_or(|last| now.duration_since(last) >= EVERY))
        };
        let due = self.kinds.values_mut().filter(is_due);
        due.map(|kind| {
            kind.last = Some(now);
            (std::mem::take(&mut kind.untold), std::mem::take(&mut kind.example))
        })
        .collect()
    }
}

impl First {
    fn failed(&mut self, kind: u64) -> bool {
        if self.is_over {
            return false;
        }
        if self.failed == 0 {
            self.kind = kind;
        }
        self.is_over = self.kind != kind;
        self.failed += 1;
        if self.failed == FIRST_FILES && !self.is_over {
            self.is_over = true;
            return true;
        }
        false
    }
}

/// The reason without what differs from file to file.
pub(super) fn shape(reason: &str, path: &str) -> String {
    let reason = &reason[..reason.floor_char_boundary(MAX_REASON)];
    let name = path.rsplit('/').next().unwrap_or_default();
    let reason = if name.is_empty() { reason.to_owned() } else { reason.replace(path, "…").replace(name, "…") };
    let mut shape = String::with_capacity(reason.len());
    for word in reason.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let end = word.trim_start_matches(char::is_alphanumeric);
        if word.contains(|c: char| c.is_ascii_digit()) {
            shape.push('#');
            shape.push_str(end);
        } else {
            shape.push_str(word);
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: FailureStatus = FailureStatus::ComputingResultMessageFailed;

    #[test]
    fn reasons_are_alike_whatever_the_file_is_called_and_its_numbers_are() {
        let a = shape("no column `x` in raw/17.csv, line 3 at 0x7f31: value 1.5e3 of 17.csv", "raw/17.csv");
        let b = shape("no column `x` in raw/scan.csv, line 456 at 0x1: value 12 of scan.csv", "raw/scan.csv");
        assert_eq!(a.replace("#.#", "#"), b);
        assert_ne!(shape("no column `x`", "a"), shape("no column `y`", "a"));
        assert_eq!(shape(&"ä1".repeat(1000), ""), shape(&"ä2".repeat(1000), ""));
    }

    #[test]
    fn the_first_of_a_kind_are_told_and_then_one_now_and_then_with_the_number_of_the_others() {
        let (mut alike, start) = (Alike::default(), Instant::now());
        let mut fail = |seconds: u64, reason: &str| {
            alike.failed(start + Duration::from_secs(seconds), STATUS, reason, "a/b.dat").after
        };
        let told = (0..1000).filter(|i| fail(0, &format!("line {i}")).is_some()).count();
        assert_eq!(told, 5);
        assert_eq!(fail(1, "another reason"), Some(0));
        assert_eq!(fail(29, "line 1"), None);
        assert_eq!(fail(30, "line 2"), Some(996));
        assert_eq!(fail(31, "line 3"), None);
        assert_eq!(fail(90, "line 4"), Some(1));
        assert_eq!(fail(91, "line 5"), None);
        assert!(alike.rest(start + Duration::from_secs(100), false).is_empty());
        assert_eq!(alike.rest(start + Duration::from_secs(100), true), [(1, "line 5".to_owned())]);
        assert!(alike.rest(start + Duration::from_secs(100), true).is_empty());
    }

    #[test]
    fn memory_is_bounded_whatever_the_reasons_are() {
        let (mut alike, now) = (Alike::default(), Instant::now());
        let reason = |i: u32| (0..12).map(|bit| if i >> bit & 1 == 1 { "x" } else { "y" }).collect::<String>();
        let told = (0..2000).filter(|i| alike.failed(now, STATUS, &reason(*i), "p").after.is_some()).count();
        assert_eq!((alike.kinds.len(), told), (MAX_KINDS + 1, MAX_KINDS + TOLD as usize));
    }

    #[test]
    fn the_hundredth_file_tells_only_where_all_before_it_have_failed_alike() {
        let now = Instant::now();
        let hundredth = |reason: &dyn Fn(u32) -> String, success_at: Option<u32>| {
            let mut alike = Alike::default();
            let mut found = Vec::new();
            for i in 1..=300 {
                if success_at == Some(i) {
                    alike.succeeded();
                } else if alike.failed(now, STATUS, &reason(i), "p").is_hundredth {
                    found.push(i);
                }
            }
            found
        };
        assert_eq!(hundredth(&|i| format!("line {i}"), None), [100]);
        assert_eq!(hundredth(&|i| format!("line {i}"), Some(101)), [100]);
        assert_eq!(hundredth(&|i| format!("line {i}"), Some(50)), [0; 0]);
        assert_eq!(hundredth(&|i| if i == 99 { "odd".into() } else { "same".into() }, None), [0; 0]);
    }
}
