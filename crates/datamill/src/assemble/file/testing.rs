//! Whole files without a topic, for the tests of what is done with them.

use datamill_wire::sha512;

use super::super::ahead::Hashed;
use super::super::buffer::Content;
use super::super::instance::{FileInfo, InstanceId, Span, Version};
use super::super::memory::Memory;
use super::{DownloadDataFile, SourceTopic, WholeFile};

/// A file in memory that is not verified yet.
pub(crate) fn whole(path: &str, content: &[u8]) -> WholeFile {
    let file = downloaded(path, content, None, &[(0, 0, 0)]);
    WholeFile {
        info: file.info,
        size: Some(file.size),
        content: Content::Memory(Memory::Heap(content.to_vec()), Hashed::default()),
        reservation: file.reservation,
        proofs: Vec::new(),
        follower: None,
        taken: 0,
        failed_before: false,
    }
}

/// A file in memory; the spans are partition, first and last offset.
pub(crate) fn downloaded(
    path: &str,
    content: &[u8],
    mtime: Option<f64>,
    spans: &[(i32, i64, i64)],
) -> DownloadDataFile {
    let version = Version { path: path.into(), sha512: sha512(content), total: 1, mtime };
    let spans = spans.iter().map(|&(partition, first, last)| Span { partition, first, last }).collect();
    let info = FileInfo {
        id: InstanceId(1),
        version,
        spans,
        others: Vec::new(),
        first_ms: 1_700_000_000_000,
        last_ms: 1_700_000_000_000,
        bytes: content.len() as u64,
        superseded: false,
    };
    let id = "files of this log".into();
    let topic = SourceTopic { name: "files".into(), id, by_name: None, own_files: Default::default() };
    DownloadDataFile::in_memory(topic, info, content.to_vec())
}
