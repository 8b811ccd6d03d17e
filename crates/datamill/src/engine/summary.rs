//! What was done, for people.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use datamill_broker::Log;
use parking_lot::{Mutex, MutexGuard};

use super::alike::Alike;
use super::failed::retry_command;
use super::{DeliveryGuarantee, EngineSettings};
use crate::report::text;
use crate::upload::Named;

/// Counts of one run, shared by the threads of the engine.
#[derive(Debug)]
pub(crate) struct Tally {
    started: Instant,
    succeeded: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    failed_again: AtomicU64,
    expired: AtomicU64,
    bytes: AtomicU64,
    went_on: AtomicBool,
    undecodable: AtomicU64,
    filtered: Mutex<Named>,
    restart_span: AtomicU64,
    read_again: AtomicU64,
    bytes_read_again: AtomicU64,
    lost: AtomicU64,
    tail: AtomicU64,
    dead_letters_of_files: AtomicU64,
    dead_letters_of_records: AtomicU64,
    alike: Mutex<Alike>,
    left: Left,
}

/// Where a program ended, and the files that had only some of their chunks then.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// It had read the topic to its end.
    pub(crate) at_end: bool,
    /// At the end of the topic.
    pub(crate) incomplete: Vec<Incomplete>,
    /// At a stop before that: the others may be there already.
    pub(crate) begun: u64,
}

/// A file whose chunks were not all there when the program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// Relative path.
    pub path: String,
    /// Number of chunks that were there.
    pub got: u32,
    /// Number of chunks of the file.
    pub total: u32,
    /// The first few chunks that are missing, counted from 1.
    pub missing: Vec<u32>,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing: Vec<String> = self.missing.iter().map(u32::to_string).collect();
        let more = self.total - self.got > self.missing.len() as u32;
        write!(f, "{} ({} of {} chunks; missing: {}", self.path, self.got, self.total, missing.join(", "))?;
        f.write_str(if more { ", …)" } else { ")" })
    }
}

macro_rules! count {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $($(#[$doc])* pub(crate) fn $name(&self) {
            self.$name.fetch_add(1, Relaxed);
        })*
    };
}

impl Tally {
    pub(super) fn start() -> Self {
        Self {
            started: Instant::now(),
            succeeded: AtomicU64::default(),
            failed: AtomicU64::default(),
            retried: AtomicU64::default(),
            failed_again: AtomicU64::default(),
            expired: AtomicU64::default(),
            bytes: AtomicU64::default(),
            went_on: AtomicBool::default(),
            undecodable: AtomicU64::default(),
            filtered: Mutex::default(),
            restart_span: AtomicU64::default(),
            read_again: AtomicU64::default(),
            bytes_read_again: AtomicU64::default(),
            lost: AtomicU64::default(),
            tail: AtomicU64::default(),
            dead_letters_of_files: AtomicU64::default(),
            dead_letters_of_records: AtomicU64::default(),
            alike: Mutex::default(),
            left: Left::default(),
        }
    }

    count! {
        /// A file failed.
        failed,
        /// A file that failed in an earlier run has its result.
        retried,
        /// A file that failed in an earlier run failed again.
        failed_again,
        /// A file that failed in an earlier run is given up: its chunks are gone.
        expired,
        /// A record holds no chunk.
        undecodable,
        /// A record that was read again after a restart.
        read_again,
        /// An unfinished file lost its first record.
        lost,
        /// Only the end of a file was read, which began before the group did.
        tail,
        /// The dead letter of a file is committed.
        dead_letters_of_files,
        /// The dead letter of a record is committed.
        dead_letters_of_records,
    }

    /// `--download_regex` leaves out a file.
    pub(super) fn filtered(&self, path: &str) {
        self.filtered.lock().add(path);
    }

    pub(crate) fn succeeded(&self, bytes: u64) {
        self.succeeded.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// The failures of the run, as the log tells them.
    pub(super) fn alike(&self) -> MutexGuard<'_, Alike> {
        self.alike.lock()
    }

    /// Partitions were assigned of which so many records had been read before.
    pub(super) fn assigned(&self, read_again: u64) {
        self.restart_span.fetch_add(read_again, Relaxed);
    }

    /// The run goes on where an earlier one has stopped.
    pub(super) fn goes_on(&self) {
        self.went_on.store(true, Relaxed);
    }

    /// A message of so many bytes that had been read before was read again.
    pub(super) fn bytes_read_again(&self, bytes: u64) {
        self.bytes_read_again.fetch_add(bytes, Relaxed);
    }

    pub(super) fn finish(&mut self, left: Left) {
        self.left = left;
    }

    /// One line about the state.
    pub(super) fn line(&self) -> String {
        let filtered = match self.filtered.lock().count {
            0 => String::new(),
            count => format!(", {} left out by --download_regex", text::counted(count, "file")),
        };
        format!(
            "{} files processed ({}), {} failed{filtered}, {} messages left out",
            self.succeeded.load(Relaxed),
            text::bytes(self.bytes.load(Relaxed)),
            self.failed.load(Relaxed),
            self.undecodable.load(Relaxed)
        )
    }

    pub(super) fn into_summary(self, log: &dyn Log, settings: &EngineSettings) -> Summary {
        let forget = retry_command(log, &settings.topic, &settings.group, "--forget");
        Summary {
            succeeded: self.succeeded.into_inner(),
            failed: self.failed.into_inner(),
            retried: self.retried.into_inner(),
            failed_again: self.failed_again.into_inner(),
            expired: self.expired.into_inner(),
            bytes: self.bytes.into_inner(),
            went_on_to_the_end: self.went_on.into_inner() && self.left.at_end,
            undecodable: self.undecodable.into_inner(),
            filtered: self.filtered.into_inner(),
            restart_span: self.restart_span.into_inner(),
            read_again: self.read_again.into_inner(),
            bytes_read_again: self.bytes_read_again.into_inner(),
            lost: self.lost.into_inner(),
            tails: self.tail.into_inner(),
            dead_letters_of_files: self.dead_letters_of_files.into_inner(),
            dead_letters_of_records: self.dead_letters_of_records.into_inner(),
            incomplete: self.left.incomplete,
            begun: self.left.begun,
            duration: self.started.elapsed(),
            topic: settings.topic.clone(),
            group: settings.group.clone(),
            result_topic: settings.result_topic.clone(),
            output_dir: settings.output_dir.clone(),
            forget: (settings.delivery == DeliveryGuarantee::ExactlyOnce).then_some(forget),
        }
    }
}

/// What one run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Files that the function was done with.
    pub succeeded: u64,
    /// Files that failed.
    pub failed: u64,
    /// Of these files, those that had failed in an earlier run.
    pub retried: u64,
    /// Files that had failed in an earlier run and failed again.
    pub failed_again: u64,
    /// Of these, those that are given up, since their chunks are gone from the topic.
    pub expired: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// It went on where the group had stopped before, and read on to the end of the topic.
    pub went_on_to_the_end: bool,
    /// Messages that hold no chunk of a file.
    pub undecodable: u64,
    /// Files that `--download_regex` leaves out: each upload of one counts, at its first chunk.
    pub filtered: Named,
    /// Offsets between the position and the newest message that was read before, over all partitions that
    /// were assigned: what was read again.
    pub restart_span: u64,
    /// Messages of finished files that were read again after a restart.
    pub read_again: u64,
    /// Bytes of all messages that had been read before and were read again.
    pub bytes_read_again: u64,
    /// Unfinished files whose first messages were gone from the topic.
    pub lost: u64,
    /// Files of which only the end was read, because they began before the group did: no failures.
    pub tails: u64,
    /// Dead letters of files that failed.
    pub dead_letters_of_files: u64,
    /// Dead letters of messages that hold no chunk of a file.
    pub dead_letters_of_records: u64,
    /// Files whose chunks were not all there at the end of the topic.
    pub incomplete: Vec<Incomplete>,
    /// Files of which only some chunks had been read when the program was stopped before that: no failures.
    pub begun: u64,
    /// How long it ran.
    pub duration: Duration,
    /// Topic of chunks.
    pub topic: String,
    /// Consumer group.
    pub group: String,
    /// Topic of results, where there are any.
    pub result_topic: Option<String>,
    /// Output folder.
    pub output_dir: PathBuf,
    /// The command that takes failed files off the list, where the group's state has that.
    pub forget: Option<String>,
}

impl Summary {
    /// Whether the function was done with every file.
    pub fn is_clean(&self) -> bool {
        self.failed == 0
            && self.failed_again == 0
            && self.undecodable == 0
            && self.lost == 0
            && self.incomplete.is_empty()
    }
}

/// Names of incomplete files that are printed.
const MAX_NAMED: usize = 10;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.duration.as_secs_f64().max(1e-3);
        let files = if self.succeeded == 1 { "1 file" } else { &format!("{} files", self.succeeded) };
        write!(
            f,
            "{files} of topic `{}` processed ({}) in {}, {}/s",
            self.topic,
            text::bytes(self.bytes),
            text::duration(self.duration),
            text::bytes((self.bytes as f64 / seconds) as u64)
        )?;
        if let Some(result_topic) = &self.result_topic {
            write!(f, "; results are in topic `{result_topic}`")?;
        }
        if self.succeeded == 0 && self.failed == 0 && self.filtered.count == 0 && self.went_on_to_the_end {
            write!(
                f,
                "\ngroup `{}` went on where it had stopped, and no new whole file was there for this process; \
                `--consumer_group_id create_new --start_from earliest` does the whole topic once more{}",
                self.group,
                if self.result_topic.is_some() { ", with another result for each file" } else { "" }
            )?;
        }
        if self.filtered.count > 0 {
            let files = text::counted(self.filtered.count, "file");
            write!(f, "\nleft out by --download_regex: {files}, e.g. {}", self.filtered)?;
        }
        if self.restart_span > 0 {
            write!(
                f,
                "\n{} messages ({}) had been read before, {} of them of finished files",
                self.restart_span,
                text::bytes(self.bytes_read_again),
                self.read_again
            )?;
        }
        if self.retried > 0 {
            write!(f, "\n{} of them had failed in an earlier run", self.retried)?;
        }
        if self.expired > 0 {
            write!(
                f,
                "\n{} failed earlier and cannot be tried again, since their chunks are gone from the topic; the table \
                `failed_from_…` names them. Upload them again where they are needed",
                text::counted(self.expired, "file")
            )?;
        }
        let failed_again = self.failed_again - self.expired;
        if failed_again > 0 {
            write!(
                f,
                "\n{} failed earlier and failed again; the next start tries them again. `--retry_failed no` leaves them \
                alone",
                text::counted(failed_again, "file")
            )?;
            if let Some(forget) = &self.forget {
                write!(f, ", and {forget} takes them off the list for good")?;
            }
        }
        if self.failed > 0 {
            let logs = self.output_dir.join("LOGS");
            write!(
                f,
                "\n{} failed; which and why: see `failed_from_…` and the log file in `{}`",
                self.failed,
                logs.display()
            )?;
        }
        if self.undecodable > 0 {
            write!(
                f,
                "\n{} messages were no chunks of files and were left out; the log names their offsets",
                self.undecodable
            )?;
        }
        if self.lost > 0 {
            write!(f, "\n{} unfinished files lost messages to the topic's retention; upload them again", self.lost)?;
        }
        if self.tails > 0 {
            write!(
                f,
                "\nleft out, as they began before the group did: {}; `failed_from_…` in `{}` names them",
                self.tails,
                self.output_dir.join("LOGS").display()
            )?;
        }
        if self.begun > 0 {
            let files = if self.begun == 1 { "1 file was" } else { &format!("{} files were", self.begun) };
            write!(f, "\n{files} not whole yet when the program was stopped; the next start goes on with that")?;
        }
        if !self.incomplete.is_empty() {
            write!(f, "\n{} files are incomplete, their other chunks have not come yet:", self.incomplete.len())?;
            for file in self.incomplete.iter().take(MAX_NAMED) {
                write!(f, "\n  {file}")?;
            }
            if self.incomplete.len() > MAX_NAMED {
                write!(f, "\n  … and {} more", self.incomplete.len() - MAX_NAMED)?;
            }
        }
        Ok(())
    }
}
