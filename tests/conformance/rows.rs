//! Runs the tables whose rows map a value to a value.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use libkoorde::policy::fields::date::HttpDate;
use libkoorde::policy::{CacheKey, Forward, Member, Target, invalidation};
use std::error::Error;
use std::time::{Duration, SystemTime};

/// Runs every row through `map`, and fails with all that went wrong.
pub(crate) fn run(file: &str, table: &str, map: fn(&str) -> Result<String, Box<dyn Error>>) {
    let mut wrong = Vec::new();
    let mut rows = 0;
    for (number, row) in table.lines().enumerate() {
        if row.trim().is_empty() || row.starts_with('#') {
            continue;
        }
        let Some((left, right)) = row.split_once(" | ") else {
            panic!("{file}:{}: a row needs a bar", number + 1);
        };
        rows += 1;
        // White space can be part of a value; there it stands between brackets.
        let left = left.trim_end();
        let left = left
            .strip_prefix('[')
            .and_then(|l| l.strip_suffix(']'))
            .unwrap_or(left);
        let got = map(left).unwrap_or_else(|error| format!("error: {error}"));
        if got != right.trim() {
            wrong.push(format!(
                "{file}:{}: {row}\n    but it is: {got}",
                number + 1
            ));
        }
    }
    assert!(rows > 0, "{file} has no rows");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// A value to the date in its preferred form, as read in November 2024.
pub(crate) fn date(value: &str) -> Result<String, Box<dyn Error>> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_732_000_000);
    Ok(match HttpDate::parse(value.as_bytes(), now) {
        Some(date) => date.to_string(),
        None => "no date".to_owned(),
    })
}

/// A URL to its normal form, by way of the key and back.
pub(crate) fn key(url: &str) -> Result<String, Box<dyn Error>> {
    let target = Target::parse(url)?;
    let key = CacheKey::new("a tenant", &target);
    let carried = CacheKey::from_bytes(key.as_bytes())?;
    assert_eq!(carried, key, "a key survives the wire");
    assert_eq!(carried.target(), target, "a key gives its target back");
    assert_eq!(carried.tenant(), "a tenant");
    assert_eq!(
        target.to_string(),
        format!(
            "{}://{}{}",
            target.scheme(),
            target.authority(),
            target.path_and_query()
        ),
        "a target is its parts"
    );
    Ok(format!("{} {} {}", target, target.host(), target.port()))
}

/// `METHOD URL STATUS [name: value]…`, parted by two spaces, to what is invalid after it.
pub(crate) fn invalidation(row: &str) -> Result<String, Box<dyn Error>> {
    let mut parts = row
        .split("  ")
        .map(str::trim)
        .filter(|part| !part.is_empty());
    let mut part = || parts.next().ok_or("too few parts");
    let method: Method = part()?.parse()?;
    let target = Target::parse(part()?)?;
    let status: StatusCode = part()?.parse()?;
    let mut fields = HeaderMap::new();
    for field in parts {
        let (name, value) = field.split_once(": ").ok_or("a field needs a colon")?;
        fields.append(name.parse::<HeaderName>()?, value.parse::<HeaderValue>()?);
    }
    let targets = invalidation::invalidated(&method, &target, status, &fields);
    if targets.is_empty() {
        return Ok("nothing".to_owned());
    }
    Ok(targets
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" "))
}

/// `word=value…`, parted by two spaces, to the member; `upstream` is there already.
pub(crate) fn cache_status(row: &str) -> Result<String, Box<dyn Error>> {
    let mut member = Member::hit("koorde", 0);
    member.ttl = None;
    let mut fields = HeaderMap::new();
    for part in row
        .split("  ")
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (word, value) = part.split_once('=').unwrap_or((part, ""));
        match word {
            "name" => member.name = value.to_owned(),
            "hit" => {}
            "fwd" => member.forward = Some(forward(value)?),
            "status" => member.fwd_status = Some(value.parse()?),
            "ttl" => member.ttl = Some(value.parse()?),
            "stored" => member.stored = true,
            "collapsed" => member.collapsed = true,
            "key" => member.key = Some(value.to_owned()),
            "detail" => member.detail = Some(value.to_owned()),
            "upstream" => {
                fields.append("cache-status", value.parse()?);
            }
            _ => return Err(format!("no such word: {word}").into()),
        }
    }
    libkoorde::policy::cache_status::append(&mut fields, &member);
    let lines = fields.get_all("cache-status");
    let lines: Result<Vec<_>, _> = lines.iter().map(HeaderValue::to_str).collect();
    Ok(lines?.join(", "))
}

fn forward(token: &str) -> Result<Forward, String> {
    [
        Forward::Bypass,
        Forward::Method,
        Forward::UriMiss,
        Forward::VaryMiss,
        Forward::Miss,
        Forward::Request,
        Forward::Stale,
        Forward::Partial,
    ]
    .into_iter()
    .find(|forward| forward.as_str() == token)
    .ok_or_else(|| format!("no such reason: {token}"))
}
