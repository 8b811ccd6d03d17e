//! How a watched folder stands to its topic: what was delivered, what waits, and what cannot be sent. The record of the
//! watch says the first, and the folder is looked at as the watch does.

use std::collections::HashMap;
use std::path::PathBuf;

use datamill_broker::{Log, Operation};

use super::error::SurveyError;
use super::problem::{Problem, ProblemKind, Subject};
use super::reconcile::refused;
use crate::control::Control;
use crate::report::text::shell_word;
use crate::upload::{Filter, Found, LogsFolder, PathPrefix, Scanner, Stamp, look_at_record, prefix_words};

/// Files that are named in each list.
const NAMED: usize = 10;

/// How a watched folder stands. See the module.
#[derive(Debug, Clone)]
pub struct WatchStatus {
    /// The folder, as it was named.
    pub folder: PathBuf,
    /// The record of the watch.
    pub record: PathBuf,
    /// Whether a watch of the folder runs on this machine. `None` where that cannot be told.
    pub is_running: Option<bool>,
    /// Files of the folder that were delivered as they are.
    pub delivered: u64,
    /// Files that were there when the folder was watched for the first time, and are not sent.
    pub existing: u64,
    /// Files that are new or have changed, and are to be sent.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// When the one that waits for the longest time was changed last, milliseconds since the epoch.
    pub waiting_since_ms: Option<i64>,
    /// Paths of the first ones.
    pub waiting_files: Vec<String>,
    /// Files and folders that were wanted and cannot be sent.
    pub refused: u64,
    /// The first ones, with the reason.
    pub refused_files: Vec<(String, String)>,
    /// What needs a person.
    pub problems: Vec<Problem>,
}

/// A folder that is watched, as the watch has it.
#[derive(Debug, Clone)]
pub struct WatchedFolder {
    /// The folder.
    pub folder: PathBuf,
    /// Folder of the record; `None` is the usual one in the watched folder.
    pub logs_dir: Option<PathBuf>,
    /// Which files are taken by their names.
    pub filter: Filter,
    /// What goes before the relative paths.
    pub path_prefix: PathPrefix,
}

/// Looks how a folder stands that is watched for a topic. Changes nothing.
///
/// # Errors
/// Those of the log and of the folder; a folder that was never watched for this topic.
pub fn watch_status(
    log: &dyn Log,
    watched: &WatchedFolder,
    topic: &str,
    control: &Control,
) -> Result<WatchStatus, SurveyError> {
    let WatchedFolder { folder, logs_dir, filter, path_prefix } = watched;
    let failed = |source| SurveyError::Path { path: folder.to_owned(), source };
    let (found, log_id) = (log.topic(topic).map_err(|error| error.for_use(Operation::Describe))?, log.id()?);
    let scanner = Scanner::new(folder, path_prefix.clone(), filter.clone(), log.own_files()).map_err(failed)?;
    let logs = LogsFolder::seen(folder, scanner.root(), logs_dir.as_deref(), topic, &log_id)?;
    let mut known: HashMap<Box<str>, (Stamp, bool)> = HashMap::new();
    let mut take = |path: String, of: crate::upload::Known| {
        known.insert(path.into(), (of.stamp, of.sha512.is_some()));
    };
    let Some((topic_id, recorded_prefix)) = look_at_record(&logs.record(), &log_id, topic, &mut take)? else {
        let (word, option) = (folder.to_string_lossy(), path_prefix.option());
        let words = format!("reconcile {} --topic_name {}{option}", shell_word(&word), shell_word(topic));
        let reconcile = log.command(&words);
        return Err(SurveyError::NeverWatched { folder: folder.to_owned(), topic: topic.to_owned(), reconcile });
    };
    let mut status = WatchStatus {
        folder: folder.to_owned(),
        record: logs.record(),
        is_running: logs.is_locked(),
        delivered: 0,
        existing: 0,
        waiting: 0,
        waiting_bytes: 0,
        waiting_since_ms: None,
        waiting_files: Vec::new(),
        refused: 0,
        refused_files: Vec::new(),
        problems: Vec::new(),
    };
    let walked = scanner.walk(scanner.root(), &mut |found| {
        match found {
            Found::File(file) => match known.get(&*file.relative) {
                Some((stamp, true)) if *stamp == file.stamp => status.delivered += 1,
                Some((stamp, false)) if *stamp == file.stamp => status.existing += 1,
                _ => status.take_waiting(file.relative, file.stamp),
            },
            Found::LeftOut { path, reason, detail } if reason.is_failure() => {
                status.refused += 1;
                if status.refused_files.len() < NAMED {
                    status.refused_files.push((path, refused(reason, detail)));
                }
            }
            Found::LeftOut { .. } => {}
        }
        control.stopping().is_none()
    });
    walked.map_err(failed)?;
    if control.stopping().is_some() {
        return Err(SurveyError::Stopped);
    }
    if recorded_prefix != path_prefix.as_str() {
        return Err(SurveyError::OtherPrefix { folder: folder.clone(), prefix: prefix_words(&recorded_prefix) });
    }
    let is_another = topic_id.is_some() && found.id.is_some() && topic_id != found.id;
    status.problems = status.problems(log, topic, &path_prefix.option(), is_another);
    Ok(status)
}

impl WatchStatus {
    fn take_waiting(&mut self, path: String, stamp: Stamp) {
        self.waiting += 1;
        self.waiting_bytes += stamp.size;
        let changed_ms = stamp.mtime_ns.map(|ns| ns / 1_000_000);
        self.waiting_since_ms = self.waiting_since_ms.into_iter().chain(changed_ms).min();
        if self.waiting_files.len() < NAMED {
            self.waiting_files.push(path);
        }
    }

    fn problems(&self, log: &dyn Log, topic: &str, option: &str, is_another: bool) -> Vec<Problem> {
        let folder = self.folder.display();
        let (path, words) = (self.folder.to_string_lossy(), format!("--topic_name {}{option}", shell_word(topic)));
        let word = shell_word(&path);
        let mut said = Vec::new();
        let mut say = |kind, text| said.push(Problem::new(kind, Subject::folder(&self.folder), text));
        if is_another {
            say(
                ProblemKind::TopicReplaced,
                format!(
                    "topic `{topic}` was deleted and created again: what was delivered went with the old one. {} shows what \
                    is missing, {} sends it",
                    log.command(&format!("reconcile {word} {words}")),
                    log.command(&format!("upload --only-missing {word} {words}"))
                ),
            );
        }
        if self.waiting > 0 && self.is_running == Some(false) {
            say(ProblemKind::NoWatch, format!("no watch of folder `{folder}` runs on this machine: start it"));
        }
        if self.refused > 0 {
            say(
                ProblemKind::CannotBeSent,
                format!("what cannot be sent of folder `{folder}` is named with the reason: mend it, or move it away"),
            );
        }
        said
    }
}
