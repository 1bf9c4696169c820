use serde_json::json;

use super::{super::finding::Level, *};

fn labels() -> Value {
    json!({
        "app.kubernetes.io/part-of": "koorde", "app.kubernetes.io/instance": "koorde",
        "app.kubernetes.io/component": "node",
    })
}

/// A StatefulSet of five, with a Secret and a ConfigMap.
fn nodes() -> Value {
    json!({
        "kind": "StatefulSet",
        "metadata": {"name": "koorde", "namespace": "web", "labels": labels()},
        "spec": {
            "replicas": 5, "serviceName": "koorde-headless", "selector": {"matchLabels": labels()},
            "template": {
                "metadata": {"labels": labels()},
                "spec": {
                    "serviceAccountName": "koorde",
                    "volumes": [{"name": "config", "configMap": {"name": "koorde"}}],
                    "containers": [{"name": "koorde", "env": [{
                        "name": "KOORDE_RING__SECRET",
                        "valueFrom": {"secretKeyRef": {"name": "koorde-ring", "key": "ring-secret"}},
                    }]}],
                },
            },
        },
        "status": {"readyReplicas": 5, "updatedReplicas": 5},
    })
}

fn named(kind: &str, name: &str) -> Value {
    json!({"kind": kind, "metadata": {"name": name, "namespace": "web"}})
}

fn cluster(nodes: Value, more: Vec<Value>) -> Cluster {
    let mut objects = vec![
        nodes,
        named("Service", "koorde-headless"),
        named("ConfigMap", "koorde"),
        named("ServiceAccount", "koorde"),
    ];
    objects.extend(more);
    let secret = ("web".to_owned(), "koorde-ring".to_owned());
    Cluster {
        objects,
        secrets: [(secret, true)].into(),
        ..Cluster::default()
    }
}

fn found(cluster: &Cluster) -> Vec<Finding> {
    check(cluster, &cluster.releases()[0])
}

#[test]
fn pods_that_are_not_ready_or_not_new_are_told() {
    for (status, level, text) in [
        (
            json!({"readyReplicas": 5, "updatedReplicas": 5}),
            Level::Ok,
            "5 of 5 are ready",
        ),
        (
            json!({"readyReplicas": 4, "updatedReplicas": 5}),
            Level::Warning,
            "4 of 5 are ready",
        ),
        (
            json!({"readyReplicas": 5, "updatedReplicas": 2}),
            Level::Warning,
            "2 of 5 are of the newest",
        ),
        (json!({}), Level::Failed, "none of 5 is ready"),
    ] {
        let mut nodes = nodes();
        nodes["status"] = status;
        let found = found(&cluster(nodes, Vec::new()));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].level, level, "{found:?}");
        assert!(found[0].text.contains(text), "{found:?}");
    }
}

#[test]
fn what_pods_refer_to_and_is_not_there_is_named() {
    let mut cluster = cluster(nodes(), Vec::new());
    cluster
        .objects
        .retain(|one| !matches!(text(one, "/kind"), "Service" | "ConfigMap"));
    cluster
        .secrets
        .values_mut()
        .for_each(|is_there| *is_there = false);
    let findings = found(&cluster);
    assert_eq!(
        findings[1].details,
        [
            "secret/koorde-ring",
            "configmap/koorde",
            "service/koorde-headless"
        ]
    );
    // What nobody could look at is not missing.
    cluster
        .blind
        .push(("/api/v1/services".into(), "forbidden".into()));
    assert_eq!(
        found(&cluster)[1].details,
        ["secret/koorde-ring", "configmap/koorde"]
    );
}

#[test]
fn an_autoscaler_without_numbers_is_told() {
    let scaler = |conditions: Value| {
        json!({
            "kind": "HorizontalPodAutoscaler", "metadata": {"name": "koorde", "namespace": "web"},
            "spec": {"scaleTargetRef": {"name": "koorde"}, "metrics": [{"type": "ContainerResource"}]},
            "status": {"conditions": conditions},
        })
    };
    let service = json!({
        "kind": "APIService", "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "status": {"conditions": [{"type": "Available", "status": "True"}]},
    });
    let active = json!([{"type": "ScalingActive", "status": "True"}]);
    let message = "the HPA was unable to compute the replica count: missing request for cpu";
    let still = json!([{"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric", "message": message}]);
    for (more, text) in [
        (
            vec![scaler(active.clone()), service.clone()],
            "has its numbers",
        ),
        (vec![scaler(still), service], "missing request for cpu"),
        (vec![scaler(active)], "there is no metrics-server"),
    ] {
        let found = found(&cluster(nodes(), more));
        assert!(found[1].text.contains(text), "{found:?}");
        assert_eq!(
            found[1].level == Level::Ok,
            text == "has its numbers",
            "{found:?}"
        );
    }
}

#[test]
fn a_budget_that_blocks_every_drain_is_told() {
    let budget = |name: &str, healthy: u64, allowed: u64| {
        json!({
            "kind": "PodDisruptionBudget", "metadata": {"name": name, "namespace": "web"},
            "spec": {"selector": {"matchLabels": labels()}},
            "status": {"expectedPods": 5, "currentHealthy": healthy, "disruptionsAllowed": allowed},
        })
    };
    for (budgets, level, text) in [
        (vec![budget("koorde", 5, 1)], Level::Ok, "lets 1 go now"),
        (
            vec![budget("koorde", 4, 0)],
            Level::Warning,
            "4 of 5 are healthy",
        ),
        (
            vec![budget("koorde", 5, 0)],
            Level::Failed,
            "blocks every drain",
        ),
        (
            vec![budget("koorde", 5, 1), budget("mine", 5, 1)],
            Level::Failed,
            "more than one budget",
        ),
    ] {
        let found = found(&cluster(nodes(), budgets));
        assert_eq!(found[1].level, level, "{found:?}");
        assert!(found[1].text.contains(text), "{found:?}");
    }
}
