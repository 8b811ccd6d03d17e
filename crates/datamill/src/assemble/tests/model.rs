//! The rule, applied naively to the whole log in one go: the k-th occurrence of a chunk belongs to the
//! k-th open instance of its version; one that fits none opens another.

use std::collections::{BTreeMap, HashMap};

use super::scenario::{Scenario, What};

/// One upload of one version.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub(crate) version: usize,
    pub(crate) got: Vec<u32>,
    /// What each byte is, as far as it came.
    covered: BTreeMap<u64, u8>,
    /// First and last offset by partition.
    pub(crate) spans: BTreeMap<i32, (i64, i64)>,
    /// Another one of its version was incomplete when it began.
    pub(crate) repetition: bool,
    pub(crate) whole: bool,
    /// Its chunks stopped coming, and it was ended.
    pub(crate) expired: bool,
}

/// Uploads that were ended, by partition and first offset, with the first offset that they do not take.
pub(crate) type Ends = BTreeMap<(i32, i64), i64>;

impl Upload {
    /// Its bytes, unless it has a hole.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        let contiguous = self.covered.keys().enumerate().all(|(i, at)| i as u64 == *at);
        contiguous.then(|| self.covered.values().copied().collect())
    }
}

/// What an uninterrupted reader makes of a log.
pub(crate) struct Model {
    pub(crate) uploads: Vec<Upload>,
    /// The upload that the record at a partition and offset belongs to.
    pub(crate) owner: HashMap<(i32, i64), usize>,
}

impl Model {
    /// Makes it again from what was ended; outcomes stay with their uploads.
    pub(crate) fn renew(&mut self, scenario: &Scenario, ends: &Ends, outcomes: &mut Vec<u32>) {
        let first = |upload: &Upload| upload.spans.first_key_value().map(|(p, s)| (*p, s.0));
        let known: BTreeMap<_, u32> = self.uploads.iter().map(first).zip(outcomes.iter().copied()).collect();
        *self = Self::of(scenario, ends);
        *outcomes = self.uploads.iter().map(|upload| known.get(&first(upload)).copied().unwrap_or(0)).collect();
    }

    pub(crate) fn of(scenario: &Scenario, ends: &Ends) -> Self {
        let mut uploads: Vec<Upload> = Vec::new();
        let mut owner = HashMap::new();
        for (partition, records) in scenario.log.iter().enumerate() {
            let partition = partition as i32;
            for record in records {
                let What::Chunk { version: v, cut, index } = record.what else {
                    continue;
                };
                let version = &scenario.versions[v];
                if !version.wanted {
                    continue;
                }
                let (start, data) = version.chunk(cut, index);
                let range = start..start + data.len() as u64;
                let is_over = |upload: &Upload| {
                    upload
                        .spans
                        .get(&partition)
                        .and_then(|(first, _)| ends.get(&(partition, *first)))
                        .is_some_and(|end| record.offset >= *end)
                };
                let fits = |upload: &Upload| {
                    upload.version == v
                        && !is_over(upload)
                        && !upload.whole
                        && !upload.got.contains(&index)
                        && !range.clone().any(|at| upload.covered.contains_key(&at))
                };
                let number = uploads.iter().position(fits).unwrap_or_else(|| {
                    let repetition = uploads.iter().any(|u| u.version == v && !u.whole && !is_over(u));
                    uploads.push(Upload {
                        version: v,
                        got: Vec::new(),
                        covered: BTreeMap::new(),
                        spans: BTreeMap::new(),
                        repetition,
                        whole: false,
                        expired: false,
                    });
                    uploads.len() - 1
                });
                owner.insert((partition, record.offset), number);
                let upload = &mut uploads[number];
                upload.got.push(index);
                upload.covered.extend(range.zip(data.iter().copied()));
                upload.spans.entry(partition).or_insert((record.offset, record.offset)).1 = record.offset;
                upload.whole = upload.got.len() == version.total as usize;
            }
        }
        for upload in &mut uploads {
            upload.expired = upload.spans.iter().any(|(p, (first, _))| ends.contains_key(&(*p, *first)));
        }
        Self { uploads, owner }
    }

    /// The uploads that must be seen again to tell the chunks of those without an outcome apart: all
    /// that were incomplete when one of those, or one of these, began. Of files in one partition.
    pub(crate) fn shadows(&self, has_outcome: &[u32]) -> Vec<usize> {
        let mut listed: Vec<usize> = (0..self.uploads.len()).filter(|u| has_outcome[*u] == 0).collect();
        loop {
            let needed = (0..self.uploads.len()).find(|u| {
                let (Some((&p, &(first, last))), false) =
                    (self.uploads[*u].spans.first_key_value(), listed.contains(u))
                else {
                    return false;
                };
                listed.iter().any(|l| {
                    let other = &self.uploads[*l];
                    other.version == self.uploads[*u].version
                        && other.spans.get(&p).is_some_and(|(begins, _)| *begins > first && *begins < last)
                })
            });
            match needed {
                Some(upload) => listed.push(upload),
                None => break,
            }
        }
        listed.retain(|u| has_outcome[*u] > 0);
        listed
    }
}
