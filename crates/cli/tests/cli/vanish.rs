//! Folders that vanish: `LOGS` that is removed, and a share that is mounted later, or no longer. The share is a folder
//! that is mounted at another one, in a mount namespace of its own, for which the tests need to be root.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::common::{Ended, Running, record, wait_until};
use crate::namespace::Namespace;

/// A share, and the folder `data` that it is mounted at.
struct Share(Namespace);

impl Share {
    fn new(kafka: bool) -> Self {
        Self(Namespace::new(kafka, &["data", "share", "source"], "mount --bind share share"))
    }

    fn mount(&self) {
        assert!(self.0.inside("mount").args(["--bind", "share", "data"]).status().unwrap().success());
    }

    /// As a share goes whose server does: what is open stays open.
    fn unmount(&self) {
        assert!(self.0.inside("umount").args(["-l", "data"]).status().unwrap().success());
    }

    fn command(&self, args: &[&str]) -> Command {
        let datamill = self.0.place.command(args);
        let mut command = self.0.inside(datamill.get_program());
        command.args(args).args(["--topic_name", &self.0.topic, "--config", "test.config"]);
        command
    }

    fn run(&self, args: &[&str]) -> Ended {
        Ended::from(self.command(args).output().unwrap())
    }

    fn start(&self, args: &[&str]) -> Running {
        let messages = File::create(self.0.place.path("messages.txt")).unwrap();
        Running(self.command(args).stdout(Stdio::null()).stderr(messages).spawn().unwrap())
    }

    fn said(&self, text: &str) -> usize {
        fs::read_to_string(self.0.place.path("messages.txt")).unwrap().matches(text).count()
    }

    /// How often each file is in the topic.
    fn sent(&self) -> BTreeMap<String, usize> {
        let args = ["read", &self.0.topic, "--exit-at-end", "--config", "test.config"];
        let ended = self.0.place.run(&args);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        let mut files = BTreeMap::new();
        for line in ended.stdout().lines() {
            let message: serde_json::Value = serde_json::from_str(line).unwrap();
            let value = crate::common::bytes(&message["value"]);
            let path = datamill::wire::Chunk::decode(&value).unwrap().rebuilt_path();
            *files.entry(path).or_default() += 1;
        }
        files
    }

    fn once(&self, files: &[&str]) -> bool {
        self.sent() == files.iter().map(|file| ((*file).to_owned(), 1)).collect()
    }

    /// Puts a file on the topic.
    fn upload(&self, name: &str) {
        self.0.place.write(&format!("source/{name}"), name.as_bytes());
        let ended = self.run(&["upload", &format!("source/{name}")]);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.0.place.path(relative)
    }
}

const WATCH: [&str; 5] = ["watch", "data", "--watchdog_lag_time", "0.3", "--use_polling_observer"];

fn a_record_that_is_gone_stops_the_next_start(kafka: bool) {
    let share = Share::new(kafka);
    let end = |more: &[&str]| share.run(&[&WATCH[..], &["--exit-at-end"], more].concat());
    assert_eq!(end(&[]).code(), 0);
    fs::remove_dir_all(share.path("data/LOGS")).unwrap();
    share.0.place.write("data/one.csv", b"1");
    for more in [&[][..], &["--upload_existing"]] {
        let ended = end(more);
        assert_eq!(ended.code(), 2, "{}", ended.stderr());
        let said = ended.stderr();
        assert!(said.contains("is gone: put it back") && said.contains("start once with `--new_folder`"), "{said}");
    }
    assert!(share.sent().is_empty());
    let ended = end(&["--new_folder", "--upload_existing"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    share.0.place.write("data/two.csv", b"2");
    assert_eq!(end(&[]).code(), 0);
    assert!(share.once(&["one.csv", "two.csv"]));
}

fn a_share_that_is_mounted_after_the_watch_starts_is_gone_on_with(kafka: bool) {
    let share = Share::new(kafka);
    for number in 0..5 {
        share.0.place.write(&format!("share/old {number}.csv"), b"old");
    }
    let watch = share.start(&WATCH);
    wait_until("the first start", || record(&share.path("data")).contains("started"));
    share.mount();
    wait_until("the share", || share.said("not sent, since already there: 5 files") == 1);
    share.0.place.write("share/new.csv", b"new");
    wait_until("the new file", || record(&share.path("share")).contains("\"new.csv\""));
    // away, back, and away again, with files that come meanwhile
    share.unmount();
    wait_until("the mount point", || share.said("is mounted anew or is back") == 1 || share.said("is back") == 1);
    share.0.place.write("data/below.csv", b"below the mount point");
    wait_until("a file below the mount point", || record(&share.path("data")).contains("\"below.csv\""));
    share.0.place.write("share/meanwhile.csv", b"meanwhile");
    share.mount();
    wait_until("a file that came meanwhile", || record(&share.path("share")).contains("\"meanwhile.csv\""));
    assert_eq!(watch.end(), 0);
    let sent = ["below.csv", "meanwhile.csv", "new.csv"];
    assert!(share.once(&sent), "{:?}", share.sent());
    let again = share.run(&[&WATCH[..], &["--exit-at-end"]].concat());
    assert!(again.code() == 0 && again.stderr().contains("sent 0 files"), "{}", again.stderr());
    share.unmount();
    let again = share.run(&[&WATCH[..], &["--exit-at-end"]].concat());
    assert!(again.code() == 0 && again.stderr().contains("sent 0 files"), "{}", again.stderr());
    assert!(share.once(&sent), "{:?}", share.sent());
}

/// A share goes while files are put into it, and comes back.
fn nothing_goes_under_the_mount_point(share: &Share, program: &[&str], folder: &str) {
    share.mount();
    let running = share.start(program);
    share.upload("first");
    let there = |name: &str| share.path(folder).join(name).exists();
    wait_until("the first file", || there("first") || share.said("error") > 0);
    assert!(there("first"), "{}", fs::read_to_string(share.path("messages.txt")).unwrap());
    share.unmount();
    share.upload("second");
    wait_until("the hold", || {
        share.said("is its share not mounted?") + share.said("a share that is not mounted?") == 1
    });
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(!there("second") && fs::read_dir(share.path("data")).unwrap().count() == 0, "it is below the mount point");
    share.mount();
    wait_until("the second file", || there("second"));
    assert_eq!(running.end(), 0);
}

fn a_share_that_goes_under_a_download_holds_it(kafka: bool) {
    let share = Share::new(kafka);
    nothing_goes_under_the_mount_point(&share, &["download", "data", "--output_dir", "own"], "share");
}

fn a_share_that_goes_under_a_transfer_holds_it(kafka: bool) {
    let share = Share::new(kafka);
    let url = format!("file://{}", share.path("data").display());
    let folder = format!("share/{}", share.0.topic);
    nothing_goes_under_the_mount_point(&share, &["transfer", "--to", &url, "--output_dir", "own"], &folder);
}

fn a_share_that_goes_under_an_output_folder_is_told_and_nothing_is_made_under_its_mount_point(kafka: bool) {
    let share = Share::new(kafka);
    share.mount();
    let url = format!("file://{}", share.path("store").display());
    let running = share.start(&["transfer", "--to", &url, "--output_dir", "data"]);
    let put = |name: &str| {
        share.upload(name);
        wait_until(name, || share.path("store").join(&share.0.topic).join(name).exists());
    };
    put("first");
    share.unmount();
    wait_until("that it is told", || share.said("What needs the output folder waits until it is back") == 1);
    put("second");
    // the tables are written every few seconds
    std::thread::sleep(std::time::Duration::from_secs(6));
    assert_eq!(fs::read_dir(share.path("data")).unwrap().count(), 0, "something is below the mount point");
    share.mount();
    wait_until("the share", || share.said("the output folder is back") == 1);
    put("third");
    assert_eq!(running.end(), 0);
    let text = |part: &str| {
        let mut logs = fs::read_dir(share.path("share/LOGS")).unwrap().map(|entry| entry.unwrap().path());
        fs::read_to_string(logs.find(|path| path.to_string_lossy().contains(part)).unwrap()).unwrap()
    };
    let rows = text("processed_from_");
    assert!(["first", "second", "third"].iter().all(|name| rows.contains(name)), "{rows}");
    let lines = text(".log");
    assert!(lines.contains("What needs the output folder waits"), "{lines}");
}

/// A share is not mounted when a program starts that has put files into it before.
fn a_start_without_the_share_stops(share: &Share, program: &[&str], folder: &str) {
    let run = |more: &[&str]| share.run(&[program, &["--exit-at-end"], more].concat());
    let there = |name: &str| share.path(folder).join(name).exists();
    share.mount();
    share.upload("first");
    assert_eq!(run(&[]).code(), 0);
    share.unmount();
    share.upload("second");
    for _ in 0..2 {
        let ended = run(&[]);
        assert_eq!(ended.code(), 2, "{}", ended.stderr());
        assert!(ended.stderr().contains("is the share mounted?"), "{}", ended.stderr());
        assert_eq!(fs::read_dir(share.path("data")).unwrap().count(), 0, "it is below the mount point");
    }
    share.mount();
    let ended = run(&[]);
    assert!(ended.code() == 0 && there("first") && there("second"), "{}", ended.stderr());
    // a folder that was emptied on purpose
    share.unmount();
    share.upload("third");
    let ended = run(&["--same_group"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert!(!there("third"));
    share.upload("fourth");
    assert_eq!(run(&[]).code(), 0, "the folder has its mark now");
}

fn a_download_into_a_share_that_is_not_mounted_stops_at_the_start(kafka: bool) {
    let share = Share::new(kafka);
    a_start_without_the_share_stops(&share, &["download", "data", "--output_dir", "own"], "share");
}

fn a_transfer_into_a_share_that_is_not_mounted_stops_at_the_start(kafka: bool) {
    let share = Share::new(kafka);
    let url = format!("file://{}", share.path("data").display());
    let folder = format!("share/{}", share.0.topic);
    a_start_without_the_share_stops(&share, &["transfer", "--to", &url, "--output_dir", "own"], &folder);
}

/// Each test on both logs.
macro_rules! on_both_logs {
    ($($test:ident),* $(,)?) => {
        mod embedded {
            $(#[test] fn $test() { super::$test(false); })*
        }
        mod kafka {
            $(#[test] fn $test() { super::$test(true); })*
        }
    };
}

on_both_logs! {
    a_record_that_is_gone_stops_the_next_start,
    a_share_that_is_mounted_after_the_watch_starts_is_gone_on_with,
    a_share_that_goes_under_a_download_holds_it,
    a_share_that_goes_under_a_transfer_holds_it,
    a_share_that_goes_under_an_output_folder_is_told_and_nothing_is_made_under_its_mount_point,
    a_download_into_a_share_that_is_not_mounted_stops_at_the_start,
    a_transfer_into_a_share_that_is_not_mounted_stops_at_the_start,
}
