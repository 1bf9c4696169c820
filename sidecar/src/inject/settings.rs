//! What the sidecars of all pods have in common.

use std::{collections::BTreeSet, path::Path};

use figment::{
    Figment,
    providers::{Format as _, Serialized, Yaml},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{annotations::Asked, resources::resources};
use crate::settings::{keys, load_from};

/// What every injected sidecar is made from. The annotations `config.koorde.dev/*` of a pod have the
/// last word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InjectSettings {
    /// The sidecar's image. Default: the one of this version.
    pub image: String,
    /// When the image is pulled.
    pub pull_policy: PullPolicy,
    /// Names of image pull secrets that pods get, in their own namespaces.
    pub image_pull_secrets: BTreeSet<String>,
    /// Peers to meet first, `host:port` each: the headless Service of the ring. None: each pod caches for
    /// itself.
    pub seeds: Vec<String>,
    /// The Secret, in the pod's own namespace, that has the ring's secret. Where it is missing, the
    /// sidecar starts without, and caches for its own pod.
    pub ring_secret: Option<RingSecret>,
    /// What the addresses of pods are.
    pub ip_family: IpFamily,
    /// The sidecar's ports.
    pub ports: Ports,
    /// Who can reach the admin listener.
    pub admin: Admin,
    /// Whether sidecars own keys.
    pub role: Role,
    /// The place among the init containers.
    pub position: Position,
    /// Whether containers get `HTTP_PROXY`, so that HTTP clients of any kind use the sidecar.
    pub http_proxy: bool,
    /// Whether the sidecar names the seccomp profile `RuntimeDefault`, as Pod Security's `restricted` wants it.
    /// Some of OpenShift's security context constraints (`anyuid`) admit no pod that names one.
    pub seccomp_profile: bool,
    /// The sidecar's resources.
    pub resources: Resources,
    /// The sidecar's own configuration, as in `koorde.yaml`: what the ring's nodes have of routes,
    /// upstreams and caching rules belongs here, too.
    pub config: Value,
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingSecret {
    /// The Secret's name.
    pub name: String,
    /// The key in it.
    #[serde(default = "RingSecret::default_key")]
    pub key: String,
}

impl RingSecret {
    fn default_key() -> String {
        "ring-secret".into()
    }
}

/// The sidecar's ports, below those that systems give to outgoing connections (32768 and up).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ports {
    /// The doors, on loopback.
    pub http: u16,
    /// Probes, metrics, purges.
    pub admin: u16,
    /// Peers: the same as the ring's nodes have, or their NetworkPolicy has to allow another.
    pub ring: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            http: 4080,
            admin: 4090,
            ring: 4000,
        }
    }
}

impl Ports {
    pub(super) const fn all(self) -> [u16; 3] {
        [self.http, self.admin, self.ring]
    }
}

/// The sidecar's resources, as Kubernetes' quantities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// CPU to be reserved.
    pub cpu_request: String,
    /// CPU at most. Default: no limit, as a cache that is throttled is slow for everybody who waits.
    pub cpu_limit: Option<String>,
    /// Memory to be reserved.
    pub memory_request: String,
    /// Memory at most.
    pub memory_limit: String,
    /// Bytes of stored responses, at most half of `memory_limit`. Default: half of it.
    pub cache_size: Option<String>,
    /// Storage of the host to be reserved: the sidecar writes its log and nothing else. Empty: not named.
    pub storage_request: String,
    /// Storage of the host at most, which a LimitRange or quota may ask for. Empty: not named.
    pub storage_limit: String,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu_request: "50m".into(),
            cpu_limit: None,
            memory_request: "128Mi".into(),
            memory_limit: "256Mi".into(),
            cache_size: None,
            storage_request: "16Mi".into(),
            storage_limit: "64Mi".into(),
        }
    }
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The words for it.
            pub const ALL: &'static [(&'static str, Self)] = &[$(($word, Self::$variant),)+];

            /// The word that settings and annotations use.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

words!(
    /// When the sidecar's image is pulled.
    PullPolicy {
        /// If the host has none.
        IfNotPresent = "IfNotPresent",
        /// At every start.
        Always = "Always",
        /// Never: it is there.
        Never = "Never",
    }
);
words!(
    /// What the addresses of pods are.
    IpFamily {
        /// IPv4.
        V4 = "IPv4",
        /// IPv6 only.
        V6 = "IPv6",
    }
);
words!(
    /// Whether a sidecar owns keys.
    Role {
        /// An edge in pods that end by themselves (Jobs), else a member.
        Auto = "auto",
        /// It owns keys.
        Member = "member",
        /// It routes and fetches, and owns nothing.
        Edge = "edge",
    }
);
words!(
    /// The sidecar's place among the init containers.
    Position {
        /// Before all: init containers can use the cache.
        First = "first",
        /// After all.
        Last = "last",
    }
);
words!(
    /// Who can reach the sidecar's admin listener (metrics, purges).
    Admin {
        /// The pod's own containers.
        Loopback = "loopback",
        /// Whoever can reach the pod, as a Prometheus that scrapes sidecars must.
        Pod = "pod",
    }
);

impl Default for InjectSettings {
    fn default() -> Self {
        Self {
            image: concat!("ghcr.io/koorde/koorde:", env!("CARGO_PKG_VERSION")).into(),
            pull_policy: PullPolicy::IfNotPresent,
            image_pull_secrets: BTreeSet::new(),
            seeds: Vec::new(),
            ring_secret: None,
            ip_family: IpFamily::V4,
            ports: Ports::default(),
            admin: Admin::Loopback,
            role: Role::Auto,
            position: Position::First,
            http_proxy: false,
            seccomp_profile: true,
            resources: Resources::default(),
            config: Value::Object(serde_json::Map::new()),
        }
    }
}

/// Keys of a sidecar's configuration that the injector sets, and what does it.
const OURS: [(&str, &str); 10] = [
    ("node.name", "the pod's name and namespace"),
    ("node.role", "role"),
    ("ring.listen", "ports.ring"),
    ("ring.advertise", "the pod's address"),
    ("ring.seeds", "seeds"),
    ("ring.secret", "ring_secret"),
    ("http.listen", "ports.http"),
    ("http.tls", "nothing: the doors are on loopback"),
    ("admin.listen", "ports.admin and admin"),
    ("store.capacity", "resources.cache_size"),
];

/// Keys that name a file: none of yours is in a sidecar, which would not start.
const FILES: [&str; 2] = ["admin.token_file", "origin.ca_file"];

impl InjectSettings {
    /// Reads a file of YAML or JSON, if any, and then `key=value` pairs, such as
    /// `resources.memory_limit=512Mi`.
    ///
    /// # Errors
    /// A file that cannot be read, a key that does not exist, a value that cannot be read or is out
    /// of bounds.
    pub fn load(file: Option<&Path>, pairs: &[String]) -> Result<Self, String> {
        let mut text = String::new();
        if let Some(path) = file {
            let read = std::fs::read_to_string(path);
            text = read.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let named = |error| match file {
            Some(path) => format!("{}: {error}", path.display()),
            None => error,
        };
        let figment = Self::figment(&text).map_err(named)?;
        Self::extract(figment, pairs)
    }

    /// Reads a text of YAML or JSON, as a ConfigMap has it.
    ///
    /// # Errors
    /// As of a file.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::extract(Self::figment(text)?, &[])
    }

    fn figment(text: &str) -> Result<Figment, String> {
        let figment = Figment::from(Serialized::defaults(Self::default()));
        if text.is_empty() {
            return Ok(figment);
        }
        let tree: Value = Yaml::from_str(text).map_err(|error| error.to_string())?;
        Ok(if tree.is_null() {
            figment
        } else {
            figment.merge(Serialized::defaults(tree))
        })
    }

    fn extract(mut figment: Figment, pairs: &[String]) -> Result<Self, String> {
        for pair in pairs {
            let (key, text) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair:?}: must be key=value"))?;
            let value: Value = Yaml::from_str(text).map_err(|error| format!("{pair}: {error}"))?;
            figment = figment.merge(Serialized::default(key, value));
        }
        let settings: Self = figment.extract().map_err(|error| {
            let key = error.path.join(".");
            format!("{key}: {}", error.kind)
        })?;
        settings.check()?;
        Ok(settings)
    }

    /// Checks every bound and relation, those of the sidecar's own configuration among them.
    ///
    /// # Errors
    /// The first violation, which names the key and the value.
    pub fn check(&self) -> Result<(), String> {
        if self.image.trim().is_empty() {
            return Err("image = \"\": must name an image".into());
        }
        let mut ports = self.ports.all();
        ports.sort_unstable();
        if ports[0] < 1024 || ports[0] == ports[1] || ports[1] == ports[2] {
            let said = self.ports;
            let rule = "must be three different ports, 1024 or above";
            return Err(format!("ports = {said:?}: {rule}"));
        }
        let has_port = |seed: &&String| {
            let port = seed.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
        };
        if let Some(seed) = self.seeds.iter().find(|seed| !has_port(seed)) {
            return Err(format!("seeds = {seed:?}: must be host:port"));
        }
        resources(&Asked::nothing(self))?;
        let mut flags = self.variables()?;
        flags.push(("ring.seeds".into(), self.seeds.join(",")));
        check_config(&flags)
    }

    /// The sidecar's own configuration, flat: dotted key and value.
    pub(super) fn variables(&self) -> Result<Vec<(String, String)>, String> {
        let mut flat = Vec::new();
        flatten("", &self.config, &mut flat)?;
        Ok(flat)
    }
}

/// Whether a sidecar would start with these.
pub(super) fn check_config(flags: &[(String, String)]) -> Result<(), String> {
    let mut flags = flags.to_vec();
    // Else the host's name would be asked for.
    flags.push(("node.name".into(), "pod".into()));
    load_from(None, &[], &flags).map_err(|error| error.to_string())?;
    Ok(())
}

fn flatten(name: &str, tree: &Value, flat: &mut Vec<(String, String)>) -> Result<(), String> {
    let is_ours = |(ours, _): &&(&str, &str)| {
        name == *ours
            || name
                .strip_prefix(ours)
                .is_some_and(|rest| rest.starts_with('.'))
    };
    if let Some((_, by)) = OURS.iter().find(is_ours) {
        return Err(format!("config.{name}: is set by {by}"));
    }
    if let Some(file) = named_file(name, tree) {
        return Err(format!("config.{file}: a sidecar has no file of yours"));
    }
    if keys::find(name).is_some() {
        flat.push((name.to_owned(), keys::text(tree)));
        return Ok(());
    }
    match tree {
        Value::Null => Ok(()),
        Value::Object(members) => members.iter().try_for_each(|(member, tree)| {
            let dot = if name.is_empty() { "" } else { "." };
            flatten(&format!("{name}{dot}{member}"), tree, flat)
        }),
        _ => Err(format!(
            "config.{name}: is no setting; {}",
            keys::hint(name)
        )),
    }
}

/// The key of a file that a setting names.
fn named_file(name: &str, tree: &Value) -> Option<String> {
    if FILES.contains(&name) && !tree.is_null() {
        return Some(name.to_owned());
    }
    let upstreams = tree.as_object().filter(|_| name == "upstreams")?;
    let mut named = upstreams
        .iter()
        .filter(|(_, upstream)| !upstream["ca_file"].is_null());
    named
        .next()
        .map(|(upstream, _)| format!("upstreams.{upstream}.ca_file"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn load(pairs: &[&str]) -> Result<InjectSettings, String> {
        let pairs: Vec<String> = pairs.iter().map(|&pair| pair.to_owned()).collect();
        InjectSettings::load(None, &pairs)
    }

    #[test]
    fn pairs_are_read_as_yaml() {
        let settings = load(&[
            "seeds=[koorde-headless.web.svc.cluster.local:4000]",
            "ring_secret={name: koorde-ring}",
            "resources.memory_limit=1Gi",
            "config.routes=[{prefix: /v1, collapse: false}]",
            "role=edge",
        ])
        .expect("all of it exists");
        assert_eq!(
            settings.ring_secret.map(|secret| secret.key),
            Some("ring-secret".into())
        );
        assert_eq!(settings.role, Role::Edge);
        assert_eq!(
            settings.config,
            json!({"routes": [{"prefix": "/v1", "collapse": false}]})
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (pair, message) in [
            ("sedes=[]", "sedes"),
            ("role=owner", "role"),
            ("ports.http=4000", "must be three different ports"),
            ("ports.http=80", "1024 or above"),
            ("resources.storage_limit=lots", "storage_limit"),
            (
                "config.store.capacity=1GiB",
                "is set by resources.cache_size",
            ),
            ("config.store.capacty=1GiB", "store has"),
            ("config.log.level=[x", "config.log.level"),
            ("config.log.level=a=b=c", "log.level = a=b=c"),
            ("resources.memory_limit=1GiB", "memory_limit"),
            ("resources.cache_size=200Mi", "cache_size"),
            (
                "config.origin.ca_file=/ca.pem",
                "config.origin.ca_file: a sidecar has no file",
            ),
            (
                "config.upstreams={api: {servers: [\"https://a\"], ca_file: /ca.pem}}",
                "config.upstreams.api.ca_file: a sidecar has no file",
            ),
            ("seeds=[nowhere]", "must be host:port"),
            ("image=", "image"),
            ("nothing", "must be key=value"),
        ] {
            let error = load(&[pair]).expect_err(pair);
            assert!(error.contains(message), "{pair}: {error}");
        }
    }
}
