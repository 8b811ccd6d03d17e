//! What `upload` and `watch` share: options, the way from them to settings, and the end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use datamill::broker::{ErrorKind, Log};
use datamill::engine::Control;
use datamill::facts::Facts;
use datamill::program::{CommonArgs, Exit, Reporting, SetUpError, of_upload, steer};
use datamill::report::chain;
use datamill::report::heartbeat::ProgramKind;
use datamill::report::logging::say;
use datamill::settings::Config;
use datamill::upload::{DEFAULT_CHUNK_SIZE, Filter, MAX_CHUNK_SIZE, Summary, UploadSettings};

/// Options of everything that sends files.
#[derive(Debug, Args)]
pub struct SendingArgs {
    /// Topic to send to
    #[arg(long = "topic_name", visible_alias = "producer_topic_name", value_name = "TOPIC")]
    pub topic_name: String,
    /// Only files whose path, relative to the folder, matches this regular expression from its start
    /// (as Python's `re.match`). Takes the place of the usual rules, which leave out `*.log`, lock
    /// files of office programs and unfinished copies; hidden files are left out in any case
    #[arg(long = "upload_regex", value_name = "REGEX")]
    upload_regex: Option<String>,
    /// Bytes of file content in a message, a power of two
    #[arg(long = "chunk_size", value_name = "BYTES", default_value_t = DEFAULT_CHUNK_SIZE, value_parser = chunk_size)]
    chunk_size: usize,
    /// Megabytes of messages on their way at a time
    #[arg(
        long = "queue_max_size", value_name = "MB", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=65_536)
    )]
    queue_max_size: u32,
    /// Accepted, and without effect: the threads are chosen by the size of a file
    #[arg(long = "n_threads", value_name = "N", hide = true)]
    n_threads: Option<u32>,
    /// Accepted, and without effect: nothing is read
    #[arg(long = "consumer_topic_name", value_name = "TOPIC", hide = true)]
    consumer_topic_name: Option<String>,
    /// Accepted, and without effect: nothing is read
    #[arg(long = "consumer_group_id", value_name = "GROUP", hide = true)]
    consumer_group_id: Option<String>,
}

impl SendingArgs {
    /// Options without effect, each with whether it was given.
    pub fn without_effect(&self) -> [(&'static str, bool); 3] {
        [
            ("--n_threads", self.n_threads.is_some()),
            ("--consumer_topic_name", self.consumer_topic_name.is_some()),
            ("--consumer_group_id", self.consumer_group_id.is_some()),
        ]
    }

    /// The checked settings.
    pub fn settings(&self) -> anyhow::Result<UploadSettings> {
        let mut settings = UploadSettings::new(&self.topic_name);
        settings.chunk_size = self.chunk_size;
        settings.in_flight_bytes = self.queue_max_size as usize * 1_000_000;
        if let Some(pattern) = &self.upload_regex {
            settings.filter = Filter::from_python(pattern).context("the value of --upload_regex cannot be used")?;
        }
        Ok(settings)
    }
}

fn chunk_size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size: &usize| size.is_power_of_two() && *size <= MAX_CHUNK_SIZE);
    size.ok_or_else(|| format!("write a power of two up to {MAX_CHUNK_SIZE}; {DEFAULT_CHUNK_SIZE} is the usual one"))
}

/// What runs beside the sending.
pub struct Started {
    pub log: Arc<dyn Log>,
    pub control: Arc<Control>,
    pub facts: Facts,
    _reporting: Reporting,
}

/// Starts logging, the log, heartbeats, console and signals.
pub fn start(
    common: &CommonArgs,
    program: &str,
    log_file: Option<PathBuf>,
    without_effect: &[(&str, bool)],
) -> anyhow::Result<Started> {
    let config = common.load_config()?;
    let logging = common.start_logging(&config, log_file)?;
    common.say_without_effect(without_effect);
    let control = Arc::new(Control::default());
    steer(&control)?;
    let log = open_log(common, &config, &control)?;
    let facts = Facts::default();
    let reporting = common.start_reporting(logging, program, ProgramKind::Producer, &config, &log, &facts)?;
    Ok(Started { log, control, facts, _reporting: reporting })
}

/// Opens the log. Where there is no room for it, that is said and waited for, until a stop is asked for.
fn open_log(common: &CommonArgs, config: &Config, control: &Control) -> Result<Arc<dyn Log>, SetUpError> {
    let mut said = false;
    loop {
        match common.open_log(config) {
            Err(SetUpError::Log(error)) if error.kind() == ErrorKind::NoSpace && control.stopping().is_none() => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(error = chain(&error), "the disk of the log is full: waiting until there is room");
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            opened => return opened,
        }
    }
}

/// Prints the summary.
pub fn end(summary: &Summary) -> Exit {
    say(summary);
    of_upload(summary)
}
