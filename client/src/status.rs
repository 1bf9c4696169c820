//! What koorde did for a response: an extension of it, and the reader of Cache-Status (RFC 9211).

use http::{HeaderMap, HeaderName, StatusCode};

static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What koorde did for a response: in its extensions, unless koorde had no part in it.
///
/// ```
/// use koorde_client::{CacheResult, CacheStatus};
///
/// # let response = http::Response::new(());
/// match response.extensions().get::<CacheStatus>() {
///     Some(status) if status.result == CacheResult::Hit => println!("from the cluster's store"),
///     Some(status) => println!("{:?}", status.result),
///     None => println!("past koorde"),
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStatus {
    /// How the response came about.
    pub result: CacheResult,
    /// Whether it waited for a request that another had made.
    pub collapsed: bool,
    /// Whether it was stored.
    pub stored: bool,
    /// Seconds for which it is fresh; negative: for which it is stale.
    pub ttl: Option<i64>,
    /// More, in koorde's words or, for [`CacheResult::FailOpen`], ours.
    pub detail: Option<String>,
}

/// How a response came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheResult {
    /// Stored, and fresh.
    Hit,
    /// Stored, and used although stale.
    Stale,
    /// Stored, and validated by the origin.
    Validated,
    /// The origin sent it.
    Miss,
    /// The origin sent it, and koorde was told not to look for it.
    Bypass,
    /// The inner service was asked directly because koorde could not be used.
    FailOpen,
    /// Nothing is stored, and the request said `only-if-cached`.
    NotStored,
}

impl CacheStatus {
    pub(crate) fn new(result: CacheResult, detail: Option<&str>) -> Self {
        Self {
            result,
            collapsed: false,
            stored: false,
            ttl: None,
            detail: detail.map(str::to_owned),
        }
    }
}

/// What the answer of what should be the sidecar says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A response of the cache's or the origin's.
    Answer(CacheStatus),
    /// koorde's own failure, by its word.
    Failure(String),
}

/// The newest member of koorde's in Cache-Status; none if this did not come from koorde.
pub(crate) fn read(fields: &HeaderMap) -> Option<Said> {
    let values = fields.get_all(&CACHE_STATUS).into_iter();
    let last = values.filter_map(|value| value.to_str().ok()).next_back()?;
    last_member(last)
}

/// Whether this is koorde's own answer to a PURGE. One that only came through koorde, or from a server
/// that knows the method, has purged nothing of the cluster's.
pub(crate) fn is_purged(status: StatusCode, fields: &HeaderMap) -> bool {
    let said = read(fields);
    status.is_success() && matches!(said, Some(Said::Failure(word)) if word == "purged")
}

/// The same of one member alone: why koorde leaves a request to the app.
#[cfg(feature = "look-aside")]
pub(crate) fn of_member(text: &str) -> Option<CacheStatus> {
    match last_member(text)? {
        Said::Answer(status) => Some(status),
        Said::Failure(word) => Some(CacheStatus::new(CacheResult::Bypass, Some(&word))),
    }
}

fn last_member(value: &str) -> Option<Said> {
    let member = split(value, ',')
        .into_iter()
        .rfind(|member| !member.trim().is_empty())?;
    let mut parts = split(member, ';').into_iter();
    if parts.next()?.trim() != "koorde" {
        return None;
    }
    Some(said(parts))
}

fn said<'a>(parameters: impl Iterator<Item = &'a str>) -> Said {
    let mut status = CacheStatus::new(CacheResult::Miss, None);
    let (mut is_hit, mut forward, mut fwd_status) = (false, None, None);
    for parameter in parameters {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim();
        match name.trim() {
            "hit" => is_hit = value != "?0",
            "fwd" => forward = Some(value),
            "fwd-status" => fwd_status = Some(value),
            "ttl" => status.ttl = value.parse().ok(),
            "collapsed" => status.collapsed = value != "?0",
            "stored" => status.stored = value != "?0",
            "detail" => status.detail = Some(bare(value)),
            _ => {}
        }
    }
    status.result = match (is_hit, forward) {
        (true, _) if status.ttl.is_some_and(|ttl| ttl < 0) => CacheResult::Stale,
        (true, _) => CacheResult::Hit,
        (false, Some("bypass" | "method")) => CacheResult::Bypass,
        (false, Some("stale")) if fwd_status == Some("304") => CacheResult::Validated,
        // It stands in for an error, or for no response at all.
        (false, Some("stale"))
            if status.ttl.is_some_and(|ttl| ttl < 0)
                && fwd_status.is_none_or(|status| status.starts_with('5')) =>
        {
            CacheResult::Stale
        }
        (false, Some(_)) => CacheResult::Miss,
        (false, None) => return Said::Failure(status.detail.unwrap_or_default()),
    };
    Said::Answer(status)
}

/// Splits at `separator`, but not inside quotes (RFC 8941 §3.3.3).
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let is_border = |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => return c == separator && !quoted,
        }
        false
    };
    text.split(is_border).collect()
}

/// A token as it is, a string without quotes and escapes.
fn bare(item: &str) -> String {
    let inner = item
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let Some(inner) = inner else {
        return item.to_owned();
    };
    let mut escaped = false;
    let keep = |c: &char| {
        escaped = *c == '\\' && !escaped;
        !escaped
    };
    inner.chars().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&str]) -> Option<Said> {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(&CACHE_STATUS, value.parse().unwrap());
        }
        read(&fields)
    }

    #[test]
    fn the_last_member_tells_what_was_done() {
        for (values, result, collapsed, ttl) in [
            (
                &["koorde; hit; ttl=57"][..],
                CacheResult::Hit,
                false,
                Some(57),
            ),
            (
                &["koorde; hit; ttl=-3"],
                CacheResult::Stale,
                false,
                Some(-3),
            ),
            (
                &[
                    "koorde; fwd=uri-miss; fwd-status=200; ttl=60; stored",
                    "koorde; fwd=uri-miss; collapsed",
                ],
                CacheResult::Miss,
                true,
                None,
            ),
            (
                &["koorde; fwd=stale; fwd-status=304; ttl=9"],
                CacheResult::Validated,
                false,
                Some(9),
            ),
            (
                &["koorde; fwd=stale; fwd-status=503; ttl=-2"],
                CacheResult::Stale,
                false,
                Some(-2),
            ),
            (
                &["koorde; fwd=stale; ttl=-2"],
                CacheResult::Stale,
                false,
                Some(-2),
            ),
            (
                &["koorde; fwd=stale; fwd-status=200; ttl=-2"],
                CacheResult::Miss,
                false,
                Some(-2),
            ),
            (&["koorde; fwd=bypass"], CacheResult::Bypass, false, None),
            (
                &["cdn; fwd=miss, koorde; hit;detail=\"a;,b\""],
                CacheResult::Hit,
                false,
                None,
            ),
        ] {
            let Some(Said::Answer(status)) = parse(values) else {
                panic!("{values:?}")
            };
            assert_eq!(
                (status.result, status.collapsed, status.ttl),
                (result, collapsed, ttl)
            );
        }
    }

    #[test]
    fn koordes_own_failure_is_told_from_an_answer() {
        for word in ["origin", "overloaded", "stopping", "denied", "not-stored"] {
            let said = parse(&[&format!("koorde; detail={word}")]);
            assert_eq!(said, Some(Said::Failure(word.to_owned())));
        }
    }

    #[test]
    fn what_is_not_from_koorde_says_nothing() {
        for values in [
            &[][..],
            &[""],
            &["cdn; hit"],
            &["koorde; hit", "cdn; fwd=miss"],
            &["\"koorde"],
        ] {
            assert_eq!(parse(values), None, "{values:?}");
        }
    }

    #[test]
    fn a_quoted_detail_loses_its_quotes_and_escapes() {
        let Some(Said::Answer(status)) = parse(&[r#"koorde; hit; detail="a \"b\"; c\\""#]) else {
            panic!("an answer")
        };
        assert_eq!(status.detail.as_deref(), Some(r#"a "b"; c\"#));
    }
}
