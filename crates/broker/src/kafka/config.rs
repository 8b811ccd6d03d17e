//! From the properties of a user to the configurations of librdkafka's clients.
//!
//! ```text
//! engine's defaults  <  [broker]  <  [producer] or [consumer]  <  what the engine owns
//! ```
//! All properties of librdkafka pass through, except those that decide over exactly-once: a value set
//! there is overruled with one warning.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;
use tracing::warn;

use super::measure::Compression;
use super::watch::LOGIN_GRACE;
use super::{certificates, login};
use crate::contract::{Membership, SubscribeOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::near::nearest;
use crate::open::Properties;
use crate::secret::may_hold_secret;

/// What a transaction may take before the broker aborts it, in milliseconds. A commit is one short
/// transaction; a new owner of a partition may have to wait this long for a dead one.
pub(super) const TRANSACTION_TIMEOUT_MS: u64 = 15_000;

/// Largest record that librdkafka lets a client send, bytes: the broker and the topic have the say.
const MESSAGE_MAX_BYTES: &str = "1000000000";

/// Bytes of one partition that a broker sends at once, as they are on the wire. A smaller queue lowers it:
/// librdkafka unpacks all that has arrived before it looks at its queue again.
const FETCH_BYTES: &str = "4194304";

/// Bytes of memory that a reader takes at first to unpack a batch that was compressed by LZ4; four times the batch if
/// that is less. librdkafka gives nothing back of it, and grows it by three quarters as often as it is not enough, which
/// jemalloc can mostly do in place. Its name for this is `message.max.bytes` (`rdkafka_lz4.c`), which has no other meaning
/// for one that only reads, and which a user sets for those that send.
const UNPACK_BYTES: &str = "131072";

/// Kilobytes that a reader without a group holds ahead of its user.
const READER_QUEUE_KBYTES: &str = "4096";

/// How often a member looks for partitions that were added to its topic, milliseconds: they are read within a minute.
const NEW_PARTITIONS_MS: &str = "30000";

/// Session of a static member, and of each member with the newer protocol (the default of a broker).
const SESSION_MS: u64 = 45_000;

/// librdkafka's own default for `batch.size`, bytes.
const BATCH_SIZE: usize = 1_000_000;

/// The property of datamill's own that says for how long logins may be refused, milliseconds.
const LOGIN_GRACE_MS: &str = "login.refused.timeout.ms";

/// Longest time between two attempts of a client to connect where it has to log in, milliseconds: many refused logins
/// in a row lock an account, and a broker that was away is back this much later at most.
const RECONNECT_WITH_LOGIN_MS: &str = "10000";

/// The names of librdkafka's properties that can be written in a file, one per line.
const NAMES: &str = include_str!("properties.txt");

/// Other names of properties. All are kept under one name, so that no two values meet in one client.
const ALIASES: &[(&str, &str)] = &[
    ("compression.codec", "compression.type"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("metadata.broker.list", "bootstrap.servers"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("request.required.acks", "acks"),
    ("sasl.mechanisms", "sasl.mechanism"),
];

/// Properties that the engine owns, and the values with which a user says the same.
const OWNED: &[(&str, &[&str])] = &[
    ("acks", &["all", "-1"]),
    ("allow.auto.create.topics", &["false"]),
    ("auto.offset.reset", &[]),
    ("enable.auto.commit", &["false"]),
    ("enable.auto.offset.store", &["false"]),
    ("enable.idempotence", &["true"]),
    ("enable.partition.eof", &["true"]),
    ("group.id", &[]),
    ("group.instance.id", &[]),
    ("isolation.level", &["read_committed"]),
    ("message.timeout.ms", &[]),
    ("partition.assignment.strategy", &["cooperative-sticky"]),
    ("statistics.interval.ms", &["0"]),
    ("transaction.timeout.ms", &[]),
    ("transactional.id", &[]),
];

/// The properties of one log, checked. Values may be secret, so there is no debug form.
pub(super) struct Settings {
    broker: BTreeMap<String, String>,
    producer: BTreeMap<String, String>,
    consumer: BTreeMap<String, String>,
    /// See [`Properties::options`].
    pub(super) options: String,
    /// How long logins may be refused.
    pub(super) login_grace: Duration,
    /// The file of authorities as it was at the start: clients read it once.
    authorities: Option<[u8; 32]>,
}

/// The properties of one kind of client: its section, and `[broker]` where that says nothing.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    own: &'a BTreeMap<String, String>,
    broker: &'a BTreeMap<String, String>,
}

impl<'a> View<'a> {
    pub(super) fn new(own: &'a BTreeMap<String, String>, broker: &'a BTreeMap<String, String>) -> Self {
        Self { own, broker }
    }

    /// A value that is not empty.
    pub(super) fn get(self, key: &str) -> Option<&'a str> {
        self.own.get(key).or_else(|| self.broker.get(key)).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl Settings {
    /// Checks every property, says which ones are overruled, and keeps the rest.
    pub(super) fn new(properties: &Properties) -> Result<Self> {
        let mut broker = properties.broker.clone();
        let login_grace = match broker.remove(LOGIN_GRACE_MS).map(|value| (value.trim().parse(), value)) {
            None => LOGIN_GRACE,
            Some((Ok(milliseconds), _)) => Duration::from_millis(milliseconds),
            Some((Err(_), _)) => {
                let text = format!("property `{LOGIN_GRACE_MS}` in section `[broker]` is not a number of milliseconds");
                return Err(Error::new(ErrorKind::Settings, text));
            }
        };
        let mut settings = Self {
            broker: section("broker", &broker)?,
            login_grace,
            authorities: None,
            producer: section("producer", &properties.producer)?,
            consumer: section("consumer", &properties.consumer)?,
            options: properties.options.clone(),
        };
        match settings.broker.get("bootstrap.servers").map(|servers| servers.trim()) {
            None | Some("") => Err(Error::new(
                ErrorKind::Settings,
                "no broker is named: set `bootstrap.servers` in section `[broker]`",
            )),
            // The servers are in many texts.
            Some(servers) if servers.contains('@') => Err(Error::new(
                ErrorKind::Settings,
                "`bootstrap.servers` takes addresses alone: a login belongs into `sasl.username` and `sasl.password`",
            )),
            Some(_) => {
                settings.check_connection()?;
                settings.authorities = certificates::authorities(settings.asking());
                Ok(settings)
            }
        }
    }

    /// Refuses a login and files of an encryption that cannot work.
    fn check_connection(&self) -> Result<()> {
        let mut said = None;
        for section in [&self.consumer, &self.producer] {
            let view = View::new(section, &self.broker);
            certificates::check(view)?;
            let odd = login::check(view)?;
            if odd.is_some() && odd != said {
                warn!("{}", odd.as_deref().unwrap_or_default());
            }
            said = odd;
        }
        Ok(())
    }

    /// The properties of clients that ask and read.
    pub(super) fn asking(&self) -> View<'_> {
        View::new(&self.consumer, &self.broker)
    }

    /// Whether the file of authorities is not the one that the clients read.
    pub(super) fn has_new_authorities(&self) -> bool {
        self.authorities != certificates::authorities(self.asking())
    }

    /// The servers that the connection starts at.
    pub(super) fn servers(&self) -> &str {
        self.broker.get("bootstrap.servers").map_or("", String::as_str)
    }

    fn client(&self, section: &BTreeMap<String, String>, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "datamill");
        let has_login = self
            .broker
            .get("security.protocol")
            .is_some_and(|protocol| protocol.to_ascii_lowercase().starts_with("sasl"));
        let longest = if has_login { RECONNECT_WITH_LOGIN_MS } else { "1000" };
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", longest);
        config.set("socket.keepalive.enable", "true");
        for (key, value) in defaults {
            config.set(*key, *value);
        }
        for (key, value) in self.broker.iter().chain(section) {
            config.set(key, value);
        }
        // The default lets senders create what they ask for, on a broker with `auto.create.topics.enable`.
        config.set("allow.auto.create.topics", "false");
        let debug = config.get("debug").is_some_and(|contexts| !contexts.is_empty());
        config.set_log_level(if debug { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
        config
    }

    /// A client that only asks: metadata, ends of partitions, groups.
    pub(super) fn look(&self, read_committed: bool) -> ClientConfig {
        let mut config = self.client(&self.consumer, &[]);
        config.set("isolation.level", if read_committed { "read_committed" } else { "read_uncommitted" });
        config.remove("group.protocol");
        config
    }

    /// A client that asks for what a group has committed, without joining it.
    pub(super) fn group(&self, group: &str) -> ClientConfig {
        let mut config = self.look(true);
        config.set("group.id", group).set("enable.auto.commit", "false");
        config
    }

    /// A client that creates and describes topics. librdkafka makes it a producer.
    pub(super) fn admin(&self) -> ClientConfig {
        let mut config = self.client(&self.producer, &[]);
        // Nobody reads its log: the looking client says what there is to say about the connection.
        config.set_log_level(RDKafkaLogLevel::Emerg);
        config
    }

    /// A client that reads partitions without a group.
    pub(super) fn reader(&self) -> ClientConfig {
        let mut config = self.reading();
        if self.value("consumer", "queued.max.messages.kbytes").is_none() {
            config.set("queued.max.messages.kbytes", READER_QUEUE_KBYTES);
        }
        // Assigning partitions needs a name, though no group is ever joined.
        config.set("group.id", "datamill-reader");
        config.remove("group.protocol");
        config
    }

    fn reading(&self) -> ClientConfig {
        let defaults = [
            // The default of 1 s leaves a partition alone that long whenever the queue was full; small files drain it
            // in some 20 ms.
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.wait.max.ms", "100"),
            ("fetch.message.max.bytes", FETCH_BYTES),
            // Whole files are hashed.
            ("check.crcs", "false"),
        ];
        let mut config = self.client(&self.consumer, &defaults);
        config.set("isolation.level", "read_committed").set("message.max.bytes", UNPACK_BYTES);
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
        config.set("enable.partition.eof", "true").set("auto.offset.reset", "error");
        config
    }

    /// A member of a group.
    pub(super) fn member(&self, options: &SubscribeOptions) -> ClientConfig {
        let mut config = self.reading();
        let mut bound = |key: &str, bytes: usize, unit: usize| {
            if self.value("consumer", key).is_none() {
                config.set(key, (bytes / unit).to_string());
            }
        };
        let queue = options.queue_bytes;
        // The rest is for what is fetched while so much is queued still.
        bound("queued.max.messages.kbytes", (queue / 2).clamp(1 << 10, 1 << 30), 1 << 10);
        bound("fetch.max.bytes", queue.clamp(1 << 20, 50 << 20), 1);
        bound("fetch.message.max.bytes", (queue / 8).clamp(1 << 18, 4 << 20), 1);
        config.set("group.id", &options.group);
        let default = |config: &mut ClientConfig, key: &str, value: &str| {
            if config.get(key).is_none() {
                config.set(key, value);
            }
        };
        default(&mut config, "max.poll.interval.ms", "300000");
        // The default of 5 minutes is how long a partition that was added to a topic would not be read.
        default(&mut config, "topic.metadata.refresh.interval.ms", NEW_PARTITIONS_MS);
        if config.get("group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer")) {
            // There the broker sets session and heartbeat, and after a kill a returning static member is
            // refused until its session ends.
            config.remove("session.timeout.ms").remove("heartbeat.interval.ms");
        } else {
            let is_static = options.membership == Membership::Static;
            // A static member that is started again is expected; a dynamic one is missed until its session ends.
            let session_ms = if is_static { SESSION_MS } else { 10_000 };
            default(&mut config, "session.timeout.ms", &session_ms.to_string());
            default(&mut config, "heartbeat.interval.ms", "3000");
            config.set("partition.assignment.strategy", "cooperative-sticky");
            if is_static {
                config.set("group.instance.id", &options.instance);
            }
        }
        config
    }

    /// The longest session that a member has with these settings: for so long, a broker lists one that was killed.
    pub(super) fn longest_session(&self) -> Duration {
        let set = self.value("consumer", "session.timeout.ms").and_then(|ms| ms.parse().ok());
        Duration::from_millis(set.unwrap_or(SESSION_MS))
    }

    fn producing(&self, linger_ms: &str, queue_kbytes: &str, batch: usize) -> ClientConfig {
        let defaults = [
            ("linger.ms", linger_ms),
            ("compression.type", "lz4"),
            ("message.max.bytes", MESSAGE_MAX_BYTES),
            ("queue.buffering.max.kbytes", queue_kbytes),
        ];
        let mut config = self.client(&self.producer, &defaults);
        config.set("enable.idempotence", "true").set("acks", "all");
        config.set("batch.size", batch.to_string());
        config
    }

    /// How what is sent is compressed.
    pub(super) fn compression(&self) -> Compression {
        let named = |key| self.value("producer", key).map(String::as_str);
        match (named("compression.type"), named("compression.level")) {
            (None | Some("lz4"), None) => Compression::Lz4,
            (Some("none"), _) => Compression::None,
            _ => Compression::Other,
        }
    }

    /// A sender outside of any group. No batch grows beyond `batch` bytes.
    pub(super) fn publisher(&self, batch: usize) -> ClientConfig {
        self.producing("5", "262144", batch)
    }

    /// The sender of a member that commits without transactions: a record is delivered or given up in the time
    /// that a transaction may take.
    pub(super) fn acknowledged(&self, batch: usize) -> ClientConfig {
        let mut config = self.producing("0", "1048576", batch);
        config.set("message.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string());
        config
    }

    /// The sender of a member's transactions. No batch grows beyond `batch` bytes.
    pub(super) fn committer(&self, options: &SubscribeOptions, batch: usize) -> ClientConfig {
        // The records of a commit come within milliseconds. Without company, the first one goes alone, and
        // librdkafka polls without a pause for its answer, since one batch of a partition is under way at a time.
        let mut config = self.producing("2", "1048576", batch);
        config.set("transactional.id", format!("datamill-{}-{}", options.group, options.instance));
        config.set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string());
        config
    }

    /// Whether members of groups use the newer protocol, in which the broker shares partitions out.
    pub(super) fn has_consumer_protocol(&self) -> bool {
        self.value("consumer", "group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer"))
    }

    /// Bytes that a batch of records may grow to, before any topic lowers it.
    pub(super) fn batch_size(&self) -> usize {
        self.value("producer", "batch.size").and_then(|size| size.trim().parse().ok()).unwrap_or(BATCH_SIZE)
    }

    fn value(&self, section: &str, key: &str) -> Option<&String> {
        let section = if section == "producer" { &self.producer } else { &self.consumer };
        section.get(key).or_else(|| self.broker.get(key))
    }
}

/// Checks a section and leaves out what the engine owns.
fn section(name: &str, properties: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let mut kept = BTreeMap::new();
    for (key, value) in properties {
        check(name, key, value)?;
        let alias = ALIASES.iter().find(|(alias, _)| alias == key);
        let one_name = alias.map_or(key.as_str(), |(_, name)| *name);
        match OWNED.iter().find(|(owned, _)| *owned == one_name) {
            None => {
                kept.insert(one_name.to_owned(), value.clone());
            }
            Some((_, same)) if same.iter().any(|same| same.eq_ignore_ascii_case(value.trim())) => {}
            Some(_) => {
                warn!("`{key}` in section `[{name}]` has no effect: datamill sets it itself")
            }
        }
    }
    Ok(kept)
}

fn check(section: &str, key: &str, value: &str) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set(key, value);
    let Err(error) = config.create_native_config() else {
        return Ok(());
    };
    let text = match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..) => match nearest(key, NAMES.lines(), 1)
            .first()
        {
            Some(nearest) => format!("unknown property `{key}` in section `[{section}]`: did you mean `{nearest}`?"),
            None => format!("unknown property `{key}` in section `[{section}]`"),
        },
        // librdkafka's explanation may quote the value.
        KafkaError::ClientConfig(_, why, ..) if !may_hold_secret(key) => {
            format!("property `{key}` in section `[{section}]` cannot have this value: {}", why.trim_end_matches('.'))
        }
        _ if key == "security.protocol" => format!(
            "property `{key}` in section `[{section}]` must be one of `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` and `SASL_SSL`"
        ),
        _ if key.starts_with("sasl.oauthbearer.") => format!(
            "property `{key}` in section `[{section}]` cannot have this value: tokens from an identity provider (OIDC) are \
            not built in"
        ),
        _ => format!("property `{key}` in section `[{section}]` cannot have this value"),
    };
    Err(Error::new(ErrorKind::Settings, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(section: &str, pairs: &[(&str, &str)]) -> Properties {
        let mut properties = Properties::default();
        properties.broker.insert("bootstrap.servers".into(), "127.0.0.1:1".into());
        let map = match section {
            "broker" => &mut properties.broker,
            "producer" => &mut properties.producer,
            _ => &mut properties.consumer,
        };
        map.extend(pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())));
        properties
    }

    #[test]
    fn every_name_that_is_proposed_is_one_that_librdkafka_knows() {
        for name in NAMES.lines() {
            let mut config = ClientConfig::new();
            config.set(name, "?");
            if let Err(KafkaError::ClientConfig(why, ..)) = config.create_native_config() {
                assert_ne!(why, RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, "{name}");
            }
        }
    }

    fn refusal(section: &str, key: &str, value: &str) -> String {
        let error = Settings::new(&properties(section, &[(key, value)])).err().expect("a settings error");
        assert_eq!(error.kind(), ErrorKind::Settings);
        format!("{error:?}")
    }

    fn options() -> SubscribeOptions {
        SubscribeOptions {
            group: "g".into(),
            instance: "i".into(),
            membership: Default::default(),
            topics: vec!["t".into()],
            identity: Default::default(),
            first_start: Default::default(),
            queue_bytes: 8 << 20,
            delivery: crate::contract::DeliveryGuarantee::ExactlyOnce,
        }
    }

    #[test]
    fn an_unknown_property_names_its_section_and_the_nearest_one() {
        let text = refusal("producer", "linger.mss", "5");
        assert!(text.contains("`linger.mss`") && text.contains("[producer]") && text.contains("`linger.ms`"), "{text}");
        let text = refusal("broker", "sasl.user.name", "me");
        assert!(text.contains("`sasl.username`"), "{text}");
        let text = refusal("consumer", "utterly.different.thing.of.a.name", "5");
        assert!(!text.contains("did you mean"), "{text}");
    }

    #[test]
    fn an_invalid_value_is_explained_but_a_secret_is_never_shown() {
        let text = refusal("producer", "linger.ms", "soon");
        assert!(text.contains("`linger.ms`") && text.contains("[producer]"), "{text}");
        let text = refusal("broker", "sasl.pasword", "hunter2");
        assert!(text.contains("`sasl.password`") && !text.contains("hunter2"), "{text}");
        let text = refusal("broker", "ssl.key.pem", "hunter2\0");
        assert!(!text.contains("hunter2"), "{text}");
        for key in ["security.protocol", "ssl.endpoint.identification.algorithm", "sasl.oauthbearer.client.id"] {
            let text = refusal("broker", key, "hunter2");
            assert!(text.contains(key) && !text.contains("hunter2"), "{text}");
        }
        let text = refusal("broker", "sasl.oauthbearer.method", "oidc");
        assert!(text.contains("(OIDC) are not built in"), "{text}");
        let text = refusal("broker", "bootstrap.servers", "me:hunter2@127.0.0.1:1");
        assert!(text.contains("`sasl.password`") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_missing_server_is_a_settings_error() {
        let error = Settings::new(&Properties::default()).err().expect("a settings error");
        assert!(error.to_string().contains("bootstrap.servers"));
    }

    #[test]
    fn how_large_a_message_may_be_that_is_sent_does_not_matter_to_those_that_read() {
        let set = [("message.max.bytes", "20000000")];
        let settings = Settings::new(&properties("broker", &set)).expect("valid");
        for config in [settings.member(&options()), settings.reader()] {
            config.create::<rdkafka::consumer::BaseConsumer>().expect("accepted");
        }
    }

    #[test]
    fn what_the_engine_owns_wins_and_the_rest_passes_through() {
        let set = [("isolation.level", "read_uncommitted"), ("session.timeout.ms", "9000"), ("group.id", "other")];
        let config = Settings::new(&properties("consumer", &set)).expect("valid").member(&options());
        assert_eq!(config.get("isolation.level"), Some("read_committed"));
        assert_eq!(config.get("session.timeout.ms"), Some("9000"));
        assert_eq!(config.get("group.id"), Some("g"));
        assert_eq!(config.get("group.instance.id"), Some("i"));
        assert_eq!(config.get("queued.max.messages.kbytes"), Some("4096"));
        assert_eq!(config.get("topic.metadata.refresh.interval.ms"), Some("30000"));
        let dynamic = SubscribeOptions { membership: Membership::Dynamic, ..options() };
        for (set, session) in [(&set[..], "9000"), (&[], "10000")] {
            let config = Settings::new(&properties("consumer", set)).expect("valid").member(&dynamic);
            assert_eq!(config.get("group.instance.id"), None);
            assert_eq!(config.get("session.timeout.ms"), Some(session));
        }

        let set = [("acks", "1"), ("linger.ms", "50"), ("transactional.id", "x")];
        let settings = Settings::new(&properties("producer", &set)).expect("valid");
        let config = settings.committer(&options(), settings.batch_size());
        assert_eq!(config.get("acks"), Some("all"));
        assert_eq!(config.get("linger.ms"), Some("50"));
        assert_eq!(config.get("transactional.id"), Some("datamill-g-i"));
    }

    #[test]
    fn a_section_beats_the_broker_section_and_consumers_do_not_see_producers() {
        let mut properties = properties("broker", &[("client.id", "both"), ("retry.backoff.ms", "70")]);
        properties.producer.insert("client.id".into(), "sender".into());
        let settings = Settings::new(&properties).expect("valid");
        assert_eq!(settings.publisher(1).get("client.id"), Some("sender"));
        assert_eq!(settings.reader().get("client.id"), Some("both"));
        assert_eq!(settings.reader().get("retry.backoff.ms"), Some("70"));
    }

    #[test]
    fn the_consumer_protocol_goes_without_what_it_does_not_know() {
        let set = [("group.protocol", "consumer"), ("session.timeout.ms", "9000")];
        let config = Settings::new(&properties("consumer", &set)).expect("valid").member(&options());
        assert_eq!(config.get("session.timeout.ms"), None);
        assert_eq!(config.get("group.instance.id"), None);
        assert_eq!(config.get("partition.assignment.strategy"), None);
    }

    #[test]
    fn every_client_is_accepted_by_librdkafka() {
        let settings = Settings::new(&properties("broker", &[("allow.auto.create.topics", "true")])).expect("valid");
        let all = [
            settings.look(true),
            settings.look(false),
            settings.group("g"),
            settings.admin(),
            settings.reader(),
            settings.member(&options()),
            settings.publisher(settings.batch_size()),
            settings.committer(&options(), 1000),
        ];
        for config in all {
            config.create_native_config().expect("accepted");
            assert_eq!(config.get("allow.auto.create.topics"), Some("false"), "asking creates no topic");
        }
    }

    #[test]
    fn encryption_login_and_all_codecs_are_built_in() {
        let native = ClientConfig::new().create_native_config().expect("empty");
        let features = native.get("builtin.features").expect("listed");
        let features: Vec<&str> = features.split(',').collect();
        for feature in ["ssl", "sasl_plain", "sasl_scram", "sasl_oauthbearer", "gzip", "snappy", "lz4", "zstd"] {
            assert!(features.contains(&feature), "no {feature} in {features:?}");
        }
    }
}
