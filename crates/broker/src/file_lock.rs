//! Locks on files, by which one process at a time has something.

use std::fs::{File, TryLockError};
use std::ops::Deref;
use std::time::{Duration, Instant};

const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A file that is locked until this is dropped.
///
/// The operating system gives a lock up when the last descriptor of the file is closed, and a child process has all
/// of them until it starts its program. So the end says it: the lock is free at once, whatever was started meanwhile.
#[derive(Debug)]
pub struct FileLock {
    file: File,
    /// A forked child drops what it has of its parent, whose lock this is.
    process: u32,
}

impl FileLock {
    /// Locks a file, for which it waits as long as `patience` says.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] where another one has the lock, or what the file system refused.
    pub fn take(file: File, patience: Duration) -> Result<Self, TryLockError> {
        let start = Instant::now();
        let mut pause = SHORTEST_PAUSE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { file, process: std::process::id() }),
                Err(TryLockError::WouldBlock) if start.elapsed() < patience => std::thread::sleep(pause),
                Err(error) => return Err(error),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            // closing the file, which comes next, is all that is left to do
            let _ = self.file.unlock();
        }
    }
}

impl Deref for FileLock {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_free_at_its_end_also_where_somebody_else_still_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = FileLock::take(File::create(&path).unwrap(), Duration::ZERO).unwrap();
        let again = || FileLock::take(File::open(&path).unwrap(), Duration::ZERO);
        assert!(matches!(again(), Err(TryLockError::WouldBlock)));
        // as a child process has it until it starts its program
        let inherited = first.try_clone().unwrap();
        drop(first);
        again().unwrap();
        drop(inherited);
    }

    #[test]
    fn one_that_waits_has_the_lock_when_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = FileLock::take(File::create(&path).unwrap(), Duration::ZERO).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| FileLock::take(File::open(&path).unwrap(), Duration::from_secs(60)));
            std::thread::sleep(Duration::from_millis(20));
            drop(first);
            second.join().unwrap().unwrap();
        });
    }
}
