//! A [tower](https://docs.rs/tower) layer: the GET and HEAD requests of an app are answered by
//! **koorde**, a cache that all replicas of the app share, and by the origin where koorde can't.
//!
//! ```
//! use koorde_client::{CacheStatus, KoordeLayer};
//! use tower::{ServiceBuilder, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Any HTTP client that is a tower service: hyper-util's, reqwest's (ReqwestService), your own.
//! let client = tower::service_fn(|request: http::Request<String>| async move {
//!     Ok::<_, std::io::Error>(http::Response::new(format!("of {}", request.uri())))
//! });
//! let client = ServiceBuilder::new()
//!     .layer(KoordeLayer::from_env()) // KOORDE_ENDPOINT=http://127.0.0.1:8080
//!     .service(client);
//!
//! let request = http::Request::get("https://a.example/rates").body(String::new())?;
//! let response = client.oneshot(request).await?;
//! let status = response.extensions().get::<CacheStatus>(); // none here: there is no sidecar
//! # assert_eq!(status, None);
//! # Ok(())
//! # }
//! ```
//!
//! # Three ways
//!
//! | | who asks the origin | what it takes |
//! |---|---|---|
//! | **delegate** (default) | the sidecar; the app reaches it through its own inner service | nothing more |
//! | **look-aside** (feature `look-aside`) | the app, under a lease that only one replica has at a time; what comes is put for all | for origins that need the app's credentials, TLS, retries or discovery |
//! | **embedded** (feature `embedded`) | as look-aside | no sidecar: the app is a node of the ring itself |
//!
//! # It never gets worse
//!
//! A sidecar that is absent, refuses, hangs, or is somebody else: the original request goes through the
//! inner service, directly; after three failures in a row at once, until a probe finds the sidecar back
//! (after 250 ms, doubling up to 10 s). An origin that is slow is waited for as long as the sidecar says
//! that it is alive. A body that breaks off goes on from the origin, if its response has a strong ETag
//! (or nothing of it was read yet), status, length and validators are the same, and so are the bytes
//! that were read already; else the reader has the error. A request with a body, or of any other method, goes to the
//! inner service only, and once.
//!
//! Only if the inner service is asked directly and fails is there an error, and it is the inner
//! service's own: the layer adds none.
//!
//! What koorde does not do: it does not time requests out. Put a timeout *before* the layer, so that it
//! spans all that is done for a request; one behind it (or a client's own) begins anew for each attempt,
//! and its end looks like a sidecar that failed. The response of a client that follows redirects itself
//! is that of the last hop: see [`ReqwestService`](crate#reqwest). Timers are tokio's.
//!
//! # Reqwest
//!
//! With feature `reqwest`, `ReqwestService` makes a `reqwest::Client` a service of the http crate's
//! types; with `reqwest-middleware`, `KoordeMiddleware` is a middleware.
//!
//! # Policy
//!
//! The builder of [`KoordeLayer`] says which requests ([`only_if`](KoordeLayer::only_if)), under what
//! name ([`stored_as`](KoordeLayer::stored_as)), for whom ([`tenant`](KoordeLayer::tenant)); a request
//! says more in its extensions: [`OnlyIfCached`], [`NoStore`], [`Lifetime`]. Successful unsafe requests
//! make what is stored of their target stale. [`Koorde::purge`] purges, [`Koorde::warm`] fills.
//!
//! ```
//! use koorde_client::{Event, KoordeLayer};
//!
//! # fn main() -> Result<(), koorde_client::InvalidSetting> {
//! let layer = KoordeLayer::new("http://127.0.0.1:8080")?
//!     .only_if(|request| request.uri.host() == Some("rates.example"))
//!     .tenant("billing")?
//!     .on_event(|event| {
//!         if let Event::FailedOpen(why) = event {
//!             eprintln!("past koorde: {}", why.as_str());
//!         }
//!     });
//! # let _ = layer;
//! # Ok(())
//! # }
//! ```
//!
//! # Credentials
//!
//! In delegate mode the request's fields, Authorization and Cookie among them, go to the sidecar as
//! they would go to the origin: let it be on loopback, or speak TLS with it. What is answered to a request with Authorization
//! is shared only if the response allows that (RFC 9111 §3.5).
//!
//! In look-aside koorde is told the fields that the request has when it comes to the layer. If the inner
//! service adds credentials of its own, say so with `KoordeLayer::authorized`: else what they
//! unlock is shared like any other response.
mod added;
#[cfg(feature = "look-aside")]
mod aside;
mod body;
mod breaker;
mod delegate;
mod endpoint;
mod error;
mod event;
mod future;
mod inner;
mod invalidate;
mod layer;
#[cfg(feature = "reqwest-middleware")]
mod middleware;
mod policy;
mod purge;
mod race;
#[cfg(feature = "reqwest")]
mod reqwest_service;
mod resume;
mod service;
mod status;
mod warm;
mod watch;

pub use body::Body;
pub use error::{BodyError, InvalidSetting};
pub use event::{Event, Reason};
pub use future::ResponseFuture;
pub use layer::KoordeLayer;
#[cfg(feature = "reqwest-middleware")]
pub use middleware::KoordeMiddleware;
pub use policy::{Lifetime, NoStore, OnlyIfCached};
pub use purge::{Purge, PurgeError, Receipt};
#[cfg(feature = "reqwest")]
pub use reqwest_service::ReqwestService;
pub use service::Koorde;
pub use status::{CacheResult, CacheStatus};
pub use warm::Warmed;

/// The README's Rust, so that it can't drift.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
