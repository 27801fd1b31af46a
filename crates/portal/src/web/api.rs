//! The answers for programs, and for the page.

use std::io::Read as _;

use axum::Json;
use axum::extract::{Path, State};
use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};

use super::error::Refusal;
use super::guard::may_change;
use super::state::Portal;
use crate::env_vars;

type Answer = Result<Json<Value>, Refusal>;

/// boot.json is a few kB; more is not boot.json.
const BOOT_LIMIT_BYTES: u64 = 1 << 20;

pub(super) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

pub(super) async fn capabilities(State(portal): State<Portal>) -> Json<Value> {
    let gpu = portal.history().newest().is_some_and(|sample| !sample.gpus.is_empty());
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "instance": portal.env(env_vars::VAST_CONTAINERLABEL).or_else(|| portal.env(env_vars::CONTAINER_ID)),
        "workspace": portal.env(env_vars::WORKSPACE).unwrap_or("/workspace"),
        "authentication": !portal.is_open(),
        "https": portal.settings().tls.is_some(),
        "supervisor": portal.processes().await.is_ok(),
        "gpu": gpu,
        "log_streaming": true,
    }))
}

pub(super) async fn applications(State(portal): State<Portal>, headers: HeaderMap) -> Answer {
    let effective = portal.applications()?;
    let answering = portal.answering(&effective.applications).await;
    let applications: Vec<Value> = effective
        .applications
        .iter()
        .map(|app| {
            let up = answering.contains(&(app.host.clone(), app.internal_port));
            json!({
                "label": app.label,
                "hostname": app.host,
                "internal_port": app.internal_port,
                "external_port": app.external_port,
                "published_port": portal.links().published_as(app.external_port),
                "open_path": app.path,
                "proxied": app.proxied,
                "state": if up { "up" } else { "down" },
                "url": portal.links().of(app, &headers),
            })
        })
        .collect();
    Ok(Json(json!({ "applications": applications, "warnings": effective.warnings })))
}

/// The address of the application on a port of the container, external or internal.
pub(super) async fn direct_url(State(portal): State<Portal>, Path(port): Path<u16>, headers: HeaderMap) -> Answer {
    let effective = portal.applications()?;
    let by = |external: bool| {
        effective.applications.iter().find(|app| port == if external { app.external_port } else { app.internal_port })
    };
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, format!("no application has port {port}"));
    let app = by(true).or_else(|| by(false)).ok_or_else(unknown)?;
    let unpublished = || {
        Refusal::new(StatusCode::NOT_FOUND, format!("port {} is not published by the platform", app.external_port))
            .with_hint("add the port to the template, or reach it through an SSH tunnel")
    };
    let url = portal.links().of(app, &headers).ok_or_else(unpublished)?;
    Ok(Json(json!({ "label": app.label, "url": url })))
}

pub(super) async fn metrics(State(portal): State<Portal>) -> Json<Value> {
    let history = portal.history();
    Json(
        json!({ "now": history.newest(), "interval_s": super::server::SAMPLE_EVERY.as_secs(), "history": history.series() }),
    )
}

pub(super) async fn processes(State(portal): State<Portal>) -> Answer {
    let processes = portal.processes().await?;
    let shown: Vec<Value> = processes
        .iter()
        .map(|process| {
            let mut value = json!(process);
            value["stoppable"] = (!portal.is_unstoppable(&process.name)).into();
            value
        })
        .collect();
    Ok(Json(json!({ "processes": shown })))
}

pub(super) async fn change_process(
    State(portal): State<Portal>,
    Path((name, action)): Path<(String, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Answer {
    may_change(&portal, &method, &uri, &headers)?;
    let kept = |why: &str| Err(Refusal::new(StatusCode::FORBIDDEN, format!("`{name}` {why}")));
    let done = match action.as_str() {
        "start" => portal.supervisor().start(&name).await,
        "stop" if portal.is_unstoppable(&name) => return kept("cannot be stopped from the portal"),
        "stop" => portal.supervisor().stop(&name).await,
        // Supervisor would stop us before we could ask it to start us.
        "restart" if name == "instance_portal" => return kept("cannot restart itself; use `supervisorctl`"),
        "restart" => portal.supervisor().restart(&name).await,
        _ => return Err(Refusal::new(StatusCode::NOT_FOUND, format!("`{action}` is not start, stop or restart"))),
    };
    portal.processes_changed().await;
    done?;
    Ok(Json(json!({ "name": name, "action": action })))
}

/// How far boot and provisioning are.
pub(super) async fn boot(State(portal): State<Portal>) -> Json<Value> {
    let root = portal.root();
    let mut text = String::new();
    let read = std::fs::File::open(root.join("run/vast/boot.json"))
        .and_then(|file| file.take(BOOT_LIMIT_BYTES).read_to_string(&mut text));
    let record = read.ok().and_then(|_| serde_json::from_str::<Value>(&text).ok());
    Json(json!({
        "provisioning": root.join(".provisioning").exists(),
        "provisioning_failed": root.join(".provisioning_failed").exists(),
        "boot": record,
    }))
}

/// Which logs there are.
pub(super) async fn logs(State(portal): State<Portal>) -> Json<Value> {
    Json(json!({ "logs": portal.logs().list() }))
}

/// Open to everybody: lets a page find out whether an address has begun to lead here.
pub(super) async fn resolver() -> &'static str {
    "ok"
}
