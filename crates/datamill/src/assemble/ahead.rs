//! The hash of a file that fills up is taken while its chunks still come, so that little of a large file is
//! left to hash when it is whole.
//!
//! ```text
//!  Buffer ──Job (bounded; left out where the thread stays behind)──▶ thread ──▶ Hashed ◀── verify: the rest
//! ```
//! Every byte is hashed once: in memory where it is, on disk what is read back. A file is always with the same thread.
//! In memory a chunk waits a little for a thread that is behind: what is left for the end takes memory, and a worker,
//! once the file is whole. Files that are too small for a mapping are left to the workers.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use datamill_wire::Sha512Hasher;
use parking_lot::Mutex;

use super::memory::{Memory, WeakMapped};

/// Bytes that are read at a time.
const BLOCK: usize = 256 << 10;
/// A file on disk is hashed on once it has grown by this.
const STEP: u64 = 4 << 20;
/// A file in memory is hashed on once it has grown by this.
const STEP_IN_MEMORY: u64 = 256 << 10;
/// Threads: two hash as fast as one connection to a broker brings bytes.
const THREADS: usize = 2;
/// Jobs of a thread whose turn has not come.
const JOBS: usize = 4;
/// How long a chunk waits for a thread that is behind, unless one has waited in vain and the thread still is.
const PATIENCE: Duration = Duration::from_millis(20);

/// SHA-512 of the first bytes of a file, shared by whoever hashes on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hashed(Arc<Mutex<Prefix>>);

#[derive(Debug, Default)]
struct Prefix {
    hasher: Sha512Hasher,
    bytes: u64,
    /// That of all bytes, once it is known.
    whole: Option<[u8; 64]>,
}

impl Prefix {
    fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// Hashes what is new of these first bytes of a file.
    fn go_on(&mut self, first: &[u8]) {
        let done = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        self.add(first.get(done..).unwrap_or_default());
    }

    /// Hashes a file on up to `end`, which all bytes before MUST have reached.
    fn read_on(&mut self, path: &Path, end: u64, block: &mut Vec<u8>) -> io::Result<()> {
        let Some(left) = end.checked_sub(self.bytes).filter(|left| *left > 0) else { return Ok(()) };
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.bytes))?;
        let mut file = file.take(left);
        block.resize(BLOCK, 0);
        loop {
            match file.read(block)? {
                0 => return Ok(()),
                n => self.add(&block[..n]),
            }
        }
    }
}

impl Hashed {
    /// Whether nothing was hashed yet.
    pub(crate) fn is_new(&self) -> bool {
        let prefix = self.0.lock();
        prefix.bytes == 0 && prefix.whole.is_none()
    }

    /// The SHA-512 of all bytes was taken elsewhere.
    pub(crate) fn set(&self, sha512: [u8; 64]) {
        self.0.lock().whole = Some(sha512);
    }

    /// Hashes the rest of a file that is in memory: the SHA-512 of all of it.
    pub(crate) fn finish(&self, content: &[u8]) -> [u8; 64] {
        let mut prefix = self.0.lock();
        if let Some(whole) = prefix.whole {
            return whole;
        }
        prefix.go_on(content);
        prefix.hasher.clone().finish()
    }

    /// Hashes the rest of a file on disk: the SHA-512 of all of it.
    pub(crate) fn finish_file(&self, path: &Path) -> io::Result<[u8; 64]> {
        let mut prefix = self.0.lock();
        prefix.read_on(path, u64::MAX, &mut Vec::new())?;
        Ok(prefix.hasher.clone().finish())
    }
}

struct Job {
    hashed: Hashed,
    from: From,
}

/// What is hashed next.
enum From {
    /// A file, up to this end.
    File(PathBuf, u64),
    /// The first bytes, if they are still there.
    Memory(WeakMapped),
}

/// Threads that hash files which still fill up. They end when nobody holds this, or such a file, any more.
#[derive(Debug, Clone)]
pub(crate) struct HashAhead {
    threads: Arc<[HashThread]>,
    /// Files so far.
    files: Arc<AtomicUsize>,
}

#[derive(Debug, Clone)]
struct HashThread {
    jobs: Sender<Job>,
    patience: Duration,
    /// A chunk has waited in vain, and there was no room since.
    stuck: Arc<AtomicBool>,
}

impl HashAhead {
    pub(crate) fn start() -> io::Result<Self> {
        Self::with_patience(PATIENCE)
    }

    fn with_patience(patience: Duration) -> io::Result<Self> {
        let threads = (1..=THREADS).map(|number| HashThread::start(number, patience)).collect::<io::Result<_>>()?;
        Ok(Self { threads, files: Arc::default() })
    }

    /// The thread of a file that begins: they take turns.
    fn thread(&self) -> HashThread {
        self.threads[self.files.fetch_add(1, Relaxed) % self.threads.len()].clone()
    }
}

impl HashThread {
    fn start(number: usize, patience: Duration) -> io::Result<Self> {
        let (jobs, queue) = bounded(JOBS);
        std::thread::Builder::new().name(format!("datamill-hash-{number}")).spawn(move || run(&queue))?;
        Ok(Self { jobs, patience, stuck: Arc::default() })
    }

    /// Answers whether the thread has room for a file, at once.
    fn take_file(&self, hashed: &Hashed, path: &Path, end: u64) -> bool {
        self.jobs.try_send(Job { hashed: hashed.clone(), from: From::File(path.to_owned(), end) }).is_ok()
    }

    /// Answers whether the thread has room for what is there of a file in memory, or soon gets it.
    fn take_memory(&self, hashed: &Hashed, so_far: WeakMapped) -> bool {
        if self.stuck.load(Relaxed) && self.jobs.is_full() {
            return false;
        }
        let job = Job { hashed: hashed.clone(), from: From::Memory(so_far) };
        let is_taken = self.jobs.send_timeout(job, self.patience).is_ok();
        self.stuck.store(!is_taken, Relaxed);
        is_taken
    }
}

fn run(jobs: &Receiver<Job>) {
    let mut block = Vec::new();
    for Job { hashed, from } in jobs {
        // a file that is being verified is finished there
        let Some(mut prefix) = hashed.0.try_lock() else { continue };
        match from {
            From::File(path, end) => {
                // it may have been given up meanwhile; a disk that fails is noticed by who needs the file
                if let Err(error) = prefix.read_on(&path, end, &mut block) {
                    tracing::debug!(file = %path.display(), error = %error, "not hashed ahead");
                }
            }
            From::Memory(so_far) => {
                if let Some(so_far) = so_far.upgrade() {
                    prefix.go_on(&so_far);
                }
            }
        }
    }
}

/// How far a file that fills up is without a hole, and how far it was told to be hashed.
#[derive(Debug)]
pub(super) struct Growing {
    ahead: Option<HashAhead>,
    /// The file's thread, once it has something to do.
    thread: Option<HashThread>,
    hashed: Hashed,
    /// Of what is on disk.
    end: u64,
    asked: u64,
}

impl Growing {
    pub(super) fn new(ahead: Option<&HashAhead>) -> Self {
        Self { ahead: ahead.cloned(), thread: None, hashed: Hashed::default(), end: 0, asked: 0 }
    }

    /// The file has grown in memory.
    pub(super) fn kept(&mut self, memory: &Memory) {
        let end = memory.len() as u64;
        if end.saturating_sub(self.asked) >= STEP_IN_MEMORY
            && let (Some(ahead), Some(so_far)) = (&self.ahead, memory.so_far())
            && self.thread.get_or_insert_with(|| ahead.thread()).take_memory(&self.hashed, so_far.downgrade())
        {
            self.asked = end;
        }
    }

    /// Bytes were written to the file. What comes behind a hole is left for the end.
    pub(super) fn written(&mut self, path: &Path, offset: u64, bytes: usize) {
        if offset != self.end {
            return;
        }
        self.end += bytes as u64;
        if self.end.saturating_sub(self.asked) >= STEP
            && let Some(ahead) = &self.ahead
            && self.thread.get_or_insert_with(|| ahead.thread()).take_file(&self.hashed, path, self.end)
        {
            self.asked = self.end;
        }
    }

    pub(super) fn into_hashed(self) -> Hashed {
        self.hashed
    }
}

#[cfg(test)]
mod tests {
    use datamill_wire::sha512;
    use proptest::prelude::*;

    use super::*;

    /// Waits until the thread is done with all that it was told of a file. The file is not locked meanwhile: what
    /// the thread finds locked it leaves out.
    fn wait_until(hashed: &Hashed, bytes: u64) {
        while Arc::strong_count(&hashed.0) > 1 {
            std::thread::yield_now();
        }
        assert!(hashed.0.lock().bytes >= bytes);
    }

    proptest! {
        #[test]
        fn a_hash_taken_in_steps_is_that_of_the_whole_file(
            content in proptest::collection::vec(any::<u8>(), 0..300),
            ends in proptest::collection::vec(0usize..300, 0..6),
        ) {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &content).unwrap();
            let (on_disk, in_memory) = (Hashed::default(), Hashed::default());
            for end in ends {
                let end = end.min(content.len());
                on_disk.0.lock().read_on(file.path(), end as u64, &mut Vec::new()).unwrap();
                let mut prefix = in_memory.0.lock();
                let from = prefix.bytes as usize;
                prefix.add(content.get(from..end).unwrap_or_default());
            }
            prop_assert_eq!(on_disk.finish_file(file.path()).unwrap(), sha512(&content));
            prop_assert_eq!(in_memory.finish(&content), sha512(&content));
        }
    }

    #[test]
    fn a_file_on_disk_is_hashed_while_it_grows_and_a_hole_is_left_for_the_end() {
        let ahead = HashAhead::start().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let step = STEP as usize;
        let content: Vec<u8> = (0..3 * step).map(|i| (i / 1000) as u8).collect();
        std::fs::write(file.path(), &content).unwrap();
        let mut growing = Growing::new(Some(&ahead));
        growing.written(file.path(), 0, step);
        growing.written(file.path(), 2 * STEP, step);
        growing.written(file.path(), STEP, step / 2);
        assert_eq!((growing.end, growing.asked), (STEP + STEP / 2, STEP));
        let hashed = growing.into_hashed();
        wait_until(&hashed, STEP);
        assert_eq!(hashed.0.lock().bytes, STEP);
        assert_eq!(hashed.finish_file(file.path()).unwrap(), sha512(&content));
    }

    /// A file that is large enough for a mapping, and what of it is in memory.
    struct Filling {
        content: Vec<u8>,
        memory: Memory,
    }

    impl Filling {
        fn new() -> Self {
            let content: Vec<u8> = (0..5_000_000).map(|i| (i / 300) as u8).collect();
            Self { memory: Memory::for_file_of(content.len()), content }
        }

        /// More of it comes, up to this end.
        fn comes(&mut self, growing: &mut Growing, end: usize) {
            self.memory.extend_from_slice(&self.content[self.memory.len()..end]);
            growing.kept(&self.memory);
        }

        /// One chunk more comes than a thread has room for.
        #[cfg(unix)]
        fn more_than_fits(&mut self, growing: &mut Growing) {
            for i in 1..=JOBS + 1 {
                self.comes(growing, i * STEP_IN_MEMORY as usize);
            }
        }
    }

    #[test]
    fn a_file_in_memory_is_hashed_while_it_grows() {
        let ahead = HashAhead::start().unwrap();
        let (mut file, mut growing) = (Filling::new(), Growing::new(Some(&ahead)));
        let step = STEP_IN_MEMORY as usize;
        let mut asked = Vec::new();
        for end in [step / 2, step, step + 10, 3 * step] {
            file.comes(&mut growing, end);
            asked.push(growing.asked);
        }
        assert_eq!(asked, [0, STEP_IN_MEMORY, STEP_IN_MEMORY, 3 * STEP_IN_MEMORY]);
        let hashed = growing.into_hashed();
        wait_until(&hashed, 3 * STEP_IN_MEMORY);
        assert_eq!(hashed.0.lock().bytes, 3 * STEP_IN_MEMORY);
        assert_eq!(hashed.finish(&file.content), sha512(&file.content));
    }

    #[test]
    fn two_files_that_fill_up_side_by_side_are_with_two_threads() {
        let ahead = HashAhead::start().unwrap();
        let [a, b, c] = [(); 3].map(|()| ahead.thread().jobs);
        assert!(!a.same_channel(&b) && a.same_channel(&c));
    }

    /// A file whose thread waits to open a pipe, for which nobody writes yet.
    #[cfg(unix)]
    fn behind(ahead: &HashAhead, pipe: &Path) -> Growing {
        let thread = ahead.thread();
        assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
        assert!(thread.take_file(&Hashed::default(), pipe, 1));
        while !thread.jobs.is_empty() {
            std::thread::yield_now();
        }
        Growing { thread: Some(thread), ..Growing::new(Some(ahead)) }
    }

    #[cfg(unix)]
    #[test]
    fn what_comes_while_its_thread_stays_behind_is_left_for_later() {
        let ahead = HashAhead::start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let (mut file, mut growing) = (Filling::new(), behind(&ahead, &pipe));
        file.more_than_fits(&mut growing);
        let taken = JOBS as u64 * STEP_IN_MEMORY;
        assert_eq!(growing.asked, taken);
        assert!(growing.thread.as_ref().unwrap().stuck.load(Relaxed), "no other file waits for it");
        drop(File::options().write(true).open(&pipe).unwrap());
        wait_until(&growing.hashed, taken);
        file.comes(&mut growing, file.memory.len() + 1);
        assert_eq!(growing.asked, file.memory.len() as u64, "it is taken together with what comes next");
        assert_eq!(growing.into_hashed().finish(&file.content), sha512(&file.content));
    }

    #[cfg(unix)]
    #[test]
    fn a_chunk_waits_for_a_thread_that_is_behind() {
        let ahead = HashAhead::with_patience(Duration::from_secs(600)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let (mut file, mut growing) = (Filling::new(), behind(&ahead, &pipe));
        let jobs = growing.thread.as_ref().unwrap().jobs.clone();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !jobs.is_full() {
                    std::thread::yield_now();
                }
                drop(File::options().write(true).open(&pipe).unwrap());
            });
            file.more_than_fits(&mut growing);
        });
        assert_eq!(growing.asked, file.memory.len() as u64);
        assert_eq!(growing.into_hashed().finish(&file.content), sha512(&file.content));
    }

    #[test]
    fn a_file_that_goes_on_on_disk_is_hashed_on_there() {
        let ahead = HashAhead::start().unwrap();
        let (mut in_memory, mut growing) = (Filling::new(), Growing::new(Some(&ahead)));
        in_memory.comes(&mut growing, 300_000);
        let content = in_memory.content;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &content).unwrap();
        wait_until(&growing.hashed, 300_000);
        growing.written(file.path(), 0, content.len());
        wait_until(&growing.hashed, content.len() as u64);
        assert_eq!(growing.into_hashed().finish_file(file.path()).unwrap(), sha512(&content));
    }

    #[test]
    fn what_is_hashed_after_the_file_was_verified_changes_nothing() {
        let ahead = HashAhead::start().unwrap();
        let mut file = Filling::new();
        file.memory.extend_from_slice(&file.content[..9]);
        let so_far = file.memory.so_far().unwrap().downgrade();
        let hashed = Hashed::default();
        assert_eq!(hashed.finish(&file.content), sha512(&file.content));
        let jobs = ahead.thread().jobs;
        jobs.send(Job { hashed: hashed.clone(), from: From::Memory(so_far) }).unwrap();
        wait_until(&hashed, file.content.len() as u64);
        assert_eq!(hashed.finish(&file.content), sha512(&file.content));
    }

    #[test]
    fn a_file_that_is_gone_stops_neither_the_thread_nor_the_next_file() {
        let ahead = HashAhead::start().unwrap();
        let (gone, jobs) = (Hashed::default(), ahead.thread().jobs);
        jobs.send(Job { hashed: gone.clone(), from: From::File("/nowhere/at/all".into(), 9) }).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"there").unwrap();
        let there = Hashed::default();
        jobs.send(Job { hashed: there.clone(), from: From::File(file.path().to_owned(), 5) }).unwrap();
        wait_until(&there, 5);
        assert_eq!(gone.0.lock().bytes, 0);
        assert!(gone.finish_file(Path::new("/nowhere/at/all")).is_err());
    }
}
