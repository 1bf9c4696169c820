//! The paths of both listeners, and who answers them.

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body::Body;
use hyper::body::Incoming;
use libkoorde::{CacheService, Gateway, Node, Quoted, metrics::Book};
use tokio::sync::{Semaphore, watch};
use tower::{BoxError, Service};
use tower_http::set_header::SetResponseHeader;

use super::{
    Accept, HttpMetrics, ListenerName, connect,
    door::{self, Door},
    look_aside,
    paths::{self, BuiltIn},
    proxy,
    respond::{self, Answer, Failure},
};
use crate::{
    admin::{self, Token, Watch},
    settings::HttpSettings,
    shutdown::Phase,
    telemetry::{format::Format, json, otlp::context::Traces, process::Process, prometheus},
};

/// What the doors open to.
pub struct State {
    /// The node.
    pub node: Node,
    /// Everything counted in this process.
    pub book: Book,
    /// What the system says of this process; in `book`.
    pub process: Process,
    /// What the listeners count; they are in `book`.
    pub metrics: Arc<HttpMetrics>,
    /// Where the process is in its life.
    pub phase: watch::Receiver<Phase>,
    /// The effective settings, redacted.
    pub settings: serde_json::Value,
    /// The node's name, for `X-Node-ID`.
    pub name: HeaderValue,
    /// Which requests have a span; none if there are no traces.
    pub traces: Option<Traces>,
    /// What a purge has to bring, if anything.
    pub token: Option<Token>,
    /// Whether clients may purge at all.
    pub takes_purges: bool,
    /// `admin.hosts`.
    pub admin_hosts: Vec<String>,
    /// Which hosts and paths are answered for an upstream.
    pub gateway: Gateway,
    /// For apps that make the origin's requests themselves.
    pub look_aside: CacheService,
    /// Bounds of bodies and tunnels.
    pub http: HttpSettings,
    /// A place for each tunnel.
    pub tunnels: Arc<Semaphore>,
    /// Who looks at the cluster through this node.
    pub watch: Watch,
}

impl State {
    /// Sets the gauges of sizes, which are looked up when they are asked for, not at every change.
    pub fn refresh(&self) {
        let _also_sets_the_gauges = self.node.stats();
        self.process.refresh();
    }

    /// Whether clients should be sent here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.phase.borrow() == Phase::Serving && self.node.is_ready()
    }
}

static X_NODE_ID: HeaderName = HeaderName::from_static("x-node-id");

/// What a client may ask of a resource behind a door, for `OPTIONS *`; a resource's own answer may
/// differ.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE";

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
        // Boxed here: each layer above would move it, twice as a rule, and it has some kilobytes.
        let answer = tower::service_fn(move |request| {
            let doors = self.clone();
            Box::pin(async move { Ok(doors.answer(request).await) })
        });
        // On every answer, also one that an error or a panic has ended in.
        SetResponseHeader::overriding(answer, X_NODE_ID.clone(), name)
    }

    /// Answers one request. A panic in it is the answer 500, and costs no other request anything.
    pub async fn answer<B>(&self, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let accept = Accept::of(request.headers());
        let version = request.version();
        let (head, body) = request.into_parts();
        let door = door::door(&head, &self.state.gateway, self.listener);
        let asked = self.state.metrics.asked(self.listener, door.label());
        let request = Request::from_parts(head, body);
        // Everything shared is behind locks and atomics of its own; nothing is left half changed.
        let answered = AssertUnwindSafe(self.open(door, request, &accept));
        let answer = answered.catch_unwind().await.unwrap_or_else(|_| {
            let failure = Failure::panicked();
            failure.log();
            proxy::refused(&failure, &accept, version)
        });
        asked.answered(answer.status());
        answer
    }

    async fn open<B>(&self, door: Door, request: Request<B>, accept: &Accept) -> Answer
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let state = &*self.state;
        match door {
            Door::LookAside => look_aside::answer(state, request).await,
            Door::Fetch(way, target) => proxy::answer(state, way, target, request, accept).await,
            Door::Tunnel(authority) => connect::answer(state, &authority, request, accept).await,
            Door::BuiltIn(built_in) => self.built_in(built_in, request, accept).await,
            Door::Options => options(state),
            Door::Trace => trace(&request, accept),
            Door::NoTarget(_, why, message) => {
                state.node.note_no_target(&why);
                proxy::refused(&Failure::bad_request(message), accept, request.version())
            }
            Door::Bad(way, message) => {
                let failure = Failure::bad_request(message);
                let mut answer = proxy::refused(&failure, accept, request.version());
                if way.is_none() {
                    proxy::close(&mut answer, request.version());
                }
                answer
            }
            Door::NoSuchPath => self.no_such_path(&request, accept),
        }
    }

    async fn built_in<B>(&self, path: BuiltIn, request: Request<B>, accept: &Accept) -> Answer {
        let state = &*self.state;
        if path == BuiltIn::Purge {
            return admin::purge(state, &request, accept).await;
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return not_allowed(request.method(), accept);
        }
        match path {
            // Asking anything here would make trouble elsewhere a reason to restart this pod.
            BuiltIn::Livez => respond::text(StatusCode::OK, "alive\n".into()),
            BuiltIn::Readyz => readyz(state),
            BuiltIn::Health => respond::json(status(state), &json::health(state)),
            BuiltIn::Metrics => metrics(state, Format::negotiate(&request, accept), accept),
            BuiltIn::Prometheus => metrics(state, Ok(Format::exposition(accept)), accept),
            BuiltIn::Json => match scope(request.uri().query(), self.listener) {
                Ok(Scope::Node) => metrics(state, Ok(Format::Json), accept),
                Ok(Scope::Cluster) => respond::json(StatusCode::OK, &json::cluster(state).await),
                Err(failure) => failure.answer(accept),
            },
            BuiltIn::Ring => respond::json(StatusCode::OK, &state.node.probe_ring().await),
            BuiltIn::Explain => admin::explain(state, request, accept).await,
            BuiltIn::Config => respond::json(StatusCode::OK, &state.settings),
            BuiltIn::Page => admin::file(&request, accept),
            BuiltIn::Events => match admin::same_site(&request, &state.admin_hosts) {
                Ok(()) => admin::events(state, accept),
                Err(failure) => failure.answer(accept),
            },
            BuiltIn::Purge => unreachable!("answered above"),
        }
    }

    fn no_such_path<B>(&self, request: &Request<B>, accept: &Accept) -> Answer {
        let paths = paths::all(self.listener);
        let message = format!(
            "no {:?} here; there is {}",
            request.uri().path(),
            paths.join(", ")
        );
        Failure::new(StatusCode::NOT_FOUND, "not-found", message).answer(accept)
    }
}

/// Whose numbers are asked for.
enum Scope {
    Node,
    Cluster,
}

/// Those of the cluster only on the admin listener: each answer asks all members.
fn scope(query: Option<&str>, listener: ListenerName) -> Result<Scope, Failure> {
    let pairs = query.unwrap_or_default().split('&');
    let mut asked = pairs.filter_map(|pair| pair.strip_prefix("scope="));
    match (asked.next_back(), listener) {
        (None | Some("node"), _) => Ok(Scope::Node),
        (Some("cluster"), ListenerName::Admin) => Ok(Scope::Cluster),
        (Some("cluster"), ListenerName::Http) => {
            let message = "the cluster's numbers are on the admin listener".to_owned();
            Err(Failure::new(StatusCode::FORBIDDEN, "scope", message))
        }
        (Some(other), _) => {
            let message = format!("scope = {}: must be node or cluster", Quoted(other));
            Err(Failure::bad_request(message))
        }
    }
}

/// What this proxy can do.
fn options(state: &State) -> Answer {
    let mut answer = respond::text(StatusCode::NO_CONTENT, String::new());
    let methods = if state.http.connect {
        format!("{METHODS}, CONNECT")
    } else {
        METHODS.to_owned()
    };
    let methods = HeaderValue::try_from(methods).expect("methods are tokens");
    let fields = answer.headers_mut();
    fields.remove(header::CONTENT_TYPE);
    fields.insert(header::ALLOW, methods);
    proxy::not_cached(&mut answer, "koorde; detail=options");
    answer
}

/// What was received, without what only the client and its servers may know.
fn trace<B: Body>(request: &Request<B>, accept: &Accept) -> Answer {
    if !request.body().is_end_stream() {
        let failure = Failure::bad_request("TRACE has no content".to_owned());
        return proxy::refused(&failure, accept, request.version());
    }
    let mut text = format!(
        "{} {} {:?}\r\n",
        request.method(),
        request.uri(),
        request.version()
    );
    for (name, value) in request.headers() {
        let is_secret = [
            header::AUTHORIZATION,
            header::COOKIE,
            header::PROXY_AUTHORIZATION,
        ]
        .contains(name);
        if !is_secret {
            let value = String::from_utf8_lossy(value.as_bytes());
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str("\r\n");
    let kind = HeaderValue::from_static("message/http");
    let mut answer = respond::typed(StatusCode::OK, kind, text);
    proxy::not_cached(&mut answer, "koorde; detail=trace");
    answer
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
    state.refresh();
    let mut answer = match format {
        Err(failure) => return failure.answer(accept),
        Ok(Format::Json) => respond::json(StatusCode::OK, &json::metrics(state)),
        Ok(Format::OpenMetrics) => {
            let body = state.book.open_metrics();
            let body = state.metrics.with_exemplars(body);
            respond::typed(StatusCode::OK, Format::OpenMetrics.content_type(), body)
        }
        Ok(Format::Text) => {
            let body = prometheus::text(&state.book.open_metrics());
            respond::typed(StatusCode::OK, Format::Text.content_type(), body)
        }
    };
    answer
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("Accept"));
    answer
}
