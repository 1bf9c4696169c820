use serde_json::json;

use super::{super::cluster::View, *};

/// A pod of a Deployment in `shop`.
fn pod(app: &str, labels: Value) -> Value {
    let mut pod = json!({
        "kind": "Pod",
        "metadata": {
            "name": format!("{app}-5d8f-x"), "namespace": "shop", "labels": labels,
            "ownerReferences": [{"kind": "ReplicaSet", "name": format!("{app}-5d8f"), "controller": true}],
        },
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
        "status": {"phase": "Running"},
    });
    pod["metadata"]["labels"]["pod-template-hash"] = "5d8f".into();
    pod
}

fn settings() -> InjectSettings {
    InjectSettings::parse(
        "{image: koorde:2, seeds: ['koorde-headless:4000'], ring_secret: {name: ring}}",
    )
    .expect("settings")
}

fn injected(app: &str, settings: &InjectSettings) -> Value {
    let mut pod = pod(app, json!({SWITCH: "true"}));
    let Injected::Patch(patch) = inject(&pod, settings) else {
        panic!("it takes a sidecar")
    };
    json_patch::patch(&mut pod, &patch).expect("it fits");
    pod
}

fn cluster(of_namespace: &str, pods: Vec<Value>) -> Cluster {
    let labels = |component: &str| {
        json!({
            "app.kubernetes.io/part-of": "koorde", "app.kubernetes.io/instance": "koorde",
            "app.kubernetes.io/component": component,
        })
    };
    let names =
        json!([{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["web"]}]);
    let text = serde_json::to_string(&settings()).expect("plain data");
    let mut objects = vec![
        json!({"kind": "Namespace", "metadata": {"name": "shop", "labels": {SWITCH: of_namespace}}}),
        json!({
            "kind": "MutatingWebhookConfiguration", "metadata": {"name": "koorde-injector", "labels": labels("injector")},
            "webhooks": [{"namespaceSelector": {"matchExpressions": names}}],
        }),
        json!({
            "kind": "ConfigMap",
            "metadata": {"name": "koorde-injector", "namespace": "web", "labels": labels("injector")},
            "data": {"settings.yaml": text},
        }),
    ];
    for pod in pods {
        let app = name(&pod).split('-').next().expect("a name");
        objects.push(json!({"kind": "Deployment", "metadata": {"name": app, "namespace": "shop"}, "spec": {}}));
        objects.push(pod);
    }
    Cluster {
        objects,
        ..Cluster::default()
    }
}

fn found(cluster: &Cluster) -> Vec<Finding> {
    check(cluster, &cluster.releases())
}

#[test]
fn who_asks_for_a_sidecar_and_has_none_is_told_as_the_webhook_decides() {
    for (of_namespace, own, asks) in [
        ("enabled", None, true),
        ("enabled", Some("true"), true),
        ("enabled", Some("false"), false),
        ("", Some("true"), true),
        // Means nothing on a namespace; the pod's own still does.
        ("true", Some("true"), true),
        ("true", None, false),
        ("", None, false),
        ("", Some("false"), false),
        ("disabled", Some("true"), false),
    ] {
        let labels = own.map_or(json!({}), |own| json!({SWITCH: own}));
        let found = found(&cluster(of_namespace, vec![pod("web", labels)]));
        assert_eq!(
            found.len(),
            usize::from(asks),
            "{of_namespace} {own:?} {found:?}"
        );
    }
}

#[test]
fn the_reason_is_the_one_that_the_injector_would_give() {
    let ask = || json!({SWITCH: "true"});
    let mut host = pod("host", ask());
    host["spec"]["hostNetwork"] = true.into();
    let mut typo = pod("typo", ask());
    typo["metadata"]["annotations"] = json!({"config.koorde.dev/rolle": "edge"});
    let mut done = pod("done", ask());
    done["status"]["phase"] = "Succeeded".into();
    let found = found(&cluster("", vec![pod("old", ask()), host, typo, done]));
    let told: Vec<(&str, &str)> = found
        .iter()
        .map(|finding| (finding.details[0].as_str(), finding.hint.as_str()))
        .collect();
    assert_eq!(told.len(), 3, "{found:?}");
    assert!(told[0].0.contains("old") && told[0].1.starts_with("They are older than the label"));
    assert_eq!(
        found[0].commands,
        ["kubectl -n shop rollout restart deployment/old"]
    );
    assert!(told[1].0.contains("host") && told[1].1.contains("it uses its host's network"));
    assert!(told[2].0.contains("typo") && told[2].1.contains("config.koorde.dev/rolle"));
}

#[test]
fn sidecars_as_new_ones_would_be_are_one_tick_and_others_are_told_apart() {
    let good = found(&cluster("", vec![injected("a", &settings())]));
    assert_eq!(good.len(), 1, "{good:?}");
    assert!(good[0].text.contains("1 pod has its sidecar"), "{good:?}");
    let mut older = settings();
    older.image = "koorde:1".into();
    let mut elsewhere = settings();
    elsewhere.seeds = vec!["other:4000".into()];
    let mut nobody = settings();
    nobody.ring_secret = None;
    let pods = vec![
        injected("a", &older),
        injected("b", &elsewhere),
        injected("c", &nobody),
    ];
    let found = found(&cluster("", pods));
    assert_eq!(found[0].details, ["pod/a-5d8f-x in shop: koorde:1"]);
    assert_eq!(
        found[1].details,
        [
            "pod/b-5d8f-x in shop: meets other:4000",
            "pod/c-5d8f-x in shop: meets koorde-headless:4000"
        ]
    );
}

#[test]
fn a_namespace_without_the_rings_secret_is_told_once() {
    let mut cluster = cluster(
        "",
        vec![injected("a", &settings()), injected("b", &settings())],
    );
    cluster
        .secrets
        .insert(("shop".into(), "ring".into()), false);
    let found = found(&cluster);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].text.contains("where 2 sidecars need it"),
        "{found:?}"
    );
}

#[test]
fn a_sidecar_that_has_seeds_and_met_nobody_is_told() {
    let mut cluster = cluster("", vec![injected("a", &settings())]);
    let ring = libkoorde::node::report::RingReport {
        state: "alone".into(),
        ..Default::default()
    };
    let (namespace, pod) = ("shop".to_owned(), "a-5d8f-x".to_owned());
    cluster.views.push(View {
        namespace,
        pod,
        is_sidecar: true,
        ring: Ok(ring),
    });
    assert_eq!(found(&cluster)[0].details, ["pod/a-5d8f-x in shop: alone"]);
}
