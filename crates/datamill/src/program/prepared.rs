//! A program between its command line and its end, for whoever steers it in their own way.

use std::path::PathBuf;
use std::sync::Arc;

use super::{ConsumerArgs, ProgramArgs, Reporting, SetUpError, check_log_here};
use crate::broker::Log;
use crate::engine::{self, Control, EngineError, EngineSettings, Summary};
use crate::facts::Facts;
use crate::process::UserCode;
use crate::report::heartbeat::ProgramKind;
use crate::status::Source;

/// A program that is set up: its log is open, and it reports. Nothing has been read.
pub struct Prepared {
    /// What the engine works with; it may be changed before [`run`](Self::run).
    pub settings: EngineSettings,
    /// Where it tells what happens to files; listeners may be added before [`run`](Self::run).
    pub facts: Facts,
    log: Arc<dyn Log>,
    take_over: Option<PathBuf>,
    reporting: Reporting,
}

impl Prepared {
    /// Reads the configuration, begins to log, and opens the log of the topics.
    ///
    /// # Errors
    /// What keeps the program from starting.
    pub fn new(args: &impl ProgramArgs, program: &str) -> Result<Self, SetUpError> {
        let common = &args.consumer().common;
        let config = common.load_config()?;
        // before an output folder is made
        check_log_here(&config)?;
        let settings = args.engine_settings(program, &config)?;
        let topics = [
            (Some(&settings.topic), "the files"),
            (settings.result_topic.as_ref(), "the results"),
            (settings.dead_letter_topic.as_ref(), "dead letters"),
        ];
        let topics: Vec<_> = topics.into_iter().filter_map(|(topic, what)| Some((topic?.as_str(), what))).collect();
        common.check_topics(&config, &topics)?;
        let log_file = ConsumerArgs::log_file(program, &settings.output_dir);
        let logging = common.start_logging(&config, Some(log_file))?;
        common.say_without_effect(&args.without_effect());
        let log = common.open_log(&config)?;
        let kind = if settings.result_topic.is_some() { ProgramKind::Reproducer } else { ProgramKind::Consumer };
        let (topic, group, instance) = (settings.topic.clone(), settings.group.clone(), settings.instance.clone());
        let source = Some(Source { topic, group, instance, log: Arc::clone(&log) });
        let reporting = common.start_reporting(logging, program, kind, &config, &log, &Facts::default(), source)?;
        let facts = reporting.facts().clone();
        let take_over = args.consumer().take_over.clone();
        Ok(Self { settings, facts, log, take_over, reporting })
    }

    /// Runs until it is told to stop, the end is reached (where asked), or it cannot go on. `None` where it was told to
    /// stop before it began.
    ///
    /// # Errors
    /// As [`engine::run`].
    pub fn run(&self, code: UserCode, control: &Control) -> Result<Option<Summary>, EngineError> {
        self.reporting.stops_with(control);
        if let Some(folder) = &self.take_over {
            let group = &self.settings.group;
            match engine::take_over(&self.log, &self.settings, folder, &code, control)? {
                Some(taken) => tracing::info!(%group, "{taken}"),
                None => tracing::info!(%group, "there is nothing to take over"),
            }
            if control.stopping().is_some() {
                return Ok(None);
            }
        }
        engine::run(&self.log, &self.settings, code, control, &self.facts).map(Some)
    }
}
