//! The chunk message: one piece of one version of one file. The value of a record is decoded without
//! copying, and its names, counts and offsets are checked before anybody sees them; [`Chunk::encode`]
//! writes what OpenMSIStream's serializer writes, byte for byte.
//!
//! ```text
//! message = MessagePack array of 10 (9: without file_mtime, as older producers send it; read only), nothing after it
//!   0 filename            str       one part of a path, see `name`
//!   1 file_hash           bin 64    SHA-512 of all selected bytes of the file
//!   2 chunk_hash          bin 64    SHA-512 of data; compared by `verify`, not by `decode`
//!   3 chunk_offset_write  int       place of data in the rebuilt file in bytes; offset + length of data <= 2^43
//!   4 chunk_i             int       1 ..= n_total_chunks
//!   5 n_total_chunks      int       1 ..= 2^31 - 1
//!   6 subdir              str       folder relative to the producer's root, with "/"; "" and "." are the root
//!   7 filename_append     str       goes between stem and suffix of the rebuilt name; no "/", no NUL
//!   8 data                bin       the bytes, fewer than 2^32; none where the file is empty (one chunk, 1 of 1)
//!   9 file_mtime          float     seconds since the epoch; 0.0 = unknown, unless the header `datamill.mtime` tells it
//! rebuilt path (subdir "/" rebuilt filename) <= 4096 bytes
//! ```
//! Read: an int in any of MessagePack's widths, signed or not, but not as a float; a float with 32 or
//! 64 bits or as an int; a float that is no finite number is unknown and becomes 0.0, since a file is not
//! worth losing for its time. Written: an int in its shortest form, a float with 64 bits.

use std::borrow::Cow;
use std::fmt;
use std::mem;

use crate::error::ChunkError;
use crate::hash::{hex, sha512};
use crate::headers;
use crate::key::chunk_key;
use crate::msgpack::{Reader, Writer};
use crate::name;

/// Most chunks of one file.
pub const MAX_CHUNKS: u32 = i32::MAX as u32;
/// Longest file in bytes: 8 TiB, which file systems take (ext4: less than 16 TiB).
pub const MAX_FILE_BYTES: u64 = 1 << 43;

/// One chunk, borrowed from the message that it was decoded from or from what is to be sent.
///
/// ```
/// use datamill_wire::{Chunk, sha512};
///
/// let data = b"angle,counts\n10.0,210\n";
/// let hash = sha512(data);
/// let chunk = Chunk {
///     filename: "scan.csv",
///     file_hash: &hash, // of the whole file, which is this chunk
///     chunk_hash: &hash,
///     offset: 0,
///     index: 1,
///     total: 1,
///     subdir: "xrd/run1",
///     filename_append: "",
///     data,
///     mtime: None,
/// };
/// chunk.check()?;
/// let mut message = Vec::new();
/// chunk.encode(&mut message);
///
/// let read = Chunk::decode(&message)?;
/// read.verify()?;
/// assert_eq!(read, chunk);
/// assert_eq!(read.rebuilt_path(), "xrd/run1/scan.csv");
/// # Ok::<(), datamill_wire::ChunkError>(())
/// ```
#[derive(Clone, Copy, PartialEq)]
pub struct Chunk<'a> {
    /// Name of the producer's file.
    pub filename: &'a str,
    /// SHA-512 of all selected bytes of the file.
    pub file_hash: &'a [u8; 64],
    /// SHA-512 of `data`.
    pub chunk_hash: &'a [u8; 64],
    /// Where `data` goes in the rebuilt file, in bytes.
    pub offset: u64,
    /// Which chunk of the file this is, counted from 1.
    pub index: u32,
    /// Number of chunks of this version of the file.
    pub total: u32,
    /// Folder of the file relative to the producer's root, with `/`; empty or `.` at the root.
    pub subdir: &'a str,
    /// What goes between stem and suffix of the rebuilt name.
    pub filename_append: &'a str,
    /// The bytes.
    pub data: &'a [u8],
    /// Modification time of the producer's file in seconds since the epoch; `None` where it is not known.
    /// The message alone cannot carry the time 0: see [`mtime_header`](Self::mtime_header).
    pub mtime: Option<f64>,
}

impl<'a> Chunk<'a> {
    /// Decodes the value of a record. The chunk borrows from `message`; nothing is allocated for what
    /// the message claims, and the data is not hashed.
    ///
    /// # Errors
    /// Every reason of [`ChunkError`] but the hash of the data: structure, limits, names.
    pub fn decode(message: &'a [u8]) -> Result<Self, ChunkError> {
        match message {
            [] => return Err(ChunkError::Empty),
            [b'{', .., b'}'] | [b'[', .., b']'] => return Err(ChunkError::Json),
            _ => {}
        }
        let mut reader = Reader::new(message);
        let fields = reader.array()?;
        if fields != 9 && fields != 10 {
            return Err(ChunkError::FieldCount { found: fields });
        }
        let filename = reader.text("filename")?;
        let file_hash = reader.hash("file_hash")?;
        let chunk_hash = reader.hash("chunk_hash")?;
        let offset = reader.count("chunk_offset_write")?;
        let index = reader.count("chunk_i")?;
        let total = reader.count("n_total_chunks")?;
        let subdir = reader.text("subdir")?;
        let filename_append = reader.text("filename_append")?;
        let data = reader.binary("data")?;
        let mtime = if fields == 10 {
            let seconds = reader.number("file_mtime")?;
            known(seconds).filter(|seconds| *seconds != 0.0)
        } else {
            None
        };
        reader.end()?;
        let (index, total) = check_counts(index, total)?;
        let chunk =
            Self { filename, file_hash, chunk_hash, offset, index, total, subdir, filename_append, data, mtime };
        chunk.check_place_and_names()?;
        Ok(chunk)
    }

    /// Checks a chunk that is to be sent the way [`decode`](Self::decode) checks one that was received,
    /// so that nothing is sent that readers refuse.
    ///
    /// # Errors
    /// The reasons of [`ChunkError`] that concern limits and names.
    pub fn check(&self) -> Result<(), ChunkError> {
        check_counts(self.index.into(), self.total.into())?;
        self.check_place_and_names()
    }

    /// Appends the message to `into`. Chunks that pass [`check`](Self::check) decode to themselves, together with
    /// their [`mtime_header`](Self::mtime_header).
    ///
    /// # Panics
    /// If `data` has 2^32 bytes or more, which no message can hold and `check` refuses.
    pub fn encode(&self, into: &mut Vec<u8>) {
        assert!(u32::try_from(self.data.len()).is_ok(), "a chunk of {} bytes fits no message", self.data.len());
        let names = self.filename.len() + self.subdir.len() + self.filename_append.len();
        // Two hashes, the markers and the numbers come to less than 200 bytes.
        into.reserve(200 + names + self.data.len());
        let mut writer = Writer::append_to(mem::take(into));
        writer.array(10);
        writer.text(self.filename);
        writer.binary(self.file_hash);
        writer.binary(self.chunk_hash);
        writer.count(self.offset);
        writer.count(self.index.into());
        writer.count(self.total.into());
        writer.text(self.subdir);
        writer.text(self.filename_append);
        writer.binary(self.data);
        writer.float(self.mtime.and_then(known).unwrap_or(0.0));
        *into = writer.into_vec();
    }

    /// Compares the data with the chunk's hash.
    ///
    /// # Errors
    /// [`ChunkError::ChunkHashMismatch`] where they differ.
    pub fn verify(&self) -> Result<(), ChunkError> {
        if sha512(self.data) == *self.chunk_hash {
            return Ok(());
        }
        Err(ChunkError::ChunkHashMismatch { index: self.index, total: self.total })
    }

    /// The key of the chunk's record, see [`chunk_key`].
    pub fn key(&self) -> String {
        chunk_key(self.subdir, self.filename, self.index, self.total)
    }

    /// The name of the rebuilt file, see [`name::rebuilt_filename`].
    pub fn rebuilt_filename(&self) -> Cow<'a, str> {
        name::rebuilt_filename(self.filename, self.filename_append)
    }

    /// The path of the rebuilt file relative to an output folder, with `/`. Of a chunk that was
    /// decoded or checked it stays inside that folder; on Windows, where it passes [`name::fault_on_windows`] too.
    pub fn rebuilt_path(&self) -> String {
        name::relative_path(self.subdir, &self.rebuilt_filename())
    }

    /// The header that the record of this chunk needs besides its value: [`headers::MTIME`] where the
    /// modification time is 0, which readers of the value alone take for "unknown".
    pub fn mtime_header(&self) -> Option<(&'static str, &'static [u8])> {
        (self.mtime == Some(0.0)).then_some((headers::MTIME, b"0"))
    }

    /// Takes the value of a record's header [`headers::MTIME`] in: it counts where the message has no time. What is
    /// no number there counts as no header.
    pub fn take_mtime_header(&mut self, value: &[u8]) {
        let told = || std::str::from_utf8(value).ok()?.parse().ok().and_then(known);
        self.mtime = self.mtime.or_else(told);
    }

    fn check_place_and_names(&self) -> Result<(), ChunkError> {
        let length = self.data.len();
        let Ok(bytes) = u32::try_from(length) else {
            return Err(ChunkError::DataTooLong { length });
        };
        let end = self.offset.checked_add(bytes.into());
        if end.is_none_or(|end| end > MAX_FILE_BYTES) {
            return Err(ChunkError::OffsetTooLarge { offset: self.offset, length });
        }
        name::check(self.subdir, self.filename, self.filename_append)
    }
}

impl fmt::Debug for Chunk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk")
            .field("filename", &self.filename)
            .field("file_hash", &hex(self.file_hash))
            .field("chunk_hash", &hex(self.chunk_hash))
            .field("offset", &self.offset)
            .field("index", &self.index)
            .field("total", &self.total)
            .field("subdir", &self.subdir)
            .field("filename_append", &self.filename_append)
            .field("data", &format_args!("{} bytes", self.data.len()))
            .field("mtime", &self.mtime)
            .finish()
    }
}

fn known(seconds: f64) -> Option<f64> {
    seconds.is_finite().then_some(seconds)
}

fn check_counts(index: u64, total: u64) -> Result<(u32, u32), ChunkError> {
    let in_range = |count: u64| u32::try_from(count).ok().filter(|count| *count <= MAX_CHUNKS);
    let Some(narrow_total) = in_range(total) else {
        return Err(ChunkError::TooManyChunks { total });
    };
    match in_range(index) {
        Some(0) => Err(ChunkError::IndexZero),
        Some(narrow_index) if narrow_index <= narrow_total => Ok((narrow_index, narrow_total)),
        _ => Err(ChunkError::IndexAboveTotal { index, total }),
    }
}
