//! Targets: URLs after one, and only one, parse.
//!
//! What is looked up, what is connected to and what is sent are the same bytes.
//! Two readings of one URL are the root of most cache poisoning.

use crate::error::Quoted;
use http::Uri;
use std::fmt;
use std::hash::{Hash, Hasher};
use url::Url;

mod normal;

/// The longest target URL, in bytes, after normalisation.
pub const MAX_TARGET_LEN: usize = 8 * 1024;

/// An absolute `http` or `https` URL, normalised as the WHATWG URL standard says.
///
/// Scheme and host are in lower case, the host is in ASCII (punycode), dot
/// segments are resolved, the default port and the fragment are gone. The query
/// is neither ordered nor decoded, and stays as it was written wherever that can be
/// sent: `?a=1&b=2` and `?b=2&a=1` are two resources, `?q='a'` and `?q=%27a%27` too
/// (RFC 3986 §2.2).
#[derive(Clone)]
pub struct Target {
    /// Absolute, and in normal form.
    uri: Uri,
    /// Whether the path and the query are those that it was read from.
    as_written: bool,
}

// How it was written is no part of what it is.
impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.same_origin(other) && self.path_and_query() == other.path_and_query()
    }
}

impl Eq for Target {}

impl Hash for Target {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.scheme(), self.authority(), self.path_and_query()).hash(state);
    }
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
        if let Ok(uri) = Uri::try_from(value)
            && normal::is_normal(&uri)
        {
            return Ok(Self::from_normal_uri(uri));
        }
        Self::parse_any(value)
    }

    /// The same of a URI that the `http` crate has read: a reference more, where it is normal.
    ///
    /// # Errors
    /// As [`Target::parse`].
    pub fn of_uri(uri: &Uri) -> Result<Self, TargetError> {
        let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
        let authority = uri.authority().map_or(0, |name| name.as_str().len());
        // The longest scheme that is taken, and `://`.
        let length = "https://".len() + authority + path;
        if length <= MAX_TARGET_LEN && normal::is_normal(uri) {
            return Ok(Self::from_normal_uri(uri.clone()));
        }
        Self::parse(&uri.to_string())
    }

    fn from_normal_uri(uri: Uri) -> Self {
        Self {
            uri,
            as_written: true,
        }
    }

    /// By the URL standard's parser, whatever the URL looks like.
    fn parse_any(value: &str) -> Result<Self, TargetError> {
        let url = Url::parse(value).map_err(TargetError::NotUrl)?;
        let mut target = Self::from_url(url, value)?;
        target.as_written = is_as_written(value, target.path_and_query());
        Ok(target)
    }

    /// Resolves a reference, such as the value of Location, against this target.
    ///
    /// # Errors
    /// As [`Target::parse`], for the resolved URL.
    pub fn join(&self, reference: &str) -> Result<Self, TargetError> {
        if reference.len() > MAX_TARGET_LEN {
            return Err(TargetError::TooLong(reference.len()));
        }
        let base = Url::parse(&self.to_string()).map_err(TargetError::NotUrl)?;
        let url = base.join(reference).map_err(TargetError::NotUrl)?;
        Self::from_url(url, reference)
    }

    /// `written` is what the URL was read from: its query, if any, is the URL's.
    fn from_url(mut url: Url, written: &str) -> Result<Self, TargetError> {
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
        match with_query(&url, written) {
            Some(text) => Self::from_normal(&text).or_else(|_| Self::from_normal(url.as_str())),
            None => Self::from_normal(url.as_str()),
        }
    }

    /// Takes text that is normal already, and proves that `Uri` reads it alike.
    pub(super) fn from_normal(text: &str) -> Result<Self, TargetError> {
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
        Ok(Self::from_normal_uri(uri))
    }

    /// The same URL as the `http` crate's type, in absolute form.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &str {
        self.uri.scheme_str().unwrap_or_default()
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
        self.uri.authority().map_or("", |name| name.as_str())
    }

    /// The path, never empty, and the query with its `?` if there is one.
    pub fn path_and_query(&self) -> &str {
        self.uri.path_and_query().map_or("/", |rest| rest.as_str())
    }

    /// Whether the text that it was parsed from has this very path and query. It has not where dot
    /// segments were resolved, `\` was read as `/`, or a character was percent-encoded: whoever makes
    /// a request for that text, and not for this target, may get another resource.
    pub fn is_as_written(&self) -> bool {
        self.as_written
    }

    /// Whether both have the same origin: scheme, host and port (RFC 9110 §4.3.1).
    pub fn same_origin(&self, other: &Self) -> bool {
        self.scheme() == other.scheme() && self.authority() == other.authority()
    }
}

/// The URL with its query as it was written, if that is another and has only
/// printable ASCII. The URL standard percent-encodes a few characters of it, such as
/// `'`, that are nobody's to change on the way.
fn with_query(url: &Url, written: &str) -> Option<String> {
    let written = written.split('#').next()?;
    let (_, query) = written.split_once('?')?;
    let normal = url.query()?;
    let is_printable = query.bytes().all(|byte| byte.is_ascii_graphic());
    let is_another = is_printable && query != normal;
    is_another.then(|| {
        let before = url.as_str().len() - normal.len();
        format!("{}{query}", &url.as_str()[..before])
    })
}

/// Whether a URL has this path and query; an empty path is `/` (RFC 9110 §4.2.3).
fn is_as_written(written: &str, normal: &str) -> bool {
    let Some((_, rest)) = written.split_once("://") else {
        return false;
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let at = rest.find(['/', '?', '\\']).unwrap_or(rest.len());
    let path = &rest[at..];
    normal == path || !path.starts_with('/') && normal.strip_prefix('/') == Some(path)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, authority) = (self.scheme(), self.authority());
        write!(f, "{scheme}://{authority}{}", self.path_and_query())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
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
    #[error("scheme {} is not http or https", Quoted(.0))]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_a_scheme_but_not_at_any_length() {
        let said = |url: &str| Target::parse(url).expect_err("no HTTP").to_string();
        assert_eq!(
            said("ftp://a.example/"),
            "scheme \"ftp\" is not http or https"
        );
        assert!(said(&format!("{}:x", "a".repeat(3000))).len() < 200);
    }
}
