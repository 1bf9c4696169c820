//! What an origin sends and what is made of it: stored, aged, reused, validated, combined.
//!
//! Sections: fields of the request; `status delay resident rules` and fields of the response; fields
//! of a later request; fields of an update (304, 206).

use crate::input::{Input, exchange, now, parts, values};
use http::{HeaderMap, Method, StatusCode, header};
use libkoorde::policy::fields::structured;
use libkoorde::policy::parts::{Source, combine};
use libkoorde::policy::range::{self, MAX_RANGES, Satisfy};
use libkoorde::policy::{
    CacheKey, Forward, Member, Reuse, Settings, StoredHead, Target, cache_status, invalidation,
    precondition, reuse, storing, tags, validation,
};
use std::time::Duration;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let request = input.fields();
    let [status, delay, resident, rules] = input.numbers();
    let (response, later, update) = (input.fields(), input.fields(), input.fields());
    let settings = settings(rules);
    let exchange = exchange(delay);
    invalidate(&response, status);
    let received = parts(status, response.clone());
    let get = Method::GET;
    let Ok(head) = storing::decide(&get, &request, &received, &exchange, &settings) else {
        return;
    };
    if settings.targets.is_empty() {
        assert_may_store(&request, received.status, &response, &head);
    }
    assert_times(&head, &settings, delay, resident);
    assert_size(&head, bytes.len());
    assert_reuse(
        &head,
        &response,
        &later,
        resident.saturating_add(delay),
        &settings,
    );
    assert_ranges(&head, &later);
    assert_validation(&head, &later, &update, delay, &settings);
    assert_combined(&head, &later, &update, delay, &settings);
}

/// The default, and others that an operator may choose.
fn settings(rules: u64) -> Settings {
    let mut settings = Settings::default();
    if rules & 1 > 0 {
        settings.targets = vec![header::CDN_CACHE_CONTROL];
    }
    if rules & 2 > 0 {
        settings.ttl.floor = Some(Duration::from_secs(30));
        settings.ttl.ceiling = Some(Duration::from_secs(3600));
        settings.ttl.negative = [(404, Duration::from_secs(5))].into();
    }
    if rules & 4 > 0 {
        settings.stale.while_revalidate = Some(Duration::from_secs(30));
        settings.stale.if_error = Some(Duration::from_secs(60));
        settings.s_maxage_revalidates = false;
    }
    settings
}

/// Well-spelled directives only: in lower case, without arguments; none if a quote could hide some.
fn directives(fields: &HeaderMap, name: &str) -> Vec<String> {
    let lines = values(fields, name);
    if lines.iter().any(|line| line.contains(&b'"')) {
        return Vec::new();
    }
    let text = lines.join(&b',').to_ascii_lowercase();
    let members = text.split(|&byte| byte == b',');
    members
        .map(|member| {
            String::from_utf8_lossy(member)
                .trim_matches([' ', '\t'])
                .to_owned()
        })
        .collect()
}

fn has(directives: &[String], name: &str) -> bool {
    directives.iter().any(|directive| directive == name)
}

fn contains(fields: &HeaderMap, name: &str, words: &[&str]) -> bool {
    let text = values(fields, name).join(&b',').to_ascii_lowercase();
    let text = String::from_utf8_lossy(&text).into_owned();
    words.iter().any(|word| text.contains(word))
}

/// RFC 9111 §3, as far as it can be told from afar.
fn assert_may_store(
    request: &HeaderMap,
    status: StatusCode,
    response: &HeaderMap,
    head: &StoredHead,
) {
    let said = directives(response, "cache-control");
    assert!(!has(&said, "private"), "private is stored");
    assert!(
        !has(&said, "no-store") || has(&said, "must-understand"),
        "no-store is stored"
    );
    assert!(
        !has(&directives(request, "cache-control"), "no-store"),
        "the request's no-store is stored"
    );
    assert!(
        !status.is_informational() && !matches!(status.as_u16(), 304 | 412 | 416),
        "{status} is stored"
    );
    let shared = ["public", "s-maxage"];
    assert!(
        !request.contains_key("authorization")
            || contains(response, "cache-control", &shared)
            || contains(response, "cache-control", &["must-revalidate"]),
        "a response to Authorization is stored"
    );
    assert!(
        !head.fields.contains_key("set-cookie") || contains(response, "cache-control", &shared),
        "Set-Cookie is stored"
    );
    assert!(
        !has(&directives(response, "vary"), "*"),
        "Vary: * is stored"
    );
    for name in [
        "connection",
        "keep-alive",
        "transfer-encoding",
        "te",
        "upgrade",
        "age",
    ] {
        assert!(!head.fields.contains_key(name), "{name} is stored");
    }
    assert!(head.fields.contains_key("date") && head.refused().is_none());
    assert!(head.selecting.matches(request), "a request selects its own");
}

fn assert_times(head: &StoredHead, settings: &Settings, delay: u64, resident: u64) {
    let longest = Duration::from_secs(1 << 31);
    let lived = Duration::from_secs(400_000_000_000);
    assert!(head.lifetime <= longest.max(lived), "{:?}", head.lifetime);
    assert!(
        settings
            .ttl
            .ceiling
            .is_none_or(|most| head.lifetime <= most)
    );
    let mut last = Duration::ZERO;
    let mut was_stale = false;
    for seconds in [0, delay, delay.saturating_add(resident), u64::MAX] {
        let now = now(seconds).instant;
        let age = head.current_age(now);
        assert!(age >= last && age >= head.initial_age, "{age:?}");
        last = age;
        let (fresh, ttl) = (head.is_fresh(now), head.ttl(now));
        assert_eq!(head.staleness(now).is_none(), fresh);
        assert!(if fresh { ttl >= 0 } else { ttl <= 0 }, "{ttl}");
        assert!(!(was_stale && fresh), "fresh again");
        was_stale = !fresh;
        let field = head.age_field(now);
        let written: u64 = field
            .to_str()
            .ok()
            .and_then(|age| age.parse().ok())
            .expect("digits");
        assert!(written <= 1 << 31 && written <= age.as_secs());
    }
    let mut jittered = head.clone();
    jittered.jitter(resident.wrapping_mul(0x9e37_79b9_7f4a_7c15), 255);
    assert!(jittered.lifetime <= head.lifetime);
    assert_eq!(
        jittered.is_fresh(head.received),
        head.is_fresh(head.received)
    );
}

/// What it weighs is what it takes: no less than its bytes, no more than a few times what was sent.
fn assert_size(head: &StoredHead, sent: usize) {
    let fields = head.fields.iter();
    let bytes: usize = fields
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let weight = head.weight();
    assert!(
        weight >= bytes && weight <= 8192 + 256 * sent,
        "{weight} of {sent}"
    );
    let names: Vec<_> = head.tags.tags().chain(head.tags.groups()).collect();
    assert!(names.len() <= tags::MAX_NAMES);
    assert!(
        names
            .iter()
            .all(|name| (1..=tags::MAX_NAME_LEN).contains(&name.len()))
    );
    for tag in head.tags.tags() {
        assert!(head.tags.has_tag(tag));
    }
}

fn assert_reuse(
    head: &StoredHead,
    response: &HeaderMap,
    later: &HeaderMap,
    seconds: u64,
    settings: &Settings,
) {
    let at = now(seconds).instant;
    let decided = reuse::decide(&Method::GET, later, [head], at);
    let is_served = |reuse| {
        matches!(
            reuse,
            Reuse::Fresh { .. } | Reuse::StaleWhileRevalidate { .. }
        )
    };
    let wants = directives(later, "cache-control");
    let said = directives(response, "cache-control");
    if is_served(decided) {
        assert!(!has(&wants, "no-cache") && !later.contains_key("if-match"));
        assert!(!has(&said, "no-cache") || !settings.targets.is_empty());
        assert!(head.selected_by(later));
        assert!(head.part.is_none() || range::is_within_part(&Method::GET, later, head));
        let revalidates = has(&said, "must-revalidate") || has(&said, "proxy-revalidate");
        if !head.is_fresh(at) && settings.targets.is_empty() {
            assert!(!revalidates, "stale against must-revalidate");
        }
        if decided == (Reuse::Fresh { index: 0 }) && !head.is_fresh(at) {
            assert!(contains(later, "cache-control", &["max-stale"]));
        }
    }
    if decided == Reuse::OnlyIfCached {
        assert!(contains(later, "cache-control", &["only-if-cached"]));
    }
    let post = reuse::decide(&Method::POST, later, [head], at);
    assert_eq!(post, Reuse::Forward(Forward::Method));
    if reuse::may_serve_stale_on_error(later, head, at) {
        assert!(!has(&wants, "no-cache") && !head.directives.no_cache);
    }
    // Another node that is given it decides alike.
    let (mut status, mut fields) = (head.status, head.fields.clone());
    if let Some(part) = head.part {
        status = StatusCode::PARTIAL_CONTENT;
        fields.insert("content-range", part.content_range());
    }
    let carried = head.carried(head.received);
    let copy = StoredHead::from_peer(
        status,
        fields,
        head.selecting.clone(),
        carried,
        head.received,
        settings,
    );
    assert_eq!(copy.part, head.part);
    assert_eq!(copy.tags, head.tags);
    assert_eq!(copy.directives, head.directives);
    assert_eq!(reuse::decide(&Method::GET, later, [&copy], at), decided);
}

fn assert_ranges(head: &StoredHead, later: &HeaderMap) {
    for length in [0, 1, 100, u64::MAX] {
        let (held, complete) = match head.part {
            Some(part) => {
                assert!(part.start < part.end && part.complete.is_none_or(|all| part.end <= all));
                let end = part.end.min(part.start.saturating_add(length));
                ((part.start, end), part.complete)
            }
            None => ((0, length), Some(length)),
        };
        let ranges = match range::decide(&Method::GET, later, head, length) {
            Satisfy::Whole | Satisfy::Unsatisfiable => continue,
            Satisfy::Part { start, end } => vec![(start, end)],
            Satisfy::Parts(all) => all,
        };
        assert!(ranges.len() <= MAX_RANGES);
        for (start, end) in ranges {
            assert!(start < end && held.0 <= start && end <= held.1);
            assert!(complete.is_none_or(|complete| end <= complete));
        }
    }
}

fn assert_validation(
    head: &StoredHead,
    later: &HeaderMap,
    update: &HeaderMap,
    delay: u64,
    settings: &Settings,
) {
    if let Some(fields) = precondition::evaluate(&Method::GET, later, head, now(delay)) {
        assert!(fields.contains_key("age") && !fields.contains_key("content-length"));
        let asks = ["if-none-match", "if-modified-since"];
        assert!(asks.iter().any(|name| later.contains_key(*name)));
    }
    let mut conditional = later.clone();
    let is_conditional = validation::conditional(&mut conditional, head);
    assert_eq!(is_conditional, head.has_validator());
    if is_conditional {
        assert!(!conditional.contains_key("if-range"));
        let keeps_range = conditional.contains_key("range");
        assert!(!keeps_range || head.part.is_some() && head.etag().is_some());
    }
    let exchange = exchange(delay);
    let not_modified = parts(304, update.clone());
    let freshened = validation::freshen(head, &conditional, &not_modified, &exchange, settings);
    if let Some(new) = freshened {
        assert_eq!((new.status, new.part), (head.status, head.part));
        assert_eq!(
            new.fields.get("content-length"),
            head.fields.get("content-length")
        );
        assert!(new.fields.contains_key("date") && !new.fields.contains_key("age"));
        let kept = |fields: &HeaderMap| values(fields, "content-encoding").concat();
        // What a 304 says of the coding is about nothing that is stored.
        assert!(
            new.refused().is_some()
                || kept(&new.fields) == kept(&head.fields)
                || contains(update, "cache-control", &["private", "no-cache"])
                || contains(update, "cdn-cache-control", &["private", "no-cache"])
        );
        assert_size(&new, 1 << 20);
    }
    let _ = validation::head_update(
        head,
        later,
        &parts(200, update.clone()),
        &exchange,
        settings,
    );
}

fn assert_combined(
    head: &StoredHead,
    later: &HeaderMap,
    update: &HeaderMap,
    delay: u64,
    settings: &Settings,
) {
    let partial = parts(206, update.clone());
    let new = storing::decide(&Method::GET, later, &partial, &exchange(delay), settings);
    let Ok(new) = new else { return };
    let Some(combined) = combine(head, &new, settings) else {
        return;
    };
    let (old_part, new_part) = (head.part.expect("a part"), new.part.expect("a part"));
    let mut at = old_part.start.min(new_part.start);
    for piece in &combined.pieces {
        assert!(piece.start == at && piece.end > at, "{:?}", combined.pieces);
        let source = match piece.of {
            Source::Stored => old_part,
            Source::New => new_part,
        };
        assert!(source.contains(piece.start, piece.end));
        at = piece.end;
    }
    assert_eq!(at, old_part.end.max(new_part.end));
    match combined.head.part {
        Some(part) => {
            assert!(part.end == at && !combined.head.fields.contains_key("content-length"))
        }
        None => assert_eq!(
            values(&combined.head.fields, "content-length"),
            [at.to_string().as_bytes()]
        ),
    }
    let etags = [values(&head.fields, "etag"), values(&new.fields, "etag")];
    assert_eq!(etags[0], etags[1], "two representations are combined");
}

fn invalidate(response: &HeaderMap, status: u64) {
    let target = Target::parse("http://example.com/a").expect("a URL");
    let status = parts(status, HeaderMap::new()).status;
    let targets = invalidation::invalidated(&Method::POST, &target, status, response);
    assert!(targets.len() <= 3);
    for other in &targets {
        assert!(other.same_origin(&target));
        let key = CacheKey::new("", other);
        assert_eq!(
            CacheKey::from_bytes(key.as_bytes()).expect("our own key"),
            key
        );
    }
    let groups = invalidation::groups(&Method::POST, status, response);
    assert!(groups.len() <= tags::MAX_NAMES);
    assert!(invalidation::groups(&Method::GET, status, response).is_empty());
    // Whatever an origin is called, our member can be read.
    let name = values(response, "server").concat();
    let mut member = Member::forwarded(String::from_utf8_lossy(&name), Forward::Stale);
    member.detail = groups.first().cloned();
    member.ttl = Some(i64::MIN);
    let mut fields = HeaderMap::new();
    cache_status::append(&mut fields, &member);
    let dictionary = [b"x=", values(&fields, "cache-status").concat().as_slice()].concat();
    assert_eq!(
        structured::dictionary(&dictionary).map(|all| all.len()),
        Some(1)
    );
}
