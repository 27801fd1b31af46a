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
use super::{Logged, Shared, api, upstream};

/// A request with its whole body.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The query as it came.
    raw_query: String,
}

impl Call {
    /// Path and query.
    pub(super) fn target(&self) -> String {
        if self.raw_query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.raw_query) }
    }

    /// Makes a mount an ordinary upload.
    fn decline_mount(&mut self) {
        let declined = |name: &str| name == "mount" || name == "from";
        self.query.retain(|(name, _)| !declined(name));
        let kept = self.raw_query.split('&').filter(|pair| !declined(pair.split('=').next().unwrap_or_default()));
        self.raw_query = kept.collect::<Vec<_>>().join("&");
    }
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
        let logged = Logged { method: method.to_string(), target, status: 0, authorized, fault: fault.clone() };
        state.log.push(logged);
        state.log.len() - 1
    };
    let limit = match &fault {
        Some(Kind::Cut) => return Err(cut()),
        Some(Kind::Hang) => std::future::pending().await,
        Some(Kind::CutUpload(bytes)) => Some(*bytes),
        _ => None,
    };
    let declared = http_body_length(&body);
    let (body, complete) = read(body, limit).await;
    let query = uri.query().unwrap_or_default();
    let mut call = Call {
        method,
        path: uri.path().to_owned(),
        query: parse_query(query),
        headers: parts.headers,
        body,
        raw_query: query.to_owned(),
    };
    if !complete {
        // What came so far arrives behind a proxy, too, and then nothing more.
        if let Some(host) = &shared.behaviour.upstream {
            let part = Answer { length: declared, cut: Cut::After(call.body.len()), content: call.body.clone() };
            let _ = upstream::forward(host, &call, part, false).await;
        }
        return Err(cut());
    }
    match &fault {
        Some(Kind::DeclineMount) => call.decline_mount(),
        Some(Kind::CorruptUpload) => call.body = corrupted(&call.body),
        Some(Kind::ExpireToken) => shared.state().auth.expire(&call.headers),
        _ => {}
    }
    let mut response = match &fault {
        Some(Kind::Status(status)) => plain(*status),
        Some(Kind::RetryAfter(status, after)) => {
            let mut response = plain(*status);
            response.headers_mut().insert(http::header::RETRY_AFTER, after.parse().unwrap());
            response
        }
        Some(Kind::Undone) => {
            let before = shared.state().store.clone();
            let response = answer(&shared, &mut call).await?;
            shared.state().store = before;
            response
        }
        _ => answer(&shared, &mut call).await?,
    };
    if call.method == Method::HEAD {
        response = without_body(response);
    }
    if fault == Some(Kind::CutBeforeAnswer) {
        return Err(cut());
    }
    if let Some(Kind::Late(delay)) = &fault {
        tokio::time::sleep(*delay).await;
    }
    if let Some(fault) = &fault {
        alter(&mut response, fault, &shared);
    }
    shared.state().log[index].status = response.status().as_u16();
    drop(running);
    Ok(response)
}

/// What the registry itself, or the one behind it, says.
async fn answer(shared: &Shared, call: &mut Call) -> io::Result<Response<Answer>> {
    if let Some(refusal) = api::guard(shared, call) {
        return Ok(refusal);
    }
    let Some(host) = &shared.behaviour.upstream else { return Ok(api::answer(shared, call)) };
    // The registry behind knows no tokens: who may read the source of a mount is decided here.
    if !api::may_mount(shared, call) {
        call.decline_mount();
    }
    let length = call.body.len() as u64;
    let body = Answer { content: call.body.clone(), length, cut: Cut::Never };
    let own_access = shared.behaviour.access == super::Access::Open;
    let mut response = upstream::forward(host, call, body, own_access).await?;
    if shared.behaviour.absolute_locations {
        alter(&mut response, &Kind::AbsoluteLocation, shared);
    }
    Ok(response)
}

/// Spoils an answer.
fn alter(response: &mut Response<Answer>, fault: &Kind, shared: &Shared) {
    let length = response.headers().get(http::header::CONTENT_LENGTH).cloned();
    match fault {
        Kind::CutAnswer(bytes) => response.body_mut().cut = Cut::After(*bytes),
        Kind::Truncate(bytes) => {
            let body = response.body_mut();
            body.content.truncate(*bytes);
            body.length = body.content.len() as u64;
            if length.is_some() {
                response.headers_mut().remove(http::header::CONTENT_LENGTH);
            }
        }
        Kind::Corrupt => {
            let body = response.body_mut();
            body.content = corrupted(&body.content);
        }
        Kind::NoLocation => {
            response.headers_mut().remove(http::header::LOCATION);
        }
        Kind::RelativeLocation | Kind::AbsoluteLocation => {
            let location = response.headers().get(http::header::LOCATION);
            let Some(uri) = location.and_then(|value| value.to_str().ok()?.parse::<http::Uri>().ok()) else { return };
            let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
            let location = if *fault == Kind::RelativeLocation {
                path.to_owned()
            } else {
                format!("http://{}{path}", shared.address)
            };
            response.headers_mut().insert(http::header::LOCATION, location.parse().unwrap());
        }
        _ => {}
    }
}

fn cut() -> io::Error {
    io::Error::other("cut by order")
}

fn http_body_length(body: &Incoming) -> u64 {
    body.size_hint().exact().unwrap_or(u64::MAX)
}

/// `content` with another byte in its middle.
fn corrupted(content: &Bytes) -> Bytes {
    let mut altered = BytesMut::from(&content[..]);
    let middle = altered.len() / 2;
    if let Some(byte) = altered.get_mut(middle) {
        *byte ^= 1;
    }
    altered.freeze()
}

/// The headers of an answer to HEAD: as long as the body would be, which is not sent.
fn without_body(mut response: Response<Answer>) -> Response<Answer> {
    // One that comes from another registry says so already.
    if !response.headers().contains_key(http::header::CONTENT_LENGTH) {
        let length = response.body().length;
        response.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = Answer::new("");
    response
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

/// The body, and whether it is whole: it may break off, or reach the limit at which it is to.
async fn read(mut body: Incoming, limit: Option<usize>) -> (Bytes, bool) {
    let mut content = BytesMut::new();
    loop {
        if let Some(limit) = limit.filter(|&limit| content.len() >= limit) {
            content.truncate(limit);
            return (content.freeze(), false);
        }
        match body.frame().await {
            Some(Ok(frame)) => content.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Some(Err(_)) => return (content.freeze(), false),
            None => return (content.freeze(), limit.is_none()),
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
