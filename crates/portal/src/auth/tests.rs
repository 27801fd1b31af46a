use std::collections::BTreeMap;

use http::HeaderValue;

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn authenticator() -> Authenticator {
    let secrets = ["hunter2".to_owned(), TOKEN.to_owned()];
    Authenticator::new(Credentials::new(b"key", "vastai", &secrets, cookie_name("C.1")))
}

struct Sent {
    method: Method,
    uri: String,
    headers: HeaderMap,
    now: SystemTime,
}

fn get(uri: &str) -> Sent {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    Sent { method: Method::GET, uri: uri.to_owned(), headers: HeaderMap::new(), now }
}

impl Sent {
    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    fn browser(self) -> Self {
        self.header("accept", "text/html,*/*;q=0.8").header("sec-fetch-mode", "navigate")
    }

    fn decide(&self, authenticator: &Authenticator) -> Decision {
        let client = Some([192, 0, 2, 1].into());
        let (method, uri, headers) = (&self.method, self.uri.as_str(), &self.headers);
        authenticator.decide(&Request { method, uri, headers, client, https: true, now: self.now })
    }
}

fn allowed(how: How, strip_authorization: bool, query: Option<&str>) -> Decision {
    Decision::Allow { how, strip_authorization, query: query.map(str::to_owned) }
}

/// `Authorization: Basic` for `user:password`.
fn basic(pair: &str) -> String {
    use base64::Engine as _;
    format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair))
}

#[test]
fn every_way_in_works_with_both_secrets_and_is_removed() {
    let auth = authenticator();
    for secret in ["hunter2", TOKEN] {
        let query = format!("/p?a=1&token={secret}");
        assert_eq!(get(&query).decide(&auth), allowed(How::Token, false, Some("a=1")));
        let bearer = format!("Bearer {secret}");
        assert_eq!(get("/p").header("authorization", &bearer).decide(&auth), allowed(How::Bearer, true, None));
        let password = basic(&format!("vastai:{secret}"));
        assert_eq!(get("/p").header("authorization", &password).decide(&auth), allowed(How::Basic, true, None));
    }
}

#[test]
fn a_browser_with_a_token_gets_a_cookie_that_lets_it_in_and_an_address_without_the_token() {
    let auth = authenticator();
    let Decision::Redirect { location, cookie } = get("/lab?a=1&token=hunter2&b=2").browser().decide(&auth) else {
        panic!("no redirect");
    };
    assert_eq!(location, "/lab?a=1&b=2");
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/; Max-Age=604800; HttpOnly; SameSite=Lax; Secure");
    assert!(pair.starts_with("C.1_auth_token="));
    assert!(!cookie.contains("hunter2"));
    let with_cookie = |pair: &str| get("/lab").header("cookie", &format!("a=b; {pair}; c=d"));
    assert_eq!(with_cookie(pair).decide(&auth), allowed(How::Cookie, false, None));
    assert_eq!(with_cookie(&format!("x{pair}")).decide(&auth), Decision::Deny { wrong: false });
    let changed = Credentials::new(b"key", "vastai", &["changed".to_owned()], cookie_name("C.1"));
    assert_eq!(with_cookie(pair).decide(&Authenticator::new(changed)), Decision::Deny { wrong: false });
}

#[test]
fn a_fetch_or_a_post_with_a_token_gets_the_content() {
    let auth = authenticator();
    let fetch = get("/?token=hunter2").header("accept", "text/html").header("sec-fetch-mode", "cors");
    assert_eq!(fetch.decide(&auth), allowed(How::Token, false, Some("")));
    let mut post = get("/?token=hunter2").browser();
    post.method = Method::POST;
    assert_eq!(post.decide(&auth), allowed(How::Token, false, Some("")));
}

#[test]
fn what_belongs_to_the_application_stays() {
    let auth = authenticator();
    let value = auth.credentials().set_cookie(true, get("/").now);
    let pair = value.split(';').next().unwrap();
    let own = get("/?token=jupyter").header("cookie", pair).header("authorization", "Bearer of-the-app");
    assert_eq!(own.decide(&auth), allowed(How::Cookie, false, None));
    let ours = get("/").header("cookie", pair).header("authorization", "Bearer hunter2");
    assert_eq!(ours.decide(&auth), allowed(How::Cookie, true, None));
}

#[test]
fn wrong_offers_are_refused_however_they_look() {
    let auth = authenticator();
    for wrong in ["hunter", "hunter22", "HUNTER2", " hunter2", "hunter2\0", "", "*", "%"] {
        let bearer = format!("Bearer x{wrong}").replace('\0', "");
        for sent in [
            get(&format!("/?token={}", wrong.replace('\0', "%00").replace(' ', "%20"))),
            get("/").header("authorization", &bearer),
            get("/").header("authorization", &basic(&format!("vastai:{wrong}"))),
            get("/").header("authorization", &basic(&format!("root:hunter2{wrong}"))),
            get("/").header("authorization", &basic("root:hunter2")),
            get("/").header("authorization", "Bearer hunter2").header("authorization", "Bearer hunter2"),
            get("/").header("cookie", &format!("C.1_auth_token={}", wrong.replace('\0', ""))),
        ] {
            let decision = sent.decide(&auth);
            assert!(matches!(decision, Decision::Deny { .. } | Decision::Wait(_)), "{wrong:?} {decision:?}");
        }
    }
    assert_eq!(get("/").decide(&auth), Decision::Deny { wrong: false });
}

#[test]
fn guessing_is_slowed_but_neither_the_long_token_nor_the_cookie_is_locked_out() {
    let auth = authenticator();
    let value = auth.credentials().set_cookie(true, get("/").now);
    for _ in 0..10 {
        assert_eq!(get("/?token=guess").decide(&auth), Decision::Deny { wrong: true });
    }
    assert!(matches!(get("/?token=guess").decide(&auth), Decision::Wait(_)));
    assert!(matches!(get("/?token=hunter2").decide(&auth), Decision::Wait(_)), "a right guess is not confirmed");
    assert_eq!(get(&format!("/?token={TOKEN}")).decide(&auth), allowed(How::Token, false, Some("")));
    let cookie = get("/").header("cookie", value.split(';').next().unwrap());
    assert_eq!(cookie.decide(&auth), allowed(How::Cookie, false, None));
    let mut later = get("/?token=hunter2");
    later.now += Duration::from_secs(2);
    assert_eq!(later.decide(&auth), allowed(How::Token, false, Some("")));
}

#[test]
fn without_a_secret_in_the_environment_one_is_made_and_kept() {
    let root = tempfile::tempdir().unwrap();
    let env = BTreeMap::from([("WEB_PASSWORD".to_owned(), " ".to_owned())]);
    let credentials = Credentials::load(root.path(), &env).unwrap();
    assert_eq!(credentials.cookie_name(), "instance_auth_token");
    assert!(!credentials.accepts("", false) && !credentials.accepts(" ", false));
    let kept = Generated::load_or_create(&token_file(root.path())).unwrap();
    assert!(credentials.accepts(kept.reveal(), true));
    assert!(Credentials::load(root.path(), &env).unwrap().accepts(kept.reveal(), false));
}

#[test]
fn neither_credentials_nor_decisions_print_a_secret() {
    assert!(!format!("{:?}", authenticator()).contains("hunter2"));
}
