//! Who may put into the cache, and what only they may say.

use std::time::Duration;

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderName, Method, Request, StatusCode, Version, header, request::Parts,
};
use http_body::Body;
use libkoorde::{CacheService, Overrides, Quoted, policy::Target};
use tower::BoxError;
use tracing::Instrument;

use super::{
    State,
    connection::ClientAddress,
    respond::{Answer, Failure},
};
use crate::{admin, telemetry::otlp::context};

/// What the service's paths begin with.
const SERVICE: &str = "/koorde.cache.v1.Cache/";

/// Fields that proxies add: RFC 9110 §7.6.3, RFC 7239, and what was there before it.
const PROXIED: [HeaderName; 3] = [
    header::VIA,
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
];

const TENANT: &str = "koorde-tenant";
const STORED_AS: &str = "koorde-stored-as";
const LIFETIME: &str = "koorde-lifetime";

/// Whether a request is a call of the service.
pub(super) fn is_call(head: &Parts) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    head.method == Method::POST
        && head.version == Version::HTTP_2
        && is_grpc
        && head.uri.path().starts_with(SERVICE)
}

/// Whether who sent this may put. What a proxy sends on is not of who connects: beside us, a TLS
/// terminator or a mesh's proxy connects from loopback for clients from anywhere.
pub(super) fn may_put(state: &State, extensions: &Extensions, fields: &HeaderMap) -> bool {
    let sent_on = PROXIED.iter().any(|name| fields.contains_key(name));
    let from = extensions.get::<ClientAddress>().map(|from| from.0);
    state.http.look_aside.allows(from.filter(|_| !sent_on))
}

/// Answers a call of the service.
pub(super) async fn answer<B>(state: &State, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    if !may_put(state, request.extensions(), request.headers()) {
        return CacheService::denied("http.look_aside lets nobody in from there");
    }
    let span = context::begin(
        state.traces.as_ref(),
        request.method(),
        "look-aside",
        request.headers(),
    );
    let may_purge = admin::may_purge(state, request.headers());
    let called = state.look_aside.call(request, may_purge);
    let answer = called.instrument(span.clone()).await;
    context::end(&span, answer.status(), None);
    answer
}

/// Takes what a request says of its response's place in the cache out of its fields.
///
/// # Errors
/// It may not say it, or it is malformed.
pub(super) fn take_overrides(
    state: &State,
    extensions: &Extensions,
    target: &Target,
    fields: &mut HeaderMap,
) -> Result<Overrides, Failure> {
    let names = [TENANT, STORED_AS, LIFETIME];
    if !names.iter().any(|name| fields.contains_key(*name)) {
        return Ok(Overrides::default());
    }
    if !may_put(state, extensions, fields) {
        let message = "http.look_aside does not let this client say where a response is stored";
        let status = StatusCode::FORBIDDEN;
        return Err(Failure::new(status, "look-aside", message.to_owned()));
    }
    let [tenant, stored_as, lifetime] = names.map(|name| take(fields, name));
    let lifetime = lifetime?;
    let lifetime = match lifetime.as_str() {
        "" => None,
        seconds => Some(seconds.parse().map(Duration::from_secs).map_err(|_| {
            Failure::bad_request(format!(
                "{LIFETIME} {}: must be whole seconds",
                Quoted(seconds)
            ))
        })?),
    };
    let overrides = Overrides::new(target, &tenant?, &stored_as?, lifetime);
    overrides.map_err(Failure::bad_request)
}

/// The one value of a field; empty without it.
fn take(fields: &mut HeaderMap, name: &str) -> Result<String, Failure> {
    let mut values = fields.get_all(name).iter();
    let value = values.next().map_or(Ok(""), |value| value.to_str());
    let is_one = values.next().is_none();
    let value = value.map(str::to_owned).ok().filter(|_| is_one);
    fields.remove(name);
    value.ok_or_else(|| Failure::bad_request(format!("{name}: must be one line of ASCII")))
}
