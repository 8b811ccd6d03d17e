//! The memory and the disk that files take, counted in one place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes of file content in memory and in spill files, shared by everybody who holds some.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    filling: Account,
    whole: Account,
}

#[derive(Debug, Default)]
struct Account {
    memory: AtomicUsize,
    disk: AtomicUsize,
}

impl Budget {
    /// Bytes of files that still fill up.
    pub(crate) fn filling(&self) -> usize {
        self.filling.memory.load(Relaxed)
    }

    /// Bytes of files that still fill up, on disk.
    pub(crate) fn filling_on_disk(&self) -> usize {
        self.filling.disk.load(Relaxed)
    }

    /// Bytes of whole files and of results that wait for user code or for the commit.
    pub(crate) fn whole(&self) -> usize {
        self.whole.memory.load(Relaxed)
    }

    /// Bytes of whole files that filled up on disk and still are there.
    pub(crate) fn whole_on_disk(&self) -> usize {
        self.whole.disk.load(Relaxed)
    }
}

/// Bytes taken from a [`Budget`], given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
    on_disk: usize,
    whole: bool,
}

impl Reservation {
    pub(crate) fn filling(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0, on_disk: 0, whole: false }
    }

    /// Bytes of a whole file or of a result.
    pub(crate) fn whole(budget: &Arc<Budget>, bytes: usize) -> Self {
        let mut reservation = Self { budget: Arc::clone(budget), bytes: 0, on_disk: 0, whole: true };
        reservation.grow(bytes);
        reservation
    }

    fn account(&self) -> &Account {
        if self.whole { &self.budget.whole } else { &self.budget.filling }
    }

    pub(crate) fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.account().memory.fetch_add(bytes, Relaxed);
    }

    /// So many bytes are in memory from here on.
    pub(crate) fn hold(&mut self, bytes: usize) {
        let memory = &self.account().memory;
        match bytes.checked_sub(self.bytes) {
            Some(more) => memory.fetch_add(more, Relaxed),
            None => memory.fetch_sub(self.bytes - bytes, Relaxed),
        };
        self.bytes = bytes;
    }

    pub(crate) fn grow_on_disk(&mut self, bytes: usize) {
        self.on_disk += bytes;
        self.account().disk.fetch_add(bytes, Relaxed);
    }

    /// The bytes are in memory no longer. Those on disk stay.
    pub(crate) fn release(&mut self) {
        self.account().memory.fetch_sub(self.bytes, Relaxed);
        self.bytes = 0;
    }

    fn release_on_disk(&mut self) {
        self.account().disk.fetch_sub(self.on_disk, Relaxed);
        self.on_disk = 0;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn on_disk(&self) -> usize {
        self.on_disk
    }

    /// The file is whole: the bytes count as such from here on.
    pub(crate) fn into_whole(mut self) -> Self {
        let (bytes, on_disk) = (self.bytes, self.on_disk);
        self.release();
        self.release_on_disk();
        self.whole = true;
        self.grow(bytes);
        self.grow_on_disk(on_disk);
        self
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
        self.release_on_disk();
    }
}
