//! `datamill download`: a folder like the topic, by one process and by several.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use datamill::broker::{Event, Log, NewTopic, Properties};
use datamill_testkit::kafka::Kafka;
use datamill_testkit::s3::{ACCESS_KEY, S3Server, SECRET_KEY};

use crate::common::{Place, Running, wait_until};

/// The files of a folder by path, without the program's own.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            let path = entry.strip_prefix(folder).unwrap().to_owned();
            if entry.is_file() {
                files.insert(path, fs::read(&entry).unwrap());
            } else if !path.starts_with(".datamill") && !path.starts_with("LOGS") {
                folders.push(entry);
            }
        }
    }
    files
}

fn rows(output: &Path) -> usize {
    let tables = fs::read_dir(output.join("LOGS")).unwrap().map(|entry| entry.unwrap().path());
    let table = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("processed_from_");
    let text = tables.filter(table).map(|path| fs::read_to_string(path).unwrap());
    text.map(|text| text.lines().count().saturating_sub(1)).sum()
}

#[test]
fn a_folder_that_was_sent_comes_out_the_same() {
    let place = Place::new();
    place.write("data/a.csv", b"text");
    place.write("data/sub/with space ü.bin", &[0xff; 5000]);
    place.run(&["upload", "data", "--topic_name", "t", "--chunk_size", "1024"]);
    let ended = place.run(&["download", "mirror", "--topic_name", "t", "--exit-at-end"]);
    assert_eq!((ended.code(), ended.stdout().as_str()), (0, ""), "{}", ended.stderr());
    assert!(ended.stderr().contains("2 files of topic `t` processed"), "{}", ended.stderr());
    assert_eq!(files(&place.path("mirror")), files(&place.path("data")));
    let time = |path: &str| fs::metadata(place.path(path)).unwrap().modified().unwrap();
    let apart = |a: std::time::SystemTime, b| a.duration_since(b).unwrap_or_else(|error| error.duration());
    assert!(apart(time("mirror/a.csv"), time("data/a.csv")) < Duration::from_millis(1), "the time is kept");
    let again = place.run(&["download", "mirror", "--topic_name", "t", "--exit-at-end"]);
    assert!(again.stderr().contains("0 files of topic `t` processed"), "{}", again.stderr());
    assert!(again.stderr().contains("went on where it had stopped"), "{}", again.stderr());
    place.run(&["topic", "create", "new"]);
    let nothing = place.run(&["download", "nothing", "--topic_name", "new", "--exit-at-end"]);
    assert!(nothing.stderr().contains("0 files of topic `new` processed"), "{}", nothing.stderr());
    assert!(!nothing.stderr().contains("went on"), "{}", nothing.stderr());
    // another folder has a group of its own, and options have OpenMSIStream's names
    let filtered = place.run(&[
        "download",
        "other",
        "--topic-name",
        "t",
        "--download_regex",
        "sub/",
        "--mode",
        "both",
        "--n_threads",
        "3",
        "--exit-at-end",
    ]);
    assert_eq!(filtered.code(), 0, "{}", filtered.stderr());
    assert_eq!(files(&place.path("other")).len(), 1);
    assert!(!place.path("other/with space ü.bin").exists() && place.path("other/sub/with space ü.bin").exists());
}

#[test]
fn files_that_replace_another_version_are_named_and_counted() {
    let place = Place::new();
    let send = |content: &[u8], more: &[&str]| {
        place.write("data/a.csv", content);
        assert_eq!(place.run(&[&["upload", "data", "--topic_name", "t"], more].concat()).code(), 0);
    };
    let download = || place.run(&["download", "mirror", "--topic_name", "t", "--exit-at-end"]);
    send(b"first", &[]);
    let ended = download();
    assert!(ended.code() == 0 && !ended.stderr().contains("replaced"), "{}", ended.stderr());
    send(b"second", &[]);
    send(b"third", &["--path_prefix", "lab2"]);
    let ended = download();
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert!(ended.stderr().contains("1 file replaced another version that was there"), "{}", ended.stderr());
    let named = |line: &&str| line.contains("this one has taken its place") && line.contains("a.csv");
    assert_eq!(ended.stderr().lines().filter(named).count(), 1, "{}", ended.stderr());
    assert_eq!(std::fs::read(place.path("mirror/a.csv")).unwrap(), b"second");
    assert_eq!(std::fs::read(place.path("mirror/lab2/a.csv")).unwrap(), b"third");
}

#[test]
fn the_line_that_the_demo_ends_with_mirrors_its_topic() {
    let place = Place::new();
    let demo = place.run(&["demo"]);
    assert_eq!(demo.code(), 0, "{}", demo.stderr());
    let printed = demo.stdout();
    let line = printed.lines().find(|line| line.contains(" download ")).unwrap();
    let args: Vec<&str> = line.split_whitespace().skip_while(|word| *word != "download").collect();
    let ended = place.run(&args);
    assert_eq!(ended.code(), 0, "{line}: {}", ended.stderr());
    assert_eq!(files(&place.path("datamill-demo/mirror")), files(&place.path("datamill-demo/samples")));
}

#[test]
fn a_folder_that_cannot_be_is_named() {
    let place = Place::new();
    place.write("file", b"");
    let ended = place.run(&["download", "file/below", "--topic_name", "t", "--exit-at-end"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr().contains("cannot use the folder `file/below`"), "{}", ended.stderr());
}

/// A topic of Kafka that nobody else uses, with files on it.
struct Shared {
    place: Place,
    log: Arc<dyn Log>,
    topic: String,
}

impl Shared {
    fn new(files: usize) -> Self {
        let place = Place::new();
        let servers = Kafka::from_env().address().to_owned();
        place.write("test.config", format!("[broker]\nbootstrap.servers = {servers}\n").as_bytes());
        let broker = BTreeMap::from([("bootstrap.servers".to_owned(), servers)]);
        let log = datamill::broker::open(&Properties { broker, ..Properties::default() }).unwrap();
        let id = format!("{}-{:?}", datamill::report::clock::now_ms(), std::thread::current().id());
        let topic = format!("download-{}", id.replace(['(', ')'], ""));
        for (name, partitions) in [(topic.clone(), 4), (format!("{topic}-results"), 1)] {
            log.create_topic(&NewTopic { name, partitions, replication: 1, settings: BTreeMap::new() }).unwrap();
        }
        for number in 0..files {
            place.write(&format!("data/{}/{number}.dat", number % 7), &vec![number as u8; 3000 + 10 * number]);
        }
        Self { place, log, topic }
    }

    fn upload(&self) {
        let args = ["upload", "data", "--topic_name", &self.topic, "--config", "test.config", "--chunk_size", "1024"];
        assert_eq!(self.place.run(&args).code(), 0);
    }

    fn command(&self, folder: &str, options: &[&str]) -> Command {
        let args = ["download", folder, "--topic_name", &self.topic, "--config", "test.config"];
        self.place.command(&[&args[..], options].concat())
    }

    fn start(&self, folder: &str, options: &[&str], log: &str) -> Running {
        let log = fs::File::create(self.place.path(log)).unwrap();
        Running(self.command(folder, options).stderr(log).spawn().unwrap())
    }

    /// A member hears first that it owns nothing, until another one has given some of its partitions up.
    fn owns_a_partition(&self, log: &str) -> bool {
        let said = fs::read_to_string(self.place.path(log)).unwrap();
        said.lines().any(|line| line.contains("partitions assigned") && !line.contains("partitions=none"))
    }
}

#[test]
fn processes_of_one_group_share_the_work_in_one_folder() {
    let shared = Shared::new(80);
    let processes: Vec<Running> = (0..2)
        .map(|i| {
            let output = format!("own-{i}");
            let options = ["--consumer_group_id", &shared.topic, "--output_dir", &output];
            shared.start("mirror", &options, &format!("log-{i}"))
        })
        .collect();
    wait_until("both own partitions", || (0..2).all(|i| shared.owns_a_partition(&format!("log-{i}"))));
    shared.upload();
    let (mirror, data) = (shared.place.path("mirror"), shared.place.path("data"));
    // a file is there before it is committed, and a stop waits for the commit for some time only
    let shares = || [0, 1].map(|i| rows(&shared.place.path(&format!("own-{i}"))));
    wait_until("all files, committed", || shares().iter().sum::<usize>() == 80);
    for running in processes {
        assert_eq!(running.end(), 0);
    }
    let shares = shares();
    assert_eq!(files(&mirror), files(&data));
    assert!(shares.iter().sum::<usize>() == 80 && shares.iter().all(|share| *share > 0), "{shares:?}");
}

/// The results of a topic.
fn results(log: &dyn Log, topic: &str) -> usize {
    let mut reader = log.reader(topic, &[(0, 0)]).unwrap();
    let (mut count, mut ended) = (0, false);
    while !ended {
        reader
            .poll(Duration::from_secs(5), &mut |event| match event {
                Event::Record(_) => count += 1,
                Event::End { .. } => ended = true,
                _ => {}
            })
            .unwrap();
    }
    count
}

#[test]
fn programs_in_groups_of_their_own_read_one_topic_each_completely() {
    use datamill::process::{DataFileStreamReproducer, Lock, ProcessingError, ReproducerMessage, UserCode};
    use datamill::program::ProgramArgs;

    struct Size;
    impl DataFileStreamReproducer for Size {
        fn get_processing_result_message_for_file(
            &self,
            file: &datamill::assemble::DownloadDataFile,
            _: &Lock,
        ) -> Result<Option<ReproducerMessage>, ProcessingError> {
            Ok(Some(ReproducerMessage::new(file.size().to_string())))
        }
    }
    let shared = Shared::new(60);
    shared.upload();
    let reproduce = |name: &str| {
        use clap::{Args, Command, FromArgMatches};
        let (results, output) = (format!("{}-results", shared.topic), shared.place.path(name));
        let config = shared.place.path("test.config");
        let command = datamill::program::ReproducerArgs::augment_args(Command::new("sizes"));
        let args = [
            "sizes",
            "--consumer_topic_name",
            &shared.topic,
            "--producer_topic_name",
            &results,
            "--config",
            config.to_str().unwrap(),
            "--consumer_group_id",
            &format!("{name}-{}", shared.topic),
            "--output_dir",
            output.to_str().unwrap(),
            "--exit-at-end",
        ];
        let args = datamill::program::ReproducerArgs::from_arg_matches(&command.get_matches_from(args)).unwrap();
        let loaded = datamill::settings::Config::load(config.to_str()).unwrap();
        let settings = args.engine_settings("sizes", &loaded).unwrap();
        let (control, facts) = (datamill::engine::Control::default(), datamill::facts::Facts::default());
        datamill::engine::run(&shared.log, &settings, UserCode::reproducer(Size), &control, &facts).unwrap()
    };
    let bucket = S3Server::from_env().bucket(&shared.topic.to_lowercase());
    let downloads: Vec<Child> =
        ["one", "two"].map(|folder| shared.command(folder, &["--exit-at-end"]).spawn().unwrap()).into_iter().collect();
    let section = format!(
        "\n[s3]\naccess_key_id = {ACCESS_KEY}\nsecret_key_id = {SECRET_KEY}\nendpoint_url = {}\nregion = us-east-1\n",
        S3Server::from_env().url()
    );
    let config = fs::read_to_string(shared.place.path("test.config")).unwrap();
    shared.place.write("s3.config", (config + &section).as_bytes());
    // one to a bucket, and one to a folder
    let transfers: Vec<Child> =
        [format!("s3://{}", bucket.name()), format!("file://{}", shared.place.path("three").display())]
            .into_iter()
            .enumerate()
            .map(|(i, url)| {
                let options = ["--topic_name", &shared.topic, "--config", "s3.config", "--exit-at-end"];
                let output = format!("transfer-{i}");
                let args = [&["transfer", "--to", &url, "--output_dir", &output], &options[..]].concat();
                shared.place.command(&args).spawn().unwrap()
            })
            .collect();
    for name in ["first", "second"] {
        let summary = reproduce(name);
        assert_eq!((summary.succeeded, summary.failed), (60, 0), "{name}");
    }
    for mut program in downloads.into_iter().chain(transfers) {
        assert_eq!(program.wait().unwrap().code(), Some(0));
    }
    let data = files(&shared.place.path("data"));
    assert_eq!((files(&shared.place.path("one")), files(&shared.place.path("two"))), (data.clone(), data.clone()));
    assert_eq!(files(&shared.place.path("three").join(&shared.topic)), data);
    let key = |key: String| PathBuf::from(key.strip_prefix(&format!("{}/", shared.topic)).unwrap());
    let objects = bucket.objects().into_iter().map(|(name, object)| (key(name), object.content));
    assert_eq!(objects.collect::<BTreeMap<_, _>>(), data);
    assert_eq!(results(shared.log.as_ref(), &format!("{}-results", shared.topic)), 120, "60 of each reproducer");
}

/// A folder and a transfer with at-least-once delivery come to the same, and keep nothing in the log beside positions.
fn arrives_at_least_once(place: &Place, topic: &str, config: &str) {
    let url = format!("file://{}", place.path("store").display());
    for round in 0..2 {
        place.write(&format!("data/{round}.csv"), format!("{round}").as_bytes());
        let options = ["--topic_name", topic, "--config", config];
        assert_eq!(place.run(&[&["upload", "data"], &options[..]].concat()).code(), 0);
        // what was sent before is sent again, and found in its place
        let at_least = ["--exit-at-end", "--delivery", "at-least-once", "--output_dir"];
        let download = place.run(&[&["download", "mirror"], &options[..], &at_least, &["out-download"]].concat());
        let transfer = place.run(&[&["transfer", "--to", &url], &options[..], &at_least, &["out-transfer"]].concat());
        for ended in [download, transfer] {
            assert_eq!(ended.code(), 0, "{}", ended.stderr());
            let processed = format!(" of topic `{topic}` processed");
            assert!(ended.stderr().contains(&processed), "{}", ended.stderr());
        }
        let data = files(&place.path("data"));
        assert_eq!((files(&place.path("mirror")), files(&place.path("store").join(topic))), (data.clone(), data));
    }
    let options = ["--topic_name", topic, "--config", config, "--exit-at-end", "--delivery", "at-least-once"];
    let again = place.run(&[&["download", "mirror"], &options[..], &["--output_dir", "out-download"]].concat());
    assert!(again.stderr().contains("0 files of topic"), "it goes on where it was: {}", again.stderr());
}

#[test]
fn a_download_and_a_transfer_deliver_at_least_once_from_the_embedded_log() {
    let place = Place::new();
    place.write("test.config", b"[broker]\nbootstrap.servers = sqlite:log.db\n");
    arrives_at_least_once(&place, "files", "test.config");
}

#[test]
fn a_download_and_a_transfer_deliver_at_least_once_from_kafka() {
    let shared = Shared::new(0);
    arrives_at_least_once(&shared.place, &shared.topic, "test.config");
}

/// Most anonymous memory that a process has until it ends, bytes.
#[cfg(target_os = "linux")]
fn anonymous_until_it_ends(child: &mut Child) -> (usize, Option<i32>) {
    let mut most = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let kib =
            status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(kib.unwrap_or(0) * 1024);
        if let Some(ended) = child.try_wait().unwrap() {
            return (most, ended.code());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes that cannot be compressed: a broker keeps what it is sent compressed, and hands out as much of that
/// as fits into the queue.
#[cfg(target_os = "linux")]
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..count / 8).flat_map(next).collect()
}

/// A file of five times the memory, and more that wait beside it.
#[cfg(target_os = "linux")]
fn a_large_file_passes_through_little_memory(config: &str, topic: &str, place: &Place) {
    place.write("data/large.raw", &noise(300 << 20));
    for number in 0..20 {
        place.write(&format!("data/more/{number}.dat"), &vec![number; 1 << 20]);
    }
    let options = ["--topic_name", topic, "--config", config];
    let uploaded = place.run(&[&["upload", "data"], &options[..]].concat());
    assert_eq!(uploaded.code(), 0, "{}", uploaded.stderr());
    let limit = ["--exit-at-end", "--memory_limit", "64M"];
    let mut program = place.command(&[&["download", "mirror"], &options[..], &limit].concat()).spawn().unwrap();
    let (most, code) = anonymous_until_it_ends(&mut program);
    assert_eq!(code, Some(0));
    println!("anonymous memory: {} MiB at most", most >> 20);
    assert!(most <= 64 << 20, "{} MiB of anonymous memory", most >> 20);
    assert!(files(&place.path("mirror")) == files(&place.path("data")), "the folders differ");
}

#[cfg(target_os = "linux")]
#[test]
fn on_the_embedded_log_a_large_file_stays_within_the_memory_limit() {
    let place = Place::new();
    place.write(
        "test.config",
        format!("[broker]\nbootstrap.servers = sqlite:{}\n", place.path("log.db").display()).as_bytes(),
    );
    a_large_file_passes_through_little_memory("test.config", "t", &place);
}

#[cfg(target_os = "linux")]
#[test]
fn on_kafka_a_large_file_stays_within_the_memory_limit() {
    let shared = Shared::new(0);
    a_large_file_passes_through_little_memory("test.config", &shared.topic, &shared.place);
}
