//! The distribution project's registry, as Debian packages it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

const PROGRAM: &str = "/usr/bin/docker-registry";

/// A running `docker-registry`, which ends when it is dropped, and its storage with it.
#[derive(Debug)]
pub struct Distribution {
    child: Child,
    host: String,
    dir: PathBuf,
}

impl Distribution {
    /// Starts one on a port of its own.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts one with more lines of configuration.
    #[must_use]
    pub fn start_with(extra: &str) -> Self {
        Self::launch(extra, "")
    }

    /// Starts one that speaks HTTPS, with a certificate and its key in files.
    #[must_use]
    pub fn start_https(certificate: &Path, key: &Path) -> Self {
        Self::launch("", &format!(", tls: {{certificate: {}, key: {}}}", certificate.display(), key.display()))
    }

    fn launch(extra: &str, of_http: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        assert!(Path::new(PROGRAM).exists(), "{PROGRAM} is missing; `cargo xtask test` installs it");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("vast-distribution-{}-{number}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let config = dir.join("config.yml");
        let root = dir.join("data");
        let text = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: '127.0.0.1:0'{of_http}}}\n{extra}",
            root.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(PROGRAM)
            .arg("serve")
            .arg(&config)
            .env_clear()
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It chooses the port and says it: `listening on 127.0.0.1:41234`.
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let host = log.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.split(['"', ',', ' ']).next()?.to_owned())
        });
        // Somebody has to read the rest, or it stops for want of room.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, host: host.unwrap(), dir }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        self.host.clone()
    }

    /// `127.0.0.1:PORT/rest`.
    #[must_use]
    pub fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// The tags of a repository as they are stored, sorted.
    #[must_use]
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let mut names = entries(&self.repository(repository).join("_manifests/tags"));
        names.sort();
        names
    }

    /// How many uploads of a repository were begun, and neither completed nor cancelled.
    #[must_use]
    pub fn open_uploads(&self, repository: &str) -> usize {
        let uploads = self.repository(repository).join("_uploads");
        // Of cancelled ones it leaves folders behind, without what makes them uploads.
        entries(&uploads).iter().filter(|name| uploads.join(name).join("startedat").exists()).count()
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.dir.join("data/docker/registry/v2/repositories").join(name)
    }
}

fn entries(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

impl Drop for Distribution {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
