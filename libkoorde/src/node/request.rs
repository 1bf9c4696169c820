//! A request as a door hands it in.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use tower::BoxError;

use super::Overrides;
use crate::policy::Target;

/// One request to fetch; its body, if it has one, goes beside it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Any method; only responses to GET are stored.
    pub method: Method,
    /// What to fetch.
    pub target: Target,
    /// The client's fields; those of its connection are not sent on.
    pub fields: HeaderMap,
    /// The version in which the client sent it, for Via (RFC 9110 §7.6.3).
    pub version: Version,
    /// Who takes the origin's interim responses (1xx), if anybody.
    pub interim: Option<Interim>,
    /// What it says of its response's place in the cache.
    pub overrides: Overrides,
    /// A slice of its response's body, counted from 0: only we ask for one.
    pub(crate) slice: Option<u64>,
}

impl Request {
    /// An HTTP/1.1 request whose interim responses nobody takes.
    #[must_use]
    pub fn new(method: Method, target: Target, fields: HeaderMap) -> Self {
        Self {
            method,
            target,
            fields,
            version: Version::HTTP_11,
            interim: None,
            overrides: Overrides::default(),
            slice: None,
        }
    }

    /// The target under which its response is stored: never of another origin.
    pub(crate) fn place(&self) -> &Target {
        self.overrides.place(&self.target)
    }
}

/// Takes interim responses (RFC 9110 §15.2) as they come: called before the final response's head
/// is there, maybe from another task, and must not block.
#[derive(Clone)]
pub struct Interim(Arc<Take>);

type Take = dyn Fn(StatusCode, &HeaderMap) + Send + Sync;

impl Interim {
    /// Hands every interim response to `take`.
    pub fn new(take: impl Fn(StatusCode, &HeaderMap) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }

    pub(crate) fn send(&self, status: StatusCode, fields: &HeaderMap) {
        (self.0)(status, fields);
    }
}

impl fmt::Debug for Interim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interim")
    }
}

/// A request's body as it comes; dropped unread if the origin does not want it.
pub type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// A body of nothing.
pub(crate) fn no_body() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
