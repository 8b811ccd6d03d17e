//! The service manager systemd: its units, and what it is told with `systemctl`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::unit::{DESCRIPTION, MARK};

/// Where services of the machine are.
const OF_THE_MACHINE: &str = "/etc/systemd/system";

/// The service manager of the machine, or that of a person.
pub(super) struct Manager {
    is_user: bool,
    units: PathBuf,
}

/// A service that datamill installed.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) description: String,
}

impl Manager {
    pub(super) fn of(is_user: bool) -> anyhow::Result<Self> {
        let units = match is_user {
            false => OF_THE_MACHINE.into(),
            true => {
                let config =
                    std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
                let home = || Some(std::env::home_dir()?.join(".config"));
                config
                    .or_else(home)
                    .context("neither XDG_CONFIG_HOME nor HOME is set, so there is no folder for the service")?
                    .join("systemd/user")
            }
        };
        Ok(Self { is_user, units })
    }

    /// The file of a service.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.units.join(unit(name))
    }

    /// What shows the lines that a service wrote.
    pub(super) fn journal(&self, name: &str) -> String {
        format!("`journalctl {}-u {}`", if self.is_user { "--user " } else { "" }, unit(name))
    }

    /// Writes the unit of a service, which starts with the machine from now on. Says whether there was one of this name.
    pub(super) fn install(&self, name: &str, text: &str) -> anyhow::Result<bool> {
        let file = self.file(name);
        let was_there = match fs::read_to_string(&file) {
            Ok(there) if there.starts_with(MARK) => true,
            Ok(_) => bail!("`{}` is there, and datamill did not write it: choose another name", file.display()),
            Err(_) => false,
        };
        let write = || {
            fs::create_dir_all(&self.units)?;
            fs::write(&file, text)
        };
        write().with_context(|| format!("cannot write `{}`{}", file.display(), self.hint()))?;
        self.tell(&["daemon-reload"])?;
        self.tell(&["enable", "--quiet", &unit(name)])?;
        if was_there {
            self.tell(&["stop", &unit(name)])?;
        }
        Ok(was_there)
    }

    /// Refuses a service that datamill did not install.
    pub(super) fn own(&self, name: &str) -> anyhow::Result<()> {
        let file = self.file(name);
        if fs::read_to_string(&file).is_ok_and(|text| text.starts_with(MARK)) {
            return Ok(());
        }
        let (of, other) = match self.is_user {
            true => ("yours", "without --user, it is one of the machine"),
            false => ("this machine's", "with --user, it is one of yours"),
        };
        let names: Vec<_> = self.list()?.into_iter().map(|row| format!("`{}`", row.name)).collect();
        let there =
            if names.is_empty() { "none is installed".to_owned() } else { format!("there is {}", names.join(", ")) };
        bail!("no service `{name}` of datamill is among {of}: {there}; {other}")
    }

    /// Starts a service, and waits a little whether it stays up.
    pub(super) fn start(&self, name: &str) -> anyhow::Result<()> {
        // one that failed a moment ago may start
        self.tell(&["reset-failed", &unit(name)]).ok();
        let started = self.tell(&["start", &unit(name)]);
        let until = Instant::now() + STAYS_UP;
        while started.is_ok() && self.state(name)? == "active" {
            if Instant::now() >= until {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
        if self.result(name)? == "timeout" {
            bail!(
                "service `{name}` is installed and did not say within 5 minutes that it is set up, so systemd ended it. A program that \
                 was made with datamill says so by itself, and another one cannot be a service of datamill: {} shows more",
                self.journal(name)
            );
        }
        let said = self.last_lines(name);
        let said = if said.is_empty() { String::new() } else { format!(". It said:\n{said}") };
        bail!("service `{name}` is installed and does not stay up; {} shows more{said}", self.journal(name))
    }

    /// The last lines that a service wrote, as far as they may be read.
    fn last_lines(&self, name: &str) -> String {
        let mut journal = Command::new("journalctl");
        journal.args(self.is_user.then_some("--user")).args([
            "--quiet",
            "--no-pager",
            "--output=cat",
            "--lines=5",
            "--unit",
        ]);
        let output = journal.arg(unit(name)).stdin(Stdio::null()).output();
        output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    pub(super) fn stop(&self, name: &str) -> anyhow::Result<()> {
        self.tell(&["stop", &unit(name)])
    }

    /// Stops a service and removes it.
    pub(super) fn remove(&self, name: &str) -> anyhow::Result<()> {
        self.own(name)?;
        self.tell(&["disable", "--quiet", "--now", &unit(name)])?;
        let file = self.file(name);
        fs::remove_file(&file).with_context(|| format!("cannot remove `{}`{}", file.display(), self.hint()))?;
        self.tell(&["daemon-reload"])
    }

    /// Shows how a service stands, on stdout. Says whether it runs.
    pub(super) fn show(&self, name: &str) -> anyhow::Result<bool> {
        let status = self.systemctl(&["status", "--no-pager", "--full", &unit(name)]).status().context(NO_SYSTEMD)?;
        Ok(status.success())
    }

    /// The services that datamill installed, by name.
    pub(super) fn list(&self) -> anyhow::Result<Vec<Row>> {
        let mut rows = Vec::new();
        for entry in fs::read_dir(&self.units).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let name = file.to_str().and_then(|file| file.strip_prefix("datamill-")?.strip_suffix(".service"));
            let (Some(name), Ok(text)) = (name, fs::read_to_string(entry.path())) else { continue };
            if !text.starts_with(MARK) {
                continue;
            }
            let description = text.lines().find_map(|line| line.strip_prefix(DESCRIPTION)).unwrap_or_default();
            rows.push(Row { name: name.to_owned(), state: self.state(name)?, description: description.to_owned() });
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(rows)
    }

    /// As systemd calls it: `active`, `failed`, `inactive`.
    fn state(&self, name: &str) -> anyhow::Result<String> {
        let output = self.systemctl(&["is-active", &unit(name)]).output().context(NO_SYSTEMD)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Why it ended, as systemd calls it: `success`, `exit-code`, `timeout`.
    fn result(&self, name: &str) -> anyhow::Result<String> {
        let output =
            self.systemctl(&["show", "--property=Result", "--value", &unit(name)]).output().context(NO_SYSTEMD)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn systemctl(&self, words: &[&str]) -> Command {
        let mut command = Command::new("systemctl");
        command.args(self.is_user.then_some("--user")).args(words).stdin(Stdio::null());
        command
    }

    fn tell(&self, words: &[&str]) -> anyhow::Result<()> {
        let output = self.systemctl(words).output().context(NO_SYSTEMD)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`systemctl {}` failed{}: {}", words.join(" "), self.hint(), said.trim())
    }

    /// What may be missing.
    fn hint(&self) -> &'static str {
        match self.is_user {
            true => "",
            false => " (a service of the machine needs root: `sudo`; one of yours needs --user)",
        }
    }
}

/// An account that the machine knows, by its name or number.
pub(super) fn known_account(account: &str) -> anyhow::Result<String> {
    let mut id = Command::new("id");
    let output = id.args(["-u", "--", account]).stdin(Stdio::null()).output().context("`id` cannot be called")?;
    if !output.status.success() {
        bail!("there is no account `{account}` on this machine: make it, or write another one behind --run_as");
    }
    Ok(account.to_owned())
}

/// What is wrong with its set-up ends a program within this time.
const STAYS_UP: Duration = Duration::from_secs(2);

const NO_SYSTEMD: &str = "`systemctl` cannot be called: services need systemd";

/// The name of a service's unit.
fn unit(name: &str) -> String {
    format!("datamill-{name}.service")
}
