//! What is read of what a group has not done: all of it, or as much as tells the rest.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use datamill_broker::{Log, Offsets, Topic};

use super::{InProgress, NAMED, PartitionStatus};
use crate::assemble::{Added, Assembler, Budget, FileInfo, Instance, InstanceId, InstanceIds};
use crate::control::Control;
use crate::engine::{Position, Reached, Standing};
use crate::progress::{OpenKind, Progress};
use crate::read::Span;
use crate::report::clock;
use crate::status::{Density, PartitionLag, read_times};
use crate::survey::error::SurveyError;
use crate::survey::pass::{read, take_in};

/// What is read at most of a topic unless all of it is asked for: messages, and bytes of their values.
const MOST_MESSAGES: u64 = 10_000;
const MOST_BYTES: u64 = 64 << 20;
/// So many times as much is read where that may be all there is, and a file lacks chunks that may follow.
const MOST_TIMES: u64 = 8;

/// What is being read of what the group has not done.
pub(super) struct Look<'r> {
    reached: &'r Reached,
    /// What there is of each partition from the position of the group on, and its ends.
    pub(super) spans: Vec<(Span, Offsets)>,
    assembler: Assembler,
    /// Offset behind the last record that was read, by partition.
    next: BTreeMap<i32, i64>,
    /// What is whole, by partition; it has left the assembler.
    whole: BTreeMap<i32, Whole>,
    /// Everything was read.
    pub(super) is_at_end: bool,
    messages: u64,
    bytes: u64,
    files: u64,
    in_hand: u64,
    pub(super) begun: Vec<InProgress>,
    pub(super) cut_off: u64,
    pub(super) cut_off_files: Vec<InProgress>,
}

#[derive(Default)]
struct Whole {
    files: u64,
    messages: u64,
    bytes: u64,
    oldest_ms: Option<i64>,
}

impl<'r> Look<'r> {
    pub(super) fn new(log: &Arc<dyn Log>, topic: &Topic, reached: &'r Reached) -> Result<Self, SurveyError> {
        let mut assembler = Assembler::new(Box::new(|_| true), Arc::new(Budget::default())).without_content();
        let mut spans = Vec::new();
        for partition in 0..topic.partitions {
            let offsets = log.offsets(&topic.name, partition)?;
            let position = reached.position(partition);
            let progress = position.map_or_else(|| Progress::starting_at(offsets.first), Position::progress);
            let first = progress.position().max(offsets.first);
            spans.push((Span { partition, first, end: offsets.last_stable }, offsets));
            assembler.assign(partition, progress, first);
        }
        Ok(Self {
            reached,
            next: spans.iter().map(|(span, _)| (span.partition, span.first)).collect(),
            spans,
            assembler,
            whole: BTreeMap::new(),
            is_at_end: false,
            messages: 0,
            bytes: 0,
            files: 0,
            in_hand: 0,
            begun: Vec::new(),
            cut_off: 0,
            cut_off_files: Vec::new(),
        })
    }

    pub(super) fn read(
        &mut self,
        log: &Arc<dyn Log>,
        topic: &Topic,
        exact: bool,
        control: &Control,
    ) -> Result<(), SurveyError> {
        let spans: Vec<Span> = self.spans.iter().map(|(span, _)| *span).collect();
        let (mut has_enough, mut times, now_ms) = (false, 1, clock::now_ms());
        read(log, topic, &spans, control, &mut |record| {
            self.next.insert(record.partition, record.offset + 1);
            self.messages += 1;
            self.bytes += record.value.map_or(0, <[u8]>::len) as u64;
            match take_in(&mut self.assembler, record) {
                Some((Added::Whole(whole), _)) => {
                    self.files += 1;
                    self.take_whole(whole.info());
                    self.assembler.finish(&InstanceIds::from_iter([whole.info().id]));
                }
                Some(_) => {}
                None => drop(self.assembler.skip_to(record.partition, record.offset + 1)),
            }
            if !exact && (self.messages >= MOST_MESSAGES * times || self.bytes >= MOST_BYTES * times) {
                has_enough = times > 1 || !self.may_end_with_more(now_ms);
                times = MOST_TIMES;
            }
            Ok(!has_enough)
        })?;
        self.is_at_end = !has_enough;
        let ends: BTreeMap<i32, i64> = self.spans.iter().map(|(span, _)| (span.partition, span.end)).collect();
        let is_read = |partition| {
            self.is_at_end || self.next.get(&partition).zip(ends.get(&partition)).is_some_and(|(next, end)| next >= end)
        };
        let is_over =
            |filling: &Instance| filling.is_quiet(now_ms) && filling.spans.iter().all(|span| is_read(span.partition));
        // also where more of the topic follows: what is left over would make all that waits as old as it is
        let quiet: Vec<_> =
            self.assembler.filling().into_iter().filter(|(_, filling)| filling.is_quiet(now_ms)).collect();
        let cut_off = quiet.iter().filter(|(_, filling)| filling.is_cut_off(now_ms));
        let cut_off: Vec<_> = cut_off.map(|(id, filling)| filling.info(*id)).collect();
        let whole = self.whole_before(log, topic, &cut_off, exact, control)?;
        let is_there = |filling: &Instance| {
            filling.again || whole.contains(&(filling.version.path.to_string(), filling.version.sha512))
        };
        let left_over = quiet.iter().filter(|(_, filling)| is_there(filling)).map(|(id, _)| *id).collect();
        self.assembler.leave_over(&left_over);
        let of = |(id, filling): (InstanceId, &Instance)| {
            let is_cut_off = filling.is_cut_off(now_ms) && is_over(filling);
            (filling.info(id), filling.indices.len(), is_cut_off, filling.is_waited_for())
        };
        let filling: Vec<_> = self.assembler.filling().into_iter().map(of).collect();
        self.files += filling.iter().filter(|(.., is_waited_for)| *is_waited_for).count() as u64;
        for (info, chunks, is_cut_off, _) in &filling {
            self.note_begun(info, *chunks, *is_cut_off);
        }
        Ok(())
    }

    /// Versions of these files that are whole above what the group has not done: nobody misses another upload of them. It
    /// is looked for in the partitions of their chunks, `exact` from the first record on.
    fn whole_before(
        &self,
        log: &Arc<dyn Log>,
        topic: &Topic,
        files: &[FileInfo],
        exact: bool,
        control: &Control,
    ) -> Result<HashSet<(String, [u8; 64])>, SurveyError> {
        let mut spans: BTreeMap<i32, Span> = BTreeMap::new();
        for span in files.iter().flat_map(|info| &info.spans) {
            let first = self.spans.iter().find(|(of, _)| of.partition == span.partition).map_or(0, |(_, of)| of.first);
            let near = if exact { first } else { first.max(span.first - (MOST_MESSAGES * MOST_TIMES) as i64) };
            let of =
                spans.entry(span.partition).or_insert(Span { partition: span.partition, first: near, end: span.first });
            (of.first, of.end) = (of.first.min(near), of.end.max(span.first));
        }
        let spans: Vec<Span> = spans.into_values().filter(|span| span.first < span.end).collect();
        let mut whole = HashSet::new();
        if spans.is_empty() {
            return Ok(whole);
        }
        let wanted: HashSet<String> = files.iter().map(|info| info.version.path.to_string()).collect();
        let filter = Box::new(move |path: &str| wanted.contains(path));
        let mut assembler = Assembler::new(filter, Arc::new(Budget::default())).without_content();
        for span in &spans {
            assembler.assign(span.partition, Progress::starting_at(span.first), span.first);
        }
        let mut left = MOST_BYTES * MOST_TIMES;
        read(log, topic, &spans, control, &mut |record| {
            if let Some((Added::Whole(file), _)) = take_in(&mut assembler, record) {
                let info = file.info();
                whole.insert((info.version.path.to_string(), info.version.sha512));
                assembler.finish(&InstanceIds::from_iter([info.id]));
            }
            left = left.saturating_sub(record.value.map_or(0, <[u8]>::len) as u64);
            Ok(exact || left > 0)
        })?;
        Ok(whole)
    }

    /// Whether a file may have been cut off, as far as it was read, and the end is near enough to tell.
    fn may_end_with_more(&self, now_ms: i64) -> bool {
        let left = self.spans.iter().map(|(span, _)| span.end - self.next.get(&span.partition).unwrap_or(&span.end));
        let left = u64::try_from(left.sum::<i64>()).unwrap_or(0);
        left <= MOST_MESSAGES * (MOST_TIMES - 1)
            && self.assembler.filling().iter().any(|(_, filling)| filling.is_cut_off(now_ms))
    }

    fn take_whole(&mut self, info: &FileInfo) {
        let Some(span) = info.spans.first() else { return };
        let whole = self.whole.entry(span.partition).or_default();
        whole.files += 1;
        whole.messages += u64::from(info.version.total);
        whole.bytes += info.bytes;
        whole.oldest_ms = Some(whole.oldest_ms.map_or(info.first_ms, |ms| ms.min(info.first_ms)));
        self.note_begun(info, info.version.total, false);
    }

    /// Takes a file down that the group has begun, or that was cut off.
    fn note_begun(&mut self, info: &FileInfo, chunks: u32, is_cut_off: bool) {
        let file = || InProgress {
            path: info.version.path.to_string(),
            chunks,
            n_chunks: info.version.total,
            bytes: info.bytes,
            first_ms: info.first_ms,
            last_ms: info.last_ms,
            is_cut_off,
        };
        if is_cut_off {
            self.cut_off += 1;
            if self.cut_off_files.len() < NAMED {
                self.cut_off_files.push(file());
            }
        }
        if self.reached.of(&info.spans) != Standing::InHand {
            return;
        }
        self.in_hand += 1;
        if self.begun.len() < NAMED {
            self.begun.push(file());
        }
    }

    /// Files that the group has begun: those that were seen where all of them were, else what the positions say.
    pub(super) fn in_progress(&self, reached: &Reached) -> u64 {
        if self.is_at_end {
            return self.in_hand;
        }
        let open = self.spans.iter().filter_map(|(span, _)| {
            let progress = reached.position(span.partition)?.progress();
            Some(progress.open.values().filter(|kind| **kind == OpenKind::Open).count() as u64)
        });
        open.sum()
    }

    /// How each partition stands.
    pub(super) fn partitions(&self, backlog: &BTreeMap<i32, PartitionLag>) -> Vec<PartitionStatus> {
        let now_ms = clock::now_ms();
        let of = |(span, offsets): &(Span, Offsets)| {
            let position = self.reached.position(span.partition);
            let lag = backlog.get(&span.partition);
            PartitionStatus {
                partition: span.partition,
                position: position.map(Position::offset),
                read_to: position.map(|position| position.progress().frontier),
                first: offsets.first,
                end: span.end,
                messages: lag.map_or(0, PartitionLag::messages),
                seconds: lag.map_or(Some(0.0), |lag| lag.seconds(now_ms)),
            }
        };
        self.spans.iter().map(of).collect()
    }

    pub(super) fn density(&self) -> Option<Density> {
        let messages = self.messages as f64;
        (self.messages > 0)
            .then(|| Density { files: self.files as f64 / messages, bytes: self.bytes as f64 / messages })
    }

    /// How far each partition is behind.
    pub(super) fn backlog(&self, log: &dyn Log, topic: &str) -> Result<BTreeMap<i32, PartitionLag>, SurveyError> {
        let mut all = BTreeMap::new();
        let ends: BTreeMap<i32, i64> = self.spans.iter().map(|(span, _)| (span.partition, span.end)).collect();
        for mut read in self.assembler.backlog() {
            let partition = read.partition;
            if let Some(whole) = self.whole.get(&partition) {
                read.files += whole.files;
                read.messages += whole.messages;
                read.bytes += whole.bytes;
                read.oldest_ms = read.oldest_ms.into_iter().chain(whole.oldest_ms).min();
            }
            // what the group has read before and was not read here is of files that are finished, or listed as open
            let end = ends.get(&partition).filter(|_| !self.is_at_end);
            let unread = end.and_then(|end| u64::try_from(end - read.next).ok()).unwrap_or(0);
            all.insert(partition, PartitionLag { oldest_ms: read.oldest_ms, read, unread });
        }
        let untold = |lag: &PartitionLag| lag.unread > 0 && lag.oldest_ms.is_none();
        let starts = all.values().filter(|lag| untold(lag)).map(|lag| lag.read.partition);
        let starts: Vec<(i32, i64)> =
            starts.filter_map(|partition| Some((partition, *self.next.get(&partition)?))).collect();
        if !starts.is_empty() {
            let mut times = BTreeMap::new();
            read_times(log, topic, &starts, &mut times)?;
            for (partition, (_, time_ms)) in times {
                if let Some(lag) = all.get_mut(&partition) {
                    lag.oldest_ms = Some(time_ms);
                }
            }
        }
        Ok(all)
    }
}
