//! The engine: records in, results and progress out.
//!
//! ```text
//!  read.rs ──what happened──▶ session ──whole file──▶ work.rs ──outcome──▶ session ──batch──▶ commit.rs
//!  one thread: polls the log, does what the session says       n threads             one thread
//! ```
//!
//! The session owns all state between a record and its commit, and the reading thread owns the session; the others get
//! values and give values back. The reading thread never waits for user code or for a commit, so the membership in the
//! group holds however slow they are. Queues: whole files (bounded by the memory limit: reading is held above
//! a quarter of it), outcomes (1024, and the memory limit), commits (one).

mod alike;
mod catch_up;
mod chunk;
mod commit;
mod dead_letter;
mod delivery;
mod entry;
mod error;
mod failed;
mod folder;
mod in_hand;
pub(crate) mod input;
mod lines;
mod listeners;
mod origin;
mod outcome;
mod purpose;
mod reached;
mod read;
mod reread;
mod rerun;
mod retry;
mod session;
mod source;
mod start;
mod state;
mod summary;
mod tails;
mod take_over;
mod work;

pub use crate::control::{Control, StopKind};
pub(crate) use chunk::chunk_of;
pub use datamill_broker::DeliveryGuarantee;
pub use delivery::{StateFolder, forget_folders, state_folders};
pub(crate) use entry::hash as sha512_of_hex;
pub use error::EngineError;
pub use failed::{FailedFile, failed_files, forget_failures, request_retry};
use folder::LOGS;
pub(crate) use folder::{OWN, is_reserved, taken};
use listeners::Listeners;
pub(crate) use origin::spans_text;
pub(crate) use purpose::mark_copy;
pub(crate) use reached::{Position, Reached, Standing};
pub use rerun::{
    MOST_RERUN, RerunChoice, RerunError, RerunFile, RerunFiles, WHOLE_AGAIN, files_to_rerun, request_rerun,
};
pub use retry::RetryFailed;
pub use start::StartFrom;
pub use summary::Summary;
use summary::{Left, Tally};
pub use take_over::{TakenOver, take_over};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datamill_broker::{FirstStart, Log, Membership};

use crate::assemble::{Budget, Following, HashAhead, Mode, SourceTopic, SpillFolder};
use crate::facts::Facts;
use crate::ledger::{Ledger, LedgerKind, LedgerOptions};
use crate::process::{Access, UserCode};
use crate::read::Watch;
use crate::report::tell_outage;
use crate::report::text::COMPACTED;
use crate::settings::Pattern;

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
    /// Version of the user's function, for the results' headers; that of the [`UserCode`] where there is none.
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

/// What a stop means.
const LEFT_AT_STOP: &str = "files in hand are finished, the rest is for the next start";

/// Bytes that queues and the allocator take however small the memory is.
const OTHERS: usize = 20 << 20;

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
    fn queue_bytes(&self) -> usize {
        self.memory_limit / 16
    }

    /// Bytes of memory that files may take, those that fill up and whole ones with their results: most of what is left
    /// beside the [`OTHERS`].
    fn files_bytes(&self) -> usize {
        let beyond = self.memory_limit.saturating_sub(OTHERS);
        (self.memory_limit / 16 * 5).max(beyond / 16 * 10)
    }

    /// Bytes of them that whole files and results may take: more hold the reading.
    fn whole_bytes(&self) -> usize {
        self.memory_limit / 4
    }

    /// Bytes that entries of failed files may take which wait for another try.
    fn entries_bytes(&self) -> usize {
        self.memory_limit / 8
    }

    /// Bytes that files which are followed may hold: they cannot go to disk.
    fn followed_bytes(&self) -> usize {
        self.memory_limit / 8
    }
}

/// Runs until it is told to stop, the end is reached (where asked), or it cannot go on. What happens to the files is told
/// to `facts`.
///
/// ```
/// use datamill::broker::{Properties, open};
/// use datamill::control::Control;
/// use datamill::engine::{self, EngineSettings};
/// use datamill::facts::Facts;
/// use datamill::prelude::*;
/// use datamill::upload::{UploadSettings, upload_paths};
///
/// struct Sizes;
///
/// impl MetadataJsonReproducer for Sizes {
///     fn get_metadata_dict_for_file(&self, file: &DownloadDataFile, _: &Lock) -> Result<Metadata, ProcessingError> {
///         let mut metadata = Metadata::new();
///         metadata.insert("bytes", file.size());
///         Ok(metadata)
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let mut properties = Properties::default();
/// let address = format!("sqlite:{}", folder.join("lab.db").display());
/// properties.broker.insert("bootstrap.servers".to_owned(), address);
/// let log = open(&properties)?;
/// let (control, facts) = (Control::default(), Facts::default());
///
/// let file = folder.join("scan.csv");
/// std::fs::write(&file, "angle,counts")?;
/// upload_paths(log.as_ref(), &[file], &UploadSettings::new("files"), &control, &facts)?;
///
/// let mut settings = EngineSettings::new("files", "sizes", "host-1", folder.join("output"));
/// settings.result_topic = Some("results".to_owned());
/// settings.exit_at_end = true;
/// let summary = engine::run(&log, &settings, Sizes.into_user_code(), &control, &facts)?;
/// assert_eq!(summary.succeeded, 1);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// What keeps the program from running at all or from going on. A file that fails is no error; it is
/// counted in the [`Summary`].
pub fn run(
    log: &Arc<dyn Log>,
    settings: &EngineSettings,
    code: UserCode,
    control: &Control,
    facts: &Facts,
) -> Result<Summary, EngineError> {
    #[cfg(all(target_os = "linux", feature = "jemalloc"))]
    crate::allocator::keep_large_buffers();
    control.say_at_stop(format!("stopping: {LEFT_AT_STOP}; Ctrl-C now leaves at once"));
    let waits = !settings.exit_at_end && settings.retry_failed != RetryFailed::Only;
    let Some(found) = input::topic(log.as_ref(), &settings.topic, waits, control)? else {
        return Ok(Tally::start(facts).summary(log.as_ref(), settings, Left::default()));
    };
    // user code may change the folder of the process, or work in another one
    let here = std::env::current_dir().map_err(|e| EngineError::output(&settings.output_dir, e))?;
    let output_dir = std::path::absolute(here.join(&settings.output_dir))
        .map_err(|e| EngineError::output(&settings.output_dir, e))?;
    let processor_version = settings.processor_version.as_deref().or(code.version()).map(str::to_owned);
    let (given, settings) = (settings, &EngineSettings { output_dir, processor_version, ..settings.clone() });
    let source = source::Source::new(&settings.topic, found.id.as_deref());
    if source.id.is_none() {
        tracing::warn!(topic = %settings.topic,
            "the broker does not tell the id of the topic (brokers do from version 2.8 on): that the topic is deleted and created again is not noticed");
    }
    if found.is_compacted() {
        tracing::warn!(topic = %settings.topic, "the topic is compacted: {COMPACTED}");
    }
    // what can refuse a start comes before anything is made, unless the group's state lies in the folder
    let take_folder = || folder::OutputFolder::take(&settings.output_dir, &log.own_files());
    let folder = match settings.delivery {
        DeliveryGuarantee::AtLeastOnce => Some(take_folder()?),
        DeliveryGuarantee::ExactlyOnce => None,
    };
    let state = state::GroupState::open(log.as_ref(), settings, folder.as_ref())?;
    let tally = Tally::start(facts);
    let Some(mut standing) = purpose::Standing::look(log.as_ref(), settings, &state, &code, control)? else {
        return Ok(tally.summary(log.as_ref(), given, Left::default()));
    };
    let folder = folder.map_or_else(take_folder, Ok)?;
    match state.folder() {
        None => delivery::to_log(log.as_ref(), settings, &source, &folder, standing.known(), control)?,
        Some(file) => delivery::empty_where_taken(log.as_ref(), settings, &source, &folder, file, control)?,
    }
    let result_topic = settings.result_topic.as_deref().map(|name| log.topic_for_use(name)).transpose()?;
    if let Some(result_topic) = &result_topic {
        standing.writes_to(result_topic.id.as_deref());
        if result_topic.is_compacted() {
            tracing::warn!(topic = %result_topic.name,
                "the topic keeps only the newest record of each key: of several results for one path, the newest stays");
        }
    }
    let dead_letters = settings.dead_letter_topic.as_deref().map(|name| log.topic_for_use(name)).transpose()?;
    let dead_letters = dead_letters.map(dead_letter::DeadLetterTopic::from);
    let spill = SpillFolder::prepare(folder.filling()).map_err(|e| EngineError::output(&settings.output_dir, e))?;
    let work = SpillFolder::prepare(folder.work()).map_err(|e| EngineError::output(&settings.output_dir, e))?;
    let ledger = Ledger::open(LedgerOptions {
        output_dir: settings.output_dir.clone(),
        topic: settings.topic.clone(),
        group: settings.group.clone(),
        kind: match settings.result_topic.clone() {
            Some(result_topic) => LedgerKind::Reproducer { result_topic },
            None => LedgerKind::Processor,
        },
    })
    .map_err(|e| EngineError::output(&settings.output_dir, e))?;

    let topic = Arc::clone(&source.name);
    let listeners = Listeners::of_run(facts, log.as_ref(), &topic, tally, ledger);
    let output = Arc::new(folder::Output::new(folder.known(), &listeners.facts));
    let budget = Arc::new(Budget::default());
    let by_name: Arc<str> = format!("{}/{topic}", log.id()?).into();
    let source_topic = Arc::new(SourceTopic {
        name: Arc::clone(&topic),
        id: match &source.id {
            Some(id) => format!("{}/{id}", log.id()?).into(),
            None => Arc::clone(&by_name),
        },
        by_name: source.id.is_some().then_some(by_name),
        own_files: log.own_files(),
    });
    let needs = code.workers().needs();
    let may_be_together = settings.mode == Mode::Memory
        && needs.access != Access::Path
        && (settings.processing_timeout.is_none() || needs.tell_overdue.is_some());
    let together = if may_be_together { needs.together.max(1) } else { 1 };
    let in_hand = if needs.may_end_the_process {
        let (own, files) = (folder.own(), settings.threads.max(1) * together);
        let opened = in_hand::InHand::open(own, &log.id()?, &source, &settings.group, files);
        Some(Arc::new(opened.map_err(|e| EngineError::output(&settings.output_dir, e))?))
    } else {
        None
    };
    // where all of the file is on disk as well, nobody takes its beginning away
    let followers = needs.followers.filter(|_| settings.mode == Mode::Memory && needs.access != Access::Path);
    let room = settings.followed_bytes();
    let following = followers.map(|followers| Following { topic: Arc::clone(&source_topic), followers, room });
    let work_settings = work::WorkSettings {
        topic: source_topic,
        facts: listeners.facts.clone(),
        threads: settings.threads.max(1),
        mode: settings.mode,
        access: needs.access,
        clock: needs.clock,
        public_names: needs.public_names,
        together,
        tell_overdue: needs.tell_overdue,
        ends_overdue_calls: needs.ends_overdue_calls,
        tell_mismatch: needs.tell_mismatch,
        in_hand: in_hand.clone(),
        has_results: settings.result_topic.is_some(),
        max_attempts: settings.max_attempts.max(1),
        processing_timeout: settings.processing_timeout,
        work_folder: work.path().to_owned(),
        output: Arc::clone(&output),
        shutdown_timeout: settings.shutdown_timeout,
    };
    let hash_ahead = HashAhead::start().map_err(EngineError::Thread)?;
    let pool = work::Pool::start(work_settings, Arc::clone(&budget), code, control)?;
    let tried = retry::Tried::default();
    let commit = origin::CommitSettings {
        source,
        result_topic: settings.result_topic.clone(),
        dead_letters,
        group: settings.group.clone(),
        program: settings.program.clone(),
        processor_version: settings.processor_version.clone(),
        by: standing.id(),
    };
    let commit = Arc::new(commit);
    let from_log = state.folder().map(|file| {
        let source = &commit.source;
        delivery::FromLog::new(log.as_ref(), &settings.group, source, &folder, file, standing.answers())
    });
    let engine = read::Engine {
        log,
        settings,
        commit: Arc::clone(&commit),
        state: &state,
        from_log,
        output: &output,
        standing: standing.into(),
        control,
        listeners: listeners.clone(),
        filling: read::Filling { budget, spill, hash_ahead, following },
        pool: &pool,
        in_hand: in_hand.clone(),
        tried: &tried,
        history: read::History::new(result_topic.map(|topic| Watch::new(log, &topic))),
    };
    let ended = engine.run();
    pool.join();
    if let Some(in_hand) = in_hand.filter(|_| !matches!(ended, Err(EngineError::Overdue { .. }))) {
        in_hand.close();
    }
    output.end();
    let Listeners { tally, ledger, .. } = listeners;
    let mut ledger = ledger.lock();
    ledger.flush();
    catch_up::catch_up(&settings.topic, &state, &mut ledger, &tried);
    catch_up::tell_missing(log.as_ref(), settings, ledger.close());
    let redone = "What was read and is not committed is done again at the next start; nothing is lost";
    tell_outage(log.as_ref(), control, redone);
    let left = ended.inspect_err(|_| tracing::info!("{}", tally.line()))?;
    Ok(tally.summary(log.as_ref(), given, left))
}
