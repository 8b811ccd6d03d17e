//! The hash of a file that fills up on disk is taken while its chunks still come, so that little of a
//! large file is left to hash when it is whole.
//!
//! ```text
//!  Buffer ──Job (bounded; left out where the thread is behind)──▶ thread ──▶ Hashed ◀── verify: the rest
//! ```
//! Every byte is hashed once, as it is read back from the disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use datamill_wire::Sha512Hasher;
use parking_lot::Mutex;

/// Bytes that are read at a time.
const BLOCK: usize = 1 << 20;
/// A file is hashed on once it has grown by this.
const STEP: u64 = 4 << 20;
/// Files whose turn has not come.
const JOBS: usize = 64;

/// SHA-512 of the first bytes of a file on disk, shared by whoever hashes on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hashed(Arc<Mutex<Prefix>>);

#[derive(Debug, Default)]
struct Prefix {
    hasher: Sha512Hasher,
    bytes: u64,
}

impl Hashed {
    /// Hashes on up to `end`, which all bytes before MUST have reached.
    fn advance(&self, path: &Path, end: u64) -> io::Result<()> {
        let mut prefix = self.0.lock();
        let Some(left) = end.checked_sub(prefix.bytes).filter(|left| *left > 0) else { return Ok(()) };
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(prefix.bytes))?;
        let mut file = file.take(left);
        let mut block = vec![0; BLOCK];
        loop {
            match file.read(&mut block)? {
                0 => return Ok(()),
                n => {
                    prefix.hasher.update(&block[..n]);
                    prefix.bytes += n as u64;
                }
            }
        }
    }

    /// Hashes the rest of the file: the SHA-512 of all of it.
    pub(crate) fn finish(&self, path: &Path) -> io::Result<[u8; 64]> {
        self.advance(path, u64::MAX)?;
        Ok(self.0.lock().hasher.clone().finish())
    }
}

struct Job {
    path: PathBuf,
    hashed: Hashed,
    end: u64,
}

/// A thread that hashes files which still fill up. It ends when nobody holds this any more.
#[derive(Debug, Clone)]
pub(crate) struct HashAhead(Sender<Job>);

impl HashAhead {
    pub(crate) fn start() -> io::Result<Self> {
        let (jobs, queue) = bounded(JOBS);
        std::thread::Builder::new().name("datamill-hash".to_owned()).spawn(move || run(&queue))?;
        Ok(Self(jobs))
    }
}

fn run(jobs: &Receiver<Job>) {
    for job in jobs {
        // the file may have been given up meanwhile; a disk that fails is noticed by who needs the file
        if let Err(error) = job.hashed.advance(&job.path, job.end) {
            tracing::debug!(file = %job.path.display(), error = %error, "not hashed ahead");
        }
    }
}

/// How far a file that fills up on disk is without a hole, and how far it was told to be hashed.
#[derive(Debug)]
pub(super) struct Growing {
    ahead: Option<HashAhead>,
    hashed: Hashed,
    end: u64,
    asked: u64,
}

impl Growing {
    pub(super) fn new(ahead: Option<&HashAhead>) -> Self {
        Self { ahead: ahead.cloned(), hashed: Hashed::default(), end: 0, asked: 0 }
    }

    /// Bytes were written to the file. What comes behind a hole is left to [`Hashed::finish`].
    pub(super) fn written(&mut self, path: &Path, offset: u64, bytes: usize) {
        if offset != self.end {
            return;
        }
        self.end += bytes as u64;
        if let Some(ahead) = &self.ahead
            && self.end - self.asked >= STEP
        {
            let job = Job { path: path.to_owned(), hashed: self.hashed.clone(), end: self.end };
            if ahead.0.try_send(job).is_ok() {
                self.asked = self.end;
            }
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

    proptest! {
        #[test]
        fn a_hash_taken_in_steps_is_that_of_the_whole_file(
            content in proptest::collection::vec(any::<u8>(), 0..300),
            ends in proptest::collection::vec(0u64..300, 0..6),
        ) {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &content).unwrap();
            let hashed = Hashed::default();
            for end in ends {
                hashed.advance(file.path(), end.min(content.len() as u64)).unwrap();
            }
            prop_assert_eq!(hashed.finish(file.path()).unwrap(), sha512(&content));
        }
    }

    #[test]
    fn a_file_is_hashed_while_it_grows_and_a_hole_is_left_for_the_end() {
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
        while hashed.0.lock().bytes < STEP {
            std::thread::yield_now();
        }
        assert_eq!(hashed.0.lock().bytes, STEP);
        assert_eq!(hashed.finish(file.path()).unwrap(), sha512(&content));
    }

    #[test]
    fn a_file_that_is_gone_stops_neither_the_thread_nor_the_next_file() {
        let ahead = HashAhead::start().unwrap();
        let gone = Hashed::default();
        ahead.0.send(Job { path: "/nowhere/at/all".into(), hashed: gone.clone(), end: 9 }).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"there").unwrap();
        let there = Hashed::default();
        ahead.0.send(Job { path: file.path().to_owned(), hashed: there.clone(), end: 5 }).unwrap();
        while there.0.lock().bytes < 5 {
            std::thread::yield_now();
        }
        assert_eq!(gone.0.lock().bytes, 0);
        assert!(gone.finish(Path::new("/nowhere/at/all")).is_err());
    }
}
