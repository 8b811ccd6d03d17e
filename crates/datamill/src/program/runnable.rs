//! From the command line to the exit code.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Command};

use super::{
    AtOnce, EXIT_CODES, Exit, Prepared, ProcessorArgs, ProgramArgs, ReproducerArgs, SetUpError, accept_dashes, console,
    why,
};
use crate::engine::Control;
use crate::process::{
    DataFileStreamProcessor, DataFileStreamReproducer, MetadataJson, MetadataJsonReproducer, ProcessingError, UserCode,
};
use crate::report::logging::{say, say_error};

/// Marks a [`DataFileStreamReproducer`] as [`Runnable`].
#[derive(Debug)]
pub enum ReproducerKind {}

/// Marks a [`MetadataJsonReproducer`] as [`Runnable`].
#[derive(Debug)]
pub enum MetadataKind {}

/// Marks a [`DataFileStreamProcessor`] as [`Runnable`].
#[derive(Debug)]
pub enum ProcessorKind {}

/// The options of a program that has none of its own.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct NoArguments {}

/// What can run as a program. Everything that implements [`DataFileStreamReproducer`],
/// [`MetadataJsonReproducer`] or [`DataFileStreamProcessor`] does; `Kind` only tells them apart and is
/// never written.
pub trait Runnable<Kind>: Sized + 'static {
    /// The options that its programs share.
    type Options: ProgramArgs;

    /// The engine's view of it.
    fn into_user_code(self) -> UserCode;

    /// Reads the command line, runs until the program is told to stop, and answers the exit code (see
    /// [`Exit`]).
    fn run_from_command_line(self) -> ExitCode {
        Self::run_with_arguments(|_: NoArguments| Ok(self))
    }

    /// As [`run_from_command_line`](Self::run_from_command_line), with options of the program's own:
    /// `A` is a struct that derives `clap::Args`, from which `make` makes the user's code.
    fn run_with_arguments<A: Args>(make: impl FnOnce(A) -> Result<Self, ProcessingError>) -> ExitCode {
        run_as(None, make)
    }

    /// As [`run_with_arguments`](Self::run_with_arguments), for a program that tells its version, which each result then
    /// names: `Lines::run_as_version(env!("CARGO_PKG_VERSION"), |_: NoArguments| Ok(Lines))`.
    fn run_as_version<A: Args>(
        version: &'static str,
        make: impl FnOnce(A) -> Result<Self, ProcessingError>,
    ) -> ExitCode {
        run_as(Some(version), make)
    }
}

fn run_as<K, T: Runnable<K>, A: Args>(
    version: Option<&'static str>,
    make: impl FnOnce(A) -> Result<T, ProcessingError>,
) -> ExitCode {
    let name = name_of::<T>();
    let mut command = command(name, T::Options::ABOUT);
    if let Some(version) = version {
        command = command.version(format!("{version} {WITH}"));
    }
    let (ours, theirs) = match parse::<T::Options, A>(command, std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => error.exit(),
    };
    match make(theirs) {
        Ok(code) => {
            let mut code = code.into_user_code();
            if let Some(version) = version {
                code = code.with_version(version);
            }
            run_program(&ours, name, code).into()
        }
        Err(error) => {
            say(format_args!("error: {error}"));
            Exit::SetUp.into()
        }
    }
}

/// What `--version` says of the library.
const WITH: &str = concat!("with datamill ", env!("CARGO_PKG_VERSION"));

/// The command line of a program of this name: the options that its kind shares, its help and its version. Options of
/// its own may be added, and [`accept_dashes`] comes last.
pub fn command_line<O: ProgramArgs>(name: impl Into<String>) -> Command {
    let command = command(name, O::ABOUT);
    let about = command.get_about().cloned();
    O::augment_args(command).about(about.unwrap_or_default()).long_about(None)
}

fn command(name: impl Into<String>, about: &str) -> Command {
    let name = name.into();
    let about = format!("{name}: {about}");
    let after = format!(
        "Without a configuration file, the topics are in the file `datamill.db` of this folder, which the first upload \
        makes. While the program runs, type `c` for the counts and `q` to stop.\n\n{EXIT_CODES}"
    );
    Command::new(name).about(about).after_help(after).version(WITH)
}

/// Our options and theirs. What their struct says of itself is not about the program.
fn parse<O: Args, A: Args>(command: Command, args: impl IntoIterator<Item = OsString>) -> Result<(O, A), clap::Error> {
    let (name, about) = (command.get_name().to_owned(), command.get_about().cloned());
    let mut command = O::augment_args(command).next_help_heading(format!("Options of {name}"));
    command = A::augment_args(command).about(about.unwrap_or_default()).long_about(None);
    let matches = accept_dashes(command).try_get_matches_from(args)?;
    Ok((O::from_arg_matches(&matches)?, A::from_arg_matches(&matches)?))
}

impl<T: DataFileStreamReproducer> Runnable<ReproducerKind> for T {
    type Options = ReproducerArgs;

    fn into_user_code(self) -> UserCode {
        UserCode::reproducer(self)
    }
}

impl<T: MetadataJsonReproducer> Runnable<MetadataKind> for T {
    type Options = ReproducerArgs;

    fn into_user_code(self) -> UserCode {
        UserCode::reproducer(MetadataJson(self))
    }
}

impl<T: DataFileStreamProcessor> Runnable<ProcessorKind> for T {
    type Options = ProcessorArgs;

    fn into_user_code(self) -> UserCode {
        UserCode::processor(self)
    }
}

/// The last part of a type's name, without its parameters.
fn name_of<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let name = name.split('<').next().unwrap_or(name);
    name.rsplit("::").next().unwrap_or(name)
}

/// Runs user code with the given options until it is told to stop by the console or a signal, the end is
/// reached (where asked), or it cannot go on. Prints a summary.
pub fn run_program(args: &impl ProgramArgs, program: &str, code: UserCode) -> Exit {
    run(args, program, code).unwrap_or_else(|error| {
        say_error(why(&error));
        Exit::of_refusal(&error)
    })
}

fn run(args: &impl ProgramArgs, program: &str, code: UserCode) -> Result<Exit, SetUpError> {
    let prepared = Prepared::new(args, program)?;
    let control = Arc::new(Control::default());
    console::steer(&control, args.consumer().exit_at_end, AtOnce::GoesOn)?;
    Ok(match prepared.run(code, &control) {
        Ok(summary) => {
            match &summary {
                Some(summary) if io::stderr().is_terminal() => say(format_args!("{summary:#}")),
                Some(summary) => say(summary),
                None => {}
            }
            Exit::of_summary(summary.as_ref())
        }
        Err(error) => {
            say_error(why(&error));
            Exit::of_error(&error)
        }
    })
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

    /// What this says is not about the program
    #[derive(Debug, clap::Args)]
    struct Theirs {
        /// Least angle
        #[arg(long = "least_angle", default_value_t = 5.0)]
        least_angle: f64,
    }

    fn parsed(args: &[&str]) -> Result<(ReproducerArgs, Theirs), clap::Error> {
        parse(command("Xrd", ReproducerArgs::ABOUT), ["xrd"].iter().chain(args).map(OsString::from))
    }

    #[test]
    fn options_of_the_program_stand_beside_ours() {
        let topics = ["--consumer_topic_name", "t", "--producer_topic_name", "r"];
        let (ours, theirs) = parsed(&[&topics[..], &["--least-angle", "7"]].concat()).unwrap();
        assert_eq!((ours.consumer_topic_name.as_deref(), theirs.least_angle), (Some("t"), 7.0));
        let error = parsed(&["--consumer_topic_name", "t"]).unwrap_err().to_string();
        assert!(error.contains("--producer_topic_name <TOPIC>"), "{error}");
        let error = parsed(&[&topics[..], &["--consumer_group_id", " "]].concat()).unwrap_err().to_string();
        assert!(error.contains("the name is empty"), "{error}");
    }

    #[test]
    fn help_is_about_the_program_and_names_its_options() {
        let help = parsed(&["--help"]).unwrap_err().to_string();
        assert!(help.starts_with("Xrd: runs a function on every file"), "{help}");
        assert!(help.contains("Options of Xrd:\n      --least_angle"), "{help}");
        assert!(!help.contains("not about the program"), "{help}");
        let topics = help.find("--consumer_topic_name").unwrap();
        assert!(topics < help.find("--config").unwrap(), "{help}");
    }
}
