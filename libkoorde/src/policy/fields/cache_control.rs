//! Cache-Control, RFC 9111 §5.2, with the directives of RFC 5861 and RFC 8246.
//!
//! Reading is restrictive wherever the RFC leaves a choice: of two different
//! values the stricter counts, a value that is no number makes the response stale,
//! and a field whose quoted string never ends means "do not store".

use super::super::tags;
use super::list::{self, is_token, members, trim};
use super::{MAX_DELTA_SECONDS, delta_seconds};
use http::{HeaderMap, HeaderName, header};

/// The directives of a response, RFC 9111 §5.2.2. Numbers are delta-seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// §5.2.2.5
    pub no_store: bool,
    /// §5.2.2.4, without field names.
    pub no_cache: bool,
    /// §5.2.2.7, without field names.
    pub private: bool,
    /// §5.2.2.9
    pub public: bool,
    /// §5.2.2.2
    pub must_revalidate: bool,
    /// §5.2.2.8
    pub proxy_revalidate: bool,
    /// §5.2.2.3
    pub must_understand: bool,
    /// RFC 8246: it will not change while fresh, so refreshing it early is idle.
    pub immutable: bool,
    /// §5.2.2.1; zero if its value is not a number.
    pub max_age: Option<u32>,
    /// §5.2.2.10; zero if its value is not a number.
    pub s_maxage: Option<u32>,
    /// RFC 5861 §3; zero if its value is not a number.
    pub stale_while_revalidate: Option<u32>,
    /// RFC 5861 §4; zero if its value is not a number.
    pub stale_if_error: Option<u32>,
}

/// What a response's Cache-Control says: directives, and fields not to be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseCacheControl {
    /// What holds for the whole response.
    pub directives: Directives,
    /// The fields named by `no-cache="…"` and `private="…"`: the response may be
    /// stored and reused without them.
    pub unshared: Vec<HeaderName>,
}

impl ResponseCacheControl {
    /// Reads all lines of Cache-Control. No field, no directives.
    pub fn read(fields: &HeaderMap) -> Self {
        let mut this = Self::default();
        let sound = for_each(fields, |name, argument| this.add(name, argument));
        if !sound {
            // Whatever hides in it: neither may must-understand let it be stored.
            this.directives.no_store = true;
            this.directives.must_understand = false;
        }
        this
    }

    /// Takes one directive; those we do not know are ignored (§5.2.3).
    pub(super) fn add(&mut self, name: &[u8], argument: Argument<'_>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let d = &mut self.directives;
        if is("max-age") {
            least(&mut d.max_age, argument.seconds().unwrap_or(0));
        } else if is("s-maxage") {
            least(&mut d.s_maxage, argument.seconds().unwrap_or(0));
        } else if is("stale-while-revalidate") {
            least(
                &mut d.stale_while_revalidate,
                argument.seconds().unwrap_or(0),
            );
        } else if is("stale-if-error") {
            least(&mut d.stale_if_error, argument.seconds().unwrap_or(0));
        } else if is("no-store") {
            d.no_store = true;
        } else if is("must-revalidate") {
            d.must_revalidate = true;
        } else if is("proxy-revalidate") {
            d.proxy_revalidate = true;
        } else if is("no-cache") {
            d.no_cache |= !argument.field_names(&mut self.unshared);
        } else if is("private") {
            d.private |= !argument.field_names(&mut self.unshared);
        } else if is("public") {
            // These two permit something, so they have to be spelled right.
            d.public |= argument == Argument::None;
        } else if is("must-understand") {
            d.must_understand |= argument == Argument::None;
        } else if is("immutable") {
            // "If any arguments are present, they have no meaning and MUST be
            // ignored" (RFC 8246 §2).
            d.immutable = true;
        }
    }
}

/// The directives of a request, RFC 9111 §5.2.1. Numbers are delta-seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestDirectives {
    /// §5.2.1.4, or `Pragma: no-cache` where there is no Cache-Control (§5.4).
    pub no_cache: bool,
    /// §5.2.1.5
    pub no_store: bool,
    /// §5.2.1.7
    pub only_if_cached: bool,
    /// §5.2.1.1; zero if its value is not a number.
    pub max_age: Option<u32>,
    /// §5.2.1.2; without value any staleness will do, as the largest number.
    pub max_stale: Option<u32>,
    /// §5.2.1.3; the largest number if its value is not one.
    pub min_fresh: Option<u32>,
    /// RFC 5861 §4
    pub stale_if_error: Option<u32>,
}

impl RequestDirectives {
    /// Reads Cache-Control and, in its absence, Pragma. Allocates nothing.
    pub fn read(fields: &HeaderMap) -> Self {
        let mut this = Self::default();
        let sound = for_each(fields, |name, argument| this.add(name, argument));
        this.no_cache |= !sound;
        if !fields.contains_key(header::CACHE_CONTROL) {
            this.no_cache |= fields
                .get_all(header::PRAGMA)
                .iter()
                .any(|line| members(line.as_bytes()).any(|m| m.eq_ignore_ascii_case(b"no-cache")));
        }
        this
    }

    fn add(&mut self, name: &[u8], argument: Argument<'_>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("no-cache") {
            self.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        } else if is("max-age") {
            least(&mut self.max_age, argument.seconds().unwrap_or(0));
        } else if is("min-fresh") {
            let seconds = argument.seconds().unwrap_or(MAX_DELTA_SECONDS);
            self.min_fresh = Some(self.min_fresh.map_or(seconds, |known| known.max(seconds)));
        } else if is("max-stale") {
            let any = (argument == Argument::None).then_some(MAX_DELTA_SECONDS);
            least(&mut self.max_stale, any.or(argument.seconds()).unwrap_or(0));
        } else if is("stale-if-error") {
            least(&mut self.stale_if_error, argument.seconds().unwrap_or(0));
        }
    }
}

/// What follows a directive's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument<'a> {
    /// Nothing, not even `=`.
    None,
    /// A token, or what is between the quotes: "recipients ought to accept both
    /// forms" (§5.2).
    Value(&'a [u8]),
    /// What is between the quotes, with quoted pairs in it (RFC 9110 §5.6.4).
    Escaped(&'a [u8]),
    /// Neither.
    Malformed,
}

impl Argument<'_> {
    fn seconds(&self) -> Option<u32> {
        match self {
            Argument::Value(value) => delta_seconds(value),
            Argument::Escaped(inside) => {
                // No backslash can be escaped in a number, so that each goes is enough.
                let digits = inside.iter().copied().filter(|&byte| byte != b'\\');
                delta_seconds(&digits.collect::<Vec<_>>())
            }
            Argument::None | Argument::Malformed => None,
        }
    }

    /// Collects the names of the qualified form. False if there are none, or if
    /// one is no name or a field that the response cannot do without: the
    /// directive then holds for the whole response.
    fn field_names(&self, names: &mut Vec<HeaderName>) -> bool {
        let Argument::Value(value) = self else {
            return false;
        };
        let before = names.len();
        for name in members(value) {
            match HeaderName::from_bytes(name) {
                Ok(name) if !is_essential(&name) => names.push(name),
                _ => return false,
            }
        }
        names.len() > before
    }
}

/// Fields that say how the rest has to be read, or by which names it is purged:
/// without these a purge would miss it.
fn is_essential(name: &HeaderName) -> bool {
    name.as_str().contains("cache-control")
        || tags::FIELDS.contains(name)
        || [
            header::CONTENT_ENCODING,
            header::CONTENT_LENGTH,
            header::CONTENT_RANGE,
            header::CONTENT_TYPE,
            header::DATE,
            header::EXPIRES,
            header::VARY,
        ]
        .contains(name)
}

/// Calls back for each directive; false if a quoted string never ended.
fn for_each(fields: &HeaderMap, mut directive: impl FnMut(&[u8], Argument<'_>)) -> bool {
    let mut sound = true;
    for line in fields.get_all(header::CACHE_CONTROL) {
        let mut directives = list::members(line.as_bytes());
        for member in directives.by_ref() {
            let (name, argument) = split(member);
            directive(name, argument);
        }
        sound &= !directives.unterminated();
    }
    sound
}

/// Parts a directive at its first `=`. White space before or after `=` is not
/// in the grammar: the name is still recognised, its value is malformed.
fn split(member: &[u8]) -> (&[u8], Argument<'_>) {
    let Some(equals) = member.iter().position(|&byte| byte == b'=') else {
        return (member, Argument::None);
    };
    let (name, value) = (&member[..equals], &member[equals + 1..]);
    let argument = match value {
        _ if !is_token(name) => Argument::Malformed,
        [b'"', inside @ .., b'"'] if !inside.contains(&b'"') && !inside.contains(&b'\\') => {
            Argument::Value(inside)
        }
        [b'"', inside @ .., b'"'] if is_escaped(inside) => Argument::Escaped(inside),
        token if is_token(token) => Argument::Value(token),
        _ => Argument::Malformed,
    };
    (trim(name), argument)
}

/// Whether every quote in it, and the last byte, is part of a quoted pair or none.
fn is_escaped(mut inside: &[u8]) -> bool {
    loop {
        inside = match inside {
            [] => return true,
            [b'\\', _, rest @ ..] => rest,
            [b'\\' | b'"', ..] => return false,
            [_, rest @ ..] => rest,
        };
    }
}

/// Of two values the stricter, RFC 9111 §4.2.1: "either the first occurrence
/// should be used or the response should be considered stale".
fn least(kept: &mut Option<u32>, value: u32) {
    *kept = Some(kept.map_or(value, |known| known.min(value)));
}
