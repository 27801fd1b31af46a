//! Supervisor, through XML-RPC on its Unix socket.
//!
//! ```no_run
//! # async fn example() -> Result<(), vast_portal::Error> {
//! let supervisor = vast_portal::supervisor::Client::new("/var/run/supervisor.sock");
//! for process in supervisor.processes().await? {
//!     println!("{} {}", process.name, process.state);
//! }
//! supervisor.restart("comfyui").await?;
//! # Ok(())
//! # }
//! ```

mod client;
mod process;
mod value;

pub use client::Client;
pub use process::{Process, State};
pub use value::Value;
