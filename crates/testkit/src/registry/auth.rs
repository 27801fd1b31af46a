//! Who may do what: everybody, whoever has the password, or whoever has a token of the registry's own token service.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method};

/// Who may read and write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Whoever sends this user and password with each request.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// Whoever has a token for it. The registry's own service at `/token` gives them out.
    Token {
        /// The user who gets every scope.
        user: String,
        /// The user's password.
        password: String,
        /// Anonymous tokens may read.
        anonymous_pull: bool,
        /// A token is good for so many requests; then it is answered with 401.
        uses: usize,
    },
}

impl Access {
    /// Tokens that do not end, for one user, with `password` as the password; everybody may read.
    #[must_use]
    pub fn token(user: &str, password: &str) -> Self {
        Self::Token { user: user.to_owned(), password: password.to_owned(), anonymous_pull: true, uses: usize::MAX }
    }
}

#[derive(Debug, Default)]
pub(super) struct Tokens {
    given: BTreeMap<String, Token>,
    /// How many were ever given: none is given twice.
    count: usize,
}

#[derive(Debug)]
struct Token {
    scopes: Vec<String>,
    left: usize,
}

/// Why a request is not served.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 401 with this challenge.
    Challenge(String),
}

/// User and password of a Basic header.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?.to_owned();
    let decoded = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    decoded.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(http::header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?.to_owned())
}

impl Tokens {
    /// Whether a request may be served that needs `action` on `repository`.
    pub(super) fn check(
        &mut self,
        access: &Access,
        host: &str,
        method: &Method,
        repository: &str,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        let action = if [Method::GET, Method::HEAD].contains(method) { "pull" } else { "push" };
        match access {
            Access::Open => Ok(()),
            Access::Basic { user, password } => match basic(headers) {
                Some((name, secret)) if (&name, &secret) == (user, password) => Ok(()),
                _ => Err(Refusal::Challenge("Basic realm=\"testkit\"".to_owned())),
            },
            Access::Token { .. } => {
                let scope = format!("repository:{repository}:{action}");
                let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"testkit\",scope=\"{scope}\"");
                let refused = Err(Refusal::Challenge(challenge));
                let Some(token) = bearer(headers).and_then(|token| self.given.get_mut(&token)) else { return refused };
                let allowed = allows(&token.scopes, repository, action);
                if token.left == 0 || !allowed {
                    return refused;
                }
                token.left = token.left.saturating_sub(usize::from(token.left != usize::MAX));
                Ok(())
            }
        }
    }

    /// Whether the request's token may read `repository` as well, which a mount from it needs.
    pub(super) fn may_pull(&self, access: &Access, repository: &str, headers: &HeaderMap) -> bool {
        match access {
            Access::Token { .. } => bearer(headers)
                .and_then(|token| self.given.get(&token))
                .is_some_and(|token| allows(&token.scopes, repository, "pull")),
            _ => true,
        }
    }

    /// Makes the request's token worthless.
    pub(super) fn expire(&mut self, headers: &HeaderMap) {
        if let Some(token) = bearer(headers) {
            self.given.remove(&token);
        }
    }

    /// A token for the scopes asked for, as far as the credentials reach; `None` for wrong credentials.
    pub(super) fn give(
        &mut self,
        access: &Access,
        scopes: &[String],
        headers: &HeaderMap,
        identity: Option<&str>,
    ) -> Option<String> {
        let Access::Token { user, password, anonymous_pull, uses } = access else { return None };
        let scopes = match basic(headers) {
            // The password stands for an identity token as well.
            _ if identity == Some(password) => scopes.to_vec(),
            _ if identity.is_some() => return None,
            Some((name, secret)) if (&name, &secret) == (user, password) => scopes.to_vec(),
            Some(_) => return None,
            None if *anonymous_pull => scopes.iter().map(|scope| scope.replace(",push", "")).collect(),
            None => Vec::new(),
        };
        // Opaque, and as long as real ones are: nobody is to read anything in it.
        self.count += 1;
        let token = hex::encode(format!("token-{}", self.count)).repeat(20);
        self.given.insert(token.clone(), Token { scopes, left: *uses });
        Some(token)
    }
}

fn allows(scopes: &[String], repository: &str, action: &str) -> bool {
    scopes.iter().any(|scope| {
        let actions = scope.strip_prefix("repository:").and_then(|rest| rest.strip_prefix(repository));
        actions.and_then(|rest| rest.strip_prefix(':')).is_some_and(|rest| rest.split(',').any(|part| part == action))
    })
}
