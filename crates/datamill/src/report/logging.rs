//! Sets logging up for a program: lines on stderr, in a file, and on a topic.

use std::env;
use std::error::Error;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill_broker::Publisher;
use indicatif::MultiProgress;
use parking_lot::{Mutex, RwLock};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;

use super::level::LogLevel;
use super::lines::{Line, Lines, Output};
use super::log_topic::{self, LogTopicLines, LogTopicOptions, Ring};
use super::periodic::Periodic;
use super::programs::{Programs, Running};
use super::text::chain;
use crate::durable::is_full;
use crate::mark::Identity;

/// Which lines go where.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// The least level on stderr.
    pub stream_level: LogLevel,
    /// The least level in the file.
    pub file_level: LogLevel,
    /// The file; appended, and made with its folders where it is not there.
    pub file_path: Option<PathBuf>,
    /// Lines to keep for a topic, until [`LogGuard::send_to`] says which.
    pub log_topic: Option<LogTopicLines>,
}

/// The log file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write the log file `{}`: make sure that its folder can be written to, or choose another file with `--logger_file_path`",
    .path.display()
)]
pub struct LogFileError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
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
        outputs.push(Box::new(LogFile::open(path, options.file_level)?));
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

/// The progress bars that lines must not tear apart.
static BARS: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// Lines on stderr stand above these progress bars from here on; `None` ends it.
pub fn lines_above(bars: Option<MultiProgress>) {
    *BARS.lock() = bars;
}

/// What prints in place of stderr.
pub struct Printer {
    /// Whether the lines may have colours.
    pub colours: bool,
    /// Prints a text, which ends with its line. It is called from any thread, and MUST NOT log.
    pub print: Box<dyn Fn(&str) + Send + Sync>,
}

static PRINTER: RwLock<Option<Printer>> = RwLock::new(None);

/// Lines and what [`say`] says are printed by this from here on: for a process whose stderr is another thing than the
/// system's, as an interpreter's.
pub fn print_with(printer: Printer) {
    *PRINTER.write() = Some(printer);
}

/// Prints a text with a line end on stderr, above progress bars. That nobody reads it is no error.
pub fn say(text: impl fmt::Display) {
    to_stderr(&format!("{text}\n"));
}

/// Says on stderr why the program ends, and writes it into the log file and to the log topic.
pub fn say_error(error: &(dyn Error + 'static)) {
    say(format_args!("error: {}", chain(error)));
    note_error(error);
}

/// Writes why the program ends into the log file and to the log topic, where somebody else prints it.
pub fn note_error(error: &(dyn Error + 'static)) {
    tracing::error!(target: SAID, "{}", chain(error));
}

fn to_stderr(text: &str) {
    if let Some(printer) = &*PRINTER.read() {
        return (printer.print)(text);
    }
    // Nobody can be told that stderr is gone.
    let write = || drop(io::stderr().lock().write_all(text.as_bytes()));
    let bars = BARS.lock().clone();
    match bars {
        Some(bars) => bars.suspend(write),
        None => write(),
    }
}

struct Stderr {
    level: LevelFilter,
    colours: bool,
}

impl Stderr {
    fn new(level: LogLevel) -> Self {
        let no_color = env::var("NO_COLOR").is_ok_and(|value| !value.is_empty());
        let plain = no_color || env::var("TERM").is_ok_and(|terminal| terminal == "dumb");
        let may = PRINTER.read().as_ref().map_or_else(|| io::stderr().is_terminal(), |printer| printer.colours);
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

struct LogFile {
    path: PathBuf,
    level: LevelFilter,
    state: Mutex<FileState>,
}

struct FileState {
    /// There is none while the disk has no room for it.
    file: Option<File>,
    /// When it was looked at last whether it still is at its path.
    looked: Instant,
    failing: bool,
}

/// A file that was removed or moved away is noticed this much later at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl LogFile {
    fn open(path: PathBuf, level: LogLevel) -> Result<Self, LogFileError> {
        let file = match append_to(&path) {
            Ok(file) => Some(file),
            Err(error) if is_full(&error) => None,
            Err(source) => return Err(LogFileError { path, source }),
        };
        let state = Mutex::new(FileState { file, looked: Instant::now(), failing: false });
        // user code may change the folder of the process
        let path = std::path::absolute(&path).unwrap_or(path);
        Ok(Self { path, level: level.filter(), state })
    }
}

impl FileState {
    /// Begins a new file where the one before was removed or moved away. Its folder is made again, but none above:
    /// that may be a share that is not mounted. Answers whether it has begun one.
    fn look(&mut self, path: &Path) -> bool {
        if self.looked.elapsed() < LOOK_EVERY {
            return false;
        }
        self.looked = Instant::now();
        if !self.file.as_ref().is_some_and(|file| Identity::is_of(path, file)) {
            // it may be there already; and without a new file, the lines go where they went
            let _ = path.parent().map(fs::create_dir);
            if let Ok(file) = OpenOptions::new().create(true).append(true).open(path) {
                return self.file.replace(file).is_some();
            }
        }
        false
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().create(true).append(true).open(path)
}

impl Output for LogFile {
    fn level(&self) -> LevelFilter {
        self.level
    }

    fn write(&self, line: &Line<'_>) {
        let mut text = line.full();
        text.push('\n');
        let mut state = self.state.lock();
        if state.look(&self.path) {
            let told = "the log file before was removed or moved away: this one is begun anew";
            say(format_args!("{told} (`{}`)", self.path.display()));
            text.insert_str(0, &(Line { level: tracing::Level::WARN, text: told, ..*line }.full() + "\n"));
        }
        let written = match &mut state.file {
            Some(file) => file.write_all(text.as_bytes()),
            None => Err(io::ErrorKind::StorageFull.into()),
        };
        match written {
            Ok(()) => state.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut state.failing, true) {
                    say(format_args!("cannot write the log file `{}`: {}", self.path.display(), chain(&error)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_file_is_appended_and_its_folders_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LOGS/deeper/xrd.log");
        for text in ["first", "second"] {
            let file = LogFile::open(path.clone(), LogLevel::Warning).unwrap();
            file.write(&Line { time_ms: 1_700_000_000_250, level: tracing::Level::WARN, target: "t", text });
        }
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("WARN  t: first") && lines[1].ends_with("WARN  t: second"), "{text}");
    }

    #[test]
    fn a_log_file_that_was_removed_with_its_folder_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LOGS/xrd.log");
        let file = LogFile::open(path.clone(), LogLevel::Info).unwrap();
        let write = |text| file.write(&Line { time_ms: 0, level: tracing::Level::WARN, target: "t", text });
        write("first");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        std::thread::sleep(LOOK_EVERY);
        write("second");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("t: second\n") && !text.contains("first"), "{text}");
        assert!(text.lines().next().is_some_and(|line| line.ends_with("this one is begun anew")), "{text}");
    }

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
