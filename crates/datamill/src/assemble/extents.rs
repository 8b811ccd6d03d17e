//! Which chunks of an instance are there, and which bytes they cover. What is kept grows with what
//! arrived, never with what a message claims.

use std::collections::{BTreeMap, BTreeSet};

/// The indices that arrived: all up to `through`, and some beyond.
#[derive(Debug, Default)]
pub(crate) struct Indices {
    through: u32,
    beyond: BTreeSet<u32>,
}

impl Indices {
    pub(crate) fn contains(&self, index: u32) -> bool {
        index <= self.through || self.beyond.contains(&index)
    }

    pub(crate) fn insert(&mut self, index: u32) {
        if index == self.through + 1 {
            self.through = index;
        } else {
            self.beyond.insert(index);
        }
        while self.beyond.remove(&(self.through + 1)) {
            self.through += 1;
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.through + self.beyond.len() as u32
    }

    /// The first `limit` indices of 1 to `total` that have not arrived.
    pub(crate) fn missing(&self, total: u32, limit: usize) -> Vec<u32> {
        (self.through + 1..=total).filter(|i| !self.beyond.contains(i)).take(limit).collect()
    }
}

/// The byte ranges that arrived: everything below `prefix`, and some ranges beyond.
#[derive(Debug, Default)]
pub(crate) struct Extents {
    prefix: u64,
    beyond: BTreeMap<u64, u64>,
}

impl Extents {
    /// Whether the bytes from `offset` on overlap nothing that is there. No bytes overlap nothing.
    pub(crate) fn fits(&self, offset: u64, len: u64) -> bool {
        if len == 0 {
            return true;
        }
        let end = offset + len;
        offset >= self.prefix
            && self.beyond.range(..end).next_back().is_none_or(|(&start, &size)| start + size <= offset)
    }

    /// Adds bytes that fit.
    pub(crate) fn insert(&mut self, offset: u64, len: u64) {
        if len == 0 {
            return;
        }
        if offset == self.prefix {
            self.prefix += len;
            while let Some(size) = self.beyond.remove(&self.prefix) {
                self.prefix += size;
            }
        } else {
            self.beyond.insert(offset, len);
        }
    }

    /// The size in bytes, if what is there begins at 0 and has no hole.
    pub(crate) fn whole(&self) -> Option<u64> {
        self.beyond.is_empty().then_some(self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn indices_behave_like_a_set(indices in proptest::collection::vec(1u32..40, 0..60)) {
            let mut ours = Indices::default();
            let mut model = BTreeSet::new();
            for i in indices {
                prop_assert_eq!(ours.contains(i), model.contains(&i));
                if model.insert(i) {
                    ours.insert(i);
                }
                prop_assert_eq!(ours.len() as usize, model.len());
                let missing: Vec<u32> = (1..=40).filter(|i| !model.contains(i)).take(5).collect();
                prop_assert_eq!(ours.missing(40, 5), missing);
            }
        }

        #[test]
        fn extents_behave_like_a_set_of_bytes(ranges in proptest::collection::vec((0u64..60, 0u64..12), 0..30)) {
            let mut ours = Extents::default();
            let mut model = BTreeSet::new();
            for (offset, len) in ranges {
                let fits = (offset..offset + len).all(|b| !model.contains(&b));
                prop_assert_eq!(ours.fits(offset, len), fits);
                if fits {
                    ours.insert(offset, len);
                    model.extend(offset..offset + len);
                }
                let end = model.iter().next_back().map_or(0, |b| b + 1);
                prop_assert_eq!(ours.whole(), (model.len() as u64 == end).then_some(end));
            }
        }
    }
}
