//! What the process says about itself: logs, traces, metrics.
//!
//! [`Telemetry::install`] belongs to whoever owns the process (`koorde serve`); an
//! [`App`](crate::app::App) in somebody else's process leaves logger and exporter alone.

use std::time::Duration;

use libkoorde::{
    Propagation,
    metrics::{Book, Counters},
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus_client::metrics::info::Info;
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::settings::Settings;

pub mod catalogue;
pub mod cloudwatch;
pub mod exemplars;
pub mod format;
pub mod json;
pub mod logs;
pub mod otlp;
pub mod process;
pub mod prometheus;

/// The process's logger and, if asked for, its span exporter.
#[derive(Debug)]
pub struct Telemetry {
    tracing: Option<SdkTracerProvider>,
    exports: Counters,
}

/// Why telemetry cannot start. Trouble with a collector is never a reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// `telemetry.otlp_endpoint` cannot be used.
    #[error("telemetry.otlp_endpoint = {endpoint}: {reason}")]
    Endpoint {
        /// The endpoint asked for.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A process's metrics, with its build in them; these upstreams have series of their own.
#[must_use]
pub fn book(upstreams: Vec<String>) -> Book {
    let mut book = Book::with_upstreams(upstreams);
    let commit = option_env!("KOORDE_COMMIT").unwrap_or("unknown");
    let build = vec![("version", env!("CARGO_PKG_VERSION")), ("commit", commit)];
    book.register(&catalogue::BUILD, Info::new(build));
    book
}

impl Telemetry {
    /// No exporter, and the process's logger as it is.
    #[must_use]
    pub fn none() -> Self {
        Self {
            tracing: None,
            exports: Counters::before_the_book(&catalogue::EXPORTS),
        }
    }

    /// Makes this process's logger and, if an endpoint is set, its exporter. A logger that was
    /// installed before stays. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// The endpoint cannot be used as one.
    pub fn install(settings: &Settings) -> Result<Self, TelemetryError> {
        let mut this = Self::none();
        this.tracing = otlp::tracer(&settings.telemetry, &settings.node.name, &this.exports)?;
        let mut layers = vec![logs::layer(&settings.log)];
        layers.extend(
            this.tracing
                .as_ref()
                .map(|provider| otlp::layer(provider).boxed()),
        );
        // Several nodes in one process (`koorde dev`) share the first one's logger.
        let _ = tracing_subscriber::registry().with(layers).try_init();
        Ok(this)
    }

    /// How trace context passes through this process; none if no spans are exported.
    #[must_use]
    pub fn propagation(&self) -> Option<Propagation> {
        self.tracing.as_ref().map(|_| otlp::propagation())
    }

    /// What became of exports, by exporter and outcome.
    #[must_use]
    pub const fn exports(&self) -> &Counters {
        &self.exports
    }

    /// Sends the last spans, within `bound`; what has not been sent by then is lost.
    pub async fn flush(self, bound: Duration) {
        let Some(provider) = self.tracing else {
            return;
        };
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(bound));
        match tokio::time::timeout(bound, flushed).await {
            Ok(Ok(Ok(()))) => {}
            _ => tracing::warn!("The last spans were not sent in time."),
        }
    }
}
