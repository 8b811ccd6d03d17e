//! What the tests of all rooms share. Nothing here is published, and nothing here depends on the
//! crates that it helps to test.

pub mod kafka;
pub mod peer;
pub mod secured;
pub mod vectors;
