//! Every environment variable that the boot sequence reads or sets, with its default, unit and meaning.

/// The user's directory. Default `/workspace`; a volume when the instance has one. Stages run with it as working directory.
pub const WORKSPACE: &str = "WORKSPACE";

/// Alias of `WORKSPACE`. Default: the value of `WORKSPACE`.
pub const DATA_DIRECTORY: &str = "DATA_DIRECTORY";

/// Defines the Instance Portal's applications (guide, "Portal Integration"). Default: what the image sets. Stage 10 applies the Jupyter rules to it.
pub const PORTAL_CONFIG: &str = "PORTAL_CONFIG";

/// A script run once, at stage 75: an `https://` or `http://` URL or a local path, with an optional `#sha256=<hex>` that must match. Default: none.
pub const PROVISIONING_SCRIPT: &str = "PROVISIONING_SCRIPT";

/// A declarative form of provisioning that this version does not run; it is said and recorded. Default: none.
pub const PROVISIONING_MANIFEST: &str = "PROVISIONING_MANIFEST";

/// A script run at every boot, at stage 15; written as `PROVISIONING_SCRIPT` is. Default: none.
pub const HOTFIX_SCRIPT: &str = "HOTFIX_SCRIPT";

/// A script that replaces the whole boot sequence; written as `PROVISIONING_SCRIPT` is. Default: none.
pub const BOOT_SCRIPT: &str = "BOOT_SCRIPT";

/// `true` skips the updates and what depends on the portal. Default `false`.
pub const SERVERLESS: &str = "SERVERLESS";

/// Where Hugging Face libraries keep models. Default `$WORKSPACE/.hf_home`.
pub const HF_HOME: &str = "HF_HOME";

/// The number of the instance, set by the platform. Default: none.
pub const CONTAINER_ID: &str = "CONTAINER_ID";

/// The label of the instance (`C.<id>`), set by the platform; names the instance when `CONTAINER_ID` is not set. Default: none.
pub const VAST_CONTAINERLABEL: &str = "VAST_CONTAINERLABEL";

/// The name of the venv in `/venv` that a login shell activates. Default `main`.
pub const ACTIVE_VENV: &str = "ACTIVE_VENV";

/// How many freezes of each venv `48-venv-backup` keeps. Default 48; 0 turns it off.
pub const VENV_BACKUP_COUNT: &str = "VENV_BACKUP_COUNT";

/// Seconds that a shell stage may take before it is ended. Default: no limit.
pub const VAST_BOOT_STAGE_TIMEOUT: &str = "VAST_BOOT_STAGE_TIMEOUT";

/// `true` serves the applications over TLS. Default `false`; set to `false` at stage 55 when there is no usable certificate.
pub const ENABLE_HTTPS: &str = "ENABLE_HTTPS";

/// Where stage 55 posts its certificate request; `instance_id` is appended to its query. Default: the platform's endpoint.
pub const VAST_SIGN_URL: &str = "VAST_SIGN_URL";

/// Seconds that stage 55 may take to ask for a certificate, all tries together. Default 30.
pub const VAST_SIGN_TIMEOUT: &str = "VAST_SIGN_TIMEOUT";

/// `true` runs the image's own Jupyter although the platform runs one, or in SSH mode. Default `false`; set by `--jupyter-override`.
pub const JUPYTER_OVERRIDE: &str = "JUPYTER_OVERRIDE";

/// `false` stops stage 10 from adding Jupyter to `PORTAL_CONFIG`. Default `true`; set to `false` by `--no-force-jupyter`.
pub const FORCE_JUPYTER: &str = "FORCE_JUPYTER";

/// `true` keeps stage 05 from CUDA forward compatibility. Default `false`; set to `true` by `--no-forward-compat`.
pub const DISABLE_FORWARD_COMPAT: &str = "DISABLE_FORWARD_COMPAT";

/// The search path of programs. Default when unset: the directories of a Debian root login.
pub const PATH: &str = "PATH";

/// Root's home. Default when unset: `/root`.
pub const HOME: &str = "HOME";

/// Proxy for `https://` scripts, a URL. Default: none.
pub const HTTPS_PROXY: &str = "HTTPS_PROXY";

/// Proxy for `http://` scripts, a URL. Default: none.
pub const HTTP_PROXY: &str = "HTTP_PROXY";

/// Proxy for every script whose scheme has none of its own, a URL. Default: none.
pub const ALL_PROXY: &str = "ALL_PROXY";

/// Hosts that are reached without a proxy, separated by commas. Default: none.
pub const NO_PROXY: &str = "NO_PROXY";
