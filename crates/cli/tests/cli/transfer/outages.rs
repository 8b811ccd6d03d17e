//! Stores that are away for a while, several processes, and memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Child, Stdio};
use std::time::Duration;

use datamill_testkit::kafka::Kafka;
use datamill_testkit::s3::S3Server;

use super::bench::{Bench, content, done};
use crate::common::wait_until;

/// A transfer that runs on its own; what it says is in a file.
fn start(bench: &Bench, name: &str, more: &[&str]) -> Child {
    let args = bench.args();
    start_with(bench, name, &args.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
}

pub fn start_with(bench: &Bench, name: &str, args: &[&str]) -> Child {
    let said = File::create(bench.place.path(name)).unwrap();
    bench.place.command(args).stdout(Stdio::null()).stderr(said).spawn().unwrap()
}

pub fn said(bench: &Bench, name: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(bench.place.path(name)).unwrap()).into_owned()
}

fn ends_well(bench: &Bench, mut child: Child, name: &str) -> usize {
    let status = child.wait().unwrap();
    assert!(status.success(), "{}", said(bench, name));
    said(bench, name).lines().filter(|line| line.contains(" transferred ")).count()
}

#[test]
fn a_server_that_dies_in_the_middle_of_an_upload_is_waited_for() {
    let server = S3Server::start_own();
    let bench = Bench::new(&server);
    let files: Vec<(String, Vec<u8>)> = (0..3).map(|i| (format!("{i}.raw"), content(i, 40 << 20))).collect();
    bench.upload(&files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect::<Vec<_>>());
    let child = start(&bench, "said", &["--n_threads", "1"]);
    wait_until("an upload begins", || !bench.bucket.unfinished_uploads().is_empty());
    server.kill9();
    wait_until("the program holds", || said(&bench, "said").contains("not available; holding"));
    server.restart();
    assert_eq!(ends_well(&bench, child, "said"), 3);
    assert!(bench.contents() == files.into_iter().collect::<BTreeMap<_, _>>(), "{:?}", bench.bucket.keys());
    assert!(bench.bucket.unfinished_uploads().is_empty());
}

#[test]
fn a_store_that_is_away_at_the_start_is_waited_for_and_one_without_the_bucket_stops_the_program() {
    let server = S3Server::start_own();
    let bench = Bench::without_bucket(&server);
    bench.upload(&[("a", b"1")]);
    server.kill9();
    let mut child = start(&bench, "said", &[]);
    wait_until("the program holds", || said(&bench, "said").contains("not available; holding"));
    server.restart();
    let status = child.wait().unwrap();
    let text = said(&bench, "said");
    assert_eq!(status.code(), Some(3), "{text}");
    assert!(text.contains("NoSuchBucket") && text.contains("is not there"), "{text}");
    let bench = Bench { bucket: server.bucket(bench.bucket.name()), ..bench };
    assert_eq!(done(&bench.transfer(&[])), 1, "it was not passed over");
}

#[test]
fn processes_of_one_group_share_the_files() {
    let server = S3Server::from_env();
    let bench = Bench::new(&server);
    let kafka = Kafka::from_env().address().to_owned();
    let config = std::fs::read_to_string(bench.place.path("lab.config")).unwrap();
    let (_, s3) = config.split_once("\n\n").unwrap();
    bench.place.write("lab.config", format!("[broker]\nbootstrap.servers = {kafka}\n\n{s3}").as_bytes());
    let topic = bench.bucket.name().to_owned();
    let run = |args: &[&str]| {
        let ended = bench.place.run(&[args, &["--config", "lab.config"]].concat());
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
    };
    run(&["topic", "create", &topic, "--partitions", "6"]);
    for i in 0..60 {
        bench.place.write(&format!("source/{i}.dat"), &content(i, 20_000));
    }
    run(&["upload", "source", "--topic_name", &topic]);

    let names = ["one", "two", "three"];
    let mut children = Vec::new();
    for name in names {
        let url = format!("s3://{}", bench.bucket.name());
        let args = ["transfer", "--to", &url, "--topic_name", &topic, "--config", "lab.config", "--instance", name];
        let said = File::create(bench.place.path(name)).unwrap();
        let mut command = bench.place.command(&[&args[..], &["--output_dir", &format!("out-{name}")]].concat());
        children.push(command.stdout(Stdio::null()).stderr(said).spawn().unwrap());
    }
    wait_until("all files are there", || bench.bucket.keys().len() == 60);
    std::thread::sleep(Duration::from_millis(500));
    for child in &mut children {
        rustix::process::kill_process(rustix::process::Pid::from_child(child), rustix::process::Signal::INT).unwrap();
    }
    let counts: Vec<usize> = names.iter().zip(children).map(|(name, child)| ends_well(&bench, child, name)).collect();
    assert_eq!(counts.iter().sum::<usize>(), 60, "{counts:?}");
    assert!(bench.bucket.unfinished_uploads().is_empty());
}

/// Anonymous memory of a process in bytes, as Linux counts it.
#[cfg(target_os = "linux")]
fn anonymous(child: &Child) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0) << 10
}

#[test]
#[cfg(target_os = "linux")]
fn a_store_that_hangs_holds_the_reading_within_the_memory_limit() {
    let server = S3Server::start_own();
    let bench = Bench::new(&server);
    let large = content(7, 200 << 20);
    bench.upload(&[("large.raw", &large)]);
    let mut child = start(&bench, "said", &["--memory_limit", "128M"]);
    wait_until("an upload begins", || !bench.bucket.unfinished_uploads().is_empty());
    server.halt();
    let mut peak = 0;
    for _ in 0..60 {
        peak = peak.max(anonymous(&child));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(child.try_wait().unwrap().is_none(), "{}", said(&bench, "said"));
    assert!(peak < 128 << 20, "{peak} bytes");
    server.go_on();
    assert_eq!(ends_well(&bench, child, "said"), 1);
    assert!(bench.bucket.object("files/large.raw").unwrap().content == large);
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_larger_than_the_memory_limit_passes_within_it() {
    let bench = Bench::new(&S3Server::from_env());
    let large = content(5, 200 << 20);
    bench.upload(&[("large.raw", &large)]);
    let mut child = start(&bench, "said", &["--memory_limit", "64M"]);
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(anonymous(&child));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(ends_well(&bench, child, "said"), 1);
    // the limit, and one part for each of two workers
    assert!(peak < (64 << 20) + 2 * (8 << 20), "{peak} bytes");
    assert!(bench.bucket.object("files/large.raw").unwrap().content == large);
}
