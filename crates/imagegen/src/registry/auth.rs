//! Authentication: a registry's challenge, the token that answers it, and the scopes that the token covers.
//!
//! The first request goes out bare. A 401 tells how the registry wants to be asked (RFC 7235, and the distribution
//! project's token specification); from then on requests carry a token for what they are about to do. A token is dropped
//! when it ends, or when the registry no longer takes it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use http::{HeaderValue, StatusCode};
use oci_client::token_cache::RegistryToken;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::attempts::Failure;
use super::client::{Client, Request, asked};
use super::credentials::{Credential, Found};
use super::error::{RegistryError, message_of};
use crate::reference::{RegistryReference, is_loopback};

/// How long a token is taken to live that does not say so (token specification, `expires_in`).
const DEFAULT_LIFE: Duration = Duration::from_mins(1);

/// So much of its life before its end a token is replaced, for requests that take their time to arrive.
const MARGIN: Duration = Duration::from_secs(10);

/// What an operation has to be allowed to do, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Access {
    /// The registry as references name it.
    pub(super) registry: String,
    /// The host that answers for it.
    pub(super) host: String,
    /// The repository.
    pub(super) repository: String,
    scopes: Vec<String>,
}

impl Access {
    fn new(reference: &RegistryReference, scopes: Vec<String>) -> Self {
        Self {
            registry: reference.registry().to_owned(),
            host: reference.api_host().to_owned(),
            repository: reference.repository().to_owned(),
            scopes,
        }
    }

    /// To read.
    pub(super) fn pull(reference: &RegistryReference) -> Self {
        Self::new(reference, vec![format!("repository:{}:pull", reference.repository())])
    }

    /// To read and write.
    pub(super) fn push(reference: &RegistryReference) -> Self {
        Self::new(reference, vec![format!("repository:{}:pull,push", reference.repository())])
    }

    /// To write, and to take blobs over from the repository `from`.
    pub(super) fn mount(reference: &RegistryReference, from: &str) -> Self {
        let mut access = Self::push(reference);
        access.scopes.push(format!("repository:{from}:pull"));
        access
    }

    fn key(&self) -> String {
        self.scopes.join(" ")
    }
}

/// The `Authorization` header of a request. Never printed.
#[derive(Clone)]
pub(super) struct Authorization {
    header: HeaderValue,
    user: Option<String>,
    /// Of all copies, since any request may be the one that shows it.
    accepted: Arc<AtomicBool>,
}

impl PartialEq for Authorization {
    fn eq(&self, other: &Self) -> bool {
        (&self.header, &self.user) == (&other.header, &other.user)
    }
}

impl Authorization {
    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// Whose credentials are behind it; anonymous tokens have none.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The registry has taken it.
    pub(super) fn accept(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }

    /// Whether the registry has ever taken it: refused then, it has ended, and is not wrong.
    pub(super) fn was_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }

    fn new(text: &str, user: Option<String>) -> Result<Self, RegistryError> {
        let mut header = HeaderValue::from_str(text).map_err(|_| RegistryError::Protocol {
            host: String::new(),
            what: "a token that no header can carry".to_owned(),
        })?;
        header.set_sensitive(true);
        Ok(Self { header, user, accepted: Arc::default() })
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorization({:?})", self.user)
    }
}

/// A 401 and what it was about.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Its `WWW-Authenticate` headers.
    pub(super) challenges: Vec<String>,
    /// What the request carried.
    pub(super) used: Option<Authorization>,
    /// What it asked for.
    pub(super) asked: String,
    /// What the registry said.
    pub(super) message: String,
}

/// How a registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

#[derive(Debug)]
struct Token {
    authorization: Authorization,
    ends: SystemTime,
}

#[derive(Debug, Default)]
struct Host {
    challenge: Option<Challenge>,
    /// By scopes.
    tokens: HashMap<String, Token>,
    /// By repository: auth files may have credentials for a single one.
    found: HashMap<String, Arc<Found>>,
}

/// What is known about the registries spoken to so far.
#[derive(Debug, Default)]
pub(super) struct Auth {
    hosts: Mutex<BTreeMap<String, Arc<Mutex<Host>>>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(flatten)]
    token: RegistryToken,
    expires_in: Option<u64>,
}

impl Auth {
    async fn host(&self, name: &str) -> Arc<Mutex<Host>> {
        Arc::clone(self.hosts.lock().await.entry(name.to_owned()).or_default())
    }

    /// What a request carries that needs `access`: nothing before the registry has asked for something.
    pub(super) async fn authorization(
        &self,
        client: &Client,
        access: &Access,
    ) -> Result<Option<Authorization>, Failure> {
        let host = self.host(&access.host).await;
        // Held while a token is fetched: parallel requests wait for it instead of fetching one each.
        let mut host = host.lock().await;
        let Some(challenge) = host.challenge.clone() else { return Ok(None) };
        let key = access.key();
        let now = client.settings().clock.now();
        if let Some(token) = host.tokens.get(&key).filter(|token| token.ends > now) {
            return Ok(Some(token.authorization.clone()));
        }
        let found = if let Some(found) = host.found.get(&access.repository) {
            Arc::clone(found)
        } else {
            let found = Arc::new(look_up(client, access).await);
            host.found.insert(access.repository.clone(), Arc::clone(&found));
            found
        };
        let token = match challenge {
            Challenge::Basic => basic_token(access, &found, now)?,
            Challenge::Bearer { realm, service } => {
                fetch_token(client, access, &realm, service.as_deref(), &found).await?
            }
        };
        let authorization = token.authorization.clone();
        host.tokens.insert(key, token);
        Ok(Some(authorization))
    }

    /// Learns from a 401: how the registry wants to be asked, and that the authorization it refused is no longer good.
    ///
    /// # Errors
    /// Asking again would not help, or not `again`.
    pub(super) async fn challenged(
        &self,
        client: &Client,
        access: &Access,
        refusal: Refusal,
        again: bool,
    ) -> Result<(), Failure> {
        let host = self.host(&access.host).await;
        let mut host = host.lock().await;
        let Refusal { challenges, used, asked, message } = refusal;
        let challenge = parse(&challenges);
        let refused = |user: Option<&str>, message: String| {
            Failure::from(RegistryError::Refused {
                host: access.registry.clone(),
                status: StatusCode::UNAUTHORIZED.as_u16(),
                asked: asked.clone(),
                user: user.map(str::to_owned),
                message,
            })
        };
        let problem = host.found.get(&access.repository).and_then(|found| found.problem.clone());
        let sent_by = used.as_ref().and_then(Authorization::user);
        // A password does not get better by being sent again, a token by being replaced.
        let hopeless = used.is_some() && challenge == Some(Challenge::Basic);
        if !again || challenge.is_none() || hopeless {
            return Err(refused(sent_by, problem.unwrap_or(message)));
        }
        host.challenge = challenge;
        // Another request may have replaced the refused token meanwhile; that one is worth trying.
        host.tokens.retain(|_, token| Some(&token.authorization) != used.as_ref());
        drop(host);
        self.authorization(client, access).await.map(drop)
    }
}

async fn look_up(client: &Client, access: &Access) -> Found {
    let files = client.settings().auth_files.clone();
    let (registry, repository) = (access.registry.clone(), access.repository.clone());
    // Credential helpers are programs that may take their time.
    tokio::task::spawn_blocking(move || files.look_up(&registry, &repository)).await.unwrap_or_default()
}

fn basic_token(access: &Access, found: &Found, now: SystemTime) -> Result<Token, Failure> {
    let Some(Credential::Basic { user, password }) = &found.credential else {
        return Err(Failure::from(RegistryError::Refused {
            host: access.registry.clone(),
            status: StatusCode::UNAUTHORIZED.as_u16(),
            asked: format!("a password for {}", access.repository),
            user: None,
            message: found.problem.clone().unwrap_or_default(),
        }));
    };
    let authorization = Authorization::new(&basic(user, password), Some(user.clone()))?;
    Ok(Token { authorization, ends: now + Duration::from_secs(u64::from(u32::MAX)) })
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// Asks the token service for a token of `access`, with credentials where there are some.
async fn fetch_token(
    client: &Client,
    access: &Access,
    realm: &str,
    service: Option<&str>,
    found: &Found,
) -> Result<Token, Failure> {
    let protocol = |what: String| RegistryError::Protocol { host: access.registry.clone(), what };
    let mut url = reqwest::Url::parse(realm)
        .map_err(|error| protocol(format!("the address `{realm}` of a token service, which is none: {error}")))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let plain = url.scheme() != "https" && !is_loopback(&host) && !client.settings().insecure;
    if plain && found.credential.is_some() {
        return Err(RegistryError::PlainTokenService { host: access.registry.clone(), realm: realm.to_owned() }.into());
    }
    let mut request = if let Some(Credential::Identity(token)) = &found.credential {
        let mut form =
            vec![("grant_type", "refresh_token"), ("client_id", "vast-imagegen"), ("refresh_token", token.as_str())];
        form.extend(service.map(|service| ("service", service)));
        let scope = access.key();
        form.push(("scope", &scope));
        let body = reqwest::Url::parse_with_params("http://form.invalid/", &form)
            .ok()
            .and_then(|form| form.query().map(str::to_owned))
            .unwrap_or_default();
        Request::new(http::Method::POST, url)
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body)
    } else {
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(service.map(|service| ("service", service)));
            query.extend_pairs(access.scopes.iter().map(|scope| ("scope", scope)));
        }
        Request::new(http::Method::GET, url)
    };
    if let Some(Credential::Basic { user, password }) = &found.credential {
        let authorization = Authorization::new(&basic(user, password), Some(user.clone()))?;
        request = request.header(http::header::AUTHORIZATION, authorization.header());
    }
    let response = client.execute(&host, request).await?;
    let (status, asked) = (response.status(), asked(&response));
    let body = client.read_body(&host, response, 1 << 20).await?;
    let user = found.credential.as_ref().map(|credential| credential.user().to_owned());
    match status {
        StatusCode::OK => {
            let answer: TokenAnswer = serde_json::from_slice(&body)
                .map_err(|_| protocol("an answer without a token from its token service".to_owned()))?;
            let life = answer.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs);
            // A token so short-lived that the margin eats it is used for half its life.
            let life = life.saturating_sub(MARGIN).max(life / 2);
            let authorization = Authorization::new(&answer.token.bearer_token(), user)?;
            Ok(Token { authorization, ends: client.settings().clock.now() + life })
        }
        // The specification says 401; some services say 400 or 403 to wrong credentials.
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => Err(RegistryError::Refused {
            host: access.registry.clone(),
            status: StatusCode::UNAUTHORIZED.as_u16(),
            asked: format!("{asked} for {}", access.key()),
            user,
            message: found.problem.clone().unwrap_or_else(|| message_of(&body)),
        }
        .into()),
        status => {
            let (status, message) = (super::error::status_text(status), message_of(&body));
            Err(RegistryError::Answer { host, asked, status, message }.into())
        }
    }
}

/// The challenge of a 401: Bearer where it is offered, else Basic.
fn parse(headers: &[String]) -> Option<Challenge> {
    let mut basic = None;
    for header in headers {
        for challenge in http_auth::parser::ChallengeParser::new(header).map_while(Result::ok) {
            let param = |name: &str| {
                challenge
                    .params
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.to_unescaped())
            };
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = param("realm") {
                    return Some(Challenge::Bearer { realm, service: param("service") });
                }
            } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_in_every_form_registries_send_them() {
        let bearer = |service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: "https://auth.docker.io/token".to_owned(),
                service: service.map(str::to_owned),
            })
        };
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push""#,
                bearer(Some("registry.docker.io")),
            ),
            (r#"bearer REALM="https://auth.docker.io/token""#, bearer(None)),
            (r#"Basic realm="x", Bearer realm="https://auth.docker.io/token""#, bearer(None)),
            (r#"Basic realm="Registry Realm""#, Some(Challenge::Basic)),
            ("Negotiate", None),
            ("", None),
        ] {
            assert_eq!(parse(&[header.to_owned()]), expected, "{header}");
        }
    }

    #[test]
    fn a_mount_needs_to_read_its_source_and_write_its_target() {
        let reference: RegistryReference = "r.io/team/app:1".parse().unwrap();
        assert_eq!(Access::mount(&reference, "base").key(), "repository:team/app:pull,push repository:base:pull");
        assert_eq!(Access::pull(&reference).key(), "repository:team/app:pull");
    }

    #[test]
    fn authorizations_are_not_printed() {
        let authorization = Authorization::new(&basic("u", "hunter2"), Some("u".to_owned())).unwrap();
        assert_eq!(format!("{authorization:?}"), r#"Authorization(Some("u"))"#);
        assert!(authorization.header().is_sensitive());
    }
}
