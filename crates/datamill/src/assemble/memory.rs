//! The bytes of a file in memory.
//!
//! A large file gets a mapping of its own, of huge pages where the system has them (Linux: `madvise(2)`,
//! `MADV_HUGEPAGE`): 32 MiB are then 16 page faults instead of 8,192, nothing is copied while it grows, and what it
//! took goes back to the system at once.

use std::ops::{Deref, DerefMut};

use memmap2::{MmapMut, MmapOptions};

/// Size from which on a file gets a mapping.
const SMALLEST: usize = 4 << 20;
/// Size of the mapping of a file that is larger than this: it goes to disk long before, with the usual limits.
const LARGEST: usize = 256 << 20;
/// Bytes of a huge page.
const PAGE: usize = 2 << 20;

/// Bytes that grow at their end.
#[derive(Debug)]
pub(crate) enum Memory {
    Heap(Vec<u8>),
    Mapping { map: MmapMut, len: usize },
}

impl Default for Memory {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl Memory {
    /// No bytes yet, of a file that will have about this many. More of them may come.
    pub(crate) fn for_file_of(bytes: usize) -> Self {
        Self::mapping(bytes.min(LARGEST)).map_or_else(Self::default, |map| Self::Mapping { map, len: 0 })
    }

    /// So many zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self::mapping(len).map_or_else(|| Self::Heap(vec![0; len]), |map| Self::Mapping { map, len })
    }

    /// A mapping takes no memory before it is written to; one that the system refuses is done without.
    fn mapping(bytes: usize) -> Option<MmapMut> {
        if bytes < SMALLEST {
            return None;
        }
        let map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon().ok()?;
        // a system without huge pages takes small ones
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Some(map)
    }

    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        match self {
            Self::Heap(heap) => heap.extend_from_slice(bytes),
            Self::Mapping { map, len } => match map.get_mut(*len..*len + bytes.len()) {
                Some(room) => {
                    room.copy_from_slice(bytes);
                    *len += bytes.len();
                }
                None => *self = Self::Heap([&**self, bytes].concat()),
            },
        }
    }

    /// Bytes of memory that are in use.
    pub(crate) fn in_use(&self) -> usize {
        match self {
            Self::Heap(heap) => heap.len(),
            Self::Mapping { map, len } => len.next_multiple_of(PAGE).min(map.len()),
        }
    }
}

impl Deref for Memory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Heap(heap) => heap,
            Self::Mapping { map, len } => &map[..*len],
        }
    }
}

impl DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(heap) => heap,
            Self::Mapping { map, len } => &mut map[..*len],
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
        assert!(matches!(memory, Memory::Mapping { .. }));
        assert_eq!(*memory, *pieces().concat());
        assert_eq!(memory.in_use(), 5_000_000);
        assert_eq!(Memory::zeros(9 << 20).iter().map(|byte| usize::from(*byte)).sum::<usize>(), 0);
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
            assert!(matches!(Memory::for_file_of(expected), Memory::Mapping { map, .. } if map.len() == LARGEST));
        }
    }
}
