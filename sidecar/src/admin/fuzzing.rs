//! What this folder makes of bytes, for the fuzz targets in `tests/fuzz` and for nobody else: built
//! only where cargo-fuzz builds.

use libkoorde::PurgeRequest;

/// What a query of `/purge` asks for.
///
/// # Errors
/// Why it asks for nothing, in words.
pub fn purge(query: &str) -> Result<PurgeRequest, String> {
    super::purge::read(query)
}

/// A parameter without its percent-encoding, if that is right.
#[must_use]
pub fn decoded(parameter: &str) -> Option<String> {
    crate::http::decode(parameter)
}
