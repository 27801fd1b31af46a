//! The file's text.

use std::fmt::{self, Write as _};
use std::path::Path;

use vast_portal_config::Application;

use super::placeholder;
use super::settings::{Cors, Settings};
use super::site::{Site, plan};
use crate::auth::{AUTH_PATH, LOGIN_PATH, QUERY_HEADER, STRIP_HEADER};

/// Types whose answers are worth compressing. Streams are not among those compressed whatever their type: only an
/// answer whose length is known is, because Caddy's encoders hold back what they were given until they have enough.
const COMPRESSED: [&str; 8] = [
    "text/html*",
    "text/css*",
    "text/plain*",
    "text/javascript*",
    "application/javascript*",
    "application/json*",
    "application/wasm*",
    "image/svg+xml*",
];

/// What keeps secrets out of every log: the query (a token), and all headers (Cookie, Authorization, Referer).
const LOG_FIELDS: &str = "request>uri regexp \"\\?.*\" \"\"
request>headers delete
resp_headers delete";

/// Writes the Caddyfile of these applications. The same input gives the same bytes.
#[must_use]
pub fn render(applications: &[Application], settings: &Settings) -> String {
    let mut file = Writer::default();
    file.line("# Written by `vast-portal caddy` from /etc/portal.yaml; changes here do not last.");
    global(&mut file, settings);
    snippets(&mut file, settings);
    for site in plan(applications).sites {
        self::site(&mut file, &site, settings);
    }
    file.text
}

fn global(file: &mut Writer, settings: &Settings) {
    file.block("", |file| {
        file.line(format_args!("admin {}", unix(&settings.admin_socket)));
        file.line("auto_https off");
        // Open websockets must not keep a stopping Caddy from stopping.
        file.line("grace_period 3s");
        file.block("servers", |file| {
            file.line("protocols h1 h2");
            if settings.tls.as_ref().is_some_and(|tls| tls.redirect_http) {
                file.block("listener_wrappers", |file| {
                    file.line("http_redirect");
                    file.line("tls");
                });
            }
        });
        file.block("log", |file| log_format(file, "console"));
    });
}

fn log_format(file: &mut Writer, wrap: &str) {
    file.block("format filter", |file| {
        file.line(format_args!("wrap {wrap}"));
        file.block("fields", |file| LOG_FIELDS.lines().for_each(|line| file.line(line)));
    });
}

fn snippets(file: &mut Writer, settings: &Settings) {
    file.blank();
    file.block("(access_log)", |file| {
        file.block("log", |file| {
            file.block(format_args!("output file {}", path(&settings.access_log)), |file| {
                file.line("roll_size 5MiB");
                file.line("roll_keep 1");
            });
            log_format(file, "json");
        });
    });
    file.blank();
    client(file);
    file.blank();
    file.block("(authenticate)", |file| authenticate(file, settings));
    file.blank();
    file.block("(strip)", strip);
    file.blank();
    file.block("(own_cookie)", |file| own_cookie(file, &settings.cookie_name));
}

/// Who asks, and how: a tunnel connects from loopback and says so in headers, which count from nowhere else.
fn client(file: &mut Writer) {
    const LOOPBACK: &str = "remote_ip 127.0.0.0/8 ::1";
    file.block("(client)", |file| {
        file.block("vars", |file| {
            file.line("client {remote_host}");
            file.line("proto {scheme}");
            file.line("origin {header.Origin}");
        });
        file.block("@tunnel_client", |file| {
            file.line(LOOPBACK);
            file.line("header Cf-Connecting-Ip *");
        });
        file.line("vars @tunnel_client client {header.Cf-Connecting-Ip}");
        file.block("@tunnel_https", |file| {
            file.line(LOOPBACK);
            file.line("header Cf-Visitor *\"https\"*");
        });
        file.line("vars @tunnel_https proto https");
        file.line(format_args!("@no_tunnel not {LOOPBACK}"));
        file.line("request_header @no_tunnel -Cf-Connecting-Ip");
        file.line("request_header @no_tunnel -Cf-Visitor");
    });
}

/// Asks whether the request may pass. Everything but 204 is the client's answer; nobody there to ask is 502.
fn authenticate(file: &mut Writer, settings: &Settings) {
    let socket = unix(&settings.auth_socket);
    file.line(format_args!("@login path {LOGIN_PATH}"));
    file.block(format_args!("reverse_proxy @login {socket}"), |file| {
        file.line("header_up X-Forwarded-Proto {vars.proto}");
        file.line("header_up X-Real-Ip {vars.client}");
    });
    file.block(format_args!("reverse_proxy {socket}"), |file| {
        file.line("method GET");
        file.line(format_args!("rewrite {AUTH_PATH}"));
        file.line("header_up X-Forwarded-Method {method}");
        file.line("header_up X-Forwarded-Uri {uri}");
        file.line("header_up X-Forwarded-Proto {vars.proto}");
        file.line("header_up X-Real-Ip {vars.client}");
        // A portal that restarts is back before anybody notices.
        file.line("lb_try_duration 5s");
        file.line("lb_try_interval 50ms");
        file.line("@pass status 204");
        file.block("handle_response @pass", |file| {
            file.line(format_args!("request_header {STRIP_HEADER} {{rp.header.{STRIP_HEADER}}}"));
            file.line(format_args!("request_header {QUERY_HEADER} {{rp.header.{QUERY_HEADER}}}"));
        });
    });
}

/// Removes what proved the request, as the answer said.
fn strip(file: &mut Writer) {
    file.line(format_args!("@strip_authorization header {STRIP_HEADER} *authorization*"));
    file.line("request_header @strip_authorization -Authorization");
    file.line(format_args!("@strip_query header {STRIP_HEADER} *query*"));
    // `uri query` is newer than 2.6, and `rewrite` escapes what a placeholder holds.
    file.line(format_args!("uri @strip_query replace {{query}} {{header.{QUERY_HEADER}}}"));
    file.line(format_args!("request_header -{STRIP_HEADER}"));
    file.line(format_args!("request_header -{QUERY_HEADER}"));
}

/// Takes our cookie out of the Cookie header. The replacement refers to a group that does not exist, which is how to
/// say "nothing": an empty one would set the header instead.
fn own_cookie(file: &mut Writer, name: &str) {
    let name = name.replace('.', "\\.");
    file.line(format_args!("request_header Cookie \"^(?:{name}=[^;]*(?:; *|$))+\" \"$1\""));
    file.line(format_args!("request_header Cookie \"; *{name}=[^;]*\" \"$1\""));
    file.line("@no_cookie header Cookie \"\"");
    file.line("request_header @no_cookie -Cookie");
}

fn site(file: &mut Writer, site: &Site, settings: &Settings) {
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    file.blank();
    file.block(format_args!("{scheme}://:{}", site.port), |file| {
        if let Some(tls) = &settings.tls {
            file.line(format_args!("tls {} {}", path(&tls.certificate), path(&tls.key)));
        }
        file.line("import access_log");
        if settings.compression {
            file.block("encode", |file| {
                file.line("zstd");
                file.line("gzip");
                file.block("match", |file| {
                    file.line("header Content-Length *");
                    for kind in COMPRESSED {
                        file.line(format_args!("header Content-Type {kind}"));
                    }
                });
            });
        }
        file.block("route", |file| {
            file.line("import client");
            cors(file, &settings.cors);
            if settings.authentication && !settings.open_ports.contains(&site.port) {
                file.line("import authenticate");
                if !site.is_portal() {
                    file.line("import strip");
                }
            }
            // The portal gave the cookie, and tells by it and by Authorization who may change something.
            if !site.is_portal() {
                file.line("import own_cookie");
            }
            upstream(file, site, settings);
        });
        starting(file, site);
    });
}

fn cors(file: &mut Writer, cors: &Cors) {
    let origins: Vec<&str> = match cors {
        Cors::None => return,
        Cors::Any => vec!["*"],
        Cors::Origins(origins) => origins.iter().map(String::as_str).collect(),
    };
    let allow = |file: &mut Writer| {
        if *cors == Cors::Any {
            file.line("Access-Control-Allow-Origin *");
        } else {
            file.line("Access-Control-Allow-Origin {vars.origin}");
            file.line("Access-Control-Allow-Credentials true");
            file.line("+Vary Origin");
        }
        file.line("defer");
    };
    let from = |file: &mut Writer| origins.iter().for_each(|origin| file.line(format_args!("header Origin {origin}")));
    file.block("@cors", from);
    file.block("header @cors", allow);
    file.block("@preflight", |file| {
        file.line("method OPTIONS");
        file.line("header Access-Control-Request-Method *");
        from(file);
    });
    file.block("route @preflight", |file| {
        file.block("header", |file| {
            file.line("Access-Control-Allow-Methods {header.Access-Control-Request-Method}");
            file.line("Access-Control-Allow-Headers {header.Access-Control-Request-Headers}");
            file.line("Access-Control-Max-Age 600");
        });
        file.line("respond 204");
    });
}

fn upstream(file: &mut Writer, site: &Site, settings: &Settings) {
    let as_localhost = settings.as_localhost.contains(site.port);
    if as_localhost {
        file.line("@origin header Origin *");
        file.line(format_args!("request_header @origin Origin http://localhost:{}", site.upstream_port));
    }
    file.block(format_args!("reverse_proxy {}", site.upstream()), |file| {
        file.line(format_args!("flush_interval {}", settings.flush_interval));
        if as_localhost {
            file.line(format_args!("header_up Host localhost:{}", site.upstream_port));
        } else {
            file.line("header_up Host {upstream_hostport}");
        }
        file.line("header_up X-Real-Ip {vars.client}");
        file.line("header_up X-Forwarded-For {vars.client}");
        file.line("header_up X-Forwarded-Proto {vars.proto}");
        file.line("header_down -X-Portal-Placeholder");
    });
}

/// Answers in the application's place while it does not. Cloudflare replaces a 502 with a page of its own, which does
/// not refresh itself.
fn starting(file: &mut Writer, site: &Site) {
    file.block("handle_errors", |file| {
        file.line("@starting expression {http.error.status_code} in [502, 503, 504]");
        file.block("route @starting", |file| {
            file.block("header", |file| {
                file.line("X-Portal-Placeholder true");
                file.line("Cache-Control no-store");
                file.line("Retry-After 3");
                file.line("Content-Type \"text/html; charset=utf-8\"");
            });
            file.line("vars status 502");
            file.line("@cloudflare header Cf-Ray *");
            file.line("vars @cloudflare status 200");
            file.line("@page header Accept *text/html*");
            file.line(format_args!("respond @page `{}` {{vars.status}}", placeholder::page(&site.label)));
            file.line("header Content-Type \"text/plain; charset=utf-8\"");
            file.line("respond \"The application is starting.\" {vars.status}");
        });
    });
}

/// A path in double quotes; [`publish`](super::publish) lets only harmless characters come here.
fn path(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

fn unix(socket: &Path) -> String {
    format!("\"unix/{}\"", socket.display())
}

/// Text with Caddy's own indentation, as `caddy fmt` writes it.
#[derive(Default)]
struct Writer {
    text: String,
    depth: usize,
}

impl Writer {
    fn line(&mut self, text: impl fmt::Display) {
        self.text.extend(std::iter::repeat_n('\t', self.depth));
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{text}");
    }

    fn blank(&mut self) {
        self.text.push('\n');
    }

    fn block(&mut self, head: impl fmt::Display, body: impl FnOnce(&mut Self)) {
        let head = head.to_string();
        self.line(if head.is_empty() { "{".to_owned() } else { format!("{head} {{") });
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.line("}");
    }
}
