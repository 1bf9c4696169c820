//! Which part of a stored body does the client want? RFC 9110 §14.

use super::StoredHead;
use super::fields::date::HttpDate;
use super::fields::entity_tag::EntityTag;
use super::fields::list::{members, trim};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

/// What to send of a stored body. Positions are those of the complete
/// representation, half open as in Rust; [`content_range`] turns them into the
/// inclusive ones of HTTP. A stored part begins at its own
/// [`start`](super::Part::start).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Satisfy {
    /// All of it, with its own status. Of a stored part: nothing, since it may not
    /// be sent as the whole; [`reuse`](super::reuse) never chooses one for that.
    Whole,
    /// A 206 with the bytes `start..end`.
    Part {
        /// The first byte.
        start: u64,
        /// One past the last byte: more than `start`, at most the complete length.
        end: u64,
    },
    /// A 206 with several ranges, at least two and at most [`MAX_RANGES`], in the
    /// order asked for: no two overlap or meet. [`Multipart`](super::Multipart)
    /// words it.
    Parts(Vec<(u64, u64)>),
    /// A 416 with [`unsatisfied_range`].
    Unsatisfiable,
}

/// Of a request with more ranges the Range is ignored: "a set of many small ranges"
/// is among the "indications of either a broken client or a deliberate
/// denial-of-service attack" (RFC 9110 §14.2).
pub const MAX_RANGES: usize = 16;

/// Applies Range and If-Range to a stored body of `length` bytes.
///
/// A Range that is malformed or of an unknown unit is answered with the whole: "A
/// server MAY ignore the Range header field" (§14.2). So are too many ranges, and
/// ranges that together ask for more bytes than there are. The rest is coalesced
/// where it overlaps or meets, "regardless of the order in which the corresponding
/// range-spec appeared" (§15.3.7.2).
pub fn decide(method: &Method, fields: &HeaderMap, stored: &StoredHead, length: u64) -> Satisfy {
    let Some(specs) = asked(method, fields, stored) else {
        return Satisfy::Whole;
    };
    match stored.part {
        None => satisfy(&specs, length),
        Some(part) => {
            let end = part.end.min(part.start.saturating_add(length));
            let holds = |start, stop| part.start <= start && stop <= end;
            let satisfy = match part.complete {
                Some(complete) => satisfy(&specs, complete),
                None => satisfy_unknown(&specs),
            };
            match &satisfy {
                Satisfy::Part { start, end } if !holds(*start, *end) => Satisfy::Whole,
                Satisfy::Parts(all) if !all.iter().all(|&(start, end)| holds(start, end)) => {
                    Satisfy::Whole
                }
                _ => satisfy,
            }
        }
    }
}

/// Whether a stored part has all that this request asks for: "the request is
/// partial and specifies a range wholly within the incomplete response" (RFC 9111
/// §3.3). Never true of a whole, which needs no such question.
pub fn is_within_part(method: &Method, fields: &HeaderMap, stored: &StoredHead) -> bool {
    stored.part.is_some_and(|part| {
        let satisfy = decide(method, fields, stored, part.length());
        matches!(satisfy, Satisfy::Part { .. } | Satisfy::Parts(_))
    })
}

/// `Content-Range: bytes start-(end-1)/complete`, with `*` for a length that is not
/// known.
pub fn content_range(start: u64, end: u64, complete_length: Option<u64>) -> HeaderValue {
    let last = end.saturating_sub(1);
    value(match complete_length {
        Some(complete) => format!("bytes {start}-{last}/{complete}"),
        None => format!("bytes {start}-{last}/*"),
    })
}

/// `Content-Range: bytes */complete`, for a 416.
pub fn unsatisfied_range(complete_length: u64) -> HeaderValue {
    value(format!("bytes */{complete_length}"))
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and punctuation are a field value")
}

/// Removes what a message says of its own content, before other bytes of the same
/// representation are sent under these fields: a digest of the content (RFC 9530
/// §2, and the old Content-MD5) would be wrong of them.
pub fn forget_content(fields: &mut HeaderMap) {
    for name in [
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("content-md5"),
    ] {
        fields.remove(name);
    }
}

/// The ranges that the request asks for; `None` if Range is absent, not to be
/// applied, or not understood.
fn asked(method: &Method, fields: &HeaderMap, stored: &StoredHead) -> Option<Vec<Spec>> {
    if *method != Method::GET || stored.status != StatusCode::OK {
        return None;
    }
    let range = only(fields, &header::RANGE)?;
    if !if_range(fields, stored) {
        return None;
    }
    specs(range.as_bytes())
}

/// The first byte that a request's first range asks for; `None` without Range, if it is malformed,
/// or for a suffix, which counts from an end that is not known yet.
pub fn first_byte(fields: &HeaderMap) -> Option<u64> {
    let range = only(fields, &header::RANGE)?;
    match specs(range.as_bytes())?.first()? {
        Spec::From(first) | Spec::FromTo(first, _) => Some(*first),
        Spec::Suffix(_) => None,
    }
}

/// The value of a field that may occur once; `None` if it occurs twice.
pub(super) fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = fields.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then_some(first)
}

/// One range: `first-`, `first-last` or `-suffix`.
#[derive(Clone, Copy)]
enum Spec {
    From(u64),
    FromTo(u64, u64),
    Suffix(u64),
}

/// One bad range makes all of them invalid, §14.1.1.
fn specs(value: &[u8]) -> Option<Vec<Spec>> {
    let (unit, set) = trim(value).split_at_checked("bytes=".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    // One more than allowed is enough to see that there are too many.
    let specs: Option<Vec<Spec>> = members(set).take(MAX_RANGES + 1).map(spec).collect();
    specs.filter(|specs| (1..=MAX_RANGES).contains(&specs.len()))
}

fn spec(range: &[u8]) -> Option<Spec> {
    let dash = range.iter().position(|&byte| byte == b'-')?;
    match (&range[..dash], &range[dash + 1..]) {
        (b"", suffix) => number(suffix).map(Spec::Suffix),
        (first, b"") => number(first).map(Spec::From),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            // An int-range whose last-pos is less than its first-pos is invalid, §14.1.1.
            (first <= last).then_some(Spec::FromTo(first, last))
        }
    }
}

/// Digits; a number too large for any body stands for the largest.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit))
    })
}

/// Applies ranges to a representation of this length.
fn satisfy(specs: &[Spec], length: u64) -> Satisfy {
    let suffix = |spec: &Spec| matches!(spec, Spec::Suffix(1..));
    if length == 0 && specs.iter().any(suffix) {
        // A suffix of an empty body is satisfiable, but no Content-Range can say so.
        return Satisfy::Whole;
    }
    let satisfiable = specs.iter().filter_map(|spec| {
        let (start, end) = match *spec {
            Spec::From(first) => (first, length),
            Spec::FromTo(first, last) => (first, last.saturating_add(1).min(length)),
            Spec::Suffix(suffix) => (length.saturating_sub(suffix), length),
        };
        (start < end).then_some((start, end))
    });
    let ranges: Vec<_> = satisfiable.collect();
    let sum: u128 = ranges.iter().map(|&(s, e)| u128::from(e - s)).sum();
    if sum > u128::from(length) {
        return Satisfy::Whole;
    }
    chosen(&coalesce(&ranges))
}

/// Applies ranges to a representation of unknown length, as far as it does not
/// matter: both ends have to be named, and several ranges have to become one.
fn satisfy_unknown(specs: &[Spec]) -> Satisfy {
    let named = |spec: &Spec| match *spec {
        Spec::FromTo(first, last) => Some((first, last.checked_add(1)?)),
        Spec::From(_) | Spec::Suffix(_) => None,
    };
    let ranges: Option<Vec<_>> = specs.iter().map(named).collect();
    match ranges.map(|ranges| coalesce(&ranges)).as_deref() {
        Some([one]) => chosen(&[*one]),
        _ => Satisfy::Whole,
    }
}

fn chosen(ranges: &[(u64, u64)]) -> Satisfy {
    match *ranges {
        [] => Satisfy::Unsatisfiable,
        [(start, end)] => Satisfy::Part { start, end },
        _ => Satisfy::Parts(ranges.to_vec()),
    }
}

/// Makes one of all that overlap or meet, at the place of the first of them: "A
/// server that generates a multipart response SHOULD send the parts in the same
/// order that the corresponding range-spec appeared" (§15.3.7.2).
fn coalesce(ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut apart: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for &(mut start, mut end) in ranges {
        let mut place = apart.len();
        while let Some(at) = apart.iter().position(|&(s, e)| s <= end && start <= e) {
            let (s, e) = apart.remove(at);
            (start, end) = (start.min(s), end.max(e));
            place = place.min(at);
        }
        apart.insert(place, (start, end));
    }
    apart
}

/// If-Range, §13.1.5: true if there is none, or it names the stored response
/// strongly.
fn if_range(fields: &HeaderMap, stored: &StoredHead) -> bool {
    if !fields.contains_key(header::IF_RANGE) {
        return true;
    }
    let Some(value) = only(fields, &header::IF_RANGE) else {
        return false;
    };
    if let Some(asked) = EntityTag::parse(value.as_bytes()) {
        return stored.etag().is_some_and(|tag| tag.strong_eq(&asked));
    }
    stored.last_modified() == Some(value) && is_strong_date(stored)
}

/// A date is a strong validator only if the response was made so much later that
/// no second change can hide in the same second, §8.8.2.2.
pub(super) fn is_strong_date(stored: &StoredHead) -> bool {
    let date = |name| HttpDate::parse_unambiguous(stored.fields.get(name)?.as_bytes());
    match (date(header::LAST_MODIFIED), date(header::DATE)) {
        (Some(modified), Some(made)) => made.since(modified).as_secs() >= 60,
        _ => false,
    }
}
