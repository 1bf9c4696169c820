//! The listener that clients use.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use libkoorde::config::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{bound, seconds};

/// The listener that clients use: HTTP/1.1 and HTTP/2, in clear (h2c) or over TLS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Where clients connect. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Whether the method PURGE purges its target on every node, `Koorde-Purge: hard` beside it for a
    /// hard one; with `admin.token_file` it needs the token. Off: it is an unknown method, for the
    /// origin.
    pub purge: bool,
    /// Whose apps may make the origin's requests themselves and put what came into the cache
    /// (`koorde.cache.v1` over gRPC, on this listener), say where it is stored (`Koorde-Tenant`,
    /// `Koorde-Stored-As`, `Koorde-Lifetime`), and purge: `none`; `loopback`, those that connect
    /// from this host's loopback, as the containers of one pod do; `any`, everybody who can
    /// connect. What is put is what others read, on every node: whoever may put can poison it.
    pub look_aside: LookAside,
    /// Look-aside calls open at once, those that wait among them, 1–1000000. One more is told to do
    /// without.
    pub max_look_aside: usize,
    /// TLS, if both files are given.
    pub tls: TlsSettings,
    /// Connections open at once, 1–1000000. One more is closed at once and counted.
    pub max_connections: usize,
    /// Connections open at once from one client address (from one /64 network with IPv6),
    /// 1–1000000. Behind a proxy that hides its clients, set it as high as `http.max_connections`.
    pub max_connections_per_client: usize,
    /// HTTP/2 streams open at once on one connection, 1–65536.
    pub max_streams: u32,
    /// Bytes of a request's head, 8 KiB – 1 MiB. Beyond it the request is answered 431.
    pub max_header_bytes: ByteSize,
    /// From a connection's start to its first byte, 10 ms – 10 min.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub first_byte_timeout: Duration,
    /// From the first byte of a request's head to its last, 10 ms – 10 min.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub header_timeout: Duration,
    /// How long a connection is kept without a request (keep-alive), 10 ms – 1 h.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub idle_timeout: Duration,
    /// A client that takes nothing of a waiting body for this long is cut off; over HTTP/2, one
    /// that takes less than 64 KiB of it. 10 ms – 1 h.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub stall_timeout: Duration,
    /// Bytes of a request's body, 1 B – 1 TiB. Beyond it the request is answered 413, and what was
    /// begun at the origin is broken off.
    pub max_body: ByteSize,
    /// Longest silence inside a request's body while more of it is waited for, 10 ms – 1 h; then the
    /// request is answered 408.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub body_timeout: Duration,
    /// Whether CONNECT is answered with a tunnel, over HTTP/1.1, to what the egress guard allows.
    /// Off: it is answered 405.
    pub connect: bool,
    /// Tunnels open at once, 1–100000. One more is answered 503. A tunnel ends when
    /// `http.idle_timeout` has gone by without a byte.
    pub max_tunnels: usize,
    /// Whether pages fetched through `/cache` and the path form are kept from acting as pages of
    /// this host in a browser: `Content-Security-Policy: sandbox` and `X-Content-Type-Options:
    /// nosniff` are added to HTML, XML, SVG, and what has no type; `Koorde-Added` names them.
    pub sandbox: bool,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            purge: false,
            look_aside: LookAside::Loopback,
            max_look_aside: 8192,
            tls: TlsSettings::default(),
            max_connections: 10_000,
            max_connections_per_client: 1_000,
            max_streams: 128,
            max_header_bytes: ByteSize::kib(16),
            first_byte_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
            max_body: ByteSize::mib(1024),
            body_timeout: Duration::from_secs(30),
            connect: false,
            max_tunnels: 256,
            sandbox: true,
        }
    }
}

impl HttpSettings {
    pub(super) fn check(&self) -> Result<(), String> {
        let connections = 1..=1_000_000;
        let (all, one) = (self.max_connections, self.max_connections_per_client);
        let rule = "1 to 1000000";
        bound(
            connections.contains(&all),
            "http.max_connections",
            &all,
            rule,
        )?;
        bound(
            connections.contains(&one),
            "http.max_connections_per_client",
            &one,
            rule,
        )?;
        let calls = self.max_look_aside;
        bound(
            connections.contains(&calls),
            "http.max_look_aside",
            &calls,
            rule,
        )?;
        let streams = self.max_streams;
        bound(
            (1..=65_536).contains(&streams),
            "http.max_streams",
            &streams,
            "1 to 65536",
        )?;
        let head = self.max_header_bytes;
        let head_ok = head >= ByteSize::kib(8) && head <= ByteSize::mib(1);
        bound(head_ok, "http.max_header_bytes", &head, "8KiB to 1MiB")?;
        seconds(
            "http.first_byte_timeout",
            self.first_byte_timeout,
            0.01,
            600.0,
        )?;
        seconds("http.header_timeout", self.header_timeout, 0.01, 600.0)?;
        seconds("http.idle_timeout", self.idle_timeout, 0.01, 3600.0)?;
        seconds("http.stall_timeout", self.stall_timeout, 0.01, 3600.0)?;
        seconds("http.body_timeout", self.body_timeout, 0.01, 3600.0)?;
        let body = self.max_body;
        let body_ok = (1..=1 << 40).contains(&body.0);
        bound(body_ok, "http.max_body", &body, "1 to 1TiB")?;
        let tunnels = self.max_tunnels;
        bound(
            (1..=100_000).contains(&tunnels),
            "http.max_tunnels",
            &tunnels,
            "1 to 100000",
        )?;
        self.tls.check()
    }
}

/// Who may put into the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LookAside {
    /// Nobody.
    None,
    /// Who connects from a loopback address, for itself: no request with Via, Forwarded or
    /// X-Forwarded-For.
    Loopback,
    /// Who can connect.
    Any,
}

impl LookAside {
    /// Whether who connects from there may.
    #[must_use]
    pub fn allows(self, client: Option<IpAddr>) -> bool {
        match self {
            Self::None => false,
            Self::Loopback => client.is_some_and(|ip| ip.to_canonical().is_loopback()),
            Self::Any => true,
        }
    }
}

/// TLS of the client listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsSettings {
    /// PEM file of the certificate chain, leaf first. Default: no TLS.
    pub cert: Option<String>,
    /// PEM file of the certificate's private key; needed with `http.tls.cert`.
    pub key: Option<String>,
    /// From a connection's start to the end of the TLS handshake, 10 ms – 10 min.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub handshake_timeout: Duration,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            cert: None,
            key: None,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}

impl TlsSettings {
    fn check(&self) -> Result<(), String> {
        seconds(
            "http.tls.handshake_timeout",
            self.handshake_timeout,
            0.01,
            600.0,
        )?;
        match (&self.cert, &self.key) {
            (Some(cert), None) => bound(false, "http.tls.cert", cert, "given with http.tls.key"),
            (None, Some(key)) => bound(false, "http.tls.key", key, "given with http.tls.cert"),
            _ => Ok(()),
        }
    }
}
