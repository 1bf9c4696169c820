//! Asking the cluster for everything that the checks look at, a few questions at once.

use futures_util::{StreamExt as _, stream};
use libkoorde::node::report::RingReport;
use serde_json::Value;

use super::{
    cluster::{Cluster, Release, Right, View, items, label, name, namespace, sidecar, text},
    kubectl::{Kubectl, Trouble, access_review},
    trial,
};
use crate::inject::{LABEL, SWITCH};

/// Processes of kubectl at once.
const AT_ONCE: usize = 6;
/// Nodes of a ring that are asked for their view.
const MAX_NODES: usize = 60;
/// Sidecars that are asked for theirs: a sample.
const MAX_SIDECARS: usize = 10;
/// What `--pre` asks for: what the chart makes.
const MADE: [(&str, &str); 11] = [
    ("", "configmaps"),
    ("", "secrets"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("apps", "deployments"),
    ("apps", "statefulsets"),
    ("policy", "poddisruptionbudgets"),
    ("networking.k8s.io", "networkpolicies"),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
    ),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
];

/// What is to be known before the chart is installed.
pub(super) async fn before(kubectl: &Kubectl, cluster: &mut Cluster, namespace: &str) {
    lists(
        kubectl,
        cluster,
        &[
            "/apis/apiregistration.k8s.io/v1/apiservices",
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
        ],
    )
    .await;
    let is_wide = |resource: &str| resource.starts_with("cluster") || resource.contains("webhook");
    let questions = MADE.iter().map(|(group, resource)| {
        let namespace = if is_wide(resource) { "" } else { namespace };
        (None, ["create", group, resource, namespace, ""])
    });
    rights(kubectl, cluster, questions.collect()).await;
}

/// Everything.
pub(super) async fn all(kubectl: &Kubectl, cluster: &mut Cluster, only: Option<&str>) {
    let ours = "labelSelector=app.kubernetes.io/part-of%3Dkoorde";
    let admission = "/apis/admissionregistration.k8s.io/v1";
    let mut paths = vec![
        "/api/v1/namespaces".to_owned(),
        "/apis/apps/v1/deployments".to_owned(),
        "/apis/apps/v1/statefulsets".to_owned(),
        "/apis/apps/v1/daemonsets".to_owned(),
        "/apis/batch/v1/cronjobs".to_owned(),
        "/apis/apiregistration.k8s.io/v1/apiservices".to_owned(),
        format!("/api/v1/services?{ours}"),
        format!("/api/v1/configmaps?{ours}"),
        format!("/api/v1/pods?labelSelector={LABEL}%3Dtrue"),
        format!("/api/v1/pods?labelSelector={SWITCH}"),
        format!("{admission}/mutatingwebhookconfigurations?{ours}"),
    ];
    let minor = cluster.minor().unwrap_or(0);
    let policies = [("validating", 30), ("mutating", 36)];
    for (kind, _) in policies.iter().filter(|(_, since)| minor >= *since) {
        paths.push(format!("{admission}/{kind}admissionpolicies?{ours}"));
        paths.push(format!("{admission}/{kind}admissionpolicybindings?{ours}"));
    }
    lists(kubectl, cluster, &paths).await;

    let mut paths = Vec::new();
    for one in cluster.of("Namespace") {
        if label(one, SWITCH) == "enabled" {
            paths.push(format!("/api/v1/namespaces/{}/pods", name(one)));
        }
    }
    for release in &wanted(cluster, only) {
        for kind in [
            "api/v1/namespaces/{}/pods",
            "apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
            "apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
            "apis/policy/v1/namespaces/{}/poddisruptionbudgets",
            "api/v1/namespaces/{}/serviceaccounts",
            // All of them, as pods may refer to others than ours.
            "api/v1/namespaces/{}/configmaps",
        ] {
            paths.push(format!("/{}", kind.replace("{}", release.namespace)));
        }
    }
    paths.sort_unstable();
    paths.dedup();
    lists(kubectl, cluster, &paths).await;
    once(&mut cluster.objects);
    secrets(kubectl, cluster, only).await;
    questions(kubectl, cluster, only).await;
    let places = wanted(cluster, only);
    let places = places
        .iter()
        .filter_map(|release| super::webhook::place(cluster, release));
    let places = places.collect();
    trial::make(kubectl, cluster, places).await;
    views(kubectl, cluster, only).await;
}

fn wanted<'a>(cluster: &'a Cluster, only: Option<&str>) -> Vec<Release<'a>> {
    let all = cluster.releases().into_iter();
    all.filter(|release| only.is_none_or(|only| only == release.namespace))
        .collect()
}

/// The same pod comes by its label, by its namespace's label and with its release.
fn once(objects: &mut Vec<Value>) {
    let mut known = std::collections::BTreeSet::new();
    objects.retain(|object| {
        let key = [text(object, "/kind"), namespace(object), name(object)].map(str::to_owned);
        known.insert(key)
    });
}

async fn lists(kubectl: &Kubectl, cluster: &mut Cluster, paths: &[impl AsRef<str>]) {
    let answers = stream::iter(paths)
        .map(|path| async { (path.as_ref(), kubectl.list(path.as_ref()).await) })
        .buffered(AT_ONCE);
    let answers: Vec<_> = answers.collect().await;
    for (path, answer) in answers {
        match answer {
            Ok(objects) => cluster.objects.extend(objects),
            // Kinds that this cluster does not serve have no objects.
            Err(Trouble::NotFound) => {}
            Err(trouble) => {
                let what = path.split('?').next().unwrap_or_default().to_owned();
                cluster.blind.push((what, trouble.text().to_owned()));
            }
        }
    }
}

/// Secrets that pods refer to, and the certificates of injectors.
async fn secrets(kubectl: &Kubectl, cluster: &mut Cluster, only: Option<&str>) {
    let mut names = Vec::new();
    let mut served = Vec::new();
    for release in wanted(cluster, only) {
        let mut parts = [release.nodes, release.injector].into_iter().flatten();
        for part in &mut parts {
            let secrets = super::install::secrets(&part["spec"]["template"]);
            names.extend(secrets.map(|name| (release.namespace.to_owned(), name.to_owned())));
        }
        let secret = release.injector.and_then(super::trust::secret);
        served.extend(secret.map(|name| (release.namespace.to_owned(), name.to_owned())));
    }
    for pod in cluster.of("Pod") {
        let secret = sidecar(pod).and_then(super::sidecars::ring_secret);
        names.extend(secret.map(|name| (namespace(pod).to_owned(), name.to_owned())));
    }
    names.sort_unstable();
    names.dedup();
    let answers = stream::iter(names)
        .map(|(namespace, name)| async {
            let answer = kubectl.has_secret(&namespace, &name).await;
            ((namespace, name), answer)
        })
        .buffered(AT_ONCE);
    for (key, answer) in answers.collect::<Vec<_>>().await {
        match answer {
            Ok(is_there) => drop(cluster.secrets.insert(key, is_there)),
            Err(trouble) => blind(cluster, "secret", &key, &trouble),
        }
    }
    for key in served {
        match kubectl.certificate(&key.0, &key.1).await {
            Ok(cert) => drop(cluster.certificates.insert(key, cert)),
            // That it is missing is told by what refers to it.
            Err(Trouble::NotFound) => {}
            Err(trouble) => blind(cluster, "secret", &key, &trouble),
        }
    }
}

fn blind(cluster: &mut Cluster, kind: &str, key: &(String, String), trouble: &Trouble) {
    let what = format!("{kind} {}/{}", key.0, key.1);
    cluster.blind.push((what, trouble.text().to_owned()));
}

/// Whether injectors may do what they have to.
async fn questions(kubectl: &Kubectl, cluster: &mut Cluster, only: Option<&str>) {
    let mut all: Vec<(Option<String>, [String; 5])> = Vec::new();
    for release in wanted(cluster, only) {
        let asked = super::webhook::rights(cluster, &release);
        all.extend(asked.map(|(user, question)| (Some(user), question)));
    }
    let all = all.iter().map(|(user, question)| {
        let [verb, group, resource, namespace, name] = question;
        let question = [verb, group, resource, namespace, name].map(String::as_str);
        (user.as_deref(), question)
    });
    rights(kubectl, cluster, all.collect()).await;
}

async fn rights(
    kubectl: &Kubectl,
    cluster: &mut Cluster,
    questions: Vec<(Option<&str>, [&str; 5])>,
) {
    let answers = stream::iter(questions)
        .map(|(user, question)| async move {
            let (path, review) = access_review(user, question);
            (user, question, kubectl.post(&path, &review).await)
        })
        .buffered(AT_ONCE);
    for (user, [verb, group, resource, namespace, name], answer) in
        answers.collect::<Vec<_>>().await
    {
        let dot = if group.is_empty() { "" } else { "." };
        let slash = if name.is_empty() { "" } else { "/" };
        let place = if namespace.is_empty() {
            String::new()
        } else {
            format!(" -n {namespace}")
        };
        let what = format!("{verb} {resource}{dot}{group}{slash}{name}");
        match answer {
            Ok(answer) => cluster.rights.push(Right {
                user: user.map(str::to_owned),
                question: format!("{what}{place}"),
                what,
                allowed: answer["status"]["allowed"] == true,
            }),
            Err(trouble) => {
                let what = format!("the right to {what}");
                cluster.blind.push((what, trouble.text().to_owned()));
            }
        }
    }
}

/// What nodes and some sidecars say of their ring: by a command in their own container, which reaches the admin
/// listener wherever it is bound, and past any NetworkPolicy.
async fn views(kubectl: &Kubectl, cluster: &mut Cluster, only: Option<&str>) {
    let mut asked = Vec::new();
    for release in wanted(cluster, only) {
        let pods = super::ring::nodes(cluster, &release).into_iter();
        asked.extend(pods.take(MAX_NODES).map(|pod| (pod, false)));
    }
    let sidecars = cluster
        .of("Pod")
        .filter(|pod| sidecar(pod).is_some() && pod["status"]["phase"] == "Running");
    asked.extend(sidecars.take(MAX_SIDECARS).map(|pod| (pod, true)));
    let answers = stream::iter(asked)
        .map(|(pod, is_sidecar)| async move {
            let port = super::ring::admin_port(pod, is_sidecar);
            View {
                namespace: namespace(pod).to_owned(),
                pod: name(pod).to_owned(),
                is_sidecar,
                ring: view(kubectl, pod, port).await,
            }
        })
        .buffered(AT_ONCE);
    let views = answers.collect::<Vec<_>>().await;
    cluster.views = views;
}

async fn view(kubectl: &Kubectl, pod: &Value, port: u16) -> Result<RingReport, String> {
    let place = [namespace(pod), name(pod), "koorde"];
    let admin = format!("http://127.0.0.1:{port}");
    let command = ["/usr/bin/koorde", "ring", "--json", "--admin", &admin];
    let mut answer = kubectl.exec(place, &command).await;
    let is_open = items(pod, "/spec/containers")
        .iter()
        .any(|container| container["name"] == "koorde");
    if answer.is_err() && is_open {
        // Whoever may not run commands in pods may perhaps reach them through the API server.
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}:{port}/proxy/debug/ring",
            place[0], place[1]
        );
        if let Ok(other) = kubectl.get(&path).await {
            answer = Ok(other);
        }
    }
    let report = answer.map_err(|trouble| trouble.text().to_owned())?;
    serde_json::from_value(report).map_err(|error| format!("its report is not understood: {error}"))
}
