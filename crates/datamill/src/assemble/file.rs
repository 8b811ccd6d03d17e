//! The whole file as user code sees it.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use datamill_broker::OwnFiles;
use datamill_wire::name::fault_on_windows;
use memmap2::Mmap;

use super::ahead::Hashed;
use super::budget::Reservation;
use super::buffer::Content;
use super::follow::Follower;
use super::instance::{FileInfo, Proof, Span};
use super::memory::Memory;
use super::source_topic::SourceTopic;
use super::whole::{DroppedFile, WholeFile};

/// Where user code finds the content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Mode {
    /// In memory.
    #[default]
    Memory,
    /// In a file under the output folder.
    Disk,
    /// In memory and in a file under the output folder.
    Both,
}

/// A data file that was rebuilt from its chunks: whole, and with the SHA-512 that its uploader took.
///
/// [`bytes`](Self::bytes) and [`reader`](Self::reader) work in every [`Mode`]; [`path`](Self::path) in
/// modes `disk` and `both`, and where the code needs it. A file larger than the memory limit is mapped from disk by `bytes()`.
#[derive(Debug)]
pub struct DownloadDataFile {
    topic: Arc<SourceTopic>,
    info: Arc<FileInfo>,
    size: u64,
    memory: Option<Arc<Memory>>,
    spilled: Option<tempfile::TempPath>,
    placed: Option<Placed>,
    /// Where it is on disk for one run of user code, and no longer.
    lent: OnceLock<Placed>,
    map: OnceLock<Arc<Mmap>>,
    followed: Option<Followed>,
    // given back last: the bytes above count until they are gone
    reservation: Reservation,
}

/// A file whose beginning somebody has taken while it filled up.
#[derive(Debug)]
struct Followed {
    /// Dropped with the content.
    _follower: Box<dyn Follower>,
    /// Parts were taken: the content is what comes behind them.
    #[cfg_attr(not(feature = "object-store"), expect(dead_code, reason = "deliveries to object stores alone ask it"))]
    cut: bool,
    proofs: Vec<Proof>,
    asked_again: AtomicBool,
}

/// A file in a folder of its own, until it is published under its public name.
#[derive(Debug)]
struct Placed {
    folder: PathBuf,
    file: PathBuf,
}

impl Drop for Placed {
    fn drop(&mut self) {
        // what stays behind is removed with the whole folder at the next start
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Why a file that has all its chunks is not the file that was uploaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotVerified {
    #[error("the chunks leave a hole in the file")]
    Hole,
    /// With what is known of the place, and the file as it arrived.
    #[error("the SHA-512 of the rebuilt file differs from the uploader's; {0}")]
    Mismatch(String, Box<DownloadDataFile>),
    /// With what is to be read again, where that is only out of reach.
    #[error("the rebuilt file cannot be read back")]
    Read(#[source] io::Error, DroppedFile),
    /// The chunks can be checked once all of it is there.
    #[error("a part of the rebuilt file was taken already")]
    Again(DroppedFile),
}

/// Size up to which files are hashed four at a time.
const SMALL: usize = 64 << 10;

impl WholeFile {
    /// Its bytes and where their hash goes, where it is small and nothing of it is hashed.
    fn small(&self) -> Option<(&[u8], &Hashed)> {
        match &self.content {
            Content::Memory(bytes, hashed) if self.taken == 0 && bytes.len() <= SMALL && hashed.is_new() => {
                Some((bytes, hashed))
            }
            _ => None,
        }
    }

    /// Whether it can be hashed together with others.
    pub(crate) fn is_small(&self) -> bool {
        self.small().is_some()
    }

    /// Hashes four small files together, which takes less time than one after another.
    pub(crate) fn hash_four(files: [&Self; 4]) {
        let small = files.map(Self::small);
        let bytes = small.map(|file| file.map_or(&[][..], |(bytes, _)| bytes));
        for (file, sha512) in small.into_iter().zip(datamill_wire::sha512_of_four(bytes)) {
            if let Some((_, hashed)) = file {
                hashed.set(sha512);
            }
        }
    }
}

impl DownloadDataFile {
    /// Checks the whole file's hash, in one pass over the bytes.
    pub(crate) fn verify(topic: &Arc<SourceTopic>, whole: WholeFile) -> Result<Self, NotVerified> {
        let size = whole.size.ok_or(NotVerified::Hole)?;
        let hash = match (&whole.content, &whole.follower) {
            (Content::Memory(rest, _), Some(follower)) if whole.taken > 0 => follower.hashed().map(|mut hasher| {
                hasher.update(rest);
                hasher.finish()
            }),
            (Content::Memory(bytes, hashed), _) => Some(hashed.finish(bytes)),
            (Content::Disk(path, hashed), _) => match hashed.finish_file(path) {
                Ok(hash) => Some(hash),
                Err(error) => {
                    let dropped = DroppedFile { info: whole.info, size: Some(size), proofs: whole.proofs };
                    return Err(NotVerified::Read(error, dropped));
                }
            },
        };
        let is_right = hash == Some(whole.info.version.sha512);
        let cut = whole.taken > 0;
        if cut && !is_right {
            return Err(NotVerified::Again(DroppedFile { info: whole.info, size: Some(size), proofs: whole.proofs }));
        }
        let (memory, spilled) = match whole.content {
            Content::Memory(bytes, _) => (Some(Arc::new(bytes)), None),
            Content::Disk(path, _) => (None, Some(path)),
        };
        let mut proofs = whole.proofs;
        let followed = whole.follower.map(|follower| Followed {
            _follower: follower,
            cut,
            proofs: if cut { std::mem::take(&mut proofs) } else { Vec::new() },
            asked_again: AtomicBool::new(false),
        });
        let file = Self {
            topic: Arc::clone(topic),
            info: whole.info,
            size,
            memory,
            spilled,
            placed: None,
            lent: OnceLock::new(),
            map: OnceLock::new(),
            followed,
            reservation: whole.reservation,
        };
        if is_right {
            return Ok(file);
        }
        match file.wrong_chunks(&proofs) {
            Ok(wrong) => Err(NotVerified::Mismatch(wrong, Box::new(file))),
            Err(error) => {
                let dropped = DroppedFile { info: Arc::clone(&file.info), size: Some(size), proofs };
                Err(NotVerified::Read(error, dropped))
            }
        }
    }

    fn wrong_chunks(&self, proofs: &[Proof]) -> io::Result<String> {
        let mut reader = self.reader()?;
        let mut wrong = Vec::new();
        let mut data = Vec::new();
        for proof in proofs {
            reader.seek(io::SeekFrom::Start(proof.offset))?;
            data.resize(proof.len, 0);
            reader.read_exact(&mut data)?;
            if datamill_wire::sha512(&data) != proof.sha512 {
                wrong.push(proof.index);
            }
        }
        wrong.sort_unstable();
        Ok(match wrong.as_slice() {
            [] if proofs.len() < self.info.version.total as usize => {
                format!("the {} chunks that were checked agree with their own hashes", proofs.len())
            }
            [] => "each chunk agrees with its own hash".to_owned(),
            [one] => format!("chunk {one} of {} does not agree with its own hash", self.info.version.total),
            more => {
                let first: Vec<String> = more.iter().take(10).map(u32::to_string).collect();
                format!(
                    "{} of {} chunks do not agree with their own hashes: {}",
                    more.len(),
                    self.info.version.total,
                    first.join(", ")
                )
            }
        })
    }

    /// Puts the file into a folder of its own under `work`, where user code finds it. In mode `disk`
    /// its bytes leave the memory. After an error the file is as it was before.
    pub(crate) fn place(&mut self, work: &Path, keep_in_memory: bool) -> io::Result<()> {
        if self.placed.is_some() {
            return Ok(());
        }
        let placed = self.folder_of_its_own(work)?;
        match (self.spilled.take(), &self.memory) {
            (Some(path), _) => {
                if let Err(error) = path.persist(&placed.file) {
                    self.spilled = Some(error.path);
                    return Err(error.error);
                }
            }
            (None, memory) => {
                let mut file = File::create(&placed.file)?;
                file.write_all(memory.as_ref().map_or(&[][..], |bytes| bytes))?;
            }
        }
        self.keep_time(&placed.file);
        self.placed = Some(placed);
        if !keep_in_memory {
            self.memory = None;
            self.reservation.release();
        }
        Ok(())
    }

    /// Where the file is on disk, for one run of user code. Where it is not [`place`](Self::place)d, it is put into a
    /// folder of its own under `work` until it is [taken back](Self::take_back); content that is on disk is not copied.
    pub(crate) fn lend(&self, work: &Path) -> io::Result<&Path> {
        if let Some(path) = self.path() {
            return Ok(path);
        }
        let lent = self.folder_of_its_own(work)?;
        if !self.link_to(&lent.file) {
            io::copy(&mut self.reader()?, &mut File::create(&lent.file)?)?;
        }
        self.keep_time(&lent.file);
        // another thread may have been as fast: its file stays
        Ok(&self.lent.get_or_init(|| lent).file)
    }

    /// The run of user code is over: what was lent to it is gone.
    pub(crate) fn take_back(&mut self) {
        self.lent.take();
    }

    fn folder_of_its_own(&self, work: &Path) -> io::Result<Placed> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        if cfg!(windows)
            && let Some(fault) = fault_on_windows(self.info.version.filename())
        {
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, format!("on this system: it {fault}")));
        }
        let folder = work.join(format!("{}-{}", self.info.id.0, COUNT.fetch_add(1, Relaxed)));
        // in the folder that is there: where that is on a share that is not mounted, nothing is made
        std::fs::create_dir(&folder)?;
        Ok(Placed { file: folder.join(self.info.version.filename()), folder })
    }

    fn keep_time(&self, file: &Path) {
        if let Some(time) = self.modified() {
            // a file system that keeps no times still holds the file
            let _ = File::options().write(true).open(file).and_then(|f| f.set_modified(time));
        }
    }

    /// Gives the file its public name under `output`, where it can still be read. Nothing happens in mode `memory`.
    pub(crate) fn show(&mut self, output: &Path) -> io::Result<()> {
        let public = output.join(&*self.info.version.path);
        let Some(placed) = &mut self.placed else { return Ok(()) };
        // what is there may be a later version, once this one has been there
        if placed.file != public {
            // where its share is gone, nothing is made in the mount point
            std::fs::metadata(&placed.file)?;
            if let Some(folder) = public.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::rename(&placed.file, &public)?;
            placed.file = public;
        }
        Ok(())
    }

    /// Leaves the file under its public name in `output`, and lets it go. Nothing happens in mode `memory`.
    pub(crate) fn publish(&mut self, output: &Path) -> io::Result<()> {
        self.show(output)?;
        self.placed = None;
        Ok(())
    }

    /// Gives content that is on disk a second name on its file system, without copying it. `false` where
    /// it is in memory only, or where the file system cannot. The one who has the other name MUST NOT map
    /// the content any more.
    pub(crate) fn link_to(&self, other: &Path) -> bool {
        let on_disk = match (&self.placed, &self.spilled) {
            (Some(placed), _) => placed.file.as_path(),
            (None, Some(path)) => path,
            (None, None) => return false,
        };
        std::fs::hard_link(on_disk, other).is_ok()
    }

    /// Path of the file relative to the folder that was uploaded, with `/` between its parts.
    pub fn relative_path(&self) -> &str {
        &self.info.version.path
    }

    /// Name of the file, without its folder.
    pub fn filename(&self) -> &str {
        self.info.version.filename()
    }

    /// Folder of the file relative to the folder that was uploaded; `""` at the root.
    pub fn subdirectory(&self) -> &str {
        self.info.version.subdir()
    }

    /// Number of the upload, see [`InstanceId`].
    #[cfg(feature = "object-store")]
    pub(crate) fn id(&self) -> super::instance::InstanceId {
        self.info.id
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// SHA-512 of the content.
    pub fn sha512(&self) -> &[u8; 64] {
        &self.info.version.sha512
    }

    /// When the file was last changed where it was uploaded, if its uploader said so.
    pub fn modified(&self) -> Option<SystemTime> {
        self.info.version.modified()
    }

    /// Number of chunk messages that the file came in.
    pub fn n_chunks(&self) -> u32 {
        self.info.version.total
    }

    /// Topic that the file was read from.
    pub fn topic(&self) -> &str {
        &self.topic.name
    }

    /// What identifies the log and the topic in it: the topic's name, and where the log has something that
    /// tells it from a deleted topic of that name, that.
    pub fn topic_id(&self) -> &str {
        &self.topic.id
    }

    /// What is kept as [`Self::topic_id`] of files that came while the log told no id of the topic.
    pub(crate) fn topic_by_name(&self) -> Option<&str> {
        self.topic.by_name.as_deref()
    }

    /// The files of the log that it was read from, and of others that are open: it is never put in their place.
    pub(crate) fn own_files(&self) -> &OwnFiles {
        &self.topic.own_files
    }

    /// Time of the file's first record, milliseconds since the epoch; 0 where none is known.
    pub fn first_record_ms(&self) -> i64 {
        self.info.first_ms
    }

    /// The offsets of the file's chunks, by partition.
    pub fn spans(&self) -> &[Span] {
        &self.info.spans
    }

    /// The content.
    ///
    /// # Errors
    /// A file that is not in memory is mapped from disk, which can fail.
    pub fn bytes(&self) -> io::Result<&[u8]> {
        if let Some(bytes) = &self.memory {
            return Ok(bytes);
        }
        if self.size == 0 {
            return Ok(&[]);
        }
        Ok(self.map()?)
    }

    fn map(&self) -> io::Result<&Arc<Mmap>> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let file = self.open()?;
        // SAFETY: the mapped file lies in a folder that the program made for this one file, or under its public name,
        // in an output folder that it holds a lock on. The program neither writes to it nor truncates it, before
        // and after `self` is dropped; renaming and removing it keep the inode, and a later version of the file
        // takes its name and not its inode.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }?;
        Ok(self.map.get_or_init(|| Arc::new(map)))
    }

    /// Whether the beginning of the content is not there any more, since somebody has taken it: the content is what
    /// comes behind that.
    #[cfg(feature = "object-store")]
    pub(crate) fn is_cut(&self) -> bool {
        self.followed.as_ref().is_some_and(|followed| followed.cut)
    }

    /// Asks for the whole content: the function that got the file returns, and runs again once it was read again.
    #[cfg(feature = "object-store")]
    pub(crate) fn ask_again(&self) {
        if let Some(followed) = &self.followed {
            followed.asked_again.store(true, Relaxed);
        }
    }

    /// Whether the function that got it has asked for the whole content.
    pub(crate) fn is_asked_again(&self) -> bool {
        self.followed.as_ref().is_some_and(|followed| followed.asked_again.load(Relaxed))
    }

    /// Gives up the content that is there.
    pub(crate) fn into_dropped(self) -> DroppedFile {
        let proofs = self.followed.map(|followed| followed.proofs).unwrap_or_default();
        DroppedFile { info: self.info, size: Some(self.size), proofs }
    }

    /// The content for whoever needs to own it: neither copied nor read before it is used.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn shared(&self) -> io::Result<SharedContent> {
        Ok(SharedContent(match &self.memory {
            Some(bytes) => Shared::Memory(Arc::clone(bytes)),
            None if self.size == 0 => Shared::Memory(Arc::default()),
            None => Shared::Map(Arc::clone(self.map()?)),
        }))
    }

    /// A reader over the content, which can seek.
    ///
    /// # Errors
    /// A file that is not in memory is opened, which can fail.
    pub fn reader(&self) -> io::Result<DownloadReader<'_>> {
        Ok(match &self.memory {
            Some(bytes) => DownloadReader(Source::Memory(Cursor::new(bytes))),
            None => DownloadReader(Source::Disk(self.open()?)),
        })
    }

    /// Where the file is on disk, absolute: in modes `disk` and `both`, and in mode `memory` for code that needs a path (see
    /// [`Access::Path`](crate::process::Access::Path)). The file is there until the function that got it returns; then
    /// it moves to its place under the output folder, or is gone in mode `memory`. Do not change it.
    pub fn path(&self) -> Option<&Path> {
        self.placed.as_ref().or(self.lent.get()).map(|placed| placed.file.as_path())
    }

    fn open(&self) -> io::Result<File> {
        match (&self.placed, &self.spilled) {
            (Some(placed), _) => File::open(&placed.file),
            (None, Some(path)) => File::open(path),
            (None, None) => Err(io::Error::other("the file has been published and is not open any more")),
        }
    }
}

/// The content of a file, for as long as this exists; see [`DownloadDataFile::shared`]. Memory that it holds after the
/// function has returned is not counted to the memory limit.
#[derive(Debug, Clone)]
pub struct SharedContent(Shared);

#[derive(Debug, Clone)]
enum Shared {
    Memory(Arc<Memory>),
    Map(Arc<Mmap>),
}

impl From<Vec<u8>> for SharedContent {
    /// The content of a file that comes from no topic.
    fn from(bytes: Vec<u8>) -> Self {
        Self(Shared::Memory(Arc::new(Memory::Heap(bytes))))
    }
}

impl AsRef<[u8]> for SharedContent {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Shared::Memory(bytes) => bytes,
            Shared::Map(map) => map,
        }
    }
}

/// Reads the content of a [`DownloadDataFile`].
#[derive(Debug)]
pub struct DownloadReader<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Memory(Cursor<&'a [u8]>),
    Disk(File),
}

impl Read for DownloadReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::Memory(cursor) => cursor.read(into),
            Source::Disk(file) => file.read(into),
        }
    }
}

impl Seek for DownloadReader<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        match &mut self.0 {
            Source::Memory(cursor) => cursor.seek(to),
            Source::Disk(file) => file.seek(to),
        }
    }
}

mod local;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
