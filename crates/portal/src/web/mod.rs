//! The Instance Portal's web application: `vast-portal serve`.
//!
//! One thread answers everything: requests are small, logs are read in bounded steps, and what may block (a sample of the
//! system) has a thread of its own. All assets are in the binary; the page loads nothing from elsewhere.
//!
//! Caddy stands in front and decides who may come in, by asking the [`auth`](crate::auth) socket that this process serves as
//! well. What changes something asks for more: a page of this very origin, or a program with a token.

mod api;
mod assets;
mod error;
mod guard;
mod links;
mod live;
mod server;
mod state;

pub use server::{Options, router, serve};
pub use state::Portal;
