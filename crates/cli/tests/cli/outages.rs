//! Programs on a real Apache Kafka that stops answering, or makes them wait: what they say, and how they end.

use std::fs::{self, File};
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
    for topic in ["files", "big", "beats"] {
        create(&place, topic);
    }
    let beats = ["--heartbeat_topic_name", "beats", "--log_topic_name", "beats"];
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
        for (program, meaning) in [
            (watching, "What was not acknowledged is sent at the next start"),
            (downloading, "What was read and is not committed is done again at the next start"),
            (uploading, "the same command with `--only-missing` sends what is missing"),
        ] {
            let (_, said) = program.end(&place);
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
fn an_upload_and_a_download_that_a_quota_slows_down_say_so() {
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
}
