//! The section `cloudwatch`.

use std::{net::Ipv6Addr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{bound, seconds};

/// CloudWatch. `koorde cloudwatch cost` prints the bill before it comes. Trouble with it is counted,
/// logged every five minutes, and never waited for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CloudWatchSettings {
    /// How metrics get to CloudWatch: `none`; `api` (PutMetricData, with the credentials that the AWS
    /// SDKs find: IRSA, Pod Identity, profile); `emf-stdout` (a line of JSON on standard output, for an
    /// agent that ships logs); `emf-agent` (the same to a CloudWatch agent).
    pub exporter: Exporter,
    /// Namespace of the metrics, 1–255 letters, digits and `.-_/#:`.
    pub namespace: String,
    /// Value of the dimension `Cluster`, 1–255 printable ASCII characters.
    pub cluster: String,
    /// Also publish each node's metrics by themselves, with the dimension `Pod`. Each of them costs:
    /// at 50 nodes some 340 dollars a month.
    pub pod_dimension: bool,
    /// Between two looks at the counters, 1 s – 10 min: the resolution of what is seen there. Below a minute
    /// CloudWatch keeps single seconds, for three hours.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// With `api`: between two calls, 1 s – 1 h and at most 60 intervals; one call has all intervals since
    /// the last.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub flush: Duration,
    /// Longest time of one call or one connection to an agent, 100 ms – 60 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub timeout: Duration,
    /// With `emf-agent`: where the agent listens, `tcp://host:25888` or `udp://host:25888`; a name or an
    /// address. A datagram that nobody takes is no failure that a node sees: by `udp` all exports are `ok`.
    pub agent: String,
    /// With `api`: the endpoint, if it is not the region's: a URL, such as that of a VPC endpoint.
    pub endpoint: Option<String>,
    /// With `api`: the region, if it is not the one that the SDK finds.
    pub region: Option<String>,
}

/// How metrics get to CloudWatch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Exporter {
    /// They do not.
    #[default]
    None,
    /// PutMetricData.
    Api,
    /// Embedded metric format, on standard output.
    EmfStdout,
    /// Embedded metric format, to an agent.
    EmfAgent,
}

impl Exporter {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Api, Self::EmfStdout, Self::EmfAgent];

    /// The word in settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Api => "api",
            Self::EmfStdout => "emf-stdout",
            Self::EmfAgent => "emf-agent",
        }
    }

    /// The one that a word names.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|exporter| exporter.as_str() == word)
    }
}

/// Intervals that one call may have, and that wait one by one during an outage: an hour of them, if an
/// interval is a minute.
pub const MAX_INTERVALS: u32 = 60;

impl Default for CloudWatchSettings {
    fn default() -> Self {
        Self {
            exporter: Exporter::None,
            namespace: "Koorde".into(),
            cluster: "koorde".into(),
            pod_dimension: false,
            interval: Duration::from_secs(60),
            flush: Duration::from_secs(300),
            timeout: Duration::from_secs(5),
            agent: "tcp://127.0.0.1:25888".into(),
            endpoint: None,
            region: None,
        }
    }
}

/// Where an agent listens: `host:port`, the host a name or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Lines over a connection.
    Tcp(String),
    /// A document a datagram.
    Udp(String),
}

impl CloudWatchSettings {
    /// Whether CloudWatch is asked to keep single seconds rather than minutes.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.interval < Duration::from_secs(60)
    }

    /// Where the agent is, if that is a host and a port.
    #[must_use]
    pub fn agent(&self) -> Option<Agent> {
        let (scheme, address) = self.agent.split_once("://")?;
        let (host, port) = address.rsplit_once(':')?;
        let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let is_host = match bracketed {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => is_name(host),
        };
        if !is_port || !is_host {
            return None;
        }
        match scheme {
            "tcp" => Some(Agent::Tcp(address.to_owned())),
            "udp" => Some(Agent::Udp(address.to_owned())),
            _ => None,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let is_built = cfg!(feature = "cloudwatch") || self.exporter != Exporter::Api;
        let exporter = self.exporter.as_str();
        let rule = "another in a build without the feature cloudwatch";
        bound(is_built, "cloudwatch.exporter", &exporter, rule)?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_/#:".contains(c);
        let ok = (1..=255).contains(&self.namespace.len())
            && self.namespace.chars().all(is_name)
            && !self.namespace.starts_with(':')
            && !self.namespace.starts_with("AWS/");
        let rule = "1 to 255 letters, digits and .-_/#:, and not of AWS/";
        bound(ok, "cloudwatch.namespace", &self.namespace, rule)?;
        let ok = (1..=255).contains(&self.cluster.len())
            && self
                .cluster
                .chars()
                .all(|c| c.is_ascii_graphic() || c == ' ')
            && !self.cluster.starts_with(':')
            && !self.cluster.trim().is_empty();
        let rule = "1 to 255 printable ASCII characters, the first no colon";
        bound(ok, "cloudwatch.cluster", &self.cluster, rule)?;
        seconds("cloudwatch.interval", self.interval, 1.0, 600.0)?;
        seconds("cloudwatch.flush", self.flush, 1.0, 3600.0)?;
        // More intervals than this would wait in the room of fewer, and say less than was paid for.
        let ok = self.exporter != Exporter::Api || self.flush <= self.interval * MAX_INTERVALS;
        let rule = "with api at most 60 times cloudwatch.interval";
        let flush = format!("{:?}", self.flush);
        bound(ok, "cloudwatch.flush", &flush, rule)?;
        seconds("cloudwatch.timeout", self.timeout, 0.1, 60.0)?;
        let rule = "tcp:// or udp:// and a host with its port, such as 127.0.0.1:25888";
        bound(
            self.agent().is_some(),
            "cloudwatch.agent",
            &self.agent,
            rule,
        )?;
        let endpoint = self.endpoint.as_deref().unwrap_or("https://none.invalid");
        let ok = endpoint.parse::<::http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        });
        bound(
            ok,
            "cloudwatch.endpoint",
            &endpoint,
            "an http:// or https:// URL",
        )
    }
}

/// A name of DNS (RFC 1123 §2.1, RFC 1035 §2.3.4) or an IPv4 address, which looks like one.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(ok)
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 253 && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_no_more_intervals_than_wait_one_by_one() {
        for (exporter, interval, flush, ok) in [
            (Exporter::Api, 1, 60, true),
            (Exporter::Api, 1, 61, false),
            (Exporter::EmfStdout, 1, 300, true),
        ] {
            let settings = CloudWatchSettings {
                exporter,
                interval: Duration::from_secs(interval),
                flush: Duration::from_secs(flush),
                ..CloudWatchSettings::default()
            };
            let checked = settings.check();
            // A build without the SDK refuses `api` for another reason.
            let is_told = checked
                .as_ref()
                .err()
                .is_none_or(|e| e.contains("cloudwatch."));
            assert!(is_told && (!ok || checked.is_ok() || cfg!(not(feature = "cloudwatch"))));
            assert!(ok || checked.is_err(), "{settings:?}");
        }
    }

    #[test]
    fn an_agent_may_have_a_name() {
        for (text, expected) in [
            (
                "tcp://127.0.0.1:25888",
                Some(Agent::Tcp("127.0.0.1:25888".to_owned())),
            ),
            (
                "udp://[::1]:25888",
                Some(Agent::Udp("[::1]:25888".to_owned())),
            ),
            (
                "tcp://cloudwatch-agent.amazon-cloudwatch:25888",
                Some(Agent::Tcp(
                    "cloudwatch-agent.amazon-cloudwatch:25888".to_owned(),
                )),
            ),
            ("tcp://host", None),
            ("tcp://host:0", None),
            ("tcp://host:99999", None),
            ("tcp://:25888", None),
            ("tcp://::1:25888", None),
            ("tcp://ho st:25888", None),
            ("http://host:25888", None),
        ] {
            let settings = CloudWatchSettings {
                agent: text.to_owned(),
                ..CloudWatchSettings::default()
            };
            assert_eq!(settings.agent(), expected, "{text}");
        }
    }
}
