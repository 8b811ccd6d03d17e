//! One upload of one version of a file, while its chunks come in.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use datamill_wire::Chunk;
use datamill_wire::name::is_root;
use rustc_hash::FxHashSet;

use super::buffer::{Buffer, Disk};
use super::extents::{Extents, Indices};
use super::follow::{Begun, Following};

/// Number of an instance, unique while the program runs, rising in the order of their first records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub(crate) u64);

/// A set of instances.
pub(crate) type InstanceIds = FxHashSet<InstanceId>;

/// The offsets that the chunks of an instance have in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Partition.
    pub partition: i32,
    /// Offset of the first chunk.
    pub first: i64,
    /// Offset of the last chunk that was seen.
    pub last: i64,
}

impl Span {
    /// Whether it goes over this offset.
    pub(crate) fn holds(&self, partition: i32, offset: i64) -> bool {
        self.partition == partition && (self.first..=self.last).contains(&offset)
    }
}

/// What identifies a version of a file, and what its chunks say about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// Path of the rebuilt file, relative, with `/`.
    pub path: Arc<str>,
    /// SHA-512 of the file.
    pub sha512: [u8; 64],
    /// Number of chunks.
    pub total: u32,
    /// Modification time at the source, seconds since the epoch.
    pub mtime: Option<f64>,
}

impl Version {
    pub(crate) fn of(chunk: &Chunk<'_>) -> Self {
        Self { path: chunk.rebuilt_path().into(), sha512: *chunk.file_hash, total: chunk.total, mtime: chunk.mtime }
    }

    /// Folder of the file, relative, `""` at the root.
    pub fn subdir(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(subdir, _)| subdir)
    }

    /// Name of the rebuilt file.
    pub fn filename(&self) -> &str {
        self.path.rsplit_once('/').map_or(&self.path, |(_, filename)| filename)
    }

    /// Whether this is the place of the file that a chunk with this rebuilt name belongs to.
    pub(crate) fn is_at(&self, subdir: &str, filename: &str) -> bool {
        let own = self.subdir();
        self.filename() == filename && (own == subdir || own.is_empty() && is_root(subdir))
    }

    /// When the file was last changed where it was uploaded, if its uploader said so.
    pub(crate) fn modified(&self) -> Option<SystemTime> {
        let seconds = self.mtime?;
        let since = Duration::try_from_secs_f64(seconds.abs()).ok()?;
        if seconds < 0.0 {
            SystemTime::UNIX_EPOCH.checked_sub(since)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(since)
        }
    }

    /// Whether a chunk with this rebuilt name is one of this version.
    pub(crate) fn is_of(&self, chunk: &Chunk<'_>, filename: &str) -> bool {
        self.sha512 == *chunk.file_hash && self.total == chunk.total && self.is_at(chunk.subdir, filename)
    }
}

/// A file that has all its chunks, without its bytes: what stays known of it until its outcome is
/// committed.
#[derive(Debug, Clone)]
pub(crate) struct FileInfo {
    pub(crate) id: InstanceId,
    pub(crate) version: Version,
    pub(crate) spans: Vec<Span>,
    /// Offsets within the spans that hold chunks of other uploads of the version, up to [`MAX_OTHERS`] runs.
    pub(crate) others: Vec<Span>,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    /// Bytes of the chunks' data.
    pub(crate) bytes: u64,
    /// Its upload was given up for a newer version.
    pub(crate) superseded: bool,
}

/// Where a chunk is in the file and what it must hash to: asked for when the file's hash is wrong. And where
/// it is in the topic: asked for when the file's content was dropped.
#[derive(Debug, Clone)]
pub(crate) struct Proof {
    pub(crate) partition: i32,
    /// Offset of its record.
    pub(crate) record: i64,
    pub(crate) index: u32,
    pub(crate) offset: u64,
    pub(crate) len: usize,
    pub(crate) sha512: [u8; 64],
}

/// An upload of which no chunk came for so long goes on no more, as far as that can be told from outside.
pub(crate) const CUT_OFF_MS: i64 = 10 * 60_000;

/// Runs of offsets of other uploads that are kept for one file.
const MAX_OTHERS: usize = 1000;

/// Proofs that are kept for one file; a wrong chunk beyond is not named, and without all of them a dropped file
/// takes the first chunks that fit.
const MAX_PROOFS: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Chunks are missing.
    Filling,
    /// Whole, and on its way to an outcome.
    Whole,
    /// Has its outcome, and is kept to tell its chunks from those of a repetition.
    Shadow,
    /// Its chunks stopped coming: it takes no more, and waits for its outcome to be committed.
    Expired,
}

#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) version: Version,
    pub(crate) spans: Vec<Span>,
    /// See [`FileInfo::others`].
    pub(crate) others: Vec<Span>,
    pub(crate) state: State,
    /// Hash of the version, under which the assembler finds its instances.
    pub(crate) slot: u64,
    /// Another instance of the same version was filling when this one began.
    pub(crate) repetition: bool,
    /// Its upload was given up: chunks of a newer version say so.
    pub(crate) superseded: bool,
    /// Its first chunk came after a repetition of its version had ended, and may be that one's.
    pub(crate) late: bool,
    /// Hash of the path, under which the assembler finds its versions.
    pub(crate) place: u64,
    /// The last chunk of its path that came is one of another version.
    pub(crate) outdated: bool,
    /// Its version was whole when it began, as far as that is known: the file was sent again.
    pub(crate) again: bool,
    /// Nobody waits for what is missing of it, as long as no further chunk comes.
    pub(crate) left_over: bool,
    /// The next instance that began after this one was full.
    pub(crate) filled: Option<InstanceId>,
    pub(crate) indices: Indices,
    pub(crate) extents: Extents,
    /// `None` once handed out or dropped, and for shadows.
    // in a box: it goes long before the instance does
    pub(crate) buffer: Option<Box<Buffer>>,
    /// Its content was dropped: it is read again once all chunks were seen.
    pub(crate) dropped: bool,
    pub(crate) proofs: Vec<Proof>,
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    /// When its newest chunk came, at the earliest: its record may be older, as where it waited for a slow link.
    pub(crate) came_ms: i64,
    pub(crate) bytes: u64,
}

impl Instance {
    pub(crate) fn new(version: Version, slot: u64, shadow: bool, repetition: bool, time_ms: i64) -> Self {
        // the first push would make room for four
        let proofs = Vec::with_capacity(usize::from(version.total == 1 && !shadow));
        Self {
            version,
            spans: Vec::with_capacity(1),
            others: Vec::new(),
            state: if shadow { State::Shadow } else { State::Filling },
            slot,
            repetition,
            superseded: false,
            late: false,
            place: 0,
            outdated: false,
            again: false,
            left_over: false,
            filled: None,
            indices: Indices::default(),
            extents: Extents::default(),
            buffer: None,
            dropped: false,
            proofs,
            first_ms: time_ms,
            last_ms: time_ms,
            came_ms: time_ms,
            bytes: 0,
        }
    }

    pub(crate) fn info(&self, id: InstanceId) -> FileInfo {
        FileInfo {
            id,
            version: self.version.clone(),
            spans: self.spans.clone(),
            others: self.others.clone(),
            first_ms: self.first_ms,
            last_ms: self.last_ms,
            bytes: self.bytes,
            superseded: self.superseded,
        }
    }

    /// Whether a chunk of the same version belongs to this instance.
    pub(crate) fn takes(&self, chunk: &Chunk<'_>) -> bool {
        self.state != State::Expired
            && !self.is_full()
            && !self.indices.contains(chunk.index)
            && self.extents.fits(chunk.offset, chunk.data.len() as u64)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.indices.len() == self.version.total
    }

    /// Whether an outcome is to come. Not that of what a repeated upload leaves over, whose chunks completed another
    /// one, nor that of an upload that a newer version of the file follows, as long as no further chunk comes.
    pub(crate) fn is_waited_for(&self) -> bool {
        let goes_on = !(self.outdated || self.left_over);
        match self.state {
            State::Shadow => false,
            State::Whole => true,
            State::Filling | State::Expired => goes_on && !(self.repetition || self.late || self.superseded),
        }
    }

    /// Whether its upload was probably cut off, where all that is in its partitions was read, and the file is not there
    /// without it.
    pub(crate) fn is_cut_off(&self, now_ms: i64) -> bool {
        !self.again && self.is_waited_for() && self.is_quiet(now_ms)
    }

    /// Whether no chunk of it has come for so long that its upload probably does not go on.
    pub(crate) fn is_quiet(&self, now_ms: i64) -> bool {
        self.state == State::Filling && now_ms.saturating_sub(self.came_ms) > CUT_OFF_MS
    }

    /// Whether it has chunks in the partition.
    pub(crate) fn is_in(&self, partition: i32) -> bool {
        self.spans.iter().any(|span| span.partition == partition)
    }

    /// A chunk of its version is another instance's, or nobody's.
    pub(crate) fn pass_by(&mut self, partition: i32, offset: i64) {
        if self.state != State::Filling || !self.is_in(partition) {
            return;
        }
        let room = self.others.len() < MAX_OTHERS;
        match self.others.iter_mut().rev().find(|run| run.partition == partition) {
            Some(run) if run.last + 1 == offset => run.last = offset,
            _ if room => self.others.push(Span { partition, first: offset, last: offset }),
            _ => {}
        }
    }

    /// Whether it was not full yet when a later instance of its version began.
    pub(crate) fn was_filling_when(&self, later: InstanceId) -> bool {
        self.filled.is_none_or(|after| later < after)
    }

    /// Takes a chunk in. It is taken also when its bytes cannot be written to the spill file.
    pub(crate) fn add(&mut self, partition: i32, offset: i64, time_ms: i64, chunk: &Chunk<'_>) -> io::Result<()> {
        match self.spans.iter_mut().find(|span| span.partition == partition) {
            Some(span) => span.last = offset,
            None => self.spans.push(Span { partition, first: offset, last: offset }),
        }
        self.indices.insert(chunk.index);
        self.extents.insert(chunk.offset, chunk.data.len() as u64);
        self.last_ms = self.last_ms.max(time_ms);
        self.bytes += chunk.data.len() as u64;
        if self.buffer.is_none() && !self.dropped {
            return Ok(());
        }
        if self.proofs.len() < MAX_PROOFS {
            self.proofs.push(Proof {
                partition,
                record: offset,
                index: chunk.index,
                offset: chunk.offset,
                len: chunk.data.len(),
                sha512: *chunk.chunk_hash,
            });
        }
        let Some(buffer) = &mut self.buffer else { return Ok(()) };
        let written = buffer.write(chunk.offset, chunk.data);
        self.drop_what_is_lost();
        written
    }

    /// Drops content of which a part was taken by somebody who has failed since.
    pub(crate) fn drop_what_is_lost(&mut self) {
        if self.buffer.as_ref().is_some_and(|buffer| buffer.is_lost()) {
            tracing::info!(file = %self.version.path,
                "what was sent of a file while its chunks came is of no use; once they are all there it is read again");
            self.buffer = None;
            self.dropped = true;
        }
    }

    /// Lets somebody follow it, of which the first chunk has just come. A repetition is left out, since its version
    /// is on its way already. Answers whether somebody does.
    pub(crate) fn begin(&mut self, id: InstanceId, following: &Following) -> bool {
        let (Some(buffer), [span], [proof]) = (&mut self.buffer, self.spans.as_slice(), self.proofs.as_slice()) else {
            return false;
        };
        if self.repetition || proof.offset > 0 {
            return false;
        }
        let begun = Begun {
            id,
            topic: &following.topic,
            version: &self.version,
            span: *span,
            first_ms: self.first_ms,
            bytes: expected(proof, &self.version),
            room: following.room,
        };
        let Some(follower) = following.followers.begin(&begun) else { return false };
        buffer.follow(follower, 2 * following.room);
        true
    }

    /// Lets it fill up on disk, if it has such a size and nobody follows it. Its first chunk has just come.
    pub(crate) fn begin_on_disk(&mut self, disk: &Disk) -> io::Result<()> {
        let (Some(buffer), [proof]) = (&mut self.buffer, self.proofs.as_slice()) else { return Ok(()) };
        match usize::try_from(expected(proof, &self.version)) {
            Ok(bytes) if disk.bytes.contains(&bytes) && !buffer.is_followed() => buffer.spill(&disk.folder),
            _ => Ok(()),
        }
    }
}

/// Bytes that a file comes to if all its chunks are as large as this one.
fn expected(proof: &Proof, version: &Version) -> u64 {
    (proof.len as u64).saturating_mul(version.total.into())
}
