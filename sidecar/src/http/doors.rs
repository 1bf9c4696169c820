//! The paths of both listeners, and who answers them.

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use libkoorde::{Node, Propagation};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tower::Service;
use tower_http::set_header::SetResponseHeader;

use super::{
    Accept, HttpMetrics, ListenerName, cache,
    respond::{self, Answer, Failure},
};
use crate::{
    admin::{self, Token},
    shutdown::Phase,
    telemetry::{format::Format, json, prometheus},
};

/// What the doors open to.
pub struct State {
    /// The node.
    pub node: Node,
    /// Everything counted in this process.
    pub registry: Registry,
    /// What the listeners count; registered in `registry`.
    pub metrics: Arc<HttpMetrics>,
    /// Where the process is in its life.
    pub phase: watch::Receiver<Phase>,
    /// The effective settings, redacted.
    pub settings: serde_json::Value,
    /// The node's name, for `X-Node-ID`.
    pub name: HeaderValue,
    /// How traces pass through; none if none are made.
    pub propagation: Option<Propagation>,
    /// What a purge has to bring, if anything.
    pub token: Option<Token>,
}

impl State {
    /// Whether clients should be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.phase.borrow() == Phase::Serving && self.node.is_ready()
    }
}

static X_NODE_ID: HeaderName = HeaderName::from_static("x-node-id");

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Cache,
    Livez,
    Readyz,
    Health,
    Metrics,
    Prometheus,
    Json,
    Ring,
    Explain,
    Config,
    Purge,
}

/// Path, purpose, whether it is on the admin listener, whether it is on the main one.
const ROUTES: [(&str, Route, bool, bool); 11] = [
    ("/cache", Route::Cache, false, true),
    ("/livez", Route::Livez, true, true),
    ("/readyz", Route::Readyz, true, true),
    ("/health", Route::Health, true, true),
    ("/metrics", Route::Metrics, true, true),
    ("/metrics/prometheus", Route::Prometheus, true, true),
    ("/metrics/json", Route::Json, true, true),
    ("/debug/ring", Route::Ring, true, false),
    ("/debug/explain", Route::Explain, true, false),
    ("/debug/config", Route::Config, true, false),
    ("/purge", Route::Purge, true, false),
];

/// The paths of one listener.
#[derive(Clone)]
pub struct Doors {
    state: Arc<State>,
    listener: ListenerName,
}

impl Doors {
    /// The doors of a listener.
    #[must_use]
    pub fn new(state: Arc<State>, listener: ListenerName) -> Self {
        Self { state, listener }
    }

    /// As a service for a [`Listener`](super::Listener).
    pub fn service(
        self,
    ) -> impl Service<
        Request<Incoming>,
        Response = Answer,
        Error = Infallible,
        Future = impl Future<Output = Result<Answer, Infallible>> + Send,
    > + Clone
    + Send
    + Sync
    + 'static {
        let name = self.state.name.clone();
        let answer = tower::service_fn(move |request| {
            let doors = self.clone();
            async move { Ok(doors.answer(request).await) }
        });
        // On every answer, also one that an error or a panic has ended in.
        SetResponseHeader::overriding(answer, X_NODE_ID.clone(), name)
    }

    /// Answers one request. A panic in it is the answer 500, and costs no other request anything.
    pub async fn answer<B: Send>(&self, request: Request<B>) -> Answer {
        let accept = Accept::of(request.headers());
        let path = request.uri().path();
        let route = self.routes().find(|(known, _)| *known == path);
        let label = route.map_or("other", |(known, _)| known);
        // Everything shared is behind locks and atomics of its own; nothing is left half changed.
        let answered = AssertUnwindSafe(self.open(route.map(|(_, route)| route), request, &accept));
        let answer = answered.catch_unwind().await.unwrap_or_else(|_| {
            let failure = Failure::panicked();
            failure.log();
            failure.answer(&accept)
        });
        self.state
            .metrics
            .answered(self.listener, label, answer.status());
        answer
    }

    async fn open<B>(&self, route: Option<Route>, request: Request<B>, accept: &Accept) -> Answer {
        let state = &*self.state;
        let route = match route {
            None => return self.no_such_path(&request, accept),
            Some(Route::Cache) => return cache::answer(state, request, accept).await,
            Some(Route::Purge) => return admin::purge(state, &request, accept).await,
            Some(route) => route,
        };
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return not_allowed(request.method(), accept);
        }
        match route {
            // Asking anything here would make trouble elsewhere a reason to restart this pod.
            Route::Livez => respond::text(StatusCode::OK, "alive\n".into()),
            Route::Readyz => readyz(state),
            Route::Health => respond::json(status(state), &json::health(state)),
            Route::Metrics => metrics(state, Format::negotiate(&request, accept), accept),
            Route::Prometheus => metrics(state, Ok(Format::exposition(accept)), accept),
            Route::Json => metrics(state, Ok(Format::Json), accept),
            Route::Ring => respond::json(StatusCode::OK, &state.node.probe_ring().await),
            Route::Explain => admin::explain(state, request, accept).await,
            Route::Config => respond::json(StatusCode::OK, &state.settings),
            Route::Cache | Route::Purge => unreachable!("answered above"),
        }
    }

    fn routes(&self) -> impl Iterator<Item = (&'static str, Route)> {
        let listener = self.listener;
        let here = move |admin: bool, http: bool| match listener {
            ListenerName::Http => http,
            ListenerName::Admin => admin,
        };
        let ours = ROUTES
            .into_iter()
            .filter(move |(_, _, admin, http)| here(*admin, *http));
        ours.map(|(path, route, ..)| (path, route))
    }

    fn no_such_path<B>(&self, request: &Request<B>, accept: &Accept) -> Answer {
        let paths: Vec<_> = self.routes().map(|(path, _)| path).collect();
        let message = format!(
            "no {:?} here; there is {}",
            request.uri().path(),
            paths.join(", ")
        );
        Failure::new(StatusCode::NOT_FOUND, "not-found", message).answer(accept)
    }
}

fn not_allowed(method: &Method, accept: &Accept) -> Answer {
    let message = format!("{method} is not served here; GET and HEAD are");
    let mut answer = Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method", message).answer(accept);
    answer
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

fn status(state: &State) -> StatusCode {
    if state.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

fn readyz(state: &State) -> Answer {
    let text = match (*state.phase.borrow(), state.node.is_ready()) {
        (Phase::Serving, true) => "ready\n",
        (Phase::Serving, false) => "not ready: joining\n",
        _ => "not ready: draining\n",
    };
    respond::text(status(state), text.into())
}

fn metrics(state: &State, format: Result<Format, Failure>, accept: &Accept) -> Answer {
    // Sizes are looked up when they are asked for, not at every change.
    let _also_sets_the_gauges = state.node.stats();
    let mut answer = match format {
        Err(failure) => return failure.answer(accept),
        Ok(Format::Json) => respond::json(StatusCode::OK, &json::metrics(state)),
        Ok(Format::OpenMetrics) => {
            let body = prometheus::open_metrics(&state.registry);
            respond::typed(StatusCode::OK, Format::OpenMetrics.content_type(), body)
        }
        Ok(Format::Text) => {
            let body = prometheus::text(&prometheus::open_metrics(&state.registry));
            respond::typed(StatusCode::OK, Format::Text.content_type(), body)
        }
    };
    answer
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("Accept"));
    answer
}
