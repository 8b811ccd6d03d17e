//! What `upload` and `watch` share: options, the way from them to settings, the run, and the end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use datamill::broker::{ErrorKind, Log};
use datamill::engine::Control;
use datamill::facts::Facts;
use datamill::program::{AtOnce, CommonArgs, Exit, Reporting, SetUpError, check_log_here, of_upload, steer};
use datamill::report::heartbeat::ProgramKind;
use datamill::report::logging::say;
use datamill::report::{LogLevel, chain};
use datamill::settings::Config;
use datamill::survey::upload_missing;
use datamill::upload::{
    DEFAULT_CHUNK_SIZE, Filter, LOG_FILE, MAX_CHUNK_SIZE, PathPrefix, Summary, UploadSettings, WatchSettings,
    check_paths, logs_folder, upload_paths, watch,
};

/// Options of everything that sends files.
#[derive(Debug, Clone, Args)]
pub(super) struct SendingArgs {
    /// Topic to send to
    #[arg(long = "topic_name", visible_alias = "producer_topic_name", value_name = "TOPIC")]
    pub topic_name: String,
    /// Only files whose path, relative to the folder, matches this regular expression from its start
    /// (as Python's `re.match`). Takes the place of the usual rules, which leave out `*.log`, lock
    /// files of office programs and unfinished copies; hidden files are left out in any case
    #[arg(long = "upload_regex", value_name = "REGEX")]
    upload_regex: Option<String>,
    /// Folder before the paths of all files on the topic, such as `lab1/microscope`: for instruments that write the same names
    #[arg(long = "path_prefix", value_name = "FOLDER")]
    path_prefix: Option<PathPrefix>,
    /// Bytes of file content in a message, a power of two
    #[arg(long = "chunk_size", value_name = "BYTES", default_value_t = DEFAULT_CHUNK_SIZE, value_parser = chunk_size)]
    chunk_size: usize,
    /// Megabytes of messages on their way at a time, at most: there are fewer where the broker takes them slowly
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
    fn without_effect(&self) -> [(&'static str, bool); 3] {
        [
            ("--n_threads", self.n_threads.is_some()),
            ("--consumer_topic_name", self.consumer_topic_name.is_some()),
            ("--consumer_group_id", self.consumer_group_id.is_some()),
        ]
    }

    /// The checked settings.
    pub(super) fn settings(&self) -> anyhow::Result<UploadSettings> {
        let mut settings = UploadSettings::new(&self.topic_name);
        settings.chunk_size = self.chunk_size;
        settings.in_flight_bytes = self.queue_max_size as usize * 1_000_000;
        if let Some(pattern) = &self.upload_regex {
            settings.filter = Filter::from_python(pattern).context("the value of --upload_regex cannot be used")?;
        }
        settings.path_prefix = self.path_prefix.clone().unwrap_or_default();
        Ok(settings)
    }
}

fn chunk_size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size: &usize| size.is_power_of_two() && *size <= MAX_CHUNK_SIZE);
    size.ok_or_else(|| format!("write a power of two up to {MAX_CHUNK_SIZE}; {DEFAULT_CHUNK_SIZE} is the usual one"))
}

/// Files on their way to a topic: which, and how.
pub struct Sending {
    work: Work,
    common: CommonArgs,
    without_effect: [(&'static str, bool); 3],
}

/// What is sent.
enum Work {
    /// Files and folders, once.
    Upload { paths: Vec<PathBuf>, settings: UploadSettings, only_missing: bool },
    /// What is new or changed in a folder.
    Watch(PathBuf, WatchSettings),
}

impl Sending {
    pub(super) fn upload(
        paths: Vec<PathBuf>,
        only_missing: bool,
        sending: &SendingArgs,
        common: CommonArgs,
    ) -> anyhow::Result<Self> {
        let work = Work::Upload { paths, settings: sending.settings()?, only_missing };
        Ok(Self { work, common, without_effect: sending.without_effect() })
    }

    pub(super) fn watch(folder: PathBuf, settings: WatchSettings, sending: &SendingArgs, common: CommonArgs) -> Self {
        Self { work: Work::Watch(folder, settings), common, without_effect: sending.without_effect() }
    }

    /// The settings that uploads and watches share, for who has more than the options.
    pub fn settings(&mut self) -> &mut UploadSettings {
        match &mut self.work {
            Work::Upload { settings, .. } => settings,
            Work::Watch(_, settings) => &mut settings.upload,
        }
    }

    fn topic(&self) -> &str {
        match &self.work {
            Work::Upload { settings, .. } => &settings.topic,
            Work::Watch(_, settings) => &settings.upload.topic,
        }
    }

    /// Whether it ends when everything is sent, and does not wait for more.
    pub fn ends_by_itself(&self) -> bool {
        match &self.work {
            Work::Upload { .. } => true,
            Work::Watch(_, settings) => settings.exit_at_end,
        }
    }

    /// What is said where a second signal ends it.
    fn at_once(&self) -> AtOnce {
        match &self.work {
            Work::Upload { .. } => AtOnce::SendsMissing,
            Work::Watch(..) => AtOnce::GoesOn,
        }
    }

    /// Sends until everything is sent, or a stop is asked for. `begins` is called once the log lines of the program have
    /// their places.
    ///
    /// # Errors
    /// What keeps it from beginning. What happens to single files, and what breaks the work off, is in the summary.
    pub fn run(
        &self,
        program: &str,
        control: &Control,
        facts: &Facts,
        begins: impl FnOnce() -> io::Result<()>,
    ) -> anyhow::Result<Summary> {
        let log_file = match &self.work {
            Work::Upload { paths, .. } => {
                check_paths(paths)?;
                None
            }
            Work::Watch(folder, settings) => {
                check_folder(folder)?;
                Some(logs_folder(folder, settings.logs_dir.as_deref())?.join(LOG_FILE))
            }
        };
        let topics = [(self.topic(), "the files")];
        let (log, reporting) =
            begin(&self.common, program, &topics, log_file, &self.without_effect, control, facts, begins)?;
        Ok(match &self.work {
            Work::Upload { paths, settings, only_missing: true } => {
                upload_missing(&log, paths, settings, control, reporting.facts())?
            }
            Work::Upload { paths, settings, .. } => {
                upload_paths(log.as_ref(), paths, settings, control, reporting.facts())?
            }
            Work::Watch(folder, settings) => watch(log.as_ref(), folder, settings, control, reporting.facts())?,
        })
    }

    /// Prints the summary. Why the work was broken off is in the log, where that is printed as well.
    pub(super) fn end(&self, summary: &Summary) -> Exit {
        match self.common.logger_stream_level {
            LogLevel::Critical => say(summary),
            _ => say(format_args!("{summary:#}")),
        }
        of_upload(summary)
    }

    /// The same as a program, which the console and the signals steer.
    pub(super) fn run_as_program(&self, program: &str, facts: &Facts) -> anyhow::Result<Summary> {
        let control = Arc::new(Control::default());
        self.run(program, &control, facts, || steer(&control, self.ends_by_itself(), self.at_once()))
    }
}

/// What runs beside the work of a program.
pub(super) struct Started {
    pub log: Arc<dyn Log>,
    pub control: Arc<Control>,
    pub facts: Facts,
    _reporting: Reporting,
}

/// Starts logging, the log, heartbeats, console and signals of a program that reads as well: it makes no log in a folder
/// that has none. `topics` are those of the program, with what each is for.
pub(super) fn start(
    common: &CommonArgs,
    program: &str,
    topics: &[(&str, &'static str)],
    ends_by_itself: bool,
) -> anyhow::Result<Started> {
    check_log_here(&common.load_config()?)?;
    let (control, facts) = (Arc::<Control>::default(), Facts::default());
    let (log, reporting) = begin(common, program, topics, None, &[], &control, &facts, || {
        steer(&control, ends_by_itself, AtOnce::GoesOn)
    })?;
    Ok(Started { log, control, facts: reporting.facts().clone(), _reporting: reporting })
}

#[expect(clippy::too_many_arguments, reason = "each kind of program has it in one place")]
fn begin(
    common: &CommonArgs,
    program: &str,
    topics: &[(&str, &'static str)],
    log_file: Option<PathBuf>,
    without_effect: &[(&str, bool)],
    control: &Control,
    facts: &Facts,
    begins: impl FnOnce() -> io::Result<()>,
) -> anyhow::Result<(Arc<dyn Log>, Reporting)> {
    let config = common.load_config()?;
    common.check_topics(&config, topics)?;
    let logging = common.start_logging(&config, log_file)?;
    common.say_without_effect(without_effect);
    begins()?;
    let log = open_log(common, &config, control)?;
    let reporting = common.start_reporting(logging, program, ProgramKind::Producer, &config, &log, facts, None)?;
    reporting.stops_with(control);
    Ok((log, reporting))
}

fn check_folder(folder: &Path) -> anyhow::Result<()> {
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => bail!("`{}` cannot be watched: it is not a folder", folder.display()),
        Err(error) => Err(error).context(format!("`{}` cannot be watched, check the path", folder.display())),
    }
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
