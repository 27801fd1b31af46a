//! What differs between two configurations, setting by setting.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Kind, Redaction};

/// What stands in the place of a value that is not shown.
const HIDDEN: &str = "***";

/// One setting that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The field as the configuration calls it: `Env`, `Labels`, `Cmd`, `ExposedPorts`, `created`, …; `Annotations` for those
    /// of a manifest.
    pub field: String,
    /// Which of the field's: the name of the variable, label, port or annotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it came, went or is another.
    pub kind: Kind,
    /// What it was; null where there was none, or there is nothing but the name.
    pub before: Value,
    /// What it is.
    pub after: Value,
    /// Values are left out, wholly or in part, because they look like secrets.
    pub hidden: bool,
    /// Of a list of directories such as `PATH`: what came and went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<Parts>,
}

/// How a list of directories changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Parts {
    /// What is new, in its order.
    pub added: Vec<Part>,
    /// What is gone, in its order.
    pub removed: Vec<Part>,
    /// What was there before and still is comes in another order.
    pub reordered: bool,
    /// Nothing else differs than how often directories are listed.
    pub repeated: bool,
}

/// One directory of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Its place in the list, from 0.
    pub position: usize,
    /// The directory.
    pub text: String,
}

/// Compares two configurations, as they are stored. The layers and the history are left to others.
pub(super) fn compare(before: &Map<String, Value>, after: &Map<String, Value>, redaction: Redaction) -> Vec<Setting> {
    let flat = |document: &Map<String, Value>| {
        let mut settings = BTreeMap::new();
        for (field, value) in document {
            match (field.as_str(), value) {
                // What Docker once wrote beside the configuration is how its builder got there, not what a container gets.
                ("rootfs" | "history" | "container_config", _) => {}
                ("config", Value::Object(config)) => {
                    config.iter().for_each(|(field, value)| flatten(field, value, &mut settings));
                }
                _ => put(field, None, value, &mut settings),
            }
        }
        settings
    };
    settings(&flat(before), &flat(after), redaction)
}

/// Compares annotations.
pub(super) fn annotations(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    redaction: Redaction,
) -> Vec<Setting> {
    let flat = |annotations: &BTreeMap<String, String>| -> Flat {
        let named =
            |(name, value): (&String, &String)| (("Annotations".to_owned(), Some(name.clone())), value.clone().into());
        annotations.iter().map(named).collect()
    };
    settings(&flat(before), &flat(after), redaction)
}

/// Settings by field and name.
type Flat = BTreeMap<(String, Option<String>), Value>;

/// A field of the configuration proper: those that hold many settings are taken apart.
fn flatten(field: &str, value: &Value, settings: &mut Flat) {
    match (field, value) {
        ("Env", Value::Array(variables)) => {
            for variable in variables.iter().filter_map(Value::as_str) {
                let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
                // The last one counts, as in a process.
                settings.insert((field.to_owned(), Some(name.to_owned())), value.into());
            }
        }
        ("Labels", Value::Object(labels)) => {
            for (name, value) in labels {
                settings.insert((field.to_owned(), Some(name.clone())), value.clone());
            }
        }
        ("ExposedPorts" | "Volumes", Value::Object(names)) => {
            for name in names.keys() {
                settings.insert((field.to_owned(), Some(name.clone())), Value::Null);
            }
        }
        _ => put(field, None, value, settings),
    }
}

/// Notes a setting unless it says nothing: builders differ in whether they write fields that are not set.
fn put(field: &str, name: Option<&str>, value: &Value, settings: &mut Flat) {
    let says_nothing = match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    if !says_nothing {
        settings.insert((field.to_owned(), name.map(str::to_owned)), value.clone());
    }
}

fn settings(before: &Flat, after: &Flat, redaction: Redaction) -> Vec<Setting> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter_map(|key| {
            let (was, is) = (before.get(key), after.get(key));
            let kind = match (was, is) {
                (None, _) => Kind::Added,
                (_, None) => Kind::Removed,
                (was, is) if was == is => return None,
                _ => Kind::Changed,
            };
            Some(setting(key, kind, was, is, redaction))
        })
        .collect()
}

fn setting(
    (field, name): &(String, Option<String>),
    kind: Kind,
    was: Option<&Value>,
    is: Option<&Value>,
    redaction: Redaction,
) -> Setting {
    let is_secret = name.as_deref().is_some_and(redaction.is_secret);
    let mut hidden = false;
    let mut shown = |value: Option<&Value>| {
        let value = value.unwrap_or(&Value::Null);
        let shown = if is_secret && !value.is_null() { HIDDEN.into() } else { scrubbed(value, redaction) };
        hidden |= shown != *value;
        shown
    };
    let (before, after) = (shown(was), shown(is));
    let parts = match (&before, &after) {
        (Value::String(was), Value::String(is)) if is_list_of_directories(field, name.as_deref(), was, is) => {
            Some(parts(was, is))
        }
        _ => None,
    };
    Setting { field: field.clone(), name: name.clone(), kind, before, after, hidden, parts }
}

/// A value without what looks like a secret, wherever in it.
fn scrubbed(value: &Value, redaction: Redaction) -> Value {
    match value {
        Value::String(text) => (redaction.scrub)(text).into(),
        Value::Array(list) => {
            let before = std::iter::once(None).chain(list.iter().map(Value::as_str));
            let shown = |(value, before): (&Value, Option<&str>)| match value {
                Value::String(text) if before.is_some_and(|flag| is_argument(flag, text, redaction)) => HIDDEN.into(),
                other => scrubbed(other, redaction),
            };
            list.iter().zip(before).map(shown).collect()
        }
        Value::Object(map) => {
            let shown = |name: &str, value: &Value| match value {
                Value::Null => Value::Null,
                _ if (redaction.is_secret)(name) => HIDDEN.into(),
                other => scrubbed(other, redaction),
            };
            map.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

/// Whether `text` behind `flag` in a list of arguments is a secret: what `--api-key` is given, or a user with a password.
fn is_argument(flag: &str, text: &str, redaction: Redaction) -> bool {
    if matches!(flag, "-u" | "--user") {
        // `1000:1000` is a user and a group.
        return text.split_once(':').is_some_and(|(_, password)| password.bytes().any(|byte| !byte.is_ascii_digit()));
    }
    let name = flag.trim_start_matches('-');
    name.len() < flag.len()
        && !name.contains('=')
        && (redaction.is_secret)(&name.replace(['-', '.'], "_"))
        && !text.is_empty()
        && !text.starts_with('-')
}

/// `PATH`, `LD_LIBRARY_PATH`, `PYTHONPATH`, `XDG_DATA_DIRS` and their like, as far as they hold directories.
fn is_list_of_directories(field: &str, name: Option<&str>, was: &str, is: &str) -> bool {
    let named = name.is_some_and(|name| name.ends_with("PATH") || name.ends_with("DIRS"));
    let directories =
        |text: &str| text.split(':').all(|part| part.is_empty() || part.starts_with(['/', '.', '$', '~']));
    field == "Env" && named && directories(was) && directories(is)
}

fn parts(was: &str, is: &str) -> Parts {
    let (was, is) = (list(was), list(is));
    let lacking = |list: &[&str], other: &[&str]| -> Vec<Part> {
        let part = |(position, text): (usize, &&str)| Part { position, text: (*text).to_owned() };
        list.iter().enumerate().filter(|(_, part)| !other.contains(part)).map(part).collect()
    };
    let kept = |list: &[&str], other: &[&str]| -> Vec<String> {
        // A directory counts where it is first.
        let mut seen = BTreeSet::new();
        list.iter().filter(|part| other.contains(part) && seen.insert(**part)).map(|part| (*part).to_owned()).collect()
    };
    let (added, removed, reordered) = (lacking(&is, &was), lacking(&was, &is), kept(&was, &is) != kept(&is, &was));
    let repeated = added.is_empty() && removed.is_empty() && !reordered;
    Parts { added, removed, reordered, repeated }
}

fn list(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split(':').collect() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const REDACTION: Redaction =
        Redaction { is_secret: |name| name.contains("TOKEN"), scrub: |text| text.replace("hunter2", "***") };

    fn compared(before: &Value, after: &Value) -> Vec<Setting> {
        let map = |value: &Value| value.as_object().unwrap().clone();
        compare(&map(before), &map(after), REDACTION)
    }

    fn lines(settings: &[Setting]) -> Vec<String> {
        let line = |setting: &Setting| {
            let Setting { field, name, kind, before, after, .. } = setting;
            format!("{kind:?} {field} {} {before} {after}", name.as_deref().unwrap_or("-"))
        };
        settings.iter().map(line).collect()
    }

    #[test]
    fn every_kind_of_setting_is_compared_by_what_it_is_made_of() {
        let before = json!({"os": "linux", "created": "then", "history": [1], "config": {
            "Env": ["A=1", "B=2", "A=3"], "Labels": {"x": "1", "y": "1"}, "Cmd": ["a"], "User": "root",
            "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGTERM", "Healthcheck": {"Test": ["CMD", "a"]},
        }});
        let after = json!({"os": "linux", "created": "now", "history": [], "rootfs": {}, "config": {
            "Env": ["B=2", "A=4", "C="], "Labels": {"x": "1", "z": "1"}, "Cmd": ["b"], "User": "root",
            "ExposedPorts": {"81/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGTERM",
            "Healthcheck": {"Test": ["CMD", "b"]},
        }});
        assert_eq!(
            lines(&compared(&before, &after)),
            [
                r#"Changed Cmd - ["a"] ["b"]"#,
                r#"Changed Env A "3" "4""#,
                r#"Added Env C null """#,
                "Removed ExposedPorts 80/tcp null null",
                "Added ExposedPorts 81/tcp null null",
                r#"Changed Healthcheck - {"Test":["CMD","a"]} {"Test":["CMD","b"]}"#,
                r#"Removed Labels y "1" null"#,
                r#"Added Labels z null "1""#,
                "Added Volumes /data null null",
                r#"Changed created - "then" "now""#,
            ]
        );
    }

    #[test]
    fn what_is_not_set_is_the_same_however_it_is_written() {
        let before =
            json!({"author": "", "config": {"User": "", "Cmd": null, "Env": [], "Tty": false, "Labels": null}});
        assert_eq!(compared(&before, &json!({"config": {"Volumes": {}, "OnBuild": null}})), []);
        assert_eq!(compared(&before, &json!({})), []);
    }

    #[test]
    fn lists_of_directories_are_compared_directory_by_directory() {
        let env = |value: &str| json!({"config": {"Env": [format!("PATH={value}")]}});
        let found = |before, after| compared(&env(before), &env(after)).remove(0).parts;
        let part = |position, text: &str| Part { position, text: text.to_owned() };
        assert_eq!(
            found("/usr/bin:/bin:/old", "/venv/bin:/usr/bin:/bin"),
            Some(Parts {
                added: vec![part(0, "/venv/bin")],
                removed: vec![part(2, "/old")],
                reordered: false,
                repeated: false
            })
        );
        assert_eq!(
            found("/usr/bin:/bin", "/bin:/usr/bin"),
            Some(Parts { added: vec![], removed: vec![], reordered: true, repeated: false })
        );
        assert_eq!(
            found("/usr/bin:/bin", "/usr/bin:/bin:/usr/bin"),
            Some(Parts { added: vec![], removed: vec![], reordered: false, repeated: true })
        );
        assert_eq!(found("/usr/bin", "https://x"), None);
        let before = json!({"config": {"Env": ["X_PATH=a:b"]}});
        assert_eq!(compared(&before, &json!({"config": {"Env": ["X_PATH=a:c"]}}))[0].parts, None);
    }

    #[test]
    fn what_looks_like_a_secret_is_told_to_differ_and_never_shown() {
        let config =
            |token: &str, cmd: &str| json!({"config": {"Env": [format!("HF_TOKEN={token}")], "Cmd": [cmd, "x"]}});
        let found = compared(&config("one", "hunter2 a"), &config("two", "hunter2 b"));
        assert_eq!(
            lines(&found),
            [r#"Changed Cmd - ["*** a","x"] ["*** b","x"]"#, r#"Changed Env HF_TOKEN "***" "***""#]
        );
        assert!(found.iter().all(|setting| setting.hidden));
        let found = compared(&config("one", "a"), &json!({}));
        assert_eq!(lines(&found), [r#"Removed Cmd - ["a","x"] null"#, r#"Removed Env HF_TOKEN "***" null"#]);
        assert_eq!([found[0].hidden, found[1].hidden], [false, true]);
    }

    #[test]
    fn secrets_among_arguments_and_below_their_names_are_not_shown() {
        let config = |secret: &str| {
            json!({"container_config": {"Env": [format!("A={secret}")]}, "config": {
                "Cmd": ["serve", "--api-TOKEN", secret, "--port", "80", "--TOKEN-from", "-"],
                "Healthcheck": {"Test": ["CMD", "curl", "-u", format!("me:{secret}"), "--user", "1000:1000"]},
                "Extra": {"A_TOKEN": secret, "B_TOKEN": null},
            }})
        };
        let found = compared(&config("one"), &config("two"));
        let arguments = json!(["serve", "--api-TOKEN", "***", "--port", "80", "--TOKEN-from", "-"]);
        let check = json!({"Test": ["CMD", "curl", "-u", "***", "--user", "1000:1000"]});
        let extra = json!({"A_TOKEN": "***", "B_TOKEN": null});
        assert_eq!(
            lines(&found),
            [
                format!("Changed Cmd - {arguments} {arguments}"),
                format!("Changed Extra - {extra} {extra}"),
                format!("Changed Healthcheck - {check} {check}"),
            ]
        );
        assert!(found.iter().all(|setting| setting.hidden));
    }

    fn mirrored(settings: Vec<Setting>) -> Vec<Setting> {
        let parts = |parts: Parts| Parts { added: parts.removed, removed: parts.added, ..parts };
        let swap = |one: Setting| Setting {
            kind: one.kind.mirrored(),
            before: one.after,
            after: one.before,
            parts: one.parts.map(parts),
            ..one
        };
        settings.into_iter().map(swap).collect()
    }

    fn configuration() -> impl Strategy<Value = Value> {
        let variable =
            prop::sample::select(vec!["A=1", "A=2", "PATH=/a:/b", "PATH=/b:/a:/c", "PATH=x", "TOKEN=1", "TOKEN=2"]);
        let cmd = prop::sample::select(vec![json!(null), json!([]), json!(["a"]), json!(["hunter2"])]);
        let labels = prop::collection::btree_map("[xy]", "[12]", 0..2);
        (prop::collection::vec(variable, 0..4), cmd, labels)
            .prop_map(|(env, cmd, labels)| json!({"config": {"Env": env, "Cmd": cmd, "Labels": labels}}))
    }

    proptest! {
        #[test]
        fn comparing_the_other_way_round_mirrors_the_difference(before in configuration(), after in configuration()) {
            prop_assert_eq!(compared(&before, &before), []);
            prop_assert_eq!(compared(&before, &after), mirrored(compared(&after, &before)));
        }
    }
}
