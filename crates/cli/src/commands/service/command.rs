//! The command of a service: what is wrong with it is said at the installation, and not by a log that nobody reads.

use std::env::VarError;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use datamill::settings::{Config, SettingsError};
use datamill_workers::find_program;

use crate::words::{Called, Given, Next, parse};

/// The commands that go on until they are stopped.
const THAT_GO_ON: [&str; 6] = ["watch", "download", "transfer", "s3-transfer", "reproduce", "process"];

/// How long a stop may take beyond `--shutdown_timeout`: a commit, and a broker that does not answer.
const BEYOND_SHUTDOWN: Duration = Duration::from_secs(30);

/// How long a stop may take where the command has no such option.
const STOP_WITHIN: Duration = Duration::from_secs(90);

/// A command that can be a service.
pub(super) struct Checked {
    /// Its words; the first is the path of a program.
    pub(super) words: Vec<OsString>,
    /// What it names that is there: the configuration, programs, functions, folders.
    pub(super) paths: Vec<PathBuf>,
    /// It is a watch whose record lies in the watched folder.
    pub(super) writes_beside_its_files: bool,
    pub(super) description: String,
    /// How long a stop may take.
    pub(super) stop_within: Duration,
}

/// Checks a command and its configuration, as the service will find them.
pub(super) fn check(words: &[OsString], secrets: &[(&str, &Path)], called: &Called) -> anyhow::Result<Checked> {
    for (name, file) in secrets {
        let opened = std::fs::File::open(file).and_then(|file| file.metadata());
        let about =
            opened.with_context(|| format!("the file `{}` of secret `{name}` cannot be opened", file.display()))?;
        if about.is_dir() {
            bail!("`{}` of secret `{name}` is a folder: name the file in it", file.display());
        }
    }
    let words = match words {
        [program, rest @ ..] if program == "datamill" => rest,
        words => words,
    };
    let Some(given) = Given::of(words) else { return program(words) };
    let name = given.name();
    if !THAT_GO_ON.contains(&name) {
        bail!(
            "`datamill {name}` ends by itself; a service is for {} and programs of your own",
            THAT_GO_ON.map(|name| format!("`{name}`")).join(", ")
        );
    }
    if given.value::<bool>("exit_at_end") == Some(true) {
        bail!("a service goes on until it is stopped: leave --exit-at-end out");
    }
    let paths = paths(&given, words, called)?;
    let config = given.value::<String>("config");
    let variables = |name: &str| match secrets.iter().any(|(secret, _)| *secret == name) {
        true => Ok("of the service".to_owned()),
        false => Err(VarError::NotPresent),
    };
    match Config::load_with(config.as_deref(), &variables) {
        Ok(_) => {}
        Err(error @ SettingsError::UnsetVariable { .. }) => {
            return Err(error).context(
                "a service does not have the variables that are set here: name each one that the configuration needs with \
                --secret NAME=FILE",
            );
        }
        Err(error) => return Err(error.into()),
    }
    let stop_within = given
        .value::<u64>("shutdown_timeout")
        .map_or(STOP_WITHIN, |seconds| Duration::from_secs(seconds) + BEYOND_SHUTDOWN);
    let writes_beside_its_files = name == "watch" && given.value::<PathBuf>("logs_dir").is_none();
    let words: Vec<_> = called.again.iter().chain(words).cloned().collect();
    Ok(Checked {
        words,
        paths: paths.into_iter().chain(config.map(PathBuf::from)).collect(),
        writes_beside_its_files,
        description: format!("datamill {name}"),
        stop_within,
    })
}

/// The paths in the words of a command, which is checked as the service does it when it starts.
fn paths(given: &Given, words: &[OsString], called: &Called) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths: Vec<_> = given.paths().into_iter().filter(|path| path.exists()).collect();
    match parse(words.iter().cloned(), called) {
        Next::Exit(_) => bail!("the command of the service is not right; see above"),
        Next::Run(task) => {
            task.check()?;
            let program = words.iter().skip_while(|word| *word != "--").nth(1).map(PathBuf::from);
            paths.extend(program.filter(|program| program.components().count() > 1));
        }
        Next::Function(call) => {
            if let Some(refusal) = call.refusal {
                bail!("the command of the service is not right: {}", refusal.trim_end().trim_start_matches("error: "));
            }
            let file = call.file();
            if !file.is_file() {
                bail!("there is no file `{}` with a function: check the path", file.display());
            }
            paths.push(file);
        }
    }
    Ok(paths)
}

/// A program of the user's own, which reads its own words.
fn program(words: &[OsString]) -> anyhow::Result<Checked> {
    let [first, rest @ ..] = words else { bail!("name the command of the service behind `--`") };
    let path =
        find_program(first).with_context(|| format!("`{}` is no command of datamill", Path::new(first).display()))?;
    let description = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let words = std::iter::once(path.into_os_string()).chain(rest.iter().cloned()).collect();
    Ok(Checked { words, paths: Vec::new(), writes_beside_its_files: false, description, stop_within: STOP_WITHIN })
}
