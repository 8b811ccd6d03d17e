//! What a running program has done, and how it stands: numbers that any thread may look at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use datamill_wire::Chunk;

use super::backlog::Question;
use super::times::Times;
use super::{Backlog, Fact, FailureStatus, Histogram, Hold, Rest};
use crate::report::clock;

/// One count. It has a line of the processor's cache for itself: threads that count different things at the same time do not
/// wait for each other.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Count(AtomicU64);

impl Count {
    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        struct Atomics {
            $($name: Count,)*
            failures: [Count; FailureStatus::COUNT],
        }

        /// The counts at one moment, or between two.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
            /// Files that failed, by status (at its number in [`FailureStatus::ALL`]); those that failed again are left
            /// out.
            pub failures: [u64; FailureStatus::COUNT],
        }

        impl Atomics {
            fn counts(&self) -> Counts {
                Counts {
                    $($name: self.$name.get(),)*
                    failures: self.failures.each_ref().map(Count::get),
                }
            }
        }

        impl Counts {
            /// What was counted between `earlier` and this moment.
            pub fn since(&self, earlier: &Self) -> Self {
                let mut failures = self.failures;
                failures.iter_mut().zip(earlier.failures).for_each(|(now, then)| *now = now.saturating_sub(then));
                Self { $($name: self.$name.saturating_sub(earlier.$name),)* failures }
            }
        }
    };
}

counts! {
    /// Messages read from the topic.
    messages_read,
    /// Bytes of file content in those messages.
    bytes_read,
    /// Messages whose file has been handled.
    messages_processed,
    /// Bytes of file content in those messages.
    bytes_processed,
    /// Messages that the log has acknowledged.
    messages_produced,
    /// Bytes of those messages.
    bytes_produced,
    /// Files whose last chunk was handed over to the log.
    sent,
    /// Files that the topic has whole.
    delivered,
    /// Bytes of these files.
    delivered_bytes,
    /// Files that looked changed and hold what was delivered before.
    unchanged,
    /// Files that are not sent, or that `--download_regex` leaves out.
    left_out,
    /// Files that the log does not take.
    refused,
    /// Files whose first chunk was read.
    begun,
    /// Files whose chunks were all read.
    whole,
    /// Runs of user code that have begun.
    started,
    /// Runs of user code that have ended.
    ran,
    /// Of the runs that have begun, those after a failure.
    tried_again,
    /// Files that have their result, or were processed.
    done,
    /// Bytes of these files.
    done_bytes,
    /// Bytes of the chunks that are there of files that failed, and did not fail before; those of incomplete ones aside.
    failed_bytes,
    /// Bytes of the chunks that are there of incomplete files.
    incomplete_bytes,
    /// Results.
    results,
    /// Bytes of these results.
    result_bytes,
    /// Of the files that are done, those that had failed in an earlier run.
    retried,
    /// Of the files that are done, those that somebody asked to run again.
    rerun,
    /// Files that had failed in an earlier run and failed again.
    failed_again,
    /// Of these, those that are given up, since their chunks are gone from the topic.
    expired,
    /// Of the files that failed again, those that ended the program.
    ended_again,
    /// Files of which only the end was read, since they began before the group did.
    begun_before,
    /// Uploads that ended without an outcome, since a newer version or a repetition takes their place.
    replaced,
    /// Unfinished files that lost their first chunk to the topic's retention.
    lost,
    /// Messages that hold no chunk of a file.
    undecodable,
    /// Messages of finished files that were read again.
    read_again,
    /// Bytes of all messages that had been read before and were read again.
    bytes_read_again,
    /// Offsets between the position and the newest message that was read before, at the assignments.
    restart_span,
    /// Dead letters of files that failed.
    dead_letters_of_files,
    /// Dead letters of messages that hold no chunk.
    dead_letters_of_messages,
    /// Commits that have happened.
    commits,
    /// Commits that did not happen and were tried again.
    commits_again,
    /// Times that partitions were assigned or revoked.
    rebalances,
}

impl Counts {
    /// Files that failed, and did not fail before.
    pub fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }

    /// Files by their outcome. Each file is in one of them, and in it once for each of its uploads.
    pub fn by_outcome(&self) -> [(&'static str, u64); 10] {
        let of = |status: FailureStatus| self.failures[status as usize];
        let (incomplete, expired) = (of(FailureStatus::Incomplete), of(FailureStatus::Expired));
        [
            ("done", self.done),
            ("failed", self.failed() - incomplete - expired),
            ("incomplete", incomplete),
            ("expired", expired + self.expired),
            ("begun_before_start", self.begun_before),
            ("replaced", self.replaced),
            ("left_out", self.left_out),
            ("delivered", self.delivered),
            ("unchanged", self.unchanged),
            ("refused", self.refused),
        ]
    }
}

macro_rules! state {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        struct StateAtomics {
            $($name: AtomicU64,)*
        }

        /// How a program stands at one moment.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct State {
            $($(#[$doc])* pub $name: u64,)*
            /// The group has said what this process owns, if only nothing, and the process has not lost its place.
            pub is_member: bool,
            /// Files whose chunks are not all there, as they were seen some seconds ago.
            pub filling: u64,
            /// Bytes of their chunks that are there.
            pub filling_bytes: u64,
            /// Of these files, those whose uploads were probably cut off.
            pub cut_off: u64,
            /// What holds, and since when, in milliseconds since the epoch.
            pub held: Option<(Hold, i64)>,
            /// The output folder is gone: what needs it waits.
            pub is_folder_gone: bool,
            /// When the last commit happened that had something to commit, in milliseconds since the epoch.
            pub committed_ms: Option<i64>,
        }

        impl StateAtomics {
            fn set(&self, state: &State) {
                $(self.$name.store(state.$name, Relaxed);)*
            }

            fn get(&self) -> State {
                State { $($name: self.$name.load(Relaxed),)* ..State::default() }
            }
        }
    };
}

state! {
    /// Partitions that are this process's.
    partitions,
    /// Whole files that wait for user code; for a watch, files that have not settled or wait for another try.
    waiting,
    /// Files that user code works on; for an upload, files on their way.
    in_hand,
    /// Bytes of memory of files that fill up.
    memory_filling,
    /// Bytes of memory of whole files and of results.
    memory_whole,
    /// Bytes on disk of files that fill up.
    disk_filling,
    /// Bytes on disk of whole files that filled up there.
    disk_whole,
}

/// Counts since the start of the program, and how it stands, to be shared between threads.
///
/// These are statistics: they are not ordered against each other or against anything else.
#[derive(Debug, Default)]
pub struct Counters {
    counts: Atomics,
    state: StateAtomics,
    turns: AtomicU64,
    is_member: AtomicBool,
    is_folder_gone: AtomicBool,
    filling: AtomicU64,
    filling_bytes: AtomicU64,
    cut_off: AtomicU64,
    /// Number of what holds, from 1.
    hold: AtomicU64,
    held_since_ms: AtomicI64,
    held_us: [Count; Hold::COUNT],
    committed_ms: AtomicI64,
    running: Times,
    committing: Times,
    backlog: Question,
}

/// All that the counters know at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Snapshot {
    /// What was done since the start.
    pub counts: Counts,
    /// How it stands.
    pub state: State,
    /// How long it was held, by reason (at its number in [`Hold::ALL`]).
    pub held: [Duration; Hold::COUNT],
    /// How long user code took for a file.
    pub running: Histogram,
    /// How long commits took that happened.
    pub committing: Histogram,
}

fn add(count: &Count, amount: u64) {
    count.0.fetch_add(amount, Relaxed);
}

impl Counters {
    /// Messages were read, with this many bytes of file content.
    pub fn read(&self, messages: u64, bytes: u64) {
        add(&self.counts.messages_read, messages);
        add(&self.counts.bytes_read, bytes);
    }

    /// A message was read, which holds this chunk, or none.
    pub(crate) fn read_one<E>(&self, chunk: &Result<Chunk<'_>, E>) {
        self.read(1, chunk.as_ref().map_or(0, |chunk| chunk.data.len() as u64));
    }

    /// A message that had been read before was read again.
    pub(crate) fn read_again(&self, bytes: u64) {
        add(&self.counts.bytes_read_again, bytes);
    }

    /// It is a message of a finished file.
    pub(crate) fn read_again_of_finished(&self) {
        add(&self.counts.read_again, 1);
    }

    /// Messages with this many bytes were handled: the file that they belong to has its outcome.
    pub fn processed(&self, messages: u64, bytes: u64) {
        add(&self.counts.messages_processed, messages);
        add(&self.counts.bytes_processed, bytes);
    }

    /// Messages with this many bytes are durable in the log.
    pub fn produced(&self, messages: u64, bytes: u64) {
        add(&self.counts.messages_produced, messages);
        add(&self.counts.bytes_produced, bytes);
    }

    /// How the program stands, as the thread sees it that steers the work; what holds and what fills up aside.
    pub(crate) fn stand(&self, state: &State) {
        self.state.set(state);
        self.is_member.store(state.is_member, Relaxed);
        self.turn();
    }

    /// The thread that steers the work comes round, or goes on with what takes long and looks whether it is to stop.
    pub(crate) fn turn(&self) {
        self.turns.fetch_add(1, Relaxed);
    }

    /// How often it did so, some times a second: the program works while this grows.
    pub fn turns(&self) -> u64 {
        self.turns.load(Relaxed)
    }

    /// Asks the thread that reads for what has no outcome. It answers once it comes round, in a tenth of a second or so.
    pub(crate) fn ask_backlog(&self) {
        self.backlog.ask();
    }

    /// Whether somebody asks what has no outcome.
    pub(crate) fn is_asked_for_backlog(&self) -> bool {
        self.backlog.is_open()
    }

    /// What has no outcome, in the partitions of this process.
    pub(crate) fn answer_backlog(&self, backlog: Vec<Backlog>) {
        self.backlog.answer(backlog);
    }

    /// What has no outcome in the partitions of this process. `None` while the last question has no answer.
    pub fn backlog(&self) -> Option<Arc<[Backlog]>> {
        self.backlog.answered()
    }

    /// What holds from here on.
    pub(super) fn holds(&self, hold: Option<Hold>) {
        self.held_since_ms.store(clock::now_ms(), Relaxed);
        self.hold.store(hold.map_or(0, |hold| hold as u64 + 1), Relaxed);
    }

    /// What holds.
    pub(super) fn hold(&self) -> Option<Hold> {
        let number = usize::try_from(self.hold.load(Relaxed)).ok()?.checked_sub(1)?;
        Hold::ALL.get(number).copied()
    }

    /// This held for so long.
    pub(super) fn held(&self, hold: Hold, time: Duration) {
        add(&self.held_us[hold as usize], u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    #[expect(clippy::too_many_lines, reason = "what each fact counts, one after the other")]
    pub(super) fn hear(&self, fact: &Fact<'_>) {
        let counts = &self.counts;
        match *fact {
            Fact::Sends { .. } | Fact::Planned { .. } | Fact::Waiting(_) => {}
            Fact::Sent { .. } => add(&counts.sent, 1),
            Fact::Acknowledged { messages, bytes } => self.produced(messages, bytes),
            Fact::Delivered { bytes, .. } => {
                add(&counts.delivered, 1);
                add(&counts.delivered_bytes, bytes);
            }
            Fact::Unchanged { .. } => add(&counts.unchanged, 1),
            Fact::LeftOut { .. } | Fact::Filtered { .. } => add(&counts.left_out, 1),
            Fact::Refused { is_first, .. } => add(&counts.refused, is_first.into()),
            Fact::Assigned { read_again } => {
                add(&counts.rebalances, 1);
                add(&counts.restart_span, read_again);
            }
            Fact::Revoked => add(&counts.rebalances, 1),
            Fact::Undecodable { .. } => add(&counts.undecodable, 1),
            Fact::FirstChunk { .. } => add(&counts.begun, 1),
            Fact::Whole { .. } => add(&counts.whole, 1),
            Fact::Existing { files } => add(&counts.left_out, files),
            Fact::Filling(files) => {
                self.filling.store(files.len() as u64, Relaxed);
                self.filling_bytes.store(files.iter().map(|file| file.bytes).sum(), Relaxed);
                self.cut_off.store(files.iter().filter(|file| file.rest == Rest::CutOff).count() as u64, Relaxed);
            }
            Fact::Lost { .. } => add(&counts.lost, 1),
            Fact::Started { attempt, again, .. } => {
                add(&counts.started, 1);
                add(&counts.tried_again, (again || attempt > 1).into());
            }
            Fact::Ran { took, .. } => {
                add(&counts.ran, 1);
                self.running.add(took);
            }
            Fact::AttemptFailed { .. }
            | Fact::CutOff(_)
            | Fact::NotAvailable { .. }
            | Fact::CameLate { .. }
            | Fact::NoDeadLetter { .. } => {}
            Fact::Done { file, bytes, result, again, rerun, .. } => {
                self.processed(file.n_chunks.into(), bytes);
                add(&counts.done, 1);
                add(&counts.done_bytes, bytes);
                add(&counts.retried, again.into());
                add(&counts.rerun, rerun.into());
                if let Some(result) = result {
                    self.produced(1, result);
                    add(&counts.results, 1);
                    add(&counts.result_bytes, result);
                }
            }
            Fact::Failed { file, bytes, status, again, .. } => {
                self.processed(file.n_chunks.into(), bytes);
                if again {
                    add(&counts.failed_again, 1);
                    add(&counts.expired, (status == FailureStatus::Expired).into());
                    add(&counts.ended_again, (status == FailureStatus::EndedTheProgram).into());
                } else {
                    add(&counts.failures[status as usize], 1);
                    let is_incomplete = status == FailureStatus::Incomplete;
                    add(if is_incomplete { &counts.incomplete_bytes } else { &counts.failed_bytes }, bytes);
                }
            }
            Fact::BegunBefore { .. } => add(&counts.begun_before, 1),
            Fact::Replaced { .. } => add(&counts.replaced, 1),
            Fact::DeadLetter { file: Some(_) } => add(&counts.dead_letters_of_files, 1),
            Fact::DeadLetter { file: None } => add(&counts.dead_letters_of_messages, 1),
            Fact::Committed { took, .. } => {
                add(&counts.commits, 1);
                self.committing.add(took);
                self.committed_ms.store(clock::now_ms(), Relaxed);
            }
            Fact::NotCommitted { .. } => add(&counts.commits_again, 1),
            Fact::OutputFolder { gone } => self.is_folder_gone.store(gone.is_some(), Relaxed),
        }
    }

    /// The counts of this moment.
    pub fn counts(&self) -> Counts {
        self.counts.counts()
    }

    /// All of this moment.
    pub fn snapshot(&self) -> Snapshot {
        let state = State {
            is_member: self.is_member.load(Relaxed),
            is_folder_gone: self.is_folder_gone.load(Relaxed),
            filling: self.filling.load(Relaxed),
            filling_bytes: self.filling_bytes.load(Relaxed),
            cut_off: self.cut_off.load(Relaxed),
            held: self.hold().map(|hold| (hold, self.held_since_ms.load(Relaxed))),
            committed_ms: Some(self.committed_ms.load(Relaxed)).filter(|ms| *ms > 0),
            ..self.state.get()
        };
        Snapshot {
            counts: self.counts(),
            state,
            held: self.held_us.each_ref().map(|us| Duration::from_micros(us.get())),
            running: self.running.histogram(),
            committing: self.committing.histogram(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::FileRow;

    #[test]
    fn counts_are_taken_between_two_moments() {
        let counters = Counters::default();
        counters.read(2, 200);
        counters.produced(1, 5);
        let first = counters.counts();
        assert_eq!(
            first,
            Counts { messages_read: 2, bytes_read: 200, messages_produced: 1, bytes_produced: 5, ..Counts::default() }
        );
        counters.read(1, 50);
        counters.processed(3, 250);
        let between = counters.counts().since(&first);
        assert_eq!(
            between,
            Counts {
                messages_read: 1,
                bytes_read: 50,
                messages_processed: 3,
                bytes_processed: 250,
                ..Counts::default()
            }
        );
    }

    #[test]
    fn a_file_counts_by_its_outcome_and_its_messages_as_processed() {
        let (counters, file) = (Counters::default(), FileRow { n_chunks: 3, ..FileRow::default() });
        let failed = |status, again| {
            let (bytes, reason, attempts, at_ms) = (10, "", 1, 0);
            counters.hear(&Fact::Failed { file: &file, bytes, status, reason, attempts, again, rerun: false, at_ms });
        };
        counters.hear(&Fact::Done { file: &file, bytes: 10, result: Some(2), again: true, rerun: false, at_ms: 0 });
        failed(FailureStatus::Failed, false);
        failed(FailureStatus::MismatchedHash, false);
        failed(FailureStatus::Incomplete, false);
        failed(FailureStatus::Failed, true);
        failed(FailureStatus::Expired, true);
        let counts = counters.counts();
        assert_eq!((counts.failed(), counts.failed_again, counts.retried), (3, 2, 1));
        assert_eq!((counts.messages_processed, counts.bytes_processed), (18, 60));
        assert_eq!((counts.messages_produced, counts.bytes_produced), (1, 2));
        let outcomes: Vec<_> = counts.by_outcome().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(outcomes, [("done", 1), ("failed", 2), ("incomplete", 1), ("expired", 1)]);
    }

    #[test]
    fn each_status_stands_at_its_own_number() {
        assert!(FailureStatus::ALL.iter().enumerate().all(|(number, status)| *status as usize == number));
    }
}
