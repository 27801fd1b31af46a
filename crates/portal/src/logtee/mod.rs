//! The logs of a supervised application: `vast-logtee`.
//!
//! An application's output goes three ways. The portal's log (`/var/log/portal/NAME.log`) keeps every byte, so that colours and
//! progress bars can be shown as in a terminal. The plain log (`/var/log/NAME.log`) and standard output, which Supervisor
//! passes on to the container's log, get [clean text](clean). The previous logs become `.old`, and no log grows
//! beyond 5 MB.
//!
//! Logging never stops the application: what cannot be written is counted and dropped ([`log`]), and the input is
//! read until its end.
//!
//! # Starts that skip themselves
//!
//! An application that the user has switched off is started by Supervisor every few seconds, says `Skipping NAME startup …` and
//! ends. Such a start must not push the useful log out of `.old`. So the logs are rotated only when the output
//! turns out to be something else; a start that said nothing else adds its message to the present log, once.
//!
//! ```
//! use vast_portal::logtee::clean::Cleaner;
//!
//! let (mut cleaner, mut text) = (Cleaner::default(), Vec::new());
//! cleaner.feed(b"\x1b[32mready\x1b[0m\nloading  10%\rloading 100%\r\n", &mut text);
//! assert_eq!(text, b"ready\nloading 100%\n");
//! ```

pub mod clean;
pub mod log;
mod tee;

pub use tee::{Destinations, tee};
