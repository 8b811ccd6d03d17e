//! SHA-512, the hash of files and chunks: at once, piece by piece, of four together, and as text.
//!
//! OpenSSL computes it, which librdkafka needs anyway: its code for the processor at hand is half as fast
//! again as portable code, and hashing is most of the work that a large file makes. Four small files together
//! take half of the time that OpenSSL needs for them.

#[cfg(target_arch = "x86_64")]
mod lanes;

use std::fmt;

use openssl::sha::Sha512;

/// SHA-512 of `data`.
pub fn sha512(data: &[u8]) -> [u8; 64] {
    let mut hasher = Sha512Hasher::new();
    hasher.update(data);
    hasher.finish()
}

/// SHA-512 of each of four messages, side by side where the processor can (x86-64 with AVX2) and where their
/// lengths are alike enough for that to be faster than one after another.
pub fn sha512_of_four(messages: [&[u8]; 4]) -> [[u8; 64]; 4] {
    #[cfg(target_arch = "x86_64")]
    {
        let [all, longest] = messages.iter().fold([0, 0], |[all, longest], m| [all + m.len(), longest.max(m.len())]);
        if all / 5 * 2 >= longest && is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, and nothing else is asked of the caller.
            #[allow(unsafe_code)]
            return unsafe { lanes::sha512_of_four(messages) };
        }
    }
    messages.map(sha512)
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
    fn four_together_have_the_hashes_of_each() {
        let data: Vec<u8> = (0..5_000_u32).map(|i| (i * i / 7) as u8).collect();
        let lengths = [0, 1, 110, 111, 112, 113, 127, 128, 129, 239, 240, 256, 1_000, 4_096, 5_000];
        for (i, length) in lengths.into_iter().enumerate() {
            let others = [1, 5, 9].map(|more| lengths[(i + more) % lengths.len()]);
            let [a, b, c] = others.map(|length| &data[5_000 - length..]);
            let messages = [&data[..length], a, b, c];
            assert_eq!(sha512_of_four(messages), messages.map(sha512), "{length}, {others:?}");
            let alike = [0, 1, 2, 3].map(|from| &data[from.min(5_000 - length)..][..length]);
            assert_eq!(sha512_of_four(alike), alike.map(sha512), "{length}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    proptest::proptest! {
        #[test]
        fn lanes_of_any_lengths_have_the_hashes_of_openssl(
            messages in proptest::array::uniform4(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..700)),
        ) {
            proptest::prop_assume!(is_x86_feature_detected!("avx2"));
            let messages = messages.each_ref().map(Vec::as_slice);
            // SAFETY: the processor has AVX2
            #[allow(unsafe_code)]
            let hashes = unsafe { lanes::sha512_of_four(messages) };
            proptest::prop_assert_eq!(hashes, messages.map(sha512));
        }
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
