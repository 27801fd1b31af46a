//! The environment variables that this crate reads, each with its default, its unit and its meaning.

/// Default: none. The one file of registry credentials, in place of all others, as for podman and skopeo.
pub const REGISTRY_AUTH_FILE: &str = "REGISTRY_AUTH_FILE";

/// Default: `~/.docker`. The folder of Docker's `config.json`, which holds registry credentials.
pub const DOCKER_CONFIG: &str = "DOCKER_CONFIG";

/// Default: `/run/containers/<uid>`. Registry credentials are looked for in `containers/auth.json` under it.
pub const XDG_RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";

/// Default: `~/.config`. Registry credentials are looked for in `containers/auth.json` under it.
pub const XDG_CONFIG_HOME: &str = "XDG_CONFIG_HOME";

/// Default: none. The folder that `~` stands for in the defaults above.
pub const HOME: &str = "HOME";
