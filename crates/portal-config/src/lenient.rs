//! The lenient reading: a bad entry costs that entry.

use std::fmt;
use std::ops::Range;

use crate::cut::{self, Part, Piece};
use crate::model::{Entry, PortalConfig};
use crate::problem::{Field, ProblemKind};
use crate::render;

/// What the lenient reading made of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lenient {
    /// Every usable entry. A later entry with the label of an earlier one has taken its place.
    pub config: PortalConfig,
    /// One for every entry that was dropped or mended, and one more if nothing was left. Empty entries go unsaid.
    pub warnings: Vec<Warning>,
}

/// What the lenient reading could not take as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// An entry is unusable and was left out.
    Dropped {
        /// Counted from 1, empty entries included.
        entry: usize,
        /// Its bytes in the value.
        span: Range<usize>,
        /// Its text.
        text: String,
        /// Why, at least one.
        problems: Vec<ProblemKind>,
    },
    /// A path without its leading `/` was given one.
    Mended {
        /// Counted from 1, empty entries included.
        entry: usize,
        /// Its bytes in the value.
        span: Range<usize>,
        /// Its text.
        text: String,
        /// The path that it has now.
        path: String,
    },
    /// The value has entries, and none is usable.
    NothingUsable,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = match self {
            Self::Dropped { entry, text, problems, .. } => {
                let reasons: Vec<String> = problems.iter().map(ToString::to_string).collect();
                format!("entry {entry} `{text}` is left out: {}", reasons.join("; "))
            }
            Self::Mended { entry, text, path, .. } => format!("entry {entry} `{text}` is read with the path `{path}`"),
            Self::NothingUsable => "no entry is usable: no application is configured".to_owned(),
        };
        f.write_str(&render::visible(&line))
    }
}

pub(crate) fn parse(value: &str) -> Lenient {
    let mut entries: Vec<Entry> = Vec::new();
    let mut warnings = Vec::new();
    for piece in cut::pieces(value).iter().filter(|piece| !piece.part.text.is_empty()) {
        match read_entry(value, piece) {
            Ok((entry, warning)) => {
                warnings.extend(warning);
                match entries.iter_mut().find(|earlier| earlier.label == entry.label) {
                    Some(earlier) => *earlier = entry,
                    None => entries.push(entry),
                }
            }
            Err(problems) => warnings.push(Warning::Dropped {
                entry: piece.number,
                span: piece.part.span(),
                text: piece.part.text.to_owned(),
                problems,
            }),
        }
    }
    if entries.is_empty() && !warnings.is_empty() {
        warnings.push(Warning::NothingUsable);
    }
    Lenient { config: PortalConfig { entries }, warnings }
}

fn read_entry(value: &str, piece: &Piece<'_>) -> Result<(Entry, Option<Warning>), Vec<ProblemKind>> {
    let fields = cut::fields(value, &piece.part.raw, |_| true);
    let [host, internal, external, path, label] = &fields[..] else {
        return Err(vec![ProblemKind::MissingFields(Field::ALL[fields.len()..].to_vec())]);
    };
    let mut problems = Vec::new();
    if !cut::is_host_name(host.text) {
        problems.push(ProblemKind::BadHost(host.text.to_owned()));
    }
    let mut port = |part: &Part<'_>, field| {
        let port = cut::port(part.text);
        if port.is_none() {
            let text = part.text.to_owned();
            let unexpanded = !cut::placeholders(value, &part.raw).is_empty();
            problems.push(if unexpanded { ProblemKind::Unexpanded(text) } else { ProblemKind::BadPort(field, text) });
        }
        port
    };
    let ports = port(internal, Field::InternalPort).zip(port(external, Field::ExternalPort));
    if label.text.is_empty() {
        problems.push(ProblemKind::EmptyLabel);
    }
    let (Some((internal_port, external_port)), []) = (ports, &problems[..]) else { return Err(problems) };

    // The path decides only what the tab opens; the application behind it is worth keeping.
    let rooted = if path.text.starts_with('/') { path.text.to_owned() } else { format!("/{}", path.text) };
    let warning = (rooted != path.text).then(|| Warning::Mended {
        entry: piece.number,
        span: piece.part.span(),
        text: piece.part.text.to_owned(),
        path: rooted.clone(),
    });
    let (host, label) = (host.text.to_owned(), label.text.to_owned());
    Ok((Entry { host, internal_port, external_port, path: rooted, label }, warning))
}
