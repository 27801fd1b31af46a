//! One stop, asked for from outside, that gives back what others wait for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

type Release = Box<dyn FnOnce() + Send>;

/// How long a stop waits for whoever is about to register something to release. A volume that does not answer must not
/// keep the process from ending.
const SECTION_MOST: Duration = Duration::from_secs(2);

#[derive(Default)]
struct State {
    fired: bool,
    sections: u32,
    next: u64,
    releases: Vec<(u64, Release)>,
}

/// A handle on the stop; clones share it.
///
/// A copy that is under way is not undone by it. What it was writing can no longer be published, and its lease is
/// released, when [`Cancel::fire`] returns; the process may end then.
#[derive(Clone, Default)]
pub struct Cancel(Arc<(Mutex<State>, Condvar)>);

impl Cancel {
    /// A handle on a stop that nobody asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the stop: leases are released, waits end.
    pub fn fire(&self) {
        self.state().fired = true;
        self.0.1.notify_all();
        let releases = {
            let wait = self.0.1.wait_timeout_while(self.state(), SECTION_MOST, |state| state.sections > 0);
            std::mem::take(&mut wait.unwrap_or_else(PoisonError::into_inner).0.releases)
        };
        for (_, release) in releases {
            release();
        }
    }

    /// Whether the stop was asked for.
    #[must_use]
    pub fn is_fired(&self) -> bool {
        self.state().fired
    }

    /// Begins something that has to be released once it is done: a stop waits until it is done and registered, which is
    /// when the returned value is dropped. `None`: the stop has come.
    pub(crate) fn section(&self) -> Option<Section> {
        let mut state = self.state();
        if state.fired {
            return None;
        }
        state.sections += 1;
        Some(Section { cancel: self.clone() })
    }

    /// Waits for `duration`, or less when the stop comes; whether it came.
    pub(crate) fn sleep(&self, duration: Duration) -> bool {
        let wait = self.0.1.wait_timeout_while(self.state(), duration, |state| !state.fired);
        wait.unwrap_or_else(PoisonError::into_inner).0.fired
    }

    /// Calls `release` when the stop comes, at once when it already came, unless the returned value is dropped before.
    pub(crate) fn on_fire(&self, release: impl FnOnce() + Send + 'static) -> Registration {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        if state.fired {
            drop(state);
            release();
        } else {
            state.releases.push((number, Box::new(release)));
        }
        Registration { cancel: self.clone(), number }
    }

    /// A release that panicked left the state whole: it runs outside the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Cancel").field(&self.is_fired()).finish()
    }
}

/// Something to release when the stop comes; nothing once this is dropped.
#[must_use]
pub(crate) struct Registration {
    cancel: Cancel,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.cancel.state().releases.retain(|(number, _)| *number != self.number);
    }
}

/// A stop waits until this is dropped.
#[must_use]
pub(crate) struct Section {
    cancel: Cancel,
}

impl Drop for Section {
    fn drop(&mut self) {
        self.cancel.state().sections -= 1;
        self.cancel.0.1.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_stop_releases_what_is_registered_and_ends_waits() {
        let cancel = Cancel::new();
        let released = Arc::new(AtomicU32::new(0));
        let count = |cancel: &Cancel| {
            let released = Arc::clone(&released);
            cancel.on_fire(move || {
                released.fetch_add(1, Ordering::Relaxed);
            })
        };
        let _kept = count(&cancel);
        drop(count(&cancel));
        let waiter = std::thread::spawn({
            let cancel = cancel.clone();
            move || cancel.sleep(Duration::from_hours(1))
        });
        cancel.fire();
        assert!(waiter.join().unwrap() && cancel.is_fired());
        let _late = count(&cancel);
        assert_eq!(released.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_stop_waits_for_what_is_about_to_be_registered() {
        let cancel = Cancel::new();
        let section = cancel.section().unwrap();
        let stopper = std::thread::spawn({
            let cancel = cancel.clone();
            move || cancel.fire()
        });
        while !cancel.is_fired() {
            std::thread::yield_now();
        }
        let released = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&released);
        let _registered = cancel.on_fire(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        drop(section);
        stopper.join().unwrap();
        assert_eq!(released.load(Ordering::Relaxed), 1);
        assert!(cancel.section().is_none());
    }
}
