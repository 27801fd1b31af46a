//! Routes, listeners, and the thread that takes samples.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, get, post};
use http::{HeaderValue, header};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::state::Portal;
use super::{api, assets, guard, live};
use crate::metrics::Sampler;
use crate::{Error, auth, env_vars};

/// How often the system is looked at.
pub(super) const SAMPLE_EVERY: Duration = Duration::from_secs(2);

/// How to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The root of the system that is shown.
    pub root: PathBuf,
    /// Its environment.
    pub env: BTreeMap<String, String>,
}

/// Serves until SIGTERM or SIGINT. `ready` is told the address once both it and the access socket are listened on.
///
/// # Errors
/// When the secrets cannot be read or made, or an address cannot be listened on.
pub fn serve(options: Options, ready: impl FnOnce(SocketAddr)) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // For files that are downloaded; each thread costs memory.
        .max_blocking_threads(2)
        .thread_keep_alive(Duration::from_secs(5))
        .build()
        .map_err(|source| Error::Listen { address: options.listen.to_string(), source })?;
    runtime.block_on(run(options, ready))
}

async fn run(options: Options, ready: impl FnOnce(SocketAddr)) -> Result<(), Error> {
    let portal = Portal::new(&options.root, options.env, options.listen)?;
    let access = auth::bind_private(&portal.settings().auth_socket)?;
    let cannot = |source| Error::Listen { address: options.listen.to_string(), source };
    let listener = TcpListener::bind(options.listen).await.map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    ready(listener.local_addr().map_err(cannot)?);

    sample_in_background(&portal);
    let access =
        std::future::IntoFuture::into_future(axum::serve(access, auth::router(portal.authenticator().clone())));
    let pages = std::future::IntoFuture::into_future(axum::serve(listener, router(portal.clone())));
    // Neither service ends by itself, and a stopping portal does not wait for viewers of logs.
    tokio::select! {
        ended = access => ended.map_err(cannot),
        ended = pages => ended.map_err(cannot),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// All routes of the web application.
pub fn router(portal: Portal) -> Router {
    Router::new()
        .route("/", get(assets::page))
        .route("/assets/{*name}", get(assets::file))
        .route("/openapi.json", get(assets::openapi))
        .route("/health", get(api::health))
        .route("/capabilities", get(api::capabilities))
        .route("/get-applications", get(api::applications))
        .route("/get-direct-url/{port}", get(api::direct_url))
        .route("/system-metrics", get(api::metrics))
        .route("/boot", get(api::boot))
        .route("/logs", get(api::logs))
        .route("/portal-resolver", get(api::resolver))
        .route("/supervisor/processes", get(api::processes))
        .route("/supervisor/process/{name}/{action}", post(api::change_process))
        .route("/ws-logs", any(live::follow))
        .route("/download-logs", get(live::download))
        .layer(from_fn(common_headers))
        .layer(from_fn_with_state(portal.clone(), guard::addressed_to_us))
        .with_state(portal)
}

async fn common_headers(request: axum::extract::Request, next: axum::middleware::Next) -> axum::response::Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A disk that hangs (a network file system, say) then holds up the gauges and nothing else.
fn sample_in_background(portal: &Portal) {
    let workspace = portal.env(env_vars::WORKSPACE).unwrap_or("/workspace").to_owned();
    let mut sampler = Sampler::new(portal.root(), &workspace);
    let portal = portal.clone();
    std::thread::spawn(move || {
        loop {
            let sample = sampler.sample(Vec::new());
            portal.history().push(sample);
            std::thread::sleep(SAMPLE_EVERY);
        }
    });
}
