//! Whatever is accepted as a path index is written again as it was read; what is not is refused, in bounded memory.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vast_imagegen::digest::Digest;
use vast_imagegen::layer::LayerIndex;

/// The first line of every index.
static MAGIC: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let empty = LayerIndex::default().encode(&Digest::of(b"")).expect("it has no file");
    let mut unpacked = zstd::decode_all(&empty[..]).expect("it is a frame");
    unpacked.truncate(unpacked.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1));
    unpacked
});

fuzz_target!(|body: &[u8]| {
    // A fuzzer does not write zstd frames by itself: it gets inside one, and as it is.
    let framed = zstd::encode_all(&[&MAGIC, body].concat()[..], 1).unwrap_or_default();
    for encoded in [&framed[..], body] {
        let Ok((index, diff_id)) = LayerIndex::decode(encoded) else { continue };
        let again = index.encode(&diff_id).expect("what was decoded has every digest");
        assert_eq!(LayerIndex::decode(&again[..]).ok(), Some((index, diff_id)));
    }
});
