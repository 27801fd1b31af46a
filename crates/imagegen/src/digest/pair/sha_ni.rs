//! Both lanes with the instructions that x86 processors have for SHA-256, one round of each after the other: while a round
//! waits for the one before it, the processor begins one of the other lane.
//!
//! The rounds and the message schedule are those of FIPS 180-4; `ABEF`, `CDGH` and the order of words are how Intel's
//! instructions want them ("Intel SHA Extensions", 2013).

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x, _mm_sha256msg1_epu32,
    _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
};
use std::is_x86_feature_detected;

use super::{Blocks, Compress, States};

/// The constants of the rounds, four together (FIPS 180-4, 4.2.2).
#[rustfmt::skip]
const K: [[u32; 4]; 16] = [
    [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5], [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
    [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3], [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc], [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
    [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7], [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13], [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
    [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3], [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5], [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
    [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208], [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
];

/// `ABEF` and `CDGH`.
type State = [__m128i; 2];

/// What hashes both lanes together; `None` where the processor lacks the instructions.
pub(super) fn together() -> Option<Compress> {
    let has_all =
        is_x86_feature_detected!("sha") && is_x86_feature_detected!("ssse3") && is_x86_feature_detected!("sse4.1");
    #[allow(unsafe_code, reason = "the instructions are used where the processor has them")]
    // SAFETY: all that is unsafe about it is which processor runs it. Nobody gets it who did not ask.
    let compress: Compress = |states, blocks| unsafe { compress_both(states, blocks) };
    has_all.then_some(compress)
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress_both(states: &mut States, blocks: Blocks<'_>) {
    let [mut one, mut other] = [load(states[0]), load(states[1])];
    for (block_of_one, block_of_other) in blocks[0].iter().zip(blocks[1]) {
        let before = [one, other];
        let [mut words_of_one, mut words_of_other] = [words(block_of_one), words(block_of_other)];
        // Written out, or the compiler makes a loop of it that keeps the words in memory.
        macro_rules! rounds {
            ($($four:literal)*) => {$(
                if $four >= 4 {
                    extend(&mut words_of_one, $four);
                    extend(&mut words_of_other, $four);
                }
                four_rounds(&mut one, words_of_one[$four % 4], K[$four]);
                four_rounds(&mut other, words_of_other[$four % 4], K[$four]);
            )*};
        }
        rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        one = sum(one, before[0]);
        other = sum(other, before[1]);
    }
    *states = [store(one), store(other)];
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn four_rounds([abef, cdgh]: &mut State, words: __m128i, constants: [u32; 4]) {
    let [k0, k1, k2, k3] = constants.map(u32::cast_signed);
    let keyed = _mm_add_epi32(words, _mm_set_epi32(k3, k2, k1, k0));
    // Two rounds make the old `ABEF` the new `CDGH`, so that after four each is in its place again.
    *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, keyed);
    *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32(keyed, 0b1110));
}

/// Puts the next four words of the schedule in the place of the oldest.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn extend(words: &mut [__m128i; 4], four: usize) {
    let [oldest, older, newer, newest] = [0, 1, 2, 3].map(|age| words[(four + age) % 4]);
    let with_sigma_0 = _mm_sha256msg1_epu32(oldest, older);
    let seven_before = _mm_alignr_epi8(newest, newer, 4);
    words[four % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(with_sigma_0, seven_before), newest);
}

/// The words of a block, of which the first byte is the highest.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn words(block: &[u8; 64]) -> [__m128i; 4] {
    let bytes_turned = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let eights = block.as_chunks::<8>().0;
    std::array::from_fn(|four| {
        let [low, high] = [eights[2 * four], eights[2 * four + 1]].map(i64::from_le_bytes);
        _mm_shuffle_epi8(_mm_set_epi64x(high, low), bytes_turned)
    })
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn sum(one: State, other: State) -> State {
    [_mm_add_epi32(one[0], other[0]), _mm_add_epi32(one[1], other[1])]
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
#[allow(clippy::many_single_char_names, reason = "the standard's names")]
fn load(state: [u32; 8]) -> State {
    let [a, b, c, d, e, f, g, h] = state.map(u32::cast_signed);
    [_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h)]
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
#[allow(clippy::many_single_char_names, reason = "the standard's names")]
fn store([abef, cdgh]: State) -> [u32; 8] {
    let [a, b] = [_mm_extract_epi32(abef, 3), _mm_extract_epi32(abef, 2)];
    let [c, d] = [_mm_extract_epi32(cdgh, 3), _mm_extract_epi32(cdgh, 2)];
    let [e, f] = [_mm_extract_epi32(abef, 1), _mm_extract_epi32(abef, 0)];
    let [g, h] = [_mm_extract_epi32(cdgh, 1), _mm_extract_epi32(cdgh, 0)];
    [a, b, c, d, e, f, g, h].map(i32::cast_unsigned)
}
