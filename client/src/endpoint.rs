//! Where the sidecar is, and how requests to it are written.

use std::fmt;

use http::uri::{Authority, PathAndQuery, Scheme, Uri};

use crate::InvalidSetting;

/// The variable of the environment that names the sidecar.
const VARIABLE: &str = "KOORDE_ENDPOINT";

/// The sidecar's client listener: `http://127.0.0.1:8080`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    scheme: Scheme,
    authority: Authority,
}

impl Endpoint {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidSetting> {
        let wrong = |reason| InvalidSetting::new("endpoint", text, reason);
        let uri: Uri = text.parse().map_err(|_| wrong("not a URL"))?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(wrong("must be http://host:port"));
        };
        if !is_http(&scheme) {
            return Err(wrong("the scheme must be http or https"));
        }
        if authority.as_str().contains('@') {
            return Err(wrong("must not have user information"));
        }
        if parts.path_and_query.is_some_and(|path| path != "/") {
            return Err(wrong("must not have a path"));
        }
        Ok(Self { scheme, authority })
    }

    /// What `KOORDE_ENDPOINT` says: none if it is not set or empty.
    #[expect(
        clippy::disallowed_methods,
        reason = "the only reader of the environment, once for each layer"
    )]
    pub(crate) fn from_env() -> Result<Option<Self>, InvalidSetting> {
        match std::env::var(VARIABLE) {
            Ok(text) if text.trim().is_empty() => Ok(None),
            Ok(text) => Self::parse(text.trim()).map(Some),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(text)) => Err(InvalidSetting::new(
                VARIABLE,
                &text.to_string_lossy(),
                "not UTF-8",
            )),
        }
    }

    /// `{endpoint}/https://host/path?query`; none if that is too long for a URI, or if a client that
    /// resolves dots would make another target of it: `/https://a.example/../b.example/`.
    pub(crate) fn path_form(&self, target: &Uri) -> Option<Uri> {
        if has_dots(target.path()) {
            return None;
        }
        let (scheme, authority) = (target.scheme()?, target.authority()?);
        let asked = target.path_and_query().map_or("/", PathAndQuery::as_str);
        let slash = if asked.starts_with('/') { "" } else { "/" };
        let form = format!("/{scheme}://{authority}{slash}{asked}");
        self.uri(PathAndQuery::try_from(form).ok()?)
    }

    /// The URL of a request that came to this origin: of its path, and of no other host's.
    pub(crate) fn target(&self, asked: &Uri) -> Option<Uri> {
        if asked.authority().is_some_and(|name| !self.is_at(name)) {
            return None;
        }
        self.uri(asked.path_and_query()?.clone())
    }

    /// Where the sidecar says whether it is alive.
    pub(crate) fn livez(&self) -> Option<Uri> {
        self.uri(PathAndQuery::from_static("/livez"))
    }

    /// Whether a URI is the sidecar's own.
    pub(crate) fn is_at(&self, authority: &Authority) -> bool {
        self.authority == *authority
    }

    fn uri(&self, path: PathAndQuery) -> Option<Uri> {
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone());
        uri.path_and_query(path).build().ok()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

pub(crate) fn is_http(scheme: &Scheme) -> bool {
    *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS
}

/// Whether a path has segments that are resolved when a URL is parsed (`.`, `..`, an encoded dot as
/// well) or a `\` that is then read as `/`: it would be stored under another URL than was asked for.
pub(crate) fn has_dots(path: &str) -> bool {
    let is_dots = |segment: &str| {
        let plain = segment.replace("%2e", ".").replace("%2E", ".");
        plain == "." || plain == ".."
    };
    // Such a segment begins with a dot or with a `%`; nearly no path has one that does.
    let may_have = |pair: &[u8]| matches!(pair, [b'/', b'.' | b'%']);
    let is_suspect = !path.starts_with('/') || path.as_bytes().windows(2).any(may_have);
    path.contains('\\') || is_suspect && path.split('/').any(is_dots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_goes_behind_the_first_slash_with_all_it_has() {
        let endpoint = Endpoint::parse("http://127.0.0.1:8080").unwrap();
        for (target, form) in [
            ("https://a.example", "/https://a.example/"),
            (
                "https://a.example/p/q?a=1&b=%20",
                "/https://a.example/p/q?a=1&b=%20",
            ),
            ("http://[::1]:81/x", "/http://[::1]:81/x"),
            ("http://a.example?q", "/http://a.example/?q"),
        ] {
            let uri = endpoint.path_form(&target.parse().unwrap()).unwrap();
            assert_eq!(uri.to_string(), format!("http://127.0.0.1:8080{form}"));
        }
        assert_eq!(endpoint.path_form(&"/only/a/path".parse().unwrap()), None);
    }

    #[test]
    fn a_path_that_another_would_resolve_has_no_path_form() {
        let endpoint = Endpoint::parse("http://127.0.0.1:8080").unwrap();
        for (path, is_written) in [
            ("/../b.example/x", false),
            ("/a/./b", false),
            ("/a/..", false),
            ("/a/%2e%2E/b?x", false),
            ("/a/.%2e/b", false),
            ("/a/%2e", false),
            ("/a\\b", false),
            ("/a/...", true),
            ("/a/.b/c..d/%2e%2e%2e", true),
            ("/a?q=/../\\", true),
        ] {
            let target = format!("https://a.example{path}").parse().unwrap();
            assert_eq!(endpoint.path_form(&target).is_some(), is_written, "{path}");
        }
    }

    #[test]
    fn an_endpoint_that_cannot_be_meant_is_refused_with_what_is_wrong() {
        for (text, part) in [
            ("", "not a URL"),
            ("127.0.0.1:8080", "http://host:port"),
            ("/x", "http://host:port"),
            ("ftp://a:1", "scheme"),
            ("http://u:p@a:1", "user information"),
            ("http://a:1/x", "path"),
        ] {
            let error = Endpoint::parse(text).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains(&format!("{text:?}")),
                "{error}"
            );
        }
        assert!(Endpoint::parse("http://koorde:8080/").is_ok());
    }
}
