//! That nothing is reused which must not be, and nothing refused for no reason.

use super::properties::{WALL, exchange, parts};
use super::reference::{Case, Line, forbids};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use libkoorde::policy::fields::date::HttpDate;
use libkoorde::policy::{Reuse, Settings, StoredHead, reuse, storing};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use std::time::{Duration, SystemTime};

/// Directives that the reference understands.
fn cache_control(words: &'static [&'static str]) -> impl Strategy<Value = Vec<Line>> {
    let number =
        prop_oneof![4 => (0_u64..200).prop_map(|n| n.to_string()), 1 => Just("x".to_owned())];
    let directive = (select(words), number, any::<bool>()).prop_map(|(word, number, upper)| {
        let text = if word.ends_with('=') {
            format!("{word}{number}")
        } else {
            word.to_owned()
        };
        if upper {
            text.to_ascii_uppercase()
        } else {
            text
        }
    });
    let line =
        prop::collection::vec(directive, 1..3).prop_map(|line| ("cache-control", line.join(" ,")));
    prop::collection::vec(line, 0..3)
}

fn some_of(lines: &'static [(&'static str, &'static str)]) -> impl Strategy<Value = Vec<Line>> {
    prop::collection::vec(select(lines), 0..3).prop_map(|lines| {
        lines
            .into_iter()
            .map(|(name, value)| (name, value.to_owned()))
            .collect()
    })
}

/// One line of this field, or none: two of Range would count as none.
fn maybe(
    name: &'static str,
    probability: f64,
    values: &'static [&'static str],
) -> impl Strategy<Value = Vec<Line>> {
    prop::option::weighted(probability, select(values)).prop_map(move |value| {
        let line = value.map(|value| (name, value.to_owned()));
        line.into_iter().collect()
    })
}

const RANGES: &[&str] = &[
    "bytes=10-19",
    "bytes=10-19",
    "bytes=12-15",
    "bytes=5-15",
    "bytes=15-25",
    "bytes=90-",
    "bytes=15-",
    "bytes=-5",
    "bytes=-95",
    "bytes=12-13, 16-17",
    "bytes=12-13, 30-31",
    "bytes=95-120, 12-13",
    "bytes=92-93, 100-",
    "bytes=100-",
    "bytes=19-10",
    "lines=10-19",
];

const CONTENT_RANGES: &[&str] = &[
    "bytes 10-19/100",
    "bytes 10-19/100",
    "bytes 10-19/*",
    "bytes 90-99/100",
    "bytes 0-99/100",
    "bytes 0-99/*",
    "bytes 19-10/100",
    "lines 10-19/100",
];

pub(crate) fn case() -> impl Strategy<Value = Case> {
    // Half of the cases are about parts; there these fields have to be in most of
    // them, and seldom much else, which would only hide what they say.
    let parts = (
        prop::bool::weighted(0.7),
        maybe("range", 0.9, &["bytes=10-19"]),
        maybe("content-range", 0.95, CONTENT_RANGES),
        maybe("range", 0.9, RANGES),
        maybe("if-range", 0.3, &["\"a\"", "\"a\"", "\"b\""]),
    );
    let first = (
        cache_control(&["no-store", "max-age=", "no-cache"]),
        some_of(&[
            ("authorization", "x"),
            ("foo", "1"),
            ("foo", "2"),
            ("bar", "1"),
        ]),
    );
    let response = (
        cache_control(&[
            "max-age=",
            "max-age=",
            "max-age=",
            "s-maxage=",
            "no-store",
            "no-cache",
            "private",
            "public",
            "must-revalidate",
            "proxy-revalidate",
            "stale-while-revalidate=",
            "stale-if-error=",
            "immutable",
        ]),
        some_of(&[
            ("set-cookie", "a=b"),
            ("vary", "Foo"),
            ("vary", "bar, foo"),
            ("vary", "*"),
            ("etag", "\"a\""),
            ("last-modified", "Sat, 05 Nov 1994 08:49:37 GMT"),
            ("age", "10"),
            ("age", "100"),
        ]),
    );
    let second = (
        cache_control(&[
            "max-age=",
            "min-fresh=",
            "max-stale",
            "max-stale=",
            "no-cache",
            "no-store",
            "only-if-cached",
        ]),
        some_of(&[
            ("foo", "1"),
            ("foo", "2"),
            ("bar", "1"),
            ("pragma", "no-cache"),
            ("authorization", "y"),
        ]),
    );
    let status = select(&[200, 200, 200, 200, 203, 206, 301, 302, 404, 500][..]);
    let date_age = prop::option::of(0_u64..100);
    let parts = prop::option::of(parts);
    let times = (date_age, 0_u64..5, 0_u64..300);
    (first, status, response, second, parts, times).prop_map(
        |(first, status, response, second, parts, (date_age, delay, resident))| {
            let mut case = Case {
                first: [first.0, first.1].concat(),
                status,
                response: [response.0, response.1].concat(),
                date_age,
                delay,
                resident,
                second: [second.0, second.1].concat(),
            };
            if let Some((plain, range, content_range, second_range, if_range)) = parts {
                if plain {
                    case.first.clear();
                    case.response = vec![
                        ("cache-control", "max-age=200".to_owned()),
                        ("etag", "\"a\"".to_owned()),
                    ];
                    case.second.clear();
                }
                case.status = 206;
                case.first.extend(range);
                case.response.extend(content_range);
                case.second.extend(second_range.into_iter().chain(if_range));
            }
            case
        },
    )
}

pub(crate) fn map(lines: &[Line]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        let value = HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""));
        fields.append(HeaderName::from_static(name), value);
    }
    fields
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

    #[test]
    fn nothing_is_reused_that_the_reference_forbids(case in case()) {
        let Some((head, reuse)) = opinions(&case) else { return Ok(()) };
        match forbids(&case) {
            Some(why) => prop_assert!(!is_served(reuse), "{}", why),
            // Nor is anything refused for no reason.
            None => prop_assert!(is_served(reuse), "{:?}", reuse),
        }

        // Another node that got it carried over decides alike.
        let at = head.received + Duration::from_secs(case.resident / 2);
        let now = head.received + Duration::from_secs(case.resident);
        let (mut status, mut fields) = (head.status, head.fields.clone());
        if let Some(part) = head.part {
            status = StatusCode::PARTIAL_CONTENT;
            fields.insert("content-range", part.content_range());
        }
        let copy = StoredHead::from_peer(
            status, fields, head.selecting.clone(), head.carried(at), at, &Settings::default(),
        );
        prop_assert_eq!(copy.part, head.part);
        prop_assert_eq!(reuse::decide(&Method::GET, &map(&case.second), [&copy], now), reuse);

        // Time alone never makes it fresh again.
        let later = now + Duration::from_secs(7);
        if !head.is_fresh(now) {
            prop_assert!(!head.is_fresh(later));
        }
    }
}

/// Stores and asks as a case says, and gives both sides' opinions.
fn opinions(case: &Case) -> Option<(StoredHead, Reuse)> {
    let epoch = super::some_moment();
    let mut response = map(&case.response);
    if let Some(age) = case.date_age {
        let date = HttpDate::from(SystemTime::UNIX_EPOCH + Duration::from_secs(WALL - age));
        response.insert("date", HeaderValue::try_from(date.to_string()).ok()?);
    }
    let exchange = exchange(epoch, case.delay);
    let response = parts(case.status, response);
    let first = map(&case.first);
    let head = storing::decide(
        &Method::GET,
        &first,
        &response,
        &exchange,
        &Settings::default(),
    );
    let head = head.ok()?;
    let now = epoch + Duration::from_secs(case.delay + case.resident);
    let reuse = reuse::decide(&Method::GET, &map(&case.second), [&head], now);
    Some((head, reuse))
}

#[test]
fn the_reference_sees_enough_of_both_sides() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut served, mut parts, mut forbidden) = (0, 0, 0);
    for _ in 0..12_000 {
        let Ok(tree) = case().new_tree(&mut runner) else {
            continue;
        };
        let case = tree.current();
        match opinions(&case) {
            Some((head, reuse)) if is_served(reuse) => {
                served += 1;
                parts += u32::from(head.part.is_some());
            }
            Some(_) => forbidden += 1,
            None => {}
        }
    }
    assert!(
        served - parts > 80 && parts > 100 && forbidden > 200,
        "{served} served, {parts} of them parts, {forbidden} not"
    );
}

pub(crate) fn is_served(reuse: Reuse) -> bool {
    matches!(
        reuse,
        Reuse::Fresh { .. } | Reuse::StaleWhileRevalidate { .. }
    )
}
