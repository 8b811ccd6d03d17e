//! What is compared with the model at each commit and at the end.

use std::collections::HashSet;

use super::super::batch::Batch;
use super::run::{Checked, Run, ensure};
use crate::assemble::tests::model::Model;
use crate::assemble::tests::scenario::What;
use crate::engine::entry::Entry;
use crate::progress::{OpenKind, decode, is_tagged};

impl Run<'_> {
    /// Counts the outcomes of a commit that happens; `before` are the failed files before it.
    pub(super) fn count(&mut self, batch: &Batch, before: &[Entry]) -> Checked {
        let owner = |model: &Model, place: (i32, i64)| model.owner.get(&place).copied();
        for outcome in &batch.outcomes {
            let spans = &outcome.info.spans;
            let place = match &outcome.answers {
                // late chunks are an upload of their own, behind those of their entry
                Some(entry) if outcome.is_incomplete() => spans[entry.spans().len()],
                Some(entry) => {
                    ensure(before.iter().any(|e| e.key == entry.key), || format!("{} is answered twice", entry.key))?;
                    continue;
                }
                None => spans[0],
            };
            let place = (place.partition, place.first);
            let number =
                owner(&self.account.model, place).ok_or_else(|| format!("an outcome of nothing at {place:?}"))?;
            self.account.outcomes[number] += 1;
            ensure(self.account.outcomes[number] == 1, || {
                format!("upload {number} at {place:?} has a second outcome")
            })?;
        }
        for note in &batch.notes {
            let place = (note.info.spans[0].partition, note.info.spans[0].first);
            let number = owner(&self.account.model, place).ok_or_else(|| format!("a note of nothing at {place:?}"))?;
            self.account.outcomes[number] += 1;
            ensure(self.account.outcomes[number] == 1, || format!("upload {number} at {place:?} is noted besides"))?;
        }
        for record in &batch.unusable {
            let place = (record.partition, record.offset);
            ensure(self.account.reported.insert(place), || format!("the record at {place:?} is reported twice"))?;
        }
        Ok(())
    }

    /// What is committed after a commit: what the model says of each position, and of the state.
    pub(super) fn check_stored(&self, batch: &Batch) -> Checked {
        for to in &batch.positions {
            self.check_position(to.partition, to.offset, &to.text)?;
        }
        let state = &self.broker.state;
        for outcome in &batch.outcomes {
            let entry = Entry::place_for(outcome);
            let is_there = self.entries().iter().any(|e| e.place == entry);
            ensure(is_there == outcome.result.is_err(), || {
                format!("`{}`: an entry is there, {is_there}; it is {:?}", outcome.info.version.path, outcome.result)
            })?;
            let partition = entry.partition;
            let is_fenced = batch.positions.iter().any(|to| to.partition == partition);
            ensure(is_fenced || outcome.answers.is_none(), || format!("the answer to {entry:?} is not fenced"))?;
        }
        for (partition, _) in self.broker.committed.iter().enumerate().filter(|(_, c)| c.is_some()) {
            let mark = state.get(&format!("started/files/{partition}"));
            ensure(mark.is_some_and(|id| id == b"id"), || format!("partition {partition} has no mark"))?;
        }
        Ok(())
    }

    /// The open list holds exactly the uploads that began below H and have no outcome, beside shadows; and each record
    /// below H that holds no chunk was reported.
    fn check_position(&self, partition: i32, offset: i64, text: &str) -> Checked {
        ensure(is_tagged(text), || format!("the position of partition {partition} names no topic"))?;
        let progress = decode(offset, text).map_err(|e| e.to_string())?;
        let (h, end) = (progress.frontier, self.schedule.scenario.ends[partition as usize]);
        ensure(h <= end, || format!("the frontier {h} of partition {partition} is beyond its end {end}"))?;
        for (number, upload) in self.account.model.uploads.iter().enumerate() {
            let Some((first, _)) = upload.spans.get(&partition) else { continue };
            if *first >= h {
                continue;
            }
            let listed = progress.open.get(first);
            ensure((listed == Some(&OpenKind::Open)) == (self.account.outcomes[number] == 0), || {
                let outcomes = self.account.outcomes[number];
                format!("upload {number} at {partition}:{first} has {outcomes} outcomes and is listed as {listed:?}")
            })?;
        }
        self.check_reported(partition as usize, h)
    }

    fn check_reported(&self, partition: usize, below: i64) -> Checked {
        let records = self.schedule.scenario.log[partition].iter().filter(|record| record.offset < below);
        for record in records.filter(|record| matches!(record.what, What::Junk)) {
            let place = (partition as i32, record.offset);
            ensure(self.account.reported.contains(&place), || format!("nobody hears of the record at {place:?}"))?;
        }
        Ok(())
    }

    /// Everything has what it should have.
    pub(super) fn check_end(&self) -> Checked {
        for (number, upload) in self.account.model.uploads.iter().enumerate() {
            ensure(self.account.outcomes[number] == u32::from(upload.whole || upload.expired), || {
                format!("upload {number} has {} outcomes: {upload:?}", self.account.outcomes[number])
            })?;
        }
        for partition in 0..self.schedule.scenario.log.len() {
            let end = self.schedule.scenario.ends[partition];
            let progress = self.broker.progress(partition, self.schedule.scenario.first);
            ensure(progress.frontier == end, || format!("partition {partition} ends at {}", progress.frontier))?;
            self.check_reported(partition, end)?;
        }
        let entries: Vec<Entry> = self.entries();
        let places: HashSet<_> = entries.iter().map(|entry| entry.place).collect();
        ensure(places.len() == entries.len(), || "a failed file has two entries".into())
    }
}
