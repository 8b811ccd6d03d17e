//! What an engine works with.

use std::path::PathBuf;
use std::time::Duration;

use datamill_broker::{DeliveryGuarantee, FirstStart, Membership};

use super::retry::RetryFailed;
use super::start::StartFrom;
use crate::assemble::Mode;
use crate::settings::Pattern;

/// Bytes that queues and the allocator take however small the memory is.
const OTHERS: usize = 20 << 20;

/// What an engine works with. Begin with [`EngineSettings::new`] and change what differs: a later version may have more
/// fields.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Topic of chunk messages.
    pub topic: String,
    /// Topic that results go to; `None` for a processor, which has none.
    pub result_topic: Option<String>,
    /// Topic that learns of files and records without a result.
    pub dead_letter_topic: Option<String>,
    /// Consumer group.
    pub group: String,
    /// This process's place in the group, the same after a restart.
    pub instance: String,
    /// Whether the group knows that name, and keeps the place.
    pub membership: Membership,
    /// Name and version of the program, for the results' headers.
    pub program: String,
    /// Version of the user's function, for the results' headers; that of the [`UserCode`](crate::process::UserCode) where there is none.
    pub processor_version: Option<String>,
    /// What is promised of results, and where failed files are kept: with
    /// [`AtLeastOnce`](DeliveryGuarantee::AtLeastOnce) in the output folder.
    pub delivery: DeliveryGuarantee,
    /// Where a group starts that has committed nothing.
    pub first_start: FirstStart,
    /// Where a person says to start in partitions whose committed position is missing or of no use.
    pub start_from: Option<StartFrom>,
    /// Files whose relative path matches from its start are processed; `None` is all.
    pub download_regex: Option<Pattern>,
    /// Where user code finds the content besides what it needs itself, and whether the file stays in the output folder.
    pub mode: Mode,
    /// Threads that run user code, at least 1.
    pub threads: usize,
    /// How often user code runs for a file before the file counts as failed, at least 1.
    pub max_attempts: u32,
    /// How long one run of the function may take; longer ones are given up, and their files have failed.
    /// `None` is as long as it likes.
    pub processing_timeout: Option<Duration>,
    /// Folder for rebuilt files, the log file and the registry.
    pub output_dir: PathBuf,
    /// Bytes of memory for file content and queues.
    pub memory_limit: usize,
    /// Bytes on disk that files may take which fill up, or did so and wait for user code; `None` is as many
    /// as there are. Beyond it, the content of the largest is dropped, and read again once all chunks were
    /// seen.
    pub spill_limit: Option<usize>,
    /// A file whose newest chunk is older than this, by the time of the records, ends as incomplete. At
    /// most half of the topic's retention counts; 0 is never.
    pub incomplete_after: Duration,
    /// What is done with the files that failed in earlier runs of the group.
    pub retry_failed: RetryFailed,
    /// The group may be used by another program on this topic: both share the files.
    pub same_group: bool,
    /// Stop once everything that was in the topic at the start is handled.
    pub exit_at_end: bool,
    /// Seconds between two lines about the state; 0 is never.
    pub update_seconds: u64,
    /// How long a stop waits for user code that runs and for the last commit.
    pub shutdown_timeout: Duration,
}

impl EngineSettings {
    /// The settings of a program that was given no options: a processor, which has no topic for results. `instance` is
    /// the name of this process in its group, the same after a restart.
    pub fn new(
        topic: impl Into<String>,
        group: impl Into<String>,
        instance: impl Into<String>,
        output_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            topic: topic.into(),
            result_topic: None,
            dead_letter_topic: None,
            group: group.into(),
            instance: instance.into(),
            membership: Membership::default(),
            program: format!("datamill/{}", env!("CARGO_PKG_VERSION")),
            processor_version: None,
            delivery: DeliveryGuarantee::ExactlyOnce,
            first_start: FirstStart::default(),
            start_from: None,
            download_regex: None,
            mode: Mode::Memory,
            threads: 2,
            max_attempts: 3,
            processing_timeout: None,
            output_dir: output_dir.into(),
            memory_limit: 256 << 20,
            spill_limit: None,
            incomplete_after: Duration::from_secs(24 * 3600),
            retry_failed: RetryFailed::Now,
            same_group: false,
            exit_at_end: false,
            update_seconds: 300,
            shutdown_timeout: Duration::from_secs(30),
        }
    }

    /// Bytes of records that the backend may have fetched ahead: its share of the memory.
    pub(super) fn queue_bytes(&self) -> usize {
        self.memory_limit / 16
    }

    /// Bytes of memory that files may take, those that fill up and whole ones with their results: most of what is left
    /// beside the [`OTHERS`].
    pub(super) fn files_bytes(&self) -> usize {
        let beyond = self.memory_limit.saturating_sub(OTHERS);
        (self.memory_limit / 16 * 5).max(beyond / 16 * 10)
    }

    /// Bytes of them that whole files and results may take: more hold the reading.
    pub(super) fn whole_bytes(&self) -> usize {
        self.memory_limit / 4
    }

    /// Bytes that entries of failed files may take which wait for another try.
    pub(super) fn entries_bytes(&self) -> usize {
        self.memory_limit / 8
    }

    /// Bytes that files which are followed may hold: they cannot go to disk.
    pub(super) fn followed_bytes(&self) -> usize {
        self.memory_limit / 8
    }
}
