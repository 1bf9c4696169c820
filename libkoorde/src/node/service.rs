//! What peers may ask of this node, over gRPC: deliver ring messages, fetch, inspect.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt, stream};
use http_body_util::BodyExt;
use koorde_proto::{
    peer::v1::{
        Chunk, End, FetchReply, FetchRequest, HandOffReply, HandOffRequest, InspectReply,
        InspectRequest, InvalidateReply, InvalidateRequest, LeaseReply, LeaseRequest, Mode,
        OfferReply, OfferRequest, PurgeSync, PurgeSyncReply, StatsReply, StatsRequest,
        fetch_reply::Part,
        hand_off_request, offer_request,
        peer_server::{Peer, PeerServer},
    },
    ring::v1::{DeliverReply, Envelope, ring_server::RingServer},
};
use tokio::{sync::mpsc, time};
use tonic::{Request, Response, Status, Streaming, body::Body as TonicBody};
use tower::Service;
use tracing::{Instrument, info_span};

use super::{
    Inner, answer::Answer, body::Body, clock, fetch::Hop, relay::MAX_INTERIM, request::Interim,
    wire,
};
use crate::{error::FetchError, metrics::count, policy::vary};

/// Serves both gRPC services of a node; a tower service, so that the accept loop needs no router.
#[derive(Clone, Debug)]
pub(crate) struct PeerService {
    ring: RingServer<Doors>,
    cache: PeerServer<Doors>,
}

#[derive(Clone, Debug)]
struct Doors {
    node: Arc<Inner>,
}

impl PeerService {
    pub(crate) fn new(node: &Arc<Inner>) -> Self {
        let doors = Doors {
            node: Arc::clone(node),
        };
        Self {
            ring: RingServer::new(doors.clone()).max_decoding_message_size(wire::MAX_MESSAGE),
            cache: PeerServer::new(doors).max_decoding_message_size(wire::MAX_MESSAGE),
        }
    }
}

impl Service<http::Request<hyper::body::Incoming>> for PeerService {
    type Response = http::Response<TonicBody>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<hyper::body::Incoming>) -> Self::Future {
        // The other service answers unknown paths with gRPC's "unimplemented".
        if request.uri().path().starts_with("/koorde.ring.v1.Ring/") {
            Box::pin(self.ring.call(request.map(TonicBody::new)))
        } else {
            Box::pin(self.cache.call(request.map(TonicBody::new)))
        }
    }
}

/// An offer is made when its head is there.
const HEAD: Duration = Duration::from_secs(5);

impl Doors {
    /// Only nodes of this cluster that speak this version.
    fn admit(&self, version: u32, cluster: &str) -> Result<(), Status> {
        if self.node.peers.is_cut() {
            return Err(Status::unavailable("cut off"));
        }
        if version != wire::VERSION {
            count(&self.node.metrics.ring_messages, "refused");
            let text = format!("peer speaks version {version}, this node {}", wire::VERSION);
            return Err(Status::failed_precondition(text));
        }
        if cluster != self.node.cluster {
            count(&self.node.metrics.ring_messages, "refused");
            return Err(Status::permission_denied(
                "another cluster: ring.secret differs",
            ));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl koorde_proto::ring::v1::ring_server::Ring for Doors {
    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<DeliverReply>, Status> {
        let mut envelopes = request.into_inner();
        let metrics = &self.node.metrics;
        let refuse = |why: String| {
            count(&metrics.ring_messages, "refused");
            Status::invalid_argument(why)
        };
        let Some(hello) = envelopes.message().await? else {
            return Ok(Response::new(DeliverReply {}));
        };
        self.admit(hello.version, &hello.cluster)?;
        let from = wire::sender(hello).map_err(refuse)?;
        let closing = self.node.tasks.closing();
        loop {
            let envelope = tokio::select! {
                envelope = envelopes.message() => envelope?,
                // The peer opens another stream to whoever comes after us.
                () = closing.cancelled() => None,
            };
            let Some(envelope) = envelope else { break };
            if self.node.peers.is_cut() {
                return Err(Status::unavailable("cut off"));
            }
            if envelope.message.is_none() {
                // A newer peer's message that this version does not know.
                count(&metrics.ring_messages, "dropped");
                continue;
            }
            let message = wire::message(envelope).map_err(refuse)?;
            let taken = self.node.driver.message(from, message);
            count(
                &metrics.ring_messages,
                if taken { "received" } else { "dropped" },
            );
        }
        Ok(Response::new(DeliverReply {}))
    }
}

pub(crate) type Replies = Pin<Box<dyn Stream<Item = Result<FetchReply, Status>> + Send>>;

#[tonic::async_trait]
impl Peer for Doors {
    type FetchStream = Replies;

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<Replies>, Status> {
        let asked = request.into_inner();
        let received = clock::now().instant;
        self.admit(asked.version, &asked.cluster)?;
        if !self.node.purges.covers(asked.purges) {
            let behind = FetchReply {
                part: Some(Part::Failed(wire::behind())),
            };
            return Ok(Response::new(Box::pin(stream::iter([Ok(behind)]))));
        }
        let mode = asked.mode();
        let serve = || info_span!("koorde.peer.serve", otel.kind = "server");
        let span = (self.node.propagation.below)(&wire::trace(&asked), serve);
        // A little less, so that the asker learns of the origin's slowness from us.
        let asked_for = Duration::from_millis(asked.timeout_ms);
        let timeout = asked_for - (asked_for / 10).min(Duration::from_millis(200));
        let timeout = timeout.min(self.node.config.fetch.timeout);
        let mut request = wire::request(asked).map_err(Status::invalid_argument)?;
        let (passes, interim) = mpsc::channel(MAX_INTERIM);
        request.interim = Some(Interim::new(move |status, fields| {
            // Full only after as many as are allowed.
            let _ = passes.try_send(wire::interim_part(status, fields));
        }));
        let node = Arc::clone(&self.node);
        if matches!(mode, Mode::Lease | Mode::Renew) {
            node.leases.note(node.key(&request).url(), received);
            let lent = node.lend_to_peer(request, mode, timeout, received);
            return Ok(Response::new(lent.instrument(span).await?));
        }
        let answer = async move {
            // Before the store is looked into: whoever then makes the response stale either is seen
            // by the look-up or hears that a copy has gone out.
            node.leases.note(node.key(&request).url(), received);
            match mode {
                Mode::Peek => node.peek(request, timeout).await,
                _ => node.fetch(request, Hop::Forwarded, timeout).await,
            }
        };
        let mut answer: Answering = Box::pin(answer.instrument(span));
        let mut parts = Parts {
            interim,
            answer: None,
            replies: None,
        };
        let first = tokio::select! {
            biased;
            answer = &mut answer => {
                let replies = replies(answer, received)?;
                // As long as nothing interim came, the reply begins with the answer: one write.
                let Ok(first) = parts.interim.try_recv() else {
                    return Ok(Response::new(replies));
                };
                parts.replies = Some(replies);
                first
            }
            Some(first) = parts.interim.recv() => {
                parts.answer = Some((answer, received));
                first
            }
        };
        let rest = stream::unfold(parts, Parts::next);
        Ok(Response::new(Box::pin(
            stream::iter([Ok(first)]).chain(rest),
        )))
    }

    async fn offer(
        &self,
        request: Request<Streaming<OfferRequest>>,
    ) -> Result<Response<OfferReply>, Status> {
        let mut parts = request.into_inner();
        let first = match time::timeout(HEAD, parts.message()).await {
            Ok(first) => first?.and_then(|request| request.part),
            Err(_elapsed) => None,
        };
        let Some(offer_request::Part::Head(head)) = first else {
            return Err(Status::invalid_argument("an offer begins with its head"));
        };
        self.admit(head.version, &head.cluster)?;
        let offered = wire::offered(head).map_err(Status::invalid_argument)?;
        Ok(Response::new(self.node.take_offer(offered, parts).await))
    }

    async fn hand_off(
        &self,
        request: Request<Streaming<HandOffRequest>>,
    ) -> Result<Response<HandOffReply>, Status> {
        let mut parts = request.into_inner();
        let first = match time::timeout(HEAD, parts.message()).await {
            Ok(first) => first?.and_then(|request| request.part),
            Err(_elapsed) => None,
        };
        let Some(hand_off_request::Part::Start(start)) = first else {
            return Err(Status::invalid_argument("a hand-off begins with its start"));
        };
        self.admit(start.version, &start.cluster)?;
        let start = wire::hand_off_started(&start);
        self.node.take_over(start, parts).await.map(Response::new)
    }

    async fn inspect(
        &self,
        request: Request<InspectRequest>,
    ) -> Result<Response<InspectReply>, Status> {
        let asked = request.into_inner();
        self.admit(asked.version, &asked.cluster)?;
        let request = wire::inspected(asked).map_err(Status::invalid_argument)?;
        Ok(Response::new(self.node.inspect(&request)))
    }

    async fn sync_purges(
        &self,
        request: Request<PurgeSync>,
    ) -> Result<Response<PurgeSyncReply>, Status> {
        let asked = request.into_inner();
        self.admit(asked.version, &asked.cluster)?;
        let sync = wire::synced(asked).map_err(Status::invalid_argument)?;
        Ok(Response::new(wire::answer_sync(self.node.on_sync(&sync))))
    }

    async fn invalidate(
        &self,
        request: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateReply>, Status> {
        let asked = request.into_inner();
        self.admit(asked.version, &asked.cluster)?;
        let stale = wire::invalidated(asked).map_err(Status::invalid_argument)?;
        let copied = self.node.make_stale(&stale);
        Ok(Response::new(InvalidateReply { copied }))
    }

    async fn lease(&self, request: Request<LeaseRequest>) -> Result<Response<LeaseReply>, Status> {
        let asked = request.into_inner();
        self.admit(asked.version, &asked.cluster)?;
        let ask = wire::asked(&asked).map_err(Status::invalid_argument)?;
        let grant = self.node.origin.lease(&asked.origin, &asked.node, &ask);
        let grant = grant.ok_or_else(|| Status::failed_precondition("no such budget, or no room"));
        Ok(Response::new(wire::leased(grant?)))
    }

    async fn stats(&self, request: Request<StatsRequest>) -> Result<Response<StatsReply>, Status> {
        let asked = request.into_inner();
        self.admit(asked.version, &asked.cluster)?;
        let asked = wire::stats_asked(&asked.asked).map_err(Status::invalid_argument)?;
        let others = self.node.known_beside(&asked);
        Ok(Response::new(wire::stats_reply(&self.node.told(), &others)))
    }
}

impl Inner {
    /// What this node has for a request.
    pub(crate) fn inspect(&self, request: &super::Request) -> InspectReply {
        let now = clock::now().instant;
        let key = self.key(request);
        let after = self.purges.newest(&key, None);
        let flight = self.memo.flight(&key, &request.fields, false, after);
        let variants = self.store.get(&key, now);
        InspectReply {
            variants: variants
                .iter()
                .flat_map(|v| &v.all)
                .map(|stored| wire::variant(stored, now))
                .collect(),
            filling: self.flights.get(&flight).is_some(),
            uncacheable: self.memo.is_uncacheable(&flight),
        }
    }
}

fn failed(error: &FetchError) -> FetchReply {
    FetchReply {
        part: Some(Part::Failed(wire::failure(error))),
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Answer, FetchError>> + Send>>;

/// A reply that began with interim responses: more of them, and then the answer.
struct Parts {
    interim: mpsc::Receiver<FetchReply>,
    answer: Option<(Answering, Instant)>,
    replies: Option<Replies>,
}

impl Parts {
    async fn next(mut self) -> Option<(Result<FetchReply, Status>, Self)> {
        if let Some((answer, received)) = &mut self.answer {
            let answer = tokio::select! {
                biased;
                Some(one) = self.interim.recv() => return Some((Ok(one), self)),
                answer = answer => replies(answer, *received),
            };
            self.answer = None;
            self.replies =
                Some(answer.unwrap_or_else(|status| Box::pin(stream::iter([Err(status)]))));
        }
        // What came in the same moment as the answer goes before it.
        if let Ok(one) = self.interim.try_recv() {
            return Some((Ok(one), self));
        }
        let next = self.replies.as_mut()?.next().await?;
        Some((next, self))
    }
}

/// What a fetch ended in, as a stream.
pub(crate) fn replies(
    answer: Result<Answer, FetchError>,
    received: Instant,
) -> Result<Replies, Status> {
    match answer {
        Ok(answer) => Ok(answered(answer, clock::now().instant - received)),
        // Not an answer: the asker has others to ask.
        Err(FetchError::Stopping) => Err(Status::unavailable("stopping")),
        Err(error) => Ok(Box::pin(stream::iter([Ok(failed(&error))]))),
    }
}

/// The answer as a stream: its head, its body as it comes, and its end.
fn answered(answer: Answer, spent: Duration) -> Replies {
    // A response that varies by what can't be named is nobody else's.
    let carried = answer
        .carried
        .filter(|_| vary::names(&answer.fields).is_some());
    let head = Part::Head(wire::answer_head(&answer, carried, spent));
    let head = stream::iter([Ok(FetchReply { part: Some(head) })]);
    let body = stream::unfold(Some((answer.body, 0u64)), next_part);
    Box::pin(head.chain(body))
}

async fn next_part(
    state: Option<(Body, u64)>,
) -> Option<(Result<FetchReply, Status>, Option<(Body, u64)>)> {
    let (mut body, sent) = state?;
    let (part, rest) = match body.frame().await {
        Some(Ok(frame)) => {
            let data = frame.into_data().unwrap_or_default();
            let sent = sent + data.len() as u64;
            (Part::Chunk(Chunk { data }), Some((body, sent)))
        }
        Some(Err(error)) => (Part::Failed(wire::cut(&error)), None),
        None => (Part::End(End { length: sent }), None),
    };
    Some((Ok(FetchReply { part: Some(part) }), rest))
}

/// Where a connection comes from is not who is asking; kept for the log alone.
pub(crate) fn log_refused(from: SocketAddr) {
    tracing::debug!(%from, "Peer connection refused: at ring.max_peer_connections.");
}
