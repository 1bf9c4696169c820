//! What gives pods their sidecar anew: whoever makes them is restarted.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    cluster::{Cluster, annotation, label, name, namespace, text},
    labels::{template, workloads},
};
use crate::inject::RECORD;

/// What restarts the pods' owners, each once.
pub(super) fn restarts(cluster: &Cluster, pods: &[&Value]) -> Vec<String> {
    let commands: BTreeSet<String> = pods
        .iter()
        .filter_map(|pod| restart(cluster, pod))
        .collect();
    commands.into_iter().collect()
}

fn restart(cluster: &Cluster, pod: &Value) -> Option<String> {
    let place = namespace(pod);
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let mut owners = owners.into_iter().flatten();
    let Some(owner) = owners.find(|owner| owner["controller"] == true) else {
        let text = format!(
            "kubectl -n {place} get pod {0} -o yaml > {0}.yaml && kubectl replace --force -f {0}.yaml",
            name(pod)
        );
        return Some(text);
    };
    let (kind, named) = (text(owner, "/kind"), text(owner, "/name"));
    let (kind, named) = match kind {
        // It ends by itself.
        "Job" => return None,
        // Deployments name their ReplicaSets by a hash that their pods know.
        "ReplicaSet" => {
            let hash = format!("-{}", label(pod, "pod-template-hash"));
            ("Deployment", named.strip_suffix(&hash).unwrap_or(named))
        }
        other => (other, named),
    };
    let mut all = workloads(cluster);
    let owner =
        all.find(|one| one["kind"] == kind && namespace(one) == place && name(one) == named);
    let lower = kind.to_lowercase();
    Some(match owner {
        // The sidecar is in its template.
        Some(owner) if !annotation(template(owner), RECORD).is_empty() => {
            format!(
                "kubectl -n {place} get {lower} {named} -o yaml | koorde inject … - | kubectl apply -f -"
            )
        }
        Some(_) => format!("kubectl -n {place} rollout restart {lower}/{named}"),
        // Of a kind of others, such as a Rollout.
        None => format!("kubectl -n {place} delete pod {}", name(pod)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_restarts_a_pod_depends_on_who_makes_it() {
        let owned = |kind: &str, name: &str| {
            json!({"metadata": {
                "name": "web-5d8f-x", "namespace": "shop", "labels": {"pod-template-hash": "5d8f"},
                "ownerReferences": [{"kind": kind, "name": name, "controller": true}],
            }})
        };
        let mut by_hand =
            json!({"kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"}});
        let cluster = |deployment: &Value| {
            let set =
                json!({"kind": "StatefulSet", "metadata": {"name": "db", "namespace": "shop"}});
            Cluster {
                objects: vec![deployment.clone(), set],
                ..Cluster::default()
            }
        };
        let plain = cluster(&by_hand);
        let said = |pod: &Value| restart(&plain, pod).unwrap_or_default();
        for (kind, name, command) in [
            (
                "ReplicaSet",
                "web-5d8f",
                "kubectl -n shop rollout restart deployment/web",
            ),
            (
                "StatefulSet",
                "db",
                "kubectl -n shop rollout restart statefulset/db",
            ),
            ("Job", "nightly", ""),
            (
                "ReplicaSet",
                "rollout-5d8f",
                "kubectl -n shop delete pod web-5d8f-x",
            ),
        ] {
            assert_eq!(said(&owned(kind, name)), command);
        }
        by_hand["spec"]["template"]["metadata"]["annotations"] = json!({RECORD: "{}"});
        let by_hand = restart(&cluster(&by_hand), &owned("ReplicaSet", "web-5d8f"));
        assert!(by_hand.is_some_and(|command| command.contains("koorde inject … -")));
    }
}
