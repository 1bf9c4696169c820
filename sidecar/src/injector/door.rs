//! What is behind the injector's listeners.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use libkoorde::metrics::Book;
use tokio::sync::{Semaphore, mpsc, watch};

use super::{Event, answer, clock, metrics::InjectorMetrics};
use crate::{http::ClientAddress, inject::InjectSettings, shutdown::Phase, telemetry::prometheus};

/// Bytes of a review: the API server takes objects of 3 MiB at most.
const MAX_BODY: usize = 3 << 20;
/// Reviews that are read and answered at once: what their bodies may take of memory is this times
/// [`MAX_BODY`].
const MAX_AT_ONCE: usize = 32;
/// Reviews that are read as JSON at once: it takes about ten times the memory of their text.
const MAX_PARSED: usize = 2;
/// Reviews of one address at once, so that nobody who sends slowly keeps API servers out.
const MAX_OF_ONE: usize = MAX_AT_ONCE / 2;
/// How long a review waits for its turn; API servers wait 3 s by our own configuration.
const PATIENCE: Duration = Duration::from_secs(2);
/// From a body's first byte to its last.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// What both listeners share.
pub(super) struct Door {
    pub(super) settings: InjectSettings,
    pub(super) metrics: Arc<InjectorMetrics>,
    pub(super) book: Book,
    pub(super) events: mpsc::Sender<Event>,
    /// Whether there is a certificate to serve.
    pub(super) is_ready: watch::Receiver<bool>,
    pub(super) phase: watch::Receiver<Phase>,
    turns: Semaphore,
    parsing: Semaphore,
    /// Turns of each address that has one or waits for one.
    peers: Mutex<BTreeMap<IpAddr, Arc<Semaphore>>>,
}

type Answered = Response<Full<Bytes>>;

impl Door {
    pub(super) fn new(
        settings: InjectSettings,
        (metrics, book): (Arc<InjectorMetrics>, Book),
        events: mpsc::Sender<Event>,
        is_ready: watch::Receiver<bool>,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        Self {
            settings,
            metrics,
            book,
            events,
            is_ready,
            phase,
            turns: Semaphore::new(MAX_AT_ONCE),
            parsing: Semaphore::new(MAX_PARSED),
            peers: Mutex::default(),
        }
    }

    /// The listener for the API server.
    pub(super) async fn webhook(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Answered, Infallible> {
        Ok(match (request.method(), request.uri().path()) {
            (&Method::POST, "/inject") => self.review(request).await,
            (_, "/inject") => {
                let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "must be POST");
                answer
                    .headers_mut()
                    .insert(header::ALLOW, HeaderValue::from_static("POST"));
                answer
            }
            (_, path) => self.probe(path),
        })
    }

    /// The listener for the kubelet and for Prometheus.
    pub(super) async fn admin(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Answered, Infallible> {
        Ok(match request.uri().path() {
            "/metrics" | "/metrics/prometheus" => {
                let metrics = prometheus::text(&self.book.open_metrics());
                let mut answer = Response::new(Full::from(metrics));
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                answer
            }
            path => self.probe(path),
        })
    }

    fn probe(&self, path: &str) -> Answered {
        let is_ready = *self.is_ready.borrow() && *self.phase.borrow() == Phase::Serving;
        match path {
            "/livez" => text(StatusCode::OK, "alive"),
            "/readyz" if is_ready => text(StatusCode::OK, "ready"),
            "/readyz" if *self.phase.borrow() == Phase::Serving => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "there is no certificate yet",
            ),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "draining"),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are POST /inject, /livez, /readyz and, on the admin listener, /metrics",
            ),
        }
    }

    /// The turns of an address.
    fn turns_of(&self, peer: IpAddr) -> Arc<Semaphore> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody else holds has all of its turns.
        peers.retain(|_, turns| Arc::strong_count(turns) > 1);
        let made = || Arc::new(Semaphore::new(MAX_OF_ONE));
        Arc::clone(peers.entry(peer).or_insert_with(made))
    }

    async fn review(&self, request: Request<Incoming>) -> Answered {
        let bad = |status, reason, message: &str| {
            self.metrics.bad(reason);
            text(status, message)
        };
        let busy = || {
            let message = "too many reviews at once";
            bad(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
        };
        let peer = request.extensions().get::<ClientAddress>();
        let peer = self.turns_of(peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0));
        let turns = async {
            // First its own: who waits here keeps nobody else waiting.
            let own = peer.acquire().await;
            (own, self.turns.acquire().await)
        };
        let Ok((Ok(_own), Ok(_turn))) = tokio::time::timeout(PATIENCE, turns).await else {
            return busy();
        };
        let body = Limited::new(request.into_body(), MAX_BODY).collect();
        let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let message = format!("a review has at most {MAX_BODY} bytes");
                return bad(StatusCode::PAYLOAD_TOO_LARGE, "too_large", &message);
            }
            Ok(Err(_)) => return bad(StatusCode::BAD_REQUEST, "broken", "the body is incomplete"),
            Err(_) => {
                return bad(
                    StatusCode::REQUEST_TIMEOUT,
                    "slow",
                    "the body did not come in time",
                );
            }
        };
        let Ok(Ok(_parsing)) = tokio::time::timeout(PATIENCE, self.parsing.acquire()).await else {
            return busy();
        };
        let begun = clock::now();
        match answer(&body, &self.settings) {
            Ok(answer) => {
                self.metrics.reviewed(answer.outcome, begun.elapsed());
                if let Some(event) = answer.event {
                    tracing::info!(
                        namespace = event.namespace,
                        owner = event.owner[2],
                        reason = event.reason,
                        "{}.",
                        event.message
                    );
                    if self.events.try_send(event).is_err() {
                        self.metrics.event("full");
                    }
                }
                let mut response = Response::new(Full::from(answer.review.to_string()));
                let kind = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            Err(message) => bad(StatusCode::BAD_REQUEST, "no_review", &message),
        }
    }
}

fn text(status: StatusCode, message: &str) -> Answered {
    let mut answer = Response::new(Full::from(format!("{message}\n")));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
