//! The unit of a service, as systemd reads it (systemd.unit(5), systemd.service(5), systemd.exec(5)).

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

/// The first line of each unit that datamill writes; others are left alone.
pub(super) const MARK: &str = "# A service of datamill.";

/// Begins the line that says what a service does.
pub(super) const DESCRIPTION: &str = "Description=";

/// Who runs a service.
pub(super) enum Account {
    /// The person whose services they are.
    Caller,
    Named(String),
    /// One that is there only while the service runs.
    Dynamic,
}

/// A service.
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) command: Vec<OsString>,
    pub(super) description: String,
    /// How long a stop may take.
    pub(super) stop_within: Duration,
    /// Where its relative paths begin.
    pub(super) folder: PathBuf,
    /// Where it finds programs.
    pub(super) path: Option<OsString>,
    pub(super) account: Account,
    pub(super) secrets: Vec<(String, PathBuf)>,
}

impl Unit {
    /// The text of the unit.
    ///
    /// The program says itself that it is set up, and that its engine comes round (`Type=notify`, `WatchdogSec`). It is started again
    /// after each end but for the exit codes that a person has to mend.
    pub(super) fn text(&self) -> anyhow::Result<String> {
        let (name, description, stop) = (&self.name, &self.description, self.stop_within.as_secs());
        let command: Vec<_> = self.command.iter().map(|word| quoted(word)).collect::<anyhow::Result<_>>()?;
        let is_callers = matches!(self.account, Account::Caller);
        let mut more = String::new();
        match &self.account {
            Account::Caller => {}
            Account::Named(account) => writeln!(more, "User={}", plain(OsStr::new(account))?)?,
            Account::Dynamic => writeln!(more, "DynamicUser=yes\nStateDirectory=datamill-{name}")?,
        }
        match self.account {
            Account::Dynamic => writeln!(more, "WorkingDirectory=/var/lib/datamill-{name}")?,
            _ => writeln!(more, "WorkingDirectory={}", plain(self.folder.as_os_str())?)?,
        }
        if let Some(path) = &self.path {
            let mut word = OsString::from("PATH=");
            word.push(path);
            writeln!(more, "Environment={}", setting(&word)?)?;
        }
        for (secret, file) in &self.secrets {
            writeln!(more, "LoadCredential={secret}:{}", plain(file.as_os_str())?)?;
        }
        if !is_callers {
            more.push_str(CONFINED);
        }
        let network = if is_callers { "" } else { "Wants=network-online.target\nAfter=network-online.target\n" };
        let target = if is_callers { "default.target" } else { "multi-user.target" };
        let command = command.join(" ");
        Ok(format!(
            "{MARK} `datamill service uninstall {name}` removes it.\n\
            [Unit]\n\
            {DESCRIPTION}{description} ({name})\n\
            {network}\
            StartLimitIntervalSec=0\n\
            \n\
            [Service]\n\
            Type=notify\n\
            ExecStart={command}\n\
            {more}\
            Restart=on-failure\n\
            RestartSec=15\n\
            RestartPreventExitStatus=2 4\n\
            WatchdogSec=300\n\
            WatchdogSignal=SIGKILL\n\
            TimeoutStartSec=300\n\
            TimeoutStopSec={stop}\n\
            KillMode=mixed\n\
            \n\
            [Install]\n\
            WantedBy={target}\n"
        ))
    }
}

/// What a program on data files never needs. It may write everywhere but to the system's own folders.
const CONFINED: &str = "\
    NoNewPrivileges=yes\n\
    CapabilityBoundingSet=\n\
    ProtectSystem=full\n\
    ProtectClock=yes\n\
    ProtectHostname=yes\n\
    ProtectKernelLogs=yes\n\
    ProtectKernelModules=yes\n\
    ProtectKernelTunables=yes\n\
    RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n\
    RestrictNamespaces=yes\n\
    RestrictRealtime=yes\n\
    RestrictSUIDSGID=yes\n\
    LockPersonality=yes\n\
    SystemCallArchitectures=native\n";

/// The account that called sudo.
pub(super) fn who_called_sudo() -> anyhow::Result<String> {
    let account = std::env::var("SUDO_USER").ok().filter(|account| !account.is_empty() && account != "root");
    account.context(
        "say with --run_as which account the service runs under, best not `root`; --dynamic_user makes one, and --user installs a service \
        of your own, without root",
    )
}

/// A word of `ExecStart`.
fn quoted(word: &OsStr) -> anyhow::Result<String> {
    Ok(setting(word)?.replace('$', "$$"))
}

/// A word of a list, in quotes.
fn setting(word: &OsStr) -> anyhow::Result<String> {
    let word = plain(word)?;
    Ok(format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// A value that systemd takes as it is but for its specifiers.
fn plain(value: &OsStr) -> anyhow::Result<String> {
    let Some(text) = value.to_str().filter(|text| !text.contains(|c: char| c.is_control())) else {
        bail!("{:?} cannot be written into a unit of systemd: it has a control character, or is not UTF-8", value);
    };
    Ok(text.replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(account: Account) -> Unit {
        Unit {
            name: "lab".to_owned(),
            command: ["/opt/my tools/datamill", "watch", "100% \"raw\" $data\\", "--topic_name=files"]
                .map(OsString::from)
                .into(),
            description: "datamill watch".to_owned(),
            stop_within: Duration::from_secs(90),
            folder: "/data/of lab".into(),
            path: Some("/usr/bin:/opt/50%".into()),
            account,
            secrets: vec![("PASSWORD".to_owned(), "/etc/lab.password".into())],
        }
    }

    #[test]
    fn a_word_arrives_as_it_was_typed() {
        let text = unit(Account::Named("lab".to_owned())).text().unwrap();
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
        assert_eq!(
            line("ExecStart="),
            r#"ExecStart="/opt/my tools/datamill" "watch" "100%% \"raw\" $$data\\" "--topic_name=files""#
        );
        assert_eq!(line("Environment="), r#"Environment="PATH=/usr/bin:/opt/50%%""#);
        assert_eq!(line("WorkingDirectory="), "WorkingDirectory=/data/of lab");
        assert_eq!(line("LoadCredential="), "LoadCredential=PASSWORD:/etc/lab.password");
        assert_eq!(line("User="), "User=lab");
    }

    #[test]
    fn what_would_be_another_line_is_refused() {
        let mut unit = unit(Account::Caller);
        unit.command.push("a\nUser=root".into());
        assert!(unit.text().unwrap_err().to_string().contains("control character"));
    }

    #[test]
    fn each_kind_of_account_has_its_own_folder_and_target() {
        let text = unit(Account::Dynamic).text().unwrap();
        for line in ["DynamicUser=yes", "StateDirectory=datamill-lab", "WorkingDirectory=/var/lib/datamill-lab"] {
            assert!(text.lines().any(|there| there == line), "{line}");
        }
        let text = unit(Account::Caller).text().unwrap();
        assert!(text.contains("WantedBy=default.target") && !text.contains("User=") && !text.contains("Capability"));
    }

    #[test]
    fn the_template_for_packages_says_the_same() {
        let template = include_str!("../../../../../examples/service/datamill@.service");
        let of_this_one = ["#", "Description=", "ExecStart=", "Environment=", "LoadCredential="];
        let text = unit(Account::Dynamic).text().unwrap().replace("datamill-lab", "datamill-%i");
        for line in text.lines().filter(|line| !of_this_one.iter().any(|start| line.starts_with(start))) {
            assert!(template.lines().any(|there| there == line), "{line}");
        }
    }
}
