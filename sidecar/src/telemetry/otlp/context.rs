//! W3C trace context between spans and fields, and the span of a request.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use libkoorde::{Propagation, outcome::Outcome};
use opentelemetry::{
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::http::known_method;

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

/// The span of a request that came by `route`, a word of the catalogue; its parent is the one that the
/// request names. The URL is not in it: queries carry secrets.
pub(crate) fn server_span(
    method: &Method,
    route: &'static str,
    fields: &HeaderMap,
    propagation: &Propagation,
) -> Span {
    let method = known_method(method);
    // By the semantic conventions: a method that the client has made up is no part of a name.
    let name = if method == "_OTHER" { "HTTP" } else { method };
    let span = tracing::info_span!(
        "request",
        otel.name = %format_args!("{name} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        error.type = Empty,
        koorde.cache.result = Empty,
        koorde.cache.tier = Empty,
        koorde.cache.collapsed = Empty,
    );
    (propagation.extract)(&span, fields);
    span
}

/// Says in the span how the request ended.
pub(crate) fn end_server_span(span: &Span, status: StatusCode, outcome: Option<&Outcome>) {
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if let Some(outcome) = outcome {
        span.record("koorde.cache.result", outcome.result.as_str());
        span.record("koorde.cache.tier", outcome.tier.as_str());
        span.record("koorde.cache.collapsed", outcome.collapsed);
    }
    if status.is_server_error() {
        span.record("error.type", status.as_str());
        span.record("otel.status_code", "error");
    }
}

/// The trace that a span belongs to, if it is one that is kept.
pub(crate) fn kept_trace(span: &Span) -> Option<u128> {
    let context = span.context();
    let context = context.span().span_context().clone();
    let is_kept = context.is_valid() && context.is_sampled();
    is_kept.then(|| u128::from_be_bytes(context.trace_id().to_bytes()))
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::otlp::layer;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn trace_context_goes_in_and_comes_out_below_a_new_span() {
        let provider = SdkTracerProvider::builder().build();
        let subscriber = tracing_subscriber::registry().with(layer(&provider));
        tracing::subscriber::with_default(subscriber, || {
            let traceparent = HeaderName::from_static("traceparent");
            let incoming =
                HeaderMap::from_iter([(traceparent.clone(), HeaderValue::from_static(PARENT))]);
            let span = server_span(&Method::GET, "/cache", &incoming, &propagation());
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
}
