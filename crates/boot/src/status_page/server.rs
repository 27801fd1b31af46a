//! The one thread that serves the page, and gives the port away.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::board::Board;
use super::connection::Connection;
use super::gate::Variables;
use super::site::Site;
use super::socket::Listener;
use crate::console::SharedConsole;

/// Clients at the same time. One more, and the one that has been there longest goes: who asks and takes the answer is long gone by then.
const CLIENTS: usize = 64;

/// Clients that are accepted before those that are there get their turn.
const ACCEPTED_AT_ONCE: usize = 16;

/// How often it is looked whether somebody else listens, before Supervisor runs and after.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOK_OFTEN: Duration = Duration::from_millis(10);

/// How long the connections get that were on their way here when Caddy began to listen: a few round trips around the world.
const DRAIN: Duration = Duration::from_secs(1);

/// How long after Supervisor's start the port is held. Caddy comes within seconds; whoever wants the port and cannot share it gets it then.
const HOLD: Duration = Duration::from_mins(1);

/// Where the page is from now on.
enum Place {
    At(Listener),
    Nowhere,
}

/// What the sequence wants of the thread.
#[derive(Default)]
struct Orders {
    place: Option<Place>,
    variables: Option<Variables>,
    supervisor_runs: bool,
    ended: bool,
}

/// The sequence's end of the thread.
pub(super) struct Control {
    orders: Mutex<Orders>,
    wake: OwnedFd,
}

impl Control {
    pub(super) fn new() -> rustix::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { orders: Mutex::default(), wake })
    }

    /// Whether the page has gone.
    pub(super) fn has_ended(&self) -> bool {
        self.orders().ended
    }

    pub(super) fn listen_on(&self, listener: Option<Listener>) {
        self.order(|orders| orders.place = Some(listener.map_or(Place::Nowhere, Place::At)));
    }

    pub(super) fn follow(&self, variables: Variables) {
        self.order(|orders| orders.variables = Some(variables));
    }

    pub(super) fn supervisor_runs(&self) {
        self.order(|orders| orders.supervisor_runs = true);
    }

    /// Nothing is ordered of a thread that has ended: a listener would stay in the order, with connections that nobody accepts.
    fn order(&self, change: impl FnOnce(&mut Orders)) {
        let mut orders = self.orders();
        if orders.ended {
            return;
        }
        change(&mut orders);
        drop(orders);
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that the thread has.
pub(super) struct Server {
    pub(super) site: Site,
    pub(super) control: Arc<Control>,
    pub(super) board: Board,
    pub(super) console: SharedConsole,
    pub(super) listener: Option<Listener>,
    pub(super) variables: Variables,
}

/// However the thread ends, nothing is kept for it any more.
struct Ending<'a>(&'a Control, &'a Board);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.1.close();
        *self.0.orders() = Orders { ended: true, ..Orders::default() };
    }
}

impl Server {
    /// Serves until the port is given away and the last client has its answer.
    pub(super) fn run(mut self) {
        let (control, board) = (self.control.clone(), self.board.clone());
        let _ending = Ending(&control, &board);
        let mut clients: Vec<Connection> = Vec::new();
        let mut turn = Turn::default();
        loop {
            self.obey(&mut turn);
            self.hand_over(&mut turn, &mut clients);
            // Before Supervisor runs, a stage may still move the page to where it can be served.
            if self.listener.is_none() && clients.is_empty() && turn.supervisor.is_some() {
                return;
            }
            self.wait(&turn, &clients);
            self.accept(&mut clients, ACCEPTED_AT_ONCE);
            let now = Instant::now();
            clients.retain_mut(|client| client.advance(&mut self.site, now));
        }
    }

    fn obey(&mut self, turn: &mut Turn) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.control.wake, &mut count);
        let mut orders = self.control.orders();
        let (place, variables) = (orders.place.take(), orders.variables.take());
        if orders.supervisor_runs {
            turn.supervisor.get_or_insert_with(|| {
                turn.next = None;
                Instant::now()
            });
        }
        drop(orders);
        if place.is_none() && variables.is_none() {
            return;
        }
        if let Some(place) = place {
            self.listener = match place {
                Place::At(listener) => Some(listener),
                Place::Nowhere => None,
            };
            turn.leaving = None;
        }
        if let Some(variables) = variables {
            self.variables = variables;
        }
        if let Some(listener) = &self.listener {
            self.site.change(listener.port(), self.variables.clone());
        }
    }

    /// Gives the port away as soon as somebody else listens on it.
    fn hand_over(&mut self, turn: &mut Turn, clients: &mut Vec<Connection>) {
        let now = Instant::now();
        let Some(listener) = self.listener.as_ref().filter(|_| turn.is_due(now)) else { return };
        let shared = listener.is_shared();
        turn.looked_for(now.elapsed());
        match (shared, turn.leaving) {
            (true, None) => {
                listener.steer_away();
                turn.leaving = Some(now);
            }
            (true, Some(since)) if now.duration_since(since) >= DRAIN => {
                turn.supervisor.get_or_insert(now);
                self.accept(clients, CLIENTS);
                self.listener = None;
            }
            // Whoever it was has gone again.
            (false, Some(_)) => turn.leaving = None,
            (false, None) if turn.supervisor.is_some_and(|since| now.duration_since(since) >= HOLD) => {
                let port = listener.port();
                self.console.line(&format!("Caddy has not taken port {port} over; the status page leaves it"));
                self.listener = None;
            }
            _ => {}
        }
    }

    fn wait(&self, turn: &Turn, clients: &[Connection]) {
        let deadlines = clients.iter().map(Connection::deadline);
        let next = deadlines.chain(turn.next.filter(|_| self.listener.is_some())).min();
        let timeout = next.map(|next| next.saturating_duration_since(Instant::now()));
        let mut ends = vec![PollFd::new(&self.control.wake, PollFlags::IN)];
        ends.extend(self.listener.iter().map(|listener| PollFd::new(listener, PollFlags::IN)));
        ends.extend(clients.iter().map(|client| {
            PollFd::from_borrowed_fd(client.as_fd(), if client.wants_write() { PollFlags::OUT } else { PollFlags::IN })
        }));
        // Rounded up: a wait that ends just before a deadline would be followed by many of no length.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout + Duration::from_micros(200)).ok());
        let _ = poll(&mut ends, timeout.as_ref());
    }

    fn accept(&self, clients: &mut Vec<Connection>, at_most: usize) {
        let Some(listener) = &self.listener else { return };
        for _ in 0..at_most {
            // Nobody is there, or has gone again.
            let Ok((stream, peer)) = listener.socket().accept() else { return };
            if clients.len() >= CLIENTS {
                clients.remove(0);
            }
            clients.extend(Connection::new(stream, peer, Instant::now()).ok());
        }
    }
}

/// Where the port's change of hands is.
#[derive(Default)]
struct Turn {
    /// Since when Supervisor runs.
    supervisor: Option<Instant>,
    /// Since when somebody else listens.
    leaving: Option<Instant>,
    /// When to look next; at once at first.
    next: Option<Instant>,
}

impl Turn {
    /// Whether it is time to look who listens.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next.is_none_or(|next| now >= next);
        if due {
            let soon = self.supervisor.is_some() || self.leaving.is_some();
            self.next = Some(now + if soon { LOOK_OFTEN } else { LOOK_EVERY });
        }
        due
    }

    /// A look that took long, where the kernel answers slowly, is not to become all that is done.
    fn looked_for(&mut self, took: Duration) {
        self.next = self.next.map(|next| next + took * 9);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::console::Console;

    #[derive(Default)]
    struct Said(Mutex<Vec<String>>);

    impl Console for Said {
        fn line(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }

        fn raw(&self, _: &[u8]) {}
    }

    fn server() -> (Server, Arc<Said>) {
        let port = TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
        let (board, said) = (Board::default(), Arc::new(Said::default()));
        let server = Server {
            site: Site::new("/nowhere".into(), port, Variables::new(), board.clone()),
            control: Arc::new(Control::new().unwrap()),
            board,
            console: said.clone(),
            listener: Some(Listener::bind(port).unwrap()),
            variables: Variables::new(),
        };
        (server, said)
    }

    /// Looks at once, whenever the last look was.
    fn look(server: &mut Server, turn: &mut Turn) {
        turn.next = None;
        server.hand_over(turn, &mut Vec::new());
    }

    #[test]
    fn a_port_that_nobody_takes_over_is_left_some_time_after_supervisors_start() {
        let (mut server, said) = server();
        let mut turn = Turn::default();
        look(&mut server, &mut turn);
        turn.supervisor = Some(Instant::now());
        look(&mut server, &mut turn);
        assert!(server.listener.is_some());
        turn.supervisor = Instant::now().checked_sub(HOLD);
        look(&mut server, &mut turn);
        assert!(server.listener.is_none());
        let said = said.0.lock().unwrap();
        assert!(matches!(said.as_slice(), [line] if line.contains("not taken")), "{said:?}");
    }

    #[test]
    fn the_port_is_kept_until_the_connections_on_their_way_have_come() {
        let (mut server, _) = server();
        let mut turn = Turn::default();
        let port = server.listener.as_ref().unwrap().port();
        let other = super::super::socket::tests::caddy(port);
        look(&mut server, &mut turn);
        assert!(turn.leaving.is_some() && server.listener.is_some());
        // A Caddy that fails at once leaves the port to the page again.
        drop(other);
        look(&mut server, &mut turn);
        assert!(turn.leaving.is_none() && server.listener.is_some());
        let _other = super::super::socket::tests::caddy(port);
        look(&mut server, &mut turn);
        turn.leaving = Instant::now().checked_sub(DRAIN);
        look(&mut server, &mut turn);
        assert!(server.listener.is_none());
    }

    #[test]
    fn a_listener_that_the_thread_does_not_take_any_more_is_closed() {
        let (server, _) = server();
        let (control, board) = (server.control.clone(), server.board.clone());
        drop(server);
        let listen = || {
            let port = TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
            control.listen_on(Some(Listener::bind(port).unwrap()));
            port
        };
        let closed = |port: u16| std::net::TcpStream::connect(("::1", port)).is_err();
        // Between the last look at the orders and the end, and after it.
        let before = listen();
        assert!(!closed(before));
        drop(Ending(&control, &board));
        assert!(closed(before) && control.has_ended());
        assert!(closed(listen()));
    }

    #[test]
    fn looking_is_cheap_until_supervisor_runs() {
        let mut turn = Turn::default();
        let now = Instant::now();
        assert!(turn.is_due(now) && !turn.is_due(now + LOOK_OFTEN) && turn.is_due(now + LOOK_EVERY));
        turn.supervisor = Some(now);
        turn.next = None;
        assert!(turn.is_due(now) && turn.is_due(now + LOOK_OFTEN));
    }
}
