//! Names of the record headers that datamill writes. Values are UTF-8 text.
//!
//! Chunks carry [`CHUNK_VERSION`], so that a reader knows that all chunks of the file are in one
//! partition. Results carry where they came from, since a key identifies nothing.

/// On chunks: written by datamill, all chunks of a file in the partition that
/// [`partition_for`](crate::partition_for) names. The value is [`CHUNK_VERSION_1`].
pub const CHUNK_VERSION: &str = "datamill.chunk";
/// The value of [`CHUNK_VERSION`].
pub const CHUNK_VERSION_1: &str = "1";
/// On chunks: SHA-512, in hexadecimal, of the version of the same path whose upload was given up
/// because the file changed while it was read; this upload takes its place.
pub const SUPERSEDES: &str = "datamill.supersedes";

/// On results: the topic that the file's chunks were read from.
pub const SOURCE_TOPIC: &str = "datamill.source.topic";
/// On results: path of the rebuilt file, relative, with `/`.
pub const SOURCE_PATH: &str = "datamill.source.path";
/// On results: SHA-512 of the file, in hexadecimal.
pub const SOURCE_SHA512: &str = "datamill.source.sha512";
/// On results: first and last offset of the file's chunks in each partition, as
/// `partition:first-last`, partitions in ascending order, separated by commas.
pub const SOURCE_OFFSETS: &str = "datamill.source.offsets";
/// On results: name and version of the program that made it.
pub const PROGRAM: &str = "datamill.program";
