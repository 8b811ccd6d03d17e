//! The critical section between the thread that reads and the thread that commits.
//!
//! ```text
//!   commit:  lock ─ numbers fresh? ─ take group metadata ─ mark "in flight" ─ unlock ─ transaction ─ unmark
//!   revoke:  lock ─ numbers go stale ─ wait until nothing is in flight ─ unlock ─ answer the coordinator
//! ```
//! The coordinator checks that a commit comes from a live member, not that the member owns the
//! partition. So the set of owned partitions and the proof of membership are taken together, and no
//! revocation is answered while a commit that saw the partition is still on its way.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::contract::Position;

/// Numbers of assignments are unique within the process, so that one from an earlier session is stale.
static NEXT: AtomicU64 = AtomicU64::new(1);

type Partition = (Arc<str>, i32);

#[derive(Default)]
struct State {
    owned: HashMap<Partition, u64>,
    in_flight: bool,
    closed: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Fence {
    state: Mutex<State>,
    landed: Condvar,
}

/// Why a commit may not start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused<E> {
    /// These partitions are not owned under the numbers given.
    Stale(Vec<Partition>),
    /// The proof of membership could not be taken.
    NoProof(E),
}

/// A commit in flight. Dropping it says that it has landed, one way or the other.
pub(super) struct Flight<'a> {
    fence: &'a Fence,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.fence.state.lock().in_flight = false;
        self.fence.landed.notify_all();
    }
}

impl Fence {
    /// The member owns a partition from now on, under the number returned.
    pub(super) fn grant(&self, topic: &Arc<str>, partition: i32) -> u64 {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.state.lock().owned.insert((topic.clone(), partition), number);
        number
    }

    /// The member owns these partitions no longer. Unless they are lost already, waits for a commit in
    /// flight, at most `limit`; answers whether none is left.
    pub(super) fn revoke(&self, partitions: &[Partition], lost: bool, limit: Duration) -> bool {
        let mut state = self.state.lock();
        for partition in partitions {
            state.owned.remove(partition);
        }
        let until = Instant::now() + limit;
        while state.in_flight && !lost {
            if self.landed.wait_until(&mut state, until).timed_out() {
                return !state.in_flight;
            }
        }
        true
    }

    /// No commit may start from now on: the member is gone.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.owned.clear();
    }

    /// Starts a commit: checks the numbers and takes the proof of membership in one step. The proof is
    /// not asked for after [`Fence::close`], nor when no position moves.
    pub(super) fn enter<T, E>(
        &self,
        positions: &[Position],
        proof: impl FnOnce() -> Result<T, E>,
    ) -> Result<(Flight<'_>, Option<T>), Refused<E>> {
        let mut state = self.state.lock();
        let stale: Vec<Partition> = positions
            .iter()
            .map(|position| ((position.topic.clone(), position.partition), position.assignment))
            .filter(|(partition, assignment)| state.owned.get(partition) != Some(assignment))
            .map(|(partition, _)| partition)
            .collect();
        if !stale.is_empty() {
            return Err(Refused::Stale(stale));
        }
        let proof = match positions.is_empty() || state.closed {
            true => None,
            false => Some(proof().map_err(Refused::NoProof)?),
        };
        state.in_flight = true;
        Ok((Flight { fence: self }, proof))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn position(topic: &Arc<str>, partition: i32, assignment: u64) -> Position {
        Position { topic: topic.clone(), partition, assignment, offset: 1, text: String::new() }
    }

    fn enter<'a>(fence: &'a Fence, positions: &[Position]) -> Result<(Flight<'a>, Option<()>), Refused<()>> {
        fence.enter(positions, || Ok(()))
    }

    #[test]
    fn a_stale_number_refuses_the_whole_commit_and_is_named() {
        let (fence, topic): (Fence, Arc<str>) = (Fence::default(), "t".into());
        let (first, second) = (fence.grant(&topic, 0), fence.grant(&topic, 1));
        fence.revoke(&[(topic.clone(), 1)], false, Duration::ZERO);
        let again = fence.grant(&topic, 1);
        assert_ne!(again, second);
        let refused = enter(&fence, &[position(&topic, 0, first), position(&topic, 1, second)]).err();
        assert_eq!(refused, Some(Refused::Stale(vec![(topic.clone(), 1)])));
        assert!(enter(&fence, &[position(&topic, 0, first), position(&topic, 1, again)]).is_ok());
    }

    #[test]
    fn no_proof_no_commit() {
        let (fence, topic): (Fence, Arc<str>) = (Fence::default(), "t".into());
        let number = fence.grant(&topic, 0);
        let refused = fence.enter(&[position(&topic, 0, number)], || Err::<(), _>("not a member")).err();
        assert_eq!(refused, Some(Refused::NoProof("not a member")));
        assert!(fence.revoke(&[(topic, 0)], false, Duration::ZERO), "a refused commit is not in flight");
    }

    #[test]
    fn a_revocation_waits_for_the_commit_in_flight_and_new_ones_are_refused_meanwhile() {
        let (fence, topic): (Arc<Fence>, Arc<str>) = (Arc::default(), "t".into());
        let number = fence.grant(&topic, 0);
        let positions = [position(&topic, 0, number)];
        let (flight, _) = enter(&fence, &positions).expect("fresh");
        let revoking = {
            let (fence, topic) = (fence.clone(), topic.clone());
            thread::spawn(move || fence.revoke(&[(topic, 0)], false, Duration::from_secs(60)))
        };
        let ask = || fence.enter(&positions, || Err::<(), _>(())).err();
        while ask() == Some(Refused::NoProof(())) {
            thread::yield_now();
        }
        assert!(matches!(ask(), Some(Refused::Stale(_))));
        assert!(!revoking.is_finished());
        drop(flight);
        assert!(revoking.join().expect("no panic"));
    }

    #[test]
    fn a_lost_partition_is_not_waited_for_and_a_stuck_commit_is_told() {
        let (fence, topic): (Fence, Arc<str>) = (Fence::default(), "t".into());
        let number = fence.grant(&topic, 0);
        let _flight = enter(&fence, &[position(&topic, 0, number)]).expect("fresh");
        assert!(fence.revoke(&[(topic.clone(), 0)], true, Duration::from_secs(60)));
        assert!(!fence.revoke(&[(topic, 0)], false, Duration::from_millis(5)));
    }
}
