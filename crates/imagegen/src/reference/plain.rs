//! References that plainly are some, without the grammar's regular expression.
//!
//! `oci-client` decides what a reference is. Its expression counts Unicode letters in a tag up to 128, and takes 30 ms to
//! compile: a third of what it takes to copy an image within a registry. So what the grammar of the distribution project
//! takes in ASCII is taken apart here, and all else, refusals first of all, is left to `oci-client`.

use oci_client::Reference;

use crate::digest::Digest;

const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_BEFORE: &str = "index.docker.io";
const OFFICIAL: &str = "library";
const DEFAULT_TAG: &str = "latest";

/// Registries refuse longer names of repositories.
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

/// `host/repository:tag@digest` with the defaults filled in; `None` where it is not plain.
pub(super) fn parse(text: &str) -> Option<Reference> {
    let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    if digest.is_some_and(|digest| digest.parse::<Digest>().is_err()) {
        return None;
    }
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let (registry, repository) = match name.split_once('/') {
        Some((host, repository)) if host.contains(['.', ':']) || host == "localhost" => (host, repository),
        _ => (DOCKER_HUB, name),
    };
    if !(is_host(registry) && repository.split('/').all(is_component) && tag.is_none_or(is_tag)) {
        return None;
    }
    let registry = if registry == DOCKER_HUB_BEFORE { DOCKER_HUB } else { registry };
    let repository = if registry == DOCKER_HUB && !repository.contains('/') {
        format!("{OFFICIAL}/{repository}")
    } else {
        repository.to_owned()
    };
    if repository.len() > MAX_REPOSITORY {
        return None;
    }
    let registry = registry.to_owned();
    Some(match (tag, digest) {
        (Some(tag), Some(digest)) => {
            Reference::with_tag_and_digest(registry, repository, tag.to_owned(), digest.to_owned())
        }
        (None, Some(digest)) => Reference::with_digest(registry, repository, digest.to_owned()),
        (tag, None) => Reference::with_tag(registry, repository, tag.unwrap_or(DEFAULT_TAG).to_owned()),
    })
}

/// Labels with dots between them, and perhaps a port.
fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    name.split('.').all(is_label)
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Lower-case letters and digits, with a `.`, one or two `_`, or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_separator =
        |run: &str| matches!(run, "" | "." | "_" | "__") || (!run.is_empty() && run.bytes().all(|byte| byte == b'-'));
    text.starts_with(is_word) && text.ends_with(is_word) && text.split(is_word).all(is_separator)
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = text.bytes();
    text.len() <= MAX_TAG
        && bytes.next().is_some_and(is_word)
        && bytes.all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// Texts of the characters and words that decide.
    fn texts() -> impl Strategy<Value = String> {
        let parts = prop::sample::select(vec![
            "a",
            "b9",
            "A",
            "0",
            ".",
            "..",
            "_",
            "__",
            "___",
            "-",
            "--",
            "/",
            ":",
            "@",
            "é",
            " ",
            "localhost",
            "docker.io",
            "index.docker.io",
            "example.com",
            "library",
            "5000",
            DIGEST,
            "sha512:00",
        ]);
        prop::collection::vec(parts, 0..9).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_taken_here_is_what_the_library_makes_of_it(text in texts()) {
            if let Some(reference) = parse(&text) {
                prop_assert_eq!(text.parse::<Reference>().ok(), Some(reference));
            }
        }

        #[test]
        fn what_the_library_takes_in_lower_case_is_taken_here(text in texts()) {
            if let Ok(reference) = text.parse::<Reference>() {
                // `a_b.io/c` fits its grammar as a name without a host, and then it takes `a_b.io` for a host all the same.
                let strange = !text.is_ascii()
                    || text.contains('A')
                    || text.contains("sha512")
                    || !is_host(reference.registry());
                prop_assert!(strange || parse(&text) == Some(reference), "{text}");
            }
        }
    }

    #[test]
    fn lengths_have_their_ends() {
        for (text, taken) in [
            (format!("a:{}", "t".repeat(128)), true),
            (format!("a:{}", "t".repeat(129)), false),
            (format!("h.io/{}", "r".repeat(255)), true),
            (format!("h.io/{}", "r".repeat(256)), false),
        ] {
            assert_eq!((parse(&text).is_some(), text.parse::<Reference>().is_ok()), (taken, taken), "{text}");
        }
    }
}
