//! What a keeper has left that was killed itself: found by a variable in the environment of its commands.
//!
//! Its value names the datamill that started the command, so what is left of one that was killed together with its keepers
//! is found by the next one.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, kill_process};
use uuid::Uuid;

use super::below::{processes, started_at};

/// The variable. What a command starts has it as well, unless it makes an environment anew.
pub(super) const MARK: &str = "DATAMILL_KEEPER";

/// The value of the variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    datamill: Datamill,
    keeper: Uuid,
}

/// A process of datamill. Its id alone may be another one's later, or another one's in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Datamill {
    /// The inode of its PID namespace.
    namespace: u64,
    id: i32,
    /// Ticks after the start of the machine.
    started_at: u64,
}

impl Mark {
    /// The mark of a new keeper of this process.
    pub(super) fn new() -> io::Result<Self> {
        let me = getpid();
        let started_at = started_at(me).ok_or_else(|| io::Error::other("/proc does not show this process"))?;
        let datamill = Datamill { namespace: namespace()?, id: me.as_raw_pid(), started_at };
        Ok(Self { datamill, keeper: Uuid::new_v4() })
    }
}

/// Of the one who asks: `pid:[4026531836]` is where the link points.
fn namespace() -> io::Result<u64> {
    let link = fs::read_link("/proc/self/ns/pid")?;
    let number = link.to_string_lossy().trim_start_matches("pid:[").trim_end_matches(']').parse();
    number.map_err(|_| io::Error::other("the namespace of this process has no number"))
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Datamill { namespace, id, started_at } = self.datamill;
        write!(f, "{namespace}.{id}.{started_at}.{}", self.keeper)
    }
}

impl FromStr for Mark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('.');
        let mut next = || parts.next().ok_or(());
        let datamill = Datamill {
            namespace: next()?.parse().map_err(drop)?,
            id: next()?.parse().map_err(drop)?,
            started_at: next()?.parse().map_err(drop)?,
        };
        Ok(Self { datamill, keeper: next()?.parse().map_err(drop)? })
    }
}

/// How long what was killed is looked for.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Kills all processes with this mark, until there is none. Answers whether that is so.
pub(super) fn end_marked(mark: &Mark) -> bool {
    end_those(|found| found == mark).is_some()
}

/// Kills what the commands of a datamill have left that was killed itself, with its keepers. Answers how many processes
/// that were; `None` where some do not end.
///
/// Only what this process's PID namespace has is judged: ids are others elsewhere.
pub(super) fn end_orphans() -> io::Result<Option<usize>> {
    let here = namespace()?;
    let is_gone = |Datamill { namespace, id, started_at: then }: &Datamill| {
        *namespace == here && Pid::from_raw(*id).and_then(started_at) != Some(*then)
    };
    Ok(end_those(|found| is_gone(&found.datamill)))
}

/// How many there were, or `None` where some are left after a while.
fn end_those(is_meant: impl Fn(&Mark) -> bool) -> Option<usize> {
    let (since, mut ended) = (Instant::now(), BTreeSet::new());
    loop {
        let meant: Vec<Pid> =
            processes().filter(|process| mark_of(*process).is_some_and(|mark| is_meant(&mark))).collect();
        if meant.is_empty() {
            return Some(ended.len());
        }
        if since.elapsed() > ENDS_WITHIN {
            return None;
        }
        for process in meant {
            // it may have ended by itself
            let _ = kill_process(process, Signal::KILL);
            ended.insert(process.as_raw_pid());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process of another user, or one that has ended, has none that can be read.
fn mark_of(process: Pid) -> Option<Mark> {
    let environment = fs::read(format!("/proc/{}/environ", process.as_raw_pid())).ok()?;
    let value = |variable: &[u8]| Some(variable.strip_prefix(MARK.as_bytes())?.strip_prefix(b"=")?.to_vec());
    let value = environment.split(|byte| *byte == 0).find_map(value)?;
    str::from_utf8(&value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn start(mark: &Mark) -> Child {
        Command::new("sh").args(["-c", "sleep 600; :"]).env(MARK, mark.to_string()).spawn().unwrap()
    }

    #[test]
    fn what_has_the_mark_is_ended_and_nothing_else() {
        let (mark, other_mark) = (Mark::new().unwrap(), Mark::new().unwrap());
        assert_eq!(mark.to_string().parse(), Ok(mark.clone()));
        let (mut marked, mut other) = (start(&mark), start(&other_mark));
        assert!(end_marked(&mark));
        assert!(!marked.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        assert!(end_marked(&other_mark));
        other.wait().unwrap();
    }

    #[test]
    fn what_a_datamill_left_that_is_gone_is_ended_and_nothing_of_one_that_lives_or_of_a_container() {
        let mark = Mark::new().unwrap();
        let with = |change: fn(&mut Datamill)| {
            let mut other = mark.clone();
            change(&mut other.datamill);
            other
        };
        // another process had this id before
        let gone = with(|datamill| datamill.started_at -= 1);
        let elsewhere = with(|datamill| (datamill.namespace, datamill.started_at) = (1, 1));
        let mut kept = [start(&mark), start(&elsewhere)];
        let mut left = start(&gone);
        assert!(end_orphans().unwrap().unwrap() >= 1);
        assert!(!left.wait().unwrap().success());
        for child in &mut kept {
            assert!(child.try_wait().unwrap().is_none());
        }
        assert!(end_marked(&mark) && end_marked(&elsewhere));
        for child in &mut kept {
            child.wait().unwrap();
        }
    }
}
