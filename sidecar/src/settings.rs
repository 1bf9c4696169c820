//! What the process is told: one structure, read from four places, each key with its source.
//!
//! Later wins: defaults, then a TOML or YAML file, then `KOORDE_*` variables, then flags. This folder
//! is the only place of the workspace that reads the environment ([`environment`]).

use std::collections::BTreeMap;

use libkoorde::{
    Config,
    config::{
        EgressConfig, FetchConfig, NodeConfig, OriginConfig, PurgeConfig, RingSettings,
        RouteConfig, StoreConfig, UpstreamConfig,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod cloudwatch;
pub mod environment;
mod error;
mod http;
pub mod keys;
mod load;
mod process;
mod telemetry;

pub use cloudwatch::{Agent, CloudWatchSettings, Exporter, MAX_INTERVALS};
pub use error::SettingsError;
pub use http::{HttpSettings, LookAside, TlsSettings};
pub use keys::markdown_table;
pub use load::{Effective, Loaded, Source, load, load_from};
pub use process::{AdminSettings, LogFormat, LogSettings, ShutdownSettings};
pub use telemetry::{OtlpProtocol, Signal, TelemetrySettings};

/// Everything the process is told. `Settings::default()` works as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Who this node is.
    pub node: NodeConfig,
    /// The ring: peers, keys, timers.
    pub ring: RingSettings,
    /// The store of responses.
    pub store: StoreConfig,
    /// Purges.
    pub purge: PurgeConfig,
    /// Fills and their waiters.
    pub fetch: FetchConfig,
    /// Connections to origins.
    pub origin: OriginConfig,
    /// Who may be reached.
    pub egress: EgressConfig,
    /// What RFC 9111 leaves to the cache's operator, for targets whose route says nothing else.
    pub cache: libkoorde::policy::Settings,
    /// Rules for some targets; the first that matches counts. At most 1,024.
    pub routes: Vec<RouteConfig>,
    /// Servers that answer for an origin, by the name that routes use. At most 256.
    pub upstreams: BTreeMap<String, UpstreamConfig>,
    /// The listener that clients use.
    pub http: HttpSettings,
    /// The listener that operators use.
    pub admin: AdminSettings,
    /// Logs.
    pub log: LogSettings,
    /// Traces and metrics for a collector of OpenTelemetry.
    pub telemetry: TelemetrySettings,
    /// CloudWatch.
    pub cloudwatch: CloudWatchSettings,
    /// The way out.
    pub shutdown: ShutdownSettings,
}

impl Settings {
    /// The library's part.
    #[must_use]
    pub fn config(&self) -> Config {
        Config {
            node: self.node.clone(),
            ring: self.ring.clone(),
            store: self.store.clone(),
            purge: self.purge.clone(),
            fetch: self.fetch.clone(),
            origin: self.origin.clone(),
            egress: self.egress.clone(),
            cache: self.cache.clone(),
            routes: self.routes.clone(),
            upstreams: self.upstreams.clone(),
        }
    }

    /// Fills in what is left to the host: an empty `node.name` becomes the host's name.
    pub fn complete(&mut self) {
        if self.node.name.is_empty() {
            self.node.name = environment::host_name();
        }
    }

    /// Checks every bound and relation, the library's and the sidecar's.
    ///
    /// # Errors
    /// The first violation, naming the key and the value: `key = value: must be …`.
    pub fn check(&self) -> Result<(), String> {
        self.config().check()?;
        self.http.check()?;
        self.admin.check()?;
        self.log.check()?;
        self.telemetry.check()?;
        self.cloudwatch.check()?;
        self.shutdown.check()
    }

    /// As JSON, secrets replaced by `(redacted)`: what may be shown and logged.
    #[must_use]
    pub fn redacted(&self) -> serde_json::Value {
        let mut tree = keys::tree(self);
        for secret in keys::SECRETS {
            let pointer = format!("/{}", secret.replace('.', "/"));
            if let Some(value) = tree.pointer_mut(&pointer)
                && value.as_str().is_some_and(|text| !text.is_empty())
            {
                *value = "(redacted)".into();
            }
        }
        tree
    }
}

/// `ok`, or an error that names the key and its value.
fn bound(ok: bool, key: &str, value: &dyn std::fmt::Display, rule: &str) -> Result<(), String> {
    if ok {
        Ok(())
    } else {
        Err(format!("{key} = {value}: must be {rule}"))
    }
}

/// `value` within `low..=high` seconds, or an error that names the key and its value.
fn seconds(key: &str, value: std::time::Duration, low: f64, high: f64) -> Result<(), String> {
    let rule = format!("{low} s to {high} s");
    let ok = (low..=high).contains(&value.as_secs_f64());
    bound(ok, key, &format_args!("{value:?}"), &rule)
}
