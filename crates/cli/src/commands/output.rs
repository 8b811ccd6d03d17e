//! What `read`, `topic` and `retry` share: the log to look at, tables, questions, and stdout that may be closed at any
//! time.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use datamill::broker::Log;
use datamill::program::SetUpError;
use datamill::report::logging::say;
use datamill::settings::Config;

/// Which log is looked at.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// Configuration file: a path, or the name of a file in the folder that
    /// OPENMSISTREAM_CONFIG_FILE_DIR names. Without one, the log is `datamill.db` in this folder
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
}

/// How often is looked whether a quota makes the log slow.
const QUOTA_EVERY: Duration = Duration::from_millis(500);

impl LogArgs {
    /// The configuration.
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        Ok(Config::load(self.config.as_deref())?)
    }

    /// Opens the log; a file that does not exist is made.
    pub(super) fn open(&self) -> anyhow::Result<Arc<dyn Log>> {
        opened(&self.config()?, |config| Ok(datamill::broker::open(config.properties())?))
    }

    /// Opens the log to look at what is in it.
    pub(super) fn open_existing(&self) -> anyhow::Result<Arc<dyn Log>> {
        let config = self.config()?;
        let log = opened(&config, datamill::program::open_existing)?;
        tell_quota(&log);
        Ok(log)
    }
}

fn opened(
    config: &Config,
    open: impl FnOnce(&Config) -> Result<Arc<dyn Log>, SetUpError>,
) -> anyhow::Result<Arc<dyn Log>> {
    for warning in config.warnings() {
        say(format_args!("warning: {warning}"));
    }
    let log = open(config)?;
    if config.is_default_log() {
        say(format_args!("no broker configured: using the embedded log `{}` in this folder", log.name()));
    }
    Ok(log)
}

/// Says it once where a quota makes a look slow. Programs that run for long say so in their log.
fn tell_quota(log: &Arc<dyn Log>) {
    let log = Arc::downgrade(log);
    let look = move || {
        while let Some(log) = log.upgrade() {
            if log.is_throttled() {
                let name = log.name();
                say(format_args!(
                    "broker `{name}` throttles this account, by a quota: what it is asked for takes longer"
                ));
                return;
            }
            drop(log);
            thread::sleep(QUOTA_EVERY);
        }
    };
    // without the thread, the look is as slow and nothing is said
    let _ = thread::Builder::new().name("datamill-quota".to_owned()).spawn(look);
}

/// Prints a text on stdout; `what` names it where that fails.
pub(super) fn print(text: &str, what: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    is_wanted(written).with_context(|| format!("{what} cannot be printed"))?;
    Ok(())
}

/// Whoever read our output has had enough: that is success. `false` says so.
pub(super) fn is_wanted(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the reader of stdout is still there. While there is nothing to write, no write tells that it has gone.
#[cfg(unix)]
pub(super) fn has_reader() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let stdout = io::stdout();
    // No events are asked for: those that say that the other end is gone come in any case.
    let mut look = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    poll(&mut look, Some(&at_once)).is_err() || !look[0].revents().intersects(gone)
}

/// Here, only a write tells.
#[cfg(not(unix))]
pub(super) fn has_reader() -> bool {
    true
}

/// Asks a person to type `yes`.
pub(super) fn is_confirmed(question: &str) -> anyhow::Result<bool> {
    say(format_args!("{question} Type `yes` to go on"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("the answer cannot be read")?;
    Ok(answer.trim() == "yes")
}

/// Columns as wide as their longest cell.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "bb".to_owned()], vec!["ünï".to_owned(), "c".to_owned()]];
        assert_eq!(table(&rows), "a    bb\nünï  c\n");
    }
}
