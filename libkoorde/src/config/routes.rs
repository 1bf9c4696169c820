//! Routes: what is special about some targets; upstreams: who is asked for them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, bound, within};
use crate::policy::{Bypass, KeyRules, Settings};

/// Rules for the targets of one host and path prefix, through whatever door they come. Of several
/// routes that match, the first counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteConfig {
    /// The target's host, with its port unless that is the scheme's default: `api.example.com`,
    /// `*.example.com` (any name below it), or none for any host.
    pub host: Option<String>,
    /// The path begins with this, on a segment's border: `/v1` matches `/v1` and `/v1/x`, not `/v10`.
    pub prefix: String,
    /// The upstream that is asked in place of the host's own address. With one, the client listener
    /// is a reverse proxy for requests whose Host and path match.
    pub upstream: Option<String>,
    /// Requests of one tenant never see another's stored responses. From here only: a client cannot
    /// choose.
    pub tenant: String,
    /// Whether several requests for one key wait for one fill (request collapsing).
    pub collapse: bool,
    /// What of a request goes into its cache key.
    pub key: KeyRules,
    /// Requests that go past the cache, both ways.
    pub bypass: Bypass,
    /// Whether Accept-Encoding is reduced to what of zstd, br, gzip and identity the client
    /// accepts, in one spelling, so that a response has few variants.
    pub normalise_encoding: bool,
    /// The size of slices: what is larger is fetched and stored in slices of it, each under a key of
    /// its own. 0: whole; else 64 KiB – 16 MiB, a usual size is 1 MiB. For origins that answer Range.
    pub slice: ByteSize,
    /// What RFC 9111 leaves to the operator. Default: as in the section `cache`.
    pub cache: Option<Settings>,
}

impl Default for RouteConfig {
    fn default() -> Self {
        Self {
            host: None,
            prefix: "/".to_owned(),
            upstream: None,
            tenant: String::new(),
            collapse: true,
            key: KeyRules::default(),
            bypass: Bypass::default(),
            normalise_encoding: false,
            slice: ByteSize(0),
            cache: None,
        }
    }
}

/// Servers that answer for an origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamConfig {
    /// `http://host:port` or `https://host:port` each, 1–64 of one scheme. Names are resolved again
    /// at every connect. What is named here may be reached although its address is private.
    pub servers: Vec<String>,
    /// Host field and TLS server name that the servers are sent. Default: the target's.
    pub host: Option<String>,
    /// HTTP/2 without TLS (prior knowledge). With TLS, HTTP/2 is agreed on by ALPN.
    pub h2c: bool,
    /// PEM file of certificate authorities to trust beside the public ones.
    pub ca_file: Option<String>,
    /// Failures in a row (no connection, no answer) after which a server is left out, 1–1000.
    pub max_fails: u32,
    /// How long it is left out, 100 ms – 1 h, doubled up to 8 times that while it goes on failing;
    /// then one request tries it. All out: all are tried.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub fail_timeout: Duration,
    /// Path that is asked of each server in the background; a status from 200 to 399 is healthy.
    /// None: only real requests tell.
    pub health_path: Option<String>,
    /// Time between two such requests, 100 ms – 1 h.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub health_interval: Duration,
    /// Requests that could not be sent to one server may be sent to another: for every hundred
    /// requests this many, and 10 a second, 0–100.
    pub retry_percent: u8,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            host: None,
            h2c: false,
            ca_file: None,
            max_fails: 3,
            fail_timeout: Duration::from_secs(10),
            health_path: None,
            health_interval: Duration::from_secs(5),
            retry_percent: 20,
        }
    }
}

impl RouteConfig {
    pub(super) fn check(&self, key: &str) -> Result<(), String> {
        let prefix_key = format!("{key}.prefix");
        let ok = self.prefix.starts_with('/') && self.prefix.len() <= 1024;
        bound(
            ok,
            &prefix_key,
            &self.prefix,
            "a path of at most 1024 bytes",
        )?;
        if let Some(host) = &self.host {
            let name = host.strip_prefix("*.").unwrap_or(host);
            let ok = !name.is_empty() && name.len() <= 253 && !name.contains(['/', '*', ' ']);
            let rule = "a host, or *. and a host";
            bound(ok, &format!("{key}.host"), host, rule)?;
        }
        self.key.check().map_err(|why| format!("{key}.key.{why}"))?;
        self.bypass
            .check()
            .map_err(|why| format!("{key}.bypass.{why}"))?;
        if let Some(cache) = &self.cache {
            cache.check().map_err(|why| format!("{key}.cache.{why}"))?;
        }
        let slice = self.slice;
        let ok = slice.0 == 0 || (ByteSize::kib(64)..=ByteSize::mib(16)).contains(&slice);
        let rule = "0, or 64KiB to 16MiB";
        bound(ok, &format!("{key}.slice"), &slice, rule)?;
        let ok = self.tenant.len() <= 253;
        bound(
            ok,
            &format!("{key}.tenant"),
            &self.tenant,
            "at most 253 bytes",
        )
    }
}

impl UpstreamConfig {
    pub(super) fn check(&self, key: &str) -> Result<(), String> {
        let servers = &self.servers;
        let count_ok = (1..=64).contains(&servers.len());
        bound(
            count_ok,
            &format!("{key}.servers"),
            &servers.len(),
            "1 to 64 servers",
        )?;
        let parse = |server: &String| url::Url::parse(server).ok();
        let first = servers.first().and_then(parse);
        for server in servers {
            let ok = parse(server)
                .zip(first.as_ref())
                .is_some_and(|(url, first)| {
                    matches!(url.scheme(), "http" | "https")
                        && url.scheme() == first.scheme()
                        && url.has_host()
                        && url.path() == "/"
                        && url.query().is_none()
                });
            let rule = "http://host:port or https://host:port, all of one scheme";
            bound(ok, &format!("{key}.servers"), server, rule)?;
        }
        let fails = self.max_fails;
        bound(
            (1..=1000).contains(&fails),
            &format!("{key}.max_fails"),
            &fails,
            "1 to 1000",
        )?;
        let (low, high) = (Duration::from_millis(100), Duration::from_secs(3600));
        within(&format!("{key}.fail_timeout"), self.fail_timeout, low, high)?;
        within(
            &format!("{key}.health_interval"),
            self.health_interval,
            low,
            high,
        )?;
        let percent = self.retry_percent;
        bound(
            percent <= 100,
            &format!("{key}.retry_percent"),
            &percent,
            "0 to 100",
        )?;
        if let Some(host) = &self.host {
            let ok = host.parse::<http::uri::Authority>().is_ok() && !host.contains('@');
            bound(
                ok,
                &format!("{key}.host"),
                host,
                "a host, maybe with a port",
            )?;
        }
        match &self.health_path {
            Some(path) => bound(
                path.starts_with('/') && path.parse::<http::Uri>().is_ok(),
                &format!("{key}.health_path"),
                path,
                "a path",
            ),
            None => Ok(()),
        }
    }
}
