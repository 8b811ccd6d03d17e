//! What a broker keeps of a group: positions under assignment numbers, and the state. A commit is all or nothing.

use std::collections::BTreeMap;

use datamill_broker::Position;

use super::super::batch::Batch;
use super::Mistake;
use crate::progress::{Progress, decode, encode};

/// See the module.
pub(super) struct Broker {
    /// Position and text of each partition.
    pub(super) committed: Vec<Option<(i64, String)>>,
    pub(super) state: BTreeMap<String, Vec<u8>>,
    /// Assignment number of each partition that is owned.
    pub(super) assigned: Vec<Option<u64>>,
    last_assignment: u64,
}

impl Broker {
    pub(super) fn of(partitions: usize) -> Self {
        let (committed, assigned) = (vec![None; partitions], vec![None; partitions]);
        Self { committed, state: BTreeMap::new(), assigned, last_assignment: 0 }
    }

    pub(super) fn assign(&mut self, partition: usize) -> u64 {
        self.last_assignment += 1;
        self.assigned[partition] = Some(self.last_assignment);
        self.last_assignment
    }

    /// Whether a commit is made under the assignments that hold.
    pub(super) fn takes(&self, batch: &Batch) -> bool {
        batch.positions.iter().all(|to| self.assigned[to.partition as usize] == Some(to.assignment))
    }

    /// The commit happens.
    pub(super) fn store(&mut self, batch: &Batch) {
        for to in &batch.positions {
            self.committed[to.partition as usize] = Some((to.offset, to.text.clone()));
        }
        for change in &batch.state {
            match &change.value {
                Some(value) => drop(self.state.insert(change.key.clone(), value.clone())),
                None => drop(self.state.remove(&change.key)),
            }
        }
    }

    /// The committed progress of a partition.
    pub(super) fn progress(&self, partition: usize, first: i64) -> Progress {
        match &self.committed[partition] {
            Some((offset, text)) => decode(*offset, text).unwrap(),
            None => Progress::starting_at(first),
        }
    }
}

/// Makes a mistake in a batch.
pub(super) fn spoil(batch: &mut Batch, mistake: Mistake) {
    match mistake {
        Mistake::PositionTooFar => change(&mut batch.positions, |progress| {
            progress.open.pop_first();
        }),
        Mistake::FrontierTooFar => change(&mut batch.positions, |progress| progress.frontier += 1),
        Mistake::PositionsLeftOut => batch.positions.clear(),
        Mistake::OutcomeForgotten => {
            batch.outcomes.pop();
            batch.origins.pop();
        }
        Mistake::FailureForgotten => batch.state.retain(|c| c.value.is_none() || !c.key.starts_with("failed/")),
        Mistake::RemovalForgotten => batch.state.retain(|c| c.value.is_some() || !c.key.starts_with("failed/")),
        Mistake::MarkForgotten => batch.state.retain(|c| !c.key.starts_with("started/")),
        Mistake::UnusableForgotten => batch.unusable.clear(),
        Mistake::EndedForgotten => {
            batch.notes.clear();
            batch.outcomes.retain(|outcome| !outcome.is_incomplete());
        }
        _ => {}
    }
}

fn change(positions: &mut [Position], change: impl Fn(&mut Progress)) {
    for to in positions {
        let mut progress = decode(to.offset, &to.text).unwrap();
        change(&mut progress);
        (to.offset, to.text) = encode(&progress, Some(&super::run::tag()));
    }
}
