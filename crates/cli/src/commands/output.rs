//! What `read` and `topic` share: the log to look at, and stdout that may be closed at any time.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::bail;
use clap::Args;
use datamill::broker::Log;
use datamill::report::logging::say;
use datamill::settings::Config;

/// Which log is looked at.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Configuration file: a path, or the name of a file in the folder that
    /// OPENMSISTREAM_CONFIG_FILE_DIR names. Without one, the log is `datamill.db` in this folder
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
}

impl LogArgs {
    /// Opens the log; a file that does not exist is made.
    pub fn open(&self) -> anyhow::Result<Arc<dyn Log>> {
        let config = Config::load(self.config.as_deref())?;
        open(&config)
    }

    /// Opens the log to look at what is in it.
    pub fn open_existing(&self) -> anyhow::Result<Arc<dyn Log>> {
        let config = Config::load(self.config.as_deref())?;
        let servers = config.properties().broker.get("bootstrap.servers").map_or("", String::as_str);
        let file = servers.strip_prefix("sqlite:").map(Path::new);
        if let Some(file) = file.filter(|file| !file.as_os_str().is_empty() && !file.exists()) {
            let file = file.display();
            match config.is_default_log() {
                true => bail!(
                    "there is no log `{file}` in this folder: go to the folder where the programs run, or name the \
                     configuration with --config"
                ),
                false => bail!("there is no log `{file}`: no program has used it yet"),
            }
        }
        open(&config)
    }
}

fn open(config: &Config) -> anyhow::Result<Arc<dyn Log>> {
    for warning in config.warnings() {
        say(format_args!("warning: {warning}"));
    }
    let log = datamill::broker::open(config.properties())?;
    if config.is_default_log() {
        say(format_args!("no broker configured: using the embedded log `{}` in this folder", log.name()));
    }
    Ok(log)
}

/// Whoever read our output has had enough: that is success. `false` says so.
pub fn is_wanted(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}
