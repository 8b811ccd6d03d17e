//! From the command line to the exit code.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Command, FromArgMatches};

use super::{Exit, ReproducerArgs, SetUpError, accept_dashes, console, exit};
use crate::engine::{self, Control, Summary};
use crate::process::{DataFileStreamReproducer, MetadataJson, MetadataJsonReproducer, ProcessingError};
use crate::report::heartbeat::ProgramKind;
use crate::report::{self, Counters};

/// Marks a [`DataFileStreamReproducer`] as [`Runnable`].
#[derive(Debug)]
pub enum ReproducerKind {}

/// Marks a [`MetadataJsonReproducer`] as [`Runnable`].
#[derive(Debug)]
pub enum MetadataKind {}

/// For programs without options of their own.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct NoArguments {}

/// What can run as a program. Everything that implements [`DataFileStreamReproducer`] or
/// [`MetadataJsonReproducer`] does; `Kind` only tells the two apart and is never written.
pub trait Runnable<Kind>: Sized + 'static {
    /// The engine's view of it.
    fn into_reproducer(self) -> Arc<dyn DataFileStreamReproducer>;

    /// Reads the command line, runs until the program is told to stop, and answers the exit code (see
    /// [`Exit`]).
    fn run_from_command_line(self) -> ExitCode {
        Self::run_with_arguments(|_: NoArguments| Ok(self))
    }

    /// As [`run_from_command_line`](Self::run_from_command_line), with options of the program's own:
    /// `A` is a struct that derives `clap::Args`, from which `make` makes the reproducer.
    fn run_with_arguments<A: Args>(make: impl FnOnce(A) -> Result<Self, ProcessingError>) -> ExitCode {
        let name = name_of::<Self>();
        let command = Command::new(name)
            .about("Runs a function on every file of a topic and sends what it computes to another topic.");
        let command = accept_dashes(A::augment_args(ReproducerArgs::augment_args(command)));
        let matches = command.get_matches();
        let parsed =
            ReproducerArgs::from_arg_matches(&matches).and_then(|ours| Ok((ours, A::from_arg_matches(&matches)?)));
        let (ours, theirs) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => error.exit(),
        };
        match make(theirs) {
            Ok(reproducer) => run_reproducer(&ours, name, reproducer.into_reproducer()).into(),
            Err(error) => {
                eprintln!("error: {error}");
                Exit::SetUp.into()
            }
        }
    }
}

impl<T: DataFileStreamReproducer> Runnable<ReproducerKind> for T {
    fn into_reproducer(self) -> Arc<dyn DataFileStreamReproducer> {
        Arc::new(self)
    }
}

impl<T: MetadataJsonReproducer> Runnable<MetadataKind> for T {
    fn into_reproducer(self) -> Arc<dyn DataFileStreamReproducer> {
        Arc::new(MetadataJson(self))
    }
}

/// The last part of a type's name, without its parameters.
fn name_of<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

/// Runs a reproducer with the given options until it is told to stop by the console or a signal, the
/// end is reached (where asked), or it cannot go on. Prints a summary.
pub fn run_reproducer(args: &ReproducerArgs, program: &str, reproducer: Arc<dyn DataFileStreamReproducer>) -> Exit {
    match start(args, program, reproducer) {
        Ok(Ok(summary)) => {
            eprintln!("{summary}");
            if summary.is_clean() { Exit::Done } else { Exit::SomeFailed }
        }
        Ok(Err(error)) => {
            eprintln!("error: {}", report::chain(&error));
            exit::of_engine_error(&error)
        }
        Err(error) => {
            eprintln!("error: {}", report::chain(&error));
            Exit::SetUp
        }
    }
}

fn start(
    args: &ReproducerArgs,
    program: &str,
    reproducer: Arc<dyn DataFileStreamReproducer>,
) -> Result<Result<Summary, engine::EngineError>, SetUpError> {
    let config = args.common.load_config()?;
    let settings = args.engine_settings(program, &config)?;
    let log_file = ReproducerArgs::log_file(program, &settings.output_dir);
    let logging = args.common.start_logging(&config, Some(log_file))?;
    let log = args.common.open_log(&config)?;
    let counters = Arc::new(Counters::default());
    let _reporting =
        args.common.start_reporting(logging, program, ProgramKind::Reproducer, &config, &log, &counters)?;
    let control = Arc::new(Control::default());
    console::steer(&control)?;
    tracing::info!(log = log.name(), topic = %settings.topic, result_topic = %settings.result_topic,
        group = %settings.group, output_dir = %settings.output_dir.display(), "started");
    Ok(engine::run(&log, &settings, reproducer, &control, &counters))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Inner<T>(std::marker::PhantomData<T>);

    #[test]
    fn a_program_is_named_after_its_type() {
        assert_eq!(name_of::<NoArguments>(), "NoArguments");
        assert_eq!(name_of::<Inner<Vec<u8>>>(), "Inner");
    }
}
