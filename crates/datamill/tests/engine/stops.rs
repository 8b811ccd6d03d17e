//! Reproducers on a real Apache Kafka that stops answering, or makes them wait: what they say, and how they end.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::common::{Bench, wait_for};
use crate::program::{example, is_bad, results, signal, upload};
use datamill_testkit::kafka::Kafka;

/// Words of librdkafka that nobody understands who has not read its code.
const FOREIGN: [&str; 5] = ["REBALANCE", "FATAL", "ADDOFFSETS", "ERROR librdkafka", "WARN  librdkafka"];

/// A reproducer as a process, with a group and a folder of its own.
struct Program {
    child: Child,
    said: PathBuf,
}

impl Program {
    fn start(kafka: &Kafka, bench: &Bench, name: &str, options: &[&str]) -> Self {
        let folder = bench.folder.path();
        let config = folder.join("test.config");
        fs::write(&config, format!("[broker]\nbootstrap.servers = {}\n", kafka.address())).unwrap();
        let said = folder.join(format!("{name}.txt"));
        let child = Command::new(example())
            .current_dir(folder)
            .env_remove("OPENMSISTREAM_CONFIG_FILE_DIR")
            .arg("--config")
            .arg(config)
            .args(["--consumer_topic_name", &bench.topic, "--producer_topic_name", &bench.results])
            .args(["--consumer_group_id", &format!("{}-{name}", bench.group), "--output_dir", name])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said).unwrap())
            .spawn();
        Self { child: child.unwrap(), said }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    fn wait_for(&self, words: &str) {
        wait_for(words, || self.said().contains(words));
    }

    /// Waits for its end. Answers the exit code and what it said.
    fn end(mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().unwrap();
        let said = self.said();
        for line in said.lines() {
            assert!(!FOREIGN.iter().any(|words| line.contains(words)), "{line}");
        }
        (code, said)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_reproducer_that_is_stopped_while_the_broker_is_away_does_not_wait_for_it_and_says_what_that_means() {
    const FILES: usize = 12;
    let kafka = Kafka::start_own();
    let bench = Bench::on(&kafka, &[], 2);
    upload(&bench, "in", 0..FILES);
    let both: [(&str, &str, &[&str]); 2] =
        [("once", "-TERM", &[]), ("least", "-INT", &["--delivery", "at-least-once"])];
    for breaks in [Kafka::pause, Kafka::kill9] {
        let programs = both.map(|(name, _, options)| Program::start(&kafka, &bench, name, options));
        for program in &programs {
            program.wait_for("everything in the topic is read");
        }
        breaks(&kafka);
        for (program, (_, name, _)) in programs.iter().zip(both) {
            signal(&program.child, name);
        }
        for program in programs {
            let (code, said) = program.end();
            // some files have failed, as they should, and stay so
            assert!(matches!(code, 0 | 1 | 3), "{code}: {said}");
            let (_, after) = said.split_once(" stopping: files in hand are finished").expect(&said);
            let expected = format!("stopped while broker `{}` was away, since ", kafka.address());
            assert!(after.contains(&expected) && after.contains("is done again at the next start"), "{said}");
            assert!(!after.contains("starting again"), "{said}");
            // in no more time than that: the limit of the stop itself was not reached
            assert!(!after.contains("the last commit does not end"), "{said}");
        }
        kafka.go_on_or_restart();
    }
    for (name, _, options) in both {
        let (code, said) = Program::start(&kafka, &bench, name, &[options, &["--exit-at-end"]].concat()).end();
        assert!(matches!(code, 0 | 1), "{said}");
    }
    let bench = Bench { results: bench.results.clone(), ..bench };
    let results = results(&bench);
    let good = (0..FILES).filter(|number| !is_bad(*number)).count();
    assert_eq!(results.len(), good);
    assert!(results.values().all(|times| *times == 2), "one of each group: {results:?}");
}

#[test]
fn a_reproducer_that_a_quota_slows_down_says_so() {
    let kafka = Kafka::start_own();
    let bench = Bench::on(&kafka, &[], 1);
    let folder = bench.folder.path().join("big");
    fs::create_dir_all(&folder).unwrap();
    for number in 0..10_u64 {
        fs::write(folder.join(format!("{number}.csv")), datamill_testkit::noise(number, 1 << 20)).unwrap();
    }
    let settings = datamill::upload::UploadSettings::new(&bench.topic);
    let (control, facts) = Default::default();
    datamill::upload::upload_paths(bench.log.as_ref(), &[folder], &settings, &control, &facts).unwrap();
    kafka.quota("consumer_byte_rate=300000");
    let program = Program::start(&kafka, &bench, "slow", &[]);
    program.wait_for("throttles this account: it makes it wait for ");
    program.wait_for("`consumer_byte_rate`");
    kafka.quota("none");
    program.wait_for("no longer throttles this account, which waited for ");
    signal(&program.child, "-INT");
    let (_, said) = program.end();
    assert_eq!(said.matches("throttles this account: it makes it wait").count(), 1, "{said}");
    assert!(!said.contains("was away") && !said.contains("is away"), "{said}");
}
