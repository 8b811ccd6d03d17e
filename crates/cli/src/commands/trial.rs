//! `datamill try FILE … -- COMMAND`: any program of a user on local files.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use datamill::engine::Control;
use datamill::process::{Answer, ErrorKind, Trial};
use datamill::program::{AtOnce, Exit, heed_signals};
use datamill::report::logging::{self, LogOptions, say};
use datamill::report::text::{bytes, chain, counted};
use datamill_workers::CommandSettings;

/// What a program adds to a result at most: its key and its headers.
const ADDED: usize = 4_096;
/// What a topic of Kafka takes unless it is set otherwise, and one of the embedded log, in bytes.
const KAFKA_TAKES: usize = 1_048_588 - ADDED;
const EMBEDDED_TAKES: usize = datamill::broker::LARGEST_EMBEDDED - ADDED;

/// How often it is looked at whether somebody wants to stop, while a worker begins.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A command, and the local files that it is to run on.
#[derive(Debug)]
pub(crate) struct TrialCall {
    pub(crate) settings: CommandSettings,
    pub(crate) processing_timeout: Option<Duration>,
    pub(crate) files: Vec<PathBuf>,
}

/// How many files ended how.
#[derive(Debug, Default)]
struct Counts {
    results: usize,
    without: usize,
    failed: usize,
    held: usize,
}

impl TrialCall {
    /// Runs it on one file after the other.
    ///
    /// # Errors
    /// A command that cannot be used, or a file that is not there.
    pub(crate) fn run(self) -> anyhow::Result<Exit> {
        for file in &self.files {
            if file.is_dir() {
                bail!("`{}` is a folder: name the files in it", file.display());
            }
            if !file.exists() {
                bail!("there is no file `{}`: check the path", file.display());
            }
        }
        let ends_within = self.settings.shutdown_timeout;
        let (_, code) = self.settings.into_user_code()?;
        let _log = logging::init(LogOptions::default())?;
        let control = Arc::new(Control::default());
        control.say_at_stop(format!(
            "stopping; what runs is ended after {} s. A second signal ends the program at once",
            ends_within.as_secs()
        ));
        heed_signals(&control, AtOnce::LookedOnly).context("cannot set up threads and signals")?;
        let (told, heard) = sync_channel(1);
        let on_thread = (self.files, self.processing_timeout, Arc::clone(&control));
        let thread = thread::Builder::new().name("datamill-try".to_owned()).spawn(move || {
            let (files, processing_timeout, control) = on_thread;
            let trial = Trial::start(&code, processing_timeout, &control).map_err(|error| anyhow!("{error}"))?;
            let _ = told.send(());
            run_on(trial, &files, &control)
        });
        let thread = thread.context("cannot start a thread")?;
        loop {
            match heard.recv_timeout(LOOK_EVERY) {
                // the end of this process ends a worker that has not begun
                Err(RecvTimeoutError::Timeout) if control.stopping().is_some() => return Ok(Exit::AtOnce),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Runs it on one file after the other.
fn run_on(mut trial: Trial, files: &[PathBuf], control: &Control) -> anyhow::Result<Exit> {
    let mut counts = Counts::default();
    for file in files {
        let begun = Instant::now();
        let answer = tracing::error_span!("work", file = %file.display()).in_scope(|| trial.run(file));
        if control.stopping().is_some() {
            break;
        }
        let goes_on = match answer {
            Ok(answer) => counts.take(file, answer, begun.elapsed()),
            Err(error) => Ok(counts.fail(file, &format!("cannot be read: {}", chain(&error)))),
        };
        match goes_on {
            Ok(true) => {}
            Ok(false) => break,
            // who read the results has had enough
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            Err(error) => return Err(error).context("a result cannot be printed"),
        }
    }
    trial.end();
    let is_whole = counts.tell(files.len());
    Ok(match (control.stopping(), is_whole) {
        (Some(_), _) => Exit::AtOnce,
        (None, true) => Exit::Done,
        (None, false) => Exit::SomeFailed,
    })
}

impl Counts {
    /// Says what came of a file. Answers whether a program would go on. Errors: a result cannot be printed.
    fn take(&mut self, file: &Path, answer: Answer, took: Duration) -> io::Result<bool> {
        let (name, took) = (file.display(), format!("{:.3} s", took.as_secs_f64()));
        let error = match answer {
            Ok(Some(message)) => return self.succeed(file, message.value(), &took),
            Ok(None) => {
                self.without += 1;
                say(format_args!("{name}: no result, in {took}"));
                return Ok(true);
            }
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::FileFailed => Ok(self.fail(file, &error.to_string())),
            ErrorKind::NotAvailable => {
                self.held += 1;
                say(format_args!("{name}: not available: {error}. A program holds here, and runs this file again"));
                Ok(true)
            }
            ErrorKind::Stop => {
                say(format_args!(
                    "{name}: stop: {error}. A program ends here with exit code 3, and its next start begins with this file"
                ));
                Ok(false)
            }
        }
    }

    fn fail(&mut self, file: &Path, why: &str) -> bool {
        self.failed += 1;
        say(format_args!("{}: failed: {why}", file.display()));
        true
    }

    fn succeed(&mut self, file: &Path, value: &[u8], took: &str) -> io::Result<bool> {
        let (name, size) = (file.display(), bytes(value.len() as u64));
        if value.len() > EMBEDDED_TAKES {
            let most = bytes(EMBEDDED_TAKES as u64);
            let why = format!("the result has {size}, and a topic of the embedded log takes {most}: write less");
            return Ok(self.fail(file, &why));
        }
        say(format_args!("{name}: {}, in {took}", counted(value.len() as u64, "byte")));
        if value.len() > KAFKA_TAKES {
            say(format_args!(
                "{name}: the result has {size}. The embedded log takes that; a topic of Kafka takes 1 MB, after compression, \
                 unless its `max.message.bytes` is larger"
            ));
        }
        self.results += 1;
        let mut out = io::stdout().lock();
        match str::from_utf8(value) {
            Ok(text) => writeln!(out, "{text}")?,
            Err(_) => writeln!(out, "({} that are not text)", counted(value.len() as u64, "byte"))?,
        }
        out.flush()?;
        Ok(true)
    }

    /// Says how many files ended how. Answers whether all went well.
    fn tell(&self, files: usize) -> bool {
        let Self { results, without, failed, held } = *self;
        let done = results + without + failed + held;
        if done > 1 {
            let parts = [
                (results, "with a result"),
                (without, "without a result"),
                (failed, "failed"),
                (held, "not available"),
            ];
            let parts: Vec<String> = parts
                .into_iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, what)| format!("{count} {what}"))
                .collect();
            say(parts.join(", "));
        }
        if without > 0 {
            say("a command without a result is one for `datamill process`; with `datamill reproduce`, the file fails");
        }
        if done < files {
            say(format_args!("error: {} of the files not done", files - done));
        }
        failed + held == 0 && done == files
    }
}
