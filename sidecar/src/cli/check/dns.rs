//! Names: whether those by which nodes, sidecars and API servers find each other lead anywhere.

use serde_json::Value;

use super::{
    cluster::{Cluster, Release, items, label, name, namespace, text},
    finding::Finding,
};

/// The Services of a release.
pub(super) fn check(cluster: &Cluster, release: &Release<'_>) -> Vec<Finding> {
    let category = format!("names {}/{}", release.namespace, release.name);
    let mut findings = Vec::new();
    let parts = [release.nodes, release.injector];
    for part in parts.into_iter().flatten() {
        for service in services_of(cluster, part) {
            findings.push(leads(cluster, &category, service, part));
        }
    }
    findings
}

/// Services whose selector means the pods of a StatefulSet or Deployment.
fn services_of<'a>(cluster: &'a Cluster, part: &'a Value) -> impl Iterator<Item = &'a Value> {
    let labels = &part["spec"]["template"]["metadata"]["labels"];
    cluster
        .within("Service", namespace(part))
        .filter(move |service| {
            let selector = service["spec"]["selector"].as_object();
            selector.is_some_and(|selector| {
                !selector.is_empty() && selector.iter().all(|(key, value)| labels[key] == *value)
            })
        })
}

/// Whether a Service has an address for each pod that it should: a headless one that publishes all for every
/// pod that runs, another for every one that is ready.
fn leads(cluster: &Cluster, category: &str, service: &Value, part: &Value) -> Finding {
    let place = namespace(part);
    let selector = &part["spec"]["selector"]["matchLabels"];
    let publishes_all = service["spec"]["publishNotReadyAddresses"] == true;
    let addresses = addresses(cluster, service, publishes_all);
    let pods = cluster.within("Pod", place).filter(|pod| {
        let wanted = selector.as_object().into_iter().flatten();
        let mut wanted = wanted.map(|(key, value)| label(pod, key) == value.as_str().unwrap_or(""));
        wanted.all(|fits| fits) && (publishes_all || is_ready(pod)) && is_up(pod)
    });
    let lost: Vec<String> = pods
        .filter(|pod| !addresses.contains(&text(pod, "/status/podIP")))
        .map(|pod| format!("pod/{} {}", name(pod), text(pod, "/status/podIP")))
        .collect();
    let named = format!("service/{}", name(service));
    let command = format!(
        "kubectl -n {place} get endpointslices -l kubernetes.io/service-name={}",
        name(service)
    );
    if addresses.is_empty() {
        let text = format!("{named} leads nowhere");
        return Finding::failed(category, text)
            .hint("Its selector finds no pod that is there, or none is ready.")
            .mend(command);
    }
    if !lost.is_empty() {
        let text = format!("{named} does not know all of its pods");
        return Finding::failed(category, text).about(lost).mend(command);
    }
    let count = addresses.len();
    Finding::ok(
        category,
        format!(
            "{named} leads to {count} pod{}",
            if count == 1 { "" } else { "s" }
        ),
    )
}

fn addresses<'a>(cluster: &'a Cluster, service: &'a Value, with_all: bool) -> Vec<&'a str> {
    let slices = cluster.within("EndpointSlice", namespace(service));
    let slices = slices.filter(|slice| label(slice, "kubernetes.io/service-name") == name(service));
    let endpoints = slices.flat_map(|slice| items(slice, "/endpoints"));
    let endpoints = endpoints.filter(|one| with_all || one["conditions"]["ready"] != false);
    let addresses = endpoints.flat_map(|one| items(one, "/addresses"));
    addresses.filter_map(Value::as_str).collect()
}

/// A pod that has an address and neither ends nor has ended.
fn is_up(pod: &Value) -> bool {
    let has_ended = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    !text(pod, "/status/podIP").is_empty()
        && !has_ended
        && pod["metadata"]["deletionTimestamp"].is_null()
}

/// Whether a pod is ready.
pub(super) fn is_ready(pod: &Value) -> bool {
    items(pod, "/status/conditions")
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::finding::Level, *};

    fn cluster(addresses: &[&str]) -> Cluster {
        let labels = json!({"app": "koorde"});
        let pod = |index: usize, ready: &str| {
            json!({
                "kind": "Pod",
                "metadata": {"name": format!("koorde-{index}"), "namespace": "web", "labels": labels},
                "status": {
                    "phase": "Running", "podIP": format!("10.0.0.{index}"),
                    "conditions": [{"type": "Ready", "status": ready}],
                },
            })
        };
        let endpoint =
            |address: &&str| json!({"addresses": [address], "conditions": {"ready": true}});
        let slice = json!({
            "kind": "EndpointSlice",
            "metadata": {
                "name": "koorde-headless-x", "namespace": "web",
                "labels": {"kubernetes.io/service-name": "koorde-headless"},
            },
            "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
        });
        let service = json!({
            "kind": "Service", "metadata": {"name": "koorde-headless", "namespace": "web"},
            "spec": {"selector": labels, "publishNotReadyAddresses": true},
        });
        let nodes = json!({
            "kind": "StatefulSet", "metadata": {"name": "koorde", "namespace": "web", "labels": {
                "app.kubernetes.io/part-of": "koorde", "app.kubernetes.io/instance": "koorde",
                "app.kubernetes.io/component": "node",
            }},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}},
        });
        Cluster {
            objects: vec![pod(1, "True"), pod(2, "False"), slice, service, nodes],
            ..Cluster::default()
        }
    }

    #[test]
    fn a_pod_that_the_headless_service_does_not_know_is_named() {
        for (addresses, level) in [
            (&["10.0.0.1", "10.0.0.2"][..], Level::Ok),
            (&["10.0.0.1"], Level::Failed),
            (&[], Level::Failed),
        ] {
            let cluster = cluster(addresses);
            let findings = check(&cluster, &cluster.releases()[0]);
            assert_eq!(findings[0].level, level, "{findings:?}");
        }
        let cluster = cluster(&["10.0.0.1"]);
        let findings = check(&cluster, &cluster.releases()[0]);
        assert_eq!(findings[0].details, ["pod/koorde-2 10.0.0.2"]);
    }
}
