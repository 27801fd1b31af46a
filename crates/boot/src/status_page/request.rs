//! Requests as they come from the network: anything, in any pieces.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

/// More than any browser sends; what is longer is refused.
const HEAD_LIMIT_BYTES: usize = 16 * 1024;

/// The only body that is read is that of the form with one password.
const BODY_LIMIT_BYTES: usize = 8 * 1024;

const HEADERS_LIMIT: usize = 64;

/// A request that is complete.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query, starting with `/`.
    pub uri: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, where its length was told.
    pub body: Vec<u8>,
}

impl Request {
    /// The path, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.uri.split('?').next().unwrap_or_default()
    }

    /// A header as text, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the `Accept` header names this type.
    #[must_use]
    pub fn accepts(&self, kind: &str) -> bool {
        self.header("accept").is_some_and(|accept| accept.contains(kind))
    }
}

/// What bytes amount to so far.
#[derive(Debug)]
pub enum Reading {
    /// More is to come.
    Partial,
    /// A request. What follows it is not read: the connection is closed after the answer.
    Complete(Box<Request>),
    /// No request that could be answered, and what to say.
    Bad(StatusCode),
}

/// Reads what has arrived of a request.
#[must_use]
pub fn read(bytes: &[u8]) -> Reading {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_LIMIT];
    let mut parsed = httparse::Request::new(&mut headers);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_LIMIT_BYTES => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_LIMIT_BYTES => return Reading::Partial,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return Reading::Bad(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        Err(_) => return Reading::Bad(StatusCode::BAD_REQUEST),
    };
    let Some((method, uri, headers)) = head(&parsed) else { return Reading::Bad(StatusCode::BAD_REQUEST) };
    let after = bytes.get(length..).unwrap_or_default();
    match body(&headers, after) {
        Ok(Some(body)) => Reading::Complete(Box::new(Request { method, uri, headers, body: body.to_owned() })),
        Ok(None) => Reading::Partial,
        Err(status) => Reading::Bad(status),
    }
}

fn head(parsed: &httparse::Request<'_, '_>) -> Option<(Method, String, HeaderMap)> {
    let method = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    // A whole address (as to a proxy) and `*` are no paths of ours.
    let uri = parsed.path.filter(|path| path.starts_with('/'))?.to_owned();
    let mut headers = HeaderMap::new();
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    Some((method, uri, headers))
}

/// The body, once it is there; nothing while it is not.
fn body<'a>(headers: &HeaderMap, after: &'a [u8]) -> Result<Option<&'a [u8]>, StatusCode> {
    // Chunks are for what has no end that is known; a form has.
    if headers.contains_key(http::header::TRANSFER_ENCODING) {
        return Err(StatusCode::LENGTH_REQUIRED);
    }
    let mut lengths = headers.get_all(http::header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(Some(&[])) };
    let length = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let length = length.and_then(|text| text.parse::<usize>().ok()).filter(|_| lengths.next().is_none());
    match length {
        None => Err(StatusCode::BAD_REQUEST),
        Some(length) if length > BODY_LIMIT_BYTES => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Some(length) => Ok(after.get(..length)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn complete(bytes: &[u8]) -> Request {
        match read(bytes) {
            Reading::Complete(request) => *request,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_complete_with_its_last_byte_and_not_before() {
        let text =
            b"POST /portal-login?a=1 HTTP/1.1\r\nHost: h:1\r\nContent-Length: 4\r\nCookie: a\r\nCookie: b\r\n\r\nbody";
        for end in 0..text.len() {
            assert!(matches!(read(&text[..end]), Reading::Partial), "{end}");
        }
        let request = complete(&[&text[..], b"GET / HTTP/1.1\r\n"].concat());
        assert_eq!(
            (request.method.as_str(), request.path(), &request.body[..]),
            ("POST", "/portal-login", &b"body"[..])
        );
        assert_eq!(request.headers.get_all("cookie").iter().count(), 2);
        assert_eq!(complete(b"GET / HTTP/1.0\r\n\r\n").uri, "/");
    }

    #[test]
    fn what_is_no_request_of_ours_is_refused() {
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(HEAD_LIMIT_BYTES));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(HEADERS_LIMIT + 1));
        for (bytes, status) in [
            (&b"\x16\x03\x01\x02\x00"[..], 400),
            (b"PRI * HTTP/2.0\r\n\r\n", 400),
            (b"GET http://other/ HTTP/1.1\r\n\r\n", 400),
            (b"OPTIONS * HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
            (b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\nx", 400),
            (b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\nx", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nx", 413),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
            (endless.as_bytes(), 431),
            (many.as_bytes(), 431),
        ] {
            let Reading::Bad(found) = read(bytes) else { panic!("{}", String::from_utf8_lossy(bytes)) };
            assert_eq!(found.as_u16(), status, "{}", String::from_utf8_lossy(&bytes[..bytes.len().min(60)]));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic_and_in_bounds(
            start in proptest::sample::select(vec!["", "GET / HTTP/1.1\r\n", "POST /x HTTP/1.1\r\nContent-Length: "]),
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            if let Reading::Complete(request) = read(&[start.as_bytes(), &bytes].concat()) {
                prop_assert!(request.uri.starts_with('/') && request.body.len() <= BODY_LIMIT_BYTES);
            }
        }

        #[test]
        fn pieces_make_the_same_request(cut in 0_usize..60) {
            let text = b"GET /status.json?x=%20 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
            if cut < text.len() {
                prop_assert!(matches!(read(&text[..cut]), Reading::Partial));
            }
            prop_assert_eq!(complete(text).uri, "/status.json?x=%20");
        }
    }
}
