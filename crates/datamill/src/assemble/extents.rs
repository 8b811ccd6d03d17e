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

    /// What arrived, as runs.
    pub(crate) fn runs(&self) -> Vec<IndexRun> {
        let mut runs: Vec<IndexRun> = Vec::new();
        if self.through > 0 {
            runs.push((1, self.through));
        }
        for &index in &self.beyond {
            match runs.last_mut() {
                Some(last) if last.1 + 1 == index => last.1 = index,
                _ => runs.push((index, index)),
            }
        }
        runs
    }
}

/// The first and the last one of indices that follow each other. A list of runs is in order, and no two of them
/// touch.
pub(crate) type IndexRun = (u32, u32);

/// The indices of both lists; `None` if they share one.
pub(crate) fn together(a: &[IndexRun], b: &[IndexRun]) -> Option<Vec<IndexRun>> {
    let mut all = [a, b].concat();
    all.sort_unstable();
    let mut runs: Vec<IndexRun> = Vec::with_capacity(all.len());
    for (first, last) in all {
        match runs.last_mut() {
            Some(before) if first <= before.1 => return None,
            Some(before) if first == before.1 + 1 => before.1 = last,
            _ => runs.push((first, last)),
        }
    }
    Some(runs)
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
            let runs = ours.runs();
            let listed: Vec<u32> = runs.iter().flat_map(|&(first, last)| first..=last).collect();
            prop_assert_eq!(listed, model.into_iter().collect::<Vec<_>>());
            prop_assert!(runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }

        #[test]
        fn runs_that_share_no_index_come_together(whose in proptest::collection::vec(0..4, 0..30)) {
            let of = |wanted: &[i32]| {
                let mut indices = Indices::default();
                for (index, _) in (1..).zip(&whose).filter(|(_, who)| wanted.contains(who)) {
                    indices.insert(index);
                }
                indices.runs()
            };
            prop_assert_eq!(together(&of(&[0, 1]), &of(&[2])), Some(of(&[0, 1, 2])));
            if whose.contains(&1) {
                prop_assert_eq!(together(&of(&[0, 1]), &of(&[1, 2])), None);
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
