//! What a node tells an operator: plain data, serialised by whoever serves it.

use serde::{Deserialize, Serialize};

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
