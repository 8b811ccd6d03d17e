//! Where a result came from: the texts of its key and headers, and the row that the tables show.

use std::fmt::Write as _;

use datamill_wire::{headers, hex};

use super::dead_letter::DeadLetterTopic;
use super::source::Source;
use crate::assemble::{FileInfo, Span, Version};
use crate::facts::FileRow;

/// Where results go, and what is written beside them.
pub(super) struct CommitSettings {
    /// The topic that is read.
    pub(super) source: Source,
    pub(super) result_topic: Option<String>,
    pub(super) dead_letters: Option<DeadLetterTopic>,
    pub(super) group: String,
    pub(super) program: String,
    pub(super) processor_version: Option<String>,
    /// Whose the failures are.
    pub(super) by: String,
}

/// See the module.
pub(super) struct Origin {
    pub(super) key: String,
    pub(super) row: FileRow,
}

impl Origin {
    pub(super) fn of(info: &FileInfo) -> Self {
        let version = &info.version;
        Self {
            key: datamill_wire::result_key(version.subdir(), version.filename()),
            row: file_row(version, &info.spans, info.first_ms, info.last_ms),
        }
    }

    /// The headers of a result, and of a dead letter.
    pub(super) fn headers<'a>(&'a self, settings: &'a CommitSettings) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let all = [
            (headers::SOURCE_TOPIC, settings.source.name.as_bytes()),
            (headers::SOURCE_PATH, self.row.rel_filepath.as_bytes()),
            (headers::SOURCE_SHA512, self.row.sha512.as_bytes()),
            (headers::SOURCE_OFFSETS, self.row.offsets.as_bytes()),
            (headers::PROGRAM, settings.program.as_bytes()),
            (headers::GROUP, settings.group.as_bytes()),
        ];
        let id = settings.source.id.as_ref().map(|id| (headers::SOURCE_TOPIC_ID, id.as_bytes()));
        let version = settings.processor_version.as_ref();
        let version = version.map(|version| (headers::PROCESSOR_VERSION, version.as_bytes()));
        all.into_iter().chain(id).chain(version)
    }
}

/// A file as the registry shows it.
pub(super) fn file_row(version: &Version, spans: &[Span], first_ms: i64, last_ms: i64) -> FileRow {
    FileRow {
        rel_filepath: version.path.to_string(),
        n_chunks: version.total,
        first_message_ms: first_ms,
        most_recent_message_ms: last_ms,
        sha512: hex(&version.sha512),
        offsets: spans_text(spans),
    }
}

/// `partition:first-last` for each partition, separated by commas.
pub(crate) fn spans_text(spans: &[Span]) -> String {
    let mut text = String::new();
    for span in spans {
        let comma = if text.is_empty() { "" } else { "," };
        // writing to a string does not fail
        let _ = write!(text, "{comma}{}:{}-{}", span.partition, span.first, span.last);
    }
    text
}
