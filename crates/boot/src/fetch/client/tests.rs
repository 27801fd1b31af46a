use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use super::*;

/// A server on loopback that answers its connections with these texts, in order, and tells what it was sent.
fn server(answers: Vec<String>) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x.sh", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut request, mut length) = (String::new(), 0);
            while reader.read_line(&mut request).unwrap() > 2 {
                let line = request.lines().last().unwrap().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            request.push_str(&String::from_utf8(body).unwrap());
            // A test that does not look at the requests has dropped the other end.
            let _ = sender.send(request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (url, receiver)
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}", body.len())
}

fn client(url: &str, env: &Environment) -> Client {
    let retry = Retry { tries: 4, first_pause: Duration::from_millis(1), ..Retry::default() };
    Client::new(url, env, retry, Cancel::new())
}

#[test]
fn passing_failures_are_tried_again() {
    let (url, requests) = server(vec![
        answer("503 Busy", "Retry-After: 0\r\n", ""),
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut short".to_owned(),
        String::new(),
        answer("200 OK", "", "echo"),
    ]);
    assert_eq!(client(&url, &Environment::new()).get(&url).unwrap(), b"echo");
    assert_eq!(requests.iter().count(), 4);
}

#[test]
fn the_last_failure_is_told_and_a_final_one_at_once() {
    let (url, requests) = server(vec![answer("429 Slow", "Retry-After: 0\r\n", ""); 4]);
    let error = client(&url, &Environment::new()).get(&url).unwrap_err();
    assert!(matches!(error, FetchError::Status { status: 429 }));
    assert_eq!(requests.iter().count(), 4);

    let (url, requests) = server(vec![answer("404 Gone", "", "<html>")]);
    let error = client(&url, &Environment::new()).get(&url).unwrap_err();
    assert!(matches!(error, FetchError::Status { status: 404 }));
    assert!(error.hint().is_some());
    assert_eq!(requests.iter().count(), 1);
}

#[test]
fn redirects_are_followed_and_endless_content_is_cut_off() {
    let (target, _) = server(vec![answer("200 OK", "", "echo")]);
    let (url, _) = server(vec![answer("302 Found", &format!("Location: {target}\r\n"), "")]);
    assert_eq!(client(&url, &Environment::new()).get(&url).unwrap(), b"echo");

    let body = "#".repeat(usize::try_from(LIMIT_BYTES).unwrap() + 2);
    let (url, _) = server(vec![format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}")]);
    assert!(matches!(client(&url, &Environment::new()).get(&url), Err(FetchError::TooLarge)));
}

#[test]
fn a_post_sends_its_body_again_on_every_try() {
    let (url, requests) = server(vec![answer("502 Bad", "Retry-After: 0\r\n", ""), answer("200 OK", "", "cert")]);
    assert_eq!(client(&url, &Environment::new()).post(&url, "text/plain", "the request").unwrap(), b"cert");
    let requests: Vec<_> = requests.iter().collect();
    assert!(requests.iter().all(|request| request.starts_with("POST ") && request.ends_with("the request")));
    assert_eq!(requests.len(), 2);
}

#[test]
fn a_proxy_of_the_environment_is_used_unless_the_host_is_excepted() {
    let (proxy, requests) = server(vec![answer("403 Forbidden", "", "")]);
    let proxy = proxy.trim_end_matches("/x.sh").to_owned();
    let env: Environment =
        [("http_proxy", proxy.as_str()), ("NO_PROXY", "127.0.0.1, other.invalid")].into_iter().collect();
    let url = "http://script.invalid/x.sh";
    let retry = Retry { tries: 1, ..Retry::default() };
    assert!(Client::new(url, &env, retry, Cancel::new()).get(url).is_err());
    assert!(requests.recv().unwrap().starts_with("CONNECT script.invalid:80 "));
    let (direct, _) = server(vec![answer("200 OK", "", "direct")]);
    assert_eq!(client(&direct, &env).get(&direct).unwrap(), b"direct");
}

#[test]
fn a_stop_ends_the_pauses() {
    let (url, _) = server(vec![answer("503 Busy", "Retry-After: 100\r\n", "")]);
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
