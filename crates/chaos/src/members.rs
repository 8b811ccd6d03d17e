//! The workers as processes: started, signalled, watched, and started again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use datamill::report::clock::now_ms;
use rustix::process::{Pid, Signal, kill_process};

use crate::log::{GROUP, RESULTS, TOPIC};
use crate::options::Job;
use crate::report::{Kill, Report};

/// How long a worker that was asked to end may take: its own limit is 30 s.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// A signal that comes before the program listens may be lost: it is sent again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Where programs and their files are.
#[derive(Debug, Clone)]
pub struct Place {
    pub folder: PathBuf,
    pub config: PathBuf,
    /// The command `datamill`.
    pub datamill: PathBuf,
    /// This program.
    pub chaos: PathBuf,
    pub job: Job,
    /// Options of all workers.
    pub worker_options: Vec<&'static str>,
}

impl Place {
    /// The folder that downloading workers share.
    pub fn mirror(&self) -> PathBuf {
        self.folder.join("mirror")
    }

    /// A file for what a program prints; it goes on where it ended.
    pub fn log(&self, name: &str) -> Result<File> {
        let path = self.log_path(name);
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    pub fn log_path(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Runs,
    /// It was killed.
    Dead,
    /// It was asked to end: when, and to leave the group or not.
    Ends(Instant, bool),
}

/// One place in the group and the process that has it.
#[derive(Debug)]
pub struct Member {
    pub name: String,
    instance: String,
    child: Option<Child>,
    wanted: Wanted,
    /// When it is started again.
    back_at: Option<Instant>,
    back_after: Duration,
    resume_at: Option<Instant>,
    /// When a member that only visits leaves.
    pub leaves_at: Option<Instant>,
    is_visitor: bool,
    /// It may be replaced by a second process with its identity until then.
    pub contested_until: Option<Instant>,
    asked_at: Instant,
    log_start: u64,
    kill: Option<usize>,
}

impl Member {
    pub fn new(name: &str, instance: &str, visit: Option<Duration>) -> Self {
        Self {
            name: name.to_owned(),
            instance: instance.to_owned(),
            child: None,
            wanted: Wanted::Runs,
            back_at: Some(Instant::now()),
            back_after: Duration::ZERO,
            resume_at: None,
            leaves_at: visit.map(|time| Instant::now() + time),
            is_visitor: visit.is_some(),
            contested_until: None,
            asked_at: Instant::now(),
            log_start: 0,
            kill: None,
        }
    }

    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// It runs, and nothing else is being done to it.
    pub fn is_free(&self) -> bool {
        self.child.is_some()
            && self.wanted == Wanted::Runs
            && self.resume_at.is_none()
            && self.contested_until.is_none()
    }

    /// Nothing will happen to it any more.
    pub fn is_over(&self) -> bool {
        self.child.is_none() && self.back_at.is_none()
    }

    /// The command of a worker with this output folder and place, and with further options.
    pub fn command(&self, place: &Place, options: &[&str]) -> Command {
        let mut command = match place.job {
            Job::Reproduce => self.reproducer(place),
            Job::Command | Job::Worker => {
                let mut command = Command::new(&place.datamill);
                command.args(["reproduce", "--consumer_topic_name", TOPIC, "--producer_topic_name", RESULTS]);
                command.arg(if place.job == Job::Worker { "--worker" } else { "--stdout" });
                command
            }
            Job::Download => {
                let mut command = Command::new(&place.datamill);
                command.arg("download").arg(place.mirror()).args(["--topic_name", TOPIC]);
                command
            }
        };
        command.arg("--config").arg(&place.config);
        command.args(["--consumer_group_id", GROUP, "--instance", &self.instance]);
        command.args(["--logger_stream_level", "debug", "--memory_limit", "32M", "--n_threads", "2"]);
        // a command that was killed has failed once, and runs again
        let is_below = matches!(place.job, Job::Command | Job::Worker);
        command.args(["--max_attempts", if is_below { "3" } else { "1" }]);
        command.args(&place.worker_options).args(options);
        command.arg("--output_dir").arg(place.folder.join(&self.name)).stdin(Stdio::null()).stdout(Stdio::null());
        match place.job {
            Job::Command => command.arg("--").arg(&place.chaos).args(["hash", "{path}"]),
            Job::Worker => command.arg("--").arg(&place.chaos).arg("stay"),
            Job::Reproduce | Job::Download => &mut command,
        };
        command
    }

    fn reproducer(&self, place: &Place) -> Command {
        let mut command = Command::new(&place.chaos);
        let mode = match self.name.len() + usize::from(self.name.as_bytes()[self.name.len() - 1]) {
            n if n % 3 == 0 => "memory",
            n if n % 3 == 1 => "disk",
            _ => "both",
        };
        command.args(["worker", "--mode", mode]);
        command.args(["--consumer_topic_name", TOPIC, "--producer_topic_name", RESULTS]);
        command
    }

    fn start(&mut self, place: &Place, report: &mut Report) -> Result<()> {
        let log = place.log(&self.name)?;
        self.log_start = log.metadata()?.len();
        self.child = Some(self.command(place, &[]).stderr(log).spawn().context("cannot start a worker")?);
        self.wanted = Wanted::Runs;
        self.back_at = None;
        report.starts += 1;
        if let Some(kill) = self.kill.take() {
            report.kills[kill].back_ms = Some(now_ms());
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        // Not waited for yet, so the id is still this child's.
        if let Some(child) = &self.child {
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    pub fn kill(&mut self, back: Option<Duration>, place: &Place, report: &mut Report) {
        let partitions = self.owned(place);
        self.signal(Signal::KILL);
        self.wanted = Wanted::Dead;
        self.back_after = back.unwrap_or_default();
        self.kill = Some(report.kills.len());
        report.kills.push(Kill { at_ms: now_ms(), back_ms: None, partitions });
    }

    /// Kills one of the processes below it. `false` where it has none.
    pub fn kill_below(&self, which: usize) -> bool {
        let Some(child) = &self.child else { return false };
        let below = below(Pid::from_child(child));
        // it may have ended since
        !below.is_empty() && kill_process(below[which % below.len()], Signal::KILL).is_ok()
    }

    pub fn pause(&mut self, time: Duration) {
        self.signal(Signal::STOP);
        self.resume_at = Some(Instant::now() + time);
    }

    pub fn resume(&mut self) {
        if self.resume_at.take().is_some() {
            self.signal(Signal::CONT);
        }
    }

    /// Asks it to end: to leave the group, or to keep its place.
    pub fn end(&mut self, leave: bool, back: Duration) {
        self.ask(leave);
        self.wanted = Wanted::Ends(Instant::now(), leave);
        self.back_after = back;
    }

    fn ask(&mut self, leave: bool) {
        self.signal(if leave { Signal::INT } else { Signal::TERM });
        self.asked_at = Instant::now();
    }

    /// Ends it for good.
    pub fn retire(&mut self) {
        self.resume();
        self.is_visitor = true;
        self.back_at = None;
        if self.child.is_some() && self.wanted == Wanted::Runs {
            self.end(true, Duration::ZERO);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, place: &Place, report: &mut Report) -> Result<()> {
        let now = Instant::now();
        if self.contested_until.is_some_and(|at| now >= at) {
            self.contested_until = None;
        }
        if self.resume_at.is_some_and(|at| now >= at) {
            self.resume();
        }
        if self.leaves_at.is_some_and(|at| now >= at) {
            self.leaves_at = None;
            self.retire();
        }
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait()?
        {
            self.child = None;
            self.resume_at = None;
            self.judge(status, place, report);
            // A place that is contested is taken up again when the other process has gone.
            let again = now + self.back_after;
            self.back_at = (!self.is_visitor).then(|| self.contested_until.map_or(again, |at| again.max(at)));
        }
        if let (Wanted::Ends(since, leave), true) = (self.wanted, self.child.is_some()) {
            if since.elapsed() > ENDS_WITHIN {
                report.faults.push(format!("{} did not end within {} s", self.name, ENDS_WITHIN.as_secs()));
                self.signal(Signal::KILL);
                self.wanted = Wanted::Dead;
            } else if self.asked_at.elapsed() > ASK_AGAIN {
                // A second signal to a program that has noticed the first would end it at once.
                match self.words(place).contains("stopping: ") {
                    true => self.asked_at = since + ENDS_WITHIN,
                    false => self.ask(leave),
                }
            }
        }
        if self.child.is_none() && self.back_at.is_some_and(|at| now >= at) {
            self.start(place, report)?;
        }
        Ok(())
    }

    fn judge(&mut self, status: ExitStatus, place: &Place, report: &mut Report) {
        let line = last_line(&place.log_path(&self.name));
        match (self.wanted, status.code()) {
            (Wanted::Dead, _) => {}
            (Wanted::Ends(..), Some(0 | 1)) => {}
            // Asked before it listened to signals.
            (Wanted::Ends(..), None) if matches!(status.signal(), Some(2 | 15)) => {}
            (_, Some(4)) => report.replaced += 1,
            (_, Some(101) | None) => {
                let signal = status.signal().map_or_else(String::new, |signal| format!(" (signal {signal})"));
                report.faults.push(format!("{} crashed{signal}: {line}", self.name));
            }
            (_, Some(code)) => {
                self.back_after = Duration::from_millis(500);
                *report.exits.entry(format!("a worker ended by itself with code {code}: {line}")).or_default() += 1;
            }
        }
    }

    /// What it has said since it was started.
    fn words(&self, place: &Place) -> String {
        text_from(&place.log_path(&self.name), self.log_start).unwrap_or_default()
    }

    /// The partitions that it owns, by its own words.
    fn owned(&self, place: &Place) -> BTreeSet<i32> {
        let mut owned = BTreeSet::new();
        for line in self.words(place).lines() {
            let Some(partitions) = field(line, "partitions") else { continue };
            let numbers = partitions.split(',').filter_map(|number| number.parse::<i32>().ok());
            if line.contains("partitions assigned") {
                owned.extend(numbers);
            } else if line.contains("partitions revoked") {
                numbers.for_each(|number| {
                    owned.remove(&number);
                });
            }
        }
        owned
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Only after an error: a child of ours that is not waited for yet.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The processes below another one.
fn below(top: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let families: Vec<(Pid, Pid)> = processes
        .filter_map(|process| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_pid())).ok()?;
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            Some((process, Pid::from_raw(parent)?))
        })
        .collect();
    let mut found = vec![top];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(families.iter().filter(|(_, of)| *of == parent).map(|(process, _)| *process));
        next += 1;
    }
    found.split_off(1)
}

fn text_from(path: &Path, start: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The value of ` name=value` in a line.
pub fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let start = line.find(&format!(" {name}="))? + name.len() + 2;
    line[start..].split(' ').next().map(|value| value.trim_matches(['"', '`']))
}

pub fn last_line(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().rev().find(|line| !line.contains("DEBUG")).unwrap_or("no last words").to_owned()
}
