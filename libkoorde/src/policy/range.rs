//! Which part of a complete stored body does the client want? RFC 9110 §14.

use super::StoredHead;
use super::fields::date::HttpDate;
use super::fields::entity_tag::EntityTag;
use super::fields::list::{members, trim};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

/// What to send of a stored body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Satisfy {
    /// All of it, with its own status.
    Whole,
    /// A 206 with the bytes `start..end`, half open as in Rust: `start < end`.
    /// [`content_range`] turns them into the inclusive positions of HTTP.
    Part {
        /// The first byte.
        start: u64,
        /// One past the last byte; at most the complete length.
        end: u64,
    },
    /// A 416 with [`unsatisfied_range`].
    Unsatisfiable,
}

/// Applies Range and If-Range to a complete stored body of this length.
///
/// A Range that is malformed, of an unknown unit, or of several parts is answered
/// with the whole: "A server MAY ignore the Range header field" (§14.2).
pub fn decide(
    method: &Method,
    fields: &HeaderMap,
    stored: &StoredHead,
    complete_length: u64,
) -> Satisfy {
    if *method != Method::GET || stored.status != StatusCode::OK {
        return Satisfy::Whole;
    }
    let mut lines = fields.get_all(header::RANGE).iter();
    let (Some(range), None) = (lines.next(), lines.next()) else {
        return Satisfy::Whole;
    };
    if !if_range(fields, stored) {
        return Satisfy::Whole;
    }
    match spec(range.as_bytes()) {
        Some(spec) => satisfy(spec, complete_length),
        None => Satisfy::Whole,
    }
}

/// `Content-Range: bytes start-(end-1)/complete`.
pub fn content_range(start: u64, end: u64, complete_length: u64) -> HeaderValue {
    value(format!(
        "bytes {start}-{}/{complete_length}",
        end.saturating_sub(1)
    ))
}

/// `Content-Range: bytes */complete`, for a 416.
pub fn unsatisfied_range(complete_length: u64) -> HeaderValue {
    value(format!("bytes */{complete_length}"))
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("digits and punctuation are a field value")
}

/// One range: `first-`, `first-last` or `-suffix`.
#[derive(Clone, Copy)]
enum Spec {
    From(u64),
    FromTo(u64, u64),
    Suffix(u64),
}

fn spec(value: &[u8]) -> Option<Spec> {
    let (unit, set) = trim(value).split_at_checked("bytes=".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut ranges = members(set);
    let range = ranges.next()?;
    if ranges.next().is_some() {
        return None;
    }
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

fn satisfy(spec: Spec, length: u64) -> Satisfy {
    let (start, end) = match spec {
        Spec::From(first) => (first, length),
        Spec::FromTo(first, last) => (first, last.saturating_add(1).min(length)),
        Spec::Suffix(0) => return Satisfy::Unsatisfiable,
        // A suffix of an empty body is satisfiable, but no Content-Range can say so.
        Spec::Suffix(_) if length == 0 => return Satisfy::Whole,
        Spec::Suffix(suffix) => (length.saturating_sub(suffix), length),
    };
    if start < length {
        Satisfy::Part { start, end }
    } else {
        Satisfy::Unsatisfiable
    }
}

/// If-Range, §13.1.5: true if there is none, or it names the stored response
/// strongly.
fn if_range(fields: &HeaderMap, stored: &StoredHead) -> bool {
    let mut lines = fields.get_all(header::IF_RANGE).iter();
    let Some(value) = lines.next() else {
        return true;
    };
    if lines.next().is_some() {
        return false;
    }
    if let Some(asked) = EntityTag::parse(value.as_bytes()) {
        return stored.etag().is_some_and(|tag| tag.strong_eq(&asked));
    }
    stored.last_modified() == Some(value) && is_strong_date(stored)
}

/// A date is a strong validator only if the response was made so much later that
/// no second change can hide in the same second, §8.8.2.2.
fn is_strong_date(stored: &StoredHead) -> bool {
    let date = |name| HttpDate::parse_unambiguous(stored.fields.get(name)?.as_bytes());
    match (date(header::LAST_MODIFIED), date(header::DATE)) {
        (Some(modified), Some(made)) => made.since(modified).as_secs() >= 60,
        _ => false,
    }
}
