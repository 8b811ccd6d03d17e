//! Disk to log: files become chunks, chunks become records, and each file has an outcome.
//!
//! ```text
//! paths ──▶ scan ──┐                       ┌─▶ cut: hashes, then chunks that still match
//!                  ├─▶ Job ──▶ run ────────┤
//! folder ─▶ watch ─┘            ▲          └─▶ send: window of bytes ──▶ Publisher ──▶ log
//!   hints, scans, settle        └── acknowledged ──────────────────────────────────────┘
//!                               └─▶ record (durable), registry (for people), Summary
//! ```
//!
//! A file is read twice. The first pass takes its hash and those of its chunks, the second sends only
//! bytes that still match: a version that changes on the way is given up, and the records of the next
//! one name it in the header [`datamill_wire::headers::SUPERSEDES`]. All chunks of a file go to the
//! partition that its path chooses. [`upload_paths`] sends what is there once; [`watch`] goes on and
//! remembers what was delivered.

mod busy;
mod cut;
mod error;
mod filter;
mod hints;
mod ledger;
mod lines;
mod logs_folder;
mod not_sent;
mod one_watcher;
mod own_folders;
mod place;
mod prefix;
mod ranges;
mod record;
mod registry;
mod restless;
mod run;
mod scan;
mod send;
mod settle;
mod stamp;
mod stop;
mod summary;
mod suspects;
mod target;
mod watch;
mod window;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill_broker::{Log, OwnFiles, Topic};
use tracing::warn;

use crate::control::Control;
use crate::facts::{Fact, Facts};
use crate::report::text::COMPACTED;
use crate::survey::SurveyError;

pub use error::UploadError;
pub use filter::{Filter, Reason};
pub(crate) use logs_folder::LogsFolder;
pub use logs_folder::logs_folder;
pub(crate) use own_folders::is_logs;
pub(crate) use prefix::words as prefix_words;
pub use prefix::{PathPrefix, PathPrefixError};
pub use record::RecordError;
pub(crate) use record::{Known, look as look_at_record};
pub(crate) use scan::{Found, Scanner};
pub use send::NotDelivered;
pub(crate) use stamp::Stamp;
pub use summary::Summary;

pub use crate::report::named::Named;
pub use watch::watch;

use lines::Lines;
use run::{Job, Run, Sent};
use scan::Candidate;
use send::Sender;
use stop::Stop;
use target::Target;

/// Name of the log file of a watch, in the folder of its record.
pub const LOG_FILE: &str = "datamill_watch.log";

/// Usual size of a chunk in bytes: OpenMSIStream's.
pub const DEFAULT_CHUNK_SIZE: usize = 524_288;

/// Largest size of a chunk in bytes.
pub const MAX_CHUNK_SIZE: usize = 1 << 30;

/// Bytes in flight unless set otherwise: enough to keep a broker busy, far less than librdkafka's own
/// queue takes.
pub const DEFAULT_IN_FLIGHT_BYTES: usize = 64 << 20;

/// Time after which a watch tries a file again that the log refused, unless set otherwise.
pub const RETRY_AFTER: Duration = Duration::from_secs(120);

/// Times that a file which keeps changing is put off by [`upload_paths`] before it is left out: half
/// a minute in all.
const MOST_PUT_OFF: u32 = 6;

/// Times that a file which another program holds open is put off: a minute in all.
const MOST_HELD_OPEN: u32 = 7;

/// What sends the rest of an upload that was stopped.
const ONLY_MISSING: &str = "the same command with `--only-missing` sends what is missing";

/// What is uploaded where.
#[derive(Debug, Clone)]
pub struct UploadSettings {
    /// Topic to upload to.
    pub topic: String,
    /// Bytes of a chunk, a power of two.
    pub chunk_size: usize,
    /// Which files are taken by their names.
    pub filter: Filter,
    /// Bytes of records that may be on their way to the log at a time.
    pub in_flight_bytes: usize,
    /// Longest time from the request to stop to the end.
    pub drain_limit: Duration,
    /// Folder below which files that are named themselves keep their paths; without one they have their names alone.
    pub root: Option<PathBuf>,
    /// What goes before the relative paths under which files are rebuilt.
    pub path_prefix: PathPrefix,
    /// What goes between stem and suffix of the names under which files are rebuilt.
    pub filename_append: String,
}

impl UploadSettings {
    /// The usual settings for a topic.
    pub fn new(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            chunk_size: DEFAULT_CHUNK_SIZE,
            filter: Filter::default_rules(),
            in_flight_bytes: DEFAULT_IN_FLIGHT_BYTES,
            drain_limit: Duration::from_secs(30),
            root: None,
            path_prefix: PathPrefix::default(),
            filename_append: String::new(),
        }
    }
}

/// How a folder is watched.
#[derive(Debug, Clone)]
pub struct WatchSettings {
    /// What is uploaded where.
    pub upload: UploadSettings,
    /// A file is sent once it has not changed for this long. OpenMSIStream's default is 3 s.
    pub settle_for: Duration,
    /// Whether files are sent that are there when the folder is watched for the first time.
    pub upload_existing: bool,
    /// Whether to go on where the folder was watched before and the record of that is gone: as at a first start.
    pub new_folder: bool,
    /// Folder for the record of what was delivered and the tables; `None` is the usual one in the watched folder.
    pub logs_dir: Option<PathBuf>,
    /// Whether scans alone find what changed, for file systems that do not tell of changes.
    pub polling: bool,
    /// Whether to end once everything that was there has been sent.
    pub exit_at_end: bool,
    /// Time after which a file that the log refused is tried again as it is, and one whose size is wrong.
    pub retry_after: Duration,
    /// Time between two log lines about the state; `None` for none.
    pub tell_every: Option<Duration>,
}

impl WatchSettings {
    /// The usual settings for a topic.
    pub fn new(topic: impl Into<String>) -> Self {
        Self {
            upload: UploadSettings::new(topic),
            settle_for: Duration::from_secs(3),
            upload_existing: false,
            new_folder: false,
            logs_dir: None,
            polling: false,
            exit_at_end: false,
            retry_after: RETRY_AFTER,
            tell_every: None,
        }
    }
}

/// Uploads files and folders once. The files of a folder keep their paths relative to it; a file that
/// is named itself has its name alone, and the default rules of [`Filter`] do not concern it.
///
/// A broker that goes away is waited for. When `control` asks for a stop, the file in hand is finished and
/// acknowledgements are waited for, both at most for [`UploadSettings::drain_limit`]. What happens to the files is told to
/// `facts`, on the thread that calls this.
///
/// ```
/// use datamill::broker::{Properties, open};
/// use datamill::control::Control;
/// use datamill::facts::Facts;
/// use datamill::upload::{UploadSettings, upload_paths};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// # std::fs::write(folder.join("scan.csv"), "angle,counts")?;
/// let mut properties = Properties::default();
/// let address = format!("sqlite:{}", folder.join("lab.db").display());
/// properties.broker.insert("bootstrap.servers".to_owned(), address);
/// let log = open(&properties)?;
///
/// let settings = UploadSettings::new("files");
/// let paths = [folder.join("scan.csv")];
/// let summary = upload_paths(log.as_ref(), &paths, &settings, &Control::default(), &Facts::default())?;
/// assert_eq!((summary.files, log.offsets("files", 0)?.end), (1, 1));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Where it cannot start: a path, a setting, the topic, two files with the same path. What happens to
/// single files, and what breaks the work off later, is in the summary.
pub fn upload_paths(
    log: &dyn Log,
    paths: &[PathBuf],
    settings: &UploadSettings,
    control: &Control,
    facts: &Facts,
) -> Result<Summary, UploadError> {
    upload_where(log, paths, settings, control, facts, &mut |_, _, _| Ok(Some(Vec::new())))
}

/// Of a file with this relative path, at this path and with this stamp, that is missing on the topic: the hashes of other
/// versions of it whose uploads were cut off. `None` where the topic has the file.
pub(crate) type IsMissing<'a> = dyn FnMut(&str, &Path, Stamp) -> Result<Option<Vec<[u8; 64]>>, SurveyError> + 'a;

/// As [`upload_paths`], for the files that are missing on the topic.
pub(crate) fn upload_where(
    log: &dyn Log,
    paths: &[PathBuf],
    settings: &UploadSettings,
    control: &Control,
    facts: &Facts,
    is_missing: &mut IsMissing<'_>,
) -> Result<Summary, UploadError> {
    check_paths(paths)?;
    check_settings(settings)?;
    // a log that makes the topic does so only once there is something for it
    let topic = if log.makes_topics() { None } else { Some(log.topic_for_use(&settings.topic)?) };
    let begun = Instant::now();
    let stop = Stop::new(log, control, settings.drain_limit);
    let own = log.own_files();
    let facts = facts.heard_by(Arc::new(Lines));
    let from: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    facts.tell(&Fact::Sends { from: &from.join(", "), topic: &settings.topic });
    let mut found = Collected { facts: facts.clone(), ..Collected::default() };
    for path in paths {
        let collected = found.collect(path, settings, &own, &stop);
        collected.map_err(|source| UploadError::Path { path: path.clone(), source })?;
    }
    let Collected { mut files, mut summary, .. } = found;
    if paths.len() > 1 {
        files = without_repetitions(files)?;
    }
    let collected = files.len();
    let cut_off = keep_missing(&mut files, control, is_missing)?;
    summary.on_topic = (collected - files.len()) as u64;
    if files.is_empty() {
        // a walk that was broken off may have found more
        if stop.is_requested() {
            summary.cut_short = Some(ONLY_MISSING);
        }
        let found_nothing = !stop.is_requested() && summary.on_topic == 0;
        return Ok(Summary { topic: settings.topic.clone(), found_nothing, elapsed: begun.elapsed(), ..summary });
    }
    let topic = topic.map_or_else(|| log.topic_for_use(&settings.topic), Ok)?;
    let mut run = new_run(log, &topic, settings, control, &facts)?;
    (run.summary.left_out, run.summary.on_topic) = (summary.left_out, summary.on_topic);
    cut_off.iter().for_each(|(relative, hash)| run.add_half_sent(relative, *hash));
    let bytes = files.iter().map(|file| file.stamp.size).sum();
    facts.tell(&Fact::Planned { files: files.len() as u64, bytes });
    let work = send_files(&mut run, files);
    let mut summary = run.close(work);
    if stop.is_requested() && summary.left_out.contains_key(&Reason::Stopped) {
        summary.cut_short = Some(ONLY_MISSING);
    }
    Ok(summary)
}

/// Looks whether what the user named is there, before anything is begun.
///
/// # Errors
/// [`UploadError::Path`] and [`UploadError::Special`].
pub fn check_paths(paths: &[PathBuf]) -> Result<(), UploadError> {
    for path in paths {
        let metadata = fs::metadata(path).map_err(|source| UploadError::Path { path: path.clone(), source })?;
        if !metadata.is_dir() && !metadata.is_file() {
            return Err(UploadError::Special(path.clone()));
        }
    }
    Ok(())
}

fn check_settings(settings: &UploadSettings) -> Result<(), UploadError> {
    let size = settings.chunk_size;
    if !size.is_power_of_two() || size > MAX_CHUNK_SIZE {
        return Err(UploadError::ChunkSize(size));
    }
    if settings.filename_append.contains(['/', '\0']) {
        return Err(UploadError::FilenameAppend(settings.filename_append.clone()));
    }
    Ok(())
}

fn new_run<'a>(
    log: &'a dyn Log,
    topic: &Topic,
    settings: &UploadSettings,
    control: &'a Control,
    facts: &Facts,
) -> Result<Run<'a>, UploadError> {
    if topic.id.is_none() {
        warn!(
            topic = topic.name,
            "the broker does not tell the id of the topic (brokers do from version 2.8 on): that the topic is deleted and created again is not noticed"
        );
    }
    let window = settings.in_flight_bytes;
    let sender = Sender::new(log, control, log.publisher()?, topic, window);
    let stop = Stop::new(log, control, settings.drain_limit);
    let mut run = Run::new(stop, facts.clone(), settings.chunk_size, sender, Target::new(log, topic));
    run.filename_append.clone_from(&settings.filename_append);
    // last, so that it is said once however often a start is tried
    if topic.is_compacted() {
        warn!(topic = topic.name, "the topic is compacted: {COMPACTED}");
    }
    Ok(run)
}

/// What is in the folders and files that were named.
#[derive(Default)]
struct Collected {
    facts: Facts,
    files: Vec<Candidate>,
    summary: Summary,
}

impl Collected {
    fn collect(
        &mut self,
        path: &Path,
        settings: &UploadSettings,
        own: &OwnFiles,
        stop: &Stop<'_>,
    ) -> std::io::Result<()> {
        if !fs::metadata(path)?.is_dir() {
            self.take(scan::named_file(path, settings, own)?);
            return Ok(());
        }
        if own_folders::is_logs(&fs::canonicalize(path)?) {
            leave_out(&self.facts, &mut self.summary, format!("{}/", path.display()), Reason::OwnFolder, None);
            return Ok(());
        }
        let scanner = Scanner::new(path, settings.path_prefix.clone(), settings.filter.clone(), own.clone())?;
        let mut all = Vec::new();
        scanner.walk(scanner.root(), &mut |found| {
            all.push(found);
            !stop.is_requested()
        })?;
        all.sort_unstable_by(|a, b| a.path().cmp(b.path()));
        all.into_iter().for_each(|found| self.take(found));
        Ok(())
    }

    fn take(&mut self, found: Found) {
        match found {
            Found::File(file) => self.files.push(file),
            Found::LeftOut { path, reason, detail } => {
                leave_out(&self.facts, &mut self.summary, path, reason, detail);
            }
        }
    }
}

fn leave_out(facts: &Facts, summary: &mut Summary, path: String, reason: Reason, detail: Option<String>) {
    facts.tell(&Fact::LeftOut { file: &path, reason, detail: detail.as_deref() });
    summary.leave_out(reason, path);
}

/// Keeps the files that are missing on the topic. Once a stop is asked for, the rest counts as such, and is left out for
/// that. Answers other versions of these files whose uploads were cut off.
fn keep_missing(
    files: &mut Vec<Candidate>,
    control: &Control,
    is_missing: &mut IsMissing<'_>,
) -> Result<Vec<(String, [u8; 64])>, UploadError> {
    let (mut failed, mut cut_off) = (None, Vec::new());
    files.retain(|file| {
        if failed.is_some() || control.stopping().is_some() {
            return true;
        }
        match is_missing(&file.relative, &file.path, file.stamp) {
            Ok(Some(versions)) => {
                cut_off.extend(versions.into_iter().map(|hash| (file.relative.clone(), hash)));
                true
            }
            Ok(None) => false,
            Err(error) => {
                // a stop that was asked for meanwhile is no failure
                failed = control.stopping().is_none().then(|| Box::new(error));
                true
            }
        }
    });
    failed.map_or(Ok(cut_off), |error| Err(error.into()))
}

/// Drops files that were named twice and refuses different ones with the same relative path.
fn without_repetitions(files: Vec<Candidate>) -> Result<Vec<Candidate>, UploadError> {
    let mut by_path: HashMap<String, PathBuf> = HashMap::with_capacity(files.len());
    let mut kept = Vec::with_capacity(files.len());
    for file in files {
        match by_path.get(&file.relative) {
            None => {
                by_path.insert(file.relative.clone(), file.path.clone());
                kept.push(file);
            }
            Some(first) if is_same_file(first, &file.path) => {}
            Some(first) => {
                return Err(UploadError::SamePath { relative: file.relative, first: first.clone(), second: file.path });
            }
        }
    }
    Ok(kept)
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

fn send_files(run: &mut Run<'_>, files: Vec<Candidate>) -> Result<(), UploadError> {
    for Candidate { relative, path, .. } in files {
        if run.stop.is_requested() {
            run.summary.leave_out(Reason::Stopped, relative);
            continue;
        }
        send_file(run, Job { relative, path, known: None, put_off: 0 })?;
        while let Some(job) = run.next_put_off() {
            send_file(run, job)?;
        }
    }
    while !run.is_idle() && !run.stop.is_requested() {
        run.pump(Duration::from_millis(50))?;
        while let Some(job) = run.next_put_off() {
            send_file(run, job)?;
        }
    }
    Ok(())
}

fn send_file(run: &mut Run<'_>, job: Job) -> Result<(), UploadError> {
    let left_out = match run.send(job.clone())? {
        Sent::OnItsWay | Sent::PutOff | Sent::Unchanged => return Ok(()),
        Sent::Changing if job.put_off < MOST_PUT_OFF => {
            run.put_off(job);
            return Ok(());
        }
        Sent::HeldOpen if job.put_off < MOST_HELD_OPEN => {
            run.put_off(job);
            return Ok(());
        }
        Sent::Changing => (Reason::Changing, None),
        Sent::HeldOpen => (Reason::HeldOpen, None),
        Sent::LeftOut(reason, detail) => (reason, detail),
    };
    leave_out(&run.facts, &mut run.summary, job.relative, left_out.0, left_out.1);
    Ok(())
}
