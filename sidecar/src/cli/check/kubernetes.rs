//! The cluster itself: whether it answers, how old it is, what may be seen and made in it.

use super::{
    cluster::{Cluster, items, name, text},
    finding::Finding,
};

const CATEGORY: &str = "kubernetes";
/// Native sidecars are on by default from this minor version on.
const LEAST: u32 = 29;
/// Policies that look for missing sidecars.
const CHECKING: u32 = 30;
/// Policies that add them.
const MUTATING: u32 = 36;

/// The API server does not answer.
pub(super) fn silent(reason: &str) -> Finding {
    Finding::failed(
        CATEGORY,
        format!("the API server cannot be asked: {reason}"),
    )
    .hint("koorde check uses kubectl as you do; --context and --kubeconfig name another cluster.")
    .mend("kubectl config current-context")
    .mend("kubectl cluster-info")
}

/// What holds for every release.
pub(super) fn check(cluster: &Cluster) -> Vec<Finding> {
    let mut findings = vec![Finding::ok(CATEGORY, "the API server answers")];
    findings.extend(version(cluster));
    for (what, why) in &cluster.blind {
        findings.push(
            Finding::warning(CATEGORY, format!("{what} cannot be looked at: {why}")).hint(
                "What is told below leaves it out. Ask as somebody who may see it: --context.",
            ),
        );
    }
    findings
}

fn version(cluster: &Cluster) -> Vec<Finding> {
    let said = text(&cluster.version, "/gitVersion");
    let Some(minor) = cluster.minor() else {
        let text = format!("its version cannot be read: {said:?}");
        return vec![Finding::warning(CATEGORY, text)];
    };
    if minor < LEAST {
        let text = format!("it is {said}, and native sidecars need 1.{LEAST} or later");
        return vec![
            Finding::failed(CATEGORY, text)
                .hint("Upgrade the cluster's control plane and its nodes."),
        ];
    }
    let text = format!("it is {said}, 1.{LEAST} or later");
    vec![Finding::ok(CATEGORY, text)]
}

/// Before the chart is there.
pub(super) fn before(cluster: &Cluster) -> Vec<Finding> {
    let mut findings = check(cluster);
    let minor = cluster.minor().unwrap_or(0);
    if (LEAST..CHECKING).contains(&minor) {
        let text = format!(
            "no policy can tell of pods that come without their sidecar before 1.{CHECKING}"
        );
        findings.push(
            Finding::warning(CATEGORY, text)
                .hint("injector.missing has no effect on this cluster."),
        );
    }
    findings.push(if minor >= MUTATING {
        Finding::ok(CATEGORY, "injector.mode = webhook or policy")
    } else {
        Finding::ok(
            CATEGORY,
            format!("injector.mode = webhook (policy needs 1.{MUTATING})"),
        )
    });
    findings.push(metrics(cluster));
    findings.push(rights(cluster));
    let taken = cluster.of("MutatingWebhookConfiguration");
    let ours = taken.filter(|one| super::cluster::is_ours(one));
    for one in ours {
        let text = format!(
            "there is already a release here: its webhooks are in {}",
            name(one)
        );
        findings.push(
            Finding::warning(CATEGORY, text)
                .hint("helm upgrade changes it; a second one needs another name.")
                .mend("helm list --all-namespaces --filter koorde"),
        );
    }
    findings
}

/// Whether an autoscaler would have numbers.
pub(super) fn metrics(cluster: &Cluster) -> Finding {
    let command = "kubectl get apiservice v1beta1.metrics.k8s.io";
    let Some(service) = cluster.find("APIService", "", "v1beta1.metrics.k8s.io") else {
        return Finding::warning(
            CATEGORY,
            "there is no metrics-server: autoscaling by CPU stands still",
        )
        .hint("Install it (on EKS it is an add-on), or leave autoscaling.enabled off.")
        .mend(command);
    };
    let available = items(service, "/status/conditions")
        .iter()
        .find(|condition| condition["type"] == "Available");
    match available {
        Some(condition) if condition["status"] == "False" => {
            let reason = text(condition, "/message");
            Finding::warning(
                CATEGORY,
                format!("metrics-server does not answer: {reason}"),
            )
            .mend(command)
        }
        _ => Finding::ok(CATEGORY, "metrics-server is there"),
    }
}

fn rights(cluster: &Cluster) -> Finding {
    let lacking: Vec<_> = cluster
        .rights
        .iter()
        .filter(|right| !right.allowed)
        .collect();
    if lacking.is_empty() {
        return Finding::ok(CATEGORY, "you may make what the chart makes");
    }
    Finding::failed(CATEGORY, "you may not make all that the chart makes")
        .about(lacking.iter().map(|right| right.what.clone()))
        .hint("Objects of the whole cluster are the injector's: injector.enabled = false needs none of them.")
        .mend_all(
            lacking
                .iter()
                .map(|right| format!("kubectl auth can-i {}", right.question)),
        )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::{cluster::Right, finding::Level},
        *,
    };

    fn cluster(version: &str) -> Cluster {
        Cluster {
            version: json!({"major": "1", "minor": "33+", "gitVersion": version}),
            ..Cluster::default()
        }
    }

    #[test]
    fn versions_are_read_as_clouds_write_them() {
        for (version, level) in [
            ("v1.33.1-eks-595af52", Level::Ok),
            ("v1.29.0", Level::Ok),
            ("v1.28.15-gke.1641000", Level::Failed),
            ("v1.36.2+k3s1", Level::Ok),
            ("nonsense", Level::Warning),
        ] {
            let findings = version_of(version);
            assert_eq!(findings[0].level, level, "{version}: {findings:?}");
        }
    }

    fn version_of(text: &str) -> Vec<Finding> {
        version(&cluster(text))
    }

    #[test]
    fn what_may_not_be_seen_is_named_and_no_failure() {
        let mut blind = cluster("v1.33.1");
        let why = "pods is forbidden: User \"u\" cannot list resource";
        blind.blind.push(("/api/v1/pods".into(), why.into()));
        let findings = check(&blind);
        let last = findings.last().expect("it is told");
        assert_eq!(last.level, Level::Warning);
        assert!(
            last.text.contains("/api/v1/pods") && last.text.contains("forbidden"),
            "{last:?}"
        );
    }

    #[test]
    fn before_the_chart_rights_and_metrics_are_looked_at() {
        let mut bare = cluster("v1.29.4");
        let right = |what: &str, allowed| Right {
            user: None,
            what: what.into(),
            question: what.into(),
            allowed,
        };
        bare.rights = vec![
            right("create services", true),
            right("create clusterroles.rbac.authorization.k8s.io", false),
        ];
        let levels = |cluster: &Cluster| -> Vec<Level> {
            before(cluster)
                .iter()
                .map(|finding| finding.level)
                .collect()
        };
        let (ok, warning, failed) = (Level::Ok, Level::Warning, Level::Failed);
        assert_eq!(levels(&bare), [ok, ok, warning, ok, warning, failed]);
        let mut good = cluster("v1.36.0");
        let condition = json!({"type": "Available", "status": "True"});
        good.objects.push(json!({
            "kind": "APIService", "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "status": {"conditions": [condition]},
        }));
        assert_eq!(levels(&good), [ok; 5]);
    }
}
