//! Image references: `transport:rest`, named as skopeo names them.
//!
//! | written | means |
//! |---|---|
//! | `docker://host/repo:tag[@digest]` | an image in a registry |
//! | `host/repo:tag`, `repo` | the same; without a host it is Docker Hub, without a tag it is `latest` |
//! | `oci:DIR[:name][@digest]` | an OCI layout folder |
//! | `oci-archive:FILE[:name][@digest]` | an OCI layout in a tar archive |
//! | `docker-archive:FILE[:name]` | what `docker save` writes |
//!
//! As in skopeo, the first colon after the transport ends the path, so paths with a colon cannot be named.
//!
//! ```
//! use vast_imagegen::reference::Reference;
//!
//! let reference: Reference = "vastai/pytorch:2.9.1".parse()?;
//! assert_eq!(reference.to_string(), "docker://docker.io/vastai/pytorch:2.9.1");
//! # Ok::<(), vast_imagegen::reference::ParseReferenceError>(())
//! ```

mod plain;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::digest::Digest;

/// Where an image is, in any transport. Displayed in its full form; parsing that gives the same reference back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `docker://…`: a registry.
    Registry(RegistryReference),
    /// `oci:…`: an OCI layout folder.
    OciLayout(FileReference),
    /// `oci-archive:…`: an OCI layout in a tar archive.
    OciArchive(FileReference),
    /// `docker-archive:…`: a `docker save` archive.
    DockerArchive(FileReference),
}

/// An image in a registry: host, repository, and a tag, a digest or both.
///
/// With both, the digest decides what is read and the tag is what is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegistryReference {
    inner: oci_client::Reference,
    digest: Option<Digest>,
}

/// A folder or file that may hold several named images.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileReference {
    /// The folder or file.
    pub path: PathBuf,
    /// The name of the image in it (`org.opencontainers.image.ref.name`, or a repository tag); none means the only image.
    pub name: Option<String>,
    /// The digest of the image in it, where it was pinned. Docker archives have none.
    pub digest: Option<Digest>,
}

/// Text that is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an image reference: {reason}")]
pub struct ParseReferenceError {
    text: String,
    reason: String,
    hint: Option<String>,
}

impl ParseReferenceError {
    fn new(text: &str, reason: impl Into<String>, hint: Option<&str>) -> Self {
        Self { text: text.to_owned(), reason: reason.into(), hint: hint.map(str::to_owned) }
    }

    /// How the reference may have been meant.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl Reference {
    /// Whether the reference names its content: whoever reads it gets these bytes or an error.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Registry(registry) => registry.digest(),
            Self::OciLayout(file) | Self::OciArchive(file) | Self::DockerArchive(file) => file.digest,
        }
    }

    /// The same place, pinned to a digest. A Docker archive has no digests to pin and stays as it is.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        let pin = |file: &FileReference| FileReference { digest: Some(digest), ..file.clone() };
        match self {
            Self::Registry(registry) => Self::Registry(registry.pinned(digest)),
            Self::OciLayout(file) => Self::OciLayout(pin(file)),
            Self::OciArchive(file) => Self::OciArchive(pin(file)),
            Self::DockerArchive(file) => Self::DockerArchive(file.clone()),
        }
    }
}

impl RegistryReference {
    /// The registry as it is named in references, such as `docker.io` or `127.0.0.1:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        self.inner.registry()
    }

    /// The host (and port) that answers for the registry: Docker Hub's differs from its name.
    #[must_use]
    pub fn api_host(&self) -> &str {
        self.inner.resolve_registry()
    }

    /// The repository, such as `library/debian`.
    #[must_use]
    pub fn repository(&self) -> &str {
        self.inner.repository()
    }

    /// The tag; none where only a digest was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.inner.tag()
    }

    /// The digest, where one was given.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same repository and tag, pinned to `digest`.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        let (registry, repository) = (self.registry().to_owned(), self.repository().to_owned());
        let inner = match self.tag() {
            Some(tag) => {
                oci_client::Reference::with_tag_and_digest(registry, repository, tag.to_owned(), digest.to_string())
            }
            None => oci_client::Reference::with_digest(registry, repository, digest.to_string()),
        };
        Self { inner, digest: Some(digest) }
    }

    /// The same repository with another tag.
    ///
    /// # Errors
    /// The text is no tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ParseReferenceError> {
        if tag.contains(['/', '@', ':']) {
            return Err(ParseReferenceError::new(tag, "a tag has none of `/`, `:` and `@`", None));
        }
        format!("{}/{}:{tag}", self.registry(), self.repository()).parse()
    }

    /// `host/repo:tag[@digest]`, without the transport: what labels and Dockerfiles hold.
    #[must_use]
    pub fn bare(&self) -> String {
        self.inner.whole()
    }

    /// Whether the registry is this machine, which may be spoken to in plain HTTP.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.registry())
    }
}

/// Whether `host`, perhaps with a port, is this machine: `localhost` or a loopback address.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for RegistryReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "docker://{}", self.inner)
    }
}

impl fmt::Display for FileReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(name) = &self.name {
            write!(f, ":{name}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(registry) => registry.fmt(f),
            Self::OciLayout(file) => write!(f, "oci:{file}"),
            Self::OciArchive(file) => write!(f, "oci-archive:{file}"),
            Self::DockerArchive(file) => write!(f, "docker-archive:{file}"),
        }
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = text.strip_prefix("docker://") {
            return parse_registry(text, rest).map(Self::Registry);
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            return parse_file(text, rest, true).map(Self::OciLayout);
        }
        if let Some(rest) = text.strip_prefix("oci-archive:") {
            return parse_file(text, rest, true).map(Self::OciArchive);
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            return parse_file(text, rest, false).map(Self::DockerArchive);
        }
        parse_registry(text, text).map(Self::Registry)
    }
}

impl FromStr for RegistryReference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse()? {
            Reference::Registry(reference) => Ok(reference),
            _ => Err(ParseReferenceError::new(text, "a registry image is needed here", None)),
        }
    }
}

fn parse_registry(text: &str, rest: &str) -> Result<RegistryReference, ParseReferenceError> {
    // The grammar of oci-client takes Unicode letters in tags, which no registry does.
    let inner = match plain::parse(rest).map_or_else(|| rest.parse(), Ok) {
        Ok(inner) if rest.is_ascii() => inner,
        Ok(_) => return Err(ParseReferenceError::new(text, "it has a character other than ASCII", None)),
        Err(error) => return Err(explain(text, rest, &error)),
    };
    let digest = inner.digest().map(str::parse::<Digest>).transpose().map_err(|_| {
        ParseReferenceError::new(text, "its digest is not of the form sha256:<64 lower-case hex digits>", None)
    })?;
    Ok(RegistryReference { inner, digest })
}

/// Says what about a refused registry reference is wrong, and what may have been meant.
fn explain(text: &str, rest: &str, error: &oci_client::ParseError) -> ParseReferenceError {
    const TRANSPORTS: &str = "known transports are docker://, oci:, oci-archive: and docker-archive:";
    if rest.is_empty() {
        return ParseReferenceError::new(text, "it is empty", Some("write host/repository:tag, or oci:DIR"));
    }
    if rest.chars().any(char::is_whitespace) {
        return ParseReferenceError::new(text, "it has a space in it", None);
    }
    if let Some(address) = rest.strip_prefix("https://").or_else(|| rest.strip_prefix("http://")) {
        let hint = format!("write docker://{address}");
        return ParseReferenceError::new(text, "images are named without http:// or https://", Some(&hint));
    }
    if let Some((transport, _)) = rest.split_once("://") {
        return ParseReferenceError::new(text, format!("`{transport}://` is not a transport"), Some(TRANSPORTS));
    }
    if let Some((transport, _)) = text.split_once(':')
        && ["containers-storage", "docker-daemon", "docker", "dir", "podman", "ostree", "sif", "tarball"]
            .contains(&transport)
    {
        return ParseReferenceError::new(text, format!("`{transport}:` is not a transport"), Some(TRANSPORTS));
    }
    if rest.starts_with(['/', '.', '~']) {
        let hint = format!("write oci:{rest} for an OCI layout folder");
        return ParseReferenceError::new(text, "it looks like a path", Some(&hint));
    }
    let (name, digest) = rest.split_once('@').map_or((rest, None), |(name, digest)| (name, Some(digest)));
    if digest.is_some_and(|digest| digest.parse::<Digest>().is_err()) {
        return ParseReferenceError::new(text, "its digest is not of the form sha256:<64 lower-case hex digits>", None);
    }
    let repository =
        name.rsplit_once(':').map_or(name, |(repository, tag)| if tag.contains('/') { name } else { repository });
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        let hint = format!("write {}", text.replacen(repository, &repository.to_ascii_lowercase(), 1));
        return ParseReferenceError::new(text, "a repository's name is in lower case", Some(&hint));
    }
    if rest.ends_with(':') || rest.ends_with('@') {
        return ParseReferenceError::new(text, "its tag or digest is empty", None);
    }
    ParseReferenceError::new(text, error.to_string(), Some("write host/repository:tag, such as vastai/pytorch:2.9.1"))
}

fn parse_file(text: &str, rest: &str, digests: bool) -> Result<FileReference, ParseReferenceError> {
    let (rest, digest) = match rest.rsplit_once('@') {
        Some((before, digest)) if digest.starts_with("sha256:") && digests => {
            let digest = digest.parse().map_err(|_| {
                ParseReferenceError::new(text, "its digest is not of the form sha256:<64 lower-case hex digits>", None)
            })?;
            (before, Some(digest))
        }
        _ => (rest, None),
    };
    let (path, name) = rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name)));
    if let Some(registry) = rest.strip_prefix("//") {
        let hint = format!("an image in a registry is docker://{registry}");
        return Err(ParseReferenceError::new(text, "this transport takes a path", Some(&hint)));
    }
    if path.is_empty() {
        return Err(ParseReferenceError::new(text, "the path is empty", None));
    }
    if name.is_some_and(|name| name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control())) {
        return Err(ParseReferenceError::new(text, "the image's name in it is empty or has a space", None));
    }
    Ok(FileReference { path: path.into(), name: name.map(str::to_owned), digest })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_of_every_transport_have_one_full_form() {
        let pinned = format!("debian@{DIGEST}");
        let pinned_full = format!("docker://docker.io/library/debian@{DIGEST}");
        let layout = format!("oci:/tmp/l:v1@{DIGEST}");
        for (text, full) in [
            ("debian", "docker://docker.io/library/debian:latest"),
            ("index.docker.io/debian", "docker://docker.io/library/debian:latest"),
            ("vastai/pytorch:2.9.1", "docker://docker.io/vastai/pytorch:2.9.1"),
            ("docker://ghcr.io/a/b/c:x", "docker://ghcr.io/a/b/c:x"),
            ("localhost/a", "docker://localhost/a:latest"),
            ("127.0.0.1:5000/a:b", "docker://127.0.0.1:5000/a:b"),
            (&pinned, &pinned_full),
            ("oci:layout", "oci:layout"),
            ("oci:/a/b:docker.io/library/x:1", "oci:/a/b:docker.io/library/x:1"),
            (&layout, &layout),
            ("oci-archive:a.tar:v1", "oci-archive:a.tar:v1"),
            ("docker-archive:a.tar:busybox:latest", "docker-archive:a.tar:busybox:latest"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(full.parse(), Ok(reference));
        }
    }

    #[test]
    fn a_refused_reference_says_what_is_wrong_with_it() {
        for (text, reason, hint) in [
            ("", "empty", "host/repository:tag"),
            ("https://ghcr.io/a", "without http", "docker://ghcr.io/a"),
            ("helm://x", "`helm://` is not a transport", "oci-archive:"),
            ("docker-daemon:x:y:z", "`docker-daemon:` is not a transport", "docker://"),
            ("oci://ghcr.io/a", "takes a path", "docker://ghcr.io/a"),
            ("./layout", "looks like a path", "oci:./layout"),
            ("ghcr.io/Vast/App:1", "lower case", "ghcr.io/vast/app:1"),
            ("a b", "space", ""),
            ("debian:", "tag or digest is empty", ""),
            ("debian@sha256:12", "digest", ""),
            (&format!("debian@{}", DIGEST.to_uppercase()), "digest", ""),
            ("debian:é", "ASCII", ""),
            ("oci:", "path is empty", ""),
            ("oci:x:", "name", ""),
            ("oci:x@sha256:12", "digest", ""),
        ] {
            let error = text.parse::<Reference>().unwrap_err();
            assert!(error.to_string().contains(reason), "{text}: {error}");
            assert!(error.hint().unwrap_or_default().contains(hint), "{text}: {:?}", error.hint());
        }
    }

    #[test]
    fn pinning_keeps_the_tag_and_adds_the_digest() {
        let reference: Reference = "debian:12".parse().unwrap();
        let pinned = reference.pinned(DIGEST.parse().unwrap());
        assert_eq!(pinned.to_string(), format!("docker://docker.io/library/debian:12@{DIGEST}"));
        assert_eq!(pinned.digest(), Some(DIGEST.parse().unwrap()));
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (host, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.3.2.1:5000", true),
            ("[::1]:5000", true),
            ("localhost.example.com", false),
            ("128.0.0.1", false),
            ("docker.io", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }

    proptest! {
        #[test]
        fn any_accepted_text_round_trips_through_its_full_form(text in "\\PC{0,60}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
            }
        }

        #[test]
        fn well_formed_references_are_accepted_and_round_trip(
            transport in prop::sample::select(vec!["", "docker://", "oci:", "oci-archive:", "docker-archive:"]),
            host in "([a-z]{1,8}\\.(io|com)|localhost)(:[0-9]{2,5})?",
            repository in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}([._-][a-z0-9]{1,4})?){0,3}",
            tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
            pin in any::<bool>(),
        ) {
            let file = transport.ends_with(':');
            let mut text = if file { format!("{transport}{repository}") } else { format!("{transport}{host}/{repository}") };
            if let Some(tag) = &tag { text = format!("{text}:{tag}"); }
            if pin && transport != "docker-archive:" { text = format!("{text}@{DIGEST}"); }
            let reference: Reference = text.parse().unwrap();
            prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference.clone()));
            prop_assert_eq!(reference.digest().is_some(), pin && transport != "docker-archive:");
        }
    }
}
