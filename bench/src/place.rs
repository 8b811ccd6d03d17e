//! A folder, a configuration file and topics of a measurement's own.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaResult;

use crate::child::ourselves;

/// In this time a broker is through with a new topic.
const SETTLED: Duration = Duration::from_millis(500);

/// The broker and the programs that are measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PlaceArgs {
    /// Broker, as host:port
    #[arg(long)]
    pub(crate) kafka: String,
    /// The command `datamill`
    #[arg(long, default_value = "target/release/datamill")]
    datamill: PathBuf,
    /// Partitions of the topics
    #[arg(long, default_value_t = 4)]
    partitions: u32,
}

impl PlaceArgs {
    /// An example program, which is built beside the command.
    pub(crate) fn example(&self, name: &str) -> PathBuf {
        self.datamill.with_file_name("examples").join(name)
    }
}

/// Where one measurement happens.
pub(crate) struct Place {
    pub(crate) args: PlaceArgs,
    /// Configuration of readers, and of those that produce results.
    pub(crate) config: PathBuf,
    /// Configuration of the peer's uploads.
    pub(crate) peer_upload_config: PathBuf,
    folder: tempfile::TempDir,
    prefix: String,
    topics: RefCell<Vec<String>>,
}

impl Drop for Place {
    /// The topics of one workload take gigabytes. Those that stay behind hurt nobody but the disk.
    fn drop(&mut self) {
        let topics = self.topics.take();
        if topics.is_empty() {
            return;
        }
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let admin: KafkaResult<AdminClient<DefaultClientContext>> =
            ClientConfig::new().set("bootstrap.servers", &self.args.kafka).create();
        let deleted = admin.and_then(|admin| pollster::block_on(admin.delete_topics(&topics, &AdminOptions::new())));
        if let Err(error) = deleted {
            eprintln!("the topics `{}-…` cannot be deleted: {error}", self.prefix);
        }
    }
}

impl Place {
    pub(crate) fn make(args: &PlaceArgs, name: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let write = |name: &str, serializer: &str| {
            let config = folder.path().join(name);
            let text = format!(
                "[broker]\nbootstrap.servers = {}\n[consumer]\nauto.offset.reset = earliest\nenable.auto.commit = False\n\
                key.deserializer = StringDeserializer\nvalue.deserializer = DataFileChunkDeserializer\n\
                [producer]\nkey.serializer = StringSerializer\nvalue.serializer = {serializer}\n",
                args.kafka
            );
            std::fs::write(&config, text).map(|()| config)
        };
        let config = write("bench.config", "StringSerializer")?;
        let peer_upload_config = write("upload.config", "DataFileChunkSerializer")?;
        let args = PlaceArgs { datamill: std::path::absolute(&args.datamill)?, ..args.clone() };
        let prefix = format!("bench-{name}-{}", datamill_floor::now_us());
        Ok(Self { args, config, peer_upload_config, folder, prefix, topics: RefCell::default() })
    }

    /// A file or folder of this measurement.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command `datamill`, run in the folder.
    pub(crate) fn datamill(&self) -> Command {
        let mut command = Command::new(&self.args.datamill);
        command.current_dir(self.folder.path());
        command
    }

    /// Makes a topic; its whole name.
    pub(crate) fn topic(&self, name: &str) -> Result<String> {
        let topic = format!("{}-{name}", self.prefix);
        let partitions = self.args.partitions.to_string();
        let mut command = self.datamill();
        command.args(["topic", "create", &topic, "--partitions", &partitions, "--config"]).arg(&self.config);
        let done = command.output().with_context(|| format!("cannot run {}", self.args.datamill.display()))?;
        ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        self.topics.borrow_mut().push(topic.clone());
        // what the broker still has to do for the new topic is not measured
        std::thread::sleep(SETTLED);
        Ok(topic)
    }

    /// The upload of the folder `files`.
    pub(crate) fn upload(&self, topic: &str) -> Command {
        let mut command = self.datamill();
        command.args(["upload", "--topic_name", topic, "--config"]).arg(&self.config).arg(self.path("files"));
        command.args(["--logger_stream_level", "error"]);
        command
    }

    /// The same upload by a program that remembers what it sent, and keeps its registry.
    pub(crate) fn watch(&self, topic: &str) -> Command {
        let mut command = self.datamill();
        command.args(["watch", "--topic_name", topic, "--config"]).arg(&self.config).arg(self.path("files"));
        command.args(["--upload_existing", "--exit-at-end", "--watchdog_lag_time", "0"]);
        command.args(["--logger_stream_level", "error"]);
        command
    }

    /// A download into this folder.
    pub(crate) fn download(&self, source: &str, folder: &str) -> Command {
        let mut command = self.datamill();
        command.args(["download", folder, "--topic_name", source, "--config"]).arg(&self.config);
        command.args(["--exit-at-end", "--logger_stream_level", "error", "--logger_file_level", "info"]);
        command
    }

    /// The reproducer that is measured, as a group, with an output folder of its name.
    pub(crate) fn extract(&self, source: &str, results: &str, group: &str) -> Result<Command> {
        let mut command = ourselves()?;
        command.current_dir(self.folder.path());
        command.args(["extract", "--consumer_topic_name", source, "--producer_topic_name", results, "--config"]);
        command.arg(&self.config).args(["--consumer_group_id", group, "--output_dir"]).arg(self.path(group));
        command.args(["--logger_stream_level", "error", "--logger_file_level", "info"]);
        Ok(command)
    }
}
