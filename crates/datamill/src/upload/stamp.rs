//! What a file system says about a file without reading it.

use std::fs::Metadata;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Size and modification time of a file at one moment. Two equal stamps mean "not changed", as far as
/// the file system can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds since the Unix epoch; `None` where the file system has none.
    pub mtime_ns: Option<i64>,
}

/// What the file system keeps about a file beyond its stamp. A file whose stamp is that of an earlier one, and whose
/// trace is not, may be another file: replaced within the same second, or with its time set back. It may as well have
/// got other rights, or its file system may have been mounted anew. So a trace decides nothing, it raises suspicion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace {
    /// When anything about the file changed last, nanoseconds since the Unix epoch.
    pub ctime_ns: i64,
    /// Its number on the file system.
    pub inode: u64,
}

impl Trace {
    /// The trace in what the file system told; `None` where the system has no such thing.
    pub(crate) fn of(metadata: &Metadata) -> Option<Self> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let ctime_ns = metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec());
            Some(Self { ctime_ns, inode: metadata.ino() })
        }
        #[cfg(not(unix))]
        {
            let _ = metadata;
            None
        }
    }
}

impl Stamp {
    /// The stamp in what the file system told.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let mtime_ns = metadata.modified().ok().map(nanoseconds);
        Self { size: metadata.len(), mtime_ns }
    }

    /// The modification time in seconds since the Unix epoch, as chunk messages carry it.
    pub(crate) fn mtime_seconds(&self) -> Option<f64> {
        let mtime_ns = self.mtime_ns?;
        let seconds = mtime_ns.div_euclid(1_000_000_000);
        let rest = mtime_ns.rem_euclid(1_000_000_000);
        Some(seconds as f64 + 1e-9 * rest as f64)
    }
}

fn nanoseconds(time: SystemTime) -> i64 {
    let whole = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => whole(after),
        Err(before) => -whole(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_what_the_nanoseconds_say() {
        for (mtime_ns, seconds) in
            [(Some(1_500_000_000), Some(1.5)), (Some(-500_000_000), Some(-0.5)), (Some(0), Some(0.0)), (None, None)]
        {
            assert_eq!(Stamp { size: 0, mtime_ns }.mtime_seconds(), seconds);
        }
    }
}
