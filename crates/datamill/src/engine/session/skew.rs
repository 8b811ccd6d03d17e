//! Keeps the partitions of a spread topic together.
//!
//! A file of such a topic has chunks in all partitions, so a partition that is read far ahead of another one
//! fills memory and disk with halves of files. Those that are ahead by the time of their records are held
//! until the others have caught up: only while files that fill up take a good part of their memory, each time
//! after so many bytes of the partition that holding is worth what the log may have to fetch again, never the
//! one that is furthest behind, and never for the sake of one at whose end the reading is or that gives nothing
//! for [`STALLED`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::assemble::Place;

/// How far a partition may be ahead of the one that is furthest behind, milliseconds of the records' times.
/// One that is held goes on below half of it.
const AHEAD_MS: i64 = 1_000;
/// A partition that gives nothing for this time is not waited for.
const STALLED: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
struct Moved {
    next: i64,
    at: Instant,
}

/// Decides which partitions are held.
#[derive(Debug)]
pub(super) struct Skew {
    /// Bytes that a partition gives before it is held again.
    least: u64,
    /// Bytes that a partition had given when it was last held.
    given: BTreeMap<i32, u64>,
    /// The ends that were reached.
    ends: BTreeMap<i32, i64>,
    moved: BTreeMap<i32, Moved>,
    held: BTreeSet<i32>,
}

impl Skew {
    pub(super) fn new(least: usize) -> Self {
        let (given, ends, moved, held) = Default::default();
        Self { least: least as u64, given, ends, moved, held }
    }

    /// All records of a partition below this offset were read.
    pub(super) fn end(&mut self, partition: i32, next: i64) {
        self.ends.insert(partition, next);
    }

    /// These partitions are owned no longer: what they gave says nothing of what they give when they are owned again.
    pub(super) fn revoke(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.given.remove(partition);
            self.ends.remove(partition);
            self.moved.remove(partition);
            self.held.remove(partition);
        }
    }

    /// The partitions that are held.
    pub(super) fn held(&self) -> &BTreeSet<i32> {
        &self.held
    }

    /// Reading begins anew: nobody stalled meanwhile.
    pub(super) fn restart(&mut self) {
        self.moved.clear();
    }

    /// Answers whether other partitions are to be held than before. `full` says that files that fill up take a
    /// good part of their memory.
    pub(super) fn step(&mut self, places: &[Place], full: bool, now: Instant) -> bool {
        for place in places {
            let moved = self.moved.entry(place.partition).or_insert(Moved { next: place.next, at: now });
            if self.held.contains(&place.partition) || !self.given.contains_key(&place.partition) {
                self.given.insert(place.partition, place.bytes);
            }
            // one that is held cannot move
            if moved.next != place.next || self.held.contains(&place.partition) {
                *moved = Moved { next: place.next, at: now };
            }
        }
        let is_awaited = |place: &&Place| {
            let ended = self.ends.get(&place.partition) == Some(&place.next);
            let stalled = self.moved.get(&place.partition).is_some_and(|moved| now - moved.at > STALLED);
            !ended && !stalled
        };
        let behind = places.iter().filter(is_awaited).map(|place| place.newest_ms).min();
        let is_ahead = |place: &&Place| {
            let is_held = self.held.contains(&place.partition);
            let limit = if is_held { AHEAD_MS / 2 } else { AHEAD_MS };
            let given = self.given.get(&place.partition).is_some_and(|given| place.bytes - given >= self.least);
            (full && given || is_held) && behind.is_some_and(|behind| place.newest_ms.saturating_sub(behind) > limit)
        };
        let held: BTreeSet<i32> = places.iter().filter(is_ahead).map(|place| place.partition).collect();
        let changed = held != self.held;
        self.held = held;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Partitions with the next offset and the time of the newest record of each.
    fn places(of: &[(i64, i64)]) -> Vec<Place> {
        (0..).zip(of).map(|(partition, &(next, newest_ms))| Place { partition, next, newest_ms, bytes: 0 }).collect()
    }

    fn held(skew: &Skew) -> Vec<i32> {
        skew.held().iter().copied().collect()
    }

    #[test]
    fn those_that_are_far_ahead_are_held_until_the_others_have_caught_up() {
        let (mut skew, now) = (Skew::new(0), Instant::now());
        assert!(!skew.step(&places(&[(1, 0), (9, 5000), (1, 900)]), false, now), "there is room for all");
        assert!(skew.step(&places(&[(1, 0), (9, 5000), (1, 900)]), true, now));
        assert_eq!(held(&skew), [1]);
        assert!(!skew.step(&places(&[(5, 4400), (9, 5000), (9, 8000)]), false, now), "held until it is near");
        assert!(skew.step(&places(&[(5, 4400), (9, 5000), (9, 8000)]), true, now));
        assert_eq!(held(&skew), [1, 2]);
        assert!(skew.step(&places(&[(6, 4600), (9, 5000), (9, 8000)]), true, now));
        assert_eq!(held(&skew), [2]);
        assert!(skew.step(&places(&[(7, 7700), (12, 7600), (9, 8000)]), true, now));
        assert_eq!(held(&skew), [0; 0]);
    }

    #[test]
    fn a_partition_whose_end_is_reached_is_not_waited_for() {
        let (mut skew, now) = (Skew::new(0), Instant::now());
        skew.end(0, 4);
        assert!(!skew.step(&places(&[(4, 0), (9, 5000), (9, 5500)]), true, now));
        // more has come: it is behind again
        assert!(skew.step(&places(&[(5, 10), (9, 5000), (9, 5500)]), true, now));
        assert_eq!(held(&skew), [1, 2]);
        skew.end(0, 5);
        assert!(skew.step(&places(&[(5, 10), (9, 5000), (9, 5500)]), true, now));
        assert_eq!(held(&skew), [0; 0]);
        (0..3).zip([5, 9, 9]).for_each(|(partition, next)| skew.end(partition, next));
        assert!(!skew.step(&places(&[(5, 10), (9, 5000), (9, 5500)]), true, now), "at the end of all");
    }

    #[test]
    fn a_partition_that_gave_nothing_yet_is_waited_for_but_not_for_ever() {
        let (mut skew, now) = (Skew::new(0), Instant::now());
        let stuck = places(&[(0, i64::MIN), (9, 5000), (9, 5500)]);
        assert!(skew.step(&stuck, true, now));
        assert_eq!(held(&skew), [1, 2]);
        assert!(!skew.step(&stuck, true, now + STALLED));
        assert!(skew.step(&stuck, true, now + 2 * STALLED));
        assert_eq!(held(&skew), [0; 0], "those that are not held go on by themselves");
        skew.restart();
        assert!(skew.step(&stuck, true, now + 3 * STALLED));
        assert_eq!(held(&skew), [1, 2]);
    }

    #[test]
    fn a_partition_is_held_only_after_a_good_number_of_bytes() {
        let (mut skew, now) = (Skew::new(100), Instant::now());
        let at = |bytes, ahead| {
            let mut places = places(&[(1, 0), (9, ahead)]);
            places[1].bytes = bytes;
            places
        };
        skew.step(&at(50, 0), true, now);
        assert!(!skew.step(&at(149, 5000), true, now));
        assert!(skew.step(&at(150, 5000), true, now));
        assert_eq!(held(&skew), [1]);
        assert!(skew.step(&at(150, 300), true, now));
        assert!(!skew.step(&at(249, 5000), true, now));
        assert!(skew.step(&at(250, 5000), true, now));
    }

    #[test]
    fn a_partition_that_comes_back_begins_anew() {
        let (mut skew, now) = (Skew::new(100), Instant::now());
        let at = |bytes, ahead| {
            let mut places = places(&[(1, 0), (9, ahead)]);
            places[1].bytes = bytes;
            places
        };
        skew.step(&at(500, 0), true, now);
        skew.revoke(&[1]);
        assert!(!skew.step(&at(20, 5000), true, now), "it has given nothing yet");
        assert!(skew.step(&at(120, 5000), true, now));
        assert_eq!(held(&skew), [1]);
        skew.revoke(&[1]);
        assert_eq!(held(&skew), [0; 0]);
    }

    #[test]
    fn the_one_that_is_furthest_behind_is_never_held() {
        let mut random = 1_u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random >> 33
        };
        let (mut skew, start) = (Skew::new(0), Instant::now());
        let mut of: Vec<(i64, i64)> = vec![(0, i64::MIN); 5];
        for step in 0..100_000_u64 {
            let partition = next() as usize % of.len();
            if !skew.held().contains(&(partition as i32)) {
                match next() % 4 {
                    0 => skew.end(partition as i32, of[partition].0),
                    _ => of[partition] = (of[partition].0 + 1, of[partition].1.max(0) + (next() % 400) as i64),
                }
            }
            skew.step(&places(&of), !next().is_multiple_of(4), start + Duration::from_millis(step * 20));
            let least = of.iter().map(|place| place.1).min().unwrap_or(0);
            let slowest = (0..of.len()).filter(|p| of[*p].1 == least);
            assert!(slowest.into_iter().all(|p| !skew.held().contains(&(p as i32))), "{of:?} {skew:?}");
        }
    }
}
