//! The page that stands where the portal will be while the instance boots.
//!
//! It is served on the portal's published port from the boot's first moment until Caddy takes the port over: the stages, the progress of a
//! copy, the last lines of output, to whoever the portal would let in.
//!
//! ```text
//!  sequence ──▶ Board ◀── console, journal, copies      one thread: accepts, reads, answers, looks for Caddy
//!                 └──────▶ View ──▶ page, /status.json ──▶ clients
//! ```
//!
//! One thread, no runtime: a boot with nothing to do is over in milliseconds and must not pay for it. What costs something
//! (the portal's secrets, the certificate) is read when the first client comes. What happens to the port: `socket`; what is answered
//! to whom: `site`; with and without TLS: `tls`.
//!
//! When nobody takes the port over within a minute of Supervisor's start, the page leaves it: whoever else wants it may not be able to
//! share it. When Supervisor cannot be started the page stays and says so, as the container does. A `BOOT_SCRIPT` and a serverless
//! instance have no page, and neither has a port that the platform does not publish.

mod board;
mod connection;
mod gate;
mod output;
mod page;
mod request;
mod server;
mod site;
mod socket;
mod tls;
mod view;

use std::sync::Arc;

use crate::console::SharedConsole;
use crate::environment::Environment;
use crate::error::Error;
use crate::root::Root;
use crate::supervisor::Supervisor;
use gate::{Variables, Written};
use server::{Control, Server};
use site::Site;
use socket::Listener;

pub use board::{Board, Copied, Copying, Heard};
pub use request::{Reading, Request, read as read_request};
pub use view::{Copy, Stage, View};

/// The name under which the page is in the journal when its port is taken.
pub const NAME: &str = "status-page";

/// A handshake is the deepest that the thread goes; what it does not touch costs nothing.
const STACK_BYTES: usize = 512 * 1024;

/// The status page of one boot.
#[derive(Default)]
pub struct StatusPage {
    board: Board,
    serving: Option<Serving>,
}

struct Serving {
    root: Root,
    console: SharedConsole,
    written: Written,
    /// The environment that was looked at last.
    seen: Environment,
    variables: Variables,
    plan: Vec<String>,
    port: Option<u16>,
    control: Option<Arc<Control>>,
}

impl StatusPage {
    /// A page of what this board tells, not served yet.
    #[must_use]
    pub fn new(board: Board) -> Self {
        Self { board, serving: None }
    }

    /// What the boot tells.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Serves the page of a boot with these stages, if the portal has a port.
    ///
    /// # Errors
    /// When it cannot be served: [`Error::Port`] where another program has the port.
    pub fn open(
        &mut self,
        root: &Root,
        env: &Environment,
        plan: Vec<String>,
        console: &SharedConsole,
    ) -> Result<(), Error> {
        let written = Written::read(root, env);
        let variables = written.variables(env);
        let port = gate::port(root, &variables);
        let mut serving = Serving {
            root: root.clone(),
            console: console.clone(),
            written,
            seen: env.clone(),
            variables,
            plan,
            port: None,
            control: None,
        };
        let placed = serving.place(port, &self.board);
        self.serving = Some(serving);
        placed
    }

    /// Goes along with what a stage has changed: the port, who may pass, what is secret.
    ///
    /// # Errors
    /// As [`StatusPage::open`], when the page is to be on another port.
    pub fn follow(&mut self, env: &Environment) -> Result<(), Error> {
        let Some(serving) = self.serving.as_mut().filter(|serving| serving.seen != *env) else { return Ok(()) };
        serving.seen = env.clone();
        self.board.hide(env);
        let variables = serving.written.variables(env);
        if variables == serving.variables {
            return Ok(());
        }
        serving.variables = variables;
        if let Some(control) = &serving.control {
            control.follow(serving.variables.clone());
        }
        serving.place(gate::port(&serving.root, &serving.variables), &self.board)
    }

    /// Supervisor is as it is now: Caddy will come, or nobody will.
    pub fn heed(&self, supervisor: &Supervisor) {
        match supervisor {
            Supervisor::Failed => self.board.supervisor_failed(),
            Supervisor::Child(..) | Supervisor::Foreign(_) => {
                if let Some(control) = self.serving.as_ref().and_then(|serving| serving.control.as_ref()) {
                    control.supervisor_runs();
                }
            }
            Supervisor::NotStarted | Supervisor::Ended(_) => {}
        }
    }
}

impl Serving {
    /// Moves the page to a port, or takes it away.
    fn place(&mut self, port: Option<u16>, board: &Board) -> Result<(), Error> {
        if port == self.port || self.control.as_ref().is_some_and(|control| control.has_ended()) {
            // Where it has made way for Caddy, what a stage changes now is Caddy's to follow.
            return Ok(());
        }
        self.port = port;
        let bound = port.map(Listener::bind).transpose();
        match &self.control {
            Some(control) => {
                let (listener, failed) = bound.map_or_else(|error| (None, Err(error)), |listener| (listener, Ok(())));
                control.listen_on(listener);
                failed
            }
            None => match bound? {
                Some(listener) => self.start(listener, board),
                None => Ok(()),
            },
        }
    }

    fn start(&mut self, listener: Listener, board: &Board) -> Result<(), Error> {
        let failed = |source| Error::Run { program: "the status page".to_owned(), source };
        let control = Arc::new(Control::new().map_err(std::io::Error::from).map_err(failed)?);
        board.open(self.plan.clone());
        board.hide(&self.seen);
        // The gate lets in who has these.
        board.hide(self.written.environment());
        let site = Site::new(self.root.path().to_owned(), listener.port(), self.variables.clone(), board.clone());
        let server = Server {
            site,
            control: control.clone(),
            board: board.clone(),
            console: self.console.clone(),
            listener: Some(listener),
            variables: self.variables.clone(),
        };
        let thread = std::thread::Builder::new().name(NAME.to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || server.run()).map_err(failed)?;
        self.control = Some(control);
        Ok(())
    }
}
