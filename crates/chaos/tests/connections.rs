//! Real programs while connections to the broker end and begin: brokers that are killed, logins that are asked for again,
//! connections that are idle, certificates that are replaced. Every file has one result, and a change is said once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../datamill/tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::{content, read_all, wait_for};
use datamill::broker::{Log, NewTopic, Properties};
use datamill::wire::{hex, sha512};
use datamill_testkit::kafka::Kafka;
use datamill_testkit::secured::SecuredKafka;
use rustix::process::{Pid, Signal, kill_process};

/// A machine that is busy with three brokers and other tests is slow.
const PATIENCE: Duration = Duration::from_secs(300);

/// Results between two things that are done to the brokers.
const PROGRESS: usize = 20;

/// A watched folder, and programs that send its files and make a result of each.
struct Place {
    folder: tempfile::TempDir,
    log: Arc<dyn Log>,
    files: String,
    results: String,
}

impl Place {
    /// With topics that an account with all permissions makes.
    fn new(admin: &[(&str, String)], programs: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = admin.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let log = datamill::broker::open(&Properties { broker, ..Properties::default() }).unwrap();
        let id = uuid::Uuid::new_v4().simple().to_string();
        let (files, results) = (format!("files-{id}"), format!("results-{id}"));
        for (name, partitions) in [(&files, 6), (&results, 2)] {
            let topic = NewTopic { name: name.clone(), partitions, replication: -1, settings: BTreeMap::new() };
            log.create_topic(&topic).unwrap();
        }
        let lines: String = programs.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        let config = folder.path().join("place.config");
        fs::write(&config, format!("[broker]\n{lines}")).unwrap();
        fs::set_permissions(config, fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        Self { folder, log, files, results }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, number: usize, len: usize) {
        // In one step, so that the watch never sees a part of it.
        let aside = self.path("aside");
        fs::write(&aside, content(number as u64, len)).unwrap();
        fs::rename(aside, self.path("in").join(format!("{number}.raw"))).unwrap();
    }

    fn watch(&self) -> Program {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_datamill-chaos")).with_file_name("datamill"));
        command.arg("watch").arg(self.path("in")).args(["--topic_name", &self.files, "--upload_existing"]);
        self.start(command, "watch")
    }

    fn reproducer(&self, name: &str) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_datamill-chaos"));
        command.args(["worker", "--consumer_topic_name", &self.files, "--producer_topic_name", &self.results]);
        let group = self.files.replace("files", "group");
        command.args(["--consumer_group_id", &group, "--instance", name]).arg("--output_dir").arg(self.path(name));
        self.start(command, name)
    }

    fn start(&self, mut command: Command, name: &str) -> Program {
        let said = self.path(&format!("{name}.said"));
        command.arg("--config").arg(self.path("place.config")).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(File::create(&said).unwrap()).spawn().unwrap();
        Program { name: name.to_owned(), child, said }
    }

    /// How many results the tables of the programs have: that asks no broker.
    fn results(&self) -> usize {
        let name = format!("results_produced_to_{}.csv", self.results);
        let tables = fs::read_dir(self.folder.path()).unwrap().map(|entry| {
            let table = entry.unwrap().path().join("LOGS").join(&name);
            fs::read_to_string(table).map_or(0, |text| text.lines().skip(1).count())
        });
        tables.sum()
    }

    /// Waits for so many results; the programs must go on meanwhile.
    fn wait_for_results(&self, count: usize, programs: &[&Program]) {
        let deadline = Instant::now() + PATIENCE;
        while self.results() < count {
            let said = || {
                programs.iter().map(|program| format!("== {}\n{}", program.name, program.said())).collect::<String>()
            };
            let ended = programs.iter().any(|program| program.count("error: ") > 0);
            assert!(!ended && Instant::now() < deadline, "{} of {count} results: {}", self.results(), said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for so many results in the topic: of a commit whose end was not known, the tables have no rows.
    fn wait_for_all(&self, count: usize, programs: &[&Program]) {
        let deadline = Instant::now() + PATIENCE;
        let count_now = || read_all(self.log.as_ref(), &self.results).len();
        while count_now() < count {
            let said: String =
                programs.iter().map(|program| format!("== {}\n{}", program.name, program.said())).collect();
            assert!(Instant::now() < deadline, "{} of {count} results: {said}", count_now());
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Each file has one result, which is its own hash.
    fn check(&self, lens: impl Iterator<Item = usize>) {
        let mut expected: BTreeMap<String, String> = BTreeMap::new();
        for (number, len) in lens.enumerate() {
            expected.insert(format!("{number}.raw"), hex(&sha512(&content(number as u64, len))));
        }
        let results = read_all(self.log.as_ref(), &self.results);
        let found: BTreeMap<String, String> = results
            .iter()
            .map(|got| (got.path().to_owned(), String::from_utf8_lossy(&got.value).into_owned()))
            .collect();
        assert!(found == expected, "{} results of {} files", found.len(), expected.len());
        assert_eq!(results.len(), expected.len(), "none is doubled");
    }
}

/// What librdkafka 2.12 says before it ends the process, now and then, where a broker goes away at the moment in which something
/// is asked about a group (its issue 4605).
const LIBRDKAFKA_ENDS_IT: &str = "rd_kafka_enq_once_del_source_return: Assertion";

struct Program {
    name: String,
    child: Child,
    said: PathBuf,
}

impl Program {
    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    fn wait_for(&self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(words) == 0 {
            assert!(Instant::now() < deadline, "`{words}` is not said: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn count(&self, words: &str) -> usize {
        self.said().lines().filter(|line| line.contains(words)).count()
    }

    /// Interrupts it. It ends well, and has said nothing that needs a person; or librdkafka has ended it before, as
    /// `docs/operating.md` says, and others had its files.
    fn end(mut self) -> Vec<String> {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let status = self.child.wait().unwrap();
        let said = self.said();
        println!("== {}\n{said}", self.name);
        if status.signal() == Some(Signal::ABORT.as_raw()) && said.contains(LIBRDKAFKA_ENDS_IT) {
            return said.lines().map(str::to_owned).collect();
        }
        assert_eq!(status.code(), Some(0), "{}: {said}", self.name);
        assert!(!said.contains(" ERROR "), "{}: {said}", self.name);
        said.lines().map(str::to_owned).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Warnings, by what they say without their fields.
fn warnings(lines: &[String]) -> BTreeMap<&str, usize> {
    let mut warnings = BTreeMap::new();
    for line in lines {
        if let Some((_, text)) = line.split_once(" WARN  ") {
            let end = [" error=", " topic=", " group="].iter().filter_map(|field| text.find(field)).min();
            *warnings.entry(&text[..end.unwrap_or(text.len())]).or_default() += 1;
        }
    }
    warnings
}

#[test]
fn of_three_brokers_that_are_killed_in_turn_nothing_is_lost_or_doubled_and_little_is_said() {
    const KILLS: usize = 3;
    const BYTES: usize = 50_000;
    let kafka = Kafka::start_three_with("");
    let servers = [("bootstrap.servers", kafka.address().to_owned())];
    let place = Place::new(&servers, &servers);
    let (watch, one, two) = (place.watch(), place.reproducer("one"), place.reproducer("two"));
    let programs = [&watch, &one, &two];
    let (written, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                place.write(written.load(SeqCst), BYTES);
                written.fetch_add(1, SeqCst);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let _stop = Stop(&done);
        let progress = || place.wait_for_results(place.results() + PROGRESS, &programs);
        // a member that joins while the coordinator dies is another matter: see docs/operating.md
        [&one, &two].iter().for_each(|program| program.wait_for("first record read"));
        progress();
        for number in 1..=KILLS {
            kafka.kill9_one(number);
            // Two of three go on.
            progress();
            kafka.restart_one(number);
            progress();
        }
    });
    let written = written.into_inner();
    place.wait_for_all(written, &programs);
    for program in [watch, one, two] {
        let lines = program.end();
        let warnings = warnings(&lines);
        // A kill and a return are a change each.
        assert!(warnings.values().all(|times| *times <= 2 * KILLS), "{warnings:?}");
        assert!(warnings.values().sum::<usize>() <= 4 * KILLS, "{warnings:?}");
    }
    place.check((0..written).map(|_| BYTES));
}

/// Ends the writer also where an assertion fails: its scope waits for it.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Longer than the broker of the test lets a login or an idle connection be.
const REST: Duration = Duration::from_secs(6);

fn all_permissions(kafka: &SecuredKafka, user: &str) {
    kafka.allow(user, &["--operation", "All", "--topic", "*", "--group", "*", "--transactional-id", "*"]);
}

#[test]
fn connections_that_log_in_again_or_are_idle_lose_and_double_nothing_and_nothing_is_said() {
    const BATCHES: usize = 4;
    const FILES_OF_A_BATCH: usize = 10;
    const BYTES: usize = 5_000_000;
    // Logins of this listener last for five seconds.
    let kafka = SecuredKafka::start_with("connections.max.idle.ms=4000");
    all_permissions(&kafka, "user1");
    let admin = [("bootstrap.servers", kafka.open_address())];
    let place = Place::new(&admin, &kafka.login("user1"));
    let (watch, reproducer) = (place.watch(), place.reproducer("one"));
    let mut written = 0;
    for _ in 0..BATCHES {
        for _ in 0..FILES_OF_A_BATCH {
            place.write(written, BYTES);
            written += 1;
        }
        place.wait_for_results(written, &[&watch, &reproducer]);
        std::thread::sleep(REST);
    }
    for program in [watch, reproducer] {
        let lines = program.end();
        assert!(warnings(&lines).is_empty(), "{lines:?}");
    }
    place.check((0..written).map(|_| BYTES));
}

/// Words of each certificate that is not accepted.
const MISTAKES: [(&str, &str); 2] = [
    ("expired", "it expired on Jan  2 00:00:00 2020"),
    ("other", "it is for `other.example.org`, not for `127.0.0.1`"),
];

#[test]
fn a_certificate_that_is_replaced_while_programs_run_is_told_with_what_is_wrong_and_waited_for() {
    let kafka = SecuredKafka::start();
    all_permissions(&kafka, "user1");
    let login =
        kafka.login("user1").into_iter().filter(|(key, _)| !["bootstrap.servers", "security.protocol"].contains(key));
    let encrypted = [
        ("bootstrap.servers", kafka.encrypted_address()),
        ("security.protocol", "SASL_SSL".to_owned()),
        ("ssl.ca.location", kafka.ca()),
    ];
    let place = Place::new(&[("bootstrap.servers", kafka.open_address())], &login.chain(encrypted).collect::<Vec<_>>());
    let (watch, reproducer) = (place.watch(), place.reproducer("one"));
    let programs = [&watch, &reproducer];
    place.write(0, 1000);
    place.wait_for_results(1, &programs);
    for (turn, (certificate, says)) in (1..).zip(MISTAKES) {
        kafka.set_certificate(certificate);
        kafka.break_connections();
        place.write(turn, 1000);
        for program in programs {
            wait_for(says, || program.count(says) > 0);
        }
        kafka.set_certificate("good");
        place.wait_for_all(turn + 1, &programs);
    }
    for program in [watch, reproducer] {
        let lines = program.end();
        for (_, says) in MISTAKES {
            let told = lines.iter().filter(|line| line.contains(says)).count();
            assert_eq!(told, 1, "{says}: {lines:#?}");
        }
    }
    place.check((0..=MISTAKES.len()).map(|_| 1000));
}
