//! The bytes of an instance while it fills up: in memory, or in a file once it was spilled.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempPath;

use super::ahead::{Growing, HashAhead, Hashed};
use super::budget::{Budget, Reservation};
use super::follow::{Follower, Growth};
use super::memory::Memory;

/// The folder that spilled files are in. It belongs to one program at a time.
#[derive(Debug, Clone)]
pub(crate) struct SpillFolder(PathBuf);

impl SpillFolder {
    /// Makes the folder and empties it: what is in it was left by a program that was killed.
    pub(crate) fn prepare(folder: PathBuf) -> io::Result<Self> {
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    pub(crate) fn create(&self) -> io::Result<TempPath> {
        let mut file = tempfile::Builder::new();
        // what the user's umask leaves of this: the file may become one that others read
        #[cfg(unix)]
        file.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        Ok(file.tempfile_in(&self.0)?.into_temp_path())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// Bytes that arrived, in any order.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// Number of chunks of the file: with the size of the first one, what the file will take.
    total: u32,
    prefix: Memory,
    beyond: BTreeMap<u64, Box<[u8]>>,
    bytes_beyond: usize,
    /// Open only while bytes are written: very many files may be spilled at a time.
    file: Option<TempPath>,
    /// Bytes that went there.
    written: usize,
    growing: Growing,
    reservation: Reservation,
}

/// The bytes of a whole file.
#[derive(Debug)]
pub(crate) enum Content {
    Memory(Memory, Hashed),
    Disk(TempPath, Hashed),
}

impl Buffer {
    /// A buffer for a file of so many chunks, whose bytes are hashed as they come where there is a thread for it.
    pub(crate) fn new(total: u32, budget: &Arc<Budget>, ahead: Option<&HashAhead>) -> Self {
        Self {
            total,
            prefix: Memory::default(),
            beyond: BTreeMap::new(),
            bytes_beyond: 0,
            file: None,
            written: 0,
            growing: Growing::new(ahead),
            reservation: Reservation::filling(budget),
        }
    }

    /// Takes bytes in. They are kept in any case: after an error they are in memory, and
    /// [`Buffer::settle`] writes them later.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(file) = &self.file {
            if self.beyond.is_empty() {
                match write_at(file, offset, data) {
                    Ok(()) => {
                        self.growing.written(file, offset, data.len());
                        self.written += data.len();
                        self.count_disk();
                        return Ok(());
                    }
                    Err(error) => {
                        self.keep_beyond(offset, data);
                        return Err(error);
                    }
                }
            }
            self.keep_beyond(offset, data);
            return self.settle();
        }
        if offset != self.prefix.len() as u64 {
            self.keep_beyond(offset, data);
            return Ok(());
        }
        if offset == 0 {
            self.prefix = Memory::for_file_of(data.len().saturating_mul(self.total as usize));
        }
        self.prefix.extend_from_slice(data);
        self.growing.kept(offset, data);
        while let Some(piece) = self.beyond.remove(&(self.prefix.len() as u64)) {
            self.growing.kept(self.prefix.len() as u64, &piece);
            self.prefix.extend_from_slice(&piece);
            self.bytes_beyond -= piece.len();
        }
        self.reservation.hold(self.prefix.in_use() + self.bytes_beyond);
        Ok(())
    }

    fn keep_beyond(&mut self, offset: u64, data: &[u8]) {
        if !data.is_empty() {
            self.beyond.insert(offset, data.into());
            self.bytes_beyond += data.len();
            self.reservation.hold(self.prefix.in_use() + self.bytes_beyond);
        }
    }

    /// Bytes in memory.
    pub(crate) fn in_memory(&self) -> usize {
        self.reservation.bytes()
    }

    /// Bytes in the file.
    pub(crate) fn on_disk(&self) -> usize {
        self.reservation.on_disk()
    }

    /// Moves what is in memory to a file of the folder, where further bytes go as well.
    pub(crate) fn spill(&mut self, folder: &SpillFolder) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(folder.create()?);
        }
        self.settle()
    }

    /// Opens what is on disk.
    pub(crate) fn open(&self) -> io::Result<Growth> {
        let path = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(Growth { file: File::options().read(true).write(true).open(path)?, hashed: self.growing.hashed().clone() })
    }

    fn count_disk(&mut self) {
        let gone = usize::try_from(self.growing.hashed().gone()).unwrap_or(usize::MAX);
        self.reservation.hold_on_disk(self.written.saturating_sub(gone));
    }

    /// Whether nothing is on disk yet.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.file.is_none()
    }

    /// Tells the follower from here on how far the file on disk is.
    pub(crate) fn follow(&mut self, follower: Box<dyn Follower>) {
        self.growing.follow(follower);
    }

    /// Whoever follows the file.
    pub(crate) fn take_follower(&mut self) -> Option<Box<dyn Follower>> {
        self.growing.take_follower()
    }

    /// Whether bytes are in memory that should be in the file.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.file.is_some() && self.in_memory() > 0
    }

    /// Writes to the file what is in memory, where there is a file.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        if !self.prefix.is_empty() {
            write_at(file, 0, &self.prefix)?;
            self.growing.written(file, 0, self.prefix.len());
            self.written += self.prefix.len();
            self.prefix = Memory::default();
        }
        while let Some((offset, piece)) = self.beyond.first_key_value() {
            write_at(file, *offset, piece)?;
            self.growing.written(file, *offset, piece.len());
            self.written += piece.len();
            self.bytes_beyond -= piece.len();
            self.beyond.pop_first();
        }
        self.count_disk();
        self.reservation.release();
        Ok(())
    }

    /// The whole file. The bytes MUST be without a hole and settled.
    pub(crate) fn finish(self) -> (Content, Reservation) {
        let content = match self.file {
            Some(file) => Content::Disk(file, self.growing.into_hashed()),
            None => Content::Memory(self.prefix, self.growing.into_hashed()),
        };
        (content, self.reservation.into_whole())
    }
}

/// Writes at this place of a file, which is open only meanwhile.
pub(crate) fn write_at(path: &Path, offset: u64, data: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(data)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_in_any_order_make_the_file_with_and_without_a_spill(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 1..12),
            order in any::<prop::sample::Index>(),
            spill_at in proptest::option::of(0usize..12),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let spill = SpillFolder::prepare(folder.path().join("spill")).unwrap();
            let budget = Arc::new(Budget::default());
            let mut offset = 0;
            let mut placed: Vec<(u64, Vec<u8>)> = Vec::new();
            for piece in &pieces {
                placed.push((offset, piece.clone()));
                offset += piece.len() as u64;
            }
            let turn = order.index(placed.len());
            placed.rotate_left(turn);
            let mut buffer = Buffer::new(pieces.len() as u32, &budget, None);
            for (i, (offset, piece)) in placed.iter().enumerate() {
                if spill_at == Some(i) {
                    buffer.spill(&spill).unwrap();
                    prop_assert_eq!(budget.filling(), 0);
                    let before: usize = placed[..i].iter().map(|(_, piece)| piece.len()).sum();
                    prop_assert_eq!(budget.filling_on_disk(), before);
                }
                buffer.write(*offset, piece).unwrap();
            }
            let (content, reservation) = buffer.finish();
            let bytes = match content {
                Content::Memory(bytes, _) => {
                    prop_assert_eq!(budget.whole(), bytes.len());
                    bytes.to_vec()
                }
                Content::Disk(path, _) => std::fs::read(&path).unwrap(),
            };
            prop_assert_eq!(bytes, pieces.concat());
            drop(reservation);
            prop_assert_eq!(budget.filling() + budget.whole(), 0);
            prop_assert_eq!(budget.filling_on_disk() + budget.whole_on_disk(), 0);
        }
    }

    #[test]
    fn a_spill_folder_is_emptied_when_it_is_prepared() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spill");
        let spill = SpillFolder::prepare(path.clone()).unwrap();
        std::fs::write(spill.path().join("left over"), "x").unwrap();
        SpillFolder::prepare(path.clone()).unwrap();
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
    }
}
