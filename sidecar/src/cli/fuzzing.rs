//! What the command line makes of a node's answer, for the fuzz targets in `tests/fuzz` and for
//! nobody else: built only where cargo-fuzz builds.

/// Reads Cache-Status: of each member the cache, its parameters, and the whole in words.
#[must_use]
pub fn cache_status(value: &str) -> Vec<(String, Vec<(String, String)>, String)> {
    let members = super::cache_status::parse(value).into_iter();
    members
        .map(|member| {
            let words = format!("{}: {}", member.name(), member.words());
            (member.cache, member.parameters, words)
        })
        .collect()
}
