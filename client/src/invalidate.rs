//! What a successful unsafe request makes stale (RFC 9111 §4.4).

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use tokio::time::timeout;

use crate::{
    BodyError, Event, Reason,
    inner::{self, Inner},
    layer::Shared,
};

/// How long the response of an unsafe request may be held back for it.
const PATIENCE: Duration = Duration::from_millis(250);

/// What an unsafe request may change, once it has succeeded.
#[derive(Debug)]
pub(crate) struct Change {
    target: Uri,
}

impl Change {
    pub(crate) fn of(target: Uri) -> Self {
        Self { target }
    }

    /// The URLs that a response makes stale: the target's, and those of its origin that it names; none
    /// if it is an error.
    pub(crate) fn made_by(&self, status: StatusCode, fields: &HeaderMap) -> Vec<Uri> {
        if !status.is_success() && !status.is_redirection() {
            return Vec::new();
        }
        self.urls(fields)
    }

    fn urls(&self, fields: &HeaderMap) -> Vec<Uri> {
        let mut urls = vec![self.target.clone()];
        for name in [header::LOCATION, header::CONTENT_LOCATION] {
            let named = fields.get(name).and_then(|value| value.to_str().ok());
            let url = named.and_then(|named| resolve(&self.target, named));
            urls.extend(url.filter(|url| is_same_origin(url, &self.target)));
        }
        urls.dedup();
        urls
    }
}

/// Tells the sidecar what is stale now; never longer than 250 ms, and
/// never a reason for the request to fail.
pub(crate) async fn after<S, B, R>(mut service: S, shared: &Shared, urls: &[Uri])
where
    S: Inner<B, R>,
    B: http_body::Body + Default + Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    if urls.is_empty() {
        return;
    }
    let all = async {
        #[cfg(feature = "look-aside")]
        if let Some(aside) = &shared.aside {
            return aside.invalidate(urls, shared).await;
        }
        for url in urls {
            if !one::<S, B, R>(&mut service, shared, url).await {
                return false;
            }
        }
        true
    };
    let Some(ticket) = shared.ask() else {
        shared.events.tell(&Event::Invalidated { confirmed: false });
        return;
    };
    let told = timeout(PATIENCE, all).await;
    match told {
        Ok(true) => shared.succeeded(ticket),
        Ok(false) => {}
        Err(_) => shared.failed(ticket, &Reason::Unresponsive),
    }
    let confirmed = told.unwrap_or(false);
    shared.events.tell(&Event::Invalidated { confirmed });
}

async fn one<S, B, R>(service: &mut S, shared: &Shared, url: &Uri) -> bool
where
    S: Inner<B, R>,
    B: http_body::Body + Default + Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    let Some(request) = purge_request::<B>(shared, url, "invalidate") else {
        return false;
    };
    let answered = inner::ask(service, request).await;
    answered.is_ok_and(|response| response.status().is_success())
}

/// The PURGE of one URL, `kind` as `Koorde-Purge` has it.
pub(crate) fn purge_request<B: Default>(
    shared: &Shared,
    url: &Uri,
    kind: &'static str,
) -> Option<Request<B>> {
    let uri = shared.endpoint.as_ref()?.path_form(url)?;
    let mut request = Request::new(B::default());
    *request.uri_mut() = uri;
    *request.method_mut() = Method::from_bytes(b"PURGE").expect("a token");
    let fields = request.headers_mut();
    let name = HeaderName::from_static("koorde-purge");
    fields.insert(name, HeaderValue::from_static(kind));
    if let Some(tenant) = &shared.policy.tenant {
        fields.insert(HeaderName::from_static("koorde-tenant"), tenant.clone());
    }
    Some(request)
}

/// A reference against a base (RFC 3986 §5.2), as far as origins write them in Location: absolute, or
/// a path. One that is relative to the base's path, or has dots, names nothing we could purge safely.
fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next()?;
    if let Some(rest) = reference.strip_prefix("//") {
        return format!("{}://{rest}", base.scheme()?).parse().ok();
    }
    if !reference.starts_with('/') {
        return reference
            .parse()
            .ok()
            .filter(|uri: &Uri| uri.scheme().is_some());
    }
    let path = PathAndQuery::try_from(reference).ok()?;
    let uri = Uri::builder()
        .scheme(base.scheme()?.clone())
        .authority(base.authority()?.clone());
    uri.path_and_query(path).build().ok()
}

fn is_same_origin(one: &Uri, other: &Uri) -> bool {
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    one.scheme() == other.scheme() && host(one) == host(other) && port(one) == port(other)
}

fn port(uri: &Uri) -> Option<u16> {
    let default = uri
        .scheme()
        .map(|s| if *s == Scheme::HTTPS { 443 } else { 80 });
    uri.authority().and_then(Authority::port_u16).or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_and_what_the_response_names_of_its_origin_are_stale() {
        let change = Change {
            target: "https://a.example/things".parse().unwrap(),
        };
        for (location, expected) in [
            ("/things/7", Some("https://a.example/things/7")),
            (
                "https://a.example:443/things/7#top",
                Some("https://a.example:443/things/7"),
            ),
            ("//A.example/x?y=1", Some("https://A.example/x?y=1")),
            ("https://b.example/things/7", None),
            ("http://a.example/things/7", None),
            ("https://a.example:8443/x", None),
            ("7", None),
            ("http://[", None),
            ("", None),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(header::LOCATION, location.parse().unwrap());
            let urls: Vec<_> = change.urls(&fields).iter().map(Uri::to_string).collect();
            let mut all = vec!["https://a.example/things"];
            all.extend(expected);
            assert_eq!(urls, all, "{location:?}");
        }
    }
}
