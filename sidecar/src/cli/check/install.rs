//! What the chart has made: whether it is there, runs, and can be replaced.

use serde_json::Value;

use super::{
    cluster::{Cluster, Release, items, name, namespace, number, text},
    finding::Finding,
    kubernetes,
};

/// There is no release.
pub(super) fn nothing(namespace: Option<&str>) -> Finding {
    let place = namespace.map_or_else(
        || "in any namespace that you may see".to_owned(),
        |namespace| format!("in namespace {namespace}"),
    );
    Finding::failed(
        "koorde",
        format!("there is no release of the chart {place}"),
    )
    .hint("It is found by the label app.kubernetes.io/part-of=koorde.")
    .mend("koorde check --pre")
    .mend("helm install koorde helm/koorde --namespace koorde --create-namespace")
}

/// One release's objects.
pub(super) fn check(cluster: &Cluster, release: &Release<'_>) -> Vec<Finding> {
    let category = format!("koorde {}/{}", release.namespace, release.name);
    let mut findings = Vec::new();
    let parts = [release.nodes, release.injector];
    for part in parts.into_iter().flatten() {
        findings.push(running(&category, part));
        findings.extend(references(cluster, &category, part));
    }
    if let Some(nodes) = release.nodes {
        findings.extend(autoscaler(cluster, &category, nodes));
        findings.extend(budgets(cluster, &category, nodes));
    }
    findings
}

/// Whether all pods of a StatefulSet or Deployment are ready and of one revision.
fn running(category: &str, part: &Value) -> Finding {
    let (kind, namespace) = (text(part, "/kind").to_lowercase(), namespace(part));
    let named = format!("{kind}/{}", name(part));
    let wanted = part["spec"]["replicas"].as_u64().unwrap_or(1);
    let ready = number(part, "/status/readyReplicas");
    let updated = number(part, "/status/updatedReplicas");
    let selector = items_of(&part["spec"]["selector"]["matchLabels"]);
    let look = format!("kubectl -n {namespace} get pods -l {selector}");
    if ready == 0 && wanted > 0 {
        return Finding::failed(category, format!("{named}: none of {wanted} is ready"))
            .mend(look)
            .mend(format!(
                "kubectl -n {namespace} describe pods -l {selector}"
            ));
    }
    if ready < wanted {
        return Finding::warning(category, format!("{named}: {ready} of {wanted} are ready"))
            .mend(look);
    }
    if updated < wanted {
        let text = format!("{named}: {updated} of {wanted} are of the newest revision");
        return Finding::warning(category, text)
            .hint("It is being rolled out, or waits for you (updateStrategy.type, partition).")
            .mend(format!("kubectl -n {namespace} rollout status {named}"));
    }
    Finding::ok(category, format!("{named}: {ready} of {wanted} are ready"))
}

/// Labels as kubectl's `-l` has them.
fn items_of(labels: &Value) -> String {
    let labels = labels.as_object().into_iter().flatten();
    let pairs = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or("")));
    pairs.collect::<Vec<_>>().join(",")
}

/// Whether what the pods refer to is there: Secrets, ConfigMaps, the service account, the Service that names
/// them.
fn references(cluster: &Cluster, category: &str, part: &Value) -> Vec<Finding> {
    let (namespace, template) = (namespace(part), &part["spec"]["template"]);
    let key = |name: &str| (namespace.to_owned(), name.to_owned());
    let mut missing: Vec<String> = secrets(template)
        .filter(|name| cluster.secrets.get(&key(name)) == Some(&false))
        .map(|name| format!("secret/{name}"))
        .collect();
    let maps = items(template, "/spec/volumes").iter();
    let maps = maps.filter(|volume| volume["configMap"]["optional"] != true);
    let maps = maps.map(|volume| ("ConfigMap", text(volume, "/configMap/name")));
    let account = ("ServiceAccount", text(template, "/spec/serviceAccountName"));
    let service = ("Service", text(part, "/spec/serviceName"));
    let others = maps.chain([account, service]);
    let is_gone = |(kind, name): &(&str, &str)| {
        // The default account is made by Kubernetes itself, a moment after its namespace.
        !name.is_empty()
            && *name != "default"
            && is_visible(cluster, kind)
            && cluster.find(kind, namespace, name).is_none()
    };
    missing.extend(
        others
            .filter(is_gone)
            .map(|(kind, name)| format!("{}/{name}", kind.to_lowercase())),
    );
    missing.dedup();
    let named = format!("{}/{}", text(part, "/kind").to_lowercase(), name(part));
    if missing.is_empty() {
        return Vec::new();
    }
    let text = format!("{named} refers to what is not there");
    vec![
        Finding::failed(category, text)
            .about(missing)
            .hint("Its pods do not start. helm upgrade makes what is the chart's; the rest is named by its values.")
            .mend(format!("kubectl -n {namespace} describe {named}")),
    ]
}

/// Whether objects of a kind could be fetched at all.
fn is_visible(cluster: &Cluster, kind: &str) -> bool {
    let resource = format!("/{}s", kind.to_lowercase());
    !cluster
        .blind
        .iter()
        .any(|(what, _)| what.ends_with(&resource))
}

/// Secrets that a pod template does not start without.
pub(super) fn secrets(template: &Value) -> impl Iterator<Item = &str> {
    let containers = ["/spec/initContainers", "/spec/containers"];
    let containers = containers
        .into_iter()
        .flat_map(|list| items(template, list));
    let variables = containers.flat_map(|container| items(container, "/env"));
    let keys = variables.map(|variable| &variable["valueFrom"]["secretKeyRef"]);
    let volumes = items(template, "/spec/volumes").iter();
    let named = keys
        .map(|key| (text(key, "/name"), key))
        .chain(volumes.map(|volume| (text(volume, "/secret/secretName"), &volume["secret"])));
    named
        .filter(|(name, of)| !name.is_empty() && of["optional"] != true)
        .map(|(name, _)| name)
}

/// An autoscaler that has no numbers keeps the ring as it is.
fn autoscaler(cluster: &Cluster, category: &str, nodes: &Value) -> Vec<Finding> {
    let all = cluster.within("HorizontalPodAutoscaler", namespace(nodes));
    let ours = all.filter(|one| text(one, "/spec/scaleTargetRef/name") == name(nodes));
    let mut findings = Vec::new();
    for one in ours {
        let named = format!("horizontalpodautoscaler/{}", name(one));
        let metrics = kubernetes::metrics(cluster);
        let by_cpu = items(one, "/spec/metrics")
            .iter()
            .any(|metric| metric["type"] != "Pods" && metric["type"] != "External");
        let inactive = items(one, "/status/conditions").iter().find(|condition| {
            condition["type"] == "ScalingActive" && condition["status"] == "False"
        });
        let describe = format!("kubectl -n {} describe {named}", namespace(nodes));
        if by_cpu && metrics.level != super::Level::Ok {
            let text = format!("{named} scales by CPU, and {}", metrics.text);
            findings.push(
                Finding::failed(category, text)
                    .hint(metrics.hint)
                    .mend(describe),
            );
        } else if let Some(condition) =
            inactive.filter(|one| text(one, "/reason") != "ScalingDisabled")
        {
            let text = format!("{named} stands still: {}", text(condition, "/message"));
            findings.push(Finding::failed(category, text).mend(describe));
        } else {
            findings.push(Finding::ok(category, format!("{named} has its numbers")));
        }
    }
    findings
}

/// Budgets that no eviction gets past, and two for one pod, which the API server takes as an error.
fn budgets(cluster: &Cluster, category: &str, nodes: &Value) -> Vec<Finding> {
    let labels = &nodes["spec"]["template"]["metadata"]["labels"];
    let selects = |budget: &&Value| {
        let wanted = budget["spec"]["selector"]["matchLabels"].as_object();
        wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels[key] == *value))
    };
    let ours: Vec<&Value> = cluster
        .within("PodDisruptionBudget", namespace(nodes))
        .filter(selects)
        .collect();
    let named = |budget: &Value| format!("poddisruptionbudget/{}", name(budget));
    let place = namespace(nodes);
    if ours.len() > 1 {
        let text = "its pods have more than one budget: then none of them can be evicted at all";
        return vec![
            Finding::failed(category, text)
                .about(ours.iter().map(|budget| named(budget)))
                .mend(format!("kubectl -n {place} get poddisruptionbudgets")),
        ];
    }
    let judge = |budget: &&Value| {
        let expected = number(budget, "/status/expectedPods");
        let healthy = number(budget, "/status/currentHealthy");
        let allowed = number(budget, "/status/disruptionsAllowed");
        let named = named(budget);
        if expected == 0 || allowed > 0 {
            return Finding::ok(category, format!("{named} lets {allowed} go now"));
        }
        if healthy >= expected {
            let text =
                format!("{named} blocks every drain: all {expected} are healthy, and none may go");
            return Finding::failed(category, text)
                .hint("Leave one to evict: pdb.maxUnavailable = 1, or more nodes than pdb.minAvailable.")
                .mend(format!("kubectl -n {place} describe {named}"));
        }
        let text = format!("{named} lets none go now: {healthy} of {expected} are healthy");
        Finding::warning(category, text).mend(format!("kubectl -n {place} describe {named}"))
    };
    ours.iter().map(judge).collect()
}

#[cfg(test)]
mod tests;
