//! `/metrics` and `/health` as JSON. The keys are the seed's: this file is the one exception to the
//! project's vocabulary.

use libkoorde::{
    metrics::{
        Figures,
        describe::{Metric, Statistic},
        figures::{Series, Spread, percentile},
    },
    node::{
        cluster::{ClusterMember, ClusterStats, MemberState},
        report::{RingReport, Stats},
    },
};
use serde_json::{Map, Value, json};

use super::catalogue;
use crate::http::State;

/// Hot keys that are told.
const HOT_KEYS: usize = 50;

/// The tree of `/metrics`.
#[must_use]
pub fn metrics(state: &State) -> Value {
    tree(&state.node.stats(), &state.node.ring(), state.is_ready())
}

/// The tree of `/metrics/json?scope=cluster`: the same keys as for one node, of all that answered, and
/// who they are.
pub async fn cluster(state: &State) -> Value {
    let cluster = state.node.cluster().await;
    cluster_tree(&cluster, &state.node.ring())
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
    let mut node = node(ring);
    node["ready"] = ready.into();
    json!({
        // Through a load balancer this is one node at random, and it says so.
        "scope": "node",
        "node": node,
        "cache": cache(stats),
        // No URLs: this listener may be public, and URLs carry secrets.
        "hotspots": { "count": stats.hot_copies, "urls": [] },
        "routing": routing(ring),
        "origin": { "requests": stats.origin_requests },
    })
}

fn cache(stats: &Stats) -> Value {
    json!({
            "hits": stats.hits(),
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
            // An answer from another node's store is a hit of the cache, and so is a stale one: in both
            // cases the origin was not waited for. For one validated with the origin it was. 0 of
            // nothing is 0: JSON has no NaN.
            "hit_rate": stats.hit_ratio().unwrap_or(0.0),
            "entry_count": stats.stored_responses,
            "size_bytes": stats.stored_bytes,
            "capacity_bytes": stats.capacity_bytes,
            "utilization": ratio(stats.stored_bytes, stats.capacity_bytes),
    })
}

fn cluster_tree(cluster: &ClusterStats, ring: &RingReport) -> Value {
    let figures = cluster.figures();
    let stats = Stats::of(&figures);
    let (hot_keys, of) = cluster.hot_keys();
    let hot_keys = hot_keys
        .iter()
        .take(HOT_KEYS)
        .map(|key| json!({ "url": key.url, "count": key.count, "share": ratio(key.count, of) }));
    let silent = cluster.silent();
    let silent = silent.map(|(name, why)| json!({ "name": name, "why": why }));
    let latency = |part| figures.percentile(&catalogue::REQUEST_SECONDS, part);
    json!({
        "scope": "cluster",
        "node": { "name": cluster.node },
        "members": {
            "asked": cluster.asked(),
            "answered": cluster.told().count(),
            "silent": silent.collect::<Value>(),
            "each": cluster.members.iter().map(member).collect::<Value>(),
        },
        "cache": cache(&stats),
        "hotspots": { "count": stats.hot_copies, "urls": hot_keys.collect::<Value>() },
        "routing": routing(ring),
        "origin": { "requests": stats.origin_requests },
        // Of all requests since each member's start.
        "latency": { "p50_seconds": latency(0.5), "p99_seconds": latency(0.99) },
        "metrics": metrics_of(&figures),
    })
}

fn member(member: &ClusterMember) -> Value {
    let mut row = json!({
        "name": member.name,
        "id": member.id,
        "address": member.address,
        "state": member.state.as_str(),
        "share": member.share,
        "round_trip_ms": member.round_trip.map(|time| time.as_secs_f64() * 1000.0),
    });
    match &member.told {
        Ok(told) => {
            let stats = Stats::of(&told.figures);
            let resident = told.figures.level(&catalogue::RESIDENT);
            row["uptime_seconds"] = told.uptime.as_secs().into();
            row["members"] = told.members.into();
            row["cache"] = cache(&stats);
            row["origin"] = json!({ "requests": stats.origin_requests });
            row["resident_bytes"] = resident.map(|spread| spread.sum).into();
        }
        Err(why) if member.state != MemberState::Dead => row["why"] = why.as_str().into(),
        Err(_) => {}
    }
    row
}

/// Every series by its metric, as the catalogue has it looked at.
fn metrics_of(figures: &Figures) -> Value {
    let mut all: Map<String, Value> = Map::new();
    let known = |series: &Series| catalogue::all().find(|metric| metric.name == series.metric);
    let mut add = |series: &Series, value: &dyn Fn(&'static Metric) -> Value| {
        // Of a newer member: this one has no words for its labels.
        let Some(metric) = known(series) else { return };
        let labels = metric.labels.iter().map(|label| label.name);
        let labels = labels.zip(&series.words);
        let labels: Map<String, Value> =
            labels.map(|(n, w)| (n.into(), w.as_str().into())).collect();
        let mut row = value(metric);
        row["labels"] = labels.into();
        let rows = all.entry(metric.name).or_insert_with(|| json!([]));
        if let Value::Array(rows) = rows {
            rows.push(row);
        }
    };
    for (series, count) in &figures.counts {
        add(series, &|_| json!({ "value": count }));
    }
    for (series, spread) in &figures.levels {
        add(
            series,
            &|metric| json!({ "value": looked_at(metric, *spread), "least": spread.least, "most": spread.most }),
        );
    }
    for (series, bins) in &figures.distributions {
        let count = bins.values().fold(0, |sum: u64, n| sum.saturating_add(*n));
        add(series, &|metric| {
            let part = |part| percentile(bins, metric.unit, part);
            json!({ "count": count, "p50": part(0.5), "p90": part(0.9), "p99": part(0.99) })
        });
    }
    all.into()
}

/// What a gauge of many nodes is by the catalogue; where that says nothing, the sum.
fn looked_at(metric: &Metric, spread: Spread) -> i64 {
    match metric.cloudwatch.first().map(|told| told.statistic) {
        Some(Statistic::Minimum) => spread.least,
        Some(Statistic::Maximum) => spread.most,
        Some(Statistic::Sum | Statistic::P99) | None => spread.sum,
    }
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

    #[test]
    fn the_clusters_tree_has_the_same_keys_and_says_who_is_silent() {
        let member = |name: &str, told| ClusterMember {
            name: name.to_owned(),
            id: "0".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            state: MemberState::Live,
            share: 0.5,
            round_trip: None,
            told,
        };
        let mut told = libkoorde::node::cluster::Told::default();
        let series = |metric: &str, words: &[&str]| Series {
            metric: metric.to_owned(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
        };
        let requests = series("koorde_cache_requests_total", &["hit", "local"]);
        told.figures.counts.insert(requests, 3);
        let successors = series("koorde_ring_successors", &[]);
        told.figures.levels.insert(successors, Spread::of(4));
        told.figures
            .counts
            .insert(series("of_a_newer_member", &[]), 1);
        let mut fewer = told.clone();
        let successors = series("koorde_ring_successors", &[]);
        fewer.figures.levels.insert(successors, Spread::of(2));
        let cluster = ClusterStats {
            node: "a".to_owned(),
            members: vec![
                member("a", Ok(told)),
                member("b", Ok(fewer)),
                member("c", Err("no answer in time".to_owned())),
            ],
        };
        let tree = cluster_tree(&cluster, &RingReport::default());
        let node = super::tree(&Stats::default(), &RingReport::default(), true);
        for key in node.as_object().expect("an object").keys() {
            assert!(!tree[key].is_null(), "{key}");
        }
        assert_eq!(
            (&tree["scope"], &tree["cache"]["hits"]),
            (&json!("cluster"), &json!(6))
        );
        assert_eq!(tree["members"]["asked"], 3);
        assert_eq!(tree["members"]["answered"], 2);
        let silent = json!([{ "name": "c", "why": "no answer in time" }]);
        assert_eq!(tree["members"]["silent"], silent);
        let successors = &tree["metrics"]["koorde_ring_successors"][0];
        assert_eq!(successors["value"], 2, "the catalogue looks at the least");
        assert_eq!(
            tree["metrics"]["koorde_cache_requests_total"][0]["labels"]["tier"],
            "local"
        );
        assert!(tree["metrics"]["of_a_newer_member"].is_null());
    }
}
