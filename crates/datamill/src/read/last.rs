//! Where the last N messages of each partition begin.
//!
//! Offsets do not tell: on Kafka, the end of a transaction takes one, and so do the messages of one that was given up. So the
//! partition is read from N offsets before its end, and, while that gives fewer than N messages, from twice as far back.
//!
//! ```text
//!  first … │ from, 2nd look │ from, 1st look │ end       each look reads up to where the one before it began
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use datamill_broker::{Offsets, Reader, Result};

use super::{Ends, Span};

/// The look at all partitions.
pub(super) struct Last {
    partitions: Vec<Partition>,
    open: Ends,
}

struct Partition {
    /// What will be read: begins at the oldest message that was found.
    span: Span,
    /// The first offset of the partition.
    first: i64,
    /// The first offset of this look, and of the next one if it is needed.
    from: i64,
    /// Offsets that this look goes over.
    width: i64,
    /// Messages that are still to be found.
    missing: i64,
    /// The newest messages of this look, no more than are missing.
    found: VecDeque<i64>,
}

impl Last {
    /// Looks for the last `count` messages. `spans` are the parts that would hold them if all offsets had messages, from
    /// which the reader begins.
    pub(super) fn new(count: i64, ends: &[Offsets], spans: &[Span]) -> Self {
        let partitions = ends.iter().zip(spans).map(|(ends, span)| Partition {
            span: Span { first: ends.last_stable.max(ends.first), ..*span },
            first: ends.first,
            from: span.first,
            width: ends.last_stable - span.first,
            missing: count,
            found: VecDeque::new(),
        });
        let mut looking = Self { partitions: partitions.collect(), open: Ends::of(&[]) };
        looking.open = looking.look();
        looking
    }

    /// What this look reads: up to where the one before it began.
    fn look(&self) -> Ends {
        let open = self.partitions.iter().filter(|partition| partition.is_open());
        Ends(open.map(|partition| (partition.span.partition, partition.from + partition.width)).collect())
    }

    /// Goes on with the look. Answers what is to be read once that is known, and the reader is there.
    pub(super) fn poll(&mut self, reader: &mut dyn Reader, timeout: Duration) -> Result<Option<Vec<Span>>> {
        let Self { partitions, open } = self;
        if !open.0.is_empty() {
            reader.poll(timeout, &mut |event| {
                open.take(&event, &mut |record| {
                    if let Some(of) = partitions.iter_mut().find(|of| of.span.partition == record.partition) {
                        of.found(record.offset);
                    }
                });
            })?;
            if !self.open.0.is_empty() {
                return Ok(None);
            }
            self.partitions.iter_mut().for_each(Partition::end_look);
            self.open = self.look();
            if !self.open.0.is_empty() {
                let further = self.partitions.iter().filter(|partition| partition.is_open());
                let starts: Vec<(i32, i64)> = further.map(|of| (of.span.partition, of.from)).collect();
                reader.go_to(&starts)?;
                return Ok(None);
            }
        }
        let spans: Vec<Span> = self.partitions.iter().map(|of| of.span).filter(|span| span.first < span.end).collect();
        let starts: Vec<(i32, i64)> = spans.iter().map(|span| (span.partition, span.first)).collect();
        reader.go_to(&starts)?;
        Ok(Some(spans))
    }
}

impl Partition {
    fn is_open(&self) -> bool {
        self.missing > 0 && self.width > 0
    }

    fn found(&mut self, offset: i64) {
        self.found.push_back(offset);
        if self.found.len() as i64 > self.missing {
            self.found.pop_front();
        }
    }

    /// This look is over: what it found counts, and the next one goes over twice as many offsets before it.
    fn end_look(&mut self) {
        if let Some(oldest) = self.found.front() {
            self.span.first = *oldest;
        }
        self.missing -= self.found.len() as i64;
        self.found.clear();
        let from = self.from.saturating_sub(self.width.saturating_mul(2)).max(self.first);
        self.width = self.from - from;
        self.from = from;
    }
}

#[cfg(test)]
mod tests {
    use datamill_broker::{Event, Record};

    use super::*;

    /// A partition in which only some offsets have messages that are read.
    struct Sparse {
        end: i64,
        has_message: fn(i64) -> bool,
        next: Vec<(i32, i64)>,
    }

    impl Reader for Sparse {
        fn poll(&mut self, _: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
            let Some((partition, next)) = self.next.first_mut() else { return Ok(0) };
            // a few at a time, as brokers hand out
            for offset in *next..(*next + 7).min(self.end) {
                if (self.has_message)(offset) {
                    let (partition, headers) = (*partition, Vec::new());
                    let record =
                        Record { topic: "t", partition, offset, timestamp_ms: None, key: None, value: None, headers };
                    sink(Event::Record(record));
                }
            }
            *next = (*next + 7).min(self.end);
            let is_over = *next == self.end;
            let end = Event::End { topic: "t", partition: *partition, offset: self.end };
            if is_over {
                sink(end);
                self.next.remove(0);
            }
            Ok(1)
        }

        fn go_to(&mut self, starts: &[(i32, i64)]) -> Result<()> {
            self.next = starts.to_vec();
            Ok(())
        }
    }

    fn begins(end: i64, first: i64, count: i64, has_message: fn(i64) -> bool) -> Option<i64> {
        let ends = Offsets { first, last_stable: end, end };
        let from = (end - count).max(first);
        let spans = [Span { partition: 0, first: from, end }];
        let mut reader = Sparse { end, has_message, next: vec![(0, from)] };
        let mut last = Last::new(count, &[ends], &spans);
        loop {
            if let Some(spans) = last.poll(&mut reader, Duration::ZERO).unwrap() {
                assert_eq!(reader.next, spans.iter().map(|span| (0, span.first)).collect::<Vec<_>>());
                return spans.first().map(|span| span.first);
            }
        }
    }

    #[test]
    fn the_last_messages_begin_where_so_many_can_be_read() {
        for (end, first, count, has_message, wanted) in [
            (100, 0, 3, (|_| true) as fn(i64) -> bool, Some(97)),
            // a marker behind each message
            (100, 0, 3, |offset| offset % 2 == 0, Some(94)),
            // a transaction that was given up at the end
            (100, 0, 2, |offset| offset < 10, Some(8)),
            // fewer than that
            (100, 5, 50, |offset| offset % 10 == 0, Some(10)),
            (100, 0, 3, |_| false, None),
            (100, 0, i64::MAX, |_| true, Some(0)),
            (5, 5, 3, |_| true, None),
        ] {
            assert_eq!(begins(end, first, count, has_message), wanted, "{end} {first} {count}");
        }
    }
}
