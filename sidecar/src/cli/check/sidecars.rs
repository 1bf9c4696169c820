//! Pods with a sidecar, and those that should have one: missing, old, or of another ring.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    cluster::{
        Cluster, Release, annotation, items, label, name, namespace, sidecar, text, variable,
    },
    finding::Finding,
    restart::restarts,
};
use crate::{
    cli::output,
    inject::{InjectSettings, Injected, SWITCH, VERSION, inject},
};

const CATEGORY: &str = "sidecars";

/// All pods that were fetched.
pub(super) fn check(cluster: &Cluster, releases: &[Release<'_>]) -> Vec<Finding> {
    let lives = |pod: &&Value| {
        !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
            && pod["metadata"]["deletionTimestamp"].is_null()
    };
    let (with, without): (Vec<&Value>, Vec<&Value>) = cluster
        .of("Pod")
        .filter(lives)
        .partition(|pod| sidecar(pod).is_some());
    let release = |pod: &Value| of(cluster, releases, pod);
    let mut findings = lacking(cluster, &without, &release);
    findings.extend(old(cluster, &with, &release));
    findings.extend(elsewhere(cluster, &with, &release));
    findings.extend(secrets(cluster, &with, &release));
    findings.extend(alone(cluster));
    let count = with.len();
    if findings.is_empty() && count > 0 {
        let noun = if count == 1 {
            "pod has its sidecar"
        } else {
            "pods have their sidecars"
        };
        findings.push(Finding::ok(
            CATEGORY,
            format!("{count} {noun}, as the injector would make it"),
        ));
    }
    findings
}

/// The release whose injector is asked about a pod.
fn of<'a>(cluster: &Cluster, releases: &'a [Release<'a>], pod: &Value) -> Option<&'a Release<'a>> {
    let mut all = releases.iter();
    all.find(|release| super::webhook::is_asked_about(cluster, release, namespace(pod)))
}

/// Pods that ask and have none, by the reason.
fn lacking<'a>(
    cluster: &Cluster,
    pods: &[&Value],
    release: &impl Fn(&Value) -> Option<&'a Release<'a>>,
) -> Vec<Finding> {
    let mut by_reason: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for &pod in pods {
        let place = cluster.find("Namespace", "", namespace(pod));
        let of_namespace = place.map_or("", |place| label(place, SWITCH));
        let asks = match (of_namespace, label(pod, SWITCH)) {
            (_, "false" | "") if of_namespace != "enabled" => false,
            ("enabled", own) => own != "false",
            ("disabled", _) => false,
            _ => true,
        };
        let Some(release) = release(pod).filter(|_| asks) else {
            continue;
        };
        let settings = release.settings.clone().unwrap_or_default();
        let reason = match inject(pod, &settings) {
            Injected::Skip(skip) => format!("{skip}"),
            Injected::Refuse(message) => format!("it would be refused: {message}"),
            Injected::Patch(_) => String::new(),
        };
        by_reason.entry(reason).or_default().push(pod);
    }
    let told = by_reason.into_iter().map(|(reason, pods)| {
        let names = pods.iter().map(|pod| format!("pod/{} in {}", name(pod), namespace(pod)));
        let count = output::counted(pods.len() as u64, "pod");
        let text = format!("{count} with {SWITCH} and without a sidecar");
        if reason.is_empty() {
            Finding::warning(CATEGORY, text)
                .about(names)
                .hint("They are older than the label, or came while the injector was down; new ones would get it.")
                .mend_all(restarts(cluster, &pods))
        } else {
            Finding::warning(CATEGORY, text)
                .about(names)
                .hint(format!("The injector leaves such a pod alone: {reason}."))
        }
    });
    told.collect()
}

/// Sidecars that are not as new ones would be.
fn old<'a>(
    cluster: &Cluster,
    pods: &[&Value],
    release: &impl Fn(&Value) -> Option<&'a Release<'a>>,
) -> Vec<Finding> {
    let is_old = |pod: &&&Value| {
        let Some(release) = release(pod) else {
            return false;
        };
        let image = sidecar(pod).map_or("", |one| text(one, "/image"));
        match &release.settings {
            Some(settings) => image != settings.image,
            None => {
                let mut policies = cluster.cluster_wide("MutatingAdmissionPolicy", release);
                let version = policies
                    .next()
                    .map(|one| label(one, "app.kubernetes.io/version"));
                version.is_some_and(|version| version != annotation(pod, VERSION))
            }
        }
    };
    let old: Vec<&Value> = pods.iter().filter(is_old).copied().collect();
    if old.is_empty() {
        return Vec::new();
    }
    let count = output::counted(old.len() as u64, "sidecar");
    let detail = |pod: &&Value| {
        let image = sidecar(pod).map_or("", |one| text(one, "/image"));
        format!("pod/{} in {}: {image}", name(pod), namespace(pod))
    };
    let finding = Finding::warning(
        CATEGORY,
        format!("{count} of another version than the injector's"),
    )
    .about(old.iter().map(detail))
    .hint("A sidecar is as old as its pod; a restart gives it the new one.");
    vec![finding.mend_all(restarts(cluster, &old))]
}

/// Sidecars that meet others than new ones would.
fn elsewhere<'a>(
    cluster: &Cluster,
    pods: &[&Value],
    release: &impl Fn(&Value) -> Option<&'a Release<'a>>,
) -> Vec<Finding> {
    let is_other = |pod: &&&Value| {
        let settings = release(pod).and_then(|release| release.settings.as_ref());
        settings.is_some_and(|settings| differs(pod, settings))
    };
    let other: Vec<&Value> = pods.iter().filter(is_other).copied().collect();
    if other.is_empty() {
        return Vec::new();
    }
    let count = output::counted(other.len() as u64, "sidecar");
    let detail = |pod: &&Value| {
        let seeds = sidecar(pod).and_then(|one| variable(one, "KOORDE_RING__SEEDS"));
        let seeds = seeds.map_or("nobody", |one| text(one, "/value"));
        format!("pod/{} in {}: meets {seeds}", name(pod), namespace(pod))
    };
    vec![
        Finding::warning(
            CATEGORY,
            format!("{count} of another ring than the injector's"),
        )
        .about(other.iter().map(detail))
        .hint("Its seeds or the Secret of its ring were others when the pod was made.")
        .mend_all(restarts(cluster, &other)),
    ]
}

fn differs(pod: &Value, settings: &InjectSettings) -> bool {
    let Some(sidecar) = sidecar(pod) else {
        return false;
    };
    let seeds = variable(sidecar, "KOORDE_RING__SEEDS").map_or("", |one| text(one, "/value"));
    let secret = settings
        .ring_secret
        .as_ref()
        .map(|secret| secret.name.as_str());
    seeds != settings.seeds.join(",") || ring_secret(sidecar) != secret
}

/// The Secret that has a sidecar's ring secret.
pub(super) fn ring_secret(sidecar: &Value) -> Option<&str> {
    let variable = variable(sidecar, "KOORDE_RING__SECRET")?;
    variable.pointer("/valueFrom/secretKeyRef/name")?.as_str()
}

/// Namespaces where sidecars are and the ring's secret is not.
fn secrets<'a>(
    cluster: &Cluster,
    pods: &[&Value],
    release: &impl Fn(&Value) -> Option<&'a Release<'a>>,
) -> Vec<Finding> {
    let mut missing: BTreeMap<(&str, &str), Vec<&Value>> = BTreeMap::new();
    for &pod in pods {
        let Some(secret) = sidecar(pod).and_then(ring_secret) else {
            continue;
        };
        let key = (namespace(pod).to_owned(), secret.to_owned());
        if cluster.secrets.get(&key) == Some(&false) {
            missing
                .entry((namespace(pod), secret))
                .or_default()
                .push(pod);
        }
    }
    let told = missing.into_iter().map(|((place, secret), pods)| {
        let count = pods.len();
        let who = if count == 1 { "1 sidecar needs" } else { &format!("{count} sidecars need") };
        let text = format!("secret/{secret} is not in namespace {place}, where {who} it");
        Finding::warning(CATEGORY, text)
            .hint("Without it a sidecar caches for its own pod only. The chart puts none into namespaces of others.")
            .mend(copy(pods[0], release(pods[0])))
    });
    told.collect()
}

/// What copies the ring's secret from its nodes' namespace to a pod's.
fn copy(pod: &Value, release: Option<&Release<'_>>) -> String {
    let reference = |container: &Value| {
        let reference = &variable(container, "KOORDE_RING__SECRET")?["valueFrom"]["secretKeyRef"];
        Some([text(reference, "/name"), text(reference, "/key")].map(str::to_owned))
    };
    let wanted = sidecar(pod).and_then(reference).unwrap_or_default();
    let nodes = release.and_then(|release| release.nodes);
    let containers = nodes.map_or(&[][..], |nodes| {
        items(nodes, "/spec/template/spec/containers")
    });
    let of_nodes = containers.iter().find_map(reference);
    let value = match (of_nodes, nodes) {
        (Some([name, key]), Some(nodes)) => {
            let key = key.replace('.', "\\.");
            let place = namespace(nodes);
            format!(
                "\"$(kubectl -n {place} get secret {name} -o jsonpath='{{.data.{key}}}' | base64 -d)\""
            )
        }
        _ => "…".to_owned(),
    };
    let [name, key] = wanted;
    let place = namespace(pod);
    format!("kubectl -n {place} create secret generic {name} --from-literal={key}={value}")
}

/// Sidecars that have met nobody, of those that were asked.
fn alone(cluster: &Cluster) -> Option<Finding> {
    let asked = cluster.views.iter().filter(|view| view.is_sidecar);
    let mut said = Vec::new();
    for view in asked {
        let seeded = cluster
            .find("Pod", &view.namespace, &view.pod)
            .and_then(sidecar)
            .is_some_and(|one| variable(one, "KOORDE_RING__SEEDS").is_some());
        match &view.ring {
            Ok(ring) if seeded && ring.members.len() <= 1 => {
                said.push(format!(
                    "pod/{} in {}: {}",
                    view.pod, view.namespace, ring.state
                ));
            }
            _ => {}
        }
    }
    (!said.is_empty()).then(|| {
        Finding::warning(CATEGORY, "sidecars have seeds and have met nobody")
            .about(said)
            .hint("They lack the ring's secret, or a NetworkPolicy does not let the ring's port through.")
    })
}

#[cfg(test)]
mod tests;
