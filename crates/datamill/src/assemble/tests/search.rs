//! The search for a schedule that fails, among random ones.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether a schedule fails.
pub(crate) type Fails<'f, T> = &'f dyn Fn(&T) -> bool;

/// Schedules of a kind `K`, and what is checked of each where a mistake `E` is made on purpose.
pub(crate) struct Search<K, E, T> {
    pub(crate) kind: K,
    pub(crate) mistake: E,
    /// The schedule of a seed.
    pub(crate) make: fn(u64, K) -> T,
    /// What a schedule violates.
    pub(crate) check: fn(&T, E) -> Result<(), String>,
    /// The smallest schedule that still fails.
    pub(crate) shrink: fn(T, Fails<'_, T>) -> T,
}

impl<K: Copy + Sync, E: Copy + Sync, T: Debug> Search<K, E, T> {
    fn schedule(&self, seed: u64) -> T {
        (self.make)(seed, self.kind)
    }

    fn outcome(&self, schedule: &T) -> Result<(), String> {
        catch_unwind(AssertUnwindSafe(|| (self.check)(schedule, self.mistake)))
            .unwrap_or_else(|_| Err("a panic".to_owned()))
    }

    /// The first seed below `schedules` that fails, with what it violates.
    pub(crate) fn first_failure(&self, schedules: u64) -> Option<(u64, String)> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let found = AtomicBool::new(false);
        let search = &|thread: u64| {
            (thread..schedules).step_by(threads as usize).take_while(|_| !found.load(Relaxed)).find_map(|seed| {
                let violation = self.outcome(&self.schedule(seed)).err()?;
                found.store(true, Relaxed);
                Some((seed, violation))
            })
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|t| scope.spawn(move || search(t))).collect();
            workers.into_iter().filter_map(|w| w.join().unwrap()).min()
        })
    }

    /// Panics with the seed of a schedule that fails, and the smallest one. `DATAMILL_SCHEDULES` says how many there are
    /// in the place of `fast`, and `DATAMILL_SEED` names the only one.
    pub(crate) fn holds(&self, fast: u64) {
        let failure = match number("DATAMILL_SEED") {
            Some(seed) => self.outcome(&self.schedule(seed)).err().map(|violation| (seed, violation)),
            None => self.first_failure(number("DATAMILL_SCHEDULES").unwrap_or(fast)),
        };
        let Some((seed, violation)) = failure else { return };
        let smallest = (self.shrink)(self.schedule(seed), &|schedule| self.outcome(schedule).is_err());
        let of_smallest = self.outcome(&smallest).unwrap_err();
        panic!("DATAMILL_SEED={seed}: {violation}\nat its smallest: {of_smallest}\n{smallest:?}");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}
