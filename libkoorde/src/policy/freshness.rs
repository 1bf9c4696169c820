//! How long a response is fresh and how old it arrived, RFC 9111 §4.2.

use super::fields::cache_control::{Directives, ResponseCacheControl};
use super::fields::date::HttpDate;
use super::fields::{age, seconds, targeted};
use super::{Exchange, Settings};
use http::{HeaderMap, HeaderName, StatusCode, header};
use std::time::{Duration, SystemTime};

/// What a response says about its own caching, from whichever field counts.
#[derive(Clone, Debug)]
pub struct Control {
    /// The directives.
    pub directives: Directives,
    /// Fields that must not be kept: `no-cache="…"`, `private="…"`.
    pub unshared: Vec<HeaderName>,
    /// Whether a targeted field (RFC 9213) spoke, so that Expires is ignored too.
    pub targeted: bool,
}

impl Control {
    /// Reads the first valid targeted field, else Cache-Control.
    pub fn read(fields: &HeaderMap, settings: &Settings) -> Self {
        let targeted = targeted::read(fields, &settings.targets);
        let is_targeted = targeted.is_some();
        let control = targeted.unwrap_or_else(|| ResponseCacheControl::read(fields));
        Self {
            directives: control.directives,
            unshared: control.unshared,
            targeted: is_targeted,
        }
    }
}

/// A freshness lifetime, and who chose it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The origin said so: `s-maxage`, `max-age` or Expires.
    Explicit(Duration),
    /// We guess, §4.2.2.
    Heuristic(Duration),
    /// Neither said nor to be guessed: stale from the start.
    Unknown,
}

impl Lifetime {
    /// The lifetime; zero if it is unknown.
    pub fn duration(self) -> Duration {
        match self {
            Lifetime::Explicit(lifetime) | Lifetime::Heuristic(lifetime) => lifetime,
            Lifetime::Unknown => Duration::ZERO,
        }
    }

    /// The same with another duration; what is unknown stays so.
    pub(super) fn map(self, change: impl FnOnce(Duration) -> Duration) -> Self {
        match self {
            Lifetime::Explicit(lifetime) => Lifetime::Explicit(change(lifetime)),
            Lifetime::Heuristic(lifetime) => Lifetime::Heuristic(change(lifetime)),
            Lifetime::Unknown => Lifetime::Unknown,
        }
    }
}

/// What storing has to know about a response's time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Freshness {
    /// The lifetime by the response's own words, §4.2.1.
    pub(super) said: Lifetime,
    /// The lifetime under the operator's rules.
    pub(super) lifetime: Lifetime,
    /// How old it was when it came.
    pub(super) initial_age: Duration,
}

/// Calculates the freshness lifetime, §4.2.1: the first of `s-maxage`, `max-age`,
/// Expires − Date, and a heuristic. `received` stands in for a Date that is
/// missing or no date (RFC 9110 §6.6.1).
pub fn lifetime(
    status: StatusCode,
    fields: &HeaderMap,
    control: &Control,
    received: SystemTime,
    settings: &Settings,
) -> Lifetime {
    let directives = &control.directives;
    if let Some(delta) = directives.s_maxage.or(directives.max_age) {
        return Lifetime::Explicit(seconds(delta));
    }
    let date = date(fields, received).unwrap_or_else(|| received.into());
    if fields.contains_key(header::EXPIRES) && !control.targeted {
        // Two Expires, or one that is no date: "in the past" (§5.3).
        let expires = only(fields, &header::EXPIRES).and_then(|v| HttpDate::parse(v, received));
        let lifetime = expires.map_or(Duration::ZERO, |expires| expires.since(date));
        return Lifetime::Explicit(lifetime);
    }
    heuristic(status, fields, control, date, received, settings)
        .map_or(Lifetime::Unknown, Lifetime::Heuristic)
}

fn heuristic(
    status: StatusCode,
    fields: &HeaderMap,
    control: &Control,
    date: HttpDate,
    received: SystemTime,
    settings: &Settings,
) -> Option<Duration> {
    let rule = settings.heuristic;
    if rule.percent == 0 {
        return None;
    }
    // `public` lets any success be guessed at, but not an error: one bad minute
    // of the origin would stay for a day.
    let error = status.is_client_error() || status.is_server_error();
    let listed = is_heuristically_cacheable(status);
    let guessable = if error {
        listed && rule.errors
    } else {
        listed || control.directives.public
    };
    if !guessable {
        return None;
    }
    let modified = HttpDate::parse(only(fields, &header::LAST_MODIFIED)?, received)?;
    let percent = rule.percent.min(100);
    Some((date.since(modified) * percent / 100).min(rule.max))
}

/// The statuses of RFC 9110 §15.1. A 206 is judged as the 200 that it is a part of.
pub fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// Calculates `corrected_initial_age`, §4.2.3: how old the response was when it
/// came. The larger of what Date and the wall clock say and what Age and the
/// response delay say, so that either may be wrong.
pub fn initial_age(fields: &HeaderMap, exchange: &Exchange) -> Duration {
    let received = exchange.response_received;
    let apparent_age = date(fields, received.wall).map_or(Duration::ZERO, |date| {
        HttpDate::from(received.wall).since(date)
    });
    let response_delay = received
        .instant
        .saturating_duration_since(exchange.request_sent);
    // At most 2^31 s and the age of this process: their sum fits by far.
    let corrected_age_value = age::read(fields).saturating_add(response_delay);
    apparent_age.max(corrected_age_value)
}

/// The Date field, if there is exactly one and it is a date.
fn date(fields: &HeaderMap, received: SystemTime) -> Option<HttpDate> {
    HttpDate::parse(only(fields, &header::DATE)?, received)
}

/// The value of a field that may occur once; `None` if it occurs twice.
fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = fields.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then(|| first.as_bytes())
}
