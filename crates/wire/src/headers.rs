//! Names of the record headers that datamill writes. Values are UTF-8 text.
//!
//! Chunks carry [`CHUNK_VERSION`] where their file has more than one, so that a reader knows that all of
//! them are in one partition. Results carry where they came from, since a key identifies nothing.

/// How all names of headers begin that datamill gives.
pub const OWN: &str = "datamill.";

/// On chunks of a file that has several: written by datamill, all of them in the partition that
/// [`partition_for`](crate::partition_for) names. The value is [`CHUNK_VERSION_1`].
pub const CHUNK_VERSION: &str = "datamill.chunk";
/// The value of [`CHUNK_VERSION`].
pub const CHUNK_VERSION_1: &str = "1";
/// On chunks: SHA-512, in hexadecimal, of the version of the same path whose upload was given up
/// because the file changed while it was read; this upload takes its place.
pub const SUPERSEDES: &str = "datamill.supersedes";
/// On chunks: modification time of the file at its source in seconds since the Unix epoch, as decimal text. It
/// counts where the tenth field of the message says "unknown"; written where that field cannot tell the time: 0.
pub const MTIME: &str = "datamill.mtime";

/// On results: the topic that the file's chunks were read from.
pub const SOURCE_TOPIC: &str = "datamill.source.topic";
/// On results and dead letters: the id of that topic, which one that is deleted and created again does not share.
/// Left out where the log tells none.
pub const SOURCE_TOPIC_ID: &str = "datamill.source.topic_id";
/// On results: path of the rebuilt file, relative, with `/`.
pub const SOURCE_PATH: &str = "datamill.source.path";
/// On results: SHA-512 of the file, in hexadecimal.
pub const SOURCE_SHA512: &str = "datamill.source.sha512";
/// On results: first and last offset of the file's chunks in each partition, as
/// `partition:first-last`, partitions in ascending order, separated by commas.
pub const SOURCE_OFFSETS: &str = "datamill.source.offsets";
/// On results: name and version of the program that made it.
pub const PROGRAM: &str = "datamill.program";
/// On results: version of the function or the program that computed it, where it has one.
pub const PROCESSOR_VERSION: &str = "datamill.processor_version";
/// On results: the consumer group of the program that made it. On heartbeats: that of the program.
pub const GROUP: &str = "datamill.group";
/// On results: the key of the failure, in the group's state, that this result answers.
pub const RETRY_OF: &str = "datamill.retry_of";

/// On results that were computed once more because somebody asked for it: the result of the same upload that was the
/// newest one before, as `topic:partition:offset`.
pub const RERUN_OF: &str = "datamill.rerun_of";

/// On heartbeats: the name that the program has in its group.
pub const INSTANCE: &str = "datamill.instance";
/// On the last heartbeat of a program, which it sends when it ends: when that was, in ISO 8601.
pub const ENDED: &str = "datamill.ended";
/// On heartbeats of a program that holds: why, as its metrics say it.
pub const HELD: &str = "datamill.held";
/// On the same: since when, in ISO 8601.
pub const HELD_SINCE: &str = "datamill.held_since";

/// On dead letters that are shorter than they should be: what was cut.
pub const CUT: &str = "datamill.cut";
/// On dead letters, as Kafka Connect names it: topic of the record, or of the file's chunks.
pub const ERROR_TOPIC: &str = "__connect.errors.topic";
/// On dead letters: partition of the record, or of the file's first chunk.
pub const ERROR_PARTITION: &str = "__connect.errors.partition";
/// On dead letters: offset of the record, or of the file's first chunk.
pub const ERROR_OFFSET: &str = "__connect.errors.offset";
/// On dead letters: name and version of the program that could not handle it.
pub const ERROR_CONNECTOR: &str = "__connect.errors.connector.name";
/// On dead letters: what was under way, in Kafka Connect's words.
pub const ERROR_STAGE: &str = "__connect.errors.stage";
/// On dead letters: the status of the file in the registry, or `undecodable`.
pub const ERROR_CLASS: &str = "__connect.errors.exception.class.name";
/// On dead letters: why.
pub const ERROR_MESSAGE: &str = "__connect.errors.exception.message";
