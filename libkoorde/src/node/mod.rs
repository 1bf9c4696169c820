//! A node: what does. It drives the ring, fetches for its clients and its peers, and keeps what
//! may be kept.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::Response;
use http_body::Body as _;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    time,
};

use crate::{
    config::{Config, Role},
    error::{FetchError, StartError},
    flight::Flights,
    id::Hasher,
    metrics::{Metrics, count},
    policy,
    purge::{Bounds, Purges, leases::Leases},
    ring::{Phase, RingView},
    store::Store,
};

mod answer;
mod aside;
mod body;
mod clock;
pub mod cluster;
mod connector;
mod driver;
mod egress;
mod explain;
mod fetch;
mod fill;
mod fill_shares;
mod freshen;
mod gate;
mod gateway;
mod handoff;
mod intake;
mod invalidate;
mod later;
mod listener;
mod memo;
mod miss;
mod near;
mod origin;
mod overrides;
mod own;
mod owners;
mod pass;
mod peers;
mod popular;
mod propagation;
mod purge;
mod relay;
pub mod report;
mod request;
mod resolver;
mod routes;
mod seat;
mod service;
mod slices;
mod spans;
mod start;
mod tasks;
mod tunnel;
mod wire;
mod worded;

pub use aside::{Aside, CacheService, Lease, NotWanted, Put, PutBody};
pub use body::{Body, StoredBody};
pub use gateway::Gateway;
pub use near::Near;
pub use overrides::Overrides;
pub use propagation::Propagation;
pub use request::{Interim, Request, RequestBody};
#[cfg(fuzzing)]
pub use wire::fuzzing;

use answer::NodeName;
use aside::Desk;
use cluster::Counts;
use driver::Driver;
use egress::Guard;
use fetch::Hop;
use fill_shares::FillShares;
use gate::Gate;
use handoff::Departed;
use later::Later;
use memo::{FlightKey, Memo};
use near::AtHand;
use origin::Origin;
use own::Own;
use peers::Peers;
use popular::Popular;
use report::{Explanation, RingReport, Stats};
use request::no_body;
use resolver::Resolver;
use routes::Routes;
use seat::Flight;
use service::PeerService;
use start::{advertised, millis_since_epoch, sign, start_ring};
use tasks::Tasks;
use worded::Worded;

/// A running node. A cheap handle: clones are the same node.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

/// What the parts of a node share.
pub(crate) struct Inner {
    config: Config,
    name: NodeName,
    /// Fingerprint of the cluster's secret.
    cluster: String,
    hasher: Hasher,
    routes: Routes,
    /// How this node signs what it forwards.
    hop: policy::Hop,
    /// Responses of keys that are ours.
    store: Store,
    /// Hot copies: responses of other owners, admitted by how often they are asked for.
    hot: Store,
    flights: Arc<Flights<FlightKey, Flight>>,
    /// Fills at once, collapsed or not.
    fills: Arc<Semaphore>,
    /// Of those, how many each origin takes.
    fill_shares: FillShares,
    memo: Memo,
    /// Bytes of bodies that are kept but not finished.
    unfinished: Arc<AtomicU64>,
    origin: Origin,
    guard: Arc<Guard>,
    /// What is fetched for clients of this node only.
    own: Own,
    /// For tunnels, and to judge what is our own.
    resolver: Resolver,
    peers: Arc<Peers>,
    view: Arc<ArcSwap<RingView>>,
    driver: driver::Handle,
    address: SocketAddr,
    metrics: Arc<Metrics>,
    /// What the process has counted, for members that ask.
    counts: OnceLock<Counts>,
    /// What clients ask for most.
    popular: Popular,
    worded: Worded,
    propagation: Propagation,
    /// Seeds that discovery last gave, to tell "nobody there yet" from "alone by design".
    seeds: AtomicUsize,
    /// What may not be reused any more.
    purges: Arc<Purges>,
    /// Where requests wait until purges are heard of that may have been missed.
    gate: Arc<Gate>,
    /// Who has left, and hands over what it has stored.
    departed: Arc<Departed>,
    /// Hand-offs that are taken at once.
    taking: Semaphore,
    /// URLs of which others may hold hot copies.
    leases: Leases,
    later: Later,
    /// Fills lent to clients of peers.
    lent: Arc<Desk<Lease>>,
    /// This life of the node: when it began, in milliseconds. Only its order means anything.
    life: u64,
    started: std::time::Instant,
    tasks: Tasks,
}

/// A node that has seeds is not ready before it has met one of them, or before this is over:
/// then it serves alone, and the ring goes on looking.
const MEET: Duration = Duration::from_secs(2);

/// How long a node that leaves forwards at least, for peers that have not heard of it yet.
const FORWARDS: Duration = Duration::from_secs(2);

/// Hand-offs that are taken at once: nodes leave by the dozen when a cluster is scaled in.
const MAX_TAKING: usize = 64;

impl Node {
    /// Binds the peer listener and starts the ring. The node serves at once, alone if need be.
    ///
    /// # Errors
    /// A setting is out of bounds, `ring.listen` can't be bound, or `origin.ca_file` can't be read.
    pub async fn start(
        config: Config,
        metrics: Arc<Metrics>,
        propagation: Propagation,
    ) -> Result<Self, StartError> {
        config.check().map_err(StartError::Config)?;
        let guard = Arc::new(Guard::new(&config.egress.allow).map_err(StartError::Config)?);
        let own = Own::new(&config.egress, &guard).map_err(StartError::Config)?;
        let routes = Routes::new(&config).map_err(StartError::Config)?;
        let listen = config.ring.listen;
        let bind_error = |source| StartError::Bind {
            address: listen,
            source,
        };
        let listener = TcpListener::bind(listen).await.map_err(bind_error)?;
        let bound = listener.local_addr().map_err(bind_error)?;
        let address = advertised(&config, bound).await;
        guard.add_own(&[bound, address]);

        let hasher = Hasher::new(config.ring.secret.as_bytes());
        let tasks = Tasks::default();
        let (unreachable, not_reached) = mpsc::channel(1024);
        let cluster = hasher.fingerprint();
        let peers = Arc::new(Peers::new(
            unreachable,
            wire::hello(&cluster, address),
            tasks.clone(),
            Arc::clone(&metrics),
        ));
        let ring = start_ring(&config, &hasher, address)?;
        let start = clock::now();
        let gate = Arc::new(Gate::new(config.ring.stabilize, start.instant));
        let purges = Arc::new(Purges::new(Bounds {
            scopes: config.purge.max_scopes,
            log: config.purge.max_log,
        }));
        let departed = Arc::new(Departed::new(Arc::clone(&purges)));
        let (driver, handle) = Driver::new(
            ring,
            not_reached,
            Arc::clone(&peers),
            Arc::clone(&gate),
            Arc::clone(&departed),
            Arc::clone(&metrics),
        );
        tasks.spawn(driver.run());
        let parts = origin::Parts {
            view: Arc::clone(handle.view()),
            driver: handle.clone(),
            hasher: hasher.clone(),
            peers: Arc::clone(&peers),
            tasks: tasks.clone(),
            metrics: Arc::clone(&metrics),
            name: config.node.name.clone(),
            cluster: cluster.clone(),
        };
        let resolver = Resolver::new(config.origin.connect_timeout);
        let origin = Origin::new(&config, Arc::clone(&guard), own.guard(), &resolver, parts)?;
        // An edge is in nobody's view, so no purge asks it: it stores nothing.
        let is_member = config.node.role == Role::Member;
        let capacity = if is_member {
            config.store.capacity.0
        } else {
            0
        };
        let hot = capacity / 100 * u64::from(config.store.hot_percent);
        metrics
            .capacity_bytes
            .set(i64::try_from(capacity).unwrap_or(i64::MAX));
        let max_fills = i64::try_from(config.fetch.max_fills);
        metrics.concurrency_limit.set(max_fills.unwrap_or(i64::MAX));
        let max_connections = config.ring.max_peer_connections;
        let (later, told) = Later::new();
        let inner = Arc::new(Inner {
            name: NodeName::new("koorde", &config.node.name),
            cluster,
            routes,
            hop: sign(&hasher, &config.node.name, address),
            hasher,
            store: Store::new(capacity - hot, Arc::clone(&purges), {
                let metrics = Arc::clone(&metrics);
                move |cause| count(&metrics.evictions, cause)
            }),
            hot: Store::new(hot, Arc::clone(&purges), |_| ()),
            flights: Arc::new(Flights::new(config.fetch.max_fills)),
            fills: Arc::new(Semaphore::new(config.fetch.max_fills)),
            fill_shares: FillShares::new(config.fetch.max_fills.div_ceil(2)),
            memo: Memo::new(config.fetch.uncacheable_for),
            unfinished: Arc::default(),
            origin,
            guard,
            own,
            resolver,
            peers,
            view: Arc::clone(handle.view()),
            driver: handle,
            address,
            metrics,
            counts: OnceLock::new(),
            popular: Popular::new(start.instant),
            worded: Worded::new(),
            propagation,
            seeds: AtomicUsize::new(0),
            purges,
            gate,
            departed,
            taking: Semaphore::new(MAX_TAKING),
            lent: Desk::new(config.fetch.max_fills),
            leases: Leases::new(config.store.hot_lease, start.instant),
            later,
            life: millis_since_epoch(start),
            started: start.instant,
            tasks: tasks.clone(),
            config,
        });
        let service = PeerService::new(&inner);
        tasks.spawn(listener::serve(
            listener,
            service,
            max_connections,
            tasks.clone(),
        ));
        tasks.spawn(Arc::clone(&inner).hear_of_purges());
        tasks.spawn(Arc::clone(&inner).tell_later(told));
        if !inner.config.ring.warm_join.is_zero() {
            tasks.spawn(Arc::clone(&inner).welcome());
        }
        Ok(Self { inner })
    }

    /// Answers one request: from the store, from the owner, or from the origin. The response's
    /// extensions hold its [`Outcome`](crate::outcome::Outcome), its fields Age and Cache-Status.
    ///
    /// # Errors
    /// The origin's failure, a refusal of the egress guard, or a bound of this node; never the
    /// ring's trouble.
    pub async fn fetch(&self, mut request: Request) -> Result<Response<Body>, FetchError> {
        let inner = &self.inner;
        let answer = match inner.at_hand(&mut request) {
            AtHand::Fresh(near) => return Ok(near.into_response()),
            // Boxed: every hit would else have room for all that a miss may need, some kilobytes.
            AtHand::Bypassed => Box::pin(inner.pass(request, no_body())).await,
            AtHand::Nothing => {
                let timeout = inner.config.fetch.timeout;
                Box::pin(inner.fetch(request, Hop::Client, timeout)).await
            }
        };
        answer.map(|answer| answer.into_response(&inner.hop))
    }

    /// The same for a request with a body, of whatever method. What has one is never answered from
    /// the store; an unsafe method that succeeds invalidates what is stored of its target
    /// (RFC 9111 §4.4) on every node, before this returns.
    ///
    /// Nothing here bounds how long a body stays silent while the origin would take more of it: it is to
    /// end itself then, with an error. That, as any of its errors, is not the origin's failure.
    ///
    /// # Errors
    /// As [`Node::fetch`], and that the body ended in an error.
    pub async fn fetch_with_body(
        &self,
        request: Request,
        body: RequestBody,
    ) -> Result<Response<Body>, FetchError> {
        if body.is_end_stream() {
            return self.fetch(request).await;
        }
        let answer = Box::pin(self.inner.pass(request, body)).await;
        answer.map(|answer| answer.into_response(&self.inner.hop))
    }

    /// Where peers are told to reach this node.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.inner.address
    }

    /// The node's stable name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name.node
    }

    /// Addresses to meet others at, as discovery sees them now; replaces the last.
    pub fn seeds(&self, seeds: Vec<SocketAddr>) {
        let others = seeds
            .iter()
            .filter(|seed| **seed != self.inner.address)
            .count();
        self.inner.seeds.store(others, Ordering::Relaxed);
        self.inner.driver.seeds(seeds);
    }

    /// Listeners of this process, so that the egress guard refuses to fetch our own doors.
    pub fn refuse(&self, own: &[SocketAddr]) {
        self.inner.guard.add_own(own);
    }

    /// The ring as this node sees it.
    #[must_use]
    pub fn ring(&self) -> RingReport {
        self.inner.ring_report()
    }

    /// The same, with every member asked at once whether it answers and how fast; takes a second
    /// or two where one does not.
    pub async fn probe_ring(&self) -> RingReport {
        self.inner.probed_ring_report().await
    }

    /// Counts a URL that a client asked for and that is no target, where its scheme is the reason.
    pub fn note_no_target(&self, why: &policy::TargetError) {
        if matches!(why, policy::TargetError::Scheme(_)) {
            count(&self.inner.metrics.origin_denied, "scheme");
        }
    }

    /// What this node has counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// Why the next request like this is a hit or a miss. Asks the owner, for a second at most.
    pub async fn explain(&self, request: &Request) -> Explanation {
        self.inner.explain(request).await
    }

    /// Whether to send requests here: it has met its ring, or has waited long enough to know that
    /// it is alone, and is not leaving. Losing the ring later does not make it unready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let inner = &self.inner;
        let view = inner.view.load();
        match view.state() {
            Phase::Active => true,
            Phase::Leaving | Phase::Left => false,
            Phase::Alone | Phase::Joining => {
                let waited = clock::now()
                    .instant
                    .saturating_duration_since(inner.started)
                    > MEET;
                let seeds = &inner.config.ring.seeds;
                let by_design = seeds.is_empty() && inner.seeds.load(Ordering::Relaxed) == 0;
                view.joined_at().is_some() || waited || by_design
            }
        }
    }

    /// Leaves the ring: tells all, hands what is stored here over to those that own it from then on,
    /// and forwards for a moment. Returns when that is done, at the latest after `deadline`. Requests
    /// are answered all the while.
    pub async fn leave(&self, deadline: Duration) {
        let inner = &self.inner;
        let leave = async {
            inner.driver.leave().await;
            tokio::join!(inner.hand_over(), time::sleep(FORWARDS));
        };
        let _done_or_not = time::timeout(deadline, leave).await;
    }

    /// Takes nothing new on from peers, and waits until they have read what they are reading, at
    /// most `deadline`. Call it after [`Node::leave`].
    pub async fn drain(&self, deadline: Duration) {
        self.inner.tasks.drain(deadline).await;
    }

    /// Ends every task of this node, in the middle of what it does. [`Node::drain`] comes first.
    pub async fn stop(&self, deadline: Duration) {
        self.inner.tasks.stop(deadline).await;
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name())
            .field("address", &self.peer_address())
            .finish()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("name", &self.name.node)
            .finish_non_exhaustive()
    }
}
