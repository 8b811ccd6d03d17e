//! The memory that files take, counted in one place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes of file content in memory, shared by everybody who holds some.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    filling: AtomicUsize,
    whole: AtomicUsize,
}

impl Budget {
    /// Bytes of files that still fill up.
    pub(crate) fn filling(&self) -> usize {
        self.filling.load(Relaxed)
    }

    /// Bytes of whole files and of results that wait for user code or for the commit.
    pub(crate) fn whole(&self) -> usize {
        self.whole.load(Relaxed)
    }
}

/// Bytes taken from a [`Budget`], given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
    whole: bool,
}

impl Reservation {
    pub(crate) fn filling(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0, whole: false }
    }

    /// Bytes of a whole file or of a result.
    pub(crate) fn whole(budget: &Arc<Budget>, bytes: usize) -> Self {
        let mut reservation = Self { budget: Arc::clone(budget), bytes: 0, whole: true };
        reservation.grow(bytes);
        reservation
    }

    fn account(&self) -> &AtomicUsize {
        if self.whole { &self.budget.whole } else { &self.budget.filling }
    }

    pub(crate) fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.account().fetch_add(bytes, Relaxed);
    }

    pub(crate) fn release(&mut self) {
        self.account().fetch_sub(self.bytes, Relaxed);
        self.bytes = 0;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The file is whole: the bytes count as such from here on.
    pub(crate) fn into_whole(mut self) -> Self {
        let bytes = self.bytes;
        self.release();
        self.whole = true;
        self.grow(bytes);
        self
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}
