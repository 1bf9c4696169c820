//! Caching decisions of RFC 9111 and its friends, as pure functions.
//!
//! This room decides and does nothing else: no I/O, no clock, no lock, nothing
//! remembered. Every function takes the request, the stored responses and the
//! time, and answers. That is why the tables in `tests/conformance` can state
//! each rule beside the sentence of the RFC it comes from.
//!
//! # The three questions
//!
//! 1. **May it be stored?** [`storing::decide`] reads a response once and makes a
//!    [`StoredHead`] of it, or says which rule refuses it ([`NotStored`]).
//! 2. **May it be reused?** [`reuse::decide`] picks among the stored responses of
//!    one [`CacheKey`] and says: fresh, stale but usable, validate, or forward.
//! 3. **Is it still good?** [`validation::conditional`] writes the question to the
//!    origin and [`validation::freshen`] reads the answer.
//!
//! ```
//! use http::{HeaderMap, Method, Response};
//! use libkoorde::policy::{Exchange, Now, Reuse, Settings, reuse, storing};
//! use std::time::{Duration, Instant, SystemTime};
//!
//! let now = Now { wall: SystemTime::now(), instant: Instant::now() };
//! let exchange = Exchange { request_sent: now.instant, response_received: now };
//! let request = HeaderMap::new();
//! let (response, _) = Response::builder()
//!     .header("cache-control", "max-age=60")
//!     .body(())
//!     .unwrap()
//!     .into_parts();
//!
//! let stored = storing::decide(&Method::GET, &request, &response, &exchange, &Settings::default())
//!     .expect("explicit freshness makes this response storable");
//!
//! let soon = now.instant + Duration::from_secs(59);
//! assert_eq!(reuse::decide(&Method::GET, &request, [&stored], soon), Reuse::Fresh { index: 0 });
//!
//! let late = now.instant + Duration::from_secs(61);
//! assert!(matches!(reuse::decide(&Method::GET, &request, [&stored], late), Reuse::Validate { .. }));
//! ```
//!
//! # The map
//!
//! | file | question | RFC |
//! |---|---|---|
//! | [`target`], [`key`] | which URL is meant, what is its cache key? | 9110 §4, 9111 §2 |
//! | [`key_rules`], [`bypass`] | what goes into the key, what goes past the cache? | 9111 §2 |
//! | [`storing`], [`settings`] | may this response be stored? | 9111 §3 |
//! | [`stored`] | what is kept of it, how old is it now? | 9111 §4.2.3 |
//! | [`parts`] | which bytes did a 206 bring, and do two of them fit? | 9111 §3.3, §3.4 |
//! | [`freshness`] | how long is it fresh, how old did it arrive? | 9111 §4.2 |
//! | [`vary`] | was it selected by this request's fields? | 9111 §4.1 |
//! | [`plain`] | does the request say more than what it asks for? | 9111 |
//! | [`reuse`] | may it answer this request? may requests be collapsed? | 9111 §4, 5861 |
//! | [`validation`] | how is the origin asked, what does its answer change? | 9111 §4.3 |
//! | [`precondition`] | does the client have it already? | 9110 §13 |
//! | [`range`], [`multipart`] | which part does the client want, how are several sent? | 9110 §14 |
//! | [`ttl`] | what does the operator say of lifetimes? | 9111 §4.2, 5861 |
//! | [`invalidation`] | what does an unsafe request make invalid? | 9111 §4.4, 9875 §3 |
//! | [`tags`] | by which names can it be purged? | 9875 §2 |
//! | [`forwarding`], [`encoding`] | what changes on the way to the origin and back? | 9110 §7.6, 8586 |
//! | [`cache_status`] | how is the decision told to others? | 9211 |
//! | [`fields`] | what does this field say? | 9110, 9111 §5, 9651, 9213 |
//!
//! Two clocks are used: [`Now::wall`] only to read the dates that origins send,
//! when a response arrives; [`Now::instant`] for everything after that. A clock
//! that jumps can therefore not make a stored response fresh again.

#![deny(clippy::disallowed_types)]

use std::time::{Instant, SystemTime};

pub mod bypass;
pub mod cache_status;
pub mod encoding;
pub mod fields;
pub mod forwarding;
pub mod freshness;
pub mod invalidation;
pub mod key;
pub mod key_rules;
pub mod multipart;
pub mod parts;
pub mod plain;
pub mod precondition;
mod query;
pub mod range;
pub mod reuse;
pub mod settings;
pub mod stored;
pub mod storing;
pub mod tags;
pub mod target;
pub mod ttl;
pub mod validation;
pub mod vary;

pub use bypass::Bypass;
pub use cache_status::{Forward, Member};
pub use forwarding::{Hop, NotForwarded};
pub use key::{CacheKey, KeyError};
pub use key_rules::{KeyRules, QueryRule};
pub use multipart::Multipart;
pub use parts::Part;
pub use reuse::Reuse;
pub use settings::{Heuristic, SetCookie, Settings};
pub use stored::{Carried, StoredHead};
pub use storing::NotStored;
pub use tags::Tags;
pub use target::{Target, TargetError};
pub use ttl::{StaleWindows, Ttl};
pub use validation::HeadUpdate;
pub use vary::Selecting;

/// The time, on both clocks, as read once by whoever calls.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The calendar's time: comparable to the dates that origins send.
    pub wall: SystemTime,
    /// The monotonic time: ages and lifetimes are measured on it.
    pub instant: Instant,
}

/// When one request to the origin was sent, and when its response's head came.
///
/// The difference is the response delay of RFC 9111 §4.2.3, which counts as age.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// The moment before the request's first byte was sent.
    pub request_sent: Instant,
    /// The moment after the response's head was received.
    pub response_received: Now,
}
