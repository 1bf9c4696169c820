//! What dashboards and alarms may name. What the catalogue does not tell CloudWatch does not compile.

use std::time::Duration;

use libkoorde::metrics::{
    catalogue as node,
    describe::{Kind, Metric, Published, Statistic},
};

use crate::telemetry::catalogue as process;

/// Seconds of a point: the shortest into which every node's calls fall, with the defaults of
/// `cloudwatch.interval` and `cloudwatch.flush`.
pub const PERIOD: Duration = Duration::from_secs(300);

/// One metric as CloudWatch has it.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    metric: &'static Metric,
    published: &'static Published,
}

/// What is looked at of a series in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stat {
    /// Of what all nodes count.
    Sum,
    /// Of the node that has least.
    Minimum,
    /// Of the node that has most.
    Maximum,
    /// How often it was told.
    SampleCount,
    /// Half do not exceed it.
    P50,
    /// 99 % do not exceed it.
    P99,
}

impl Stat {
    /// As CloudWatch spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "Sum",
            Self::Minimum => "Minimum",
            Self::Maximum => "Maximum",
            Self::SampleCount => "SampleCount",
            Self::P50 => "p50",
            Self::P99 => "p99",
        }
    }
}

/// A series, and what is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The series.
    pub series: Series,
    /// What of it.
    pub stat: Stat,
}

impl Series {
    /// What CloudWatch is told of a metric under a name.
    ///
    /// # Panics
    /// It is told nothing of that name; in a `static`, as all are here, that is an error of the compiler.
    #[must_use]
    pub const fn told(metric: &'static Metric, name: &str) -> Self {
        let mut at = 0;
        while at < metric.cloudwatch.len() {
            let published = &metric.cloudwatch[at];
            if is_same(published.name.as_bytes(), name.as_bytes()) {
                return Self { metric, published };
            }
            at += 1;
        }
        panic!("CloudWatch is told nothing of that name of this metric")
    }

    /// Its name in CloudWatch.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.published.name
    }

    /// Looks at it.
    #[must_use]
    pub const fn look(self, stat: Stat) -> Look {
        Look { series: self, stat }
    }
}

impl Look {
    /// Whether that says something: nobody wants the sum of levels, or the percentile of a counter.
    #[must_use]
    pub const fn makes_sense(&self) -> bool {
        let is_gauge = matches!(self.series.metric.kind, Kind::Gauge);
        match (self.stat, self.series.published.statistic) {
            (Stat::SampleCount, _)
            | (Stat::Sum, Statistic::Sum)
            | (Stat::P50 | Stat::P99, Statistic::P99) => true,
            (Stat::Minimum | Stat::Maximum, Statistic::Minimum | Statistic::Maximum) => is_gauge,
            _ => false,
        }
    }
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

macro_rules! series {
    ($($name:ident = $catalogue:ident::$metric:ident, $told:literal;)*) => {
        $(
            #[doc = concat!("`", $told, "`.")]
            pub static $name: Series = Series::told(&$catalogue::$metric, $told);
        )*
        /// All of them.
        pub static ALL: &[&Series] = &[$(&$name),*];
    };
}

series! {
    REQUESTS = node::CACHE_REQUESTS, "Requests";
    HITS = node::CACHE_REQUESTS, "Hits";
    STALE_HITS = node::CACHE_REQUESTS, "StaleHits";
    MISSES = node::CACHE_REQUESTS, "Misses";
    ERRORS = node::CACHE_REQUESTS, "Errors";
    COLLAPSED = node::CACHE_COLLAPSED, "Collapsed";
    EVICTIONS = node::CACHE_EVICTIONS, "Evictions";
    STORED_BYTES = node::CACHE_STORED_BYTES, "StoredBytes";
    PURGES_UNREACHABLE = node::PURGE_UNREACHABLE, "PurgesUnreachable";
    RING_MEMBERS = node::RING_MEMBERS, "RingMembers";
    RING_ARC = node::RING_ARC, "RingArc";
    RING_SUCCESSORS = node::RING_SUCCESSORS, "RingSuccessors";
    MEMBERS_LOST = node::RING_SUSPICIONS, "MembersLost";
    OWNER_DISAGREEMENTS = node::OWNER_DISAGREEMENTS, "OwnerDisagreements";
    PEER_DURATION = node::PEER_RPC_SECONDS, "PeerDuration";
    ORIGIN_REQUESTS = node::ORIGIN_REQUESTS, "OriginRequests";
    ORIGIN_DURATION = node::ORIGIN_SECONDS, "OriginDuration";
    ORIGIN_ERRORS = node::ORIGIN_ERRORS, "OriginErrors";
    SHED = node::SHED, "Shed";
    SERVER_ERRORS = process::HTTP_REQUESTS, "ServerErrors";
    REQUEST_DURATION = process::REQUEST_SECONDS, "RequestDuration";
    RESPONSE_BYTES = process::RESPONSE_BYTES, "ResponseBytes";
    RESIDENT_MEMORY = process::RESIDENT, "ResidentMemory";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{settings::CloudWatchSettings, telemetry::catalogue};

    #[test]
    fn every_name_that_cloudwatch_is_told_can_be_looked_at() {
        let told: BTreeSet<_> = catalogue::all()
            .flat_map(|metric| metric.cloudwatch)
            .map(|published| published.name)
            .collect();
        let named: BTreeSet<_> = ALL.iter().map(|series| series.name()).collect();
        assert_eq!(named, told);
    }

    #[test]
    #[should_panic(expected = "told nothing of that name")]
    fn a_name_that_cloudwatch_is_not_told_is_no_series() {
        let _ = Series::told(&node::CACHE_REQUESTS, "Request");
    }

    #[test]
    fn a_period_has_a_call_of_every_node() {
        let defaults = CloudWatchSettings::default();
        assert!(PERIOD >= defaults.flush.max(defaults.interval));
    }
}
