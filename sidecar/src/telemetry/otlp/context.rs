//! W3C trace context between spans and fields, and the span of a request.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use libkoorde::{Propagation, outcome::Outcome};
use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tokio::time::Instant;
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::http::known_method;

/// W3C trace context (`traceparent`, `tracestate`) between spans and fields.
#[must_use]
pub fn propagation() -> Propagation {
    Propagation { inject, below }
}

/// Where there are no traces: no context, and no span.
pub(crate) fn no_propagation() -> Propagation {
    Propagation {
        inject: |_, _| (),
        below: |_, _| Span::none(),
    }
}

fn inject(span: &Span, fields: &mut HeaderMap) {
    if !span.is_none() {
        TraceContextPropagator::new().inject_context(&span.context(), &mut Fields(fields));
    }
}

fn below(fields: &HeaderMap, begin: fn() -> Span) -> Span {
    match told(fields) {
        Some(parent) if parent.span().span_context().is_sampled() => child(parent, begin),
        _ => Span::none(),
    }
}

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The context that fields tell of, if they do.
fn told(fields: &HeaderMap) -> Option<Context> {
    // Most requests have none, and this is on the way of all.
    let context = fields
        .contains_key(&TRACEPARENT)
        .then(|| TraceContextPropagator::new().extract(&Fields(fields)))?;
    let is_valid = context.span().span_context().is_valid();
    is_valid.then_some(context)
}

fn child(parent: Context, begin: impl FnOnce() -> Span) -> Span {
    let span = begin();
    // It fails for a span that is switched off, which then needs no parent.
    let _ = span.set_parent(parent);
    span
}

/// Which requests have a span: those whose trace is kept.
///
/// Decided before a span is made: a span that is made, filled and then dropped costs half as much as answering
/// a hit. A request without one is passed on with the trace context that it came with, if any.
#[derive(Debug)]
pub struct Traces {
    /// Part of the requests without trace context that has a span.
    ratio: f64,
    limit: Limit,
    start: Instant,
}

/// So many a second, evenly; what was not taken in the last second may be taken at once.
///
/// At 80,000 hits a second, one in a hundred of them were 800 traces: three per cent of the node's
/// throughput, and far more than anybody looks at or wants to pay for.
#[derive(Debug)]
struct Limit {
    /// Nanoseconds for each.
    each: u64,
    /// When there is room for the next, in nanoseconds.
    next: AtomicU64,
}

impl Limit {
    const SECOND: u64 = 1_000_000_000;

    fn new(per_second: u32) -> Self {
        let each = Self::SECOND / u64::from(per_second.max(1));
        let next = AtomicU64::new(0);
        Self { each, next }
    }

    /// Takes room for one, `now` after the start.
    fn take(&self, now: Duration) -> bool {
        let since_start = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX / 2);
        // One second is free at the start.
        let now = since_start + Self::SECOND;
        let next = |next: u64| {
            let next = next.max(since_start);
            (next <= now).then_some(next + self.each)
        };
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.next.fetch_update(set, fetch, next).is_ok()
    }
}

impl Traces {
    /// Keeps this part of the traces that begin here, 0 to 1, and at most so many a second. One that has
    /// begun elsewhere is kept if its context says so.
    #[must_use]
    pub fn new(ratio: f64, per_second: u32) -> Self {
        Self {
            ratio,
            limit: Limit::new(per_second),
            start: Instant::now(),
        }
    }

    fn begin(&self, fields: &HeaderMap, begin: impl FnOnce() -> Span) -> Span {
        match told(fields) {
            Some(parent) if parent.span().span_context().is_sampled() => child(parent, begin),
            None if self.draws() && self.limit.take(self.start.elapsed()) => begin(),
            _ => Span::none(),
        }
    }

    fn draws(&self) -> bool {
        // The keys of each are others, and nobody shares a cache line for them.
        let random = RandomState::new().build_hasher().finish();
        let below_one = (random >> 11) as f64 / (1_u64 << 53) as f64;
        below_one < self.ratio
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
/// request names. None if its trace is not kept. The URL is not in it: queries carry secrets.
pub(crate) fn begin(
    traces: Option<&Traces>,
    method: &Method,
    route: &'static str,
    fields: &HeaderMap,
) -> Span {
    let Some(traces) = traces else {
        return Span::none();
    };
    traces.begin(fields, || server_span(method, route))
}

fn server_span(method: &Method, route: &'static str) -> Span {
    let method = known_method(method);
    // By the semantic conventions: a method that the client has made up is no part of a name.
    let name = if method == "_OTHER" { "HTTP" } else { method };
    tracing::info_span!(
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
    )
}

/// Says in the span how the request ended.
pub(crate) fn end(span: &Span, status: StatusCode, outcome: Option<&Outcome>) {
    if span.is_none() {
        return;
    }
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
    if span.is_none() {
        return None;
    }
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
            let incoming =
                HeaderMap::from_iter([(TRACEPARENT.clone(), HeaderValue::from_static(PARENT))]);
            let traces = Traces::new(0.0, 100);
            let span = begin(Some(&traces), &Method::GET, "/cache", &incoming);
            let mut outgoing = HeaderMap::new();
            inject(&span, &mut outgoing);
            let sent = outgoing[&TRACEPARENT]
                .to_str()
                .expect("trace context is ASCII");
            assert_eq!(sent[..36], PARENT[..36], "the trace is the same");
            assert_ne!(sent[36..52], PARENT[36..52], "the span is another");
            assert_eq!(&sent[52..], "-01");
        });
    }

    #[test]
    fn a_request_has_a_span_if_its_client_keeps_the_trace_or_if_it_is_drawn() {
        let provider = SdkTracerProvider::builder().build();
        let subscriber = tracing_subscriber::registry().with(layer(&provider));
        tracing::subscriber::with_default(subscriber, || {
            let kept = PARENT;
            let not_kept = &[&PARENT[..53], "00"].concat();
            for (traceparent, ratio, expected) in [
                (Some(kept), 0.0, 1000),
                (Some(not_kept), 1.0, 0),
                (Some("00-0-0-01"), 1.0, 1000),
                (None, 1.0, 1000),
                (None, 0.0, 0),
            ] {
                let fields = traceparent
                    .map(|value| HeaderValue::from_str(value).expect("ASCII"))
                    .map(|value| (TRACEPARENT.clone(), value));
                let fields = HeaderMap::from_iter(fields);
                let traces = Traces::new(ratio, 100_000);
                let spans = (0..1000)
                    .map(|_| begin(Some(&traces), &Method::GET, "/cache", &fields))
                    .filter(|span| !span.is_none());
                assert_eq!(spans.count(), expected, "{traceparent:?} {ratio}");
            }
        });
    }

    #[test]
    fn as_many_traces_are_begun_as_the_ratio_says() {
        let traces = Traces::new(0.01, 100);
        let drawn = (0..1_000_000).filter(|_| traces.draws()).count();
        // Ten standard deviations.
        assert!((9_000..=11_000).contains(&drawn), "{drawn}");
    }

    #[test]
    fn however_many_are_drawn_no_more_are_begun_than_there_is_room_for() {
        let limit = Limit::new(100);
        let taken = |from: u64, millis: u64| {
            let times = (from..from + millis).flat_map(|ms| std::iter::repeat_n(ms, 20));
            times
                .filter(|ms| limit.take(Duration::from_millis(*ms)))
                .count()
        };
        assert_eq!(taken(0, 1000), 200, "a second is free");
        assert_eq!(taken(1000, 1000), 100);
        assert_eq!(taken(2000, 100), 10, "spread over all of it");
        assert_eq!(taken(2100, 100), 10);
        assert_eq!(taken(60_000, 10), 101, "a pause is worth a second");
        assert!(limit.take(Duration::MAX), "nothing overflows");
    }
}
