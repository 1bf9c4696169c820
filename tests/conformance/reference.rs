//! A second reading of RFC 9111: when a stored response must not be served.
//!
//! It is written for being checked by eye, not for speed, and shares no code with
//! the decisions: it looks at texts, in whole seconds, and understands only the
//! well-spelled directives that [`super::properties`] generates. Where it is
//! stricter than the RFC it says so. On what it generates the two have to agree in
//! both directions.

/// One field line: a name in lower case and its value.
pub(crate) type Line = (&'static str, String);

/// An exchange that may have been stored, and a request that comes later.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// The fields of the request whose response was stored.
    pub(crate) first: Vec<Line>,
    /// The response: status and fields.
    pub(crate) status: u16,
    pub(crate) response: Vec<Line>,
    /// How old the response's Date was when it came, in seconds; none: no Date.
    pub(crate) date_age: Option<u64>,
    /// How long the response took, and how long ago it came, in seconds.
    pub(crate) delay: u64,
    pub(crate) resident: u64,
    /// The later request.
    pub(crate) second: Vec<Line>,
}

/// Why nothing stored may answer the second request without asking the origin.
pub(crate) fn forbids(case: &Case) -> Option<&'static str> {
    let response = directives(&case.response);
    let wants = directives(&case.second);
    forbids_storing(case, &response).or_else(|| {
        if has(&response, "no-cache") {
            return Some("no-cache of the response");
        }
        if has(&wants, "no-cache") {
            return Some("no-cache of the request");
        }
        let pragma = values(&case.second, "pragma").any(|v| v.eq_ignore_ascii_case("no-cache"));
        if pragma && values(&case.second, "cache-control").next().is_none() {
            return Some("pragma of the request");
        }
        for line in values(&case.response, "vary") {
            for name in line.split(',').map(|name| name.trim().to_ascii_lowercase()) {
                let of = |lines| values(lines, &name).collect::<Vec<_>>();
                if of(&case.first) != of(&case.second) {
                    return Some("vary");
                }
            }
        }
        forbids_part(case).or_else(|| forbids_time(case, &response, &wants))
    })
}

/// RFC 9111 §3, for a shared cache, and the default for Set-Cookie.
fn forbids_storing(case: &Case, response: &[String]) -> Option<&'static str> {
    let shared = has(response, "public") || number(response, "s-maxage").is_some();
    let first = directives(&case.first);
    if matches!(case.status, 100..=199 | 304) {
        Some("status")
    } else if case.status == 206 && (enclosed(case).is_none() || asked(&case.first).is_none()) {
        Some("a 206 that cannot be understood, or that nobody asked for")
    } else if has(response, "no-store") || has(&first, "no-store") {
        Some("no-store")
    } else if has(response, "private") {
        Some("private")
    } else if values(&case.first, "authorization").next().is_some()
        && !shared
        && !has(response, "must-revalidate")
    {
        Some("authorization")
    } else if values(&case.response, "set-cookie").next().is_some() && !shared {
        Some("set-cookie")
    } else if values(&case.response, "vary").any(|line| line.contains('*')) {
        Some("vary: *")
    } else {
        None
    }
}

/// RFC 9111 §3.3: of a part, only what is wholly within it.
fn forbids_part(case: &Case) -> Option<&'static str> {
    let (first, last, complete) = enclosed(case).filter(|_| case.status == 206)?;
    if first == 0 && complete == Some(last + 1) {
        return None;
    }
    let Some(ranges) = asked(&case.second) else {
        return Some("the whole is asked for");
    };
    let etag = values(&case.response, "etag").next();
    if values(&case.second, "if-range").any(|tag| Some(tag) != etag) {
        return Some("if-range, so that the whole is asked for");
    }
    // Stricter than the RFC: several parts of what has no length are not sent.
    if complete.is_none() && ranges.len() > 1 {
        return Some("several ranges, and the length is not known");
    }
    let mut satisfiable = 0;
    for (from, to) in ranges {
        let (from, to) = match (from, to, complete) {
            (Some(from), Some(to), None) => (from, to),
            (_, _, None) => return Some("it depends on the length, which is not known"),
            (Some(from), to, Some(n)) => (from, to.unwrap_or(n).min(n - 1)),
            (None, suffix, Some(n)) => (n - suffix.unwrap_or(0).min(n), n - 1),
        };
        if complete.is_some_and(|n| from >= n) {
            continue;
        }
        satisfiable += 1;
        if from < first || to > last {
            return Some("not wholly within the part");
        }
    }
    (satisfiable == 0).then_some("no range of it can be satisfied")
}

/// First byte, last byte and complete length of a 206.
fn enclosed(case: &Case) -> Option<(u64, u64, Option<u64>)> {
    let mut lines = values(&case.response, "content-range");
    let (range, complete) = lines.next()?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (lines.next().is_none() && first <= last).then_some((first, last, complete.parse().ok()))
}

/// First and last position of each range asked for, as they are written.
fn asked(lines: &[Line]) -> Option<Vec<(Option<u64>, Option<u64>)>> {
    let set = values(lines, "range").next()?.strip_prefix("bytes=")?;
    let range = |range: &str| {
        let (first, last) = range.trim().split_once('-')?;
        let (first, last) = (first.parse().ok(), last.parse().ok());
        (first.is_none() || last.is_none() || first <= last).then_some((first, last))
    };
    set.split(',').map(range).collect()
}

/// RFC 9111 §4.2 and §5.2.1, RFC 5861 §3.
fn forbids_time(case: &Case, response: &[String], wants: &[String]) -> Option<&'static str> {
    let age_value: u64 = values(&case.response, "age")
        .next()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0);
    let age = case.date_age.unwrap_or(0).max(age_value + case.delay) + case.resident;
    // Without explicit freshness a tenth of the age is guessed; the generated
    // Last-Modified is a day before the wall clock. Two of them are no date.
    let modified = values(&case.response, "last-modified").count() == 1;
    let day = 86_400 - case.date_age.unwrap_or(0);
    let guess = if modified { day as f64 / 10.0 } else { 0.0 };
    let lifetime = number(response, "s-maxage")
        .or(number(response, "max-age"))
        .map_or(guess, |seconds| seconds as f64);
    let age = age as f64;

    // Stricter than the RFC: max-age=0 is a wish to validate, however young it is.
    if number(wants, "max-age").is_some_and(|most| most == 0 || age > most as f64) {
        return Some("max-age of the request");
    }
    let lasts = |least: &str| {
        least
            .parse()
            .is_ok_and(|least: f64| lifetime >= age + least)
    };
    let mut min_fresh = wants.iter().filter_map(|d| d.strip_prefix("min-fresh="));
    if !min_fresh.all(lasts) {
        return Some("min-fresh of the request");
    }
    if lifetime > age {
        return None;
    }
    let stale_for = age - lifetime;
    let takes_stale = wants.iter().any(|d| d.starts_with("max-stale"));
    if number(wants, "max-age").is_some() && !takes_stale {
        return Some("stale, and max-age of the request without max-stale");
    }
    let prohibited = ["must-revalidate", "proxy-revalidate"];
    if prohibited.iter().any(|name| has(response, name)) || number(response, "s-maxage").is_some() {
        return Some("the response must not be served stale");
    }
    let window = number(response, "stale-while-revalidate").unwrap_or(0);
    let any = wants.iter().any(|d| d == "max-stale");
    let accepted = number(wants, "max-stale")
        .or(any.then_some(u64::MAX))
        .unwrap_or(0);
    (stale_for > window.max(accepted) as f64 || window.max(accepted) == 0).then_some("stale")
}

/// All directives of Cache-Control, in lower case. No generated value has commas.
fn directives(lines: &[Line]) -> Vec<String> {
    values(lines, "cache-control")
        .flat_map(|line| line.split(',').map(|d| d.trim().to_ascii_lowercase()))
        .collect()
}

fn values<'a>(lines: &'a [Line], name: &str) -> impl Iterator<Item = &'a str> {
    lines
        .iter()
        .filter(move |line| line.0 == name)
        .map(|line| line.1.as_str())
}

fn has(directives: &[String], name: &str) -> bool {
    directives.iter().any(|directive| directive == name)
}

/// The least number given to this directive; what is no number counts as zero.
fn number(directives: &[String], name: &str) -> Option<u64> {
    directives
        .iter()
        .filter_map(|directive| directive.split_once('='))
        .filter(|(known, _)| *known == name)
        .map(|(_, value)| value.parse().unwrap_or(0))
        .min()
}
