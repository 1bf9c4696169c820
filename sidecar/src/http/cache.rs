//! `/cache?url=`: the library's answer, with the seed's fields beside it.

use std::sync::LazyLock;

use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use libkoorde::{outcome::Outcome, policy::Target};
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::{
    Accept, State,
    respond::{Answer, Failure},
    target,
};
use crate::telemetry::otlp;

static X_CACHE: HeaderName = HeaderName::from_static("x-cache");
static CACHE_STATUS: LazyLock<HeaderName> =
    LazyLock::new(|| HeaderName::from_static("cache-status"));

/// Answers `/cache`. The body of the request is not read: no method that is served here gives one a
/// meaning, and hyper then closes the connection instead of taking the body for the next request.
pub(super) async fn answer<B>(state: &State, request: Request<B>, accept: &Accept) -> Answer {
    let began = Instant::now();
    let span = match &state.propagation {
        Some(propagation) => otlp::server_span(request.method(), request.headers(), propagation),
        None => Span::none(),
    };
    let fetched = fetch(state, request).instrument(span.clone()).await;
    let answer = fetched.unwrap_or_else(|failure| {
        span.in_scope(|| failure.log());
        refused(&failure, accept)
    });
    otlp::end_server_span(&span, answer.status(), answer.extensions().get::<Outcome>());
    state.metrics.took(began.elapsed());
    answer
}

async fn fetch<B>(state: &State, request: Request<B>) -> Result<Answer, Failure> {
    let method = request.method();
    if method != Method::GET && method != Method::HEAD {
        let message = format!("{method} is not served here; GET and HEAD are");
        return Err(Failure::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method",
            message,
        ));
    }
    let request = library_request(request)?;
    let response = state
        .node
        .fetch(request)
        .await
        .map_err(|error| Failure::of(&error))?;
    let outcome = response.extensions().get::<Outcome>().copied();
    let mut answer = response.map(|body| body.map_err(Into::into).boxed_unsync());
    if let Some(outcome) = outcome {
        let value = HeaderValue::from_static(outcome.x_cache());
        answer.headers_mut().insert(&X_CACHE, value);
    }
    Ok(answer)
}

/// What the library is asked: the URL of the query, the fields as they came.
pub(crate) fn library_request<B>(request: Request<B>) -> Result<libkoorde::Request, Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::bad_request(error.to_string());
    let url = target::url(request.uri().query()).map_err(|e| bad(&e))?;
    let target = Target::parse(&url).map_err(|e| bad(&format_args!("url {:.200?}: {e}", url)))?;
    let (parts, _) = request.into_parts();
    Ok(libkoorde::Request::new(parts.method, target, parts.headers))
}

fn refused(failure: &Failure, accept: &Accept) -> Answer {
    let mut answer = failure.answer(accept);
    let fields = answer.headers_mut();
    fields.append(&*CACHE_STATUS, failure.cache_status());
    fields.insert(&X_CACHE, HeaderValue::from_static("ERROR"));
    if failure.status == StatusCode::METHOD_NOT_ALLOWED {
        fields.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    answer
}
