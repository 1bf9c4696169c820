//! The asker's side of look-aside: answered, told to wait, given a lease, or sent off alone.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method, header};
use tokio::{sync::oneshot, time};

use super::{Asked, Granted, Lease, Lender, RENEW};
use crate::{
    error::FetchError,
    node::{
        Inner, Request,
        answer::Answer,
        clock,
        fetch::{Found, Hop},
        miss::{Miss, may_share},
        relay::Failure,
        seat::Seat,
    },
    outcome::CacheResult,
    policy::{
        Forward, Member,
        fields::{cache_control::RequestDirectives, connection},
        reuse,
    },
};

/// How often one request waits for another's before it goes alone: holders of leases may die one
/// after the other, owners leave, and the names in Vary are learnt.
const ROUNDS: usize = 5;

impl Inner {
    /// Answers one request, or says how its asker may answer it itself.
    pub(crate) async fn look_aside(
        self: &Arc<Self>,
        mut request: Request,
        hop: Hop,
        timeout: Duration,
    ) -> Result<Asked, FetchError> {
        if hop == Hop::Client {
            // Nothing else is changed as the doors do: the asker sends what it has.
            connection::strip_request(&mut request.fields);
            if !request.target.is_as_written() {
                // The asker would make its request for another text than the one it is stored under.
                return Ok(self.go_alone(Forward::Bypass, "target", CacheResult::Bypass));
            }
            if let Some(forward) = self.bypasses(&request) {
                return Ok(self.go_alone(forward, "look-aside", CacheResult::Bypass));
            }
        }
        let is_odd = hop == Hop::Client && self.routes.find(&request.target).has_unkeyed(&request);
        if is_odd || request.fields.contains_key(header::RANGE) || request.method == Method::HEAD {
            return self.stored_or_alone(request, hop, timeout).await;
        }
        match self.look_up(request, hop, timeout).await? {
            Found::Answer(answer) => Ok(Asked::Answer(answer, None)),
            // A peer asks for its client's sake whether it is to renew it; who wants nothing but what
            // is stored makes no request.
            Found::Stale(answer, miss) if hop == Hop::Forwarded || miss.only_if_cached => {
                Ok(Asked::Answer(answer, None))
            }
            Found::Stale(answer, miss) => {
                let lease = self.renew(*miss).await;
                Ok(Asked::Answer(answer, lease))
            }
            Found::Miss(miss) if miss.only_if_cached => {
                let answer = self.fill(*miss).await?;
                Ok(Asked::Answer(answer, None))
            }
            Found::Miss(miss) => self.wait_or_lead(*miss).await,
        }
    }

    /// Why a request is no business of the cache.
    fn bypasses(&self, request: &Request) -> Option<Forward> {
        let route = self.routes.find(&request.target);
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return Some(Forward::Method);
        }
        let no_store = RequestDirectives::read(&request.fields).no_store;
        let is_out = no_store
            || reuse::is_bypass(&request.fields)
            || route.bypass.applies(&request.target, &request.fields)
            || route.slice.is_some();
        is_out.then_some(Forward::Bypass)
    }

    fn go_alone(&self, forward: Forward, why: &'static str, result: CacheResult) -> Asked {
        let member = Member {
            detail: Some(self.name.detail(Some(why))),
            ..Member::forwarded(self.name.cache.as_str(), forward)
        };
        Asked::Alone(member.value(), result)
    }

    /// What is stored anywhere answers; no fill begins for it.
    async fn stored_or_alone(
        self: &Arc<Self>,
        mut request: Request,
        hop: Hop,
        timeout: Duration,
    ) -> Result<Asked, FetchError> {
        let asked_so = RequestDirectives::read(&request.fields).only_if_cached;
        let only = HeaderValue::from_static("only-if-cached");
        request.fields.append(header::CACHE_CONTROL, only);
        match self.answer(request, hop, timeout).await {
            Ok(answer) => Ok(Asked::Answer(answer, None)),
            Err(FetchError::NotStored) if !asked_so => {
                Ok(self.go_alone(Forward::Request, "not-stored", CacheResult::Miss))
            }
            Err(error) => Err(error),
        }
    }

    async fn wait_or_lead(self: &Arc<Self>, mut miss: Miss) -> Result<Asked, FetchError> {
        for _ in 0..ROUNDS {
            let Some((seat, mut granted)) = self.sit(&miss) else {
                break;
            };
            let head = tokio::select! {
                biased;
                Ok(granted) = &mut granted, if seat.leads => {
                    return Ok(Asked::Lease(Lease::new(self, miss, granted, seat)));
                }
                head = self.head(&seat.reader, None, miss.deadline) => head,
            };
            match head {
                Ok(head) => {
                    let now = clock::now();
                    let purged = self.purged_since(seat.flight.born, &miss.key, &head);
                    if seat.leads || purged.is_none() && may_share(&miss.request, &head, now) {
                        let answer = self.read(&miss, &head, seat.reader, !seat.leads, now);
                        return Ok(self.with_renewal(answer, miss).await);
                    }
                    if miss.forwarded && head.shared.is_none() {
                        let lasts = !head.status.is_server_error();
                        return Err(FetchError::NotShared { lasts });
                    }
                    miss.after = miss.after.max(purged.unwrap_or(0));
                }
                Err(Failure::OwnersUnreachable) => miss.fall_back(),
                Err(Failure::LeaseLost) => self.leave(&seat),
                Err(Failure::Fetch(FetchError::NotShared { .. })) => break,
                Err(Failure::Fetch(error)) if seat.leads => return Err(error),
                // It was its own patience that ended.
                Err(Failure::Fetch(_)) if miss.left(clock::now().instant).is_zero() => break,
                // Another's fill, by a node that the origin may refuse: the asker itself may have it.
                Err(Failure::Fetch(_)) => self.leave(&seat),
            }
        }
        if miss.forwarded {
            return Err(FetchError::NotShared { lasts: false });
        }
        Ok(self.go_alone(miss.forward, "uncacheable", CacheResult::Miss))
    }

    /// A place in the flight of a miss, and where the lease comes out if it leads. Where waiting is in
    /// vain, but what comes may be stored, or where its first bytes have passed already, or for who
    /// insists on the origin, a flight of its own; none where not even that.
    fn sit(self: &Arc<Self>, miss: &Miss) -> Option<(Seat, oneshot::Receiver<Granted>)> {
        let key = self.flight(miss);
        if self.memo.is_hopeless(&key) || self.passes_condition(miss) {
            return None;
        }
        if self.may_wait(miss) && !self.memo.is_uncacheable(&key) {
            let (lender, granted) = Lender::new(false);
            if let Some(seat) = self.join(miss, Some(lender)) {
                return Some((seat, granted));
            }
        }
        let (lender, granted) = Lender::new(false);
        Some((self.sit_beside(miss, lender)?, granted))
    }

    /// Leads a flight that nobody joins.
    fn sit_beside(self: &Arc<Self>, miss: &Miss, lender: Lender) -> Option<Seat> {
        let flight = Arc::new(self.new_flight(miss));
        let key = self.flight(miss);
        let seat = Seat::new(Arc::clone(&flight), key.clone(), true)?;
        self.start(miss.for_everybody(), flight, None, key, Some(lender));
        Some(seat)
    }

    /// A stale answer of the owner's is to be renewed by who asked, if nobody does yet.
    async fn with_renewal(self: &Arc<Self>, answer: Answer, miss: Miss) -> Asked {
        let is_stale = answer.outcome.result == CacheResult::Stale;
        let asks = is_stale && !answer.outcome.collapsed && !miss.owners.is_empty();
        let lease = if asks { self.renew(miss).await } else { None };
        Asked::Answer(answer, lease)
    }

    /// The lease to renew what is stale, unless somebody is at it.
    pub(crate) async fn renew(self: &Arc<Self>, miss: Miss) -> Option<Lease> {
        let miss = self.renewal(miss);
        let (lender, granted) = Lender::new(true);
        let seat = if miss.owners.is_empty() {
            self.join(&miss, Some(lender))?
        } else {
            // Who waits here would wait although there is an answer.
            self.sit_beside(&miss, lender)?
        };
        let granted = time::timeout(RENEW, granted).await.ok()?.ok()?;
        Some(Lease::new(self, miss, granted, seat))
    }

    /// A peer's client has just had a stale answer from here, and may renew it.
    pub(crate) async fn renew_for_peer(
        self: &Arc<Self>,
        mut request: Request,
        timeout: Duration,
    ) -> Result<Lease, FetchError> {
        request.method = Method::GET;
        match self.look_up(request, Hop::Forwarded, timeout).await? {
            Found::Stale(_, miss) => self.renew(*miss).await.ok_or(FetchError::NotStored),
            Found::Answer(_) | Found::Miss(_) => Err(FetchError::NotStored),
        }
    }
}

impl Lender {
    /// A lender, and where its lease comes out; nothing does where none was needed.
    pub(super) fn new(renews: bool) -> (Self, oneshot::Receiver<Granted>) {
        let (grant, granted) = oneshot::channel();
        (Self { grant, renews }, granted)
    }
}
