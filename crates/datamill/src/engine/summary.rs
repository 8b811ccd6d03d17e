//! What was done, for people.

use std::fmt;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use datamill_broker::Log;
use parking_lot::Mutex;
use rustc_hash::{FxBuildHasher, FxHashSet};

use super::failed::retry_command;
use super::{DeliveryGuarantee, EngineSettings, RetryFailed};
use crate::facts::{Counters, Counts, Fact, Facts, FailureStatus, FileRow, Listener};
use crate::report::named::Named;
use crate::report::text;

/// What one run did, from the counters and from what they do not have.
pub(crate) struct Tally {
    started: Instant,
    counters: Arc<Counters>,
    /// What had been counted before the run.
    before: Counts,
    went_on: AtomicBool,
    filtered: Mutex<Named>,
    failed: Mutex<Failed>,
}

/// Files that have failed in this run, so that the summary tells how each has ended: a later try in the same run may
/// answer the failure, or fail once more.
#[derive(Debug, Default)]
struct Failed {
    /// Hashes of path and place.
    open: FxHashSet<u64>,
    mended: u64,
    again: u64,
    expired: u64,
    ended_again: u64,
}

/// Files that [`Failed`] keeps, in 16 MB or so. Those beyond count by their first failure.
const MAX_FAILED: usize = 1 << 20;

impl Failed {
    fn key(file: &FileRow) -> u64 {
        let place = file.offsets.split('-').next().unwrap_or_default();
        FxBuildHasher.hash_one((place, &file.rel_filepath))
    }

    fn failed(&mut self, file: &FileRow, status: FailureStatus, again: bool) {
        if !again {
            if self.open.len() < MAX_FAILED {
                self.open.insert(Self::key(file));
            }
        } else if self.open.contains(&Self::key(file)) {
            self.again += 1;
            self.expired += u64::from(status == FailureStatus::Expired);
            self.ended_again += u64::from(status == FailureStatus::EndedTheProgram);
        }
    }

    fn done(&mut self, file: &FileRow) {
        self.mended += u64::from(self.open.remove(&Self::key(file)));
    }
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
    /// Messages that it would have read, had it not been stopped.
    pub(crate) unread: u64,
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
        let (got, total) = (text::count(self.got.into()), text::count(self.total.into()));
        write!(f, "{} ({got} of {total} chunks; missing: {}", self.path, missing.join(", "))?;
        f.write_str(if more { ", …)" } else { ")" })
    }
}

impl Tally {
    pub(super) fn start(facts: &Facts) -> Self {
        let counters = Arc::clone(facts.counters());
        let before = counters.counts();
        let (went_on, filtered, failed) = Default::default();
        Self { started: Instant::now(), counters, before, went_on, filtered, failed }
    }

    /// The run goes on where an earlier one has stopped.
    pub(super) fn goes_on(&self) {
        self.went_on.store(true, Relaxed);
    }

    fn counts(&self) -> Counts {
        self.counters.counts().since(&self.before)
    }

    /// One line about the state.
    pub(super) fn line(&self) -> String {
        let counts = self.counts();
        let filtered = match self.filtered.lock().count {
            0 => String::new(),
            count => format!(", {} left out by --download_regex", text::counted(count, "file")),
        };
        format!(
            "{} processed ({}), {} failed{filtered}, {} left out",
            text::counted(counts.done, "file"),
            text::bytes(counts.done_bytes),
            text::count(counts.failed() - self.failed.lock().mended),
            text::counted(counts.undecodable, "message")
        )
    }

    pub(super) fn summary(&self, log: &dyn Log, settings: &EngineSettings, left: Left) -> Summary {
        let (counts, failed) = (self.counts(), self.failed.lock());
        let command = |option| {
            let is_in_log = settings.delivery == DeliveryGuarantee::ExactlyOnce;
            is_in_log.then(|| retry_command(log, &settings.topic, &settings.group, option))
        };
        Summary {
            succeeded: counts.done,
            failed: counts.failed() - failed.mended,
            mended: failed.mended,
            retried: counts.retried - failed.mended,
            rerun: counts.rerun,
            failed_again: counts.failed_again - failed.again,
            expired: counts.expired - failed.expired,
            ended_the_program: counts.failures[FailureStatus::EndedTheProgram as usize] + counts.ended_again,
            ended_again: counts.ended_again - failed.ended_again,
            bytes: counts.done_bytes,
            went_on_to_the_end: self.went_on.load(Relaxed) && left.at_end,
            undecodable: counts.undecodable,
            filtered: self.filtered.lock().clone(),
            restart_span: counts.restart_span,
            read_again: counts.read_again,
            bytes_read_again: counts.bytes_read_again,
            lost: counts.lost,
            tails: counts.begun_before,
            dead_letters_of_files: counts.dead_letters_of_files,
            dead_letters_of_records: counts.dead_letters_of_messages,
            incomplete: left.incomplete,
            begun: left.begun,
            is_cut_short: (settings.exit_at_end || settings.retry_failed == RetryFailed::Only) && !left.at_end,
            unread: left.unread,
            duration: self.started.elapsed(),
            topic: settings.topic.clone(),
            group: settings.group.clone(),
            result_topic: settings.result_topic.clone(),
            output_dir: settings.output_dir.clone(),
            forget: command("--forget"),
            ask: command("--status ended_the_program"),
        }
    }
}

/// It keeps the names of some files that are left out, and which files have failed.
impl Listener for Tally {
    fn hear(&self, fact: &Fact<'_>) {
        match *fact {
            Fact::Filtered { file } => self.filtered.lock().add(file),
            Fact::Failed { file, status, again, .. } => self.failed.lock().failed(file, status, again),
            Fact::Done { file, again: true, .. } => self.failed.lock().done(file),
            _ => {}
        }
    }
}

/// What one run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Files that the function was done with.
    pub succeeded: u64,
    /// Files that failed and had no result at the end of the run.
    pub failed: u64,
    /// Of the files that the function was done with, those that had failed earlier in this run.
    pub mended: u64,
    /// Of the files that the function was done with, those that had failed in an earlier run.
    pub retried: u64,
    /// Of the files that the function was done with, those that somebody asked to run again.
    pub rerun: u64,
    /// Files that had failed in an earlier run and failed again.
    pub failed_again: u64,
    /// Of these, those that are given up, since their chunks are gone from the topic.
    pub expired: u64,
    /// Files that failed because they ended the program, for the first time or again: no start tries them by itself.
    pub ended_the_program: u64,
    /// Of these, those that had failed in an earlier run.
    pub ended_again: u64,
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
    /// It would have ended by itself, and was stopped before everything was done.
    pub is_cut_short: bool,
    /// Messages that it would have read then, as far as that is known; on Kafka, some may be markers of transactions.
    pub unread: u64,
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
    /// The command that takes failed files off the list, where the group's state is in the log.
    pub forget: Option<String>,
    /// The command that asks for another try of files that ended the program, in the same way.
    pub ask: Option<String>,
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

/// The alternate form (`{:#}`) also says what helps who looks at it now, and would tell a log nothing new at each run.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.duration.as_secs_f64().max(1e-3);
        let files = text::counted(self.succeeded, "file");
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
        self.write_nothing_new(f)?;
        self.write_others_done(f)?;
        self.write_failures(f)?;
        self.write_left_out(f)?;
        self.write_left_to_do(f)
    }
}

impl Summary {
    fn write_nothing_new(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.succeeded == 0 && self.failed == 0 && self.filtered.count == 0 && self.went_on_to_the_end {
            write!(
                f,
                "\ngroup `{}` went on where it had stopped, and no new whole file was there for this process",
                self.group
            )?;
            if f.alternate() {
                let results = if self.result_topic.is_some() { ", with another result for each file" } else { "" };
                write!(
                    f,
                    "; `--consumer_group_id create_new --start_from earliest` does the whole topic once more{results}"
                )?;
            }
        }
        Ok(())
    }

    /// Beside the files with a result or an outcome for the first time.
    fn write_others_done(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.filtered.count > 0 {
            let files = text::counted(self.filtered.count, "file");
            write!(f, "\nleft out by --download_regex: {files}, e.g. {}", self.filtered)?;
        }
        if self.restart_span > 0 {
            write!(
                f,
                "\n{} ({}) had been read before, {} of them of finished files",
                text::counted(self.restart_span, "message"),
                text::bytes(self.bytes_read_again),
                text::count(self.read_again)
            )?;
        }
        if self.retried > 0 {
            write!(f, "\n{} of them had failed in an earlier run", text::count(self.retried))?;
        }
        if self.rerun > 0 {
            write!(f, "\n{} of them had a result and were run again, as it was asked for", text::count(self.rerun))?;
        }
        if self.mended > 0 {
            write!(f, "\n{} of them failed at first and had a result at another try", text::count(self.mended))?;
        }
        Ok(())
    }

    fn write_failures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.expired > 0 {
            write!(
                f,
                "\n{} failed earlier and cannot be tried again, since their chunks are gone from the topic; the table \
                `failed_from_…` names them. Upload them again where they are needed",
                text::counted(self.expired, "file")
            )?;
        }
        let failed_again = self.failed_again - self.expired - self.ended_again;
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
        if self.ended_the_program > 0 {
            let files = text::counted(self.ended_the_program, "file");
            write!(f, "\n{files} ended the program each time, and no start tries such a file again by itself")?;
            if let Some(ask) = &self.ask {
                write!(f, "; {ask} asks for another try")?;
            }
        }
        if self.failed > 0 {
            let logs = self.output_dir.join("LOGS");
            write!(
                f,
                "\n{} failed; which and why: see `failed_from_…` and the log file in `{}`",
                text::count(self.failed),
                logs.display()
            )?;
        }
        Ok(())
    }

    fn write_left_out(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.undecodable > 0 {
            let are = ("was not a chunk of a file and was", "were not chunks of files and were");
            let messages = text::counted_with(self.undecodable, "message", are.0, are.1);
            write!(f, "\n{messages} left out; the log names the offsets")?;
        }
        if self.lost > 0 {
            let files = text::counted(self.lost, "unfinished file");
            write!(
                f,
                "\n{files} lost messages that the topic has removed (retention, compaction); upload again what the log names"
            )?;
        }
        if self.tails > 0 {
            write!(
                f,
                "\nleft out, as they began before the group did: {}; `failed_from_…` in `{}` names them",
                text::counted(self.tails, "file"),
                self.output_dir.join("LOGS").display()
            )?;
        }
        Ok(())
    }

    fn write_left_to_do(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.begun > 0 {
            let files = text::counted_with(self.begun, "file", "was", "were");
            write!(f, "\n{files} not whole yet when the program was stopped; the next start goes on with that")?;
        }
        if self.is_cut_short {
            let unread = match self.unread {
                0 => String::new(),
                unread => format!(", with up to {} that were not read yet", text::counted(unread, "message")),
            };
            write!(f, "\nstopped before everything was done{unread}: start the program again to go on")?;
        }
        if !self.incomplete.is_empty() {
            let files = text::counted_with(self.incomplete.len() as u64, "file", "is", "are");
            write!(f, "\n{files} incomplete, some of their chunks are missing:")?;
            for file in self.incomplete.iter().take(MAX_NAMED) {
                write!(f, "\n  {file}")?;
            }
            if self.incomplete.len() > MAX_NAMED {
                write!(f, "\n  … and {} more", text::count((self.incomplete.len() - MAX_NAMED) as u64))?;
            }
        }
        Ok(())
    }
}
