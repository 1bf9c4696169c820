//! May this response be stored? RFC 9111 §3.

use super::fields::cache_control::RequestDirectives;
use super::fields::connection;
use super::fields::date::HttpDate;
use super::fields::entity_tag::EntityTag;
use super::freshness::{self, Control, Freshness, Lifetime};
use super::stored::StalePolicy;
use super::{Exchange, Selecting, SetCookie, Settings, StoredHead, Tags, parts, vary};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, response};
use std::time::Duration;

/// Decides whether a response may be stored, and makes what is stored of its head.
///
/// The request is the one that was sent, with the fields the origin saw. The body
/// is the caller's: it must turn out complete (RFC 9111 §3.3) before the response
/// is reused. A 206 becomes a [`Part`](super::Part) of its 200; its body is complete
/// when it has [`Part::length`](super::Part::length) bytes.
///
/// # Errors
/// The rule that refuses. The response is then for this request alone: no other
/// may have it, waiting or not.
pub fn decide(
    method: &Method,
    request: &HeaderMap,
    response: &response::Parts,
    exchange: &Exchange,
    settings: &Settings,
) -> Result<StoredHead, NotStored> {
    if *method != Method::GET {
        return Err(NotStored::Method);
    }
    if has_body(request) {
        return Err(NotStored::RequestBody);
    }
    check_status(response.status)?;
    if response.status == StatusCode::PARTIAL_CONTENT {
        check_partial(request, &response.headers)?;
    }
    let mut fields = response.headers.clone();
    let (status, part) = parts::settle(response.status, &mut fields)?;
    let mut head = prepare(request, status, fields, exchange, settings);
    head.part = part;
    match head.refused {
        None => Ok(head),
        Some(rule) => Err(rule),
    }
}

/// Makes a head of these fields. A rule that refuses to keep it is noted in it,
/// because after a 304 the response may still answer the request at hand.
pub(super) fn prepare(
    request: &HeaderMap,
    status: StatusCode,
    mut fields: HeaderMap,
    exchange: &Exchange,
    settings: &Settings,
) -> StoredHead {
    let received = exchange.response_received;
    let control = Control::read(&fields, settings);
    let said = freshness::lifetime(status, &fields, &control, received.wall, settings);
    let personal = request.contains_key(header::AUTHORIZATION) || keeps_cookie(&fields, &control);
    let may_lengthen = control.directives.public || !personal;
    let fresh = Freshness {
        said,
        lifetime: settings.ttl.apply(status, said, may_lengthen),
        initial_age: freshness::initial_age(&fields, exchange),
    };
    let names = vary::names(&fields);
    let refused = names
        .is_none()
        .then_some(NotStored::VaryStar)
        .or_else(|| check(request, status, &fields, &control, fresh, settings).err());
    let mut directives = control.directives;
    settings
        .stale
        .fill(&mut directives, fresh.lifetime.duration());
    let tags = Tags::read(&fields);

    connection::strip_response(&mut fields);
    fields.remove(header::AGE);
    for name in &control.unshared {
        fields.remove(name);
    }
    // "A recipient with a clock that receives a response message without a Date
    // header field MUST record the time it was received and append a
    // corresponding Date header field" (RFC 9110 §6.6.1). One that is there, even
    // a bad one, stays as it is.
    if !fields.contains_key(header::DATE) {
        let date = HttpDate::from(received.wall).to_string();
        if let Ok(date) = HeaderValue::try_from(date) {
            fields.insert(header::DATE, date);
        }
    }
    StoredHead {
        status,
        fields,
        part: None,
        selecting: Selecting::new(names.unwrap_or_default(), request),
        initial_age: fresh.initial_age,
        received: received.instant,
        lifetime: fresh.lifetime.duration(),
        directives,
        tags,
        stale: StalePolicy::of(&directives, settings),
        refused,
    }
}

/// Statuses that are not a response to the target alone, but to fields of the
/// request that Vary does not name: conditions, and ranges that were not met.
fn check_status(status: StatusCode) -> Result<(), NotStored> {
    match status.as_u16() {
        100..=199 | 304 | 412 | 416 => Err(NotStored::Status),
        _ => Ok(()),
    }
}

/// A part that nobody asked for is somebody's mistake, and one that left fields out
/// would lack them for whoever comes later.
fn check_partial(request: &HeaderMap, response: &HeaderMap) -> Result<(), NotStored> {
    if request.contains_key(header::RANGE) && parts::is_self_contained(request, response) {
        Ok(())
    } else {
        Err(NotStored::Partial)
    }
}

/// The conditions of RFC 9111 §3.
fn check(
    request: &HeaderMap,
    status: StatusCode,
    fields: &HeaderMap,
    control: &Control,
    fresh: Freshness,
    settings: &Settings,
) -> Result<(), NotStored> {
    let d = &control.directives;
    if d.must_understand && !is_understood(status) {
        return Err(NotStored::NotUnderstood);
    }
    // §5.2.2.3: where must-understand is honoured, its no-store is not.
    if d.no_store && !d.must_understand {
        return Err(NotStored::NoStore);
    }
    if d.private {
        return Err(NotStored::Private);
    }
    // §3.5
    let shared = d.public || d.s_maxage.is_some();
    if request.contains_key(header::AUTHORIZATION) && !shared && !d.must_revalidate {
        return Err(NotStored::Authorization);
    }
    if keeps_cookie(fields, control) {
        // The origin's own word: a rule of ours is no consent of the cookie's owner.
        let explicit = matches!(fresh.said, Lifetime::Explicit(_));
        let allowed = match settings.store_set_cookie {
            SetCookie::PublicOnly => shared,
            SetCookie::ExplicitFreshness => explicit,
        };
        if !allowed {
            return Err(NotStored::SetCookie);
        }
    }
    if !is_ever_reusable(status, fields, control, fresh) {
        return Err(NotStored::NoFreshness);
    }
    // Last: what the response says of itself ends what is stored, whoever has asked.
    if RequestDirectives::read(request).no_store {
        return Err(NotStored::RequestNoStore);
    }
    Ok(())
}

/// Whether storing can ever save anything: the last condition of RFC 9111 §3, and either
/// time left or something to validate or to fall back on.
fn is_ever_reusable(
    status: StatusCode,
    fields: &HeaderMap,
    control: &Control,
    fresh: Freshness,
) -> bool {
    let d = &control.directives;
    let lifetime = fresh.lifetime;
    let explicit = matches!(lifetime, Lifetime::Explicit(_));
    if !explicit && !d.public && !freshness::is_heuristically_cacheable(status) {
        return false;
    }
    let error = status.is_client_error() || status.is_server_error();
    if error && lifetime == Lifetime::Unknown {
        return false;
    }
    let etag = fields.get(header::ETAG);
    let validator = etag.is_some_and(|tag| EntityTag::parse(tag.as_bytes()).is_some())
        || fields.contains_key(header::LAST_MODIFIED);
    // Date counts whole seconds: what has `max-age=1` may seem to be over when it comes.
    let granted = lifetime.duration();
    let usable = granted > Duration::ZERO && granted + DATE_RESOLUTION > fresh.initial_age
        || d.stale_while_revalidate.is_some()
        || d.stale_if_error.is_some();
    validator || usable && !d.no_cache
}

/// What an age that was read from Date may be off by.
const DATE_RESOLUTION: Duration = Duration::from_secs(1);

/// Whether Set-Cookie would be among the stored fields.
fn keeps_cookie(fields: &HeaderMap, control: &Control) -> bool {
    fields.contains_key(header::SET_COOKIE) && !control.unshared.contains(&header::SET_COOKIE)
}

/// Final statuses whose caching this room knows, for `must-understand`: those of
/// RFC 9110 §15 but the ones that [`check_status`] refuses.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=411 | 413..=415 | 417 | 421 | 422 | 426
            | 500..=505
    )
}

/// Whether the request announces a body. A GET's body has no meaning (RFC 9110
/// §9.3.1), but origins that read it answer a request that the key does not know.
pub(super) fn has_body(request: &HeaderMap) -> bool {
    request.contains_key(header::TRANSFER_ENCODING)
        || request
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .any(|value| value.as_bytes() != b"0")
}

/// The rule under which a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum NotStored {
    /// Only responses to GET are stored.
    Method,
    /// The request had a body.
    RequestBody,
    /// Interim, 304, 412 or 416.
    Status,
    /// A 206 that is not one range of bytes, valid, asked for, and with all its fields.
    Partial,
    /// `must-understand` on a status we do not.
    NotUnderstood,
    /// `no-store` of the response.
    NoStore,
    /// `no-store` of the request.
    RequestNoStore,
    /// `private`
    Private,
    /// Authorization without `public`, `s-maxage` or `must-revalidate`.
    Authorization,
    /// Set-Cookie without what [`SetCookie`] asks for.
    SetCookie,
    /// `Vary: *`, or a Vary that is no list of names.
    VaryStar,
    /// Neither time left nor a way to validate.
    NoFreshness,
}

impl NotStored {
    /// The name in metrics, spans and the `detail` of Cache-Status.
    pub fn as_str(self) -> &'static str {
        match self {
            NotStored::Method => "method",
            NotStored::RequestBody => "request-body",
            NotStored::Status => "status",
            NotStored::Partial => "partial",
            NotStored::NotUnderstood => "not-understood",
            NotStored::NoStore => "no-store",
            NotStored::RequestNoStore => "request-no-store",
            NotStored::Private => "private",
            NotStored::Authorization => "authorization",
            NotStored::SetCookie => "set-cookie",
            NotStored::VaryStar => "vary-star",
            NotStored::NoFreshness => "no-freshness",
        }
    }
    /// Whether the rule is about the request: another request's response for the
    /// same target may well be stored, and one that is stored stays.
    pub fn is_of_request(self) -> bool {
        matches!(
            self,
            NotStored::Method
                | NotStored::RequestBody
                | NotStored::RequestNoStore
                | NotStored::Authorization
        )
    }
}
