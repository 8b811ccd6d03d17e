//! The properties that librdkafka knows, by the kind of their values, and how values that were written
//! for its Python client become values for the library.
//!
//! Names and kinds are those of librdkafka 2.12 (`CONFIGURATION.md`), without the callbacks.

use datamill_broker::is_secret;

/// Properties that are true or false.
#[rustfmt::skip]
const BOOLEANS: [&str; 22] = [
    "allow.auto.create.topics", "api.version.request", "auto.commit.enable", "check.crcs",
    "delivery.report.only.error", "enable.auto.commit", "enable.auto.offset.store", "enable.gapless.guarantee",
    "enable.idempotence", "enable.metrics.push", "enable.partition.eof", "enable.random.seed",
    "enable.sasl.oauthbearer.unsecure.jwt", "enable.ssl.certificate.verification", "log.connection.close",
    "log.queue", "log.thread.name", "produce.offset.report", "sasl.oauthbearer.assertion.claim.jti.include",
    "socket.keepalive.enable", "socket.nagle.disable", "topic.metadata.refresh.sparse",
];

/// Properties that are whole numbers; [`ACKS`] also take a word.
#[rustfmt::skip]
const INTEGERS: [&str; 64] = [
    "acks", "api.version.fallback.ms", "api.version.request.timeout.ms", "auto.commit.interval.ms",
    "batch.num.messages", "batch.size", "broker.address.ttl", "compression.level", "connections.max.idle.ms",
    "consume.callback.max.messages", "coordinator.query.interval.ms", "delivery.timeout.ms", "enabled_events",
    "fetch.error.backoff.ms", "fetch.max.bytes", "fetch.message.max.bytes", "fetch.min.bytes",
    "fetch.queue.backoff.ms", "fetch.wait.max.ms", "heartbeat.interval.ms", "internal.termination.signal",
    "log_level", "max.in.flight", "max.in.flight.requests.per.connection", "max.partition.fetch.bytes",
    "max.poll.interval.ms", "message.copy.max.bytes", "message.max.bytes", "message.send.max.retries",
    "message.timeout.ms", "metadata.max.age.ms", "metadata.recovery.rebootstrap.trigger.ms",
    "offset.store.sync.interval.ms", "queue.buffering.backpressure.threshold", "queue.buffering.max.kbytes",
    "queue.buffering.max.messages", "queued.max.messages.kbytes", "queued.min.messages", "receive.message.max.bytes",
    "reconnect.backoff.jitter.ms", "reconnect.backoff.max.ms", "reconnect.backoff.ms", "request.required.acks",
    "request.timeout.ms", "retries", "retry.backoff.max.ms", "retry.backoff.ms",
    "sasl.kerberos.min.time.before.relogin", "sasl.oauthbearer.assertion.claim.exp.seconds",
    "sasl.oauthbearer.assertion.claim.nbf.seconds", "session.timeout.ms", "socket.blocking.max.ms",
    "socket.connection.setup.timeout.ms", "socket.max.fails", "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes", "socket.timeout.ms", "statistics.interval.ms", "sticky.partitioning.linger.ms",
    "topic.metadata.propagation.max.ms", "topic.metadata.refresh.fast.cnt", "topic.metadata.refresh.fast.interval.ms",
    "topic.metadata.refresh.interval.ms", "transaction.timeout.ms",
];

/// All others.
#[rustfmt::skip]
const TEXTS: [&str; 78] = [
    "auto.offset.reset", "bootstrap.servers", "broker.address.family", "broker.version.fallback", "builtin.features",
    "client.dns.lookup", "client.id", "client.rack", "compression.codec", "compression.type", "debug", "group.id",
    "group.instance.id", "group.protocol", "group.protocol.type", "group.remote.assignor", "https.ca.location",
    "https.ca.pem", "isolation.level", "linger.ms", "metadata.broker.list", "metadata.recovery.strategy",
    "offset.store.method", "offset.store.path", "partition.assignment.strategy", "partitioner",
    "plugin.library.paths", "queue.buffering.max.ms", "queuing.strategy", "sasl.kerberos.keytab",
    "sasl.kerberos.kinit.cmd", "sasl.kerberos.principal", "sasl.kerberos.service.name", "sasl.mechanism",
    "sasl.mechanisms", "sasl.oauthbearer.assertion.algorithm", "sasl.oauthbearer.assertion.claim.aud",
    "sasl.oauthbearer.assertion.claim.iss", "sasl.oauthbearer.assertion.claim.sub", "sasl.oauthbearer.assertion.file",
    "sasl.oauthbearer.assertion.jwt.template.file", "sasl.oauthbearer.assertion.private.key.file",
    "sasl.oauthbearer.assertion.private.key.passphrase", "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config",
    "sasl.oauthbearer.extensions", "sasl.oauthbearer.grant.type", "sasl.oauthbearer.metadata.authentication.type",
    "sasl.oauthbearer.method", "sasl.oauthbearer.scope", "sasl.oauthbearer.token.endpoint.url", "sasl.password",
    "sasl.username", "security.protocol", "ssl.ca.certificate.stores", "ssl.ca.location", "ssl.ca.pem",
    "ssl.certificate.location", "ssl.certificate.pem", "ssl.cipher.suites", "ssl.crl.location", "ssl.curves.list",
    "ssl.endpoint.identification.algorithm", "ssl.engine.id", "ssl.engine.location", "ssl.key.location",
    "ssl.key.password", "ssl.key.pem", "ssl.keystore.location", "ssl.keystore.password", "ssl.providers",
    "ssl.sigalgs.list", "topic.blacklist", "transactional.id",
];

/// Whole numbers that may also be the word `all`.
const ACKS: [&str; 2] = ["acks", "request.required.acks"];

/// Whole numbers that are datamill's own, which the broker's backend takes out before librdkafka sees them.
const OWN: [&str; 1] = ["login.refused.timeout.ms"];

/// Names of serializers and deserializers that a configuration file may hold. What is sent and read is
/// given by the program, so they have no effect.
const CODERS: [&str; 4] = ["String", "Integer", "Double", "DataFileChunk"];

/// Whether there is a property of this name.
pub(super) fn is_known(key: &str) -> bool {
    all().any(|known| known == key)
}

fn all() -> impl Iterator<Item = &'static str> {
    BOOLEANS.into_iter().chain(INTEGERS).chain(TEXTS).chain(OWN)
}

/// The value as librdkafka wants it: `True` becomes `true`, the `5.0` of a whole number `5`. The error
/// says what was expected.
pub(super) fn convert(key: &str, value: &str) -> Result<String, &'static str> {
    if BOOLEANS.contains(&key) {
        return match value.to_lowercase().as_str() {
            "true" | "t" | "1" => Ok("true".to_owned()),
            "false" | "f" | "0" => Ok("false".to_owned()),
            _ => Err("`true` or `false`"),
        };
    }
    if (INTEGERS.contains(&key) || OWN.contains(&key)) && !(ACKS.contains(&key) && value == "all") {
        return whole_number(value).map(|number| number.to_string()).ok_or("a whole number");
    }
    Ok(value.to_owned())
}

/// A whole number, also when it is written as `5.0` or `1e6`.
pub(super) fn whole_number(value: &str) -> Option<i64> {
    if let Ok(number) = value.parse() {
        return Some(number);
    }
    let number: f64 = value.parse().ok()?;
    let exact = number.fract() == 0.0 && number.abs() < 9.0e15;
    // In this range the conversion is exact.
    exact.then_some(number as i64)
}

/// For a serializer key: whether the name is an accepted one; `None` for any other key.
pub(super) fn coder(key: &str, value: &str) -> Option<Result<(), &'static str>> {
    let (suffix, expected) = match key {
        "key.serializer" | "value.serializer" => (
            "Serializer",
            "one of `StringSerializer`, `IntegerSerializer`, `DoubleSerializer` and `DataFileChunkSerializer`",
        ),
        "key.deserializer" | "value.deserializer" => (
            "Deserializer",
            "one of `StringDeserializer`, `IntegerDeserializer`, `DoubleDeserializer` and `DataFileChunkDeserializer`",
        ),
        _ => return None,
    };
    let known = value.strip_suffix(suffix).is_some_and(|name| CODERS.contains(&name));
    Some(if known { Ok(()) } else { Err(expected) })
}

/// The property that looks most like `key`, if one does; `own` are further names that are known.
pub(super) fn nearest(key: &str, own: &[&'static str]) -> Option<&'static str> {
    datamill_broker::nearest(key, all().chain(own.iter().copied()), 1).pop()
}

/// Whether the value is a name, a path or a secret: it may hold any character, also one that looks like a mistake.
pub(super) fn is_free_text(key: &str) -> bool {
    const NAMES: [&str; 8] = [
        "client.id",
        "client.rack",
        "group.id",
        "group.instance.id",
        "plugin.library.paths",
        "sasl.username",
        "topic.blacklist",
        "transactional.id",
    ];
    is_secret(key) || NAMES.contains(&key) || key.ends_with(".location") || key.ends_with(".path")
}

/// Whether the value may have several lines.
pub(super) fn has_lines(key: &str) -> bool {
    ["pem", "jaas", "oauthbearer", "extensions"].iter().any(|part| key.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_python_become_values_of_librdkafka() {
        for (key, value, wanted) in [
            ("enable.auto.commit", "False", Ok("false")),
            ("enable.auto.commit", "TRUE", Ok("true")),
            ("enable.auto.commit", "maybe", Err("`true` or `false`")),
            ("retries", "5.0", Ok("5")),
            ("retries", "5", Ok("5")),
            ("batch.size", "2e5", Ok("200000")),
            ("retries", "5.5", Err("a whole number")),
            ("retries", "nan", Err("a whole number")),
            ("retries", "", Err("a whole number")),
            ("acks", "all", Ok("all")),
            ("acks", "-1.0", Ok("-1")),
            ("linger.ms", "0.5", Ok("0.5")),
            ("client.id", "True", Ok("True")),
            ("sasl.password", "5.0", Ok("5.0")),
        ] {
            assert_eq!(convert(key, value), wanted.map(str::to_owned), "{key} = {value}");
        }
    }

    #[test]
    fn a_misspelt_property_gets_the_nearest_known_one() {
        assert_eq!(nearest("bootstrap.server", &[]), Some("bootstrap.servers"));
        assert_eq!(nearest("sasl.pasword", &[]), Some("sasl.password"));
        assert_eq!(nearest("zebra.crossing.of.mine", &[]), None);
    }

    #[test]
    fn serializers_are_checked_by_name() {
        assert_eq!(coder("value.serializer", "DataFileChunkSerializer"), Some(Ok(())));
        assert_eq!(coder("value.deserializer", "StringDeserializer"), Some(Ok(())));
        assert!(matches!(coder("value.deserializer", "StringSerializer"), Some(Err(_))));
        assert!(matches!(coder("key.serializer", "Avro"), Some(Err(_))));
        assert_eq!(coder("client.id", "x"), None);
    }
}
