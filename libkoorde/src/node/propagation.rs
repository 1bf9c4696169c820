//! How traces pass through a node.

use http::HeaderMap;

/// How trace context passes through: function pointers, so that the library needs no exporter.
#[derive(Clone, Copy, Debug)]
pub struct Propagation {
    /// Writes the span's context into fields (`traceparent`, `tracestate`).
    pub inject: fn(&tracing::Span, &mut HeaderMap),
    /// Makes the context in fields the span's parent.
    pub extract: fn(&tracing::Span, &HeaderMap),
}

impl Default for Propagation {
    fn default() -> Self {
        Self {
            inject: |_, _| (),
            extract: |_, _| (),
        }
    }
}
