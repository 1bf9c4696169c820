//! The layer: what an app sets, once.

use std::{
    borrow::Cow,
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
    /// The URL of this server, if the layer stands before what it serves.
    pub(crate) origin: Option<Endpoint>,
    #[cfg(feature = "look-aside")]
    pub(crate) aside: Option<Arc<crate::aside::Aside>>,
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
            origin: None,
            #[cfg(feature = "look-aside")]
            aside: None,
            breaker: Arc::new(Mutex::new(Breaker::new())),
        };
        Self { shared }
    }

    /// How long to wait for the head of an answer before asking the sidecar whether it is alive; it
    /// is asked again each time as long as the answer does not come. Default: 1 s. A slow origin is
    /// waited for; a sidecar that does not answer is not. A body that stands still for as long, and
    /// could go on from the origin, is a reason to ask, too.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.shared.patience = patience;
        self
    }

    /// Look-aside: koorde is asked; where it has nothing, the inner service makes the request, with the
    /// app's own TLS, credentials and retries, under a lease so that nobody else in the cluster makes
    /// it too, and the response is put while the app reads it. Without a sidecar this changes nothing.
    ///
    /// Call it after [`patience`](Self::patience). It speaks gRPC with the sidecar (HTTP/2 without
    /// TLS), past the inner service.
    ///
    /// # Errors
    /// The endpoint is one that has TLS.
    #[cfg(feature = "look-aside")]
    pub fn look_aside(mut self) -> Result<Self, InvalidSetting> {
        if let Some(endpoint) = &self.shared.endpoint {
            let sidecar = crate::aside::Sidecar::new(&endpoint.to_string(), self.shared.patience)?;
            self.shared.aside = Some(Arc::new(crate::aside::Aside::sidecar(sidecar)));
        }
        Ok(self)
    }

    /// Look-aside without a sidecar: this process is a node of the ring itself. The app starts the
    /// node and ends it; the layer asks it.
    #[cfg(feature = "embedded")]
    #[must_use]
    pub fn embedded(node: libkoorde::Node) -> Self {
        let mut layer = Self::at(None);
        let aside = crate::aside::Aside::node(crate::aside::Node(node));
        layer.shared.aside = Some(Arc::new(aside));
        layer
    }

    /// Bytes of bodies that wait to be put, all requests of the layer together. A put that finds no
    /// room is given up, and the app reads on. Default: 64 MiB. Call it after
    /// [`look_aside`](Self::look_aside).
    #[cfg(feature = "look-aside")]
    #[must_use]
    pub fn put_buffer(mut self, bytes: usize) -> Self {
        if let Some(aside) = &mut self.shared.aside {
            Arc::make_mut(aside).buffer(bytes);
        }
        self
    }

    /// The inner service adds credentials (a token, a cookie, a client certificate) that koorde does not
    /// see in look-aside: a response is then shared only if it allows that with credentials
    /// (`public`, `s-maxage`, `must-revalidate`: RFC 9111 §3.5), as if the request had Authorization.
    /// Default: false. In delegate mode the sidecar sees what the inner service adds.
    #[cfg(feature = "look-aside")]
    #[must_use]
    pub fn authorized(mut self, authorized: bool) -> Self {
        self.shared.policy.authorized = authorized;
        self
    }

    /// The layer stands before what this process serves, as `https://host` or `https://host:port`
    /// knows it: responses of the inner service are cached for the whole cluster. Requests for
    /// another host (by Host, or by a URI that has one) go past koorde.
    ///
    /// A request is known by the path that the layer sees: put it around the whole app. Inside of
    /// axum's `Router::nest`, which strips the prefix, `/a/x` and `/b/x` would both be `/x`.
    ///
    /// That needs look-aside: a sidecar that fetched by itself would ask this server, without end.
    ///
    /// # Errors
    /// The origin is not `http://host:port` or `https://host:port`.
    #[cfg(feature = "look-aside")]
    pub fn server(mut self, origin: &str) -> Result<Self, InvalidSetting> {
        self.shared.origin = Some(Endpoint::parse(origin)?);
        Ok(self)
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
    /// Whether there is anything to ask.
    pub(crate) fn has_koorde(&self) -> bool {
        #[cfg(feature = "look-aside")]
        if self.aside.is_some() {
            return true;
        }
        // A sidecar that fetches by itself can't stand before this server: it would ask it again.
        self.endpoint.is_some() && self.origin.is_none()
    }

    /// The URL that a request is for; none if that is not ours to cache.
    pub(crate) fn target<'a>(&self, asked: &'a Uri) -> Option<Cow<'a, Uri>> {
        if let Some(origin) = &self.origin {
            return origin.target(asked).map(Cow::Owned);
        }
        // The app speaks with the sidecar itself.
        let is_sidecars =
            |endpoint: &Endpoint| asked.authority().is_some_and(|a| endpoint.is_at(a));
        let is_ours = !self.endpoint.as_ref().is_some_and(is_sidecars);
        is_ours.then_some(Cow::Borrowed(asked))
    }

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
        let change = match why {
            // It says nothing of the sidecar.
            Reason::Busy => None,
            why if why.counts() => self.breaker().failed(ticket, Instant::now()),
            _ => self.breaker().succeeded(ticket),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_the_inner_service_was_busy_says_nothing_of_the_sidecar() {
        let shared = KoordeLayer::new("http://127.0.0.1:9").unwrap().shared;
        for why in [
            Reason::Unreachable,
            Reason::Busy,
            Reason::Unreachable,
            Reason::Busy,
            Reason::Unreachable,
        ] {
            let ticket = shared.ask().expect("it is not open yet");
            shared.failed(ticket, &why);
        }
        assert!(shared.ask().is_none());
    }
}
