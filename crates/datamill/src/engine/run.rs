//! One run of the engine, from its settings to its summary: what it needs is found and made, the threads work, and what
//! they leave is told.

use std::sync::Arc;

use datamill_broker::{DeliveryGuarantee, Log, Topic};

use super::dead_letter::DeadLetterTopic;
use super::delivery::{self, FromLog};
use super::folder::{Output, OutputFolder};
use super::in_hand::InHand;
use super::listeners::Listeners;
use super::origin::CommitSettings;
use super::purpose::Standing;
use super::read::{Engine, Filling, History};
use super::retry::{self, RetryFailed};
use super::source::Source;
use super::state::GroupState;
use super::summary::{Left, Summary, Tally};
use super::work::{Pool, WorkSettings};
use super::{Control, EngineError, EngineSettings, LEFT_AT_STOP, catch_up, input};
use crate::assemble::{Following, HashAhead, Mode, SourceTopic, SpillFolder};
use crate::facts::Facts;
use crate::ledger::{Ledger, LedgerKind, LedgerOptions};
use crate::process::{Access, UserCode};
use crate::read::Watch;
use crate::report::tell_outage;
use crate::report::text::COMPACTED;

/// What is said at the end where the broker is away.
const LEFT_AT_OUTAGE: &str = "What was read and is not committed is done again at the next start; nothing is lost";

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
    let nothing_done = |tally: Tally| Ok(tally.summary(log.as_ref(), settings, Left::default()));
    let Some(source) = source(log.as_ref(), settings, control)? else {
        return nothing_done(Tally::start(facts));
    };
    let run = Arc::new(resolved(settings, &code)?);
    // what can refuse a start comes before anything is made, unless the group's state lies in the folder
    let take_folder = || OutputFolder::take(&run.output_dir, &log.own_files());
    let folder = match run.delivery {
        DeliveryGuarantee::AtLeastOnce => Some(take_folder()?),
        DeliveryGuarantee::ExactlyOnce => None,
    };
    let state = GroupState::open(log.as_ref(), &run, folder.as_ref())?;
    let tally = Tally::start(facts);
    let Some(mut standing) = Standing::look(log.as_ref(), &run, &state, &code, control)? else {
        return nothing_done(tally);
    };
    let folder = folder.map_or_else(take_folder, Ok)?;
    match state.folder() {
        None => delivery::to_log(log.as_ref(), &run, &source, &folder, standing.known(), control)?,
        Some(file) => delivery::empty_where_taken(log.as_ref(), &run, &source, &folder, file, control)?,
    }
    let results = results(log.as_ref(), &run, &mut standing)?;
    let listeners = Listeners::of_run(facts, log.as_ref(), &source.name, tally, ledger(&run)?);
    let work = work_settings(log.as_ref(), &run, &source, &folder, &code, &listeners)?;
    let filling = filling(&run, &folder, &work)?;
    let (output, in_hand) = (Arc::clone(&work.output), work.in_hand.clone());
    let pool = Pool::start(work, Arc::clone(&filling.budget), code, control)?;
    let tried = retry::Tried::default();
    let commit = Arc::new(commit_settings(log.as_ref(), &run, source, standing.id())?);
    let from_log = state
        .folder()
        .map(|file| FromLog::new(log.as_ref(), &commit.group, &commit.source, &folder, file, standing.answers()));
    let engine = Engine {
        log,
        settings: &run,
        commit: Arc::clone(&commit),
        state: &state,
        from_log,
        output: &output,
        standing: standing.into(),
        control,
        listeners: listeners.clone(),
        filling,
        pool: &pool,
        in_hand: in_hand.clone(),
        tried: &tried,
        history: History::new(results.map(|topic| Watch::new(log, &topic))),
    };
    let ended = engine.run();
    pool.join();
    // what hangs is for the next start
    let is_overdue = matches!(ended, Err(EngineError::Overdue { .. }));
    in_hand.iter().filter(|_| !is_overdue).for_each(|in_hand| in_hand.close());
    output.end();
    let Listeners { tally, ledger, .. } = listeners;
    catch_up::end(log.as_ref(), &run, &state, &mut ledger.lock(), &tried);
    tell_outage(log.as_ref(), control, LEFT_AT_OUTAGE);
    let left = ended.inspect_err(|_| tracing::info!("{}", tally.line()))?;
    Ok(tally.summary(log.as_ref(), settings, left))
}

/// The settings as this process has them: user code may change its folder, or work in another one.
fn resolved(settings: &EngineSettings, code: &UserCode) -> Result<EngineSettings, EngineError> {
    let absolute = || std::path::absolute(std::env::current_dir()?.join(&settings.output_dir));
    Ok(EngineSettings {
        output_dir: absolute().map_err(|e| EngineError::output(&settings.output_dir, e))?,
        processor_version: settings.processor_version.as_deref().or(code.version()).map(str::to_owned),
        threads: settings.threads.max(1),
        max_attempts: settings.max_attempts.max(1),
        ..settings.clone()
    })
}

/// The topic of the files; says what is special about it. `None` where the program is told to stop before it is there.
fn source(log: &dyn Log, settings: &EngineSettings, control: &Control) -> Result<Option<Source>, EngineError> {
    let waits = !settings.exit_at_end && settings.retry_failed != RetryFailed::Only;
    let Some(found) = input::topic(log, &settings.topic, waits, control)? else { return Ok(None) };
    let source = Source::new(&settings.topic, found.id.as_deref());
    if source.id.is_none() {
        tracing::warn!(topic = %settings.topic,
            "the broker does not tell the id of the topic (brokers do from version 2.8 on): that the topic is deleted and created again is not noticed");
    }
    if found.is_compacted() {
        tracing::warn!(topic = %settings.topic, "the topic is compacted: {COMPACTED}");
    }
    Ok(Some(source))
}

/// The topic of the results, where there is one; says what is special about it.
fn results(log: &dyn Log, settings: &EngineSettings, standing: &mut Standing) -> Result<Option<Topic>, EngineError> {
    let results = settings.result_topic.as_deref().map(|name| log.topic_for_use(name)).transpose()?;
    if let Some(results) = &results {
        standing.writes_to(results.id.as_deref());
        if results.is_compacted() {
            tracing::warn!(topic = %results.name,
                "the topic keeps only the newest record of each key: of several results for one path, the newest stays");
        }
    }
    Ok(results)
}

/// The tables for people.
fn ledger(settings: &EngineSettings) -> Result<Ledger, EngineError> {
    let opened = Ledger::open(LedgerOptions {
        output_dir: settings.output_dir.clone(),
        topic: settings.topic.clone(),
        group: settings.group.clone(),
        kind: match settings.result_topic.clone() {
            Some(result_topic) => LedgerKind::Reproducer { result_topic },
            None => LedgerKind::Processor,
        },
    });
    opened.map_err(|e| EngineError::output(&settings.output_dir, e))
}

/// What the pool works with.
fn work_settings(
    log: &dyn Log,
    settings: &Arc<EngineSettings>,
    source: &Source,
    folder: &OutputFolder,
    code: &UserCode,
    listeners: &Listeners,
) -> Result<WorkSettings, EngineError> {
    let on_disk = |e| EngineError::output(&settings.output_dir, e);
    let needs = code.workers().needs();
    let may_be_together = settings.mode == Mode::Memory
        && needs.access != Access::Path
        && (settings.processing_timeout.is_none() || needs.tell_overdue.is_some());
    let together = if may_be_together { needs.together.max(1) } else { 1 };
    let open = || {
        InHand::open(folder.own(), &log.id()?, source, &settings.group, settings.threads * together).map_err(on_disk)
    };
    Ok(WorkSettings {
        run: Arc::clone(settings),
        topic: Arc::new(source_topic(log, source)?),
        facts: listeners.facts.clone(),
        in_hand: needs.may_end_the_process.then(open).transpose()?.map(Arc::new),
        needs,
        together,
        work_folder: SpillFolder::prepare(folder.work()).map_err(on_disk)?.path().to_owned(),
        output: Arc::new(Output::new(folder.known(), &listeners.facts)),
    })
}

/// How a file tells where it comes from.
fn source_topic(log: &dyn Log, source: &Source) -> Result<SourceTopic, EngineError> {
    let by_name: Arc<str> = format!("{}/{}", log.id()?, source.name).into();
    Ok(SourceTopic {
        name: Arc::clone(&source.name),
        id: match &source.id {
            Some(id) => format!("{}/{id}", log.id()?).into(),
            None => Arc::clone(&by_name),
        },
        by_name: source.id.is_some().then_some(by_name),
        own_files: log.own_files(),
    })
}

/// What each commit has to know.
fn commit_settings(
    log: &dyn Log,
    settings: &EngineSettings,
    source: Source,
    by: String,
) -> Result<CommitSettings, EngineError> {
    let dead_letters = settings.dead_letter_topic.as_deref().map(|name| log.topic_for_use(name)).transpose()?;
    Ok(CommitSettings {
        source,
        result_topic: settings.result_topic.clone(),
        dead_letters: dead_letters.map(DeadLetterTopic::from),
        group: settings.group.clone(),
        program: settings.program.clone(),
        processor_version: settings.processor_version.clone(),
        by,
    })
}

/// Where files are while they fill up.
fn filling(settings: &EngineSettings, folder: &OutputFolder, work: &WorkSettings) -> Result<Filling, EngineError> {
    // where all of the file is on disk as well, nobody takes its beginning away
    let is_followed = settings.mode == Mode::Memory && work.needs.access != Access::Path;
    let followers = work.needs.followers.clone().filter(|_| is_followed);
    let room = settings.followed_bytes();
    Ok(Filling {
        budget: Arc::default(),
        spill: SpillFolder::prepare(folder.filling()).map_err(|e| EngineError::output(&settings.output_dir, e))?,
        hash_ahead: HashAhead::start().map_err(EngineError::Thread)?,
        following: followers.map(|followers| Following { topic: Arc::clone(&work.topic), followers, room }),
    })
}
