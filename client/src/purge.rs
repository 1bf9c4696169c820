//! Purges that an app asks for.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use tokio::time::timeout;
use tower_service::Service;

use crate::{
    BodyError, Koorde,
    inner::{self, Inner},
    invalidate::purge_request,
    layer::Shared,
    status::is_purged,
};

/// Longest wait for the receipt of a purge: the sidecar's own default for its peers is 2 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to purge, and how.
///
/// ```
/// use koorde_client::Purge;
///
/// let page = Purge::url("https://a.example/page".parse()?).hard();
/// let product = Purge::tag("product-42");
/// # let _ = (page, product);
/// # Ok::<(), http::uri::InvalidUri>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    pub(crate) scope: Scope,
    pub(crate) hard: bool,
    pub(crate) token: Option<String>,
}

/// What a purge takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Url(Uri),
    Tag(String),
    Prefix(String),
    Host(String),
    Group { origin: Uri, name: String },
    All,
}

impl Purge {
    fn soft(scope: Scope) -> Self {
        Self {
            scope,
            hard: false,
            token: None,
        }
    }

    /// All variants of a URL. What is stored becomes stale: it is validated before it is used again.
    #[must_use]
    pub fn url(url: Uri) -> Self {
        Self::soft(Scope::Url(url))
    }

    /// All that have a tag (Surrogate-Key, Cache-Tag).
    #[must_use]
    pub fn tag(tag: impl Into<String>) -> Self {
        Self::soft(Scope::Tag(tag.into()))
    }

    /// All URLs that begin so: scheme, host, and a path up to a `/`.
    #[must_use]
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self::soft(Scope::Prefix(prefix.into()))
    }

    /// A host, or host:port.
    #[must_use]
    pub fn host(host: impl Into<String>) -> Self {
        Self::soft(Scope::Host(host.into()))
    }

    /// All of a group (Cache-Groups, RFC 9875) of the origin that a URL belongs to.
    #[must_use]
    pub fn group(origin: Uri, name: impl Into<String>) -> Self {
        let name = name.into();
        Self::soft(Scope::Group { origin, name })
    }

    /// Everything; with a tenant in the layer, everything of that tenant.
    #[must_use]
    pub fn all() -> Self {
        Self::soft(Scope::All)
    }

    /// What is stored is never used again, not even validated.
    #[must_use]
    pub fn hard(mut self) -> Self {
        self.hard = true;
        self
    }

    /// The sidecar's `admin.token_file`, if it has one.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }
}

/// What a purge has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Whether every member has acknowledged it: nobody who asks any of them gets what was purged.
    /// If not, those that could not be reached learn of it before they are used again.
    pub is_complete: bool,
}

/// Why a purge was not made.
#[derive(Debug)]
#[non_exhaustive]
pub enum PurgeError {
    /// The layer has no sidecar.
    NoSidecar,
    /// The way to the sidecar purges URLs only, by HTTP; other scopes need look-aside or the sidecar's
    /// admin listener.
    UrlsOnly,
    /// Something in the purge can't be written into a request.
    Malformed(&'static str),
    /// The sidecar could not be reached, did not answer within 10 s, or somebody else answered.
    Unreachable,
    /// The sidecar refuses it: `http.purge`, `http.look_aside` or the token.
    Refused(StatusCode),
}

impl fmt::Display for PurgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSidecar => f.write_str("the layer has no sidecar"),
            Self::UrlsOnly => f.write_str("only URLs are purged by HTTP"),
            Self::Malformed(what) => write!(f, "the {what} can't be written into a request"),
            Self::Unreachable => f.write_str("the sidecar can't be reached"),
            Self::Refused(status) => write!(f, "the sidecar refuses the purge: {status}"),
        }
    }
}

impl Error for PurgeError {}

impl<S> Koorde<S> {
    /// Purges on every node of the cluster, for this layer's tenant.
    ///
    /// # Errors
    /// As [`PurgeError`] says. Nothing is known then of what was purged: purging again is safe.
    pub async fn purge<B, R>(&self, purge: &Purge) -> Result<Receipt, PurgeError>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        B: http_body::Body + Default + Send + 'static,
        R: http_body::Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BodyError>,
    {
        #[cfg(feature = "look-aside")]
        if let Some(aside) = &self.shared().aside {
            let made = timeout(PATIENCE, aside.purge(purge, self.shared())).await;
            return made.unwrap_or(Err(PurgeError::Unreachable));
        }
        let made = by_http::<S, B, R>(self.get_ref().clone(), self.shared(), purge);
        let made = timeout(PATIENCE, made).await;
        made.unwrap_or(Err(PurgeError::Unreachable))
    }
}

async fn by_http<S, B, R>(
    mut service: S,
    shared: &Shared,
    purge: &Purge,
) -> Result<Receipt, PurgeError>
where
    S: Inner<B, R>,
    B: http_body::Body + Default + Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    if shared.endpoint.is_none() {
        return Err(PurgeError::NoSidecar);
    }
    let Scope::Url(url) = &purge.scope else {
        return Err(PurgeError::UrlsOnly);
    };
    let kind = if purge.hard { "hard" } else { "soft" };
    let request = purge_request::<B>(shared, url, kind);
    let mut request = request.ok_or(PurgeError::Malformed("URL"))?;
    if let Some(token) = &purge.token {
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| PurgeError::Malformed("token"))?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let answered = inner::ask(&mut service, request).await;
    let response = answered.map_err(|_| PurgeError::Unreachable)?;
    match response.status() {
        status if status.is_success() && !is_purged(status, response.headers()) => {
            Err(PurgeError::Unreachable)
        }
        StatusCode::OK => Ok(Receipt { is_complete: true }),
        StatusCode::ACCEPTED => Ok(Receipt { is_complete: false }),
        status => Err(PurgeError::Refused(status)),
    }
}
