//! `datamill check`: whether a set-up is right, before anything is started.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use datamill::broker::Log;
use datamill::program::{Exit, SetUpError, open_existing};
use datamill::report::chain;
use datamill::report::text::{bytes, duration, printable, shell_word};
use datamill::settings::{Config, GroupId};
use datamill::survey::{Finding, SurveyError, Verdict, check_log};
use serde_json::json;

use super::output::{LogArgs, table};
use super::survey::{ended, out};

/// Try a configuration, a topic and a group, and say what to mend
///
/// Prints one line for each thing: `ok`, `mend` with what mends it, or `note` for what is worth knowing or cannot be seen.
/// Looks at the broker and the login; with --topic_name at the topic, its largest message, retention, compaction, times and
/// copies, and what the account may do with it; with --consumer_group_id also at the group, the topic of its state and
/// transactions. Changes nothing: nothing is written, joined or made.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(crate) struct CheckArgs {
    /// Topic of the files
    #[arg(long = "topic_name", visible_alias = "consumer_topic_name", value_name = "TOPIC")]
    topic_name: Option<String>,
    /// Consumer group [default: group.id of the configuration]
    #[arg(long = "consumer_group_id", value_name = "GROUP")]
    consumer_group_id: Option<String>,
    /// One JSON object for each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogArgs,
}

const AFTER: &str = "Exit codes: 0 nothing is to mend, 1 something is, 2 the command line is wrong or the configuration cannot be read.";

/// Room on the disk of an embedded log below which it is soon full, bytes.
const LITTLE_ROOM: u64 = 1 << 30;

pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<Exit> {
    let config = args.log.config()?;
    let mut found = Vec::new();
    match config.file() {
        Some(file) => found.push(ok("configuration", format!("`{}` can be read", file.display()))),
        None => found.push(ok("configuration", "none is named: the log is `datamill.db` in this folder".to_owned())),
    }
    let warnings =
        config.warnings().iter().map(|warning| Finding::new(Verdict::Note, "configuration", warning.as_str()));
    found.extend(warnings);
    let group = match (&args.consumer_group_id, config.group_id()) {
        (Some(group), _) | (None, Some(GroupId::Named(group))) => Some(group.as_str()),
        _ => None,
    };
    match look_at_log(&config, &mut found) {
        Opened::Yes(log) => found.extend(check_log(&log, args.topic_name.as_deref(), group)),
        Opened::NotThere => {
            if let Some(topic) = &args.topic_name {
                let upload = format!("upload PATH --topic_name {}", shell_word(topic));
                let text = format!(
                    "is not there, since there is no log: {} makes both. Where they should be there, go to the folder of the \
                    log, or name its configuration with --config",
                    config.properties().command(&upload)
                );
                found.push(Finding::new(Verdict::Mend, format!("topic `{topic}`"), text));
            }
            if let Some(group) = group {
                let text = "has read nothing yet, since there is no log";
                found.push(Finding::new(Verdict::Note, format!("group `{group}`"), text));
            }
        }
        Opened::No => {
            let topic = args.topic_name.as_ref().map(|topic| format!("topic `{topic}`"));
            let names = topic.into_iter().chain(group.map(|group| format!("group `{group}`")));
            let text = "cannot be looked at before that is mended";
            found.extend(names.map(|name| Finding::new(Verdict::Note, name, text)));
        }
    }
    let text = if args.json {
        let object = |of: &Finding| json!({"verdict": of.verdict.as_str(), "what": of.what, "text": of.text});
        found.iter().map(|of| format!("{}\n", object(of))).collect()
    } else {
        let row =
            |of: &Finding| [of.verdict.as_str(), &of.what, &of.text].map(|cell| printable(cell).into_owned()).to_vec();
        table(&found.iter().map(row).collect::<Vec<_>>())
    };
    let mut out = out();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(SurveyError::Output);
    let is_well = found.iter().all(|of| of.verdict != Verdict::Mend);
    ended(written.map(|()| if is_well { Exit::Done } else { Exit::SomeFailed }))
}

fn ok(what: &str, text: String) -> Finding {
    Finding::new(Verdict::Ok, what, text)
}

/// How the opening of the log went.
enum Opened {
    Yes(Arc<dyn Log>),
    /// It is an embedded log whose file is not there.
    NotThere,
    /// It cannot be opened, which is said.
    No,
}

/// Opens the log, and says how that went.
fn look_at_log(config: &Config, found: &mut Vec<Finding>) -> Opened {
    let broker = &config.properties().broker;
    let servers = broker.get("bootstrap.servers").map_or("", String::as_str);
    if let Some(file) = servers.strip_prefix("sqlite:").map(Path::new) {
        look_at_file(file, found);
        if !file.exists() {
            return Opened::NotThere;
        }
    }
    let begun = Instant::now();
    match open_existing(config) {
        Ok(log) => {
            if servers.starts_with("sqlite:") {
                return Opened::Yes(log);
            }
            found.push(ok("broker", format!("`{}` answers, after {}", log.name(), duration(begun.elapsed()))));
            let unused = broker.keys().find(|key| key.starts_with("sasl."));
            found.push(match (log.account(), unused) {
                (Some(account), _) => ok("login", format!("account `{account}` is let in")),
                (None, Some(key)) if !logs_in(broker) => {
                    let text = format!(
                        "`{key}` has no effect, and nobody has logged in: that takes `security.protocol = SASL_SSL` (or \
                        SASL_PLAINTEXT) in section `[broker]`. Write it, or take the keys `sasl.…` out"
                    );
                    Finding::new(Verdict::Mend, "login", text)
                }
                (None, Some(_)) => ok("login", "it is let in".to_owned()),
                (None, None) => ok("login", "none is configured, and none is asked for".to_owned()),
            });
            Opened::Yes(log)
        }
        Err(error) => {
            let text = chain(&error);
            let refuses_login = matches!(&error, SetUpError::Log(error) if error.is_denied());
            if refuses_login {
                found.push(ok("broker", format!("`{servers}` answers, after {}", duration(begun.elapsed()))));
            }
            found.push(Finding::new(Verdict::Mend, if refuses_login { "login" } else { "broker" }, text));
            Opened::No
        }
    }
}

/// Whether there is a login by a name.
fn logs_in(broker: &BTreeMap<String, String>) -> bool {
    broker.get("security.protocol").is_some_and(|protocol| protocol.to_lowercase().starts_with("sasl"))
}

/// The file of an embedded log: whether it can be written, and whether there is room. A file is opened by the log alone,
/// since closing it would drop the locks that this process has on it.
fn look_at_file(file: &Path, found: &mut Vec<Finding>) {
    let what = format!("log `{}`", file.display());
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        found.push(Finding::new(
            Verdict::Mend,
            what,
            format!("its folder `{}` is not there: make it", folder.display()),
        ));
        return;
    }
    let at = if file.exists() { file } else { folder };
    // the folder too: SQLite makes files beside its own
    let closed = [folder, at].into_iter().find_map(|path| Some((path, refusal(path)?)));
    match closed {
        Some((path, reason)) => found.push(Finding::new(
            Verdict::Mend,
            what.clone(),
            format!("`{}` cannot be written: {reason}; give this account the permission to write there", path.display()),
        )),
        None if file.exists() => {
            let size = fs::metadata(file).map_or(0, |found| found.len());
            found.push(ok(&what, format!("can be written, {}", bytes(size))));
        }
        None => found.push(Finding::new(
            Verdict::Note,
            what.clone(),
            "is not there yet: the first upload makes it. Where it should be there, go to its folder, or name the configuration with \
            --config",
        )),
    }
    if let Some(room) = room(folder) {
        let (verdict, then) = match room < LITTLE_ROOM {
            true => (Verdict::Mend, ": make room, a full disk holds all programs"),
            false => (Verdict::Ok, ""),
        };
        found.push(Finding::new(verdict, format!("disk of {what}"), format!("{} free{then}", bytes(room))));
    }
}

#[cfg(unix)]
fn refusal(path: &Path) -> Option<String> {
    let refused = rustix::fs::access(path, rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK).err()?;
    Some(chain(&std::io::Error::from(refused)))
}

#[cfg(not(unix))]
fn refusal(path: &Path) -> Option<String> {
    fs::metadata(path).is_ok_and(|found| found.permissions().readonly()).then(|| "it is read-only".to_owned())
}

#[cfg(unix)]
fn room(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(unix))]
fn room(_: &Path) -> Option<u64> {
    None
}
