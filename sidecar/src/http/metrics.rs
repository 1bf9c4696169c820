//! What the listeners count. Labels are closed sets.

use std::time::Duration;

use http::{Method, StatusCode};
use libkoorde::{
    metrics::{Book, Counters, Distributions, Gauges},
    outcome::CacheResult,
};

use super::{activity::Reason, admission::Refused};
use crate::telemetry::{catalogue, exemplars::Exemplars};

/// Which listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerName {
    /// The one that clients use, `http.listen`.
    Http,
    /// The one that operators use, `admin.listen`.
    Admin,
}

impl ListenerName {
    /// The word for labels, logs and keys.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Admin => "admin",
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// In order.
    Done,
    /// By the client, in the middle, or by what is no HTTP.
    Broken,
    /// The TLS handshake failed or took too long.
    Handshake,
    /// Never served: too many are open.
    Refused(Refused),
    /// The client was too slow.
    Bound(Reason),
}

impl Closed {
    /// The word for labels.
    #[must_use]
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Broken => "broken",
            Self::Handshake => "handshake",
            Self::Refused(Refused::Total) => "max_connections",
            Self::Refused(Refused::Client) => "max_connections_per_client",
            Self::Bound(Reason::FirstByte) => "first_byte_timeout",
            Self::Bound(Reason::Header) => "header_timeout",
            Self::Bound(Reason::Idle) => "idle_timeout",
            Self::Bound(Reason::Stalled) => "stall_timeout",
        }
    }
}

/// What the listeners count.
#[derive(Debug)]
pub struct HttpMetrics {
    connections: Gauges,
    closed: Counters,
    requests: Counters,
    tunnels: Gauges,
    inflight: Gauges,
    seconds: Distributions,
    server_seconds: Distributions,
    response_bytes: Counters,
    exemplars: Exemplars,
}

impl HttpMetrics {
    /// Adds every metric.
    #[must_use]
    pub fn new(book: &mut Book) -> Self {
        Self {
            connections: book.gauges(&catalogue::HTTP_CONNECTIONS),
            closed: book.counters(&catalogue::HTTP_CLOSED),
            requests: book.counters(&catalogue::HTTP_REQUESTS),
            tunnels: book.gauges(&catalogue::HTTP_TUNNELS),
            inflight: book.gauges(&catalogue::REQUESTS_INFLIGHT),
            seconds: book.distributions(&catalogue::REQUEST_SECONDS),
            server_seconds: book.distributions(&catalogue::HTTP_SERVER_SECONDS),
            response_bytes: book.counters(&catalogue::RESPONSE_BYTES),
            exemplars: Exemplars::default(),
        }
    }

    /// Counts an open connection until the guard is dropped.
    pub(super) fn open(&self, listener: ListenerName) -> Open {
        Open::new(&self.connections, listener as usize)
    }

    /// Counts an open tunnel until the guard is dropped.
    pub(super) fn tunnel(&self) -> Open {
        Open::new(&self.tunnels, 0)
    }

    /// Counts a request under way until the guard is dropped.
    pub(super) fn begin(&self) -> Open {
        Open::new(&self.inflight, 0)
    }

    /// The counters of bytes, in the order of results.
    pub(super) fn response_bytes(&self) -> Counters {
        self.response_bytes.clone()
    }

    /// How many tunnels are open.
    #[must_use]
    pub fn tunnel_count(&self) -> i64 {
        self.tunnels.get()
    }

    pub(super) fn closed(&self, listener: ListenerName, closed: Closed) {
        let words = [listener.as_str(), closed.as_str()];
        self.closed.of(&words).inc();
    }

    /// How many connections of a listener ended that way.
    #[must_use]
    pub fn closed_count(&self, listener: ListenerName, reason: &'static str) -> u64 {
        self.closed.of(&[listener.as_str(), reason]).get()
    }

    /// How many connections of a listener are open.
    #[must_use]
    pub fn open_count(&self, listener: ListenerName) -> i64 {
        self.connections.at(listener as usize).get()
    }

    /// A request is there. It is counted when it is answered, or, dropped before, as aborted.
    pub(super) const fn asked(&self, listener: ListenerName, route: &'static str) -> Asked<'_> {
        Asked {
            requests: &self.requests,
            listener,
            route,
            class: "aborted",
        }
    }

    /// The text of OpenMetrics with traces of slow requests in it, if traces are kept.
    pub(super) fn with_exemplars(&self, text: String) -> String {
        self.exemplars.put_into(text)
    }

    /// A request to the cache has its response's head; its trace, if that is kept.
    pub(super) fn took(
        &self,
        duration: Duration,
        trace: Option<u128>,
        result: CacheResult,
        (method, status, route): (&Method, StatusCode, &str),
    ) {
        self.seconds.at(result as usize).took(duration);
        if let Some(trace) = trace {
            let seconds = duration.as_secs_f64();
            self.exemplars.remember(result, seconds, trace);
        }
        let words = [known(method), code(status), route];
        self.server_seconds.of(&words).took(duration);
    }
}

/// Counts a request when it is dropped.
pub(super) struct Asked<'a> {
    requests: &'a Counters,
    listener: ListenerName,
    route: &'static str,
    class: &'static str,
}

impl Asked<'_> {
    /// It has an answer.
    pub(super) fn answered(mut self, status: StatusCode) {
        self.class = class(status);
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let words = [self.listener.as_str(), self.route, self.class];
        self.requests.of(&words).inc();
    }
}

/// Counts one open connection, tunnel or request.
pub(super) struct Open(Gauges, usize);

impl Open {
    fn new(gauges: &Gauges, index: usize) -> Self {
        gauges.at(index).inc();
        Self(gauges.clone(), index)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.at(self.1).dec();
    }
}

/// The method as the semantic conventions word it.
pub(crate) fn known(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS") => known,
        _ => "_OTHER",
    }
}

/// The status as it is in the catalogue's closed set; the last word stands for all others.
fn code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200 => "200",
        204 => "204",
        206 => "206",
        301 => "301",
        302 => "302",
        304 => "304",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        410 => "410",
        416 => "416",
        429 => "429",
        500 => "500",
        502 => "502",
        503 => "503",
        504 => "504",
        _ => "other",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
