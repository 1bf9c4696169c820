//! Adding the sidecar to a pod, and taking it out again: pure functions from JSON to a JSON patch.
//!
//! The webhook, `koorde inject` and the tests use the same two functions, [`inject`] and
//! [`uninject`]. They read and change raw JSON: a field that this version of koorde does not know is
//! never lost on the way, as it would be in a typed pod.
//!
//! ```
//! use koorde_sidecar::inject::{Injected, InjectSettings, inject};
//!
//! let mut pod = serde_json::json!({"spec": {"containers": [{"name": "app", "image": "app:1"}]}});
//! let Injected::Patch(patch) = inject(&pod, &InjectSettings::default()) else { unreachable!() };
//! json_patch::patch(&mut pod, &patch)?;
//! assert_eq!(pod["spec"]["initContainers"][0]["name"], "koorde");
//! assert_eq!(pod["spec"]["containers"][0]["env"][0]["value"], "http://127.0.0.1:4080");
//! # Ok::<(), json_patch::PatchError>(())
//! ```
//!
//! # What is added, and why so
//! - A **native sidecar** (Kubernetes ≥ 1.29), first of the init containers: it is there before every
//!   other container, ends after the last, and a Job completes.
//! - A **startup probe** by a command that asks the admin listener, which answers once all are bound: the app
//!   starts when the sidecar can answer, whether or not there is a ring, and no mesh is in between. **No readiness probe**: a sidecar's counts for
//!   the pod's, and trouble with the cache must not take an app out of rotation. **No liveness probe**:
//!   the doors are on loopback, where the kubelet cannot reach them, and what it can reach, an open port,
//!   tells nothing; a process that ends is started again anyway.
//! - **Resources**, always: an autoscaler on CPU needs the request, and a quota both. The memory limit is
//!   twice the store's capacity.
//! - A `securityContext` that Pod Security's profile `restricted` admits, and no user: the image's is
//!   65532, and OpenShift chooses its own. Only in a pod whose own user is root is it named.
//! - A volume without a token where the **service account's token** would be mounted: the sidecar needs none.
//! - `KOORDE_ENDPOINT` in every container that starts later and has none; on request the variables
//!   that make HTTP clients use a proxy.
//!
//! Every operation adds something, but for a merged `NO_PROXY`, whose former value is kept; nothing that
//! was there is moved or written anew, so other webhooks may run before and after. What was done is kept
//! in an annotation, so that [`uninject`] gives back exactly what was there.

mod annotations;
mod apps;
mod container;
mod draft;
mod facts;
mod merge;
mod plan;
mod ports;
mod quantity;
mod record;
mod resources;
mod settings;
mod shape;
mod undo;

use json_patch::PatchOperation;
use serde_json::Value;

pub use facts::Skip;
pub use settings::{
    Admin, InjectSettings, IpFamily, Ports, Position, PullPolicy, Resources, RingSecret, Role,
};
pub use shape::templates;
pub use undo::uninject;

/// Name of the sidecar's container.
pub const CONTAINER: &str = "koorde";
/// The variable that says where the sidecar is.
pub const ENDPOINT: &str = "KOORDE_ENDPOINT";
/// The switch: a label of pods (`true`, `false`) and namespaces (`enabled`).
pub const SWITCH: &str = "koorde.dev/inject";
/// A label of pods that have a sidecar, for policies and monitors to select by.
pub const LABEL: &str = "koorde.dev/sidecar";
/// An annotation: what became of the pod.
pub const STATUS: &str = "koorde.dev/inject-status";
/// An annotation: which version of koorde the sidecar was made by.
pub const VERSION: &str = "koorde.dev/sidecar-version";
/// An annotation: what was added, for [`uninject`].
pub const RECORD: &str = "koorde.dev/injected";
/// What a pod's own settings begin with.
pub const CONFIG: &str = "config.koorde.dev/";

const VOLUME: &str = "koorde-no-token";
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// What [`inject`] says about a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Injected {
    /// Apply this, in order (RFC 6902). Never empty.
    Patch(Vec<PatchOperation>),
    /// Leave it as it is.
    Skip(Skip),
    /// Do not let it through: it asks for something that does not exist. The message names the key, the
    /// value and what is allowed.
    Refuse(String),
}

/// How to give a pod (or a pod template: whatever has `metadata` and `spec`) its sidecar.
///
/// A pod that has all of it is skipped; where another webhook has added a container or dropped something
/// since, only what is missing is added.
#[must_use]
pub fn inject(pod: &Value, settings: &InjectSettings) -> Injected {
    let facts = match facts::read(pod) {
        Ok(facts) => facts,
        Err(skip) => return Injected::Skip(skip),
    };
    match facts.switch {
        None | Some("true") => {}
        Some("false") => return Injected::Skip(Skip::ToldNotTo),
        Some(other) => {
            return Injected::Refuse(format!(
                "label {SWITCH} = {other:?}: must be \"true\" or \"false\""
            ));
        }
    }
    let plan = annotations::read(pod, settings).and_then(|asked| plan::make(&facts, &asked));
    let plan = match plan {
        Ok(plan) => plan,
        Err(message) => return Injected::Refuse(message),
    };
    if let Some(skip) = facts.obstacle(&plan) {
        return Injected::Skip(skip);
    }
    let patch = merge::merge(pod, &plan, facts.record);
    if patch.is_empty() {
        Injected::Skip(Skip::AlreadyInjected)
    } else {
        Injected::Patch(patch)
    }
}

/// Whether a pod has a sidecar that [`inject`] made.
#[must_use]
pub fn is_injected(pod: &Value) -> bool {
    record::Record::of(pod).is_some()
}
