//! A tower layer.
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
