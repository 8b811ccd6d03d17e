//! One pass over a topic: records become uploads, without their content.
//!
//! The chunks go through the [`Assembler`] as in a program, so what counts as one upload is the same. What is whole
//! leaves at once; what lacks chunks stays until the end of the topic, and is told by what is missing and why:
//!
//! ```text
//!  ├── removed ──┤ first record          no record at these offsets             end
//!  ┄┄┄┄1┄2┄┄┄┄┄┄┄┼─3─4─5────────────────── 1 2 ┄┄ 4 ──────────────── 1 2 3 ──────┤
//!                 gone: chunks 1-2         gone: chunk 3             missing: chunk 4
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use datamill_broker::{Error, ErrorKind, Log, Record, Topic};
use datamill_wire::headers;

use super::error::SurveyError;
use super::upload::{Upload, missing, runs_text};
use crate::assemble::{Added, Assembler, Budget, Complete, FileInfo, Filter, IndexRun, InstanceIds};
use crate::control::Control;
use crate::engine::{chunk_of, sha512_of_hex};
use crate::progress::Progress;
use crate::read::{Span, TopicReader};
use crate::report::logging::say;
use crate::report::{chain, clock};

/// How long one wait for records lasts.
const POLL: Duration = Duration::from_millis(100);
/// Stretches without a record that are remembered in all partitions together.
const MOST_GAPS: usize = 100_000;

/// All that is in a topic now.
pub(super) fn all_of(log: &dyn Log, topic: &Topic) -> Result<Vec<Span>, Error> {
    let span = |partition| {
        let offsets = log.offsets(&topic.name, partition)?;
        Ok(Span { partition, first: offsets.first, end: offsets.last_stable })
    };
    (0..topic.partitions).map(span).collect()
}

/// Hands out each record of these parts of a topic, in order within a partition, until `sink` says that it has enough.
/// A log that does not answer is waited for.
pub(super) fn read(
    log: &Arc<dyn Log>,
    topic: &Topic,
    spans: &[Span],
    control: &Control,
    sink: &mut dyn FnMut(&Record<'_>) -> Result<bool, SurveyError>,
) -> Result<(), SurveyError> {
    let mut reader = TopicReader::of_spans(log, topic, spans)?;
    let mut told = false;
    while !reader.is_at_end() {
        if control.stopping().is_some() {
            return Err(SurveyError::Stopped);
        }
        let mut over = None;
        let polled = reader.poll(POLL, &mut |record| {
            if over.is_none() {
                over = match sink(record) {
                    Ok(true) => None,
                    Ok(false) => Some(Ok(())),
                    Err(error) => Some(Err(error)),
                };
            }
        });
        match (over, polled) {
            (Some(ended), _) => return ended,
            (None, Ok(())) => {}
            (None, Err(error)) if error.kind() == ErrorKind::Retry => {
                if !std::mem::replace(&mut told, true) {
                    say(format_args!("the log does not answer, trying again until it does: {}", chain(&error)));
                }
            }
            (None, Err(error)) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What a pass found besides uploads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Messages of the topic.
    pub messages: u64,
    /// Messages that are not chunks of files.
    pub others: u64,
}

/// What becomes of a record: its chunk was taken in, and its file may be whole now. Answers whether to go on.
pub(super) type Taken<'a> = dyn FnMut(&mut Assembler, Added, io::Result<()>) -> Result<bool, SurveyError> + 'a;

/// Lets all chunks of these parts of a topic through an assembler. Where none of its messages is a chunk, it is not a topic
/// of files, and nothing follows for files from what it has not.
pub(super) fn assemble(
    log: &Arc<dyn Log>,
    topic: &Topic,
    spans: &[Span],
    assembler: &mut Assembler,
    control: &Control,
    taken: &mut Taken<'_>,
) -> Result<(Passed, Gaps), SurveyError> {
    let (mut passed, mut gaps) =
        (Passed::default(), Gaps::new(spans, topic.settings.map(|settings| settings.compacted)));
    for span in spans {
        assembler.assign(span.partition, Progress::starting_at(span.first), span.first);
    }
    read(log, topic, spans, control, &mut |record| {
        gaps.go_to(record.partition, record.offset);
        gaps.go_on(record.partition);
        passed.messages += 1;
        let Some((added, written)) = take_in(assembler, record) else {
            passed.others += 1;
            return Ok(true);
        };
        taken(assembler, added, written)
    })?;
    if passed.messages > 0 && passed.others == passed.messages {
        let read = log.command(&format!("read {}", topic.name));
        return Err(SurveyError::NotFiles { topic: topic.name.clone(), messages: passed.messages, read });
    }
    Ok((passed, gaps))
}

/// Lets a record through an assembler. `None` where it is no chunk of a file.
pub(super) fn take_in(assembler: &mut Assembler, record: &Record<'_>) -> Option<(Added, io::Result<()>)> {
    let chunk = chunk_of(record).ok()?;
    let time_ms = record.timestamp_ms.unwrap_or(0).min(clock::now_ms());
    let taken = assembler.add(record.partition, record.offset, time_ms, &chunk);
    for (_, old) in record.headers.iter().filter(|(name, _)| *name == headers::SUPERSEDES) {
        if let Some(old) = std::str::from_utf8(old).ok().and_then(sha512_of_hex) {
            assembler.supersede(record.partition, &chunk, &old);
        }
    }
    Some(taken)
}

/// The uploads that lack chunks at the end of a pass.
pub(super) fn unfinished(assembler: &Assembler, gaps: &Gaps) -> impl Iterator<Item = Upload> {
    assembler.filling().into_iter().map(|(id, filling)| {
        let (info, runs) = (filling.info(id), filling.indices.runs());
        upload_of(&info, filling.indices.len(), gaps.fault(&info, &runs))
    })
}

/// Hands out each upload of a topic: whole ones in the order in which they became whole, then the others.
pub(super) fn uploads(
    log: &Arc<dyn Log>,
    topic: &Topic,
    filter: Filter,
    control: &Control,
    sink: &mut dyn FnMut(Upload) -> Result<(), SurveyError>,
) -> Result<Passed, SurveyError> {
    let mut assembler = Assembler::new(filter, Arc::new(Budget::default())).without_content();
    let spans = all_of(log.as_ref(), topic)?;
    // nothing is written to a disk, so nothing can fail to be written
    let (passed, gaps) = assemble(log, topic, &spans, &mut assembler, control, &mut |assembler, added, _| {
        let Added::Whole(Complete::Dropped(whole)) = added else { return Ok(true) };
        sink(upload_of(&whole.info, whole.info.version.total, hole(whole.size)))?;
        assembler.finish(&InstanceIds::from_iter([whole.info.id]));
        Ok(true)
    })?;
    unfinished(&assembler, &gaps).try_for_each(sink)?;
    Ok(passed)
}

fn hole(size: Option<u64>) -> String {
    if size.is_some() { String::new() } else { "its chunks leave a hole in the file".to_owned() }
}

/// The upload that a file of the assembler is, with the number of its chunks that are there.
pub(super) fn upload_of(info: &FileInfo, chunks: u32, fault: String) -> Upload {
    let version = &info.version;
    Upload {
        path: version.path.to_string(),
        sha512: version.sha512,
        size: info.bytes,
        chunks,
        n_chunks: version.total,
        modified: version.mtime,
        first_ms: info.first_ms,
        last_ms: info.last_ms,
        spans: info.spans.clone(),
        fault,
    }
}

/// Offsets without a record: where a topic begins above 0, where records were compacted away, and where those of an
/// aborted transaction or its markers are.
pub(super) struct Gaps {
    /// First offset and the next one that is wanted of each partition.
    partitions: BTreeMap<i32, (i64, i64)>,
    gaps: BTreeMap<i32, Vec<(i64, i64)>>,
    count: usize,
    /// Whether the topic keeps only the newest record of each key. `None` where that cannot be seen.
    is_compacted: Option<bool>,
}

impl Gaps {
    fn new(spans: &[Span], is_compacted: Option<bool>) -> Self {
        let partitions = spans.iter().map(|span| (span.partition, (span.first, span.first))).collect();
        Self { partitions, gaps: BTreeMap::new(), count: 0, is_compacted }
    }

    /// What comes next in the partition has this offset.
    fn go_to(&mut self, partition: i32, offset: i64) {
        let Some((_, next)) = self.partitions.get_mut(&partition) else { return };
        if offset > *next {
            if self.count < MOST_GAPS {
                self.gaps.entry(partition).or_default().push((*next, offset - 1));
                self.count += 1;
            }
            *next = offset;
        }
    }

    /// A record was read.
    fn go_on(&mut self, partition: i32) {
        if let Some((_, next)) = self.partitions.get_mut(&partition) {
            *next += 1;
        }
    }

    /// Why an upload with these chunks is not whole.
    fn fault(&self, info: &FileInfo, runs: &[IndexRun]) -> String {
        let total = info.version.total;
        let missing = missing(runs, total);
        let lacking: u32 = missing.iter().map(|(first, last)| last - first + 1).sum();
        let (is, verb) = if lacking == 1 { ("chunk", "is") } else { ("chunks", "are") };
        let named = format!("{is} {} of {total}", runs_text(&missing));
        if info.superseded {
            return format!(
                "{named} {verb} missing: the upload was given up since the file had changed; a newer version follows"
            );
        }
        // the first chunks of a file are the first to be removed
        let removed: Vec<String> = info
            .spans
            .iter()
            .filter_map(|span| {
                let begins = self.partitions.get(&span.partition)?.0;
                (begins > 0).then(|| format!("{}:{begins}", span.partition))
            })
            .collect();
        let lacks_first = missing.first().is_some_and(|run| run.0 == 1);
        let within = info.spans.iter().flat_map(|span| {
            let gaps = self.gaps.get(&span.partition).map_or(&[][..], Vec::as_slice);
            let inside = gaps.partition_point(|gap| gap.1 < span.first);
            // the chunks of one upload have different keys, so the first ones may be gone alone
            let from = if self.is_compacted == Some(true) && lacks_first { inside.saturating_sub(1) } else { inside };
            let inside = gaps[from..].iter().take_while(|gap| gap.0 <= span.last);
            inside.map(|gap| format!("{}:{}", span.partition, runs_text(&[*gap])))
        });
        let within: Vec<String> = within.take(10).collect();
        if lacks_first && !removed.is_empty() {
            return format!("{named} {verb} gone: the topic begins at offset {} now", removed.join(", "));
        }
        if !within.is_empty() {
            let why =
                if self.is_compacted == Some(true) { "keeps only the newest message of each key, and " } else { "" };
            return format!("{named} {verb} gone: the topic {why}has no record at offset {}", within.join(", "));
        }
        if lacks_first && self.is_compacted.is_none() {
            return format!(
                "{named} {verb} missing: the upload has not ended, or was cut off, or the topic is compacted: its settings \
                cannot be seen without the permission `DescribeConfigs`"
            );
        }
        format!("{named} {verb} missing: the upload has not ended, or was cut off")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::{self, InstanceId, Version};

    fn info(spans: &[(i32, i64, i64)], total: u32) -> FileInfo {
        FileInfo {
            id: InstanceId(1),
            version: Version { path: "a".into(), sha512: [0; 64], total, mtime: None },
            spans: spans.iter().map(|&(partition, first, last)| assemble::Span { partition, first, last }).collect(),
            others: Vec::new(),
            first_ms: 0,
            last_ms: 0,
            bytes: 0,
            superseded: false,
        }
    }

    #[test]
    fn chunks_that_are_gone_are_told_from_those_that_never_came() {
        let spans = [Span { partition: 0, first: 4, end: 20 }, Span { partition: 1, first: 0, end: 20 }];
        let mut gaps = Gaps::new(&spans, Some(false));
        for offset in [4, 5, 6, 9, 10] {
            gaps.go_to(0, offset);
            gaps.go_on(0);
        }
        gaps.go_to(0, 13);
        for (spans, runs, words) in [
            (&[(0, 4, 5)][..], &[(2, 3)][..], "chunks 1, 4 of 4 are gone: the topic begins at offset 0:4 now"),
            (&[(0, 6, 9)], &[(1, 1), (3, 4)], "chunk 2 of 4 is gone: the topic has no record at offset 0:7-8"),
            (&[(0, 9, 10)], &[(1, 2)], "chunks 3-4 of 4 are missing: the upload has not ended, or was cut off"),
            (&[(1, 0, 3)], &[(2, 4)], "chunk 1 of 4 is missing: the upload has not ended, or was cut off"),
        ] {
            assert_eq!(gaps.fault(&info(spans, 4), runs), words);
        }
    }
    #[test]
    fn the_first_chunks_alone_are_gone_where_only_the_newest_of_each_key_is_kept() {
        let spans = [Span { partition: 0, first: 0, end: 20 }];
        for (is_compacted, words) in [
            (
                Some(true),
                "chunks 1-2 of 3 are gone: the topic keeps only the newest message of each key, and has no record at offset 0:3-4",
            ),
            (Some(false), "chunks 1-2 of 3 are missing: the upload has not ended, or was cut off"),
            (
                None,
                "chunks 1-2 of 3 are missing: the upload has not ended, or was cut off, or the topic is compacted: its settings \
                cannot be seen without the permission `DescribeConfigs`",
            ),
        ] {
            let mut gaps = Gaps::new(&spans, is_compacted);
            for offset in [0, 1, 2, 5, 6] {
                gaps.go_to(0, offset);
                gaps.go_on(0);
            }
            assert_eq!(gaps.fault(&info(&[(0, 5, 5)], 3), &[(3, 3)]), words);
            let cut_off = "chunk 3 of 3 is missing: the upload has not ended, or was cut off";
            assert_eq!(gaps.fault(&info(&[(0, 5, 6)], 3), &[(1, 2)]), cut_off);
        }
    }
}
