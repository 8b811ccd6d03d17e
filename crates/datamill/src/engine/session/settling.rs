//! Which of several members of a group reads a topic that spreads files over partitions: the one that owns the first
//! partition. The others leave the group and stand by.

use std::time::{Duration, Instant};

use super::ownership::Ownership;

/// How long a member without the first partition stays: a rebalance that is under way may still give it that.
const HAND_OVER: Duration = Duration::from_secs(2);
/// How long the owner of the first partition waits for the others to leave. Then it makes room itself: one of them may
/// not know yet that files are spread, or may not leave since it cannot look at the group.
const OTHERS_LEAVE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Default)]
pub(super) struct Settling {
    /// Since when other members own some of the partitions.
    divided_since: Option<Instant>,
}

impl Settling {
    /// Whether it is for this member to leave now. `sees_group` says that it can tell from outside when the others are
    /// gone: one that cannot stays.
    pub(super) fn leaves(&mut self, ownership: &Ownership, sees_group: bool, now: Instant) -> bool {
        if !ownership.is_divided() {
            self.divided_since = None;
            return false;
        }
        let since = *self.divided_since.get_or_insert(now);
        let patience = if ownership.owns_first() { OTHERS_LEAVE } else { HAND_OVER };
        sees_group && now - since >= patience
    }

    /// For how long other members have owned some of the partitions.
    pub(super) fn divided_for(&self, now: Instant) -> Duration {
        self.divided_since.map_or(Duration::ZERO, |since| now - since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member that owns these of three partitions.
    fn member(owned: &[i32]) -> Ownership {
        let mut ownership = Ownership::of(3, true);
        ownership.joins();
        owned.iter().for_each(|partition| ownership.assign(*partition, 1));
        ownership
    }

    /// The second at which it leaves, if it sees the group.
    fn leaves_at(owned: &[i32], sees_group: bool) -> Option<u64> {
        let (start, ownership, mut settling) = (Instant::now(), member(owned), Settling::default());
        (0..100).find(|second| settling.leaves(&ownership, sees_group, start + Duration::from_secs(*second)))
    }

    #[test]
    fn the_owner_of_the_first_partition_stays_for_longer_than_all_others() {
        assert_eq!([&[1][..], &[2], &[1, 2], &[]].map(|owned| leaves_at(owned, true)), [Some(2); 4]);
        assert_eq!(leaves_at(&[0, 2], true), Some(30));
    }

    #[test]
    fn a_member_that_owns_all_stays() {
        assert_eq!(leaves_at(&[0, 1, 2], true), None);
    }

    #[test]
    fn one_that_cannot_see_when_the_others_are_gone_stays() {
        assert_eq!([&[0][..], &[1]].map(|owned| leaves_at(owned, false)), [None; 2]);
    }

    #[test]
    fn the_time_counts_from_when_the_others_came_last() {
        let (start, mut settling) = (Instant::now(), Settling::default());
        let at = |second| start + Duration::from_secs(second);
        assert!(!settling.leaves(&member(&[1]), true, at(0)));
        assert!(!settling.leaves(&member(&[0, 1, 2]), true, at(1)));
        assert!(!settling.leaves(&member(&[1]), true, at(10)));
        assert_eq!(settling.divided_for(at(11)), Duration::from_secs(1));
        assert!(settling.leaves(&member(&[1]), true, at(12)));
    }
}
