//! What the common options start beside a program's work: log lines, heartbeats, log messages, the status over HTTP.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{CommonArgs, SetUpError};
use crate::broker::{Log, Properties, Publisher};
use crate::control::Control;
use crate::facts::Facts;
use crate::report::chain;
use crate::report::heartbeat::{Heartbeat, HeartbeatOptions, ProgramKind, default_program_id};
use crate::report::log_topic::{LogTopicLines, LogTopicOptions};
use crate::report::logging::{self, LogFileError, LogGuard, LogOptions};
#[cfg(target_os = "linux")]
use crate::report::service_manager::ServiceManager;
use crate::settings::Config;
use crate::status::{Recent, Server, Shown, Source};

/// Keeps log lines, heartbeats, log messages and the status going; dropping it sends the last ones.
#[must_use = "heartbeats and log messages end when this is dropped"]
pub struct Reporting {
    facts: Facts,
    /// Those that the program uses.
    logs: Vec<Arc<dyn Log>>,
    _status: Option<Server>,
    _heartbeat: Option<Heartbeat>,
    #[cfg(target_os = "linux")]
    _service_manager: Option<ServiceManager>,
    _logging: LogGuard,
}

impl Reporting {
    /// Where the program tells what happens: the facts that it was started with, and the status hears them as well.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Lets the logs of the program know as soon as a stop is asked for.
    pub fn stops_with(&self, control: &Control) {
        self.logs.iter().for_each(|log| control.stops(log));
    }
}

impl CommonArgs {
    /// The configuration that `--config` names.
    ///
    /// # Errors
    /// A file that is not there or not right.
    pub fn load_config(&self) -> Result<Config, SetUpError> {
        let config = Config::load(self.config.as_deref())?;
        Ok(self.folder.iter().fold(config, |config, folder| config.with_default_log_in(folder)))
    }

    /// Refuses a topic for heartbeats or log messages that holds something else. `others` are those that the program has
    /// on its own log, each with what it is for.
    ///
    /// # Errors
    /// Such a topic, and a section of the configuration that is not right.
    pub fn check_topics(&self, config: &Config, others: &[(&str, &'static str)]) -> Result<(), SetUpError> {
        let servers = |properties: &Properties| properties.broker.get("bootstrap.servers").cloned();
        let own = servers(config.properties());
        let mut taken: Vec<_> = others.iter().map(|(topic, what)| (own.clone(), *topic, *what)).collect();
        for (section, option, topic, messages) in [
            ("heartbeat", "--heartbeat_topic_name", &self.heartbeat_topic_name, "heartbeats"),
            ("log", "--log_topic_name", &self.log_topic_name, "log messages"),
        ] {
            let Some(topic) = topic else { continue };
            let at = config.properties_of(section)?.map_or_else(|| own.clone(), |properties| servers(&properties));
            if let Some(&(_, _, other)) = taken.iter().find(|(log, name, _)| *log == at && *name == topic.as_str()) {
                return Err(SetUpError::TakenTopic { messages, topic: topic.clone(), other, option });
            }
            taken.push((at, topic.as_str(), messages));
        }
        Ok(())
    }

    /// Begins to log, to `log_file` as well where there is one, and says what is odd about the
    /// configuration.
    ///
    /// # Errors
    /// A log file that cannot be written, or a wrong level.
    pub fn start_logging(&self, config: &Config, log_file: Option<PathBuf>) -> Result<LogGuard, SetUpError> {
        let lines = match &self.log_topic_name {
            None => None,
            Some(_) => {
                let settings = config.log_topic()?;
                let level = settings.level.unwrap_or(self.logger_stream_level);
                Some(LogTopicLines { level, max_lines: settings.max_lines })
            }
        };
        let file_path = self.logger_file_path.clone().or(log_file);
        if let Some(path) = &file_path {
            refuse_files_of_logs(path, config)?;
        }
        let guard = logging::init(LogOptions {
            stream_level: self.logger_stream_level,
            file_level: self.logger_file_level,
            file_path,
            file_max_size: Some(self.log_max_size.0 as u64).filter(|size| *size > 0),
            log_topic: lines,
        })?;
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        Ok(guard)
    }

    /// Opens the log that the configuration names.
    ///
    /// # Errors
    /// A broker that does not answer, a file that is no log.
    pub fn open_log(&self, config: &Config) -> Result<Arc<dyn Log>, SetUpError> {
        let log = crate::broker::open(config.properties())?;
        if config.is_default_log() {
            tracing::info!(log = log.name(), "no broker configured: using the embedded log in this folder");
        }
        Ok(log)
    }

    /// Begins to send heartbeats and log messages where their topics are named, and to serve the status where an address
    /// is: of `source` that is how far its group is behind.
    ///
    /// # Errors
    /// A section of the configuration that is not right, a topic or broker that is not there, an address that cannot be
    /// listened on.
    #[expect(clippy::too_many_arguments, reason = "each kind of program has it in one place")]
    pub fn start_reporting(
        &self,
        mut logging: LogGuard,
        program: &str,
        kind: ProgramKind,
        config: &Config,
        log: &Arc<dyn Log>,
        facts: &Facts,
        source: Option<Source>,
    ) -> Result<Reporting, SetUpError> {
        let id = |given: &Option<String>| given.clone().unwrap_or_else(|| default_program_id(program));
        let mut logs = vec![Arc::clone(log)];
        if let Some(topic) = &self.log_topic_name {
            let options = LogTopicOptions {
                topic: topic.clone(),
                program_id: id(&self.log_program_id),
                interval: self.log_interval_secs,
            };
            logging.send_to(options, publisher("log", topic, config, log, &mut logs)?)?;
        }
        let mut heartbeat = None;
        if let Some(topic) = &self.heartbeat_topic_name {
            let options = HeartbeatOptions {
                topic: topic.clone(),
                program_id: id(&self.heartbeat_program_id),
                interval: self.heartbeat_interval_secs,
                kind,
                member: source.as_ref().map(|source| (source.group.clone(), source.instance.clone())),
            };
            let publisher = publisher("heartbeat", topic, config, log, &mut logs)?;
            heartbeat = Some(Heartbeat::start(options, publisher, Arc::clone(facts.counters()))?);
        }
        let (mut status, mut facts) = (None, facts.clone());
        if let Some(address) = self.status_listen {
            let recent = Arc::<Recent>::default();
            facts = facts.heard_by(recent.clone());
            let (counters, log) = (Arc::clone(facts.counters()), Some(Arc::clone(log)));
            let shown = Shown { program: program.to_owned(), kind, counters, log, source, recent };
            let started = Server::start(address, shown);
            status = Some(started.map_err(|source| SetUpError::StatusListen { address, source })?);
        }
        Ok(Reporting {
            #[cfg(target_os = "linux")]
            _service_manager: ServiceManager::start(Arc::clone(facts.counters()))?,
            facts,
            logs,
            _status: status,
            _heartbeat: heartbeat,
            _logging: logging,
        })
    }
}

/// Opens the log that the configuration names, to look at what is in it: a file is not made.
///
/// # Errors
/// A log that is not there, or does not answer.
pub fn open_existing(config: &Config) -> Result<Arc<dyn Log>, SetUpError> {
    check_log_here(config)?;
    if let Some(file) = missing_file(config) {
        return Err(SetUpError::NoLog(file.to_owned()));
    }
    Ok(crate::broker::open(config.properties())?)
}

/// Refuses a folder without a log where no log is configured. A program that reads would make an empty one there and wait
/// for ever, when it was only started in the wrong folder. A log that a configuration names is meant.
///
/// # Errors
/// A log that is not there.
pub fn check_log_here(config: &Config) -> Result<(), SetUpError> {
    match missing_file(config) {
        Some(file) if config.is_default_log() => {
            let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
            Err(SetUpError::NoLogHere(file.parent().unwrap_or(&file).to_owned()))
        }
        _ => Ok(()),
    }
}

/// The file of the embedded log that the configuration names, where it does not exist.
fn missing_file(config: &Config) -> Option<&Path> {
    let servers = config.properties().broker.get("bootstrap.servers")?;
    let file = Path::new(servers.strip_prefix("sqlite:")?);
    (!file.as_os_str().is_empty() && !file.exists()).then_some(file)
}

/// Lines that are appended to a file of an embedded log would destroy it.
fn refuse_files_of_logs(path: &Path, config: &Config) -> Result<(), SetUpError> {
    let separate = ["heartbeat", "log"].into_iter().filter_map(|section| config.properties_of(section).ok().flatten());
    for properties in separate.chain([config.properties().clone()]) {
        // A log that cannot be is told when it is opened.
        if crate::broker::own_files(&properties).is_ok_and(|own| own.would_hold(path)) {
            return Err(LogFileError {
                path: path.to_owned(),
                source: io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "it is a file of the embedded log, which holds the topics",
                ),
            }
            .into());
        }
    }
    Ok(())
}

/// A publisher for the messages of a section: on the program's own log, or on another one, which comes to `logs`.
fn publisher(
    section: &'static str,
    topic: &str,
    config: &Config,
    log: &Arc<dyn Log>,
    logs: &mut Vec<Arc<dyn Log>>,
) -> Result<Box<dyn Publisher>, SetUpError> {
    let mut open = || {
        let log = match config.properties_of(section)? {
            Some(properties) => {
                let another = crate::broker::open(&properties)?;
                logs.push(Arc::clone(&another));
                another
            }
            None => Arc::clone(log),
        };
        log.topic_for_use(topic)?;
        Ok::<_, SetUpError>(log.publisher()?)
    };
    open().map_err(|error| match error {
        SetUpError::Log(source) => {
            tracing::debug!(error = %chain(&source), section, "messages cannot be sent");
            SetUpError::Messages { section, topic: topic.to_owned(), source }
        }
        other => other,
    })
}
