use libkoorde::node::report::MemberReport;
use serde_json::json;

use super::{super::finding::Level, *};

/// A release with three nodes.
fn cluster(views: &[(&str, &[&str])]) -> Cluster {
    let labels = json!({
        "app.kubernetes.io/part-of": "koorde", "app.kubernetes.io/instance": "koorde",
        "app.kubernetes.io/component": "node",
    });
    let mut objects = vec![json!({
        "kind": "StatefulSet", "metadata": {"name": "koorde", "namespace": "web", "labels": labels},
        "spec": {"selector": {"matchLabels": labels}},
    })];
    for index in 0..3 {
        objects.push(json!({
            "kind": "Pod",
            "metadata": {"name": format!("koorde-{index}"), "namespace": "web", "labels": labels},
            "spec": {"containers": [{"name": "koorde", "ports": [{"name": "admin", "containerPort": 9191}]}]},
            "status": {"phase": "Running"},
        }));
    }
    let view = |(node, members): &(&str, &[&str])| View {
        namespace: "web".into(),
        pod: (*node).to_owned(),
        is_sidecar: false,
        ring: Ok(ring(node, members)),
    };
    Cluster {
        objects,
        views: views.iter().map(view).collect(),
        ..Cluster::default()
    }
}

/// A node's report; a name with a question mark is a member in doubt.
fn ring(node: &str, members: &[&str]) -> RingReport {
    let member = |name: &&str| MemberReport {
        name: name.trim_end_matches('?').to_owned(),
        role: "member".to_owned(),
        state: match *name {
            name if name == node => "self",
            name if name.ends_with('?') => "unreachable",
            _ => "alive",
        }
        .to_owned(),
        ..MemberReport::default()
    };
    RingReport {
        node: node.to_owned(),
        state: "active".to_owned(),
        complete: true,
        members: members.iter().map(member).collect(),
        ..RingReport::default()
    }
}

const ALL: &[&str] = &["koorde-0", "koorde-1", "koorde-2"];

fn found(cluster: &Cluster) -> Vec<(Level, String, Vec<String>)> {
    let findings = check(cluster, &cluster.releases()[0]).into_iter();
    findings
        .map(|finding| (finding.level, finding.text, finding.details))
        .collect()
}

#[test]
fn one_ring_whose_nodes_agree_is_one_tick() {
    let found = found(&cluster(&[
        ("koorde-0", ALL),
        ("koorde-1", ALL),
        ("koorde-2", ALL),
    ]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, Level::Ok);
    assert!(
        found[0]
            .1
            .contains("one ring of 3 members, and 3 nodes agree"),
        "{found:?}"
    );
}

#[test]
fn two_rings_are_told_with_who_is_in_which() {
    let pair = &["koorde-0", "koorde-1"][..];
    let found = found(&cluster(&[
        ("koorde-0", pair),
        ("koorde-1", pair),
        ("koorde-2", &["koorde-2"]),
    ]));
    assert_eq!(found[0].0, Level::Failed);
    assert_eq!(found[0].1, "there are 2 rings where one should be");
    assert_eq!(found[0].2, ["koorde-0, koorde-1", "koorde-2"]);
}

#[test]
fn a_node_that_knows_fewer_or_doubts_somebody_is_named() {
    let found = found(&cluster(&[
        ("koorde-0", &["koorde-0", "koorde-1"]),
        ("koorde-1", &["koorde-0", "koorde-1", "koorde-2?"]),
        ("koorde-2", ALL),
    ]));
    let details: Vec<&str> = found
        .iter()
        .flat_map(|(_, _, details)| details)
        .map(String::as_str)
        .collect();
    assert_eq!(
        details,
        [
            "koorde-0 knows 2 of 3: not koorde-2",
            "koorde-1 finds koorde-2 unreachable"
        ]
    );
    assert!(found.iter().all(|(level, ..)| *level == Level::Failed));
}

#[test]
fn a_pod_outside_and_one_that_cannot_be_asked_are_told() {
    let pair = &["koorde-0", "koorde-1"][..];
    let mut cluster = cluster(&[("koorde-0", pair), ("koorde-1", pair)]);
    cluster.views.push(View {
        namespace: "web".into(),
        pod: "koorde-2".into(),
        is_sidecar: false,
        ring: Err("pods \"koorde-2\" is forbidden".into()),
    });
    let found = found(&cluster);
    assert_eq!(found[0].0, Level::Warning);
    assert_eq!(found[0].2, ["pod/koorde-2: pods \"koorde-2\" is forbidden"]);
    assert_eq!(found[1].2, ["pod/koorde-2"]);
}

#[test]
fn edges_are_no_members_and_large_rings_need_not_know_all() {
    let mut cluster = cluster(&[("koorde-0", ALL), ("koorde-1", ALL), ("koorde-2", ALL)]);
    if let Ok(ring) = &mut cluster.views[0].ring {
        let edge = MemberReport {
            name: "job.shop".into(),
            role: "edge".into(),
            state: "alive".into(),
            ..MemberReport::default()
        };
        ring.members.push(edge);
    }
    assert_eq!(found(&cluster)[0].0, Level::Ok);
    if let Ok(ring) = &mut cluster.views[1].ring {
        ring.members.pop();
        ring.complete = false;
    }
    assert_eq!(found(&cluster)[0].0, Level::Ok);
}

#[test]
fn the_admin_port_is_the_pods() {
    let cluster = cluster(&[]);
    let pod = cluster.find("Pod", "web", "koorde-0").expect("it is there");
    assert_eq!(admin_port(pod, false), 9191);
    let env = json!([{"name": "KOORDE_ADMIN__LISTEN", "value": "[::]:4191"}]);
    let pod = json!({"spec": {"initContainers": [{"name": "koorde", "env": env}]}});
    assert_eq!(admin_port(&pod, true), 4191);
    assert_eq!(admin_port(&json!({}), true), 4090);
}
