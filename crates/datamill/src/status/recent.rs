//! What happened last, for the page: a bounded number of each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::facts::{Fact, FailureStatus, FileRow, FillingFile, Listener, Reason, WaitingFile};
use crate::report::clock;

/// Files that have their outcome, and files that were left out, which are kept.
const LAST: usize = 50;
/// Failed files that are kept.
const FAILED: usize = 100;
/// Bytes of a reason that are kept, and of an error.
const REASON: usize = 500;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Done,
    Delivered,
    Failed(FailureStatus),
    Refused,
}

/// A file that has its outcome.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) file: String,
    pub(super) how: How,
    pub(super) bytes: u64,
    pub(super) at_ms: i64,
}

/// A file that failed and has not succeeded since.
#[derive(Debug, Clone)]
pub(super) struct FailedFile {
    pub(super) file: String,
    /// Where its records are: an upload of the same file later is another one.
    offsets: String,
    pub(super) status: FailureStatus,
    pub(super) reason: String,
    pub(super) at_ms: i64,
}

/// Where an upload or a watch takes its files, and where it sends them.
#[derive(Debug, Clone)]
pub(super) struct Sending {
    pub(super) from: String,
    pub(super) topic: String,
}

/// What happened.
#[derive(Debug, Clone, Default)]
pub(super) struct Happened {
    pub(super) sending: Option<Sending>,
    /// Files that an upload is to send.
    pub(super) planned: Option<u64>,
    /// The newest one is the last.
    pub(super) ended: VecDeque<Ended>,
    pub(super) failed: VecDeque<FailedFile>,
    /// Files that failed and are not in the list any more, since others came.
    pub(super) failed_before: u64,
    pub(super) filling: Arc<[FillingFile]>,
    pub(super) waiting: Arc<[WaitingFile]>,
    /// Files that should be sent and cannot be: why, and what more can be said about that.
    pub(super) not_sent: BTreeMap<String, (Reason, Option<String>)>,
    /// Those that are not to be sent.
    pub(super) left_out: VecDeque<(String, Reason)>,
    pub(super) left_out_by_reason: BTreeMap<Reason, u64>,
    /// Files that the log does not take, and what it said.
    pub(super) refused: BTreeMap<String, String>,
    /// What was said of the last commit, if it did not happen.
    pub(super) not_committed: Option<Said>,
    /// What user code said last that is not available.
    pub(super) not_available: Option<Said>,
    /// What is wrong with the output folder, while it is gone.
    pub(super) folder_gone: Option<Said>,
}

/// Why something holds, in the words of what holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) at_ms: i64,
    /// When it is tried again, where that is known.
    pub(super) again_ms: Option<i64>,
}

impl Said {
    fn now(text: &str, again_in: Option<Duration>) -> Self {
        let at_ms = clock::now_ms();
        let again_ms = again_in.map(|wait| at_ms.saturating_add_unsigned(wait.as_millis() as u64));
        Self { text: start_of(text), at_ms, again_ms }
    }
}

/// Listens, and keeps what the page shows.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Happened>);

impl Recent {
    pub(super) fn happened(&self) -> Happened {
        self.0.lock().clone()
    }
}

fn push<T>(kept: &mut VecDeque<T>, most: usize, new: T) -> bool {
    let is_full = kept.len() >= most;
    if is_full {
        kept.pop_front();
    }
    kept.push_back(new);
    is_full
}

fn start_of(text: &str) -> String {
    text[..text.floor_char_boundary(REASON)].to_owned()
}

impl Happened {
    fn end(&mut self, file: &str, how: How, bytes: u64, at_ms: i64) {
        push(&mut self.ended, LAST, Ended { file: file.to_owned(), how, bytes, at_ms });
    }

    /// The upload has another outcome now.
    fn forget(&mut self, row: &FileRow) {
        self.failed.retain(|failed| failed.offsets != row.offsets || failed.file != row.rel_filepath);
    }
}

impl Listener for Recent {
    #[expect(clippy::too_many_lines, reason = "what each fact changes, one after the other")]
    fn hear(&self, fact: &Fact<'_>) {
        match *fact {
            Fact::Done { file, bytes, again, at_ms, .. } => {
                let mut happened = self.0.lock();
                if again {
                    happened.forget(file);
                }
                happened.end(&file.rel_filepath, How::Done, bytes, at_ms);
            }
            Fact::Failed { file, bytes, status, reason, at_ms, .. } => {
                let mut happened = self.0.lock();
                happened.forget(file);
                let reason = start_of(reason);
                let (name, offsets) = (file.rel_filepath.clone(), file.offsets.clone());
                let failed = FailedFile { file: name, offsets, status, reason, at_ms };
                let one_goes = push(&mut happened.failed, FAILED, failed);
                happened.failed_before += u64::from(one_goes);
                happened.end(&file.rel_filepath, How::Failed(status), bytes, at_ms);
            }
            Fact::Filling(files) => self.0.lock().filling = Arc::clone(files),
            Fact::Committed { .. } => drop(self.0.lock().not_committed.take()),
            Fact::NotAvailable { error, wait } => self.0.lock().not_available = Some(Said::now(error, Some(wait))),
            Fact::OutputFolder { gone } => self.0.lock().folder_gone = gone.map(|gone| Said::now(gone, None)),
            Fact::NotCommitted { error } => {
                self.0.lock().not_committed = error.map(|error| Said::now(error, None));
            }
            Fact::Sends { from, topic } => {
                self.0.lock().sending = Some(Sending { from: from.to_owned(), topic: topic.to_owned() });
            }
            Fact::Planned { files, .. } => self.0.lock().planned = Some(files),
            Fact::Waiting(files) => self.0.lock().waiting = Arc::clone(files),
            Fact::Unchanged { file } => drop(self.0.lock().not_sent.remove(file)),
            Fact::Delivered { file, bytes, .. } => {
                let mut happened = self.0.lock();
                happened.refused.remove(file);
                happened.not_sent.remove(file);
                happened.end(file, How::Delivered, bytes, clock::now_ms());
            }
            Fact::Refused { file, error, is_first, .. } => {
                let mut happened = self.0.lock();
                if happened.refused.len() < FAILED {
                    happened.refused.insert(file.to_owned(), start_of(error));
                }
                if is_first {
                    happened.end(file, How::Refused, 0, clock::now_ms());
                }
            }
            Fact::LeftOut { file, reason, detail } if reason.is_failure() => {
                let mut happened = self.0.lock();
                if happened.not_sent.len() < FAILED || happened.not_sent.contains_key(file) {
                    happened.not_sent.insert(file.to_owned(), (reason, detail.map(start_of)));
                }
            }
            Fact::LeftOut { file, reason, .. } => {
                let mut happened = self.0.lock();
                *happened.left_out_by_reason.entry(reason).or_default() += 1;
                push(&mut happened.left_out, LAST, (file.to_owned(), reason));
            }
            Fact::Existing { files } => {
                *self.0.lock().left_out_by_reason.entry(Reason::Existing).or_default() += files;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(file: &str, first: u64) -> FileRow {
        FileRow { rel_filepath: file.to_owned(), offsets: format!("0:{first}-{first}"), ..FileRow::default() }
    }

    fn fail(recent: &Recent, row: &FileRow, reason: &str, again: bool) {
        let (status, attempts, at_ms) = (FailureStatus::Failed, 1, 0);
        recent.hear(&Fact::Failed { file: row, bytes: 1, status, reason, attempts, again, rerun: false, at_ms });
    }

    fn failed(recent: &Recent) -> Vec<String> {
        recent.happened().failed.into_iter().map(|failed| format!("{}: {}", failed.file, failed.reason)).collect()
    }

    #[test]
    fn a_failed_file_goes_from_the_list_with_its_result_and_not_with_that_of_another_upload() {
        let recent = Recent::default();
        let done = |row: &FileRow| {
            recent.hear(&Fact::Done { file: row, bytes: 1, result: None, again: true, rerun: false, at_ms: 0 });
        };
        fail(&recent, &row("a", 1), "no header", false);
        fail(&recent, &row("b", 2), "no header", false);
        fail(&recent, &row("a", 1), "still none", true);
        assert_eq!(failed(&recent), ["b: no header", "a: still none"]);
        done(&row("a", 7));
        assert_eq!(failed(&recent).len(), 2);
        done(&row("a", 1));
        assert_eq!(failed(&recent), ["b: no header"]);
    }

    #[test]
    fn a_file_that_could_not_be_sent_is_on_the_list_until_it_is() {
        let recent = Recent::default();
        let not_sent = |recent: &Recent| recent.happened().not_sent.into_keys().collect::<Vec<_>>();
        for file in ["a", "b", "c"] {
            recent.hear(&Fact::LeftOut { file, reason: Reason::Unreadable, detail: Some("no permission") });
        }
        assert_eq!((not_sent(&recent).len(), recent.happened().left_out.len()), (3, 0));
        recent.hear(&Fact::Delivered { file: "a", bytes: 1, chunks: 1, began_ms: 0 });
        recent.hear(&Fact::Unchanged { file: "c" });
        assert_eq!(not_sent(&recent), ["b"]);
    }

    #[test]
    fn what_was_said_of_a_commit_is_forgotten_with_the_next_one() {
        let recent = Recent::default();
        recent.hear(&Fact::NotCommitted { error: Some("no space") });
        assert_eq!(recent.happened().not_committed.unwrap().text, "no space");
        recent.hear(&Fact::Committed { files: 1, took: std::time::Duration::ZERO });
        assert_eq!(recent.happened().not_committed, None);
    }

    #[test]
    fn very_many_files_take_a_bounded_room() {
        let recent = Recent::default();
        for number in 0..10_000 {
            fail(&recent, &row(&format!("f{number}"), number), &"µ".repeat(10_000), false);
            recent.hear(&Fact::LeftOut { file: "x.log", reason: Reason::LogFile, detail: None });
            let unreadable = format!("u{number}");
            recent.hear(&Fact::LeftOut { file: &unreadable, reason: Reason::Unreadable, detail: None });
            let file = &format!("r{number}");
            recent.hear(&Fact::Refused { file, error: "too large", again_after: None, is_first: true });
        }
        let happened = recent.happened();
        assert_eq!((happened.failed.len(), happened.failed_before), (FAILED, 10_000 - FAILED as u64));
        assert_eq!((happened.ended.len(), happened.left_out.len(), happened.refused.len()), (LAST, LAST, FAILED));
        assert_eq!(happened.not_sent.len(), FAILED);
        assert_eq!(happened.left_out_by_reason[&Reason::LogFile], 10_000);
        assert!(happened.failed[0].reason.len() <= REASON);
    }
}
