//! The portal's port, held so that Caddy can take it without a connection being refused.
//!
//! Caddy sets `SO_REUSEPORT` (2.6 and later), and so does this socket: both may listen at once. As soon as the other
//! listener is there, new connections are [steered](Listener::steer_away) to it by the kernel, those already on their way to us are
//! still accepted and answered, and then this socket is closed. Closing it at once would reset whatever is in its queue.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

use crate::error::Error;
use crate::listeners;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: i32 = 256;

/// The kernel's tables.
const PROC: &str = "/proc";

/// A port that is listened on.
#[derive(Debug)]
pub(super) struct Listener {
    socket: TcpListener,
    port: u16,
    inode: u64,
}

impl Listener {
    /// Listens on all addresses of both families, as Caddy does.
    ///
    /// # Errors
    /// [`Error::Port`] when somebody has the port. That it could be shared does not make it ours.
    pub(super) fn bind(port: u16) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Port { port, by: owners(port), source };
        let socket = bound(port).map_err(failed)?;
        let inode = File::from(socket.try_clone().map_err(failed)?).metadata().map_err(failed)?.ino();
        // A socket that is bound and does not listen is in no table: this finds others alone.
        if shared(port, inode) {
            return Err(failed(io::Error::from(io::ErrorKind::AddrInUse)));
        }
        listen(&socket, BACKLOG).map_err(io::Error::from).map_err(failed)?;
        Ok(Self { socket: TcpListener::from(socket), port, inode })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Accepts without waiting.
    pub(super) fn socket(&self) -> &TcpListener {
        &self.socket
    }

    /// Whether somebody else listens on the port by now.
    pub(super) fn is_shared(&self) -> bool {
        shared(self.port, self.inode)
    }

    /// Asks the kernel to give new connections to the other listener. Where it cannot, they are divided among both until this
    /// one is closed.
    pub(super) fn steer_away(&self) -> bool {
        // Sockets that share a port are numbered in the order in which they began to listen; ours was the first, so it is 0. A
        // number that is not there makes the kernel choose as it would without a program.
        let mut program = [libc::sock_filter { code: RETURN, jt: 0, jf: 0, k: 1 }];
        let program = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
        attach(self.socket.as_fd(), &program)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// `BPF_RET | BPF_K`: the program's result is a constant.
const RETURN: u16 = 0x06;

#[allow(unsafe_code, reason = "no safe wrapper knows SO_ATTACH_REUSEPORT_CBPF")]
fn attach(socket: BorrowedFd<'_>, program: &libc::sock_fprog) -> bool {
    let length = size_of::<libc::sock_fprog>();
    let Ok(length) = libc::socklen_t::try_from(length) else { return false };
    // SAFETY: the descriptor is open as long as it is borrowed; the option takes a `sock_fprog` of this length, which with the
    // instructions that it points to outlives the call; the kernel copies both.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            std::ptr::from_ref(program).cast(),
            length,
        )
    };
    result == 0
}

fn bound(port: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let new = |family| -> rustix::io::Result<OwnedFd> {
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        set_socket_reuseaddr(&socket, true)?;
        set_socket_reuseport(&socket, true)?;
        Ok(socket)
    };
    let six = new(AddressFamily::INET6).and_then(|socket| {
        set_ipv6_v6only(&socket, false)?;
        bind(&socket, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0))?;
        Ok(socket)
    });
    match six {
        Err(rustix::io::Errno::ADDRINUSE) => Err(rustix::io::Errno::ADDRINUSE.into()),
        // Without IPv6 Caddy does the same.
        Err(_) => {
            let socket = new(AddressFamily::INET)?;
            bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
            Ok(socket)
        }
        Ok(socket) => Ok(socket),
    }
}

fn shared(port: u16, own: u64) -> bool {
    listeners::sockets().iter().any(|(other, inode)| *other == port && *inode != own)
}

/// Who has the port, for people.
fn owners(port: u16) -> String {
    let programs = listeners::programs(Path::new(PROC)).unwrap_or_default();
    let names: Vec<String> = programs.get(&port).into_iter().flatten().cloned().collect();
    if names.is_empty() { "another program".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::TcpStream;

    use super::*;

    /// A free port that nothing else on this machine takes by number.
    fn free() -> u16 {
        TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
    }

    /// What Caddy does, and nothing before it.
    pub(in super::super) fn caddy(port: u16) -> TcpListener {
        let socket = bound(port).unwrap();
        listen(&socket, BACKLOG).unwrap();
        TcpListener::from(socket)
    }

    fn accepted(listener: &TcpListener) -> usize {
        std::iter::from_fn(|| listener.accept().ok()).count()
    }

    #[test]
    fn a_port_that_somebody_has_is_not_ours_even_if_it_could_be_shared() {
        let port = free();
        let other = caddy(port);
        let error = Listener::bind(port).unwrap_err();
        assert!(matches!(&error, Error::Port { .. }), "{error}");
        drop(other);
        let ours = Listener::bind(port).unwrap();
        assert!(!ours.is_shared());
        let alone = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = alone.local_addr().unwrap().port();
        let error = Listener::bind(taken).unwrap_err().to_string();
        let me = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert!(error.contains(&taken.to_string()) && error.contains(me.trim()), "{error}");
    }

    #[test]
    fn both_families_are_served() {
        let ours = Listener::bind(free()).unwrap();
        let _streams = ["127.0.0.1", "::1"].map(|host| TcpStream::connect((host, ours.port())).unwrap());
        assert_eq!(accepted(ours.socket()), 2);
    }

    #[test]
    fn after_the_turn_every_new_connection_is_the_others_and_none_is_refused() {
        let ours = Listener::bind(free()).unwrap();
        let before = TcpStream::connect(("127.0.0.1", ours.port())).unwrap();
        let other = caddy(ours.port());
        assert!(ours.is_shared());
        assert!(ours.steer_away());
        let streams: Vec<_> = (0..50)
            .flat_map(|_| ["127.0.0.1", "::1"].map(|host| TcpStream::connect((host, ours.port())).unwrap()))
            .collect();
        assert_eq!((accepted(ours.socket()), accepted(&other)), (1, 100));
        let port = ours.port();
        drop((ours, before));
        let _again = TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!((accepted(&other), streams.len()), (1, 100));
    }
}
