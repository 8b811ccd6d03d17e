//! `datamill watch`: what is new or changed in a folder, as it is finished.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use datamill::facts::Facts;
use datamill::program::{CommonArgs, EXIT_CODES, Exit, update_seconds};
use datamill::upload::{RETRY_AFTER, WatchSettings};

use super::sending::{Sending, SendingArgs};

/// Send new and changed files of a folder to a topic as they are finished
///
/// What was sent is written down in the folder LOGS in it (LOGS_datamill, if LOGS is a folder of yours): after a
/// restart, what is new or changed since is sent, and nothing twice. Deleting a file sends nothing. Folders in which
/// datamill and OpenMSIStream keep files of their own are left out, and so are the files of the embedded log. Type
/// `c` for the counts, `q` to stop.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct WatchArgs {
    /// Folder to watch, with all folders in it
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    sending: SendingArgs,
    /// Send also what is there when the folder is watched for the first time; given later, what was left out then
    #[arg(long = "upload_existing")]
    upload_existing: bool,
    /// Go on although the record of what was sent is gone: what is there counts as existing, as when the
    /// folder is watched for the first time
    #[arg(long = "new_folder")]
    new_folder: bool,
    /// Folder for the record of what was sent, the tables and the log file, one for each watched folder: for folders
    /// that may only be read [default: LOGS in DIR]
    #[arg(long = "logs_dir", value_name = "FOLDER")]
    logs_dir: Option<PathBuf>,
    /// Seconds that a file must not have changed before it is sent
    #[arg(long = "watchdog_lag_time", value_name = "SECONDS", default_value = "3", value_parser = seconds, allow_negative_numbers = true)]
    watchdog_lag_time: Duration,
    /// Find changes by looking alone, for file systems that do not tell of them
    #[arg(long = "use_polling_observer")]
    use_polling_observer: bool,
    /// Stop when everything that is there has been sent, instead of waiting for more
    #[arg(long = "exit-at-end")]
    exit_at_end: bool,
    /// Seconds between two lines about the state; -1 or 0 for none
    #[arg(
        long = "update_seconds", value_name = "SECONDS", default_value_t = 300, allow_negative_numbers = true,
        value_parser = update_seconds
    )]
    update_seconds: i64,
    #[command(flatten)]
    common: CommonArgs,
}

impl WatchArgs {
    /// What these options ask for.
    ///
    /// # Errors
    /// A value that cannot be used.
    pub fn into_sending(self) -> anyhow::Result<Sending> {
        let settings = WatchSettings {
            upload: self.sending.settings()?,
            settle_for: self.watchdog_lag_time,
            upload_existing: self.upload_existing,
            new_folder: self.new_folder,
            logs_dir: self.logs_dir,
            polling: self.use_polling_observer,
            exit_at_end: self.exit_at_end,
            retry_after: RETRY_AFTER,
            tell_every: u64::try_from(self.update_seconds).ok().filter(|s| *s > 0).map(Duration::from_secs),
        };
        Ok(Sending::watch(self.directory, settings, &self.sending, self.common))
    }
}

pub(crate) fn run(args: WatchArgs) -> anyhow::Result<Exit> {
    let sending = args.into_sending()?;
    let summary = sending.run_as_program("datamill_watch", &Facts::default())?;
    Ok(sending.end(&summary))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number of seconds such as `3` or `0.5`".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(seconds).ok().filter(|lag| lag.as_secs() <= 86_400).ok_or_else(wrong)
}
