//! `datamill verify`: whether the files on a topic are what was sent.

use std::io::Write;

use clap::Args;
use datamill::program::Exit;
use datamill::report::logging::say;
use datamill::report::text::{counted, printable};
use datamill::survey::{Checked, SurveyError, verify};
use datamill_wire::hex;
use serde_json::json;

use super::output::LogArgs;
use super::survey::{FilesArgs, control, ended, line, out, say_others, wanted};

/// Check each file on a topic against the hash that was taken at its upload
///
/// Rebuilds every upload and compares its SHA-512, so a changed byte is found. Prints those that are damaged or lack
/// chunks, with --json all. Exit code 1 if there is one, 2 if the topic has messages and none of them is a chunk of a file.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// One JSON object for each upload, also for those that are right
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogArgs,
}

pub(crate) fn run(args: &VerifyArgs) -> anyhow::Result<Exit> {
    let wanted = wanted(args.files.pattern.as_deref())?;
    let log = args.log.open_existing()?;
    let (control, mut out) = (control(&log)?, out());
    let (mut right, mut damaged, mut incomplete) = (0, 0, 0);
    let checked = verify(&log, &args.files.topic, wanted, &control, &mut |checked| {
        let Checked { upload, damage } = &checked;
        let (state, reason) = match (upload.is_whole(), damage.as_str()) {
            (true, "") => ("right", ""),
            (true, damage) => ("damaged", damage),
            (false, _) => ("incomplete", upload.fault.as_str()),
        };
        match state {
            "right" => right += 1,
            "damaged" => damaged += 1,
            _ => incomplete += 1,
        }
        let offsets = upload.offsets();
        if args.json {
            let (path, sha512, size) = (&upload.path, hex(&upload.sha512), upload.size);
            let object = json!({
                "path": path, "state": state, "sha512": sha512, "size": size, "offsets": offsets, "reason": reason,
            });
            return line(&mut out, object);
        }
        match state {
            "right" => Ok(()),
            _ => line(&mut out, format_args!("{}  {state}  {offsets}  {reason}", printable(&upload.path))),
        }
    });
    let checked = checked.and_then(|passed| out.flush().map(|()| passed).map_err(SurveyError::Output));
    ended(checked.map(|passed| {
        say_others(log.as_ref(), &args.files.topic, passed);
        if let (0, Some(pattern)) = (right + damaged + incomplete, &args.files.pattern) {
            say(format_args!("topic `{}` has no file `{pattern}`", args.files.topic));
            return Exit::SomeFailed;
        }
        let uploads = counted(right + damaged + incomplete, "upload");
        say(format_args!("{uploads}: {right} right, {damaged} damaged, {incomplete} incomplete"));
        if damaged + incomplete > 0 { Exit::SomeFailed } else { Exit::Done }
    }))
}
