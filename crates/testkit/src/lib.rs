//! What the tests of all rooms share. Nothing here is published, and nothing here depends on the
//! crates that it helps to test.

pub mod http;
pub mod kafka;
pub mod peer;
#[cfg(feature = "s3")]
pub mod s3;
pub mod secured;
pub mod vectors;
