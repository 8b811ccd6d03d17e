//! A record becomes a chunk.

use datamill_broker::Record;
use datamill_wire::{Chunk, ChunkError, headers};

/// The chunk that a record holds, with the modification time that a header tells where the value does not.
///
/// # Errors
/// The record holds no chunk.
pub(crate) fn chunk_of<'a>(record: &Record<'a>) -> Result<Chunk<'a>, ChunkError> {
    let mut chunk = Chunk::decode(record.value.unwrap_or_default())?;
    if chunk.mtime.is_none()
        && let Some((_, told)) = record.headers.iter().find(|(name, _)| *name == headers::MTIME)
    {
        chunk.take_mtime_header(told);
    }
    Ok(chunk)
}

/// Whether all chunks of the record's file are in one partition, by its headers.
pub(super) fn is_kept(record: &Record<'_>) -> bool {
    record.headers.iter().any(|(name, _)| *name == headers::CHUNK_VERSION)
}
