//! Pure bytes: what travels through the topics, and nothing that touches a disk, a clock or a network.
//!
//! The value of a record becomes a [`Chunk`] that borrows from it; keys, rebuilt names and partitions
//! follow from a chunk's fields. Names come from strangers: [`Chunk::decode`] refuses whatever could
//! lead out of an output folder. [`Heartbeat`] and [`LogMessage`] are what running programs tell.

#![warn(unreachable_pub)]

pub mod chunk;
mod error;
mod hash;
pub mod headers;
pub mod heartbeat;
mod key;
mod msgpack;
pub mod name;
mod partition;

pub use chunk::{Chunk, MAX_CHUNKS, MAX_FILE_BYTES};
pub use error::ChunkError;
pub use hash::{Sha512Hasher, hex, sha512, sha512_of_four};
pub use heartbeat::{Heartbeat, LogMessage};
pub use key::{chunk_key, result_key};
pub use name::{MAX_PATH_BYTES, NameFault};
pub use partition::partition_for;
