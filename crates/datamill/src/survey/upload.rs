//! One upload of one version of a file, as the topic has it.

use std::fmt::Write as _;

use crate::assemble::{IndexRun, Span};
use crate::engine::spans_text;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Upload {
    /// Path of the file, relative, with `/`.
    pub path: String,
    /// SHA-512 of the version.
    pub sha512: [u8; 64],
    /// Bytes of the chunks that are there: of a whole upload, those of the file.
    pub size: u64,
    /// Number of chunks that are there.
    pub chunks: u32,
    /// Number of chunks of the version.
    pub n_chunks: u32,
    /// Modification time of the file where it was uploaded, seconds since the epoch.
    pub modified: Option<f64>,
    /// Time of the first chunk's record, milliseconds since the epoch.
    pub first_ms: i64,
    /// Time of the newest chunk's record.
    pub last_ms: i64,
    /// Where its chunks are.
    pub spans: Vec<Span>,
    /// Why it is not whole; empty where it is.
    pub fault: String,
}

impl Upload {
    /// Whether all its chunks are there, without a hole between them.
    pub fn is_whole(&self) -> bool {
        self.fault.is_empty()
    }

    /// Where its chunks are: `partition:first-last`, separated by commas.
    pub fn offsets(&self) -> String {
        spans_text(&self.spans)
    }

    /// Where the file was changed last, in milliseconds since the epoch.
    pub fn modified_ms(&self) -> Option<i64> {
        self.modified.map(|seconds| (seconds * 1000.0).round() as i64)
    }
}

/// Spans as [`Upload::offsets`] writes them; what is no such text is left out.
pub(super) fn spans_of(text: &str) -> Vec<Span> {
    let span = |part: &str| {
        let (partition, offsets) = part.split_once(':')?;
        let (first, last) = offsets.split_once('-')?;
        Some(Span { partition: partition.parse().ok()?, first: first.parse().ok()?, last: last.parse().ok()? })
    };
    text.split(',').filter_map(span).collect()
}

/// Runs that are named in a text; more of them are counted.
const NAMED: usize = 10;

/// Runs of numbers as a text: `3`, `3-5`, `1-2, 7`.
pub(super) fn runs_text<T: Copy + PartialEq + std::fmt::Display>(runs: &[(T, T)]) -> String {
    let mut text = String::new();
    for (first, last) in runs.iter().take(NAMED) {
        let comma = if text.is_empty() { "" } else { ", " };
        // writing to a string does not fail
        let _ = if first == last { write!(text, "{comma}{first}") } else { write!(text, "{comma}{first}-{last}") };
    }
    if runs.len() > NAMED {
        let _ = write!(text, " and {} more", runs.len() - NAMED);
    }
    text
}

/// The indices of `1..=total` that are not in `runs`, as runs.
pub(super) fn missing(runs: &[IndexRun], total: u32) -> Vec<IndexRun> {
    let mut missing = Vec::new();
    let mut next = 1;
    for (first, last) in runs {
        if *first > next {
            missing.push((next, first - 1));
        }
        next = last + 1;
    }
    if next <= total {
        missing.push((next, total));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_between_what_is_there() {
        for (runs, total, expected) in
            [(&[][..], 3, "1-3"), (&[(1, 3)], 3, ""), (&[(2, 2)], 3, "1, 3"), (&[(1, 1), (4, 5)], 9, "2-3, 6-9")]
        {
            assert_eq!(runs_text(&missing(runs, total)), expected);
        }
        let many: Vec<(i64, i64)> = (0..12).map(|i| (3 * i, 3 * i)).collect();
        assert!(runs_text(&many).ends_with("27 and 2 more"));
    }

    #[test]
    fn offsets_are_read_as_they_are_written() {
        let spans = [Span { partition: 3, first: 7, last: 9 }, Span { partition: 0, first: 1, last: 1 }];
        assert_eq!(spans_of(&spans_text(&spans)), spans);
        assert_eq!(spans_of(""), []);
    }
}
