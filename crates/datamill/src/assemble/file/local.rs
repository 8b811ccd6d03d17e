//! A file of this machine, as if it had come whole from a topic.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::UNIX_EPOCH;

use datamill_wire::sha512;

use super::super::budget::{Budget, Reservation};
use super::super::instance::{FileInfo, InstanceId, Span, Version};
use super::super::memory::Memory;
use super::{DownloadDataFile, SourceTopic};
use crate::upload::DEFAULT_CHUNK_SIZE;

/// What stands for the topic.
const TOPIC: &str = "local";

impl DownloadDataFile {
    /// Reads it. Its path on the topic is its name.
    pub(crate) fn local(path: &Path) -> io::Result<Self> {
        let content = std::fs::read(path)?;
        let since = path.metadata()?.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let total = u32::try_from(content.len().div_ceil(DEFAULT_CHUNK_SIZE).max(1)).unwrap_or(u32::MAX);
        let version = Version {
            path: path.file_name().unwrap_or_default().to_string_lossy().into(),
            sha512: sha512(&content),
            total,
            mtime: since.map(|since| since.as_secs_f64()),
        };
        let topic = SourceTopic { name: TOPIC.into(), id: TOPIC.into(), by_name: None, own_files: Default::default() };
        let info = FileInfo {
            id: InstanceId(0),
            version,
            spans: vec![Span { partition: 0, first: 0, last: i64::from(total) - 1 }],
            others: Vec::new(),
            first_ms: 0,
            last_ms: 0,
            bytes: content.len() as u64,
            superseded: false,
        };
        Ok(Self::in_memory(topic, info, content))
    }

    pub(super) fn in_memory(topic: SourceTopic, info: FileInfo, content: Vec<u8>) -> Self {
        let reservation = Reservation::whole(&Arc::new(Budget::default()), content.len());
        Self {
            topic: Arc::new(topic),
            info: Arc::new(info),
            size: content.len() as u64,
            memory: Some(Arc::new(Memory::Heap(content))),
            spilled: None,
            placed: None,
            lent: OnceLock::new(),
            map: OnceLock::new(),
            followed: None,
            reservation,
        }
    }
}
