//! `datamill try`, `datamill reproduce` and `datamill process`: a Python function of a user.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use datamill::program::{EXIT_CODES, ProcessorArgs, ReproducerArgs};

use crate::function::{FunctionCall, What, parted};

#[derive(Debug, Subcommand)]
pub enum FunctionCommand {
    Try(TryArgs),
    Reproduce(ReproduceArgs),
    Process(ProcessArgs),
}

/// Run a Python function on local files, as it would run on the files of a topic
///
/// Each file is handed to the function as `datamill reproduce` and `datamill process` do it, and what the function returns
/// is made a result. For a result that is larger than 1 MB, it says which topics take it. Results are printed to stdout,
/// and the traceback of a function that fails to stderr. Nothing is sent or kept, and neither a broker nor a folder is
/// needed.
#[derive(Debug, Args)]
#[command(after_help = AFTER_TRY)]
pub struct TryArgs {
    #[command(flatten)]
    function: FunctionArgs,
    #[command(flatten)]
    json: JsonArgs,
    /// Files to run it on
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

const AFTER_TRY: &str = "Example:
  datamill try extract.py:metadata data/*.csv

with extract.py:
  def metadata(file):
      lines = file.bytestring.decode().splitlines()
      return {\"file\": file.filename, \"lines\": len(lines)}

Exit codes: 0 done, 1 the function failed for some files, 2 the command line is wrong or the function cannot be loaded, 130 \
left at once at a signal.";

/// Run a Python function on every file of a topic, and send its results to another topic
///
/// The function gets the whole file and returns its result: a dictionary, which becomes JSON, a text or bytes. A function
/// that raises an exception or returns None has failed for this file. It runs again, up to --max_attempts times; then the
/// failure is recorded and its traceback printed. Try the function with `datamill try` first.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLE_OF_REPRODUCE}\n\n{EXIT_CODES}"))]
pub struct ReproduceArgs {
    #[command(flatten)]
    function: FunctionArgs,
    #[command(flatten)]
    json: JsonArgs,
    #[command(flatten)]
    reproducer: ReproducerArgs,
}

const EXAMPLE_OF_REPRODUCE: &str = "Example:
  datamill reproduce extract.py:metadata --consumer_topic_name files --producer_topic_name metadata";

/// Run a Python function on every file of a topic, for what it does with the file
///
/// The function gets the whole file; it stores, converts or sends it, and returns None. A function that raises an exception
/// or returns something has failed for this file. It runs again, up to --max_attempts times; then the failure is recorded
/// and its traceback printed. After a crash it may run again for a file that it was done with. Try the function with
/// `datamill try` first.
#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLE_OF_PROCESS}\n\n{EXIT_CODES}"))]
pub struct ProcessArgs {
    #[command(flatten)]
    function: FunctionArgs,
    #[command(flatten)]
    processor: ProcessorArgs,
}

const EXAMPLE_OF_PROCESS: &str = "Example:
  datamill process store.py:store --topic_name files";

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

#[derive(Debug, Args)]
struct JsonArgs {
    /// What NaN and the infinities in a dictionary become: `null`, a failure of the file (`error`), or the words that
    /// Python writes for them, which are not JSON (`python`)
    #[arg(long, value_name = "WHAT", default_value = "null", value_parser = ["null", "error", "python"])]
    nan: String,
}

impl FunctionCommand {
    /// The call of the function. `options` are those that were given, `typed` is the whole command line.
    pub fn into_call(self, options: Vec<OsString>, typed: Vec<OsString>) -> FunctionCall {
        let (what, FunctionArgs { function, python }, files) = match self {
            Self::Try(args) => (What::Try, args.function, args.files),
            Self::Reproduce(args) => (What::Reproduce, args.function, Vec::new()),
            Self::Process(args) => (What::Process, args.function, Vec::new()),
        };
        let options = options.into_iter().filter(|word| !word.to_string_lossy().starts_with("--python=")).collect();
        let (own, _) = parted(&typed, &function);
        FunctionCall { what, function, options, own, refusal: None, files, python, typed }
    }
}
