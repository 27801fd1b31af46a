//! A real registry (Debian's `docker-registry`) on a loopback port of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// A running registry; it ends when this value is dropped.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    address: SocketAddr,
}

impl Registry {
    /// Starts a registry that keeps its blobs under `storage`, and waits until it takes connections.
    ///
    /// # Errors
    /// When the program cannot be started or ends at once; its log is `storage/registry.log`.
    pub fn start(storage: &Path) -> Result<Self> {
        fs::create_dir_all(storage)?;
        // The port is free when it is asked for; whoever takes it in between makes the registry fail, which is seen below.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let config = storage.join("config.yml");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
                 http:\n  addr: {address}\n",
                storage.join("blobs").display()
            ),
        )?;
        let log = fs::File::create(storage.join("registry.log"))?;
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start docker-registry")?;
        let mut registry = Self { process, address };
        registry.wait_until_up(storage)?;
        Ok(registry)
    }

    /// `host:port`, the start of every reference into this registry.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    fn wait_until_up(&mut self, storage: &Path) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.process.try_wait()? {
                let log = fs::read_to_string(storage.join("registry.log")).unwrap_or_default();
                bail!("docker-registry ended with {status}:\n{log}");
            }
            if Instant::now() > deadline {
                bail!("docker-registry takes no connection on {}", self.address);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Already ended is as good as ended now.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
