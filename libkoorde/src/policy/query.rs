//! Query parameters, cookies and the patterns that name them.
//!
//! Nothing says how an origin reads its query, so names are read in every common
//! way at once. Whoever decides what may be left out of a key has to ask for all
//! readings; whoever decides what has to be in it, for any.

use super::Target;
use http::{HeaderMap, header};
use std::borrow::Cow;

/// The query without its `?`; `None` if there is none.
pub(super) fn query(target: &Target) -> Option<&str> {
    target
        .path_and_query()
        .split_once('?')
        .map(|(_, query)| query)
}

/// A parameter as it stands between two `&`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter<'a>(pub(super) &'a str);

/// The parameters of a query, in order; an empty one is one too.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = Parameter<'_>> {
    query.split('&').map(Parameter)
}

impl<'a> Parameter<'a> {
    fn name(self) -> &'a str {
        self.0.split_once('=').map_or(self.0, |(name, _)| name)
    }

    /// Whether some origins find more than one parameter in it: those that take `;`
    /// for `&`.
    pub(super) fn is_ambiguous(self) -> bool {
        self.0.contains(';')
    }

    /// Whether its name is this one or matches this pattern in every reading.
    pub(super) fn surely_matches(self, pattern: &str) -> bool {
        let name = percent_decoded(self.name());
        matches(pattern.as_bytes(), &name)
            && (!name.contains(&b'+') || matches(pattern.as_bytes(), &plus_is_space(&name)))
    }

    /// Whether its name is this one or matches this pattern in any reading: with `+`
    /// for a space, without regard to case, and with `name[…]` for `name`.
    pub(super) fn may_match(self, pattern: &str) -> bool {
        let name = percent_decoded(self.name());
        matches(pattern.as_bytes(), &name) || {
            let pattern = pattern.to_ascii_lowercase();
            let spaced = plus_is_space(&name).to_ascii_lowercase();
            matches(pattern.as_bytes(), &spaced)
                || matches(pattern.as_bytes(), without_index(&spaced))
                || matches(pattern.as_bytes(), &name.to_ascii_lowercase())
        }
    }

    /// Equal for two parameters that any origin may take for the same name.
    pub(super) fn coarse_name(self) -> Vec<u8> {
        let name = plus_is_space(&percent_decoded(self.name())).to_ascii_lowercase();
        without_index(&name).to_vec()
    }
}

fn without_index(name: &[u8]) -> &[u8] {
    let end = name.iter().position(|&byte| byte == b'[');
    &name[..end.unwrap_or(name.len())]
}

fn plus_is_space(name: &[u8]) -> Vec<u8> {
    let space = |byte: &u8| if *byte == b'+' { b' ' } else { *byte };
    name.iter().map(space).collect()
}

/// Decodes `%41` to `A`; a `%` that is followed by something else stays.
fn percent_decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = match (byte, tail) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                decoded.push(high * 16 + low);
                rest = &tail[2..];
            }
            None => {
                decoded.push(byte);
                rest = tail;
            }
        }
    }
    Cow::Owned(decoded)
}

/// A name, or the beginning of names where the pattern ends in `*`.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.strip_suffix(b"*") {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

/// The cookies of a request, in order: name, and the rest from its `=` on, which
/// is empty where there is none (RFC 6265 §4.2.1; h2 may send several lines).
pub(super) fn cookies(fields: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = fields.get_all(header::COOKIE).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b';'))
        .map(|pair| {
            let pair = pair.trim_ascii();
            let end = pair.iter().position(|&byte| byte == b'=');
            let (name, value) = pair.split_at(end.unwrap_or(pair.len()));
            (name.trim_ascii_end(), value)
        })
        .filter(|(name, value)| !name.is_empty() || !value.is_empty())
}
