//! Listeners and what is behind them.
//!
//! Connections come first: [`Listener`] accepts, counts and times them, and takes any service that
//! answers requests; nothing in it knows a cache. [`Doors`] is that service: which door a request
//! came to is decided by one pure function (`door`), and then opened.
//!
//! ```text
//! Listener ── Admission (how many) ── connection (how long) ── Doors ── proxy │ tunnel │ probes │ metrics │ debug
//! ```

mod accept;
mod activity;
mod admission;
mod body;
mod connect;
mod connection;
mod counted;
mod door;
mod doors;
#[cfg(fuzzing)]
pub mod fuzzing;
mod head;
mod interim;
mod listener;
mod location;
mod look_aside;
mod metered;
mod metrics;
mod paths;
mod proxy;
pub mod respond;
pub(crate) mod target;
mod tls;
mod tunnel;
mod upload;

pub use accept::Accept;
pub(crate) use connection::ClientAddress;
pub use doors::{Doors, State};
pub use listener::{ListenError, Listener};
pub(crate) use metrics::known as known_method;
pub use metrics::{HttpMetrics, ListenerName};
pub(crate) use target::decode;
