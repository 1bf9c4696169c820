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
        "seccompProfile": {"type": "RuntimeDefault"},
    });
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
        "startupProbe": {
            "tcpSocket": {"port": plan.ports.ring},
            "periodSeconds": 1,
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

/// An empty volume.
pub(super) fn token_volume() -> Value {
    json!({"name": VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "4Ki"}})
}
