//! How traces pass through a node.

use http::HeaderMap;
use tracing::Span;

/// How trace context passes through: function pointers, so that the library needs no exporter.
///
/// A node makes spans within the current one only: who asks it within none pays for none.
#[derive(Clone, Copy, Debug)]
pub struct Propagation {
    /// Writes the span's context into fields (`traceparent`, `tracestate`).
    pub inject: fn(&Span, &mut HeaderMap),
    /// Begins a span, made by the function, below the context that a peer's fields tell of; none if
    /// they tell of none, or of a trace that is not kept.
    pub below: fn(&HeaderMap, fn() -> Span) -> Span,
}

/// No context passes through: what a node does for a peer begins a span of its own.
impl Default for Propagation {
    fn default() -> Self {
        Self {
            inject: |_, _| (),
            below: |_, begin| begin(),
        }
    }
}
