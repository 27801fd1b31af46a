//! Credentials from the files and helper programs of Docker, podman, skopeo and buildah.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde::Deserialize;

use crate::env_vars;

/// What proves to a registry or its token service who asks. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user and a password or access token.
    Basic {
        /// The user.
        user: String,
        /// The secret.
        password: String,
    },
    /// A refresh token from a login service, exchanged for access tokens (`identitytoken` in auth files).
    Identity(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.user())
    }
}

impl Credential {
    /// The user, for messages.
    #[must_use]
    pub fn user(&self) -> &str {
        match self {
            Self::Basic { user, .. } => user,
            Self::Identity(_) => "<identity token>",
        }
    }
}

/// What a look-up came to.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) credential: Option<Credential>,
    /// Why a configured credential could not be used. The registry may not need one, so this is told only if it refuses.
    pub(super) problem: Option<String>,
}

/// The auth files to look into, in order. The first that has credentials for a registry decides.
#[derive(Debug, Clone, Default)]
pub struct AuthFiles {
    paths: Vec<PathBuf>,
}

/// The keys of an auth file: what `docker_credential` matches, to know whether a repository has credentials of its own.
#[derive(Deserialize)]
struct Keys {
    #[serde(default)]
    auths: BTreeMap<String, serde_json::Value>,
}

impl AuthFiles {
    /// These files.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths }
    }

    /// The files that `containers-auth.json(5)` and Docker name, found from an environment.
    ///
    /// `REGISTRY_AUTH_FILE` stands for itself alone, as it does for podman and skopeo.
    #[must_use]
    pub fn from_env(env: &BTreeMap<String, String>) -> Self {
        let get = |name: &str| env.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(file) = get(env_vars::REGISTRY_AUTH_FILE) {
            return Self::new(vec![file]);
        }
        let home = get(env_vars::HOME);
        let under_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let runtime = get(env_vars::XDG_RUNTIME_DIR)
            .unwrap_or_else(|| PathBuf::from(format!("/run/containers/{}", rustix::process::getuid().as_raw())));
        let runtime = if env.contains_key(env_vars::XDG_RUNTIME_DIR) { runtime.join("containers") } else { runtime };
        let config = get(env_vars::XDG_CONFIG_HOME).or_else(|| under_home(".config"));
        let docker = get(env_vars::DOCKER_CONFIG).or_else(|| under_home(".docker"));
        let paths = [Some(runtime.join("auth.json")), config.map(|dir| dir.join("containers/auth.json"))]
            .into_iter()
            .chain([docker.map(|dir| dir.join("config.json"))]);
        Self::new(paths.flatten().collect())
    }

    /// The credentials for a repository. Blocks: a helper program may run.
    pub(super) fn look_up(&self, registry: &str, repository: &str) -> Found {
        let mut problem = None;
        for path in &self.paths {
            let text = match fs::read(path) {
                Ok(text) => text,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    problem.get_or_insert(format!("`{}` cannot be read: {error}", path.display()));
                    continue;
                }
            };
            let keys = match serde_json::from_slice::<Keys>(&text) {
                Ok(keys) => keys,
                Err(error) => {
                    problem.get_or_insert(format!("`{}` cannot be understood: {error}", path.display()));
                    continue;
                }
            };
            for server in servers(registry, repository, &keys) {
                match docker_credential::get_credential_from_reader(text.as_slice(), &server) {
                    Ok(credential) => return Found { credential: Some(credential.into()), problem: None },
                    Err(CredentialRetrievalError::NoCredentialConfigured) => {}
                    // A helper answers so for a registry that it does not know.
                    Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.contains("not found") => {}
                    Err(error) => {
                        problem.get_or_insert(format!("`{}`: {error}", path.display()));
                    }
                }
            }
        }
        Found { credential: None, problem }
    }
}

impl From<DockerCredential> for Credential {
    fn from(credential: DockerCredential) -> Self {
        match credential {
            DockerCredential::IdentityToken(token) => Self::Identity(token),
            DockerCredential::UsernamePassword(user, password) => Self::Basic { user, password },
        }
    }
}

/// The names under which the credentials may be filed: the repository's own and its namespaces' (podman writes those), from
/// the longest, where the file has them; then the registry's. Docker Hub's is an address, for historical reasons.
fn servers(registry: &str, repository: &str, keys: &Keys) -> Vec<String> {
    let mut servers = Vec::new();
    let mut own = format!("{registry}/{repository}");
    while own.len() > registry.len() {
        if keys.auths.contains_key(&own) {
            servers.push(own.clone());
        }
        own.truncate(own.rfind('/').unwrap_or(0));
    }
    if registry == "docker.io" {
        servers.push("https://index.docker.io/v1/".to_owned());
    }
    servers.push(registry.to_owned());
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &tempfile::TempDir, name: &str, content: &str) -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn user_for(files: &AuthFiles, registry: &str, repository: &str) -> Option<String> {
        files.look_up(registry, repository).credential.map(|credential| credential.user().to_owned())
    }

    #[test]
    fn the_nearest_credentials_win_and_later_files_fill_the_gaps() {
        let dir = tempfile::tempdir().unwrap();
        // `dTpw` is u:p, `djpw` is v:p, `dzpw` is w:p.
        let first = file(&dir, "a", r#"{"auths":{"r.io/team/app":{"auth":"dTpw"},"r.io":{"auth":"djpw"}}}"#);
        let second =
            file(&dir, "b", r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dzpw"},"r.io":{"auth":"dTpw"}}}"#);
        let files = AuthFiles::new(vec![dir.path().join("absent"), first, second]);
        assert_eq!(user_for(&files, "r.io", "team/app").as_deref(), Some("u"));
        assert_eq!(user_for(&files, "r.io", "team/other").as_deref(), Some("v"));
        assert_eq!(user_for(&files, "docker.io", "library/debian").as_deref(), Some("w"));
        assert_eq!(user_for(&files, "other.io", "x"), None);
    }

    #[test]
    fn a_broken_file_is_a_problem_only_to_be_told_later() {
        let dir = tempfile::tempdir().unwrap();
        let broken = file(&dir, "broken", "{");
        let good = file(&dir, "good", r#"{"auths":{"r.io":{"auth":"dTpw"}}}"#);
        let found = AuthFiles::new(vec![broken.clone(), good]).look_up("r.io", "x");
        assert_eq!((found.credential.unwrap().user(), found.problem), ("u", None));
        let found = AuthFiles::new(vec![broken]).look_up("r.io", "x");
        assert!(found.problem.unwrap().contains("broken"));
    }

    #[test]
    fn a_missing_helper_program_is_a_problem_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = file(&dir, "config.json", r#"{"credHelpers":{"r.io":"absent-helper-of-a-test"}}"#);
        let found = AuthFiles::new(vec![config]).look_up("r.io", "x");
        assert!(found.credential.is_none());
        assert!(found.problem.unwrap().contains("config.json"));
    }

    #[test]
    fn files_are_found_from_the_environment_alone() {
        let env = |pairs: &[(&str, &str)]| {
            let env = pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
            AuthFiles::from_env(&env).paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            env(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")]),
            ["/r/containers/auth.json", "/h/.config/containers/auth.json", "/h/.docker/config.json"]
        );
        assert_eq!(env(&[("HOME", "/h"), ("REGISTRY_AUTH_FILE", "/x")]), ["/x"]);
        assert!(env(&[("HOME", "/h"), ("DOCKER_CONFIG", "/d")]).contains(&"/d/config.json".to_owned()));
    }

    #[test]
    fn secrets_are_not_printed() {
        let credential = Credential::Basic { user: "u".to_owned(), password: "hunter2".to_owned() };
        assert!(!format!("{credential:?}").contains("hunter2"));
    }
}
