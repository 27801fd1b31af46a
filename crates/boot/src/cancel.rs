//! One stop, asked for once, seen by everything that waits.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

/// The signal that asked for the stop, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// SIGTERM or SIGINT.
    pub signal: Signal,
    /// When it arrived.
    pub at: Instant,
}

type Waiter = Box<dyn FnOnce(Stop) + Send>;

#[derive(Default)]
struct State {
    stop: Option<Stop>,
    waiters: Vec<Waiter>,
}

/// A handle on the stop; clones share it.
#[derive(Clone, Default)]
pub struct Cancel(Arc<(Mutex<State>, Condvar)>);

impl Cancel {
    /// A handle on a stop that nobody asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the stop. The first signal decides; later ones change nothing.
    pub fn fire(&self, signal: Signal) {
        let stop = Stop { signal, at: Instant::now() };
        let waiters = {
            let mut state = self.state();
            if state.stop.is_some() {
                return;
            }
            state.stop = Some(stop);
            std::mem::take(&mut state.waiters)
        };
        self.0.1.notify_all();
        for waiter in waiters {
            waiter(stop);
        }
    }

    /// The stop, once it was asked for.
    #[must_use]
    pub fn stop(&self) -> Option<Stop> {
        self.state().stop
    }

    /// Whether the stop was asked for.
    #[must_use]
    pub fn is_fired(&self) -> bool {
        self.stop().is_some()
    }

    /// Calls `waiter` when the stop is asked for, at once when it already was.
    pub fn on_fire(&self, waiter: impl FnOnce(Stop) + Send + 'static) {
        let mut state = self.state();
        match state.stop {
            Some(stop) => {
                drop(state);
                waiter(stop);
            }
            None => state.waiters.push(Box::new(waiter)),
        }
    }

    /// Waits for `duration`, or less when the stop comes; whether it came.
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> bool {
        let state = self.state();
        let (state, _) = self
            .0
            .1
            .wait_timeout_while(state, duration, |state| state.stop.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.stop.is_some()
    }

    /// A waiter that panicked left the state whole: it runs outside the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Cancel").field(&self.stop()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_stop_ends_a_sleep_and_reaches_every_waiter_once() {
        let cancel = Cancel::new();
        let (sender, receiver) = mpsc::channel();
        let early = sender.clone();
        cancel.on_fire(move |stop| early.send(stop.signal).unwrap());
        let other = cancel.clone();
        let sleeper = std::thread::spawn(move || other.sleep(Duration::from_hours(1)));
        cancel.fire(Signal::TERM);
        cancel.fire(Signal::INT);
        assert!(sleeper.join().unwrap());
        cancel.on_fire(move |stop| sender.send(stop.signal).unwrap());
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [Signal::TERM, Signal::TERM]);
    }
}
