//! The ring, as its nodes see it: one ring, everybody in it, nobody in doubt.

use std::collections::BTreeSet;

use libkoorde::node::report::RingReport;
use serde_json::Value;

use super::{
    cluster::{Cluster, Release, View, items, label, name, sidecar, text, variable},
    finding::Finding,
};

/// The pods of the ring's own nodes.
pub(super) fn nodes<'a>(cluster: &'a Cluster, release: &Release<'a>) -> Vec<&'a Value> {
    let Some(nodes) = release.nodes else {
        return Vec::new();
    };
    let wanted = nodes["spec"]["selector"]["matchLabels"].as_object();
    let is_one = |pod: &&Value| {
        let mut wanted = wanted.into_iter().flatten();
        wanted.all(|(key, value)| label(pod, key) == value.as_str().unwrap_or(""))
            && pod["status"]["phase"] == "Running"
            && pod["metadata"]["deletionTimestamp"].is_null()
    };
    cluster
        .within("Pod", release.namespace)
        .filter(is_one)
        .collect()
}

/// Where a node's admin listener is.
pub(super) fn admin_port(pod: &Value, is_sidecar: bool) -> u16 {
    if is_sidecar {
        let listen = sidecar(pod).and_then(|one| variable(one, "KOORDE_ADMIN__LISTEN"));
        let listen = listen.map_or("", |listen| text(listen, "/value"));
        let port = listen.rsplit(':').next().and_then(|port| port.parse().ok());
        return port.unwrap_or(4090);
    }
    let containers = items(pod, "/spec/containers").iter();
    let mut ports = containers.flat_map(|container| items(container, "/ports"));
    let port = ports.find(|port| port["name"] == "admin");
    let port = port.and_then(|port| port["containerPort"].as_u64());
    port.and_then(|port| u16::try_from(port).ok())
        .unwrap_or(9090)
}

/// One release's ring; nothing if it has no nodes of its own.
pub(super) fn check(cluster: &Cluster, release: &Release<'_>) -> Vec<Finding> {
    let category = format!("ring {}/{}", release.namespace, release.name);
    let pods = nodes(cluster, release);
    if pods.is_empty() {
        return Vec::new();
    }
    let is_here = |view: &&View| {
        !view.is_sidecar
            && view.namespace == release.namespace
            && pods.iter().any(|pod| name(pod) == view.pod)
    };
    let here: Vec<&View> = cluster.views.iter().filter(is_here).collect();
    let mut findings = mute(&category, &here);
    let seen: Vec<&RingReport> = here
        .iter()
        .filter_map(|view| view.ring.as_ref().ok())
        .collect();
    if seen.is_empty() {
        return findings;
    }
    let look = format!(
        "kubectl -n {} exec {} -c koorde -- /usr/bin/koorde ring",
        release.namespace, here[0].pod
    );
    let before = findings.len();
    findings.extend(parts(&category, &seen).map(|finding| finding.mend(look.clone())));
    findings.extend(unequal(&category, &seen).map(|finding| finding.mend(look.clone())));
    findings.extend(suspects(&category, &seen).map(|finding| finding.mend(look.clone())));
    findings.extend(strangers(&category, &seen, &pods).map(|finding| finding.mend(look.clone())));
    if findings.len() == before {
        let members = seen[0]
            .members
            .iter()
            .filter(|member| member.role != "edge")
            .count();
        let text = format!(
            "one ring of {members} members, and {} nodes agree about it",
            seen.len()
        );
        findings.push(Finding::ok(&category, text));
    }
    findings
}

/// Nodes that could not be asked.
fn mute(category: &str, views: &[&View]) -> Vec<Finding> {
    let said: Vec<String> = views
        .iter()
        .filter_map(|view| Some(format!("pod/{}: {}", view.pod, view.ring.as_ref().err()?)))
        .collect();
    if said.is_empty() {
        return Vec::new();
    }
    vec![
        Finding::warning(category, "nodes cannot be asked for their ring")
            .about(said)
            .hint("It is asked for by a command in the pod (the right to create pods/exec), or by pods/proxy."),
    ]
}

/// Names of the members that a node knows, itself among them.
fn members(ring: &RingReport) -> BTreeSet<&str> {
    let all = ring.members.iter().filter(|member| member.role != "edge");
    all.map(|member| member.name.as_str()).collect()
}

/// More than one ring: nodes that do not know each other, not even by others.
fn parts(category: &str, seen: &[&RingReport]) -> Option<Finding> {
    let mut rings: Vec<BTreeSet<&str>> = Vec::new();
    for ring in seen {
        let mut all = members(ring);
        all.insert(ring.node.as_str());
        // What knows somebody of it belongs to it.
        let (same, others): (Vec<_>, Vec<_>) = rings
            .into_iter()
            .partition(|known| !known.is_disjoint(&all));
        all.extend(same.into_iter().flatten());
        rings = others;
        rings.push(all);
    }
    (rings.len() > 1).then(|| {
        let names = |ring: &BTreeSet<&str>| ring.iter().copied().collect::<Vec<_>>().join(", ");
        Finding::failed(category, format!("there are {} rings where one should be", rings.len()))
            .about(rings.iter().map(names))
            .hint(
                "Each fetches for itself. Nodes meet by the headless Service's name and know each other by the ring's \
                 secret: look at names above, the NetworkPolicy's port of the ring, and whether all have one secret.",
            )
    })
}

/// Nodes that know less than others, where all should know all.
fn unequal(category: &str, seen: &[&RingReport]) -> Option<Finding> {
    let whole: Vec<&&RingReport> = seen.iter().filter(|ring| ring.complete).collect();
    let all: BTreeSet<&str> = whole.iter().flat_map(|ring| members(ring)).collect();
    let lacks = |ring: &&&RingReport| {
        let known = members(ring);
        let lacking: Vec<&str> = all.difference(&known).copied().collect();
        let lacking = lacking.join(", ");
        (!lacking.is_empty()).then(|| {
            format!(
                "{} knows {} of {}: not {lacking}",
                ring.node,
                known.len(),
                all.len()
            )
        })
    };
    let said: Vec<String> = whole.iter().filter_map(lacks).collect();
    (!said.is_empty()).then(|| {
        Finding::failed(category, "nodes do not agree who is in the ring")
            .about(said)
            .hint("For a moment after a change that is so; koorde check --wait 1m looks again.")
    })
}

/// Members that somebody could not reach, and nodes that are not in the ring themselves.
fn suspects(category: &str, seen: &[&RingReport]) -> Option<Finding> {
    let mut said: Vec<String> = Vec::new();
    for ring in seen {
        if !matches!(ring.state.as_str(), "active" | "alone")
            || (ring.state == "alone" && seen.len() > 1)
        {
            said.push(format!("{} is {}", ring.node, ring.state));
        }
        let doubted = ring.members.iter();
        let doubted = doubted.filter(|member| !matches!(member.state.as_str(), "self" | "alive"));
        said.extend(
            doubted.map(|member| format!("{} finds {} {}", ring.node, member.name, member.state)),
        );
    }
    (!said.is_empty()).then(|| {
        Finding::failed(category, "members of the ring are in doubt")
            .about(said)
            .hint("They answer too slowly, or their network does not let the ring's port through.")
    })
}

/// Pods that run and are in nobody's ring.
fn strangers(category: &str, seen: &[&RingReport], pods: &[&Value]) -> Option<Finding> {
    let all: BTreeSet<&str> = seen.iter().flat_map(|ring| members(ring)).collect();
    let is_whole = seen.iter().all(|ring| ring.complete);
    let lost = pods
        .iter()
        .filter(|pod| is_whole && !all.contains(name(pod)));
    let lost: Vec<String> = lost.map(|pod| format!("pod/{}", name(pod))).collect();
    (!lost.is_empty())
        .then(|| Finding::failed(category, "pods run that nobody has in the ring").about(lost))
}

#[cfg(test)]
mod tests;
