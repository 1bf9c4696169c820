//! The sidecar fetches; where it can't, the inner service is asked directly, once (fail open).

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header, request::Parts};
use tokio::time::timeout;

use crate::{
    Body, BodyError, CacheResult, CacheStatus, Event, Reason, added,
    breaker::Ticket,
    inner::{self, Inner},
    layer::Shared,
    policy::only_if_cached,
    race::race,
    resume::Guard,
    status::{self, Said},
    watch::{Alive, Watch},
};

/// How long a sidecar may take to say that it is alive.
const LIVEZ: Duration = Duration::from_millis(250);

/// The request in the path form, as the sidecar is to get it.
pub(crate) fn to_sidecar(parts: &Parts, uri: Uri) -> Parts {
    let mut asked = parts.clone();
    asked.uri = uri;
    // It would name the target's host where the sidecar's is meant; the client writes it anew.
    asked.headers.remove(header::HOST);
    // What the origin speaks says nothing of what the sidecar speaks: clients that know better
    // (HTTP/2 only) take this for any version.
    asked.version = Version::HTTP_11;
    asked
}

/// The answer to `first`, if that is koorde's; else that of the inner service to the original.
pub(crate) async fn fetch<S, B, R>(
    first: S::Future,
    mut spare: S,
    shared: Arc<Shared>,
    ticket: Ticket,
    parts: Parts,
) -> Result<Response<Body<R>>, S::Error>
where
    S: Inner<B, R>,
    S::Future: 'static,
    B: http_body::Body + Default + Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    let asked = asked::<S, B, R>(first, &mut spare, &shared).await;
    let why = match asked.and_then(|response| judge(&shared, response)) {
        Ok((response, status)) => {
            shared.succeeded(ticket);
            shared.events.answered(&status);
            // A clone: the spare may have a place, or wait for one, while nobody reads the body.
            return Ok(answer::<S, B, R>(
                response,
                status,
                spare.clone(),
                shared,
                parts,
            ));
        }
        Err(why) => why,
    };
    shared.failed(ticket, &why);
    if only_if_cached(&parts) {
        return Ok(not_stored());
    }
    let original = Request::from_parts(parts, B::default());
    let response = inner::ask(&mut spare, original).await?;
    Ok(opened(&shared, why, response))
}

/// Waits for what seems to be the sidecar, as long as it is alive. The request to it is dropped
/// before this returns: its place in the inner service is free for what is asked next.
async fn asked<S, B, R>(
    first: S::Future,
    spare: &mut S,
    shared: &Shared,
) -> Result<Response<R>, Reason>
where
    S: Inner<B, R>,
    B: http_body::Body + Default + Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    let mut first = pin!(first);
    loop {
        if let Ok(answered) = timeout(shared.patience, first.as_mut()).await {
            return answered.map_err(|_| Reason::Unreachable);
        }
        // It may be the origin that is slow: then the others who wait for this fill go on, too.
        match race(first.as_mut(), pin!(livez::<S, B, R>(spare, shared))).await {
            Ok(answered) => return answered.map_err(|_| Reason::Unreachable),
            Err(Ok(())) => {}
            Err(Err(why)) => return Err(why),
        }
    }
}

/// Whether the sidecar is alive.
async fn livez<S, B, R>(spare: &mut S, shared: &Shared) -> Result<(), Reason>
where
    S: Inner<B, R>,
    B: http_body::Body + Default + Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    let uri = shared
        .endpoint
        .as_ref()
        .and_then(|endpoint| endpoint.livez());
    let mut request = Request::new(B::default());
    *request.uri_mut() = uri.ok_or(Reason::Unresponsive)?;
    match timeout(LIVEZ, inner::ready(spare)).await {
        Ok(Ok(())) => {}
        // Waiting for a place while holding one could last for ever, and says nothing of the sidecar.
        Ok(Err(_)) | Err(_) => return Err(Reason::Busy),
    }
    match timeout(LIVEZ, spare.call(request)).await {
        Ok(Ok(response)) if response.status() == StatusCode::OK => Ok(()),
        Ok(Ok(_)) => Err(Reason::NotKoorde),
        Ok(Err(_)) => Err(Reason::Unreachable),
        Err(_) => Err(Reason::Unresponsive),
    }
}

/// The question whether the sidecar is alive, for a body that stands still.
fn alive<S, B, R>(spare: S, shared: Arc<Shared>) -> impl FnMut() -> Alive + Send + 'static
where
    S: Inner<B, R>,
    S::Future: 'static,
    B: http_body::Body + Default + Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    move || {
        let (mut spare, shared) = (spare.clone(), Arc::clone(&shared));
        Box::pin(async move { livez::<S, B, R>(&mut spare, &shared).await })
    }
}

/// Whether a response is koorde's, and an answer.
fn judge<R>(shared: &Shared, response: Response<R>) -> Result<(Response<R>, CacheStatus), Reason> {
    match status::read(response.headers()) {
        Some(Said::Answer(status)) => Ok((response, status)),
        // RFC 9111 §5.2.1.7: that is what was asked for.
        Some(Said::Failure(word)) if word == "not-stored" => {
            let status = CacheStatus::new(CacheResult::NotStored, None);
            Ok((response, status))
        }
        Some(Said::Failure(word)) if shared.policy.keeps_limits && is_limit(&word) => {
            let status = CacheStatus::new(CacheResult::Miss, Some(&word));
            Ok((response, status))
        }
        Some(Said::Failure(word)) => Err(Reason::Refused(word)),
        None => Err(Reason::NotKoorde),
    }
}

/// The words for an origin that is to be left alone.
fn is_limit(word: &str) -> bool {
    matches!(word, "overloaded" | "retry-after" | "breaker-open")
}

/// koorde's answer. Its body goes on from the origin if the sidecar dies before it is complete.
fn answer<S, B, R>(
    mut response: Response<R>,
    status: CacheStatus,
    spare: S,
    shared: Arc<Shared>,
    parts: Parts,
) -> Response<Body<R>>
where
    S: Inner<B, R>,
    S::Future: 'static,
    B: http_body::Body + Default + Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    response.extensions_mut().insert(status);
    added::take_away(response.headers_mut());
    let (head, body) = response.into_parts();
    if body.is_end_stream() || only_if_cached(&parts) {
        return Response::from_parts(head, Body::plain(body));
    }
    let alive = alive::<S, B, R>(spare.clone(), Arc::clone(&shared));
    let watch = Watch::new(shared.patience, alive);
    let guard = Guard::new::<S, B>(&head, spare, shared, parts);
    let guard = guard.map(|guard| guard.watched(watch));
    Response::from_parts(head, Body::guarded(body, guard))
}

/// The answer of the inner service in place of koorde's.
pub(crate) fn opened<R>(
    shared: &Shared,
    why: Reason,
    mut response: Response<R>,
) -> Response<Body<R>> {
    let status = CacheStatus::new(CacheResult::FailOpen, Some(why.as_str()));
    response.extensions_mut().insert(status);
    shared.events.tell(&Event::FailedOpen(why));
    response.map(Body::plain)
}

/// 504, as RFC 9111 §5.2.1.7 has it, where there is no sidecar to say so.
pub(crate) fn not_stored<R>() -> Response<Body<R>> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    let member = HeaderValue::from_static("koorde; detail=not-stored");
    response.headers_mut().insert("cache-status", member);
    let status = CacheStatus::new(CacheResult::NotStored, None);
    response.extensions_mut().insert(status);
    response
}
