use serde_json::json;

use super::{
    super::{cluster::Right, finding::Level},
    *,
};

fn metadata(name: &str, component: &str) -> Value {
    json!({"name": name, "labels": {
        "app.kubernetes.io/part-of": "koorde", "app.kubernetes.io/instance": "koorde",
        "app.kubernetes.io/component": component,
    }})
}

fn within(mut metadata: Value, namespace: &str) -> Value {
    metadata["namespace"] = namespace.into();
    metadata
}

/// A release with a webhook for all namespaces but some.
fn cluster() -> Cluster {
    let args = json!([
        "injector",
        "--secret",
        "koorde-injector-certs",
        "--configuration",
        "koorde-injector"
    ]);
    let names = json!([{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["web", "kube-system"]}]);
    let webhook = |name: &str| {
        json!({
            "name": name, "failurePolicy": "Ignore", "timeoutSeconds": 3,
            "clientConfig": {"service": {"name": "koorde-injector", "namespace": "web"}},
            "namespaceSelector": {"matchExpressions": names},
        })
    };
    let namespace = |name: &str| json!({"kind": "Namespace", "metadata": {"name": name}});
    Cluster {
        objects: vec![
            json!({
                "kind": "Deployment", "metadata": within(metadata("koorde-injector", "injector"), "web"),
                "spec": {"replicas": 1, "template": {"spec": {
                    "serviceAccountName": "koorde-injector", "containers": [{"name": "injector", "args": args}],
                }}},
            }),
            json!({"kind": "Service", "metadata": within(metadata("koorde-injector", "injector"), "web")}),
            json!({
                "kind": "MutatingWebhookConfiguration", "metadata": metadata("koorde-injector", "injector"),
                "webhooks": [webhook("namespace.koorde.dev"), webhook("pod.koorde.dev")],
            }),
            namespace("kube-system"),
            namespace("web"),
            namespace("shop"),
            namespace("default"),
        ],
        ..Cluster::default()
    }
}

fn found(cluster: &Cluster) -> Vec<Finding> {
    check(cluster, &cluster.releases()[0])
}

#[test]
fn it_is_tried_where_pods_are_asked_about() {
    let mut cluster = cluster();
    let place_of = |cluster: &Cluster| place(cluster, &cluster.releases()[0]);
    assert_eq!(place_of(&cluster).as_deref(), Some("default"));
    cluster.objects[5]["metadata"]["labels"] = json!({SWITCH: "enabled"});
    assert_eq!(place_of(&cluster).as_deref(), Some("shop"));
    let mut names =
        json!([{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["web"]}]);
    cluster.objects[2]["webhooks"][0]["namespaceSelector"]["matchExpressions"] = names.take();
    assert_eq!(place_of(&cluster).as_deref(), Some("web"));
}

#[test]
fn a_trial_says_whether_a_pod_gets_its_sidecar() {
    let with = json!({"spec": {"initContainers": [{"name": "koorde"}]}});
    for (made, level) in [
        (Ok(with), Level::Ok),
        (Ok(json!({"spec": {}})), Level::Failed),
        (Err("exceeded quota".to_owned()), Level::Warning),
    ] {
        let mut cluster = cluster();
        let namespace = "default".to_owned();
        cluster.trials.push(Trial { namespace, made });
        let found = found(&cluster);
        assert_eq!(
            found.last().map(|finding| finding.level),
            Some(level),
            "{found:?}"
        );
    }
}

#[test]
fn a_configuration_that_is_gone_or_changed_is_a_failure() {
    assert_eq!(found(&cluster())[0].level, Level::Ok);
    let mut gone = cluster();
    gone.objects.remove(2);
    assert!(
        found(&gone)[0]
            .text
            .contains("there is no MutatingWebhookConfiguration koorde-injector")
    );
    let mut half = cluster();
    half.objects[2]["webhooks"]
        .as_array_mut()
        .expect("a list")
        .pop();
    assert!(
        found(&half)[0]
            .text
            .contains("is not as the chart makes it")
    );
    let mut lost = cluster();
    lost.objects.remove(1);
    assert_eq!(found(&lost)[0].level, Level::Failed);
    let mut strict = cluster();
    strict.objects[2]["webhooks"][1]["failurePolicy"] = "Fail".into();
    assert_eq!(found(&strict)[0].level, Level::Warning);
    strict.objects[0]["spec"]["replicas"] = 2.into();
    assert_eq!(found(&strict)[0].level, Level::Ok);
}

#[test]
fn the_rights_that_are_asked_for_are_those_of_the_chart() {
    let cluster = cluster();
    let asked = rights(&cluster, &cluster.releases()[0]);
    let asked: Vec<String> = asked
        .map(|(user, question)| format!("{user} {}", question.join(" ")))
        .collect();
    let user = "system:serviceaccount:web:koorde-injector";
    assert_eq!(
        asked,
        [
            format!("{user} get  secrets web koorde-injector-certs"),
            format!("{user} update  secrets web koorde-injector-certs"),
            format!(
                "{user} patch admissionregistration.k8s.io mutatingwebhookconfigurations  koorde-injector"
            ),
            format!("{user} create  events default "),
        ]
    );
}

#[test]
fn a_right_that_lacks_is_named_with_the_question_to_ask() {
    let mut cluster = cluster();
    let right = |what: &str, allowed| Right {
        user: Some("system:serviceaccount:web:koorde-injector".into()),
        what: what.into(),
        question: what.into(),
        allowed,
    };
    assert_eq!(found(&cluster)[1].level, Level::Warning);
    cluster.rights = vec![right("get secrets/a", true), right("create events", false)];
    let lacking = &found(&cluster)[1];
    assert_eq!(lacking.level, Level::Failed);
    assert!(
        lacking.details[0].ends_with("koorde-injector may not create events"),
        "{lacking:?}"
    );
    assert!(
        lacking.commands[0].starts_with("kubectl auth can-i create events --as system:"),
        "{lacking:?}"
    );
    cluster.rights.pop();
    assert_eq!(found(&cluster)[1].level, Level::Ok);
}

#[test]
fn a_policy_needs_its_version_and_its_bindings() {
    let binding = |name: &str| {
        json!({
            "kind": "MutatingAdmissionPolicyBinding", "metadata": metadata(name, "injector"),
            "spec": {"policyName": "koorde-injector"},
        })
    };
    let policy = json!({"kind": "MutatingAdmissionPolicy", "metadata": metadata("koorde-injector", "injector")});
    let nodes =
        json!({"kind": "StatefulSet", "metadata": within(metadata("koorde", "node"), "web")});
    let mut cluster = Cluster {
        version: json!({"gitVersion": "v1.36.2"}),
        objects: vec![nodes, policy, binding("a"), binding("b")],
        ..Cluster::default()
    };
    assert_eq!(found(&cluster)[0].level, Level::Ok);
    cluster.version = json!({"gitVersion": "v1.35.0"});
    assert!(found(&cluster)[0].text.contains("needs Kubernetes 1.36"));
    cluster.version = json!({"gitVersion": "v1.36.2"});
    cluster.objects.pop();
    assert!(
        found(&cluster)[0]
            .text
            .contains("has 1 of its two bindings")
    );
}
