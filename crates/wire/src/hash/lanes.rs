//! SHA-512 of four messages side by side: lane `i` of each AVX2 register has a word of message `i`.
//!
//! The steps of one message need each other's outcome, those of several do not. Names and constants are those
//! of FIPS 180-4, sections 4.1.3, 4.2.3 and 5.3.5.

use std::arch::x86_64::*;

/// Bytes of a block.
const BLOCK: usize = 128;
/// Bytes that the padding adds at least: a bit, and the length in bits.
const PADDING: usize = 17;

const K: [[u64; 16]; 5] = [
    [
        0x428a2f98d728ae22,
        0x7137449123ef65cd,
        0xb5c0fbcfec4d3b2f,
        0xe9b5dba58189dbbc,
        0x3956c25bf348b538,
        0x59f111f1b605d019,
        0x923f82a4af194f9b,
        0xab1c5ed5da6d8118,
        0xd807aa98a3030242,
        0x12835b0145706fbe,
        0x243185be4ee4b28c,
        0x550c7dc3d5ffb4e2,
        0x72be5d74f27b896f,
        0x80deb1fe3b1696b1,
        0x9bdc06a725c71235,
        0xc19bf174cf692694,
    ],
    [
        0xe49b69c19ef14ad2,
        0xefbe4786384f25e3,
        0x0fc19dc68b8cd5b5,
        0x240ca1cc77ac9c65,
        0x2de92c6f592b0275,
        0x4a7484aa6ea6e483,
        0x5cb0a9dcbd41fbd4,
        0x76f988da831153b5,
        0x983e5152ee66dfab,
        0xa831c66d2db43210,
        0xb00327c898fb213f,
        0xbf597fc7beef0ee4,
        0xc6e00bf33da88fc2,
        0xd5a79147930aa725,
        0x06ca6351e003826f,
        0x142929670a0e6e70,
    ],
    [
        0x27b70a8546d22ffc,
        0x2e1b21385c26c926,
        0x4d2c6dfc5ac42aed,
        0x53380d139d95b3df,
        0x650a73548baf63de,
        0x766a0abb3c77b2a8,
        0x81c2c92e47edaee6,
        0x92722c851482353b,
        0xa2bfe8a14cf10364,
        0xa81a664bbc423001,
        0xc24b8b70d0f89791,
        0xc76c51a30654be30,
        0xd192e819d6ef5218,
        0xd69906245565a910,
        0xf40e35855771202a,
        0x106aa07032bbd1b8,
    ],
    [
        0x19a4c116b8d2d0c8,
        0x1e376c085141ab53,
        0x2748774cdf8eeb99,
        0x34b0bcb5e19b48a8,
        0x391c0cb3c5c95a63,
        0x4ed8aa4ae3418acb,
        0x5b9cca4f7763e373,
        0x682e6ff3d6b2b8a3,
        0x748f82ee5defb2fc,
        0x78a5636f43172f60,
        0x84c87814a1f0ab72,
        0x8cc702081a6439ec,
        0x90befffa23631e28,
        0xa4506cebde82bde9,
        0xbef9a3f7b2c67915,
        0xc67178f2e372532b,
    ],
    [
        0xca273eceea26619c,
        0xd186b8c721c0c207,
        0xeada7dd6cde0eb1e,
        0xf57d4f7fee6ed178,
        0x06f067aa72176fba,
        0x0a637dc5a2c898a6,
        0x113f9804bef90dae,
        0x1b710b35131c471b,
        0x28db77f523047d84,
        0x32caab7b40c72493,
        0x3c9ebe0a15c9bebc,
        0x431d67c49c100d4c,
        0x4cc5d4becb3e42b6,
        0x597f299cfc657e2a,
        0x5fcb6fab3ad6faec,
        0x6c44198c4a475817,
    ],
];

const FIRST: [u64; 8] = [
    0x6a09e667f3bcc908,
    0xbb67ae8584caa73b,
    0x3c6ef372fe94f82b,
    0xa54ff53a5f1d36f1,
    0x510e527fade682d1,
    0x9b05688c2b3e6c1f,
    0x1f83d9abfb41bd6b,
    0x5be0cd19137e2179,
];

/// A message as blocks: those of its bytes, then its end with the padding.
struct Blocks<'a> {
    body: &'a [[u8; BLOCK]],
    end: [[u8; BLOCK]; 2],
    ends: usize,
}

impl<'a> Blocks<'a> {
    fn of(message: &'a [u8]) -> Self {
        let (body, rest) = message.as_chunks::<BLOCK>();
        let ends = if rest.len() + PADDING > BLOCK { 2 } else { 1 };
        let mut end = [[0; BLOCK]; 2];
        end[0][..rest.len()].copy_from_slice(rest);
        end[0][rest.len()] = 0x80;
        end[ends - 1][BLOCK - 8..].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());
        Self { body, end, ends }
    }

    fn len(&self) -> usize {
        self.body.len() + self.ends
    }

    /// A block; any where there is none.
    fn get(&self, at: usize) -> &[u8; BLOCK] {
        self.body.get(at).unwrap_or_else(|| &self.end[usize::from(at > self.body.len())])
    }
}

/// SHA-512 of each message. It takes as long as the longest does.
#[target_feature(enable = "avx2")]
pub(super) fn sha512_of_four(messages: [&[u8]; 4]) -> [[u8; 64]; 4] {
    let messages = messages.map(Blocks::of);
    let lengths = messages.each_ref().map(Blocks::len);
    let mut state = FIRST.map(|word| all(word));
    for at in 0..lengths.into_iter().max().unwrap_or(0) {
        let [a, b, c, d] = lengths.map(|length| if at < length { -1 } else { 0 });
        compress(&mut state, messages.each_ref().map(|message| message.get(at)), _mm256_set_epi64x(d, c, b, a));
    }
    let mut hashes = [[0; 64]; 4];
    for (i, word) in state.into_iter().enumerate() {
        let lanes = [
            _mm256_extract_epi64::<0>(word),
            _mm256_extract_epi64::<1>(word),
            _mm256_extract_epi64::<2>(word),
            _mm256_extract_epi64::<3>(word),
        ];
        for (hash, lane) in hashes.iter_mut().zip(lanes) {
            hash[8 * i..8 * (i + 1)].copy_from_slice(&lane.to_be_bytes());
        }
    }
    hashes
}

/// Takes a block of each message in; the lanes where `taken` is zero stay as they are.
#[target_feature(enable = "avx2")]
fn compress(state: &mut [__m256i; 8], blocks: [&[u8; BLOCK]; 4], taken: __m256i) {
    let mut w = [_mm256_setzero_si256(); 16];
    for (i, words) in w.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *words = transpose(blocks.map(|block| load(&block.as_chunks::<32>().0[i])));
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    let mut bc = _mm256_xor_si256(b, c);
    for (turn, k) in K.iter().enumerate() {
        for i in 0..16 {
            let ab = _mm256_xor_si256(a, b);
            let t1 = add(add(add(h, sum1(e)), choose(e, f, g)), add(all(k[i]), w[i]));
            let t2 = add(sum0(a), majority(b, ab, bc));
            bc = ab;
            (h, g, f, e, d, c, b, a) = (g, f, e, add(d, t1), c, b, a, add(t1, t2));
            if turn + 1 < K.len() {
                let (next, last) = (w[(i + 1) % 16], w[(i + 14) % 16]);
                w[i] = add(add(w[i], sigma0(next)), add(w[(i + 9) % 16], sigma1(last)));
            }
        }
    }
    for (word, more) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = add(*word, _mm256_and_si256(more, taken));
    }
}

/// Four words of one message.
#[target_feature(enable = "avx2")]
fn load(bytes: &[u8; 32]) -> __m256i {
    let words = bytes.as_chunks::<8>().0;
    let [a, b, c, d] = [words[0], words[1], words[2], words[3]].map(i64::from_le_bytes);
    let (high, low) = (0x0809_0a0b_0c0d_0e0f, 0x0001_0203_0405_0607);
    _mm256_shuffle_epi8(_mm256_set_epi64x(d, c, b, a), _mm256_set_epi64x(high, low, high, low))
}

/// From four words of each message to four words, each of all messages.
#[target_feature(enable = "avx2")]
fn transpose([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
    let (ab, ab_odd) = (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let (cd, cd_odd) = (_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
    [
        _mm256_permute2x128_si256::<0x20>(ab, cd),
        _mm256_permute2x128_si256::<0x20>(ab_odd, cd_odd),
        _mm256_permute2x128_si256::<0x31>(ab, cd),
        _mm256_permute2x128_si256::<0x31>(ab_odd, cd_odd),
    ]
}

#[target_feature(enable = "avx2")]
fn all(word: u64) -> __m256i {
    _mm256_set1_epi64x(word.cast_signed())
}

#[target_feature(enable = "avx2")]
fn add(x: __m256i, y: __m256i) -> __m256i {
    _mm256_add_epi64(x, y)
}

#[target_feature(enable = "avx2")]
fn xor(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_xor_si256(x, y), z)
}

/// Rotates to the right by `R`; `L` is 64 without it.
#[target_feature(enable = "avx2")]
fn rotate<const R: i32, const L: i32>(x: __m256i) -> __m256i {
    const { assert!(R + L == 64) };
    _mm256_or_si256(_mm256_srli_epi64::<R>(x), _mm256_slli_epi64::<L>(x))
}

/// Rotates to the right by 8, in one step.
#[target_feature(enable = "avx2")]
fn rotate_byte(x: __m256i) -> __m256i {
    let (high, low) = (0x080f_0e0d_0c0b_0a09, 0x0007_0605_0403_0201);
    _mm256_shuffle_epi8(x, _mm256_set_epi64x(high, low, high, low))
}

#[target_feature(enable = "avx2")]
fn choose(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_and_si256(x, _mm256_xor_si256(y, z)), z)
}

/// Majority of `x`, `y` and `z`, from `y`, `x` xor `y`, and `y` xor `z`, which is the `x` xor `y` of the step before.
#[target_feature(enable = "avx2")]
fn majority(y: __m256i, xy: __m256i, yz: __m256i) -> __m256i {
    _mm256_xor_si256(y, _mm256_and_si256(xy, yz))
}

#[target_feature(enable = "avx2")]
fn sum0(x: __m256i) -> __m256i {
    xor(rotate::<28, 36>(x), rotate::<34, 30>(x), rotate::<39, 25>(x))
}

#[target_feature(enable = "avx2")]
fn sum1(x: __m256i) -> __m256i {
    xor(rotate::<14, 50>(x), rotate::<18, 46>(x), rotate::<41, 23>(x))
}

#[target_feature(enable = "avx2")]
fn sigma0(x: __m256i) -> __m256i {
    xor(rotate::<1, 63>(x), rotate_byte(x), _mm256_srli_epi64::<7>(x))
}

#[target_feature(enable = "avx2")]
fn sigma1(x: __m256i) -> __m256i {
    xor(rotate::<19, 45>(x), rotate::<61, 3>(x), _mm256_srli_epi64::<6>(x))
}
