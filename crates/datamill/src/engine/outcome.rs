//! What became of a file: a result or why there is none, until it is committed.

use std::sync::Arc;

use super::dead_letter::Room;
use super::entry::Entry;
use crate::assemble::{Budget, DownloadDataFile, Expired, FileInfo, IndexRun, InstanceId, Reservation};
use crate::ledger::FailureStatus;
use crate::process::ReproducerMessage;
use crate::report::text::counted;

/// Missing chunks of an incomplete file that are named.
const MISSING_NAMED: usize = 20;
/// Bytes of a reason that are kept: it goes into the group's state, the registry and the log.
const MAX_REASON: usize = 64 << 10;
/// Bytes of a failure beside its texts, of which there are up to four copies: its entry, its row, its dead letter with
/// all headers, and the records of the client that sends them.
const FAILURE_BYTES: usize = 6 << 10;

/// Why a file has no result.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) status: FailureStatus,
    pub(super) reason: String,
}

impl Failure {
    pub(super) fn new(status: FailureStatus, reason: String) -> Self {
        Self { status, reason: shortened(reason, MAX_REASON) }
    }

    /// Bytes of memory that it takes until it is committed, about.
    fn bytes(&self, info: &FileInfo) -> usize {
        FAILURE_BYTES + 4 * (self.reason.len() + info.version.path.len())
    }
}

/// The text, cut to about `most` bytes; what was cut says so.
pub(super) fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        let all = text.len();
        text.truncate(text.floor_char_boundary(most));
        text.push_str(&format!(" … (cut, {} in all)", counted(all as u64, "byte")));
    }
    text
}

/// What became of one file.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) info: Arc<FileInfo>,
    /// What is produced for it, where anything is.
    pub(super) result: Result<Option<ReproducerMessage>, Failure>,
    /// How often the function ran for it.
    pub(super) attempts: u32,
    /// The failure of an earlier run that it answers, or the request to run a file again.
    pub(super) answers: Option<Arc<Entry>>,
    /// The chunks that are there, of a file that is incomplete.
    pub(super) chunks: Vec<IndexRun>,
    /// Of its dead letter, where it has one.
    pub(super) room: Room,
    /// The verified file where it is on disk, to be published with the outcome.
    pub(super) file: Option<Box<DownloadDataFile>>,
    reservation: Reservation,
}

impl Outcome {
    /// That of a file that a worker had.
    pub(super) fn new(
        info: Arc<FileInfo>,
        result: Result<Option<ReproducerMessage>, Failure>,
        attempts: u32,
        file: Option<DownloadDataFile>,
        budget: &Arc<Budget>,
    ) -> Self {
        let bytes = match &result {
            Ok(message) => message.as_ref().map_or(0, ReproducerMessage::bytes),
            Err(failure) => failure.bytes(&info),
        };
        let reservation = Reservation::whole(budget, bytes);
        let file = file.map(Box::new);
        Self { info, result, attempts, answers: None, chunks: Vec::new(), room: Room::default(), file, reservation }
    }

    /// That of a failed file whose chunks are gone.
    pub(super) fn expired(entry: Arc<Entry>, id: InstanceId, budget: &Arc<Budget>) -> Self {
        let reason = match entry.is_foreign {
            true => "it cannot be run again: its topic was deleted, and another one was created under its name",
            false => "it cannot be run again: its chunks are gone from the topic",
        };
        let reason = reason.to_owned();
        let info = Arc::new(entry.info(id));
        Self { answers: Some(entry), ..Self::without_content(info, FailureStatus::Expired, reason, budget) }
    }

    /// That of a file whose chunks stopped coming.
    pub(super) fn incomplete(expired: Expired, budget: &Arc<Budget>) -> Self {
        let total = expired.info.version.total;
        let missing = expired.indices.missing(total, MISSING_NAMED);
        let more = if total - expired.indices.len() > missing.len() as u32 { ", …" } else { "" };
        let missing: Vec<String> = missing.iter().map(u32::to_string).collect();
        let reason = format!(
            "its chunks stopped coming: {} of {total} are there, missing are {}{more}",
            expired.indices.len(),
            missing.join(", ")
        );
        let chunks = expired.indices.runs();
        Self { chunks, ..Self::without_content(expired.info, FailureStatus::Incomplete, reason, budget) }
    }

    /// That of chunks that came after their file had ended as incomplete: the entry has them, too, from now on.
    pub(super) fn late(ended: &FileInfo, chunks: Vec<IndexRun>, entry: Arc<Entry>, budget: &Arc<Budget>) -> Self {
        let there: u32 = chunks.iter().map(|run| run.1 - run.0 + 1).sum();
        let total = ended.version.total;
        let reason = format!("its chunks stopped coming; with those that came late {there} of {total} are there");
        let info = FileInfo {
            spans: [entry.spans(), &ended.spans].concat(),
            others: [entry.others(), &ended.others].concat(),
            ..ended.clone()
        };
        let answers = Some(entry);
        Self { answers, chunks, ..Self::without_content(Arc::new(info), FailureStatus::Incomplete, reason, budget) }
    }

    /// Whether it says that chunks of an incomplete file are there or missing. One with an answer is that of late
    /// chunks.
    pub(super) fn is_incomplete(&self) -> bool {
        matches!(&self.result, Err(failure) if failure.status == FailureStatus::Incomplete)
    }

    /// That of a file whose content was dropped for want of disk, and whose chunks were then removed.
    pub(super) fn gone(info: Arc<FileInfo>, budget: &Arc<Budget>) -> Self {
        let reason = "its chunks were removed from the topic before they could be read again; they had been dropped \
            because files that fill up took more disk than --spill_limit";
        Self::without_content(info, FailureStatus::Expired, reason.to_owned(), budget)
    }

    fn without_content(info: Arc<FileInfo>, status: FailureStatus, reason: String, budget: &Arc<Budget>) -> Self {
        let failure = Failure::new(status, reason);
        let reservation = Reservation::whole(budget, failure.bytes(&info));
        Self {
            info,
            result: Err(failure),
            attempts: 0,
            answers: None,
            chunks: Vec::new(),
            room: Room::default(),
            file: None,
            reservation,
        }
    }

    /// Whether the file had failed before.
    pub(super) fn has_failed_before(&self) -> bool {
        self.answers.as_ref().is_some_and(|entry| entry.has_failed)
    }

    /// How often user code ran for the file, in all starts together.
    pub(super) fn all_attempts(&self) -> u32 {
        self.attempts + self.answers.as_deref().map_or(0, Entry::attempts)
    }

    /// Bytes of the result.
    pub(super) fn bytes(&self) -> usize {
        self.reservation.bytes()
    }
}
