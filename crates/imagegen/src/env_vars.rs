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

/// Default: 315532800 (1980-01-01, the earliest that a zip archive can hold). Seconds since 1970. The time that a built
/// image and every new file in it get (reproducible-builds.org, "`SOURCE_DATE_EPOCH` specification").
pub const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Default: `~/.cache`. Indexes of base layers are kept in `vast-imagegen` under it.
pub const XDG_CACHE_HOME: &str = "XDG_CACHE_HOME";

/// Default: none. The commit that is recorded as an image's revision, as GitHub sets it; `--revision` goes before it.
pub const GITHUB_SHA: &str = "GITHUB_SHA";

/// Default: none. Where the programs of other engines, `buildah` and `docker`, are looked for.
pub const PATH: &str = "PATH";
