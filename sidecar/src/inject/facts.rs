//! What a pod is, and why some pods are left alone.

use std::fmt;

use serde_json::Value;

use super::{
    CONTAINER, DEFAULT_CONTAINER, LABEL, RECORD, STATUS, SWITCH, VERSION, VOLUME, plan::Plan,
    ports, record::Record,
};

/// Why a pod is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Skip {
    /// The label says `false`.
    ToldNotTo,
    /// Nothing is missing.
    AlreadyInjected,
    /// It shares its host's network, where the sidecar's ports may be taken by anybody.
    HostNetwork,
    /// There is no image for Windows.
    Windows,
    /// It comes from a file of the kubelet: it is a mirror, which nobody can change.
    StaticPod,
    /// Something that is not ours has the name of the sidecar's container or volume: named here.
    NameTaken(String),
    /// A container has one of the sidecar's ports: container, port.
    PortTaken(String, u16),
    /// Its resources are those of the pod as a whole, which ours would exceed.
    PodResources,
    /// It is not shaped as a pod: what is wrong with it.
    NotAPod(String),
}

impl Skip {
    /// The reason as one word, for metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::ToldNotTo => "told_not_to",
            Self::AlreadyInjected => "already_injected",
            Self::HostNetwork => "host_network",
            Self::Windows => "windows",
            Self::StaticPod => "static_pod",
            Self::NameTaken(_) => "name_taken",
            Self::PortTaken(..) => "port_taken",
            Self::PodResources => "pod_resources",
            Self::NotAPod(_) => "not_a_pod",
        }
    }

    /// Whether whoever asked for a sidecar would want to know.
    #[must_use]
    pub const fn is_surprise(&self) -> bool {
        !matches!(self, Self::ToldNotTo | Self::AlreadyInjected)
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ToldNotTo => write!(f, "its label {SWITCH} is \"false\""),
            Self::AlreadyInjected => f.write_str("it has its sidecar already"),
            Self::HostNetwork => f.write_str("it uses its host's network"),
            Self::Windows => f.write_str("it is for Windows"),
            Self::StaticPod => f.write_str("it is a static pod"),
            Self::NameTaken(name) => write!(f, "it has something of its own named {name}"),
            Self::PortTaken(container, port) => write!(
                f,
                "its container {container} has port {port}, one of the sidecar's; \
                 config.koorde.dev/http-port, admin-port and ring-port choose others"
            ),
            Self::PodResources => f.write_str(
                "spec.resources bounds the pod as a whole, and the sidecar's would come on top",
            ),
            Self::NotAPod(wrong) => write!(f, "it is no pod: {wrong}"),
        }
    }
}

/// A pod that is shaped as one.
pub(super) struct Facts<'a> {
    pod: &'a Value,
    /// The value of the label [`SWITCH`].
    pub(super) switch: Option<&'a str>,
    /// What was done to it before.
    pub(super) record: Option<Record>,
}

/// Looks over what the other functions rely on.
pub(super) fn read(pod: &Value) -> Result<Facts<'_>, Skip> {
    let wrong = Skip::NotAPod;
    let Some(spec) = pod.get("spec").and_then(Value::as_object) else {
        return Err(wrong("spec is no object".into()));
    };
    if !matches!(spec.get("containers"), Some(Value::Array(items)) if !items.is_empty()) {
        return Err(wrong("spec.containers is no list of containers".into()));
    }
    for list in [
        "containers",
        "initContainers",
        "volumes",
        "imagePullSecrets",
    ] {
        named_items(spec.get(list), &format!("spec.{list}")).map_err(wrong)?;
    }
    for container in containers(pod) {
        for list in ["env", "volumeMounts", "ports"] {
            let name = format!("{list} of {}", container["name"]);
            items(container.get(list), &name).map_err(wrong)?;
        }
    }
    let metadata = pod.get("metadata");
    object(metadata, "metadata").map_err(wrong)?;
    for map in ["labels", "annotations"] {
        let map_of = metadata.and_then(|metadata| metadata.get(map));
        object(map_of, &format!("metadata.{map}")).map_err(wrong)?;
    }
    Ok(Facts {
        pod,
        switch: pod["metadata"]["labels"][SWITCH].as_str(),
        record: Record::of(pod),
    })
}

/// Nothing, or a list of objects.
fn items(list: Option<&Value>, name: &str) -> Result<(), String> {
    match list {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(items)) if items.iter().all(Value::is_object) => Ok(()),
        Some(_) => Err(format!("{name} is no list of objects")),
    }
}

/// Nothing, or a list of objects with different names.
fn named_items(list: Option<&Value>, name: &str) -> Result<(), String> {
    items(list, name)?;
    let all = list
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let mut names: Vec<&str> = all
        .iter()
        .filter_map(|item| item["name"].as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.len() == all.len() {
        Ok(())
    } else {
        Err(format!("{name} has items without names of their own"))
    }
}

fn object(value: Option<&Value>, name: &str) -> Result<(), String> {
    match value {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(_) => Err(format!("{name} is no object")),
    }
}

/// All of them, init containers first.
pub(super) fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["initContainers", "containers"].into_iter();
    lists.flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
}

impl Facts<'_> {
    /// Whether the pod ends by itself, as those of Jobs do.
    pub(super) fn ends(&self) -> bool {
        let policy = self.pod["spec"]["restartPolicy"].as_str();
        let owners = self.pod["metadata"]["ownerReferences"].as_array();
        let mut owners = owners.into_iter().flatten();
        matches!(policy, Some("Never" | "OnFailure")) || owners.any(|owner| owner["kind"] == "Job")
    }

    /// Whether its containers run as root because the pod says so.
    pub(super) fn is_root(&self) -> bool {
        self.pod["spec"]["securityContext"]["runAsUser"] == 0
    }

    /// The first thing that is in the sidecar's way.
    pub(super) fn obstacle(&self, plan: &Plan) -> Option<Skip> {
        let spec = &self.pod["spec"];
        let annotations = &self.pod["metadata"]["annotations"];
        let is_windows = spec["os"]["name"] == "windows"
            || spec["nodeSelector"]["kubernetes.io/os"] == "windows";
        let is_mirror = annotations.get("kubernetes.io/config.mirror").is_some();
        let source = annotations["kubernetes.io/config.source"].as_str();
        match () {
            () if spec["hostNetwork"] == true => Some(Skip::HostNetwork),
            () if is_windows => Some(Skip::Windows),
            () if is_mirror || source.is_some_and(|source| source != "api") => {
                Some(Skip::StaticPod)
            }
            () if spec["resources"].is_object() => Some(Skip::PodResources),
            () => self.name_taken().or_else(|| self.port_taken(plan)),
        }
    }

    fn name_taken(&self) -> Option<Skip> {
        let taken = |list: &str, name: &str| {
            let items = self.pod["spec"][list].as_array();
            let mut items = items.into_iter().flatten();
            items
                .any(|item| item["name"] == name)
                .then(|| Skip::NameTaken(name.to_owned()))
        };
        let ours = self.record.is_some();
        let foreign = || {
            let container = taken("initContainers", CONTAINER);
            container.or_else(|| taken("volumes", VOLUME))
        };
        taken("containers", CONTAINER)
            .or_else(|| if ours { None } else { foreign() })
            .or_else(|| self.key_taken())
    }

    /// A label or annotation of ours with something else in it: `null`, or a record that cannot be read.
    fn key_taken(&self) -> Option<Skip> {
        let metadata = &self.pod["metadata"];
        let is_odd = |(map, key): &&(&str, &str)| {
            let value = metadata[*map].get(*key);
            value.is_some_and(|value| {
                !value.is_string() || (*key == RECORD && self.record.is_none())
            })
        };
        let keys = [
            ("labels", LABEL),
            ("annotations", RECORD),
            ("annotations", STATUS),
            ("annotations", VERSION),
            ("annotations", DEFAULT_CONTAINER),
        ];
        let odd = keys.iter().find(is_odd);
        odd.map(|(_, key)| Skip::NameTaken((*key).to_owned()))
    }

    fn port_taken(&self, plan: &Plan) -> Option<Skip> {
        let others = containers(self.pod).filter(|container| container["name"] != CONTAINER);
        others.into_iter().find_map(|container| {
            let mut taken = ports::of(container);
            let taken = taken.find(|port| plan.ports.all().contains(port))?;
            let name = container["name"].as_str().unwrap_or_default();
            Some(Skip::PortTaken(name.to_owned(), taken))
        })
    }
}
