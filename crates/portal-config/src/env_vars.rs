//! The environment variables that this crate reads.

/// The applications of the instance: entries `host:port:port:path:label` separated by `|`.
///
/// Default: empty. Read at boot and by the proxy, unless `/etc/portal.yaml` lists applications already.
pub const PORTAL_CONFIG: &str = "PORTAL_CONFIG";

/// Which port of an entry is the application's own: `internal-first` or `external-first`.
///
/// Default: unset. It only decides entries of which the platform publishes both ports or neither.
pub const PORTAL_PORT_ORDER: &str = "PORTAL_PORT_ORDER";

/// Prefix of the variables by which the platform publishes ports: `VAST_TCP_PORT_<port in the container>`.
///
/// Its value is the public port, 1–65535. Set and not empty means published. Default: not published.
pub const VAST_TCP_PORT_: &str = "VAST_TCP_PORT_";

/// `false` keeps boot from adding Jupyter to an instance in entrypoint mode.
///
/// Default: `true`.
pub const FORCE_JUPYTER: &str = "FORCE_JUPYTER";

/// `true` makes the image run its own Jupyter even where the platform runs one or offers SSH only.
///
/// Default: `false`.
pub const JUPYTER_OVERRIDE: &str = "JUPYTER_OVERRIDE";
