//! The YAML document as a map that keeps its order and its duplicate keys.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

use super::by_lines;
use crate::cut;
use crate::resolve::Application;

/// What a text turned out to be.
#[derive(Debug)]
pub(crate) enum Document {
    Applications(Vec<App>),
    /// Duplicate keys, or fields whose key line is commented out: only lines tell.
    Torn(String),
    /// Why it is none.
    Bad(String),
}

/// One application of the map, before its fields are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct App {
    pub(crate) key: String,
    fields: Fields,
}

/// The fields as text: users write ports with and without quotes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
struct Fields {
    hostname: Option<String>,
    external_port: Option<String>,
    internal_port: Option<String>,
    open_path: Option<String>,
    name: Option<String>,
}

impl App {
    /// What the user calls it: the key and the name, which an edit may have made different.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        [Some(self.key.as_str()), self.fields.name.as_deref()].into_iter().flatten()
    }

    /// Whether this, as the last application of `text`, shows that the text was once longer: the last line is not whole,
    /// and a field is missing that every writer of the file writes. With a whole last line, an editor left the field out.
    fn is_cut_off(&self, text: &str) -> bool {
        let Fields { hostname, external_port, internal_port, open_path, name } = &self.fields;
        let lacks = |fields: &[&Option<String>]| fields.iter().any(|field| field.as_ref().is_none_or(String::is_empty));
        !is_ended(text) && lacks(&[external_port, internal_port, hostname, open_path, name])
    }

    pub(crate) fn to_application(&self) -> Result<Application, String> {
        let Fields { hostname, external_port, internal_port, open_path, .. } = &self.fields;
        let port = |name: &str, text: &Option<String>| {
            let text = text.as_deref().unwrap_or_default().trim();
            cut::port(text).ok_or_else(|| format!("{name} `{text}` is not a number from 1 to 65535"))
        };
        let host = hostname.as_deref().unwrap_or("localhost").trim();
        if !cut::is_host_name(host) {
            return Err(format!("hostname `{host}` is not a host name"));
        }
        let path = open_path.as_deref().unwrap_or_default();
        Ok(Application {
            label: self.key.clone(),
            host: host.to_owned(),
            internal_port: port("internal_port", internal_port)?,
            external_port: port("external_port", external_port)?,
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            proxied: false,
        })
    }
}

#[derive(Deserialize)]
struct Root {
    #[serde(deserialize_with = "Option::deserialize")]
    applications: Option<Pairs<Fields>>,
}

/// A map in the document's order, duplicate keys included.
struct Pairs<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for PairsVisitor<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor(std::marker::PhantomData))
    }
}

/// A map whose keys alone matter, all levels of duplicates tolerated.
type Loose = Pairs<Pairs<IgnoredAny>>;

impl Document {
    /// Reads a portal.yaml, and tells a user at work in it from a broken one.
    pub(crate) fn read(content: &[u8]) -> Self {
        let text = match std::str::from_utf8(content) {
            Ok(text) => text,
            Err(error) => return Self::Bad(format!("not UTF-8 at byte {}", error.valid_up_to())),
        };
        match strictly(text) {
            Ok(apps) => Self::Applications(apps),
            Err(_) if has_duplicates(text) || restored(text).is_some() => Self::Torn(text.to_owned()),
            Err(reason) => Self::Bad(reason),
        }
    }
}

/// The applications of a torn file as they were before a key line was commented out.
pub(crate) fn restored(text: &str) -> Option<Vec<App>> {
    strictly(&by_lines::uncomment_keys(text)?).ok()
}

fn strictly(text: &str) -> Result<Vec<App>, String> {
    if text.trim().is_empty() {
        return Err("the file is empty".to_owned());
    }
    let root: Root = from_str(text, DuplicateKeyPolicy::Error)?;
    // `applications:` alone: all of them are commented.
    let pairs = root.applications.map_or_else(Vec::new, |Pairs(pairs)| pairs);
    let apps: Vec<App> = pairs.into_iter().map(|(key, fields)| App { key, fields }).collect();
    match apps.last() {
        Some(last) if last.is_cut_off(text) => Err(format!("the file ends within the application `{}`", last.key)),
        None if !is_ended(text) => Err("the file ends before its applications".to_owned()),
        _ => Ok(apps),
    }
}

/// Whether the last line is whole: every writer of the file ends it, and a JSON-like document shows its end.
fn is_ended(text: &str) -> bool {
    text.ends_with('\n') || text.trim_end().ends_with('}')
}

/// Whether the file has the right shape but for keys that are there twice.
fn has_duplicates(text: &str) -> bool {
    #[derive(Deserialize)]
    struct LooseRoot {
        #[serde(rename = "applications")]
        _applications: Loose,
    }
    from_str::<LooseRoot>(text, DuplicateKeyPolicy::Error).is_err()
        && from_str::<LooseRoot>(text, DuplicateKeyPolicy::PassThrough).is_ok()
}

fn from_str<'de, T: Deserialize<'de>>(text: &'de str, duplicate_keys: DuplicateKeyPolicy) -> Result<T, String> {
    let options = serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        // Nobody needs more in this file, and a bomb of aliases takes seconds at the default million.
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 10_000 },
        // A label may be `<<`.
        merge_keys: MergeKeyPolicy::AsOrdinary,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        // The rest of the message is a picture of the place.
        let message = error.to_string();
        message.lines().next().unwrap_or("not YAML").trim().to_owned()
    })
}
