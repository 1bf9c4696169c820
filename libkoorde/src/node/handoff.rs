//! Hand-off: what a node has stored goes to who owns it from now on, when the node leaves and when
//! another one joins.
//!
//! Who leaves announces that it leaves first, so that several which leave at once do not hand each other
//! what then is gone; one that is asked all the same says so, and the next owner is asked. The smallest
//! responses go first: each saves a request of the origin, whatever its size, and the deadline may cut
//! the rest off. Best effort: without all this more is fetched, and no answer is another.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use koorde_proto::peer::v1::HandOffRequest;
use tokio::{sync::mpsc, time};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, info};

use super::{Inner, clock, peers::PeerError, wire};
use crate::{
    id::Id,
    metrics::{count, count_by},
    policy::CacheKey,
    ring::{Member, Phase},
    store::Stored,
};

mod departed;
mod taking;
#[cfg(test)]
mod tests;

pub(crate) use departed::Departed;

/// How long it may take to tell a peer of purges that it lacks.
const TELL: Duration = Duration::from_secs(5);
/// Before who would not take something is asked once more.
const AGAIN: Duration = Duration::from_millis(100);
/// From a change of members until what new ones own is handed over to them: several come at once, and
/// they have to hear of all the others first.
const SETTLES: Duration = Duration::from_millis(500);
/// How long that may take. What is not there by then is asked for, or fetched.
const WELCOME: Duration = Duration::from_secs(60);
/// Times that a member can't be reached before the next owner gets its share.
const TRIES: usize = 3;
/// What is added to the age of a response before it is compared with unsafe requests: more than its
/// first message may be on its way, as connections on which no ping is answered end sooner, and more
/// than there is between the first of several redirects and the last.
const JOURNEY: Duration = Duration::from_secs(10);
/// Members that take over at once.
const AT_ONCE: usize = 16;
/// Messages on their way to one of them.
const QUEUE: usize = 8;
/// What one member is to have.
struct Share {
    member: Member,
    keys: Vec<CacheKey>,
}

/// What became of a share.
struct Given {
    /// Keys that it did not take.
    left: Vec<CacheKey>,
    /// The member, if it leaves itself.
    gone: Option<Id>,
    /// The member, if it could not be reached.
    missed: Option<Id>,
}

/// How far the sending has come.
#[derive(Default)]
struct Sent {
    /// For each response the place of its key.
    places: Vec<usize>,
    /// Keys of which all responses were sent.
    keys: usize,
}

impl Inner {
    /// Hands over all that is stored here, until that is done; to be called when this node has
    /// announced that it leaves, with a deadline.
    pub(crate) async fn hand_over(&self) {
        let keys = self.store.keys_by_weight();
        info!(keys = keys.len(), "Handing over what is stored here.");
        self.hand_over_these(keys).await;
        info!("Handed over what was stored here.");
    }

    /// Hands over to each new member what it owns, as long as the node runs.
    pub(crate) async fn welcome(self: Arc<Self>) {
        let mut changes = self.driver.changes();
        let mut known = BTreeMap::new();
        while changes.changed().await.is_ok() {
            time::sleep(SETTLES).await;
            changes.mark_unchanged();
            let view = self.view.load_full();
            let before = std::mem::take(&mut known);
            known = view.members().iter().map(|m| (m.id, m.addr)).collect();
            let is_new = |id: Id| id != view.me().id && before.get(&id) != known.get(&id);
            if view.state() != Phase::Active || !known.keys().any(|id| is_new(*id)) {
                continue;
            }
            let mut keys = self.store.keys_by_weight();
            keys.retain(|key| {
                let owner = view.owner(self.hasher.key_id(key.as_bytes()));
                owner.is_some_and(|owner| is_new(owner.id))
            });
            debug!(keys = keys.len(), "Handing over what new members own.");
            let _done_or_not = time::timeout(WELCOME, self.hand_over_these(keys)).await;
        }
    }

    /// Whether what another node has stored, of this age, may be from before an unsafe request for it
    /// was answered (RFC 9111 §4.4).
    ///
    /// Nobody is sure to have been told of every unsafe request: not a node that is no member yet, and
    /// not one that leaves, of which whoever made the request may have heard before we did. So it is
    /// asked of all that comes from one of those. To refuse whatever was ever asked for with an unsafe
    /// method came to refusing nearly all, where many URLs are written.
    pub(crate) fn may_be_from_before(&self, key: &CacheKey, age: Duration) -> bool {
        let age = age.saturating_add(JOURNEY);
        let now = clock::now().instant;
        self.purges.is_marked_within(key, age, now)
    }

    async fn hand_over_these(&self, mut left: Vec<CacheKey>) {
        let (mut gone, mut missed) = (Vec::new(), Vec::new());
        loop {
            let shares = self.shares(std::mem::take(&mut left), &gone);
            let given = stream::iter(shares).map(|share| self.give(share));
            let given: Vec<Given> = given.buffer_unordered(AT_ONCE).collect().await;
            for given in given {
                left.extend(given.left);
                gone.extend(given.gone);
                missed.extend(given.missed);
                // It may only have been slow.
                let times = missed
                    .iter()
                    .filter(|id| given.missed == Some(**id))
                    .count();
                gone.extend(given.missed.filter(|_| times >= TRIES));
            }
            if left.is_empty() {
                break;
            }
            time::sleep(AGAIN).await;
        }
    }

    /// Who owns what when this node and those that are `gone` are not there. What lies where this
    /// node does not know the owners stays behind.
    fn shares(&self, keys: Vec<CacheKey>, gone: &[Id]) -> Vec<Share> {
        let view = self.view.load();
        let me = view.me().id;
        let mut shares: BTreeMap<Id, Share> = BTreeMap::new();
        for key in keys.into_iter().filter(|key| !self.is_own(key)) {
            let owners = view.owners(self.hasher.key_id(key.as_bytes()), gone.len() + 2);
            let mut there = owners
                .into_iter()
                .filter(|owner| owner.id != me && !gone.contains(&owner.id));
            if let Some(owner) = there.next() {
                let share = shares.entry(owner.id).or_insert_with(|| Share {
                    member: owner.clone(),
                    keys: Vec::new(),
                });
                share.keys.push(key);
            }
        }
        shares.into_values().collect()
    }

    async fn give(&self, Share { member, keys }: Share) -> Given {
        let (mut sent, mut gone, mut missed) = (Sent::default(), None, None);
        let taken = match self.offer_all(&member, &keys, &mut sent).await {
            Ok(reply) => {
                gone = reply.leaving.then_some(member.id);
                usize::try_from(reply.taken).unwrap_or(usize::MAX)
            }
            Err(why) => {
                debug!(member = %member.name, ?why, "It takes nothing over now.");
                missed = matches!(why, PeerError::Unreachable(_)).then_some(member.id);
                0
            }
        };
        let place = sent.places.get(taken).copied().unwrap_or(sent.keys);
        Given {
            left: keys.into_iter().skip(place.min(sent.keys)).collect(),
            gone,
            missed,
        }
    }

    /// Sends what is stored under these keys, noting what has been sent.
    async fn offer_all(
        &self,
        member: &Member,
        keys: &[CacheKey],
        sent: &mut Sent,
    ) -> Result<koorde_proto::peer::v1::HandOffReply, PeerError> {
        self.sync_with(member.addr, TELL).await?;
        let me = self.view.load().me().id;
        let start = wire::hand_off_start(&self.cluster, me, self.purges.digest());
        let started = clock::now().instant;
        let (queue, requests) = mpsc::channel(QUEUE);
        let requests = stream::iter([start]).chain(ReceiverStream::new(requests));
        let mut reply = std::pin::pin!(self.peers.hand_off(member.addr, requests));
        let writing = async {
            for (place, key) in keys.iter().enumerate() {
                let now = clock::now().instant;
                let variants = self.store.get(key, now);
                let all = variants.iter().flat_map(|variants| &variants.all);
                for stored in all.filter(|stored| stored.head.is_fresh(now)) {
                    sent.places.push(place);
                    if !self.offer(&queue, key, stored, started).await {
                        return;
                    }
                }
                sent.keys = place + 1;
            }
            drop(queue);
        };
        tokio::select! {
            biased;
            reply = &mut reply => return reply,
            () = writing => (),
        }
        reply.await
    }

    /// Whether it is still wanted.
    async fn offer(
        &self,
        queue: &mpsc::Sender<HandOffRequest>,
        key: &CacheKey,
        stored: &Stored,
        started: Instant,
    ) -> bool {
        let now = clock::now().instant;
        let head = wire::handed_over(key, stored, now, now - started);
        if queue.send(head).await.is_err() {
            return false;
        }
        for chunk in &stored.chunks {
            if queue.send(wire::handed_chunk(chunk)).await.is_err() {
                return false;
            }
        }
        count(&self.metrics.handed_over, "sent");
        count_by(&self.metrics.handed_over_bytes, "sent", stored.length);
        true
    }
}
