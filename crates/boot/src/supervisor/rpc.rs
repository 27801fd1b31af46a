//! Calls to Supervisor over its socket: XML-RPC, as far as a boot needs it. <http://supervisord.org/api.html>

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// More than any answer: some kilobytes for each program.
const LARGEST_ANSWER_BYTES: u64 = 4 << 20;

/// Calls a method; `params` is the XML of its parameters. Gives the body of the answer.
///
/// # Errors
/// When Supervisor cannot be reached, says nothing for `limit`, or refuses.
pub(super) fn call(socket: &Path, method: &str, params: &str, limit: Duration) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let body = format!(
        "<?xml version=\"1.0\"?><methodCall><methodName>{method}</methodName><params>{params}</params></methodCall>"
    );
    write!(
        stream,
        "POST /RPC2 HTTP/1.0\r\nHost: supervisor\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.take(LARGEST_ANSWER_BYTES).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or("no answer");
    if status.contains(" 200 ") { Ok(body.to_owned()) } else { Err(io::Error::other(status.to_owned())) }
}
