//! What CloudWatch is told, and how: `cloudwatch.exporter` = `api`, `emf-stdout`, `emf-agent`.
//!
//! Decide, pure: [`interval`] (what happened since the last look), [`pack`] (requests within the
//! API's limits), [`emf`] (documents within the embedded metric format's), [`outbox`] (what waits, and
//! when to try again), [`cost`] (the bill), [`watch`] (dashboard and alarms). Do: [`publisher`] (one task), [`sink`], and `api` (the SDK,
//! cargo feature `cloudwatch`). No request, start or probe ever waits for any of it.

#[cfg(feature = "cloudwatch")]
mod api;
#[cfg(feature = "cloudwatch")]
mod client;
#[cfg(feature = "cloudwatch")]
mod connector;
pub mod cost;
pub mod emf;
pub mod interval;
pub mod outbox;
pub mod pack;
pub mod publisher;
pub mod sink;
pub mod watch;

pub use publisher::{Publisher, Told};
