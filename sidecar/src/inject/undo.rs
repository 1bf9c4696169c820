//! Taking the sidecar out of a pod.

use json_patch::PatchOperation;
use serde_json::Value;

use super::{
    CONTAINER, RECORD, VOLUME,
    apps::merged,
    draft::{Draft, Was},
    facts,
    record::{Env, Record},
};

/// How to take out of a pod (or a pod template) what [`super::inject`] added; empty if that is nothing.
///
/// What others did to the pod since stays as it is.
#[must_use]
pub fn uninject(pod: &Value) -> Vec<PatchOperation> {
    let Some(record) = Record::of(pod).filter(|_| facts::read(pod).is_ok()) else {
        return Vec::new();
    };
    let mut draft = Draft::of(pod);
    remove_named(&mut draft, &["spec", "initContainers"], CONTAINER);
    remove_named(&mut draft, &["spec", "volumes"], VOLUME);
    for secret in &record.pull_secrets {
        remove_named(&mut draft, &["spec", "imagePullSecrets"], secret);
    }
    for (container, env) in &record.env {
        restore(&mut draft, container, env);
    }
    remove(&mut draft, &["metadata", "annotations", RECORD]);
    for key in &record.annotations {
        remove(&mut draft, &["metadata", "annotations", key]);
    }
    for key in &record.labels {
        remove(&mut draft, &["metadata", "labels", key]);
    }
    // What is inside before what is outside: `metadata.labels` comes after `metadata`.
    for (name, was) in record.made.iter().rev() {
        let path: Vec<&str> = name.split('.').collect();
        draft.unmake(&path, *was);
    }
    draft.finish()
}

fn restore(draft: &mut Draft, container: &str, env: &Env) {
    let Some((list, name)) = container.split_once('/') else {
        return;
    };
    let Some(index) = draft.named(&["spec", list], name) else {
        return;
    };
    let index = index.to_string();
    let variables = ["spec", list, &index, "env"];
    for variable in &env.added {
        remove_named(draft, &variables, variable);
    }
    for (variable, was) in &env.was {
        if let Some(at) = draft.named(&variables, variable) {
            let at = at.to_string();
            let [spec, list, index, env] = variables;
            let value = [spec, list, index, env, &at, "value"];
            // What somebody has written since is his.
            let is_ours = draft.get(&value).is_some_and(|value| *value == merged(was));
            if is_ours {
                draft.replace(&value, Value::from(was.as_str()));
            }
        }
    }
    unmake(draft, &variables, env.made);
}

fn unmake(draft: &mut Draft, path: &[&str], was: Option<Was>) {
    if let Some(was) = was {
        draft.unmake(path, was);
    }
}

fn remove_named(draft: &mut Draft, list: &[&str], name: &str) {
    if let Some(index) = draft.named(list, name) {
        let index = index.to_string();
        let mut path = list.to_vec();
        path.push(&index);
        draft.remove(&path);
    }
}

fn remove(draft: &mut Draft, path: &[&str]) {
    if draft.get(path).is_some() {
        draft.remove(path);
    }
}
