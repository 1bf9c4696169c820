//! The section `telemetry`: OpenTelemetry. Where OpenTelemetry has a name or words for a setting
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>), they are these.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{bound, seconds};
use crate::http::decode;

/// Traces and metrics for a collector of OpenTelemetry. Trouble with it is counted, logged every five
/// minutes, and never waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// The collector: `http://host:4317` for gRPC, `http://host:4318` for HTTP, where `/v1/traces` and
    /// `/v1/metrics` are added; or https. Default: none, and neither traces nor metrics are sent.
    pub otlp_endpoint: Option<String>,
    /// `grpc`, or `http/protobuf`.
    pub otlp_protocol: OtlpProtocol,
    /// Fields that go with each export, such as `api-key=secret,tenant=a`; values are percent-encoded.
    pub otlp_headers: String,
    /// Longest time of one export, 100 ms – 60 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub export_timeout: Duration,
    /// Whether traces are sent to the collector: `otlp` or `none`.
    pub traces_exporter: Signal,
    /// Part of the traces begun here that is kept, 0–1. A trace begun by the client is kept if the
    /// client says so in `traceparent`.
    pub sample_ratio: f64,
    /// Of these at most so many a second, spread over it, 1–100,000; where a node answers much, a small
    /// part of it is many. Traces begun by clients do not count.
    pub traces_per_second: u32,
    /// Whether metrics are sent to the collector: `otlp` or `none`.
    pub metrics_exporter: Signal,
    /// Between two exports of metrics, 1 s – 1 h.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub metrics_interval: Duration,
    /// `service.name` of traces and metrics.
    pub service_name: String,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OtlpProtocol {
    /// Over HTTP/2.
    #[default]
    #[serde(rename = "grpc")]
    Grpc,
    /// The same messages, over HTTP/1.1.
    #[serde(rename = "http/protobuf")]
    Http,
}

/// Whether one kind of telemetry is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// To the collector, if there is one.
    #[default]
    Otlp,
    /// To nobody.
    None,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            otlp_protocol: OtlpProtocol::Grpc,
            otlp_headers: String::new(),
            export_timeout: Duration::from_secs(5),
            traces_exporter: Signal::Otlp,
            sample_ratio: 0.01,
            traces_per_second: 100,
            metrics_exporter: Signal::Otlp,
            metrics_interval: Duration::from_secs(60),
            service_name: "koorde".into(),
        }
    }
}

impl TelemetrySettings {
    /// Where the collector is; none without one, or for one that is refused at start.
    #[must_use]
    pub fn endpoint(&self) -> Option<Uri> {
        let uri: Uri = self.otlp_endpoint.as_ref()?.parse().ok()?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let has_host = uri.host().is_some_and(|host| !host.is_empty());
        let has_more = uri.query().is_some() || uri.authority()?.as_str().contains('@');
        (is_http && has_host && !has_more).then_some(uri)
    }

    /// The fields of each export; none of them is ever shown.
    ///
    /// # Errors
    /// The number of the first pair that is none, from 1.
    pub fn headers(&self) -> Result<HeaderMap, usize> {
        let mut fields = HeaderMap::new();
        if self.otlp_headers.trim().is_empty() {
            return Ok(fields);
        }
        for (at, pair) in self.otlp_headers.split(',').enumerate() {
            let (name, value) = field(pair).ok_or(at + 1)?;
            fields.append(name, value);
        }
        Ok(fields)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let ratio = self.sample_ratio;
        let ok = (0.0..=1.0).contains(&ratio);
        bound(ok, "telemetry.sample_ratio", &ratio, "0 to 1")?;
        let traces = self.traces_per_second;
        let ok = (1..=100_000).contains(&traces);
        bound(ok, "telemetry.traces_per_second", &traces, "1 to 100,000")?;
        seconds("telemetry.export_timeout", self.export_timeout, 0.1, 60.0)?;
        let interval = self.metrics_interval;
        seconds("telemetry.metrics_interval", interval, 1.0, 3600.0)?;
        // The values are secrets, so which pair it is has to do.
        if let Err(pair) = self.headers() {
            let rule = "pairs name=value between commas, values percent-encoded";
            return Err(format!(
                "telemetry.otlp_headers = (redacted): must be {rule}; pair {pair} is none"
            ));
        }
        let endpoint = self.otlp_endpoint.as_deref().unwrap_or_default();
        let ok = self.otlp_endpoint.is_none() || self.endpoint().is_some();
        let rule = "an http:// or https:// URL without a query, such as http://host:4317";
        bound(ok, "telemetry.otlp_endpoint", &endpoint, rule)
    }
}

fn field(pair: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = pair.split_once('=')?;
    let name = HeaderName::try_from(name.trim()).ok()?;
    let mut value = HeaderValue::try_from(decode(value.trim())?).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &str) -> TelemetrySettings {
        TelemetrySettings {
            otlp_headers: headers.to_owned(),
            ..TelemetrySettings::default()
        }
    }

    #[test]
    fn headers_are_pairs_with_percent_encoded_values() {
        let fields = of(" api-key=a%2Cb%3D , X-Scope=1=2 ")
            .headers()
            .expect("pairs");
        assert_eq!(
            (&fields["api-key"], &fields["x-scope"]),
            (&"a,b=".parse().unwrap(), &"1=2".parse().unwrap())
        );
        assert!(fields.values().all(HeaderValue::is_sensitive));
        assert!(of("").headers().expect("none").is_empty());
        for (headers, pair) in [
            ("key", 1),
            ("a=1,b c=2", 2),
            ("a=%zz", 1),
            ("a=1,,b=2", 2),
            ("a=%0a", 1),
        ] {
            assert_eq!(of(headers).headers(), Err(pair), "{headers:?}");
            let message = of(headers).check().expect_err("it is checked");
            assert!(
                message.contains("telemetry.otlp_headers")
                    && message.contains(&format!("pair {pair} "))
            );
        }
        let secret = of("a=1,hunter2").check().expect_err("no pair");
        assert!(!secret.contains("hunter2"), "{secret}");
    }

    #[test]
    fn an_endpoint_is_a_url_of_http() {
        for (text, ok) in [
            ("http://collector:4317", true),
            ("https://otlp.example/base/", true),
            ("http://[::1]:4318", true),
            ("collector:4317", false),
            ("ftp://collector:21", false),
            ("http://", false),
            ("http://a:b@collector", false),
            ("http://collector/?key=1", false),
        ] {
            let settings = TelemetrySettings {
                otlp_endpoint: Some(text.to_owned()),
                ..TelemetrySettings::default()
            };
            assert_eq!(settings.endpoint().is_some(), ok, "{text}");
            assert_eq!(settings.check().is_ok(), ok, "{text}");
        }
    }
}
