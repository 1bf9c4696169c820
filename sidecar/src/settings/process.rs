//! The smaller sections: admin listener, logs, shutdown.

use std::{net::SocketAddr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::{bound, seconds};

/// The listener that operators use: `/debug/*` besides probes and metrics. It has the timeouts of
/// the client listener and no TLS; keep it on loopback or inside the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// Where operators connect. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Connections open at once, 1–65536.
    pub max_connections: usize,
    /// File with a token of at least 16 bytes, read at start. With one, `POST` and `DELETE /purge`
    /// need `Authorization: Bearer` and it.
    pub token_file: Option<String>,
    /// Whether this node takes purges from clients at all: by `/purge`, the method PURGE and
    /// `koorde.cache.v1`. Off in sidecars of a ring whose purges need a token, as an app could purge for
    /// everybody through its own. What other members purge is purged here, too.
    pub purge: bool,
    /// Names under which a browser may show `/ui` and purge by it, at most 64. It may under
    /// addresses, `localhost`, names without a dot and those of Services (`.svc`,
    /// `.svc.cluster.local`) without being told: nobody else can point these at this node.
    pub hosts: Vec<String>,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            max_connections: 256,
            token_file: None,
            purge: true,
            hosts: Vec::new(),
        }
    }
}

impl AdminSettings {
    pub(super) fn check(&self) -> Result<(), String> {
        let connections = self.max_connections;
        let ok = (1..=65_536).contains(&connections);
        bound(ok, "admin.max_connections", &connections, "1 to 65536")?;
        let hosts = self.hosts.len();
        bound(hosts <= 64, "admin.hosts", &hosts, "at most 64 names")?;
        let is_name = |host: &&String| !host.is_empty() && !host.contains([':', '/', ' ', '*']);
        match self.hosts.iter().find(|host| !is_name(host)) {
            Some(host) => Err(format!(
                "admin.hosts = {host:?}: must be a name, without scheme and port"
            )),
            None => Ok(()),
        }
    }
}

/// Logs: one line an event, on standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// `json`, `text`, or `auto`: text on a terminal, JSON elsewhere.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,libkoorde=debug`.
    pub level: String,
    /// Lines of one kind (one place in the code) a minute, at most; the next one says how many were left out. What
    /// has the field `audit` is written each time at `info`, and all at `debug` and `trace`. 0: no bound.
    pub max_lines: u32,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            level: "info".into(),
            max_lines: 100,
        }
    }
}

impl LogSettings {
    pub(super) fn check(&self) -> Result<(), String> {
        let ok = EnvFilter::try_new(&self.level).is_ok();
        bound(
            ok,
            "log.level",
            &self.level,
            "a level, or directives such as info,libkoorde=debug",
        )
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The way out after SIGTERM or SIGINT. The container's grace period must be longer than all of
/// them together (55 s by default). A second signal ends the process at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownSettings {
    /// First: serve on while not ready, so that load balancers and peers turn away, 0 s – 10 min.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub delay: Duration,
    /// Then: at most this long to leave the ring and hand stored responses over, 0 s – 10 min.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub leave: Duration,
    /// Then: at most this long for requests under way, bodies included, 0 s – 10 min.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub finish: Duration,
    /// Last: at most this long to send the last spans and metrics, 0 s – 60 s.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub flush: Duration,
}

impl Default for ShutdownSettings {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(5),
            leave: Duration::from_secs(15),
            finish: Duration::from_secs(30),
            flush: Duration::from_secs(5),
        }
    }
}

impl ShutdownSettings {
    /// All of them zero: for tests, and for processes that nobody balances load to.
    #[must_use]
    pub fn at_once() -> Self {
        let none = Duration::ZERO;
        Self {
            delay: none,
            leave: none,
            finish: none,
            flush: none,
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        seconds("shutdown.delay", self.delay, 0.0, 600.0)?;
        seconds("shutdown.leave", self.leave, 0.0, 600.0)?;
        seconds("shutdown.finish", self.finish, 0.0, 600.0)?;
        seconds("shutdown.flush", self.flush, 0.0, 60.0)
    }
}
