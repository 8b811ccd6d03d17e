//! `datamill try`, `datamill reproduce` and `datamill process`: a Python function of a user, or any program.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use datamill::program::{EXIT_CODES, ProcessorArgs, ReproducerArgs};

use crate::commands::program::{CommandArgs, Held, IsolateArgs, LimitArgs, ProgramCall};
use crate::function::{FunctionCall, What, parted};

#[derive(Debug, Subcommand)]
pub(crate) enum FunctionCommand {
    Try(TryArgs),
    Reproduce(ReproduceArgs),
    Process(ProcessArgs),
}

/// Run a Python function or a command on local files, as it would run on the files of a topic
///
/// Each file is handed to the function as `datamill reproduce` and `datamill process` do it, and what the function returns
/// is made a result. For a result that is larger than 1 MB, it says which topics take it. Results are printed to stdout,
/// and the traceback of a function that fails to stderr. Nothing is sent or kept, and neither a broker nor a folder is
/// needed.
///
/// A command is any program, behind `--`, and all words before it are files. What it prints goes to stderr, unless --stdout
/// makes it the result.
#[derive(Debug, Args)]
#[command(after_help = AFTER_TRY, override_usage = USAGE_OF_TRY)]
pub(crate) struct TryArgs {
    #[command(flatten)]
    function: FunctionArgs,
    #[command(flatten)]
    json: JsonArgs,
    /// Files to run it on
    #[arg(required_unless_present = "command", value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    command: CommandArgs,
    /// The result is what the command prints, and not a file
    #[arg(long, requires = "command", conflicts_with = "worker", help_heading = "Commands")]
    stdout: bool,
    /// Seconds that the command may take for a file. One that takes longer is ended, and its file has failed. 0 is as long
    /// as it likes
    #[arg(
        long = "processing_timeout", value_name = "SECONDS", requires = "command", value_parser = time,
        help_heading = "Processes"
    )]
    processing_timeout: Option<Duration>,
    #[command(flatten)]
    limits: LimitArgs,
}

const USAGE_OF_TRY: &str = "datamill try [OPTIONS] <FILE.py:NAME> <FILE>...
       datamill try [OPTIONS] <FILE>... -- <COMMAND>...";

const AFTER_TRY: &str = "Examples:
  datamill try extract.py:metadata data/*.csv
  datamill try data/*.tif -- convert {path} -resize 50% {result}.png

with extract.py:
  def metadata(file):
      lines = file.bytestring.decode().splitlines()
      return {\"file\": file.filename, \"lines\": len(lines)}

Placeholders of commands and the meaning of their exit codes: datamill reproduce --help

Exit codes: 0 done, 1 the function failed for some files, 2 the command line is wrong or the function cannot be loaded, 130 \
left at once at a signal.";

fn time(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is expected".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "a number of seconds is expected, 0 or more".to_owned())
}

/// Run a Python function or a command on every file of a topic, and send its results to another topic
///
/// The function gets the whole file and returns its result: a dictionary, which becomes JSON, a text or bytes. A function
/// that raises an exception or returns None has failed for this file. It runs again, up to --max_attempts times; then the
/// failure is recorded and its traceback printed. Try the function with `datamill try` first.
///
/// A command is any program, behind `--`. It reads the file `{path}` and writes its result to the file `{result}`.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLE_OF_REPRODUCE}\n\n{PLACEHOLDERS}\n\n{EXIT_CODES}"))]
pub(crate) struct ReproduceArgs {
    #[command(flatten)]
    function: FunctionOrCommand,
    #[command(flatten)]
    json: JsonArgs,
    #[command(flatten)]
    command: CommandArgs,
    /// The result is what the command prints, and not a file
    #[arg(long, requires = "command", conflicts_with = "worker", help_heading = "Commands")]
    stdout: bool,
    #[command(flatten)]
    isolate: IsolateArgs,
    #[command(flatten)]
    reproducer: ReproducerArgs,
}

const EXAMPLE_OF_REPRODUCE: &str = "Examples:
  datamill reproduce extract.py:metadata --consumer_topic_name files --producer_topic_name metadata
  datamill reproduce --consumer_topic_name files --producer_topic_name results -- convert --in {path} --out {result}";

/// What stands in the help about commands.
const PLACEHOLDERS: &str = "In a command, {path}, {result} (of `reproduce`), {relative_path}, {filename}, {subdirectory}, {sha512}, \
    {size}, {topic}, {partition}, {offset} and {attempt} are replaced, inside of words as well. The environment has the same \
    as DATAMILL_PATH and so on. No shell reads the words. Exit code 0 of a command is done, 75 something is not available \
    now, 78 stop; with any other the file has failed. What a command leaves running is ended with it. docs/programs.md has \
    examples. With --worker the program is started once for each thread and gets one file after the other: docs/workers.md.";

/// Run a Python function or a command on every file of a topic, for what it does with the file
///
/// The function gets the whole file; it stores, converts or sends it, and returns None. A function that raises an exception
/// or returns something has failed for this file. It runs again, up to --max_attempts times; then the failure is recorded
/// and its traceback printed. After a crash it may run again for a file that it was done with. Try the function with
/// `datamill try` first.
///
/// A command is any program, behind `--`, which reads the file `{path}`.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLE_OF_PROCESS}\n\n{PLACEHOLDERS}\n\n{EXIT_CODES}"))]
pub(crate) struct ProcessArgs {
    #[command(flatten)]
    function: FunctionOrCommand,
    #[command(flatten)]
    command: CommandArgs,
    #[command(flatten)]
    isolate: IsolateArgs,
    #[command(flatten)]
    processor: ProcessorArgs,
}

const EXAMPLE_OF_PROCESS: &str = "Examples:
  datamill process store.py:store --topic_name files
  datamill process --topic_name files -- ./store.sh {path}";

#[derive(Debug, Args)]
struct FunctionArgs {
    /// The Python file and the name of the function in it. The name may be left out where the file has one public
    /// function. The folder of the file is searched for what it imports
    #[arg(value_name = "FILE.py:NAME")]
    function: OsString,
    /// Python that runs the function, with the package datamill: a program, or the folder of a virtual environment
    /// [default: this one where the command is the package's; otherwise the first that has the package of the active
    /// virtual environment and `python3`]
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
}

/// As [`FunctionArgs`], where a command may stand in its place.
#[derive(Debug, Args)]
struct FunctionOrCommand {
    /// The Python file and the name of the function in it. The name may be left out where the file has one public
    /// function. The folder of the file is searched for what it imports
    #[arg(value_name = "FILE.py:NAME", required_unless_present = "command")]
    function: Option<OsString>,
    /// Python that runs the function, with the package datamill: a program, or the folder of a virtual environment
    /// [default: this one where the command is the package's; otherwise the first that has the package of the active
    /// virtual environment and `python3`]
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct JsonArgs {
    /// What NaN and the infinities in a dictionary become: `null`, a failure of the file (`error`), or the words that
    /// Python writes for them, which are not JSON (`python`)
    #[arg(long, value_name = "WHAT", default_value = "null", value_parser = ["null", "error", "python"])]
    nan: String,
}

/// What a function command asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    Function(FunctionCall),
    Program(Box<ProgramCall>),
}

impl FunctionCommand {
    /// The call of the function, or of the command. `options` are those that were given, `typed` is the whole command line.
    pub(crate) fn into_asked(self, options: Vec<OsString>, typed: Vec<OsString>) -> Asked {
        let (what, function, python, files, command) = match self {
            Self::Try(args) => {
                let FunctionArgs { function, python } = args.function;
                if args.command.is_given() {
                    // nothing but files stands before a command
                    let files = std::iter::once(function.into()).chain(args.files).collect();
                    let held = Held { command: args.command, limits: args.limits, stdout: args.stdout };
                    let time = args.processing_timeout.filter(|time| !time.is_zero());
                    let call = ProgramCall::local(held, files, time);
                    return Asked::Program(Box::new(call));
                }
                (What::Try, Some(function), python, args.files, None)
            }
            Self::Reproduce(args) => {
                let FunctionOrCommand { function, python } = args.function;
                let held = Held { command: args.command, limits: args.isolate.limits, stdout: args.stdout };
                let call = held.command.is_given().then(|| ProgramCall::reproduce(held, args.reproducer));
                (What::Reproduce, function, python, Vec::new(), call)
            }
            Self::Process(args) => {
                let FunctionOrCommand { function, python } = args.function;
                let held = Held { command: args.command, limits: args.isolate.limits, stdout: false };
                let call = held.command.is_given().then(|| ProgramCall::process(held, args.processor));
                (What::Process, function, python, Vec::new(), call)
            }
        };
        let (function, refusal) = match (function, command) {
            (None, Some(call)) => return Asked::Program(Box::new(call)),
            // a class may know what to do with the words behind `--`
            (Some(function), Some(_)) => (function, Some(BOTH.to_owned())),
            (function, None) => (function.unwrap_or_default(), None),
        };
        let options = options.into_iter().filter(|word| !word.to_string_lossy().starts_with("--python=")).collect();
        let (own, _) = parted(&typed, &function);
        Asked::Function(FunctionCall { what, function, options, own, refusal, files, python, typed })
    }
}

/// What is said where a function and a command were given.
const BOTH: &str = "error: a function and, behind `--`, a command were given: leave one of them out";
