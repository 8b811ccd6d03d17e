//! The log file. It is turned where it would become too large: it gets another name, and a new one is begun.
//!
//! ```text
//! xrd.log  ──▶  xrd.1.log  ──▶  xrd.2.log  ──▶  xrd.3.log  ──▶  removed
//! ```
//! The names end as the first one does, so that the usual rules of an upload leave them out.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::Level;
use tracing::level_filters::LevelFilter;

use super::level::LogLevel;
use super::lines::{Line, Output};
use super::printed::say;
use super::text::chain;
use crate::durable::{Home, is_full};
use crate::mark::Identity;

/// A file that was removed or moved away is noticed this much later at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Files that are kept beside the one that is written.
const KEPT: u32 = 3;

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

pub(super) struct LogFile {
    path: PathBuf,
    home: Home,
    level: LevelFilter,
    max_size: Option<u64>,
    state: Mutex<FileState>,
}

struct FileState {
    /// There is none while the disk has no room for it.
    file: Option<File>,
    /// Bytes in it.
    size: u64,
    /// When it was looked at last whether it still is at its path.
    looked: Instant,
    failing: bool,
}

impl LogFile {
    /// Errors: the file cannot be opened.
    pub(super) fn open(path: PathBuf, level: LogLevel, max_size: Option<u64>) -> Result<Self, LogFileError> {
        let (file, size) = match append_to(&path) {
            Ok((file, size)) => (Some(file), size),
            Err(error) if is_full(&error) => (None, 0),
            Err(source) => return Err(LogFileError { path, source }),
        };
        let state = Mutex::new(FileState { file, size, looked: Instant::now(), failing: false });
        // user code may change the folder of the process
        let path = std::path::absolute(&path).unwrap_or(path);
        Ok(Self { home: Home::of(&path), path, level: level.filter(), max_size, state })
    }
}

/// What is told about a file that is begun.
enum Begun {
    /// Somebody removed the one before, or moved it away.
    AfterLoss,
    /// Another program that writes it has turned it.
    ByAnother,
}

impl FileState {
    /// Begins a new file where the one before was removed or moved away. Its folder is made again, but nothing in the place
    /// of the folder above: that may be a share that is not mounted.
    fn look(&mut self, path: &Path, home: &Home) -> Option<Begun> {
        if self.looked.elapsed() < LOOK_EVERY {
            return None;
        }
        self.looked = Instant::now();
        if self.file.as_ref().is_some_and(|file| Identity::is_of(path, file)) {
            return None;
        }
        // without a new file, the lines go where they went
        home.make().ok()?;
        let file = OpenOptions::new().create(true).append(true).open(path).ok()?;
        self.size = file.metadata().map_or(0, |found| found.len());
        let before = self.file.replace(file)?;
        let is_turned = (1..=KEPT).any(|number| Identity::is_of(&kept(path, number), &before));
        Some(if is_turned { Begun::ByAnother } else { Begun::AfterLoss })
    }

    /// Begins a new file, and keeps the one before under another name.
    fn turn(&mut self, path: &Path) -> io::Result<()> {
        // where it is not at its path any more, `look` begins a new one
        if !self.file.as_ref().is_some_and(|file| Identity::is_of(path, file)) {
            return Ok(());
        }
        for number in (1..KEPT).rev() {
            match fs::rename(kept(path, number), kept(path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(path, kept(path, 1))?;
        self.file = Some(OpenOptions::new().create(true).append(true).open(path)?);
        Ok(())
    }
}

/// The name of a file that is kept: the number goes before the last part of it that begins with `.`.
fn kept(path: &Path, number: u32) -> PathBuf {
    match path.extension() {
        Some(end) => path.with_extension(format!("{number}.{}", end.to_string_lossy())),
        None => path.with_extension(number.to_string()),
    }
}

fn append_to(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

impl Output for LogFile {
    fn level(&self) -> LevelFilter {
        self.level
    }

    fn write(&self, line: &Line<'_>) {
        let mut text = line.full();
        text.push('\n');
        let mut state = self.state.lock();
        if let Some(Begun::AfterLoss) = state.look(&self.path, &self.home) {
            let told = "the log file before was removed or moved away: this one is begun anew";
            say(format_args!("{told} (`{}`)", self.path.display()));
            text.insert_str(0, &(Line { level: Level::WARN, text: told, ..*line }.full() + "\n"));
        }
        let is_too_large = |max_size| state.size > 0 && state.size + text.len() as u64 > max_size;
        if self.max_size.is_some_and(is_too_large) {
            if let Err(error) = state.turn(&self.path) {
                let path = self.path.display();
                say(format_args!("the log file `{path}` grows on, since it cannot be renamed: {}", chain(&error)));
            }
            // also where it could not: that is tried again after as many bytes, not with each line
            state.size = 0;
        }
        let written = match &mut state.file {
            Some(file) => file.write_all(text.as_bytes()),
            None => Err(io::ErrorKind::StorageFull.into()),
        };
        match written {
            Ok(()) => {
                state.size += text.len() as u64;
                state.failing = false;
            }
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

    fn line(text: &str) -> Line<'_> {
        Line { time_ms: 1_700_000_000_250, level: Level::WARN, target: "t", text }
    }

    fn texts(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.rsplit_once("WARN  t: ").unwrap().1.to_owned()).collect()
    }

    #[test]
    fn the_log_file_is_appended_and_its_folders_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LOGS/deeper/xrd.log");
        for text in ["first", "second"] {
            LogFile::open(path.clone(), LogLevel::Warning, None).unwrap().write(&line(text));
        }
        assert_eq!(texts(&path), ["first", "second"]);
    }

    #[test]
    fn a_log_file_that_was_removed_with_its_folder_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("LOGS/xrd.log");
        let file = LogFile::open(path.clone(), LogLevel::Info, None).unwrap();
        file.write(&line("first"));
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        file.state.lock().looked -= LOOK_EVERY;
        file.write(&line("second"));
        let texts = texts(&path);
        assert!(texts[0].ends_with("this one is begun anew") && texts[1..] == ["second"], "{texts:?}");
    }

    #[test]
    fn nothing_is_begun_in_the_place_of_an_output_folder_that_is_gone_and_the_file_goes_on_when_it_is_back() {
        let place = tempfile::tempdir().unwrap();
        let (output, away) = (place.path().join("out"), place.path().join("away"));
        let path = output.join("LOGS/xrd.log");
        let file = LogFile::open(path.clone(), LogLevel::Info, None).unwrap();
        let write = |text: &str| {
            file.state.lock().looked -= LOOK_EVERY;
            file.write(&line(text));
        };
        write("before");
        fs::rename(&output, &away).unwrap();
        write("without a folder");
        fs::create_dir(&output).unwrap();
        write("with another one");
        assert_eq!(fs::read_dir(&output).unwrap().count(), 0);
        fs::remove_dir(&output).unwrap();
        fs::rename(&away, &output).unwrap();
        write("after");
        assert_eq!(texts(&path), ["before", "without a folder", "with another one", "after"]);
    }

    #[test]
    fn a_log_file_that_is_large_enough_is_kept_under_another_name_and_a_few_of_these_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("xrd.log");
        let bytes = line("0").full().len() as u64 + 1;
        for number in 0..6 {
            // the size goes on over a restart
            let file = LogFile::open(path.clone(), LogLevel::Info, Some(2 * bytes)).unwrap();
            file.write(&line(&(2 * number).to_string()[..1]));
            file.write(&line("x"));
        }
        assert_eq!(texts(&path), ["1", "x"]);
        let kept: Vec<_> = (1..=KEPT).map(|number| texts(&kept(&path, number))).collect();
        assert_eq!(kept, [["8", "x"], ["6", "x"], ["4", "x"]]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
        assert!(folder.path().join("xrd.3.log").exists());
    }

    #[test]
    fn of_two_programs_that_write_one_log_file_each_goes_on_where_the_other_has_turned_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("xrd.log");
        let bytes = line("0").full().len() as u64 + 1;
        let [one, other] = [1, 3].map(|size| LogFile::open(path.clone(), LogLevel::Info, Some(size * bytes)).unwrap());
        one.write(&line("a"));
        one.write(&line("b"));
        other.write(&line("c"));
        other.state.lock().looked -= LOOK_EVERY;
        other.write(&line("d"));
        assert_eq!(texts(&path), ["b", "d"]);
        assert_eq!(texts(&kept(&path, 1)), ["a", "c"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_log_file_that_cannot_be_renamed_grows_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("xrd.log");
        for number in [2, 3] {
            fs::create_dir_all(kept(&path, number).join("in the way")).unwrap();
        }
        let file = LogFile::open(path.clone(), LogLevel::Info, Some(1)).unwrap();
        file.write(&line("a"));
        file.write(&line("b"));
        assert_eq!(texts(&path), ["a", "b"]);
    }

    #[test]
    fn the_names_of_kept_files_end_as_the_first_one_does() {
        for (path, name) in [("LOGS/a.b.log", "LOGS/a.b.1.log"), ("lines", "lines.1"), (".hidden", ".hidden.1")] {
            assert_eq!(kept(Path::new(path), 1), Path::new(name));
        }
    }
}
