//! Package URLs: `pkg:type/namespace/name@version?qualifiers`.

use std::fmt::Write as _;

/// A Debian package. `distribution` is the `ID` of os-release and its version, such as `("debian", Some("12"))`.
pub(super) fn debian(
    name: &str,
    architecture: Option<&str>,
    version: &str,
    distribution: Option<(&str, Option<&str>)>,
) -> String {
    let namespace = distribution.map_or("debian", |(id, _)| id);
    let mut purl = format!("pkg:deb/{}/{}@{}", encode(namespace), encode(name), encode(version));
    let mut qualifiers = Vec::new();
    qualifiers.extend(architecture.map(|architecture| format!("arch={}", encode(architecture))));
    if let Some((id, Some(release))) = distribution {
        qualifiers.push(format!("distro={}-{}", encode(id), encode(release)));
    }
    if !qualifiers.is_empty() {
        purl.push('?');
        purl += &qualifiers.join("&");
    }
    purl
}

/// A Python distribution; names are compared without case, and with `_` as `-`.
pub(super) fn python(name: &str, version: Option<&str>) -> String {
    let name = name.to_lowercase().replace('_', "-");
    let mut purl = format!("pkg:pypi/{}", encode(&name));
    if let Some(version) = version {
        purl.push('@');
        purl += &encode(version);
    }
    purl
}

/// The interpreter itself.
pub(super) fn interpreter(version: &str) -> String {
    format!("pkg:generic/python@{}", encode(version))
}

/// Percent-encodes what a component cannot hold. The colon of an epoch stays.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls_are_those_of_the_specification() {
        let bookworm = Some(("debian", Some("12")));
        let table = [
            (
                debian("libc6", Some("amd64"), "2.36-9+deb12u10", bookworm),
                "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12",
            ),
            (debian("libacl1", None, "1:2.3", Some(("ubuntu", None))), "pkg:deb/ubuntu/libacl1@1:2.3"),
            (debian("libstdc++6", None, "12~1", None), "pkg:deb/debian/libstdc%2B%2B6@12~1"),
            (python("Typing_Extensions", Some("4.12.2")), "pkg:pypi/typing-extensions@4.12.2"),
            (python("torch", Some("2.9.1+cu128")), "pkg:pypi/torch@2.9.1%2Bcu128"),
            (python("odd\nname", None), "pkg:pypi/odd%0Aname"),
            (interpreter("3.12.1"), "pkg:generic/python@3.12.1"),
        ];
        for (purl, expected) in table {
            assert_eq!(purl, expected);
        }
    }
}
