//! What this folder makes of bytes, for the fuzz targets in `tests/fuzz` and for nobody else: built
//! only where cargo-fuzz builds.

use http::{HeaderMap, StatusCode, Version, request::Parts};
use libkoorde::{Gateway, policy::Target};

use super::{ListenerName, door::Door, interim::Slot};

/// The label of the door that a request came to, and the target if that fetches.
#[must_use]
pub fn door(
    head: &Parts,
    gateway: &Gateway,
    listener: ListenerName,
) -> (&'static str, Option<Target>, Option<String>) {
    let door = super::door::door(head, gateway, listener);
    let label = door.label();
    match door {
        Door::Fetch(_, target) => (label, Some(target), None),
        Door::Bad(_, message) | Door::NoTarget(.., message) => (label, None, Some(message)),
        _ => (label, None, None),
    }
}

/// The value of `url` in the query of `/cache`.
///
/// # Errors
/// There is none, in words.
pub fn cache_url(query: &str) -> Result<String, String> {
    super::target::url(Some(query)).map_err(|error| error.to_string())
}

/// What goes before the final response if the origin has sent these in between.
#[must_use]
pub fn interim(all: &[(StatusCode, HeaderMap)]) -> Vec<u8> {
    let slot = std::sync::Arc::new(Slot::default());
    if let Some(sink) = slot.open(Version::HTTP_11) {
        all.iter()
            .for_each(|(status, fields)| sink.send(*status, fields));
    }
    slot.waiting()
}
