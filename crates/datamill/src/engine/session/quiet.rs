//! For how long partitions have given nothing at their ends. By the records' times alone, nothing would ever end in a
//! topic that nobody writes to any more.

use std::collections::HashMap;
use std::time::Instant;

/// Partitions that are read to their ends: the next offset, and since when it is that one.
#[derive(Default)]
pub(super) struct Quiet(HashMap<i32, (i64, Instant)>);

impl Quiet {
    /// These partitions are read to their ends now, with their next offsets. Call it every few seconds.
    pub(super) fn look(&mut self, at_end: impl Iterator<Item = (i32, i64)>, now: Instant) {
        let before = std::mem::take(&mut self.0);
        let since = |(partition, next): (i32, i64)| {
            let known = before.get(&partition).filter(|(offset, _)| *offset == next);
            (partition, (next, known.map_or(now, |(_, since)| *since)))
        };
        self.0 = at_end.map(since).collect();
    }

    /// For how many milliseconds this partition has given nothing at its end.
    pub(super) fn ms(&self, partition: i32, now: Instant) -> i64 {
        let quiet = self.0.get(&partition).map(|(_, since)| now.saturating_duration_since(*since));
        quiet.map_or(0, |quiet| i64::try_from(quiet.as_millis()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_partition_is_quiet_since_it_was_seen_at_its_end_with_nothing_new() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut quiet = Quiet::default();
        assert_eq!(quiet.ms(0, begun), 0);
        quiet.look([(0, 7), (1, 3)].into_iter(), begun);
        quiet.look([(0, 7), (1, 4)].into_iter(), after(5));
        assert_eq!((quiet.ms(0, after(10)), quiet.ms(1, after(10)), quiet.ms(2, after(10))), (10_000, 5_000, 0));
        quiet.look([(1, 4)].into_iter(), after(15));
        quiet.look([(0, 7), (1, 4)].into_iter(), after(20));
        assert_eq!((quiet.ms(0, after(25)), quiet.ms(1, after(25))), (5_000, 20_000), "it was held meanwhile");
    }
}
