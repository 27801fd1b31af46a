//! Merging images into one index.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vast_imagegen::Error;
use vast_imagegen::merge::merge;
use vast_imagegen::publish::publish;
use vast_imagegen::source::ImageSource;
use vast_imagegen::transport::open_sink;
use vast_testkit::image::{ImageBuilder, TestImage, digest};
use vast_testkit::registry::Registry;

use crate::support::{options, source, told};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn image(platform: &str) -> TestImage {
    ImageBuilder::new().platform(platform).file("p", platform.as_bytes()).build()
}

async fn sources(references: &[String]) -> Vec<Box<dyn ImageSource>> {
    let (options, _) = options();
    let mut sources = Vec::new();
    for reference in references {
        sources.push(source(reference, &options).await.unwrap());
    }
    sources
}

/// Merges into `app:all` of a new registry. Gives the index and the registry.
async fn merged(references: &[String], annotations: &[(&str, &str)]) -> Result<(Value, Registry, Vec<String>), Error> {
    let to = Registry::start();
    let (options, _) = options();
    let sources = sources(references).await;
    let annotations: BTreeMap<String, String> =
        annotations.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let merged = merge(&sources, &annotations).await?;
    let sink = open_sink(&to.reference("app:all").parse().unwrap(), &options).await.unwrap();
    publish(&merged.publication, &*sink, 4, &()).await?;
    assert_eq!(to.incomplete(), Vec::<String>::new());
    let index = serde_json::from_slice(&to.manifest("app", "all").unwrap()).unwrap();
    Ok((index, to, merged.notes))
}

#[tokio::test]
async fn images_become_entries_with_the_platform_of_their_configuration() {
    let from = Registry::start();
    let (amd64, arm64) = (image("linux/amd64"), image("linux/arm64"));
    from.push("app", "amd64", &amd64);
    from.push("other", "arm64", &arm64);
    let references = [from.reference("app:amd64"), from.reference("other:arm64")];
    let (index, to, _) = merged(&references, &[]).await.unwrap();
    assert_eq!(index["mediaType"], OCI_INDEX);
    assert_eq!(index["manifests"], json!([amd64.descriptor(), arm64.descriptor()]));
    assert_eq!(to.manifest("app", &amd64.digest()).unwrap(), amd64.manifest);
    assert_eq!(from.count("GET", "/manifests/"), 2, "each is asked for once");
    let both = Registry::start();
    both.push_index("app", "both", &[amd64.clone(), arm64.clone()]);
    merged(&[both.reference("app:both")], &[]).await.unwrap();
    assert_eq!(both.count("GET", "/manifests/"), 3, "each is asked for once");
    // The same again, and in one more way, is the same.
    let (again, ..) = merged(&references, &[]).await.unwrap();
    assert_eq!(again, index);
    let twice = [references[0].clone(), references[1].clone(), references[0].clone()];
    assert_eq!(merged(&twice, &[]).await.unwrap().0, index, "the same image twice is one entry");
}

#[tokio::test]
async fn entries_of_indexes_keep_everything_they_say() {
    let from = Registry::start();
    let (windows, arm, amd64) = (image("windows/amd64"), image("linux/arm"), image("linux/amd64"));
    for image in [&windows, &arm, &amd64] {
        image.blobs().for_each(|blob| from.push_blob("app", blob));
        from.push_manifest("app", None, &image.media_type, &image.manifest);
    }
    let mut first = windows.descriptor();
    first["platform"]["os.version"] = json!("10.0.20348.2031");
    first["platform"]["os.features"] = json!(["win32k"]);
    first["annotations"] = json!({"a": "b"});
    let mut second = arm.descriptor();
    second["platform"]["variant"] = json!("v6");
    // An attestation, as BuildKit makes them.
    let attestation = image("unknown/unknown");
    attestation.blobs().for_each(|blob| from.push_blob("app", blob));
    from.push_manifest("app", None, &attestation.media_type, &attestation.manifest);
    let mut third = attestation.descriptor();
    third["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let index = |entries: &[&Value], annotations: Value| {
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries, "annotations": annotations})
            .to_string()
            .into_bytes()
    };
    let annotations = json!({"kept": "same", "lost": "one"});
    from.push_manifest("app", Some("one"), OCI_INDEX, &index(&[&first, &second, &third], annotations));
    // An index within an index.
    let amd64 = amd64.descriptor();
    let inner = index(&[&amd64], json!({}));
    from.push_manifest("app", None, OCI_INDEX, &inner);
    let nested = json!({"mediaType": OCI_INDEX, "digest": digest(&inner), "size": inner.len()});
    let annotations = json!({"kept": "same", "lost": "other"});
    from.push_manifest("app", Some("two"), OCI_INDEX, &index(&[&nested], annotations));

    let references = [from.reference("app:one"), from.reference("app:two")];
    let (index, _, notes) = merged(&references, &[("own", "value")]).await.unwrap();
    assert_eq!(index["manifests"], json!([first, second, third, amd64]));
    assert_eq!(index["annotations"], json!({"kept": "same", "own": "value"}));
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("`lost`"), "{notes:?}");
}

#[tokio::test]
async fn two_images_for_one_platform_are_refused_with_their_names() {
    let from = Registry::start();
    let one = image("linux/arm64");
    let two = ImageBuilder::new().platform("linux/arm64").file("x", b"another").build();
    from.push("app", "one", &one);
    // The architecture's default variant is the same platform.
    let mut entry = two.descriptor();
    entry["platform"]["variant"] = json!("v8");
    two.blobs().for_each(|blob| from.push_blob("app", blob));
    from.push_manifest("app", None, &two.media_type, &two.manifest);
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).to_string();
    from.push_manifest("app", Some("two"), OCI_INDEX, index.as_bytes());
    let error = merged(&[from.reference("app:one"), from.reference("app:two")], &[]).await.unwrap_err();
    let told = told(&error);
    for part in ["app:one@", "app:two@", &one.digest(), &two.digest(), "both for linux/arm64"] {
        assert!(told.contains(part), "`{part}` in {told}");
    }
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn what_refers_to_the_images_comes_along_and_what_refers_to_their_index_does_not() {
    let from = Registry::start();
    let amd64 = image("linux/amd64");
    let index = from.push_index("app", "one", std::slice::from_ref(&amd64));
    let bill = from.push_artifact("app", "text/bill", &amd64.digest(), &amd64.media_type);
    let signature = from.push_artifact("app", "text/signature", &index, OCI_INDEX);
    let (_, to, _) = merged(&[from.reference("app:one")], &[("own", "value")]).await.unwrap();
    assert!(to.manifest("app", &bill).is_some());
    assert!(to.manifest("app", &signature).is_none(), "it signs another index");
}

#[tokio::test]
async fn what_is_no_image_is_refused() {
    let from = Registry::start();
    let empty = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).to_string();
    from.push_manifest("app", Some("empty"), OCI_INDEX, empty.as_bytes());
    let error = merged(&[from.reference("app:empty")], &[]).await.unwrap_err();
    assert!(told(&error).contains("app:empty") && told(&error).contains("no image for any platform"), "{error}");
}
