//! Services, with a systemd of the tests' own.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Ended, Place, Running, wait_until};

/// A service manager; dropping it ends it with its services.
struct Systemd {
    place: Place,
    folder: PathBuf,
}

impl Systemd {
    fn new() -> Self {
        let place = Place::new();
        let folder = place.path("systemd");
        let systemd = Self { place, folder };
        systemd.called("start");
        systemd
    }

    fn called(&self, word: &str) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dev/systemd");
        // in files, since what it starts keeps them
        let said = std::fs::File::create(self.place.path("said")).unwrap();
        let mut command = Command::new(script);
        let called =
            command.arg(word).arg(&self.folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).status();
        let said = std::fs::read_to_string(self.place.path("said")).unwrap();
        assert!(called.expect("dev/systemd").success(), "dev/systemd {word}: {said}");
    }

    /// `datamill` as the person calls it whose services they are.
    fn datamill(&self, args: &[&str]) -> Ended {
        ended(self.with_its_home(self.place.command(args)))
    }

    fn systemctl(&self, args: &[&str]) -> String {
        let mut command = Command::new("systemctl");
        command.arg("--user").args(args);
        ended(self.with_its_home(command)).stdout()
    }

    fn with_its_home(&self, mut command: Command) -> Command {
        command.env("HOME", self.folder.join("home")).env("XDG_RUNTIME_DIR", self.folder.join("run"));
        command.env_remove("XDG_CONFIG_HOME");
        command
    }

    /// Waits for these files, each with one upload.
    fn has_once(&self, names: &[&str]) {
        let once: BTreeMap<_, _> =
            names.iter().map(|name| ((*name).to_owned(), name.as_bytes().to_vec())).map(|f| (f, 1)).collect();
        wait_until("the files", || self.place.whole_files("files").len() >= once.len());
        assert_eq!(self.place.whole_files("files"), once);
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return eprintln!("{}", std::fs::read_to_string(self.folder.join("log")).unwrap_or_default());
        }
        self.called("stop");
    }
}

fn ended(mut command: Command) -> Ended {
    command.output().unwrap().into()
}

#[test]
fn a_service_goes_on_after_a_kill_and_a_restart_of_the_machine_and_sends_each_file_once() {
    let systemd = Systemd::new();
    let place = &systemd.place;
    assert_eq!(systemd.datamill(&["topic", "create", "files"]).code(), 0);
    std::fs::create_dir(place.path("of 100% $lab")).unwrap();
    let watch = ["watch", "of 100% $lab", "--topic_name", "files", "--watchdog_lag_time", "0.2"];
    let installed = systemd.datamill(&[&["service", "install", "lab", "--user", "--"], &watch[..]].concat());
    assert_eq!(installed.code(), 0, "{}", installed.stderr());
    assert!(installed.stderr().contains("service `lab` is installed"), "{}", installed.stderr());
    place.write("of 100% $lab/a", b"a");
    systemd.has_once(&["a"]);
    let listed = systemd.datamill(&["service", "list", "--user"]).stdout();
    assert!(
        listed
            .lines()
            .any(|line| line.split_whitespace().collect::<Vec<_>>() == ["lab", "active", "datamill", "watch", "(lab)"]),
        "{listed}"
    );
    assert_eq!(systemd.datamill(&["service", "status", "lab", "--user"]).code(), 0);

    let id = || systemd.systemctl(&["show", "--property=MainPID", "--value", "datamill-lab"]).trim().to_owned();
    let killed = id();
    kill_process(Pid::from_raw(killed.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    place.write("of 100% $lab/b", b"b");
    wait_until("another process", || !["0", killed.as_str()].contains(&id().as_str()));
    systemd.has_once(&["a", "b"]);

    systemd.called("stop");
    place.write("of 100% $lab/c", b"c");
    systemd.called("start");
    systemd.has_once(&["a", "b", "c"]);

    assert_eq!(systemd.datamill(&["service", "stop", "lab", "--user"]).code(), 0);
    assert_eq!(systemd.datamill(&["service", "status", "lab", "--user"]).code(), 1);
    assert_eq!(systemd.datamill(&["service", "start", "lab", "--user"]).code(), 0);
    assert_eq!(systemd.datamill(&["service", "uninstall", "lab", "--user"]).code(), 0);
    assert_eq!(systemd.datamill(&["service", "list", "--user"]).stdout().lines().count(), 1);
    let gone = systemd.datamill(&["service", "stop", "lab", "--user"]);
    assert_eq!(gone.code(), 2);
    assert!(gone.stderr().contains("no service `lab`"), "{}", gone.stderr());
}

#[test]
fn what_only_a_person_can_mend_is_said_at_the_installation_and_not_started_again() {
    let systemd = Systemd::new();
    systemd.place.write("lab.config", b"[broker]\nbootstrap.servers = sqlite:log.db\n");
    std::fs::create_dir(systemd.place.path("data")).unwrap();
    // that the log file cannot be written only the start can tell
    let watch = ["watch", "data", "--topic_name", "files", "--config", "lab.config", "--logger_file_path", "data"];
    let installed = systemd.datamill(&[&["service", "install", "lab", "--user", "--"], &watch[..]].concat());
    assert_eq!(installed.code(), 2, "{}", installed.stderr());
    assert!(installed.stderr().contains("does not stay up"), "{}", installed.stderr());
    wait_until("the end", || systemd.systemctl(&["is-active", "datamill-lab"]).trim() == "failed");
    assert_eq!(systemd.systemctl(&["show", "--property=NRestarts", "--value", "datamill-lab"]).trim(), "0");
}

#[test]
fn a_unit_is_one_that_systemd_takes() {
    let place = Place::new();
    place.write("secret", b"secret");
    place.write("lab.config", b"[broker]\nbootstrap.servers = $SERVERS\n");
    let config = place.path("lab.config");
    let config = config.to_str().unwrap();
    let watch = ["--", "watch", "/data/of 50% $lab", "--topic_name", "files", "--logs_dir", "LOGS", "--config", config];
    for account in [&["--run_as", "daemon"][..], &["--dynamic_user"], &["--user"]] {
        let install =
            [&["service", "install", "lab", "--print", "--secret", "SERVERS=secret"], account, &watch].concat();
        let printed = place.run(&install);
        assert_eq!(printed.code(), 0, "{}", printed.stderr());
        place.write("datamill-lab.service", printed.stdout().as_bytes());
        let mut verify = Command::new("systemd-analyze");
        verify.arg("verify").arg(place.path("datamill-lab.service"));
        let verified = ended(verify);
        assert_eq!((verified.code(), verified.stderr().as_str()), (0, ""), "{}", printed.stdout());
    }
}

#[test]
fn commands_that_cannot_be_services_are_refused_with_the_reason() {
    let place = Place::new();
    place.write("lab.config", b"[broker]\nbootstrap.servers = $SERVERS\n");
    for (words, reason) in [
        (&["upload", "x", "--topic_name", "t"][..], "`datamill upload` ends by itself"),
        (&["watch", "x", "--topic_name", "t", "--exit-at-end"], "leave --exit-at-end out"),
        (&["watch", "x"], "--topic_name"),
        (&["no-such-program", "x"], "there is no program `no-such-program` in a folder of PATH"),
        (&["./lab.config", "x"], "chmod +x"),
        (&["datamill", "watch", "x"], "--topic_name"),
        (&["process", "--topic_name", "t", "--", "no-such-program"], "there is no program `no-such-program`"),
        (&["process", "--topic_name", "t", "--", "./lab.config", "{path}"], "chmod +x"),
        (&["process", "--topic_name", "t", "--", "cat", "{result}"], "`{result}` means nothing in `datamill process`"),
        (&["process", "--topic_name", "t", "--", "sh", "-c", "cat {path}"], "\"$DATAMILL_PATH\""),
        (&["process", "missing.py:store", "--topic_name", "t"], "there is no file `missing.py` with a function"),
        (&["watch", "x", "--topic_name", "t", "--config", "no.config"], "there is no configuration file"),
        (&["watch", "x", "--topic_name", "t", "--config", "lab.config"], "--secret NAME=FILE"),
    ] {
        let mut command = place.command(&[&["service", "install", "lab", "--user", "--print", "--"], words].concat());
        // that it is set here says nothing of the service
        command.env("SERVERS", "sqlite:log.db");
        let refused = ended(command);
        assert_eq!((refused.code(), refused.stdout().as_str()), (2, ""), "{words:?}");
        assert!(refused.stderr().contains(reason), "{words:?}: {}", refused.stderr());
    }
    place.write("data/a.csv", b"");
    place.write("store.py", b"");
    place.write("store.sh", b"#!/bin/sh");
    std::fs::set_permissions(place.path("store.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let watch = ["watch", "data", "--topic_name", "t"];
    for (options, words, reason) in [
        (&["--run_as", "no-such-account"][..], &watch[..], "there is no account `no-such-account`"),
        (&["--user", "--secret", "NAME=data"], &watch, "`data` of secret `NAME` is a folder"),
        (&["--user", "--secret", "NAME=missing"], &watch, "the file `missing` of secret `NAME` cannot be opened"),
        (&["--dynamic_user"], &watch, "`data` is another place"),
        (&["--dynamic_user"], &["watch", "/data", "--topic_name", "t"], "a watch needs --logs_dir"),
        (&["--dynamic_user"], &["process", "store.py:store", "--topic_name", "t"], "`store.py` is another place"),
        (&["--dynamic_user"], &["process", "--topic_name", "t", "--", "./store.sh"], "`./store.sh` is another place"),
    ] {
        let install = [&["service", "install", "lab", "--print"], options, &["--"], words].concat();
        let refused = place.run(&install);
        assert_eq!((refused.code(), refused.stdout().as_str()), (2, ""), "{install:?}");
        assert!(refused.stderr().contains(reason), "{install:?}: {}", refused.stderr());
    }
    let printed =
        place.run(&[&["service", "install", "lab", "--user", "--print", "--", "datamill"], &watch[..]].concat());
    assert_eq!(printed.code(), 0, "{}", printed.stderr());
    assert!(printed.stdout().contains("\"watch\" \"data\"") && !printed.stdout().contains("\"datamill\""));
}

#[test]
fn a_program_tells_its_service_manager_that_it_is_set_up_works_and_ends_and_reads_its_credentials() {
    let place = Place::new();
    place.write("lab.config", b"[broker]\nbootstrap.servers = $SERVERS\n");
    place.write("credentials/SERVERS", b"sqlite:log.db\n");
    place.write("data/a", b"a");
    let socket = UnixDatagram::bind(place.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let told = || {
        let mut text = [0; 256];
        let length = socket.recv(&mut text).expect("the program tells something");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let mut command = place.command(&["watch", "data", "--topic_name", "files", "--config", "lab.config"]);
    command.env("NOTIFY_SOCKET", place.path("notify")).env("WATCHDOG_USEC", "900000").env("WATCHDOG_PID", "");
    command.env("CREDENTIALS_DIRECTORY", place.path("credentials")).stdin(Stdio::null());
    let running = Running(command.spawn().unwrap());
    assert_eq!(told(), "READY=1\nWATCHDOG=1\n");
    for _ in 0..5 {
        assert_eq!(told(), "WATCHDOG=1\n");
    }
    assert!(place.path("log.db").exists());
    assert_eq!(running.end(), 0);
    let last = std::iter::repeat_with(told).find(|text| text != "WATCHDOG=1\n");
    assert_eq!(last.as_deref(), Some("STOPPING=1\nWATCHDOG=1\n"));
}
