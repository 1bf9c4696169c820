//! Does the client have it already? RFC 9110 §13, RFC 9111 §4.3.2.

use super::fields::date::HttpDate;
use super::fields::entity_tag;
use super::{Now, StoredHead};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

/// Evaluates the client's If-None-Match, else If-Modified-Since, against a stored
/// response that may be reused. `Some` are the fields of a 304 (Not Modified),
/// Age included; `None` means to send the stored response itself.
pub fn evaluate(
    method: &Method,
    fields: &HeaderMap,
    stored: &StoredHead,
    now: Now,
) -> Option<HeaderMap> {
    // Conditions count only where the answer without them would be a success.
    if stored.status != StatusCode::OK || !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    // Most requests have neither: then nothing stored has to be read.
    if !fields.contains_key(header::IF_NONE_MATCH)
        && !fields.contains_key(header::IF_MODIFIED_SINCE)
    {
        return None;
    }
    let has_it = entity_tag::if_none_match(fields, stored.etag())
        .unwrap_or_else(|| is_not_modified_since(fields, stored, now));
    has_it.then(|| not_modified(stored, now))
}

/// If-Modified-Since, §13.1.3. A list, or what is no date, is ignored. A stored
/// response without Last-Modified is compared by its Date (RFC 9111 §4.3.2).
fn is_not_modified_since(fields: &HeaderMap, stored: &StoredHead, now: Now) -> bool {
    let date = |value: &HeaderValue| HttpDate::parse(value.as_bytes(), now.wall);
    let mut lines = fields.get_all(header::IF_MODIFIED_SINCE).iter();
    let (Some(since), None) = (lines.next().and_then(date), lines.next()) else {
        return false;
    };
    let modified = match stored.last_modified() {
        Some(modified) => date(modified),
        None => stored.fields.get(header::DATE).and_then(date),
    };
    modified.is_some_and(|modified| modified <= since)
}

/// The fields that a 304 has to repeat, §15.4.5, and those that guide caches.
fn not_modified(stored: &StoredHead, now: Now) -> HeaderMap {
    const REPEATED: [HeaderName; 8] = [
        header::CACHE_CONTROL,
        header::CDN_CACHE_CONTROL,
        header::CONTENT_LOCATION,
        header::DATE,
        header::ETAG,
        header::EXPIRES,
        header::LAST_MODIFIED,
        header::VARY,
    ];
    let mut fields = HeaderMap::with_capacity(REPEATED.len() + 1);
    for name in REPEATED {
        for value in stored.fields.get_all(&name) {
            fields.append(name.clone(), value.clone());
        }
    }
    fields.insert(header::AGE, stored.age_field(now.instant));
    fields
}
