//! Listeners and what is behind them.
//!
//! Connections come first: [`Listener`] accepts, counts and times them, and takes any service that
//! answers requests; nothing in it knows a cache. [`Doors`] is that service: the paths of
//! the main and the admin listener.
//!
//! ```text
//! Listener ── Admission (how many) ── connection (how long) ── Doors ── cache │ probes │ metrics │ debug
//! ```

mod accept;
mod activity;
mod admission;
mod body;
pub(crate) mod cache;
mod connection;
mod doors;
mod listener;
mod metered;
mod metrics;
pub mod respond;
mod target;
mod tls;

pub use accept::Accept;
pub use doors::{Doors, State};
pub use listener::{ListenError, Listener};
pub use metrics::{HttpMetrics, ListenerName};
pub(crate) use target::decode;
