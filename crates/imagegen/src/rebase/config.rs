//! The configuration of a rebased image: what building its Dockerfile on the new base would give.
//!
//! What the image has from its old base comes from the new one; what its own instructions set stays. An instruction leaves
//! a line in the history, and a value that is not the old base's was set by one. A variable that was made of the base's
//! (`PATH=/venv/bin:$PATH`) is made of the new base's. Where image and new base both changed something, each in its own
//! way, and nobody can tell how they belong together, that is a conflict; the image's value is what `--allow` takes.

use serde_json::{Map, Value, json};

/// The fields that instructions set as a whole, and those instructions.
const WHOLE: [(&str, &str); 8] = [
    ("Entrypoint", "ENTRYPOINT"),
    ("Cmd", "CMD"),
    ("User", "USER"),
    ("WorkingDir", "WORKDIR"),
    ("StopSignal", "STOPSIGNAL"),
    ("Healthcheck", "HEALTHCHECK"),
    ("Shell", "SHELL"),
    ("OnBuild", "ONBUILD"),
];

/// A field that image and new base changed, each in its own way.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldConflict {
    /// `Entrypoint`, `Env PATH`, ….
    pub field: String,
    /// What the old base has.
    pub old: Value,
    /// What the new base has.
    pub new: Value,
    /// What the image has.
    pub image: Value,
}

/// The merged configuration and what could not be merged. `history` is the new base's and the image's own.
pub(super) fn merge(
    old: &Map<String, Value>,
    image: &Map<String, Value>,
    new: &Map<String, Value>,
    base_layers: usize,
) -> (Map<String, Value>, Vec<FieldConflict>) {
    let own = own_history(old, image, base_layers);
    let mut merged = new.clone();
    for key in image.keys() {
        // What a base says about itself as an image is no part of what is built on it.
        if !matches!(key.as_str(), "config" | "history" | "rootfs" | "created") && image.get(key) != old.get(key) {
            merged.insert(key.clone(), image[key].clone());
        }
    }
    let mut history = list(new.get("history"));
    history.extend(own.iter().cloned());
    merged.insert("history".into(), history.into());
    let empty = Map::new();
    let part = |document: &Map<String, Value>| document.get("config").and_then(Value::as_object).cloned();
    let (old, image, new) = (part(old), part(image), part(new));
    let (old, image, new) =
        (old.as_ref().unwrap_or(&empty), image.as_ref().unwrap_or(&empty), new.as_ref().unwrap_or(&empty));
    let mut fields = Fields { old, image, new, own: &own, merged: new.clone(), conflicts: Vec::new() };
    fields.merge();
    merged.insert("config".into(), fields.merged.into());
    (merged, fields.conflicts)
}

/// The history lines that are the image's own.
pub(super) fn own_history(old: &Map<String, Value>, image: &Map<String, Value>, base_layers: usize) -> Vec<Value> {
    let (before, all) = (list(old.get("history")), list(image.get("history")));
    let line = |line: &Value| (line["created_by"].clone(), line["empty_layer"] == true);
    let is_prefix = before.len() <= all.len() && before.iter().zip(&all).all(|(a, b)| line(a) == line(b));
    if is_prefix {
        return all[before.len()..].to_vec();
    }
    // Somebody rewrote it: what follows the base's last layer is the image's.
    let mut layers = 0;
    all.into_iter()
        .skip_while(|line| {
            let is_base = layers < base_layers;
            layers += usize::from(line["empty_layer"] != true);
            is_base
        })
        .collect()
}

/// An instruction and its arguments, from a history line as `docker`, `BuildKit`, buildah and this program write them.
pub(super) fn instruction(line: &Value) -> Option<(&str, &str)> {
    let text = line["created_by"].as_str()?.trim_start();
    let text = match text.split_once("#(nop)") {
        Some((shell, rest)) if shell.trim_end().ends_with("-c") => rest.trim_start(),
        _ => text,
    };
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let is_instruction = word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase());
    is_instruction.then(|| (word, rest.trim().trim_end_matches("# buildkit").trim_end()))
}

fn list(value: Option<&Value>) -> Vec<Value> {
    value.and_then(Value::as_array).cloned().unwrap_or_default()
}

struct Fields<'a> {
    old: &'a Map<String, Value>,
    image: &'a Map<String, Value>,
    new: &'a Map<String, Value>,
    own: &'a [Value],
    merged: Map<String, Value>,
    conflicts: Vec<FieldConflict>,
}

impl Fields<'_> {
    fn merge(&mut self) {
        self.environment();
        for key in ["Labels", "ExposedPorts", "Volumes"] {
            self.union(key);
        }
        let mut keys: Vec<&String> = self.image.keys().chain(self.new.keys()).chain(self.old.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            if !["Env", "Labels", "ExposedPorts", "Volumes"].contains(&key.as_str()) {
                self.whole(key);
            }
        }
    }

    fn is_set(&self, wanted: &str) -> bool {
        self.own.iter().filter_map(instruction).any(|(word, _)| word == wanted)
    }

    fn whole(&mut self, key: &str) {
        let value = |side: &Map<String, Value>| side.get(key).filter(|value| !is_empty(value)).cloned();
        let (old, image, new) = (value(self.old), value(self.image), value(self.new));
        let set = WHOLE.iter().any(|(field, word)| *field == key && self.is_set(word));
        // An entry point of its own drops the command that came with the base's.
        let dropped = key == "Cmd" && self.is_set("ENTRYPOINT");
        if image == old && !set && !dropped {
            return;
        }
        // A directory may have been given relative to the base's.
        let plain = set && key != "WorkingDir" || dropped;
        if old != new && image != new && !plain {
            let field = key.to_owned();
            let value = |value: &Option<Value>| value.clone().unwrap_or(Value::Null);
            self.conflicts.push(FieldConflict { field, old: value(&old), new: value(&new), image: value(&image) });
        }
        match image {
            Some(image) => self.merged.insert(key.to_owned(), image),
            None => self.merged.shift_remove(key),
        };
    }

    /// Keys that are only ever added; the image's value of a key goes before the base's.
    fn union(&mut self, key: &str) {
        let entries = |side: &Map<String, Value>| side.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        let (old, image, mut merged) = (entries(self.old), entries(self.image), entries(self.new));
        for (name, value) in image {
            if old.get(&name) != Some(&value) {
                merged.insert(name, value);
            }
        }
        if merged.is_empty() {
            self.merged.shift_remove(key);
        } else {
            self.merged.insert(key.to_owned(), merged.into());
        }
    }

    fn environment(&mut self) {
        let lines = |side: &Map<String, Value>| -> Vec<(String, String)> {
            let pair =
                |line: &Value| line.as_str()?.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            list(side.get("Env")).iter().filter_map(pair).collect()
        };
        let (old, image, mut merged) = (lines(self.old), lines(self.image), lines(self.new));
        let value = |list: &[(String, String)], wanted: &str| {
            list.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
        };
        for (name, own) in image {
            let (before, after) = (value(&old, &name), value(&merged, &name));
            if before.as_ref() == Some(&own) {
                continue;
            }
            let result = match (&before, &after) {
                (Some(before), Some(after)) if before != after && *after != own => {
                    if let Some(made) = made_anew(&own, before, after) {
                        made
                    } else {
                        self.environment_conflict(&name, &before, &after, &own);
                        own
                    }
                }
                (None, Some(after)) if *after != own => {
                    self.environment_conflict(&name, &Value::Null, &json!(after), &own);
                    own
                }
                (Some(before), None) => {
                    self.environment_conflict(&name, &json!(before), &Value::Null, &own);
                    own
                }
                _ => own,
            };
            match merged.iter_mut().find(|(other, _)| *other == name) {
                Some(place) => place.1 = result,
                None => merged.push((name, result)),
            }
        }
        if merged.is_empty() {
            self.merged.shift_remove("Env");
        } else {
            let lines: Vec<String> = merged.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            self.merged.insert("Env".into(), lines.into());
        }
    }

    fn environment_conflict(
        &mut self,
        name: &str,
        old: &impl serde::Serialize,
        new: &impl serde::Serialize,
        own: &str,
    ) {
        let field = format!("Env {name}");
        self.conflicts.push(FieldConflict { field, old: json!(old), new: json!(new), image: json!(own) });
    }
}

/// The value `own`, which was made of `before`, made of `after`; `None` where that cannot be told. A part counts only as a
/// whole: `12.4.1` was not made of `12.4`.
fn made_anew(own: &str, before: &str, after: &str) -> Option<String> {
    let is_edge = |next: Option<char>| next.is_none_or(|next| matches!(next, ':' | ';' | ',' | ' '));
    let is_whole =
        |start: usize| is_edge(own[..start].chars().next_back()) && is_edge(own[start + before.len()..].chars().next());
    let mut parts = own.match_indices(before).map(|(start, _)| start).filter(|&start| is_whole(start));
    let start = parts.next().filter(|_| !before.is_empty() && parts.next().is_none())?;
    Some(format!("{}{after}{}", &own[..start], &own[start + before.len()..]))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(config: &Value, history: &[&str]) -> Map<String, Value> {
        let history: Vec<Value> = history.iter().map(|line| json!({"created_by": line, "empty_layer": true})).collect();
        json!({"config": config, "history": history}).as_object().unwrap().clone()
    }

    fn merged([old, image, new]: [Value; 3], own: &[&str]) -> (Value, Vec<String>) {
        let history: Vec<&str> = ["FROM base"].iter().chain(own).copied().collect();
        let (document, conflicts) = merge(
            &document(&old, &["FROM base"]),
            &document(&image, &history),
            &document(&new, &["FROM base", "COPY fix"]),
            0,
        );
        let history: Vec<&str> =
            document["history"].as_array().unwrap().iter().map(|line| line["created_by"].as_str().unwrap()).collect();
        assert_eq!(history[..2], ["FROM base", "COPY fix"]);
        assert_eq!(history[2..], *own);
        (document["config"].clone(), conflicts.into_iter().map(|conflict| conflict.field).collect())
    }

    #[test]
    fn what_is_inherited_follows_the_base_and_what_is_own_stays() {
        let (config, conflicts) = merged(
            [
                json!({"Entrypoint": ["old"], "Cmd": ["c"], "User": "u", "Labels": {"a": "1", "b": "1"}, "ExposedPorts": {"1/tcp": {}}}),
                json!({"Entrypoint": ["old"], "Cmd": ["own"], "User": "u", "Labels": {"a": "1", "b": "own"}, "ExposedPorts": {"1/tcp": {}, "2/tcp": {}}}),
                json!({"Entrypoint": ["new"], "Cmd": ["c"], "Labels": {"a": "2", "b": "2", "n": "1"}, "ExposedPorts": {"3/tcp": {}}}),
            ],
            &[],
        );
        let expected = json!({"Entrypoint": ["new"], "Cmd": ["own"], "Labels": {"a": "2", "b": "own", "n": "1"}, "ExposedPorts": {"3/tcp": {}, "2/tcp": {}}});
        assert_eq!((config, conflicts), (expected, vec![]));
    }

    #[test]
    fn a_variable_made_of_the_bases_is_made_of_the_new_bases() {
        let (config, conflicts) = merged(
            [
                json!({"Env": ["PATH=/bin", "A=1", "B=1"]}),
                json!({"Env": ["PATH=/own:/bin", "A=1", "B=2", "C=3"]}),
                json!({"Env": ["NEW=1", "PATH=/fix:/bin", "A=9", "B=1"]}),
            ],
            &[],
        );
        assert_eq!(config["Env"], json!(["NEW=1", "PATH=/own:/fix:/bin", "A=9", "B=2", "C=3"]));
        assert_eq!(conflicts, [""; 0]);
    }

    #[test]
    fn only_a_whole_part_was_made_of_the_bases_value() {
        for (before, own, after, expected) in [
            ("/bin", "/own:/bin", "/fix:/bin", Some("/own:/fix:/bin")),
            ("/bin", "/bin:/usr/bin", "/fix", Some("/fix:/usr/bin")),
            ("-a -b", "-x -a -b -y", "-c", Some("-x -c -y")),
            ("é", "é;a", "è", Some("è;a")),
            ("12.4", "12.4.1", "12.8", None),
            ("1", "10", "2", None),
            ("1", "1,1", "2", None),
            ("/bin", "/usr/bin", "/fix", None),
            ("", "a:", "b", None),
        ] {
            assert_eq!(made_anew(own, before, after).as_deref(), expected, "{own}");
            let env = |value: &str| json!({"Env": [format!("A={value}")]});
            let (config, conflicts) = merged([env(before), env(own), env(after)], &[]);
            let expected = (env(expected.unwrap_or(own)), usize::from(expected.is_none()));
            assert_eq!((config, conflicts.len()), expected, "{own}");
        }
    }

    #[test]
    fn what_both_changed_is_a_conflict() {
        let (config, conflicts) = merged(
            [
                json!({"Env": ["A=1", "B=1"], "User": "a", "WorkingDir": "/a"}),
                json!({"Env": ["A=2", "B=2", "D=1"], "User": "b", "WorkingDir": "/a/b"}),
                json!({"Env": ["A=3", "D=2"], "User": "c", "WorkingDir": "/c"}),
            ],
            &["WORKDIR b"],
        );
        assert_eq!(conflicts, ["Env A", "Env B", "Env D", "User", "WorkingDir"]);
        assert_eq!(config["Env"], json!(["A=2", "D=1", "B=2"]));
        assert_eq!(config["User"], "b");
        // The same change twice is none.
        let (_, conflicts) = merged([json!({"User": "a"}), json!({"User": "b"}), json!({"User": "b"})], &[]);
        assert_eq!(conflicts, [""; 0]);
    }

    #[test]
    fn an_instruction_in_the_history_makes_a_value_the_images_own() {
        for line in ["ENTRYPOINT [\"x\"]", "/bin/sh -c #(nop)  ENTRYPOINT [\"x\"]", "ENTRYPOINT [\"x\"] # buildkit"] {
            let (config, conflicts) = merged(
                [
                    json!({"Entrypoint": ["x"], "Cmd": ["old"]}),
                    json!({"Entrypoint": ["x"]}),
                    json!({"Entrypoint": ["y"], "Cmd": ["new"]}),
                ],
                &[line],
            );
            assert_eq!((config, conflicts), (json!({"Entrypoint": ["x"]}), vec![]), "{line}");
        }
    }

    #[test]
    fn a_rewritten_history_is_split_by_layers() {
        let line = |text: &str, empty: bool| json!({"created_by": text, "empty_layer": empty});
        let all = json!({"history": [line("a", false), line("b", false), line("ENV x", true), line("c", false)]});
        let old = json!({"history": [line("other", false)]});
        let own = own_history(old.as_object().unwrap(), all.as_object().unwrap(), 2);
        assert_eq!(own, [line("ENV x", true), line("c", false)]);
    }
}
