//! The few choices that RFC 9111 leaves to the cache's operator.

use super::{StaleWindows, Ttl};
use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::Duration;

/// What the operator of the cache may choose. `Default` is the careful choice.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// When a response with Set-Cookie may be shared. Default: `public-only`.
    pub store_set_cookie: SetCookie,
    /// How long a response without explicit freshness is fresh.
    /// Default: a tenth of its age since Last-Modified, at most a day.
    pub heuristic: Heuristic,
    /// Targeted fields (RFC 9213) that speak to this cache, most specific first,
    /// for example `cdn-cache-control`. Default: none, because a cache that is not
    /// a CDN acting for that origin has to ignore the field of CDNs.
    #[serde(with = "names")]
    #[schemars(with = "Vec<String>")]
    pub targets: Vec<HeaderName>,
    /// Whether `s-maxage` forbids serving stale, as RFC 9111 §5.2.2.10 says.
    /// Default: true. With false, an *explicit* `stale-while-revalidate` or
    /// `stale-if-error` beside `s-maxage` is honoured, as most CDNs do; a
    /// `must-revalidate`, `proxy-revalidate` or `no-cache` still forbids.
    pub s_maxage_revalidates: bool,
    /// How long responses are fresh, against what they say. Default: as they say.
    pub ttl: Ttl,
    /// How long responses that do not say so may be served stale. Default: no words
    /// of ours.
    pub stale: StaleWindows,
    /// By how much a lifetime is shortened at most, in per cent, 0 to 20, so that
    /// what was stored in one moment does not expire in one. The same response has
    /// the same part taken off on every node. Default: 5.
    pub jitter_percent: u8,
    /// Whether request fields that some origins act on although no cache key holds
    /// them, such as X-Forwarded-Host and X-Original-URL, are kept from the origin.
    /// GET and HEAD only. Default: true.
    pub strip_unkeyed: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            store_set_cookie: SetCookie::default(),
            heuristic: Heuristic::default(),
            targets: Vec::new(),
            s_maxage_revalidates: true,
            ttl: Ttl::default(),
            stale: StaleWindows::default(),
            jitter_percent: 5,
            strip_unkeyed: true,
        }
    }
}

impl Settings {
    /// Checks bounds and what contradicts what.
    ///
    /// # Errors
    /// Names the key and the value.
    pub fn check(&self) -> Result<(), String> {
        let rule = self.heuristic;
        if rule.percent > 100 {
            return Err(format!(
                "heuristic.percent: {} is more than 100",
                rule.percent
            ));
        }
        if self.jitter_percent > MAX_JITTER_PERCENT {
            return Err(format!(
                "jitter_percent: {} is more than {MAX_JITTER_PERCENT}",
                self.jitter_percent
            ));
        }
        self.ttl.check()?;
        self.stale.check()
    }
}

/// More would take away what an origin may rely on: most of the lifetime it gave.
pub(super) const MAX_JITTER_PERCENT: u8 = 20;

/// When a response with Set-Cookie may be stored and given to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SetCookie {
    /// Only with `public` or `s-maxage`: the origin thought of shared caches.
    #[default]
    PublicOnly,
    /// Whenever freshness is explicit: RFC 9111 §7.3 to the letter. Origins that
    /// set `max-age` on pages with session cookies leak those sessions.
    ExplicitFreshness,
}

/// Heuristic freshness, RFC 9111 §4.2.2: a part of Date − Last-Modified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Heuristic {
    /// The part in per cent, at most 100; 0: such a response is never fresh. Default: 10.
    pub percent: u32,
    /// The longest lifetime to guess. Default: one day.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max: Duration,
    /// Whether the heuristically cacheable errors (404, 405, 410, 414, 501) are
    /// guessed too, if they carry Last-Modified. Default: true. Other errors are
    /// stored with explicit freshness only, whatever this says.
    pub errors: bool,
}

impl Default for Heuristic {
    fn default() -> Self {
        Self {
            percent: 10,
            max: Duration::from_secs(24 * 60 * 60),
            errors: true,
        }
    }
}

/// Field names in a configuration: text, each checked.
pub(super) mod names {
    use super::{Deserialize, Deserializer, HeaderName, Serializer};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<HeaderName>, D::Error> {
        let name = |name: String| {
            HeaderName::try_from(&name)
                .map_err(|_| serde::de::Error::custom(format!("{name:?} is not a field name")))
        };
        Vec::<String>::deserialize(from)?
            .into_iter()
            .map(name)
            .collect()
    }

    pub(crate) fn serialize<S: Serializer>(names: &[HeaderName], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(names.iter().map(HeaderName::as_str))
    }
}
