//! What the process says about itself: logs, traces, metrics.
//!
//! [`Telemetry::install`] belongs to whoever owns the process (`koorde serve`); an
//! [`App`](crate::app::App) in somebody else's process leaves logger and exporter alone.

use std::{error::Error, time::Duration};

use libkoorde::{
    Propagation,
    metrics::{Book, Counters},
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus_client::metrics::info::Info;
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::settings::Settings;
use otlp::{Collector, Reader, Told, context::Traces};

pub mod catalogue;
pub mod cloudwatch;
pub mod exemplars;
pub mod format;
pub mod json;
pub mod logs;
pub mod otlp;
pub mod process;
pub mod prometheus;
mod sparing;
mod tls;

/// The process's logger and, if there is one, its collector.
#[derive(Debug)]
pub struct Telemetry {
    collector: Option<Collector>,
    tracing: Option<SdkTracerProvider>,
    exports: Counters,
}

/// What this is: the labels of `koorde_build_info`.
const BUILD_LABELS: [(&str, &str); 2] = [
    ("version", env!("CARGO_PKG_VERSION")),
    (
        "commit",
        match option_env!("KOORDE_COMMIT") {
            Some(commit) => commit,
            None => "unknown",
        },
    ),
];

/// A process's metrics, with its build in them; these upstreams have series of their own.
#[must_use]
pub fn book(upstreams: Vec<String>) -> Book {
    let mut book = Book::with_upstreams(upstreams);
    book.register(&catalogue::BUILD, Info::new(BUILD_LABELS.to_vec()));
    book
}

impl Telemetry {
    /// No exporter, and the process's logger as it is.
    #[must_use]
    pub fn none() -> Self {
        Self {
            collector: None,
            tracing: None,
            exports: Counters::before_the_book(&catalogue::EXPORTS),
        }
    }

    /// Makes this process's logger and, if an endpoint is set, what sends traces there. A logger that
    /// was installed before stays. Must be called within a Tokio runtime. Trouble with a collector is
    /// never a reason not to start.
    #[must_use]
    pub fn install(settings: &Settings) -> Self {
        let mut this = Self::none();
        this.collector = Collector::new(&settings.telemetry, &settings.node.name, &this.exports);
        this.tracing = this.collector.as_ref().and_then(Collector::tracer);
        let mut layers = vec![logs::layer(&settings.log)];
        layers.extend(
            this.tracing
                .as_ref()
                .map(|provider| otlp::layer(provider).boxed()),
        );
        // Several nodes in one process (`koorde dev`) share the first one's logger.
        let _ = tracing_subscriber::registry().with(layers).try_init();
        this
    }

    /// How trace context passes through this process.
    #[must_use]
    pub fn propagation(&self) -> Propagation {
        match self.tracing {
            Some(_) => otlp::context::propagation(),
            None => otlp::context::no_propagation(),
        }
    }

    /// Which requests of this process have a span; none if no spans are exported.
    #[must_use]
    pub fn traces(&self) -> Option<Traces> {
        let (ratio, most) = self.collector.as_ref()?.sampling();
        self.tracing.as_ref().map(|_| Traces::new(ratio, most))
    }

    /// Starts to send the collector metrics, if there is one and it is sent them.
    #[must_use]
    pub fn read(&self, told: Told) -> Option<Reader> {
        self.collector.as_ref()?.read(told)
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

/// An error with all that lies behind it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
