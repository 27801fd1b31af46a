//! What the requests share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vast_portal_config::yaml::{Effective, read_effective};
use vast_portal_config::{Application, PortMap};

use super::links::Links;
use crate::auth::{Authenticator, Credentials};
use crate::caddy::{PORTAL_PORT, Settings};
use crate::logs::Directory;
use crate::metrics::History;
use crate::supervisor::{Client, Process};
use crate::{Error, env_vars};

/// Viewers ask every two seconds each; Supervisor and the applications are asked once for all of them.
const FRESH: Duration = Duration::from_millis(900);

/// Host and port of applications.
type Targets = BTreeSet<(String, u16)>;

/// The portal's state; a handle, cheap to clone.
#[derive(Debug, Clone)]
pub struct Portal(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    env: BTreeMap<String, String>,
    listen: SocketAddr,
    authenticator: Arc<Authenticator>,
    settings: Settings,
    supervisor: Client,
    logs: Directory,
    links: Links,
    history: Mutex<History>,
    processes: tokio::sync::Mutex<Option<(Instant, Vec<Process>)>>,
    answering: tokio::sync::Mutex<Option<(Instant, Targets)>>,
}

impl Portal {
    /// The state of a portal for the system below `root`.
    ///
    /// # Errors
    /// When the secrets cannot be read or made.
    pub fn new(root: &Path, env: BTreeMap<String, String>, listen: SocketAddr) -> Result<Self, Error> {
        let credentials = Credentials::load(root, &env)?;
        let public = env.get(env_vars::PUBLIC_IPADDR).map(|address| address.trim().to_owned());
        let public = public.filter(|address| address.parse::<std::net::IpAddr>().is_ok());
        Ok(Self(Arc::new(Shared {
            authenticator: Arc::new(Authenticator::new(credentials)),
            settings: Settings::from_env(&env, root),
            supervisor: Client::new(root.join("var/run/supervisor.sock")),
            logs: Directory::new(root.join("var/log/portal")),
            links: Links::new(PortMap::from_env(&env), public),
            history: Mutex::default(),
            processes: tokio::sync::Mutex::default(),
            answering: tokio::sync::Mutex::default(),
            root: root.to_owned(),
            env,
            listen,
        })))
    }

    pub(super) fn root(&self) -> &Path {
        &self.0.root
    }

    pub(super) fn env(&self, name: &str) -> Option<&str> {
        self.0.env.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    pub(super) fn authenticator(&self) -> &Arc<Authenticator> {
        &self.0.authenticator
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(super) fn supervisor(&self) -> &Client {
        &self.0.supervisor
    }

    pub(super) fn logs(&self) -> &Directory {
        &self.0.logs
    }

    pub(super) fn links(&self) -> &Links {
        &self.0.links
    }

    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        self.0.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it listens beyond loopback, which is not what it is made for but may be asked for.
    pub(super) fn faces_network(&self) -> bool {
        !self.0.listen.ip().is_loopback()
    }

    /// Whether the portal's own port needs no authentication.
    pub(super) fn is_open(&self) -> bool {
        let settings = self.settings();
        let portal =
            |app: &Application| app.internal_port == PORTAL_PORT && settings.open_ports.contains(&app.external_port);
        !settings.authentication || self.applications().is_ok_and(|effective| effective.applications.iter().any(portal))
    }

    /// The applications now: the user edits the file.
    pub(super) fn applications(&self) -> Result<Effective, Error> {
        read_effective(&self.0.root, &self.0.env).map_err(|error| Error::Config(Box::new(error)))
    }

    /// The processes, at most a second old.
    pub(super) async fn processes(&self) -> Result<Vec<Process>, Error> {
        let mut cached = self.0.processes.lock().await;
        match &*cached {
            Some((at, processes)) if at.elapsed() < FRESH => Ok(processes.clone()),
            _ => {
                let processes = self.0.supervisor.processes().await?;
                *cached = Some((Instant::now(), processes.clone()));
                Ok(processes)
            }
        }
    }

    /// Forgets the processes as they were, after one was started or stopped.
    pub(super) async fn processes_changed(&self) {
        *self.0.processes.lock().await = None;
    }

    /// Which of the applications accept connections, at most a second old.
    pub(super) async fn answering(&self, applications: &[Application]) -> Targets {
        let mut cached = self.0.answering.lock().await;
        match &*cached {
            Some((at, answering)) if at.elapsed() < FRESH => answering.clone(),
            _ => {
                let asked: Targets = applications.iter().map(|app| (app.host.clone(), app.internal_port)).collect();
                let tried = futures_util::future::join_all(asked.into_iter().map(|target| async move {
                    let connect = tokio::net::TcpStream::connect((target.0.as_str(), target.1));
                    let answers = tokio::time::timeout(Duration::from_millis(500), connect).await;
                    matches!(answers, Ok(Ok(_))).then_some(target)
                }));
                let answering: Targets = tried.await.into_iter().flatten().collect();
                *cached = Some((Instant::now(), answering.clone()));
                answering
            }
        }
    }

    /// Whether a program must not be stopped from the page: without these there is no page.
    pub(super) fn is_unstoppable(&self, program: &str) -> bool {
        let listed = self.env(env_vars::PORTAL_UNSTOPPABLE).unwrap_or_default();
        matches!(program, "instance_portal" | "caddy") || listed.split(',').any(|name| name.trim() == program)
    }
}
