//! One node's configuration: plain structs whose field comments are the manual.
//!
//! A field says what it means, its unit, its bound and its default. Relations between fields are
//! checked once, in [`Config::check`]. The sidecar reads the same structs from a file, `KOORDE_*`
//! variables and flags, and prints the comments as its configuration table.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy;

mod limits;
mod purge;
mod routes;
mod size;
pub use limits::{LimitsConfig, LimitsOverride};
pub use purge::PurgeConfig;
pub use routes::{RouteConfig, UpstreamConfig};
pub use size::ByteSize;

/// Everything a node needs to know before it starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Who this node is.
    pub node: NodeConfig,
    /// The ring: peers, keys, timers.
    pub ring: RingSettings,
    /// The store of responses.
    pub store: StoreConfig,
    /// Purges.
    pub purge: PurgeConfig,
    /// Fills and their waiters.
    pub fetch: FetchConfig,
    /// Connections to origins.
    pub origin: OriginConfig,
    /// Who may be reached.
    pub egress: EgressConfig,
    /// What RFC 9111 leaves to the cache's operator, for targets whose route says nothing else.
    pub cache: policy::Settings,
    /// Rules for some targets; the first that matches counts. At most 1,024.
    pub routes: Vec<RouteConfig>,
    /// Servers that answer for an origin, by the name that routes use, of at most 64 bytes. At most 256;
    /// the first 20 have metrics of their own.
    pub upstreams: BTreeMap<String, UpstreamConfig>,
}

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Stable name; its keyed hash is the node's place on the ring, so a restarted pod returns to
    /// its keys. 1–253 characters. Default: the host's name, which is the pod's.
    pub name: String,
    /// `member` owns keys; `edge` routes and fetches but owns nothing (short-lived pods, Jobs).
    pub role: Role,
    /// Share of keys relative to other members, in percent, 1–1000.
    pub weight: u16,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            role: Role::Member,
            weight: 100,
        }
    }
}

/// `member` or `edge`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Owns keys.
    #[default]
    Member,
    /// Routes and fetches, owns nothing, appears in nobody's view.
    Edge,
}

/// The ring: peers, keys, timers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RingSettings {
    /// Where peers reach this node (gRPC). Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Address that peers are told. Default: `listen`, or, if that is `0.0.0.0`, the address of the
    /// interface that leads to the first seed.
    pub advertise: Option<SocketAddr>,
    /// Peers to meet first, `host:port` each. Names are resolved again for ever (a headless
    /// Service). None: this node is a ring by itself.
    pub seeds: Vec<String>,
    /// Shared by all nodes of a cluster. It keys the hash of names and cache keys, so that nobody
    /// outside can craft URLs for one pod, and nodes of another cluster are refused. Never logged.
    pub secret: String,
    /// Degree k of the de Bruijn graph; a power of two, 2–64. The same on all nodes.
    pub degree: u32,
    /// Nearest members known each way (R), 8–1024. Up to R + 1 members a request is one hop.
    pub neighbors: usize,
    /// Time between two rounds of stabilize, 100 ms – 60 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub stabilize: Duration,
    /// How long a new owner asks the previous owner first (warm join), until that has handed over what
    /// it has stored. 0 s turns both off.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub warm_join: Duration,
    /// Connections that peers may hold open here, 1–65536.
    pub max_peer_connections: usize,
}

impl Default for RingSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 4000)),
            advertise: None,
            seeds: Vec::new(),
            secret: String::new(),
            degree: 16,
            neighbors: 128,
            stabilize: Duration::from_secs(1),
            warm_join: Duration::from_secs(10),
            max_peer_connections: 1024,
        }
    }
}

/// The store of responses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Hard bound of stored bytes: bodies, fields, keys and overhead, counted by us. At least 1 MiB.
    /// One response may take a tenth of it. Keep it at or below half of the container's limit.
    pub capacity: ByteSize,
    /// Part of `capacity` for hot copies: much-asked responses of other owners, in percent, 0–20.
    pub hot_percent: u8,
    /// How long a hot copy is reused at most, 1 s – 1 h. An unsafe request (POST, PUT, DELETE…)
    /// reaches hot copies for as long.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub hot_lease: Duration,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            capacity: ByteSize::mib(256),
            hot_percent: 3,
            hot_lease: Duration::from_secs(60),
        }
    }
}

/// Fills and their waiters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FetchConfig {
    /// From a request's arrival to the head of its response, 100 ms – 10 min.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// Fills at once, 1–65536; beyond it a miss is answered 503. One origin gets half of them, so
    /// that a stalled one leaves room for all others.
    pub max_fills: usize,
    /// Bytes of unfinished bodies that are kept for storing, all fills together. Beyond it a body
    /// passes through unstored.
    pub max_unfinished: ByteSize,
    /// Bytes of a passing body that wait for its slowest reader, each, 64 KiB – 16 MiB.
    pub window: ByteSize,
    /// After this long without reading, the slowest of several readers of one passing body is
    /// let go, so that it does not hold up the others.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub stall_timeout: Duration,
    /// How long a key whose response was uncacheable is fetched without collapsing (hit-for-miss).
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub uncacheable_for: Duration,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            max_fills: 4096,
            max_unfinished: ByteSize::mib(64),
            window: ByteSize::mib(1),
            stall_timeout: Duration::from_secs(10),
            uncacheable_for: Duration::from_secs(60),
        }
    }
}

/// Connections to origins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OriginConfig {
    /// DNS, TCP and TLS together, 10 ms – 60 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// From the end of the request, its body included, to the head of the origin's response,
    /// 10 ms – 10 min.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub response_timeout: Duration,
    /// Longest silence inside a response's body, and longest time for which an origin takes nothing
    /// of a request's, 100 ms – 10 min.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub idle_timeout: Duration,
    /// Idle connections kept for each origin, 0–1024.
    pub max_idle: usize,
    /// What every origin is spared.
    pub limits: LimitsConfig,
    /// What differs for one origin, by its authority or its upstream's name. At most 1,024.
    pub per_host: BTreeMap<String, LimitsOverride>,
    /// Redirects followed on behalf of the client, 0–10, every hop checked by the egress guard.
    /// 0 hands the redirect to the client, which is what HTTP means by it.
    pub max_redirects: u8,
    /// PEM file of certificate authorities to trust beside the public ones.
    pub ca_file: Option<String>,
}

impl Default for OriginConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            max_idle: 64,
            limits: LimitsConfig::default(),
            per_host: BTreeMap::new(),
            max_redirects: 0,
            ca_file: None,
        }
    }
}

/// Who may be reached. Loopback, private, link-local, metadata and own addresses are refused
/// unless an entry here names the host or a network that holds the address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EgressConfig {
    /// Hosts (`api.internal`, `*.svc.cluster.local`), addresses or networks (`10.0.0.0/8`) that may
    /// be reached although their address is not public. At most 1,024.
    pub allow: Vec<String>,
    /// As `allow`, for what clients of this node ask, and no other node: it asks such origins itself,
    /// whoever owns the key, and keeps what they answer for its own clients. At most 1,024.
    pub own: Vec<String>,
    /// Whether names without a dot (`billing`, `localhost`) are each node's own, too: for nodes whose
    /// resolvers do not have the same search domains, as pods of several namespaces.
    pub own_short_names: bool,
}

/// `condition`, or an error that names the key and its value.
fn bound(ok: bool, key: &str, value: &dyn std::fmt::Display, rule: &str) -> Result<(), String> {
    if ok {
        Ok(())
    } else {
        Err(format!("{key} = {value}: must be {rule}"))
    }
}

/// `value` within `low..=high`, or an error that names the key and its value.
fn within(key: &str, value: Duration, low: Duration, high: Duration) -> Result<(), String> {
    let rule = format!("{low:?} to {high:?}");
    bound(
        value >= low && value <= high,
        key,
        &format_args!("{value:?}"),
        &rule,
    )
}

impl Config {
    /// Checks every bound and relation.
    ///
    /// # Errors
    /// The first violation, naming the key and the value.
    pub fn check(&self) -> Result<(), String> {
        let (node, ring) = (&self.node, &self.ring);
        bound(
            (1..=253).contains(&node.name.len()),
            "node.name",
            &node.name,
            "1 to 253 characters",
        )?;
        bound(
            (1..=1000).contains(&node.weight),
            "node.weight",
            &node.weight,
            "1 to 1000",
        )?;
        let degree_ok = ring.degree.is_power_of_two() && (2..=64).contains(&ring.degree);
        bound(
            degree_ok,
            "ring.degree",
            &ring.degree,
            "a power of two from 2 to 64",
        )?;
        bound(
            (8..=1024).contains(&ring.neighbors),
            "ring.neighbors",
            &ring.neighbors,
            "8 to 1024",
        )?;
        within(
            "ring.stabilize",
            ring.stabilize,
            Duration::from_millis(100),
            Duration::from_secs(60),
        )?;
        let connections = ring.max_peer_connections;
        bound(
            (1..=65_536).contains(&connections),
            "ring.max_peer_connections",
            &connections,
            "1 to 65536",
        )?;
        if let Some(advertise) = ring.advertise {
            let ok = !advertise.ip().is_unspecified() && advertise.port() != 0;
            bound(
                ok,
                "ring.advertise",
                &advertise,
                "an address and port that peers can reach",
            )?;
        }
        self.check_data_path()
    }

    fn check_data_path(&self) -> Result<(), String> {
        let (store, fetch, origin) = (&self.store, &self.fetch, &self.origin);
        bound(
            store.capacity >= ByteSize::mib(1),
            "store.capacity",
            &store.capacity,
            "at least 1MiB",
        )?;
        bound(
            store.hot_percent <= 20,
            "store.hot_percent",
            &store.hot_percent,
            "0 to 20",
        )?;
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        within("store.hot_lease", store.hot_lease, s(1), s(3600))?;
        self.purge.check()?;
        within("fetch.timeout", fetch.timeout, ms(100), s(600))?;
        within("fetch.stall_timeout", fetch.stall_timeout, ms(10), s(600))?;
        within(
            "fetch.uncacheable_for",
            fetch.uncacheable_for,
            Duration::ZERO,
            s(86_400),
        )?;
        bound(
            (1..=65_536).contains(&fetch.max_fills),
            "fetch.max_fills",
            &fetch.max_fills,
            "1 to 65536",
        )?;
        let window = fetch.window;
        let window_ok = window >= ByteSize::kib(64) && window <= ByteSize::mib(16);
        bound(window_ok, "fetch.window", &window, "64KiB to 16MiB")?;
        within(
            "origin.connect_timeout",
            origin.connect_timeout,
            ms(10),
            s(60),
        )?;
        within(
            "origin.response_timeout",
            origin.response_timeout,
            ms(10),
            s(600),
        )?;
        within("origin.idle_timeout", origin.idle_timeout, ms(100), s(600))?;
        bound(
            origin.max_idle <= 1024,
            "origin.max_idle",
            &origin.max_idle,
            "0 to 1024",
        )?;
        limits::check(&origin.limits, &origin.per_host)?;
        bound(
            origin.max_redirects <= 10,
            "origin.max_redirects",
            &origin.max_redirects,
            "0 to 10",
        )?;
        let egress = [
            ("egress.allow", &self.egress.allow),
            ("egress.own", &self.egress.own),
        ];
        for (key, list) in egress {
            bound(list.len() <= 1024, key, &list.len(), "at most 1024 entries")?;
        }
        self.check_routes()
    }

    fn check_routes(&self) -> Result<(), String> {
        let (routes, upstreams) = (&self.routes, &self.upstreams);
        self.cache.check().map_err(|why| format!("cache.{why}"))?;
        // A purge for a client's tenant, below that of any route, goes out as one message.
        bound(
            routes.len() <= 1000,
            "routes",
            &routes.len(),
            "at most 1000",
        )?;
        bound(
            upstreams.len() <= 256,
            "upstreams",
            &upstreams.len(),
            "at most 256",
        )?;
        for (name, upstream) in upstreams {
            // It is a label of metrics, and a scrape has a bound.
            let ok = (1..=64).contains(&name.len()) && !name.contains(char::is_control);
            bound(ok, "a name in upstreams", name, "1 to 64 bytes of text")?;
            upstream.check(&format!("upstreams.{name}"))?;
        }
        for (index, route) in routes.iter().enumerate() {
            let key = format!("routes.{index}");
            route.check(&key)?;
            if let Some(name) = &route.upstream {
                let ok = upstreams.contains_key(name);
                bound(ok, &format!("{key}.upstream"), name, "a key of upstreams")?;
            }
        }
        Ok(())
    }
}
