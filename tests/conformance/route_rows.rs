//! Runs the tables of what a route may be told: keys, bypass, tags, forwarding.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use libkoorde::policy::{
    Bypass, CacheKey, Hop, KeyRules, NotForwarded, Tags, Target, encoding, forwarding, invalidation,
};
use std::error::Error;
use std::time::{Duration, SystemTime};

type Outcome = Result<String, Box<dyn Error>>;

/// The parts of a row, which two spaces divide.
fn parts(row: &str) -> impl Iterator<Item = &str> {
    row.split("  ")
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

/// `name: value` each.
fn fields<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<HeaderMap, Box<dyn Error>> {
    let mut fields = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a field needs a colon")?;
        fields.append(
            name.parse::<HeaderName>()?,
            value.trim().parse::<HeaderValue>()?,
        );
    }
    Ok(fields)
}

/// All lines, ordered by name, parted by two spaces.
fn written(fields: &HeaderMap) -> String {
    let mut lines: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    // Stable, and lines of one name come in their order.
    lines.sort_by(|a, b| a.split(':').next().cmp(&b.split(':').next()));
    lines.join("  ")
}

/// Rules and a request to the path and query of its key; or two requests, with `<>`
/// between them, to whether they have one key.
pub(crate) fn key_rules(row: &str) -> Outcome {
    let (rules, requests) = row.split_once("  ").ok_or("rules, then a request")?;
    let rules: KeyRules = serde_json::from_str(rules)?;
    rules.check()?;
    let key = |request: &str| -> Result<CacheKey, Box<dyn Error>> {
        let mut parts = parts(request);
        let target = Target::parse(parts.next().ok_or("which URL?")?)?;
        let fields = fields(parts)?;
        let key = rules.key("a tenant", &target, &fields, None);
        let slice = rules.key("a tenant", &target, &fields, Some(7));
        let tenants = rules.key("b tenant", &target, &fields, None);
        assert!(key != slice && key != tenants && slice.slice() == Some(7));
        for key in [&key, &slice, &tenants] {
            assert_eq!(
                CacheKey::from_bytes(key.as_bytes())?,
                *key,
                "survives the wire"
            );
            assert!(
                key.is_of(None, &rules.url(&target)),
                "a purge of the URL finds it"
            );
        }
        assert!(!tenants.is_of(Some("a tenant"), &rules.url(&target)));
        Ok(key)
    };
    let Some((one, two)) = requests.split_once(" <> ") else {
        return Ok(key(requests)?.path_and_query().to_owned());
    };
    let (one, two) = (key(one)?, key(two)?);
    let same = |same: bool| if same { "same" } else { "other" };
    Ok(format!(
        "{} key, {} url",
        same(one == two),
        same(one.url() == two.url())
    ))
}

/// Conditions and a request to whether they apply.
pub(crate) fn bypass(row: &str) -> Outcome {
    let (conditions, request) = row.split_once("  ").ok_or("conditions, then a request")?;
    let bypass: Bypass = serde_json::from_str(conditions)?;
    bypass.check()?;
    let mut parts = parts(request);
    let target = Target::parse(parts.next().ok_or("which URL?")?)?;
    let applies = bypass.applies(&target, &fields(parts)?);
    Ok(if applies { "past" } else { "cached" }.to_owned())
}

/// Response fields to names; or, with method and status first, to the groups that
/// they make invalid.
pub(crate) fn tags(row: &str) -> Outcome {
    let (first, rest) = row.split_once("  ").unwrap_or((row, ""));
    if let Some((method, status)) = first.split_once(' ').filter(|_| !first.contains(':')) {
        let (method, status): (Method, StatusCode) = (method.parse()?, status.parse()?);
        let groups = invalidation::groups(&method, status, &fields(parts(rest))?);
        return Ok(match groups.len() {
            0 => "nothing".to_owned(),
            _ => groups.join(", "),
        });
    }
    let tags = Tags::read(&fields(parts(row))?);
    let mut words = Vec::new();
    words.extend(tags.tags().map(|tag| format!("tag {tag}")));
    words.extend(tags.groups().map(|group| format!("group {group}")));
    words.extend(tags.truncated().then(|| "and more".to_owned()));
    assert_eq!(words.is_empty(), tags.is_empty());
    assert!(tags.tags().all(|tag| tags.has_tag(tag)));
    assert!(tags.groups().all(|group| tags.has_group(group)));
    assert_eq!(tags.has_tag("no such tag"), tags.truncated());
    Ok(match words.len() {
        0 => "nothing".to_owned(),
        _ => words.join(", "),
    })
}

/// The lines of Accept-Encoding, parted by ` + `, to the one that is sent.
pub(crate) fn encoding(row: &str) -> Outcome {
    let mut fields = HeaderMap::new();
    for line in row.split(" + ").filter(|_| row != "none") {
        fields.append("accept-encoding", line.parse()?);
    }
    encoding::normalise_accept_encoding(&mut fields);
    let once = fields.clone();
    encoding::normalise_accept_encoding(&mut fields);
    assert_eq!(fields, once, "what is normal stays");
    let lines: Vec<_> = fields.get_all("accept-encoding").iter().collect();
    Ok(match &lines[..] {
        [] => "none".to_owned(),
        [line] => line.to_str()?.to_owned(),
        lines => format!("{} lines", lines.len()),
    })
}

/// What is done, then fields, to the fields after it.
pub(crate) fn forwarding(row: &str) -> Outcome {
    let (what, rest) = row.split_once("  ").unwrap_or((row, ""));
    let mut fields = fields(parts(rest))?;
    let hop = Hop::new("koorde", "blue")?;
    let words: Vec<&str> = what.split(' ').collect();
    match words[..] {
        ["request", method, received, next] => {
            let next = version(next);
            let received = version(received).ok_or("no such version")?;
            let method: Method = method.parse()?;
            let before = fields.clone();
            match forwarding::request(&method, &mut fields, &hop, received, next) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(fields, before, "what is not forwarded stays as it is");
                    return Ok(match error {
                        NotForwarded::Loop => "a loop".to_owned(),
                        NotForwarded::MaxForwards => "for us".to_owned(),
                    });
                }
            }
        }
        ["response", received] => {
            let received = version(received).ok_or("no such version")?;
            forwarding::response(&mut fields, &hop, received);
        }
        ["unkeyed", method] => {
            let keyed = [HeaderName::from_static("x-forwarded-host")];
            forwarding::strip_unkeyed(&method.parse()?, &mut fields, &keyed);
        }
        ["retry-after"] => {
            // Sun, 06 Nov 1994 08:49:37 GMT
            let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
            let wait = forwarding::retry_after(&fields, wall);
            return Ok(wait.map_or("nothing".to_owned(), |wait| format!("{}s", wait.as_secs())));
        }
        _ => return Err(format!("no such words: {what}").into()),
    }
    Ok(match fields.is_empty() {
        true => "nothing".to_owned(),
        false => written(&fields),
    })
}

fn version(word: &str) -> Option<Version> {
    match word {
        "1.0" => Some(Version::HTTP_10),
        "1.1" => Some(Version::HTTP_11),
        "2" => Some(Version::HTTP_2),
        "3" => Some(Version::HTTP_3),
        _ => None,
    }
}
