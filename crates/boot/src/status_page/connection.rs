//! One client, who may be anybody: slow, silent, endless, or not speaking HTTP at all.
//!
//! A connection costs its buffers and a moment of one thread. It is over at its deadline, whatever it is in the middle of.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use rustls::{ServerConnection, StreamOwned};
use vast_portal::auth::answer;

use super::request::{self, Reading};
use super::site::{self, Client, Site};

/// How long a request may take to arrive, and an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a client gets to close after the answer. Closing before it has sent all would destroy the answer on its way.
const LINGER: Duration = Duration::from_secs(1);

/// What a client may still send meanwhile.
const LINGER_BYTES: usize = 256 * 1024;

/// What a TLS client says first.
const HANDSHAKE: u8 = 0x16;

/// A connection under way.
pub(super) struct Connection {
    stream: Transport,
    client: Client,
    phase: Phase,
    deadline: Instant,
    input: Vec<u8>,
    output: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing has come yet that would tell plain text from TLS.
    New,
    Reading,
    /// So much is sent.
    Writing(usize),
    /// So much came after the answer.
    Closing(usize),
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Transport {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    fn wants_write(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.conn.wants_write())
    }

    /// Says that nothing more comes.
    fn end(&mut self) {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        let _ = self.socket().shutdown(Shutdown::Write);
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Connection {
    /// A client that was just accepted.
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: Transport::Plain(stream),
            client: Client { address: Some(peer.ip().to_canonical()), tls: false },
            phase: Phase::New,
            deadline: now + PATIENCE,
            input: Vec::new(),
            output: Vec::new(),
        })
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether it waits until it can send, rather than until something comes.
    pub(super) fn wants_write(&self) -> bool {
        matches!(self.phase, Phase::Writing(_)) || self.stream.wants_write()
    }

    /// Goes on as far as it can without waiting; whether there is more to come.
    pub(super) fn advance(&mut self, site: &mut Site, now: Instant) -> bool {
        if now >= self.deadline {
            return false;
        }
        loop {
            let step = match self.phase {
                Phase::New => self.begin(site),
                Phase::Reading => self.read(site, now),
                Phase::Writing(sent) => self.write(sent, now),
                Phase::Closing(came) => self.close(came),
            };
            match step {
                Ok(Some(phase)) => self.phase = phase,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(None) | Err(_) => return false,
            }
        }
    }

    fn begin(&mut self, site: &mut Site) -> io::Result<Option<Phase>> {
        let Transport::Plain(socket) = &self.stream else { return Ok(Some(Phase::Reading)) };
        let mut first = [0];
        if socket.peek(&mut first)? == 0 {
            return Ok(None);
        }
        if first == [HANDSHAKE] {
            let Some(config) = site.tls() else { return Ok(None) };
            let tls = ServerConnection::new(config).map_err(io::Error::other)?;
            let socket = socket.try_clone()?;
            self.stream = Transport::Tls(Box::new(StreamOwned::new(tls, socket)));
            self.client.tls = true;
        }
        Ok(Some(Phase::Reading))
    }

    fn read(&mut self, site: &mut Site, now: Instant) -> io::Result<Option<Phase>> {
        let mut chunk = [0; 4096];
        let count = self.stream.read(&mut chunk)?;
        if count == 0 {
            return Ok(None);
        }
        self.input.extend(chunk.get(..count).unwrap_or_default());
        let (response, head_only) = match request::read(&self.input) {
            Reading::Partial => return Ok(Some(Phase::Reading)),
            Reading::Complete(request) => (site.answer(&request, self.client), request.method == Method::HEAD),
            Reading::Bad(status) => (answer::plain(status, bad(status)), false),
        };
        self.output = site::to_bytes(&response, head_only);
        self.deadline = now + PATIENCE;
        Ok(Some(Phase::Writing(0)))
    }

    fn write(&mut self, sent: usize, now: Instant) -> io::Result<Option<Phase>> {
        let left = self.output.get(sent..).unwrap_or_default();
        if left.is_empty() {
            self.stream.flush()?;
            if self.stream.wants_write() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.stream.end();
            self.deadline = now + LINGER;
            return Ok(Some(Phase::Closing(0)));
        }
        match self.stream.write(left)? {
            0 => Ok(None),
            count => Ok(Some(Phase::Writing(sent + count))),
        }
    }

    fn close(&mut self, came: usize) -> io::Result<Option<Phase>> {
        let mut ignored = [0; 4096];
        // Whatever it is, it is not read: also of TLS, only the socket matters now.
        let mut socket = self.stream.socket();
        let count = socket.read(&mut ignored)?;
        Ok((count > 0 && came + count < LINGER_BYTES).then_some(Phase::Closing(came + count)))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.socket().as_fd()
    }
}

fn bad(status: StatusCode) -> String {
    format!("{}\n", status.canonical_reason().unwrap_or("Bad request"))
}
