//! Whether a program lives, and whether it does its work.

use crate::facts::{Hold, State};
use crate::report::heartbeat::ProgramKind;

/// What holds may pass by itself. This is long, in milliseconds.
const LONG_MS: i64 = 60_000;

/// Why a program is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotReady {
    /// The group has not said what it owns, or goes on without it.
    NotJoined,
    /// Something holds it.
    Held,
}

/// Whether something that holds for so many milliseconds keeps a program from its work.
///
/// A function that has not caught up, files that are read again and a quota only make the work slow, and another program
/// does the work for one that stands by. A broker that is away
/// or refuses the login, and commits that do not go through, do so from the first moment on, and anything else after a minute.
pub(crate) fn is_long(hold: Hold, ms: i64) -> bool {
    match hold {
        Hold::Crowded | Hold::ReadingAgain | Hold::Throttled | Hold::Standby => false,
        Hold::Commits | Hold::Broker | Hold::Login => true,
        _ => ms >= LONG_MS,
    }
}

/// What keeps a program of this kind from being ready, if anything does.
pub(super) fn not_ready(kind: ProgramKind, state: &State, now_ms: i64) -> Option<NotReady> {
    let held = state.held.and_then(|(hold, since_ms)| {
        let ms = now_ms.saturating_sub(since_ms).max(0);
        is_long(hold, ms).then_some(NotReady::Held)
    });
    let stands_by = state.held.is_some_and(|(hold, _)| hold == Hold::Standby);
    let is_in_place = kind == ProgramKind::Producer || state.is_member || stands_by;
    // a broker that is away may be why it has not joined
    held.or_else(|| (!is_in_place).then_some(NotReady::NotJoined))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn of(kind: ProgramKind, is_member: bool, held: Option<(Hold, i64)>) -> Option<NotReady> {
        let held = held.map(|(hold, seconds)| (hold, NOW_MS - seconds * 1000));
        not_ready(kind, &State { is_member, held, ..State::default() }, NOW_MS)
    }

    #[test]
    fn a_program_that_reads_is_ready_once_it_has_joined() {
        for kind in [ProgramKind::Reproducer, ProgramKind::Consumer] {
            assert_eq!(of(kind, false, None), Some(NotReady::NotJoined));
            assert_eq!(of(kind, true, None), None);
        }
        assert_eq!(of(ProgramKind::Producer, false, None), None);
    }

    #[test]
    fn what_holds_for_long_counts_and_what_is_only_slow_does_not() {
        let held = |hold, seconds| of(ProgramKind::Consumer, true, Some((hold, seconds)));
        assert_eq!(held(Hold::OutputFolder, 59), None);
        assert_eq!(held(Hold::OutputFolder, 61), Some(NotReady::Held));
        assert_eq!(held(Hold::Commits, 0), Some(NotReady::Held));
        assert_eq!(held(Hold::Crowded, 9999), None);
        assert_eq!(held(Hold::ReadingAgain, 9999), None);
        assert_eq!(held(Hold::Throttled, 9999), None);
        for hold in [Hold::Broker, Hold::Login] {
            assert_eq!(held(hold, 0), Some(NotReady::Held));
            let unjoined = of(ProgramKind::Consumer, false, Some((hold, 3)));
            assert_eq!(unjoined, Some(NotReady::Held), "that is why it has not joined");
        }
    }

    #[test]
    fn a_program_that_stands_by_is_ready_without_being_a_member() {
        assert_eq!(of(ProgramKind::Reproducer, false, Some((Hold::Standby, 9999))), None);
        assert_eq!(of(ProgramKind::Reproducer, false, Some((Hold::Spread, 3))), Some(NotReady::NotJoined));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_time_negative() {
        assert_eq!(of(ProgramKind::Producer, false, Some((Hold::Commits, -50))), Some(NotReady::Held));
    }
}
