//! What is below a process: which processes, how much memory they have, and their end.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait as wait_for_any};

use super::frames::wait;

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The first wait for what was killed, and the last: a process ends at once, or waits for a disk.
const FIRST_WAIT: Duration = Duration::from_millis(5);
const LAST_WAIT: Duration = Duration::from_secs(1);

/// All processes that can be seen.
pub(super) fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

fn parent(of: Pid) -> Option<Pid> {
    Pid::from_raw(field_in(&stat(of)?, PARENT)?)
}

/// When a process has started, in ticks after the start of the machine.
pub(super) fn started_at(process: Pid) -> Option<u64> {
    field_in(&stat(process)?, STARTED_AT)
}

fn stat(of: Pid) -> Option<String> {
    fs::read_to_string(format!("/proc/{}/stat", of.as_raw_pid())).ok()
}

/// Fields of proc_pid_stat(5) behind the name of the program.
const PARENT: usize = 1;
const STARTED_AT: usize = 19;

/// The name of the program stands before the fields in brackets, and may hold any character.
fn field_in<T: FromStr>(stat: &str, field: usize) -> Option<T> {
    let (_, behind) = stat.rsplit_once(") ")?;
    behind.split_ascii_whitespace().nth(field)?.parse().ok()
}

/// Processes with their parents.
fn families() -> Vec<(Pid, Pid)> {
    processes().filter_map(|process| Some((process, parent(process)?))).collect()
}

/// All that are below this process.
fn below() -> Vec<Pid> {
    let families = families();
    let mut found = vec![getpid()];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(families.iter().filter(|(_, of)| *of == parent).map(|(process, _)| *process));
        next += 1;
    }
    found.split_off(1)
}

/// What came of the end of all.
#[derive(Debug)]
pub(super) struct AllEnded {
    /// How many were killed.
    pub(super) killed: usize,
    /// Whether the time was over before.
    pub(super) is_stuck: bool,
}

/// Kills all that is below this process, and waits until nothing is left, or the time is over. Hands out what ended, with
/// its status. `ended` can be read when a child has ended.
///
/// A process may not end: it waits for a disk that does not answer, or belongs to another user.
pub(super) fn end_all(
    ended: &impl AsFd,
    within: Option<Duration>,
    mut seen: impl FnMut(Pid, WaitStatus),
) -> io::Result<AllEnded> {
    let mut killed = BTreeSet::new();
    let (since, mut time) = (Instant::now(), FIRST_WAIT);
    while reap(&mut seen)? {
        if within.is_some_and(|within| since.elapsed() > within) {
            return Ok(AllEnded { killed: killed.len(), is_stuck: true });
        }
        let me = getpid();
        for (process, _) in families().into_iter().filter(|(_, parent)| *parent == me) {
            if kill_process(process, Signal::KILL).is_ok() {
                killed.insert(process.as_raw_pid());
            }
        }
        if wait([Some(ended)], Some(time))? == [true] {
            drain(ended);
            time = FIRST_WAIT;
        } else {
            time = (time * 2).min(LAST_WAIT);
        }
    }
    Ok(AllEnded { killed: killed.len(), is_stuck: false })
}

/// Takes the status of each child that has ended. Answers whether there are others.
pub(super) fn reap(seen: &mut impl FnMut(Pid, WaitStatus)) -> io::Result<bool> {
    loop {
        match wait_for_any(WaitOptions::NOHANG) {
            Ok(Some((process, status))) => seen(process, status),
            Ok(None) => return Ok(true),
            Err(Errno::CHILD) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes the bytes that only wake.
pub(super) fn drain(pipe: &impl AsFd) {
    let mut bytes = [0; 256];
    while rustix::io::read(pipe, &mut bytes).is_ok_and(|count| count == bytes.len()) {}
}

/// The memory of what is below this process, and the limit for it.
#[derive(Debug)]
pub(super) struct Memory {
    limit: u64,
    peak: u64,
    next: Instant,
}

impl Memory {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, peak: 0, next: Instant::now() + LOOK_EVERY }
    }

    /// When it is to be looked at again.
    pub(super) fn time(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Looks, if it is time. Answers what was found where that is above the limit.
    ///
    /// Pages that processes share count for each of them at first. Where that is too much, they are counted exactly: each
    /// process by its part.
    pub(super) fn look(&mut self) -> Option<u64> {
        if !self.time().is_zero() {
            return None;
        }
        let below = below();
        let resident: u64 = below.iter().filter_map(|process| kibibytes(*process, "status", "VmRSS:")).sum();
        let mut found = resident << 10;
        if found > self.limit {
            let exact = |process: &Pid| {
                kibibytes(*process, "smaps_rollup", "Pss:").or_else(|| kibibytes(*process, "status", "VmRSS:"))
            };
            found = below.iter().filter_map(exact).sum::<u64>() << 10;
            self.peak = self.peak.max(found);
        }
        self.next = Instant::now() + LOOK_EVERY;
        (found > self.limit).then_some(self.peak)
    }
}

/// A number in a file that /proc has of a process. A process that has ended has none.
fn kibibytes(process: Pid, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/{file}", process.as_raw_pid())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "12 (a) b (c) S 7 12 12 0 -1 4194304 99 0 0 0 0 0 0 0 20 0 1 0 5551 2772992 430";
        assert_eq!(field_in(stat, PARENT), Some(7));
        assert_eq!(field_in(stat, STARTED_AT), Some(5551));
        assert_eq!(field_in::<i32>("12 (sh", PARENT), None);
    }

    #[test]
    fn processes_below_are_found_with_their_memory() {
        let mut child = Command::new("sh").args(["-c", "cat; :"]).stdin(Stdio::piped()).spawn().unwrap();
        let shell = Pid::from_child(&child);
        assert_eq!(parent(shell), Some(getpid()));
        assert!(below().contains(&shell));
        assert!(kibibytes(shell, "smaps_rollup", "Pss:").is_some());
        assert!(kibibytes(shell, "status", "VmRSS:").is_some());
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(kibibytes(shell, "status", "VmRSS:"), None);
    }
}
