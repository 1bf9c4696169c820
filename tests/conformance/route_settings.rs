//! What a configuration may say of a route, and what is refused.

use http::HeaderMap;
use libkoorde::policy::{Bypass, CacheKey, KeyRules, QueryRule, Settings, Target};
use serde_json::json;
use std::time::Duration;

fn settings(value: serde_json::Value) -> Result<Settings, String> {
    let settings: Settings = serde_json::from_value(value).map_err(|error| error.to_string())?;
    settings.check().map(|()| settings)
}

#[test]
fn what_a_configuration_says_is_read_and_written_alike() {
    let all = json!({
        "store_set_cookie": "public-only",
        "heuristic": { "percent": 10, "max": "1day", "errors": true },
        "targets": ["cdn-cache-control"],
        "s_maxage_revalidates": false,
        "ttl": {
            "fixed": "1m", "floor": "10s", "ceiling": "1h",
            "negative": { "404": "5s", "503": "1s" },
        },
        "stale": { "while_revalidate": "30s", "if_error": "1h" },
        "jitter_percent": 10,
        "strip_unkeyed": false,
    });
    let read = settings(all.clone()).expect("all of it is within bounds");
    assert_eq!(read.ttl.fixed, Some(Duration::from_secs(60)));
    assert_eq!(read.ttl.negative[&404], Duration::from_secs(5));
    assert_eq!(read.stale.if_error, Some(Duration::from_secs(3600)));
    assert_eq!(serde_json::to_value(&read).expect("it is JSON"), all);

    let none = settings(json!({})).expect("every key has a default");
    assert_eq!(none, Settings::default());
    let written = serde_json::to_value(&none).expect("it is JSON");
    assert_eq!(settings(written), Ok(none));
}

#[test]
fn rules_of_keys_and_bypass_are_read_and_written_alike() {
    for (text, rule) in [
        (json!("all"), QueryRule::All),
        (json!("none"), QueryRule::None),
        (
            json!({ "keep": ["id"] }),
            QueryRule::Keep(vec!["id".into()]),
        ),
        (
            json!({ "drop": ["utm_*"] }),
            QueryRule::Drop(vec!["utm_*".into()]),
        ),
    ] {
        let all = json!({
            "query": text, "sort_query": true, "headers": ["x-a"], "cookies": ["b"],
        });
        let rules: KeyRules = serde_json::from_value(all.clone()).expect("rules");
        assert_eq!(rules.query, rule);
        assert_eq!(rules.check(), Ok(()));
        assert_eq!(serde_json::to_value(&rules).expect("it is JSON"), all);
    }
    let all = json!({ "always": true, "headers": ["x-a"], "cookies": ["b*"], "query": ["c"] });
    let bypass: Bypass = serde_json::from_value(all.clone()).expect("conditions");
    assert_eq!(bypass.check(), Ok(()));
    assert_eq!(serde_json::to_value(&bypass).expect("it is JSON"), all);
}

#[test]
fn what_is_out_of_bounds_is_named_with_its_value() {
    for (wrong, expected) in [
        (json!({ "jitter_percent": 21 }), "jitter_percent: 21"),
        (
            json!({ "heuristic": { "percent": 101 } }),
            "heuristic.percent: 101",
        ),
        (
            json!({ "ttl": { "floor": "2s", "ceiling": "1s" } }),
            "ttl.floor: 2s",
        ),
        (
            json!({ "ttl": { "floor": "2s", "fixed": "1s" } }),
            "ttl.fixed: 1s",
        ),
        (
            json!({ "ttl": { "ceiling": "2s", "fixed": "3s" } }),
            "ttl.fixed: 3s",
        ),
        (json!({ "ttl": { "fixed": "100years" } }), "ttl.fixed: 31"),
        (json!({ "ttl": { "fixed": "soon" } }), "soon"),
        (
            json!({ "ttl": { "negative": { "200": "1s" } } }),
            "ttl.negative.200",
        ),
        (
            json!({ "ttl": { "negative": { "1000": "1s" } } }),
            "ttl.negative.1000",
        ),
        (json!({ "ttl": { "negative": { "4xx": "1s" } } }), "4xx"),
        (
            json!({ "ttl": { "ceiling": "1s", "negative": { "404": "2s" } } }),
            "ttl.negative.404: 2s",
        ),
        (
            json!({ "stale": { "if_error": "100years" } }),
            "stale.if_error: 31",
        ),
        (json!({ "targets": ["a b"] }), "a b"),
        (json!({ "ttl": { "fixd": "1s" } }), "fixd"),
        (json!({ "time_to_live": {} }), "time_to_live"),
    ] {
        let error = settings(wrong.clone()).expect_err(expected);
        assert!(error.contains(expected), "{wrong}: {error}");
    }
}

#[test]
fn lists_of_names_are_bounded() {
    let many = |count: usize| (0..count).map(|n| format!("n{n}")).collect::<Vec<_>>();
    for (wrong, expected) in [
        (
            json!({ "query": { "keep": many(65) } }),
            "query.keep: 65 names",
        ),
        (
            json!({ "query": { "drop": many(65) } }),
            "query.drop: 65 names",
        ),
        (json!({ "headers": many(17) }), "headers: 17 names"),
        (json!({ "cookies": many(17) }), "cookies: 17 names"),
    ] {
        let rules: KeyRules = serde_json::from_value(wrong).expect("rules");
        let error = rules.check().expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
    for (wrong, expected) in [
        (json!({ "query": many(65) }), "query: 65 names"),
        (json!({ "headers": many(65) }), "headers: 65 names"),
        (json!({ "cookies": many(65) }), "cookies: 65 names"),
    ] {
        let bypass: Bypass = serde_json::from_value(wrong).expect("conditions");
        let error = bypass.check().expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_long_cookie_in_a_key_is_there_as_its_hash() {
    let rules: KeyRules = serde_json::from_value(json!({ "cookies": ["a"] })).expect("rules");
    let target = Target::parse("http://a.example/").expect("a target");
    let key = |last: char| {
        let mut fields = HeaderMap::new();
        let cookie = format!("a={}{last}", "x".repeat(60_000));
        fields.insert("cookie", cookie.parse().expect("a value"));
        rules.key("", &target, &fields, None)
    };
    let (one, two) = (key('1'), key('2'));
    assert_ne!(one, two, "the last of 60,000 bytes counts");
    assert_eq!(one, key('1'));
    assert!(one.len() < 200, "{} bytes", one.len());
    assert_eq!(one.url(), two.url());
    let carried = CacheKey::from_bytes(one.as_bytes()).expect("it survives the wire");
    assert_eq!(carried, one);
    assert!(
        !format!("{one:?}").contains("xxx"),
        "nobody's cookie is in a log"
    );

    // A hash that is cut, or of a kind that nobody makes, is no key.
    let place = one.len() - 4 - 33 - 4;
    let mut cut = one.as_bytes().to_vec();
    cut[place + 3] = 32;
    cut.remove(place + 4 + 32);
    assert!(CacheKey::from_bytes(&cut).is_err());
    let mut other = one.as_bytes().to_vec();
    assert_eq!(other[place + 4], 1, "a hash");
    other[place + 4] = 2;
    assert!(CacheKey::from_bytes(&other).is_err());
}
