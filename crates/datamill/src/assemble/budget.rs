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
    memory: Sum,
    disk: Sum,
}

#[derive(Debug, Default)]
struct Sum(AtomicUsize);

impl Sum {
    /// What was `before` in the sum is `after`.
    fn move_from(&self, before: usize, after: usize) {
        match after.checked_sub(before) {
            Some(more) => self.0.fetch_add(more, Relaxed),
            None => self.0.fetch_sub(before - after, Relaxed),
        };
    }

    fn get(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Budget {
    /// Bytes of files that still fill up.
    pub(crate) fn filling(&self) -> usize {
        self.filling.memory.get()
    }

    /// Bytes of files that still fill up, on disk.
    pub(crate) fn filling_on_disk(&self) -> usize {
        self.filling.disk.get()
    }

    /// Bytes of whole files and of results that wait for user code or for the commit.
    pub(crate) fn whole(&self) -> usize {
        self.whole.memory.get()
    }

    /// Bytes of whole files that filled up on disk and still are there.
    pub(crate) fn whole_on_disk(&self) -> usize {
        self.whole.disk.get()
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

    /// Bytes of a part of the file that is on its way already, of the same budget.
    pub(crate) fn of_part(&self, bytes: usize) -> Self {
        Self::whole(&self.budget, bytes)
    }

    fn account(&self) -> &Account {
        if self.whole { &self.budget.whole } else { &self.budget.filling }
    }

    pub(crate) fn grow(&mut self, bytes: usize) {
        self.hold(self.bytes + bytes);
    }

    /// So many bytes are in memory from here on.
    pub(crate) fn hold(&mut self, bytes: usize) {
        self.account().memory.move_from(self.bytes, bytes);
        self.bytes = bytes;
    }

    pub(crate) fn grow_on_disk(&mut self, bytes: usize) {
        self.hold_on_disk(self.on_disk + bytes);
    }

    /// So many bytes are on disk from here on.
    pub(crate) fn hold_on_disk(&mut self, bytes: usize) {
        self.account().disk.move_from(self.on_disk, bytes);
        self.on_disk = bytes;
    }

    /// The bytes are in memory no longer. Those on disk stay.
    pub(crate) fn release(&mut self) {
        self.hold(0);
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
        self.hold_on_disk(0);
        self.whole = true;
        self.grow(bytes);
        self.grow_on_disk(on_disk);
        self
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
        self.hold_on_disk(0);
    }
}
