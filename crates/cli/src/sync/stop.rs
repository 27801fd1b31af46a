//! Ctrl-C and SIGTERM: what others wait for is given back before the process ends.

use std::io::Write as _;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use vast_sync::Cancel;

use super::PROGRAM;

/// From now on a stop releases what is registered with the returned handle, and ends the process as the signal would have.
pub(super) fn listen() -> Cancel {
    let cancel = Cancel::new();
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return cancel };
    let handle = cancel.clone();
    // Without a thread the signals kill as they do by default, and others wait until the lease is over.
    let _ = std::thread::Builder::new().name("vast-sync-stop".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            handle.fire();
            // Whoever read it may be gone. `eprintln!` would panic then, this thread end, and the process stay for good.
            let _ = writeln!(std::io::stderr(), "{PROGRAM}: stopped; the next run goes on from here");
            end(128 + signal);
        }
    });
    cancel
}

#[allow(
    clippy::exit,
    reason = "a copy that is under way on other threads is not waited for: it can publish nothing any more"
)]
fn end(code: i32) {
    std::process::exit(code);
}

/// Waits for the end that a stop has begun.
pub(super) fn wait() -> ! {
    loop {
        std::thread::park();
    }
}
