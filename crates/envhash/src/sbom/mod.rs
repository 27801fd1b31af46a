//! The inventory as a software bill of materials.
//!
//! Two formats, in the versions that scanners read most widely: `CycloneDX` 1.6 (<https://cyclonedx.org/docs/1.6/json/>) and
//! SPDX 2.3 (<https://spdx.github.io/spdx-spec/v2.3/>). Both list the distribution, each interpreter, its Python
//! distributions and the Debian packages that count, with package URLs (<https://github.com/package-url/purl-spec>).
//! The Debian packages are those of the hash, not all that are installed, and the documents say so.
//!
//! The same inventory and time give the same document, its identifiers included.

mod cyclonedx;
mod parts;
mod purl;
mod spdx;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::inventory::Inventory;

/// The tool that the documents name as their author.
const TOOL: &str = env!("CARGO_PKG_NAME");
const TOOL_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the documents say about the packages that they leave out.
const SCOPE: &str = "Of the Debian packages, those that count for the environment hash are listed: libraries, development files, CUDA and ROCm.";

/// The format of a bill of materials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `CycloneDX` 1.6, JSON.
    CycloneDx,
    /// SPDX 2.3, JSON.
    Spdx,
}

/// Renders the inventory as a bill of materials, indented JSON without a newline at the end. `created` is the time that the
/// document states.
///
/// ```
/// use vast_envhash::{Options, hash, sbom};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let root = tempfile::tempdir()?;
/// let options = Options { machine: Some("x86_64".into()), ..Options::default() };
/// let inventory = hash(root.path(), &options)?;
/// let text = sbom::render(&inventory, sbom::Format::CycloneDx, "2026-01-01T00:00:00Z".parse()?);
/// assert!(text.contains("\"specVersion\": \"1.6\""));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn render(inventory: &Inventory, format: Format, created: Timestamp) -> String {
    let document = match format {
        Format::CycloneDx => cyclonedx::document(inventory, created),
        Format::Spdx => spdx::document(inventory, created),
    };
    format!("{document:#}")
}

/// RFC 3339 in whole seconds, as both formats want it.
fn time(created: Timestamp) -> String {
    created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A UUID (RFC 9562, version 8) of the inventory and the time: one document, one identifier.
fn uuid(inventory: &Inventory, created: Timestamp) -> String {
    let mut text = created.as_second().to_string();
    for part in std::iter::once(inventory.text())
        .chain([inventory.system.text(), inventory.apt.text()])
        .chain(inventory.venvs.iter().map(|venv| format!("{}\n{}", venv.name, venv.text())))
    {
        text.push('\0');
        text.push_str(&part);
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(text.as_bytes())[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex::encode(bytes);
    let groups = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    groups.join("-")
}

#[cfg(test)]
mod tests;
