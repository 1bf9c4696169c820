//! The request path, in four steps:
//!
//! 1. A fresh stored response answers at once.
//! 2. Not ours: ask the owner, who alone asks the origin; its replicas in order if it can't be
//!    reached; in the end, the origin ourselves.
//! 3. Ours: join the fill of this key, or start it. Whoever waits reads the same bytes as they
//!    arrive.
//! 4. What may be shared is stored by the fill; what may not lets the waiters go at once.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, header};
use tokio::time;

use super::{
    Inner, Request,
    answer::{Answer, Head},
    clock,
    miss::{Miss, decide, may_share},
    relay::{Failure, Reader},
    request::Interim,
    slices::is_whole,
};
use crate::{
    error::FetchError,
    metrics::count,
    outcome::{CacheResult, Outcome, Tier},
    policy::{
        CacheKey, Forward, Now, Reuse, fields::cache_control::RequestDirectives, forwarding, reuse,
    },
    ring::protocol::Member,
    store::Stored,
};

/// Who asks. What a client sends can't claim to be a peer: peers have a port of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hop {
    /// A client's request.
    Client,
    /// A peer takes us for the owner. Never forwarded again, whatever we think of it.
    Forwarded,
}

/// What the stores of one node say to a request.
#[derive(Debug)]
pub(crate) enum Found {
    /// Here it is.
    Answer(Answer),
    /// It may be used, and is to be renewed (RFC 5861 §3).
    Stale(Answer, Box<Miss>),
    /// Somebody else has to be asked.
    Miss(Box<Miss>),
}

impl Inner {
    /// Answers one request and counts it. Of a client: what is at hand has answered it before, if it
    /// could.
    pub(crate) async fn fetch(
        self: &Arc<Self>,
        request: Request,
        hop: Hop,
        timeout: Duration,
    ) -> Result<Answer, FetchError> {
        // A forwarded request is counted where the client asked, so that sums over nodes are right.
        let asked = (hop == Hop::Client).then(|| self.metrics.asked());
        let answer = self.answer_or_own(request, hop, timeout).await;
        let outcome = match &answer {
            Ok(answer) => answer.outcome,
            Err(_) => Outcome {
                result: CacheResult::Error,
                tier: Tier::Origin,
                collapsed: false,
            },
        };
        if let Some(asked) = asked {
            asked.answered(outcome);
            if let Err(error) = &answer {
                self.metrics.failed(error);
            }
        }
        answer
    }

    pub(crate) async fn answer(
        self: &Arc<Self>,
        request: Request,
        hop: Hop,
        timeout: Duration,
    ) -> Result<Answer, FetchError> {
        match self.look_up(request, hop, timeout).await? {
            Found::Answer(answer) => Ok(answer),
            Found::Stale(answer, miss) => {
                // Who wants nothing but what is stored makes nobody ask the origin.
                if !miss.only_if_cached {
                    self.refresh(*miss);
                }
                Ok(answer)
            }
            Found::Miss(miss) => self.fill(*miss).await,
        }
    }

    /// What the stores here say to a request.
    pub(crate) async fn look_up(
        self: &Arc<Self>,
        request: Request,
        hop: Hop,
        timeout: Duration,
    ) -> Result<Found, FetchError> {
        // Before it joins others: it might wait for itself, and only who forged it is to fail by it.
        if forwarding::is_loop(&request.fields, &self.hop) {
            return Err(FetchError::Loop);
        }
        self.gate.pass(clock::now().instant).await;
        let now = clock::now();
        let mut route = Arc::clone(self.routes.find(&request.target));
        if let Some(lifetime) = request.overrides.lifetime() {
            route = Arc::new(route.with_lifetime(lifetime));
        }
        let key = self.key(&request);
        if hop == Hop::Forwarded && self.is_own(&key) {
            // The peer asks for itself.
            return Err(FetchError::NotShared { lasts: true });
        }
        let hears = hop == Hop::Forwarded || self.hears_of_purges();
        let variants = self.store.get(&key, now.instant).filter(|variants| {
            hop == Hop::Forwarded || hears && self.is_among_owners(&key, variants)
        });
        let asked = (&request.method, &request.fields);
        let reuse = decide(asked, variants.as_deref(), now);
        // Also where something stale may be used: it is not to be renewed for this request.
        let only_if_cached = RequestDirectives::read(&request.fields).only_if_cached;
        if let Reuse::Fresh { index } = reuse
            && let Some(stored) = variants
                .as_ref()
                .and_then(|variants| variants.all.get(index))
        {
            let hit = self.hit(asked, stored, CacheResult::Hit, Tier::Local, now);
            return Ok(Found::Answer(hit));
        }
        let (owners, detail) = match hop {
            Hop::Client => self.owners(&key).await,
            Hop::Forwarded => {
                self.note_disagreement(&key);
                (Vec::new(), None)
            }
        };
        let ours = owners.is_empty();
        if !ours
            && hears
            && let Some(stored) = self.hot_copy(asked, &key, now)
        {
            let hit = self.hit(asked, &stored, CacheResult::Hit, Tier::Hot, now);
            return Ok(Found::Answer(hit));
        }
        let stored = |index: usize| {
            variants
                .as_ref()
                .and_then(|all| all.all.get(index))
                .cloned()
        };
        let mut usable = None;
        let (stale, forward) = match reuse {
            Reuse::StaleWhileRevalidate { index } if ours && let Some(stored) = stored(index) => {
                let hit = self.hit(asked, &stored, CacheResult::Stale, Tier::Local, now);
                count(&self.metrics.stale_served, "swr");
                usable = Some(hit);
                (Some(stored), Forward::Stale)
            }
            Reuse::OnlyIfCached if ours => return Err(FetchError::NotStored),
            Reuse::Validate { index, forward } => (stored(index), forward),
            Reuse::StaleWhileRevalidate { index } => (stored(index), Forward::Stale),
            Reuse::Forward(forward) => (None, forward),
            Reuse::Fresh { .. } | Reuse::OnlyIfCached => (None, Forward::Miss),
        };
        let miss = Box::new(Miss {
            request,
            after: self.purges.newest(&key, None),
            collapses: hears && route.collapse,
            key,
            route,
            // What we hold of another's key is no reason for a condition: the owner has the right one.
            stale: stale.filter(|_| ours),
            forward,
            owners,
            detail,
            forwarded: hop == Hop::Forwarded,
            only_if_cached,
            deadline: now.instant + timeout,
        });
        Ok(match usable {
            Some(answer) => Found::Stale(answer, miss),
            None => Found::Miss(miss),
        })
    }

    /// The cache key of a request, by the rules of the route of its place.
    pub(crate) fn key(&self, request: &Request) -> CacheKey {
        self.routes.find(request.place()).key(request)
    }

    pub(crate) fn hit(
        &self,
        asked: (&Method, &HeaderMap),
        stored: &Arc<Stored>,
        result: CacheResult,
        tier: Tier,
        now: Now,
    ) -> Answer {
        let outcome = Outcome {
            result,
            tier,
            collapsed: false,
        };
        let carried = stored.head.carried(now.instant);
        self.metrics.stored_age.took(carried.age);
        let cache_status = vec![self.name.hit(carried.ttl())];
        Answer::from_stored(asked, stored, outcome, cache_status, now)
    }

    pub(crate) fn hot_copy(
        &self,
        asked: (&Method, &HeaderMap),
        key: &CacheKey,
        now: Now,
    ) -> Option<Arc<Stored>> {
        let variants = self.hot.get(key, now.instant)?;
        let Reuse::Fresh { index } = decide(asked, Some(&variants), now) else {
            return None;
        };
        let held = variants.all.get(index)?;
        let is_leased = held.until.is_some_and(|until| now.instant < until);
        is_leased.then(|| Arc::clone(held))
    }

    /// Whom to ask, best first; nobody if it is up to us, and why if that is not as it should be.
    async fn owners(&self, key: &CacheKey) -> (Vec<Member>, Option<&'static str>) {
        if self.is_own(key) {
            return (Vec::new(), None);
        }
        let id = self.hasher.key_id(key.as_bytes());
        let view = self.view.load();
        let owners: Vec<Member> = if view.is_complete() {
            view.owners(id, REPLICAS).into_iter().cloned().collect()
        } else {
            match self
                .driver
                .find(id, self.config.fetch.timeout.min(LOOKUP))
                .await
            {
                Some(found) => found.owners,
                None => return (Vec::new(), Some(self.not_found())),
            }
        };
        let me = view.me().id;
        (
            owners
                .into_iter()
                .take_while(|member| member.id != me)
                .collect(),
            None,
        )
    }

    /// Notes when a peer takes us for an owner that we are not in our own view. We answer all the
    /// same: forwarding it again could go round in circles.
    fn note_disagreement(&self, key: &CacheKey) {
        let view = self.view.load();
        if view.is_complete() && !view.owns(self.hasher.key_id(key.as_bytes())) {
            self.metrics.owner_disagreements.inc();
        }
    }

    /// Validates in the background, unless somebody is at it (RFC 5861 §3).
    fn refresh(self: &Arc<Self>, miss: Miss) {
        // Whoever reads it: the fill goes on without.
        let _seat = self.join(&self.renewal(miss), None);
    }

    /// What brings in place of a stale response what all want now.
    pub(crate) fn renewal(&self, mut miss: Miss) -> Miss {
        // A HEAD's answer would renew nothing, and say nothing of what a GET may wait for.
        miss.request.method = Method::GET;
        miss.forwarded = false;
        miss.only_if_cached = false;
        miss.collapses = true;
        miss.deadline = clock::now().instant + self.config.fetch.timeout;
        miss
    }

    /// Joins the fill of this request, or starts it, and answers from it.
    pub(crate) async fn fill(self: &Arc<Self>, mut miss: Miss) -> Result<Answer, FetchError> {
        let may_wait = self.may_wait(&miss);
        // More than one round: the owners may be gone, the first may have taught us the names in
        // Vary, and what it brought may have been purged on its way.
        for _ in 0..3 {
            if may_wait && self.comes_whole(&miss.request) && self.is_in_vain(&miss) {
                return Err(FetchError::NotSliced);
            }
            // None: waiting is in vain, or its first bytes have passed already.
            let seat = if may_wait {
                self.board(&miss, None)
            } else {
                None
            };
            let Some(seat) = seat else { break };
            let joined = clock::now().instant;
            match self
                .head(&seat.reader, miss.request.interim.as_ref(), miss.deadline)
                .await
            {
                Ok(head) => {
                    let now = clock::now();
                    if !seat.leads {
                        self.metrics.coalesce_wait.took(now.instant - joined);
                    }
                    let purged = self.purged_since(seat.flight.born, &miss.key, &head);
                    if head.result == CacheResult::Stale {
                        // The next request tries the origin again.
                        self.leave(&seat);
                    }
                    if seat.leads || purged.is_none() && may_share(&miss.request, &head, now) {
                        return Ok(self.read(&miss, &head, seat.reader, !seat.leads, now));
                    }
                    if is_whole(&miss.request, head.status) {
                        // The leader reads it; the others wait for one request for the whole.
                        return Err(FetchError::NotSliced);
                    }
                    if miss.forwarded && head.shared.is_none() {
                        // All who wait at the asker learn it now, and not after one more fetch.
                        let lasts = !head.status.is_server_error();
                        return Err(FetchError::NotShared { lasts });
                    }
                    miss.after = miss.after.max(purged.unwrap_or(0));
                }
                Err(Failure::OwnersUnreachable) => miss.fall_back(),
                Err(Failure::LeaseLost) => self.leave(&seat),
                Err(Failure::Fetch(error)) if miss.goes_alone(&error) => {
                    miss.owners.clear();
                    break;
                }
                // Somebody else's forged field, for all we know.
                Err(Failure::Fetch(FetchError::Loop)) if !seat.leads => break,
                Err(Failure::Fetch(error)) if !seat.leads => return self.stale_after(&miss, error),
                Err(Failure::Fetch(error)) => return Err(error),
            }
        }
        self.alone(miss).await
    }

    /// Whether a miss may be answered by what another's fill brings.
    pub(crate) fn may_wait(&self, miss: &Miss) -> bool {
        let may_collapse = reuse::may_collapse(&miss.request.method, &miss.request.fields);
        may_collapse && miss.collapses && !miss.only_if_cached && !self.passes_condition(miss)
    }

    /// A fill for this request only.
    async fn alone(self: &Arc<Self>, mut miss: Miss) -> Result<Answer, FetchError> {
        loop {
            let value = Arc::new(self.new_flight(&miss));
            let new = "a relay that nothing has been written to can be read from its start";
            let reader = value.relay.read().expect(new);
            let flight = self.flight(&miss);
            self.start(miss.clone(), value, None, flight, None);
            match self
                .head(&reader, miss.request.interim.as_ref(), miss.deadline)
                .await
            {
                Ok(head) => return Ok(self.read(&miss, &head, reader, false, clock::now())),
                // The owner has not learnt yet that waiting there is in vain.
                Err(Failure::Fetch(e)) if !miss.owners.is_empty() && miss.goes_alone(&e) => {
                    miss.owners.clear();
                }
                // Nothing is lent here.
                Err(Failure::OwnersUnreachable | Failure::LeaseLost) => miss.fall_back(),
                Err(Failure::Fetch(error)) => return Err(error),
            }
        }
    }

    /// Whether a miss goes to the origin with its client's conditions (RFC 9111 §4.3.2).
    pub(crate) fn passes_condition(&self, miss: &Miss) -> bool {
        let fields = &miss.request.fields;
        let is_conditional = fields.contains_key(header::IF_NONE_MATCH)
            || fields.contains_key(header::IF_MODIFIED_SINCE);
        is_conditional && miss.stale.is_none() && self.memo.passes_condition(&miss.key)
    }

    pub(crate) async fn head(
        &self,
        reader: &Reader<Head>,
        interim: Option<&Interim>,
        deadline: Instant,
    ) -> Result<Arc<Head>, Failure> {
        match time::timeout_at(deadline.into(), reader.head(interim)).await {
            Ok(head) => head,
            Err(_elapsed) => {
                let timeout = self.config.fetch.timeout.as_millis();
                let ms = u64::try_from(timeout).unwrap_or(u64::MAX);
                Err(FetchError::OriginTimeout(ms).into())
            }
        }
    }

    pub(crate) fn read(
        &self,
        miss: &Miss,
        head: &Head,
        reader: Reader<Head>,
        collapsed: bool,
        now: Now,
    ) -> Answer {
        Answer::from_fill(
            &miss.request,
            head,
            reader,
            miss.forward,
            collapsed,
            &self.name,
            now,
        )
    }

    /// Answers from what is here or just arriving, for a node that owns the key since a moment ago.
    /// Never starts a fill and never waits for a peer: two nodes that take each other for the
    /// previous owner must not wait for each other.
    pub(crate) async fn peek(
        self: &Arc<Self>,
        request: Request,
        timeout: Duration,
    ) -> Result<Answer, FetchError> {
        self.gate.pass(clock::now().instant).await;
        let key = self.key(&request);
        if self.is_own(&key) {
            return Err(FetchError::NotStored);
        }
        let now = clock::now();
        let variants = self.store.get(&key, now.instant);
        let asked = (&request.method, &request.fields);
        if let Reuse::Fresh { index } = decide(asked, variants.as_deref(), now)
            && let Some(stored) = variants
                .as_ref()
                .and_then(|variants| variants.all.get(index))
        {
            return Ok(self.hit(asked, stored, CacheResult::Hit, Tier::Local, now));
        }
        let after = self.purges.newest(&key, None);
        let flight = self.memo.flight(&key, &request.fields, false, after);
        let flight = self.flights.get(&flight);
        let flight = flight.filter(|flight| flight.at_origin.load(Ordering::Acquire));
        let flight = flight.ok_or(FetchError::NotStored)?;
        flight.span.link();
        let reader = flight.relay.read().ok_or(FetchError::NotStored)?;
        let head = self.head(&reader, None, now.instant + timeout).await;
        let head = head.map_err(|_| FetchError::NotStored)?;
        let now = clock::now();
        let is_purged = self.purged_since(flight.born, &key, &head).is_some();
        if is_purged || !may_share(&request, &head, now) {
            return Err(FetchError::NotStored);
        }
        Ok(Answer::from_fill(
            &request,
            &head,
            reader,
            Forward::Miss,
            true,
            &self.name,
            now,
        ))
    }
}

/// Owner and replicas that are tried before the origin is asked by whoever is there.
pub(crate) const REPLICAS: usize = 3;
/// A look-up that takes longer costs more than the fetch it saves.
const LOOKUP: Duration = Duration::from_secs(2);
