//! A web server on loopback that answers as the test says, however badly: resets, endless bodies, silence.
//!
//! ```
//! use std::io::{Read as _, Write as _};
//! use vast_testkit::web::{Answer, Server};
//!
//! let server = Server::start(|request| Answer::ok(format!("you asked for {}", request.target)));
//! let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
//! stream.write_all(b"GET /x HTTP/1.1\r\n\r\n").unwrap();
//! let mut answer = String::new();
//! stream.read_to_string(&mut answer).unwrap();
//! assert!(answer.ends_with("\r\n\r\nyou asked for /x"));
//! assert_eq!(server.requests().len(), 1);
//! ```

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// How long [`Answer::trickle`] waits between two bytes.
const TRICKLE: Duration = Duration::from_millis(20);

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// As long as `Content-Length` says.
    pub body: Vec<u8>,
    /// When it had come.
    pub at: SystemTime,
}

impl Request {
    /// The first header of this name (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What becomes of a request. Every connection carries one.
#[derive(Debug, Clone)]
pub struct Answer {
    bytes: Vec<u8>,
    end: End,
}

#[derive(Debug, Clone)]
enum End {
    /// The connection is closed.
    Close,
    /// It is torn down, so that the client gets a reset.
    Reset,
    /// These bytes, again and again, until the client has enough.
    Repeat(Vec<u8>),
    /// The bytes one by one, slowly, and then more of the same.
    Trickle,
    /// Nothing more, until the client goes.
    Silence,
}

impl Answer {
    /// These bytes on the wire, then the end of the connection.
    #[must_use]
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), end: End::Close }
    }

    /// A whole answer: a status such as `404 Not Found`, header lines each with its `\r\n`, and a body.
    #[must_use]
    pub fn new(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n", body.len());
        Self::raw([head.as_bytes(), body].concat())
    }

    /// 200 with this body.
    #[must_use]
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::new("200 OK", "", body)
    }

    /// This status, without a body.
    #[must_use]
    pub fn status(status: &str) -> Self {
        Self::new(status, "", "")
    }

    /// A redirect.
    #[must_use]
    pub fn redirect(to: &str) -> Self {
        Self::new("302 Found", &format!("Location: {to}\r\n"), "")
    }

    /// The head and the first bytes of a longer body, then a reset.
    #[must_use]
    pub fn reset_after(body: &str) -> Self {
        let length = body.len() + 1000;
        Self { bytes: format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").into(), end: End::Reset }
    }

    /// A body of `piece`, without end.
    #[must_use]
    pub fn endless(piece: impl Into<Vec<u8>>) -> Self {
        Self { bytes: b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(), end: End::Repeat(piece.into()) }
    }

    /// An answer that arrives byte by byte and never ends.
    #[must_use]
    pub fn trickle() -> Self {
        Self { bytes: b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n".to_vec(), end: End::Trickle }
    }

    /// No answer at all.
    #[must_use]
    pub fn silence() -> Self {
        Self { bytes: Vec::new(), end: End::Silence }
    }

    fn send(&self, mut stream: TcpStream) -> io::Result<()> {
        match &self.end {
            End::Close => stream.write_all(&self.bytes),
            End::Reset => {
                stream.write_all(&self.bytes)?;
                // Closing with a linger of nothing sends a reset in place of an end.
                rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).map_err(io::Error::from)
            }
            End::Repeat(piece) => {
                stream.write_all(&self.bytes)?;
                loop {
                    stream.write_all(piece)?;
                }
            }
            End::Trickle => {
                for byte in self.bytes.iter().chain(std::iter::repeat(&b'#')) {
                    stream.write_all(&[*byte])?;
                    std::thread::sleep(TRICKLE);
                }
                Ok(())
            }
            End::Silence => stream.read_to_end(&mut Vec::new()).map(drop),
        }
    }
}

/// The server. It stops when it is dropped; a connection that is still open then ends with its client.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on a free port of loopback and answers each request with what `answer` gives.
    #[must_use]
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let (log, stop, answer) = (requests.clone(), stopped.clone(), Arc::new(answer));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let (stream, log, answer) = (stream.unwrap(), log.clone(), answer.clone());
                std::thread::spawn(move || {
                    // A client may go at any time; what it saw is for the test to judge.
                    let Ok(request) = read(&stream) else { return };
                    log.lock().unwrap().push(request.clone());
                    let _ = answer(&request).send(stream);
                });
            }
        });
        Self { address, requests, stopped, thread: Some(thread) }
    }

    /// Answers the requests with these, in their order, and all further ones with the last.
    #[must_use]
    pub fn sequence(answers: Vec<Answer>) -> Self {
        let next = Mutex::new(0);
        Self::start(move |_| {
            let mut next = next.lock().unwrap();
            let answer = answers[(*next).min(answers.len() - 1)].clone();
            *next += 1;
            answer
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of `path` (with its slash) on this server.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it was asked so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(stream: &TcpStream) -> io::Result<Request> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let mut words = lines.first().map_or("", String::as_str).split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers: Vec<(String, String)> = lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(Ok(0), |(_, value)| value.parse());
    let mut body = vec![0; length.map_err(io::Error::other)?];
    reader.read_exact(&mut body)?;
    Ok(Request { method, target, headers, body, at: SystemTime::now() })
}
