//! The failed files of a group as a person sees them, also while programs of the group run.

use datamill_broker::{Error, ErrorKind, Log, StateChange};

use super::commit::spans_text;
use super::entry::{Entry, Request};
use crate::report::clock;

/// A file that has no result, as an entry of its group's state says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedFile {
    /// Path of the file, relative, with `/`.
    pub path: String,
    /// Its SHA-512 in hexadecimal digits.
    pub sha512: String,
    /// Number of its chunks.
    pub n_chunks: u32,
    /// Where they are: `partition:first-last`, separated by commas.
    pub offsets: String,
    /// What kind of failure it is.
    pub status: String,
    /// Why it failed.
    pub reason: String,
    /// How often the function ran for it.
    pub attempts: u32,
    /// Whether another try can come to anything: not where chunks are missing.
    pub can_be_retried: bool,
    /// Whether somebody has asked for another try that it has not had.
    pub requested: bool,
    key: String,
}

/// The failed files of a group on a topic, in the order of their offsets.
///
/// # Errors
/// Those of the log.
pub fn failed_files(log: &dyn Log, topic: &str, group: &str) -> Result<Vec<FailedFile>, Error> {
    let state = log.group_state(group, None)?;
    let requests = state.keys().filter_map(|key| Some(Request::parse(topic, key)?.entry()));
    let requested: std::collections::HashSet<String> = requests.collect();
    let prefix = Entry::prefix(topic);
    let ours = state.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
    let mut entries: Vec<Entry> = ours.filter_map(|(key, value)| Entry::parse(key, value)).collect();
    entries.sort_by_key(|entry| entry.spans().first().map(|span| (span.partition, span.first)));
    let files = entries.into_iter().map(|entry| FailedFile {
        path: entry.path().to_owned(),
        sha512: entry.sha512().to_owned(),
        n_chunks: entry.n_chunks(),
        offsets: spans_text(&entry.spans()),
        status: entry.status().to_owned(),
        reason: entry.reason().to_owned(),
        attempts: entry.attempts(),
        can_be_retried: entry.can_be_retried(),
        requested: requested.contains(&entry.key),
        key: entry.key,
    });
    Ok(files.collect())
}

/// Asks for another try of these files, durably. The program of the group that owns a file's partition takes that up
/// within seconds, or at its start.
///
/// # Errors
/// Those of the log; nothing or all was asked for.
pub fn request_retry(log: &dyn Log, topic: &str, group: &str, files: &[FailedFile]) -> Result<(), Error> {
    let number = format!("{}-{}", clock::now_ms(), std::process::id());
    let request = |file: &FailedFile| {
        let key = Request::key(topic, &number, &file.key).ok_or_else(|| {
            Error::new(ErrorKind::Settings, format!("file `{}` did not fail on topic `{topic}`", file.path))
        })?;
        Ok(StateChange { key, value: Some(Vec::new()) })
    };
    let changes: Vec<StateChange> = files.iter().map(request).collect::<Result<_, Error>>()?;
    log.change_group_state(group, None, &changes)
}

/// Removes these failures from the group's state: the files are not tried again. One that is being tried at this
/// moment may have its result all the same, or fail again and be listed again.
///
/// # Errors
/// Those of the log; nothing or all was removed.
pub fn forget_failures(log: &dyn Log, group: &str, files: &[FailedFile]) -> Result<(), Error> {
    let changes: Vec<StateChange> =
        files.iter().map(|file| StateChange { key: file.key.clone(), value: None }).collect();
    log.change_group_state(group, None, &changes)
}
