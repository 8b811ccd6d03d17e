//! A folder, topics that no other test uses, configuration files as the peer has them, and both programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill::broker::{Event, Log, NewRecord, NewTopic, Properties};
use datamill::wire::{Chunk, sha512};
use datamill_testkit::kafka::Kafka;
pub use datamill_testkit::noise;
use datamill_testkit::peer;

/// How long anything may take.
const WAIT: Duration = Duration::from_secs(120);

/// Relative paths and contents.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A record as the tests look at it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Got {
    pub key: String,
    pub value: String,
}

pub struct Bench {
    folder: tempfile::TempDir,
    pub log: Arc<dyn Log>,
    pub servers: String,
    unique: String,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let servers = Kafka::from_env().address().to_owned();
        let broker = BTreeMap::from([("bootstrap.servers".to_owned(), servers.clone())]);
        let log = datamill::broker::open(&Properties { broker, ..Properties::default() }).unwrap();
        let unique = folder.path().file_name().unwrap().to_string_lossy().replace('.', "");
        let bench = Self { folder, log, servers, unique };
        bench.write("upload.config", bench.config("DataFileChunkSerializer"));
        bench.write("read.config", bench.config("StringSerializer"));
        bench
    }

    /// A configuration file as the peer's documentation has them.
    fn config(&self, serializer: &str) -> String {
        format!(
            "[DEFAULT]\nnode_id = lab\n\n[broker]\nBootstrap.Servers: {}\n\n# results and chunks\n[producer]\nbatch.size = 200000\n\
             retries = 3.0\nlinger.ms = 10\nkey.serializer = StringSerializer\nvalue.serializer = {serializer}\n\n\
             [consumer]\ngroup.id = create_new\nauto.offset.reset = earliest\nenable.auto.commit = False\nsession.timeout.ms = 6000\n\
             key.deserializer = StringDeserializer\nvalue.deserializer = DataFileChunkDeserializer\n",
            self.servers
        )
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub fn text(&self, relative: &str) -> String {
        self.path(relative).to_str().unwrap().to_owned()
    }

    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn write_all(&self, folder: &str, files: &Files) {
        for (path, content) in files {
            self.write(&format!("{folder}/{path}"), content);
        }
    }

    /// A name for this test alone.
    pub fn name(&self, name: &str) -> String {
        format!("{name}-{}", self.unique)
    }

    /// Makes a topic and answers its name.
    pub fn topic(&self, name: &str, partitions: i32) -> String {
        let name = self.name(name);
        let settings = BTreeMap::new();
        self.log.create_topic(&NewTopic { name: name.clone(), partitions, replication: 1, settings }).unwrap();
        name
    }

    /// The peer sends these files of a folder.
    pub fn peer_uploads(&self, topic: &str, folder: &str, chunk_size: usize, append: &str, files: &Files) {
        let (config, root, size) = (self.text("upload.config"), self.text(folder), chunk_size.to_string());
        let mut args = vec![config.as_str(), topic, &root, &size, append];
        args.extend(files.keys().map(String::as_str));
        peer::run("upload.py", &args);
    }

    /// The peer's reproducer, with more arguments of its class.
    pub fn peer_reproduces(&self, from: &str, to: &str, group: &str, output: &str, more: &[&str]) -> peer::Running {
        let (config, output_dir) = (self.text("read.config"), self.text(output));
        let mut args = vec!["describe", config.as_str(), from, to, group, &output_dir];
        args.extend(more);
        peer::start("reproduce.py", &args, &self.path(&format!("{output}.said")))
    }

    /// `datamill` with these arguments.
    pub fn datamill(&self, args: &[&str]) -> Ended {
        self.run(Command::new(env!("CARGO_BIN_EXE_datamill")).args(args))
    }

    /// Our reproducer with these arguments.
    pub fn describe(&self, args: &[&str]) -> Ended {
        self.run(Command::new(built("describe")).args(args))
    }

    /// Our processor with these arguments.
    pub fn inspect(&self, args: &[&str]) -> Ended {
        self.run(Command::new(built("inspect")).args(args))
    }

    /// Our reproducer over all that is in a topic now.
    pub fn reproduces(&self, from: &str, to: &str, group: &str, output: &str, more: &[&str]) -> Ended {
        let mut args = vec!["--config", "read.config", "--consumer_topic_name", from, "--producer_topic_name", to];
        args.extend(["--consumer_group_id", group, "--output_dir", output, "--exit-at-end"]);
        args.extend(more);
        self.describe(&args)
    }

    fn run(&self, command: &mut Command) -> Ended {
        Ended(self.prepare(command).output().unwrap())
    }

    fn prepare<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.current_dir(self.folder.path()).env_remove("OPENMSISTREAM_CONFIG_FILE_DIR").stdin(Stdio::null())
    }

    /// All records of a topic that are visible now, partition after partition.
    pub fn read(&self, topic: &str) -> Vec<Got> {
        read(self.log.as_ref(), topic)
    }

    /// Waits until a topic holds so many records, and answers them.
    pub fn wait_for_records(&self, topic: &str, count: usize, said: impl Fn() -> String) -> Vec<Got> {
        let start = Instant::now();
        loop {
            let got = self.read(topic);
            if got.len() >= count {
                return got;
            }
            let waits = start.elapsed() < WAIT;
            assert!(waits, "{} of {count} records in `{topic}`: {}", got.len(), said());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Puts records on a topic, in this order.
    pub fn send(&self, topic: &str, records: &[Piece]) {
        let mut publisher = self.log.publisher().unwrap();
        for (token, piece) in records.iter().enumerate() {
            let (key, value) = (Some(piece.key.as_bytes()), Some(piece.value.as_slice()));
            let record = NewRecord { topic, partition: Some(piece.partition), key, value, ..NewRecord::default() };
            publisher.send(&record, token).unwrap();
        }
        while publisher.in_flight() > 0 {
            publisher
                .poll(Duration::from_millis(50), &mut |delivery| {
                    delivery.outcome.unwrap();
                })
                .unwrap();
        }
    }
}

/// A record to be sent.
#[derive(Debug, Clone)]
pub struct Piece {
    pub partition: i32,
    pub key: String,
    pub value: Vec<u8>,
}

/// A file as the peer cuts it, chunk after chunk into the next of so many partitions.
pub fn pieces(path: &str, content: &[u8], chunk_size: usize, partitions: i32) -> Vec<Piece> {
    let (subdir, filename) = path.rsplit_once('/').unwrap_or(("", path));
    let file_hash = sha512(content);
    let total = content.len().div_ceil(chunk_size) as u32;
    let parts = content.chunks(chunk_size).enumerate();
    let piece = parts.map(|(i, data)| {
        let chunk = Chunk {
            filename,
            file_hash: &file_hash,
            chunk_hash: &sha512(data),
            offset: (i * chunk_size) as u64,
            index: i as u32 + 1,
            total,
            subdir,
            filename_append: "",
            data,
            mtime: None,
        };
        let mut value = Vec::new();
        chunk.encode(&mut value);
        Piece { partition: i as i32 % partitions, key: chunk.key(), value }
    });
    piece.collect()
}

/// All records of a topic that are visible now, partition after partition.
pub fn read(log: &dyn Log, topic: &str) -> Vec<Got> {
    let mut all = Vec::new();
    for partition in 0..log.topic(topic).unwrap().partitions {
        // A broker that is busy may not know yet what it has made.
        wait_until(|| format!("no topic `{topic}`"), || log.offsets(topic, partition).is_ok());
        let offsets = log.offsets(topic, partition).unwrap();
        let mut next = offsets.first;
        let mut reader = log.reader(topic, &[(partition, offsets.first)]).unwrap();
        while next < offsets.last_stable {
            reader
                .poll(Duration::from_millis(100), &mut |event| match event {
                    Event::Record(record) => {
                        let text =
                            |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
                        all.push(Got { key: text(record.key), value: text(record.value) });
                        next = record.offset + 1;
                    }
                    Event::End { offset, .. } => next = next.max(offset),
                    Event::Assigned(_) | Event::Revoked { .. } => {}
                })
                .unwrap();
        }
    }
    all
}

/// A built program of the tests, which cargo builds beside them.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(built.exists(), "`{}` is not built: run `cargo build --release --workspace --examples`", built.display());
    built
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended(Output);

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self(output)
    }
}

impl Ended {
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    pub fn stdout(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// It must have ended so; answers what it said.
    pub fn with_code(&self, code: i32) -> String {
        assert_eq!(self.code(), code, "{}", self.stderr());
        self.stderr()
    }
}

/// All files in a folder without logs and registries, which both programs put there too.
pub fn files_in(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            let relative = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && relative != "LOGS" {
                folders.push(path);
            } else if path.is_file() && !relative.ends_with(".log") && !relative.starts_with('.') {
                files.insert(relative, fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// Waits until it holds.
pub fn wait_until(what: impl Fn() -> String, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < WAIT, "waited too long: {}", what());
        std::thread::sleep(Duration::from_millis(100));
    }
}
