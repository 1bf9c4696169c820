//! Connections to other nodes: ring messages one way, fetches there and back.
//!
//! Each peer has two connections, so that a slow reader of a large body can't hold up the ring's
//! messages, whose delay would look like a death.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt, stream};
use koorde_proto::{
    peer::v1::{
        FetchRequest, HandOffReply, HandOffRequest, InspectReply, InspectRequest, LeaseRequest,
        OfferReply, OfferRequest, StatsRequest, fetch_reply::Part, peer_client::PeerClient,
    },
    ring::v1::{Envelope, ring_client::RingClient},
};
use tokio::{sync::mpsc, time};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::{
    invalidate::Stale,
    origin::Grant,
    purge::{Sync, SyncReply},
    relay::MAX_INTERIM,
    request::Interim,
    tasks::Tasks,
    wire,
};
use crate::{
    error::FetchError,
    metrics::{Metrics, count},
};

mod body;
#[cfg(test)]
mod tests;

use body::begun;
pub(crate) use body::{PeerAnswer, PeerBody};

/// Ring messages that may wait for one peer. The ring's timers resend what is dropped.
const QUEUE: usize = 256;
/// Peers connected at once: 2R + 1 members and the de Bruijn pointers' nodes, with room.
const MAX_PEERS: usize = 4096;
const CONNECT: Duration = Duration::from_secs(1);
/// A peer that does not even answer a ping for so long is gone, whatever it has promised.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// Why a peer's answer is no answer.
#[derive(Debug)]
pub(crate) enum PeerError {
    /// The connection's trouble: another node may do better, and the ring should look into it.
    Unreachable(String),
    /// It lacks purges that we know, so it must not answer from what it has stored.
    Behind,
    /// The peer answers, but not this: another node may do better. Nor is a deadline alone a reason
    /// to take a peer for dead: it may be waiting for a slow origin.
    Refused(String),
    /// It has the answer that there is none; asking another would not help.
    Failed(FetchError),
}

impl PeerError {
    /// The word for labels and spans.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Failed(FetchError::NotStored) => "not_stored",
            Self::Failed(_) => "origin",
            Self::Behind => "behind",
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
        }
    }
}

/// Clients for other nodes.
#[derive(Debug)]
pub(crate) struct Peers {
    ring: Mutex<BTreeMap<SocketAddr, mpsc::Sender<Envelope>>>,
    data: Mutex<BTreeMap<SocketAddr, Channel>>,
    offers: Mutex<BTreeMap<SocketAddr, Channel>>,
    unreachable: mpsc::Sender<SocketAddr>,
    /// How each stream of ring messages begins.
    hello: Envelope,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    cut: AtomicBool,
}

impl Peers {
    /// Addresses that could not be reached go to `unreachable`.
    pub(crate) fn new(
        unreachable: mpsc::Sender<SocketAddr>,
        hello: Envelope,
        tasks: Tasks,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            ring: Mutex::default(),
            data: Mutex::default(),
            offers: Mutex::default(),
            unreachable,
            hello,
            tasks,
            metrics,
            cut: AtomicBool::new(false),
        }
    }

    /// Queues a ring message. Never waits; what can't be queued is lost, as the ring expects.
    pub(crate) fn deliver(&self, to: SocketAddr, mut envelope: Envelope) {
        if self.is_cut() {
            return count(&self.metrics.ring_messages, "dropped");
        }
        let mut table = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MAX_PEERS && !table.contains_key(&to) {
            // Nobody says of edges, seeds and the dead that they are gone: their streams have ended.
            table.retain(|_, queue| !queue.is_closed());
            if table.len() >= MAX_PEERS {
                table.pop_first();
            }
        }
        // Twice: a queue may have closed since it was last used.
        for _ in 0..2 {
            let queue = table.entry(to).or_insert_with(|| self.open(to));
            match queue.try_send(envelope) {
                Ok(()) => return count(&self.metrics.ring_messages, "sent"),
                Err(mpsc::error::TrySendError::Full(_)) => break,
                Err(mpsc::error::TrySendError::Closed(back)) => envelope = back,
            }
            table.remove(&to);
        }
        count(&self.metrics.ring_messages, "dropped");
    }

    /// One stream of messages to one peer; ends when it breaks, and the next message opens another.
    fn open(&self, to: SocketAddr) -> mpsc::Sender<Envelope> {
        let (queue, messages) = mpsc::channel(QUEUE);
        let unreachable = self.unreachable.clone();
        let hello = stream::iter([self.hello.clone()]);
        let closed = Arc::new(AtomicBool::new(false));
        let is_closed = Arc::clone(&closed);
        let end = stream::poll_fn(move |_| {
            closed.store(true, Ordering::Release);
            Poll::Ready(None)
        });
        let messages = hello.chain(ReceiverStream::new(messages)).chain(end);
        self.tasks.spawn(async move {
            let mut client = RingClient::new(channel(to));
            // Resolves only when the stream ends: by the peer's leaving, by a failure to connect.
            let _why = client.deliver(messages).await;
            // What we closed ourselves says nothing of the peer: to doubt it for that would open a
            // stream to it again.
            if !is_closed.load(Ordering::Acquire) {
                // Full means that the driver has enough to do; silence will tell it the same.
                let _ = unreachable.try_send(to);
            }
        });
        queue
    }

    /// Closes the connections to a peer that is gone.
    pub(crate) fn forget(&self, peer: SocketAddr) {
        self.ring
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&peer);
        for table in [&self.data, &self.offers] {
            let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
            table.remove(&peer);
        }
    }

    fn open_channel(&self, to: SocketAddr) -> Result<Channel, PeerError> {
        if self.is_cut() {
            return Err(PeerError::Unreachable("cut off".to_owned()));
        }
        Ok(self.channel(to))
    }

    /// Cuts all connections to peers, or mends them; see [`Node::cut_off`](super::Node::cut_off).
    pub(crate) fn cut(&self, is_cut: bool) {
        self.cut.store(is_cut, Ordering::Release);
        if is_cut {
            self.ring
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
            for table in [&self.data, &self.offers] {
                let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
                table.clear();
            }
        }
    }

    /// Whether nothing goes to peers or comes from them.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    fn channel(&self, to: SocketAddr) -> Channel {
        Self::channel_in(&self.data, to)
    }

    fn channel_in(table: &Mutex<BTreeMap<SocketAddr, Channel>>, to: SocketAddr) -> Channel {
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= MAX_PEERS && !table.contains_key(&to) {
            table.pop_first();
        }
        table.entry(to).or_insert_with(|| channel(to)).clone()
    }

    /// Asks a peer and waits for the head of its answer.
    pub(crate) async fn fetch(
        &self,
        to: SocketAddr,
        request: FetchRequest,
        interim: &Interim,
        timeout: Duration,
    ) -> Result<PeerAnswer, PeerError> {
        let answer = self.fetch_head(to, request, interim, timeout);
        let answer = self.called("fetch", answer).await;
        if let Err(PeerError::Unreachable(_)) = answer {
            // Redial next time; and let the ring look into it.
            self.data
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&to);
            let _ = self.unreachable.try_send(to);
        }
        answer
    }

    /// Counts a call by how it ended and how long that took.
    async fn called<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<T, PeerError>>,
    ) -> Result<T, PeerError> {
        let started = super::clock::now().instant;
        let answer = call.await;
        let took = super::clock::now().instant - started;
        let code = match &answer {
            Ok(_) => "ok",
            Err(error) => error.word(),
        };
        self.metrics.called(method, code, took);
        answer
    }

    /// The same for a call that may not take longer than `timeout`. Whoever cut it off from outside
    /// would keep it out of all figures.
    async fn called_within<T>(
        &self,
        method: &'static str,
        timeout: Duration,
        call: impl Future<Output = Result<T, PeerError>>,
    ) -> Result<T, PeerError> {
        let in_time = async {
            let ended = time::timeout(timeout, call).await;
            ended.unwrap_or_else(|_elapsed| self.late(timeout))
        };
        self.called(method, in_time).await
    }

    /// No answer in time.
    fn late<T>(&self, timeout: Duration) -> Result<T, PeerError> {
        count(&self.metrics.deadline_exceeded, "peer");
        Err(PeerError::Refused(format!("no answer within {timeout:?}")))
    }

    async fn fetch_head(
        &self,
        to: SocketAddr,
        request: FetchRequest,
        interim: &Interim,
        timeout: Duration,
    ) -> Result<PeerAnswer, PeerError> {
        let mut client =
            PeerClient::new(self.open_channel(to)?).max_decoding_message_size(wire::MAX_MESSAGE);
        let head = async {
            let mut parts = client.fetch(request).await.map_err(refused)?.into_inner();
            for _ in 0..=MAX_INTERIM {
                let part = parts.message().await.map_err(refused)?;
                match part.and_then(|reply| reply.part) {
                    Some(Part::Interim(one)) => {
                        let (status, fields) = wire::interim(one).map_err(PeerError::Refused)?;
                        interim.send(status, &fields);
                    }
                    first => return Ok((parts, first)),
                }
            }
            Err(PeerError::Refused("too many interim responses".to_owned()))
        };
        let (parts, first) = match time::timeout(timeout, head).await {
            Ok(result) => result?,
            Err(_elapsed) => return self.late(timeout),
        };
        let body = PeerBody::new(parts);
        match first {
            Some(Part::Granted(granted)) => {
                let grant = wire::grant(granted).map_err(PeerError::Refused)?;
                Ok(PeerAnswer::Granted(grant, body))
            }
            first => Ok(PeerAnswer::Response(begun(first)?, body)),
        }
    }

    /// Brings a peer the response that it waits for; on a connection of its own, since those who wait
    /// for it may have all streams of the other.
    pub(crate) async fn offer(
        &self,
        to: SocketAddr,
        offer: impl Stream<Item = OfferRequest> + Send + 'static,
    ) -> Result<OfferReply, PeerError> {
        if self.is_cut() {
            return Err(PeerError::Unreachable("cut off".to_owned()));
        }
        let channel = Self::channel_in(&self.offers, to);
        let mut client = PeerClient::new(channel);
        match client.offer(offer).await {
            Ok(reply) => Ok(reply.into_inner()),
            Err(status) => Err(refused(status)),
        }
    }

    /// Hands stored responses over to a peer.
    pub(crate) async fn hand_off(
        &self,
        to: SocketAddr,
        handed: impl Stream<Item = HandOffRequest> + Send + 'static,
    ) -> Result<HandOffReply, PeerError> {
        let mut client = PeerClient::new(self.open_channel(to)?);
        let reply = client.hand_off(handed).await.map_err(refused)?;
        Ok(reply.into_inner())
    }

    /// Asks a peer what it has under a key, for an operator.
    pub(crate) async fn inspect(
        &self,
        to: SocketAddr,
        request: InspectRequest,
        timeout: Duration,
    ) -> Result<InspectReply, PeerError> {
        let mut client = PeerClient::new(self.open_channel(to)?);
        match time::timeout(timeout, client.inspect(request)).await {
            Ok(reply) => Ok(reply.map_err(refused)?.into_inner()),
            Err(_elapsed) => Err(PeerError::Refused(format!("no answer within {timeout:?}"))),
        }
    }

    /// Asks a peer what it has counted, for an operator; none from one too old to know the question.
    pub(crate) async fn stats(
        &self,
        to: SocketAddr,
        request: StatsRequest,
        deadline: Instant,
    ) -> Result<Option<wire::ToldAndOthers>, PeerError> {
        let client = PeerClient::new(self.open_channel(to)?);
        let mut client = client.max_decoding_message_size(wire::MAX_STATS);
        match time::timeout_at(deadline.into(), client.stats(request)).await {
            Ok(Ok(reply)) => {
                let told = wire::told(reply.into_inner());
                told.map(Some).map_err(PeerError::Refused)
            }
            Ok(Err(status)) if status.code() == Code::Unimplemented => Ok(None),
            Ok(Err(status)) => Err(refused(status)),
            Err(_elapsed) => Err(PeerError::Refused("no answer in time".to_owned())),
        }
    }

    /// Tells a peer of purges, and hears what it knows, within `timeout`.
    pub(crate) async fn sync(
        &self,
        to: SocketAddr,
        cluster: &str,
        sync: &Sync,
        timeout: Duration,
    ) -> Result<SyncReply, PeerError> {
        let mut client =
            PeerClient::new(self.open_channel(to)?).max_decoding_message_size(wire::MAX_MESSAGE);
        let call = async {
            let reply = client.sync_purges(wire::sync(cluster, sync)).await;
            wire::sync_reply(reply.map_err(refused)?.into_inner()).map_err(PeerError::Refused)
        };
        self.called_within("sync", timeout, call).await
    }

    /// Tells a peer what is stale, within `timeout`; whether others may hold copies that came from it.
    pub(crate) async fn invalidate(
        &self,
        to: SocketAddr,
        cluster: &str,
        stale: &Stale,
        timeout: Duration,
    ) -> Result<bool, PeerError> {
        let mut client = PeerClient::new(self.open_channel(to)?);
        let call = async {
            let reply = client.invalidate(wire::invalidate(cluster, stale)).await;
            Ok(reply.map_err(refused)?.into_inner().copied)
        };
        self.called_within("invalidate", timeout, call).await
    }

    /// Asks a peer for a part of an origin's budget.
    pub(crate) async fn lease(
        &self,
        to: SocketAddr,
        request: LeaseRequest,
        timeout: Duration,
    ) -> Result<Grant, PeerError> {
        let mut client = PeerClient::new(self.channel(to));
        let call = async {
            let reply = client.lease(request).await.map_err(refused)?;
            wire::granted(reply.into_inner()).map_err(PeerError::Refused)
        };
        self.called_within("lease", timeout, call).await
    }
}

fn refused(status: Status) -> PeerError {
    let why = format!("{}: {}", status.code(), status.message());
    match status.code() {
        // What `service.rs` says on purpose; everything else is the transport's.
        Code::InvalidArgument | Code::FailedPrecondition | Code::PermissionDenied => {
            PeerError::Refused(why)
        }
        _ => PeerError::Unreachable(why),
    }
}

fn channel(to: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{to}"))
        .expect("an address makes a valid URI")
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .connect_lazy()
}
