//! An image's configuration as a document: what we do not know about stays in it.
//!
//! Docker keeps `Healthcheck`, `Shell` and `OnBuild` in it, which the OCI specification does not list; a typed model would
//! drop them.

use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::dockerfile::{Command, Healthcheck};
use crate::platform::Platform;

/// What `docker` gives an image without a base.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image's configuration (OCI image spec, "Image Configuration").
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    document: Map<String, Value>,
}

impl Config {
    /// That of `FROM scratch`.
    pub(super) fn scratch(platform: &Platform) -> Self {
        let mut document = Map::new();
        document.insert("architecture".into(), platform.architecture.clone().into());
        document.insert("os".into(), platform.os.clone().into());
        if let Some(variant) = &platform.variant {
            document.insert("variant".into(), variant.clone().into());
        }
        document.insert("config".into(), json!({"Env": [format!("PATH={DEFAULT_PATH}")], "WorkingDir": "/"}));
        document.insert("rootfs".into(), json!({"type": "layers", "diff_ids": []}));
        document.insert("history".into(), json!([]));
        Self { document }
    }

    /// A stored configuration.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut document: Map<String, Value> = serde_json::from_slice(bytes)?;
        // What Docker keeps of the container in which an image was made says nothing about the image.
        for transient in ["container", "container_config", "docker_version", "id", "parent", "throwaway"] {
            document.shift_remove(transient);
        }
        for (key, empty) in [("config", json!({})), ("rootfs", json!({"type": "layers"})), ("history", json!([]))] {
            if document.get(key).is_none_or(Value::is_null) {
                document.insert(key.into(), empty);
            }
        }
        Ok(Self { document })
    }

    /// A configuration that was put together elsewhere.
    pub(crate) fn from_document(document: Map<String, Value>) -> Self {
        Self { document }
    }

    /// The bytes to store.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        Value::Object(self.document.clone()).to_string().into_bytes()
    }

    fn field(&self, key: &str) -> Option<&Value> {
        self.document.get("config")?.get(key).filter(|value| !value.is_null())
    }

    /// Sets a field of `config`, or removes it with `Value::Null`.
    fn set(&mut self, key: &str, value: Value) {
        if let Some(Value::Object(config)) = self.document.get_mut("config") {
            if value.is_null() {
                config.shift_remove(key);
            } else {
                config.insert(key.to_owned(), value);
            }
        }
    }

    fn entries(&mut self, key: &str) -> Option<&mut Map<String, Value>> {
        let config = self.document.get_mut("config")?.as_object_mut()?;
        let entry = config.entry(key).or_insert_with(|| json!({}));
        if !entry.is_object() {
            *entry = json!({});
        }
        entry.as_object_mut()
    }

    fn strings(&self, key: &str) -> Vec<String> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.field(key).and_then(Value::as_array).map_or_else(Vec::new, |list| list.iter().filter_map(text).collect())
    }

    /// The value of an environment variable.
    pub(super) fn env(&self, name: &str) -> Option<String> {
        let value = |line: &String| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        self.strings("Env").iter().rev().find_map(value)
    }

    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        let mut env = self.strings("Env");
        let line = format!("{name}={value}");
        let place = env.iter_mut().find(|old| old.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')));
        match place {
            Some(place) => *place = line,
            None => env.push(line),
        }
        self.set("Env", env.into());
    }

    pub(super) fn label(&self, key: &str) -> Option<&str> {
        self.field("Labels")?.get(key)?.as_str()
    }

    pub(super) fn set_label(&mut self, key: &str, value: &str) {
        if let Some(labels) = self.entries("Labels") {
            labels.insert(key.to_owned(), value.into());
        }
    }

    pub(super) fn remove_label(&mut self, key: &str) {
        if self.label(key).is_some()
            && let Some(labels) = self.entries("Labels")
        {
            labels.shift_remove(key);
        }
    }

    pub(super) fn workdir(&self) -> &str {
        self.field("WorkingDir").and_then(Value::as_str).filter(|dir| !dir.is_empty()).unwrap_or("/")
    }

    pub(super) fn set_workdir(&mut self, path: &str) {
        self.set("WorkingDir", path.into());
    }

    /// As `USER` says it; empty for root.
    pub(super) fn user(&self) -> &str {
        self.field("User").and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn set_user(&mut self, user: &str) {
        self.set("User", user.into());
    }

    /// The shell of the shell form, empty where it is the default.
    pub(super) fn shell(&self) -> Vec<String> {
        self.strings("Shell")
    }

    /// The same without a shell, which not every stored format has a place for.
    pub(super) fn without_shell(&self) -> Self {
        let mut config = self.clone();
        config.set("Shell", Value::Null);
        config
    }

    pub(super) fn set_shell(&mut self, shell: &[String]) {
        self.set("Shell", shell.into());
    }

    pub(super) fn set_stop_signal(&mut self, signal: &str) {
        self.set("StopSignal", signal.into());
    }

    pub(super) fn set_author(&mut self, author: &str) {
        self.document.insert("author".into(), author.into());
    }

    /// `port/protocol`.
    pub(super) fn expose(&mut self, port: &str) {
        if let Some(ports) = self.entries("ExposedPorts") {
            ports.insert(port.to_owned(), json!({}));
        }
    }

    pub(super) fn add_volume(&mut self, path: &str) {
        if let Some(volumes) = self.entries("Volumes") {
            volumes.insert(path.to_owned(), json!({}));
        }
    }

    pub(super) fn set_cmd(&mut self, command: &Command) {
        let words = self.words(command);
        self.set("Cmd", words);
    }

    /// Sets the entry point. With `keep_cmd` unset, an inherited `CMD` goes: it was meant for the old entry point.
    pub(super) fn set_entrypoint(&mut self, command: &Command, keep_cmd: bool) {
        let words = self.words(command);
        self.set("Entrypoint", words);
        if !keep_cmd {
            self.set("Cmd", Value::Null);
        }
    }

    pub(super) fn set_healthcheck(&mut self, check: &Healthcheck) {
        let Healthcheck::Check { command, interval_ns, timeout_ns, start_period_ns, start_interval_ns, retries } =
            check
        else {
            self.set("Healthcheck", json!({"Test": ["NONE"]}));
            return;
        };
        let mut test = vec!["CMD-SHELL".to_owned()];
        match command {
            Command::Shell(line) => test.push(line.clone()),
            Command::Exec(words) => {
                "CMD".clone_into(&mut test[0]);
                test.extend(words.iter().cloned());
            }
        }
        let mut document = json!({"Test": test});
        for (key, value) in [
            ("Interval", *interval_ns),
            ("Timeout", *timeout_ns),
            ("StartPeriod", *start_period_ns),
            ("StartInterval", *start_interval_ns),
            ("Retries", retries.map(u64::from)),
        ] {
            if let Some(value) = value.filter(|&value| value != 0) {
                document[key] = value.into();
            }
        }
        self.set("Healthcheck", document);
    }

    /// The stored triggers of `ONBUILD`, which this crate does not run.
    pub(super) fn onbuild(&self) -> Vec<String> {
        self.strings("OnBuild")
    }

    /// The words of a command in exec form; the shell form gets the stage's shell. Null where there are none.
    fn words(&self, command: &Command) -> Value {
        let words = match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => {
                let mut words = self.shell();
                if words.is_empty() {
                    words = vec!["/bin/sh".to_owned(), "-c".to_owned()];
                }
                words.push(text.clone());
                words
            }
        };
        if words.is_empty() { Value::Null } else { words.into() }
    }

    pub(super) fn set_diff_ids(&mut self, diff_ids: &[Digest]) {
        let ids: Vec<String> = diff_ids.iter().map(Digest::to_string).collect();
        self.document.insert("rootfs".into(), json!({"type": "layers", "diff_ids": ids}));
    }

    /// Adds a line to the history: what was done, and whether that made a layer. `created` is RFC 3339.
    pub(crate) fn add_history(&mut self, created: &str, created_by: &str, made_layer: bool) {
        let mut line = json!({"created": created, "created_by": created_by});
        if !made_layer {
            line["empty_layer"] = true.into();
        }
        if let Some(Value::Array(history)) = self.document.get_mut("history") {
            history.push(line);
        }
    }

    /// Removes what `BuildKit` keeps about itself, and the clock from the lines of the history after the `inherited` ones.
    pub(super) fn forget_builder(&mut self, created: &str, inherited: usize) {
        self.document.retain(|key, _| !key.starts_with("moby.buildkit."));
        if let Some(Value::Array(history)) = self.document.get_mut("history") {
            for line in history.iter_mut().skip(inherited).filter(|line| line.get("created").is_some()) {
                line["created"] = created.into();
            }
        }
    }

    pub(super) fn set_created(&mut self, created: &str) {
        self.document.insert("created".into(), created.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        Config::scratch(&platform)
    }

    #[test]
    fn what_is_not_known_stays() {
        let stored = br#"{"os":"linux","architecture":"arm64","config":{"Healthcheck":{"Test":["CMD","x"]},"Env":["A=1"],"OnBuild":["RUN x"]},"moby.buildkit.x":1,"container":"abc","rootfs":{"type":"layers","diff_ids":["sha256:00"]}}"#;
        let mut config = Config::parse(stored).unwrap();
        config.set_env("A", "2");
        config.set_env("AB", "3");
        let text = String::from_utf8(config.to_bytes()).unwrap();
        assert!(text.contains("Healthcheck") && text.contains("moby.buildkit.x"));
        assert!(!text.contains("container"));
        assert!(text.contains(r#""Env":["A=2","AB=3"]"#), "{text}");
        assert_eq!(config.onbuild(), ["RUN x"]);
        assert!(text.contains(r#""diff_ids":["sha256:00"]"#), "{text}");
    }

    #[test]
    fn an_entry_point_drops_only_an_inherited_command() {
        let exec = |word: &str| Command::Exec(vec![word.to_owned()]);
        let mut config = config();
        config.set_cmd(&exec("old"));
        config.set_entrypoint(&exec("new"), false);
        assert_eq!(config.strings("Cmd"), [""; 0]);
        config.set_cmd(&exec("own"));
        config.set_entrypoint(&exec("new"), true);
        assert_eq!(config.strings("Cmd"), ["own"]);
        config.set_cmd(&Command::Exec(Vec::new()));
        assert!(!String::from_utf8(config.to_bytes()).unwrap().contains("Cmd"));
    }

    #[test]
    fn the_shell_form_uses_the_stages_shell() {
        let mut config = config();
        config.set_cmd(&Command::Shell("echo $A".into()));
        assert_eq!(config.strings("Cmd"), ["/bin/sh", "-c", "echo $A"]);
        config.set_shell(&["/bin/bash".into(), "-c".into()]);
        config.set_cmd(&Command::Shell("echo".into()));
        assert_eq!(config.strings("Cmd"), ["/bin/bash", "-c", "echo"]);
    }

    #[test]
    fn labels_ports_and_health_checks_have_dockers_shape() {
        let mut config = config();
        config.set_label("a", "1");
        config.set_label("b", "2");
        config.remove_label("a");
        config.remove_label("none");
        config.expose("80/tcp");
        config.set_healthcheck(&Healthcheck::Check {
            command: Command::Shell("curl".into()),
            interval_ns: Some(5),
            timeout_ns: None,
            start_period_ns: None,
            start_interval_ns: None,
            retries: Some(2),
        });
        let text = String::from_utf8(config.to_bytes()).unwrap();
        assert!(text.contains(r#""Labels":{"b":"2"},"ExposedPorts":{"80/tcp":{}}"#), "{text}");
        assert!(text.contains(r#""Healthcheck":{"Test":["CMD-SHELL","curl"],"Interval":5,"Retries":2}"#), "{text}");
    }
}
