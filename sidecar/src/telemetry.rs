//! What the process says about itself: logs, traces, metrics.
//!
//! [`Telemetry::install`] belongs to whoever owns the process (`koorde serve`); an
//! [`App`](crate::app::App) in somebody else's process leaves logger and exporter alone.

use std::time::Duration;

use libkoorde::Propagation;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::settings::Settings;

pub mod format;
pub mod json;
pub mod logs;
pub mod otlp;
pub mod prometheus;

pub use otlp::Exports;

/// The process's logger and, if asked for, its span exporter.
#[derive(Debug, Default)]
pub struct Telemetry {
    tracing: Option<Tracing>,
}

#[derive(Debug)]
struct Tracing {
    provider: SdkTracerProvider,
    exports: Exports,
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

impl Telemetry {
    /// No exporter, and the process's logger as it is.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Makes this process's logger and, if an endpoint is set, its exporter. A logger that was
    /// installed before stays. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// The endpoint cannot be used as one.
    pub fn install(settings: &Settings) -> Result<Self, TelemetryError> {
        let exporter = otlp::tracer(&settings.telemetry, &settings.node.name)?;
        let mut layers = vec![logs::layer(&settings.log)];
        layers.extend(
            exporter
                .as_ref()
                .map(|(provider, _)| otlp::layer(provider).boxed()),
        );
        // Several nodes in one process (`koorde dev`) share the first one's logger.
        let _ = tracing_subscriber::registry().with(layers).try_init();
        Ok(Self {
            tracing: exporter.map(|(provider, exports)| Tracing { provider, exports }),
        })
    }

    /// How trace context passes through this process; none if no spans are exported.
    #[must_use]
    pub fn propagation(&self) -> Option<Propagation> {
        self.tracing.as_ref().map(|_| otlp::propagation())
    }

    /// What became of exports; none if there is no exporter.
    #[must_use]
    pub fn exports(&self) -> Option<&Exports> {
        self.tracing.as_ref().map(|tracing| &tracing.exports)
    }

    /// Sends the last spans, within `bound`; what has not been sent by then is lost.
    pub async fn flush(self, bound: Duration) {
        let Some(Tracing { provider, .. }) = self.tracing else {
            return;
        };
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(bound));
        match tokio::time::timeout(bound, flushed).await {
            Ok(Ok(Ok(()))) => {}
            _ => tracing::warn!("The last spans were not sent in time."),
        }
    }
}
