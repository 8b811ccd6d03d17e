//! What a file system says about a file without reading it.

use std::fs::Metadata;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Size and modification time of a file at one moment. Two equal stamps mean "not changed", as far as
/// the file system can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds since the Unix epoch; `None` where the file system has none.
    pub mtime_ns: Option<i64>,
}

impl Stamp {
    /// The stamp in what the file system told.
    pub fn of(metadata: &Metadata) -> Self {
        let mtime_ns = metadata.modified().ok().map(nanoseconds);
        Self { size: metadata.len(), mtime_ns }
    }

    /// The modification time in seconds since the Unix epoch, as chunk messages carry it.
    pub fn mtime_seconds(&self) -> Option<f64> {
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
