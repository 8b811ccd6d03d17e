//! The options that programs share, under OpenMSIStream's names. Every name with `_` works with `-`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{ByteSize, SetUpError, identity};
use crate::assemble::Mode;
use crate::broker::Membership;
use crate::engine::{DeliveryGuarantee, EngineSettings, RetryFailed, StartFrom};
use crate::report::{LogLevel, clock};
use crate::settings::{Config, GroupId, Pattern};
use crate::status::StatusAddress;

/// Options of every program.
#[derive(Debug, Clone, clap::Args)]
pub struct CommonArgs {
    /// Configuration file: a path, or the name of a file in the folder that
    /// OPENMSISTREAM_CONFIG_FILE_DIR names. Without one, the log is `datamill.db` in this folder
    #[arg(long, value_name = "FILE")]
    pub config: Option<String>,
    /// Where `datamill.db` is without a configuration, if that is not the working folder.
    #[arg(skip)]
    pub folder: Option<PathBuf>,
    /// What is printed: debug, info, warning, error or critical
    #[arg(long = "logger_stream_level", value_name = "LEVEL", default_value = "info", help_heading = "Logging")]
    pub logger_stream_level: LogLevel,
    /// What goes to the log file, in the same words
    #[arg(long = "logger_file_level", value_name = "LEVEL", default_value = "warning", help_heading = "Logging")]
    pub logger_file_level: LogLevel,
    /// The log file [default: in the folder LOGS of the output folder or the watched folder; none for
    /// an upload]
    #[arg(long = "logger_file_path", value_name = "FILE", help_heading = "Logging")]
    pub logger_file_path: Option<PathBuf>,
    /// Largest size of the log file. One that would become larger is kept as NAME.1.log, the one before as NAME.2.log and
    /// the one before that as NAME.3.log, and another one is begun. 0 is as large as it gets
    #[arg(long = "log_max_size", value_name = "SIZE", default_value = "64M", help_heading = "Logging")]
    pub log_max_size: ByteSize,
    /// Send heartbeat messages to this topic
    #[arg(long = "heartbeat_topic_name", value_name = "TOPIC", value_parser = name, help_heading = "Heartbeats and log messages")]
    pub heartbeat_topic_name: Option<String>,
    /// Name of this program in heartbeats [default: made from program and host]
    #[arg(long = "heartbeat_program_id", value_name = "ID", value_parser = name, help_heading = "Heartbeats and log messages")]
    pub heartbeat_program_id: Option<String>,
    /// Seconds between heartbeats
    #[arg(
        long = "heartbeat_interval_secs", value_name = "SECONDS", default_value = "900",
        value_parser = interval_secs, help_heading = "Heartbeats and log messages"
    )]
    pub heartbeat_interval_secs: Duration,
    /// Send log lines to this topic
    #[arg(long = "log_topic_name", value_name = "TOPIC", value_parser = name, help_heading = "Heartbeats and log messages")]
    pub log_topic_name: Option<String>,
    /// Name of this program in log messages [default: made from program and host]
    #[arg(long = "log_program_id", value_name = "ID", value_parser = name, help_heading = "Heartbeats and log messages")]
    pub log_program_id: Option<String>,
    /// Seconds between log messages
    #[arg(
        long = "log_interval_secs", value_name = "SECONDS", default_value = "60",
        value_parser = interval_secs, help_heading = "Heartbeats and log messages"
    )]
    pub log_interval_secs: Duration,
    /// Serve a status page, `/metrics` for Prometheus, `/livez` and `/readyz` over HTTP while the program runs: at a port
    /// of this machine alone, as `9400`, or at an address, as `0.0.0.0:9400`. Whoever reaches the address may look
    #[arg(long = "status_listen", value_name = "ADDRESS")]
    pub status_listen: Option<StatusAddress>,
    /// Options of OpenMSIStream that mean nothing here.
    #[command(flatten)]
    pub encryption: EncryptionArgs,
}

/// Options about OpenMSIStream's encryption, which is not supported.
#[derive(Debug, Clone, clap::Args)]
pub struct EncryptionArgs {
    /// Accepted, and without effect
    #[arg(long = "treat_undecryptable_as_plaintext", hide = true)]
    pub treat_undecryptable_as_plaintext: bool,
    /// Accepted, and without effect
    #[arg(long = "max_wait_per_decrypt", value_name = "SECONDS", hide = true)]
    pub max_wait_per_decrypt: Option<String>,
    /// Accepted, and without effect
    #[arg(long = "max_initial_wait_per_decrypt", value_name = "SECONDS", hide = true)]
    pub max_initial_wait_per_decrypt: Option<String>,
}

impl CommonArgs {
    /// Says once which of the given options do nothing: those about encryption, and `others`, each with
    /// whether it was given.
    pub fn say_without_effect(&self, others: &[(&str, bool)]) {
        let encryption = &self.encryption;
        let all = [
            ("--treat_undecryptable_as_plaintext", encryption.treat_undecryptable_as_plaintext),
            ("--max_wait_per_decrypt", encryption.max_wait_per_decrypt.is_some()),
            ("--max_initial_wait_per_decrypt", encryption.max_initial_wait_per_decrypt.is_some()),
        ];
        let given: Vec<&str> = all.iter().chain(others).filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        if !given.is_empty() {
            tracing::info!(options = given.join(" "), "options without effect here");
        }
    }
}

/// The options of a kind of programs, and what the engine makes of them.
pub trait ProgramArgs: clap::Args {
    /// What such a program does.
    const ABOUT: &'static str;

    /// The options that all kinds share.
    fn consumer(&self) -> &ConsumerArgs;

    /// Options without effect beside those of all programs, each with whether it was given.
    fn without_effect(&self) -> Vec<(&'static str, bool)>;

    /// Topic of the files, and topic of the results where there are any.
    ///
    /// # Errors
    /// A topic that is not named, or named twice.
    fn topics(&self) -> Result<(String, Option<String>), SetUpError>;

    /// The checked settings of the engine.
    ///
    /// # Errors
    /// What is missing or does not fit together.
    fn engine_settings(&self, program: &str, config: &Config) -> Result<EngineSettings, SetUpError> {
        let (topic, result_topic) = self.topics()?;
        self.consumer().engine_settings(program, config, topic, result_topic)
    }
}

/// Options of a reproducer.
#[derive(Debug, Clone, clap::Args)]
pub struct ReproducerArgs {
    /// Topic that the files come from
    #[arg(
        long = "consumer_topic_name", value_name = "TOPIC", value_parser = name, required_unless_present = "topic_name"
    )]
    pub consumer_topic_name: Option<String>,
    /// Topic that the results go to
    #[arg(
        long = "producer_topic_name", value_name = "TOPIC", value_parser = name, required_unless_present = "topic_name"
    )]
    pub producer_topic_name: Option<String>,
    /// Topic for both, where the two above are not given
    #[arg(long = "topic_name", value_name = "TOPIC", value_parser = name, hide = true)]
    pub topic_name: Option<String>,
    /// Accepted, and without effect: results are sent by one thread
    #[arg(long = "n_producer_threads", value_name = "N", hide = true)]
    pub n_producer_threads: Option<u16>,
    /// The shared options.
    #[command(flatten)]
    pub consumer: ConsumerArgs,
}

impl ProgramArgs for ReproducerArgs {
    const ABOUT: &'static str = "runs a function on every file of a topic and sends what it computes to another topic";

    fn consumer(&self) -> &ConsumerArgs {
        &self.consumer
    }

    fn without_effect(&self) -> Vec<(&'static str, bool)> {
        vec![("--n_producer_threads", self.n_producer_threads.is_some())]
    }

    fn topics(&self) -> Result<(String, Option<String>), SetUpError> {
        let topic = self.consumer_topic_name.as_ref().or(self.topic_name.as_ref());
        let topic = topic.cloned().ok_or(SetUpError::NoTopic("consumer"))?;
        let result_topic = self.producer_topic_name.as_ref().or(self.topic_name.as_ref());
        let result_topic = result_topic.cloned().ok_or(SetUpError::NoTopic("producer"))?;
        if topic == result_topic { Err(SetUpError::SameTopic(topic)) } else { Ok((topic, Some(result_topic))) }
    }
}

/// Options of a processor.
#[derive(Debug, Clone, clap::Args)]
pub struct ProcessorArgs {
    /// Topic that the files come from
    #[arg(long = "topic_name", visible_alias = "consumer_topic_name", value_name = "TOPIC", value_parser = name)]
    pub topic_name: String,
    /// Accepted, and without effect: nothing is produced
    #[arg(long = "producer_topic_name", value_name = "TOPIC", hide = true)]
    pub producer_topic_name: Option<String>,
    /// The shared options.
    #[command(flatten)]
    pub consumer: ConsumerArgs,
}

impl ProgramArgs for ProcessorArgs {
    const ABOUT: &'static str = "runs a function on every file of a topic";

    fn consumer(&self) -> &ConsumerArgs {
        &self.consumer
    }

    fn without_effect(&self) -> Vec<(&'static str, bool)> {
        vec![("--producer_topic_name", self.producer_topic_name.is_some())]
    }

    fn topics(&self) -> Result<(String, Option<String>), SetUpError> {
        Ok((self.topic_name.clone(), None))
    }
}

/// Options of every program that reads whole files.
#[derive(Debug, Clone, clap::Args)]
pub struct ConsumerArgs {
    /// Options of every program.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Topic that gets a message for each file that fails, and for each message that is no chunk of a
    /// file
    #[arg(long = "dead_letter_topic", value_name = "TOPIC")]
    pub dead_letter_topic: Option<String>,
    /// Consumer group; programs with the same group share the work. `create_new` makes a group for
    /// this run only, which starts anew: what has a result gets another one [default: group.id of the configuration, or a name made from
    /// program and topic]
    #[arg(long = "consumer_group_id", value_name = "GROUP", value_parser = name)]
    pub consumer_group_id: Option<String>,
    /// The group where neither the option nor the configuration names one and the program has a better
    /// name than one made from program and topic.
    #[arg(skip)]
    pub default_group: Option<String>,
    /// What is promised of results: `exactly-once` commits each together with the position of the reading.
    /// `at-least-once` sends it first, so that a crash may leave it twice, keeps the failed files in the
    /// output folder, and needs no more permissions than to read the topic as the group (and to write where
    /// something is sent)
    #[arg(
        long, value_name = "GUARANTEE", default_value = "exactly-once",
        value_parser = PossibleValuesParser::new(["exactly-once", "at-least-once"]).map(|name| delivery(&name))
    )]
    pub delivery: DeliveryGuarantee,
    /// Go on in a group that another program uses for this topic, or this program with another result topic,
    /// folder or store: both share the files, each getting a part. Needed once, where that is meant or where this
    /// program takes the place of the other
    #[arg(long = "same_group")]
    pub same_group: bool,
    /// Where to start in partitions whose committed position is missing or cannot be used, as in a topic that was
    /// deleted and created again: `committed` (the
    /// committed offset, without what is noted beside it), `earliest`, `latest`, or an offset for each
    /// partition; what lies behind that and has a result gets another one. Where the committed position can
    /// be used, reading goes on there [default: a group that is new starts where `auto.offset.reset` says;
    /// where a position was lost, or is one of a topic before, the program stops]
    #[arg(long = "start_from", value_name = "WHERE")]
    pub start_from: Option<StartFrom>,
    /// Take the group over from a program of OpenMSIStream that is stopped, with this output folder: the files
    /// that it had not finished are read again. Where the group has been taken over before, nothing is done
    #[arg(long = "take_over", value_name = "FOLDER")]
    pub take_over: Option<PathBuf>,
    /// Version of your function, which each result names in the header `datamill.processor_version` [default: that of
    /// the program, where it tells one: `__version__` of the function's module in Python]
    #[arg(long = "processor_version", value_name = "VERSION", value_parser = version)]
    pub processor_version: Option<String>,
    /// Threads that run your function
    #[arg(
        long = "n_consumer_threads", visible_alias = "n_threads", value_name = "N", default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    pub n_consumer_threads: u16,
    /// How often your function runs for a file, with growing waits between, before the file counts as
    /// failed
    #[arg(
        long = "max_attempts", value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_attempts: u32,
    /// Seconds that your function may take for a file; one that takes longer is given up, and its file has
    /// failed. What it waits for counts, `lock.acquire()` included. When several are given up and still
    /// run, the program ends with exit code 5; so it does at once, and the file has had an attempt, where the
    /// function cannot be given up alone. 0 is as long as it likes
    #[arg(long = "processing_timeout", value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    pub processing_timeout: f64,
    /// Hours after which a file whose chunks stopped coming ends as incomplete, by the time of the
    /// records; at most half of the topic's retention counts, and 0 is never
    #[arg(long = "incomplete_after", value_name = "HOURS", default_value_t = 24.0, value_parser = hours)]
    pub incomplete_after: f64,
    /// Files that failed in earlier runs of the group: `now` tries each once more, `only` does that and
    /// nothing else, `no` leaves them alone, but for those of which `datamill retry` asks for another try
    #[arg(long = "retry_failed", value_enum, value_name = "WHEN", default_value_t = RetryFailed::Now)]
    pub retry_failed: RetryFailed,
    /// Only files whose relative path matches this regular expression from its start (as Python's
    /// `re.match`)
    #[arg(long = "download_regex", value_name = "REGEX")]
    pub download_regex: Option<String>,
    /// Folder for the log file, the registry files, and files on disk [default: PROGRAM_output]
    #[arg(long = "output_dir", value_name = "FOLDER")]
    pub output_dir: Option<PathBuf>,
    /// Where your function finds the content of a file; with `disk` and `both` the file stays in the output folder
    #[arg(long, value_enum, default_value_t = Mode::Memory)]
    pub mode: Mode,
    /// Seconds between two lines about the state; -1 or 0 for none
    #[arg(
        long = "update_seconds", value_name = "SECONDS", default_value_t = 300, allow_negative_numbers = true,
        value_parser = update_seconds
    )]
    pub update_seconds: i64,
    /// Stop when everything that was in the topic at the start has been handled, instead of waiting
    /// for more
    #[arg(long = "exit-at-end")]
    pub exit_at_end: bool,
    /// Memory for the content of files, 8M or more; beyond it, files go to disk or reading waits
    #[arg(long = "memory_limit", value_name = "SIZE", default_value = "256M", value_parser = memory_limit)]
    pub memory_limit: ByteSize,
    /// Disk that files may take in the output folder while they fill up and until your function gets them.
    /// Beyond it, the content of the largest is dropped, and read again from the topic once all its chunks
    /// are there [default: what the disk has]
    #[arg(long = "spill_limit", value_name = "SIZE")]
    pub spill_limit: Option<ByteSize>,
    /// Name of this process's place in its group, the same after a restart [default: made from the
    /// host and the output folder]
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub instance: Option<String>,
    /// How the group knows this process: `static` (by that name: one that is killed and started again within
    /// the session of 45 s has its partitions again, and the others go on undisturbed) or `dynamic` (its
    /// partitions go to the others after the session of 10 s, or at once when it ends in order)
    #[arg(long, value_name = "KIND", default_value = "static", value_parser = membership)]
    pub membership: Membership,
    /// Seconds that a stop waits for functions that run
    #[arg(long = "shutdown_timeout", value_name = "SECONDS", default_value_t = 30)]
    pub shutdown_timeout: u64,
}

impl ConsumerArgs {
    /// The output folder of the program of this name.
    pub fn output_dir(&self, program: &str) -> PathBuf {
        self.output_dir.clone().unwrap_or_else(|| PathBuf::from(format!("{program}_output")))
    }

    fn engine_settings(
        &self,
        program: &str,
        config: &Config,
        topic: String,
        result_topic: Option<String>,
    ) -> Result<EngineSettings, SetUpError> {
        let dead_letter_topic = self.dead_letter_topic.clone();
        if let Some(taken) =
            dead_letter_topic.as_ref().filter(|name| **name == topic || result_topic.as_ref() == Some(name))
        {
            return Err(SetUpError::DeadLetterTopic(taken.clone()));
        }
        let output_dir = self.output_dir(program);
        let made = match std::fs::create_dir_all(&output_dir) {
            Err(_) if output_dir.is_file() => Err(std::io::Error::other("it is a file")),
            made => made,
        };
        made.map_err(|source| SetUpError::OutputDir { folder: output_dir.clone(), source })?;
        let group = match self.consumer_group_id.as_deref() {
            Some("create_new") => identity::fresh_group(program, clock::now_ms()),
            Some(name) => name.to_owned(),
            None => match config.group_id() {
                Some(GroupId::CreateNew) => identity::fresh_group(program, clock::now_ms()),
                Some(GroupId::Named(name)) => name.clone(),
                None => self.default_group.clone().unwrap_or_else(|| identity::default_group(program, &topic)),
            },
        };
        Ok(EngineSettings {
            membership: self.membership,
            instance: self.instance.clone().unwrap_or_else(|| identity::instance(&output_dir)),
            download_regex: self.download_regex.as_deref().map(Pattern::from_python).transpose()?,
            topic,
            result_topic,
            dead_letter_topic,
            group,
            processor_version: self.processor_version.clone(),
            program: format!("{program} datamill/{}", env!("CARGO_PKG_VERSION")),
            delivery: self.delivery,
            first_start: config.first_start().unwrap_or_default(),
            start_from: self.start_from,
            same_group: self.same_group,
            mode: self.mode,
            threads: self.n_consumer_threads.into(),
            max_attempts: self.max_attempts,
            processing_timeout: Some(Duration::from_secs_f64(self.processing_timeout)).filter(|time| !time.is_zero()),
            output_dir,
            memory_limit: for_content(self.memory_limit),
            spill_limit: self.spill_limit.map(|size| size.0),
            incomplete_after: Duration::from_secs_f64(self.incomplete_after * 3600.0),
            retry_failed: self.retry_failed,
            exit_at_end: self.exit_at_end,
            update_seconds: self.update_seconds.try_into().unwrap_or(0),
            shutdown_timeout: Duration::from_secs(self.shutdown_timeout),
        })
    }

    /// The log file of the program of this name.
    pub(super) fn log_file(program: &str, output_dir: &Path) -> PathBuf {
        output_dir.join("LOGS").join(format!("{program}.log"))
    }
}

/// A number of seconds up to a year.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is expected".to_owned())?;
    if (0.0..=31_536_000.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("0 to 31536000 seconds are allowed".to_owned())
    }
}

/// A number of hours up to a hundred years.
fn hours(text: &str) -> Result<f64, String> {
    let hours: f64 = text.parse().map_err(|_| "a number of hours is expected".to_owned())?;
    if (0.0..=876_000.0).contains(&hours) { Ok(hours) } else { Err("0 to 876000 hours are allowed".to_owned()) }
}

/// Lets options of the command and of its subcommands be written as Python's argparse takes them, by a
/// beginning that is unambiguous and more than once, where the last one counts; and with `-` for `_` and the
/// other way round.
pub fn accept_dashes(command: clap::Command) -> clap::Command {
    let command = command.infer_long_args(true).args_override_self(true).mut_args(|arg| {
        let Some(long) = arg.get_long() else { return arg };
        let other = if long.contains('_') { long.replace('_', "-") } else { long.replace('-', "_") };
        let mut names = vec![other];
        for alias in arg.get_all_aliases().unwrap_or_default() {
            names.push(alias.replace('_', "-"));
        }
        names.retain(|name| name != long && !arg.get_all_aliases().unwrap_or_default().contains(&name.as_str()));
        arg.aliases(names)
    });
    command.mut_subcommands(accept_dashes)
}

fn delivery(name: &str) -> DeliveryGuarantee {
    if name == "at-least-once" { DeliveryGuarantee::AtLeastOnce } else { DeliveryGuarantee::ExactlyOnce }
}

/// A name that is not empty: of a topic, a group, a program.
fn name(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("the name is empty") } else { Ok(text.to_owned()) }
}

/// A version that is not empty.
fn version(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("the version is empty") } else { Ok(text.trim().to_owned()) }
}

fn membership(text: &str) -> Result<Membership, &'static str> {
    match text {
        "static" => Ok(Membership::Static),
        "dynamic" => Ok(Membership::Dynamic),
        _ => Err("write `static` or `dynamic`"),
    }
}

/// What a fetch brings cannot be bounded below 1 MiB, and the backend's queue has a sixteenth of the limit.
const SMALLEST_MEMORY_LIMIT: ByteSize = ByteSize(8 << 20);

fn memory_limit(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error: super::size::NotASize| error.to_string())?;
    if size.0 >= SMALLEST_MEMORY_LIMIT.0 {
        return Ok(size);
    }
    Err(format!("{} bytes are too few to work with: 8M is the least, and a number without a unit is bytes", size.0))
}

/// What is left of the limit for the content of files and for queues beside what a program takes before the
/// first record comes: 12 MiB in whole huge pages, or a quarter of the limit where that is less.
fn for_content(limit: ByteSize) -> usize {
    limit.0 - (12 << 20).min(limit.0 / 4)
}

fn interval_secs(text: &str) -> Result<Duration, &'static str> {
    let seconds: Option<f64> = text.parse().ok().filter(|seconds| (0.001..=31_536_000.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or("write a number of seconds, 0.001 to 31536000")
}

/// Seconds between two lines about the state, as `--update_seconds` takes them.
///
/// # Errors
/// A text that is no whole number.
pub fn update_seconds(text: &str) -> Result<i64, &'static str> {
    text.parse().map_err(|_| "write a whole number of seconds, or -1 for none")
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn parse(args: &[&str]) -> Result<ReproducerArgs, clap::Error> {
        let command = accept_dashes(ReproducerArgs::augment_args(Command::new("test")));
        let topics = ["p", "--consumer_topic_name", "t", "--producer-topic-name", "r"];
        ReproducerArgs::from_arg_matches(&command.try_get_matches_from([&topics[..], args].concat())?)
    }

    #[test]
    fn options_work_with_underscores_and_with_dashes() {
        for name in ["--output_dir", "--output-dir"] {
            assert_eq!(parse(&[name, "o"]).unwrap().consumer.output_dir("p"), Path::new("o"));
        }
        for name in ["--n_threads", "--n-threads", "--n_consumer_threads", "--n-consumer-threads"] {
            assert_eq!(parse(&[name, "5"]).unwrap().consumer.n_consumer_threads, 5, "{name}");
        }
        for name in ["--exit-at-end", "--exit_at_end"] {
            assert!(parse(&[name]).unwrap().consumer.exit_at_end);
        }
    }

    #[test]
    fn options_are_taken_as_argparse_takes_them() {
        let parsed = parse(&["--output", "a", "--n_cons", "3", "--mode=disk", "--output_dir", "b"]).unwrap().consumer;
        assert_eq!((parsed.output_dir("p"), parsed.n_consumer_threads, parsed.mode), ("b".into(), 3, Mode::Disk));
        assert!(parse(&["--logger", "debug"]).is_err(), "more than one option begins so");
        let parsed = parse(&["--heartbeat_interval_secs", "1.5", "--log_int", "2"]).unwrap().consumer.common;
        let intervals = (parsed.heartbeat_interval_secs, parsed.log_interval_secs);
        assert_eq!(intervals, (Duration::from_millis(1500), Duration::from_secs(2)));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for args in [
            ["--n_threads", "0"],
            ["--mode", "ram"],
            ["--memory_limit", "lots"],
            ["--heartbeat_interval_secs", "0"],
            ["--update_seconds", "x"],
            ["--instance", ""],
            ["--membership", "none"],
        ] {
            assert!(parse(&args).is_err(), "{args:?}");
        }
        assert_eq!(parse(&["--update_seconds", "-1"]).unwrap().consumer.update_seconds, -1);
    }
}
