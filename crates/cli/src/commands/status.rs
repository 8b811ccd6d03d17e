//! `datamill status`: how a group and a watched folder stand on a topic.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use datamill::broker::{Log, Properties};
use datamill::engine::Control;
use datamill::program::Exit;
use datamill::report::chain;
use datamill::report::clock;
use datamill::report::logging::say;
use datamill::report::text::{bytes, count, counted, counted_with, duration, printable};
use datamill::settings::GroupId;
use datamill::survey::{
    GroupStatus, Heartbeats, InProgress, LastHeartbeat, Problem, ProblemKind, ProgramStatus, Subject, SurveyError,
    WatchStatus, WatchedFolder, group_status, last_heartbeats, program_status, readers, watch_status,
};
use datamill::upload::{Filter, PathPrefix};
use serde_json::{Value, json};

use super::output::{LogArgs, table};
use super::survey::{control, ended, out};

/// Show how a consumer group and a watched folder stand on a topic
///
/// Who is in the group, how far it is in each partition, how many files wait and for how long, which files failed or are
/// incomplete. For a watched folder: what was delivered, what waits, what cannot be sent. Works whether programs run or
/// not, and changes nothing: it does not join the group.
///
/// Files and bytes that wait are counted from the first 10,000 messages (or 64 MiB) that the group has not done; where
/// there are more, the rest is estimated from them. Which files failed of a group that runs with `--delivery at-least-once`
/// is in its output folder: that this is not seen here is said, and needs a person.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(crate) struct StatusArgs {
    /// Folder that `datamill watch` sends to the topic, named as it is there
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Topic of the files
    #[arg(long = "topic_name", visible_alias = "consumer_topic_name", value_name = "TOPIC")]
    topic_name: String,
    /// Consumer group [default: group.id of the configuration]
    #[arg(long = "consumer_group_id", value_name = "GROUP")]
    consumer_group_id: Option<String>,
    /// Read all that the group has not done, so that no number is estimated
    #[arg(long)]
    exact: bool,
    /// Topic of heartbeats: shows the last one of each program, and what held it then. A program that has said that it ends
    /// does not count as one that runs
    #[arg(long = "heartbeat_topic_name", value_name = "TOPIC")]
    heartbeat_topic_name: Option<String>,
    /// Where a program has its `--status_listen`, as a port of this machine or as `HOST:PORT`: shows what it does now, and
    /// what holds it. Can be given several times
    #[arg(long = "status_address", value_name = "ADDRESS")]
    status_address: Vec<String>,
    /// Folder for the record of the watch, where the watch has this option
    #[arg(long = "logs_dir", value_name = "FOLDER", requires = "folder")]
    logs_dir: Option<PathBuf>,
    /// Which files of the folder the watch sends, where it has this option
    #[arg(long = "upload_regex", value_name = "REGEX", requires = "folder")]
    upload_regex: Option<String>,
    /// Folder before the paths on the topic, where the watch has this option
    #[arg(long = "path_prefix", value_name = "FOLDER", requires = "folder")]
    path_prefix: Option<PathPrefix>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogArgs,
}

const AFTER: &str = "Exit codes: 0 nothing needs a person, 1 something does (files failed or are incomplete, uploads were probably cut off, files wait and \
no program runs, a position cannot be used, files of the folder cannot be sent, a program holds, the group reads another topic, heartbeats or the program that was asked \
are of something else, a part of what was asked about cannot be looked at), 2 the command line or the set-up is wrong, 3 the broker did not answer, or it was stopped before the end.";

/// All that was found.
struct Found {
    log: String,
    topic: String,
    /// The group that is asked about.
    asked_group: Option<String>,
    group: Option<GroupStatus>,
    watch: Option<WatchStatus>,
    /// Those of a topic.
    heartbeats: Option<(String, Heartbeats)>,
    programs: Vec<ProgramStatus>,
    /// What could not be looked at: one problem of many, as long as something could.
    not_seen: Vec<Problem>,
    now_ms: i64,
}

/// What programs say of themselves, where nothing can be said of the log: they may know since when it is away.
fn say_programs(addresses: &[String]) {
    for address in addresses {
        match program_status(address) {
            Ok(program) => say(program.sentence()),
            Err(error) => say(chain(&error)),
        }
    }
}

/// The last heartbeats of a topic, which may be on a broker of its own.
fn heartbeats(
    topic: &str,
    separate: Option<&Properties>,
    log: &Arc<dyn Log>,
    control: &Control,
) -> Result<Heartbeats, SurveyError> {
    let of_heartbeats = match separate {
        Some(properties) => datamill::broker::open(properties)?,
        None => Arc::clone(log),
    };
    last_heartbeats(&of_heartbeats, topic, control)
}

/// What is said where neither a group nor a folder is named. Errors: those of the log.
fn nothing_asked(log: &dyn Log, topic: &str) -> anyhow::Result<anyhow::Error> {
    log.topic(topic)?;
    let readers = readers(log, topic)?;
    Ok(anyhow!(
        "neither a consumer group nor a folder is named: give --consumer_group_id, or the watched folder. {readers}"
    ))
}

impl StatusArgs {
    fn watched(&self, filter: Filter) -> Option<WatchedFolder> {
        Some(WatchedFolder {
            folder: self.folder.clone()?,
            logs_dir: self.logs_dir.clone(),
            filter,
            path_prefix: self.path_prefix.clone().unwrap_or_default(),
        })
    }
}

pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<Exit> {
    let filter = match &args.upload_regex {
        Some(pattern) => Filter::from_python(pattern).context("the value of --upload_regex cannot be used")?,
        None => Filter::default_rules(),
    };
    let config = args.log.config()?;
    let log = args.log.open_existing().inspect_err(|_| say_programs(&args.status_address))?;
    let topic = args.topic_name.as_str();
    let group = match (&args.consumer_group_id, config.group_id()) {
        (Some(group), _) | (None, Some(GroupId::Named(group))) => Some(group.as_str()),
        _ => None,
    };
    if group.is_none() && args.folder.is_none() {
        return Err(nothing_asked(log.as_ref(), topic)?);
    }
    let control = control(&log)?;
    let (mut errors, mut not_heard) = (Vec::new(), None);
    let separate = config.properties_of("heartbeat")?;
    let heartbeats = args.heartbeat_topic_name.as_ref().and_then(|topic| {
        let looked = heartbeats(topic, separate.as_ref(), &log, &control);
        let looked = looked.map_err(|error| not_heard = Some((Subject::Heartbeats(topic.clone()), error)));
        Some((topic.clone(), looked.ok()?))
    });
    let ended_members =
        group.zip(heartbeats.as_ref()).map(|(group, (_, heartbeats))| heartbeats.ended(group)).unwrap_or_default();
    let asked_group = group;
    let group = group.and_then(|group| {
        let looked = group_status(&log, topic, group, args.exact, &ended_members, &control);
        looked.map_err(|error| errors.push((Subject::Group(group.to_owned()), error))).ok()
    });
    let watched = args.watched(filter);
    let watch = watched.and_then(|watched| {
        let looked = watch_status(log.as_ref(), &watched, topic, &control);
        looked.map_err(|error| errors.push((Subject::Folder(watched.folder), error))).ok()
    });
    errors.extend(not_heard);
    let mut programs = Vec::new();
    for address in &args.status_address {
        match program_status(address) {
            Ok(program) => programs.push(program),
            Err(error) => errors.push((Subject::Program(address.clone()), error)),
        }
    }
    let is_over = |error: &SurveyError| matches!(error, SurveyError::Stopped) || group.is_none() && watch.is_none();
    if let Some(at) = errors.iter().position(|(_, error)| is_over(error)) {
        return ended(Err(errors.swap_remove(at).1));
    }
    let not_seen =
        |(subject, error): (Subject, SurveyError)| Problem::new(ProblemKind::NotSeen, subject, chain(&error));
    let found = Found {
        log: log.name().to_owned(),
        topic: topic.to_owned(),
        asked_group: asked_group.map(str::to_owned),
        group,
        watch,
        heartbeats,
        programs,
        not_seen: errors.into_iter().map(not_seen).collect(),
        now_ms: clock::now_ms(),
    };
    ended(found.tell(args.json))
}

impl Found {
    fn tell(&self, as_json: bool) -> Result<Exit, SurveyError> {
        let text = if as_json { format!("{}\n", self.json()) } else { self.text() };
        let mut out = out();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(SurveyError::Output);
        let problems = self.problems();
        problems.iter().for_each(say);
        written.map(|()| if problems.is_empty() { Exit::Done } else { Exit::SomeFailed })
    }

    fn problems(&self) -> Vec<Problem> {
        let of_group = self.group.iter().flat_map(|group| &group.problems);
        let of_watch = self.watch.iter().flat_map(|watch| &watch.problems);
        let seen = of_group.chain(of_watch).chain(&self.not_seen).cloned();
        let told = self
            .heartbeats
            .iter()
            .flat_map(|(topic, heartbeats)| heartbeats.problems(topic, self.asked_group.as_deref(), self.now_ms));
        let has_folder = self.watch.is_some();
        let programs = self.programs.iter();
        let asked =
            programs.filter_map(|program| program.problem(&self.topic, self.asked_group.as_deref(), has_folder));
        seen.chain(told).chain(asked).collect()
    }

    fn json(&self) -> Value {
        let mut object = json!({
            "log": self.log,
            "topic": self.topic,
            "needs_person": !self.problems().is_empty(),
            "problems": self.problems().iter().map(json_of_problem).collect::<Vec<_>>(),
        });
        if let Some(group) = &self.group {
            object["group"] = json_of_group(group);
        }
        if let Some(watch) = &self.watch {
            object["folder"] = json_of_watch(watch);
        }
        if let Some((_, heartbeats)) = &self.heartbeats {
            object["heartbeats"] = heartbeats.last.iter().map(|heartbeat| self.json_of_heartbeat(heartbeat)).collect();
        }
        if !self.programs.is_empty() {
            object["programs"] = self.programs.iter().map(|program| program.answer.clone()).collect();
        }
        object
    }

    fn json_of_heartbeat(&self, heartbeat: &LastHeartbeat) -> Value {
        json!({
            "program": heartbeat.program,
            "time": clock::iso8601_utc(heartbeat.time_ms),
            "seconds": self.ms_since(heartbeat.time_ms) as f64 / 1000.0,
            "message": heartbeat.message,
            "ended": heartbeat.has_ended,
            "held": heartbeat.held.map(|(hold, since_ms)| json!({
                "reason": hold.as_str(),
                "since": clock::iso8601_utc(since_ms),
            })),
        })
    }

    fn ms_since(&self, ms: i64) -> u64 {
        u64::try_from(self.now_ms.saturating_sub(ms)).unwrap_or(0)
    }

    fn age(&self, ms: i64) -> String {
        duration(Duration::from_millis(self.ms_since(ms)))
    }

    /// For people. Writing to a text does not fail.
    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(group) = &self.group {
            self.write_group(&mut text, group);
        }
        if let Some(watch) = &self.watch {
            self.write_watch(&mut text, watch);
        }
        if let Some((_, heartbeats)) = &self.heartbeats {
            let rows = heartbeats.last.iter().map(|last| {
                vec![
                    printable(&last.program).into_owned(),
                    clock::local_time_text(last.time_ms),
                    self.age(last.time_ms),
                    last.said().unwrap_or_else(|| "-".to_owned()),
                ]
            });
            section(&mut text, "last heartbeats", ["program", "time", "ago", "said"], rows);
        }
        let rows = self.programs.iter().map(|program| {
            [&program.program, &program.address, &program.now].map(|cell| printable(cell).into_owned()).to_vec()
        });
        section(&mut text, "programs, as they say themselves", ["program", "asked at", "now"], rows);
        text
    }

    fn write_group(&self, text: &mut String, group: &GroupStatus) {
        let _ = writeln!(text, "{}", printable(&group.sentence()));
        let number = |offset: Option<i64>| offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        let rows = group.partitions.iter().map(|of| {
            let oldest = match of.seconds.map(Duration::try_from_secs_f64) {
                Some(Ok(age)) if !age.is_zero() => duration(age),
                Some(_) => "-".to_owned(),
                None => "unknown".to_owned(),
            };
            vec![
                of.partition.to_string(),
                number(of.position),
                number(of.read_to),
                of.end.to_string(),
                count(of.messages),
                oldest,
            ]
        });
        section(text, "partitions", ["partition", "position", "read to", "end", "messages", "oldest"], rows);
        let rows = group.members.iter().map(|member| {
            let instance = member.instance.as_deref().unwrap_or("-");
            [instance, &member.host, &member.client_id, &member.id].map(|cell| printable(cell).into_owned()).to_vec()
        });
        section(text, "members", ["name", "host", "client id", "member id"], rows);
        let rows = group.failures.iter().map(|file| {
            let reason = file.reason.lines().next().unwrap_or_default();
            [&file.path, &file.status, reason].map(|cell| printable(cell).into_owned()).to_vec()
        });
        let all = group.failed.unwrap_or(0) + group.incomplete.unwrap_or(0);
        section(
            text,
            &title("failed and incomplete files", group.failures.len(), all),
            ["path", "status", "reason"],
            rows,
        );
        let mut files = |title: &str, files: &[InProgress], all: u64| {
            let rows = files.iter().map(|file| {
                let chunks = format!("{}/{}", count(file.chunks.into()), count(file.n_chunks.into()));
                let ages = [file.first_ms, file.last_ms].map(|ms| self.age(ms));
                [vec![printable(&file.path).into_owned(), chunks, bytes(file.bytes)], ages.to_vec()].concat()
            });
            let title = self::title(title, files.len(), all);
            section(text, &title, ["path", "chunks", "size", "begun", "last chunk"], rows);
        };
        files("files with some of their chunks", &group.in_progress_files, group.in_progress);
        files("uploads that were probably cut off", &group.cut_off_files, group.cut_off);
    }

    fn write_watch(&self, text: &mut String, watch: &WatchStatus) {
        if !text.is_empty() {
            text.push('\n');
        }
        let runs = match watch.is_running {
            Some(true) => "; a watch runs",
            Some(false) => "; no watch runs on this machine",
            None => "",
        };
        let folder = watch.folder.to_string_lossy();
        let waiting = counted_with(watch.waiting, "file", "waits", "wait");
        let mut waits = format!("{waiting} ({})", bytes(watch.waiting_bytes));
        if let Some(since) = watch.waiting_since_ms {
            let _ = write!(waits, ", the oldest for {}", self.age(since));
        }
        let _ = writeln!(
            text,
            "folder `{}`: {} delivered; {waits}; {} cannot be sent{runs}",
            printable(&folder),
            counted(watch.delivered, "file"),
            count(watch.refused)
        );
        if watch.existing > 0 {
            let _ = writeln!(text, "{} from before the first watch, not sent", counted(watch.existing, "file"));
        }
        let rows = watch.waiting_files.iter().map(|path| vec![printable(path).into_owned()]);
        section(text, &title("files that wait", watch.waiting_files.len(), watch.waiting), ["path"], rows);
        let rows = watch
            .refused_files
            .iter()
            .map(|(path, reason)| [path, reason].map(|cell| printable(cell).into_owned()).to_vec());
        section(text, &title("cannot be sent", watch.refused_files.len(), watch.refused), ["path", "reason"], rows);
    }
}

/// The title of a list that may have the first ones alone.
fn title(what: &str, shown: usize, all: u64) -> String {
    let is_all = u64::try_from(shown).is_ok_and(|shown| shown >= all);
    if is_all { what.to_owned() } else { format!("{what} (the first {shown} of {})", count(all)) }
}

/// A table with a title; nothing where it has no rows.
fn section<const N: usize>(text: &mut String, title: &str, head: [&str; N], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = std::iter::once(head.map(str::to_owned).to_vec()).chain(rows).collect();
    if rows.len() > 1 {
        let _ = write!(text, "\n{title}\n{}", table(&rows));
    }
}

fn json_of_problem(problem: &Problem) -> Value {
    json!({
        "kind": problem.kind.as_str(),
        "subject": problem.subject.as_str(),
        "name": problem.subject.name(),
        "text": problem.text,
    })
}

fn json_of_group(group: &GroupStatus) -> Value {
    let lag = &group.lag;
    json!({
        "group": group.group,
        "sentence": group.sentence(),
        "has_not_started": group.has_not_started,
        "members": group.members.iter().map(|member| json!({
            "id": member.id,
            "instance": member.instance,
            "client_id": member.client_id,
            "host": member.host,
        })).collect::<Vec<_>>(),
        "lag": {
            "messages": lag.messages,
            "seconds": lag.seconds,
            "files": lag.files,
            "bytes": lag.bytes,
            "estimated": lag.is_estimated,
        },
        "partitions": group.partitions.iter().map(|of| json!({
            "partition": of.partition,
            "position": of.position,
            "read_to": of.read_to,
            "first": of.first,
            "end": of.end,
            "messages": of.messages,
            "seconds": of.seconds,
        })).collect::<Vec<_>>(),
        "failed": group.failed,
        "incomplete": group.incomplete,
        "failures": group.failures.iter().map(|file| json!({
            "path": file.path,
            "status": file.status,
            "reason": file.reason,
            "attempts": file.attempts,
            "offsets": file.offsets,
            "can_be_retried": file.can_be_retried,
        })).collect::<Vec<_>>(),
        "asked_retries": group.asked_retries,
        "asked_reruns": group.asked_reruns,
        "in_progress": group.in_progress,
        "in_progress_files": group.in_progress_files.iter().map(json_of_part).collect::<Vec<_>>(),
        "cut_off": group.cut_off,
        "cut_off_files": group.cut_off_files.iter().map(json_of_part).collect::<Vec<_>>(),
    })
}

fn json_of_part(file: &InProgress) -> Value {
    json!({
        "path": file.path,
        "chunks": file.chunks,
        "n_chunks": file.n_chunks,
        "bytes": file.bytes,
        "begun": clock::iso8601_utc(file.first_ms),
        "last_chunk": clock::iso8601_utc(file.last_ms),
        "cut_off": file.is_cut_off,
    })
}

fn json_of_watch(watch: &WatchStatus) -> Value {
    json!({
        "folder": watch.folder.to_string_lossy(),
        "record": watch.record.to_string_lossy(),
        "running": watch.is_running,
        "delivered": watch.delivered,
        "existing": watch.existing,
        "waiting": watch.waiting,
        "waiting_bytes": watch.waiting_bytes,
        "waiting_since": watch.waiting_since_ms.map(clock::iso8601_utc),
        "waiting_files": watch.waiting_files,
        "refused": watch.refused,
        "refused_files": watch.refused_files.iter().map(|(path, reason)| json!({"path": path, "reason": reason})).collect::<Vec<_>>(),
    })
}
