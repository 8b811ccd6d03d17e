//! What happens when: it follows from the options alone.

use std::time::Duration;

use crate::options::Options;
use crate::random::Random;

/// What is done to whom. Workers are named by a number; one that is down stands for the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    KillWorker {
        worker: usize,
        back: Duration,
    },
    /// One of the processes below a worker.
    KillBelow {
        worker: usize,
        which: usize,
    },
    KillBroker {
        back: Duration,
    },
    Lose {
        worker: usize,
        back: Duration,
    },
    Pause {
        worker: usize,
        time: Duration,
    },
    Leave {
        worker: usize,
        back: Duration,
    },
    Term {
        worker: usize,
        back: Duration,
    },
    Join {
        time: Duration,
    },
    Twin {
        worker: usize,
        time: Duration,
    },
    KillUploader {
        uploader: usize,
    },
}

/// An action and its time after the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub at: Duration,
    pub action: Action,
}

/// The steps in order.
pub fn plan(options: &Options) -> Vec<Step> {
    let mut random = Random::new(options.seed, 1);
    let mut steps = Vec::new();
    let end = options.seconds * 1000;
    let mut add =
        |random: &mut Random, count: usize, from: u64, until: u64, make: &mut dyn FnMut(&mut Random) -> Action| {
            for _ in 0..count {
                let at = Duration::from_millis(random.between(from.min(until), until));
                steps.push(Step { at, action: make(random) });
            }
        };
    let workers = options.workers as u64;
    let who = |random: &mut Random| random.between(0, workers) as usize;
    let back = |random: &mut Random| Duration::from_millis(random.between(20, options.restart_ms.max(21)));
    let ms = Duration::from_millis;
    let session = options.session_ms;
    // The first kills may meet members that are still joining.
    add(&mut random, options.kills, 500, end, &mut |r| Action::KillWorker { worker: who(r), back: back(r) });
    add(&mut random, options.pauses, 2000, end, &mut |r| Action::Pause {
        worker: who(r),
        time: ms(r.between(200, session * 2)),
    });
    add(&mut random, options.leaves, 2000, end, &mut |r| Action::Leave { worker: who(r), back: back(r) });
    add(&mut random, options.terms, 2000, end, &mut |r| Action::Term { worker: who(r), back: back(r) });
    add(&mut random, options.joins, 2000, end, &mut |r| Action::Join { time: ms(r.between(1000, 8000)) });
    add(&mut random, options.twins, 3000, end, &mut |r| Action::Twin {
        worker: who(r),
        time: ms(r.between(3000, 6000)),
    });
    add(&mut random, options.kills_below, 1000, end, &mut |r| Action::KillBelow {
        worker: who(r),
        which: r.between(0, 1000) as usize,
    });
    let uploaders = options.uploaders as u64;
    add(&mut random, options.uploader_kills, 1000, end, &mut |r| Action::KillUploader {
        uploader: r.between(0, uploaders) as usize,
    });
    // Each outage in a stretch of its own, so that they do not run into one another.
    let mut apart = |count: usize, make: &mut dyn FnMut(&mut Random) -> Action| {
        let stretch = (end.saturating_sub(6000)) / count.max(1) as u64;
        for i in 0..count as u64 {
            let from = 4000 + i * stretch;
            add(&mut random, 1, from, from + stretch / 2, make);
        }
    };
    apart(options.broker_kills, &mut |r| Action::KillBroker { back: ms(r.between(0, 3000)) });
    apart(options.lost, &mut |r| Action::Lose { worker: who(r), back: ms(session * 2) });
    steps.sort_by_key(|step| step.at);
    steps
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::Command;

    fn options(args: &[&str]) -> Options {
        match Command::parse_from(["chaos", "run"].iter().chain(args)) {
            Command::Run(options) => options,
            Command::Spread(options) => panic!("{options:?}"),
        }
    }

    #[test]
    fn a_plan_follows_from_its_seed_and_holds_what_was_asked_for() {
        let options_7 = options(&["--seed", "7", "--kills", "40", "--broker-kills", "3", "--seconds", "100"]);
        let steps = plan(&options_7);
        assert_eq!(steps, plan(&options_7));
        assert_ne!(steps, plan(&options(&["--seed", "8", "--kills", "40", "--broker-kills", "3", "--seconds", "100"])));
        assert_ne!(steps, plan(&options(&["--seed", "7", "--kills", "40", "--lost", "1", "--seconds", "100"])));
        let count = |is: fn(&Action) -> bool| steps.iter().filter(|step| is(&step.action)).count();
        assert_eq!(count(|action| matches!(action, Action::KillWorker { .. })), 40);
        assert_eq!(count(|action| matches!(action, Action::KillBroker { .. })), 3);
        assert!(steps.is_sorted_by_key(|step| step.at));
        assert!(steps.last().is_some_and(|step| step.at < Duration::from_secs(100)));
    }
}
