//! What is compared with the model on the way and at the end.

use std::collections::{BTreeMap, BTreeSet};

use super::super::model::Upload;
use super::super::scenario::What;
use super::{Checked, Ready, Run, ensure};
use crate::assemble::InstanceIds;
use crate::progress::{OpenKind, Progress};

impl Run<'_> {
    /// The files whose first record is gone are named once the partition is behind them.
    pub(super) fn check_lost(&mut self, partition: usize) -> Checked {
        self.named_lost.extend(self.assembler.take_lost());
        let Some(owned) = &self.owned[partition] else {
            return Ok(());
        };
        let next = self.assembler.positions().find(|(p, _)| *p == partition as i32).map_or(0, |(_, next)| next);
        let expected: BTreeSet<i64> = owned.lost.range(..next).copied().collect();
        let named: BTreeSet<i64> =
            self.named_lost.iter().filter(|(p, _)| *p == partition as i32).map(|(_, offset)| *offset).collect();
        ensure(named == expected, || format!("lost in partition {partition}: named {named:?}, are {expected:?}"))
    }

    /// The open list holds exactly the uploads that began below H and have no outcome, beside shadows.
    pub(super) fn check_progress(&self, partition: usize, progress: &Progress, outcomes: &[u32]) -> Checked {
        let before = &self.committed[partition];
        let (w, h) = (progress.position(), progress.frontier);
        ensure(w >= before.position && h >= before.frontier, || {
            format!("partition {partition} goes back from {}, {} to {w}, {h}", before.position, before.frontier)
        })?;
        for (number, upload) in self.model.uploads.iter().enumerate() {
            let Some((first, _)) = upload.spans.get(&(partition as i32)) else {
                continue;
            };
            if *first >= h || self.hit.contains_key(&upload.version) {
                continue;
            }
            let listed = progress.open.get(first);
            ensure((listed == Some(&OpenKind::Open)) == (outcomes[number] == 0), || {
                format!(
                    "upload {number} at {partition}:{first} has {} outcomes and is listed as {listed:?}",
                    outcomes[number]
                )
            })?;
        }
        for first in progress.open.keys() {
            let owner = self.model.owner.get(&(partition as i32, *first));
            let known = owner.is_some_and(|upload| {
                let upload = &self.model.uploads[*upload];
                self.hit.contains_key(&upload.version)
                    || upload.spans.get(&(partition as i32)).is_some_and(|(begins, _)| begins == first)
            });
            ensure(known, || format!("nothing begins at {partition}:{first}, which is listed"))?;
        }
        Ok(())
    }

    /// The upload of the model that this file is; `None` for a version that lost records.
    pub(super) fn upload_of(&self, ready: &Ready) -> Result<Option<usize>, String> {
        let info = &ready.info;
        let spans: BTreeMap<i32, (i64, i64)> = info.spans.iter().map(|s| (s.partition, (s.first, s.last))).collect();
        let place = info.spans.first().map(|s| (s.partition, s.first)).ok_or("a file without a record")?;
        let number = *self.model.owner.get(&place).ok_or_else(|| format!("a file of nothing at {place:?}"))?;
        let upload = &self.model.uploads[number];
        if self.hit.contains_key(&upload.version) {
            // a mixture of two cuts may be short: its hash tells
            let version = &self.scenario.versions[upload.version];
            let right = version.cuts.len() > 1 || ready.bytes.as_ref() == Some(&version.bytes);
            ensure(right, || format!("wrong bytes of a file at {place:?}"))?;
            return Ok(None);
        }
        ensure(upload.whole && upload.spans == spans, || {
            format!("a file with records {spans:?} is whole; the model has {upload:?}")
        })?;
        ensure(upload.bytes() == ready.bytes, || format!("wrong bytes of upload {number} at {place:?}"))?;
        Ok(Some(number))
    }

    pub(super) fn check_end(&mut self) -> Checked {
        for (number, upload) in self.model.uploads.iter().enumerate() {
            if !self.hit.contains_key(&upload.version) {
                ensure(self.outcomes[number] == u32::from(upload.whole || upload.expired), || {
                    format!("upload {number} has {} outcomes: {upload:?}", self.outcomes[number])
                })?;
            }
        }
        for (version, entries) in &self.hit {
            // mixtures of two cuts may come out in another number
            if self.scenario.versions[*version].cuts.len() > 1 {
                continue;
            }
            let has_outcome = |u: &&Upload| u.version == *version && (u.whole || u.expired);
            let whole = self.model.uploads.iter().filter(has_outcome).count() as u32;
            let before: u32 = self
                .model
                .uploads
                .iter()
                .zip(&self.outcomes)
                .filter(|(u, _)| u.version == *version)
                .map(|(_, n)| n)
                .sum();
            let outcomes = before + self.outcomes_of_hit.get(version).copied().unwrap_or(0);
            ensure(outcomes <= whole + entries, || {
                format!("{outcomes} outcomes of version {version}, which lost records")
            })?;
        }
        let shadows = self.model.shadows(&self.outcomes);
        let none = InstanceIds::default();
        for partition in 0..self.owned.len() {
            let firsts = |u: usize| self.model.uploads[u].spans.get(&(partition as i32)).map(|(first, _)| *first);
            let progress = self.assembler.progress(partition as i32, &none).ok_or("a partition is missing")?;
            ensure(progress.frontier == self.scenario.ends[partition], || {
                format!("the end is not reached: {progress:?}")
            })?;
            if !self.hit.is_empty() {
                continue;
            }
            let open = (0..self.outcomes.len()).filter(|u| self.outcomes[*u] == 0).filter_map(firsts);
            let open = open.map(|first| (first, OpenKind::Open));
            let shadows = shadows.iter().copied().filter_map(firsts).map(|first| (first, OpenKind::Shadow));
            let expected: BTreeMap<i64, OpenKind> = open.chain(shadows).collect();
            ensure(progress.open == expected || self.scenario.spread, || {
                format!("partition {partition} ends with {progress:?} instead of {expected:?}")
            })?;
            // a spread file is listed in all of its partitions as long as a repetition is in one of them
            if expected.is_empty() && (!self.scenario.spread || self.outcomes.iter().all(|n| *n > 0)) {
                let end = self.scenario.ends[partition];
                ensure(self.committed[partition].position == end, || format!("nothing is open, but W is not {end}"))?;
            }
        }
        self.check_filling()
    }

    pub(super) fn check_filling(&self) -> Checked {
        if !self.hit.is_empty() || self.scenario.spread {
            return Ok(());
        }
        let uploads = self.model.uploads.iter().filter(|u| !u.whole && !u.expired && !u.repetition);
        let expected: BTreeSet<(i32, i64, usize)> = uploads
            .filter_map(|u| u.spans.first_key_value().map(|(p, (first, _))| (*p, *first, u.got.len())))
            .collect();
        let filling = self.assembler.filling();
        let ours: BTreeSet<(i32, i64, usize)> =
            filling.iter().map(|(_, i)| (i.spans[0].partition, i.spans[0].first, i.indices.len() as usize)).collect();
        ensure(ours == expected && ours.len() == filling.len(), || {
            format!("incomplete are {expected:?}, listed are {ours:?}")
        })?;
        for (_, file) in &filling {
            let (place, path) = (&file.spans[0], &file.version.path);
            let of_path =
                self.scenario.log[place.partition as usize].iter().rev().find_map(|record| match record.what {
                    What::Chunk { version, .. } => Some(&self.scenario.versions[version])
                        .filter(|version| path.strip_prefix("sub/") == Some(version.filename.as_str())),
                    What::Junk => None,
                });
            let is_outdated = of_path.is_some_and(|newest| newest.sha512 != file.version.sha512);
            ensure(file.outdated == is_outdated, || format!("{path} at {place:?} is outdated: {}", file.outdated))?;
        }
        let waiting = ours.len() - filling.iter().filter(|(_, f)| f.outdated || f.late || f.superseded).count();
        let backlog: u64 = self.assembler.backlog().iter().map(|part| part.files).sum();
        ensure(backlog == waiting as u64, || format!("{backlog} files wait, of {waiting}"))?;
        let bytes: u64 = self
            .model
            .uploads
            .iter()
            .filter(|u| !u.whole && !u.expired)
            .filter_map(|u| Some(u.bytes()?.len() as u64))
            .sum();
        ensure(self.spill.is_some() || self.budget.filling() as u64 >= bytes, || "memory is not counted".into())
    }
}
