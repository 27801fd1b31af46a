//! A layer of whoever made it: what is accepted has plain names and makes a tree in which every parent is a directory, and is
//! read back from what is written of it.
#![no_main]

use std::io::{Cursor, Read as _};
use std::path::Component;

use libfuzzer_sys::fuzz_target;
use vast_imagegen::layer::{LayerIndex, TarReader, TarWriter, Tree, decompressed_within};

/// More than an input of the fuzzer unpacks to unless it is a bomb.
const LIMIT_BYTES: u64 = 4 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Ok(index) = LayerIndex::read_within(Box::new(Cursor::new(bytes.to_vec())), LIMIT_BYTES) else { return };
    for entry in &index.entries {
        assert!(entry.path.components().all(|part| matches!(part, Component::Normal(_))));
    }
    let mut tree = Tree::default();
    // Twice: as the bottom of an image, and on top of itself.
    if tree.apply(0, &index).is_ok() {
        let _ = tree.apply(1, &index);
    }
    for (path, _) in tree.iter() {
        let parent = path.parent().unwrap_or(&path);
        assert!(tree.is_directory(parent), "{}", path.display());
    }
    let Ok(plain) = decompressed_within(Box::new(Cursor::new(bytes.to_vec())), LIMIT_BYTES) else { return };
    let (mut reader, mut writer) = (TarReader::new(plain), TarWriter::new(Vec::new()));
    while let Ok(Some(entry)) = reader.next_entry() {
        let mut content = Vec::new();
        if reader.read_to_end(&mut content).is_err() {
            return;
        }
        writer.append(&entry, &mut &content[..]).expect("what was read can be written");
    }
    let Ok(written) = writer.finish() else { return };
    let again = LayerIndex::read_tar(&written[..]).expect("what was written can be read");
    assert_eq!(again, index);
});
