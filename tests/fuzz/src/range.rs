//! A client's Range, and the bytes that it is sent for it: those that it asked for, read out of the
//! body as a client would, by a second reading of RFC 9110 §14 and RFC 2046 §5.1.
//!
//! A line with Range, a line with the type, and the body.

use crate::input::{Input, exchange, parts, text};
use http::{HeaderMap, HeaderValue, Method, header};
use libkoorde::policy::range::{self, MAX_RANGES, Satisfy};
use libkoorde::policy::{Multipart, Settings, StoredHead, storing};

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (line, kind, body) = (input.line(), input.line(), input.rest());
    let Ok(value) = HeaderValue::from_bytes(line) else {
        return;
    };
    let mut request = HeaderMap::new();
    request.insert(header::RANGE, value);
    let stored = whole();
    let length = body.len() as u64;
    let satisfy = range::decide(&Method::GET, &request, &stored, length);
    let head = range::decide(&Method::HEAD, &request, &stored, length);
    assert_eq!(head, Satisfy::Whole, "Range is of GET alone");
    let Some(specs) = specs(text(line), line) else {
        assert_eq!(satisfy, Satisfy::Whole, "what is malformed asks for all");
        return;
    };
    let asked: Vec<Vec<u64>> = specs.iter().map(|spec| positions(*spec, length)).collect();
    let sum: usize = asked.iter().map(Vec::len).sum();
    let mut wanted: Vec<u64> = asked.into_iter().flatten().collect();
    wanted.sort_unstable();
    wanted.dedup();
    let sent = match &satisfy {
        Satisfy::Whole => {
            let suffix = |spec: &Spec| spec.0.is_none() && spec.1 != Some(0);
            let is_empty = length == 0 && specs.iter().any(suffix);
            assert!(is_empty || sum as u64 > length, "{line:?}");
            return;
        }
        Satisfy::Unsatisfiable => Vec::new(),
        Satisfy::Part { start, end } => vec![(*start, slice(body, *start, *end).to_vec())],
        Satisfy::Parts(ranges) => {
            assert!((2..=MAX_RANGES).contains(&ranges.len()));
            several(ranges, kind, body)
        }
    };
    let mut got = Vec::new();
    for (start, bytes) in &sent {
        let end = start + bytes.len() as u64;
        assert_eq!(slice(body, *start, end), bytes, "other bytes were sent");
        got.extend(*start..end);
    }
    assert_eq!(got.len(), wanted.len(), "each once");
    got.sort_unstable();
    assert_eq!(got, wanted, "the bytes sent are those asked for");
}

fn whole() -> StoredHead {
    let mut fields = HeaderMap::new();
    let control = HeaderValue::from_static("max-age=60");
    fields.insert(header::CACHE_CONTROL, control);
    let (response, settings) = (parts(200, fields), Settings::default());
    let request = HeaderMap::new();
    storing::decide(&Method::GET, &request, &response, &exchange(0), &settings)
        .expect("it may be stored")
}

fn slice(body: &[u8], start: u64, end: u64) -> &[u8] {
    let place = |at: u64| usize::try_from(at).expect("a place in the body");
    &body[place(start)..place(end)]
}

/// First and last position, as they are written.
type Spec = (Option<u128>, Option<u128>);

/// `bytes=` and at most sixteen ranges; none where anything is malformed.
fn specs(line: &str, bytes: &[u8]) -> Option<Vec<Spec>> {
    let line = line.trim_matches([' ', '\t']);
    let unit = line.get(..6)?;
    if !unit.eq_ignore_ascii_case("bytes=") || !bytes.is_ascii() || line.contains('"') {
        // A quote is part of no range: it makes one of them wrong, so all are.
        return None;
    }
    let members = line[6..]
        .split(',')
        .map(|one| one.trim_matches([' ', '\t']));
    let specs: Option<Vec<Spec>> = members.filter(|one| !one.is_empty()).map(spec).collect();
    specs.filter(|all| (1..=MAX_RANGES).contains(&all.len()))
}

fn spec(one: &str) -> Option<Spec> {
    let (first, last) = one.split_once('-')?;
    let number = |digits: &str| {
        let ours = digits.bytes().all(|byte| byte.is_ascii_digit());
        ours.then(|| {
            digits
                .parse()
                .unwrap_or(u128::MAX)
                .min(u128::from(u64::MAX))
        })
    };
    match (first, last) {
        ("", "") => None,
        (_, "") => Some((Some(number(first)?), None)),
        ("", _) => Some((None, Some(number(last)?))),
        _ => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((Some(first), Some(last)))
        }
    }
}

/// Byte by byte: which are asked for?
fn positions(spec: Spec, length: u64) -> Vec<u64> {
    let wanted = |at: &u64| {
        let at = u128::from(*at);
        match spec {
            (Some(first), Some(last)) => first <= at && at <= last,
            (Some(first), None) => first <= at,
            (None, suffix) => at + suffix.unwrap_or(0) >= u128::from(length),
        }
    };
    (0..length).filter(wanted).collect()
}

/// Words a body of several ranges, and reads it as a client does: where each part begins, its bytes.
fn several(ranges: &[(u64, u64)], kind: &[u8], body: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let kind = HeaderValue::from_bytes(kind).ok();
    let boundary = "koordeFuzzBoundary2718281828";
    let complete = body.len() as u64;
    let worded = Multipart::new(kind.as_ref(), ranges, complete, boundary).expect("it fits");
    let mut message = Vec::new();
    for part in worded.parts() {
        message.extend_from_slice(&part.before);
        message.extend_from_slice(slice(body, part.start, part.end));
    }
    message.extend_from_slice(&worded.closing());
    assert_eq!(message.len() as u64, worded.content_length());
    let outer = worded.content_type();
    let outer = outer.to_str().expect("ASCII");
    assert_eq!(outer, format!("multipart/byteranges; boundary={boundary}"));
    let is_ambiguous = find(body, boundary.as_bytes()).is_some()
        || kind.is_some_and(|kind| find(kind.as_bytes(), boundary.as_bytes()).is_some());
    if is_ambiguous {
        // The boundary is made of randomness where it matters; here it can be guessed.
        let parts = worded.parts().iter();
        return parts
            .map(|part| (part.start, slice(body, part.start, part.end).to_vec()))
            .collect();
    }
    read_parts(&message, boundary, complete)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn read_parts(message: &[u8], boundary: &str, complete: u64) -> Vec<(u64, Vec<u8>)> {
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = message
        .strip_prefix(&delimiter.as_bytes()[2..])
        .expect("it begins with a delimiter");
    let mut parts = Vec::new();
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let end = find(part, delimiter.as_bytes()).expect("a delimiter behind each part");
        let fields_end = find(part, b"\r\n\r\n").expect("fields and an empty line");
        let fields = String::from_utf8_lossy(&part[..fields_end]).into_owned();
        let range = fields
            .lines()
            .find_map(|line| line.strip_prefix("Content-Range: bytes "));
        let (first, last) = range
            .and_then(|range| range.strip_suffix(&format!("/{complete}")))
            .and_then(|range| range.split_once('-'))
            .expect("each part says which bytes it has");
        let bytes = part[fields_end + 4..end].to_vec();
        let (first, last): (u64, u64) = (
            first.parse().expect("digits"),
            last.parse().expect("digits"),
        );
        assert_eq!(bytes.len() as u64, last - first + 1);
        parts.push((first, bytes));
        rest = &part[end + delimiter.len()..];
    }
    assert_eq!(rest, b"--\r\n", "and then it ends");
    parts
}
