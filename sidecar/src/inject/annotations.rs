//! What a pod asks for itself: annotations `config.koorde.dev/*`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    CONFIG, InjectSettings,
    facts::containers,
    quantity,
    settings::{Admin, Position, Role, check_config},
};

/// Every key, and what its value must be.
pub(super) const KEYS: [(&str, &str); 16] = [
    ("admin", "loopback or pod"),
    ("admin-port", "a port, 1024 to 32767"),
    (
        "cache-size",
        "a quantity such as 128Mi, at most half of memory-limit",
    ),
    ("cpu-limit", "a quantity such as 500m"),
    ("cpu-request", "a quantity such as 50m"),
    ("http-port", "a port, 1024 to 32767"),
    (
        "http-proxy",
        "true, false, or names of the pod's containers: app,worker",
    ),
    (
        "log-level",
        "a level, or directives such as info,libkoorde=debug",
    ),
    ("memory-limit", "a quantity such as 256Mi, at least 96Mi"),
    ("memory-request", "a quantity such as 128Mi"),
    ("position", "first or last"),
    ("ring-port", "a port, 1024 to 32767"),
    ("role", "auto, member or edge"),
    ("storage-limit", "a quantity such as 64Mi"),
    ("storage-request", "a quantity such as 16Mi"),
    (
        "upstream-allow",
        "hosts, addresses or networks: api.internal,10.0.0.0/8",
    ),
];

/// Which containers get the variables for proxies.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Proxied {
    /// All but init containers.
    Apps,
    /// These.
    Named(Vec<String>),
    /// None.
    Nobody,
}

/// What one pod's sidecar is made from.
pub(super) struct Asked {
    /// Those of all pods, with what this pod says in their place.
    pub(super) settings: InjectSettings,
    /// What this pod says, by key.
    pub(super) said: BTreeMap<&'static str, String>,
    pub(super) proxied: Proxied,
    /// More of the sidecar's own configuration, dotted key and value.
    pub(super) variables: Vec<(String, String)>,
}

impl Asked {
    /// A pod without annotations.
    pub(super) fn nothing(settings: &InjectSettings) -> Self {
        Self {
            settings: settings.clone(),
            said: BTreeMap::new(),
            proxied: if settings.http_proxy {
                Proxied::Apps
            } else {
                Proxied::Nobody
            },
            variables: Vec::new(),
        }
    }

    pub(super) fn says(&self, key: &str) -> bool {
        self.said.contains_key(key)
    }
}

/// Reads them.
///
/// # Errors
/// A key that does not exist, or a bad value.
pub(super) fn read(pod: &Value, settings: &InjectSettings) -> Result<Asked, String> {
    let mut asked = Asked::nothing(settings);
    let annotations = pod["metadata"]["annotations"].as_object();
    for (name, value) in annotations.into_iter().flatten() {
        let Some(key) = name.strip_prefix(CONFIG) else {
            continue;
        };
        let Some((key, rule)) = KEYS.iter().find(|(known, _)| *known == key) else {
            let known: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
            return Err(format!(
                "annotation {name} = {value}: there is no such key; there are {}",
                known.join(", ")
            ));
        };
        let Some(text) = value.as_str() else {
            return Err(format!(
                "annotation {name} = {value}: must be a string; put it into quotes"
            ));
        };
        if let Err(reason) = asked.take(pod, key, text) {
            let because = if reason.is_empty() {
                String::new()
            } else {
                format!(" ({reason})")
            };
            return Err(format!(
                "annotation {name} = {value}: must be {rule}{because}"
            ));
        }
        asked.said.insert(key, text.to_owned());
    }
    let mut ports = asked.settings.ports.all();
    ports.sort_unstable();
    if ports[0] == ports[1] || ports[1] == ports[2] {
        return Err(format!(
            "annotations {CONFIG}http-port, admin-port and ring-port: {ports:?} must be three different ports"
        ));
    }
    Ok(asked)
}

impl Asked {
    /// One annotation; the error may be empty, as the rule says the rest.
    fn take(&mut self, pod: &Value, key: &str, text: &str) -> Result<(), String> {
        let settings = &mut self.settings;
        match key {
            "cpu-request" => settings.resources.cpu_request = quantity_of(text)?,
            "cpu-limit" => settings.resources.cpu_limit = Some(quantity_of(text)?),
            "memory-request" => settings.resources.memory_request = quantity_of(text)?,
            "memory-limit" => settings.resources.memory_limit = quantity_of(text)?,
            "storage-request" => settings.resources.storage_request = quantity_of(text)?,
            "storage-limit" => settings.resources.storage_limit = quantity_of(text)?,
            "cache-size" => settings.resources.cache_size = Some(quantity_of(text)?),
            "http-port" => settings.ports.http = port(text)?,
            "admin-port" => settings.ports.admin = port(text)?,
            "ring-port" => settings.ports.ring = port(text)?,
            "position" => settings.position = word(Position::ALL, text)?,
            "role" => settings.role = word(Role::ALL, text)?,
            "admin" => settings.admin = word(Admin::ALL, text)?,
            "http-proxy" => self.proxied = proxied(pod, text)?,
            "log-level" => self.set("log.level", text.to_owned())?,
            // For this pod, and not for all whose keys its sidecar owns.
            "upstream-allow" => {
                let common = crate::settings::keys::text(&settings.config["egress"]["own"]);
                let both = [common.as_str(), text]
                    .into_iter()
                    .filter(|list| !list.is_empty());
                let both = both.collect::<Vec<_>>().join(",");
                self.set("egress.own", both)?;
            }
            _ => return Err("no such key".into()),
        }
        Ok(())
    }

    /// One key of the sidecar's own configuration, by the sidecar's own rules.
    fn set(&mut self, key: &str, value: String) -> Result<(), String> {
        let pair = (key.to_owned(), value);
        check_config(std::slice::from_ref(&pair))?;
        self.variables.push(pair);
        Ok(())
    }
}

fn quantity_of(text: &str) -> Result<String, String> {
    let known = quantity::parse(text).map(|_| text.to_owned());
    known.ok_or_else(String::new)
}

/// Below 1024 only root may bind, which the sidecar never is; above, systems give them to outgoing connections.
fn port(text: &str) -> Result<u16, String> {
    let port = text.parse().ok();
    let port = port.filter(|port| (1024..32_768).contains(port));
    port.ok_or_else(String::new)
}

fn word<T: Copy>(all: &[(&str, T)], text: &str) -> Result<T, String> {
    let found = all.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(String::new)
}

fn proxied(pod: &Value, text: &str) -> Result<Proxied, String> {
    match text {
        "true" => return Ok(Proxied::Apps),
        "false" => return Ok(Proxied::Nobody),
        _ => {}
    }
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    for name in &names {
        if !containers(pod).any(|container| container["name"] == name.as_str()) {
            return Err(format!("there is no container {name:?}"));
        }
    }
    Ok(Proxied::Named(names))
}
