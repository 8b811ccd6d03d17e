//! `datamill service`: a command that starts with the machine and goes on, as a service of systemd.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use datamill::program::Exit;
use datamill::report::logging::say;

use self::manager::Manager;
use self::unit::{Account, Unit};
use super::output::{print, table};
use crate::words::Called;

mod command;
mod manager;
mod unit;

/// Run a command as a service: it starts with the machine, and is started again when it ends by mistake (Linux, systemd)
///
/// The service is that of the machine, for which it has to be installed as root (`sudo datamill service ...`), or with --user that
/// of the person who calls. In systemd and its log its name is `datamill-NAME`: `journalctl -u datamill-NAME` shows what it says.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Install(Box<InstallArgs>),
    /// Stop a service and remove it; its files and topics stay
    Uninstall(NameArgs),
    /// Start a service
    Start(NameArgs),
    /// Stop a service in order, until the machine starts again
    Stop(NameArgs),
    /// Show how a service stands, and the last lines that it wrote; exit code 1 where it does not run
    Status(NameArgs),
    List(ListArgs),
}

/// Install a service, and start it
///
/// A service of this name that datamill installed is replaced. Relative paths in its command, and in the configuration, begin
/// at the folder in which this is called. Exit codes 2 and 4 are not tried again: a person has to mend something.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo datamill service install lab -- watch /data --topic_name files --config /etc/lab.config
  sudo datamill service install lab --secret KAFKA_PASSWORD=/etc/lab.password -- watch /data --topic_name files \
--config /etc/lab.config
                                where the configuration says `sasl.password = $KAFKA_PASSWORD`
  datamill service install peaks --user -- reproduce peaks.py:find --consumer_topic_name files --producer_topic_name peaks")]
struct InstallArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Account that it runs under [default: the one that called sudo]
    #[arg(long = "run_as", value_name = "ACCOUNT", conflicts_with_all = ["user", "dynamic_user"])]
    run_as: Option<String>,
    /// Run it under an account that is there only while it runs (systemd, `DynamicUser`), with /var/lib/datamill-NAME as the
    /// folder that it works in
    #[arg(long = "dynamic_user", conflicts_with = "user")]
    dynamic_user: bool,
    /// A secret that the configuration names as `$NAME`, and the file with it, which root alone need be able to read; may
    /// be given several times
    #[arg(long = "secret", value_name = "NAME=FILE")]
    secrets: Vec<Secret>,
    /// Print the unit of systemd, and install nothing
    #[arg(long)]
    print: bool,
    /// What runs: a command of datamill that goes on until it is stopped, or a program made with it
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
struct NameArgs {
    /// Name of the service
    name: Name,
    /// The service is that of the person who calls, and not of the machine
    #[arg(long)]
    user: bool,
}

/// List the services that datamill installed
#[derive(Debug, Args)]
struct ListArgs {
    /// Those of the person who calls, and not of the machine
    #[arg(long)]
    user: bool,
}

/// The name of a service.
#[derive(Debug, Clone)]
struct Name(String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        match text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_plain) && text.len() <= 100 {
            true => Ok(Self(text.to_owned())),
            false => Err("write a name of letters, digits, `_`, `-` and `.`, such as `lab`".to_owned()),
        }
    }
}

/// A secret and the file with it.
#[derive(Debug, Clone)]
struct Secret {
    name: String,
    file: PathBuf,
}

impl FromStr for Secret {
    type Err = String;

    /// What is wrong is not repeated: it may be the secret.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "write NAME=FILE: the name that the configuration has behind `$`, and the file with the secret".to_owned()
        };
        let (name, file) = text.split_once('=').ok_or_else(wrong)?;
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !is_name || file.is_empty() {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), file: file.into() })
    }
}

pub(crate) fn run(args: &ServiceArgs, called: &Called) -> anyhow::Result<Exit> {
    if !cfg!(target_os = "linux") {
        bail!("services are installed on Linux, with systemd");
    }
    match &args.action {
        Action::Install(args) => install(args, called),
        Action::Uninstall(NameArgs { name, user }) => {
            Manager::of(*user)?.remove(&name.0)?;
            say(format_args!("service `{}` is stopped and removed; its files and topics are left as they are", name.0));
            Ok(Exit::Done)
        }
        Action::Start(NameArgs { name, user }) => {
            let manager = Manager::of(*user)?;
            manager.own(&name.0)?;
            manager.start(&name.0)?;
            say(format_args!("service `{}` runs", name.0));
            Ok(Exit::Done)
        }
        Action::Stop(NameArgs { name, user }) => {
            let manager = Manager::of(*user)?;
            manager.own(&name.0)?;
            say(format_args!("service `{}` is told to stop", name.0));
            manager.stop(&name.0)?;
            say(format_args!("service `{}` has stopped; it starts again with the machine", name.0));
            Ok(Exit::Done)
        }
        Action::Status(NameArgs { name, user }) => {
            let manager = Manager::of(*user)?;
            manager.own(&name.0)?;
            Ok(if manager.show(&name.0)? { Exit::Done } else { Exit::SomeFailed })
        }
        Action::List(ListArgs { user }) => {
            let head = ["service", "state", "what it does"].map(str::to_owned).to_vec();
            let services =
                Manager::of(*user)?.list()?.into_iter().map(|row| vec![row.name, row.state, row.description]);
            let rows: Vec<_> = std::iter::once(head).chain(services).collect();
            print(&table(&rows), "the list")?;
            Ok(Exit::Done)
        }
    }
}

fn install(args: &InstallArgs, called: &Called) -> anyhow::Result<Exit> {
    let name = &args.name.name.0;
    let secrets: Vec<_> = args.secrets.iter().map(|secret| (secret.name.as_str(), secret.file.as_path())).collect();
    let checked = command::check(&args.command, &secrets, called)?;
    if let Some(path) = checked.paths.iter().find(|path| args.dynamic_user && path.is_relative()) {
        bail!(
            "with --dynamic_user a service works in /var/lib/datamill-{name}, where `{}` is another place: write this path, and the \
             others, from `/` on",
            path.display()
        );
    }
    if args.dynamic_user && checked.writes_beside_its_files {
        bail!(
            "with --dynamic_user a watch needs --logs_dir, such as `--logs_dir LOGS`: that account cannot write its record into the \
             watched folder"
        );
    }
    let account = match (&args.run_as, args.dynamic_user, args.name.user) {
        (_, _, true) => Account::Caller,
        (_, true, _) => Account::Dynamic,
        (Some(account), ..) => Account::Named(manager::known_account(account)?),
        (None, ..) => Account::Named(unit::who_called_sudo()?),
    };
    let secrets = secrets.iter().map(|(name, file)| Ok(((*name).to_owned(), std::path::absolute(file)?)));
    let unit = Unit {
        name: name.clone(),
        command: checked.words,
        description: checked.description,
        stop_within: checked.stop_within,
        folder: std::env::current_dir().context("the folder in which this is called is gone")?,
        path: std::env::var_os("PATH"),
        account,
        secrets: secrets.collect::<std::io::Result<_>>()?,
    };
    let text = unit.text()?;
    if args.print {
        print(&text, "the unit")?;
        return Ok(Exit::Done);
    }
    let manager = Manager::of(args.name.user)?;
    let was_there = manager.install(name, &text)?;
    let what = if was_there { "replaced" } else { "installed" };
    say(format_args!("service `{name}` is {what}: {}", manager.file(name).display()));
    say(format_args!("starting it, and waiting until it says that it is set up"));
    manager.start(name)?;
    say(format_args!("it runs, and starts with the machine; {} shows what it says", manager.journal(name)));
    if args.name.user {
        say(format_args!(
            "it ends when you log out, unless an administrator has called `loginctl enable-linger` for you"
        ));
    }
    Ok(Exit::Done)
}
