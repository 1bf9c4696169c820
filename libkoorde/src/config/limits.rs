//! Limits: how much of an origin is used, by this node and by the whole cluster.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{bound, within};

/// What one origin is spared. An origin is an authority (`api.example.com`, with its port unless
/// that is the scheme's default) or an upstream. Only requests that reach for the origin count:
/// what the store answers is free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Requests that this node has under way to one origin, bodies included, 1–65536.
    pub max_concurrent: usize,
    /// Requests that wait for one origin's limits, first come first served, 0–65536. One more is
    /// answered 503.
    pub max_queue: usize,
    /// Longest wait for an origin's limits, 1 ms – 10 min; then 503. Who asks may have less
    /// patience and leaves then.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub queue_timeout: Duration,
    /// Requests a second that this node sends to one origin, 0–1000000. 0: no limit.
    pub rate: u32,
    /// Requests that `rate` and `cluster_rate` let through at once after a quiet time, 1–65536.
    pub burst: u32,
    /// Longest Retry-After of a 429 or 503 that is honoured, 0 s – 1 h: until it is over, misses
    /// fail at once (or are answered stale). 0 s turns it off.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub retry_after_max: Duration,
    /// Failures in a row (no connection, no answer in time, a broken one, 502, 503, 504) that open
    /// the circuit breaker, 0–65536. 0: never.
    pub breaker_failures: u32,
    /// How long an open breaker lets nothing through, 10 ms – 1 h; then one request tries.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub breaker_open: Duration,
    /// Requests that the whole cluster has under way to one origin, 0–65536. 0: no limit. A node
    /// that can't reach the budget's owner uses its fair share of it, at least one.
    pub cluster_max_concurrent: u32,
    /// Requests a second that the whole cluster sends to one origin, 0–1000000. 0: no limit.
    pub cluster_rate: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_concurrent: 1024,
            max_queue: 1024,
            queue_timeout: Duration::from_secs(5),
            rate: 0,
            burst: 10,
            retry_after_max: Duration::from_secs(60),
            breaker_failures: 20,
            breaker_open: Duration::from_secs(5),
            cluster_max_concurrent: 0,
            cluster_rate: 0,
        }
    }
}

/// What differs from `origin.limits` for one origin; what is not given is as there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsOverride {
    /// As in `origin.limits`, for this origin.
    pub max_concurrent: Option<usize>,
    /// As in `origin.limits`, for this origin.
    pub max_queue: Option<usize>,
    /// As in `origin.limits`, for this origin.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub queue_timeout: Option<Duration>,
    /// As in `origin.limits`, for this origin.
    pub rate: Option<u32>,
    /// As in `origin.limits`, for this origin.
    pub burst: Option<u32>,
    /// As in `origin.limits`, for this origin.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub retry_after_max: Option<Duration>,
    /// As in `origin.limits`, for this origin.
    pub breaker_failures: Option<u32>,
    /// As in `origin.limits`, for this origin.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    pub breaker_open: Option<Duration>,
    /// As in `origin.limits`, for this origin.
    pub cluster_max_concurrent: Option<u32>,
    /// As in `origin.limits`, for this origin.
    pub cluster_rate: Option<u32>,
}

impl LimitsOverride {
    /// `base` with what is given here in its place.
    #[must_use]
    pub fn over(&self, base: &LimitsConfig) -> LimitsConfig {
        LimitsConfig {
            max_concurrent: self.max_concurrent.unwrap_or(base.max_concurrent),
            max_queue: self.max_queue.unwrap_or(base.max_queue),
            queue_timeout: self.queue_timeout.unwrap_or(base.queue_timeout),
            rate: self.rate.unwrap_or(base.rate),
            burst: self.burst.unwrap_or(base.burst),
            retry_after_max: self.retry_after_max.unwrap_or(base.retry_after_max),
            breaker_failures: self.breaker_failures.unwrap_or(base.breaker_failures),
            breaker_open: self.breaker_open.unwrap_or(base.breaker_open),
            cluster_max_concurrent: self
                .cluster_max_concurrent
                .unwrap_or(base.cluster_max_concurrent),
            cluster_rate: self.cluster_rate.unwrap_or(base.cluster_rate),
        }
    }
}

impl LimitsConfig {
    /// The limits of one origin, by its authority or its upstream's name.
    #[must_use]
    pub fn of(&self, per_host: &BTreeMap<String, LimitsOverride>, origin: &str) -> Self {
        per_host
            .get(origin)
            .map_or_else(|| self.clone(), |given| given.over(self))
    }

    pub(super) fn check(&self, key: &str) -> Result<(), String> {
        let number = |name: &str, value: usize, low: usize, high: usize| {
            let rule = format!("{low} to {high}");
            bound(
                (low..=high).contains(&value),
                &format!("{key}.{name}"),
                &value,
                &rule,
            )
        };
        let wide = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        number("max_concurrent", self.max_concurrent, 1, 65_536)?;
        number("max_queue", self.max_queue, 0, 65_536)?;
        number("rate", wide(self.rate), 0, 1_000_000)?;
        number("burst", wide(self.burst), 1, 65_536)?;
        number("breaker_failures", wide(self.breaker_failures), 0, 65_536)?;
        let cluster = wide(self.cluster_max_concurrent);
        number("cluster_max_concurrent", cluster, 0, 65_536)?;
        number("cluster_rate", wide(self.cluster_rate), 0, 1_000_000)?;
        let (ms, hour) = (Duration::from_millis, Duration::from_secs(3600));
        let time =
            |name: &str, value, low, high| within(&format!("{key}.{name}"), value, low, high);
        time("queue_timeout", self.queue_timeout, ms(1), ms(600_000))?;
        time("retry_after_max", self.retry_after_max, ms(0), hour)?;
        time("breaker_open", self.breaker_open, ms(10), hour)
    }
}

/// Checks the limits of every origin that is named.
pub(super) fn check(
    limits: &LimitsConfig,
    per_host: &BTreeMap<String, LimitsOverride>,
) -> Result<(), String> {
    limits.check("origin.limits")?;
    let count = per_host.len();
    bound(count <= 1024, "origin.per_host", &count, "at most 1024")?;
    for (origin, given) in per_host {
        given
            .over(limits)
            .check(&format!("origin.per_host.{origin}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_its_own_limits_and_the_rest_of_the_common_ones() {
        let limits = LimitsConfig {
            max_queue: 7,
            ..LimitsConfig::default()
        };
        let given = LimitsOverride {
            rate: Some(3),
            ..LimitsOverride::default()
        };
        let per_host = BTreeMap::from([("api.example.com".to_owned(), given)]);
        let named = limits.of(&per_host, "api.example.com");
        assert_eq!((named.rate, named.max_queue), (3, 7));
        assert_eq!(limits.of(&per_host, "example.com"), limits);
    }

    #[test]
    fn a_wrong_limit_is_named_with_its_origin() {
        let given = LimitsOverride {
            burst: Some(0),
            ..LimitsOverride::default()
        };
        let per_host = BTreeMap::from([("a.example".to_owned(), given)]);
        let error = check(&LimitsConfig::default(), &per_host).expect_err("no burst");
        assert_eq!(
            error,
            "origin.per_host.a.example.burst = 0: must be 1 to 65536"
        );
    }
}
