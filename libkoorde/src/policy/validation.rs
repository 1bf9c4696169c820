//! Is a stored response still good? RFC 9111 §4.3.

use super::fields::connection;
use super::fields::date::HttpDate;
use super::fields::entity_tag::EntityTag;
use super::{Exchange, Settings, StoredHead, storing};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, response};

/// Makes a request conditional on a stored response, §4.3.1: sends its validators
/// in place of the client's conditions, which are answered from the outcome.
///
/// Range goes too: what is validated is the representation. For a stored part it
/// stays, since If-None-Match is evaluated before Range (RFC 9110 §13.2.2): a 304
/// says that its bytes are still good, a 206 brings those of what is there now, and
/// nobody who wants ten bytes waits for all. But only if the part has an entity tag:
/// If-Modified-Since is for requests that are "not for a subrange" (§4.3.1); and not
/// together with If-Range, which asks for the whole where the part has changed.
///
/// Returns false if the stored response has no validator; the request is then an
/// ordinary one.
pub fn conditional(fields: &mut HeaderMap, stored: &StoredHead) -> bool {
    for name in [
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_MATCH,
        header::IF_UNMODIFIED_SINCE,
    ] {
        fields.remove(name);
    }
    let is_tagged = stored.etag().is_some();
    let wants_whole = fields.contains_key(header::IF_RANGE) || !is_tagged;
    if stored.part.is_none() || stored.has_validator() && wants_whole {
        fields.remove(header::IF_RANGE);
        fields.remove(header::RANGE);
    }
    let for_subrange = is_tagged && fields.contains_key(header::RANGE);
    if is_tagged && let Some(etag) = stored.fields.get(header::ETAG) {
        fields.insert(header::IF_NONE_MATCH, etag.clone());
    }
    if let Some(modified) = stored.last_modified().filter(|_| !for_subrange) {
        fields.insert(header::IF_MODIFIED_SINCE, modified.clone());
    }
    stored.has_validator()
}

/// Updates a stored response from the 304 that validated it, §4.3.4 and §3.2.
///
/// `request` is what was sent. `None` if the 304 speaks of another representation:
/// then neither it nor the stored response may be used, and the origin has to be
/// asked without condition. Look at [`StoredHead::refused`] before keeping it.
/// A part stays the part it was; the 304 may have changed what an If-Range is
/// compared with, so ask [`range::is_within_part`](super::range::is_within_part)
/// again before answering from it.
pub fn freshen(
    stored: &StoredHead,
    request: &HeaderMap,
    response: &response::Parts,
    exchange: &Exchange,
    settings: &Settings,
) -> Option<StoredHead> {
    if response.status != StatusCode::NOT_MODIFIED
        || !is_selected(stored, &response.headers, exchange)
    {
        return None;
    }
    Some(updated(
        stored,
        request,
        &response.headers,
        exchange,
        settings,
    ))
}

/// Which stored response a 304 updates. The request named this one's validators,
/// so a 304 that names none means this one; one that does has to name the same.
fn is_selected(stored: &StoredHead, fields: &HeaderMap, exchange: &Exchange) -> bool {
    if let Some(value) = fields.get(header::ETAG) {
        return match (EntityTag::parse(value.as_bytes()), stored.etag()) {
            (Some(new), Some(known)) if new.weak => new.weak_eq(&known),
            (Some(new), Some(known)) => new.strong_eq(&known),
            _ => false,
        };
    }
    match (fields.get(header::LAST_MODIFIED), stored.last_modified()) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(new), Some(known)) => {
            let wall = exchange.response_received.wall;
            let date = |value: &HeaderValue| HttpDate::parse(value.as_bytes(), wall);
            new == known || date(new).is_some() && date(new) == date(known)
        }
    }
}

fn updated(
    stored: &StoredHead,
    request: &HeaderMap,
    new: &HeaderMap,
    exchange: &Exchange,
    settings: &Settings,
) -> StoredHead {
    let mut fields = stored.fields.clone();
    update(&mut fields, new);
    let mut head = storing::prepare(request, stored.status, fields, exchange, settings);
    head.part = stored.part;
    head
}

/// Puts the fields of a new message in the place of stored ones, §3.2.
pub(super) fn update(fields: &mut HeaderMap, new: &HeaderMap) {
    // The old Date would make the response as old as before it was validated.
    fields.remove(header::DATE);
    // Fields of the 304's connection are not news of the response: what is stored
    // under their names stays.
    let mut new = new.clone();
    connection::strip_response(&mut new);
    for name in new.keys().filter(|name| !is_kept(name)) {
        fields.remove(name);
        for value in new.get_all(name) {
            fields.append(name.clone(), value.clone());
        }
    }
}

/// Fields that describe the stored body and not the message, §3.2.
fn is_kept(name: &HeaderName) -> bool {
    [
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
    ]
    .contains(name)
}

/// What the answer to a HEAD request means for a stored response to GET.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "matched at once, never kept")]
pub enum HeadUpdate {
    /// It is the same: keep this one in its place (see [`StoredHead::refused`]).
    Freshen(StoredHead),
    /// It changed: the stored response is stale and must not be reused.
    Invalidate,
    /// It says nothing about the stored response.
    Nothing,
}

/// Applies the answer to a HEAD request to a stored response that the request
/// could have selected, §4.3.5.
pub fn head_update(
    stored: &StoredHead,
    request: &HeaderMap,
    response: &response::Parts,
    exchange: &Exchange,
    settings: &Settings,
) -> HeadUpdate {
    if response.status == StatusCode::NOT_MODIFIED {
        return freshen(stored, request, response, exchange, settings)
            .map_or(HeadUpdate::Nothing, HeadUpdate::Freshen);
    }
    if response.status != StatusCode::OK {
        return HeadUpdate::Nothing;
    }
    // What is stored is another status: its fields are not to be mixed with a 200's.
    if stored.status != StatusCode::OK {
        return HeadUpdate::Invalidate;
    }
    let same = |name: HeaderName| {
        let new = response.headers.get(&name);
        new.is_none() || new == stored.fields.get(&name)
    };
    let same_length = match stored.part {
        None => same(header::CONTENT_LENGTH),
        Some(part) => {
            let new = response.headers.get(header::CONTENT_LENGTH);
            new.is_none() || new == part.complete.map(HeaderValue::from).as_ref()
        }
    };
    if !(same(header::ETAG) && same(header::LAST_MODIFIED) && same_length) {
        return HeadUpdate::Invalidate;
    }
    HeadUpdate::Freshen(updated(
        stored,
        request,
        &response.headers,
        exchange,
        settings,
    ))
}
