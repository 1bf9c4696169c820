//! What a node counts, under the names that every exporter uses.
//!
//! Labels are closed sets: no URL, host, key or peer address ever becomes one, so the number of
//! series is bounded. Handles are resolved once, at start; counting is one atomic addition.

use std::sync::Arc;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::outcome::{CacheResult, Outcome, Tier};

/// Upper bounds in seconds. A hit takes some 30 µs, so the usual ones that start at 5 ms would put
/// every hit into the first bucket.
pub const SECONDS: [f64; 17] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
];

/// Labels of `koorde_cache_requests_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CacheLabels {
    result: CacheResult,
    tier: Tier,
}

/// A label from a closed set of words, named `kind`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    kind: &'static str,
}

/// A family of counters by a closed set of words.
pub type ByKind = Family<KindLabel, Counter>;

/// Everything a node counts.
#[derive(Debug)]
pub struct Metrics {
    requests: Vec<Counter>,
    /// Requests that waited for a fill which another had started.
    pub collapsed: Counter,
    /// Fills by how they ended: `stored passed freshened aborted error`.
    pub fills: ByKind,
    /// Fills under way.
    pub fills_inflight: Gauge,
    /// Responses put into the store.
    pub stores: Counter,
    /// Responses that left the store, by cause: `size replaced removed`.
    pub evictions: ByKind,
    /// Keys in the store.
    pub stored_responses: Gauge,
    /// Bytes in the store.
    pub stored_bytes: Gauge,
    /// The store's bound.
    pub capacity_bytes: Gauge,
    /// Hot copies held.
    pub hot_copies: Gauge,
    /// Members known.
    pub ring_members: Gauge,
    /// Membership changes by kind: `up down left replaced merged`.
    pub ring_changes: ByKind,
    /// Ring messages by kind: `sent received dropped refused`.
    pub ring_messages: ByKind,
    /// Look-ups by how they ended: `ok timeout`.
    pub ring_lookups: ByKind,
    /// A peer sent a request for a key that this node's view gives to another.
    pub owner_disagreements: Counter,
    /// Fetches from peers by how they ended: `ok unreachable refused not_stored origin`.
    pub peer_fetches: ByKind,
    /// Seconds from a fetch's start to its head from a peer.
    pub peer_seconds: Histogram,
    /// Requests sent to origins.
    pub origin_requests: Counter,
    /// Origin errors by kind: `connect timeout broken denied overloaded resting`.
    pub origin_errors: ByKind,
    /// Requests that wait for an origin's limits.
    pub origin_waiting: Gauge,
    /// Changes of origins' circuit breakers by kind: `opened probed closed`.
    pub origin_breaker: ByKind,
    /// Requests that could not be sent to one server of an upstream, by what became of them:
    /// `retried refused` (by the retry budget).
    pub origin_retries: ByKind,
    /// Servers of upstreams by what became of them: `out sick`.
    pub upstream_servers: ByKind,
    /// Asks for a part of an origin's cluster-wide budget by how they ended: `granted alone`.
    pub origin_leases: ByKind,
    /// Leases of fills to clients that make the origin's request themselves, by what became of them:
    /// `granted`, and then `put failed given_back expired`.
    pub look_aside: ByKind,
    /// Seconds from a request to the head of an origin's response.
    pub origin_seconds: Histogram,
    /// Refusals of the egress guard by reason.
    pub origin_denied: ByKind,
    /// Purges by how this node came to them: `issued received synced`; `folded`: times that more
    /// had to be purged, because single purges were no longer remembered; `invalidated`: URLs by
    /// unsafe requests.
    pub purges: ByKind,
    /// Members that did not acknowledge a purge or an invalidation.
    pub purges_unreachable: Counter,
    /// Purges known: equal on nodes that know the same.
    pub purge_generation: Gauge,
}

impl Metrics {
    /// Registers every metric and returns the handles.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Arc<Self> {
        let registry = registry.sub_registry_with_prefix("koorde");
        let cache = Family::<CacheLabels, Counter>::default();
        registry.register(
            "cache_requests",
            "Requests by result and where it was found",
            cache.clone(),
        );
        let requests = CacheResult::ALL
            .into_iter()
            .flat_map(|result| Tier::ALL.map(|tier| CacheLabels { result, tier }))
            .map(|labels| cache.get_or_create_owned(&labels))
            .collect();
        let mut add = Add { registry };
        Arc::new(Self {
            requests,
            collapsed: add.counter("cache_collapsed", "Requests that waited for another's fill"),
            fills: add.kinds("cache_fills", "Fills by how they ended"),
            fills_inflight: add.gauge("cache_fills_inflight", "Fills under way"),
            stores: add.counter("cache_stores", "Responses put into the store"),
            evictions: add.kinds("cache_evictions", "Responses that left the store, by cause"),
            stored_responses: add.gauge("cache_stored_responses", "Keys in the store"),
            stored_bytes: add.gauge("cache_stored_bytes", "Bytes in the store"),
            capacity_bytes: add.gauge("cache_capacity_bytes", "Bound of the bytes in the store"),
            hot_copies: add.gauge("cache_hot_copies", "Hot copies of other owners' responses"),
            ring_members: add.gauge("ring_members", "Members known, this node among them"),
            ring_changes: add.kinds("ring_membership_changes", "Membership changes by kind"),
            ring_messages: add.kinds("ring_messages", "Ring messages by what became of them"),
            ring_lookups: add.kinds("ring_lookups", "Look-ups by how they ended"),
            owner_disagreements: add.counter(
                "ring_owner_disagreements",
                "Forwarded requests for keys that this node does not own in its own view",
            ),
            peer_fetches: add.kinds("peer_fetches", "Fetches from peers by how they ended"),
            peer_seconds: add.seconds("peer_fetch_duration", "To the head of a peer's response"),
            origin_requests: add.counter("origin_requests", "Requests sent to origins"),
            origin_errors: add.kinds("origin_errors", "Origin errors by kind"),
            origin_waiting: add.gauge("origin_waiting", "Requests that wait for limits"),
            origin_breaker: add.kinds("origin_breaker", "Changes of circuit breakers by kind"),
            origin_retries: add.kinds("origin_retries", "Unsent requests by what became of them"),
            upstream_servers: add.kinds("upstream_servers", "Servers that were left out, by why"),
            origin_leases: add.kinds("origin_leases", "Asks for a budget by how they ended"),
            look_aside: add.kinds("look_aside_leases", "Leases by what became of them"),
            origin_seconds: add.seconds(
                "origin_request_duration",
                "To the head of an origin's response",
            ),
            origin_denied: add.kinds("origin_denied", "Refusals of the egress guard by reason"),
            purges: add.kinds("purges", "Purges by how this node came to them"),
            purges_unreachable: add.counter(
                "purge_unreachable",
                "Members that did not acknowledge a purge or an invalidation",
            ),
            purge_generation: add.gauge("purge_generation", "Purges known"),
        })
    }

    /// Counts one answered request.
    pub fn answered(&self, outcome: Outcome) {
        self.requests(outcome.result, outcome.tier).inc();
        if outcome.collapsed {
            self.collapsed.inc();
        }
    }

    /// The counter of one result found in one place.
    #[must_use]
    pub fn requests(&self, result: CacheResult, tier: Tier) -> &Counter {
        &self.requests[result as usize * Tier::ALL.len() + tier as usize]
    }

    /// Requests with this result, wherever it was found.
    #[must_use]
    pub fn total(&self, result: CacheResult) -> u64 {
        Tier::ALL
            .into_iter()
            .map(|tier| self.requests(result, tier).get())
            .sum()
    }
}

/// Counts `kind` in `family`. Words are literals, so the set stays closed.
pub fn count(family: &ByKind, kind: &'static str) {
    family.get_or_create(&KindLabel { kind }).inc();
}

/// Counts `times` of `kind` in `family`.
pub fn count_by(family: &ByKind, kind: &'static str, times: u64) {
    if times > 0 {
        family.get_or_create(&KindLabel { kind }).inc_by(times);
    }
}

/// How often `kind` was counted in `family`.
#[must_use]
pub fn counted(family: &ByKind, kind: &'static str) -> u64 {
    family.get_or_create(&KindLabel { kind }).get()
}

/// Registers one metric of each shape and hands back its handle.
struct Add<'a> {
    registry: &'a mut Registry,
}

impl Add<'_> {
    fn counter(&mut self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.registry.register(name, help, counter.clone());
        counter
    }

    fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.registry.register(name, help, gauge.clone());
        gauge
    }

    fn kinds(&mut self, name: &str, help: &str) -> ByKind {
        let family = ByKind::default();
        self.registry.register(name, help, family.clone());
        family
    }

    fn seconds(&mut self, name: &str, help: &str) -> Histogram {
        let histogram = Histogram::new(SECONDS);
        self.registry
            .register_with_unit(name, help, Unit::Seconds, histogram.clone());
        histogram
    }
}
