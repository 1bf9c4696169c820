//! The sidecar as a container.

use serde_json::{Value, json};

use super::{CONTAINER, VOLUME, plan::Plan, settings::Admin};

/// The user of the image.
const USER: u32 = 65_532;

/// The container.
pub(super) fn sidecar(plan: &Plan) -> Value {
    let mut security = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
    });
    if plan.seccomp_profile {
        security["seccompProfile"] = json!({"type": "RuntimeDefault"});
    }
    if plan.names_user {
        // The pod's `runAsUser: 0` would be ours, too, and `runAsNonRoot` then keeps the pod from starting.
        security["runAsUser"] = USER.into();
    }
    let mut ports = vec![json!({"containerPort": plan.ports.ring, "protocol": "TCP"})];
    if plan.admin == Admin::Pod {
        ports.push(json!({"containerPort": plan.ports.admin, "protocol": "TCP"}));
    }
    json!({
        "name": CONTAINER,
        "image": plan.image,
        "imagePullPolicy": plan.pull_policy,
        "args": ["serve"],
        "restartPolicy": "Always",
        "env": plan.env,
        "ports": ports,
        // By a command and not by a port: meshes that redirect a pod's connections, as with Istio's CNI plugin, redirect
        // the kubelet's, too, to a proxy that starts after us.
        "startupProbe": {
            "exec": {"command": [
                "/usr/bin/koorde", "ring", "--admin", format!("http://127.0.0.1:{}", plan.ports.admin),
            ]},
            "periodSeconds": 1,
            "timeoutSeconds": 2,
            "failureThreshold": 60,
        },
        "resources": plan.resources,
        "securityContext": security,
        "volumeMounts": [token_mount()],
    })
}

/// Covers the place where the service account's token would be mounted.
pub(super) fn token_mount() -> Value {
    json!({
        "name": VOLUME,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        "readOnly": true,
    })
}

/// A volume without a token: the pod's name. An empty one would keep `kubectl drain` and autoscalers from
/// evicting the pod, as if something were lost with it.
pub(super) fn token_volume() -> Value {
    let name = json!({"path": "name", "fieldRef": {"fieldPath": "metadata.name"}});
    json!({"name": VOLUME, "downwardAPI": {"items": [name]}})
}
