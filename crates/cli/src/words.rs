//! From the words of the command line to what is to be done.

use std::any::TypeId;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use datamill::program::{EXIT_CODES, Exit, accept_dashes, why};
use datamill::report::logging::say_error;
use datamill_workers::KeeperStart;

use crate::commands::{
    check, demo, download, function, get, ls, program, read, reconcile, rekey, rerun, retry, service, status, topic,
    transfer, upload, verify, watch,
};
use crate::function::FunctionCall;

/// Puts data files on a topic, runs functions on whole files, and shows what is in topics
///
/// Topics are on Apache Kafka or in a file on this machine: `bootstrap.servers` in the configuration
/// file that --config names chooses. Without one they are in the file `datamill.db` of this folder.
#[derive(Debug, Parser)]
#[command(name = "datamill", bin_name = "datamill", propagate_version = true, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  datamill demo                               the whole path on sample files
  datamill upload data/ --topic_name files    put all files of a folder on a topic
  datamill watch data/ --topic_name files     put new files on it as they are finished
  datamill try extract.py:metadata data/*.csv  run your Python function on local files
  datamill reproduce extract.py:metadata --consumer_topic_name files --producer_topic_name metadata
                                              run it on all files of a topic, send its results
  datamill process --topic_name files -- ./store.sh {path}
                                              run any program on all files of a topic
  datamill download mirror/ --topic_name files  rebuild the files of a topic in a folder
  datamill read metadata --exit-at-end        print what is in a topic
  datamill reconcile data/ --topic_name files  see what became of each file
  datamill check --config lab.config --topic_name files
                                              try broker, login and topic, and say what to mend
  datamill status --topic_name files --consumer_group_id xrd
                                              see how a group stands: what waits, what failed";

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Rust(RustCommand),
    #[command(flatten)]
    Python(function::FunctionCommand),
}

#[derive(Debug, Subcommand)]
enum RustCommand {
    Upload(upload::UploadArgs),
    Watch(watch::WatchArgs),
    Download(download::DownloadArgs),
    Read(read::ReadArgs),
    Ls(ls::LsArgs),
    Get(get::GetArgs),
    Verify(verify::VerifyArgs),
    Reconcile(reconcile::ReconcileArgs),
    Status(status::StatusArgs),
    Check(check::CheckArgs),
    Topic(topic::TopicArgs),
    Transfer(transfer::TransferArgs),
    S3Transfer(transfer::S3TransferArgs),
    Rekey(rekey::RekeyArgs),
    Retry(retry::RetryArgs),
    Rerun(rerun::RerunArgs),
    Service(service::ServiceArgs),
    Demo(demo::DemoArgs),
}

/// How the command was called, which only its program knows.
#[derive(Debug, Clone)]
pub struct Called {
    /// What calls it again, as words of a shell.
    pub program: String,
    /// Which of the two programs it is, as `--version` says.
    pub edition: String,
    /// What calls it again from any folder: the path of a program, and words for it.
    pub again: Vec<OsString>,
    /// What starts a process that calls [`datamill_workers::keep`].
    pub keeper: KeeperStart,
}

/// What the words ask for.
#[derive(Debug)]
pub enum Next {
    /// Nothing more: the help, the version, or what is wrong with the words was printed. The exit code.
    Exit(u8),
    /// A command of datamill.
    Run(Box<Task>),
    /// A function of a user, which a Python interpreter runs.
    Function(FunctionCall),
}

/// A command of datamill with its options.
#[derive(Debug)]
pub struct Task {
    command: TaskCommand,
    called: Called,
}

#[derive(Debug)]
enum TaskCommand {
    Rust(RustCommand),
    Program(program::ProgramCall),
}

/// Reads the words behind the name of the command. The help, the version and what is wrong are printed at once.
pub fn parse(words: impl IntoIterator<Item = OsString>, called: &Called) -> Next {
    let typed: Vec<OsString> = words.into_iter().collect();
    let task = |command| Next::Run(Box::new(Task { command, called: called.clone() }));
    match read(&typed, called) {
        Ok((Command::Rust(command), _)) => task(TaskCommand::Rust(command)),
        Ok((Command::Python(command), options)) => match command.into_asked(options, typed) {
            function::Asked::Function(call) => Next::Function(call),
            function::Asked::Program(call) => task(TaskCommand::Program(*call)),
        },
        Err(error) => {
            if let Some(call) = FunctionCall::of_a_class(&typed, &error) {
                return Next::Function(call);
            }
            let error = with_command_tip(error, typed.iter().any(|word| word == "--"));
            // that nobody reads it is no error
            let _ = error.print();
            Next::Exit(if error.use_stderr() { Exit::SetUp } else { Exit::Done }.code())
        }
    }
}

/// Says that a command may stand in the place of a function, where one of them is missing.
fn with_command_tip(mut error: clap::Error, has_command: bool) -> clap::Error {
    const MAY_BE_A_COMMAND: [&str; 3] = ["<FILE.py:NAME>", "<FILE>...", "<COMMAND|--isolate>"];
    let missing = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(missing)) if error.kind() == ErrorKind::MissingRequiredArgument => missing,
        _ => return error,
    };
    if missing.iter().any(|missing| MAY_BE_A_COMMAND.contains(&missing.as_str())) {
        let tip = if has_command {
            "the files for a command stand before `--`, the command and its words behind it"
        } else {
            "a function is written as FILE.py:NAME; any other program is a command, which stands with its words behind `--`"
        };
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// The command line with all its commands and options, for what is written about it: manual pages, completions of a shell.
pub fn command_line() -> clap::Command {
    Cli::command().version(env!("CARGO_PKG_VERSION"))
}

/// The command, and the options that were given to it.
fn read(typed: &[OsString], called: &Called) -> Result<(Command, Vec<OsString>), clap::Error> {
    let version = format!("{} ({})", env!("CARGO_PKG_VERSION"), called.edition);
    let mut cli = accept_dashes(Cli::command().version(version)).no_binary_name(true);
    let matches = cli.try_get_matches_from_mut(typed)?;
    let options = match matches.subcommand() {
        Some((name, given)) => cli.find_subcommand(name).map_or_else(Vec::new, |command| in_full(command, given)),
        None => Vec::new(),
    };
    Ok((Cli::from_arg_matches(&matches)?.command, options))
}

/// A command with its options, as far as it can be told without a look at the user's code.
pub(crate) struct Given {
    name: String,
    options: ArgMatches,
}

impl Given {
    /// What stands in the words of a command, if one of datamill is called.
    pub(crate) fn of(words: &[OsString]) -> Option<Self> {
        let version = env!("CARGO_PKG_VERSION");
        let mut cli = accept_dashes(Cli::command().version(version)).no_binary_name(true).ignore_errors(true);
        let mut matches = cli.try_get_matches_from_mut(words).ok()?;
        let (name, options) = matches.remove_subcommand()?;
        Some(Self { name, options })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The paths that were given for options and places that take one.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let cli = Cli::command();
        let takes_path = |arg: &&clap::Arg| arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
        let args =
            cli.find_subcommand(&self.name).into_iter().flat_map(clap::Command::get_arguments).filter(takes_path);
        let values = args.filter_map(|arg| self.options.try_get_many::<PathBuf>(arg.get_id().as_str()).ok().flatten());
        values.flatten().cloned().collect()
    }

    /// The value of an option, or its default. `None` where the command has no such option.
    pub(crate) fn value<T: Clone + Send + Sync + 'static>(&self, id: &str) -> Option<T> {
        self.options.try_get_one::<T>(id).ok().flatten().cloned()
    }
}

/// The options that were given, each with its whole name and with its value in the same word.
fn in_full(command: &clap::Command, given: &ArgMatches) -> Vec<OsString> {
    let mut words = Vec::new();
    for option in command.get_arguments() {
        let (id, Some(long)) = (option.get_id().as_str(), option.get_long()) else { continue };
        if !given.ids().any(|known| known == id) || given.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        match given.get_raw(id).filter(|_| option.get_action().takes_values()) {
            Some(values) => words.extend(values.map(|value| {
                let mut word = OsString::from(format!("--{long}="));
                word.push(value);
                word
            })),
            None => words.push(format!("--{long}").into()),
        }
    }
    words
}

impl Task {
    /// Looks whether the program of a user that it runs can be started.
    ///
    /// # Errors
    /// A program that is not there, or words that do not fit.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match &self.command {
            TaskCommand::Rust(_) => Ok(()),
            TaskCommand::Program(call) => call.check(self.called.keeper.clone()),
        }
    }

    /// Does it, and answers the exit code. Once it has begun to work, the first SIGINT, SIGTERM or SIGHUP ends it in order, and a
    /// second one ends the process.
    pub fn run(self) -> u8 {
        let ended = match self.command {
            TaskCommand::Rust(command) => command.run(&self.called),
            TaskCommand::Program(call) => call.run(self.called.keeper),
        };
        // in an interpreter, nothing does so at the end of the process
        let _ = io::stdout().flush();
        let exit = ended.unwrap_or_else(|error| {
            say_error(why(error.as_ref()));
            Exit::of_refusal(error.as_ref())
        });
        exit.code()
    }
}

impl RustCommand {
    fn run(self, called: &Called) -> anyhow::Result<Exit> {
        match self {
            Self::Upload(args) => upload::run(args),
            Self::Watch(args) => watch::run(args),
            Self::Download(args) => download::run(&args),
            Self::Read(args) => read::run(&args),
            Self::Ls(args) => ls::run(&args),
            Self::Get(args) => get::run(&args),
            Self::Verify(args) => verify::run(&args),
            Self::Reconcile(args) => reconcile::run(&args),
            Self::Status(args) => status::run(&args),
            Self::Check(args) => check::run(&args),
            Self::Topic(args) => topic::run(&args),
            Self::Transfer(args) => transfer::run(&args),
            Self::S3Transfer(args) => transfer::run_s3(&args),
            Self::Rekey(args) => rekey::run(&args),
            Self::Retry(args) => retry::run(&args),
            Self::Rerun(args) => rerun::run(&args),
            Self::Service(args) => service::run(&args, called),
            Self::Demo(args) => demo::run(&args, &called.program),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::What;

    fn parsed(words: &[&str]) -> Next {
        let called = Called {
            program: "datamill".to_owned(),
            edition: "test".to_owned(),
            again: vec!["/usr/bin/datamill".into()],
            keeper: KeeperStart::this_program(),
        };
        parse(words.iter().map(OsString::from), &called)
    }

    #[test]
    fn options_of_a_function_are_handed_on_in_full_whatever_their_form_and_place() {
        let words = [
            "reproduce",
            "--consumer_t",
            "files",
            "--producer-topic-name",
            "metadata",
            "a b.py:f",
            "--n_threads=3",
            "--update_seconds",
            "-1",
            "--exit_at_end",
            "--python",
            "python3.12",
            "--output_dir",
            "first",
            "--output_dir",
            "a b.py:f",
        ];
        let Next::Function(call) = parsed(&words) else { panic!("no function") };
        assert_eq!((call.what, call.function.to_str()), (What::Reproduce, Some("a b.py:f")));
        let mut options = call.options;
        options.sort();
        let wanted = [
            "--consumer_topic_name=files",
            "--exit-at-end",
            "--n_consumer_threads=3",
            "--output_dir=a b.py:f",
            "--producer_topic_name=metadata",
            "--update_seconds=-1",
        ];
        assert_eq!(options, wanted);
    }

    #[test]
    fn what_is_tried_is_a_function_and_its_files() {
        let words = ["try", "extract.py", "--nan", "error", "a.csv", "b.csv"];
        let Next::Function(call) = parsed(&words) else { panic!("no function") };
        assert_eq!((call.what, call.function.to_str()), (What::Try, Some("extract.py")));
        assert_eq!(call.options, ["--nan=error"]);
        assert_eq!(call.files, ["a.csv", "b.csv"].map(std::path::PathBuf::from));
    }

    #[test]
    fn words_that_only_a_class_may_know_are_handed_to_python_with_what_is_said_if_none_does() {
        for (words, own) in [
            (
                &["process", "a.py:Above", "--topic_name", "t", "--threshold", "5"][..],
                &["--topic_name", "t", "--threshold", "5"][..],
            ),
            (&["process", "--threshold=5", "a.py", "--python", "p", "place"], &["--threshold=5", "place"]),
            (&["reproduce", "a.py:Above", "--thres", "5", "--", "--python=p"], &["--thres", "5", "--", "--python=p"]),
        ] {
            let Next::Function(call) = parsed(words) else { panic!("{words:?}") };
            assert!(call.function.to_str().unwrap().starts_with("a.py"), "{words:?}");
            assert_eq!(call.own, own);
            assert_eq!(call.python.is_some(), words.contains(&"--python"));
            assert!(call.refusal.is_some_and(|refusal| refusal.starts_with("error: ")), "{words:?}");
        }
        let Next::Function(call) = parsed(&["process", "a.py:Above", "--topic_n", "t"]) else { panic!("no function") };
        assert_eq!((call.own, call.refusal), (["--topic_n", "t"].map(OsString::from).into(), None));
    }

    #[test]
    fn words_behind_two_dashes_are_a_command_and_none_of_them_an_option() {
        for words in [
            &["process", "--topic_name", "t", "--", "store", "--topic_name", "{path}"][..],
            &["process", "--topic_name", "t", "--stdin", "--worker-memory", "1G", "--", "a.py", "--help"],
            &["reproduce", "--consumer_topic_name", "a", "--producer_topic_name", "b", "--stdout", "--", "wc"],
            &["process", "--topic_name", "t", "--worker", "--worker_restart_after", "9", "--", "store", "--isolate"],
        ] {
            assert!(matches!(parsed(words), Next::Run(_)), "{words:?}");
        }
        for words in [
            &["process", "--topic_name", "t"][..],
            &["process", "--topic_name", "t", "--"],
            &["process", "--topic_name", "t", "--stdout", "--", "store"],
            &["process", "--topic_name", "t", "--worker_memory", "1", "--", "store"],
            &["process", "--nonsense", "--", "python3", "store.py"],
            &["process", "--topic_name", "t", "--isolate", "--", "store"],
            &["process", "--topic_name", "t", "--worker", "--stdin", "--", "store"],
            &["process", "--topic_name", "t", "--worker_restart_after", "9", "--", "store"],
            &["process", "a.txt:f", "--topic_name", "t", "--worker_memory", "1G"],
        ] {
            assert!(matches!(parsed(words), Next::Exit(2)), "{words:?}");
        }
        let Next::Function(call) = parsed(&["process", "a.py:f", "--topic_name", "t", "--", "store"]) else {
            panic!("no function")
        };
        assert!(call.refusal.is_some_and(|refusal| refusal.contains("leave one of them out")));
        assert_eq!(call.own, ["--topic_name", "t", "--", "store"].map(OsString::from));
    }

    #[test]
    fn exit_codes_are_told_in_the_same_words_everywhere() {
        let on_one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in [include_str!("../../../README.md"), include_str!("../../../docs/operating.md")] {
            assert!(on_one_line(text).contains(EXIT_CODES));
        }
        let mut cli = Cli::command().version("0");
        cli.build();
        assert!(on_one_line(&cli.render_help().to_string()).contains(EXIT_CODES));
        for name in ["upload", "watch", "rekey", "reproduce", "process", "transfer", "s3-transfer"] {
            let help = cli.find_subcommand_mut(name).unwrap().render_help().to_string();
            assert!(on_one_line(&help).contains(EXIT_CODES), "{name}");
        }
    }

    #[test]
    fn wrong_words_have_the_exit_code_of_a_wrong_command_line() {
        for (words, code) in [
            (&["process", "--topic_name", "t", "--nonsense"][..], 2),
            (&["process", "a.py:f", "--topic_name", "t", "--mode", "ram"], 2),
            (&["upload", "a.py", "--nonsense"], 2),
            (&["try", "a.py:f"], 2),
            (&["try", "a.py:f", "--help"], 0),
            (&["--version"], 0),
            (&[], 2),
        ] {
            assert!(matches!(parsed(words), Next::Exit(exit) if exit == code), "{words:?}");
        }
    }
}
