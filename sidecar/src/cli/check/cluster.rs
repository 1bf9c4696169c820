//! What was fetched of a cluster: plain data that all checks read.

use std::collections::BTreeMap;

use libkoorde::node::report::RingReport;
use serde_json::Value;

use crate::inject::InjectSettings;

/// What was fetched.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    /// `/version`.
    pub(super) version: Value,
    /// Objects as the API server has them; each knows its kind.
    pub(super) objects: Vec<Value>,
    /// What could not be fetched, and why.
    pub(super) blind: Vec<(String, String)>,
    /// Questions of rights, and their answers.
    pub(super) rights: Vec<Right>,
    /// Secrets by namespace and name: whether they are there.
    pub(super) secrets: BTreeMap<(String, String), bool>,
    /// The injector's certificate, in PEM, by the release's namespace and the Secret's name.
    pub(super) certificates: BTreeMap<(String, String), String>,
    /// What became of pods that were made in a dry run.
    pub(super) trials: Vec<Trial>,
    /// What nodes and sidecars say of their ring.
    pub(super) views: Vec<View>,
}

/// A right, and whether somebody has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Right {
    /// A service account as `system:serviceaccount:…`; nobody for whoever asks.
    pub(super) user: Option<String>,
    /// `get secrets/koorde-injector-certs in web`.
    pub(super) what: String,
    /// kubectl's arguments for the same question.
    pub(super) question: String,
    pub(super) allowed: bool,
}

/// A pod that was made in a dry run, as one that asks for its sidecar.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trial {
    pub(super) namespace: String,
    /// The pod, or what the API server said instead.
    pub(super) made: Result<Value, String>,
}

/// What one node says of its ring.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) namespace: String,
    pub(super) pod: String,
    /// Whether it is a sidecar.
    pub(super) is_sidecar: bool,
    pub(super) ring: Result<RingReport, String>,
}

/// A release of the chart.
#[derive(Clone, Debug)]
pub(super) struct Release<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// The ring's nodes.
    pub(super) nodes: Option<&'a Value>,
    /// The injector.
    pub(super) injector: Option<&'a Value>,
    /// What sidecars are made from, where there is a webhook.
    pub(super) settings: Option<InjectSettings>,
}

impl Cluster {
    pub(super) fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects
            .iter()
            .filter(move |object| object["kind"] == kind)
    }

    /// Those of a namespace.
    pub(super) fn within<'a>(
        &'a self,
        kind: &'a str,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Value> {
        self.of(kind)
            .filter(move |object| object["metadata"]["namespace"] == namespace)
    }

    pub(super) fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        let mut all = self.objects.iter().filter(|object| object["kind"] == kind);
        all.find(|object| {
            let metadata = &object["metadata"];
            metadata["name"] == name && metadata["namespace"].as_str().unwrap_or("") == namespace
        })
    }

    /// The minor version: 33 of 1.33; none if it cannot be read.
    pub(super) fn minor(&self) -> Option<u32> {
        let version = text(&self.version, "/gitVersion").trim_start_matches('v');
        let mut parts = version.split('.');
        let major: u32 = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some(if major > 1 { u32::MAX } else { minor })
    }

    /// Releases of the chart, by what it labels.
    pub(super) fn releases(&self) -> Vec<Release<'_>> {
        let mut names: Vec<(&str, &str)> = Vec::new();
        for object in self.objects.iter().filter(|object| is_ours(object)) {
            let namespace = home(object);
            let pair = (namespace, label(object, "app.kubernetes.io/instance"));
            if !namespace.is_empty() && !names.contains(&pair) {
                names.push(pair);
            }
        }
        names.sort_unstable();
        let release = |(namespace, name)| {
            let part = |kind, component| {
                let mut all = self.within(kind, namespace).filter(|one| is_ours(one));
                all.find(|one| {
                    label(one, "app.kubernetes.io/instance") == name
                        && label(one, "app.kubernetes.io/component") == component
                })
            };
            let settings = part("ConfigMap", "injector");
            let settings = settings.and_then(|map| map["data"]["settings.yaml"].as_str());
            Release {
                namespace,
                name,
                nodes: part("StatefulSet", "node"),
                injector: part("Deployment", "injector"),
                settings: settings.and_then(|text| InjectSettings::parse(text).ok()),
            }
        };
        names.into_iter().map(release).collect()
    }

    /// The release's objects of a kind that is in no namespace.
    pub(super) fn cluster_wide<'a>(
        &'a self,
        kind: &'a str,
        release: &'a Release<'_>,
    ) -> impl Iterator<Item = &'a Value> {
        self.of(kind).filter(move |object| {
            let home = home(object);
            is_ours(object)
                && label(object, "app.kubernetes.io/instance") == release.name
                && (home.is_empty() || home == release.namespace)
        })
    }
}

/// Whether the chart has made it.
pub(super) fn is_ours(object: &Value) -> bool {
    label(object, "app.kubernetes.io/part-of") == "koorde"
        && !label(object, "app.kubernetes.io/instance").is_empty()
}

/// The namespace of its release, as far as it knows: sidecars' Services are elsewhere.
fn home(object: &Value) -> &str {
    let by_helm = object["metadata"]["annotations"]["meta.helm.sh/release-namespace"].as_str();
    let is_elsewhere = label(object, "app.kubernetes.io/component") == "sidecar";
    let own = object["metadata"]["namespace"].as_str();
    by_helm
        .or(own.filter(|_| !is_elsewhere))
        .unwrap_or_default()
}

pub(super) fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["labels"][key]
        .as_str()
        .unwrap_or_default()
}

pub(super) fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["annotations"][key]
        .as_str()
        .unwrap_or_default()
}

pub(super) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

pub(super) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// A text inside of an object; empty if there is none.
pub(super) fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

pub(super) fn number(object: &Value, path: &str) -> u64 {
    object
        .pointer(path)
        .and_then(Value::as_u64)
        .unwrap_or_default()
}

/// The items of a list inside of an object.
pub(super) fn items<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    let list = object.pointer(path).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// The sidecar of a pod or of a pod template.
pub(super) fn sidecar(pod: &Value) -> Option<&Value> {
    items(pod, "/spec/initContainers")
        .iter()
        .find(|container| container["name"] == crate::inject::CONTAINER)
}

/// A variable of a container.
pub(super) fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a Value> {
    items(container, "/env")
        .iter()
        .find(|variable| variable["name"] == name)
}
