//! Logs as they grow, and as files.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::error::Refusal;
use super::guard::same_origin;
use super::state::Portal;
use crate::logs::{Chunk, LogFile, Tail};

/// How often a quiet log is looked at. A line reaches the page in well under 100 ms.
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// How often new logs are looked for, where all are followed.
const LIST_EVERY: u32 = 50;
/// How much of the past one log shows; of each of many, less.
const BACKLOG_BYTES: u64 = 256 << 10;
const BACKLOG_OF_MANY_BYTES: u64 = 8 << 10;
/// A viewer that does not take a message for so long is gone.
const SEND_LIMIT: Duration = Duration::from_secs(30);
/// What a viewer that confirms what it has shown may have unconfirmed. Without that the buffers of the connection and of
/// the proxy hold several megabytes of a busy log, and the viewer sees what was written seconds ago.
const WINDOW_BYTES: usize = 192 << 10;
/// Keeps proxies from closing a quiet connection, in looks: 20 s.
const PING_EVERY: u32 = 500;

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// One log; all of them without it.
    file: Option<String>,
    /// The viewer confirms every message with one of its own, whatever it holds, once it has shown it.
    #[serde(default)]
    confirm: bool,
}

/// `WS /ws-logs?file=&confirm=`: JSON messages `{"type": "text" | "skipped" | "restarted", "file", "text" | "bytes"}`.
pub(super) async fn follow(
    State(portal): State<Portal>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    // Browsers let every page open a websocket anywhere, cookies included, and say only from where.
    if same_origin(&headers) == Some(false) {
        return Refusal::new(StatusCode::FORBIDDEN, "pages of other origins do not read logs here").into_response();
    }
    upgrade.on_upgrade(move |socket| async move { stream_logs(portal, wanted, socket).await })
}

async fn stream_logs(portal: Portal, Wanted { file, confirm }: Wanted, mut socket: WebSocket) {
    let tail = |name: String, backlog| Tail::new(portal.logs().clone(), name, backlog);
    let all = file.is_none();
    let mut tails: Vec<Tail> = file.into_iter().map(|name| tail(name, BACKLOG_BYTES)).collect();
    let mut looks: u32 = 0;
    let mut unconfirmed: VecDeque<usize> = VecDeque::new();
    loop {
        if all && looks.is_multiple_of(LIST_EVERY) {
            for log in portal.logs().list().into_iter().filter(LogFile::is_current) {
                if tails.iter().all(|tail| tail.name() != log.name) {
                    tails.push(tail(log.name, BACKLOG_OF_MANY_BYTES));
                }
            }
        }
        let mut quiet = true;
        for tail in &mut tails {
            if unconfirmed.iter().sum::<usize>() > WINDOW_BYTES {
                break;
            }
            if let Ok(Some(chunk)) = tail.step() {
                quiet = false;
                let text = message(tail.name(), chunk);
                if confirm {
                    unconfirmed.push_back(text.len());
                }
                if !send(&mut socket, Message::Text(text.into())).await {
                    return;
                }
            }
        }
        if looks % PING_EVERY == PING_EVERY - 1 && !send(&mut socket, Message::Ping(bytes::Bytes::new())).await {
            return;
        }
        looks = looks.wrapping_add(1);
        // Also between the steps of a busy log, so that a closed page is noticed and others get their turn.
        let pause = if quiet { LOOK_EVERY } else { Duration::from_millis(1) };
        tokio::select! {
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(Message::Text(_))) => drop(unconfirmed.pop_front()),
                Some(Ok(_)) => {}
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(tokio::time::timeout(SEND_LIMIT, socket.send(message)).await, Ok(Ok(())))
}

fn message(file: &str, chunk: Chunk) -> String {
    let value = match chunk {
        Chunk::Text(text) => json!({ "type": "text", "file": file, "text": text }),
        Chunk::Skipped(bytes) => json!({ "type": "skipped", "file": file, "bytes": bytes }),
        Chunk::Restarted => json!({ "type": "restarted", "file": file }),
    };
    value.to_string()
}

/// `GET /download-logs?file=`: one log as it is now, or all of them one after the other.
pub(super) async fn download(State(portal): State<Portal>, Query(wanted): Query<Wanted>) -> Result<Response, Refusal> {
    let absent = |_| Refusal::new(StatusCode::NOT_FOUND, "there is no such log");
    let (name, body) = match wanted.file {
        Some(name) => {
            let file = portal.logs().open(&name).map_err(absent)?;
            (name, as_it_is_now(file).map_err(absent)?)
        }
        None => ("instance-logs.txt".to_owned(), all_logs(portal)),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // A name is printable, but may hold what means something in a header.
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{plain}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// A log up to its present end: a busy one would never be done.
fn as_it_is_now(file: std::fs::File) -> std::io::Result<Body> {
    let size = file.metadata()?.len();
    Ok(Body::from_stream(ReaderStream::new(tokio::fs::File::from_std(file).take(size))))
}

fn all_logs(portal: Portal) -> Body {
    let logs = portal.logs().list();
    let parts = stream::iter(logs).filter_map(move |log| {
        let opened = portal.logs().open(&log.name);
        async move {
            let (file, head) = (opened.ok()?, format!("==> {} <==\n", log.name));
            let body = as_it_is_now(file).ok()?.into_data_stream();
            let ends = [stream::iter([Ok(head.into())]), stream::iter([Ok(bytes::Bytes::from_static(b"\n"))])];
            let [head, end] = ends;
            Some(head.chain(body).chain(end))
        }
    });
    Body::from_stream(parts.flatten())
}
