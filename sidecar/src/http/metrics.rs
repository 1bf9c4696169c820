//! What the listeners count. Labels are closed sets.

use std::time::Duration;

use http::StatusCode;
use libkoorde::metrics::SECONDS;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{activity::Reason, admission::Refused};

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

impl EncodeLabelValue for ListenerName {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabel {
    listener: ListenerName,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClosedLabels {
    listener: ListenerName,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    listener: ListenerName,
    route: &'static str,
    status: &'static str,
}

/// What the listeners count.
#[derive(Debug)]
pub struct HttpMetrics {
    connections: Family<ListenerLabel, Gauge>,
    closed: Family<ClosedLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    tunnels: Gauge,
    seconds: Histogram,
}

impl HttpMetrics {
    /// Registers every metric.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("koorde_http");
        let metrics = Self {
            connections: Family::default(),
            closed: Family::default(),
            requests: Family::default(),
            tunnels: Gauge::default(),
            seconds: Histogram::new(SECONDS),
        };
        registry.register(
            "connections",
            "Connections open",
            metrics.connections.clone(),
        );
        registry.register(
            "connections_closed",
            "Connections by how they ended; refused ones among them",
            metrics.closed.clone(),
        );
        registry.register(
            "requests",
            "Requests by route and class of status",
            metrics.requests.clone(),
        );
        registry.register("tunnels", "Tunnels open (CONNECT)", metrics.tunnels.clone());
        registry.register_with_unit(
            "cache_duration",
            "From a request to the cache, by any door, to the head of its response",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        for listener in [ListenerName::Http, ListenerName::Admin] {
            let _ = metrics
                .connections
                .get_or_create(&ListenerLabel { listener });
        }
        metrics
    }

    /// Counts an open connection until the guard is dropped.
    pub(super) fn open(&self, listener: ListenerName) -> Open {
        let gauge = self
            .connections
            .get_or_create_owned(&ListenerLabel { listener });
        gauge.inc();
        Open(gauge)
    }

    /// Counts an open tunnel until the guard is dropped.
    pub(super) fn tunnel(&self) -> Open {
        self.tunnels.inc();
        Open(self.tunnels.clone())
    }

    /// How many tunnels are open.
    #[must_use]
    pub fn tunnel_count(&self) -> i64 {
        self.tunnels.get()
    }

    pub(super) fn closed(&self, listener: ListenerName, closed: Closed) {
        let labels = ClosedLabels {
            listener,
            reason: closed.as_str(),
        };
        self.closed.get_or_create(&labels).inc();
    }

    /// How many connections of a listener ended that way.
    #[must_use]
    pub fn closed_count(&self, listener: ListenerName, reason: &'static str) -> u64 {
        self.closed
            .get_or_create(&ClosedLabels { listener, reason })
            .get()
    }

    /// How many connections of a listener are open.
    #[must_use]
    pub fn open_count(&self, listener: ListenerName) -> i64 {
        self.connections
            .get_or_create(&ListenerLabel { listener })
            .get()
    }

    pub(super) fn answered(&self, listener: ListenerName, route: &'static str, status: StatusCode) {
        let labels = RequestLabels {
            listener,
            route,
            status: class(status),
        };
        self.requests.get_or_create(&labels).inc();
    }

    pub(super) fn took(&self, duration: Duration) {
        self.seconds.observe(duration.as_secs_f64());
    }
}

/// Counts one open connection or tunnel.
pub(super) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
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
