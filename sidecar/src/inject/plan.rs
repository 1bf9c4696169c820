//! What one pod gets, decided.

use std::collections::BTreeMap;

use libkoorde::config::ByteSize;
use serde_json::{Value, json};

use super::{
    annotations::{Asked, Proxied},
    facts::Facts,
    resources::{Resources, resources},
    settings::{Admin, IpFamily, Ports, Position, Role},
};

/// What one pod gets.
pub(super) struct Plan {
    pub(super) image: String,
    pub(super) pull_policy: &'static str,
    pub(super) pull_secrets: Vec<String>,
    pub(super) ports: Ports,
    pub(super) admin: Admin,
    pub(super) position: Position,
    pub(super) proxied: Proxied,
    pub(super) resources: Value,
    /// The sidecar's variables.
    pub(super) env: Vec<Value>,
    /// Whether the image's user has to be named, because the pod names root.
    pub(super) names_user: bool,
    /// Whether the seccomp profile is named.
    pub(super) seccomp_profile: bool,
}

impl Plan {
    /// The value of `KOORDE_ENDPOINT`.
    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.http)
    }
}

/// Decides; errors name annotations that contradict each other.
pub(super) fn make(facts: &Facts<'_>, asked: &Asked) -> Result<Plan, String> {
    let settings = &asked.settings;
    let resources = resources(asked)?;
    let edge = match settings.role {
        Role::Auto => facts.ends(),
        Role::Member => false,
        Role::Edge => true,
    };
    Ok(Plan {
        image: settings.image.clone(),
        pull_policy: settings.pull_policy.as_str(),
        pull_secrets: settings.image_pull_secrets.iter().cloned().collect(),
        ports: settings.ports,
        admin: settings.admin,
        position: settings.position,
        proxied: asked.proxied.clone(),
        env: env(asked, edge, &resources)?,
        resources: resources.container,
        names_user: facts.is_root(),
        seccomp_profile: settings.seccomp_profile,
    })
}

/// The sidecar's variables, its own configuration among them.
fn env(asked: &Asked, edge: bool, room: &Resources) -> Result<Vec<Value>, String> {
    let settings = &asked.settings;
    let (any, own) = match settings.ip_family {
        IpFamily::V4 => ("0.0.0.0", "$(POD_IP)"),
        IpFamily::V6 => ("[::]", "[$(POD_IP)]"),
    };
    let Ports { http, admin, ring } = settings.ports;
    let admin_host = match settings.admin {
        Admin::Loopback => "127.0.0.1",
        Admin::Pod => any,
    };
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let value = |name: &str, value: &str| json!({"name": name, "value": value});
    let mut env = vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_IP", "status.podIP"),
        // Pods of two namespaces may have one name, and nodes of one ring must not.
        value("KOORDE_NODE__NAME", "$(POD_NAME).$(POD_NAMESPACE)"),
        value("KOORDE_NODE__ROLE", if edge { "edge" } else { "member" }),
        value("KOORDE_RING__LISTEN", &format!("{any}:{ring}")),
        value("KOORDE_RING__ADVERTISE", &format!("{own}:{ring}")),
    ];
    if !settings.seeds.is_empty() {
        env.push(value(
            "KOORDE_RING__SEEDS",
            &escaped(&settings.seeds.join(",")),
        ));
    }
    if let Some(secret) = &settings.ring_secret {
        // Optional: without it a pod would not start at all where nobody has copied the Secret.
        let key = json!({"name": secret.name, "key": secret.key, "optional": true});
        env.push(json!({"name": "KOORDE_RING__SECRET", "valueFrom": {"secretKeyRef": key}}));
    }
    env.push(value("KOORDE_HTTP__LISTEN", &format!("127.0.0.1:{http}")));
    env.push(value(
        "KOORDE_ADMIN__LISTEN",
        &format!("{admin_host}:{admin}"),
    ));
    env.push(value(
        "KOORDE_STORE__CAPACITY",
        &ByteSize(room.capacity).to_string(),
    ));
    for (key, text) in config(asked, room)? {
        let name = format!("KOORDE_{}", key.to_uppercase().replace('.', "__"));
        env.push(value(&name, &escaped(&text)));
    }
    Ok(env)
}

/// The sidecar's own configuration, dotted key and value, in order.
fn config(asked: &Asked, room: &Resources) -> Result<Vec<(String, String)>, String> {
    let mut config: BTreeMap<String, String> = BTreeMap::new();
    // No load balancer has to turn away, the app is gone before us, and what is left of the grace period
    // is short: the ring is told, and takes over what it can.
    for (key, text) in [
        ("delay", "0s"),
        ("leave", "5s"),
        ("finish", "5s"),
        ("flush", "1s"),
    ] {
        config.insert(format!("shutdown.{key}"), text.into());
    }
    // `http://billing/` is another Service in each namespace, and members are in several.
    config.insert("egress.own_short_names".into(), "true".into());
    // Beside the store it is what takes most; the default is made for nodes of the ring.
    let unfinished = ByteSize((room.memory / 8).min(ByteSize::mib(64).0));
    config.insert("fetch.max_unfinished".into(), unfinished.to_string());
    config.extend(asked.settings.variables()?);
    config.extend(asked.variables.iter().cloned());
    Ok(config.into_iter().collect())
}

/// As it is to arrive: the kubelet reads `$(NAME)` as a reference.
fn escaped(text: &str) -> String {
    text.replace("$(", "$$(")
}
