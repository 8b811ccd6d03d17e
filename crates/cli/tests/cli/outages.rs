//! Programs on a real Apache Kafka that stops answering, or makes them wait: what they say, and how they end.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpListener;
use std::process::Stdio;

use datamill_testkit::kafka::Kafka;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Place, Running, wait_until};

/// A program whose words are in a file.
struct Program {
    running: Running,
    said: String,
}

impl Program {
    fn start(place: &Place, name: &str, args: &[&str]) -> Self {
        let said = format!("{name}.txt");
        let mut command = place.command(&[args, &["--config", "test.config"]].concat());
        let messages = File::create(place.path(&said)).unwrap();
        let child = command.stdout(Stdio::null()).stderr(messages).spawn().unwrap();
        Self { running: Running(child), said }
    }

    fn said(&self, place: &Place) -> String {
        fs::read_to_string(place.path(&self.said)).unwrap()
    }

    fn wait_for(&self, place: &Place, words: &str) {
        wait_until(words, || self.said(place).contains(words));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.running.0), signal).unwrap();
    }

    /// Waits for its end. Answers the exit code and what it said.
    fn end(mut self, place: &Place) -> (i32, String) {
        let code = self.running.0.wait().unwrap().code().unwrap();
        (code, self.said(place))
    }
}

fn on_kafka(kafka: &Kafka) -> Place {
    let place = Place::new();
    place.write("test.config", format!("[broker]\nbootstrap.servers = {}\n", kafka.address()).as_bytes());
    place
}

fn create(place: &Place, topic: &str) {
    let made = place.run(&["topic", "create", topic, "--partitions", "1", "--config", "test.config"]);
    assert_eq!(made.code(), 0, "{}", made.stderr());
}

#[test]
fn programs_that_are_stopped_while_the_broker_is_away_do_not_wait_for_it_and_say_what_that_means() {
    let kafka = Kafka::start_own();
    let place = on_kafka(&kafka);
    place.write("in/first.csv", b"first");
    place.write("big/big.dat", b"");
    // of zeros, in so many small chunks that it is not sent as a whole before the broker breaks
    File::options().write(true).open(place.path("big/big.dat")).unwrap().set_len(512 << 20).unwrap();
    for topic in ["files", "big", "beats", "lines"] {
        create(&place, topic);
    }
    let beats = ["--heartbeat_topic_name", "beats", "--log_topic_name", "lines"];
    let watch = ["watch", "in", "--topic_name", "files", "--upload_existing", "--watchdog_lag_time", "0.1"];
    let watch = [&watch[..], &beats].concat();
    let download = [&["download", "mirror", "--topic_name", "files"][..], &beats].concat();
    let upload = ["upload", "big", "--topic_name", "big", "--queue_max_size", "1", "--chunk_size", "4096"];
    for (number, breaks) in [Kafka::pause, Kafka::kill9].into_iter().enumerate() {
        let watching = Program::start(&place, "watch", &watch);
        let downloading = Program::start(&place, "download", &download);
        watching.wait_for(&place, "watching");
        downloading.wait_for(&place, "everything in the topic is read");
        wait_until("the first file", || place.path("mirror/first.csv").exists());
        let uploading = Program::start(&place, "upload", &upload);
        let before = end_of_big(&place);
        wait_until("some of the large file", || end_of_big(&place) > before);
        breaks(&kafka);
        let new = format!("new{number}.csv");
        place.write(&format!("in/{new}"), b"new");
        // the upload has records on their way, and need not know
        for program in [&watching, &downloading] {
            program.wait_for(&place, " is away: it ");
        }
        for program in [&watching, &downloading, &uploading] {
            program.signal(Signal::TERM);
        }
        let away = format!("stopped while broker `{}` was away, since ", kafka.address());
        for (program, code, meaning) in [
            (watching, 0, "What was not acknowledged is sent at the next start"),
            (downloading, 0, "What was read and is not committed is done again at the next start"),
            (uploading, 3, "the same command with `--only-missing` sends what is missing"),
        ] {
            let (ended, said) = program.end(&place);
            assert_eq!(ended, code, "{said}");
            let (_, after) = said.split_once(" stopping: ").expect(&said);
            assert!(after.contains(&away) && after.contains(meaning), "{said}");
            assert!(!after.contains("keeps trying") && !after.contains("trying again"), "{said}");
        }
        kafka.go_on_or_restart();
        let ended = place.run(&[&watch[..], &["--exit-at-end", "--config", "test.config"]].concat());
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        let ended = place.run(&[&download[..], &["--exit-at-end", "--config", "test.config"]].concat());
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        assert_eq!(fs::read(place.path(&format!("mirror/{new}"))).unwrap(), b"new");
    }
}

/// Where the topic of the large file ends.
fn end_of_big(place: &Place) -> i64 {
    let described = place.run(&["topic", "describe", "big", "--json", "--config", "test.config"]);
    let described: serde_json::Value = serde_json::from_str(&described.stdout()).unwrap();
    described["ends"][0]["end"].as_i64().unwrap()
}

#[test]
fn programs_and_looks_that_a_quota_slows_down_say_so() {
    let kafka = Kafka::start_own();
    let place = on_kafka(&kafka);
    place.write("in/big.dat", &datamill_testkit::noise(2, 10 << 20));
    create(&place, "files");
    let upload = ["upload", "in", "--topic_name", "files"];
    let download = ["download", "mirror", "--topic_name", "files"];
    for (limit, args) in [("producer_byte_rate", &upload[..]), ("consumer_byte_rate", &download)] {
        kafka.quota(&format!("{limit}=300000"));
        let program = Program::start(&place, limit, args);
        program.wait_for(&place, "throttles this account: it makes it wait for ");
        kafka.quota("none");
        if limit == "consumer_byte_rate" {
            wait_until("the file", || place.path("mirror/big.dat").exists());
            program.signal(Signal::INT);
        }
        let (code, said) = program.end(&place);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains(&format!("by a quota such as `{limit}`. Nothing is lost")), "{said}");
        assert!(!said.contains("is away") && !said.contains("no record was acknowledged"), "{said}");
    }
    kafka.quota("consumer_byte_rate=300000");
    let looking = Program::start(&place, "verify", &["verify", "files"]);
    looking.wait_for(&place, "throttles this account, by a quota");
    kafka.quota("none");
    let (code, said) = looking.end(&place);
    assert_eq!((code, said.matches("throttles").count()), (0, 1), "{said}");
}

/// Each command that works on a broker, with what it needs to begin.
const ON_A_BROKER: [&[&str]; 19] = [
    &["upload", "data", "--topic_name", "t"],
    &["upload", "data", "--topic_name", "t", "--only-missing"],
    &["watch", "data", "--topic_name", "t"],
    &["download", "mirror", "--topic_name", "t"],
    &["read", "t"],
    &["read", "t", "--newest"],
    &["ls", "t"],
    &["get", "t", "a"],
    &["verify", "t"],
    &["reconcile", "data", "--topic_name", "t"],
    &["status", "--topic_name", "t", "--consumer_group_id", "g", "--status_address", "1"],
    &["topic", "create", "t"],
    &["topic", "list"],
    &["topic", "delete", "t", "--yes"],
    &["transfer", "--to", "s3://bucket/a", "--topic_name", "t"],
    &["s3-transfer", "bucket", "--topic_name", "t"],
    &["rekey", "t", "u"],
    &["retry", "--topic_name", "t", "--consumer_group_id", "g"],
    &["rerun", "--topic_name", "t", "--consumer_group_id", "g"],
];

/// Those that need no broker, that look at one without needing an answer, and those that Python does.
const OTHERS: [&str; 7] = ["check", "demo", "help", "process", "reproduce", "service", "try"];

/// A store that is not asked before the broker has answered.
const STORE: &str = "[s3]\nregion = r\naccess_key_id = a\nsecret_key_id = b\n";

#[test]
fn every_command_whose_broker_is_away_at_the_start_can_be_started_again() {
    let place = Place::new();
    place.write("data/a", b"a");
    // a listener that takes connections and says nothing, and one that ends them
    let [silent, ending] = [(), ()].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    let (silent_address, ending_address) = (address(&silent), address(&ending));
    std::thread::spawn(move || ending.incoming().for_each(drop));
    let config = |name: &str, servers: &str, more: &str| {
        place.write(name, format!("[broker]\nbootstrap.servers = {servers}\n{more}{STORE}").as_bytes());
    };
    config("refused.config", "127.0.0.1:1", "sasl.password = very-secret\n");
    config("silent.config", &silent_address, "");
    config("ending.config", &ending_address, "");
    config("encrypted.config", &ending_address, "security.protocol = SSL\n");
    config("unknown.config", "no-such-host.invalid:9092", "");

    let listed = place.run(&["--help"]).stdout();
    let (_, listed) = listed.split_once("\nCommands:\n").unwrap();
    let listed = listed.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
    let listed: BTreeSet<&str> =
        listed.filter(|line| !line.starts_with(' ')).filter_map(|l| l.split(' ').next()).collect();
    let known: BTreeSet<&str> = ON_A_BROKER.iter().map(|args| args[0]).chain(OTHERS).collect();
    assert_eq!(listed, known, "a command that is not tried here");

    let with = |args: &[&'static str], config: &'static str| [args, &["--config", config]].concat();
    let refused = ON_A_BROKER.iter().map(|args| with(args, "refused.config"));
    let others = ["silent.config", "ending.config", "encrypted.config", "unknown.config"];
    let all: Vec<_> = refused.chain(others.map(|config| with(ON_A_BROKER[0], config))).collect();
    // they wait at the same time
    let started: Vec<_> = all
        .iter()
        .map(|args| place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
        .collect();
    for (args, child) in all.iter().zip(started) {
        let ended = crate::common::Ended::from(child.wait_with_output().unwrap());
        let said = ended.stderr();
        assert_eq!(ended.code(), 3, "{args:?}: {said}");
        assert_eq!(ended.stdout(), "", "{args:?}");
        let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
        let [error] = errors[..] else { panic!("{args:?}: {said}") };
        let what =
            if error.contains("closes the connection") { "" } else { "` does not answer, check `bootstrap.servers`" };
        assert!(error.contains("broker `") && error.contains(what), "{args:?}: {said}");
        assert!(error.ends_with(". Nothing is lost: start it again, as a supervisor does after exit code 3"), "{said}");
        assert!(!said.contains("very-secret"), "{args:?}: {said}");
        // a program may know since when the broker is away
        assert_eq!(said.contains("no program tells at `1`"), args.contains(&"--status_address"), "{said}");
    }
    drop(silent);
}
