//! The OCI distribution API, version 1.1.

use bytes::Bytes;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RANGE, WWW_AUTHENTICATE};
use http::{Method, Response, StatusCode};
use serde_json::json;

use super::auth::{Access, Refusal};
use super::server::{Answer, Call, parse_query};
use super::{Shared, State};
use crate::image::digest;

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What stands before the registry: the token service, and the refusal of requests that may not be made.
pub(super) fn guard(shared: &Shared, call: &Call) -> Option<Response<Answer>> {
    let mut state = shared.state();
    let access = &shared.behaviour.access;
    if call.path == "/token" && matches!(access, Access::Token { .. }) {
        return Some(token(shared, &mut state, call));
    }
    let path = call.path.strip_prefix("/v2/")?;
    let (repository, _) = split(path);
    let host = shared.address.to_string();
    let Err(Refusal::Challenge(challenge)) = state.auth.check(access, &host, &call.method, repository, &call.headers)
    else {
        return None;
    };
    let mut response = error(401, "UNAUTHORIZED", "authentication required");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
    Some(response)
}

/// Whether the request may read the repository that it wants to mount a blob from, if it wants to.
pub(super) fn may_mount(shared: &Shared, call: &Call) -> bool {
    let from = call.query.iter().find(|(name, _)| name == "from");
    let state = shared.state();
    from.is_none_or(|(_, from)| state.auth.may_pull(&shared.behaviour.access, from, &call.headers))
}

/// What the registry itself answers to a request that may be made.
pub(super) fn answer(shared: &Shared, call: &Call) -> Response<Answer> {
    let mut state = shared.state();
    let Some(path) = call.path.strip_prefix("/v2/") else { return error(404, "NOT_FOUND", "no such page") };
    let (repository, rest) = split(path);
    match (&call.method, rest.as_slice()) {
        (_, []) => Response::new(Answer::new("{}")),
        (&Method::GET | &Method::HEAD, ["manifests", name]) => get_manifest(&state, repository, name),
        (&Method::PUT, ["manifests", name]) => put_manifest(shared, &mut state, call, repository, name),
        (&Method::GET, ["tags", "list"]) => {
            json_answer(&json!({"name": repository, "tags": state.store.tags(repository)}))
        }
        (&Method::GET, ["referrers", subject]) => match shared.behaviour.referrers {
            Some(page_size) => referrers(&state, call, repository, subject, page_size),
            None => error(404, "NOT_FOUND", "no such page"),
        },
        (&Method::GET | &Method::HEAD, ["blobs", digest]) => get_blob(shared, &state, call, repository, digest),
        (&Method::POST, ["blobs", "uploads"]) => open_upload(shared, &mut state, call, repository),
        (method, ["blobs", "uploads" | "upload", number]) => match number.parse() {
            Ok(number) if state.store.uploads.contains_key(&number) => match *method {
                Method::PATCH => patch(shared, &mut state, call, repository, number),
                Method::PUT => complete(shared, &mut state, call, repository, number),
                Method::DELETE => {
                    state.store.uploads.remove(&number);
                    empty(204)
                }
                _ => error(405, "UNSUPPORTED", "no such method"),
            },
            _ => error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload"),
        },
        _ => error(404, "NOT_FOUND", "no such page"),
    }
}

/// `team/app/manifests/v1` as the repository and what follows it.
fn split(path: &str) -> (&str, Vec<&str>) {
    for kind in ["manifests", "blobs", "tags", "referrers"] {
        if let Some(at) = path.find(&format!("/{kind}/")) {
            let rest = path[at + 1..].split('/').filter(|part| !part.is_empty()).collect();
            return (&path[..at], rest);
        }
    }
    ("", Vec::new())
}

fn token(shared: &Shared, state: &mut State, call: &Call) -> Response<Answer> {
    let form = parse_query(std::str::from_utf8(&call.body).unwrap_or_default());
    let scopes = call.query.iter().chain(&form).filter(|(name, _)| name == "scope");
    let scopes: Vec<String> = scopes.flat_map(|(_, scope)| scope.split(' ').map(str::to_owned)).collect();
    let identity = form.iter().find(|(name, _)| name == "refresh_token").map(|(_, token)| token.as_str());
    match state.auth.give(&shared.behaviour.access, &scopes, &call.headers, identity) {
        // Docker Hub says it twice, for older clients, and how long; GHCR says no more than it has to.
        Some(token) if shared.behaviour.terse_tokens => json_answer(&json!({"token": token})),
        Some(token) => json_answer(&json!({
            "token": token,
            "access_token": token,
            "expires_in": 3600,
            "issued_at": "2026-01-01T00:00:00Z",
        })),
        None => error(401, "UNAUTHORIZED", "incorrect username or password"),
    }
}

fn get_manifest(state: &State, repository: &str, name: &str) -> Response<Answer> {
    match state.store.manifest(repository, name) {
        Some((media_type, content)) => {
            let digest = digest(&content);
            let mut response = Response::new(Answer::new(content));
            response.headers_mut().insert(CONTENT_TYPE, media_type.parse().unwrap());
            response.headers_mut().insert(DIGEST, digest.parse().unwrap());
            response
        }
        None => error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
    }
}

fn put_manifest(shared: &Shared, state: &mut State, call: &Call, repository: &str, name: &str) -> Response<Answer> {
    match state.store.missing(repository, &call.body) {
        None => return error(400, "MANIFEST_INVALID", "manifest invalid"),
        Some(missing) if !missing.is_empty() => {
            return error(400, "MANIFEST_BLOB_UNKNOWN", &format!("unknown: {}", missing.join(", ")));
        }
        Some(_) => {}
    }
    let media_type = call.headers.get(CONTENT_TYPE).map_or("", |value| value.to_str().unwrap());
    let by_digest = name.contains(':');
    if by_digest && name != digest(&call.body) {
        return error(400, "DIGEST_INVALID", "the digest is another one");
    }
    let tag = (!by_digest).then_some(name);
    let digest = state.store.put_manifest(repository, tag, media_type, call.body.clone());
    let mut response = empty(201);
    response.headers_mut().insert(LOCATION, format!("/v2/{repository}/manifests/{digest}").parse().unwrap());
    response.headers_mut().insert(DIGEST, digest.parse().unwrap());
    let manifest: serde_json::Value = serde_json::from_slice(&call.body).unwrap();
    if let Some(subject) = manifest["subject"]["digest"].as_str().filter(|_| shared.behaviour.referrers.is_some()) {
        response.headers_mut().insert("oci-subject", subject.parse().unwrap());
    }
    response
}

/// The page of referrers that begins after `last`.
fn referrers(state: &State, call: &Call, repository: &str, subject: &str, page_size: usize) -> Response<Answer> {
    let param = |name: &str| call.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let wanted = param("artifactType");
    let mut found = state.store.referrers(repository, subject);
    found.retain(|entry| wanted.is_none_or(|wanted| entry["artifactType"] == wanted));
    let from: usize = param("last").map_or(0, |last| last.parse().unwrap());
    let page: Vec<_> = found.iter().skip(from).take(page_size).collect();
    let mut response = json_answer(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": page,
    }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, "application/vnd.oci.image.index.v1+json".parse().unwrap());
    if wanted.is_some() {
        headers.insert("oci-filters-applied", "artifactType".parse().unwrap());
    }
    if from + page_size < found.len() {
        let filter = wanted.map_or_else(String::new, |wanted| format!("&artifactType={}", wanted.replace('+', "%2B")));
        let link = format!("</v2/{repository}/referrers/{subject}?last={}{filter}>; rel=\"next\"", from + page_size);
        headers.insert(http::header::LINK, link.parse().unwrap());
    }
    response
}

fn get_blob(shared: &Shared, state: &State, call: &Call, repository: &str, digest: &str) -> Response<Answer> {
    let Some(content) = state.store.blob(repository, digest) else {
        return error(404, "BLOB_UNKNOWN", "blob unknown");
    };
    if let Some(storage) = shared.behaviour.storage.as_ref().filter(|_| call.method == Method::GET) {
        let mut response = empty(307);
        let location = format!("http://{storage}/v2/{repository}/blobs/{digest}");
        response.headers_mut().insert(LOCATION, location.parse().unwrap());
        return response;
    }
    let length = content.len();
    let range = call.headers.get(RANGE).filter(|_| shared.behaviour.ranges);
    let from: Option<usize> =
        range.and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let mut response = match from {
        Some(from) if from < length => {
            let mut response = Response::new(Answer::new(content.slice(from..)));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {from}-{}/{length}", length - 1);
            response.headers_mut().insert(CONTENT_RANGE, range.parse().unwrap());
            response
        }
        Some(_) => return empty(416),
        None => Response::new(Answer::new(content)),
    };
    response.headers_mut().insert(DIGEST, digest.parse().unwrap());
    response
}

fn open_upload(shared: &Shared, state: &mut State, call: &Call, repository: &str) -> Response<Answer> {
    let param = |name: &str| call.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if let (Some(blob), Some(from)) = (param("mount"), param("from")) {
        let allowed = shared.behaviour.mounts && state.auth.may_pull(&shared.behaviour.access, from, &call.headers);
        if allowed && state.store.mount(repository, from, blob) {
            let mut response = empty(201);
            response.headers_mut().insert(LOCATION, format!("/v2/{repository}/blobs/{blob}").parse().unwrap());
            return response;
        }
    }
    let number = state.store.open_upload();
    session(shared, repository, number)
}

/// 202 with the address of an upload.
fn session(shared: &Shared, repository: &str, number: usize) -> Response<Answer> {
    // The parameter stands for the state that registries keep there: whoever loses it uploads to nowhere.
    let folder = shared.behaviour.upload_folder;
    let path = format!("/v2/{repository}/blobs/{folder}/{number}?_state=kept");
    let location = match &shared.behaviour.storage {
        Some(storage) => format!("http://{storage}{path}"),
        None if shared.behaviour.absolute_locations => format!("http://{}{path}", shared.address),
        None => path,
    };
    let mut response = empty(202);
    response.headers_mut().insert(LOCATION, location.parse().unwrap());
    if let Some(smallest) = shared.behaviour.smallest_chunk {
        response.headers_mut().insert("oci-chunk-min-length", smallest.into());
    }
    response
}

fn keeps_state(call: &Call) -> bool {
    call.query.iter().any(|(name, value)| name == "_state" && value == "kept")
}

fn patch(shared: &Shared, state: &mut State, call: &Call, repository: &str, number: usize) -> Response<Answer> {
    if shared.behaviour.chunk_limit.is_some_and(|limit| call.body.len() > limit) {
        return error(413, "SIZE_INVALID", "the chunk is too large");
    }
    let upload = state.store.uploads.get_mut(&number).unwrap();
    let range = call.headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let start = range.and_then(|range| range.split('-').next()?.parse().ok()).unwrap_or(upload.len());
    if start != upload.len() || !keeps_state(call) {
        return error(416, "BLOB_UPLOAD_INVALID", "not the next chunk");
    }
    upload.extend_from_slice(&call.body);
    session(shared, repository, number)
}

fn complete(shared: &Shared, state: &mut State, call: &Call, repository: &str, number: usize) -> Response<Answer> {
    if !call.body.is_empty() && !shared.behaviour.whole_uploads {
        return error(405, "UNSUPPORTED", "send chunks");
    }
    if !keeps_state(call) {
        return error(404, "BLOB_UPLOAD_UNKNOWN", "no such upload");
    }
    let mut content = state.store.uploads.remove(&number).unwrap();
    content.extend_from_slice(&call.body);
    let claimed = call.query.iter().find(|(name, _)| name == "digest").map(|(_, value)| value.clone());
    if claimed.as_deref() != Some(digest(&content).as_str()) {
        return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
    }
    let digest = state.store.put_blob(repository, Bytes::from(content));
    let mut response = empty(201);
    response.headers_mut().insert(LOCATION, format!("/v2/{repository}/blobs/{digest}").parse().unwrap());
    response.headers_mut().insert(DIGEST, digest.parse().unwrap());
    response
}

fn json_answer(value: &serde_json::Value) -> Response<Answer> {
    let mut response = Response::new(Answer::new(value.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, "application/json".parse().unwrap());
    response
}

fn empty(status: u16) -> Response<Answer> {
    let mut response = Response::new(Answer::new(""));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn error(status: u16, code: &str, message: &str) -> Response<Answer> {
    let mut response = json_answer(&json!({"errors": [{"code": code, "message": message}]}));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}
