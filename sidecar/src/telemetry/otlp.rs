//! Traces: spans of this process to a collector, and W3C trace context through it.
//!
//! Spans wait in a bounded queue for a thread of their own, which drops what does not fit: a
//! collector that is slow or gone delays neither start, readiness nor any request.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use libkoorde::{Propagation, metrics::Counters, outcome::Outcome};
use opentelemetry::{
    KeyValue,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData,
        SpanExporter as Export,
    },
};
use tracing::{Level, Metadata, Span, field::Empty, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::FilterFn};

use super::TelemetryError;
use crate::settings::TelemetrySettings;

/// Spans that wait for export, at most.
const QUEUE: usize = 2048;

/// Failed exports between two lines in the log.
const FAILURES_A_LINE: u64 = 60;

/// The provider of spans, whose exports are counted in `outcomes`; none without an endpoint.
pub(super) fn tracer(
    settings: &TelemetrySettings,
    node: &str,
    outcomes: &Counters,
) -> Result<Option<SdkTracerProvider>, TelemetryError> {
    let Some(endpoint) = &settings.otlp_endpoint else {
        return Ok(None);
    };
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(settings.export_timeout)
        .build()
        .map_err(|e| TelemetryError::Endpoint {
            endpoint: endpoint.clone(),
            reason: e.to_string(),
        })?;
    let counted = Counted {
        exporter,
        exports: Exports::new(outcomes.clone()),
    };
    let batch = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .build();
    let resource = Resource::builder()
        .with_service_name(settings.service_name.clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new("service.instance.id", node.to_owned()))
        .build();
    let begun_here = Sampler::TraceIdRatioBased(settings.sample_ratio);
    let provider = SdkTracerProvider::builder()
        .with_span_processor(
            BatchSpanProcessor::builder(counted)
                .with_batch_config(batch)
                .build(),
        )
        .with_sampler(Sampler::ParentBased(Box::new(begun_here)))
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}

/// The layer that makes spans of our own spans, and of nobody else's.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + Send + Sync + use<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a> + Send + Sync,
{
    let ours = |metadata: &Metadata<'_>| {
        let target = metadata.target();
        let known = target.starts_with("libkoorde") || target.starts_with("koorde");
        known && (metadata.is_span() || *metadata.level() <= Level::INFO)
    };
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("koorde"))
        .with_location(false)
        .with_threads(false)
        .with_filter(FilterFn::new(ours))
}

/// What became of exports.
#[derive(Debug)]
struct Exports {
    outcomes: Counters,
    failed: AtomicU64,
}

impl Exports {
    /// Counted in `outcomes`.
    fn new(outcomes: Counters) -> Self {
        let failed = AtomicU64::default();
        Self { outcomes, failed }
    }

    fn ended(&self, result: &OTelSdkResult) {
        let Err(error) = result else {
            self.outcomes.of(&["otlp", "ok"]).inc();
            return;
        };
        self.outcomes.of(&["otlp", "error"]).inc();
        if self
            .failed
            .fetch_add(1, Relaxed)
            .is_multiple_of(FAILURES_A_LINE)
        {
            warn!(%error, "Spans cannot be exported.");
        }
    }
}

/// An exporter that counts.
#[derive(Debug)]
struct Counted {
    exporter: SpanExporter,
    exports: Exports,
}

impl Export for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        self.exports.ended(&result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// W3C trace context (`traceparent`, `tracestate`) between spans and fields.
#[must_use]
pub fn propagation() -> Propagation {
    Propagation { inject, extract }
}

fn inject(span: &Span, fields: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&span.context(), &mut Fields(fields));
}

fn extract(span: &Span, fields: &HeaderMap) {
    let context = TraceContextPropagator::new().extract(&Fields(fields));
    if context.span().span_context().is_valid() {
        // It fails for a span that is switched off, which then needs no parent.
        let _ = span.set_parent(context);
    }
}

/// Fields as the propagator sees them.
struct Fields<T>(T);

impl Extractor for Fields<&HeaderMap> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

impl Injector for Fields<&mut HeaderMap> {
    fn set(&mut self, key: &str, value: String) {
        let pair = (HeaderName::try_from(key), HeaderValue::try_from(value));
        if let (Ok(name), Ok(value)) = pair {
            self.0.insert(name, value);
        }
    }
}

/// The span of a request to `/cache`; its parent is the one that the request names. The URL is not
/// in it: queries carry secrets.
pub(crate) fn server_span(method: &Method, fields: &HeaderMap, propagation: &Propagation) -> Span {
    let name = if method == Method::HEAD {
        "HEAD /cache"
    } else {
        "GET /cache"
    };
    let span = tracing::info_span!(
        "GET /cache",
        otel.name = name,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method.as_str(),
        http.route = "/cache",
        http.response.status_code = Empty,
        koorde.cache.result = Empty,
        koorde.cache.tier = Empty,
    );
    (propagation.extract)(&span, fields);
    span
}

/// Says in the span how the request ended.
/// The trace that a span belongs to, if it is one that is kept.
pub(crate) fn kept_trace(span: &Span) -> Option<u128> {
    let context = span.context();
    let context = context.span().span_context().clone();
    let is_kept = context.is_valid() && context.is_sampled();
    is_kept.then(|| u128::from_be_bytes(context.trace_id().to_bytes()))
}

pub(crate) fn end_server_span(span: &Span, status: StatusCode, outcome: Option<&Outcome>) {
    span.record("http.response.status_code", status.as_u16());
    if let Some(outcome) = outcome {
        span.record("koorde.cache.result", outcome.result.as_str());
        span.record("koorde.cache.tier", outcome.tier.as_str());
    }
    if status.is_server_error() {
        span.record("otel.status_code", "error");
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn outcomes() -> Counters {
        Counters::before_the_book(&crate::telemetry::catalogue::EXPORTS)
    }

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn trace_context_goes_in_and_comes_out_below_a_new_span() {
        let provider = SdkTracerProvider::builder().build();
        let subscriber = tracing_subscriber::registry().with(layer(&provider));
        tracing::subscriber::with_default(subscriber, || {
            let traceparent = HeaderName::from_static("traceparent");
            let incoming =
                HeaderMap::from_iter([(traceparent.clone(), HeaderValue::from_static(PARENT))]);
            let span = server_span(&Method::GET, &incoming, &propagation());
            let mut outgoing = HeaderMap::new();
            inject(&span, &mut outgoing);
            let sent = outgoing[&traceparent]
                .to_str()
                .expect("trace context is ASCII");
            assert_eq!(sent[..36], PARENT[..36], "the trace is the same");
            assert_ne!(sent[36..52], PARENT[36..52], "the span is another");
            assert_eq!(&sent[52..], "-01");
        });
    }

    #[test]
    fn without_an_endpoint_there_is_no_exporter() {
        let none =
            tracer(&TelemetrySettings::default(), "a", &outcomes()).expect("nothing can be wrong");
        assert!(none.is_none());
    }

    #[tokio::test]
    async fn a_collector_that_is_not_there_is_counted_and_not_waited_for() {
        let settings = TelemetrySettings {
            // Port 9 is discard; nobody listens.
            otlp_endpoint: Some("http://127.0.0.1:9".into()),
            sample_ratio: 1.0,
            export_timeout: Duration::from_millis(500),
            ..TelemetrySettings::default()
        };
        let outcomes = outcomes();
        let provider = tracer(&settings, "a", &outcomes)
            .expect("the endpoint is well-formed")
            .expect("it is set");
        drop(opentelemetry::trace::Tracer::start(
            &provider.tracer("test"),
            "span",
        ));
        let bound = Duration::from_secs(10);
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(bound));
        let _ = tokio::time::timeout(bound, flushed)
            .await
            .expect("within the bound");
        let count = |outcome| outcomes.of(&["otlp", outcome]).get();
        assert_eq!((count("ok"), count("error")), (0, 1));
    }
}
