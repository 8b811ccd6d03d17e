//! One file becomes chunks, and never chunks of two versions.
//!
//! ```text
//!            first pass: `cut`                        second pass: `Pieces`
//! file ──▶ block ─┬─▶ SHA-512 of the file    ──▶ chunk ──▶ XXH3 == that of the first pass? ──▶ piece
//!                 └─▶ SHA-512 and XXH3              │ no: Changed
//!                     of each chunk                 └ before the last chunk also: same size and time?
//!          size and time the same before and after, and the bytes end where the size says
//! ```
//!
//! All hashes of the first pass are taken of the same bytes in memory. What is handed out is
//! therefore, chunk by chunk, what the hash of the file was taken of. A file that is written to while
//! it is read ends in [`CutError::Changed`] before its last chunk. Files are read through a handle and
//! not mapped: a file that is truncated gives an error and not a signal.
//!
//! The size that the file system tells is only a claim. Files in `/proc` have bytes and the size 0, those in
//! `/sys` claim a page, and mounts of other storage may err. Such a file is told from one that grows or
//! shrinks by its stamp, which stays the same, and ends in [`CutError::Size`].
//!
//! The second pass compares by 128 bits of XXH3, which takes a tenth of SHA-512's time. It tells any two
//! versions of a chunk apart that were not made to look alike; those that were would be refused by
//! the readers, which check the file's SHA-512.
//!
//! Memory: a few blocks of one chunk or 1 MiB, whichever is larger, and 80 bytes per chunk. The bytes of a file that is
//! one chunk are kept for the comparison.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use crossbeam_channel::bounded;
use datamill_wire::{MAX_CHUNKS, Sha512Hasher, sha512};
use xxhash_rust::xxh3::xxh3_128;

use super::stamp::{Stamp, Trace};

/// Bytes that are read at a time in the first pass, unless a chunk is larger.
const BLOCK: usize = 1 << 20;

/// From this size on the two hashes of the first pass are taken on two threads.
const TWO_THREADS_FROM: u64 = 4 << 20;

/// Blocks on their way between the two threads of the first pass.
const BLOCKS_AHEAD: usize = 2;

/// Most chunks of one file: their hashes take 320 MiB of memory.
const MOST_CHUNKS: u64 = 1 << 22;

/// What the first pass found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    /// Size and modification time while the file was read.
    pub stamp: Stamp,
    /// What else the file system told before it was read.
    pub trace: Option<Trace>,
    /// SHA-512 of all bytes.
    pub sha512: [u8; 64],
    chunk_size: usize,
    chunks: Vec<ChunkHash>,
    /// All bytes, where they are one chunk.
    content: Option<Vec<u8>>,
}

/// What is known of a chunk after the first pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ChunkHash {
    sha512: [u8; 64],
    /// Of the same bytes: the second pass compares by it.
    xxh3: u128,
}

impl ChunkHash {
    fn of(data: &[u8]) -> Self {
        Self { sha512: sha512(data), xxh3: xxh3_128(data) }
    }
}

impl Version {
    /// Number of chunks, at least 1: an empty file is one empty chunk.
    pub(super) fn total(&self) -> u32 {
        self.chunks.len() as u32
    }

    /// The second pass, from the chunk with this number (counted from 0) on. Begin it at once after the first pass of the same
    /// file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn pieces<'a>(&'a self, file: &'a mut File, from: u32) -> Result<Pieces<'a>, CutError> {
        let offset = u64::from(from) * self.chunk_size as u64;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Pieces { version: self, file, next: from as usize, offset, buffer: Vec::new() })
    }
}

/// One chunk of the second pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    /// Number of the chunk, from 1.
    pub index: u32,
    /// Where its bytes are in the file.
    pub offset: u64,
    /// SHA-512 of its bytes.
    pub sha512: &'a [u8; 64],
    /// Its bytes.
    pub data: &'a [u8],
}

/// The second pass over a file: the chunks that are what they were.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    version: &'a Version,
    file: &'a mut File,
    next: usize,
    offset: u64,
    buffer: Vec<u8>,
}

impl Pieces<'_> {
    /// The next chunk; `None` behind the last one, which is handed out only if size and time are what they were.
    ///
    /// # Errors
    /// [`CutError::Changed`] at the first difference; what else [`CutError`] names.
    pub(super) fn next(&mut self) -> Result<Option<Piece<'_>>, CutError> {
        let version = self.version;
        let Some(before) = version.chunks.get(self.next) else {
            return Ok(None);
        };
        let length = (version.stamp.size - self.offset).min(version.chunk_size as u64) as usize;
        self.buffer.resize(length, 0);
        self.file.read_exact(&mut self.buffer)?;
        let is_same = match &version.content {
            Some(content) => *content == self.buffer,
            None => xxh3_128(&self.buffer) == before.xxh3,
        };
        if !is_same {
            return Err(CutError::Changed);
        }
        let offset = self.offset;
        self.next += 1;
        self.offset += length as u64;
        if self.next == version.chunks.len() {
            check(self.file, version.stamp)?;
        }
        Ok(Some(Piece { index: self.next as u32, offset, sha512: &before.sha512, data: &self.buffer }))
    }
}

/// Why a file could not be cut.
#[derive(Debug, thiserror::Error)]
pub(super) enum CutError {
    /// Other bytes, another size or another time than before: this version is gone.
    #[error("the file changed while it was read")]
    Changed,
    /// The bytes do not end where the size says, and the file did not change.
    #[error(
        "its size is given as `{}` bytes, but {readable} can be read: copy it to a file system that tells true sizes, \
        and send the copy", stamp.size
    )]
    Size {
        /// What the file system tells.
        stamp: Stamp,
        /// What can be read, in words.
        readable: String,
    },
    /// The handle is not that of a regular file.
    #[error("it is not a regular file")]
    NotAFile,
    /// Too many chunks for one file.
    #[error("it would be cut into `{chunks}` chunks, at most `{most}` are possible: use a larger `--chunk_size`")]
    TooManyChunks {
        /// Chunks that there would be.
        chunks: u64,
        /// Chunks that there may be.
        most: u64,
    },
    /// No more was wanted.
    #[error("the rest of the file was not wanted")]
    Ended,
    /// Reading failed.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
}

impl From<io::Error> for CutError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The file is shorter than its size was.
            io::ErrorKind::UnexpectedEof => Self::Changed,
            _ => Self::Read(error),
        }
    }
}

/// The first pass: reads the file from its start to its end, and takes the hashes of all and of each chunk of
/// `chunk_size` bytes, which must not be 0.
///
/// # Errors
/// [`CutError::Changed`] where size or time are others at the end than at the start,
/// [`CutError::Size`] where they are the same and the end is not where the size says; what else
/// [`CutError`] names, [`CutError::Ended`] where `go_on` says no.
pub(super) fn cut(file: &mut File, chunk_size: usize, go_on: &dyn Fn() -> bool) -> Result<Version, CutError> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(CutError::NotAFile);
    }
    let stamp = Stamp::of(&metadata);
    let chunks = stamp.size.div_ceil(chunk_size as u64).max(1);
    let most = MOST_CHUNKS.min(u64::from(MAX_CHUNKS));
    if chunks > most {
        return Err(CutError::TooManyChunks { chunks, most });
    }
    file.seek(SeekFrom::Start(0))?;
    let hashed = match hash(file, stamp.size, chunk_size, go_on) {
        // The bytes ended before the size did.
        Err(CutError::Changed) => {
            check(file, stamp)?;
            let readable = format!("only `{}`", file.stream_position()?);
            return Err(CutError::Size { stamp, readable });
        }
        hashed => hashed?,
    };
    let goes_on = is_more(file)?;
    check(file, stamp)?;
    if goes_on {
        return Err(CutError::Size { stamp, readable: "more".to_owned() });
    }
    let Hashed { sha512, chunks, content } = hashed;
    Ok(Version { stamp, trace: Trace::of(&metadata), sha512, chunk_size, chunks, content })
}

/// What the bytes of a file give.
#[derive(Debug, PartialEq, Eq)]
struct Hashed {
    sha512: [u8; 64],
    chunks: Vec<ChunkHash>,
    content: Option<Vec<u8>>,
}

fn hash(file: &mut File, size: u64, chunk_size: usize, go_on: &dyn Fn() -> bool) -> Result<Hashed, CutError> {
    if size <= chunk_size as u64 {
        let mut content = vec![0; size as usize];
        file.read_exact(&mut content)?;
        let chunk = ChunkHash::of(&content);
        Ok(Hashed { sha512: chunk.sha512, chunks: vec![chunk], content: Some(content) })
    } else if size < TWO_THREADS_FROM {
        hash_here(file, size, chunk_size, go_on)
    } else {
        hash_on_two_threads(file, size, chunk_size, go_on)
    }
}

fn check(file: &File, before: Stamp) -> Result<(), CutError> {
    if Stamp::of(&file.metadata()?) == before { Ok(()) } else { Err(CutError::Changed) }
}

/// Bytes of a block: whole chunks, at least one.
fn block(chunk_size: usize) -> usize {
    chunk_size * (BLOCK / chunk_size).max(1)
}

fn hash_here(file: &mut File, size: u64, chunk_size: usize, go_on: &dyn Fn() -> bool) -> Result<Hashed, CutError> {
    let block = block(chunk_size);
    let (mut chunks, mut bytes) = (Vec::new(), Vec::new());
    let mut whole = Sha512Hasher::new();
    let mut left = size;
    while left > 0 {
        bytes.resize(left.min(block as u64) as usize, 0);
        file.read_exact(&mut bytes)?;
        whole.update(&bytes);
        chunks.extend(bytes.chunks(chunk_size).map(ChunkHash::of));
        left -= bytes.len() as u64;
        if !go_on() {
            return Err(CutError::Ended);
        }
    }
    Ok(Hashed { sha512: whole.finish(), chunks, content: None })
}

/// This thread reads and hashes the file, the other one hashes the chunks of the same blocks.
fn hash_on_two_threads(
    file: &mut File,
    size: u64,
    chunk_size: usize,
    go_on: &dyn Fn() -> bool,
) -> Result<Hashed, CutError> {
    let block = block(chunk_size);
    let (full, blocks) = bounded::<Arc<Vec<u8>>>(BLOCKS_AHEAD);
    std::thread::scope(|scope| {
        let other = scope.spawn(move || {
            let mut chunks = Vec::new();
            for block in blocks {
                chunks.extend(block.chunks(chunk_size).map(ChunkHash::of));
            }
            chunks
        });
        let mut whole = Sha512Hasher::new();
        let mut left = size;
        // One block is read here while the other thread holds one and the channel the rest.
        let mut used: Vec<Arc<Vec<u8>>> = Vec::with_capacity(BLOCKS_AHEAD + 2);
        while left > 0 {
            let length = left.min(block as u64) as usize;
            let free = used.iter_mut().position(|buffer| Arc::get_mut(buffer).is_some());
            let mut buffer = free.map_or_else(Arc::default, |at| used.swap_remove(at));
            let bytes = Arc::make_mut(&mut buffer);
            bytes.resize(length, 0);
            file.read_exact(bytes)?;
            // The other thread ends early only by a panic, which the join below reports.
            let _ = full.send(Arc::clone(&buffer));
            whole.update(&buffer);
            used.push(buffer);
            left -= length as u64;
            if !go_on() {
                return Err(CutError::Ended);
            }
        }
        drop(full);
        match other.join() {
            Ok(chunks) => Ok(Hashed { sha512: whole.finish(), chunks, content: None }),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Whether a byte follows where the file has been read to.
fn is_more(file: &mut File) -> io::Result<bool> {
    loop {
        match file.read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return Ok(read? > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file_with(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    fn pieces_of(bytes: &[u8], chunk_size: usize) -> (Version, Vec<(u64, Vec<u8>)>) {
        let mut file = file_with(bytes);
        let version = cut(&mut file, chunk_size, &|| true).unwrap();
        let mut found = Vec::new();
        let mut pieces = version.pieces(&mut file, 0).unwrap();
        while let Some(piece) = pieces.next().unwrap() {
            assert_eq!(*piece.sha512, sha512(piece.data));
            assert_eq!(piece.index as usize, found.len() + 1);
            found.push((piece.offset, piece.data.to_vec()));
        }
        (version, found)
    }

    #[test]
    fn the_chunks_of_every_size_give_the_file() {
        for (size, chunk_size) in [
            (0, 8),
            (1, 8),
            (7, 8),
            (8, 8),
            (9, 8),
            (64, 8),
            (65, 8),
            (5, 1),
            (6 << 20, 1 << 19),
            ((4 << 20) + 1, 1 << 10),
        ] {
            let bytes = pattern(size);
            let (version, pieces) = pieces_of(&bytes, chunk_size);
            assert_eq!(version.sha512, sha512(&bytes), "{size} in {chunk_size}");
            assert_eq!(version.total() as usize, size.div_ceil(chunk_size).max(1));
            assert_eq!(pieces.len(), version.total() as usize);
            let mut rebuilt = Vec::new();
            for (offset, data) in pieces {
                assert_eq!(offset, rebuilt.len() as u64);
                assert!(data.len() <= chunk_size);
                rebuilt.extend(data);
            }
            assert_eq!(rebuilt, bytes);
        }
    }

    #[test]
    fn both_ways_of_the_first_pass_find_the_same() {
        let mut file = file_with(&pattern(3_000_001));
        file.rewind().unwrap();
        let here = hash_here(&mut file, 3_000_001, 1 << 12, &|| true).unwrap();
        file.rewind().unwrap();
        let there = hash_on_two_threads(&mut file, 3_000_001, 1 << 12, &|| true).unwrap();
        assert_eq!(here, there);
    }

    fn pieces_until_changed(mut between: impl FnMut(&mut File, u32), size: usize) -> usize {
        let mut file = file_with(&pattern(size));
        let mut writer = file.try_clone().unwrap();
        let version = cut(&mut file, 8, &|| true).unwrap();
        // The two handles share one position: each write puts it back.
        between(&mut writer, 0);
        let mut found = 0;
        let mut pieces = version.pieces(&mut file, 0).unwrap();
        loop {
            match pieces.next() {
                Ok(Some(piece)) => {
                    found += 1;
                    let position = writer.stream_position().unwrap();
                    between(&mut writer, piece.index);
                    writer.seek(SeekFrom::Start(position)).unwrap();
                }
                Err(CutError::Changed) => return found,
                other => panic!("{other:?}"),
            }
        }
    }

    fn write_at(file: &mut File, at: u64, bytes: &[u8]) {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(bytes).unwrap();
    }

    #[test]
    fn a_file_that_is_rewritten_between_the_passes_yields_nothing() {
        let rewrite = |file: &mut File, index| {
            if index == 0 {
                write_at(file, 0, &[0xff; 40]);
            }
        };
        assert_eq!(pieces_until_changed(rewrite, 40), 0);
        assert_eq!(pieces_until_changed(rewrite, 5), 0);
    }

    #[test]
    fn a_chunk_that_is_rewritten_during_the_second_pass_ends_it_there() {
        let rewrite = |file: &mut File, index| {
            if index == 2 {
                write_at(file, 24, &[0xff; 8]);
            }
        };
        assert_eq!(pieces_until_changed(rewrite, 40), 3);
    }

    #[test]
    fn a_file_that_grows_never_gets_its_last_chunk_out() {
        let grow = |file: &mut File, index| {
            if index == 1 {
                file.seek(SeekFrom::End(0)).unwrap();
                file.write_all(b"more").unwrap();
            }
        };
        assert_eq!(pieces_until_changed(grow, 40), 4);
    }

    #[test]
    fn a_file_that_is_truncated_ends_where_its_bytes_end() {
        let truncate = |file: &mut File, index| {
            if index == 1 {
                file.set_len(16).unwrap();
            }
        };
        assert_eq!(pieces_until_changed(truncate, 40), 2);
    }

    // No file system can be told to lie, but the kernel's own do: a file in /proc has bytes and the size 0, one in
    // /sys claims a page and has a few bytes.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_size_that_is_not_that_of_the_bytes_is_told_from_a_change() {
        for (path, claimed, words) in [("/proc/cpuinfo", 0, "more"), ("/sys/class/net/lo/address", 4096, "only `18`")] {
            for chunk_size in [8, 1 << 20] {
                let mut file = File::open(path).unwrap();
                match cut(&mut file, chunk_size, &|| true).unwrap_err() {
                    CutError::Size { stamp, readable } => assert_eq!((stamp.size, &*readable), (claimed, words)),
                    other => panic!("{path} in {chunk_size}: {other}"),
                }
            }
        }
    }

    #[test]
    fn a_file_that_grows_or_shrinks_during_the_first_pass_has_changed() {
        for size in [5 << 20, 40] {
            let mut file = file_with(&pattern(6 << 20));
            let writer = file.try_clone().unwrap();
            let result = cut(&mut file, 1 << 12, &|| {
                writer.set_len(size).unwrap();
                true
            });
            assert!(matches!(result, Err(CutError::Changed)), "{size}: {result:?}");
        }
    }

    #[test]
    fn too_many_chunks_are_refused_with_advice() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(MOST_CHUNKS + 1).unwrap();
        let error = cut(&mut file, 1, &|| true).unwrap_err();
        assert!(error.to_string().contains("--chunk_size"), "{error}");
    }

    #[test]
    fn the_second_pass_can_start_in_the_middle() {
        let bytes = pattern(50);
        let mut file = file_with(&bytes);
        let version = cut(&mut file, 8, &|| true).unwrap();
        let (mut rest, mut pieces) = (Vec::new(), version.pieces(&mut file, 3).unwrap());
        while let Some(piece) = pieces.next().unwrap() {
            rest.extend_from_slice(piece.data);
        }
        assert_eq!(rest, bytes[24..]);
    }
}
