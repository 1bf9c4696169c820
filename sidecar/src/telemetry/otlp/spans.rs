//! Spans of this process, on their way to the collector.
//!
//! They wait in a bounded queue for a thread of the SDK's, which drops what does not fit.
//! `opentelemetry-otlp` sends them; a try that may succeed later it repeats, within `telemetry.export_timeout`.
//! That a collector took only a part of an export it tells nobody: such an export counts as one that
//! succeeded.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceId, TraceState, TracerProvider},
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SamplingDecision, SamplingResult,
        SdkTracerProvider, ShouldSample, SpanData, SpanExporter,
    },
};
use tokio::{runtime::Handle, time::timeout};
use tracing::{Level, Metadata};
use tracing_subscriber::{
    Layer,
    filter::{FilterFn, LevelFilter},
};

use super::{
    super::chain,
    Collector,
    way::{Http, Way},
};

/// Spans that wait for export, at most.
const QUEUE: usize = 2048;

/// What makes spans, and sends them to the collector.
pub(super) fn tracer(collector: &Collector) -> SdkTracerProvider {
    let exporter = Exporter::new(collector)
        .expect("the way to the collector is there, and nothing is left to the environment");
    let batch = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .build();
    let batch = BatchSpanProcessor::builder(exporter).with_batch_config(batch);
    SdkTracerProvider::builder()
        .with_span_processor(batch.build())
        .with_sampler(Sampler::ParentBased(Box::new(OfRequests)))
        .with_resource(collector.resource.clone())
        .build()
}

/// Keeps of the traces that begin here those that begin with a request: which requests have a span at all, is
/// decided [before one is made](super::context::begin).
#[derive(Clone, Debug)]
struct OfRequests;

impl ShouldSample for OfRequests {
    fn should_sample(
        &self,
        _parent: Option<&Context>,
        _trace: TraceId,
        _name: &str,
        kind: &SpanKind,
        _attributes: &[KeyValue],
        _links: &[Link],
    ) -> SamplingResult {
        let decision = match kind {
            SpanKind::Server => SamplingDecision::RecordAndSample,
            _ => SamplingDecision::Drop,
        };
        SamplingResult {
            decision,
            attributes: Vec::new(),
            trace_state: TraceState::NONE,
        }
    }
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
        known && *metadata.level() <= Level::INFO
    };
    let ours = FilterFn::new(ours).with_max_level_hint(LevelFilter::INFO);
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("koorde"))
        .with_location(false)
        .with_threads(false)
        .with_filter(ours)
}

#[derive(Debug)]
struct Exporter {
    inner: Arc<opentelemetry_otlp::SpanExporter>,
    why: Why,
    collector: Collector,
    /// Sockets and timers are the runtime's; the SDK's thread has none.
    runtime: Handle,
}

impl Exporter {
    fn new(collector: &Collector) -> Result<Self, ExporterBuildError> {
        let why = Why::default();
        let mut inner = exporter(collector, &why)?;
        inner.set_resource(&collector.resource);
        Ok(Self {
            inner: Arc::new(inner),
            why,
            collector: collector.clone(),
            runtime: Handle::current(),
        })
    }
}

/// What the environment has for it is not used: the settings are in one place, for metrics, too.
fn exporter(
    collector: &Collector,
    why: &Why,
) -> Result<opentelemetry_otlp::SpanExporter, ExporterBuildError> {
    let builder = opentelemetry_otlp::SpanExporter::builder();
    let bound = collector.settings.export_timeout;
    match &collector.way {
        Way::Grpc(channel, fields) => {
            let fields = fields.clone();
            let only_ours = move |mut call: tonic::Request<()>| {
                *call.metadata_mut() = fields.clone();
                Ok(call)
            };
            let builder = builder.with_tonic().with_channel(channel.clone());
            builder
                .with_interceptor(only_ours)
                .with_timeout(bound)
                .build()
        }
        Way::Http(http) => {
            let client = Client {
                http: Arc::clone(http),
                why: why.clone(),
            };
            let builder = builder.with_http().with_http_client(client);
            builder
                .with_protocol(Protocol::HttpBinary)
                .with_endpoint(http.url("/v1/traces"))
                .with_timeout(bound)
                .build()
        }
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (inner, why) = (Arc::clone(&self.inner), self.why.clone());
        let collector = self.collector.clone();
        // One at a time: the thread waits for it.
        let sent = self.runtime.spawn(async move {
            let bound = collector.settings.export_timeout;
            let result = match timeout(bound, inner.export(batch)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(why.take().unwrap_or_else(|| chain(&error))),
                Err(_elapsed) => Err(format!("no answer within {bound:?}")),
            };
            collector.exports.ended("otlp_traces", &result);
            result
        });
        let sent = sent.await.map_err(|error| error.to_string());
        sent.flatten().map_err(OTelSdkError::InternalFailure)
    }
}

/// Our client of HTTP, as `opentelemetry-otlp` wants it.
#[derive(Debug)]
struct Client {
    http: Arc<Http>,
    why: Why,
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.http.send(request).await;
        self.why.set(answer.as_ref().err());
        answer
    }
}

/// Why the last request over HTTP had no answer, if it had none: `opentelemetry-otlp` does not say it.
#[derive(Clone, Debug, Default)]
struct Why(Arc<Mutex<Option<String>>>);

impl Why {
    fn set(&self, error: Option<&HttpError>) {
        let why = error.map(|error| chain(&**error));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn take(&self) -> Option<String> {
        let mut why = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        why.take()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libkoorde::metrics::Counters;
    use opentelemetry::trace::Tracer;

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
            let of_a_request = tracer.span_builder("span").with_kind(SpanKind::Server);
            drop(of_a_request.start(&tracer));
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
