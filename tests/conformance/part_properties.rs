//! What must be true of ranges and parts, whatever is asked and whatever comes.

use super::properties::{REQUEST_NAMES, RESPONSE_NAMES, exchange, fields, parts, value};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use libkoorde::policy::parts::{Combined, Source, combine};
use libkoorde::policy::range::{self, MAX_RANGES, Satisfy};
use libkoorde::policy::{
    Carried, Multipart, Part, Reuse, Selecting, Settings, StoredHead, reuse, storing, validation,
};
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeSet;
use std::time::Duration;

/// A part, or the whole, of a representation whose length may not be known.
fn head(part: Option<Part>, more: &[(header::HeaderName, &str)]) -> StoredHead {
    let (mut request, mut response) = (HeaderMap::new(), HeaderMap::new());
    response.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("max-age=60"),
    );
    for (name, value) in more {
        let value = HeaderValue::from_str(value).expect("written as one");
        response.append(name.clone(), value);
    }
    let mut status = 200;
    if let Some(part) = part {
        status = 206;
        request.insert(header::RANGE, HeaderValue::from_static("bytes=0-"));
        response.insert(header::CONTENT_RANGE, part.content_range());
    }
    let exchange = exchange(super::some_moment(), 0);
    let (response, settings) = (parts(status, response), Settings::default());
    storing::decide(&Method::GET, &request, &response, &exchange, &settings)
        .expect("explicit freshness makes it storable")
}

fn part() -> impl Strategy<Value = Part> {
    (0_u64..100, 1_u64..40, prop::option::of(0_u64..30)).prop_map(|(start, length, rest)| Part {
        start,
        end: start + length,
        complete: rest.map(|rest| start + length + rest),
    })
}

/// Values that look like Range, and some that do not.
fn range_value() -> impl Strategy<Value = HeaderValue> {
    let number = prop_oneof![
        6 => (0_u64..130).prop_map(|n| n.to_string()),
        1 => Just(u64::MAX.to_string()),
        1 => Just("99999999999999999999999".to_owned()),
        2 => Just(String::new()),
    ];
    let spec = (number.clone(), number).prop_map(|(first, last)| format!("{first}-{last}"));
    let specs = prop::collection::vec(spec, 0..20);
    let set = (specs, select(&[",", ", ", " , ,"][..])).prop_map(|(specs, comma)| {
        HeaderValue::try_from(format!("bytes={}", specs.join(comma))).expect("ASCII")
    });
    prop_oneof![4 => set, 1 => value()]
}

fn ranges(satisfy: &Satisfy) -> Vec<(u64, u64)> {
    match satisfy {
        Satisfy::Whole | Satisfy::Unsatisfiable => Vec::new(),
        Satisfy::Part { start, end } => vec![(*start, *end)],
        Satisfy::Parts(all) => all.clone(),
    }
}

fn asks(range: &HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(header::RANGE, range.clone())])
}

/// `first-`, `first-last`, `-suffix`.
type Spec = (Option<u64>, Option<u64>);

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let spec = prop_oneof![
        4 => (0_u64..120, 0_u64..20).prop_map(|(first, more)| (Some(first), Some(first + more))),
        1 => (80_u64..120).prop_map(|first| (Some(first), None)),
        1 => (0_u64..120).prop_map(|suffix| (None, Some(suffix))),
    ];
    prop::collection::vec(spec, 1..6)
}

fn written(specs: &[Spec]) -> HeaderValue {
    let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    let one = |spec: &Spec| format!("{}-{}", number(spec.0), number(spec.1));
    let all: Vec<_> = specs.iter().map(one).collect();
    HeaderValue::try_from(format!("bytes={}", all.join(","))).expect("digits")
}

/// RFC 9110 §14.1.2, byte by byte: which does each range ask for?
fn bytes_of(spec: Spec, length: u64) -> impl Iterator<Item = u64> {
    (0..length).filter(move |&at| match spec {
        (Some(first), Some(last)) => first <= at && at <= last,
        (Some(first), None) => first <= at,
        (None, suffix) => at + suffix.unwrap_or(0) >= length,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn no_range_leads_out_of_what_is_stored(
        range in range_value(),
        rest in fields(REQUEST_NAMES),
        part in prop::option::of(part()),
        length in prop_oneof![0_u64..150, Just(u64::MAX)],
    ) {
        let mut request = rest;
        request.insert(header::RANGE, range);
        let head = head(part, &[]);
        let length = part.map_or(length, |part| length.min(part.length()));
        let (held, complete) = match head.part {
            Some(part) => ((part.start, part.start + length), part.complete),
            None => ((0, length), Some(length)),
        };
        let all = range::decide(&Method::GET, &request, &head, length);
        let wanted = ranges(&all);
        for &(start, end) in &wanted {
            prop_assert!(start < end && held.0 <= start && end <= held.1, "{:?}", all);
            prop_assert!(complete.is_none_or(|complete| end <= complete));
        }
        if let Satisfy::Parts(several) = &all {
            prop_assert!((2..=MAX_RANGES).contains(&several.len()) && complete.is_some());
            for (at, one) in several.iter().enumerate() {
                for other in &several[at + 1..] {
                    prop_assert!(one.1 < other.0 || other.1 < one.0, "{:?}", all);
                }
            }
        }
        prop_assert_eq!(range::decide(&Method::HEAD, &request, &head, length), Satisfy::Whole);
    }

    #[test]
    fn the_bytes_sent_are_the_bytes_asked_for(specs in specs(), length in 0_u64..110) {
        let asked: BTreeSet<u64> = specs.iter().flat_map(|&spec| bytes_of(spec, length)).collect();
        let sum: usize = specs.iter().map(|&spec| bytes_of(spec, length).count()).sum();
        let satisfy = range::decide(&Method::GET, &asks(&written(&specs)), &head(None, &[]), length);
        match &satisfy {
            Satisfy::Whole => {
                let empty = length == 0 && specs.iter().any(|spec| spec.0.is_none() && spec.1 != Some(0));
                prop_assert!(empty || sum as u64 > length, "{:?}", specs);
            }
            Satisfy::Unsatisfiable => prop_assert!(asked.is_empty()),
            _ => {
                let sent: Vec<u64> = ranges(&satisfy).into_iter().flat_map(|(s, e)| s..e).collect();
                prop_assert_eq!(sent.len(), asked.len(), "each once");
                prop_assert_eq!(BTreeSet::from_iter(sent), asked);
            }
        }
    }

    #[test]
    fn a_part_answers_what_the_whole_would_if_it_has_the_bytes(specs in specs(), part in part()) {
        let (head, request) = (head(Some(part), &[]), asks(&written(&specs)));
        let Some(held) = head.part else { return Ok(()) };
        let answers = range::is_within_part(&Method::GET, &request, &head);
        let of_part = range::decide(&Method::GET, &request, &head, held.length());
        // Where the length is not known, it answers only what no length could change.
        let lengths = held.complete.map_or(held.end..=held.end + 20, |complete| complete..=complete);
        let whole = self::head(None, &[]);
        for complete in lengths {
            let of_whole = range::decide(&Method::GET, &request, &whole, complete);
            let wanted = ranges(&of_whole);
            if answers {
                prop_assert!(of_part == of_whole || of_whole == Satisfy::Whole && held.complete.is_none());
            } else if held.complete.is_some() {
                let within = wanted.iter().all(|&(start, end)| held.contains(start, end));
                prop_assert!(wanted.is_empty() || !within);
            }
        }
    }

    #[test]
    fn no_content_range_bytes_lead_astray(
        range in prop_oneof![
            3 => "(bytes|BYTES|lines) ?(0|9|10|18446744073709551615|99999999999999999999)?-?(0|9|19|18446744073709551614|18446744073709551615)?/?(\\*|0|10|20|18446744073709551615)?"
                .prop_map(|text| HeaderValue::try_from(text).expect("ASCII")),
            1 => value(),
        ],
        length in prop::option::of(value()),
    ) {
        let mut fields = HeaderMap::from_iter([(header::CONTENT_RANGE, range)]);
        if let Some(length) = length {
            fields.insert(header::CONTENT_LENGTH, length);
        }
        if let Some(part) = Part::read(&fields) {
            prop_assert!(part.start < part.end && part.length() > 0);
            prop_assert!(part.complete.is_none_or(|complete| part.end <= complete));
            let again = HeaderMap::from_iter([(header::CONTENT_RANGE, part.content_range())]);
            prop_assert_eq!(Part::read(&again), Some(part));
        }
    }

    #[test]
    fn no_206_bytes_make_it_panic_or_pass_for_the_whole(
        (request, later) in (fields(REQUEST_NAMES), fields(REQUEST_NAMES)),
        (response, update) in (fields(RESPONSE_NAMES), fields(RESPONSE_NAMES)),
        content_range in prop_oneof![part().prop_map(|part| part.content_range()), value()],
        range in range_value(),
        seconds in 0_u64..200,
    ) {
        let (mut request, mut later, mut response) = (request, later, response);
        request.insert(header::RANGE, range.clone());
        later.insert(header::RANGE, range);
        response.insert(header::CONTENT_RANGE, content_range);
        let (epoch, settings) = (super::some_moment(), Settings::default());
        let (exchange, now) = (exchange(epoch, 1), epoch + Duration::from_secs(seconds));
        let decided = storing::decide(&Method::GET, &request, &parts(206, response.clone()), &exchange, &settings);
        let carried = Carried { age: Duration::ZERO, lifetime: Duration::from_secs(60) };
        let peers = StoredHead::from_peer(
            StatusCode::PARTIAL_CONTENT, response, Selecting::default(), carried, epoch, &settings,
        );
        prop_assert!(peers.status == StatusCode::OK || peers.refused().is_some());
        for head in decided.iter().chain([&peers]) {
            for method in [Method::GET, Method::HEAD] {
                let _ = reuse::decide(&method, &later, [head, &peers], now);
            }
            let whole = reuse::decide(&Method::GET, &HeaderMap::new(), [head], now);
            prop_assert!(head.part.is_none() && head.refused().is_none() || matches!(whole, Reuse::Forward(_)));
            let _ = reuse::may_serve_stale_on_error(&later, head, now);
            let mut conditional = later.clone();
            validation::conditional(&mut conditional, head);
            let freshened = validation::freshen(head, &conditional, &parts(304, update.clone()), &exchange, &settings);
            prop_assert!(freshened.is_none_or(|freshened| freshened.part == head.part));
            let _ = validation::head_update(head, &later, &parts(200, update.clone()), &exchange, &settings);
            let _ = combine(head, &peers, &settings);
        }
    }

    #[test]
    fn combined_bytes_come_from_the_two_and_the_new_one_wins(
        stored in part(),
        new in part(),
        (one, two) in (select(VALIDATORS), select(VALIDATORS)),
    ) {
        let (stored, new) = (head(Some(stored), one), head(Some(new), two));
        let (Some(old), Some(fresh)) = (stored.part, new.part) else { return Ok(()) };
        let meets = old.start <= fresh.end && fresh.start <= old.end;
        let agrees = match (old.complete, fresh.complete) {
            (Some(a), Some(b)) => a == b,
            (Some(a), None) => fresh.end <= a,
            (None, Some(b)) => old.end <= b,
            (None, None) => true,
        };
        let strong = one == two && one.iter().any(|(name, value)| *name == header::ETAG && value.starts_with('"'));
        let Some(combined) = combine(&stored, &new, &Settings::default()) else {
            prop_assert!(!(meets && agrees && strong));
            return Ok(());
        };
        prop_assert!(meets && agrees && strong, "{:?} {:?}", one, two);
        let oracle: Vec<(u64, Source)> = (old.start.min(fresh.start)..old.end.max(fresh.end))
            .map(|at| (at, if fresh.contains(at, at + 1) { Source::New } else { Source::Stored }))
            .collect();
        let got: Vec<(u64, Source)> = combined.pieces.iter()
            .flat_map(|piece| (piece.start..piece.end).map(|at| (at, piece.of)))
            .collect();
        prop_assert_eq!(&got, &oracle, "in order, without gaps, each once");
        for (at, of) in got {
            let has = if of == Source::New { fresh } else { old };
            prop_assert!(has.contains(at, at + 1));
        }
        let complete = old.complete.or(fresh.complete);
        let (first, last) = (oracle[0].0, oracle.len() as u64);
        match combined.head.part {
            Some(part) => prop_assert_eq!((part.start, part.length(), part.complete), (first, last, complete)),
            None => prop_assert_eq!((first, complete), (0, Some(last))),
        }
        prop_assert_eq!(combined.head.status, http::StatusCode::OK);
    }

    #[test]
    fn parts_that_come_one_by_one_never_make_another_body(
        parts in prop::collection::vec((0_u64..60, 1_u64..60, 0_u8..8, any::<bool>()), 1..12),
    ) {
        let bodies = [body(0), body(1)];
        let mut kept: Option<(StoredHead, Vec<u8>)> = None;
        for (start, length, version, knows) in parts {
            // Now and then the origin's representation is another one.
            let version = usize::from(version == 0);
            let end = (start + length).min(LENGTH);
            let part = Part { start, end, complete: knows.then_some(LENGTH) };
            let tag = format!("\"{version}\"");
            let new = head(Some(part), &[(header::ETAG, tag.as_str())]);
            let bytes = slice(&bodies[version], 0, start, end);
            let both = kept.take().and_then(|(stored, held)| {
                let combined = combine(&stored, &new, &Settings::default())?;
                let bytes = assemble(&combined, (&stored, &held), (&new, &bytes));
                Some((combined.head, bytes))
            });
            let (head, bytes) = both.unwrap_or((new, bytes));
            let (start, end) = head.part.map_or((0, LENGTH), |part| (part.start, part.end));
            let tag = head.etag().map(|tag| tag.opaque.to_vec());
            let version = usize::from(tag.as_deref() == Some(b"1"));
            prop_assert_eq!(&bytes, &slice(&bodies[version], 0, start, end));
            kept = Some((head, bytes));
        }
    }

    #[test]
    fn a_multipart_body_reads_back_as_its_ranges(
        ranges in prop::collection::vec((0_u64..90, 1_u64..10), 1..6),
        content_type in prop::option::of(select(&["text/plain", "image/gif; a=\"b\""][..])),
        boundary in "[a-zA-Z0-9]{20,70}",
    ) {
        let body = body(0);
        let ranges: Vec<_> = ranges.into_iter().map(|(start, length)| (start, start + length)).collect();
        let content_type = content_type.map(HeaderValue::from_static);
        let Some(multipart) = Multipart::new(content_type.as_ref(), &ranges, LENGTH, &boundary) else {
            return Err(TestCaseError::fail("nothing is wrong with it"));
        };
        let mut sent = Vec::new();
        for part in multipart.parts() {
            sent.extend_from_slice(&part.before);
            sent.extend(slice(&body, 0, part.start, part.end));
        }
        sent.extend_from_slice(&multipart.closing());
        prop_assert_eq!(sent.len() as u64, multipart.content_length());

        let outer = multipart.content_type();
        let outer = outer.to_str().unwrap_or_default();
        let Some(boundary) = outer.strip_prefix("multipart/byteranges; boundary=") else {
            return Err(TestCaseError::fail(outer.to_owned()));
        };
        let Some(read) = read_multipart(&sent, boundary) else {
            return Err(TestCaseError::fail(String::from_utf8_lossy(&sent).into_owned()));
        };
        prop_assert_eq!(read.len(), ranges.len());
        for ((fields, bytes), (start, end)) in read.iter().zip(ranges) {
            prop_assert_eq!(fields.get(header::CONTENT_TYPE), content_type.as_ref());
            prop_assert_eq!(Part::read(fields), Some(Part { start, end, complete: Some(LENGTH) }));
            prop_assert_eq!(bytes, &slice(&body, 0, start, end));
        }
    }
}

const VALIDATORS: &[&[(header::HeaderName, &str)]] = &[
    &[(header::ETAG, "\"a\"")],
    &[(header::ETAG, "\"a\"")],
    &[(header::ETAG, "\"a\"")],
    &[(header::ETAG, "\"b\"")],
    &[(header::ETAG, "W/\"a\"")],
    &[(header::ETAG, "a")],
    &[(header::LAST_MODIFIED, "Sun, 06 Nov 1994 08:49:00 GMT")],
    &[],
];

/// The length of all bodies here, in bytes.
const LENGTH: u64 = 100;

/// A body whose bytes tell where they are and of which version they are.
fn body(version: u8) -> Vec<u8> {
    (0..100).map(|at| at + 100 * version).collect()
}

/// Bytes `start..end` of a body of which the bytes from `first` on are there.
fn slice(bytes: &[u8], first: u64, start: u64, end: u64) -> Vec<u8> {
    let at = |position: u64| usize::try_from(position - first).expect("small");
    bytes[at(start)..at(end)].to_vec()
}

fn assemble(
    combined: &Combined,
    stored: (&StoredHead, &[u8]),
    new: (&StoredHead, &[u8]),
) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in &combined.pieces {
        let (head, held) = if piece.of == Source::New { new } else { stored };
        let first = head.part.map_or(0, |part| part.start);
        bytes.extend(slice(held, first, piece.start, piece.end));
    }
    bytes
}

/// A reader of multipart bodies by RFC 2046 §5.1.1, for what has no preamble.
fn read_multipart(bytes: &[u8], boundary: &str) -> Option<Vec<(HeaderMap, Vec<u8>)>> {
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = bytes.strip_prefix(&delimiter.as_bytes()[2..])?;
    let mut parts = Vec::new();
    loop {
        if rest == b"--\r\n" {
            return Some(parts);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let mut fields = HeaderMap::new();
        loop {
            let end = find(rest, b"\r\n")?;
            let line = std::str::from_utf8(&rest[..end]).ok()?;
            rest = &rest[end + 2..];
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            let name: header::HeaderName = name.parse().ok()?;
            fields.append(name, value.parse().ok()?);
        }
        let end = find(rest, delimiter.as_bytes())?;
        parts.push((fields, rest[..end].to_vec()));
        rest = &rest[end + delimiter.len()..];
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[test]
fn a_multipart_body_is_worded_as_the_rfc_shows_it() {
    let content_type = HeaderValue::from_static("application/pdf");
    let ranges = [(500, 1000), (7000, 8000)];
    let multipart = Multipart::new(Some(&content_type), &ranges, 8000, "SEPARATES")
        .expect("nothing is wrong with it");
    assert_eq!(
        multipart.content_type(),
        "multipart/byteranges; boundary=SEPARATES"
    );
    let [first, second] = multipart.parts() else {
        panic!("two ranges");
    };
    assert_eq!(
        first.before,
        "--SEPARATES\r\nContent-Type: application/pdf\r\nContent-Range: bytes 500-999/8000\r\n\r\n"
    );
    assert_eq!(
        second.before,
        "\r\n--SEPARATES\r\nContent-Type: application/pdf\r\nContent-Range: bytes 7000-7999/8000\r\n\r\n"
    );
    assert_eq!(multipart.closing(), "\r\n--SEPARATES--\r\n");
}

#[test]
fn what_cannot_be_a_multipart_body_is_refused() {
    let make = |ranges: &[(u64, u64)], complete, boundary: &str| {
        Multipart::new(None, ranges, complete, boundary).is_some()
    };
    assert!(make(&[(0, 1)], 1, "a"));
    assert!(!make(&[], 1, "a"), "no range");
    assert!(!make(&[(1, 1)], 1, "a"), "an empty range");
    assert!(!make(&[(0, 2)], 1, "a"), "beyond the end");
    for boundary in ["", "a b", "a\r\nb", "\u{e4}", "a\"", &"a".repeat(71)] {
        assert!(!make(&[(0, 1)], 1, boundary), "{boundary:?}");
    }
    let all = (0, u64::MAX);
    assert!(!make(&[all, all], u64::MAX, "a"), "too long for any length");
}

#[test]
fn a_part_that_came_short_serves_no_more_than_is_there() {
    let held = Part {
        start: 10,
        end: 20,
        complete: Some(100),
    };
    let head = head(Some(held), &[]);
    let decide = |range: &'static str, length| {
        let request = asks(&HeaderValue::from_static(range));
        range::decide(&Method::GET, &request, &head, length)
    };
    let (start, end) = (10, 15);
    assert_eq!(decide("bytes=10-14", 5), Satisfy::Part { start, end });
    assert_eq!(decide("bytes=10-15", 5), Satisfy::Whole);
    assert_eq!(decide("bytes=10-11, 15-19", 5), Satisfy::Whole);
}
