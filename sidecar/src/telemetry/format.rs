//! Which form of `/metrics` a client is given.

use http::{HeaderValue, Request};

use crate::http::{Accept, respond::Failure};

/// A form of `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The seed's tree.
    Json,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Text,
}

impl Format {
    /// The form that `?format=` names, else the best one that Accept *names*. A wildcard names none:
    /// curl sends `*/*` and is given JSON, while Prometheus sends it last and must not be.
    /// There is no 406: a client that wants none of them is given JSON.
    ///
    /// # Errors
    /// `format` names none of `json`, `prometheus`, `openmetrics`.
    pub fn negotiate<B>(request: &Request<B>, accept: &Accept) -> Result<Self, Failure> {
        let query = request.uri().query().unwrap_or_default();
        let asked = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("format="));
        match asked {
            Some("json") => Ok(Self::Json),
            Some("prometheus") => Ok(Self::Text),
            Some("openmetrics") => Ok(Self::OpenMetrics),
            Some(other) => Err(Failure::bad_request(format!(
                "format {other:?} is none of json, prometheus, openmetrics"
            ))),
            None => Ok(Self::best(
                accept,
                &[Self::Json, Self::OpenMetrics, Self::Text],
            )),
        }
    }

    /// The better of the two forms for Prometheus.
    #[must_use]
    pub fn exposition(accept: &Accept) -> Self {
        Self::best(accept, &[Self::Text, Self::OpenMetrics])
    }

    /// The exact media type.
    #[must_use]
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        })
    }

    /// The one with the highest quality among those named; of equals, and if none is named, the
    /// first.
    fn best(accept: &Accept, forms: &[Self]) -> Self {
        let mut best = (forms[0], 0.0);
        for form in forms {
            let quality = form.named(accept);
            if quality > best.1 {
                best = (*form, quality);
            }
        }
        best.0
    }

    fn named(self, accept: &Accept) -> f32 {
        let (kind, subtype) = match self {
            Self::Json => ("application", "json"),
            Self::OpenMetrics => ("application", "openmetrics-text"),
            Self::Text => ("text", "plain"),
        };
        accept.named(kind, subtype).unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header};

    use super::*;

    fn negotiated(accept: Option<&'static str>, uri: &str) -> Result<Format, Failure> {
        let mut fields = HeaderMap::new();
        if let Some(accept) = accept {
            fields.insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        let request = Request::builder()
            .uri(uri)
            .body(())
            .expect("the test's URIs are well-formed");
        Format::negotiate(&request, &Accept::of(&fields))
    }

    /// As the programs send them.
    const REAL: [(&str, Format); 9] = [
        (
            // Prometheus 2.x
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
             q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format::OpenMetrics,
        ),
        (
            // Prometheus 2.x before OpenMetrics
            "text/plain;version=0.0.4;q=1,*/*;q=0.1",
            Format::Text,
        ),
        (
            // Prometheus 3.x
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/\
             openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;\
             q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            Format::OpenMetrics,
        ),
        (
            // Prometheus 3.x with native histograms
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=\
             delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            Format::OpenMetrics,
        ),
        (
            // Telegraf
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=\
             delimited;q=0.7,text/plain;version=0.0.4;q=0.3",
            Format::Text,
        ),
        ("*/*", Format::Json), // curl
        (
            // a browser
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
            Format::Json,
        ),
        ("application/json, text/plain, */*", Format::Json), // axios
        ("image/png", Format::Json),
    ];

    #[test]
    fn each_program_is_given_what_it_can_read() {
        for (accept, format) in REAL {
            assert_eq!(negotiated(Some(accept), "/metrics"), Ok(format), "{accept}");
        }
        assert_eq!(negotiated(None, "/metrics"), Ok(Format::Json));
    }

    #[test]
    fn quality_decides_and_the_format_parameter_overrules_it() {
        let less_json = Some("application/json;q=0.5, text/plain;q=0.6");
        assert_eq!(negotiated(less_json, "/metrics"), Ok(Format::Text));
        assert_eq!(
            negotiated(Some("text/plain;q=0, */*"), "/metrics"),
            Ok(Format::Json)
        );
        let prometheus = Some(REAL[0].0);
        assert_eq!(
            negotiated(prometheus, "/metrics?format=json"),
            Ok(Format::Json)
        );
        assert_eq!(
            negotiated(None, "/metrics?format=prometheus"),
            Ok(Format::Text)
        );
        assert_eq!(
            negotiated(None, "/metrics?a=b&format=openmetrics"),
            Ok(Format::OpenMetrics)
        );
        let failure = negotiated(None, "/metrics?format=xml").expect_err("there is no such form");
        assert!(failure.message.contains("\"xml\""), "{}", failure.message);
    }

    #[test]
    fn the_path_for_prometheus_never_answers_json() {
        let accept = |value| {
            let fields = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]);
            Format::exposition(&Accept::of(&fields))
        };
        assert_eq!(accept("application/json"), Format::Text);
        assert_eq!(accept("*/*"), Format::Text);
        assert_eq!(accept(REAL[0].0), Format::OpenMetrics);
    }
}
