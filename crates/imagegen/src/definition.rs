//! `image.toml`: what an image is called, what it is built from and how it is released.
//!
//! ```
//! use vast_imagegen::definition::{Class, Definition};
//!
//! let definition = Definition::parse(r#"
//!     name = "comfyui"
//!     label = "ComfyUI"
//!     class = "derivative"
//!     parent = "pytorch"
//!     ref-arg = "COMFYUI_REF"
//!     [matrix]
//!     PYTORCH_BASE = ["vastai/pytorch:2.9.1-cu128", "vastai/pytorch:2.9.1-cu126"]
//! "#)?;
//! assert_eq!(definition.class, Class::Derivative);
//! assert_eq!(definition.default_build_args()["PYTORCH_BASE"], "vastai/pytorch:2.9.1-cu128");
//! # Ok::<(), vast_imagegen::definition::DefinitionError>(())
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::platform::Platform;

/// The name of the file in an image's folder.
pub const FILE_NAME: &str = "image.toml";

/// An image's folder in words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Definition {
    /// Lower-case letters, digits and dashes; the folder and the repository are named so.
    pub name: String,
    /// The name for people, which is also the portal's tab.
    pub label: String,
    /// How the image is made.
    pub class: Class,
    /// Another image of the tree, or an upstream reference for an external image.
    #[serde(default)]
    pub parent: Option<String>,
    /// What it is built for.
    #[serde(default = "only_amd64", deserialize_with = "platforms")]
    pub platforms: Vec<Platform>,
    /// The build argument that carries the upstream version.
    #[serde(default)]
    pub ref_arg: Option<String>,
    /// Where new upstream versions are announced.
    #[serde(default)]
    pub release: Option<Release>,
    /// Build arguments, each with the values that it is built for.
    #[serde(default)]
    pub matrix: BTreeMap<String, Vec<String>>,
    /// How tags are made.
    #[serde(default)]
    pub tag: Option<Tag>,
    /// The portal's entries.
    #[serde(default)]
    pub portal: Vec<Portal>,
}

/// The guide's classes of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The shared infrastructure itself.
    Base,
    /// Built on an image of this tree.
    Derivative,
    /// An upstream image with the infrastructure grafted on.
    External,
}

/// What the preflight job polls; exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// `owner/repository` on GitHub.
    #[serde(default)]
    pub github: Option<String>,
    /// `owner/repository` on Docker Hub.
    #[serde(default)]
    pub dockerhub: Option<String>,
}

/// How tags are made.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// Text with places in braces, such as `{ref}-cuda-{cuda}-{python}`.
    pub template: String,
}

/// One entry of the portal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Portal {
    /// The tab.
    pub label: String,
    /// The host that the application binds.
    #[serde(default = "localhost")]
    pub host: String,
    /// The port that the application binds.
    pub internal: u16,
    /// The port that users reach.
    pub external: u16,
    /// The path that the tab opens.
    #[serde(default = "slash")]
    pub path: String,
}

/// What is wrong with an `image.toml`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("line {line}: {message}")]
    Toml {
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A value that cannot be.
    #[error("`{key}` {why}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with its value.
        why: &'static str,
    },
}

impl DefinitionError {
    /// What to write instead, where that can be told.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Toml { message, .. } if message.contains("unknown field") => Some(
                "the keys are name, label, class, parent, platforms, ref-arg, [release], [matrix], [tag] and [[portal]]"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl Definition {
    /// Parses the text of an `image.toml` and checks its values.
    ///
    /// # Errors
    /// [`DefinitionError`], with the line where there is one.
    pub fn parse(text: &str) -> Result<Self, DefinitionError> {
        let definition: Self = toml::from_str(text).map_err(|error| DefinitionError::Toml {
            line: 1 + error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count()),
            message: error.message().trim_end().replace('\n', "; "),
        })?;
        definition.check()?;
        Ok(definition)
    }

    /// The definition in `folder`, or `None` where there is no `image.toml`.
    ///
    /// # Errors
    /// A file that cannot be read or used.
    pub fn load(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(FILE_NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::File { action: "read", path, source }),
        };
        Self::parse(&text).map(Some).map_err(|source| Error::Definition { path, source: Box::new(source) })
    }

    /// The first row of the matrix: what is built where nothing else is said.
    #[must_use]
    pub fn default_build_args(&self) -> BTreeMap<String, String> {
        let first = |(name, values): (&String, &Vec<String>)| Some((name.clone(), values.first()?.clone()));
        self.matrix.iter().filter_map(first).collect()
    }

    fn check(&self) -> Result<(), DefinitionError> {
        let value = |key: &str, why| Err(DefinitionError::Value { key: key.to_owned(), why });
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.starts_with('-') || !self.name.chars().all(fits) {
            return value("name", "must consist of lower-case letters, digits and dashes");
        }
        if self.label.is_empty() || self.label.contains([':', '|', '\n']) {
            return value("label", "must not be empty or contain `:` or `|`, which separate the portal's fields");
        }
        if self.class != Class::Base && self.parent.is_none() {
            return value("parent", "is needed for every class but base");
        }
        if self.platforms.is_empty() {
            return value("platforms", "must not be empty");
        }
        for (name, values) in &self.matrix {
            if values.is_empty() {
                return value(&format!("matrix.{name}"), "must have a value");
            }
        }
        if self.release.as_ref().is_some_and(|release| release.github.is_some() == release.dockerhub.is_some()) {
            return value("release", "needs either github or dockerhub");
        }
        for portal in &self.portal {
            if portal.label.is_empty() || portal.label.contains([':', '|', '\n']) {
                return value("portal.label", "must not be empty or contain `:` or `|`");
            }
            if portal.internal == 0 || portal.external == 0 {
                return value("portal", "has a port 0");
            }
            if !portal.path.starts_with('/') {
                return value("portal.path", "must begin with `/`");
            }
        }
        Ok(())
    }
}

fn only_amd64() -> Vec<Platform> {
    vec![Platform { os: "linux".to_owned(), architecture: "amd64".to_owned(), variant: None }]
}

fn localhost() -> String {
    "localhost".to_owned()
}

fn slash() -> String {
    "/".to_owned()
}

fn platforms<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Platform>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMFYUI: &str = r#"
name = "comfyui"
label = "ComfyUI"
class = "derivative"
parent = "pytorch"
platforms = ["linux/amd64", "linux/arm64"]
ref-arg = "COMFYUI_REF"
[release]
github = "Comfy-Org/ComfyUI"
[matrix]
PYTORCH_BASE = ["vastai/pytorch:2.9.1-cu128-cuda-12.9-mini-py312"]
[tag]
template = "{ref}-cuda-{cuda}-{python}"
[[portal]]
label = "ComfyUI"
internal = 7860
external = 17860
path = "/"
"#;

    #[test]
    fn the_documented_file_is_understood() {
        let definition = Definition::parse(COMFYUI).unwrap();
        assert_eq!(definition.platforms.len(), 2);
        assert_eq!(definition.portal[0].external, 17860);
        assert_eq!(definition.portal[0].host, "localhost");
        assert_eq!(definition.release.unwrap().github.as_deref(), Some("Comfy-Org/ComfyUI"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (from, to, expected) in [
            ("ref-arg =", "ref-arg2 =", "line 7: unknown field `ref-arg2`"),
            ("\"derivative\"", "\"derived\"", "line 4: unknown variant `derived`"),
            ("internal = 7860", "internal = 78600", "line 16: invalid value: integer `78600`"),
            ("linux/amd64", "amd64", "line 6: `amd64` is not a platform"),
            ("\"comfyui\"", "\"Comfy UI\"", "`name` must consist of"),
            ("parent = \"pytorch\"\n", "", "`parent` is needed"),
            ("path = \"/\"", "path = \"x\"", "`portal.path` must begin with `/`"),
            ("github = \"Comfy-Org/ComfyUI\"", "", "`release` needs either"),
            ("[\"vastai/pytorch:2.9.1-cu128-cuda-12.9-mini-py312\"]", "[]", "`matrix.PYTORCH_BASE` must have a value"),
            ("name = ", "name ", "line 2: "),
        ] {
            let text = COMFYUI.replacen(from, to, 1);
            assert_ne!(text, COMFYUI, "{from}");
            let said = Definition::parse(&text).unwrap_err().to_string();
            assert!(said.starts_with(expected), "{said}");
            assert!(!said.contains('\n'), "{said}");
        }
    }
}
