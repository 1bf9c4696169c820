//! One process: a node, its listeners, its discovery, and their common end.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use http::HeaderValue;
use libkoorde::{
    CacheService, Gateway, Node, StartError,
    metrics::{Book, Metrics},
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::Instant,
};
use tracing::info;

use crate::{
    admin::{self, Token, TokenError, Watch},
    discovery,
    http::{Doors, HttpMetrics, ListenError, Listener, ListenerName, State},
    settings::{HttpSettings, Settings, ShutdownSettings, TlsSettings},
    shutdown::Phase,
    telemetry::{
        self, Telemetry,
        cloudwatch::{Publisher, Told, interval::Ledger},
        otlp::{self, Reader},
        process::Process,
    },
};

/// TEST-NET-1: never ours, and always beyond the default route.
const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// A running process. Dropping it cuts everything off; [`App::shutdown`] does not.
pub struct App {
    node: Node,
    addresses: Addresses,
    phase: watch::Sender<Phase>,
    // Sets abort what is in them when they are dropped.
    listeners: JoinSet<()>,
    discovery: JoinSet<()>,
    /// The poll for who looks at the cluster: also while this node leaves it.
    poll: JoinSet<()>,
    bounds: ShutdownSettings,
    telemetry: Telemetry,
    publisher: Option<Publisher>,
    reader: Option<Reader>,
}

/// Where a process listens: what was bound, with the ports the system chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// For clients.
    pub http: SocketAddr,
    /// For operators.
    pub admin: SocketAddr,
    /// For peers.
    pub peer: SocketAddr,
}

/// Why a process could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// A setting is out of bounds; the message names key and value.
    #[error("{0}")]
    Settings(String),
    /// A listener could not start.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The token of the admin listener cannot be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The node could not start.
    #[error(transparent)]
    Node(#[from] StartError),
}

impl App {
    /// Starts a process with these settings; logger and exporter stay as they are.
    ///
    /// # Errors
    /// A setting is out of bounds, an address cannot be bound, a file cannot be read.
    pub async fn start(settings: Settings) -> Result<Self, AppError> {
        Self::start_with(settings, Telemetry::none()).await
    }

    /// As [`App::start`], with telemetry that is flushed at the end.
    ///
    /// # Errors
    /// As [`App::start`].
    pub async fn start_with(
        mut settings: Settings,
        telemetry: Telemetry,
    ) -> Result<Self, AppError> {
        settings.complete();
        settings.check().map_err(AppError::Settings)?;
        let token = settings.admin.token_file.as_deref();
        let token = token.map(Token::read).transpose()?;
        let mut book = telemetry::book(settings.upstreams.keys().cloned().collect());
        let metrics = Arc::new(HttpMetrics::new(&mut book));
        let process = Process::new(&mut book);
        book.adopt(telemetry.exports());
        // Listeners first: a port that is taken is found out before any peer hears of us.
        let http = Listener::bind(ListenerName::Http, &settings.http, &metrics).await?;
        let admin =
            Listener::bind(ListenerName::Admin, &admin_listener(&settings), &metrics).await?;
        let node = start_node(&settings, &mut book, &telemetry).await?;
        let addresses = Addresses {
            http: http.address(),
            admin: admin.address(),
            peer: node.peer_address(),
        };
        // A node that is its own origin would wait for itself.
        node.refuse(&own(&addresses));

        let (phase, phases) = watch::channel(Phase::Serving);
        let state = Arc::new(State {
            node: node.clone(),
            book,
            process,
            metrics: Arc::clone(&metrics),
            phase: phases.clone(),
            settings: settings.redacted(),
            name: name_field(node.name()),
            traces: telemetry.traces(),
            token,
            takes_purges: settings.admin.purge,
            admin_hosts: settings.admin.hosts.clone(),
            gateway: Gateway::new(&settings.config()).map_err(AppError::Settings)?,
            look_aside: CacheService::new(&node, settings.http.max_look_aside),
            tunnels: Arc::new(Semaphore::new(settings.http.max_tunnels)),
            http: settings.http.clone(),
            watch: Watch::default(),
        });
        // Weak: the node must not keep alive what keeps it alive.
        let counts = Arc::downgrade(&state);
        node.tell(&state.book, move || {
            if let Some(state) = counts.upgrade() {
                state.refresh();
            }
        });
        let publisher = Publisher::start(&settings.cloudwatch, told(&state, &settings, &telemetry));
        let reader = telemetry.read(read(&state, &settings));
        let mut listeners = JoinSet::new();
        for (listener, name) in [(http, ListenerName::Http), (admin, ListenerName::Admin)] {
            let service = Doors::new(Arc::clone(&state), name).service();
            listeners.spawn(listener.serve(service, phases.clone(), settings.shutdown.finish));
        }
        let mut discovery = JoinSet::new();
        discovery.spawn(discovery::run(settings.ring.seeds.clone(), node.clone()));
        let mut poll = JoinSet::new();
        poll.spawn(admin::poll(Arc::clone(&state)));
        info!(node = node.name(), http = %addresses.http, admin = %addresses.admin, peer = %addresses.peer, "Started.");
        let bounds = settings.shutdown;
        Ok(Self {
            node,
            addresses,
            phase,
            listeners,
            discovery,
            poll,
            bounds,
            telemetry,
            publisher,
            reader,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Its node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Ends in order, every step bounded by `shutdown.*`: not ready, but serving on until load
    /// balancers and peers have turned away; out of the ring; no new connections, while requests
    /// under way are finished, bodies included; the last spans sent.
    pub async fn shutdown(mut self) {
        let bounds = self.bounds;
        info!(delay = ?bounds.delay, "Draining.");
        self.phase.send_replace(Phase::Draining);
        tokio::time::sleep(bounds.delay).await;
        self.discovery.abort_all();
        // Leaving before the listeners close: peers hand nothing more to us, while we still answer
        // what is on its way.
        self.node.leave(bounds.leave).await;
        info!("Stopping.");
        self.phase.send_replace(Phase::Stopping);
        self.poll.abort_all();
        let end = Instant::now() + bounds.finish;
        // Each is bounded by `finish` itself; one that panicked has nothing left to finish.
        let listeners = async { while self.listeners.join_next().await.is_some() {} };
        // A peer's client may still read what it asked of us as the owner.
        tokio::join!(listeners, self.node.drain(bounds.finish));
        self.node
            .stop(end.saturating_duration_since(Instant::now()))
            .await;
        // All requests are done: nothing is counted after the last look.
        let publisher = async {
            if let Some(publisher) = self.publisher {
                publisher.finish(bounds.flush).await;
            }
        };
        let reader = async {
            if let Some(reader) = self.reader {
                reader.finish(bounds.flush).await;
            }
        };
        tokio::join!(publisher, reader, self.telemetry.flush(bounds.flush));
        info!("Stopped.");
    }
}

fn told(state: &Arc<State>, settings: &Settings, telemetry: &Telemetry) -> Told {
    let state = Arc::clone(state);
    Told {
        ledger: Ledger::new(state.book.sources()),
        refresh: Arc::new(move || state.refresh()),
        exports: telemetry.exports().clone(),
        node: settings.node.name.clone(),
    }
}

fn read(state: &Arc<State>, settings: &Settings) -> otlp::Told {
    let refreshed = Arc::clone(state);
    otlp::Told {
        sources: state.book.sources().to_vec(),
        refresh: Arc::new(move || refreshed.refresh()),
        node: settings.node.name.clone(),
    }
}

/// The admin listener: the client listener's timeouts, no TLS, bounds of its own.
fn admin_listener(settings: &Settings) -> HttpSettings {
    HttpSettings {
        listen: settings.admin.listen,
        tls: TlsSettings::default(),
        max_connections: settings.admin.max_connections,
        max_connections_per_client: settings.admin.max_connections,
        ..settings.http.clone()
    }
}

async fn start_node(
    settings: &Settings,
    book: &mut Book,
    telemetry: &Telemetry,
) -> Result<Node, StartError> {
    let metrics = Metrics::new(book);
    Node::start(settings.config(), metrics, telemetry.propagation()).await
}

/// What this process listens on, and the address under which others know it where it listens on
/// all. The guard itself knows that all includes loopback.
fn own(addresses: &Addresses) -> Vec<SocketAddr> {
    let outwards = discovery::interface_to(ELSEWHERE);
    let mut own = Vec::new();
    for address in [addresses.http, addresses.admin, addresses.peer] {
        own.push(address);
        if address.ip().is_unspecified() {
            own.push(SocketAddr::new(outwards, address.port()));
        }
    }
    own
}

fn name_field(name: &str) -> HeaderValue {
    HeaderValue::from_str(name).unwrap_or(HeaderValue::from_static("unnamed"))
}
