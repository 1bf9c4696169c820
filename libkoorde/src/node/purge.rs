//! Purges on their way: issued here and told to every member, with a receipt; heard from others; and
//! compared with a random member at every round, so that nobody misses one for long.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method};
use tokio::time;
use tracing::{debug, info};

use super::{
    Inner, Node, Request,
    answer::Head,
    clock,
    gate::{PATIENCE, Waiting},
    peers::PeerError,
};
use crate::{
    config::Role,
    id::Id,
    metrics::count_by,
    policy::{CacheKey, Target},
    purge::{Applied, Entry, Kind, Known, PurgeRequest, Receipt, Scope, ScopeKey},
    ring::{Member, Phase},
};

/// Members asked at once.
const AT_ONCE: usize = 64;
/// Members asked for one purge, at most: those of our view, and those that they know beside it.
const MAX_ASKED: usize = 4096;
/// Messages of one exchange, at most: two are usual, more for long absences.
const MAX_TURNS: usize = 128;
/// How long the members of a round are heard: a little less than a round lasts at most, so that
/// those who do not answer are counted before it is over.
const HEAR: Duration = PATIENCE.saturating_sub(Duration::from_millis(100));

/// What one node tells another of purges, and hears from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sync {
    pub(crate) digest: u64,
    /// What the sender knows, where it asks for what it lacks.
    pub(crate) known: Option<Known>,
    pub(crate) entries: Vec<Entry>,
    /// Members that are told of a purge just now.
    pub(crate) asked: Vec<Id>,
}

/// The answer to a [`Sync`].
#[derive(Clone, Debug, Default)]
pub(crate) struct SyncReply {
    pub(crate) digest: u64,
    pub(crate) generation: u64,
    /// What the other knows, unless the digests agree.
    pub(crate) known: Option<Known>,
    pub(crate) entries: Vec<Entry>,
    /// Members that it knows beside those asked.
    pub(crate) others: Vec<(Id, Arc<str>, SocketAddr)>,
}

impl Node {
    /// Purges on every node, and returns when each member has acknowledged it or can't be reached, at
    /// the latest after `purge.timeout` for each round of them: one round where all know all.
    pub async fn purge(&self, request: &PurgeRequest) -> Receipt {
        let PurgeRequest {
            scope,
            kind,
            tenant,
        } = request;
        let tenants = [tenant.clone()];
        self.inner
            .purge(scope, *kind, &tenants, tenant.as_deref())
            .await
    }

    /// Purges, as [`purge`](Self::purge) does, what is stored for one tenant of a client's own naming:
    /// of a URL below its route's tenant ([`tenant`](Self::tenant)), of another scope below that of any
    /// route. Empty: of every tenant.
    pub async fn purge_for(&self, client: &str, scope: &Scope, kind: Kind) -> Receipt {
        let tenants = match (client, scope) {
            ("", _) => vec![None],
            (client, Scope::Url(target)) => vec![Some(self.tenant(target, client))],
            (client, _) => {
                let all = self.inner.routes.tenants_of(client).into_iter();
                all.map(Some).collect()
            }
        };
        let shown = Some(client).filter(|client| !client.is_empty());
        self.inner.purge(scope, kind, &tenants, shown).await
    }

    /// Purges known here: a number that only grows, equal on nodes that know the same.
    #[must_use]
    pub fn purge_generation(&self) -> u64 {
        self.inner.purges.generation()
    }

    /// A drill: as long as it is cut off, nothing goes from this node to a peer and nothing comes
    /// from one, as in a partition of the network.
    pub fn cut_off(&self, is_cut: bool) {
        self.inner.peers.cut(is_cut);
    }
}

impl Inner {
    /// Purges on every node, and tells which members have acknowledged it.
    async fn purge(
        self: &Arc<Self>,
        scope: &Scope,
        kind: Kind,
        tenants: &[Option<String>],
        shown: Option<&str>,
    ) -> Receipt {
        let url = match scope {
            Scope::Url(target) => self.key_of(target).url().to_vec(),
            _ => Vec::new(),
        };
        let keys = tenants
            .iter()
            .map(|tenant| ScopeKey::new(scope, tenant.as_deref(), &url));
        let keys: Vec<ScopeKey> = keys.collect();
        let scope = match shown {
            Some(tenant) => format!("{scope} for tenant {tenant}"),
            None => scope.to_string(),
        };
        let timeout = self.config.purge.timeout;
        // It holds here from now on: then all have to hear of it, though its client may hang up.
        let entries = self.issue(&keys, kind);
        let node = Arc::clone(self);
        let telling = {
            let scope = scope.clone();
            async move {
                let receipt = node.tell_all(&entries, kind, scope, timeout).await;
                info!(
                    scope = receipt.scope,
                    kind = kind.as_str(),
                    generation = receipt.generation,
                    acknowledged = receipt.acknowledged.len(),
                    unreachable = ?receipt.unreachable,
                    "Purged."
                );
                receipt
            }
        };
        let receipt = self.tasks.finish(telling).await;
        receipt.unwrap_or_else(|| self.told_nobody(kind, scope))
    }

    /// The receipt of a node that was stopped while it told the others: as far as it knows, none has
    /// heard.
    fn told_nobody(&self, kind: Kind, scope: String) -> Receipt {
        let view = self.view.load();
        let others = view.members().iter();
        let others = others.filter(|member| member.id != view.me().id);
        let mut names: Vec<String> = others.map(|member| member.name.to_string()).collect();
        names.sort();
        Receipt {
            generation: self.purges.generation(),
            kind,
            scope,
            asked: names.clone(),
            acknowledged: Vec::new(),
            unreachable: names,
        }
    }

    /// The key of a plain GET of a target: its tenant and URL are those of all keys of the target.
    pub(crate) fn key_of(&self, target: &Target) -> CacheKey {
        self.key(&Request::new(Method::GET, target.clone(), HeaderMap::new()))
    }

    /// Issues purges: they hold here, and the others have to be told.
    pub(crate) fn issue(&self, scopes: &[ScopeKey], kind: Kind) -> Vec<Entry> {
        let hard = kind == Kind::Hard;
        let me = self.view.load().me().id;
        let entries = self.purges.issue(scopes, hard, (self.life, me.0));
        count_by(&self.metrics.purges, "issued", entries.len() as u64);
        entries
    }

    /// Tells every member, at most for `timeout` each.
    pub(crate) async fn tell_all(
        &self,
        entries: &[Entry],
        kind: Kind,
        scope: String,
        timeout: Duration,
    ) -> Receipt {
        let me = self.view.load().me().clone();
        let (asked, acknowledged) = self.spread(&me, entries, timeout).await;
        let mut receipt = Receipt {
            generation: self.purges.generation(),
            kind,
            scope,
            ..Receipt::default()
        };
        for (id, name) in asked {
            let name = name.to_string();
            if acknowledged.contains(&id) {
                receipt.acknowledged.push(name.clone());
            } else {
                self.metrics.purges_unreachable.inc();
                receipt.unreachable.push(name.clone());
            }
            receipt.asked.push(name);
        }
        for names in [
            &mut receipt.asked,
            &mut receipt.acknowledged,
            &mut receipt.unreachable,
        ] {
            names.sort();
        }
        receipt
    }

    /// Tells everybody: those in view, those lost a moment ago, and whomever these know beside. In a
    /// ring too large to be known whole, each round of answers reaches as far again.
    async fn spread(
        &self,
        me: &Member,
        entries: &[Entry],
        timeout: Duration,
    ) -> (BTreeMap<Id, Arc<str>>, Vec<Id>) {
        let view = self.view.load_full();
        let lost = self.gate.lost(clock::now().instant);
        let known = view.members().iter().chain(&lost);
        let mut next: BTreeMap<Id, (Arc<str>, SocketAddr)> = known
            .filter(|member| member.id != me.id)
            .map(|member| (member.id, (Arc::clone(&member.name), member.addr)))
            .collect();
        let mut asked: BTreeMap<Id, Arc<str>> = BTreeMap::new();
        let mut acknowledged = Vec::new();
        while !next.is_empty() && asked.len() < MAX_ASKED {
            let batch = std::mem::take(&mut next);
            asked.extend(batch.iter().map(|(id, (name, _))| (*id, Arc::clone(name))));
            let mut told: Vec<Id> = asked.keys().copied().collect();
            told.push(me.id);
            let told = &told;
            let answers = stream::iter(batch).map(|(id, (_, to))| async move {
                (id, self.tell(to, entries, told, timeout).await)
            });
            let mut answers = answers.buffer_unordered(AT_ONCE);
            while let Some((id, answer)) = answers.next().await {
                let Some(others) = answer else { continue };
                acknowledged.push(id);
                let news = others.into_iter();
                let news = news.filter(|(id, ..)| *id != me.id && !told.contains(id));
                next.extend(news.map(|(id, name, addr)| (id, (name, addr))));
            }
        }
        (asked, acknowledged)
    }

    /// Tells one member, twice if need be; the members it knows beside those asked, once it knows
    /// all that we know.
    async fn tell(
        &self,
        to: SocketAddr,
        entries: &[Entry],
        asked: &[Id],
        timeout: Duration,
    ) -> Option<Vec<(Id, Arc<str>, SocketAddr)>> {
        let deadline = clock::now().instant + timeout;
        for _ in 0..2 {
            let left = deadline.saturating_duration_since(clock::now().instant);
            let first = Sync {
                entries: entries.to_vec(),
                asked: asked.to_vec(),
                ..Sync::default()
            };
            match self.exchange(to, first, left.min(timeout / 2)).await {
                Ok(others) => return Some(others),
                Err(why) => debug!(%to, ?why, "A purge was not acknowledged."),
            }
        }
        None
    }

    /// Brings a peer's knowledge and ours together, within `timeout`.
    pub(crate) async fn sync_with(
        &self,
        to: SocketAddr,
        timeout: Duration,
    ) -> Result<(), PeerError> {
        let answer = self.exchange(to, Sync::default(), timeout).await;
        answer.map(|_| ())
    }

    /// Tells and hears until the peer knows all that we know, and we what it knows. The first message
    /// is a digest, and the last if they agree.
    async fn exchange(
        &self,
        to: SocketAddr,
        mut sync: Sync,
        timeout: Duration,
    ) -> Result<Vec<(Id, Arc<str>, SocketAddr)>, PeerError> {
        let deadline = clock::now().instant + timeout;
        let mut others = Vec::new();
        for turn in 0..MAX_TURNS {
            let left = deadline.saturating_duration_since(clock::now().instant);
            sync.digest = self.purges.digest();
            let reply = self.peers.sync(to, &self.cluster, &sync, left).await?;
            if turn == 0 {
                others = reply.others;
            }
            let Some(theirs) = reply.known else {
                return Ok(others);
            };
            self.hear(&reply.entries, &theirs);
            let is_done = sync.known.is_some() && self.purges.covers_all(&theirs);
            if is_done && self.purges.is_covered_by(&theirs) {
                return Ok(others);
            }
            sync = Sync {
                known: Some(self.purges.known()),
                entries: self.purges.missing(&theirs),
                ..Sync::default()
            };
        }
        Err(PeerError::Refused(format!(
            "{MAX_TURNS} messages of purges, and no end"
        )))
    }

    fn hear(&self, entries: &[Entry], theirs: &Known) {
        let applied = self.purges.merge(entries, theirs.horizon);
        self.count_heard(applied, "synced");
    }

    fn count_heard(&self, applied: Applied, how: &'static str) {
        if applied == Applied::default() {
            return;
        }
        count_by(&self.metrics.purges, how, applied.applied);
        count_by(&self.metrics.purges, "folded", applied.folded);
    }

    /// What a peer tells and asks. Answered from memory: it waits for nobody.
    pub(crate) fn on_sync(&self, sync: &Sync) -> SyncReply {
        let horizon = sync.known.as_ref().map(|known| known.horizon);
        let applied = self
            .purges
            .merge(&sync.entries, horizon.unwrap_or_default());
        let is_issued = !sync.asked.is_empty();
        self.count_heard(applied, if is_issued { "received" } else { "synced" });
        let view = self.view.load();
        let others = view.members().iter().filter(|member| {
            is_issued && member.id != view.me().id && !sync.asked.contains(&member.id)
        });
        let digest = self.purges.digest();
        let agree = digest == sync.digest;
        SyncReply {
            digest,
            generation: self.purges.generation(),
            known: (!agree).then(|| self.purges.known()),
            entries: match &sync.known {
                Some(theirs) => self.purges.missing(theirs),
                None => Vec::new(),
            },
            others: others
                .map(|member| (member.id, Arc::clone(&member.name), member.addr))
                .collect(),
        }
    }

    /// Whether a purge asks this node. One that it does not ask reuses nothing for its clients: an
    /// edge, which is in nobody's view, and a node that has left the others' views, though not the
    /// last one of a ring.
    pub(crate) fn hears_of_purges(&self) -> bool {
        if self.config.node.role == Role::Edge {
            return false;
        }
        let view = self.view.load();
        let is_gone = matches!(view.state(), Phase::Leaving | Phase::Left);
        !is_gone
            || view
                .members()
                .iter()
                .all(|member| member.id == view.me().id)
    }

    /// The newest purge that takes what a flight has brought, if it came after the flight's start:
    /// then whoever asks now may not have it.
    pub(crate) fn purged_since(&self, born: u64, key: &CacheKey, head: &Head) -> Option<u64> {
        if self.purges.version() == born {
            return None;
        }
        let tags = head.shared.as_ref().map(|shared| &shared.tags);
        Some(self.purges.newest(key, tags)).filter(|newest| *newest > born)
    }

    /// Compares what it knows with a random member at every round, and at once with each that has
    /// come into view. Ends with the node.
    pub(crate) async fn hear_of_purges(self: Arc<Self>) {
        let node = &*self;
        let mut is_wanted = false;
        loop {
            if !is_wanted {
                let wanted = time::timeout(node.config.ring.stabilize, node.gate.wanted());
                is_wanted = wanted.await.is_ok();
            }
            let (to, is_waited_for) = node.to_hear(is_wanted);
            let deadline = clock::now().instant + HEAR;
            let talks = stream::iter(to).for_each_concurrent(AT_ONCE, |to| async move {
                let left = deadline.saturating_duration_since(clock::now().instant);
                if let Err(why) = node.sync_with(to, left).await {
                    debug!(%to, ?why, "A member can't be asked for the purges that it knows.");
                }
            });
            let is_over = node.gate.round(talks, is_waited_for).await;
            if is_over {
                node.gate.heard(clock::now().instant);
            }
            is_wanted = !is_over;
        }
    }

    /// Whom to ask now: whoever the gate waits for; if it is nobody, a random member. And whether
    /// somebody waits for it.
    fn to_hear(&self, is_wanted: bool) -> (BTreeSet<SocketAddr>, bool) {
        let Waiting { members, everybody } = self.gate.take();
        // One may have come between the time for a round and this.
        let is_wanted = is_wanted || everybody || !members.is_empty();
        let mut to: BTreeSet<SocketAddr> = members.iter().map(|member| member.addr).collect();
        let view = self.view.load();
        let others = view.members().iter();
        let others: Vec<SocketAddr> = others
            .filter(|member| member.id != view.me().id)
            .map(|member| member.addr)
            .collect();
        if everybody {
            to.extend(others);
        } else if !is_wanted && !others.is_empty() {
            // Nanoseconds are random enough.
            let age = clock::now().instant.saturating_duration_since(self.started);
            let draw = age.as_nanos() / 64 % others.len() as u128;
            to.extend(others.get(usize::try_from(draw).unwrap_or(0)));
        }
        (to, is_wanted)
    }
}
