//! Asking Supervisor to stop its programs all at once.
//!
//! Told to end, supervisord stops one program after the other and looks at most once a second: eight idle programs
//! alone outlast what a container stop grants. Asked over its socket first, it stops them all at the same time, each with
//! its own signal, and then has nothing left to wait for.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A Supervisor that does not answer by then is told to end all the same.
const LIMIT: Duration = Duration::from_millis(1500);

/// More than any answer to this call: an acknowledgement for each program.
const LARGEST_ANSWER_BYTES: u64 = 1 << 20;

/// `supervisor.stopAllProcesses(wait = false)`: it answers when every program has been signalled.
const STOP_ALL: &str = "<?xml version=\"1.0\"?><methodCall><methodName>supervisor.stopAllProcesses</methodName>\
                        <params><param><value><boolean>0</boolean></value></param></params></methodCall>";

/// Asks for the stop of every program, and returns when all have been signalled.
pub(super) fn stop_all(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(
        stream,
        "POST /RPC2 HTTP/1.0\r\nHost: supervisor\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{STOP_ALL}",
        STOP_ALL.len()
    )?;
    let mut answer = String::new();
    stream.take(LARGEST_ANSWER_BYTES).read_to_string(&mut answer)?;
    let accepted = answer.lines().next().is_some_and(|status| status.contains(" 200 "));
    if accepted { Ok(()) } else { Err(io::Error::other(answer.lines().next().unwrap_or("no answer").to_owned())) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::thread::JoinHandle;

    use super::*;

    /// A socket that answers one request, and what it was asked.
    fn answering(answer: &'static str) -> (tempfile::TempDir, PathBuf, JoinHandle<String>) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("supervisor.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"</methodCall>") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(request).unwrap()
        });
        (folder, socket, asked)
    }

    #[test]
    fn all_programs_are_stopped_without_waiting_for_any() {
        let (_folder, socket, asked) = answering("HTTP/1.0 200 OK\r\n\r\n<methodResponse/>");
        stop_all(&socket).unwrap();
        let request = asked.join().unwrap();
        assert!(request.starts_with("POST /RPC2 HTTP/1.0\r\n"), "{request}");
        assert!(request.contains("stopAllProcesses") && request.contains("<boolean>0</boolean>"), "{request}");
    }

    #[test]
    fn a_refusal_and_a_missing_socket_are_errors() {
        let (folder, socket, asked) = answering("HTTP/1.0 401 Unauthorized\r\n\r\n");
        assert!(stop_all(&socket).unwrap_err().to_string().contains("401"));
        asked.join().unwrap();
        assert!(stop_all(&folder.path().join("absent")).is_err());
    }
}
