//! The command lines of programs in Python: those of Rust programs, and what Python programs have besides.

use std::ffi::OsString;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _};
use datamill::program::{
    ConsumerArgs, Prepared, ProcessorArgs, ProgramArgs, ReproducerArgs, SetUpError, accept_dashes, command_line,
};
use datamill::report::chain;
use datamill_cli::{IsolateArgs, Sending, UploadArgs, WatchArgs};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::{self, Speech};
use crate::to_json::Nan;

/// The options of a program.
pub enum Options {
    Reproducer(Box<ReproducerArgs>, Nan, IsolateArgs),
    Processor(Box<ProcessorArgs>, IsolateArgs),
}

impl Options {
    /// Reads the words of a command line, without the program's name.
    pub fn parse(py: Python<'_>, kind: &str, name: &str, words: Vec<OsString>, speech: &Speech) -> PyResult<Self> {
        let matches = matches(py, kind, name, words, speech)?;
        let isolation = IsolateArgs::from_arg_matches(&matches);
        let parsed = isolation.and_then(|isolation| {
            if kind == "reproducer" {
                let nan = matches.get_one::<Nan>("nan").copied().unwrap_or_default();
                ReproducerArgs::from_arg_matches(&matches).map(|args| Self::Reproducer(Box::new(args), nan, isolation))
            } else {
                ProcessorArgs::from_arg_matches(&matches).map(|args| Self::Processor(Box::new(args), isolation))
            }
        });
        parsed.map_err(|error| refused(py, &error, speech))
    }

    pub fn consumer(&self) -> &ConsumerArgs {
        match self {
            Self::Reproducer(args, ..) => args.consumer(),
            Self::Processor(args, _) => args.consumer(),
        }
    }

    pub fn consumer_mut(&mut self) -> &mut ConsumerArgs {
        match self {
            Self::Reproducer(args, ..) => &mut args.consumer,
            Self::Processor(args, _) => &mut args.consumer,
        }
    }

    /// What NaN becomes in the dictionaries that are results.
    pub fn nan(&self) -> Nan {
        match self {
            Self::Reproducer(_, nan, _) => *nan,
            Self::Processor(..) => Nan::default(),
        }
    }

    /// Whether the function runs in processes of its own.
    pub fn isolation(&self) -> &IsolateArgs {
        match self {
            Self::Reproducer(_, _, isolation) | Self::Processor(_, isolation) => isolation,
        }
    }

    pub fn has_results(&self) -> bool {
        matches!(self, Self::Reproducer(..))
    }

    /// Sets the program of this name up.
    pub fn prepare(&self, name: &str) -> Result<Prepared, SetUpError> {
        match self {
            Self::Reproducer(args, ..) => Prepared::new(args.as_ref(), name),
            Self::Processor(args, _) => Prepared::new(args.as_ref(), name),
        }
    }
}

/// What is sent, by the words of a command line without the program's name.
pub fn sending(py: Python<'_>, kind: &str, name: &str, words: Vec<OsString>, speech: &Speech) -> PyResult<Sending> {
    let matches = matches(py, kind, name, words, speech)?;
    let parsed = if kind == "watch" {
        WatchArgs::from_arg_matches(&matches).map(WatchArgs::into_sending)
    } else {
        UploadArgs::from_arg_matches(&matches).map(UploadArgs::into_sending)
    };
    let sending = parsed.map_err(|error| refused(py, &error, speech))?;
    sending.map_err(|error| errors::set_up(py, speech.of(py, chain(error.as_ref()))))
}

/// The words of a command line as the options of a kind of programs.
fn matches(py: Python<'_>, kind: &str, name: &str, words: Vec<OsString>, speech: &Speech) -> PyResult<ArgMatches> {
    let words = std::iter::once(OsString::from(name)).chain(words);
    command(kind, name)?.try_get_matches_from(words).map_err(|error| refused(py, &error, speech))
}

/// What is wrong with a command line, or the text that it asks for.
fn refused(py: Python<'_>, error: &clap::Error, speech: &Speech) -> PyErr {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => errors::raised(py, "Help", (error.to_string(),)),
        _ => {
            let text = error.to_string().trim_start_matches("error: ").trim_end().to_owned();
            errors::set_up(py, speech.of(py, text))
        }
    }
}

/// The command line of a kind of programs.
fn command(kind: &str, name: &str) -> PyResult<Command> {
    let named = || Command::new(name.to_owned());
    Ok(accept_dashes(match kind {
        "reproducer" => reproducer(name),
        "processor" => IsolateArgs::augment_args(command_line::<ProcessorArgs>(name)),
        "upload" => UploadArgs::augment_args(named()),
        "watch" => WatchArgs::augment_args(named()),
        _ => {
            let text = format!("`{kind}` is no kind of program: write `reproducer`, `processor`, `upload` or `watch`");
            return Err(PyValueError::new_err(text));
        }
    }))
}

/// The command line of a reproducer. Its results are dictionaries of Python, so it has an option for them.
fn reproducer(name: &str) -> Command {
    let words = PossibleValuesParser::new(["null", "error", "python"]).try_map(|word| word.parse::<Nan>());
    let nan = Arg::new("nan").long("nan").value_name("WORD").value_parser(words).default_value("null");
    IsolateArgs::augment_args(command_line::<ReproducerArgs>(name)).arg(nan.help(
        "What NaN and the infinities become in dictionaries: `null`, a failure of the file, or the words of Python, which \
         are not JSON",
    ))
}

/// The options of a kind of programs: a dictionary for each, with `name`, `names` (as they are written), `takes_value`,
/// `metavar`, `help`, `heading` and `hidden`.
#[pyfunction]
pub fn options<'py>(py: Python<'py>, kind: &str) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let mut command = command(kind, "program")?;
    command.build();
    let is_ours = |arg: &&Arg| !arg.is_positional() && !matches!(arg.get_id().as_str(), "help" | "version");
    command.get_arguments().filter(is_ours).map(|arg| described(py, arg)).collect()
}

fn described<'py>(py: Python<'py>, arg: &Arg) -> PyResult<Bound<'py, PyDict>> {
    let option = PyDict::new(py);
    let long = arg.get_long().unwrap_or_default();
    let names = std::iter::once(long).chain(arg.get_all_aliases().unwrap_or_default());
    option.set_item("name", long.replace('-', "_"))?;
    option.set_item("names", names.map(|name| format!("--{name}")).collect::<Vec<_>>())?;
    option.set_item("takes_value", !matches!(arg.get_action(), ArgAction::SetTrue))?;
    option.set_item("metavar", arg.get_value_names().and_then(|names| names.first()).map(|name| name.to_string()))?;
    let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults = arg.get_default_values();
    if let Some(default) = defaults.first().filter(|_| !matches!(arg.get_action(), ArgAction::SetTrue)) {
        help = format!("{help} [default: {}]", default.to_string_lossy());
    }
    option.set_item("help", help)?;
    option.set_item("heading", arg.get_help_heading())?;
    option.set_item("hidden", arg.is_hide_set())?;
    Ok(option)
}
