//! A fill: one task that brings a response in, for everybody who waits for it.
//!
//! It is a task of its own, so it survives the request that started it. Every way it can end,
//! a panic included, ends its relay, so nobody waits for a dead one.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use http::{HeaderMap, Method, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::{Instrument, debug};

use super::{
    Inner, Request,
    answer::Head,
    aside::Lender,
    clock,
    fill_shares::FillShare,
    intake::{Intake, Source, content_length},
    memo::FlightKey,
    miss::{Miss, decide},
    origin::{self, Outgoing},
    relay::{Failure, Relay},
    request::{Interim, no_body},
    seat::Flight,
    slices::is_whole,
    spans,
};
use crate::{
    error::{BodyError, FetchError},
    flight::Landing,
    metrics::count,
    outcome::{CacheResult, Tier},
    policy::{Reuse, StoredHead, fields::connection, reuse, storing, validation},
    store::{Store, Stored, TooLarge},
};

/// One fill under way.
#[derive(Debug)]
pub(crate) struct Fill {
    pub(crate) node: Arc<Inner>,
    pub(crate) miss: Miss,
    pub(crate) flight: Arc<Flight>,
    flight_key: FlightKey,
    /// Held till the end; whoever comes then finds the response in the store.
    _landing: Option<Landing<FlightKey, Flight>>,
    /// Whether others may be waiting.
    collapses: bool,
    /// Who asks the origin in our place, if somebody does.
    lender: Option<Lender>,
    /// Whether it is that one's answer that comes in.
    pub(crate) is_lent: bool,
    /// Dropped when the place is free again: tells who put the answer that all of it is done.
    pub(crate) done: Option<oneshot::Sender<()>>,
    _permit: (OwnedSemaphorePermit, FillShare),
}

impl Fill {
    pub(crate) fn new(
        node: Arc<Inner>,
        miss: Miss,
        flight: Arc<Flight>,
        landing: Option<Landing<FlightKey, Flight>>,
        flight_key: FlightKey,
        lender: Option<Lender>,
        permit: (OwnedSemaphorePermit, FillShare),
    ) -> Self {
        node.metrics.fills_inflight.inc();
        let collapses = landing.is_some();
        Self {
            node,
            miss,
            flight,
            flight_key,
            _landing: landing,
            collapses,
            lender,
            is_lent: false,
            done: None,
            _permit: permit,
        }
    }

    /// Brings the response in. To be run in the span of the fill.
    pub(crate) async fn run(mut self) {
        // The second look-up: between our first one and joining the flight, the last fill of
        // this key may have stored its response and landed.
        if (self.collapses || self.miss.stale.is_some()) && self.is_answered_by_store() {
            return;
        }
        let lender = self.lender.take();
        if !self.miss.owners.is_empty() {
            return match lender {
                Some(lender) => self.lease_from_owners(lender).await,
                None => self.ask_owners().await,
            };
        }
        if self.miss.only_if_cached {
            return self.relay().head(Err(FetchError::NotStored.into()));
        }
        if self.ask_previous_owner().await {
            return;
        }
        self.flight.at_origin.store(true, Ordering::Release);
        match lender {
            Some(lender) => self.lend(lender).await,
            None => self.ask_origin().await,
        }
    }

    pub(crate) fn relay(&self) -> &Relay<Head> {
        &self.flight.relay
    }

    /// Nothing came: whoever waited is told to ask again.
    pub(crate) fn lose(&self) {
        self.relay().head(Err(Failure::LeaseLost));
    }

    /// Passes interim responses on to all who wait.
    pub(crate) fn interim(&self) -> Interim {
        let flight = Arc::clone(&self.flight);
        Interim::new(move |status, fields| flight.relay.interim(status, fields))
    }

    fn is_answered_by_store(&mut self) -> bool {
        let now = clock::now();
        let (node, key) = (&self.node, &self.miss.key);
        if self.miss.forwarded && node.is_own(key) {
            return false;
        }
        let ours = self.miss.owners.is_empty();
        // As in the first look-up: what we hold of another's key may have been made stale without us.
        let variants = node.store.get(key, now.instant);
        let variants = variants.filter(|variants| ours || node.is_among_owners(key, variants));
        let request = &self.miss.request;
        let asked = (&request.method, &request.fields);
        let reuse = decide(asked, variants.as_deref(), now);
        let stored = |index: usize| variants.as_ref().and_then(|v| v.all.get(index)).cloned();
        match reuse {
            Reuse::Fresh { index }
                if self.collapses
                    && let Some(stored) = stored(index) =>
            {
                self.publish_stored(stored, CacheResult::Hit, None);
                return true;
            }
            // What the first look-up found may have been purged meanwhile.
            Reuse::Fresh { index }
            | Reuse::Validate { index, .. }
            | Reuse::StaleWhileRevalidate { index }
                if ours =>
            {
                self.miss.stale = stored(index);
            }
            _ => self.miss.stale = None,
        }
        false
    }

    pub(super) async fn ask_origin(&mut self) {
        let request = self.miss.request.clone();
        let mut fields = request.fields.clone();
        if let Err(error) = self.node.forwarded(&request, &mut fields) {
            return self.relay().head(Err(error.into()));
        }
        let is_conditional = match &self.miss.stale {
            Some(stale) if request.method == Method::GET => {
                validation::conditional(&mut fields, &stale.head)
            }
            _ => false,
        };
        // A slice that has changed shall come as a slice.
        if request.slice.is_some()
            && let Some(range) = request.fields.get(header::RANGE)
        {
            fields.insert(header::RANGE, range.clone());
        }
        let interim = self.interim();
        let span = spans::origin(&request.method, &request.target);
        (self.node.propagation.inject)(&span, &mut fields);
        let sent = self.node.origin.send(Outgoing {
            method: &request.method,
            target: &request.target,
            fields,
            body: no_body(),
            routes: &self.node.routes,
            interim: Some(&interim),
            deadline: self.miss.deadline,
            is_own: !self.miss.forwarded && self.node.is_own(&self.miss.key),
        });
        let sent = sent.instrument(span.clone()).await;
        spans::answered(&span, &sent);
        drop(span);
        match sent {
            Ok(answer) => self.on_answer(&request, answer, is_conditional).await,
            Err(error) => self.on_failure(error),
        }
    }

    /// The origin could not be asked: serve stale if that is allowed, else say so.
    fn on_failure(&self, error: FetchError) {
        let now = clock::now();
        if !matches!(error, FetchError::Denied { .. })
            && let Some(stale) = &self.miss.stale
            && reuse::may_serve_stale_on_error(&self.miss.request.fields, &stale.head, now.instant)
        {
            let host = self.miss.request.target.host();
            debug!(%host, %error, "Origin failed; serving stale.");
            self.publish_stored(Arc::clone(stale), CacheResult::Stale, None);
            return;
        }
        count(&self.node.metrics.fills, "error");
        let forbids = |stale: &Arc<Stored>| reuse::forbids_stale(&stale.head, now.instant);
        let error = match error {
            FetchError::Origin(why) if self.miss.stale.as_ref().is_some_and(forbids) => {
                FetchError::NotValidated(why)
            }
            error => error,
        };
        self.relay().head(Err(error.into()));
    }

    pub(crate) async fn on_answer(
        &mut self,
        request: &Request,
        answer: origin::Answer,
        is_conditional: bool,
    ) {
        let exchange = answer.exchange;
        let (status, now) = (answer.head.status, exchange.response_received);
        if let Some(stale) = self.miss.stale.clone() {
            if is_conditional && status == StatusCode::NOT_MODIFIED {
                return self.on_not_modified(&stale, answer, &exchange).await;
            }
            if reuse::may_serve_stale_on_status(&request.fields, &stale.head, now.instant, status) {
                return self.publish_stored(stale, CacheResult::Stale, Some(status));
            }
        }
        // A 304 to a HEAD answers the client's condition; it says nothing of what is stored here.
        if request.method == Method::HEAD && status != StatusCode::NOT_MODIFIED {
            self.on_head_answer(request, &answer, &exchange);
        }
        let storable = self.storable(request, &answer);
        self.publish(storable, answer).await;
    }

    /// The response as it may be stored, if it may be. One that redirects led to stands under the
    /// first URL, so it is fresh for no longer than each of them, and is not stored if one of them says
    /// more of its reuse than a lifetime: Vary, `no-cache`, `must-revalidate`.
    fn storable(&self, request: &Request, answer: &origin::Answer) -> Option<StoredHead> {
        if is_whole(request, answer.head.status) {
            // Its place is not under the key of a slice. Known before anybody reads the head.
            self.node.mark_whole(request);
            return None;
        }
        let decide = |head, exchange| {
            let (method, fields) = (&request.method, &request.fields);
            storing::decide(method, fields, head, exchange, &self.miss.route.policy).ok()
        };
        let mut storable = decide(&answer.head, &answer.exchange)?;
        self.jitter(&mut storable);
        for (head, exchange) in &answer.redirects {
            let redirect = decide(head, exchange).filter(reuse::is_bound_by_lifetime_alone)?;
            storable.bind(&redirect);
        }
        Some(storable)
    }

    /// What was stored in one moment shall not expire in one. The same key always has the same part
    /// taken off, so nodes agree.
    pub(super) fn jitter(&self, head: &mut StoredHead) {
        let id = self.node.hasher.key_id(self.miss.key.as_bytes()).0;
        head.jitter((id >> 64) as u64, self.miss.route.policy.jitter_percent);
    }

    /// Publishes what the origin sent, and stores it if it may be stored.
    async fn publish(&mut self, storable: Option<StoredHead>, answer: origin::Answer) {
        let origin::Answer { head, body, .. } = answer;
        let mut fields = head.headers;
        connection::strip_response(&mut fields);
        let announced = content_length(&fields);
        let limit = self.node.store.ceiling();
        // An edge is asked by no purge, so it has nothing that one could take.
        let keeps = storable.is_some() && limit > 0;
        let keeps = keeps && announced.is_none_or(|length| length <= limit);
        self.learn(head.status, storable.as_ref());
        self.announce(keeps);
        let bypass = !self.collapses && storable.is_none();
        self.relay().head(Ok(Arc::new(Head {
            status: head.status,
            fields,
            shared: storable.clone(),
            stored: None,
            result: if bypass && self.miss.forward == crate::policy::Forward::Bypass {
                CacheResult::Bypass
            } else {
                CacheResult::Miss
            },
            tier: Tier::Origin,
            fwd_status: Some(head.status),
            kept: keeps,
            via: Vec::new(),
            detail: self.miss.detail,
        })));
        if self.is_lent && storable.is_none() {
            // Who put it has it already, and nobody else may.
            count(&self.node.metrics.fills, "uncacheable");
            let own = BodyError::Cut("it is another's alone".to_owned());
            return self.relay().end(Err(own));
        }
        let (ended, kept) = Intake::new(self, keeps, limit)
            .pour(Source::Origin(body))
            .await;
        let kept = match storable {
            None => Err("uncacheable"),
            Some(_) if limit == 0 => Err("passed"),
            Some(_) if !kept => Err("too_large"),
            Some(head) => Ok(head),
        };
        self.finish(ended, kept, &self.node.store, None);
    }

    /// Remembers what the next requests should know before they wait. Only what many waited for
    /// says something about them: an answer to HEAD, to a range or to a condition does not, and an
    /// error of the origin is no reason to send it everybody.
    pub(crate) fn learn(&self, status: StatusCode, shared: Option<&StoredHead>) {
        let memo = &self.node.memo;
        match shared {
            Some(shared) if shared.is_fresh(clock::now().instant) => {
                memo.learn_vary(&self.miss.key, shared.selecting.names());
                memo.mark_cacheable(&self.flight_key);
            }
            _ if self.collapses && !status.is_server_error() => {
                memo.mark_uncacheable(&self.flight_key, shared.is_some());
            }
            _ => (),
        }
    }

    /// The same of a response that the owner gave to another, and nobody else may have.
    pub(crate) fn learn_unshared(&self) {
        if self.collapses {
            self.node.memo.mark_uncacheable(&self.flight_key, false);
        }
    }

    /// Before the head is out: a body that won't be kept is not held for late readers.
    pub(crate) fn announce(&self, keeps: bool) {
        if !keeps {
            self.relay().pass();
        }
    }

    /// After the last chunk: stores the whole, then ends the body, in this order, so that whoever
    /// has read it to the end finds it in the store; or counts why not. A hot copy is reused `until`
    /// then.
    pub(crate) fn finish(
        &self,
        ended: Result<(), BodyError>,
        kept: Result<StoredHead, &'static str>,
        store: &Store,
        until: Option<Instant>,
    ) {
        let fills = &self.node.metrics.fills;
        match (&ended, kept) {
            (Ok(()), Ok(head)) => {
                let born = self.flight.born;
                let mut stored = Stored::compact(head, &self.relay().chunks(), born);
                stored.until = until;
                // A 206 whose body is not the range that it announced has to be forgotten.
                let part = stored.head.part;
                let is_sound = part.is_none_or(|part| part.length() == stored.length);
                let kept = is_sound && self.keep(store, &Arc::new(stored));
                if kept && std::ptr::eq(store, &self.node.store) {
                    self.flight.is_stored.store(true, Ordering::Release);
                }
                count(fills, if kept { "stored" } else { "passed" });
            }
            (Ok(()), Err(why)) => count(fills, why),
            (Err(_), _) => count(fills, "aborted"),
        }
        self.relay().end(ended);
    }

    /// A stored response under a new head that this fill has brought.
    pub(super) fn stored(&self, head: StoredHead, stored: &Stored) -> Stored {
        Stored::of_head(head, stored.chunks.clone(), self.flight.born)
    }

    pub(super) fn keep(&self, store: &Store, stored: &Arc<Stored>) -> bool {
        let settings = &self.miss.route.policy;
        let put = store.put(&self.miss.key, Arc::clone(stored), settings);
        if put == Err(TooLarge) {
            debug!(bytes = stored.length, "Too large for the store.");
        }
        let kept = put == Ok(true);
        if kept && std::ptr::eq(store, &self.node.store) {
            self.node.metrics.stores.inc();
        }
        kept
    }

    pub(crate) fn publish_stored(
        &self,
        stored: Arc<Stored>,
        result: CacheResult,
        fwd_status: Option<StatusCode>,
    ) {
        if result == CacheResult::Stale {
            count(&self.node.metrics.stale_served, "sie");
        }
        let head = Head {
            status: stored.head.status,
            fields: HeaderMap::new(),
            shared: stored.head.refused().is_none().then(|| stored.head.clone()),
            stored: Some(Arc::clone(&stored)),
            result,
            tier: Tier::Local,
            fwd_status,
            kept: result == CacheResult::Validated && stored.head.refused().is_none(),
            via: Vec::new(),
            detail: self.miss.detail,
        };
        self.relay().head(Ok(Arc::new(head)));
        self.relay().end(Ok(()));
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        self.node.metrics.fills_inflight.dec();
        // Both do nothing where the fill came to its end by itself.
        self.relay().head(Err(FetchError::Stopping.into()));
        self.relay()
            .end(Err(BodyError::Cut("the fill was given up".to_owned())));
        self.flight.span.end();
    }
}
