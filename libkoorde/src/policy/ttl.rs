//! Lifetimes and stale windows that the operator chooses for a route.
//!
//! They change how long a response is fresh (RFC 9111 §4.2) and how long it may
//! be served stale (§4.2.4), and nothing else: what says `no-store`, `private`,
//! `no-cache` or `Vary: *`, is not understood, or belongs to one caller
//! (Authorization, Set-Cookie) stays what it is. A lifetime counts from the moment
//! the origin made the response, as every lifetime does: Age and Date still count.

use super::fields::cache_control::Directives;
use super::fields::{MAX_DELTA_SECONDS, seconds};
use super::freshness::Lifetime;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long responses are fresh, against what they say themselves. Durations are
/// text such as "60s" or "1h 30m", at most 2^31 s (RFC 9111 §1.2.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ttl {
    /// The freshness lifetime of every response of a status below 400, whatever it
    /// says or lacks; it counts as explicit. Default: none.
    ///
    /// Errors have their own key, `negative`: one bad minute of the origin
    /// must not stay for a day. What the origin makes for one visitor without saying
    /// so (`private`, Vary, Set-Cookie) is shared for that long: this is for routes
    /// that have no such responses.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub fixed: Option<Duration>,
    /// The shortest lifetime, explicit or guessed, of a status below 400. A response
    /// with neither is not raised. Default: none.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub floor: Option<Duration>,
    /// The longest lifetime, explicit or guessed, of any status. Default: none.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub ceiling: Option<Duration>,
    /// Lifetimes by status, 400 to 999, of responses that say none themselves; they
    /// replace a guess. For example `404 = "5s"`; in YAML the status needs quotes. Default: none, so that an error
    /// without explicit freshness is not stored.
    #[serde(
        deserialize_with = "read_by_status",
        serialize_with = "write_by_status"
    )]
    #[schemars(with = "BTreeMap<String, String>")]
    pub negative: BTreeMap<u16, Duration>,
}

impl Ttl {
    /// Checks bounds and what contradicts what.
    ///
    /// # Errors
    /// Names the key and the value.
    pub fn check(&self) -> Result<(), String> {
        let named = [
            ("fixed", self.fixed),
            ("floor", self.floor),
            ("ceiling", self.ceiling),
        ];
        for (name, value) in named {
            value.map_or(Ok(()), |value| bounded(&format!("ttl.{name}"), value))?;
        }
        if let (Some(floor), Some(ceiling)) = (self.floor, self.ceiling)
            && floor > ceiling
        {
            return Err(format!(
                "ttl.floor: {floor:?} is above ttl.ceiling, {ceiling:?}"
            ));
        }
        if let Some(fixed) = self.fixed
            && self.clamp(fixed, true) != fixed
        {
            return Err(format!(
                "ttl.fixed: {fixed:?} is outside ttl.floor and ttl.ceiling"
            ));
        }
        for (status, value) in &self.negative {
            let name = format!("ttl.negative.{status}");
            if !(400..=999).contains(status) {
                return Err(format!("{name}: must be a status from 400 to 999"));
            }
            bounded(&name, *value)?;
            if self.clamp(*value, false) != *value {
                return Err(format!("{name}: {value:?} is above ttl.ceiling"));
            }
        }
        Ok(())
    }

    /// The lifetime under these rules of a response that says `said` itself.
    ///
    /// `may_lengthen` is false where the origin's own lifetime is what makes it safe
    /// to store at all, as with `s-maxage=0` and Authorization (RFC 9111 §3.5): then
    /// the rules only shorten.
    pub(super) fn apply(&self, status: StatusCode, said: Lifetime, may_lengthen: bool) -> Lifetime {
        let error = status.as_u16() >= 400;
        let ruled = match said {
            Lifetime::Explicit(_) if error => said,
            _ if error => self
                .negative
                .get(&status.as_u16())
                .map_or(said, |value| Lifetime::Explicit(*value)),
            _ => self.fixed.map_or(said, Lifetime::Explicit),
        };
        let clamped = ruled.map(|lifetime| self.clamp(lifetime, !error));
        if may_lengthen || clamped.duration() <= said.duration() {
            clamped
        } else {
            said.map(|lifetime| self.clamp(lifetime, false))
        }
    }

    fn clamp(&self, lifetime: Duration, raise: bool) -> Duration {
        let floor = self.floor.filter(|_| raise).unwrap_or_default();
        lifetime
            .max(floor)
            .min(self.ceiling.unwrap_or(lifetime.max(floor)))
    }
}

/// How long responses may be served stale where they do not say so themselves,
/// RFC 5861. Whole seconds count. Never against `must-revalidate`,
/// `proxy-revalidate` or `no-cache`, nor against `s-maxage` unless
/// [`s_maxage_revalidates`](super::Settings::s_maxage_revalidates) is off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StaleWindows {
    /// As `stale-while-revalidate`, for responses that were fresh once. Default: none.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub while_revalidate: Option<Duration>,
    /// As `stale-if-error`. "0s": never stale because of an error. Default: none, so
    /// that a stored response serves for as long as the origin cannot be reached.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub if_error: Option<Duration>,
}

impl StaleWindows {
    /// Checks bounds.
    ///
    /// # Errors
    /// Names the key and the value.
    pub fn check(&self) -> Result<(), String> {
        let named = [
            ("while_revalidate", self.while_revalidate),
            ("if_error", self.if_error),
        ];
        named.into_iter().try_for_each(|(name, value)| {
            value.map_or(Ok(()), |value| bounded(&format!("stale.{name}"), value))
        })
    }

    /// Adds the windows that a response does not name itself. One that never was
    /// fresh is not served before it was validated, whatever the route says.
    pub(super) fn fill(&self, directives: &mut Directives, lifetime: Duration) {
        let whole = |window: Duration| u32::try_from(window.as_secs()).unwrap_or(MAX_DELTA_SECONDS);
        if directives.stale_while_revalidate.is_none() && !lifetime.is_zero() {
            directives.stale_while_revalidate = self.while_revalidate.map(whole);
        }
        if directives.stale_if_error.is_none() {
            directives.stale_if_error = self.if_error.map(whole);
        }
    }
}

fn bounded(name: &str, value: Duration) -> Result<(), String> {
    let most = seconds(MAX_DELTA_SECONDS);
    if value > most {
        return Err(format!("{name}: {value:?} is more than {most:?}"));
    }
    Ok(())
}

/// Keys of a map are text in most formats of configuration files.
fn read_by_status<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<u16, Duration>, D::Error> {
    BTreeMap::<String, humantime_serde::Serde<Duration>>::deserialize(from)?
        .into_iter()
        .map(|(status, value)| {
            let status = status.parse().map_err(|_| {
                serde::de::Error::custom(format!("ttl.negative: {status:?} is not a status"))
            })?;
            Ok((status, value.into_inner()))
        })
        .collect()
}

fn write_by_status<S: Serializer>(map: &BTreeMap<u16, Duration>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(
        map.iter()
            .map(|(status, value)| (status.to_string(), humantime_serde::Serde::from(*value))),
    )
}
