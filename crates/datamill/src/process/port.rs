//! The port: how the engine runs user code, whatever language that is written in.
//!
//! ```text
//!  engine: pool ──body──▶ Workers::spawn ──▶ a thread runs the body:
//!
//!                           Workers::start ──▶ Worker: run(file, call), run(file, call), … ──▶ stop
//!                                 │ error
//!                                 ▼
//!                           the program ends before it has read anything
//! ```
//!
//! The engine keeps everything that is not the code's own: attempts and the waits between them, code that is not
//! available, panics, the time limit, the memory, and which file ended the process. [`UserCode::reproducer`](super::UserCode::reproducer) and its likes
//! are adapters from the traits that users write to this port.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::{Call, ProcessingError, ReproducerMessage};
use crate::assemble::{DownloadDataFile, Followers};

/// User code that gives each thread of the pool a worker of its own.
///
/// ```no_run
/// use datamill::prelude::*;
/// use datamill::process::{
///     Access, Call, Clock, Needs, ThreadBody, UserCode, Worker, WorkerThread, Workers, spawn_thread,
/// };
/// # struct Connection;
/// # impl Connection {
/// #     fn open() -> Result<Self, ProcessingError> { Ok(Self) }
/// #     fn load(&self, _: &std::path::Path) -> Result<u64, ProcessingError> { Ok(0) }
/// #     fn close(self) {}
/// # }
///
/// /// Loads each file into a database, by one connection for each thread.
/// struct Loader;
///
/// impl Workers for Loader {
///     fn needs(&self) -> Needs {
///         Needs::new(Access::Path, Clock::AtOnce)
///     }
///
///     fn spawn(&self, name: &str, body: ThreadBody) -> std::io::Result<Box<dyn WorkerThread>> {
///         spawn_thread(name, body)
///     }
///
///     fn start(&self) -> Result<Box<dyn Worker>, ProcessingError> {
///         Ok(Box::new(Load(Connection::open()?)))
///     }
/// }
///
/// struct Load(Connection);
///
/// impl Worker for Load {
///     fn run(&mut self, file: &DownloadDataFile, call: &Call<'_>) -> Result<Option<ReproducerMessage>, ProcessingError> {
///         let rows = self.0.load(call.path(file)?)?;
///         Ok(Some(ReproducerMessage::new(rows.to_string())))
///     }
///
///     fn stop(self: Box<Self>) {
///         self.0.close();
///     }
/// }
///
/// let code = UserCode::new(Loader);
/// ```
///
/// Implementations MUST be usable from several threads at once: workers start at the same time.
pub trait Workers: Send + Sync + 'static {
    /// What the code needs. Asked once, before the first worker starts. MUST NOT block.
    fn needs(&self) -> Needs;

    /// Makes a thread that runs `body`, once and to its end. The name tells the thread from others of the pool.
    ///
    /// Code that must not run on the engine's own threads makes its threads here; all other code answers with
    /// [`spawn_thread`]. A thread that runs the body MUST run nothing else at the same time. MUST NOT wait for the
    /// body: the thread that reads the topic asks for a new worker where one was given up. SHOULD answer an error
    /// where the thread cannot be made; the program ends then.
    ///
    /// # Errors
    /// The thread cannot be made.
    fn spawn(&self, name: &str, body: ThreadBody) -> io::Result<Box<dyn WorkerThread>>;

    /// Makes the worker of the thread that calls this, before its first file. What takes long or can be missing (a
    /// connection, a model, an import) SHOULD be made here and not at the first file.
    ///
    /// # Errors
    /// The code cannot run. Whatever the [`kind`](ProcessingError::kind) of the error, the program ends with its text,
    /// before anything is read. So does a panic. Workers that have started are stopped.
    fn start(&self) -> Result<Box<dyn Worker>, ProcessingError>;
}

/// User code on one thread of the pool. All its methods are called on the thread that started it.
pub trait Worker {
    /// Runs the code for one file.
    ///
    /// The answer is a message exactly if the program has a topic for results; any other answer is a failure of the
    /// file. The file may have been processed before, where a crash came between the end of this call and its commit:
    /// effects of the code outside of the answer MUST bear that.
    ///
    /// With [`Clock::WhenSaid`], [`Call::begin`] MUST be called when the code begins with the file. `file` and `call`
    /// may be lent to other threads until this returns. After [`Call::is_given_up`] the answer is dropped; this SHOULD
    /// return soon then, and it is not called again.
    ///
    /// # Errors
    /// The [`kind`](ProcessingError::kind) says what happens: the file fails and may have another attempt, the program
    /// holds and tries again, or it stops. A panic is a failure of the file, and the worker goes on with the next one:
    /// it MUST stay usable.
    fn run(&mut self, file: &DownloadDataFile, call: &Call<'_>) -> Result<Option<ReproducerMessage>, ProcessingError>;

    /// The worker as one that has several small files at once. Asked where [`Needs::with_small_files_together`] says so.
    fn several(&mut self) -> Option<&mut dyn Several> {
        None
    }

    /// Ends the worker, after its last file. Called once, also where calls have panicked, and for a worker that was
    /// given up when its call returns after all. It is not called where that call never returns, and where the process
    /// is killed. A program that stops waits for it at most as long as for user code that runs. What it has to keep
    /// SHOULD be kept in [`run`](Self::run): a file may be committed before.
    fn stop(self: Box<Self>);
}

/// A worker that hands files on, to threads of its own, and waits for their answers: that several small files wait
/// together costs one change of threads for all of them.
pub trait Several {
    /// Takes a file. Its answer comes from [`answers`](Self::answers); it has this `place` until then.
    ///
    /// # Errors
    /// As those of [`Worker::run`]: this is the answer then.
    fn begin(&mut self, place: usize, file: &DownloadDataFile, call: &Call<'_>) -> Result<(), ProcessingError>;

    /// Waits for answers, of at least one file that has begun, and gives them with the places. It SHOULD wait until all
    /// are there, but not for long: the outcome of a file is not to wait for another one that takes its time. A panic
    /// fails all files whose answers are missing.
    fn answers(&mut self, together: &dyn Together) -> Vec<(usize, Answer)>;
}

/// What the code made of a file. See [`Worker::run`].
pub type Answer = Result<Option<ReproducerMessage>, ProcessingError>;

/// The files that a worker has begun with and not answered, by their places.
pub trait Together {
    /// See [`Call::path`].
    ///
    /// # Errors
    /// The file cannot be written; no file has this place.
    fn path(&self, place: usize) -> Result<PathBuf, ProcessingError>;

    /// See [`Call::is_given_up`].
    fn is_given_up(&self, place: usize) -> bool;

    /// See [`Call::is_stopping`].
    fn is_stopping(&self) -> bool;
}

/// The life of a worker, from its start to its stop.
pub type ThreadBody = Box<dyn FnOnce() + Send + 'static>;

/// A thread that runs a [`ThreadBody`].
pub trait WorkerThread: Send {
    /// Whether the thread has ended, or has at least returned from the body; not before it has begun. MUST NOT block.
    fn has_ended(&self) -> bool;
}

impl WorkerThread for JoinHandle<()> {
    fn has_ended(&self) -> bool {
        self.is_finished()
    }
}

/// A thread of the operating system for [`Workers::spawn`].
///
/// # Errors
/// The thread cannot be made.
pub fn spawn_thread(name: &str, body: ThreadBody) -> io::Result<Box<dyn WorkerThread>> {
    Ok(Box::new(std::thread::Builder::new().name(name.to_owned()).spawn(body)?))
}

/// How user code gets at the content of a file. The option `--mode` says what else there is and what stays in the
/// output folder; it cannot take away what the code needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// By its bytes: they stay in memory during the call, unless the file had no room there.
    Bytes,
    /// By a path: in every mode, the file is on disk during the call, with its name and suffix, in a folder of its
    /// own.
    Path,
    /// By whatever the mode gives. [`Call::path`] gives a path in every mode.
    #[default]
    Either,
}

/// When the time of `--processing_timeout` begins for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// With the call.
    #[default]
    AtOnce,
    /// When the code says so with [`Call::begin`]: a file that waits for its turn does not fail because another one
    /// hangs.
    WhenSaid,
}

/// Is told of calls that are overdue before they end the program.
#[derive(Clone)]
pub(crate) struct TellOverdue(pub(crate) Arc<Tell>);

type Tell = dyn Fn(&[Arc<str>]) + Send + Sync;

impl fmt::Debug for TellOverdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TellOverdue")
    }
}

/// Is told of files that are not what was uploaded.
#[derive(Clone)]
pub(crate) struct TellMismatch(pub(crate) Arc<dyn Fn(&DownloadDataFile) + Send + Sync>);

impl fmt::Debug for TellMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TellMismatch")
    }
}

/// What user code needs of the engine.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    pub(crate) access: Access,
    pub(crate) clock: Clock,
    pub(crate) public_names: bool,
    /// Small files that a worker has at once, at most.
    pub(crate) together: usize,
    /// The code may take the process down.
    pub(crate) may_end_the_process: bool,
    /// A call that is overdue ends the program; this is told of it first.
    pub(crate) tell_overdue: Option<TellOverdue>,
    /// The code ends a call that is overdue.
    pub(crate) ends_overdue_calls: bool,
    /// This is told of a file whose content has another hash than its uploader's.
    pub(crate) tell_mismatch: Option<TellMismatch>,
    /// Who takes large files before they are whole. The code gets each file in any case.
    pub(crate) followers: Option<Arc<dyn Followers>>,
}

impl Needs {
    /// These.
    pub fn new(access: Access, clock: Clock) -> Self {
        Self { access, clock, ..Self::default() }
    }

    /// In modes `disk` and `both`, a file has its name in the output folder while the code runs, and not only once its
    /// outcome is committed: for code that looks for its file there, and for the files beside it. A file that failed in an
    /// earlier run, and is tried again, does not take the place of one that is there.
    pub fn with_public_names(self) -> Self {
        Self { public_names: true, ..self }
    }

    /// Lets a worker have so many small files at once, where it is one for [`Several`]. Files have to be in memory for
    /// that (mode `memory`, and no [`Access::Path`]), and their time either has no limit, or
    /// [ends the program](Self::ends_the_program_when_overdue).
    pub fn with_small_files_together(self, files: usize) -> Self {
        Self { together: files, ..self }
    }

    /// Says that the code may take the process down: by a crash in a library, by using up the memory, by an exit.
    ///
    /// The engine then writes down which files the code has in hand, in `.datamill` of the output folder: from the
    /// start of a call to its end, with [`Clock::WhenSaid`] from [`Call::begin`]. After the process has died, the next
    /// start tries these files one at a time while nothing else runs, so that the one that kills is found. Each such
    /// end counts as an attempt of that file. With `--max_attempts` of them, two at least, it has failed. That costs two
    /// small writes for each file, which are not brought to the disk.
    pub fn may_end_the_process(self) -> Self {
        Self { may_end_the_process: true, ..self }
    }

    /// Says that a call cannot be given up while the process goes on, as where threads share one interpreter. With
    /// `--processing_timeout`, a call that is overdue ends the program with exit code 5, and counts as
    /// [`may_end_the_process`](Self::may_end_the_process) says, which this includes.
    ///
    /// `tell` gets the paths of the files whose calls are overdue, once, before the program ends: it may print where
    /// the code hangs. It runs on a thread of its own, and is waited for at most five seconds, since it may need what
    /// the code holds. What else is in hand is waited for as at any stop; calls that have not begun, as
    /// [`Clock::WhenSaid`] has them, are given up.
    pub fn ends_the_program_when_overdue(self, tell: impl Fn(&[Arc<str>]) + Send + Sync + 'static) -> Self {
        Self { tell_overdue: Some(TellOverdue(Arc::new(tell))), ..self.may_end_the_process() }
    }

    /// Says that the code ends a call by itself once [`Call::deadline`] has passed, and answers with an error: an attempt
    /// that failed, as any other. So no call is given up, and exit code 5 does not occur. A worker that does not keep
    /// this holds its file, and its thread, for ever.
    pub fn ends_overdue_calls(self) -> Self {
        Self { ends_overdue_calls: true, ..self }
    }

    /// Lets `tell` have files whose SHA-512 is not the uploader's, which have failed and never reach a worker. It gets the
    /// content as it arrived. It runs on the thread of a worker, before the failure is recorded, and for the same file
    /// again where that is tried again or a crash came in between.
    pub fn tells_mismatches(self, tell: impl Fn(&DownloadDataFile) + Send + Sync + 'static) -> Self {
        Self { tell_mismatch: Some(TellMismatch(Arc::new(tell))), ..self }
    }

    /// Lets these take large files while their chunks still come.
    #[cfg(feature = "object-store")]
    pub(crate) fn followed_by(self, followers: Arc<dyn Followers>) -> Self {
        Self { followers: Some(followers), ..self }
    }
}
