//! Passing requests on to another registry.

use std::io;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::server::{Answer, Call};

/// Headers that are about one connection (RFC 9110, 7.6.1), or that are set anew.
const OF_THE_CONNECTION: [http::HeaderName; 4] =
    [http::header::CONNECTION, http::header::TRANSFER_ENCODING, http::header::UPGRADE, http::header::EXPECT];

/// Asks the registry at `host` what `call` asks, with `body` as the request's.
///
/// The `Host` header stays what the client sent, so the addresses that the registry makes of it lead back here.
pub(super) async fn forward(
    host: &str,
    call: &Call,
    body: Answer,
    authorization: bool,
) -> io::Result<Response<Answer>> {
    let stream = TcpStream::connect(host).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(other)?;
    let connection = tokio::spawn(connection);
    let mut request = Request::new(body);
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = call.target().parse().map_err(other)?;
    for (name, value) in &call.headers {
        let credentials = name == http::header::AUTHORIZATION && !authorization;
        if !credentials && !OF_THE_CONNECTION.contains(name) {
            request.headers_mut().append(name, value.clone());
        }
    }
    let answered = sender.send_request(request).await.map_err(other);
    let passed = match answered {
        Ok(response) => {
            let (mut parts, body) = response.into_parts();
            for name in OF_THE_CONNECTION {
                parts.headers.remove(name);
            }
            let content: Bytes = body.collect().await.map_err(other)?.to_bytes();
            Ok(Response::from_parts(parts, Answer::new(content)))
        }
        Err(error) => Err(error),
    };
    // Nothing more is asked over this connection.
    drop(sender);
    connection.abort();
    passed
}

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(error)
}
