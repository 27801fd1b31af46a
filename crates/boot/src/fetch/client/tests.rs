use vast_testkit::web::{Answer as Told, Server};

use super::*;

fn client(url: &str, env: &Environment) -> Client {
    let retry = Retry { tries: 4, first_pause: Duration::from_millis(1), ..Retry::default() };
    Client::new(url, env, retry, Cancel::new())
}

#[test]
fn passing_failures_are_tried_again() {
    let server = Server::sequence(vec![
        Told::new("503 Busy", "Retry-After: 0\r\n", ""),
        Told::reset_after("cut short"),
        Told::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut short"),
        Told::ok("echo"),
    ]);
    let url = server.url("/x.sh");
    assert_eq!(client(&url, &Environment::new()).get(&url).unwrap().content, b"echo");
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn the_last_failure_is_told_and_a_final_one_at_once() {
    for (answer, status, requests) in
        [(Told::new("429 Slow", "Retry-After: 0\r\n", ""), 429, 4), (Told::new("404 Gone", "", "<html>"), 404, 1)]
    {
        let server = Server::sequence(vec![answer]);
        let url = server.url("/x.sh");
        let error = client(&url, &Environment::new()).get(&url).unwrap_err();
        assert!(matches!(error, FetchError::Status { status: told } if told == status));
        assert_eq!((server.requests().len(), error.hint().is_some()), (requests, status == 404));
    }
}

#[test]
fn redirects_are_followed_and_told_of_and_endless_content_is_cut_off() {
    let target = Server::sequence(vec![Told::ok("echo")]);
    let to = target.url("/y.sh");
    let server = Server::sequence(vec![Told::redirect(&to), Told::endless("#".repeat(1 << 16))]);
    let url = server.url("/x.sh");
    let answer = client(&url, &Environment::new()).get(&url).unwrap();
    assert_eq!((answer.content.as_slice(), answer.addresses), (&b"echo"[..], vec![url.clone(), to]));
    assert!(matches!(client(&url, &Environment::new()).get(&url), Err(FetchError::TooLarge)));
}

#[test]
fn a_post_sends_its_body_again_on_every_try() {
    let server = Server::sequence(vec![Told::new("502 Bad", "Retry-After: 0\r\n", ""), Told::ok("cert")]);
    let url = server.url("/sign");
    let answer = client(&url, &Environment::new()).post(&url, "text/plain", "the request").unwrap();
    assert_eq!(answer.content, b"cert");
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.method == "POST" && request.body == b"the request"));
    assert_eq!(requests.len(), 2);
}

#[test]
fn all_tries_together_have_a_limit_and_a_try_that_could_not_begin_in_it_is_not_waited_for() {
    // (the answer, the limit for all tries): each leaves time for one request only.
    for (answer, total) in [
        (Told::new("503 Busy", "Retry-After: 3600\r\n", ""), Duration::from_mins(1)),
        (Told::silence(), Duration::from_millis(50)),
        (Told::trickle(), Duration::from_millis(50)),
    ] {
        let server = Server::sequence(vec![answer]);
        let url = server.url("/");
        let retry = Retry { total_limit: Some(total), ..Retry::default() };
        assert!(Client::new(&url, &Environment::new(), retry, Cancel::new()).get(&url).is_err());
        // On a busy machine the server may not even have read it.
        assert!(server.requests().len() <= 1);
    }
}

#[test]
fn no_message_quotes_an_address_that_cannot_be_fetched() {
    for target in ["ftp://user:secret@host/x?token=secret", "http:///x?token=secret", "https://ho st/?secret"] {
        let server = Server::sequence(vec![Told::redirect(target)]);
        for url in [server.url("/"), target.to_owned()] {
            let error = client(&url, &Environment::new()).get(&url).unwrap_err();
            let told = crate::error::Error::Fetch { url: String::new(), source: error }.chain();
            assert!(!told.contains("secret"), "{told}");
        }
        // The second is read as a path on the same host, which redirects again.
        let expected = if target.starts_with("http:///") { 11 } else { 1 };
        assert_eq!(server.requests().len(), expected, "{target}: it would be the same again");
    }
    let server = Server::sequence(vec![Told::raw("HTTP/1.1 200 OK\r\nsecret secret\r\n\r\n")]);
    let url = server.url("/");
    let error = client(&url, &Environment::new()).get(&url).unwrap_err();
    assert_eq!(error.to_string(), "the server's answer is not valid HTTP");
}

#[test]
fn a_proxy_of_the_environment_is_used_unless_the_host_is_excepted() {
    let server = Server::sequence(vec![Told::status("403 Forbidden")]);
    let proxy = server.url("");
    let env: Environment =
        [("http_proxy", proxy.as_str()), ("NO_PROXY", "127.0.0.1, other.invalid")].into_iter().collect();
    let url = "http://script.invalid/x.sh";
    let retry = Retry { tries: 1, ..Retry::default() };
    assert!(Client::new(url, &env, retry, Cancel::new()).get(url).is_err());
    let asked = &server.requests()[0];
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("CONNECT", "script.invalid:80"));
    let server = Server::sequence(vec![Told::ok("direct")]);
    let direct = server.url("/x.sh");
    assert_eq!(client(&direct, &env).get(&direct).unwrap().content, b"direct");
}

#[test]
fn a_stop_ends_the_pauses() {
    let server = Server::sequence(vec![Told::new("503 Busy", "Retry-After: 100\r\n", "")]);
    let url = server.url("/x.sh");
    let cancel = Cancel::new();
    cancel.fire(rustix::process::Signal::TERM);
    let client = Client::new(&url, &Environment::new(), Retry::default(), cancel);
    assert!(matches!(client.get(&url), Err(FetchError::Cancelled)));
}

#[test]
fn pauses_grow_to_a_limit_and_the_server_is_heard() {
    let retry = Retry::default();
    let seconds = |failed, asked: Option<u64>| retry.pause(failed, asked.map(Duration::from_secs)).as_secs();
    assert_eq!([0, 1, 2, 3, 4, 5, 40].map(|failed| seconds(failed, None)), [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!([seconds(0, Some(7)), seconds(5, Some(0)), seconds(0, Some(86400))], [7, 0, 120]);
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
    for (value, expected) in [
        ("120", Some(120)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
        ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
        ("soon", None),
        ("-1", None),
    ] {
        assert_eq!(retry_after(value, now).map(|duration| duration.as_secs()), expected, "{value}");
    }
}

#[test]
fn user_and_password_travel_in_a_header_as_they_are() {
    for (url, expected, login) in [
        ("https://h:1/p@q?u@v", "https://h:1/p@q?u@v", None),
        ("https://user:pass%21word@h:1/p?q#f", "https://h:1/p?q#f", Some("user:pass!word")),
        ("http://token@h", "http://h", Some("token:")),
        ("http://a%3Ab%:%4@h/", "http://h/", Some("a:b%:%4")),
    ] {
        let login = login.map(|login| format!("Basic {}", STANDARD.encode(login)));
        assert_eq!(split_login(url), (expected.to_owned(), login), "{url}");
    }
}
