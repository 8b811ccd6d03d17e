//! What the tests of all rooms share. Nothing here is published, and nothing here depends on the
//! crates that it helps to test.

mod acls;
pub mod http;
pub mod kafka;
pub mod peer;
#[cfg(feature = "s3")]
pub mod s3;
pub mod secured;
pub mod vectors;

/// Bytes that do not repeat, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    });
    byte.take(len).collect()
}
