//! One lock for all instances of the user's function.

use parking_lot::{Mutex, MutexGuard};

/// Lets one instance of the user's function at a time touch what they share: a file, a device, a
/// library that is not safe for threads. It stays usable when a function panics while it holds it.
#[derive(Debug, Default)]
pub struct Lock(Mutex<()>);

/// Holds the [`Lock`] until it is dropped.
#[must_use = "the lock is held as long as this guard lives"]
#[derive(Debug)]
pub struct LockGuard<'a>(#[expect(dead_code, reason = "held, not read")] MutexGuard<'a, ()>);

impl Lock {
    /// Waits until no other instance holds the lock, and takes it.
    pub fn acquire(&self) -> LockGuard<'_> {
        LockGuard(self.0.lock())
    }
}
