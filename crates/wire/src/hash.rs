//! SHA-512, the hash of files and chunks: at once, piece by piece, and as text.
//!
//! OpenSSL computes it, which librdkafka needs anyway: its code for the processor at hand is half as fast
//! again as portable code, and hashing is most of the work that a large file makes.

use std::fmt;

use openssl::sha::Sha512;

/// SHA-512 of `data`.
pub fn sha512(data: &[u8]) -> [u8; 64] {
    let mut hasher = Sha512Hasher::new();
    hasher.update(data);
    hasher.finish()
}

/// SHA-512 of bytes that come piece by piece.
#[derive(Clone, Default)]
pub struct Sha512Hasher(Sha512);

impl Sha512Hasher {
    /// A hasher that has seen no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the bytes that follow those before.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The hash of all bytes taken.
    pub fn finish(self) -> [u8; 64] {
        self.0.finish()
    }
}

impl fmt::Debug for Sha512Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sha512Hasher").finish_non_exhaustive()
    }
}

/// `bytes` in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const_hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_abc_is_the_one_of_the_standard() {
        assert_eq!(
            hex(&sha512(b"abc")),
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
    }

    #[test]
    fn pieces_give_the_hash_of_the_whole() {
        let data: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for cut in [0, 1, 127, 128, 129, 1000] {
            let mut hasher = Sha512Hasher::new();
            hasher.update(&data[..cut]);
            hasher.update(&data[cut..]);
            assert_eq!(hasher.finish(), sha512(&data));
        }
    }
}
