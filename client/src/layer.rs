//! The layer: what an app sets, once.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Uri, request, response};
use tokio::time::Instant;
use tower_layer::Layer;
use tracing::{info, warn};

use crate::{
    Event, InvalidSetting, Koorde,
    breaker::{Breaker, Change, Ticket},
    endpoint::Endpoint,
    event::{Events, Reason},
    policy::Policy,
};

/// Makes a [`Koorde`] of a service. All that come from one layer, and from its clones, share one
/// breaker.
#[derive(Clone, Debug)]
pub struct KoordeLayer {
    shared: Shared,
}

/// What all services of a layer have in common.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// The sidecar; without one everything goes past koorde.
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) policy: Policy,
    pub(crate) patience: Duration,
    pub(crate) events: Events,
    breaker: Arc<Mutex<Breaker>>,
}

impl KoordeLayer {
    /// With the sidecar at `endpoint`: `http://127.0.0.1:8080`.
    ///
    /// # Errors
    /// The endpoint is not `http://host:port` or `https://host:port`.
    pub fn new(endpoint: &str) -> Result<Self, InvalidSetting> {
        Endpoint::parse(endpoint).map(|endpoint| Self::at(Some(endpoint)))
    }

    /// With the sidecar that `KOORDE_ENDPOINT` names. Never fails: if the variable is not set, or
    /// wrong, all requests go past koorde, and tracing is told once.
    #[must_use]
    pub fn from_env() -> Self {
        let endpoint = Endpoint::from_env().unwrap_or_else(|error| {
            warn!(%error, "All requests go past koorde.");
            None
        });
        if endpoint.is_none() {
            info!("KOORDE_ENDPOINT names no sidecar; all requests go past koorde.");
        }
        Self::at(endpoint)
    }

    fn at(endpoint: Option<Endpoint>) -> Self {
        let shared = Shared {
            endpoint,
            policy: Policy::default(),
            patience: Duration::from_secs(1),
            events: Events::default(),
            breaker: Arc::new(Mutex::new(Breaker::new())),
        };
        Self { shared }
    }

    /// How long to wait for the head of an answer before asking the sidecar whether it is alive; it
    /// is asked again each time as long as the answer does not come. Default: 1 s. A slow origin is
    /// waited for; a sidecar that does not answer is not.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.shared.patience = patience;
        self
    }

    /// Of GET and HEAD requests without content, only those for which this is true. Default: all,
    /// Range requests among them.
    #[must_use]
    pub fn only_if(
        mut self,
        predicate: impl Fn(&request::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.shared.policy.only_if(Arc::new(predicate));
        self
    }

    /// Several spellings of one resource share one stored response: the URL of the same origin
    /// (scheme, host, port) to store under; none: the target's own.
    #[must_use]
    pub fn stored_as(
        mut self,
        name: impl Fn(&request::Parts) -> Option<Uri> + Send + Sync + 'static,
    ) -> Self {
        self.shared.policy.stored_as(Arc::new(name));
        self
    }

    /// The freshness lifetime to store a response with, in place of what it says; none: what it says.
    /// It makes a response storable that says nothing of its freshness, never one that says
    /// `no-store` or `private`. Only the modes in which the app makes the request know the response
    /// in time; [`Lifetime`](crate::Lifetime) in a request's extensions works in all.
    #[must_use]
    pub fn lifetime(
        mut self,
        lifetime: impl Fn(&request::Parts, &response::Parts) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.shared.policy.lifetime(Arc::new(lifetime));
        self
    }

    /// Requests of one tenant never see what is stored for another. Default: none.
    ///
    /// # Errors
    /// The name is not 1–64 letters, digits, `-`, `_` and `.`.
    pub fn tenant(mut self, name: &str) -> Result<Self, InvalidSetting> {
        self.shared.policy.tenant(name)?;
        Ok(self)
    }

    /// Whether a successful unsafe request makes what is stored of its target stale before its
    /// response is handed over (RFC 9111 §4.4). Default: true. It costs a request to the sidecar, 250
    /// ms at most. gRPC calls never do.
    #[must_use]
    pub fn invalidate(mut self, invalidate: bool) -> Self {
        self.shared.policy.invalidates = invalidate;
        self
    }

    /// Whether the sidecar's word that the origin is to be left alone (a budget of the cluster is
    /// used up, it asked for rest, its breaker is open) is the answer, 503. Default: false, the
    /// origin is asked directly then, as with any failure of the sidecar's own.
    #[must_use]
    pub fn keep_limits(mut self, keep: bool) -> Self {
        self.shared.policy.keeps_limits = keep;
        self
    }

    /// Tells `listener` what happens, for the app's metrics. It is called within requests: it must
    /// be quick and not panic. The same is said by tracing.
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.shared.events = Events::to(listener);
        self
    }
}

impl<S> Layer<S> for KoordeLayer {
    type Service = Koorde<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Koorde::new(inner, Arc::new(self.shared.clone()))
    }
}

impl Shared {
    /// Whether the sidecar may be asked now.
    pub(crate) fn ask(&self) -> Option<Ticket> {
        self.breaker().ask(Instant::now())
    }

    /// The sidecar answered.
    pub(crate) fn succeeded(&self, ticket: Ticket) {
        let change = self.breaker().succeeded(ticket);
        self.tell(change);
    }

    /// The sidecar could not be used.
    pub(crate) fn failed(&self, ticket: Ticket, why: &Reason) {
        let change = if why.counts() {
            self.breaker().failed(ticket, Instant::now())
        } else {
            self.breaker().succeeded(ticket)
        };
        self.tell(change);
    }

    fn tell(&self, change: Option<Change>) {
        match change {
            Some(Change::Opened) => self.events.tell(&Event::BreakerOpened),
            Some(Change::Closed) => self.events.tell(&Event::BreakerClosed),
            None => {}
        }
    }

    /// Held for a few instructions, never across an await.
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
