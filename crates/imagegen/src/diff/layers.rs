//! Which layers two images share, by the digests of their uncompressed content.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::inspect::LayerReport;
use crate::manifest::total;

/// The layers of two images, compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layers {
    /// How many both have.
    pub shared: usize,
    /// Those together, as the first image stores them, in bytes.
    pub shared_bytes: u64,
    /// Both have the shared layers, in another order.
    pub reordered: bool,
    /// Shared layers that are stored otherwise: the same content, compressed in another way.
    pub recompressed: Vec<Recompressed>,
    /// Those of the first image alone, from the bottom up.
    pub only_before: Vec<Layer>,
    /// Those of the second image alone, from the bottom up.
    pub only_after: Vec<Layer>,
    /// All layers of the first image as they are stored, in bytes.
    pub before_bytes: u64,
    /// All layers of the second image as they are stored, in bytes.
    pub after_bytes: u64,
}

/// A layer that one of the images has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// Its number in the image, from 0 at the bottom.
    pub number: usize,
    /// The digest of the blob.
    pub digest: String,
    /// The size of the blob in bytes.
    pub size_bytes: u64,
    /// The command that made it, where the history tells.
    pub created_by: Option<String>,
}

/// A layer that both images have, as different blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recompressed {
    /// In the first image.
    pub before: Layer,
    /// In the second image.
    pub after: Layer,
}

impl Layers {
    /// Whether both images consist of the same blobs in the same order.
    #[must_use]
    pub fn is_same(&self) -> bool {
        !self.reordered && self.recompressed.is_empty() && self.only_before.is_empty() && self.only_after.is_empty()
    }
}

/// Compares the layers of two images.
pub(super) fn compare(before: &[LayerReport], after: &[LayerReport]) -> Layers {
    let (shared_before, only_before) = split(before, after);
    let (shared_after, only_after) = split(after, before);
    let bytes = |layers: &[LayerReport]| total(layers.iter().map(|layer| layer.size_bytes));
    let identity = |layers: &[LayerReport], number: usize| content(&layers[number]).to_owned();
    let reordered =
        shared_before.iter().zip(&shared_after).any(|(&one, &other)| identity(before, one) != identity(after, other));
    // Of a content that an image has twice, the first is paired with the first.
    let mut by_content: Vec<(usize, usize)> =
        sorted(before, &shared_before).into_iter().zip(sorted(after, &shared_after)).collect();
    by_content.sort_unstable();
    let recompressed = by_content
        .into_iter()
        .filter(|&(one, other)| before[one].digest != after[other].digest)
        .map(|(one, other)| Recompressed { before: layer(before, one), after: layer(after, other) })
        .collect();
    Layers {
        shared: shared_before.len(),
        shared_bytes: total(shared_before.iter().map(|&number| before[number].size_bytes)),
        reordered,
        recompressed,
        only_before: only_before.into_iter().map(|number| layer(before, number)).collect(),
        only_after: only_after.into_iter().map(|number| layer(after, number)).collect(),
        before_bytes: bytes(before),
        after_bytes: bytes(after),
    }
}

/// What a layer holds; a layer whose diff id is not known is what its blob is.
fn content(layer: &LayerReport) -> &str {
    layer.diff_id.as_deref().unwrap_or(&layer.digest)
}

/// The numbers of the layers that `other` has too, and of those that it lacks. A content counts as often as both have it.
fn split(layers: &[LayerReport], other: &[LayerReport]) -> (Vec<usize>, Vec<usize>) {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for layer in other {
        *left.entry(content(layer)).or_default() += 1;
    }
    (0..layers.len()).partition(|&number| match left.get_mut(content(&layers[number])) {
        Some(count) if *count > 0 => {
            *count -= 1;
            true
        }
        _ => false,
    })
}

fn sorted(layers: &[LayerReport], numbers: &[usize]) -> Vec<usize> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by_key(|&number| (content(&layers[number]), number));
    sorted
}

fn layer(layers: &[LayerReport], number: usize) -> Layer {
    let LayerReport { digest, size_bytes, created_by, .. } = &layers[number];
    Layer { number, digest: digest.clone(), size_bytes: *size_bytes, created_by: created_by.clone() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layers(contents: &[(u8, u8)]) -> Vec<LayerReport> {
        let layer = |&(content, blob): &(u8, u8)| LayerReport {
            digest: format!("sha256:{content}-{blob}"),
            diff_id: Some(format!("sha256:{content}")),
            media_type: "layer".to_owned(),
            size_bytes: 100 + u64::from(blob),
            created_by: Some(format!("RUN {content}")),
        };
        contents.iter().map(layer).collect()
    }

    fn numbers(layers: &[Layer]) -> Vec<usize> {
        layers.iter().map(|layer| layer.number).collect()
    }

    #[test]
    fn a_layer_is_shared_wherever_it_lies() {
        // As after a rebase: the base is another one, the image's own layers are the same.
        let found =
            compare(&layers(&[(1, 0), (2, 0), (8, 0), (9, 0)]), &layers(&[(1, 0), (3, 0), (4, 0), (8, 0), (9, 0)]));
        assert_eq!((found.shared, found.shared_bytes, found.reordered), (3, 300, false));
        assert_eq!((numbers(&found.only_before), numbers(&found.only_after)), (vec![1], vec![1, 2]));
        assert_eq!((found.before_bytes, found.after_bytes), (400, 500));
        assert_eq!(found.only_before[0].created_by.as_deref(), Some("RUN 2"));
    }

    #[test]
    fn another_order_and_another_compression_are_differences() {
        let found = compare(&layers(&[(1, 0), (2, 0)]), &layers(&[(2, 0), (1, 0)]));
        assert!(found.reordered && !found.is_same());
        let found = compare(&layers(&[(1, 0), (1, 0)]), &layers(&[(1, 0), (1, 1)]));
        assert_eq!(found.recompressed.len(), 1);
        assert_eq!((found.recompressed[0].before.number, found.recompressed[0].after.number), (1, 1));
        assert!(!found.is_same());
    }

    fn mirrored(layers: Layers) -> Layers {
        let swap = |one: Recompressed| Recompressed { before: one.after, after: one.before };
        Layers {
            only_before: layers.only_after,
            only_after: layers.only_before,
            before_bytes: layers.after_bytes,
            after_bytes: layers.before_bytes,
            recompressed: layers.recompressed.into_iter().map(swap).collect(),
            ..layers
        }
    }

    proptest! {
        #[test]
        fn comparing_the_other_way_round_mirrors_the_difference(
            before in prop::collection::vec((0_u8..4, 0_u8..2), 0..6), after in prop::collection::vec((0_u8..4, 0_u8..2), 0..6),
        ) {
            let (one, other) = (layers(&before), layers(&after));
            let (there, mut back) = (compare(&one, &other), mirrored(compare(&other, &one)));
            // Stored in another way, shared layers have another size.
            back.shared_bytes = there.shared_bytes;
            back.recompressed.sort_by_key(|pair| pair.before.number);
            prop_assert_eq!(&there, &back);
            prop_assert_eq!(there.is_same(), before == after);
            prop_assert!(compare(&one, &one).is_same());
        }
    }
}
