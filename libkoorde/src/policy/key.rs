//! Targets and cache keys, RFC 9111 §2.
//!
//! A [`Target`] is a URL after one, and only one, parse: what is looked up, what
//! is connected to and what is sent are the same bytes. Two readings of one URL
//! are the root of most cache poisoning.
//!
//! A [`CacheKey`] holds every part with its length before it, so that no part
//! can flow into its neighbour: ("ab", "c") is not ("a", "bc").

use http::Uri;
use std::fmt;
use std::sync::Arc;
use url::Url;

/// The longest target URL, in bytes, after normalisation.
pub const MAX_TARGET_LEN: usize = 8 * 1024;

/// The longest tenant name in a key that comes from a peer, in bytes.
pub const MAX_TENANT_LEN: usize = 1024;

/// An absolute `http` or `https` URL, normalised as the WHATWG URL standard says.
///
/// Scheme and host are in lower case, the host is in ASCII (punycode), dot
/// segments are resolved, the default port and the fragment are gone. The query
/// is neither ordered nor decoded: `?a=1&b=2` and `?b=2&a=1` are two resources.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Target {
    uri: Uri,
    text: Arc<str>,
    /// Where the authority and the path begin in `text`.
    authority_at: usize,
    path_at: usize,
}

impl Target {
    /// Parses an absolute URL.
    ///
    /// # Errors
    /// Says what is wrong with the value: see [`TargetError`].
    pub fn parse(value: &str) -> Result<Self, TargetError> {
        if value.is_empty() {
            return Err(TargetError::Empty);
        }
        // Checked before parsing, so that nobody makes us normalise a megabyte.
        if value.len() > MAX_TARGET_LEN {
            return Err(TargetError::TooLong(value.len()));
        }
        Self::from_url(Url::parse(value).map_err(TargetError::NotUrl)?)
    }

    /// Resolves a reference, such as the value of Location, against this target.
    ///
    /// # Errors
    /// As [`Target::parse`], for the resolved URL.
    pub fn join(&self, reference: &str) -> Result<Self, TargetError> {
        if reference.len() > MAX_TARGET_LEN {
            return Err(TargetError::TooLong(reference.len()));
        }
        let base = Url::parse(&self.text).map_err(TargetError::NotUrl)?;
        Self::from_url(base.join(reference).map_err(TargetError::NotUrl)?)
    }

    fn from_url(mut url: Url) -> Result<Self, TargetError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetError::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::Userinfo);
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(TargetError::NoHost);
        }
        url.set_fragment(None);
        if url.as_str().len() > MAX_TARGET_LEN {
            return Err(TargetError::TooLong(url.as_str().len()));
        }
        Self::from_normal(url.as_str())
    }

    /// Takes text that is normal already, and proves that `Uri` reads it alike.
    fn from_normal(text: &str) -> Result<Self, TargetError> {
        let authority_at = text.find("://").ok_or(TargetError::NoHost)? + "://".len();
        let path_at = text[authority_at..]
            .find('/')
            .map(|at| authority_at + at)
            .ok_or(TargetError::NoHost)?;
        let uri = Uri::try_from(text).map_err(TargetError::NotSendable)?;
        let alike = uri.scheme_str() == Some(&text[..authority_at - "://".len()])
            && uri.authority().map(|a| a.as_str()) == Some(&text[authority_at..path_at])
            && uri.path_and_query().map(|p| p.as_str()) == Some(&text[path_at..]);
        if !alike {
            return Err(TargetError::TwoReadings);
        }
        Ok(Self {
            uri,
            text: text.into(),
            authority_at,
            path_at,
        })
    }

    /// The same URL as the `http` crate's type, in absolute form.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &str {
        &self.text[..self.authority_at - "://".len()]
    }

    /// The host without port; an IPv6 address keeps its brackets.
    pub fn host(&self) -> &str {
        let authority = self.authority();
        match authority.rfind(':') {
            Some(colon) if !authority.ends_with(']') => &authority[..colon],
            _ => authority,
        }
    }

    /// The port, also where the URL leaves the scheme's default port out.
    pub fn port(&self) -> u16 {
        let default = if self.scheme() == "https" { 443 } else { 80 };
        self.uri.port_u16().unwrap_or(default)
    }

    /// Host and, unless it is the default, port: the value of the Host field.
    pub fn authority(&self) -> &str {
        &self.text[self.authority_at..self.path_at]
    }

    /// The path, never empty, and the query with its `?` if there is one.
    pub fn path_and_query(&self) -> &str {
        &self.text[self.path_at..]
    }

    /// The whole URL.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether both have the same origin: scheme, host and port (RFC 9110 §4.3.1).
    pub fn same_origin(&self, other: &Self) -> bool {
        self.scheme() == other.scheme() && self.authority() == other.authority()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.text)
    }
}

/// What is wrong with a URL that shall be a [`Target`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// There is no value.
    #[error("the URL is empty")]
    Empty,
    /// The WHATWG parser refuses it.
    #[error("not an absolute URL")]
    NotUrl(#[source] url::ParseError),
    /// Something else than HTTP.
    #[error("scheme \"{0}\" is not http or https")]
    Scheme(String),
    /// `user:password@` would end up in keys and logs.
    #[error("the URL has a user name or password")]
    Userinfo,
    /// Longer than [`MAX_TARGET_LEN`].
    #[error("the URL is too long: {0} bytes, the limit is {MAX_TARGET_LEN}")]
    TooLong(usize),
    /// Nobody to ask.
    #[error("the URL has no host")]
    NoHost,
    /// A byte that is allowed in a URL but not in an HTTP request.
    #[error("the URL cannot be sent in an HTTP request")]
    NotSendable(#[source] http::uri::InvalidUri),
    /// The two parsers disagree about where a part begins.
    #[error("the URL can be read in two ways")]
    TwoReadings,
}

/// What a stored response is found by: tenant, method class, scheme, authority,
/// path and query. A clone is one reference more, not a copy.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey(Arc<[u8]>);

/// The only method class yet: GET, which also answers HEAD (RFC 9111 §4).
const CLASS_GET: &[u8] = b"GET";

/// The bytes of one length: 32 bits, most significant first.
const LEN_BYTES: usize = 4;

impl CacheKey {
    /// Makes the key of a target. The empty tenant is the one of a cluster
    /// without tenants.
    pub fn new(tenant: &str, target: &Target) -> Self {
        let parts = [
            tenant.as_bytes(),
            CLASS_GET,
            target.scheme().as_bytes(),
            target.authority().as_bytes(),
            target.path_and_query().as_bytes(),
        ];
        let len = parts.iter().map(|part| LEN_BYTES + part.len()).sum();
        let mut bytes = Vec::with_capacity(len);
        for part in parts {
            // A tenant of 4 GiB is the only part that could saturate here; its
            // key would be refused by `from_bytes`, not confused with another.
            let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        Self(bytes.into())
    }

    /// Reads a key that a peer sent.
    ///
    /// # Errors
    /// [`KeyError`], unless the bytes are exactly what [`CacheKey::new`] makes of
    /// some tenant and target: a key cannot be spelled in two ways.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() > MAX_TARGET_LEN + MAX_TENANT_LEN + 64 {
            return Err(KeyError::TooLong(bytes.len()));
        }
        let [tenant, class, scheme, authority, path] = split(bytes).ok_or(KeyError::Malformed)?;
        if class != CLASS_GET {
            return Err(KeyError::Method);
        }
        if tenant.len() > MAX_TENANT_LEN {
            return Err(KeyError::TooLong(tenant.len()));
        }
        let text = |part| std::str::from_utf8(part).map_err(|_| KeyError::Malformed);
        let tenant = text(tenant)?;
        let url = format!("{}://{}{}", text(scheme)?, text(authority)?, text(path)?);
        let target = Target::parse(&url)?;
        let key = Self::new(tenant, &target);
        if *key.0 != *bytes {
            return Err(KeyError::NotNormal);
        }
        Ok(key)
    }

    /// The bytes, for hashing and for the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes: what the key weighs in the store.
    #[expect(clippy::len_without_is_empty, reason = "a key is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The tenant it was made for.
    pub fn tenant(&self) -> &str {
        std::str::from_utf8(self.parts()[0]).unwrap_or_default()
    }

    /// The target it was made of.
    ///
    /// # Panics
    /// Never: a key is made of a parsed target only, and these are its parts.
    pub fn target(&self) -> Target {
        let [_, _, scheme, authority, path] = self.parts();
        let text = [scheme, b"://", authority, path].concat();
        std::str::from_utf8(&text)
            .ok()
            .and_then(|text| Target::from_normal(text).ok())
            .expect("a cache key holds the parts of a parsed target")
    }

    fn parts(&self) -> [&[u8]; 5] {
        split(&self.0).expect("a cache key is made of five parts by its constructors")
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [tenant, _, scheme, authority, path] = self.parts().map(String::from_utf8_lossy);
        write!(f, "CacheKey({tenant:?} {scheme}://{authority}{path})")
    }
}

/// Why bytes are not a [`CacheKey`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Longer than any key of ours, in bytes.
    #[error("the cache key is too long: {0} bytes")]
    TooLong(usize),
    /// Not five parts with lengths, or not text.
    #[error("the cache key is malformed")]
    Malformed,
    /// A method class this version does not store.
    #[error("the cache key has an unknown method class")]
    Method,
    /// Its parts are not a target.
    #[error("the cache key's URL is not a target")]
    Target(#[from] TargetError),
    /// Another spelling of a key, which would hide it from a purge.
    #[error("the cache key is not in normal form")]
    NotNormal,
}

fn split(mut bytes: &[u8]) -> Option<[&[u8]; 5]> {
    let mut parts = [&[][..]; 5];
    for part in &mut parts {
        let (len, rest) = bytes.split_first_chunk::<LEN_BYTES>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        (*part, bytes) = rest.split_at_checked(len)?;
    }
    bytes.is_empty().then_some(parts)
}
