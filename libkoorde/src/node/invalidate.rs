//! What an unsafe request makes stale (RFC 9111 §4.4) is stale for every node before the answer is
//! sent, though the answer waits for three members and not for all of them.
//!
//! The first owners of a key are told first. They know whether a hot copy of theirs may still be held
//! by others: then the answer waits for everybody. If not, everybody else is told a moment later
//! (`later.rs`), for the day when they are owners of the key (again).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use http::{HeaderMap, Method};
use tokio::time;

use super::{Inner, Node, Overrides, Request, clock, fetch::REPLICAS, later::Told};
use crate::{
    metrics::count_by,
    policy::{CacheKey, Target},
    purge::{Kind, Scope, ScopeKey},
    store::Variants,
};

/// How long an unsafe request waits for this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// How long members are told: a little less, so that those who do not answer are counted before that.
const TELL: Duration = PATIENCE.saturating_sub(Duration::from_millis(100));
/// How long the first owners are waited for, so that there is time for everybody.
const OWNERS: Duration = Duration::from_millis(400);

/// URLs of one tenant that are stale.
#[derive(Clone, Debug)]
pub(crate) struct Stale {
    pub(crate) tenant: String,
    /// [`CacheKey::url`] each.
    pub(crate) urls: Vec<Vec<u8>>,
}

impl Node {
    /// The whole name of a client's tenant for a target: below the one of its route.
    #[must_use]
    pub fn tenant(&self, target: &Target, client: &str) -> String {
        self.inner
            .routes
            .find(target)
            .tenant_of(client)
            .into_owned()
    }

    /// Makes what is stored of these targets stale on every node, as after an unsafe request that
    /// succeeded (RFC 9111 §4.4): of this client's tenant only, or of none. All are of one origin;
    /// members that can't be reached within a second are skipped and counted.
    ///
    /// # Errors
    /// The tenant is none ([`Overrides::new`]).
    pub async fn invalidate(&self, targets: &[Target], tenant: &str) -> Result<(), String> {
        let Some(first) = targets.first() else {
            return Ok(());
        };
        Overrides::new(first, tenant, "", None)?;
        self.inner.invalidate(first, targets, &[], tenant).await;
        Ok(())
    }
}

impl Inner {
    /// Makes what is stored of these targets, and of groups of the origin of `asked`, stale
    /// everywhere. Members that can't be reached are skipped and counted.
    pub(crate) async fn invalidate(
        self: &Arc<Self>,
        asked: &Target,
        targets: &[Target],
        groups: &[String],
        tenant: &str,
    ) {
        let node = Arc::clone(self);
        let group = |name: &String| Scope::group(asked.clone(), name).ok();
        let groups: Vec<Scope> = groups.iter().filter_map(group).collect();
        let (targets, tenant) = (targets.to_vec(), tenant.to_owned());
        let deadline = clock::now().instant + TELL;
        let both = self.tasks.finish(async move {
            tokio::join!(
                node.invalidate_urls(&targets, &tenant, deadline),
                node.invalidate_groups(&groups)
            );
        });
        // Over: the telling goes on, so that all who do not hear are counted; in a ring too large to be
        // known whole it takes several rounds. RFC 9111 asks for no more than what is within reach.
        let _done_or_not = time::timeout(PATIENCE, both).await;
    }

    async fn invalidate_groups(&self, groups: &[Scope]) {
        let keys = groups.iter().map(|scope| ScopeKey::new(scope, None, &[]));
        let keys: Vec<ScopeKey> = keys.collect();
        if !keys.is_empty() {
            let entries = self.issue(&keys, Kind::Soft);
            let _receipt = self
                .tell_all(&entries, Kind::Soft, String::new(), TELL)
                .await;
        }
    }

    async fn invalidate_urls(&self, targets: &[Target], tenant: &str, deadline: Instant) {
        let key = |target: &Target| {
            let mut request = Request::new(Method::GET, target.clone(), HeaderMap::new());
            request.overrides = Overrides::new(target, tenant, "", None).unwrap_or_default();
            self.key(&request)
        };
        let keys: Vec<CacheKey> = targets.iter().map(key).collect();
        let Some(first) = keys.first() else { return };
        let stale = Stale {
            tenant: first.tenant().to_owned(),
            urls: keys.iter().map(|key| key.url().to_vec()).collect(),
        };
        let has_many_keys = |target: &Target| self.routes.find(target).has_many_keys();
        let mut everybody = self.make_stale(&stale) || targets.iter().any(has_many_keys);
        let mut first = BTreeSet::new();
        for owners in join_all(keys.iter().map(|key| self.first_owners(key))).await {
            match owners {
                Some(owners) => first.extend(owners),
                None => everybody = true,
            }
        }
        let answers = self.tell_stale(first.clone(), &stale, OWNERS).await;
        // Whose copies others may hold: who says so, and who does not say.
        everybody |= first.iter().any(|owner| answers.get(owner) != Some(&false));
        let to = answers.into_keys().collect();
        let mut told = Told { stale, first, to };
        if self.lacking(&told).is_empty() || (!everybody && self.later.add(told.clone())) {
            return;
        }
        let left = deadline.saturating_duration_since(clock::now().instant);
        let lacking = self.lacking(&told);
        let answers = self.tell_stale(lacking, &told.stale, left).await;
        told.to.extend(answers.into_keys());
        let silent = self.lacking(&told).len() as u64;
        // Once more, and who is silent then is counted; at once if there is no more room.
        if silent > 0 && !self.later.add(told) {
            self.metrics.purges_unreachable.at(0).inc_by(silent);
        }
    }

    /// The addresses of all who have not been told: of members but this one, and of first owners.
    fn lacking(&self, told: &Told) -> BTreeSet<SocketAddr> {
        let all = self.others().into_iter().chain(told.first.iter().copied());
        all.filter(|to| !told.to.contains(to)).collect()
    }

    /// The addresses of all members but this one.
    pub(crate) fn others(&self) -> Vec<SocketAddr> {
        let view = self.view.load();
        let others = view.members().iter();
        let others = others.filter(|member| member.id != view.me().id);
        others.map(|member| member.addr).collect()
    }

    /// The addresses of the first owners of a key, without ours; none if they can't be found.
    async fn first_owners(&self, key: &CacheKey) -> Option<Vec<SocketAddr>> {
        let id = self.hasher.key_id(key.as_bytes());
        let view = self.view.load_full();
        let me = view.me().id;
        let owners = if view.is_complete() {
            view.owners(id, REPLICAS).into_iter().cloned().collect()
        } else {
            self.driver.find(id, OWNERS).await?.owners
        };
        let others = owners.iter().filter(|member| member.id != me);
        Some(others.map(|member| member.addr).collect())
    }

    /// Those that answered, and whether each may have given copies away.
    async fn tell_stale(
        &self,
        to: BTreeSet<SocketAddr>,
        stale: &Stale,
        timeout: Duration,
    ) -> BTreeMap<SocketAddr, bool> {
        let tell = async |to| Some((to, self.tell_one(to, stale, timeout).await?));
        let answers = join_all(to.into_iter().map(tell)).await;
        answers.into_iter().flatten().collect()
    }

    /// Whether it may have given copies away; none if it does not answer.
    pub(crate) async fn tell_one(
        &self,
        to: SocketAddr,
        stale: &Stale,
        timeout: Duration,
    ) -> Option<bool> {
        let answer = self.peers.invalidate(to, &self.cluster, stale, timeout);
        answer.await.ok()
    }

    /// Makes these stale here; whether others may hold copies of them that came from this node.
    pub(crate) fn make_stale(&self, stale: &Stale) -> bool {
        count_by(&self.metrics.purges, "invalidated", stale.urls.len() as u64);
        let (now, lease) = (clock::now().instant, self.config.store.hot_lease);
        let keys = stale.urls.iter();
        let keys = keys.map(|url| ScopeKey::url(Some(&stale.tenant), url));
        self.purges.mark(keys, now);
        // Who owned the key until a moment ago may have given copies away, too.
        self.gate.changed_within(lease, now)
            || stale.urls.iter().any(|url| self.leases.may_hold(url, now))
    }

    /// Whether we are one of the first owners of a key. What we hold of other keys, from times when
    /// we were, may have been made stale by an unsafe request of which we are told only later.
    pub(crate) fn is_among_owners(&self, key: &CacheKey, variants: &Variants) -> bool {
        let version = self.driver.version();
        if variants.owned_in.load(Ordering::Relaxed) == version || self.is_own(key) {
            return true;
        }
        let view = self.view.load();
        let owners = view.owners(self.hasher.key_id(key.as_bytes()), REPLICAS);
        let is_alone = view
            .members()
            .iter()
            .all(|member| member.id == view.me().id);
        let is_owner = is_alone || owners.iter().any(|member| member.id == view.me().id);
        if is_owner {
            variants.owned_in.store(version, Ordering::Relaxed);
        }
        is_owner
    }
}
