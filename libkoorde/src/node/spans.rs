//! The spans of a fill and of what it asks for, in the words of OpenTelemetry's semantic conventions
//! where those have any.
//!
//! Nobody's query string is in them: queries carry secrets. Numbers are recorded as `i64`: of all others
//! `tracing-opentelemetry` makes text.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use http::Method;
use tracing::{Span, field::Empty, info_span};

use super::origin::Answer;
use crate::{error::FetchError, policy::Target};

/// A span within the current one, made by `begin`; none if there is no current one. A request whose trace is not
/// kept has none, so that it pays for no span at all: 99 of 100 by default.
pub(crate) fn within(begin: impl FnOnce() -> Span) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    begin()
}

/// The span of a fill, for as long as it is under way: it is over when the fill is, however slowly
/// those read who wait for it.
#[derive(Debug)]
pub(crate) struct FillSpan(Mutex<Option<Span>>);

impl FillSpan {
    /// Begins in the span of whoever begins the fill.
    pub(crate) fn begin(target: &Target) -> Self {
        let address = target.host();
        let span = within(|| info_span!("koorde.fill", server.address = %address));
        Self(Mutex::new(Some(span)))
    }

    /// What the fill does is done in it.
    pub(crate) fn get(&self) -> Span {
        self.held().clone().unwrap_or_else(Span::none)
    }

    /// The current span, of one who waits for the fill, has a link to it: it cannot be a child of many.
    pub(crate) fn link(&self) {
        // A clone keeps it open till the link is made.
        let fill = self.get();
        Span::current().follows_from(&fill);
    }

    /// The fill is over.
    pub(crate) fn end(&self) {
        let span = self.held().take();
        drop(span);
    }

    fn held(&self) -> MutexGuard<'_, Option<Span>> {
        // Nothing can be half done in there.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The span of a request to an origin, to the head of its response.
pub(crate) fn origin(method: &Method, target: &Target) -> Span {
    // A method that a client has made up would be one more name of a span.
    let known = matches!(
        method.as_str(),
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS"
    );
    within(|| {
        info_span!(
            "origin",
            otel.name = if known { method.as_str() } else { "HTTP" },
            otel.kind = "client",
            otel.status_code = Empty,
            http.request.method = method.as_str(),
            http.response.status_code = Empty,
            server.address = target.host(),
            server.port = i64::from(target.port()),
            url.full = %Plain(target),
            error.type = Empty,
        )
    })
}

/// Says in the span of a request to an origin how it ended.
pub(crate) fn answered(span: &Span, answer: &Result<Answer, FetchError>) {
    let status = answer.as_ref().map(|answer| answer.head.status);
    match status {
        Ok(status) => {
            span.record("http.response.status_code", i64::from(status.as_u16()));
            if status.is_client_error() || status.is_server_error() {
                failed(span, status.as_str());
            }
        }
        Err(FetchError::OriginTimeout(_)) => failed(span, "timeout"),
        Err(FetchError::Denied { reason, .. } | FetchError::Resting { reason, .. }) => {
            failed(span, reason);
        }
        Err(FetchError::Overloaded(bound)) => failed(span, bound),
        Err(FetchError::Origin(_)) => failed(span, "broken"),
        Err(_) => failed(span, "_OTHER"),
    }
}

/// Says in a span that it did not end well, by a word of a closed set.
pub(crate) fn failed(span: &Span, word: &str) {
    span.record("error.type", word);
    span.record("otel.status_code", "error");
}

/// A target without its query.
struct Plain<'a>(&'a Target);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0.path_and_query();
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        write!(f, "{}://{}{path}", self.0.scheme(), self.0.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_in_a_span_has_no_query() {
        for (url, shown) in [
            ("http://a.example/p?secret=1", "http://a.example/p"),
            ("https://a.example:8443/?", "https://a.example:8443/"),
            ("http://a.example/p", "http://a.example/p"),
        ] {
            let target = Target::parse(url).expect("a URL");
            assert_eq!(Plain(&target).to_string(), shown);
        }
    }
}
