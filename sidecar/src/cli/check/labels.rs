//! Labels and annotations at a level where nobody reads them, or with words that mean nothing.

use serde_json::Value;

use super::{
    cluster::{Cluster, annotation, label, name, namespace, text},
    finding::Finding,
};
use crate::inject::{CONFIG, SWITCH};

const CATEGORY: &str = "labels";

/// Namespaces and workloads.
pub(super) fn check(cluster: &Cluster) -> Vec<Finding> {
    let mut findings = namespaces(cluster);
    for one in workloads(cluster) {
        findings.extend(workload(cluster, one));
    }
    if findings.is_empty() {
        let enabled = cluster.of("Namespace");
        let enabled = enabled
            .filter(|one| label(one, SWITCH) == "enabled")
            .count();
        let noun = if enabled == 1 {
            "namespace"
        } else {
            "namespaces"
        };
        let text =
            format!("{enabled} {noun} with {SWITCH}=enabled; no label or annotation is in vain");
        findings.push(Finding::ok(CATEGORY, text));
    }
    findings
}

/// What makes pods, and can be labelled.
pub(super) fn workloads(cluster: &Cluster) -> impl Iterator<Item = &Value> {
    ["Deployment", "StatefulSet", "DaemonSet", "CronJob"]
        .into_iter()
        .flat_map(|kind| cluster.of(kind))
}

fn namespaces(cluster: &Cluster) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in cluster.of("Namespace") {
        let (name, value) = (name(one), label(one, SWITCH));
        if !matches!(value, "" | "enabled" | "disabled") {
            let wanted = if value == "false" {
                "disabled"
            } else {
                "enabled"
            };
            let text = format!("namespace/{name}: label {SWITCH}={value:?} means nothing");
            findings.push(
                Finding::warning(CATEGORY, text)
                    .hint("On a namespace it is enabled or disabled; true and false are for pods.")
                    .mend(format!(
                        "kubectl label namespace {name} {SWITCH}={wanted} --overwrite"
                    )),
            );
        }
        if !annotation(one, SWITCH).is_empty() {
            let text =
                format!("namespace/{name}: {SWITCH} is an annotation, and should be a label");
            findings.push(
                Finding::warning(CATEGORY, text)
                    .mend(format!("kubectl annotate namespace {name} {SWITCH}-"))
                    .mend(format!("kubectl label namespace {name} {SWITCH}=enabled")),
            );
        }
    }
    findings
}

/// Where an object's pod template is.
pub(super) fn template(object: &Value) -> &Value {
    if object["kind"] == "CronJob" {
        &object["spec"]["jobTemplate"]["spec"]["template"]
    } else {
        &object["spec"]["template"]
    }
}

fn workload(cluster: &Cluster, object: &Value) -> Option<Finding> {
    let kind = text(object, "/kind").to_lowercase();
    let (place, name, template) = (namespace(object), name(object), template(object));
    let named = format!("{kind}/{name} in {place}");
    let path = |metadata: &Value| {
        let inner = serde_json::json!({"template": {"metadata": metadata}});
        let spec = if kind == "cronjob" {
            serde_json::json!({"spec": {"jobTemplate": {"spec": inner}}})
        } else {
            serde_json::json!({"spec": inner})
        };
        format!("kubectl -n {place} patch {kind} {name} -p '{spec}'")
    };
    let labelled = |value: &str| path(&serde_json::json!({"labels": {SWITCH: value}}));
    let of_namespace = cluster.find("Namespace", "", place);
    let is_enabled = of_namespace.is_some_and(|one| label(one, SWITCH) == "enabled");
    let (outer, inner) = (label(object, SWITCH), label(template, SWITCH));
    if !matches!(inner, "" | "true" | "false") {
        let text = format!("{named}: its pods have label {SWITCH}={inner:?}, and are refused");
        return Some(
            Finding::warning(CATEGORY, text)
                .hint("It is true or false.")
                .mend(labelled("true")),
        );
    }
    if !outer.is_empty() && inner.is_empty() {
        // A namespace that says yes is overruled by a no only on the pod.
        let value = if matches!(outer, "false" | "disabled") {
            "false"
        } else {
            "true"
        };
        if value == "true" && is_enabled {
            return None;
        }
        let text =
            format!("{named}: label {SWITCH}={outer:?} is on the {kind}, where nobody reads it");
        return Some(
            Finding::warning(CATEGORY, text)
                .hint("It belongs on the pod template: spec.template.metadata.labels.")
                .mend(labelled(value)),
        );
    }
    let by_annotation = [object, template]
        .iter()
        .any(|one| !annotation(one, SWITCH).is_empty());
    if by_annotation && inner.is_empty() && !is_enabled {
        let text = format!(
            "{named}: {SWITCH} is an annotation, and should be a label of the pod template"
        );
        return Some(Finding::warning(CATEGORY, text).mend(labelled("true")));
    }
    if has_settings(object) && !has_settings(template) {
        let text =
            format!("{named}: annotations {CONFIG}* are on the {kind}, where nobody reads them");
        return Some(
            Finding::warning(CATEGORY, text)
                .hint("They belong on the pod template: spec.template.metadata.annotations."),
        );
    }
    let asks = inner == "true" || is_enabled || super::cluster::sidecar(template).is_some();
    if has_settings(template) && !asks {
        let text =
            format!("{named}: its pods have annotations {CONFIG}*, and nothing asks for a sidecar");
        return Some(Finding::warning(CATEGORY, text).mend(labelled("true")));
    }
    None
}

fn has_settings(object: &Value) -> bool {
    let annotations = object["metadata"]["annotations"].as_object();
    annotations.is_some_and(|all| all.keys().any(|key| key.starts_with(CONFIG)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A Deployment with metadata of its own and of its pods.
    fn deployment(own: &Value, pods: &Value) -> Value {
        let mut metadata = own.clone();
        metadata["name"] = "app".into();
        metadata["namespace"] = "shop".into();
        json!({"kind": "Deployment", "metadata": metadata, "spec": {"template": {"metadata": pods, "spec": {}}}})
    }

    fn told(of_namespace: &str, own: &Value, pods: &Value) -> Vec<String> {
        let mut shop = json!({"kind": "Namespace", "metadata": {"name": "shop", "labels": {}}});
        if !of_namespace.is_empty() {
            shop["metadata"]["labels"][SWITCH] = of_namespace.into();
        }
        let cluster = Cluster {
            objects: vec![shop, deployment(own, pods)],
            ..Cluster::default()
        };
        let mended = check(&cluster).into_iter();
        mended
            .filter(|finding| finding.level == super::super::Level::Warning)
            .map(|finding| format!("{} {}", finding.text, finding.commands.join(" ")))
            .collect()
    }

    #[test]
    fn a_label_at_the_wrong_level_is_told_with_the_command_that_moves_it() {
        let on = json!({"labels": {SWITCH: "true"}});
        let off = json!({"labels": {SWITCH: "false"}});
        let none = json!({});
        let config = json!({"annotations": {"config.koorde.dev/role": "edge"}});
        let annotated = json!({"annotations": {SWITCH: "true"}});
        let odd = json!({"labels": {SWITCH: "enabled"}});
        for (of_namespace, own, pods, said) in [
            ("", &none, &on, None),
            ("enabled", &none, &none, None),
            (
                "",
                &on,
                &none,
                Some("is on the deployment, where nobody reads it"),
            ),
            ("enabled", &on, &none, None),
            (
                "enabled",
                &off,
                &none,
                Some(r#"{"koorde.dev/inject":"false"}"#),
            ),
            ("enabled", &off, &off, None),
            ("", &none, &odd, Some("and are refused")),
            (
                "true",
                &none,
                &none,
                Some("namespace shop koorde.dev/inject=enabled --overwrite"),
            ),
            (
                "false",
                &none,
                &none,
                Some("namespace shop koorde.dev/inject=disabled --overwrite"),
            ),
            (
                "",
                &annotated,
                &none,
                Some("should be a label of the pod template"),
            ),
            (
                "",
                &none,
                &annotated,
                Some("should be a label of the pod template"),
            ),
            (
                "",
                &config,
                &on,
                Some("annotations config.koorde.dev/* are on the deployment"),
            ),
            ("", &none, &config, Some("nothing asks for a sidecar")),
            ("enabled", &none, &config, None),
        ] {
            let told = told(of_namespace, own, pods);
            match said {
                None => assert_eq!(told, [""; 0], "{of_namespace} {own} {pods}"),
                Some(said) => assert!(
                    told.len() == 1 && told[0].contains(said),
                    "{of_namespace} {own} {pods}: {told:?}"
                ),
            }
        }
    }

    #[test]
    fn the_command_for_a_cron_job_goes_one_level_deeper() {
        let job = json!({
            "kind": "CronJob", "metadata": {"name": "nightly", "namespace": "shop", "labels": {SWITCH: "true"}},
            "spec": {"jobTemplate": {"spec": {"template": {"metadata": {}, "spec": {}}}}},
        });
        let finding = workload(&Cluster::default(), &job).expect("it is told");
        let patch = r#"'{"spec":{"jobTemplate":{"spec":{"template":{"metadata":{"labels":{"koorde.dev/inject":"true"}}}}}}}'"#;
        assert!(finding.commands[0].ends_with(patch), "{finding:?}");
    }
}
