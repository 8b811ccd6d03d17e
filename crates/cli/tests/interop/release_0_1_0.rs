//! What release 0.1.0 wrote (`crates/testkit/fixtures/0.1.0`) is taken on: nothing is sent, computed or downloaded
//! twice, what was open goes on, and nothing is warned of that nobody can act on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use datamill::broker::{Log, NewRecord, Properties};
use datamill::wire::{Chunk, sha512};
use datamill_testkit::kafka::Kafka;
use datamill_testkit::peer;

use serde_json::Value;

use crate::common::{Ended, Got, built, read};

/// A copy of the fixtures for one log, and the log with what 0.1.0 left in it.
struct Left {
    folder: tempfile::TempDir,
    log: Arc<dyn Log>,
    config: Vec<&'static str>,
    /// Bytes of `cut.dat`, whose upload was cut off.
    cut: usize,
}

impl Left {
    fn embedded() -> Self {
        let folder = copied("embedded");
        let servers = format!("sqlite:{}", folder.path().join("datamill.db").display());
        Self { log: open(&servers), folder, config: Vec::new(), cut: 4 << 20 }
    }

    fn kafka(kafka: &Kafka) -> Self {
        let folder = copied("kafka");
        let log = folder.path().join("log.json");
        peer::run("log.py", &["restore", kafka.address(), log.to_str().unwrap()]);
        let config = format!("[broker]\nbootstrap.servers = {}\n", kafka.address());
        fs::write(folder.path().join("lab.config"), config).unwrap();
        Self { log: open(kafka.address()), folder, config: vec!["--config", "lab.config"], cut: 8 << 10 }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    fn run(&self, program: &Path, args: &[&str]) -> Ended {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .args(args)
            .args(&self.config)
            .env_remove("OPENMSISTREAM_CONFIG_FILE_DIR");
        Ended::from(command.output().unwrap())
    }

    fn watch(&self) -> Ended {
        let args = ["--topic_name", "files", "--watchdog_lag_time", "0", "--chunk_size", "1024", "--exit-at-end"];
        self.run(env!("CARGO_BIN_EXE_datamill").as_ref(), &[&["watch", "data"], &args[..]].concat())
    }

    fn describe(&self, group: &str, output: &str, more: &[&str]) -> Ended {
        let args = ["--consumer_topic_name", "files", "--producer_topic_name", "results", "--exit-at-end"];
        let own = ["--consumer_group_id", group, "--output_dir", output];
        self.run(&built("describe"), &[&args[..], &own, more].concat())
    }

    fn rerun(&self, how: &str) -> Ended {
        let args = ["rerun", "--topic_name", "files", "--consumer_group_id", "lab", how];
        self.run(env!("CARGO_BIN_EXE_datamill").as_ref(), &args)
    }

    fn download(&self) -> Ended {
        let args = ["download", "mirror", "--topic_name", "files", "--consumer_group_id", "mirror", "--exit-at-end"];
        self.run(env!("CARGO_BIN_EXE_datamill").as_ref(), &args)
    }

    fn count(&self, topic: &str) -> usize {
        read(self.log.as_ref(), topic).len()
    }

    /// Sends the chunks of `cut.dat` that the upload of 0.1.0 did not send.
    fn complete_the_cut_upload(&self) {
        let content = vec![b'y'; self.cut];
        let there = read(self.log.as_ref(), "files").iter().filter(|got| got.key.contains("cut.dat")).count();
        let file_hash = sha512(&content);
        let parts: Vec<&[u8]> = content.chunks(1024).collect();
        let mut publisher = self.log.publisher().unwrap();
        for (i, data) in parts.iter().enumerate().skip(there) {
            let chunk = Chunk {
                filename: "cut.dat",
                file_hash: &file_hash,
                chunk_hash: &sha512(data),
                offset: (i * 1024) as u64,
                index: i as u32 + 1,
                total: parts.len() as u32,
                subdir: "",
                filename_append: "",
                data,
                mtime: None,
            };
            let (mut value, key) = (Vec::new(), chunk.key());
            chunk.encode(&mut value);
            let (key, value, partition) = (Some(key.as_bytes()), Some(value.as_slice()), Some(0));
            publisher.send(&NewRecord { topic: "files", partition, key, value, ..NewRecord::default() }, i).unwrap();
            while publisher.in_flight() > 100 {
                publisher
                    .poll(Duration::from_millis(50), &mut |delivery| {
                        delivery.outcome.unwrap();
                    })
                    .unwrap();
            }
        }
        while publisher.in_flight() > 0 {
            publisher
                .poll(Duration::from_millis(50), &mut |delivery| {
                    delivery.outcome.unwrap();
                })
                .unwrap();
        }
    }

    fn everything_goes_on(&self) {
        let sent = self.count("files");
        let said = self.watch().with_code(0);
        assert!(said.contains("sent 0 files"), "{said}");
        assert_no_warning_but(&said, &[]);
        assert_eq!(self.count("files"), sent, "{said}");

        let results = self.count("results");
        for (group, output, more) in
            [("lab", "Describe_output", &[][..]), ("once", "Once_output", &["--delivery", "at-least-once"])]
        {
            let said = self.describe(group, output, more).with_code(1);
            assert!(said.contains("sub/bad.csv") && said.contains("cut.dat"), "{said}");
            // the function fails for it again
            assert_no_warning_but(&said, &["sub/bad.csv"]);
        }
        assert_eq!(self.count("results"), results);

        let before = mtime(&self.path("mirror/a.csv"));
        let said = self.download().with_code(1);
        assert!(said.contains("cut.dat"), "{said}");
        assert_no_warning_but(&said, &[]);
        assert_eq!(mtime(&self.path("mirror/a.csv")), before);

        let said = self.rerun("--list").with_code(0);
        assert!(said.contains("the newest result of group `lab` is of datamill 0.1.0"), "{said}");

        self.complete_the_cut_upload();
        for (group, output, more) in
            [("lab", "Describe_output", &[][..]), ("once", "Once_output", &["--delivery", "at-least-once"])]
        {
            let said = self.describe(group, output, more).with_code(1);
            assert_no_warning_but(&said, &["sub/bad.csv"]);
        }
        let all = read(self.log.as_ref(), "results");
        assert_eq!(all.len(), results + 2, "one for each group");
        let size = |got: &Got| serde_json::from_str::<Value>(&got.value).unwrap()["size"].as_u64().unwrap();
        assert_eq!(all.iter().filter(|got| size(got) == self.cut as u64).count(), 2);

        let said = self.rerun("--yes").with_code(0);
        assert!(said.contains("another result of 3 files is asked for") && !said.contains("0.1.0"), "{said}");
        let said = self.describe("lab", "Describe_output", &[]).with_code(1);
        assert!(said.contains("3 of them had a result and were run again"), "{said}");
        assert_eq!(self.count("results"), all.len() + 3);

        fs::write(self.path("data/a.csv"), "a newer version").unwrap();
        assert_no_warning_but(&self.watch().with_code(0), &[]);
        let said = self.download().with_code(0);
        assert_no_warning_but(&said, &[]);
        assert_eq!(fs::read(self.path("mirror/cut.dat")).unwrap().len(), self.cut);
        assert_eq!(fs::read_to_string(self.path("mirror/a.csv")).unwrap(), "a newer version");
        let names = fs::read_dir(self.path("mirror")).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.filter(|name| name.to_string_lossy().starts_with('a')).count(), 1, "it was replaced");
    }
}

/// Lines that ask for attention must be about these things.
fn assert_no_warning_but(said: &str, expected: &[&str]) {
    for line in said.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")) {
        assert!(expected.iter().any(|part| line.contains(part)), "{line}\n\nof:\n{said}");
    }
}

fn open(servers: &str) -> Arc<dyn Log> {
    let broker = [("bootstrap.servers".to_owned(), servers.to_owned())].into();
    datamill::broker::open(&Properties { broker, ..Properties::default() }).unwrap()
}

fn copied(log: &str) -> tempfile::TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testkit/fixtures/0.1.0").join(log);
    let folder = tempfile::tempdir().unwrap();
    for entry in walkdir::WalkDir::new(&source) {
        let entry = entry.unwrap();
        let target = folder.path().join(entry.path().strip_prefix(&source).unwrap());
        match entry.file_type().is_dir() {
            true => fs::create_dir_all(target).unwrap(),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
    for line in fs::read_to_string(source.join("times")).unwrap().lines() {
        let (time, path) = line.split_once(' ').unwrap();
        let (seconds, fraction) = time.split_once('.').unwrap();
        let time = Duration::new(seconds.parse().unwrap(), fraction[..9].parse().unwrap());
        let file = fs::File::options().write(true).open(folder.path().join(path)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + time).unwrap();
    }
    folder
}

fn mtime(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

#[test]
fn what_release_0_1_0_wrote_on_the_embedded_log_is_taken_on() {
    Left::embedded().everything_goes_on();
}

#[test]
fn what_release_0_1_0_wrote_on_kafka_is_taken_on() {
    let kafka = Kafka::start_own();
    Left::kafka(&kafka).everything_goes_on();
}
