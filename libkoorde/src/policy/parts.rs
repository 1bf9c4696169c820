//! Parts of a representation: which bytes a 206 brought, and how two of them
//! become one. RFC 9111 §3.3 and §3.4, RFC 9110 §15.3.7.

use super::freshness::Control;
use super::range::{self, content_range};
use super::{NotStored, Settings, StoredHead, validation};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// Which contiguous bytes of a representation are stored. A response that has all
/// of them is no part: it is the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first byte that is there.
    pub start: u64,
    /// One past the last byte that is there: `start < end`.
    pub end: u64,
    /// The length of the whole representation, at least `end`; `None` if the origin
    /// did not know it (`*`).
    pub complete: Option<u64>,
}

impl Part {
    /// Reads which bytes a 206 encloses: one range of bytes, its Content-Range
    /// valid by RFC 9110 §14.4, and no Content-Length that contradicts it.
    ///
    /// `None` for everything else, `multipart/byteranges` among it.
    pub fn read(fields: &HeaderMap) -> Option<Self> {
        if fields
            .get_all(header::CONTENT_TYPE)
            .iter()
            .any(is_multipart)
        {
            return None;
        }
        let part = Self::parse(range::only(fields, &header::CONTENT_RANGE)?.as_bytes())?;
        let agrees = |length: &HeaderValue| exact(length.as_bytes()) == Some(part.length());
        fields
            .get_all(header::CONTENT_LENGTH)
            .iter()
            .all(agrees)
            .then_some(part)
    }

    /// `bytes first-last/complete`, where `complete` may be `*`.
    fn parse(value: &[u8]) -> Option<Self> {
        let (unit, rest) = value.split_at_checked("bytes ".len())?;
        if !unit.eq_ignore_ascii_case(b"bytes ") {
            return None;
        }
        let (range, complete) = split(rest, b'/')?;
        let (first, last) = split(range, b'-')?;
        let (start, end) = (exact(first)?, exact(last)?.checked_add(1)?);
        let complete = match complete {
            b"*" => None,
            digits => Some(exact(digits)?),
        };
        // "A Content-Range field value is invalid if it contains a range-resp that
        // has a last-pos value less than its first-pos value, or a complete-length
        // value less than or equal to its last-pos value."
        let valid = start < end && complete.is_none_or(|complete| end <= complete);
        valid.then_some(Self {
            start,
            end,
            complete,
        })
    }

    /// How many bytes it has: so long is the body of the 206, if it is complete.
    pub fn length(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether all of the bytes `start..end` are in it.
    pub fn contains(&self, start: u64, end: u64) -> bool {
        self.start <= start && end <= self.end
    }

    /// The Content-Range that [`Part::read`] reads as this part.
    pub fn content_range(&self) -> HeaderValue {
        content_range(self.start, self.end, self.complete)
    }

    fn is_all(&self) -> bool {
        self.start == 0 && self.complete == Some(self.end)
    }
}

/// A number of bytes. Unlike one of a request it has to be exact: what does not
/// fit is refused.
fn exact(digits: &[u8]) -> Option<u64> {
    let digits_only = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok()?;
    digits_only.then(|| text.parse().ok()).flatten()
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == at)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

fn is_multipart(content_type: &HeaderValue) -> bool {
    let kind = content_type.as_bytes().split(|&byte| byte == b';').next();
    kind.is_some_and(|kind| {
        kind.trim_ascii()
            .eq_ignore_ascii_case(b"multipart/byteranges")
    })
}

/// Makes of a received status and its fields what is stored: "a 206 (Partial
/// Content) response MAY be stored as if it were an incomplete 200 (OK) response"
/// (RFC 9111 §3.3). What said which bytes these are goes, and becomes a [`Part`];
/// `None` is the whole, also where a 206 happens to have brought all of it.
///
/// # Errors
/// [`NotStored::Partial`]: it cannot be told which bytes they are.
pub(super) fn settle(
    status: StatusCode,
    fields: &mut HeaderMap,
) -> Result<(StatusCode, Option<Part>), NotStored> {
    if status != StatusCode::PARTIAL_CONTENT {
        return Ok((status, None));
    }
    let part = Part::read(fields).ok_or(NotStored::Partial)?;
    Ok((StatusCode::OK, describe(fields, part)))
}

/// Lets the fields speak of the representation, or of nothing, where they spoke of
/// one message's content.
fn describe(fields: &mut HeaderMap, part: Part) -> Option<Part> {
    range::forget_content(fields);
    if part.is_all() {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(part.end));
        return None;
    }
    Some(part)
}

/// Whether a 206 has all the fields of the representation, so that it can stand
/// for itself.
///
/// After If-Range the origin leaves them out, "because the client already has a
/// prior response containing those header fields" (RFC 9110 §15.3.7). If it sent
/// Content-Type all the same, it is not one of those that do.
pub(super) fn is_self_contained(request: &HeaderMap, response: &HeaderMap) -> bool {
    !request.contains_key(header::IF_RANGE) || response.contains_key(header::CONTENT_TYPE)
}

/// Two parts made one.
#[derive(Clone, Debug)]
pub struct Combined {
    /// The head of both: a part still, or the whole if nothing is missing any more.
    pub head: StoredHead,
    /// Where the bytes come from: in order, without gaps, each byte once.
    pub pieces: Vec<Piece>,
}

/// Some bytes of a combined body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which of the two has them.
    pub of: Source,
    /// The first byte, counted in the whole representation. In the source's body
    /// it is at `start` less the `start` of the source's own part.
    pub start: u64,
    /// One past the last byte: `start < end`.
    pub end: u64,
}

/// One of the two responses that are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The one that was stored.
    Stored,
    /// The one that has just come.
    New,
}

/// Combines a stored part with a new one, RFC 9111 §3.4: `new` is what
/// [`storing::decide`](super::storing::decide) made of a 206.
///
/// Only if both certainly are of one representation: the same strong validator,
/// the same selecting fields, the same coding, complete lengths that agree, and
/// bytes that overlap or meet. Where both have a byte the new one's counts.
///
/// `None` also if either is whole already, or if the new response lacks a field
/// that caches go by and that the stored one has: "A server that generates a 206
/// response MUST generate the following header fields" (RFC 9110 §15.3.7), so it
/// is not what it claims to be.
pub fn combine(stored: &StoredHead, new: &StoredHead, settings: &Settings) -> Option<Combined> {
    let (old, fresh) = (stored.part?, new.part?);
    let united = unite(old, fresh)?;
    let alike = stored.refused.is_none()
        && new.refused.is_none()
        && stored.status == new.status
        && stored.selecting == new.selecting
        && share_strong_validator(stored, new)
        && same(stored, new, &header::CONTENT_ENCODING)
        && !lacks_control(stored, new);
    if !alike {
        return None;
    }
    let mut fields = stored.fields.clone();
    validation::update(&mut fields, &new.fields);
    // What the new response keeps to one client, the stored one may have had for all.
    for name in Control::read(&fields, settings).unshared {
        fields.remove(name);
    }
    let part = describe(&mut fields, united);
    let head = StoredHead {
        fields,
        part,
        ..new.clone()
    };
    Some(Combined {
        head,
        pieces: pieces(old, fresh),
    })
}

/// The bytes of both, if nothing is missing between them and both can be parts of
/// one representation.
fn unite(a: Part, b: Part) -> Option<Part> {
    let complete = match (a.complete, b.complete) {
        (Some(a), Some(b)) if a != b => return None,
        (a, b) => a.or(b),
    };
    let (start, end) = (a.start.min(b.start), a.end.max(b.end));
    let meet = a.start <= b.end && b.start <= a.end;
    (meet && complete.is_none_or(|complete| end <= complete)).then_some(Part {
        start,
        end,
        complete,
    })
}

fn pieces(old: Part, fresh: Part) -> Vec<Piece> {
    let before = (Source::Stored, old.start, old.end.min(fresh.start));
    let between = (Source::New, fresh.start, fresh.end);
    let after = (Source::Stored, old.start.max(fresh.end), old.end);
    [before, between, after]
        .into_iter()
        .filter(|(_, start, end)| start < end)
        .map(|(of, start, end)| Piece { of, start, end })
        .collect()
}

/// "These ranges can only be safely combined if they all have in common the same
/// strong validator" (RFC 9110 §15.3.7.3). Where there is an entity tag, it alone
/// counts.
pub fn share_strong_validator(a: &StoredHead, b: &StoredHead) -> bool {
    let tagged = |head: &StoredHead| head.fields.contains_key(header::ETAG);
    if tagged(a) || tagged(b) {
        let strong = matches!((a.etag(), b.etag()), (Some(a), Some(b)) if a.strong_eq(&b));
        return strong && same(a, b, &header::ETAG);
    }
    range::is_strong_date(a) && range::is_strong_date(b) && same(a, b, &header::LAST_MODIFIED)
}

/// Whether both have this field once, with the same value, or neither has it.
fn same(a: &StoredHead, b: &StoredHead, name: &HeaderName) -> bool {
    let neither = !a.fields.contains_key(name) && !b.fields.contains_key(name);
    let (a, b) = (range::only(&a.fields, name), range::only(&b.fields, name));
    neither || a.is_some() && a == b
}

/// Whether the new response lacks what decides about the stored one. What was read
/// of the new fields then holds for the combined ones too.
fn lacks_control(stored: &StoredHead, new: &StoredHead) -> bool {
    stored
        .fields
        .keys()
        .any(|name| is_control(name) && !new.fields.contains_key(name))
}

/// Fields by which a response is stored, reused or purged: Cache-Control, its
/// targeted kin of any name, and those with a rule of their own.
fn is_control(name: &HeaderName) -> bool {
    name.as_str().ends_with("-control")
        || matches!(
            name.as_str(),
            "expires" | "vary" | "set-cookie" | "surrogate-key" | "cache-tag" | "cache-groups"
        )
}
