//! The environment variables that the portal and its Caddyfile read: one constant each.

/// Whether requests must authenticate. Default `true`; only `false` (any case) opens every port.
pub const ENABLE_AUTH: &str = "ENABLE_AUTH";

/// External ports that need no authentication, separated by commas. Default empty.
pub const AUTH_EXCLUDE: &str = "AUTH_EXCLUDE";

/// Whether the proxied ports speak TLS with the instance's certificate. Default `false`; ignored, with a warning, while
/// the pair is unusable.
pub const ENABLE_HTTPS: &str = "ENABLE_HTTPS";

/// The user name of HTTP basic authentication. Default `vastai`.
pub const WEB_USERNAME: &str = "WEB_USERNAME";

/// A password chosen by the user; accepted wherever [`OPEN_BUTTON_TOKEN`] is. Default none.
pub const WEB_PASSWORD: &str = "WEB_PASSWORD";

/// The token that the platform's Open button sends as `?token=`. Default none; with neither this nor [`WEB_PASSWORD`] a
/// random token is made and kept.
pub const OPEN_BUTTON_TOKEN: &str = "OPEN_BUTTON_TOKEN";

/// The instance's name on the platform, such as `C.12345`; prefix of the authentication cookie's name. Default
/// `instance`.
pub const VAST_CONTAINERLABEL: &str = "VAST_CONTAINERLABEL";

/// How often Caddy flushes what an application streams: a duration such as `100ms`, or `-1` for at once. Default `-1`.
pub const CADDY_FLUSH_INTERVAL: &str = "CADDY_FLUSH_INTERVAL";

/// Whether Caddy compresses (zstd, gzip) answers of known length that the application left uncompressed. Default
/// `true`.
pub const CADDY_ENABLE_COMPRESSION: &str = "CADDY_ENABLE_COMPRESSION";

/// Origins that may call the applications from other sites, separated by commas: `https://host[:port]`, or `*` for all,
/// without credentials. Default none.
pub const CADDY_CORS_ALLOWED_ORIGINS: &str = "CADDY_CORS_ALLOWED_ORIGINS";

/// Applications that are told they are called as `localhost` (`Host` and `Origin`): `true` for all, or external ports
/// separated by commas. Default none.
pub const CADDY_HEADER_UP_LOCALHOST: &str = "CADDY_HEADER_UP_LOCALHOST";

/// Supervisor programs that the portal does not stop, separated by commas, beside `instance_portal` and `caddy`.
/// Default empty.
pub const PORTAL_UNSTOPPABLE: &str = "PORTAL_UNSTOPPABLE";

/// The user's directory on the volume; the portal shows its disk. Default `/workspace`.
pub const WORKSPACE: &str = "WORKSPACE";

/// The public address of the instance, for direct links. Default none: links use the address in the browser.
pub const PUBLIC_IPADDR: &str = "PUBLIC_IPADDR";

/// Prefix of the variables naming where the platform publishes a container port, as in `VAST_TCP_PORT_8080=41234`.
pub const VAST_TCP_PORT_PREFIX: &str = "VAST_TCP_PORT_";

/// The instance's number on the platform; shown in the page's head. Default none.
pub const CONTAINER_ID: &str = "CONTAINER_ID";

/// The application's name under Supervisor (its `[program:…]`), which names its logs and its skip marker. Set by the
/// program's configuration; default none: only standard output is written.
pub const PROC_NAME: &str = "PROC_NAME";

/// `true` makes the shell function `pty` run its command plainly, without a pseudo-terminal. Default `false`.
pub const DISABLE_PTY: &str = "DISABLE_PTY";

/// The width that `vast-pty` gives its terminal, in characters, where its own output is no terminal. Default 120.
pub const COLUMNS: &str = "COLUMNS";

/// The height that `vast-pty` gives its terminal, in lines, where its own output is no terminal. Default 30.
pub const LINES: &str = "LINES";
