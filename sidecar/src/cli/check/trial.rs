//! A pod that is made in a dry run: the whole way, from the API server through the network, the certificate and
//! the webhook, or through the policy. Nothing is kept of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    cluster::{Cluster, Trial},
    kubectl::Kubectl,
};
use crate::inject::{InjectSettings, SWITCH};

/// One in each of these namespaces.
pub(super) async fn make(kubectl: &Kubectl, cluster: &mut Cluster, places: BTreeSet<String>) {
    for namespace in places {
        let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
        let made = kubectl.post(&path, &pod()).await;
        let made = made.map_err(|trouble| trouble.text().to_owned());
        cluster.trials.push(Trial { namespace, made });
    }
}

/// One that every profile of Pod Security and every quota admits, and that would do nothing.
fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "koorde-check", "labels": {SWITCH: "true"}},
        "spec": {
            "restartPolicy": "Always",
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app",
                "image": InjectSettings::default().image,
                "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"cpu": "10m", "memory": "16Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}
