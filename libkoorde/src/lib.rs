//! One node of koorde: a ring (Koorde's de Bruijn routes on Chord's circle) and an HTTP cache whose
//! keys are spread over it, so that N processes that fetch the same thing make one origin request.
//!
//! ```
//! use std::{net::Ipv4Addr, time::Duration};
//!
//! use libkoorde::{Config, Metrics, Node, Propagation, Request, policy::Target};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::default();
//! config.node.name = "example-0".to_owned();
//! config.ring.listen = (Ipv4Addr::LOCALHOST, 0).into();
//! let metrics = Metrics::new(&mut Default::default());
//! let node = Node::start(config, metrics, Propagation::default()).await?;
//!
//! // A private address: the egress guard refuses it unless `egress.allow` names it.
//! let target = Target::parse("http://169.254.169.254/latest/meta-data/")?;
//! let request = Request::new(http::Method::GET, target, http::HeaderMap::new());
//! let refused = node.fetch(request).await.unwrap_err();
//! assert_eq!(refused.to_string(), "169.254.169.254 is refused: metadata");
//!
//! node.leave(Duration::from_millis(10)).await;
//! node.stop(Duration::from_secs(1)).await;
//! # Ok(())
//! # }
//! ```
//!
//! Three rooms, one direction (`ARCHITECTURE.md` is the map): [`ring`] and [`policy`] decide and
//! know neither sockets nor clocks nor each other; `store` and `flight` keep; [`node`] does.

pub mod config;
pub mod error;
mod flight;
pub mod hot_keys;
pub mod id;
pub mod metrics;
pub mod node;
pub mod outcome;
pub mod policy;
pub mod purge;
pub mod ring;
mod store;

pub use config::Config;
pub use error::{BodyError, FetchError, Quoted, StartError};
pub use metrics::Metrics;
pub use node::{
    Aside, Body, CacheService, Gateway, Interim, Lease, Near, Node, NotWanted, Overrides,
    Propagation, Put, PutBody, Request, RequestBody, StoredBody,
};
pub use purge::{Kind, PurgeRequest, Receipt, Scope};

/// The README's Rust, so that it can't drift.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
