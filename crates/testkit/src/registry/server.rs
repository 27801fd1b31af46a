//! Connections and faults: what happens to a request before and after the API has its turn.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::faults::{Kind, meet};
use super::{Logged, Shared, api};

/// A request with its whole body.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A body that may break off, which closes the connection.
pub(super) struct Answer {
    content: Bytes,
    /// What the headers say, in bytes.
    length: u64,
    cut: Cut,
}

#[derive(Debug, Clone, Copy)]
enum Cut {
    Never,
    After(usize),
    Flush,
    Now,
}

impl Answer {
    pub(super) fn new(content: impl Into<Bytes>) -> Self {
        let content = content.into();
        Self { length: content.len() as u64, content, cut: Cut::Never }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.cut {
            Cut::Never if self.content.is_empty() => Poll::Ready(None),
            Cut::Never => Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.content))))),
            Cut::After(bytes) => {
                let bytes = bytes.min(self.content.len());
                self.cut = Cut::Flush;
                Poll::Ready(Some(Ok(Frame::data(self.content.split_to(bytes)))))
            }
            // What was given so far only leaves when the body has nothing to give for a moment.
            Cut::Flush => {
                self.cut = Cut::Now;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Cut::Now => Poll::Ready(Some(Err(io::Error::other("cut by order")))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

pub(super) async fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let service = service_fn(|request| handle(Arc::clone(&shared), request));
            // A connection that breaks, by order or because the client leaves, is nobody's failure.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn handle(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Answer>, io::Error> {
    let (parts, body) = request.into_parts();
    let (method, uri) = (parts.method, parts.uri);
    let target = uri.path_and_query().map_or_else(String::new, ToString::to_string);
    let running = Running::new(&shared);
    let fault = meet(&mut shared.state().faults, method.as_str(), &target);
    let index = {
        let mut state = shared.state();
        let authorized = parts.headers.contains_key(http::header::AUTHORIZATION);
        state.log.push(Logged { method: method.to_string(), target: target.clone(), status: 0, authorized });
        state.log.len() - 1
    };
    let cut = || io::Error::other("cut by order");
    let limit = match &fault {
        Some(Kind::Cut) => return Err(cut()),
        Some(Kind::Hang) => std::future::pending().await,
        Some(Kind::CutUpload(bytes)) => Some(*bytes),
        _ => None,
    };
    let body = read(body, limit).await.ok_or_else(cut)?;
    let query = uri.query().unwrap_or_default();
    let call = Call { method, path: uri.path().to_owned(), query: parse_query(query), headers: parts.headers, body };
    let mut response = match &fault {
        Some(Kind::Status(status)) => plain(*status),
        Some(Kind::RetryAfter(status, after)) => {
            let mut response = plain(*status);
            response.headers_mut().insert(http::header::RETRY_AFTER, after.parse().unwrap());
            response
        }
        Some(Kind::ExpireToken) => {
            shared.state().auth.expire(&call.headers);
            api::answer(&shared, &call)
        }
        Some(Kind::Undone) => {
            let before = shared.state().store.clone();
            let response = api::answer(&shared, &call);
            shared.state().store = before;
            response
        }
        _ => api::answer(&shared, &call),
    };
    let body = response.body_mut();
    match fault {
        Some(Kind::CutAnswer(bytes)) => body.cut = Cut::After(bytes),
        Some(Kind::Truncate(bytes)) => {
            body.content.truncate(bytes);
            body.length = body.content.len() as u64;
            response.headers_mut().remove(http::header::CONTENT_LENGTH);
        }
        Some(Kind::Corrupt) if !body.content.is_empty() => {
            let mut content = BytesMut::from(&body.content[..]);
            let middle = content.len() / 2;
            content[middle] ^= 1;
            body.content = content.freeze();
        }
        _ => {}
    }
    shared.state().log[index].status = response.status().as_u16();
    drop(running);
    Ok(response)
}

/// Counts a request as long as it runs.
struct Running<'a>(&'a Shared);

impl<'a> Running<'a> {
    fn new(shared: &'a Shared) -> Self {
        let mut state = shared.state();
        state.running += 1;
        state.most_running = state.most_running.max(state.running);
        drop(state);
        Self(shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.state().running -= 1;
    }
}

/// The whole body; `None` when it broke off, or reached the limit at which it is to.
async fn read(mut body: Incoming, limit: Option<usize>) -> Option<Bytes> {
    let mut content = BytesMut::new();
    loop {
        if limit.is_some_and(|limit| content.len() >= limit) {
            return None;
        }
        match body.frame().await {
            Some(Ok(frame)) => content.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(_)) => return None,
            None => return if limit.is_some() { None } else { Some(content.freeze()) },
        }
    }
}

fn plain(status: u16) -> Response<Answer> {
    let text = format!("{{\"errors\":[{{\"code\":\"UNKNOWN\",\"message\":\"fault {status} by order\"}}]}}");
    let mut response = Response::new(Answer::new(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// `a=b&c=d`, decoded.
pub(super) fn parse_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}
