//! What a node tells an operator: plain data, serialised by whoever serves it.

use serde::{Deserialize, Serialize};

use crate::metrics::{
    Figures,
    catalogue::{
        CACHE_CAPACITY_BYTES, CACHE_COLLAPSED, CACHE_EVICTIONS, CACHE_HOT_COPIES, CACHE_REQUESTS,
        CACHE_STORED_BYTES, CACHE_STORED_RESPONSES, CACHE_STORES, ORIGIN_REQUESTS, RING_MEMBERS,
    },
    describe::Metric,
};

/// The ring as this node sees it (`/debug/ring`, `koorde ring`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RingReport {
    /// The asked node's name.
    pub node: String,
    /// Its id, 16 hexadecimal digits.
    pub id: String,
    /// Where it is in its life: `alone joining active leaving left`.
    pub state: String,
    /// Whether it knows every member, so that a request is one hop.
    pub complete: bool,
    /// Degree k of the de Bruijn graph.
    pub degree: u32,
    /// Members known, this node among them, clockwise from it.
    pub members: Vec<MemberReport>,
    /// Names of the de Bruijn pointer's nodes, anchor first; empty while every member is known.
    pub de_bruijn: Vec<String>,
}

/// One member, as another sees it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MemberReport {
    /// Stable name.
    pub name: String,
    /// Id, 16 hexadecimal digits.
    pub id: String,
    /// Where peers reach it.
    pub address: String,
    /// `member` or `edge`.
    pub role: String,
    /// `self`, `alive`, or `unreachable` where it was asked and did not answer.
    pub state: String,
    /// Incarnation: grows with every restart and every refutation.
    pub incarnation: u64,
    /// Expected share of all keys, 0–1.
    pub share: f64,
    /// Round trip in milliseconds, where measured.
    pub round_trip_ms: Option<f64>,
}

/// Why the next request for a URL is a hit or a miss (`/debug/explain`, `koorde explain`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Explanation {
    /// The URL as the cache key has it.
    pub url: String,
    /// Key id: 32 hexadecimal digits, the first 16 of them its place on the ring.
    pub key: String,
    /// The asked node's name.
    pub node: String,
    /// Home of the key: its successor on the ring.
    pub home: String,
    /// Owner, then its replicas in order: names.
    pub owners: Vec<String>,
    /// Names of the nodes that a request passes, the asked node first, the owner last.
    pub route: Vec<String>,
    /// Responses stored under the key at the owner.
    pub variants: Vec<VariantReport>,
    /// Whether this node has a hot copy.
    pub hot_copy: bool,
    /// Whether a fill is under way at the owner.
    pub filling: bool,
    /// Whether the key is remembered as uncacheable at the owner (hit-for-miss).
    pub uncacheable: bool,
    /// What the next plain GET would be: `hit`, or the `fwd` reason of RFC 9211.
    pub next: String,
    /// The same in a sentence.
    pub because: String,
}

/// One stored response of a key.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct VariantReport {
    /// Status code.
    pub status: u16,
    /// Request fields that selected it, `name: value` each (Vary).
    pub selecting: Vec<String>,
    /// Bytes of the body.
    pub length: u64,
    /// Current age in seconds (RFC 9111 §4.2.3).
    pub age: u64,
    /// Freshness lifetime in seconds (§4.2.1).
    pub lifetime: u64,
    /// What is left of it; negative when stale.
    pub ttl: i64,
    /// Entity tag, if any.
    pub etag: Option<String>,
    /// Last-Modified, if any.
    pub last_modified: Option<String>,
}

/// Numbers of one node (`/metrics/json`, `koorde stats`).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Stored response used without asking anybody, here.
    pub hits_local: u64,
    /// Answered from the owner's store or a fill that was under way there.
    pub hits_remote: u64,
    /// Validated with the origin, then answered from the store.
    #[serde(default)]
    pub validated: u64,
    /// Answered with what the origin sent.
    pub misses: u64,
    /// Answered stale, within policy.
    pub stale: u64,
    /// Not the cache's business: passed through.
    pub bypass: u64,
    /// No answer.
    pub errors: u64,
    /// Requests that waited for another's fill.
    pub collapsed: u64,
    /// Responses put into the store.
    pub stores: u64,
    /// Responses that left it for want of room.
    pub evictions: u64,
    /// Keys in the store.
    pub stored_responses: u64,
    /// Bytes in the store, as counted against its bound.
    pub stored_bytes: u64,
    /// The bound.
    pub capacity_bytes: u64,
    /// Requests sent to origins.
    pub origin_requests: u64,
    /// Members known, this node among them.
    pub members: u64,
    /// Hot copies held here.
    pub hot_copies: u64,
}

impl Stats {
    /// The same numbers of what was counted, by one node or by many: sizes are sums, `members` is as
    /// the node says that knows most.
    #[must_use]
    pub fn of(figures: &Figures) -> Self {
        let requests = |words: &[&str]| figures.counted(&CACHE_REQUESTS, words);
        let whole = |level: i64| u64::try_from(level).unwrap_or(0);
        let level = |metric: &Metric| figures.level(metric);
        let sum = |metric: &Metric| level(metric).map_or(0, |spread| whole(spread.sum));
        Self {
            hits_local: requests(&["hit", "local"]) + requests(&["hit", "hot"]),
            hits_remote: requests(&["hit", "peer"]),
            validated: requests(&["validated"]),
            misses: requests(&["miss"]),
            stale: requests(&["stale"]),
            bypass: requests(&["bypass"]),
            errors: requests(&["error"]),
            collapsed: figures.counted(&CACHE_COLLAPSED, &[]),
            stores: figures.counted(&CACHE_STORES, &[]),
            evictions: figures.counted(&CACHE_EVICTIONS, &["size"]),
            stored_responses: sum(&CACHE_STORED_RESPONSES),
            stored_bytes: sum(&CACHE_STORED_BYTES),
            capacity_bytes: sum(&CACHE_CAPACITY_BYTES),
            origin_requests: figures.counted(&ORIGIN_REQUESTS, &[]),
            members: level(&RING_MEMBERS).map_or(0, |spread| whole(spread.most)),
            hot_copies: sum(&CACHE_HOT_COPIES),
        }
    }

    /// Answers for which nobody waited for the origin: from a store here or elsewhere, stale ones too.
    #[must_use]
    pub const fn hits(&self) -> u64 {
        self.hits_local
            .saturating_add(self.hits_remote)
            .saturating_add(self.stale)
    }

    /// The part of answered requests that were [hits](Self::hits), 0–1; none if there were none.
    #[must_use]
    pub fn hit_ratio(&self) -> Option<f64> {
        let others = self.misses.saturating_add(self.validated);
        let all = self.hits().saturating_add(others);
        (all > 0).then(|| self.hits() as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        metrics::{Book, Metrics},
        outcome::{CacheResult, Tier},
    };

    #[test]
    fn the_numbers_of_what_was_counted_are_the_nodes_own() {
        let mut book = Book::default();
        let metrics = Metrics::new(&mut book);
        for (result, tier, times) in [
            (CacheResult::Hit, Tier::Local, 1),
            (CacheResult::Hit, Tier::Hot, 2),
            (CacheResult::Hit, Tier::Peer, 4),
            (CacheResult::Stale, Tier::Local, 8),
            (CacheResult::Validated, Tier::Origin, 16),
            (CacheResult::Miss, Tier::Peer, 32),
        ] {
            metrics.requests(result, tier).inc_by(times);
        }
        metrics.origin_requests.inc();
        metrics.stored_bytes.set(9);
        let stats = Stats::of(&Figures::of(book.sources()));
        assert_eq!(
            (stats.hits_local, stats.hits_remote, stats.hits()),
            (3, 4, 15)
        );
        assert_eq!((stats.validated, stats.misses), (16, 32));
        assert_eq!((stats.origin_requests, stats.stored_bytes), (1, 9));
        assert_eq!(stats.hit_ratio(), Some(15.0 / 63.0));
        assert_eq!(Stats::default().hit_ratio(), None);
    }
}
