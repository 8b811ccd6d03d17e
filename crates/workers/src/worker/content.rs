//! Where a worker finds the content of a file.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use datamill::assemble::DownloadDataFile;
use datamill::process::{Call, ProcessingError};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use serde::Serialize;

use super::frames::Wanted;
use crate::keeper::CONTENT;

/// Content up to this size is in the frame. That is what a pipe holds.
pub(super) const IN_FRAME: u64 = 64 << 10;
/// Content up to this size is in memory that datamill and the worker share; what is larger is a file.
const SHARED: u64 = 64 << 20;
/// As much memory stays for the next file.
const STAYS: u64 = 16 << 20;

/// Where the content is, in the header of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    /// Behind the header: so many bytes.
    Bytes(u64),
    /// At a path that the worker can open.
    Path(String),
}

/// Memory that datamill writes and workers read. It is gone when nobody has it open, however they end.
#[derive(Debug)]
pub(super) struct Shared {
    file: File,
    size: u64,
}

impl Shared {
    pub(super) fn make() -> io::Result<Self> {
        Ok(Self { file: memfd_create("datamill", MemfdFlags::CLOEXEC)?.into(), size: 0 })
    }

    /// A worker's end, which cannot be written.
    pub(super) fn lend(&self) -> io::Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        Ok(open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Puts content there, in the place of what was there.
    pub(super) fn put(&mut self, content: &[u8]) -> io::Result<()> {
        let size = content.len() as u64;
        if size < self.size {
            self.file.set_len(size)?;
        }
        self.size = size;
        self.file.rewind()?;
        self.file.write_all(content)
    }

    /// The content is not needed any more.
    pub(super) fn clear(&mut self) {
        if self.size > STAYS && self.file.set_len(0).is_ok() {
            self.size = 0;
        }
    }
}

/// Finds a place for the content of a file, and what of it belongs into the frame. `shared` is `None` while another file is
/// there.
pub(super) fn place<'f>(
    file: &'f DownloadDataFile,
    call: &Call<'_>,
    wanted: Wanted,
    shared: Option<&mut Shared>,
) -> Result<(Place, &'f [u8]), ProcessingError> {
    if wanted == Wanted::Path || file.size() > SHARED || file.path().is_some() {
        return Ok((Place::Path(text(call.path(file)?)?), &[]));
    }
    match shared {
        _ if file.size() <= IN_FRAME => Ok((Place::Bytes(file.size()), file.bytes()?)),
        Some(shared) => {
            let written = shared.put(file.bytes()?);
            written.map_err(|error| {
                ProcessingError::not_available(format_args!("the content cannot be put into shared memory: {error}"))
            })?;
            Ok((Place::Path(shared_path()), &[]))
        }
        None => Ok((Place::Path(text(call.path(file)?)?), &[])),
    }
}

/// Where the worker has the shared memory.
pub(super) fn shared_path() -> String {
    format!("/dev/fd/{CONTENT}")
}

fn text(path: &Path) -> Result<String, ProcessingError> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| "the path of the output folder is not UTF-8, and a worker cannot be told of it".into())
}

impl AsFd for Shared {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn shared_memory_has_the_last_content_and_no_more_and_only_one_side_writes() {
        let mut shared = Shared::make().unwrap();
        let theirs = shared.lend().unwrap();
        let path = format!("/proc/self/fd/{}", theirs.as_raw_fd());
        let read = || std::fs::read(&path).unwrap();
        for content in [&b"a longer text"[..], b"short", b"", b"a longer text"] {
            shared.put(content).unwrap();
            assert_eq!(read(), content);
        }
        assert!(rustix::io::write(&theirs, b"x").is_err());
        shared.put(&vec![1; STAYS as usize + 1]).unwrap();
        shared.clear();
        let mut rest = Vec::new();
        File::from(theirs).read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "the memory of what is large is given back");
    }
}
