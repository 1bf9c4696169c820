//! What must be true of any input whatever.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, response};
use libkoorde::policy::fields::date::HttpDate;
use libkoorde::policy::fields::{connection, structured};
use libkoorde::policy::{
    CacheKey, Exchange, Forward, Member, Now, Selecting, Settings, StoredHead, Target,
    invalidation, precondition, range, reuse, storing, validation, vary,
};
use proptest::prelude::*;
use proptest::sample::select;
use std::time::{Duration, Instant, SystemTime};

pub(crate) const REQUEST_NAMES: &[&str] = &[
    "accept-encoding",
    "accept-language",
    "authorization",
    "cache-control",
    "connection",
    "content-length",
    "cookie",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "pragma",
    "range",
    "foo",
];
pub(crate) const RESPONSE_NAMES: &[&str] = &[
    "age",
    "cache-control",
    "cache-status",
    "cdn-cache-control",
    "connection",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "location",
    "set-cookie",
    "vary",
    "foo",
];

/// Pieces from which values are glued that get past the first check of a parser.
const PIECES: &[&str] = &[
    "max-age=",
    "s-maxage=",
    "no-cache",
    "no-store",
    "private",
    "public",
    "must-understand",
    "stale-while-revalidate=",
    "max-stale",
    "min-fresh=",
    "=",
    ",",
    ";",
    "\"",
    "\\",
    " ",
    "\t",
    "*",
    "bytes=",
    "bytes ",
    "-",
    "0",
    "1",
    "9",
    "18446744073709551615",
    "W/",
    "\"a\"",
    "gzip",
    "en",
    ";q=",
    "0.5",
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Sunday, 06-Nov-94 08:49:37 GMT",
    "Sun Nov  6 08:49:37 1994",
    "GMT",
    "(",
    ")",
    ":",
    "?1",
    "@",
    "%\"",
    "foo",
    "cookie",
    "accept-encoding",
    "accept-language",
    "http://",
    "//",
    "/",
    "..",
    "a",
    "[",
    "#",
    "\u{e4}",
];

pub(crate) fn value() -> impl Strategy<Value = HeaderValue> {
    let glued =
        prop::collection::vec(select(PIECES), 0..8).prop_map(|pieces| pieces.concat().into_bytes());
    let raw = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![3 => glued, 1 => raw].prop_filter_map("not a field value", |bytes| {
        HeaderValue::from_bytes(&bytes).ok()
    })
}

pub(crate) fn fields(names: &'static [&'static str]) -> impl Strategy<Value = HeaderMap> {
    prop::collection::vec((select(names), value()), 0..10).prop_map(|lines| {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(HeaderName::from_static(name), value);
        }
        fields
    })
}

pub(crate) fn parts(status: u16, fields: HeaderMap) -> response::Parts {
    let mut parts = Response::new(()).into_parts().0;
    parts.status = StatusCode::from_u16(status).unwrap_or_default();
    parts.headers = fields;
    parts
}

fn settings() -> Settings {
    Settings {
        targets: vec![http::header::CDN_CACHE_CONTROL],
        ..Settings::default()
    }
}

/// The wall clock of all cases: Sun, 06 Nov 1994 08:49:37 GMT.
pub(crate) const WALL: u64 = 784_111_777;

pub(crate) fn exchange(epoch: Instant, delay: u64) -> Exchange {
    Exchange {
        request_sent: epoch,
        response_received: Now {
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(WALL),
            instant: epoch + Duration::from_secs(delay),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn no_field_bytes_make_it_panic(
        request in fields(REQUEST_NAMES),
        later in fields(REQUEST_NAMES),
        response in fields(RESPONSE_NAMES),
        update in fields(RESPONSE_NAMES),
        status in 100_u16..1000,
        seconds in prop_oneof![0_u64..100, any::<u32>().prop_map(u64::from)],
    ) {
        let epoch = super::some_moment();
        let exchange = exchange(epoch, 1);
        let target = Target::parse("http://example.com/a").map_err(|e| TestCaseError::fail(e.to_string()))?;
        let post = Method::POST;
        for target in invalidation::invalidated(&post, &target, StatusCode::OK, &response) {
            prop_assert!(CacheKey::from_bytes(CacheKey::new("", &target).as_bytes()).is_ok());
        }
        let _ = reuse::may_collapse(&Method::GET, &request);
        connection::strip_request(&mut request.clone());

        // A stored response that passed the check, and one that did not have to.
        let ok = parts(status, response.clone());
        let checked = storing::decide(&Method::GET, &request, &ok, &exchange, &settings()).ok();
        let Some(names) = vary::names(&response) else { return Ok(()) };
        let carried = libkoorde::policy::Carried {
            age: Duration::from_secs(seconds),
            lifetime: Duration::from_secs(60),
        };
        let peers = StoredHead::from_peer(
            ok.status, response, Selecting::new(names, &request), carried, epoch, &settings(),
        );
        let now = Now { wall: SystemTime::UNIX_EPOCH, instant: epoch + Duration::from_secs(seconds) };
        for head in checked.iter().chain([&peers]) {
            let _ = reuse::decide(&Method::GET, &later, [head], now.instant);
            let _ = reuse::may_serve_stale_on_error(&later, head, now.instant);
            let _ = precondition::evaluate(&Method::GET, &later, head, now);
            let _ = (head.age_field(now.instant), head.ttl(now.instant), head.weight());
            let mut conditional = later.clone();
            validation::conditional(&mut conditional, head);
            let not_modified = parts(304, update.clone());
            let _ = validation::freshen(head, &conditional, &not_modified, &exchange, &settings());
            let _ = validation::head_update(head, &later, &parts(200, update.clone()), &exchange, &settings());
            for length in [0, 1, 100, u64::MAX] {
                let _ = range::decide(&Method::GET, &later, head, length);
            }
        }
    }

    #[test]
    fn two_requests_of_one_variant_key_select_the_same(
        a in fields(REQUEST_NAMES),
        b in fields(REQUEST_NAMES),
    ) {
        for name in ["accept-encoding", "accept-language", "cookie", "foo"] {
            let names = vec![HeaderName::from_static(name)];
            let same_key = vary::variant_key(&names, &a) == vary::variant_key(&names, &b);
            let selecting = Selecting::new(names, &a);
            prop_assert!(selecting.matches(&a), "a request selects its own response");
            prop_assert_eq!(selecting.matches(&b), same_key, "{}", name);
        }
    }

    #[test]
    fn a_written_date_is_read_as_itself(seconds in -62_167_219_200_i64..253_402_300_800) {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance };
        let date = HttpDate::from(time);
        let read = HttpDate::parse(date.to_string().as_bytes(), SystemTime::UNIX_EPOCH);
        prop_assert_eq!(read, Some(date));
    }

    #[test]
    fn a_member_of_cache_status_is_always_structured(
        name in ".{0,12}",
        detail in ".{0,12}",
        key in ".{0,12}",
        ttl in any::<i64>(),
        forward in prop::option::of(select(&[Forward::Stale, Forward::UriMiss][..])),
    ) {
        let mut member = match forward {
            Some(forward) => Member::forwarded(name, forward),
            None => Member::hit(name, 0),
        };
        (member.ttl, member.key, member.detail) = (Some(ttl), Some(key), Some(detail));
        (member.stored, member.collapsed) = (true, true);
        // As the value of a dictionary's member, since a dictionary is what we read.
        let dictionary = [b"x=", member.value().as_bytes()].concat();
        prop_assert_eq!(structured::dictionary(&dictionary).map(|members| members.len()), Some(1));
    }

    #[test]
    fn bytes_that_are_a_key_are_made_of_its_target(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(key) = CacheKey::from_bytes(&bytes) {
            prop_assert_eq!(CacheKey::new(key.tenant(), &key.target()), key);
        }
    }

    #[test]
    fn no_part_of_a_key_flows_into_another(
        tenants in ("[a-c/:.]{0,4}", "[a-c/:.]{0,4}"),
        urls in ("[a-c]{1,3}/[a-c/?]{0,4}", "[a-c]{1,3}/[a-c/?]{0,4}"),
    ) {
        let target = |url: &str| Target::parse(&format!("http://{url}"));
        let (Ok(one), Ok(two)) = (target(&urls.0), target(&urls.1)) else { return Ok(()) };
        let same = tenants.0 == tenants.1 && one == two;
        prop_assert_eq!(CacheKey::new(&tenants.0, &one) == CacheKey::new(&tenants.1, &two), same);
    }

    #[test]
    fn a_target_is_parsed_once_and_for_all(url in r"https?:[/\\]{0,3}[a-zA-Z0-9.:@%\[\]-]{0,12}[/\\?#a-c.%2eE ^|{}]{0,12}") {
        if let Ok(target) = Target::parse(&url) {
            let again = Target::parse(&target.to_string()).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(&again, &target);
            prop_assert_eq!(target.uri().to_string(), target.to_string());
        }
    }
}
