//! Spans of this process, on their way to the collector.
//!
//! They wait in a bounded queue for a thread of the SDK's, which drops what does not fit.

use opentelemetry::trace::TracerProvider;
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::{
        common::tonic::ResourceAttributesWithSchema,
        trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
    },
};
use tokio::runtime::Handle;
use tracing::Metadata;
use tracing_subscriber::{Layer, filter::FilterFn};

use super::Collector;

/// Spans that wait for export, at most.
const QUEUE: usize = 2048;

/// What makes spans, and sends them to the collector.
pub(super) fn tracer(collector: &Collector) -> SdkTracerProvider {
    let exporter = Exporter {
        resource: (&collector.resource).into(),
        collector: collector.clone(),
        runtime: Handle::current(),
    };
    let batch = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .build();
    let batch = BatchSpanProcessor::builder(exporter).with_batch_config(batch);
    let begun_here = Sampler::TraceIdRatioBased(collector.settings.sample_ratio);
    SdkTracerProvider::builder()
        .with_span_processor(batch.build())
        .with_sampler(Sampler::ParentBased(Box::new(begun_here)))
        .with_resource(collector.resource.clone())
        .build()
}

/// The layer that makes spans of our own spans, and of nobody else's.
pub(in crate::telemetry) fn layer<S>(
    provider: &SdkTracerProvider,
) -> impl Layer<S> + Send + Sync + use<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a> + Send + Sync,
{
    let ours = |metadata: &Metadata<'_>| {
        let target = metadata.target();
        let known = target.starts_with("libkoorde") || target.starts_with("koorde");
        known && (metadata.is_span() || *metadata.level() <= tracing::Level::INFO)
    };
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("koorde"))
        .with_location(false)
        .with_threads(false)
        .with_filter(FilterFn::new(ours))
}

#[derive(Debug)]
struct Exporter {
    collector: Collector,
    resource: ResourceAttributesWithSchema,
    /// Sockets and timers are the runtime's; the SDK's thread has none.
    runtime: Handle,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let collector = self.collector.clone();
        // One at a time: the thread waits for it.
        let sent = self.runtime.spawn(async move {
            let message = ExportTraceServiceRequest { resource_spans };
            let result = collector.sender.send(message).await;
            collector.exports.ended("otlp_traces", &result);
            result
        });
        let sent = sent.await.map_err(|error| error.to_string());
        sent.flatten().map_err(OTelSdkError::InternalFailure)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libkoorde::metrics::Counters;

    use super::*;
    use crate::settings::{OtlpProtocol, TelemetrySettings};

    fn outcomes() -> Counters {
        Counters::before_the_book(&crate::telemetry::catalogue::EXPORTS)
    }

    #[test]
    fn without_an_endpoint_there_is_no_collector() {
        let none = Collector::new(&TelemetrySettings::default(), "a", &outcomes());
        assert!(none.is_none());
    }

    #[tokio::test]
    async fn a_collector_that_is_not_there_is_counted_and_not_waited_for() {
        for otlp_protocol in [OtlpProtocol::Grpc, OtlpProtocol::Http] {
            let settings = TelemetrySettings {
                // Port 9 is discard; nobody listens.
                otlp_endpoint: Some("http://127.0.0.1:9".into()),
                otlp_protocol,
                sample_ratio: 1.0,
                export_timeout: Duration::from_millis(500),
                ..TelemetrySettings::default()
            };
            let outcomes = outcomes();
            let collector = Collector::new(&settings, "a", &outcomes).expect("an endpoint");
            let provider = collector.tracer().expect("traces are sent");
            let tracer = provider.tracer("test");
            drop(opentelemetry::trace::Tracer::start(&tracer, "span"));
            let bound = Duration::from_secs(10);
            let flushed =
                tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(bound));
            let _ = tokio::time::timeout(bound, flushed)
                .await
                .expect("within the bound");
            let count = |outcome| outcomes.of(&["otlp_traces", outcome]).get();
            assert_eq!((count("ok"), count("error")), (0, 1), "{otlp_protocol:?}");
        }
    }
}
