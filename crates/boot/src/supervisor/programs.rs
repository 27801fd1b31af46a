//! Asking Supervisor to stop its programs all at once.
//!
//! Told to end, supervisord stops one program after the other and looks at most once a second: eight idle programs
//! alone outlast what a container stop grants. Asked over its socket first, it stops them all at the same time, each with
//! its own signal, and then has nothing left to wait for.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::rpc;

/// A Supervisor that does not answer by then is told to end all the same.
const LIMIT: Duration = Duration::from_millis(1500);

/// Asks for the stop of every program (`wait = false`), and returns when all have been signalled.
pub(super) fn stop_all(socket: &Path) -> io::Result<()> {
    let at_once = "<param><value><boolean>0</boolean></value></param>";
    rpc::call(socket, "supervisor.stopAllProcesses", at_once, LIMIT).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
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
