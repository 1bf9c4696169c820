//! One trace from an app behind the layer through the ring to the origin, as a collector receives it.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use koorde_client::KoordeLayer;
use koorde_tests::{origin::Origin, process::client};
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator,
    trace::{TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_http::HeaderInjector;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tower::{Layer, ServiceExt};

use super::{
    FRESH,
    collector::Collector,
    traces::{end, hex, path_of_the_first, ring},
};

/// What makes and exports the app's own spans, as OpenTelemetry's own documents say it.
fn app(collector: &Collector) -> SdkTracerProvider {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(collector.endpoint())
        .build();
    let name = KeyValue::new("service.instance.id", "app");
    SdkTracerProvider::builder()
        .with_batch_exporter(exporter.expect("an endpoint"))
        .with_resource(Resource::builder().with_attribute(name).build())
        .build()
}

/// The spans from this one up to that without a parent: who made it, and its name.
fn up_from(first: &(String, Span), all: &[(String, Span)]) -> Vec<String> {
    let mut next = Some(first);
    let mut way = Vec::new();
    while let Some((of, span)) = next {
        way.push(format!("{of}: {}", span.name));
        next = all
            .iter()
            .find(|(_, one)| one.span_id == span.parent_span_id);
    }
    way
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_spans_app_sidecar_owner_and_origin() {
    for (is_look_aside, expected) in [
        (
            false,
            vec![
                "koorde-0: GET",
                "koorde-0: koorde.fill",
                "koorde-0: koorde.peer.serve",
                "koorde-1: koorde.peer.get",
                "koorde-1: koorde.fill",
                "koorde-1: GET path",
                "app: rates",
            ],
        ),
        (
            true,
            vec![
                "koorde-0: koorde.peer.serve",
                "koorde-1: koorde.peer.get",
                "koorde-1: koorde.fill",
                "koorde-1: POST look-aside",
                "app: rates",
            ],
        ),
    ] {
        let collector = Collector::start().await;
        let origin = Origin::fixed(Duration::ZERO, FRESH, "body").await;
        let mut nodes = ring(2, &collector, "grpc").await;
        let path = path_of_the_first(&nodes, &origin).await;
        let mut layer = KoordeLayer::new(&format!("http://{}", nodes[1].http)).expect("a URL");
        if is_look_aside {
            layer = layer.look_aside().expect("loopback");
        }
        let provider = app(&collector);
        let span = provider.tracer("app").start("rates");
        let context = Context::new().with_span(span);
        let mut request = Request::get(origin.url(&path))
            .body(Empty::<Bytes>::new())
            .expect("a URL");
        let mut fields = HeaderInjector(request.headers_mut());
        TraceContextPropagator::new().inject_context(&context, &mut fields);
        let answer = layer
            .layer(client())
            .oneshot(request)
            .await
            .expect("an answer");
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(drop)
            .expect("whole");
        assert_eq!(body.to_bytes(), "body");
        context.span().end();
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown());
        flushed
            .await
            .expect("no panic")
            .expect("the collector takes it");
        end(&mut nodes).await;

        let spans = collector.received().spans.clone();
        let deepest = spans
            .iter()
            .find(|(of, span)| format!("{of}: {}", span.name) == expected[0]);
        let deepest = deepest.unwrap_or_else(|| panic!("no {} in {spans:#?}", expected[0]));
        assert_eq!(up_from(deepest, &spans), expected);
        let trace = &deepest.1.trace_id;
        assert!(
            spans.iter().all(|(_, span)| span.trace_id == *trace),
            "one trace"
        );
        let sent = origin.requests(&path)[0]["traceparent"].clone();
        let by = if is_look_aside { "rates" } else { "GET" };
        let by = spans
            .iter()
            .find(|(_, span)| span.name == by)
            .expect("who asks the origin");
        let of_the_span = format!("00-{}-{}-01", hex(trace), hex(&by.1.span_id));
        assert_eq!(sent, of_the_span, "what the origin does is done below it");
    }
}
