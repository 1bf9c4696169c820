//! The doors to the cache: the library's answer, with the seed's fields beside it.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version, header,
    request::Parts,
};
use http_body::Body;
use http_body_util::BodyExt;
use libkoorde::{
    Interim,
    outcome::{CacheResult, Outcome},
    policy::Target,
};
use tokio::time::Instant;
use tower::BoxError;
use tracing::Instrument;

use super::{
    Accept, State,
    counted::Counted,
    door::Way,
    interim::Sink,
    location, look_aside,
    metrics::Open,
    respond::{Answer, Failure},
    upload::Upload,
};
use crate::{admin, telemetry::otlp::context};

static X_CACHE: HeaderName = HeaderName::from_static("x-cache");
static CACHE_STATUS: LazyLock<HeaderName> =
    LazyLock::new(|| HeaderName::from_static("cache-status"));

/// The fields that we have added to a response, by name: of each the last line.
const ADDED: &str = "koorde-added";

/// Answers a request for a target, with any method and body. A body that nobody wants is not read:
/// hyper then closes the connection instead of taking the rest of it for the next request.
pub(super) async fn answer<B>(
    state: &State,
    way: Way,
    target: Target,
    request: Request<B>,
    accept: &Accept,
) -> Answer
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    if is_purge(state, &request) {
        let head = request.into_parts().0;
        let version = head.version;
        let purged = purge(state, target, head, accept).await;
        return purged.unwrap_or_else(|failure| refused(&failure, accept, version));
    }
    let (began, inflight) = (Instant::now(), state.metrics.begin());
    let method = request.method().clone();
    let span = context::begin(
        state.traces.as_ref(),
        &method,
        way.as_str(),
        request.headers(),
    );
    let version = request.version();
    let base = target.clone();
    let fetched = fetch(state, target, request, inflight)
        .instrument(span.clone())
        .await;
    let mut answer = fetched.unwrap_or_else(|failure| {
        span.in_scope(|| failure.log());
        refused(&failure, accept, version)
    });
    if way.is_of_this_host() {
        location::make_absolute(answer.headers_mut(), &base);
        // Ours alone: see `sandbox`.
        answer.headers_mut().remove(ADDED);
        if state.http.sandbox {
            sandbox(&mut answer);
        }
    }
    let outcome = answer.extensions().get::<Outcome>();
    context::end(&span, answer.status(), outcome);
    let result = outcome.map_or(CacheResult::Error, |outcome| outcome.result);
    let of = (&method, answer.status(), way.as_str());
    let trace = context::kept_trace(&span);
    state.metrics.took(began.elapsed(), trace, result, of);
    answer
}

/// Whether a request is a PURGE for us, and not for the origin: whoever says which kind means us.
fn is_purge<B>(state: &State, request: &Request<B>) -> bool {
    request.method().as_str() == "PURGE"
        && (request.headers().contains_key("koorde-purge")
            || may_purge(state, request.extensions(), request.headers()))
}

fn may_purge(state: &State, extensions: &Extensions, fields: &HeaderMap) -> bool {
    state.http.purge || look_aside::may_put(state, extensions, fields)
}

async fn purge(
    state: &State,
    target: Target,
    mut head: Parts,
    accept: &Accept,
) -> Result<Answer, Failure> {
    if !may_purge(state, &head.extensions, &head.headers) {
        // The origin would take it for a request that the client never made.
        let message = "neither http.purge nor http.look_aside lets this client purge";
        let status = StatusCode::FORBIDDEN;
        return Err(Failure::new(status, "purge", message.to_owned()));
    }
    let overrides =
        look_aside::take_overrides(state, &head.extensions, &target, &mut head.headers)?;
    let tenant = overrides.tenant();
    let mut answer = admin::purge_method(state, target, tenant, &head.headers, accept).await;
    if answer.status().is_success() {
        // An origin's answer to PURGE has not this word.
        not_cached(&mut answer, "koorde; detail=purged");
    }
    Ok(answer)
}

async fn fetch<B>(
    state: &State,
    target: Target,
    request: Request<B>,
    inflight: Open,
) -> Result<Answer, Failure>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let (mut head, body) = request.into_parts();
    if head.method == Method::TRACE && !body.is_end_stream() {
        // RFC 9110 §9.3.8.
        return Err(Failure::bad_request("TRACE has no content".to_owned()));
    }
    let expects_continue = head.headers.contains_key(header::EXPECT);
    let interim = head.extensions.remove::<Sink>().map(|sink| {
        Interim::new(move |status, fields| {
            // hyper answers an expectation itself, when the body is first asked for.
            if !(expects_continue && status == StatusCode::CONTINUE) {
                sink.send(status, fields);
            }
        })
    });
    let overrides =
        look_aside::take_overrides(state, &head.extensions, &target, &mut head.headers)?;
    let (body, broken) = Upload::begin(body, &state.http)?;
    let mut request = libkoorde::Request::new(head.method, target, head.headers);
    request.interim = interim;
    request.version = head.version;
    request.overrides = overrides;
    let fetched = state.node.fetch_with_body(request, body).await;
    let response = fetched.map_err(|error| {
        let of_the_body = broken.failure(&state.http);
        of_the_body.unwrap_or_else(|| Failure::of(&error))
    })?;
    if response.status().is_informational() {
        // Nobody asked for another protocol: Upgrade is not forwarded.
        let message = format!("origin: answered {}", response.status().as_u16());
        return Err(Failure::new(StatusCode::BAD_GATEWAY, "origin", message));
    }
    let outcome = response.extensions().get::<Outcome>().copied();
    let result = outcome.map_or(CacheResult::Bypass, |outcome| outcome.result);
    let bytes = state.metrics.response_bytes();
    let mut answer = response.map(|body| {
        let body = Counted::new(body, bytes, result, inflight);
        body.map_err(Into::into).boxed_unsync()
    });
    if let Some(outcome) = outcome {
        let value = HeaderValue::from_static(outcome.x_cache());
        answer.headers_mut().insert(&X_CACHE, value);
    }
    Ok(answer)
}

/// A failure as the answer of a door: it says so in Cache-Status, too.
pub(super) fn refused(failure: &Failure, accept: &Accept, version: Version) -> Answer {
    let mut answer = failure.answer(accept);
    let fields = answer.headers_mut();
    fields.append(&*CACHE_STATUS, failure.cache_status());
    fields.insert(&X_CACHE, HeaderValue::from_static("ERROR"));
    let rest_is_unread = matches!(
        failure.status,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT
    );
    if rest_is_unread {
        close(&mut answer, version);
    }
    answer
}

/// Ends the connection with this answer. Over HTTP/2 a stream ends without the others.
pub(super) fn close(answer: &mut Answer, version: Version) {
    if version < Version::HTTP_2 {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(header::CONNECTION, close);
    }
}

/// The member of Cache-Status for what was neither looked up nor fetched.
pub(super) fn not_cached(answer: &mut Answer, detail: &'static str) {
    answer
        .headers_mut()
        .append(&*CACHE_STATUS, HeaderValue::from_static(detail));
}

/// Keeps what a browser would take for an active page of this host from being one: a foreign site's
/// scripts would else run with this host's cookies and rights.
fn sandbox(answer: &mut Answer) {
    let fields = answer.headers_mut();
    if !is_active(fields) {
        return;
    }
    // Several policies hold together: the site's own one stays.
    fields.append(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox"),
    );
    let nosniff = HeaderValue::from_static("nosniff");
    let had = fields.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff.clone());
    // An app's client is no browser: it takes away again what is named here, and has the origin's
    // response.
    let added = match had {
        Some(had) if had == nosniff => "content-security-policy",
        _ => "content-security-policy, x-content-type-options",
    };
    fields.insert(ADDED, HeaderValue::from_static(added));
}

/// Whether a browser may run what is of this type, or has to guess. It is so unless it is told one
/// type, once, that is known to be none of those: browsers take the last of several, and look into
/// what they don't know (WHATWG Fetch, "extract a MIME type"; MIME Sniffing, §7).
fn is_active(fields: &HeaderMap) -> bool {
    let mut lines = fields.get_all(header::CONTENT_TYPE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return true;
    };
    let Some(line) = line.to_str().ok().filter(|line| !line.contains(',')) else {
        return true;
    };
    let essence = line.split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    let Some((kind, subtype)) = essence.split_once('/') else {
        return true;
    };
    !match kind {
        // Of images one can hold scripts; any XML can.
        "image" | "audio" | "video" | "font" => {
            !subtype.is_empty() && !subtype.contains(['+', '*'])
        }
        "text" => matches!(
            subtype,
            "plain" | "css" | "csv" | "javascript" | "event-stream"
        ),
        "application" => {
            let is_inert = matches!(
                subtype,
                "json" | "javascript" | "octet-stream" | "pdf" | "wasm" | "zip" | "gzip" | "grpc"
            );
            is_inert || subtype.ends_with("+json")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_may_run_is_active() {
        for (lines, active) in [
            (&[][..], true),
            (&["text/html"], true),
            (&["Text/HTML; charset=utf-8"], true),
            (&["application/xhtml+xml"], true),
            (&["image/svg+xml"], true),
            (&["text/xml"], true),
            (&["text/xsl"], true),
            (&["multipart/x-mixed-replace"], true),
            (&["nonsense"], true),
            (&["application/unknown"], true),
            (&["unknown/unknown"], true),
            (&["*/*"], true),
            (&["image/*"], true),
            (&["text/plain, text/html"], true),
            (&["text/html,"], true),
            (&["text/plain", "text/html"], true),
            (&["text/plain"], false),
            (&["text/plain; charset=utf-8"], false),
            (&["application/json"], false),
            (&["application/problem+json"], false),
            (&["image/png"], false),
            (&["font/woff2"], false),
        ] {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(header::CONTENT_TYPE, HeaderValue::from_static(line));
            }
            assert_eq!(is_active(&fields), active, "{lines:?}");
        }
    }
}
