//! The files that are measured with, the same at each run.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;

/// A tree of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// 20,000 files of 4 KiB in 200 folders
    Small,
    /// 16 files of 32 MiB
    Large16,
    /// 64 files of 32 MiB
    Large64,
    /// One file of 2 GiB
    Huge,
    /// 1,000 files from 100 bytes to 8 MiB, 0.7 GB in all
    Mixed,
    /// 2,000 files of 4 KiB
    Small2k,
    /// 20,000 files of 4 KiB
    Small20k,
    /// 200,000 files of 4 KiB
    Small200k,
    /// 160 files of 32 MiB: 5 GiB
    Large160,
}

impl Workload {
    /// Its name, as the command line takes it.
    pub(crate) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Relative path and size of each file.
    pub(crate) fn files(self) -> Vec<(String, usize)> {
        let small =
            |count: usize| (0..count).map(|i| (format!("run_{:03}/scan_{i:06}.dat", i % 200), 4 << 10)).collect();
        let large = |count: usize| (0..count).map(|i| (format!("image_{i:03}.raw"), 32 << 20)).collect();
        match self {
            Self::Small | Self::Small20k => small(20_000),
            Self::Small2k => small(2_000),
            Self::Small200k => small(200_000),
            Self::Large16 => large(16),
            Self::Large64 => large(64),
            Self::Large160 => large(160),
            Self::Huge => vec![("huge.raw".to_owned(), 2 << 30)],
            Self::Mixed => {
                // sizes grow by a constant factor, so that each order of magnitude has as many files
                let size = |i: usize| (100.0 * (f64::from(8 << 20) / 100.0).powf(i as f64 / 999.0)) as usize;
                (0..1000).map(|i| (format!("day_{}/sample {i}.bin", i % 7), size(i))).collect()
            }
        }
    }

    /// Writes the files into a folder; number of bytes.
    pub(crate) fn write(self, folder: &Path) -> Result<u64> {
        let mut total = 0;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for (path, size) in self.files() {
            let path = folder.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
            let mut left = size;
            while left > 0 {
                // xorshift64: bytes that cannot be compressed
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let bytes = state.to_le_bytes();
                let count = left.min(bytes.len());
                file.write_all(&bytes[..count])?;
                left -= count;
            }
            file.flush()?;
            total += size as u64;
        }
        Ok(total)
    }

    /// Number of messages at this size of chunks.
    pub(crate) fn messages(self, chunk_size: usize) -> u64 {
        self.files().iter().map(|(_, size)| size.div_ceil(chunk_size).max(1) as u64).sum()
    }
}
