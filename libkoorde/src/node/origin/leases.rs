//! Who owns an origin's cluster-wide budget: found like the owner of a key, asked over gRPC, or
//! answered here.
//!
//! A new owner begins with an empty book. What the old one has granted is over after [`VALID`], so
//! for so long after a change of owner the cluster may use up to twice a budget, and never more.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use arc_swap::ArcSwap;

use super::{
    super::{clock, driver, peers::Peers, tasks::Tasks},
    ledger::{Ask, Grant, Ledger},
};
use crate::{
    config::OriginConfig,
    id::{Hasher, KeyId},
    metrics::Metrics,
    ring::{Member, RingView},
};

/// Budgets that are kept here at once. One more is not granted, and its fillers use fair shares.
const MAX_LEDGERS: usize = 4096;
/// An owner answers from memory. Meanwhile nothing starts, so its silence must be short.
const ANSWER: Duration = Duration::from_millis(500);

/// What a budget needs of the rest of the node.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) view: Arc<ArcSwap<RingView>>,
    pub(crate) driver: driver::Handle,
    pub(crate) hasher: Hasher,
    pub(crate) peers: Arc<Peers>,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Arc<Metrics>,
    /// This node's name.
    pub(crate) name: String,
    /// Fingerprint of the cluster's secret.
    pub(crate) cluster: String,
}

/// Budgets' owners, this node among them.
#[derive(Debug)]
pub(crate) struct Leases {
    parts: Parts,
    config: OriginConfig,
    /// The node's name and start: after a restart it holds nothing.
    holder: String,
    number: AtomicU64,
    ledgers: Mutex<BTreeMap<String, Ledger>>,
}

impl Leases {
    pub(super) fn new(parts: Parts, config: &OriginConfig) -> Self {
        let started = clock::now().wall.duration_since(UNIX_EPOCH);
        let started = started.unwrap_or_default().as_nanos();
        Self {
            holder: format!("{}/{started:x}", parts.name),
            parts,
            config: config.clone(),
            number: AtomicU64::new(1),
            ledgers: Mutex::default(),
        }
    }

    /// Asks the owner of an origin's budget; `None` if it can't be reached, or refuses.
    pub(super) async fn ask(&self, origin: &str, ask: Ask) -> Option<Grant> {
        let owner = self.owner(origin).await?;
        if owner.id == self.parts.view.load().me().id {
            return self.grant(origin, &self.holder, &ask);
        }
        let lease = super::super::wire::lease(&self.parts.cluster, origin, &self.holder, &ask);
        let answer = self.parts.peers.lease(owner.addr, lease, ANSWER).await;
        answer
            .inspect_err(|error| tracing::debug!(?error, "No lease of an origin's budget."))
            .ok()
    }

    async fn owner(&self, origin: &str) -> Option<Member> {
        let key = self.key(origin);
        let view = self.parts.view.load_full();
        if view.is_complete() {
            return view.owner(key).cloned();
        }
        let found = self.parts.driver.find(key, ANSWER).await?;
        found.owners.into_iter().next()
    }

    fn key(&self, origin: &str) -> KeyId {
        // No cache key begins like this, so that budgets and responses have owners of their own.
        self.parts
            .hasher
            .key_id(format!("budget of {origin}").as_bytes())
    }

    /// Answers a holder, as the owner.
    pub(crate) fn grant(&self, origin: &str, holder: &str, ask: &Ask) -> Option<Grant> {
        let limits = self.config.limits.of(&self.config.per_host, origin);
        if limits.cluster_max_concurrent == 0 && limits.cluster_rate == 0 {
            return None;
        }
        let now = clock::now().instant;
        let mut ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        if ledgers.len() >= MAX_LEDGERS && !ledgers.contains_key(origin) {
            ledgers.retain(|_, ledger| !ledger.is_blank(now));
            if ledgers.len() >= MAX_LEDGERS {
                return None;
            }
        }
        let (limit, rate) = (limits.cluster_max_concurrent, limits.cluster_rate);
        let new = || Ledger::new(limit, rate, limits.burst, now);
        let ledger = ledgers.entry(origin.to_owned()).or_insert_with(new);
        ledger.grant(holder, ask, now)
    }

    /// The number of the next ask.
    pub(super) fn number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn members(&self) -> usize {
        self.parts.view.load().members().len()
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.parts.tasks
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }
}
