//! What `read` and `topic` share: the log to look at, and stdout that may be closed at any time.

use std::io;
use std::sync::Arc;

use clap::Args;
use datamill::broker::Log;
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
    /// Opens the log.
    pub fn open(&self) -> anyhow::Result<Arc<dyn Log>> {
        let config = Config::load(self.config.as_deref())?;
        for warning in config.warnings() {
            eprintln!("warning: {warning}");
        }
        let log = datamill::broker::open(config.properties())?;
        if config.is_default_log() {
            eprintln!("no broker configured: using the embedded log `{}`", log.name());
        }
        Ok(log)
    }
}

/// Whoever read our output has had enough: that is success. `false` says so.
pub fn is_wanted(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}
