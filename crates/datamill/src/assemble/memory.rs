//! The bytes of a file in memory.
//!
//! A large file gets a mapping of its own, of huge pages where the system has them (Linux: `madvise(2)`,
//! `MADV_HUGEPAGE`): 32 MiB are then 16 page faults instead of 8,192, nothing is copied while it grows, and what it
//! took goes back to the system at once.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use memmap2::{MmapOptions, MmapRaw};

/// Size from which on a file gets a mapping.
const SMALLEST: usize = 4 << 20;
/// Size of the mapping of a file that is larger than this: it goes to disk before, unless the limits are very high.
const LARGEST: usize = 1 << 30;
/// Bytes of a huge page.
const PAGE: usize = 2 << 20;

/// Bytes that grow at their end.
#[derive(Debug)]
pub(crate) enum Memory {
    Heap(Vec<u8>),
    Mapping(Mapping),
}

/// A mapping whose first bytes are there and stay as they are.
#[derive(Debug)]
pub(crate) struct Mapping(Mapped);

/// The first bytes of a [`Mapping`], for whoever reads them while more of them come.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Mapped {
    map: Arc<MmapRaw>,
    len: usize,
}

/// A [`Mapped`] that does not keep the mapping in memory.
#[derive(Debug)]
pub(crate) struct WeakMapped {
    map: Weak<MmapRaw>,
    len: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Memory {
    /// No bytes yet, of a file that will have about this many. More of them may come.
    pub(crate) fn for_file_of(bytes: usize) -> Self {
        Mapping::of(bytes.min(LARGEST)).map_or_else(Self::default, Self::Mapping)
    }

    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        match self {
            Self::Heap(heap) => {
                // what the allocator gives beyond that is a quarter at most; doubling would take twice what is counted
                heap.reserve_exact(bytes.len());
                heap.extend_from_slice(bytes);
            }
            Self::Mapping(mapping) => {
                if !mapping.extend_from_slice(bytes) {
                    *self = Self::Heap([&**self, bytes].concat());
                }
            }
        }
    }

    /// Bytes of memory that are in use.
    pub(crate) fn in_use(&self) -> usize {
        match self {
            Self::Heap(heap) => heap.len(),
            Self::Mapping(Mapping(Mapped { map, len })) => len.next_multiple_of(PAGE).min(map.len()),
        }
    }

    /// What is there so far, where it can be shared without a copy.
    pub(crate) fn so_far(&self) -> Option<&Mapped> {
        match self {
            Self::Heap(_) => None,
            Self::Mapping(Mapping(mapped)) => Some(mapped),
        }
    }
}

impl Mapping {
    /// A mapping takes no memory before it is written to; one that the system refuses is done without.
    fn of(bytes: usize) -> Option<Self> {
        if bytes < SMALLEST {
            return None;
        }
        let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon().ok()?;
        // a system without huge pages takes small ones
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Some(Self(Mapped { map: Arc::new(map.into()), len: 0 }))
    }

    /// Answers whether there was room.
    fn extend_from_slice(&mut self, bytes: &[u8]) -> bool {
        let Mapped { map, len } = &mut self.0;
        if bytes.len() > map.len() - *len {
            return false;
        }
        // SAFETY: the bytes from `len` on are within the mapping, as was just checked. Nobody reads them: a `Mapped`
        // sees only the bytes below the `len` that it was made with, which is at most this one. Nobody else writes: a
        // mapping has one `Mapping`, which is borrowed mutably here. `bytes` does not overlap, since what can be
        // borrowed of the mapping lies below `len`.
        #[allow(unsafe_code)]
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), map.as_mut_ptr().add(*len), bytes.len());
        }
        *len += bytes.len();
        true
    }
}

impl Mapped {
    pub(crate) fn downgrade(&self) -> WeakMapped {
        WeakMapped { map: Arc::downgrade(&self.map), len: self.len }
    }
}

impl WeakMapped {
    /// The bytes, if somebody still holds the mapping.
    pub(crate) fn upgrade(&self) -> Option<Mapped> {
        Some(Mapped { map: self.map.upgrade()?, len: self.len })
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping lives as long as `map`, and `len` is at most its length. Its first `len` bytes were
        // written before this was made, and never are again: `Mapping::extend_from_slice` writes behind them.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.map.as_ptr(), self.len)
        }
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(heap) => heap,
            Self::Mapping(Mapping(mapped)) => mapped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces() -> Vec<Vec<u8>> {
        (0..10_u8).map(|i| vec![i; 500_000]).collect()
    }

    #[test]
    fn a_large_file_is_mapped_and_counts_in_huge_pages() {
        let mut memory = Memory::for_file_of(5_000_000);
        assert!(memory.is_empty() && memory.in_use() == 0);
        for piece in pieces() {
            memory.extend_from_slice(&piece);
        }
        assert!(matches!(memory, Memory::Mapping(_)));
        assert_eq!(*memory, *pieces().concat());
        assert_eq!(memory.in_use(), 5_000_000);
    }

    #[test]
    fn what_is_there_so_far_stays_as_it_is_while_more_comes_and_when_the_rest_is_gone() {
        let mut memory = Memory::for_file_of(5_000_000);
        let mut seen = Vec::new();
        for piece in pieces() {
            memory.extend_from_slice(&piece);
            seen.push(memory.so_far().unwrap().clone());
        }
        drop(memory);
        let whole = pieces().concat();
        std::thread::scope(|scope| {
            for so_far in &seen {
                scope.spawn(|| assert_eq!(**so_far, whole[..so_far.len()]));
            }
        });
        assert_eq!(seen.last().unwrap().len(), whole.len());
        let weak = seen[1].downgrade();
        assert_eq!(weak.upgrade().as_deref(), Some(&whole[..1_000_000]));
        drop(seen);
        assert!(weak.upgrade().is_none());
        assert!(Memory::Heap(whole).so_far().is_none());
    }

    #[test]
    fn a_file_that_is_larger_than_expected_stays_whole() {
        let mut memory = Memory::for_file_of(SMALLEST);
        for piece in pieces() {
            memory.extend_from_slice(&piece);
        }
        assert_eq!(*memory, *pieces().concat());
        assert_eq!(memory.in_use(), 5_000_000);
    }

    #[test]
    fn small_files_are_on_the_heap_and_huge_ones_get_no_more_than_the_largest_mapping() {
        for expected in [0, 1000, SMALLEST - 1] {
            assert!(matches!(Memory::for_file_of(expected), Memory::Heap(_)));
        }
        for expected in [LARGEST + 1, usize::MAX] {
            assert!(
                matches!(Memory::for_file_of(expected), Memory::Mapping(Mapping(mapped)) if mapped.map.len() == LARGEST)
            );
        }
    }
}
