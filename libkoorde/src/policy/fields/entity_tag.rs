//! Entity tags, RFC 9110 §8.8.3.

use super::list::trim;
use http::HeaderMap;

/// An entity tag: `"opaque"` or `W/"opaque"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag<'a> {
    /// Whether the tag begins with `W/`; in upper case, as it has to be.
    pub weak: bool,
    /// What is between the quotes. No escapes exist in it.
    pub opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Reads the value of ETag or of If-Range.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (tag, rest) = Self::first(trim(value))?;
        rest.is_empty().then_some(tag)
    }

    /// Reads a tag at the start, and gives back what follows it.
    fn first(value: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, quoted) = match value.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, value),
        };
        let inside = quoted.strip_prefix(b"\"")?;
        let end = inside.iter().position(|&byte| byte == b'"')?;
        let opaque = &inside[..end];
        let legal = |&byte: &u8| byte == 0x21 || byte >= 0x23 && byte != 0x7f;
        opaque
            .iter()
            .all(legal)
            .then_some((Self { weak, opaque }, &inside[end + 1..]))
    }

    /// Strong comparison, RFC 9110 §8.8.3.2: both strong, and the same.
    pub fn strong_eq(&self, other: &EntityTag<'_>) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// Weak comparison: the same, whether or not either is weak.
    pub fn weak_eq(&self, other: &EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }
}

/// Whether If-None-Match names the current tag, RFC 9110 §13.1.2.
///
/// `None` if there is no such field. `*` matches any stored response. What is
/// malformed matches nothing from there on, so that the client gets a full
/// answer rather than a 304 for something it does not have.
pub fn if_none_match(fields: &HeaderMap, current: Option<EntityTag<'_>>) -> Option<bool> {
    let mut lines = fields
        .get_all(http::header::IF_NONE_MATCH)
        .iter()
        .peekable();
    lines.peek()?;
    Some(lines.any(|line| line_matches(line.as_bytes(), current)))
}

fn line_matches(line: &[u8], current: Option<EntityTag<'_>>) -> bool {
    let mut rest = trim(line);
    if rest == b"*" {
        return true;
    }
    let Some(current) = current else { return false };
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(b",") {
            rest = trim(after);
            continue;
        }
        let Some((tag, after)) = EntityTag::first(rest) else {
            return false;
        };
        rest = trim(after);
        // A tag ends at a comma or at the line's end; anything else is malformed.
        if !rest.is_empty() && !rest.starts_with(b",") {
            return false;
        }
        if tag.weak_eq(&current) {
            return true;
        }
    }
    false
}
