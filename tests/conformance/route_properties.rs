//! What must be true of any input whatever, of the rules of a route.

use super::properties::{exchange, fields, parts};
use super::reference::{Case, forbids};
use super::reuse_properties::{case, is_served, map};
use http::{HeaderMap, HeaderName, Method, StatusCode, Version};
use libkoorde::policy::{
    Bypass, CacheKey, Hop, KeyRules, NotForwarded, QueryRule, Selecting, Settings, StaleWindows,
    StoredHead, Tags, Target, Ttl, encoding, forwarding, invalidation, key, reuse, storing, tags,
};
use proptest::prelude::*;
use proptest::sample::select;
use std::time::{Duration, SystemTime};

const NAMES: &[&str] = &[
    "accept-encoding",
    "cache-control",
    "cache-group-invalidation",
    "cache-groups",
    "cache-tag",
    "cdn-loop",
    "connection",
    "cookie",
    "max-forwards",
    "proxy-foo",
    "retry-after",
    "surrogate-key",
    "te",
    "via",
    "x-forwarded-host",
    "foo",
];

/// Patterns and names of parameters that come near each other.
const WORDS: &[&str] = &[
    "a", "b", "ab", "a*", "*", "A", "a b", "a+b", "[", "%61", "é",
];

fn words() -> impl Strategy<Value = Vec<String>> {
    let word = select(WORDS).prop_map(str::to_owned);
    prop::collection::vec(word, 0..4)
}

fn rules() -> impl Strategy<Value = KeyRules> {
    let query = prop_oneof![
        Just(QueryRule::All),
        Just(QueryRule::None),
        words().prop_map(QueryRule::Keep),
        words().prop_map(QueryRule::Drop),
    ];
    let header = select(&["foo", "accept-encoding", "cookie"][..]);
    let headers = prop::collection::vec(header.prop_map(HeaderName::from_static), 0..3);
    (query, any::<bool>(), headers, words()).prop_map(|(query, sort_query, headers, cookies)| {
        KeyRules {
            query,
            sort_query,
            headers,
            cookies,
        }
    })
}

/// URLs whose parameters are those words or nearly so, raw and encoded.
fn target() -> impl Strategy<Value = Target> {
    let parameter = "(a|b|A|ab|%61|a%20b|a\\+b|a\\[0\\]|é|%|;|)=?(1|2|a;b=1|)";
    let query = prop::collection::vec(parameter, 0..4);
    (select(&["/", "/p"][..]), query).prop_filter_map("no target", |(path, query)| {
        let mark = if query.is_empty() { "" } else { "?" };
        Target::parse(&format!("http://h{path}{mark}{}", query.join("&"))).ok()
    })
}

fn hop() -> Hop {
    Hop::new("koorde", "blue").expect("two tokens")
}

/// The parameters of a query that an origin could find in it, as it stands.
fn query(target: &Target) -> Vec<&str> {
    let query = target.path_and_query().split_once('?');
    query.map_or(Vec::new(), |(_, query)| query.split('&').collect())
}

/// The values of a cookie, by a reading of its own.
fn cookie(fields: &HeaderMap, name: &str) -> Vec<String> {
    let lines: Vec<String> = fields
        .get_all("cookie")
        .iter()
        .map(|line| line.as_bytes().iter().map(|b| char::from(*b)).collect())
        .collect();
    let name: String = name.bytes().map(char::from).collect();
    lines
        .join(";")
        .split(';')
        .map(|pair| pair.trim_matches([' ', '\t']))
        .filter_map(|pair| {
            let (known, value) = match pair.split_once('=') {
                Some((known, value)) => (known, format!("={value}")),
                None => (pair, String::new()),
            };
            (known.trim_end_matches([' ', '\t']) == name && !pair.is_empty()).then_some(value)
        })
        .collect()
}

/// Lists of names, of which some are the same; half of the cases have too long ones.
fn names() -> impl Strategy<Value = Vec<Vec<String>>> {
    let lengths = prop_oneof![Just(&[1, 200][..]), Just(&[1, 200, 254, 300][..])];
    lengths.prop_flat_map(|lengths| {
        let name = (0..400_u32, select(lengths))
            .prop_map(|(number, length)| format!("{number:0>length$}"));
        prop::collection::vec(prop::collection::vec(name, 0..60), 0..9)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn no_bytes_make_the_rules_of_a_route_panic(
        rules in rules(),
        target in target(),
        fields in fields(NAMES),
        words in words(),
        slice in prop::option::of(any::<u64>()),
        status in 100_u16..1000,
    ) {
        let key = rules.key("a", &target, &fields, slice);
        prop_assert_eq!(CacheKey::from_bytes(key.as_bytes()).ok(), Some(key.clone()));
        prop_assert_eq!(key.slice(), slice);
        prop_assert!(key.is_of(Some("a"), &rules.url(&target)) && !key.is_of(Some("b"), &rules.url(&target)));
        prop_assert!(key.len() <= 100 + target.to_string().len() + key::MAX_EXTRA_LEN);
        let debug = format!("{key:?}");
        prop_assert!(debug.contains(key.authority()), "{}", debug);
        let bypass = Bypass { always: false, headers: Vec::new(), cookies: words.clone(), query: words };
        let _ = bypass.applies(&target, &fields);
        let _ = (rules.check(), bypass.check());

        let status = StatusCode::from_u16(status).unwrap_or_default();
        prop_assert!(invalidation::groups(&Method::POST, status, &fields).len() <= tags::MAX_NAMES);
        prop_assert!(invalidation::groups(&Method::GET, status, &fields).is_empty());
        let _ = forwarding::retry_after(&fields, SystemTime::UNIX_EPOCH);
        forwarding::strip_unkeyed(&Method::GET, &mut fields.clone(), &rules.headers);
        forwarding::response(&mut fields.clone(), &hop(), Version::HTTP_11);
    }

    #[test]
    fn what_was_forwarded_once_is_not_forwarded_again(
        fields in fields(NAMES),
        next in select(&[None, Some(Version::HTTP_11), Some(Version::HTTP_2)][..]),
        method in select(&[Method::GET, Method::POST, Method::OPTIONS][..]),
    ) {
        let mut passed = fields.clone();
        let once = forwarding::request(&method, &mut passed, &hop(), Version::HTTP_11, next);
        prop_assume!(once.is_ok());
        let mut again = passed.clone();
        let twice = forwarding::request(&method, &mut again, &hop(), Version::HTTP_11, next);
        prop_assert_eq!(twice, Err(NotForwarded::Loop));
        prop_assert_eq!(again, passed);
    }

    #[test]
    fn accept_encoding_has_one_spelling(fields in fields(&["accept-encoding"])) {
        let mut once = fields.clone();
        encoding::normalise_accept_encoding(&mut once);
        let mut twice = once.clone();
        encoding::normalise_accept_encoding(&mut twice);
        prop_assert_eq!(&once, &twice);
        prop_assert_eq!(once.len(), usize::from(!fields.is_empty()));
    }

    #[test]
    fn the_names_of_a_response_are_bounded(
        lines in names(),
        name in select(&["surrogate-key", "cache-tag", "cache-groups"][..]),
    ) {
        let mut fields = HeaderMap::new();
        let mut all = std::collections::BTreeSet::new();
        for line in &lines {
            let (text, names): (String, Vec<String>) = match name {
                "surrogate-key" => (line.join(" "), line.join(" ").split(' ').map(str::to_owned).collect()),
                "cache-tag" => (line.join(","), line.iter().map(|n| n.trim().to_owned()).collect()),
                _ => (line.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", "), line.clone()),
            };
            if let Ok(value) = text.parse() && !text.is_empty() {
                fields.append(name, value);
                all.extend(names.into_iter().filter(|name| !name.is_empty()));
            }
        }
        let tags = Tags::read(&fields);
        let kept: Vec<&str> = tags.tags().chain(tags.groups()).collect();
        prop_assert!(kept.len() <= tags::MAX_NAMES);
        prop_assert!(kept.iter().all(|name| (1..=tags::MAX_NAME_LEN).contains(&name.len())));
        // What was said is either kept, or any purge takes the response.
        for name in &all {
            prop_assert!(tags.has_tag(name) || tags.has_group(name));
        }
        prop_assert_eq!(tags.truncated(), kept.len() < all.len());
    }

    #[test]
    fn equal_keys_differ_only_in_what_the_rules_drop(
        rules in rules(),
        targets in (target(), target()),
        fields in (fields(&["cookie", "foo", "accept-encoding"]), fields(&["cookie", "foo", "accept-encoding"])),
    ) {
        let one = rules.key("", &targets.0, &fields.0, None);
        let two = rules.key("", &targets.1, &fields.1, None);
        let same_fields = rules.headers.iter().all(|name| {
            Selecting::new(vec![name.clone()], &fields.0).matches(&fields.1)
        }) && rules.cookies.iter().all(|name| cookie(&fields.0, name) == cookie(&fields.1, name));
        // A key is its URL and its fields, and nothing of one is in the other.
        let same_url = rules.url(&targets.0) == rules.url(&targets.1);
        prop_assert_eq!(one == two, same_url && same_fields);
        if same_url {
            assert_alike(&rules, &targets.0, &targets.1)?;
        }
        if rules == KeyRules::default() {
            prop_assert_eq!(one == two, targets.0 == targets.1);
        }
    }

    #[test]
    fn jitter_only_shortens_and_not_by_much(
        max_age in 0_u32..=u32::MAX, age in 0_u32..=u32::MAX, seed in any::<u64>(), percent in any::<u8>(),
    ) {
        let epoch = super::some_moment();
        let mut response = HeaderMap::new();
        for (name, value) in [("cache-control", format!("max-age={max_age}")), ("age", age.to_string()), ("etag", "\"a\"".to_owned())] {
            response.insert(name, value.parse().map_err(|_| TestCaseError::fail("a value"))?);
        }
        let response = parts(200, response);
        let Ok(head) = storing::decide(&Method::GET, &HeaderMap::new(), &response, &exchange(epoch, 0), &Settings::default())
            else { return Err(TestCaseError::fail("it has a validator")) };
        let mut jittered = head.clone();
        jittered.jitter(seed, percent);
        let left = head.lifetime.saturating_sub(head.initial_age);
        prop_assert!(jittered.lifetime <= head.lifetime);
        prop_assert!(head.lifetime - jittered.lifetime <= left / 5);
        prop_assert_eq!(jittered.is_fresh(head.received), head.is_fresh(head.received));
    }
}

#[test]
fn a_name_too_many_or_too_long_is_taken_by_any_purge() {
    let tags = |names: &[String]| {
        let mut fields = HeaderMap::new();
        fields.insert("surrogate-key", names.join(" ").parse().expect("a value"));
        fields.insert("cache-groups", "\"a group\"".parse().expect("a value"));
        Tags::read(&fields)
    };
    let names: Vec<String> = (0..tags::MAX_NAMES).map(|n| n.to_string()).collect();
    let full = tags(&names[1..]);
    assert!(!full.truncated() && full.has_group("a group") && !full.has_tag("other"));
    let over = tags(&names);
    assert!(over.truncated() && over.groups().count() == 0);
    assert!(over.has_group("a group") && over.has_tag("other"));

    let long = tags(&["x".repeat(tags::MAX_NAME_LEN)]);
    assert!(!long.truncated() && long.tags().count() == 1);
    let longer = tags(&["x".repeat(tags::MAX_NAME_LEN + 1)]);
    assert!(longer.truncated() && longer.tags().count() == 0);
}

/// Two URLs of one key have, each, the same parameters of every name that is not
/// dropped, in the same order; and of those that nobody can part, the same bytes.
fn assert_alike(rules: &KeyRules, one: &Target, two: &Target) -> Result<(), TestCaseError> {
    // A plain reading, as most origins have it: `+` and escapes, no index.
    let name = |parameter: &str| -> String {
        let name = parameter.split('=').next().unwrap_or_default();
        let name = name
            .replace("%20", " ")
            .replace("%61", "a")
            .replace("%C3%A9", "é");
        name.replace('+', " ")
    };
    let listed = |names: &[String], parameter: &str| {
        names.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name(parameter).starts_with(start),
            None => name(parameter) == *pattern,
        })
    };
    let counts = |parameter: &&str| match &rules.query {
        QueryRule::All => true,
        QueryRule::None => false,
        QueryRule::Keep(names) => parameter.contains(';') || listed(names, parameter),
        QueryRule::Drop(names) => parameter.contains(';') || !listed(names, parameter),
    };
    let mut lists =
        [one, two].map(|target| query(target).into_iter().filter(counts).collect::<Vec<_>>());
    if rules.sort_query {
        lists
            .iter_mut()
            .for_each(|list| list.sort_by_key(|parameter| name(parameter)));
    }
    prop_assert_eq!(&lists[0], &lists[1]);
    Ok(())
}

/// Settings with rules, each of them about half the time.
fn settings() -> impl Strategy<Value = Settings> {
    let maybe = || prop::option::of((0_u64..400).prop_map(Duration::from_secs));
    (maybe(), maybe(), maybe(), maybe(), maybe(), maybe()).prop_map(
        |(fixed, floor, ceiling, negative, while_revalidate, if_error)| Settings {
            ttl: Ttl {
                fixed,
                floor,
                ceiling,
                negative: negative
                    .map(|ttl| [(404, ttl), (500, ttl)].into())
                    .unwrap_or_default(),
            },
            stale: StaleWindows {
                while_revalidate,
                if_error,
            },
            ..Settings::default()
        },
    )
}

/// Stores what a case says under these settings, and asks.
fn served(case: &Case, settings: &Settings) -> Option<(StoredHead, bool)> {
    let epoch = super::some_moment();
    let response = parts(case.status, map(&case.response));
    let exchange = exchange(epoch, case.delay);
    let first = map(&case.first);
    let head = storing::decide(&Method::GET, &first, &response, &exchange, settings).ok()?;
    let now = epoch + Duration::from_secs(case.delay + case.resident);
    let reuse = reuse::decide(&Method::GET, &map(&case.second), [&head], now);
    Some((head, is_served(reuse)))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(10_000) })]

    #[test]
    fn rules_about_time_permit_nothing_that_is_not_about_time(case in case(), settings in settings()) {
        let mut case = case;
        case.date_age = None;
        let Some((head, is_served)) = served(&case, &settings) else { return Ok(()) };
        let why = forbids(&case);
        let about_time = matches!(
            why,
            None | Some("stale" | "stale, and max-age of the request without max-stale" | "max-age of the request" | "min-fresh of the request" | "the response must not be served stale")
        );
        prop_assert!(!is_served || about_time, "{:?}", why);

        // Rules bound the lifetime, whatever the response says.
        let ttl = &settings.ttl;
        prop_assert!(ttl.ceiling.is_none_or(|ceiling| head.lifetime <= ceiling));

        // Another node that is given it decides alike.
        let (now, later) = (head.received, head.received + Duration::from_secs(case.resident));
        let (mut status, mut fields) = (head.status, head.fields.clone());
        if let Some(part) = head.part {
            status = StatusCode::PARTIAL_CONTENT;
            fields.insert("content-range", part.content_range());
        }
        let copy = StoredHead::from_peer(
            status, fields, head.selecting.clone(), head.carried(now), now, &settings,
        );
        let (second, tags) = (map(&case.second), copy.tags.clone());
        prop_assert_eq!(
            reuse::decide(&Method::GET, &second, [&copy], later),
            reuse::decide(&Method::GET, &second, [&head], later)
        );
        prop_assert_eq!(tags, head.tags);
    }

    #[test]
    fn a_personal_response_is_never_made_to_last(case in case(), settings in settings()) {
        let personal = case.first.iter().any(|(name, _)| *name == "authorization")
            || case.response.iter().any(|(name, _)| *name == "set-cookie");
        let public = case.response.iter().any(|(_, value)| value.to_ascii_lowercase().contains("public"));
        if personal && !public && let Some((head, _)) = served(&case, &settings) {
            let Some((plain, _)) = served(&case, &Settings::default()) else {
                return Err(TestCaseError::fail("only the rules made it storable"));
            };
            prop_assert!(head.lifetime <= plain.lifetime);
        }
    }
}
