//! A tower layer.
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
mod policy;
mod race;
mod resume;
mod service;
mod status;

pub use body::Body;
pub use error::{BodyError, InvalidSetting};
pub use event::{Event, Reason};
pub use future::ResponseFuture;
pub use layer::KoordeLayer;
pub use policy::{Lifetime, NoStore, OnlyIfCached};
pub use service::Koorde;
pub use status::{CacheResult, CacheStatus};
