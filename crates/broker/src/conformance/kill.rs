//! A second process that works on the log and is killed while it does.
//!
//! The second process is the test binary itself, told by its environment to run nothing but
//! [`second_process`]. It says on its standard output what was acknowledged, one line each, and the
//! test believes exactly that.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::{Commit, NewRecord, Position};

use super::{Backend, Member, amounts, of_values, publish, read_all, texts, values};

/// What the second process does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    /// [`work`]
    Work,
    /// [`amounts::drain`]
    Drain,
}

const ROLE: &str = "DATAMILL_TEST_ROLE";
const ADDRESS: &str = "DATAMILL_TEST_ADDRESS";
const NAMES: &str = "DATAMILL_TEST_NAMES";

/// A second process that runs.
pub(super) struct Second {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Second {
    /// Starts it on the same log.
    pub(super) fn start(backend: &Backend, role: Role, names: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("the path of this program"))
            .args(["--ignored", "--exact", "the_second_process", "--nocapture", "--test-threads=1"])
            .env(ROLE, format!("{role:?}"))
            .env(ADDRESS, &backend.address)
            .env(NAMES, names.join("\n"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the second process starts");
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, stdout }
    }

    /// All it says until it ends by itself, which it must do without an error.
    pub(super) fn lines_to_end(&mut self) -> Vec<String> {
        let lines = (&mut self.stdout).lines().map(|line| line.expect("text")).collect();
        let status = self.child.wait().expect("it can be waited for");
        assert!(status.success(), "the second process failed: {status}");
        lines
    }

    /// Waits for the first line that begins so, kills it some time later, and gives all whole lines.
    fn kill_after(mut self, begins: &str, time: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.stdout.read_line(&mut line).expect("text");
            assert!(read > 0, "the second process ended before it said `{begins}`: {lines:?}");
            let first = line.starts_with(begins);
            lines.push(line.trim_end().to_owned());
            if first {
                break;
            }
        }
        let (mut child, stdout) = (self.child, self.stdout);
        let rest = std::thread::spawn(move || {
            let mut rest = Vec::new();
            for line in stdout.split(b'\n').map_while(Result::ok) {
                rest.push(String::from_utf8_lossy(&line).into_owned());
            }
            rest
        });
        std::thread::sleep(time);
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
        let mut rest = rest.join().expect("its output can be read");
        // Each line is written whole with its end; what follows the last end was cut by the kill.
        if rest.last().is_some_and(|line| !line.ends_with('.')) {
            rest.pop();
        }
        lines.extend(rest);
        lines
    }
}

/// The entrance of the second process, which works on the log of the first one.
pub(super) fn second_process(like: &Backend) {
    let Ok(role) = std::env::var(ROLE) else { return };
    let of = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("`{name}` is set"));
    let backend = Backend::new(like.opener, of(ADDRESS), like.can, None);
    let names = of(NAMES);
    let names: Vec<_> = names.lines().collect();
    // The test runner has begun a line.
    println!();
    match (role.as_str(), names.as_slice()) {
        ("Work", [source, results, uploads, group]) => work(&backend, source, results, uploads, group),
        ("Drain", [topic, group]) => amounts::drain(&backend, topic, group),
        (other, names) => panic!("no role `{other}` with {names:?}"),
    }
}

/// Records of the source topic; more than a second process gets through before it is killed.
const SOURCE: usize = 10_000;
/// How often it is killed.
const ROUNDS: usize = 6;

/// Reads the source; for each record commits one result and the position behind it, publishes one
/// record outside of commits, and says what was acknowledged.
fn work(backend: &Backend, source: &str, results: &str, uploads: &str, group: &str) {
    let log = backend.open();
    let run = backend.name("upload");
    let mut publisher = log.publisher().expect("a publisher");
    let mut member = Member::join(log.as_ref(), &backend.member(group, &[source]), 1);
    let mut sent = 0;
    loop {
        if member.of(source, 0).start >= SOURCE as i64 {
            println!("committed {SOURCE}.");
            return;
        }
        for record in member.records(1) {
            let upload = format!("{run}-{sent}");
            let new = NewRecord { topic: uploads, value: Some(upload.as_bytes()), ..NewRecord::default() };
            publisher.send(&new, sent).expect("the record is taken on");
            sent += 1;

            let next = record.offset + 1;
            let result = [record.text().to_owned()];
            let positions = [Position { offset: next, ..member.position(source, 0, 0, &format!("at {next}")) }];
            let commit = Commit { records: &of_values(results, &result), positions: &positions, ..Commit::default() };
            member.commit(&commit);
            let mut out = std::io::stdout().lock();
            writeln!(out, "committed {next}.").expect("the test listens");
            publisher
                .poll(Duration::ZERO, &mut |delivery| {
                    let placed = delivery.outcome.expect("the record is taken");
                    writeln!(out, "published {run}-{} {}.", delivery.token, placed.offset).expect("the test listens");
                })
                .expect("polling works");
            out.flush().expect("the test listens");
            if next >= SOURCE as i64 {
                return;
            }
        }
    }
}

pub(super) fn what_was_acknowledged_before_a_kill_is_there_and_commits_are_whole(backend: &Backend) {
    let log = backend.open();
    let source = backend.topic(log.as_ref(), "kill", 1);
    let results = backend.topic(log.as_ref(), "kill-results", 1);
    let uploads = backend.topic(log.as_ref(), "kill-uploads", 1);
    let group = backend.name("g");
    let sent = values("r", 0..SOURCE);
    publish(log.as_ref(), &of_values(&source, &sent));
    let mut committed = 0;
    let mut published = BTreeMap::new();
    for round in 0..ROUNDS {
        let second = Second::start(backend, Role::Work, &[&source, &results, &uploads, &group]);
        let random = u64::from(uuid::Uuid::new_v4().as_bytes()[0]);
        for line in second.kill_after("committed ", Duration::from_millis(random)) {
            let told = line.strip_suffix('.').unwrap_or_default();
            if let Some(next) = told.strip_prefix("committed ") {
                committed = next.parse().expect("a number");
            } else if let Some((value, offset)) = told.strip_prefix("published ").and_then(|told| told.split_once(' '))
            {
                published.insert(offset.parse::<i64>().expect("a number"), value.to_owned());
            }
        }
        // Taking the place of the one that was killed ends what it left half done.
        let member = Member::join(log.as_ref(), &backend.member(&group, &[&source]), 1);
        let position = member.of(&source, 0).start;
        assert!(position >= committed, "round {round}: {committed} was acknowledged, {position} is there");
        let read = read_all(log.as_ref(), &results, 0);
        assert_eq!(texts(&read), sent[..position as usize], "round {round}: one result below the position, no other");
        let text = member.of(&source, 0).committed.as_ref().map(|c| c.text.clone());
        assert_eq!(text, Some(format!("at {position}")), "round {round}");
        member.leave();
        let read = read_all(log.as_ref(), &uploads, 0);
        for (offset, value) in &published {
            let found = read.iter().find(|r| r.offset == *offset).map(super::Kept::text);
            assert_eq!(found, Some(value.as_str()), "round {round}: an acknowledged record at offset {offset}");
        }
    }
    assert!(!published.is_empty(), "something was published");
}
