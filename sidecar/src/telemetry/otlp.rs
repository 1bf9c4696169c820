//! Traces and metrics for a collector of OpenTelemetry, and W3C trace context through the process.
//!
//! Decide, pure: [`message`] (metrics as a message). Do: `way` (gRPC or HTTP), `spans` (a queue and
//! a thread of the SDK, `opentelemetry-otlp`), `reader` (one task that looks at the counters) and `sender` (of
//! metrics). [`context`] is between our spans
//! and the fields of requests. A collector that is slow or gone delays neither start, readiness nor
//! any request.

use std::fmt;

use libkoorde::metrics::Counters;
use opentelemetry::KeyValue;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};

use crate::settings::{Signal, TelemetrySettings};

pub mod context;
mod exports;
pub mod message;
mod reader;
mod sender;
mod spans;
mod way;

pub use reader::{Reader, Told};
pub(super) use spans::layer;

use exports::Exports;
use way::Way;

/// The collector, and what is sent to it.
#[derive(Clone)]
pub struct Collector {
    way: Way,
    exports: Exports,
    resource: Resource,
    settings: TelemetrySettings,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The settings have secrets.
        f.debug_struct("Collector")
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

impl Collector {
    /// The one that the settings name, if they do; what becomes of exports is counted in `outcomes`.
    /// It is not called yet. Must be called within a Tokio runtime.
    #[must_use]
    pub fn new(settings: &TelemetrySettings, node: &str, outcomes: &Counters) -> Option<Self> {
        Some(Self {
            way: Way::new(settings)?,
            exports: Exports::new(outcomes.clone()),
            resource: resource(settings, node),
            settings: settings.clone(),
        })
    }

    /// What makes spans and sends them, if they are sent. Must be called within a Tokio runtime.
    #[must_use]
    pub fn tracer(&self) -> Option<SdkTracerProvider> {
        (self.settings.traces_exporter == Signal::Otlp).then(|| spans::tracer(self))
    }

    /// Part of the traces begun here that is kept, 0 to 1.
    pub(super) const fn sampling(&self) -> (f64, u32) {
        (self.settings.sample_ratio, self.settings.traces_per_second)
    }

    /// Starts to send metrics, if they are sent. Must be called within a Tokio runtime.
    #[must_use]
    pub fn read(&self, told: Told) -> Option<Reader> {
        (self.settings.metrics_exporter == Signal::Otlp).then(|| Reader::start(self, told))
    }
}

/// Who all of it is about: the same for traces and metrics, so that one leads to the other.
/// `OTEL_RESOURCE_ATTRIBUTES` adds to it.
fn resource(settings: &TelemetrySettings, node: &str) -> Resource {
    Resource::builder()
        .with_service_name(settings.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", node.to_owned()))
        .build()
}
