//! A file of slots that are overwritten in place, for what changes with every file and matters only after the process
//! has died.
//!
//! ```text
//! file   slot 0 (the head), slot 1, slot 2, …
//! slot   256 bytes: UTF-8 text, filled up with spaces, the last byte is "\n"; only spaces where it is empty
//! ```
//! The operating system has a slot when `set` returns, and nothing is synced: it survives the process, not the host.
//! After an end of the host a slot may hold anything.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use super::aside;

/// Bytes of a slot. None lies on two pages, so that none is written in part.
const SLOT: usize = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Slots {
    file: File,
}

impl Slots {
    /// The texts of all slots, the head first. None where there is no file; a slot that is no text is empty.
    pub(crate) fn read(path: &Path) -> io::Result<Vec<String>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let text = |slot: &[u8]| str::from_utf8(slot).unwrap_or_default().trim_end().to_owned();
        Ok(bytes.chunks(SLOT).map(text).collect())
    }

    /// Makes the file anew, with this head and so many empty slots behind it.
    pub(crate) fn make(path: &Path, head: &str, slots: usize) -> io::Result<Self> {
        aside::replace(path, |file| {
            file.write_all(&slot(head))?;
            (0..slots).try_for_each(|_| file.write_all(&slot("")))
        })?;
        Ok(Self { file: OpenOptions::new().write(true).open(path)? })
    }

    /// Puts a text into a slot; what has no room is cut off.
    pub(crate) fn set(&self, number: usize, text: &str) -> io::Result<()> {
        write_at(&self.file, &slot(text), (number * SLOT) as u64)
    }
}

fn slot(text: &str) -> [u8; SLOT] {
    let mut slot = [b' '; SLOT];
    let text = &text[..text.floor_char_boundary(SLOT - 1)];
    slot[..text.len()].copy_from_slice(text.as_bytes());
    slot[SLOT - 1] = b'\n';
    slot
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match std::os::windows::fs::FileExt::seek_write(file, &bytes[written..], offset + written as u64)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            more => written += more,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_what_was_put_there_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slots");
        assert!(Slots::read(&path).unwrap().is_empty());
        let slots = Slots::make(&path, "head", 2).unwrap();
        slots.set(1, &"ä".repeat(200)).unwrap();
        slots.set(2, "two").unwrap();
        slots.set(4, "behind the end").unwrap();
        slots.set(2, "").unwrap();
        let read = Slots::read(&path).unwrap();
        assert_eq!(read[1], "ä".repeat(127), "cut where a character begins");
        assert_eq!([&read[0], &read[2], &read[4]], ["head", "", "behind the end"]);
        assert_eq!(read[3].trim_matches('\0'), "");
        drop(Slots::make(&path, "next", 1).unwrap());
        assert_eq!(Slots::read(&path).unwrap(), ["next", ""]);
    }
}
