//! What has come of each upload of the model, as the commits that happened have it.

use std::collections::HashSet;

use super::run::{Checked, ensure};
use crate::assemble::FileInfo;
use crate::assemble::tests::model::{Ends, Model};
use crate::assemble::tests::scenario::Scenario;

/// See the module.
pub(super) struct Account<'a> {
    scenario: &'a Scenario,
    pub(super) model: Model,
    /// Outcomes of each upload of the model.
    pub(super) outcomes: Vec<u32>,
    /// Records without a chunk that were reported.
    pub(super) reported: HashSet<(i32, i64)>,
    /// Uploads that were ended in this life, and for good.
    ends: Ends,
    committed_ends: Ends,
}

impl<'a> Account<'a> {
    pub(super) fn of(scenario: &'a Scenario) -> Self {
        let model = Model::of(scenario, &Ends::new());
        let (outcomes, reported) = (vec![0; model.uploads.len()], HashSet::new());
        Self { scenario, model, outcomes, reported, ends: Ends::new(), committed_ends: Ends::new() }
    }

    pub(super) fn has_ended(&self, place: (i32, i64)) -> bool {
        self.ends.contains_key(&place)
    }

    /// The upload that begins at this place was ended when its partition was read up to `next`.
    pub(super) fn end(&mut self, place: (i32, i64), next: i64) -> Checked {
        self.ends.insert(place, next);
        self.renew_model();
        let owner = self.model.owner.get(&place).ok_or("a file of nothing ended")?;
        ensure(!self.model.uploads[*owner].whole, || format!("upload {owner} at {place:?} ended, and is whole"))
    }

    fn renew_model(&mut self) {
        self.model.renew(self.scenario, &self.ends, &mut self.outcomes);
    }

    /// What was ended in these partitions and not committed begins anew.
    pub(super) fn forget_ends(&mut self, gone: impl Fn(i32) -> bool) {
        let committed = &self.committed_ends;
        self.ends.retain(|place, _| !gone(place.0) || committed.contains_key(place));
        self.renew_model();
    }

    /// The end of this upload is committed.
    pub(super) fn keep_ends(&mut self, info: &FileInfo) {
        for place in info.spans.iter().map(|span| (span.partition, span.first)) {
            if let Some(end) = self.ends.get(&place) {
                self.committed_ends.insert(place, *end);
            }
        }
    }
}
