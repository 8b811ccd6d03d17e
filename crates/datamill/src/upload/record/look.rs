//! A record as somebody sees it who only looks: nothing is locked, mended or written anew.

use std::path::Path;

use super::{Known, Line, RecordError, unhex};
use crate::durable::Contents;
use crate::upload::stamp::Stamp;

/// Hands out what the record at `path` says of each file, in the order in which that was written: of a path that comes
/// several times, the last counts. Answers the id of the topic, where the record has it, and the prefix of the paths; `None`
/// where there is no record.
///
/// # Errors
/// Where the file cannot be read, or is the record of another log or topic.
pub(crate) fn look(
    path: &Path,
    log_id: &str,
    topic: &str,
    each: &mut dyn FnMut(String, Known),
) -> Result<Option<(Option<String>, String)>, RecordError> {
    if !path.exists() {
        return Ok(None);
    }
    let (mut header, mut is_first) = (None, true);
    let loaded = Contents::load(path, |line| match line {
        Line::Header { log, topic, topic_id, path_prefix, .. } if std::mem::take(&mut is_first) => {
            header = Some((log, topic, (topic_id, path_prefix)));
        }
        Line::Known { path, size, mtime_ns, sha512, .. } => {
            let sha512 = sha512.as_deref().and_then(unhex);
            each(path, Known { stamp: Stamp { size, mtime_ns }, sha512, trace: None });
        }
        Line::Header { .. } | Line::Started { .. } | Line::Confirmed { .. } | Line::Sending { .. } => {}
    });
    loaded.map_err(|source| RecordError::Io { path: path.to_owned(), source })?;
    match header {
        Some((log, of, seen)) if log == log_id && of == topic => Ok(Some(seen)),
        _ => Err(RecordError::Foreign { path: path.to_owned(), topic: topic.to_owned() }),
    }
}
