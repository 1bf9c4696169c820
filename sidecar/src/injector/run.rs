//! The process: a listener with TLS, one without for probes and metrics, certificates, events.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tower::service_fn;
use tracing::info;

use super::{
    ApiError, ApiServer, Source,
    api::Api,
    certificates::{self, Served},
    door::Door,
    events,
    metrics::InjectorMetrics,
};
use crate::{
    http::{HttpMetrics, ListenError, Listener, ListenerName},
    inject::InjectSettings,
    settings::HttpSettings,
    shutdown::Phase,
    telemetry,
};

/// Connections to the webhook: API servers have a few each.
const MAX_CONNECTIONS: usize = 512;
/// Connections to the admin listener.
const MAX_ADMIN_CONNECTIONS: usize = 64;

/// What an injector is told.
#[derive(Clone, Debug)]
pub struct InjectorSettings {
    /// Where API servers connect, with TLS.
    pub listen: SocketAddr,
    /// Probes and metrics, without.
    pub admin: SocketAddr,
    /// What sidecars are made from.
    pub inject: InjectSettings,
    /// The certificate.
    pub source: Source,
    /// For certificates of our own and for events; without it there are no events.
    pub api: Option<ApiServer>,
    /// From the end of readiness to the end of accepting.
    pub delay: Duration,
    /// For reviews under way.
    pub finish: Duration,
}

/// Why an injector could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InjectorError {
    /// A setting is wrong; the message names it.
    #[error("{0}")]
    Settings(String),
    /// A listener could not start.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The API server cannot be called.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Where an injector listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The webhook.
    pub webhook: SocketAddr,
    /// Probes and metrics.
    pub admin: SocketAddr,
}

/// A running injector. Dropping it cuts everything off; [`Injector::shutdown`] does not.
#[derive(Debug)]
pub struct Injector {
    addresses: Addresses,
    phase: watch::Sender<Phase>,
    listeners: JoinSet<()>,
    /// Certificates and events, which end with it.
    tasks: JoinSet<()>,
    bounds: (Duration, Duration),
}

impl Injector {
    /// Starts. It is ready when it has a certificate, for which it goes on trying.
    ///
    /// # Errors
    /// A setting is wrong, an address cannot be bound, the API server's CA cannot be read.
    pub async fn start(settings: InjectorSettings) -> Result<Self, InjectorError> {
        settings.inject.check().map_err(InjectorError::Settings)?;
        if let Source::Own(own) = &settings.source {
            own.check().map_err(InjectorError::Settings)?;
        }
        let api = settings.api.clone().map(Api::new).transpose()?;
        if api.is_none() && matches!(settings.source, Source::Own(_)) {
            let message = "certificates = self: must have an API server to keep them at";
            return Err(InjectorError::Settings(message.into()));
        }
        let mut book = telemetry::book(Vec::new());
        let http = Arc::new(HttpMetrics::new(&mut book));
        let metrics = Arc::new(InjectorMetrics::new(&mut book));
        let served = Served::new(&metrics);
        let webhook = bounds(settings.listen, MAX_CONNECTIONS);
        let webhook = Listener::bind(ListenerName::Http, &webhook, &http).await?;
        let webhook = webhook.secured(served.acceptor());
        let admin = bounds(settings.admin, MAX_ADMIN_CONNECTIONS);
        let admin = Listener::bind(ListenerName::Admin, &admin, &http).await?;
        let addresses = Addresses {
            webhook: webhook.address(),
            admin: admin.address(),
        };

        let (phase, phases) = watch::channel(Phase::Serving);
        let (events, waiting) = mpsc::channel(events::MAX_WAITING);
        let mut tasks = JoinSet::new();
        tasks.spawn(certificates::run(
            settings.source,
            api.clone(),
            Arc::clone(&served),
            Arc::clone(&metrics),
        ));
        tasks.spawn(events::run(api, waiting, Arc::clone(&metrics)));
        let counted = (metrics, book);
        let door = Door::new(
            settings.inject,
            counted,
            events,
            served.is_ready(),
            phases.clone(),
        );
        let door = Arc::new(door);
        let mut listeners = JoinSet::new();
        let reviews = Arc::clone(&door);
        let reviews = service_fn(move |request| Arc::clone(&reviews).webhook(request));
        listeners.spawn(webhook.serve(reviews, phases.clone(), settings.finish));
        let probes = service_fn(move |request| Arc::clone(&door).admin(request));
        listeners.spawn(admin.serve(probes, phases, settings.finish));
        info!(webhook = %addresses.webhook, admin = %addresses.admin, "Started.");
        Ok(Self {
            addresses,
            phase,
            listeners,
            tasks,
            bounds: (settings.delay, settings.finish),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Ends in order: not ready, but answering until API servers have turned away; then no new
    /// connections, while reviews under way are answered.
    pub async fn shutdown(mut self) {
        let (delay, finish) = self.bounds;
        info!(?delay, "Draining.");
        self.phase.send_replace(Phase::Draining);
        tokio::time::sleep(delay).await;
        self.phase.send_replace(Phase::Stopping);
        let end = Instant::now() + finish + Duration::from_secs(1);
        let all = async { while self.listeners.join_next().await.is_some() {} };
        let _ = tokio::time::timeout_at(end, all).await;
        self.tasks.shutdown().await;
        info!("Stopped.");
    }
}

fn bounds(listen: SocketAddr, connections: usize) -> HttpSettings {
    HttpSettings {
        listen,
        max_connections: connections,
        // The API server is one client.
        max_connections_per_client: connections,
        // Longer than clients in Go keep a connection (90 s): else one would be closed under a review.
        idle_timeout: Duration::from_secs(300),
        ..HttpSettings::default()
    }
}
