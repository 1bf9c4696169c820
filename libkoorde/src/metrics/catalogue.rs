//! Every metric of a node, each once: what registers it, what documents say of it, what dashboards
//! and alarms may name, and what CloudWatch is told.
//!
//! URL, host, key, and a peer's address are never labels.

use super::describe::{Label, Metric, Statistic, Words, label, seen, sum};
use crate::catalogue;

/// Upper bounds of durations, in seconds. A hit takes some 30 µs, so the usual ones that start at
/// 5 ms would put every hit into the first bucket.
pub const SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0,
];
/// Ages: a second to a week.
const AGES: &[f64] = &[1.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0, 604_800.0];
/// Durations of calls to peers: tens of microseconds within a host, a millisecond between zones.
const PEER: &[f64] = &[0.000_1, 0.000_5, 0.002_5, 0.01, 0.1, 1.0];
/// Durations of what is no request: a scrape has a bound of 400 series.
const COARSE: &[f64] = &[0.001, 0.01, 0.1, 0.5, 2.5];
const HOPS: &[f64] = &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 12.0, 16.0];

const RESULT: &[&str] = &["hit", "stale", "validated", "miss", "bypass", "error"];
/// Those, and that of requests whose clients left before there was a response.
const RESULT_OR_ABORTED: &[&str] = &[
    "hit",
    "stale",
    "validated",
    "miss",
    "bypass",
    "error",
    ABORTED,
];
/// See [`RESULT_OR_ABORTED`].
pub(super) const ABORTED: &str = "aborted";
/// Details of Cache-Status, too.
pub(crate) const NOT_FOUND: &str = "owner-not-found";
/// See [`NOT_FOUND`].
pub(crate) const UNREACHABLE: &str = "owner-unreachable";
const TIER: &[&str] = &["local", "hot", "peer", "origin"];
const DENIED: &[&str] = &[
    "metadata",
    "unspecified",
    "loopback",
    "private",
    "link-local",
    "reserved",
    "multicast",
    "own",
    "refused",
    "loop",
    "redirect",
    "scheme",
];
/// A look-up goes over a few peers.
const LOOK_UP: &[f64] = &[0.000_5, 0.002_5, 0.01, 0.1, 0.5, 2.5];
const UPSTREAM: Label = Label {
    name: "upstream",
    words: Words::Upstreams,
};

/// By what the cache did; the one of requests answered by this node is in its order.
pub const BY_RESULT: &[Label] = &[label("result", RESULT)];

catalogue! {
    CACHE_REQUESTS = Metric::counter(
        "koorde_cache_requests_total",
        "Requests of clients by result and by where it was found; aborted: the client left before",
    )
    .by(&[label("result", RESULT_OR_ABORTED), label("tier", TIER)])
    // Most of the rest cannot be: nothing is missed at a peer.
    .sparse_but(&[("tier", "local"), ("tier", "origin")])
    .told(&[
        sum("Requests", &[]),
        sum("Hits", &[("result", "hit")]),
        sum("StaleHits", &[("result", "stale")]),
        sum("Misses", &[("result", "miss"), ("result", "validated")]),
        sum("Errors", &[("result", "error")]),
    ]);
    CACHE_COLLAPSED = Metric::counter(
        "koorde_cache_collapsed_total",
        "Requests that waited for another's fill",
    )
    .told(&[sum("Collapsed", &[])]);
    CACHE_COALESCE_WAIT = Metric::histogram(
        "koorde_cache_coalesce_wait_seconds",
        "How long they waited for the head of its response",
        COARSE,
    );
    CACHE_STALE_SERVED = Metric::counter(
        "koorde_cache_stale_served_total",
        "Stale responses used: while validating (swr), or since the origin failed (sie)",
    )
    .by(&[label("reason", &["swr", "sie"])]);
    CACHE_STORED_AGE = Metric::histogram(
        "koorde_cache_stored_age_seconds",
        "Current age of stored responses at their hits",
        AGES,
    );
    CACHE_FILLS = Metric::counter(
        "koorde_cache_fills_total",
        "Fills by how they ended; passed: not kept for another reason, such as an edge's",
    )
        .by(&[label("outcome", &["stored", "uncacheable", "too_large", "passed", "freshened", "aborted", "error"])]);
    CACHE_FILLS_INFLIGHT = Metric::gauge("koorde_cache_fills_inflight", "Fills under way");
    CACHE_STORES = Metric::counter("koorde_cache_stores_total", "Responses put into the store");
    CACHE_EVICTIONS = Metric::counter(
        "koorde_cache_evictions_total",
        "Responses that left the store; those removed were purged or invalidated",
    )
    .by(&[label("cause", &["size", "expired", "replaced", "removed"])])
    .told(&[sum("Evictions", &[("cause", "size")])]);
    CACHE_STORED_RESPONSES = Metric::gauge("koorde_cache_stored_responses", "Keys in the store");
    CACHE_STORED_BYTES = Metric::gauge("koorde_cache_stored_bytes", "Bytes in the store")
        .told(&[seen("StoredBytes", Statistic::Maximum)]);
    CACHE_CAPACITY_BYTES =
        Metric::gauge("koorde_cache_capacity_bytes", "Bound of the bytes in the store");
    CACHE_HOT_COPIES = Metric::gauge(
        "koorde_cache_hot_copies",
        "Hot copies of other owners' responses",
    );
    CACHE_PURGES = Metric::counter(
        "koorde_cache_purges_total",
        "Purges by how this node came to them; folded: more had to go, as single purges were no \
         longer remembered; invalidated: URLs, by unsafe requests",
    )
    .by(&[label("kind", &["issued", "received", "synced", "folded", "invalidated"])]);
    PURGE_UNREACHABLE = Metric::counter(
        "koorde_purge_unreachable_total",
        "Members that did not acknowledge a purge or an invalidation",
    )
    .told(&[sum("PurgesUnreachable", &[])]);
    PURGE_GENERATION = Metric::gauge(
        "koorde_purge_generation",
        "Purges known: equal on nodes that know the same",
    );
    LOOK_ASIDE = Metric::counter(
        "koorde_look_aside_leases_total",
        "Leases of fills to clients by what became of them",
    )
    .by(&[label("kind", &["granted", "put", "failed", "given_back", "expired"])])
    // Most clusters have no such clients.
    .sparse_but(&[])
    .yielding_but(2, &[]);
    RING_STATE = Metric::gauge("koorde_ring_state", "1 for what this node is in its ring")
        .by(&[label("state", &["alone", "joining", "active", "leaving", "left"])]);
    RING_MEMBERS = Metric::gauge("koorde_ring_members", "Members known, this node among them")
        .told(&[seen("RingMembers", Statistic::Minimum)]);
    RING_ARC = Metric::gauge(
        "koorde_ring_arc_ratio",
        "Part of the circle between the predecessor and this node: 1 over all nodes of one ring",
    )
    .told(&[sum("RingArc", &[])]);
    RING_SUCCESSORS = Metric::gauge("koorde_ring_successors", "Successors known")
        .told(&[seen("RingSuccessors", Statistic::Minimum)]);
    RING_POINTERS = Metric::gauge(
        "koorde_ring_debruijn_pointers",
        "De Bruijn pointers; none are needed where every member is known",
    );
    RING_LOOKUP_HOPS = Metric::histogram(
        "koorde_ring_lookup_hops",
        "Messages of a look-up until it was at the owner",
        HOPS,
    )
    .yielding_but(2, &[]);
    RING_LOOKUP_SECONDS = Metric::histogram(
        "koorde_ring_lookup_duration_seconds",
        "Look-ups by how they ended; there are none while every member is known",
        LOOK_UP,
    )
    .by(&[label("outcome", &["ok", "timeout", "error"])])
    .yielding_but(2, &[]);
    RING_STABILIZE_SECONDS = Metric::histogram(
        "koorde_ring_stabilize_duration_seconds",
        "Round trips with the successor",
        COARSE,
    );
    RING_SUSPICIONS = Metric::counter(
        "koorde_ring_suspicions_total",
        "Members that this node's own probes found silent, by what came out of it",
    )
    .by(&[label("outcome", &["confirmed", "refuted"])])
    .told(&[sum("MembersLost", &[("outcome", "confirmed")])]);
    RING_CHANGES = Metric::counter(
        "koorde_ring_membership_changes_total",
        "Changes of the ring by kind",
    )
    .by(&[label("kind", &["up", "down", "left", "replaced", "merged", "taken_for_dead"])]);
    RING_MESSAGES = Metric::counter(
        "koorde_ring_messages_total",
        "Ring messages by what became of them",
    )
    .by(&[label("kind", &["sent", "received", "dropped", "refused"])]);
    OWNER_DISAGREEMENTS = Metric::counter(
        "koorde_ring_owner_disagreements_total",
        "Forwarded requests for keys that this node does not own in its own view",
    )
    .told(&[sum("OwnerDisagreements", &[])]);
    FALLBACKS = Metric::counter(
        "koorde_ring_fallbacks_total",
        "Times that this node stood in for a key's owners, which were not found or not reached",
    )
    .by(&[label("reason", &[NOT_FOUND, UNREACHABLE])]);
    HANDED_OVER = Metric::counter(
        "koorde_ring_handoff_responses_total",
        "Stored responses handed over when members come and go: by this node, or to it",
    )
    .by(&[label("direction", &["sent", "received"])]);
    HANDED_OVER_BYTES = Metric::counter(
        "koorde_ring_handoff_bytes_total",
        "Bytes of their bodies",
    )
    .by(&[label("direction", &["sent", "received"])]);
    HANDED_OVER_REFUSED = Metric::counter(
        "koorde_ring_handoff_refused_total",
        "Stored responses that were handed over to this node and not kept: no room, stale, or not its own",
    );
    PEER_RPC_SECONDS = Metric::histogram(
        "koorde_peer_rpc_duration_seconds",
        "Calls to peers, to the head of the answer",
        PEER,
    )
    .by(&[
        label("method", &["fetch", "sync", "invalidate", "lease"]),
        label("code", &["ok", "not_stored", "origin", "behind", "unreachable", "refused"]),
    ])
    .yielding_but(3, &[])
    .told(&[seen("PeerDuration", Statistic::P99)]);
    ORIGIN_REQUESTS = Metric::counter("koorde_origin_requests_total", "Requests sent to origins")
        .told(&[sum("OriginRequests", &[])]);
    ORIGIN_SECONDS = Metric::histogram(
        "koorde_origin_request_duration_seconds",
        "To the head of an origin's response",
        SECONDS,
    )
    .told(&[seen("OriginDuration", Statistic::P99)]);
    // Buckets of each upstream would be more than a scrape may have: with both of these there is a mean.
    ORIGIN_RESPONSES = Metric::counter("koorde_origin_responses_total", "Responses of origins")
        .by(&[UPSTREAM, label("status_class", &["2xx", "3xx", "4xx", "5xx"])])
        .sparse_but(&[("upstream", "other")])
        .yielding_but(3, &[]);
    ORIGIN_RESPONSE_SECONDS = Metric::counter(
        "koorde_origin_response_seconds_total",
        "Time to the heads of origins' responses, all together",
    )
    .by(&[UPSTREAM]);
    ORIGIN_INFLIGHT = Metric::gauge(
        "koorde_origin_inflight",
        "Requests at origins, until the head of the response",
    )
    .by(&[UPSTREAM]);
    ORIGIN_ERRORS = Metric::counter("koorde_origin_errors_total", "Failures of origins by type")
        .by(&[UPSTREAM, label("error_type", &["connect", "timeout", "broken", "denied"])])
        .sparse_but(&[("upstream", "other")])
        .yielding_but(1, &[])
        .told(&[sum(
            "OriginErrors",
            &[("error_type", "connect"), ("error_type", "timeout"), ("error_type", "broken")],
        )]);
    ORIGIN_DENIED = Metric::counter(
        "koorde_origin_denied_total",
        "Refusals by reason: the egress guard's by address, and loops (CDN-Loop), redirects that are not \
         followed, URLs of other schemes",
    )
    .by(&[label("reason", DENIED)])
    .sparse_but(&[])
    .yielding_but(2, &[]);
    ORIGIN_WAITING = Metric::gauge(
        "koorde_origin_waiting",
        "Requests that wait for an origin's limits",
    );
    ORIGIN_BREAKER = Metric::counter(
        "koorde_origin_breaker_total",
        "Changes of circuit breakers by kind",
    )
    .by(&[label("kind", &["opened", "probed", "closed"])]);
    ORIGIN_RETRIES = Metric::counter(
        "koorde_origin_retries_total",
        "Requests that one server of an upstream could not be sent, by what became of them",
    )
    .by(&[label("outcome", &["retried", "refused"])]);
    UPSTREAM_SERVERS = Metric::counter(
        "koorde_upstream_servers_total",
        "Servers that were left out, by why",
    )
    .by(&[label("kind", &["out", "sick"])]);
    ORIGIN_LEASES = Metric::counter(
        "koorde_origin_leases_total",
        "Asks for a part of a cluster-wide budget by how they ended",
    )
    .by(&[label("kind", &["granted", "alone"])]);
    SHED = Metric::counter(
        "koorde_shed_total",
        "Requests refused to protect an origin or this node",
    )
    .by(&[label("reason", &["overloaded", "resting"])])
    .told(&[sum("Shed", &[])]);
    CONCURRENCY_LIMIT = Metric::gauge(
        "koorde_concurrency_limit",
        "Fills that this node may have under way (fetch.max_fills)",
    );
    DEADLINE_EXCEEDED = Metric::counter(
        "koorde_deadline_exceeded_total",
        "Deadlines that passed by what was waited for",
    )
    .by(&[label("stage", &["connect", "origin", "peer", "look_up"])]);
    HOT_SHARE = Metric::gauge(
        "koorde_hot_share_ratio",
        "Part of this node's requests lately that were for the key asked for most, 0–1",
    );
    SERIES_LEFT_OUT = Metric::gauge(
        "koorde_telemetry_series_left_out",
        "Series that this scrape had no room for: those of large configurations that tell least",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{CacheResult, Tier};

    #[test]
    fn the_words_are_those_of_the_enums() {
        let results = CacheResult::ALL.map(CacheResult::as_str);
        assert!(results.iter().eq(RESULT));
        assert_eq!(RESULT_OR_ABORTED, [&results[..], &[ABORTED]].concat());
        assert!(Tier::ALL.map(Tier::as_str).iter().eq(TIER));
    }
}
