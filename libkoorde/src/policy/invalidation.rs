//! What does an unsafe request make invalid? RFC 9111 §4.4.

use super::Target;
use super::tags;
use http::{HeaderMap, Method, StatusCode, header};

/// Whether a method is known to be safe (RFC 9110 §9.2.1). Methods we do not know
/// are not: invalidating too much costs a request, too little is a wrong answer.
pub fn is_safe(method: &Method) -> bool {
    matches!(
        method.as_str(),
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH"
    )
}

/// The targets whose stored responses the origin's answer makes invalid: none for
/// safe methods and for errors; else the target itself, and what Location and
/// Content-Location name if it is of the same origin. At most three.
pub fn invalidated(
    method: &Method,
    target: &Target,
    status: StatusCode,
    fields: &HeaderMap,
) -> Vec<Target> {
    if !invalidates(method, status) {
        return Vec::new();
    }
    let mut targets = vec![target.clone()];
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let reference = fields
            .get(name)
            .and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
        // What is no URL names nothing.
        let Some(Ok(other)) = reference.map(|reference| target.join(reference)) else {
            continue;
        };
        // Never of another origin: one site could empty another's cache.
        if other.same_origin(target) && !targets.contains(&other) {
            targets.push(other);
        }
    }
    targets
}

/// The groups of stored responses that the origin's answer makes invalid, by its
/// Cache-Group-Invalidation field, RFC 9875 §3: none for safe methods and for errors.
/// They are groups of the request's origin (scheme, host, port) and of no other,
/// and do not cascade (§2.2.1). As many as [`Tags`](super::Tags) keeps of a response.
pub fn groups(method: &Method, status: StatusCode, fields: &HeaderMap) -> Vec<String> {
    if !invalidates(method, status) {
        return Vec::new();
    }
    let (names, _) = tags::groups(fields, &tags::GROUP_INVALIDATION);
    names
}

/// "A cache MUST invalidate the target URI … when it receives a non-error status
/// code in response to an unsafe request method" (RFC 9111 §4.4).
fn invalidates(method: &Method, status: StatusCode) -> bool {
    !is_safe(method) && (status.is_success() || status.is_redirection())
}
