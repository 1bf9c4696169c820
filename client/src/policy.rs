//! Which requests koorde is asked about, and under what name.

#[cfg(feature = "look-aside")]
use std::borrow::Cow;
use std::{fmt, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::{CACHE_CONTROL, CONTENT_TYPE, HOST, UPGRADE},
    request, response,
};

use crate::{
    InvalidSetting,
    endpoint::{has_dots, is_http},
};

/// In a request's extensions: answered from what is stored, or 504; the origin is not asked
/// (`only-if-cached`, RFC 9111 §5.2.1.7). That directive in Cache-Control means the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnlyIfCached;

/// In a request's extensions: koorde has no part in it, and nothing of it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoStore;

/// In a request's extensions: the freshness lifetime to store its response with, in place of what
/// the response says; at most one year. What says `no-store` or `private` is not stored all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(pub Duration);

impl Lifetime {
    /// Whole seconds, within the bound.
    pub(crate) fn seconds(self) -> u64 {
        self.0.as_secs().min(365 * 24 * 60 * 60)
    }
}

type Selects = dyn Fn(&request::Parts) -> bool + Send + Sync;
type Names = dyn Fn(&request::Parts) -> Option<Uri> + Send + Sync;
type Lasts = dyn Fn(&request::Parts, &response::Parts) -> Option<Duration> + Send + Sync;

/// Which requests, under what names and for whom.
#[derive(Clone)]
pub(crate) struct Policy {
    only_if: Option<Arc<Selects>>,
    stored_as: Option<Arc<Names>>,
    lifetime: Option<Arc<Lasts>>,
    pub(crate) tenant: Option<HeaderValue>,
    pub(crate) invalidates: bool,
    pub(crate) authorized: bool,
    pub(crate) keeps_limits: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            only_if: None,
            stored_as: None,
            lifetime: None,
            tenant: None,
            invalidates: true,
            authorized: false,
            keeps_limits: false,
        }
    }
}

impl Policy {
    pub(crate) fn only_if(&mut self, predicate: Arc<Selects>) {
        self.only_if = Some(predicate);
    }

    pub(crate) fn stored_as(&mut self, name: Arc<Names>) {
        self.stored_as = Some(name);
    }

    pub(crate) fn lifetime(&mut self, lifetime: Arc<Lasts>) {
        self.lifetime = Some(lifetime);
    }

    pub(crate) fn tenant(&mut self, name: &str) -> Result<(), InvalidSetting> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_allowed) {
            let reason = "must be 1-64 letters, digits, `-`, `_` and `.`";
            return Err(InvalidSetting::new("tenant", name, reason));
        }
        let value = HeaderValue::from_str(name).expect("letters and digits are a field value");
        self.tenant = Some(value);
        Ok(())
    }

    /// Whether koorde is asked for this target. A request with content is never selected, nor one
    /// that wants another protocol or is for a host that its URI does not name.
    pub(crate) fn selects(&self, parts: &request::Parts, target: &Uri, has_body: bool) -> bool {
        // The app's own choice before what takes a look at every byte of the URI.
        is_readable(&parts.method)
            && !has_body
            && self.only_if.as_ref().is_none_or(|selects| selects(parts))
            && has_target(target)
            && !parts.headers.contains_key(UPGRADE)
            && is_host(&parts.headers, target)
            && parts.extensions.get::<NoStore>().is_none()
    }

    #[cfg(feature = "look-aside")]
    /// The fields of a request as koorde is to know them in look-aside. Credentials that the inner
    /// service adds are not there yet: that there are some is said in their place (RFC 9111 §3.5).
    pub(crate) fn asked_fields<'a>(&self, parts: &'a request::Parts) -> Cow<'a, HeaderMap> {
        let mut fields = Cow::Borrowed(&parts.headers);
        if only_if_cached(parts) {
            let only = HeaderValue::from_static("only-if-cached");
            fields.to_mut().append(CACHE_CONTROL, only);
        }
        if self.authorized && !fields.contains_key(http::header::AUTHORIZATION) {
            fields.to_mut().insert(
                http::header::AUTHORIZATION,
                HeaderValue::from_static("of-the-inner-service"),
            );
        }
        fields
    }

    /// The URL to store under, if it is not the target's own.
    pub(crate) fn name_of(&self, parts: &request::Parts) -> Option<Uri> {
        self.stored_as.as_ref().and_then(|name| name(parts))
    }

    #[cfg(feature = "look-aside")]
    /// The freshness lifetime that the app wants in place of the response's own; none for an error: it
    /// would be there for as long as what was meant.
    pub(crate) fn lifetime_of(
        &self,
        request: &request::Parts,
        response: &response::Parts,
    ) -> Option<Duration> {
        if response.status.is_client_error() || response.status.is_server_error() {
            return None;
        }
        let said = request.extensions.get::<Lifetime>().copied();
        let said = said.map(|lifetime| Duration::from_secs(lifetime.seconds()));
        said.or_else(|| {
            self.lifetime
                .as_ref()
                .and_then(|lasts| lasts(request, response))
        })
    }

    /// Whether a response to this request makes what is stored of its target stale (RFC 9111 §4.4).
    /// gRPC's POSTs are calls, not changes of a resource.
    pub(crate) fn invalidates(&self, parts: &request::Parts, target: &Uri) -> bool {
        let is_grpc = || {
            let kind = parts.headers.get(CONTENT_TYPE);
            kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
        };
        self.invalidates
            && is_unsafe(&parts.method)
            && has_target(target)
            && !is_grpc()
            && parts.extensions.get::<NoStore>().is_none()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("only_if", &self.only_if.is_some())
            .field("stored_as", &self.stored_as.is_some())
            .field("lifetime", &self.lifetime.is_some())
            .field("tenant", &self.tenant)
            .field("invalidates", &self.invalidates)
            .field("authorized", &self.authorized)
            .field("keeps_limits", &self.keeps_limits)
            .finish()
    }
}

/// Whether the origin is not to be asked.
pub(crate) fn only_if_cached(parts: &request::Parts) -> bool {
    let says = |value: &HeaderValue| {
        let mut directives = value.as_bytes().split(|byte| *byte == b',');
        directives.any(|directive| {
            directive
                .trim_ascii()
                .eq_ignore_ascii_case(b"only-if-cached")
        })
    };
    parts.extensions.get::<OnlyIfCached>().is_some()
        || parts.headers.get_all(CACHE_CONTROL).iter().any(says)
}

/// Removes what would speak for the layer: the caller of the caller has no say in tenants, names and
/// lifetimes, and no origin needs to know of them.
pub(crate) fn strip(fields: &mut HeaderMap) {
    let is_ours = |name: &&HeaderName| name.as_str().starts_with("koorde-");
    let ours: Vec<_> = fields.keys().filter(is_ours).cloned().collect();
    for name in ours {
        fields.remove(name);
    }
}

/// Writes what the policy says into the fields of a request to the sidecar.
pub(crate) fn write(policy: &Policy, parts: &request::Parts, fields: &mut HeaderMap) {
    if only_if_cached(parts) {
        fields.append(CACHE_CONTROL, HeaderValue::from_static("only-if-cached"));
    }
    if let Some(tenant) = &policy.tenant {
        fields.insert(HeaderName::from_static("koorde-tenant"), tenant.clone());
    }
    let name = policy.name_of(parts).map(|name| name.to_string());
    if let Some(name) = name.and_then(|name| HeaderValue::try_from(name).ok()) {
        fields.insert(HeaderName::from_static("koorde-stored-as"), name);
    }
    if let Some(lifetime) = parts.extensions.get::<Lifetime>() {
        let seconds = HeaderValue::from(lifetime.seconds());
        fields.insert(HeaderName::from_static("koorde-lifetime"), seconds);
    }
}

fn is_readable(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// Not registered as safe (RFC 9110 §9.2.1, the registry of methods).
fn is_unsafe(method: &Method) -> bool {
    !matches!(
        method.as_str(),
        "GET"
            | "HEAD"
            | "OPTIONS"
            | "TRACE"
            | "QUERY"
            | "PROPFIND"
            | "REPORT"
            | "SEARCH"
            | "CONNECT"
    )
}

/// Whether a URI is one that a cache can be asked for.
fn has_target(target: &Uri) -> bool {
    target.scheme().is_some_and(is_http)
        && target
            .authority()
            .is_some_and(|name| !name.as_str().contains('@'))
        && !has_dots(target.path())
}

/// Whether the Host field, if there is one, is the target's: else it is another resource that the
/// URI does not name.
fn is_host(fields: &HeaderMap, target: &Uri) -> bool {
    let said = fields.get(HOST).map(HeaderValue::as_bytes);
    let authority = target.authority().map(|name| name.as_str().as_bytes());
    said.is_none_or(|said| authority.is_some_and(|name| name.eq_ignore_ascii_case(said)))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(method: &str, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_what_can_be_read_through_a_cache_is_selected() {
        let policy = Policy::default();
        for (method, uri, fields, selected) in [
            ("GET", "https://a.example/", &[][..], true),
            ("HEAD", "https://a.example/", &[], true),
            ("GET", "https://a.example/", &[("range", "bytes=0-1")], true),
            ("GET", "https://a.example/", &[("host", "A.example")], true),
            ("GET", "https://a.example/", &[("host", "b.example")], false),
            (
                "GET",
                "https://a.example/",
                &[("upgrade", "websocket")],
                false,
            ),
            ("POST", "https://a.example/", &[], false),
            ("GET", "/only/a/path", &[], false),
            ("GET", "ftp://a.example/", &[], false),
            ("GET", "https://u:p@a.example/", &[], false),
            ("GET", "https://a.example/search/../x", &[], false),
            ("GET", "https://a.example/search/%2e%2E/x", &[], false),
        ] {
            let parts = parts(method, uri, fields);
            let target = parts.uri.clone();
            assert_eq!(
                policy.selects(&parts, &target, false),
                selected,
                "{method} {uri} {fields:?}"
            );
            assert!(!policy.selects(&parts, &target, true), "with content");
        }
        let mut parts = parts("GET", "https://a.example/", &[]);
        parts.extensions.insert(NoStore);
        assert!(!policy.selects(&parts, &parts.uri, false));
    }

    #[test]
    fn unsafe_methods_invalidate_and_grpc_calls_do_not() {
        let policy = Policy::default();
        let grpc = [("content-type", "application/grpc+proto")];
        for (method, fields, invalidates) in [
            ("POST", &[][..], true),
            ("DELETE", &[], true),
            ("PATCH", &[], true),
            ("UNKNOWN", &[], true),
            ("GET", &[], false),
            ("QUERY", &[], false),
            ("OPTIONS", &[], false),
            ("POST", &grpc, false),
        ] {
            let parts = parts(method, "http://a.example/", fields);
            assert_eq!(
                policy.invalidates(&parts, &parts.uri),
                invalidates,
                "{method} {fields:?}"
            );
        }
    }

    #[test]
    fn only_if_cached_is_an_extension_or_a_directive() {
        for (value, only) in [
            ("only-if-cached", true),
            ("max-age=1, ONLY-if-cached", true),
            ("no-cache", false),
            ("x-only-if-cached", false),
        ] {
            let parts = parts("GET", "http://a.example/", &[("cache-control", value)]);
            assert_eq!(only_if_cached(&parts), only, "{value}");
        }
        let mut parts = parts("GET", "http://a.example/", &[]);
        parts.extensions.insert(OnlyIfCached);
        assert!(only_if_cached(&parts));
    }

    #[test]
    fn a_tenant_is_a_short_name() {
        let mut policy = Policy::default();
        for bad in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(policy.tenant(bad).is_err(), "{bad:?}");
        }
        assert!(policy.tenant("team-a_1.x").is_ok());
    }
}
