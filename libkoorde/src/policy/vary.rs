//! Was a stored response selected by fields like these? RFC 9111 §4.1.
//!
//! Two values are the same if they differ only in what their syntax calls
//! optional: lines of one field are combined, white space around commas goes, and
//! the preferences of Accept-Encoding and Accept-Language are compared as the sets
//! they are. Fields that are not lists (Cookie, Authorization …) are compared byte
//! by byte: there, "almost the same" would be somebody else.

pub(in crate::policy) mod preferences;

use super::fields::list::members;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use preferences::Preferences;

/// The request fields that Vary nominates, with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selecting(Box<[Field]>);

/// A nominated name and its normalised value; `None` if the request had no such field.
type Field = (HeaderName, Option<Box<[u8]>>);

/// The names that Vary nominates, ordered and each once. `None` means `*`, in any
/// line of it, or a value that is no list of names: no request ever matches.
pub fn names(response: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for line in response.get_all(header::VARY) {
        for member in members(line.as_bytes()) {
            if member == b"*" {
                return None;
            }
            names.push(HeaderName::from_bytes(member).ok()?);
        }
    }
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    Some(names)
}

/// The secondary key of a request for these names: equal for two requests only
/// if a response with this Vary that one selects is selected by the other too.
pub fn variant_key<'a>(
    names: impl IntoIterator<Item = &'a HeaderName>,
    request: &HeaderMap,
) -> Vec<u8> {
    let mut key = Vec::new();
    for name in names {
        part(&mut key, name.as_str().as_bytes());
        match normalised(name, request) {
            None => key.push(0),
            Some(value) => {
                key.push(1);
                match Preferences::read(name, [&value[..]]) {
                    Some(preferences) => part(&mut key, &preferences.canonical()),
                    None => part(&mut key, &value),
                }
            }
        }
    }
    key
}

/// Appends bytes with their length before them.
fn part(key: &mut Vec<u8>, bytes: &[u8]) {
    key.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    key.extend_from_slice(bytes);
}

impl Selecting {
    /// Takes from the request what these names nominate.
    pub fn new(names: Vec<HeaderName>, request: &HeaderMap) -> Self {
        let field = |name: HeaderName| {
            let value = normalised(&name, request).map(Into::into);
            (name, value)
        };
        Self(names.into_iter().map(field).collect())
    }

    /// Rebuilds it from [`Selecting::pairs`], on another node.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (HeaderName, Option<Vec<u8>>)>) -> Self {
        let pairs = pairs.into_iter();
        Self(
            pairs
                .map(|(name, value)| (name, value.map(Into::into)))
                .collect(),
        )
    }

    /// Names and normalised values; `None` for a field the request did not have.
    pub fn pairs(&self) -> impl Iterator<Item = (&HeaderName, Option<&[u8]>)> {
        self.0.iter().map(|(name, value)| (name, value.as_deref()))
    }

    /// The nominated names, in order. None: every request matches.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.0.iter().map(|(name, _)| name)
    }

    /// Whether all nominated fields of this request match those of the original
    /// one. Allocates nothing.
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.0
            .iter()
            .all(|(name, stored)| same(name, stored.as_deref(), request))
    }

    /// Whether all but Accept-Language match, and the stored response is in the
    /// language that the request likes best: a response that the origin would
    /// have to choose for it.
    pub(super) fn matches_language(&self, request: &HeaderMap, language: &HeaderValue) -> bool {
        self.0.iter().all(|(name, stored)| {
            same(name, stored.as_deref(), request)
                || *name == header::ACCEPT_LANGUAGE && likes_best(request, language.as_bytes())
        })
    }

    /// Memory on the heap, in bytes.
    pub(super) fn weight(&self) -> usize {
        let one = |(name, value): &Field| {
            name.as_str().len() + value.as_ref().map_or(0, |v| v.len()) + 64
        };
        self.0.iter().map(one).sum()
    }
}

fn same(name: &HeaderName, stored: Option<&[u8]>, request: &HeaderMap) -> bool {
    let Some(stored) = stored else {
        return !request.contains_key(name);
    };
    if !request.contains_key(name) {
        return false;
    }
    if Normal::new(name, request).eq(stored.iter().copied()) {
        return true;
    }
    // A different spelling: rare enough to look closer.
    let asked = Preferences::read(name, lines(name, request));
    asked.is_some_and(|asked| Preferences::read(name, [stored]).is_some_and(|s| s == asked))
}

fn lines<'a>(name: &HeaderName, request: &'a HeaderMap) -> impl Iterator<Item = &'a [u8]> {
    request.get_all(name).iter().map(HeaderValue::as_bytes)
}

fn likes_best(request: &HeaderMap, language: &[u8]) -> bool {
    let name = header::ACCEPT_LANGUAGE;
    Preferences::read(&name, lines(&name, request))
        .and_then(|preferences| preferences.single_best())
        .is_some_and(|best| best.eq_ignore_ascii_case(language))
}

fn normalised(name: &HeaderName, request: &HeaderMap) -> Option<Vec<u8>> {
    request
        .contains_key(name)
        .then(|| Normal::new(name, request).collect())
}

/// Fields whose commas, if any, are part of a value.
fn is_single(name: &HeaderName) -> bool {
    [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::HOST,
        header::ORIGIN,
        header::PROXY_AUTHORIZATION,
        header::REFERER,
        header::USER_AGENT,
    ]
    .contains(name)
}

/// The bytes of a normalised field value, one by one: lines joined with a comma,
/// and no white space around commas outside quoted strings.
struct Normal<'a> {
    lines: http::header::ValueIter<'a, HeaderValue>,
    line: &'a [u8],
    single: bool,
    quoted: bool,
    escaped: bool,
    started: bool,
}

impl<'a> Normal<'a> {
    fn new(name: &HeaderName, request: &'a HeaderMap) -> Self {
        Self {
            lines: request.get_all(name).iter(),
            line: &[],
            single: is_single(name),
            quoted: false,
            escaped: false,
            started: false,
        }
    }

    fn skip_space(&mut self) {
        while let [b' ' | b'\t', rest @ ..] = self.line {
            self.line = rest;
        }
    }

    /// Whether nothing but white space comes before the next comma or the end.
    fn only_space_ahead(&self) -> bool {
        let next = self.line.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
        matches!(next, None | Some(b','))
    }

    fn next_line(&mut self) -> Option<u8> {
        self.line = self.lines.next()?.as_bytes();
        // A quoted string does not go on in the next line.
        (self.quoted, self.escaped) = (false, false);
        self.skip_space();
        if std::mem::replace(&mut self.started, true) {
            Some(b',')
        } else {
            self.next()
        }
    }
}

impl Iterator for Normal<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let Some((&byte, rest)) = self.line.split_first() else {
            return self.next_line();
        };
        if self.single {
            self.line = rest;
            return Some(byte);
        }
        if !self.quoted && matches!(byte, b' ' | b'\t') && self.only_space_ahead() {
            self.skip_space();
            return self.next();
        }
        self.line = rest;
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.quoted => self.escaped = true,
            b'"' => self.quoted = !self.quoted,
            b',' if !self.quoted => self.skip_space(),
            _ => {}
        }
        Some(byte)
    }
}
