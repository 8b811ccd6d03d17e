//! Sets logging up for a program: lines on stderr, in a file, and on a topic.

use std::env;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use datamill_broker::Publisher;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;

use super::level::LogLevel;
pub use super::lines::CRITICAL;
use super::lines::{Line, Lines, Output};
use super::log_file::LogFile;
pub use super::log_file::LogFileError;
use super::log_topic::{self, LogTopicLines, LogTopicOptions, Ring};
use super::periodic::Periodic;
pub use super::printed::{Printer, lines_above, print_with, say};
use super::printed::{may_have_colours, to_stderr};
use super::programs::{Programs, Running};

/// Which lines go where.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// The least level on stderr.
    pub stream_level: LogLevel,
    /// The least level in the file.
    pub file_level: LogLevel,
    /// The file; appended, and made with its folders where it is not there.
    pub file_path: Option<PathBuf>,
    /// Bytes of the file above which another one is begun; `None` is never.
    pub file_max_size: Option<u64>,
    /// Lines to keep for a topic, until [`LogGuard::send_to`] says which.
    pub log_topic: Option<LogTopicLines>,
}

/// Keeps logging alive. Dropping it sends the last log message and waits for it, some seconds at most.
#[must_use = "log messages end when this is dropped"]
pub struct LogGuard {
    ring: Option<Arc<Ring>>,
    topic: Option<Periodic>,
    // ends after the last log message
    _running: Running,
}

static PROGRAMS: Programs = Programs::none();

/// Sets up logging for a program. A process may do so again for each program that it runs. Where it has a subscriber
/// of its own, that one stays: the lines are its affair.
///
/// Errors: the file cannot be opened.
pub fn init(options: LogOptions) -> Result<LogGuard, LogFileError> {
    let mut outputs: Vec<Box<dyn Output>> = Vec::new();
    if let Some(path) = options.file_path {
        outputs.push(Box::new(LogFile::open(path, options.file_level, options.file_max_size)?));
    }
    let ring = options.log_topic.map(|lines| Arc::new(Ring::new(lines)));
    if let Some(ring) = &ring {
        outputs.push(Box::new(Arc::clone(ring)));
    }
    let running = PROGRAMS.add(Box::new(Stderr::new(options.stream_level)), outputs);
    // only the first program of a process has to
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Lines(&PROGRAMS)));
    tracing::callsite::rebuild_interest_cache();
    Ok(LogGuard { ring, topic: None, _running: running })
}

impl LogGuard {
    /// Begins to send the lines that [`LogOptions::log_topic`] keeps. Errors: no thread can be
    /// started. What goes wrong with the log later is one warning and never stops the program.
    pub fn send_to(&mut self, options: LogTopicOptions, publisher: Box<dyn Publisher>) -> io::Result<()> {
        if let Some(ring) = &self.ring {
            self.topic = Some(log_topic::start(Arc::clone(ring), options, publisher)?);
        }
        Ok(())
    }
}

/// Target of lines that were printed on stderr in another form.
const SAID: &str = "datamill";

/// Says on stderr why the program ends, and writes it into the log file and to the log topic.
pub fn say_error(why: impl Display) {
    say(format_args!("error: {why}"));
    note_error(why);
}

/// Writes why the program ends into the log file and to the log topic, where somebody else prints it.
pub fn note_error(why: impl Display) {
    tracing::error!(target: SAID, "{why}");
}

struct Stderr {
    level: LevelFilter,
    colours: bool,
}

impl Stderr {
    fn new(level: LogLevel) -> Self {
        let no_color = env::var("NO_COLOR").is_ok_and(|value| !value.is_empty());
        let plain = no_color || env::var("TERM").is_ok_and(|terminal| terminal == "dumb");
        let may = may_have_colours();
        Self { level: level.filter(), colours: !plain && may }
    }
}

impl Output for Stderr {
    fn level(&self) -> LevelFilter {
        self.level
    }

    fn write(&self, line: &Line<'_>) {
        if line.target != SAID {
            to_stderr(&line.short(self.colours));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_log_file_that_cannot_be_opened_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("LOGS"), "a file where the folder should be").unwrap();
        let options = LogOptions { file_path: Some(folder.path().join("LOGS/xrd.log")), ..LogOptions::default() };
        let error = init(options).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("LOGS/xrd.log`") && text.contains("--logger_file_path"), "{text}");
    }
}
