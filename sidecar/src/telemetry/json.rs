//! `/metrics` and `/health` as JSON. The keys are the seed's: this file is the one exception to the
//! project's vocabulary.

use libkoorde::node::report::{RingReport, Stats};
use serde_json::{Value, json};

use crate::http::State;

/// The tree of `/metrics`.
#[must_use]
pub fn metrics(state: &State) -> Value {
    tree(&state.node.stats(), &state.node.ring(), state.is_ready())
}

/// The body of `/health`.
#[must_use]
pub fn health(state: &State) -> Value {
    let ring = state.node.ring();
    let ready = state.is_ready();
    json!({
        "status": if ready { "healthy" } else { "unhealthy" },
        "ready": ready,
        "phase": state.phase.borrow().as_str(),
        "node": node(&ring),
        "routing": routing(&ring),
    })
}

fn tree(stats: &Stats, ring: &RingReport, ready: bool) -> Value {
    // An answer from another node's store is a hit of the cache, and so is a stale one: in both
    // cases the origin was not waited for. For one validated with the origin it was.
    let hits = stats.hits_local + stats.hits_remote + stats.stale;
    let mut node = node(ring);
    node["ready"] = ready.into();
    json!({
        // Through a load balancer this is one node at random, and it says so.
        "scope": "node",
        "node": node,
        "cache": {
            "hits": hits,
            "hits_local": stats.hits_local,
            "hits_remote": stats.hits_remote,
            "misses": stats.misses,
            "stale": stats.stale,
            "validated": stats.validated,
            "bypass": stats.bypass,
            "errors": stats.errors,
            "collapsed": stats.collapsed,
            "stores": stats.stores,
            "evictions": stats.evictions,
            "hit_rate": ratio(hits, hits + stats.misses + stats.validated),
            "entry_count": stats.stored_responses,
            "size_bytes": stats.stored_bytes,
            "capacity_bytes": stats.capacity_bytes,
            "utilization": ratio(stats.stored_bytes, stats.capacity_bytes),
        },
        // No URLs: this listener may be public, and URLs carry secrets.
        "hotspots": { "count": stats.hot_copies, "urls": [] },
        "routing": routing(ring),
        "origin": { "requests": stats.origin_requests },
    })
}

fn node(ring: &RingReport) -> Value {
    json!({ "name": ring.node, "id": ring.id, "state": ring.state })
}

fn routing(ring: &RingReport) -> Value {
    json!({
        "members": ring.members.len(),
        "complete": ring.complete,
        "degree": ring.degree,
        "de_bruijn_pointers": ring.de_bruijn.len(),
    })
}

/// 0 of nothing is 0: JSON has no NaN.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_keys_are_there_and_a_remote_hit_is_a_hit() {
        let stats = Stats {
            hits_local: 4,
            hits_remote: 3,
            stale: 1,
            misses: 2,
            stored_bytes: 25,
            capacity_bytes: 100,
            stored_responses: 5,
            hot_copies: 1,
            ..Stats::default()
        };
        let tree = tree(&stats, &RingReport::default(), true);
        assert_eq!(tree["scope"], "node");
        assert_eq!(tree["cache"]["hits"], 8);
        assert_eq!(tree["cache"]["hit_rate"], 0.8);
        assert_eq!(tree["cache"]["utilization"], 0.25);
        assert_eq!(tree["cache"]["entry_count"], 5);
        assert_eq!(tree["hotspots"]["count"], 1);
        for key in [
            "misses",
            "evictions",
            "stores",
            "size_bytes",
            "capacity_bytes",
        ] {
            assert!(tree["cache"][key].is_u64(), "{key}");
        }
        assert!(tree["hotspots"]["urls"].is_array() && tree["routing"].is_object());
        let empty = super::tree(&Stats::default(), &RingReport::default(), false);
        assert_eq!(empty["cache"]["hit_rate"], 0.0);
    }
}
