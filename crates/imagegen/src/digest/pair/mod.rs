//! Two SHA-256 digests at once: that of an archive, and that of the blob which it is compressed to.
//!
//! A processor with instructions for SHA-256 mostly waits in them, since each round needs the one before. Another digest
//! fits into these pauses: two of the same length take a fifth longer than one (AMD EPYC, 2.6 GB/s instead of 1.55).

#[cfg(target_arch = "x86_64")]
mod sha_ni;

use sha2::block_api::compress256;

use super::Digest;

const BLOCK_BYTES: usize = 64;

/// What a digest begins with (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// What the digests are so far.
type States = [[u32; 8]; 2];

/// Blocks of each, as many of the one as of the other.
type Blocks<'a> = [&'a [[u8; BLOCK_BYTES]]; 2];

type Compress = fn(&mut States, Blocks<'_>);

/// Two digests that are computed together.
#[derive(Debug)]
pub(crate) struct HashingPair {
    compress: Compress,
    states: States,
    tails: [Tail; 2],
}

/// What did not fill a block yet.
#[derive(Debug)]
struct Tail {
    bytes: [u8; BLOCK_BYTES],
    /// Of all that came, in bytes; what is over whole blocks is in `bytes`.
    passed: u64,
}

impl HashingPair {
    pub(crate) fn new() -> Self {
        // Without optimisation, each instruction would be a call.
        Self::with(together().filter(|_| !cfg!(debug_assertions)).unwrap_or(one_after_the_other))
    }

    fn with(compress: Compress) -> Self {
        let tails = [const { Tail { bytes: [0; BLOCK_BYTES], passed: 0 } }; 2];
        Self { compress, states: [INITIAL; 2], tails }
    }

    /// Adds to each of them, faster than to one after the other.
    pub(crate) fn update(&mut self, data: [&[u8]; 2]) {
        let [one, other] = [self.fill(0, data[0]), self.fill(1, data[1])];
        let [(one, rest_of_one), (other, rest_of_other)] = [one.as_chunks(), other.as_chunks()];
        let both = one.len().min(other.len());
        let [(one, more_of_one), (other, more_of_other)] = [one.split_at(both), other.split_at(both)];
        (self.compress)(&mut self.states, [one, other]);
        self.tails.iter_mut().for_each(|tail| tail.passed += (both * BLOCK_BYTES) as u64);
        self.add(0, more_of_one, rest_of_one);
        self.add(1, more_of_other, rest_of_other);
    }

    /// Adds to the first or to the second.
    pub(crate) fn update_one(&mut self, lane: usize, data: &[u8]) {
        let (blocks, rest) = self.fill(lane, data).as_chunks();
        self.add(lane, blocks, rest);
    }

    /// Both digests, each with the number of bytes that it is of.
    pub(crate) fn finish(mut self) -> [(Digest, u64); 2] {
        [0, 1].map(|lane| {
            let bytes = self.tails[lane].passed;
            // A one, zeros, and the number of bits at the end of a block (FIPS 180-4, 5.1.1).
            let used = self.tails[lane].used();
            let zeros = (2 * BLOCK_BYTES - used - 9) % BLOCK_BYTES;
            let padding = [&[0x80][..], &[0; BLOCK_BYTES][..zeros], &(bytes * 8).to_be_bytes()].concat();
            self.update_one(lane, &padding);
            let mut digest = [0; 32];
            for (four, word) in digest.as_chunks_mut().0.iter_mut().zip(self.states[lane]) {
                *four = word.to_be_bytes();
            }
            (Digest(digest), bytes)
        })
    }

    /// Completes the block that was begun; what is left of `data`.
    fn fill<'a>(&mut self, lane: usize, data: &'a [u8]) -> &'a [u8] {
        let tail = &mut self.tails[lane];
        let used = tail.used();
        if used == 0 {
            return data;
        }
        let (taken, rest) = data.split_at(data.len().min(BLOCK_BYTES - used));
        tail.bytes[used..used + taken.len()].copy_from_slice(taken);
        tail.passed += taken.len() as u64;
        if tail.used() == 0 && !taken.is_empty() {
            compress256(&mut self.states[lane], &[tail.bytes]);
        }
        rest
    }

    /// Adds what begins with a block.
    fn add(&mut self, lane: usize, blocks: &[[u8; BLOCK_BYTES]], rest: &[u8]) {
        compress256(&mut self.states[lane], blocks);
        let tail = &mut self.tails[lane];
        // Where a block is begun, `rest` is empty.
        let used = tail.used();
        tail.bytes[used..used + rest.len()].copy_from_slice(rest);
        tail.passed += (blocks.len() * BLOCK_BYTES + rest.len()) as u64;
    }
}

impl Tail {
    #[allow(clippy::cast_possible_truncation, reason = "less than a block")]
    fn used(&self) -> usize {
        (self.passed % BLOCK_BYTES as u64) as usize
    }
}

/// What is faster than one after the other, where this processor has it.
fn together() -> Option<Compress> {
    #[cfg(target_arch = "x86_64")]
    return sha_ni::together();
    #[cfg(not(target_arch = "x86_64"))]
    None
}

fn one_after_the_other(states: &mut States, blocks: Blocks<'_>) {
    states.iter_mut().zip(blocks).for_each(|(state, blocks)| compress256(state, blocks));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_standard() {
        let mut pair = HashingPair::new();
        pair.update([b"abc", b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"]);
        let [(one, bytes_of_one), (other, bytes_of_other)] = pair.finish();
        assert_eq!(one.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(other.hex(), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
        assert_eq!((bytes_of_one, bytes_of_other), (3, 56));
        assert_eq!(HashingPair::new().finish(), [(Digest::of(b""), 0); 2]);
    }

    #[test]
    fn contents_of_every_length_around_a_block_are_padded_right() {
        let content: Vec<u8> = (0..200_u8).collect();
        for length in 0..content.len() {
            let (one, other) = (&content[..length], &content[content.len() - length..]);
            for mut pair in ways().map(HashingPair::with) {
                pair.update([one, other]);
                let digests = pair.finish().map(|(digest, _)| digest);
                assert_eq!(digests, [Digest::of(one), Digest::of(other)], "{length} bytes");
            }
        }
    }

    /// All that this processor can do.
    fn ways() -> impl Iterator<Item = Compress> {
        std::iter::once(one_after_the_other as Compress).chain(together())
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_processor_with_the_instructions_uses_them() {
        assert_eq!(together().is_some(), std::is_x86_feature_detected!("sha"));
    }

    /// What is added: to one of them, or to both.
    fn steps() -> impl Strategy<Value = Vec<(u8, Vec<u8>, Vec<u8>)>> {
        let piece = || prop::collection::vec(any::<u8>(), 0..300);
        prop::collection::vec((0..3_u8, piece(), piece()), 0..12)
    }

    proptest! {
        #[test]
        fn however_they_come_both_are_sha_256(steps in steps()) {
            let mut pairs: Vec<_> = ways().map(HashingPair::with).collect();
            let mut contents = [Vec::new(), Vec::new()];
            for (step, one, other) in &steps {
                for pair in &mut pairs {
                    match step {
                        0 => pair.update_one(0, one),
                        1 => pair.update_one(1, other),
                        _ => pair.update([one, other]),
                    }
                }
                if *step != 1 {
                    contents[0].extend_from_slice(one);
                }
                if *step != 0 {
                    contents[1].extend_from_slice(other);
                }
            }
            let expected = contents.map(|content| (Digest::of(&content), content.len() as u64));
            for pair in pairs {
                prop_assert_eq!(pair.finish(), expected);
            }
        }
    }
}
