//! Fills that ask another node: the owner and its replicas, or the previous owner.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderValue;
use koorde_proto::peer::v1::{FetchRequest, Mode};
use tracing::{Instrument, debug, field::Empty, info_span};

use super::{
    Inner,
    answer::Head,
    clock,
    fill::Fill,
    intake::{Intake, Source, content_length},
    peers::{PeerAnswer, PeerBody, PeerError},
    relay::Failure,
    slices::is_whole,
    spans,
    wire::{self, PeerHead},
};
use crate::{
    error::FetchError,
    metrics::{
        catalogue::{NOT_FOUND, UNREACHABLE},
        count,
    },
    outcome::{CacheResult, Tier},
    policy::{
        Carried, Selecting, StoredHead,
        fields::{cache_control::RequestDirectives, connection},
        vary,
    },
    ring::protocol::Member,
};

/// What the previous owner may take for its answer. It answers from memory or from a fill at the
/// origin, so this bounds only how long a broken one holds up a new owner's first misses.
const PEEK: Duration = Duration::from_secs(10);
/// How long it may take to tell a peer of purges that it lacks.
const TELL: Duration = Duration::from_secs(1);
/// Previous owners that are asked, at most: one, and one in its place.
const PREVIOUS: usize = 2;

impl Inner {
    /// This node stands in for a key's owners, as it does not find out who they are; the word for that.
    pub(crate) fn not_found(&self) -> &'static str {
        count(&self.metrics.fallbacks, NOT_FOUND);
        NOT_FOUND
    }
}

impl Fill {
    /// Asks the owners, best first. Where none can be reached, whoever waits is told so and comes
    /// back as if the key were ours: then it meets those that peers have sent here for it.
    pub(crate) async fn ask_owners(&mut self) {
        for owner in std::mem::take(&mut self.miss.owners) {
            let left = self.miss.left(clock::now().instant);
            match self.ask(&owner, Mode::Forward, left).await {
                Ok((head, body, started)) => {
                    return self.relay_peer(head, body, started, false).await;
                }
                Err(PeerError::Failed(error)) => {
                    if matches!(error, FetchError::NotShared { lasts: true }) {
                        self.learn_unshared();
                    }
                    return self.relay().head(Err(error.into()));
                }
                Err(PeerError::Behind) => {
                    debug!(owner = %owner.name, "The owner lacks purges that can't be told it.");
                }
                Err(PeerError::Unreachable(why) | PeerError::Refused(why)) => {
                    debug!(owner = %owner.name, why, "No answer from the owner; trying the next.");
                }
            }
        }
        count(&self.node.metrics.fallbacks, UNREACHABLE);
        self.relay().head(Err(Failure::OwnersUnreachable));
    }

    /// Asks whoever owned the key before us: the response is there, or on its way from the origin
    /// already. That is a member that leaves and has not handed it over yet; or, if we have just joined
    /// (warm join), whoever is next in the list of owners, and who took its place if it has died.
    pub(crate) async fn ask_previous_owner(&mut self) -> bool {
        for previous in self.previous_owners() {
            match self.ask(&previous, Mode::Peek, PEEK).await {
                Ok((head, body, started)) if self.is_of_now(&head, started) => {
                    self.relay_peer(head, body, started, true).await;
                    return true;
                }
                Err(PeerError::Unreachable(_)) => (),
                Ok(_) | Err(_) => return false,
            }
        }
        false
    }

    /// Whether what a previous owner brings may be stored, and is from after all unsafe requests for it
    /// that were heard of here.
    fn is_of_now(&self, head: &PeerHead, started: Instant) -> bool {
        let waited = clock::now().instant.saturating_duration_since(started);
        head.carried.is_some_and(|carried| {
            let age = carried.age.saturating_add(waited);
            !self.node.may_be_from_before(&self.miss.key, age)
        })
    }

    fn previous_owners(&self) -> Vec<Member> {
        if self.miss.detail.is_some() || self.node.is_own(&self.miss.key) {
            return Vec::new();
        }
        let now = clock::now().instant;
        let view = self.node.view.load();
        let id = self.node.hasher.key_id(self.miss.key.as_bytes());
        let departed = self.node.departed.still_there(now, &self.miss.key);
        let departed = departed.into_iter();
        let mut previous: Vec<Member> = departed
            .filter(|member| view.precedes_us(member, id))
            .collect();
        let since = |joined| now.saturating_duration_since(joined);
        let warm = self.node.config.ring.warm_join;
        if view.joined_at().is_some_and(|joined| since(joined) <= warm) {
            let me = view.me().id;
            let others = view.owners(id, PREVIOUS + 1).into_iter();
            previous.extend(others.filter(|member| member.id != me).cloned());
        }
        previous.truncate(PREVIOUS);
        previous
    }

    /// Asks a peer for a response.
    async fn ask(
        &self,
        peer: &Member,
        mode: Mode,
        timeout: Duration,
    ) -> Result<(PeerHead, PeerBody, Instant), PeerError> {
        match self.ask_in(peer, mode, timeout).await? {
            (PeerAnswer::Response(head, body), started) => Ok((head, body, started)),
            (PeerAnswer::Granted(..), _) => Err(PeerError::Refused(
                "a lease that nobody asked for".to_owned(),
            )),
        }
    }

    /// Asks a peer. One that lacks purges which we know would answer from what they took: it is told
    /// them, and asked again.
    pub(crate) async fn ask_in(
        &self,
        peer: &Member,
        mode: Mode,
        timeout: Duration,
    ) -> Result<(PeerAnswer, Instant), PeerError> {
        match self.fetch_from(peer, mode, timeout).await {
            Err(PeerError::Behind) => {
                let synced = self.node.sync_with(peer.addr, TELL.min(timeout)).await;
                synced.map_err(|_| PeerError::Behind)?;
                self.fetch_from(peer, mode, timeout).await
            }
            answer => answer,
        }
    }

    async fn fetch_from(
        &self,
        peer: &Member,
        mode: Mode,
        timeout: Duration,
    ) -> Result<(PeerAnswer, Instant), PeerError> {
        let span = spans::within(|| {
            info_span!(
                "koorde.peer.get",
                otel.kind = "client",
                otel.status_code = Empty,
                koorde.peer.name = %peer.name,
                error.type = Empty,
            )
        });
        let mut fields = self.miss.request.fields.clone();
        connection::strip_request(&mut fields);
        let mut trace = http::HeaderMap::new();
        (self.node.propagation.inject)(&span, &mut trace);
        let text = |name| {
            trace
                .get(name)
                .and_then(|v: &HeaderValue| v.to_str().ok())
                .unwrap_or("")
        };
        let overrides = &self.miss.request.overrides;
        let request = FetchRequest {
            version: wire::VERSION,
            cluster: self.node.cluster.clone(),
            target: self.miss.request.target.to_string(),
            method: self.miss.request.method.to_string(),
            fields: wire::fields(&fields),
            slice: self
                .miss
                .request
                .slice
                .map_or(0, |slice| slice.saturating_add(1)),
            http2: self.miss.request.version == http::Version::HTTP_2,
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            mode: mode.into(),
            traceparent: text("traceparent").to_owned(),
            tracestate: text("tracestate").to_owned(),
            purges: self.node.purges.digest(),
            tenant: overrides.tenant().to_owned(),
            stored_as: wire::stored_as(&self.miss.request),
            lifetime_ms: overrides.lifetime().map_or(0, wire::millis),
        };
        let started = clock::now().instant;
        let interim = self.interim();
        let fetch = self
            .node
            .peers
            .fetch(peer.addr, request, &interim, timeout)
            .instrument(span.clone());
        let answer = tokio::select! {
            answer = fetch => answer.map(|answer| (answer, started)),
            // The ring often knows of a death before the connection does.
            () = self.node.driver.gone(peer.id) => Err(PeerError::Unreachable("left the ring".to_owned())),
        };
        if let Err(error) = &answer {
            spans::failed(&span, error.word());
        }
        answer
    }

    /// Passes a peer's answer on to our waiters; keeps it as a hot copy, or, if we own it now, in
    /// the store.
    pub(crate) async fn relay_peer(
        &mut self,
        head: PeerHead,
        body: PeerBody,
        started: Instant,
        ours: bool,
    ) {
        let now = clock::now().instant;
        let store = if ours {
            &self.node.store
        } else {
            &self.node.hot
        };
        let shared = head.carried.and_then(|carried| {
            // The age grew while it travelled. A peer that claims to have spent more than the whole
            // call has no say in it.
            let travelled = now
                .saturating_duration_since(started)
                .saturating_sub(head.spent);
            let carried = Carried {
                age: carried.age.saturating_add(travelled),
                ..carried
            };
            let names = vary::names(&head.fields)?;
            let selecting = Selecting::new(names, &self.miss.request.fields);
            let (status, fields) = (head.status, head.fields.clone());
            Some(StoredHead::from_peer(
                status,
                fields,
                selecting,
                carried,
                now,
                &self.miss.route.policy,
            ))
        });
        let fits = content_length(&head.fields).is_none_or(|length| length <= store.ceiling());
        let is_get = self.miss.request.method == http::Method::GET;
        let fields = &self.miss.request.fields;
        let keeps = is_get
            && !RequestDirectives::read(fields).no_store
            && fits
            && store.capacity() > 0
            && shared.as_ref().is_some_and(|s| s.is_fresh(now));
        let is_told = match head.result {
            CacheResult::Miss | CacheResult::Validated => true,
            // Stale by this client's leave says nothing of others.
            CacheResult::Hit => shared.as_ref().is_some_and(|shared| shared.is_fresh(now)),
            _ => false,
        };
        if is_whole(&self.miss.request, head.status) {
            self.node.mark_whole(&self.miss.request);
        }
        if is_told && head.status != http::StatusCode::NOT_MODIFIED {
            self.learn(head.status, shared.as_ref());
        }
        self.announce(keeps);
        let head = Arc::new(Head {
            status: head.status,
            fields: head.fields,
            shared: shared.clone(),
            stored: None,
            result: head.result,
            tier: if head.result == CacheResult::Miss {
                Tier::Origin
            } else {
                Tier::Peer
            },
            fwd_status: Some(head.status),
            kept: ours && keeps,
            via: head.cache_status,
            detail: self.miss.detail,
        });
        // What came from a client here and nobody else here waits for need not come back.
        let is_put = self.is_lent && head.result == CacheResult::Miss;
        if is_put && self.relay().end_at_head(Arc::clone(&head)) {
            return;
        }
        self.relay().head(Ok(head));
        let limit = store.ceiling();
        let (ended, kept) = Intake::new(self, keeps, limit)
            .pour(Source::Peer(body))
            .await;
        let store = if ours {
            &self.node.store
        } else {
            &self.node.hot
        };
        let until = (!ours).then(|| started + self.node.config.store.hot_lease);
        let kept = shared.filter(|_| kept).ok_or("passed");
        self.finish(ended, kept, store, until);
    }
}
