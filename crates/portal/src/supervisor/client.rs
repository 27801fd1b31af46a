//! Calls over the socket: one connection each, as Supervisor's own client does.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::value::{Answer, answer, call};
use super::{Process, Value};
use crate::Error;

/// An answer about hundreds of processes is some 100 kB.
const ANSWER_LIMIT_BYTES: usize = 16 << 20;
/// Longer than any `stopwaitsecs` that a program's file should have.
const TIME_LIMIT: Duration = Duration::from_mins(2);
/// Supervisor's fault for stopping what does not run.
const NOT_RUNNING: i64 = 70;

/// A client for the Supervisor behind a socket. Cheap: it holds no connection.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client for this socket, usually `/var/run/supervisor.sock`.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Every process, in Supervisor's order.
    ///
    /// # Errors
    /// When Supervisor cannot be reached or answers with a fault or nonsense; so too below.
    pub async fn processes(&self) -> Result<Vec<Process>, Error> {
        match self.call("supervisor.getAllProcessInfo", &[]).await? {
            Value::Array(values) => Ok(values.iter().filter_map(Process::from_value).collect()),
            _ => Err(Error::SupervisorAnswer {
                method: "supervisor.getAllProcessInfo".to_owned(),
                reason: "it is not a list".to_owned(),
            }),
        }
    }

    /// Starts a process without waiting until it counts as running.
    pub async fn start(&self, name: &str) -> Result<(), Error> {
        self.call("supervisor.startProcess", &[Value::Text(name.to_owned()), Value::Bool(false)]).await.map(drop)
    }

    /// Stops a process and waits until it has ended.
    pub async fn stop(&self, name: &str) -> Result<(), Error> {
        self.call("supervisor.stopProcess", &[Value::Text(name.to_owned()), Value::Bool(true)]).await.map(drop)
    }

    /// Stops a process if it runs, and starts it.
    pub async fn restart(&self, name: &str) -> Result<(), Error> {
        match self.stop(name).await {
            Ok(()) | Err(Error::SupervisorFault { code: NOT_RUNNING, .. }) => self.start(name).await,
            Err(error) => Err(error),
        }
    }

    /// Calls any method.
    pub async fn call(&self, method: &str, parameters: &[Value]) -> Result<Value, Error> {
        let unreachable = |source| Error::SupervisorUnreachable { socket: self.socket.clone(), source };
        let xml = match tokio::time::timeout(TIME_LIMIT, self.post(call(method, parameters))).await {
            Ok(answered) => answered.map_err(unreachable)?,
            Err(_) => return Err(unreachable(io::Error::from(io::ErrorKind::TimedOut))),
        };
        match answer(&xml) {
            Ok(Answer::Value(value)) => Ok(value),
            Ok(Answer::Fault { code, text }) => {
                Err(Error::SupervisorFault { method: method.to_owned(), code, fault: text })
            }
            Err(reason) => Err(Error::SupervisorAnswer { method: method.to_owned(), reason }),
        }
    }

    async fn post(&self, xml: String) -> io::Result<String> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let driver = tokio::spawn(connection);
        let request = Request::post("/RPC2")
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "text/xml")
            .body(Full::new(Bytes::from(xml)))
            .map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT_BYTES).collect().await.map_err(io::Error::other)?;
        driver.abort();
        if !status.is_success() {
            return Err(io::Error::other(format!("it answers {status}")));
        }
        Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    }
}
