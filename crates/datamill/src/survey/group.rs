//! How a consumer group stands on a topic, from outside, while its programs run or do not.
//!
//! ```text
//!            finished │ open, in hand │ never read
//!  ───────────────────┼───────────────┼────────────────────▶ offsets
//!                     ▲ position      ▲ read to            ▲ end
//!                     └───────────────┴─ read here ──┄┄┄┄┄┄┘ all of it, or as much as tells the rest
//! ```
//!
//! What the group left open is rebuilt as a program does at its start: the assembler gets the committed progress and the
//! records from the position on. The first ones are read, so a short backlog is exact; the rest is told from what was read.

mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use datamill_broker::{Log, Member, Offsets};

use look::Look;

use super::check::named;
use super::error::SurveyError;
use super::failures::Unseen;
use super::positions;
use super::problem::{Problem, ProblemKind, Subject};
use super::readers::readers;
use crate::control::Control;
use crate::engine::{FailedFile, Reached};
use crate::facts::FailureStatus;
use crate::report::clock;
use crate::report::text::{COMPACTED, bytes, count, counted, counted_with, duration, shell_word};
use crate::status::{Density, PartitionLag};

/// Files that are named in each list.
const NAMED: usize = 10;
/// Of those that were cut off, files that a sentence names.
const CUT_OFF_NAMED: usize = 3;

/// How a group stands. See the module.
#[derive(Debug, Clone)]
pub struct GroupStatus {
    /// Topic of the files.
    pub topic: String,
    /// The group.
    pub group: String,
    /// It has never read the topic, and no program of it runs.
    pub has_not_started: bool,
    /// Its live members, but for those that have said at their end that they end.
    pub members: Vec<Member>,
    /// How long one that was killed, or ended by an error, is among them, where it is.
    pub killed_listed_for: Option<Duration>,
    /// The partitions of the topic.
    pub partitions: Vec<PartitionStatus>,
    /// All partitions together.
    pub lag: GroupLag,
    /// Files that it has begun and that have no outcome.
    pub in_progress: u64,
    /// The first ones of them, by partition and offset.
    pub in_progress_files: Vec<InProgress>,
    /// Files of which no chunk came for ten minutes, though all of the topic was read: their uploads were probably cut
    /// off. Whether the group has begun them or not.
    pub cut_off: u64,
    /// The first ones of them.
    pub cut_off_files: Vec<InProgress>,
    /// Files that failed and have no result. `None` where that is not seen from here.
    pub failed: Option<u64>,
    /// Files whose chunks stopped coming. `None` where that is not seen from here.
    pub incomplete: Option<u64>,
    /// The first ones of both.
    pub failures: Vec<FailedFile>,
    /// Failed files of which somebody has asked for another try that they have not had.
    pub asked_retries: u64,
    /// Files with a result that somebody has asked to run again, and that were not run yet.
    pub asked_reruns: u64,
    /// What needs a person.
    pub problems: Vec<Problem>,
}

/// How a group stands in a partition.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionStatus {
    /// The partition.
    pub partition: i32,
    /// Where a restart reads on. `None` where the group has committed nothing.
    pub position: Option<i64>,
    /// The first offset that the group has never read.
    pub read_to: Option<i64>,
    /// The first record that is there.
    pub first: i64,
    /// Behind the last record that readers see.
    pub end: i64,
    /// Messages of uploads without an outcome.
    pub messages: u64,
    /// Age of the oldest upload without an outcome. `None` where it is not known.
    pub seconds: Option<f64>,
}

/// How far a group is behind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupLag {
    /// Messages of uploads without an outcome.
    pub messages: u64,
    /// Age of the oldest upload without an outcome. `None` where it is not known.
    pub seconds: Option<f64>,
    /// Uploads without an outcome. `None` where nothing tells how many there are.
    pub files: Option<u64>,
    /// Bytes of their chunks.
    pub bytes: Option<u64>,
    /// Files and bytes are estimated: not all messages were read.
    pub is_estimated: bool,
}

impl GroupLag {
    /// What all partitions have together.
    fn of(
        partitions: &[PartitionStatus],
        backlog: &BTreeMap<i32, PartitionLag>,
        density: Option<Density>,
        is_estimated: bool,
    ) -> Self {
        let (mut files, mut bytes) = (Some(0.0), Some(0.0));
        for lag in backlog.values() {
            let estimate = lag.estimate(density);
            files = files.zip(estimate).map(|(all, (files, _))| all + lag.read.files as f64 + files);
            bytes = bytes.zip(estimate).map(|(all, (_, bytes))| all + lag.read.bytes as f64 + bytes);
        }
        let oldest = partitions.iter().map(|partition| partition.seconds).collect::<Option<Vec<f64>>>();
        Self {
            messages: partitions.iter().map(|partition| partition.messages).sum(),
            seconds: oldest.map(|seconds| seconds.into_iter().fold(0.0, f64::max)),
            files: files.map(|files| files.round() as u64),
            bytes: bytes.map(|bytes| bytes.round() as u64),
            is_estimated,
        }
    }
}

/// A file that the group has begun.
#[derive(Debug, Clone, PartialEq)]
pub struct InProgress {
    /// Its path.
    pub path: String,
    /// Chunks that are on the topic.
    pub chunks: u32,
    /// All its chunks.
    pub n_chunks: u32,
    /// Bytes of the chunks that are there.
    pub bytes: u64,
    /// Time of its first record, milliseconds since the epoch.
    pub first_ms: i64,
    /// Time of the newest record of it.
    pub last_ms: i64,
    /// Its upload was probably cut off.
    pub is_cut_off: bool,
}

/// Looks how a group stands on a topic. `exact` reads all that it has not done, however much that is. Members of the names in
/// `ended` are those of programs that have ended, whatever the log still says. Changes nothing.
///
/// # Errors
/// Those of the log.
pub fn group_status(
    log: &Arc<dyn Log>,
    topic: &str,
    group: &str,
    exact: bool,
    ended: &BTreeSet<String>,
    control: &Control,
) -> Result<GroupStatus, SurveyError> {
    let found = log.topic(topic)?;
    let mut failures = Failures::default();
    let mut reached = Reached::read(log.as_ref(), &found, group, &mut |key, failure| failures.take(key, failure))?;
    reached.members.retain(|member| !member.instance.as_ref().is_some_and(|instance| ended.contains(instance)));
    let reached = reached;
    let is_known =
        reached.has_begun() || reached.has_state || !reached.replaced.is_empty() || !reached.forgotten.is_empty();
    let mut look = Look::new(log, &found, &reached)?;
    look.read(log, &found, exact, control)?;
    let density = look.density();
    let backlog = look.backlog(log.as_ref(), topic)?;
    let partitions = look.partitions(&backlog);
    let lag = GroupLag::of(&partitions, &backlog, density, !look.is_at_end);
    let in_progress = look.in_progress(&reached);
    let (asked_retries, asked_reruns) = reached.asked();
    let unseen = Unseen::of(&reached);
    let hides_all = unseen.as_ref().is_some_and(Unseen::hides_all);
    let elsewhere = if is_known { Vec::new() } else { other_topics(log.as_ref(), topic, group) };
    let mut status = GroupStatus {
        topic: topic.to_owned(),
        group: group.to_owned(),
        in_progress,
        in_progress_files: look.begun,
        cut_off: look.cut_off,
        cut_off_files: look.cut_off_files,
        failed: (!hides_all).then(|| failures.count(false)),
        incomplete: (!hides_all).then(|| failures.count(true)),
        failures: failures.shown.into_values().collect(),
        has_not_started: !is_known && reached.members.is_empty(),
        killed_listed_for: reached.killed_listed_for,
        members: Vec::new(),
        partitions,
        lag,
        asked_retries,
        asked_reruns,
        problems: Vec::new(),
    };
    let offsets: Vec<(i32, Offsets)> = look.spans.iter().map(|(span, offsets)| (span.partition, *offsets)).collect();
    let troubles = positions::troubles(topic, &reached, &offsets);
    status.problems = problems(log.as_ref(), &status, &reached, troubles, &elsewhere)?;
    status.problems.extend(unseen.filter(Unseen::is_of_datamill).map(|unseen| status.unseen_failures(&unseen)));
    if found.is_compacted() {
        let text = format!("topic `{topic}` is compacted: {COMPACTED}");
        status.problems.push(Problem::new(ProblemKind::TopicCompacted, Subject::Group(group.to_owned()), text));
    }
    status.members = reached.members;
    Ok(status)
}

impl GroupStatus {
    fn unseen_failures(&self, unseen: &Unseen) -> Problem {
        let mut text = unseen.sentence(&self.group, &self.topic);
        let asked = self.asked_retries + self.asked_reruns;
        if unseen.hides_all() && asked > 0 {
            text += &format!(", and has {} answered that wait", counted(asked, "request"));
        }
        Problem::new(ProblemKind::FailuresNotSeen, Subject::Group(self.group.clone()), text)
    }

    /// How things stand, in one sentence without its end.
    pub fn sentence(&self) -> String {
        let (group, topic, lag) = (&self.group, &self.topic, &self.lag);
        let about = if lag.is_estimated { "about " } else { "" };
        let waits = match (lag.files, lag.bytes) {
            _ if lag.messages == 0 => "nothing waits".to_owned(),
            (Some(files), Some(size)) if files > 0 => {
                format!("{about}{} ({about}{})", counted_with(files, "file", "waits", "wait"), bytes(size))
            }
            _ => counted_with(lag.messages, "message", "waits", "wait"),
        };
        let since = lag.seconds.filter(|seconds| *seconds > 0.0).and_then(|s| Duration::try_from_secs_f64(s).ok());
        let mut parts = Vec::new();
        if self.has_not_started {
            parts.push("it has not started yet".to_owned());
        }
        parts.push(waits + &since.map_or_else(String::new, |age| format!(", the oldest for {}", duration(age))));
        match self.cut_off {
            0 => {}
            1 => parts.push("1 was probably cut off".to_owned()),
            many => parts.push(format!("{} were probably cut off", count(many))),
        }
        match self.failed {
            None => parts.push("whether files failed is not seen here".to_owned()),
            Some(0) => {}
            Some(failed) => parts.push(format!("{} failed", count(failed))),
        }
        if let Some(incomplete) = self.incomplete.filter(|incomplete| *incomplete > 0) {
            let verb = if incomplete == 1 { "is" } else { "are" };
            parts.push(format!("{} {verb} incomplete", count(incomplete)));
        }
        for (number, what) in [(self.asked_retries, "tried"), (self.asked_reruns, "run")] {
            if number > 0 {
                parts.push(format!("{} to be {what} again, as asked for", counted_with(number, "file", "is", "are")));
            }
        }
        parts.push(programs_run(self.members.len(), self.killed_listed_for));
        format!("group `{group}` on topic `{topic}`: {}", parts.join("; "))
    }
}

/// How many programs run, as far as the members of the group tell.
pub(super) fn programs_run(members: usize, killed_listed_for: Option<Duration>) -> String {
    let killed =
        killed_listed_for.map(|span| format!(" (one that has just ended may count for up to {} s)", span.as_secs()));
    match members {
        0 => "no program runs".to_owned(),
        many => counted_with(many as u64, "program", "runs", "run") + &killed.unwrap_or_default(),
    }
}

/// The failures of a group: how many of each status, and the first ones.
#[derive(Default)]
struct Failures {
    statuses: BTreeMap<String, bool>,
    shown: BTreeMap<String, FailedFile>,
}

impl Failures {
    fn take(&mut self, key: &str, failure: Option<FailedFile>) {
        let Some(file) = failure else {
            self.statuses.remove(key);
            self.shown.remove(key);
            return;
        };
        self.statuses.insert(key.to_owned(), file.status == FailureStatus::Incomplete.as_str());
        if self.shown.len() < NAMED || self.shown.contains_key(key) {
            self.shown.insert(key.to_owned(), file);
        }
    }

    fn count(&self, incomplete: bool) -> u64 {
        self.statuses.values().filter(|is_incomplete| **is_incomplete == incomplete).count() as u64
    }
}

/// The topics on which a group has positions, but for this one. What the account may not see is left out.
pub(super) fn other_topics(log: &dyn Log, topic: &str, group: &str) -> Vec<String> {
    let names: Vec<String> = log.topics().unwrap_or_default().into_iter().map(|topic| topic.name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != topic).collect();
    let committed = log.group(group, &names).map(|found| found.committed).unwrap_or_default();
    let mut topics: Vec<String> = committed.into_keys().map(|(topic, _)| topic).collect();
    topics.dedup();
    topics
}

/// What needs a person.
fn problems(
    log: &dyn Log,
    status: &GroupStatus,
    reached: &Reached,
    troubles: Vec<(ProblemKind, String)>,
    elsewhere: &[String],
) -> Result<Vec<Problem>, SurveyError> {
    let (topic, group) = (&status.topic, &status.group);
    let mut said = Vec::new();
    let mut say = |kind, text| said.push(Problem::new(kind, Subject::Group(group.clone()), text));
    let has_trouble = !troubles.is_empty();
    troubles.into_iter().for_each(|(kind, text)| say(kind, text));
    let retry = |option: &str| {
        log.command(&format!("retry {option}--topic_name {topic} --consumer_group_id {}", shell_word(group)))
    };
    if let Some(failed) = status.failed.filter(|failed| *failed > 0) {
        let failed = counted(failed, "file");
        let text = format!("{failed} failed: {} shows why, {} has another try made", retry("--list "), retry(""));
        say(ProblemKind::FilesFailed, text);
    }
    if status.cut_off > 0 {
        say(ProblemKind::CutOff, cut_off(log, status));
    }
    if let Some(incomplete) = status.incomplete.filter(|incomplete| *incomplete > 0) {
        let list = retry(&format!("--list --status {} ", FailureStatus::Incomplete.as_str()));
        let incomplete = counted_with(incomplete, "file", "is", "are");
        say(ProblemKind::FilesIncomplete, format!("{incomplete} incomplete: {list} shows which; upload them again"));
    }
    let waits = status.lag.messages + status.asked_retries + status.asked_reruns;
    if !elsewhere.is_empty() {
        let text = format!(
            "group `{group}` has no position on topic `{topic}`, and has some on {}: check --topic_name, or start its program \
            for this topic",
            named(elsewhere)
        );
        say(ProblemKind::OtherTopic, text);
    } else if status.has_not_started && waits > 0 {
        let text = format!(
            "group `{group}` has not read anything of topic `{topic}` yet: start its program, or check --consumer_group_id. If \
            it has read it before, the topic was deleted and created again since. {}",
            readers(log, topic)?
        );
        say(ProblemKind::NotStarted, text);
    } else if reached.members.is_empty() && waits > 0 && !has_trouble {
        say(ProblemKind::NoProgram, format!("no program of group `{group}` runs: start it"));
    }
    Ok(said)
}

/// What is there of uploads that were probably cut off, and what sends the rest.
fn cut_off(log: &dyn Log, status: &GroupStatus) -> String {
    let said = status.cut_off_files.iter().take(CUT_OFF_NAMED).map(|file| {
        let since = clock::local_time_text(file.last_ms);
        format!(
            "`{}` ({} of {} chunks, none since {since})",
            file.path,
            count(file.chunks.into()),
            count(file.n_chunks.into())
        )
    });
    let named: Vec<String> = said.collect();
    let more = match status.cut_off.saturating_sub(named.len() as u64) {
        0 => String::new(),
        more => format!(" and {}", counted(more, "more file")),
    };
    let topic = shell_word(&status.topic);
    format!(
        "no further chunk has come of {}{more}: {} probably cut off. {} compares the folder of the files with the topic, {} \
        sends what is missing. Give both the --path_prefix of the upload, where it had one",
        named.join(", "),
        if status.cut_off == 1 { "its upload was" } else { "their uploads were" },
        log.command(&format!("reconcile DIR --topic_name {topic} --problems")),
        log.command(&format!("upload DIR --topic_name {topic} --only-missing"))
    )
}
