//! What a client asks for: its URL, the cache key that rules make of it, what is forwarded, and the
//! door that it comes to.
//!
//! Sections: `URL`, `reference`, `method version slice`, words for rules, each on a line; the fields.
//! All of it together is also read as the bytes of a key.

use crate::input::{Input, text, values};
use http::{HeaderMap, HeaderName, Method, Request, Version};
use koorde_sidecar::http::{ListenerName, fuzzing};
use libkoorde::Gateway;
use libkoorde::config::{Config, RouteConfig, UpstreamConfig};
use libkoorde::policy::target::MAX_TARGET_LEN;
use libkoorde::policy::{
    Bypass, CacheKey, Hop, KeyRules, NotForwarded, QueryRule, Target, encoding, forwarding, key,
};
use std::sync::OnceLock;
use std::time::SystemTime;

pub fn run(bytes: &[u8]) {
    if let Ok(key) = CacheKey::from_bytes(bytes) {
        assert_eq!(key.as_bytes(), bytes, "one key, one spelling");
        let target = key.target();
        assert_normal(&target);
        assert!(key.is_of(Some(key.tenant()), key.url()) && format!("{key:?}").len() > 10);
    }
    let mut input = Input::new(bytes);
    let (url, reference) = (text(input.line()), text(input.line()));
    let (line, words) = (text(input.line()), text(input.line()));
    let fields = input.fields();
    if let Ok(target) = Target::parse(url) {
        assert_normal(&target);
        if let Ok(other) = target.join(reference) {
            assert_normal(&other);
            assert_eq!(other.same_origin(&target), target.same_origin(&other));
        }
        assert_keys(&target, &fields, words);
    }
    cache_url(url);
    forward(&fields, line);
    accept_encoding(&fields);
    door(url, line, &fields);
}

/// What is parsed is parsed once and for all, and can be sent as it is.
fn assert_normal(target: &Target) {
    let text = target.to_string();
    let again = Target::parse(&text).expect("a target is a URL");
    assert_eq!(again, *target, "parsed twice");
    assert_eq!(target.uri().to_string(), text);
    assert!(text.len() <= MAX_TARGET_LEN);
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains('#'));
    assert!(matches!(target.scheme(), "http" | "https"));
    assert!(!target.host().is_empty() && !target.authority().contains(['@', '/', '?']));
    assert!(target.path_and_query().starts_with('/'));
    assert_eq!(target.uri().host(), Some(target.host()));
    let path = target
        .path_and_query()
        .split('?')
        .next()
        .unwrap_or_default();
    assert!(
        path.split('/')
            .all(|segment| segment != ".." && segment != ".")
    );
}

fn assert_keys(target: &Target, fields: &HeaderMap, words: &str) {
    let mut words = words.split(' ').map(str::to_owned);
    let rule = words.next().unwrap_or_default();
    let names: Vec<String> = words.take(8).collect();
    let query = match rule.as_str() {
        "none" => QueryRule::None,
        "keep" => QueryRule::Keep(names.clone()),
        "drop" => QueryRule::Drop(names.clone()),
        _ => QueryRule::All,
    };
    let rules = KeyRules {
        query,
        sort_query: names.len() % 2 == 1,
        headers: names
            .iter()
            .filter_map(|name| HeaderName::try_from(name).ok())
            .collect(),
        cookies: names.clone(),
    };
    let slice = (names.len() > 3).then_some(u64::MAX);
    let made = rules.key("tenant", target, fields, slice);
    let read = CacheKey::from_bytes(made.as_bytes()).expect("our own key");
    assert_eq!(read, made);
    assert_eq!((made.slice(), made.tenant()), (slice, "tenant"));
    assert!(made.is_of(Some("tenant"), &rules.url(target)) && !made.is_of(Some("t"), made.url()));
    assert!(made.len() <= 100 + target.to_string().len() + key::MAX_EXTRA_LEN);
    let of_rules = made.target();
    assert_normal(&of_rules);
    assert!(of_rules.same_origin(target));
    if rules == KeyRules::default() {
        assert_eq!(of_rules, *target);
    }
    let bypass = Bypass {
        query: names.clone(),
        cookies: names.clone(),
        ..Bypass::default()
    };
    let applies = bypass.applies(target, fields);
    let query = target
        .path_and_query()
        .split_once('?')
        .map_or("", |(_, query)| query);
    let is_named = query.split(['&', ';']).any(|one| {
        let name = one.split('=').next().unwrap_or_default();
        let is_it = |known: &String| !known.contains('*') && known == name;
        !name.is_empty() && names.iter().any(is_it)
    });
    let is_plain = !query.contains(['%', '+']);
    assert!(
        applies || !is_named || !is_plain,
        "{names:?} of {query:?} go past the cache"
    );
    for checked in [rules.check(), bypass.check()] {
        assert!(
            checked
                .err()
                .is_none_or(|error| error.contains(": ") && !error.contains('\n'))
        );
    }
}

/// `/cache?url=` by a second reading: one parameter of that name, percent-decoded once.
fn cache_url(query: &str) {
    let parameters: Vec<&str> = query.split('&').filter(|one| !one.is_empty()).collect();
    let expected = match parameters[..] {
        [one] => one
            .strip_prefix("url=")
            .filter(|value| !value.is_empty())
            .and_then(decoded),
        _ => None,
    };
    assert_eq!(fuzzing::cache_url(query).ok(), expected, "{query:?}");
}

fn decoded(value: &str) -> Option<String> {
    let mut parts = value.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.as_bytes().split_at_checked(2)?;
        let hex = digits.iter().all(u8::is_ascii_hexdigit);
        let digits = std::str::from_utf8(digits).ok().filter(|_| hex)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest);
    }
    String::from_utf8(bytes).ok()
}

fn method(line: &str) -> (Method, Version) {
    let mut words = line.split(' ');
    let method = words
        .next()
        .and_then(|word| Method::from_bytes(word.as_bytes()).ok());
    let version = match words.next() {
        Some("1.0") => Version::HTTP_10,
        Some("2") => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    (method.unwrap_or(Method::GET), version)
}

fn forward(fields: &HeaderMap, line: &str) {
    let hop = Hop::new("koorde", "blue").expect("two tokens");
    let (method, version) = method(line);
    let mut passed = fields.clone();
    let once = forwarding::request(&method, &mut passed, &hop, version, Some(Version::HTTP_11));
    match once {
        Err(_) => assert_eq!(passed, *fields, "refused, and as it was"),
        Ok(()) => {
            for name in [
                "transfer-encoding",
                "keep-alive",
                "upgrade",
                "proxy-authorization",
                "proxy",
            ] {
                assert!(!passed.contains_key(name), "{name} is forwarded");
            }
            let mut again = passed.clone();
            let twice = forwarding::request(&method, &mut again, &hop, version, None);
            assert_eq!(twice, Err(NotForwarded::Loop));
        }
    }
    let mut unkeyed = fields.clone();
    forwarding::strip_unkeyed(&Method::GET, &mut unkeyed, &[]);
    assert!(!unkeyed.contains_key("x-forwarded-host"));
    if let Some(wait) = forwarding::retry_after(fields, SystemTime::UNIX_EPOCH) {
        assert!(wait <= forwarding::MAX_RETRY_AFTER);
    }
    let mut sent = fields.clone();
    forwarding::response(&mut sent, &hop, version);
    assert!(!sent.contains_key("connection") && sent.contains_key("via"));
}

fn accept_encoding(fields: &HeaderMap) {
    let mut once = fields.clone();
    encoding::normalise_accept_encoding(&mut once);
    let mut twice = once.clone();
    encoding::normalise_accept_encoding(&mut twice);
    assert_eq!(once, twice, "one spelling");
    let lines = values(&once, "accept-encoding");
    assert_eq!(
        lines.len(),
        usize::from(fields.contains_key("accept-encoding"))
    );
    assert!(lines.concat().len() <= 64);
}

/// Two upstreams: one by host, one by path.
fn gateway() -> &'static Gateway {
    static GATEWAY: OnceLock<Gateway> = OnceLock::new();
    GATEWAY.get_or_init(|| {
        let mut config = Config::default();
        let upstream = UpstreamConfig {
            servers: vec!["http://10.0.0.1:8000".to_owned()],
            ..UpstreamConfig::default()
        };
        config.upstreams.insert("api".to_owned(), upstream);
        let route = |host: Option<&str>, prefix: &str| RouteConfig {
            host: host.map(str::to_owned),
            prefix: prefix.to_owned(),
            upstream: Some("api".to_owned()),
            ..RouteConfig::default()
        };
        config.routes = vec![route(Some("api.example"), "/v1"), route(None, "/files")];
        Gateway::new(&config).expect("routes that can be used")
    })
}

fn door(asked: &str, line: &str, fields: &HeaderMap) {
    let (method, version) = method(line);
    let request = Request::builder()
        .method(&method)
        .version(version)
        .uri(asked)
        .body(());
    let Ok(request) = request else { return };
    let (mut head, ()) = request.into_parts();
    head.headers = fields.clone();
    let codings = values(fields, "transfer-encoding");
    let is_plain =
        codings.is_empty() || codings.len() == 1 && codings[0].eq_ignore_ascii_case(b"chunked");
    let is_one_host = values(fields, "host").len() <= 1;
    for listener in [ListenerName::Http, ListenerName::Admin] {
        let (label, target, message) = fuzzing::door(&head, gateway(), listener);
        if !is_plain || !is_one_host {
            assert!(
                label == "other" && message.is_some(),
                "{label} in spite of its framing"
            );
        }
        assert!(message.is_none_or(|message| !message.contains(['\n', '\r'])));
        let Some(target) = target else { continue };
        assert_eq!(
            listener,
            ListenerName::Http,
            "the admin listener fetches nothing"
        );
        assert_normal(&target);
        assert_ne!(method, Method::CONNECT);
        match label {
            "forward" => assert!(head.uri.scheme().is_some() && version != Version::HTTP_2),
            "/cache" => assert_eq!(head.uri.path(), "/cache"),
            "path" => assert!(
                head.uri.path().starts_with("/http")
                    || head.uri.path().starts_with("/H")
                    || head.uri.path().to_ascii_lowercase().starts_with("/http")
            ),
            "reverse" => {
                let path = target.path_and_query();
                let host = target.host();
                assert!(
                    host == "api.example" && path.starts_with("/v1")
                        || host == "10.0.0.1" && path.starts_with("/files"),
                    "{target} is none of a route"
                );
            }
            other => panic!("{other} fetches"),
        }
    }
}
