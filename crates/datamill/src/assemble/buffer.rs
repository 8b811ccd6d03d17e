//! The bytes of an instance while it fills up: in memory, or in a file once it was spilled.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempPath;

use super::ahead::{Growing, HashAhead, Hashed};
use super::budget::{Budget, Reservation};
use super::follow::{Follower, Stream, Taking};
use super::memory::Memory;

/// Where files of some sizes go at once.
pub(crate) struct Disk {
    pub(super) bytes: RangeInclusive<usize>,
    pub(super) folder: SpillFolder,
}

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
        #[cfg_attr(not(unix), expect(unused_mut, reason = "there is no umask"))]
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
    /// Whoever takes the file in parts, or may do so.
    follower: Option<Box<dyn Follower>>,
    /// Bytes that it may let come before it takes the first part: they are in memory twice then, for a moment.
    most_before: usize,
    /// What of it is taken, where that has begun.
    stream: Option<Stream>,
    reservation: Reservation,
}

/// The bytes of a whole file that nobody has taken.
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
            follower: None,
            most_before: 0,
            stream: None,
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
                        self.count_disk(data.len());
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
        self.begin_to_stream();
        if offset != self.end() {
            self.keep_beyond(offset, data);
            return Ok(());
        }
        if offset == 0 && self.stream.is_none() {
            self.prefix = Memory::for_file_of(data.len().saturating_mul(self.total as usize));
        }
        self.append(data);
        while let Some(piece) = self.beyond.remove(&self.end()) {
            self.append(&piece);
            self.bytes_beyond -= piece.len();
        }
        self.count_memory();
        Ok(())
    }

    /// Hands over what is there, once there is somebody who takes it.
    fn begin_to_stream(&mut self) {
        if self.stream.is_some() {
            return;
        }
        match self.follower.as_ref().map(|follower| follower.taking()) {
            None => {}
            Some(Taking::NotYet) if self.prefix.len() <= self.most_before => {}
            Some(Taking::Parts(size)) if self.bytes_beyond <= size => {
                self.stream = Some(Stream::new(size));
                let before = std::mem::take(&mut self.prefix);
                self.append(&before);
                self.count_memory();
            }
            // it is over, too much has come before it knew, or what it took would be lost at once
            Some(_) => self.follower = None,
        }
    }

    /// Hands over what is there without waiting for more. Answers whether that may still be done later.
    pub(crate) fn offer(&mut self) -> bool {
        self.begin_to_stream();
        self.follower.is_some() && self.stream.is_none()
    }

    /// The next bytes, without a hole before them.
    fn append(&mut self, data: &[u8]) {
        match (&mut self.stream, &self.follower) {
            (Some(stream), Some(follower)) => {
                stream.add(data, follower.as_ref(), |bytes| self.reservation.of_part(bytes));
            }
            (_, follower) => {
                self.prefix.extend_from_slice(data);
                if follower.is_none() {
                    self.growing.kept(&self.prefix);
                }
            }
        }
    }

    /// Where the bytes end that are there without a hole before them.
    fn end(&self) -> u64 {
        self.stream.as_ref().map_or(self.prefix.len() as u64, Stream::end)
    }

    fn keep_beyond(&mut self, offset: u64, data: &[u8]) {
        if !data.is_empty() {
            self.beyond.insert(offset, data.into());
            self.bytes_beyond += data.len();
            self.count_memory();
        }
    }

    fn count_memory(&mut self) {
        let rest = self.stream.as_ref().map_or(0, Stream::rest);
        self.reservation.hold(self.prefix.in_use() + rest + self.bytes_beyond);
    }

    /// Lets somebody take the file, which is in memory, in parts, the first one before so many bytes have come.
    pub(crate) fn follow(&mut self, follower: Box<dyn Follower>, most_before: usize) {
        (self.follower, self.most_before) = (Some(follower), most_before);
    }

    pub(crate) fn is_followed(&self) -> bool {
        self.follower.is_some()
    }

    /// So many of the first bytes were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.stream.as_ref().map_or(0, Stream::taken)
    }

    /// Whether parts of it are taken, so that it cannot go to disk.
    pub(crate) fn is_streaming(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether what is taken of it is lost, or so much waits behind a hole that it must not stay in memory.
    pub(crate) fn is_lost(&self) -> bool {
        let over = || self.follower.as_ref().is_none_or(|follower| follower.taking() == Taking::Over);
        self.stream.as_ref().is_some_and(|stream| self.bytes_beyond > stream.size() || over())
    }

    /// Bytes in memory.
    pub(crate) fn in_memory(&self) -> usize {
        self.reservation.bytes()
    }

    /// Bytes in the file.
    pub(crate) fn on_disk(&self) -> usize {
        self.reservation.on_disk()
    }

    /// Moves what is in memory to a file of the folder, where further bytes go as well. Nobody follows it then. It
    /// MUST NOT be streaming.
    pub(crate) fn spill(&mut self, folder: &SpillFolder) -> io::Result<()> {
        self.follower = None;
        if self.file.is_none() {
            self.file = Some(folder.create()?);
        }
        self.settle()
    }

    fn count_disk(&mut self, more: usize) {
        self.written += more;
        self.reservation.hold_on_disk(self.written);
    }

    /// Whoever follows the file.
    pub(crate) fn take_follower(&mut self) -> Option<Box<dyn Follower>> {
        self.follower.take()
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
        self.count_disk(0);
        self.reservation.release();
        Ok(())
    }

    /// The whole file. The bytes MUST be without a hole and settled.
    pub(crate) fn finish(self) -> (Content, Reservation) {
        let content = match (self.stream, self.file) {
            (Some(stream), _) => Content::Memory(Memory::Heap(stream.into_rest()), Hashed::default()),
            (None, Some(file)) => Content::Disk(file, self.growing.into_hashed()),
            (None, None) => Content::Memory(self.prefix, self.growing.into_hashed()),
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
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

    use datamill_wire::Sha512Hasher;
    use parking_lot::Mutex;
    use proptest::prelude::*;

    use super::super::follow::Part;
    use super::*;

    /// Bytes of a part.
    const PART: usize = 8;

    /// Takes parts once it was asked so many times.
    #[derive(Debug, Default)]
    struct Taker {
        waits: AtomicUsize,
        over: AtomicBool,
        parts: Mutex<Vec<Part>>,
    }

    impl Follower for Arc<Taker> {
        fn taking(&self) -> Taking {
            if self.over.load(Relaxed) {
                return Taking::Over;
            }
            match self.waits.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)) {
                Ok(_) => Taking::NotYet,
                Err(_) => Taking::Parts(PART),
            }
        }

        fn take(&self, part: Part) {
            self.parts.lock().push(part);
        }

        fn hashed(&self) -> Option<Sha512Hasher> {
            None
        }
    }

    /// A buffer with a follower that takes parts at once.
    fn streaming(total: u32, budget: &Arc<Budget>) -> (Buffer, Arc<Taker>) {
        let mut buffer = Buffer::new(total, budget, None);
        let taker = Arc::new(Taker::default());
        buffer.follow(Box::new(Arc::clone(&taker)), 100);
        (buffer, taker)
    }

    #[test]
    fn a_file_is_lost_once_its_follower_is_over_but_only_if_it_has_taken_something() {
        let budget = Arc::new(Budget::default());
        let (mut buffer, taker) = streaming(3, &budget);
        buffer.write(0, &[1; 5]).unwrap();
        assert!(buffer.is_streaming() && !buffer.is_lost());
        taker.over.store(true, Relaxed);
        assert!(buffer.is_lost());

        let (mut buffer, taker) = streaming(3, &budget);
        taker.over.store(true, Relaxed);
        for offset in [0, 5, 10] {
            buffer.write(offset, &[1; 5]).unwrap();
            assert!(!buffer.is_streaming() && !buffer.is_lost());
        }
        assert!(matches!(buffer.finish(), (Content::Memory(bytes, _), _) if *bytes == [1; 15]));
    }

    #[test]
    fn a_file_is_not_followed_when_too_much_has_come_before_the_first_part_is_taken() {
        let budget = Arc::new(Budget::default());
        let (mut buffer, taker) = streaming(4, &budget);
        taker.waits.store(100, Relaxed);
        for offset in [0, 50, 100] {
            buffer.write(offset, &[1; 50]).unwrap();
            assert!(buffer.is_followed());
        }
        buffer.write(150, &[1; 50]).unwrap();
        assert!(!buffer.is_followed() && taker.parts.lock().is_empty());
    }

    #[test]
    fn what_came_before_the_follower_knew_is_taken_without_more_coming() {
        let budget = Arc::new(Budget::default());
        let (mut buffer, taker) = streaming(4, &budget);
        taker.waits.store(2, Relaxed);
        buffer.write(0, &[1; 20]).unwrap();
        assert!(buffer.offer() && taker.parts.lock().is_empty());
        assert!(!buffer.offer());
        assert_eq!((taker.parts.lock().len(), buffer.taken()), (2, 16));
        assert_eq!((budget.filling(), budget.whole()), (4, 16));
        taker.over.store(true, Relaxed);
        assert!(buffer.is_lost() && !buffer.offer());
    }

    #[test]
    fn a_file_is_not_followed_when_much_waits_behind_a_hole_at_the_beginning() {
        let budget = Arc::new(Budget::default());
        let (mut buffer, taker) = streaming(4, &budget);
        taker.waits.store(2, Relaxed);
        buffer.write(0, &[1; 20]).unwrap();
        buffer.write(40, &[3; PART + 1]).unwrap();
        assert!(!buffer.offer() && !buffer.is_followed() && !buffer.is_lost());
        assert!(taker.parts.lock().is_empty());
        assert_eq!(budget.filling(), 20 + PART + 1);
    }

    #[test]
    fn a_stream_does_not_keep_much_behind_a_hole() {
        let budget = Arc::new(Budget::default());
        let (mut buffer, _taker) = streaming(9, &budget);
        buffer.write(0, &[1; 5]).unwrap();
        buffer.write(10, &[1; PART]).unwrap();
        assert!(!buffer.is_lost());
        buffer.write(10 + PART as u64, &[1; 1]).unwrap();
        assert!(buffer.is_lost());
    }

    #[test]
    fn a_file_that_goes_to_disk_before_anything_was_taken_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let spill = SpillFolder::prepare(folder.path().join("spill")).unwrap();
        let budget = Arc::new(Budget::default());
        let (mut buffer, taker) = streaming(2, &budget);
        taker.waits.store(1, Relaxed);
        buffer.write(0, &[1; 20]).unwrap();
        buffer.spill(&spill).unwrap();
        buffer.write(20, &[2; 20]).unwrap();
        assert!(buffer.take_follower().is_none() && taker.parts.lock().is_empty());
        assert_eq!((budget.filling(), budget.filling_on_disk()), (0, 40));
    }

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

    proptest! {
        #[test]
        fn parts_and_the_rest_are_the_file_in_whatever_order_its_pieces_come(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..5), 1..12),
            swaps in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
            waits in 0usize..12,
            offers in proptest::collection::vec(any::<bool>(), 12),
        ) {
            let budget = Arc::new(Budget::default());
            let (mut buffer, taker) = streaming(pieces.len() as u32, &budget);
            taker.waits.store(waits, Relaxed);
            let mut offset = 0;
            let mut placed: Vec<(u64, &[u8])> = Vec::new();
            for piece in &pieces {
                placed.push((offset, piece));
                offset += piece.len() as u64;
            }
            for swap in swaps {
                let at = swap.index(placed.len());
                placed.swap(at.saturating_sub(1), at);
            }
            for ((offset, piece), offer) in placed.into_iter().zip(offers) {
                buffer.write(offset, piece).unwrap();
                if offer {
                    buffer.offer();
                }
                prop_assert!(!buffer.is_lost());
            }
            let taken = buffer.taken();
            let parts: Vec<u8> = taker.parts.lock().iter().flat_map(|part| part.as_ref().to_vec()).collect();
            prop_assert_eq!(parts.len() as u64, taken);
            prop_assert!(taken.is_multiple_of(PART as u64));
            let (content, reservation) = buffer.finish();
            let Content::Memory(rest, _) = content else { panic!("it is not in memory") };
            prop_assert_eq!(budget.whole(), parts.len() + rest.len());
            prop_assert_eq!([&parts, &*rest].concat(), pieces.concat());
            drop((reservation, std::mem::take(&mut *taker.parts.lock())));
            prop_assert_eq!(budget.filling() + budget.whole(), 0);
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
