//! What a client is told that may not pass, or not yet: the same words whoever asks for them.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};

use super::login::{Form, page};
use super::{Authenticator, Decision, Request, request};

/// The answer to a client; nothing when it may pass.
///
/// A person gets a page to sign in, a program a line of text and the name of the way in.
#[must_use]
pub fn to_client(decision: &Decision, request: &Request<'_>) -> Option<Response<String>> {
    match decision {
        Decision::Allow { .. } => None,
        Decision::Redirect { location, cookie } => Some(redirect(StatusCode::FOUND, location, cookie)),
        refused => Some(refuse(refused, request)),
    }
}

/// Where the page to sign in leads to after the form in `body` was filled in: path and query on this server, whatever was
/// sent.
#[must_use]
pub fn way_on(body: &str) -> String {
    Form::parse(body).next
}

/// The answer to the form of the page to sign in. `request` is for [`way_on`].
#[must_use]
pub fn to_form(authenticator: &Authenticator, body: &str, request: &Request<'_>) -> Response<String> {
    let form = Form::parse(body);
    match authenticator.log_in(&form.password, request) {
        Ok(cookie) => redirect(StatusCode::SEE_OTHER, &form.next, &cookie),
        Err(refused) => refusal_page(&refused, &form.next),
    }
}

/// An answer that nobody keeps and that no address leaks from.
#[must_use]
pub fn plain(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn refuse(refused: &Decision, request: &Request<'_>) -> Response<String> {
    if request::is_navigation(request) {
        return refusal_page(refused, request.uri);
    }
    let (status, text, wait) = refusal(refused);
    let mut response = plain(status, format!("{text}\n"));
    // A page's own requests must not open the browser's password window over the page.
    if status == StatusCode::UNAUTHORIZED && !request.headers.contains_key("sec-fetch-mode") {
        let realm = HeaderValue::from_static("Basic realm=\"instance\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
    }
    retry_after(&mut response, wait);
    response
}

fn refusal_page(refused: &Decision, next: &str) -> Response<String> {
    let (status, text, wait) = refusal(refused);
    let message = matches!(refused, Decision::Deny { wrong: true } | Decision::Wait(_)).then_some(text.as_str());
    let mut response = plain(status, page(next, message));
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'self'";
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    retry_after(&mut response, wait);
    response
}

fn refusal(refused: &Decision) -> (StatusCode, String, Option<Duration>) {
    match refused {
        Decision::Wait(wait) => {
            let text = format!("Too many wrong attempts; try again in {} s.", wait.as_secs() + 1);
            (StatusCode::TOO_MANY_REQUESTS, text, Some(*wait))
        }
        Decision::Deny { wrong: true } => {
            (StatusCode::UNAUTHORIZED, "That is not the password or token.".to_owned(), None)
        }
        _ => (StatusCode::UNAUTHORIZED, "This needs the instance's token or password.".to_owned(), None),
    }
}

fn retry_after(response: &mut Response<String>, wait: Option<Duration>) {
    if let Some(wait) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
    }
}

fn redirect(status: StatusCode, location: &str, cookie: &str) -> Response<String> {
    let (Ok(location), Ok(cookie)) = (HeaderValue::from_str(location), HeaderValue::from_str(cookie)) else {
        return plain(StatusCode::BAD_REQUEST, String::new());
    };
    let mut response = plain(status, String::new());
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}
