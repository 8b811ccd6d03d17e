//! `datamill rerun`: files of a group that have a result are run again.

use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use datamill::broker::{Log, Operation};
use datamill::engine::{
    MOST_RERUN, RerunChoice, RerunError, RerunFile, RerunFiles, WHOLE_AGAIN, files_to_rerun, request_rerun,
};
use datamill::program::Exit;
use datamill::read::is_comparable_version;
use datamill::report::clock;
use datamill::report::logging::say;
use datamill::report::text::{count, counted, printable};
use datamill::settings::{GroupId, Pattern};
use datamill::survey::readers;
use serde_json::json;

use super::output::{LogArgs, is_confirmed, print, table};

/// Run files again that have a result, as after a change of the function
///
/// Chooses files by the newest result that the group has of each, all if nothing is chosen, says how many they are, and
/// asks for another result of each. Programs of the group that run take that up within seconds, on whatever host; where
/// none runs, the next one that starts does. Each file has one answer: another result, which names the earlier one in the
/// header `datamill.rerun_of`, or a failure. Of a file that was uploaded several times, the last upload with a result is
/// run again. `datamill read --newest` shows the newest result of each file.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(crate) struct RerunArgs {
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
    /// Only files whose newest result was made at this time or later: `2026-11-22`, `2026-11-22 14:30` in the time zone of
    /// this machine, or `2026-11-22T14:30:00Z`
    #[arg(long, value_name = "TIME", value_parser = clock::parse)]
    since: Option<i64>,
    /// Only files whose newest result is of a lower version than this one, or of none. Versions are compared number by
    /// number: 1.10 is above 1.9, 2.0rc1 is below 2.0, and a version that begins with a word is below all numbers
    #[arg(long = "version_below", value_name = "VERSION", value_parser = comparable_version)]
    version_below: Option<String>,
    /// Show the files instead
    #[arg(long)]
    list: bool,
    /// With --list: one JSON object for each file
    #[arg(long, requires = "list")]
    json: bool,
    /// Ask for it without a question
    #[arg(long, conflicts_with = "list")]
    yes: bool,
    #[command(flatten)]
    log: LogArgs,
}

const AFTER: &str = "Example:
  datamill rerun --topic_name files --consumer_group_id xrd --version_below 2.0 --list

A request has at most 100,000 files. For a whole topic, start the program in a new group that begins at the first file:
  datamill reproduce extract.py:metadata --consumer_topic_name files --producer_topic_name metadata --consumer_group_id xrd2 \
--start_from earliest

Exit codes: 0 done, or nothing to do, 2 the command line or the set-up is wrong, or the answer was not `yes`, \
3 the broker did not answer (start it again).";

pub(crate) fn run(args: &RerunArgs) -> anyhow::Result<Exit> {
    let path = args.path.as_deref().map(Pattern::from_python).transpose().context("--path cannot be used")?;
    let log = args.log.open_existing()?;
    let topic = log.topic(&args.topic_name).map_err(|error| error.for_use(Operation::Describe))?.name;
    let group = match (&args.consumer_group_id, args.log.config()?.group_id()) {
        (Some(group), _) | (None, Some(GroupId::Named(group))) => group.clone(),
        _ => bail!("no consumer group is named: give it with --consumer_group_id. {}", readers(log.as_ref(), &topic)?),
    };
    let choice = RerunChoice { path, since_ms: args.since, version_below: args.version_below.clone() };
    let found = match files_to_rerun(&log, &topic, &group, &choice, &|| false) {
        Err(error @ RerunError::NotBegun { .. }) => {
            bail!("{error}: check --consumer_group_id and --topic_name. {}", readers(log.as_ref(), &topic)?)
        }
        // nobody stops it
        found => found?.unwrap_or_default(),
    };
    if found.count == 0 {
        say(format_args!("none of the {} of group `{group}` on topic `{topic}` is chosen", files(found.all)));
        return Ok(Exit::Done);
    }
    if found.count > MOST_RERUN {
        bail!(
            "{} are chosen, and a request has {} at most: choose fewer with --path, --since or --version_below. \
             Or start the program with {WHOLE_AGAIN}, and it does the whole topic again",
            files(found.count),
            count(MOST_RERUN)
        );
    }
    if found.newest_is_of_0_1_0 {
        say(format_args!(
            "the newest result of group `{group}` is of datamill 0.1.0. A program of that release passes such requests over, and \
            they wait for a newer one: see that none runs"
        ));
    }
    if args.list { list(&found.files, args.json) } else { request(&log, &topic, &group, &found, args.yes) }
}

fn comparable_version(version: &str) -> Result<String, &'static str> {
    match is_comparable_version(version) {
        true => Ok(version.to_owned()),
        false => Err(
            "write numbers with points between, such as 2.0 or 2026.11.1, perhaps with a word and its number, such as 2.0rc1",
        ),
    }
}

fn list(chosen: &[RerunFile], as_json: bool) -> anyhow::Result<Exit> {
    let text = if as_json {
        chosen.iter().map(|file| format!("{}\n", json_of(file))).collect()
    } else {
        let mut rows = vec![["path", "version", "made", "asked", "offsets", "result"].map(str::to_owned).to_vec()];
        rows.extend(chosen.iter().map(|file| {
            vec![
                printable(&file.path).into_owned(),
                printable(file.version.as_deref().unwrap_or("-")).into_owned(),
                file.made_ms.map_or_else(|| "-".to_owned(), clock::local_time_text),
                if file.requested { "yes" } else { "no" }.to_owned(),
                file.offsets.clone(),
                file.result.clone(),
            ]
        }));
        table(&rows)
    };
    print(&text, "the files")?;
    Ok(Exit::Done)
}

fn json_of(file: &RerunFile) -> serde_json::Value {
    json!({
        "path": file.path,
        "sha512": file.sha512,
        "offsets": file.offsets,
        "result": file.result,
        "made": file.made_ms.map(clock::iso8601_utc),
        "version": file.version,
        "requested": file.requested,
    })
}

fn request(log: &Arc<dyn Log>, topic: &str, group: &str, found: &RerunFiles, unasked: bool) -> anyhow::Result<Exit> {
    let asked_before = found.files.iter().filter(|file| file.requested).count() as u64;
    let before = match asked_before {
        0 => String::new(),
        1 => " It was asked for before for 1 of them, which has one answer to both.".to_owned(),
        n => format!(" It was asked for before for {} of them, which have one answer to both.", count(n)),
    };
    let question = format!(
        "{} of {} with a result will be run again for group `{group}`, and get another result each.{before}",
        count(found.count),
        files(found.all)
    );
    if unasked {
        say(&question);
    } else if !is_confirmed(&question)? {
        say("nothing was asked for");
        return Ok(Exit::SetUp);
    }
    let programs = log.group(group, &[topic])?.members.len();
    request_rerun(log.as_ref(), topic, group, &found.files)?;
    let asked = format!("another result of {} is asked for", files(found.count));
    match programs {
        0 => say(format_args!("{asked}; no program of group `{group}` runs: the next one that starts takes that up")),
        1 => say(format_args!("{asked}; the program of group `{group}` that runs takes that up within seconds")),
        n => say(format_args!("{asked}; the {n} programs of group `{group}` that run take that up within seconds")),
    }
    Ok(Exit::Done)
}

fn files(count: u64) -> String {
    counted(count, "file")
}
