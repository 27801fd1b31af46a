//! The kernel's answer to "who listens?", over a netlink socket (`sock_diag(7)`, what `ss` uses).
//!
//! `/proc/net/tcp` tells the same, but walks the table of all connections for it: 512 Ki buckets on a large machine, six
//! milliseconds where nothing is in it. Asked for listening sockets alone, the kernel looks at those: less than a tenth of a millisecond.

use std::io;

use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// `SOCK_DIAG_BY_FAMILY`: both the question and the answers.
const BY_FAMILY: u16 = 20;
const DONE: u16 = 3;

/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
const TCP: u8 = 6;

/// The state `TCP_LISTEN` as a set of states.
const LISTENING: u32 = 1 << 10;

const HEADER_BYTES: usize = 16;
const QUESTION_BYTES: usize = 72;

/// Where the port and the inode are in an answer (`inet_diag_msg`).
const PORT_AT: usize = 4;
const INODE_AT: usize = 68;

/// Ports and inodes of all sockets that listen for TCP.
///
/// # Errors
/// Where the kernel, or what stands in for it, does not answer.
pub(super) fn listening() -> io::Result<Vec<(u16, u64)>> {
    let mut found = Vec::new();
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        dump(family, &mut found)?;
    }
    Ok(found)
}

fn dump(family: AddressFamily, found: &mut Vec<(u16, u64)>) -> io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(SOCK_DIAG))?;
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Recv,
        Some(std::time::Duration::from_secs(1)),
    )?;
    send(&socket, &question(family), SendFlags::empty())?;
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let (_, length) = recv(&socket, buffer.as_mut_slice(), RecvFlags::empty())?;
        if read(buffer.get(..length).unwrap_or_default(), found)? {
            return Ok(());
        }
    }
}

fn question(family: AddressFamily) -> [u8; QUESTION_BYTES] {
    let mut bytes = [0; QUESTION_BYTES];
    let mut put = |at: usize, part: &[u8]| {
        for (to, from) in bytes.iter_mut().skip(at).zip(part) {
            *to = *from;
        }
    };
    put(0, &u32::try_from(QUESTION_BYTES).unwrap_or_default().to_ne_bytes());
    put(4, &BY_FAMILY.to_ne_bytes());
    put(6, &DUMP.to_ne_bytes());
    put(HEADER_BYTES, &[u8::try_from(family.as_raw()).unwrap_or_default(), TCP]);
    put(HEADER_BYTES + 4, &LISTENING.to_ne_bytes());
    bytes
}

/// Takes the messages of one datagram; whether they were the last.
fn read(mut bytes: &[u8], found: &mut Vec<(u16, u64)>) -> io::Result<bool> {
    while let (Some(length), Some(kind)) = (u32_at(bytes, 0), u16_at(bytes, 4)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(payload) = bytes.get(HEADER_BYTES..length) else { break };
        match kind {
            BY_FAMILY => {
                let port = payload.get(PORT_AT..PORT_AT + 2).map(|port| u16::from_be_bytes([port[0], port[1]]));
                found.extend(port.zip(u32_at(payload, INODE_AT).map(u64::from)));
            }
            DONE => return Ok(true),
            // NLMSG_ERROR, or nothing that was asked for.
            _ => return Err(io::Error::other("the kernel does not tell who listens")),
        }
        // Messages begin at multiples of four bytes.
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_kernel_tells_the_same_as_its_tables() {
        let sockets = ["127.0.0.1:0", "[::]:0", "0.0.0.0:0"].map(|address| TcpListener::bind(address).unwrap());
        let told = listening().unwrap();
        let tables = super::super::tables(std::path::Path::new("/proc")).unwrap();
        for socket in &sockets {
            let port = socket.local_addr().unwrap().port();
            let inodes =
                |list: &[(u16, u64)]| list.iter().filter(|(p, _)| *p == port).map(|(_, i)| *i).collect::<Vec<_>>();
            assert_eq!(inodes(&told).len(), 1);
            assert_eq!(inodes(&told), inodes(&tables));
        }
    }

    #[test]
    fn an_answer_that_is_cut_or_an_error_is_no_answer() {
        let mut found = Vec::new();
        assert!(!read(&[], &mut found).unwrap());
        assert!(!read(&[200, 0, 0, 0, 20, 0], &mut found).unwrap());
        let mut error = [0; 36];
        (error[0], error[4]) = (36, 2);
        assert!(read(&error, &mut found).is_err());
        // A length of nothing must not be read for ever.
        assert!(!read(&[0; 64], &mut found).unwrap());
        assert!(found.is_empty());
    }
}
