//! A topic whose files lie in several partitions, and a group with several members: who stands by, and for how long.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use datamill_broker::{Error, ErrorKind, Member};

use super::members::Members;
use super::{Engine, Input, Reader};
use crate::engine::session::Report;
use crate::facts::{Hold, Holding, State};

/// Time between two looks at the group while another member reads.
const EVERY: Duration = Duration::from_secs(3);
/// After a look that found no member, another one follows within this time and the same again: a member that begins a new
/// session may be gone for a moment, and several programs that stand by are not to come at once.
const AGAIN: Duration = Duration::from_secs(2);
/// How often a stop is looked for meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// Whether the group can be seen without being a member of it: a program that cannot does not leave.
#[derive(Default)]
pub(super) struct Sight {
    members: Members,
    /// The last answer said so.
    pub(super) is_clear: bool,
    /// The account may not see it, which is not asked again in this session.
    pub(super) is_denied: bool,
}

impl Sight {
    fn take(&mut self, answer: &Result<Vec<Member>, Error>) {
        self.is_clear = answer.is_ok();
        self.is_denied = answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Denied);
    }
}

impl Reader<'_> {
    /// Finds out whether this program may stand by, while other members own partitions of a spread topic.
    pub(super) fn look_at_group(&mut self) {
        let is_divided = self.session.is_member() && !self.session.owns_all();
        if is_divided && !self.session.is_spread() {
            let owned = self.session.owned().keys().copied();
            if self.newest.step(self.engine.log, self.engine.topic(), owned) {
                self.due.extend(self.session.on(Input::Report(Report::Spread)));
            }
        }
        let sight = &mut self.sight;
        if !self.session.is_divided() {
            return sight.is_clear = false;
        }
        if let Some(answer) = sight.members.answer() {
            sight.take(&answer);
        }
        if !sight.is_clear && !sight.is_denied {
            sight.members.ask(self.engine.log, self.engine.settings);
        }
    }
}

/// What a look at the group says to a program that stands by.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// To look again after this time.
    Wait(Duration),
    /// To join.
    Join,
}

/// The looks of a program that stands by.
#[derive(Default)]
struct Looks {
    was_empty: bool,
}

impl Looks {
    /// `extra` is a time of random length below [`AGAIN`].
    fn take(&mut self, topic: &str, answer: Result<Vec<Member>, Error>, extra: Duration) -> Look {
        let is_empty = match answer {
            Ok(members) => !members.iter().any(|member| member.may_read(topic)),
            // the broker may be back when it is asked again
            Err(error) if error.kind() == ErrorKind::Retry => false,
            // as a member it says what is wrong, or holds
            Err(_) => return Look::Join,
        };
        let was_empty = std::mem::replace(&mut self.was_empty, is_empty);
        match (is_empty, was_empty) {
            (false, _) => Look::Wait(EVERY),
            (true, false) => Look::Wait(AGAIN + extra),
            (true, true) => Look::Join,
        }
    }
}

/// A time of random length, below the limit.
fn random_below(limit: Duration) -> Duration {
    let limit_ms = limit.as_millis().max(1) as u64;
    Duration::from_millis(RandomState::new().hash_one(()) % limit_ms)
}

impl Engine<'_> {
    /// Waits until no other member of the group reads the topic. Answers whether this program is to join the group again;
    /// not where it is asked to stop.
    pub(super) fn stand_by(&self) -> bool {
        let (topic, group) = (self.topic(), &self.settings.group);
        tracing::info!(topic = %topic, group, "standing by: the topic spreads the chunks of one file over its partitions, \
            and another member of the group reads all of them; this program takes over when that one is gone");
        let counters = self.listeners.facts.counters();
        let (mut members, mut looks, mut holding) = (Members::default(), Looks::default(), Holding::new());
        let mut next = Instant::now() + EVERY;
        counters.stand(&State::default());
        while self.control.stopping().is_none() {
            counters.turn();
            holding.step(counters, Some(Hold::of_log(self.log.as_ref()).unwrap_or(Hold::Standby)));
            if counters.is_asked_for_backlog() {
                counters.answer_backlog(Vec::new());
            }
            if self.control.take_check() {
                tracing::info!(topic = %topic, group, "standing by; {}", self.listeners.tally.line());
            }
            if let Some(answer) = members.answer() {
                match looks.take(topic, answer, random_below(AGAIN)) {
                    Look::Wait(time) => next = Instant::now() + time,
                    Look::Join => {
                        tracing::info!(topic = %topic, group, "no other member of the group reads the topic any more: \
                            taking over");
                        return true;
                    }
                }
            } else if Instant::now() >= next {
                members.ask(self.log, self.settings);
            }
            std::thread::sleep(LOOK);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(topics: &[&str]) -> Member {
        let owned = topics.iter().map(|topic| ((*topic).to_owned(), 0)).collect();
        Member { id: "m".into(), instance: None, client_id: "c".into(), host: "h".into(), owned }
    }

    fn looks(answers: Vec<Result<Vec<Member>, Error>>) -> Vec<Look> {
        let mut looks = Looks::default();
        answers.into_iter().map(|answer| looks.take("t", answer, Duration::ZERO)).collect()
    }

    #[test]
    fn it_joins_once_two_looks_in_a_row_find_no_member() {
        let found = looks(vec![Ok(vec![member(&["t"])]), Ok(vec![]), Ok(vec![member(&[])]), Ok(vec![]), Ok(vec![])]);
        let (every, again) = (|| Look::Wait(EVERY), || Look::Wait(AGAIN));
        assert_eq!(found, [every(), again(), every(), again(), Look::Join]);
    }

    #[test]
    fn members_that_read_other_topics_are_not_waited_for() {
        assert_eq!(looks(vec![Ok(vec![member(&["other"])]), Ok(vec![member(&["other"])])])[1], Look::Join);
        assert_eq!(looks(vec![Ok(vec![]), Ok(vec![member(&["other", "t"])])])[1], Look::Wait(EVERY));
    }

    #[test]
    fn a_broker_that_is_away_is_asked_again_and_one_that_refuses_is_asked_by_joining() {
        let error = |kind| Err(Error::new(kind, "no"));
        assert_eq!(looks(vec![Ok(vec![]), error(ErrorKind::Retry)])[1], Look::Wait(EVERY));
        assert_eq!(looks(vec![error(ErrorKind::Denied)]), [Look::Join]);
    }

    #[test]
    fn programs_that_stand_by_look_at_different_moments() {
        let times: std::collections::BTreeSet<_> = (0..50).map(|_| random_below(AGAIN)).collect();
        assert!(times.len() > 10 && times.iter().all(|time| *time < AGAIN), "{times:?}");
    }
}
