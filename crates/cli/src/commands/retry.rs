//! `datamill retry`: the failed files of a group, and another try of them.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use clap::Args;
use datamill::broker::{Log, Operation};
use datamill::engine::{
    FailedFile, StateFolder, failed_files, forget_failures, forget_folders, request_retry, state_folders,
};
use datamill::ledger::FailureStatus;
use datamill::program::Exit;
use datamill::report::logging::say;
use datamill::report::text::{counted, counted_with};
use datamill::settings::{GroupId, Pattern};
use datamill::survey::{failures_in_folders, readers, unseen_failures};
use serde_json::json;

use super::output::{LogArgs, is_confirmed, print, table};

/// Ask for another try of failed files, or show them
///
/// Files that failed are kept in the state of their consumer group; with `--delivery at-least-once` they are in the output
/// folder, and not seen here (exit code 1): no request is taken for them. Without --list or --forget, this asks
/// for another try of those that are chosen, all if nothing is chosen. Programs of the group that run take
/// it up within seconds, on whatever host; where none runs, the next one that starts does, also with
/// `--retry_failed no`. A file with missing chunks cannot be tried: upload it again.
#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// Topic that the files came from
    #[arg(long = "topic_name", visible_alias = "consumer_topic_name", value_name = "TOPIC")]
    topic_name: String,
    /// Consumer group of the programs [default: group.id of the configuration]
    #[arg(long = "consumer_group_id", value_name = "GROUP")]
    consumer_group_id: Option<String>,
    /// Only files whose relative path matches this regular expression from its start (as Python's
    /// `re.match`)
    #[arg(long, value_name = "REGEX")]
    path: Option<String>,
    /// Only files that failed in this way
    #[arg(long, value_name = "STATUS", value_parser = STATUSES)]
    status: Option<String>,
    /// Only files whose reason contains this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Show the files instead
    #[arg(long, conflicts_with = "forget")]
    list: bool,
    /// With --list: one JSON object for each file
    #[arg(long, requires = "list")]
    json: bool,
    /// Forget the failures instead: the files will never be tried again. Asks before it does so
    #[arg(long)]
    forget: bool,
    /// With --forget: do so without a question. Nothing else is asked
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    log: LogArgs,
}

const STATUSES: [&str; 7] = [
    FailureStatus::MismatchedHash.as_str(),
    FailureStatus::Failed.as_str(),
    FailureStatus::ComputingResultMessageFailed.as_str(),
    FailureStatus::ProducingMessageFailed.as_str(),
    FailureStatus::Incomplete.as_str(),
    FailureStatus::Expired.as_str(),
    FailureStatus::EndedTheProgram.as_str(),
];

/// Characters of a reason in the table.
const REASON: usize = 80;

pub(crate) fn run(args: &RetryArgs) -> anyhow::Result<Exit> {
    let pattern = args.path.as_deref().map(Pattern::from_python).transpose().context("--path cannot be used")?;
    let log = args.log.open_existing()?;
    let topic = log.topic(&args.topic_name).map_err(|error| error.for_use(Operation::Describe))?.name;
    let group = match (&args.consumer_group_id, args.log.config()?.group_id()) {
        (Some(group), _) | (None, Some(GroupId::Named(group))) => group.clone(),
        _ => {
            let readers = readers(log.as_ref(), &topic)?;
            bail!("no consumer group is named: give it with --consumer_group_id. {readers}")
        }
    };
    let group = group.as_str();
    let all = failed_files(log.as_ref(), &topic, group)?;
    let folders = state_folders(log.as_ref(), &topic, group)?;
    let is_chosen = |file: &FailedFile| {
        pattern.as_ref().is_none_or(|pattern| pattern.matches(&file.path))
            && args.status.as_ref().is_none_or(|status| file.status == *status)
            && args.reason.as_ref().is_none_or(|reason| file.reason.contains(reason.as_str()))
    };
    let count = all.len();
    let chosen: Vec<FailedFile> = all.into_iter().filter(is_chosen).collect();
    let is_answered = folders.values().all(StateFolder::is_left);
    if chosen.is_empty() && args.forget && is_answered && !folders.is_empty() {
        return forget_left(log.as_ref(), group, folders, args.yes);
    }
    if chosen.is_empty() {
        return nothing(log.as_ref(), &topic, group, count);
    }
    let unseen = failures_in_folders(folders.into_values(), &topic, group);
    let done = if args.list {
        list(&chosen, args.json)?
    } else if args.forget {
        forget(log.as_ref(), group, &chosen, args.yes)?
    } else if is_answered {
        request(log.as_ref(), &topic, group, chosen)?
    } else {
        say("no other try is asked for, since nobody would answer");
        Exit::SomeFailed
    };
    match unseen {
        Some(unseen) => say(unseen),
        None => return Ok(done),
    }
    Ok(if done == Exit::Done { Exit::SomeFailed } else { done })
}

/// There is nothing to do: none failed, none was chosen, or the group does not exist.
fn nothing(log: &dyn Log, topic: &str, group: &str, count: usize) -> anyhow::Result<Exit> {
    if count > 0 {
        say(format_args!("none of the {} of group `{group}` on topic `{topic}` is chosen", files(count)));
        return Ok(Exit::Done);
    }
    let known = log.group(group, &[topic])?;
    if known.committed.is_empty() && known.members.is_empty() {
        let readers = readers(log, topic)?;
        bail!("group `{group}` has never read topic `{topic}`: check --consumer_group_id and --topic_name. {readers}");
    }
    if let Some(unseen) = unseen_failures(log, &log.topic(topic)?, group)? {
        say(format_args!(
            "{unseen}. A program with --delivery at-least-once tries its failed files again at each start"
        ));
        return Ok(Exit::SomeFailed);
    }
    say(format_args!("group `{group}` has no failed files on topic `{topic}`"));
    Ok(Exit::Done)
}

fn list(chosen: &[FailedFile], as_json: bool) -> anyhow::Result<Exit> {
    let text = if as_json {
        chosen.iter().map(|file| format!("{}\n", json_of(file))).collect()
    } else {
        let mut rows = vec![["path", "status", "attempts", "again", "offsets", "reason"].map(str::to_owned).to_vec()];
        rows.extend(chosen.iter().map(|file| {
            let again = match (file.can_be_retried, file.requested) {
                (false, _) => "no",
                (true, false) if file.waits_for_a_request => "on request",
                (true, false) => "yes",
                (true, true) => "requested",
            };
            let reason: String = file.reason.lines().next().unwrap_or_default().chars().take(REASON).collect();
            let more = if reason.len() < file.reason.len() { "…" } else { "" };
            vec![
                file.path.clone(),
                file.status.clone(),
                file.attempts.to_string(),
                again.to_owned(),
                file.offsets.clone(),
                format!("{reason}{more}"),
            ]
        }));
        table(&rows)
    };
    print(&text, "the files")?;
    Ok(Exit::Done)
}

fn json_of(file: &FailedFile) -> serde_json::Value {
    json!({
        "path": file.path,
        "sha512": file.sha512,
        "n_chunks": file.n_chunks,
        "status": file.status,
        "reason": file.reason,
        "attempts": file.attempts,
        "offsets": file.offsets,
        "can_be_retried": file.can_be_retried,
        "requested": file.requested,
        "rerun_of": file.rerun_of,
    })
}

fn request(log: &dyn Log, topic: &str, group: &str, chosen: Vec<FailedFile>) -> anyhow::Result<Exit> {
    let (chosen, left_out): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|file| file.can_be_retried);
    if !left_out.is_empty() {
        say(format_args!(
            "{} cannot be tried again, as chunks are missing: upload them again, or remove them from the list with \
             --forget",
            files(left_out.len())
        ));
    }
    if chosen.is_empty() {
        return Ok(Exit::SomeFailed);
    }
    // first, since nothing is asked for where the account may not see the group
    let programs = log.group(group, &[topic])?.members.len();
    request_retry(log, topic, group, &chosen)?;
    let asked = format!("another try of {} is asked for", files(chosen.len()));
    let them = if chosen.len() == 1 { "it" } else { "them" };
    match programs {
        0 => say(format_args!(
            "{asked}; no program of group `{group}` runs: the next one that starts tries {them}, also with \
             `--retry_failed no`"
        )),
        1 => say(format_args!("{asked}; the program of group `{group}` that runs tries {them} within seconds")),
        n => say(format_args!("{asked}; the {n} programs of group `{group}` that run try {them} within seconds")),
    }
    Ok(if left_out.is_empty() { Exit::Done } else { Exit::SomeFailed })
}

fn forget(log: &dyn Log, group: &str, chosen: &[FailedFile], unasked: bool) -> anyhow::Result<Exit> {
    let question = format!(
        "{} of group `{group}` will be forgotten: they have no result, will never be tried again, and nothing but the \
         registry files, dead letters and logs will tell of them.",
        files(chosen.len())
    );
    if !unasked && !is_confirmed(&question)? {
        say("nothing was forgotten");
        return Ok(Exit::SetUp);
    }
    forget_failures(log, group, chosen)?;
    say(format_args!("{} forgotten", counted_with(chosen.len() as u64, "failed file", "is", "are")));
    Ok(Exit::Done)
}

/// Folders of earlier runs are gone, or whatever is in them does not matter any more.
fn forget_left(
    log: &dyn Log,
    group: &str,
    folders: BTreeMap<String, StateFolder>,
    unasked: bool,
) -> anyhow::Result<Exit> {
    let named = folders.values().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let question = format!(
        "group `{group}` has no failed files in the log, and may have some in {named}. It will be forgotten that it may."
    );
    if !unasked && !is_confirmed(&question)? {
        say("nothing was forgotten");
        return Ok(Exit::SetUp);
    }
    forget_folders(log, group, folders.into_keys())?;
    say(format_args!("failed files in {named} are forgotten"));
    Ok(Exit::Done)
}

fn files(count: usize) -> String {
    counted(count as u64, "failed file")
}
