//! The way of a new pod to its sidecar: the webhook or the policy, whom they ask about, what the injector may.

use serde_json::Value;

use super::{
    cluster::{Cluster, Release, Trial, items, label, name, sidecar, text},
    finding::Finding,
};
use crate::inject::SWITCH;

/// Where the objects of policies are served.
const MUTATING: u32 = 36;

/// One release's injector; nothing if it has none.
pub(super) fn check(cluster: &Cluster, release: &Release<'_>) -> Vec<Finding> {
    let category = category(release);
    let policies: Vec<&Value> = cluster
        .cluster_wide("MutatingAdmissionPolicy", release)
        .collect();
    let mut findings = Vec::new();
    if let Some(injector) = release.injector {
        findings.extend(configuration(cluster, release, injector));
        findings.push(may(cluster, release, injector));
    }
    for policy in &policies {
        findings.extend(policy_findings(cluster, release, policy));
    }
    if findings.is_empty() {
        return findings;
    }
    findings.extend(missing(cluster, release));
    let tried = place(cluster, release);
    let tried = tried.and_then(|place| cluster.trials.iter().find(|one| one.namespace == place));
    findings.extend(tried.map(|trial| trial_finding(&category, trial, release)));
    findings
}

pub(super) fn category(release: &Release<'_>) -> String {
    format!("injector {}/{}", release.namespace, release.name)
}

/// The release's MutatingWebhookConfiguration.
pub(super) fn webhooks<'a>(cluster: &'a Cluster, release: &'a Release<'_>) -> Option<&'a Value> {
    let mut all = cluster.cluster_wide("MutatingWebhookConfiguration", release);
    all.next()
}

fn configuration(cluster: &Cluster, release: &Release<'_>, injector: &Value) -> Vec<Finding> {
    let category = category(release);
    let upgrade = format!("helm -n {} upgrade {} …", release.namespace, release.name);
    let Some(found) = webhooks(cluster, release) else {
        let text = format!(
            "there is no MutatingWebhookConfiguration {}",
            name(injector)
        );
        return vec![
            Finding::failed(&category, text)
                .hint("No pod gets a sidecar. The chart makes it.")
                .mend(upgrade),
        ];
    };
    let named = format!("mutatingwebhookconfiguration/{}", name(found));
    let entries = items(found, "/webhooks");
    let service = |entry: &Value| {
        let service = &entry["clientConfig"]["service"];
        (
            text(service, "/namespace").to_owned(),
            text(service, "/name").to_owned(),
        )
    };
    let is_lost = |entry: &&Value| {
        let (namespace, name) = service(entry);
        cluster.find("Service", &namespace, &name).is_none()
    };
    if entries.len() < 2 || entries.iter().any(|entry| is_lost(&entry)) {
        let text = format!("{named} is not as the chart makes it");
        return vec![
            Finding::failed(&category, text)
                .hint("It has two webhooks, by the namespace's label and by the pod's, and names the injector's Service.")
                .mend(upgrade),
        ];
    }
    let replicas = injector["spec"]["replicas"].as_u64().unwrap_or(1);
    let strict = entries.iter().any(|entry| entry["failurePolicy"] == "Fail");
    let seconds = entries[0]["timeoutSeconds"].as_u64().unwrap_or(10);
    vec![if strict && replicas < 2 {
        let text =
            format!("{named}: failurePolicy is Fail, and there is one replica of the injector");
        Finding::warning(&category, text)
            .hint("While its host is drained, no pod that asks for a sidecar starts.")
            .mend(format!(
                "kubectl -n {} scale deployment/{} --replicas=2",
                release.namespace,
                name(injector)
            ))
    } else {
        let policy = if strict { "Fail" } else { "Ignore" };
        let text = format!("{named}: failurePolicy {policy}, {seconds} s at most");
        Finding::ok(&category, text)
    }]
}

fn policy_findings(cluster: &Cluster, release: &Release<'_>, policy: &Value) -> Vec<Finding> {
    let category = category(release);
    let named = format!("mutatingadmissionpolicy/{}", name(policy));
    if cluster.minor().is_some_and(|minor| minor < MUTATING) {
        let text = format!("{named} needs Kubernetes 1.{MUTATING} or later");
        return vec![Finding::failed(&category, text).hint("Use injector.mode = webhook.")];
    }
    let bindings = cluster
        .cluster_wide("MutatingAdmissionPolicyBinding", release)
        .filter(|one| text(one, "/spec/policyName") == name(policy));
    let bindings = bindings.count();
    vec![if bindings < 2 {
        let text = format!("{named} has {bindings} of its two bindings");
        Finding::failed(&category, text)
            .hint("It has one by the namespace's label and one by the pod's.")
            .mend(format!(
                "helm -n {} upgrade {} …",
                release.namespace, release.name
            ))
    } else {
        Finding::ok(&category, format!("{named} is bound"))
    }]
}

/// The policy that tells of pods without their sidecar.
fn missing(cluster: &Cluster, release: &Release<'_>) -> Option<Finding> {
    let mut policies = cluster.cluster_wide("ValidatingAdmissionPolicy", release);
    let policy = policies.next()?;
    let named = format!("validatingadmissionpolicy/{}", name(policy));
    let mut bindings = cluster
        .cluster_wide("ValidatingAdmissionPolicyBinding", release)
        .filter(|one| text(one, "/spec/policyName") == name(policy));
    Some(match bindings.next() {
        None => Finding::warning(
            &category(release),
            format!("{named} has no binding: nobody is told of pods without their sidecar"),
        ),
        Some(binding) => {
            let actions = items(binding, "/spec/validationActions").iter();
            let actions: Vec<&str> = actions.filter_map(Value::as_str).collect();
            let text = format!(
                "{named} looks for pods without their sidecar ({})",
                actions.join(", ")
            );
            Finding::ok(&category(release), text)
        }
    })
}

/// A flag of the injector.
pub(super) fn flag<'a>(injector: &'a Value, flag: &str) -> Option<&'a str> {
    let args = items(injector, "/spec/template/spec/containers/0/args");
    let at = args.iter().position(|arg| arg == flag)?;
    args.get(at + 1)?.as_str()
}

/// The rights that the injector needs, as questions: its service account, and verb, group, resource, namespace
/// and name.
pub(super) fn rights(
    cluster: &Cluster,
    release: &Release<'_>,
) -> impl Iterator<Item = (String, [String; 5])> + use<> {
    let mut questions = Vec::new();
    if let Some(injector) = release.injector {
        let own = |all: [&str; 5]| all.map(str::to_owned);
        let here = release.namespace;
        if let (Some(secret), Some(configuration)) = (
            flag(injector, "--secret"),
            flag(injector, "--configuration"),
        ) {
            questions.push(own(["get", "", "secrets", here, secret]));
            questions.push(own(["update", "", "secrets", here, secret]));
            let group = "admissionregistration.k8s.io";
            let resource = "mutatingwebhookconfigurations";
            questions.push(own(["patch", group, resource, "", configuration]));
        }
        let events = place(cluster, release);
        let events = events.unwrap_or_else(|| here.to_owned());
        questions.push(own(["create", "", "events", &events, ""]));
    }
    let user = account(release);
    questions
        .into_iter()
        .map(move |question| (user.clone(), question))
}

fn account(release: &Release<'_>) -> String {
    let account = release.injector.map_or("", |injector| {
        text(injector, "/spec/template/spec/serviceAccountName")
    });
    format!("system:serviceaccount:{}:{account}", release.namespace)
}

fn may(cluster: &Cluster, release: &Release<'_>, injector: &Value) -> Finding {
    let category = category(release);
    let user = account(release);
    let ours = cluster.rights.iter();
    let ours: Vec<_> = ours
        .filter(|right| right.user.as_ref() == Some(&user))
        .collect();
    let lacking: Vec<_> = ours.iter().filter(|right| !right.allowed).collect();
    if ours.is_empty() {
        return Finding::warning(&category, "what the injector may do is not known");
    }
    if lacking.is_empty() {
        return Finding::ok(&category, "the injector may do what it has to");
    }
    Finding::failed(&category, "the injector may not do all that it has to")
        .about(
            lacking
                .iter()
                .map(|right| format!("{user} may not {}", right.what)),
        )
        .hint("The chart makes its Role and ClusterRole with their bindings.")
        .mend_all(
            lacking
                .iter()
                .map(|right| format!("kubectl auth can-i {} --as {user}", right.question)),
        )
        .mend(format!(
            "kubectl -n {} logs deployment/{}",
            release.namespace,
            name(injector)
        ))
}

/// Whether a release injects into pods of a namespace, by its name; labels are another question.
pub(super) fn is_asked_about(cluster: &Cluster, release: &Release<'_>, namespace: &str) -> bool {
    let by_policy = cluster
        .cluster_wide("MutatingAdmissionPolicyBinding", release)
        .map(|one| &one["spec"]["matchResources"]);
    let by_webhook = webhooks(cluster, release).map(|one| &one["webhooks"][0]);
    let Some(asked) = by_webhook.into_iter().chain(by_policy).next() else {
        return false;
    };
    let mut names = items(asked, "/namespaceSelector/matchExpressions").iter();
    let names = names.find(|one| one["key"] == "kubernetes.io/metadata.name");
    let is_named = names.is_some_and(|names| {
        let mut values = items(names, "/values").iter();
        values.any(|value| value == namespace)
    });
    let is_in = names.is_some_and(|names| names["operator"] == "In");
    is_named == is_in && !namespace.starts_with("kube-")
}

/// The namespace to try it in: one that asks for sidecars, or else none that says no.
pub(super) fn place(cluster: &Cluster, release: &Release<'_>) -> Option<String> {
    let all = cluster.of("Namespace").filter(|one| {
        one["metadata"]["deletionTimestamp"].is_null()
            && is_asked_about(cluster, release, name(one))
    });
    let rank = |namespace: &&Value| match label(namespace, SWITCH) {
        "enabled" => 0,
        "disabled" => 3,
        _ if name(namespace) == "default" => 1,
        _ => 2,
    };
    all.min_by_key(rank).map(|one| name(one).to_owned())
}

fn trial_finding(category: &str, trial: &Trial, release: &Release<'_>) -> Finding {
    let place = format!("a pod of namespace {}, made in a dry run,", trial.namespace);
    match &trial.made {
        Ok(pod) if sidecar(pod).is_some() => {
            Finding::ok(category, format!("{place} gets its sidecar"))
        }
        Ok(_) => {
            let finding = Finding::failed(category, format!("{place} comes without a sidecar"));
            match release.injector {
                Some(injector) => finding
                    .hint(
                        "API servers must reach the webhook's port and trust its certificate. On EKS: the nodes' security \
                         group, or injector.hostNetwork = true.",
                    )
                    .mend(format!("kubectl -n {} logs deployment/{}", release.namespace, name(injector))),
                None => finding.hint("The policy's matchConditions leave it out, or another policy changes it."),
            }
        }
        Err(reason) => Finding::warning(category, format!("{place} is refused: {reason}"))
            .hint("What refuses it is asked before or after us, or you may not make pods there."),
    }
}

#[cfg(test)]
mod tests;
