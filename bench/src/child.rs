//! A process that is measured: seconds, CPU seconds, memory, and the lines that it printed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use datamill_floor::now_us;
use serde::{Deserialize, Serialize};

/// What a process took.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// When it began, microseconds since the epoch.
    pub(crate) began_us: u64,
    /// Seconds from its start to its end.
    pub(crate) seconds: f64,
    /// User and system time.
    pub(crate) cpu_seconds: f64,
    /// Most resident memory, MiB.
    pub(crate) peak_mib: f64,
    /// Most anonymous memory, MiB, looked at every 5 ms.
    pub(crate) anonymous_mib: f64,
    /// Numbers that it printed, by their names.
    pub(crate) printed: BTreeMap<String, u64>,
    /// It was ended because its time was over.
    pub(crate) did_not_finish: bool,
}

/// This program with other arguments.
pub(crate) fn ourselves() -> Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}

/// The program of the floors, which is beside this one.
pub(crate) fn floor(name: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?.with_file_name("datamill-floor"));
    command.arg(name);
    Ok(command)
}

/// Runs a process to its end, or ends it when `done` says so or after `limit`.
///
/// # Errors
/// It cannot be started, or fails by itself.
pub(crate) fn measure(command: &mut Command, limit: Duration, mut done: impl FnMut() -> bool) -> Result<Taken> {
    let mut taken = Taken { began_us: now_us(), ..Taken::default() };
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start")?;
    let mut ended_by_us = false;
    while !is_over(&child, &mut taken) {
        if !ended_by_us && (done() || start.elapsed() > limit) {
            taken.did_not_finish = start.elapsed() > limit;
            ended_by_us = true;
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    taken.seconds = start.elapsed().as_secs_f64();
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut text)?;
    }
    let status = child.wait()?;
    if !status.success() && !ended_by_us {
        bail!("{:?} ended with {status}", command.get_program());
    }
    for line in text.lines() {
        if let Some((name, number)) = line.split_once(' ')
            && let Ok(number) = number.parse()
        {
            taken.printed.insert(name.to_owned(), number);
        }
    }
    Ok(taken)
}

/// Looks at the process; once it is over, the kernel still knows its times until it is waited for.
fn is_over(child: &Child, taken: &mut Taken) -> bool {
    let pid = child.id();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_end_matches("kB").trim().parse::<f64>().ok().map(|kib| kib / 1024.0)
    };
    taken.peak_mib = taken.peak_mib.max(mib("VmHWM:").unwrap_or(0.0));
    taken.anonymous_mib = taken.anonymous_mib.max(mib("RssAnon:").unwrap_or(0.0));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, fields)) = stat.rsplit_once(") ") else { return true };
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks: f64 = fields[11..13].iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    taken.cpu_seconds = ticks / 100.0;
    fields[0] == "Z"
}
