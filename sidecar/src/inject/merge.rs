//! Adding to a pod what it lacks of a plan.

use json_patch::PatchOperation;
use serde_json::{Value, json};

use super::{
    CONTAINER, DEFAULT_CONTAINER, LABEL, RECORD, STATUS, VERSION, VOLUME, apps,
    container::{sidecar, token_mount, token_volume},
    draft::Draft,
    plan::Plan,
    record::Record,
    settings::Position,
};

/// The operations; none if nothing is missing.
pub(super) fn merge(pod: &Value, plan: &Plan, former: Option<Record>) -> Vec<PatchOperation> {
    let mut draft = Draft::of(pod);
    let mut record = former.unwrap_or_default();
    container(&mut draft, &mut record, plan);
    volume(&mut draft, &mut record);
    pull_secrets(&mut draft, &mut record, plan);
    let ours = draft
        .named(&["spec", "initContainers"], CONTAINER)
        .unwrap_or(0);
    for index in ours + 1..draft.array(&["spec", "initContainers"]).len() {
        apps::add(&mut draft, &mut record, plan, "initContainers", index);
    }
    for index in 0..draft.array(&["spec", "containers"]).len() {
        apps::add(&mut draft, &mut record, plan, "containers", index);
    }
    metadata(&mut draft, &mut record);
    let text = record.text();
    let has = draft.pod()["metadata"]["annotations"][RECORD] == text.as_str();
    if !has {
        draft.add(&["metadata", "annotations", RECORD], text.into());
    }
    draft.finish()
}

fn container(draft: &mut Draft, record: &mut Record, plan: &Plan) {
    let list = ["spec", "initContainers"];
    let Some(index) = draft.named(&list, CONTAINER) else {
        ensure(draft, record, &list, json!([]));
        let place = match plan.position {
            Position::First => "0",
            Position::Last => "-",
        };
        draft.add(&["spec", "initContainers", place], sidecar(plan));
        return;
    };
    // What other webhooks are known to drop, because they do not know it yet.
    let at = index.to_string();
    let policy = ["spec", "initContainers", &at, "restartPolicy"];
    if draft.get(&policy).is_none() {
        draft.add(&policy, "Always".into());
    }
    let mounts = ["spec", "initContainers", &at, "volumeMounts"];
    if draft.named(&mounts, VOLUME).is_none() {
        draft.ensure(&mounts, json!([]));
        draft.add(
            &["spec", "initContainers", &at, "volumeMounts", "-"],
            token_mount(),
        );
    }
}

fn volume(draft: &mut Draft, record: &mut Record) {
    let list = ["spec", "volumes"];
    if draft.named(&list, VOLUME).is_none() {
        ensure(draft, record, &list, json!([]));
        draft.add(&["spec", "volumes", "-"], token_volume());
    }
}

fn pull_secrets(draft: &mut Draft, record: &mut Record, plan: &Plan) {
    let list = ["spec", "imagePullSecrets"];
    for name in &plan.pull_secrets {
        if draft.named(&list, name).is_none() {
            ensure(draft, record, &list, json!([]));
            draft.add(&["spec", "imagePullSecrets", "-"], json!({"name": name}));
            record.pull_secrets.insert(name.clone());
        }
    }
}

fn metadata(draft: &mut Draft, record: &mut Record) {
    for path in [
        &["metadata"][..],
        &["metadata", "labels"],
        &["metadata", "annotations"],
    ] {
        ensure(draft, record, path, json!({}));
    }
    if draft.get(&["metadata", "labels", LABEL]).is_none() {
        draft.add(&["metadata", "labels", LABEL], "true".into());
        record.labels.insert(LABEL.to_owned());
    }
    let version = env!("CARGO_PKG_VERSION");
    let app = draft.array(&["spec", "containers"]).first();
    let app = app
        .and_then(|app| app["name"].as_str())
        .unwrap_or_default()
        .to_owned();
    for (key, value) in [
        (STATUS, format!("injected v{version}")),
        (VERSION, version.to_owned()),
        (DEFAULT_CONTAINER, app),
    ] {
        if draft.get(&["metadata", "annotations", key]).is_none() {
            draft.add(&["metadata", "annotations", key], value.into());
            record.annotations.insert(key.to_owned());
        }
    }
}

/// Makes a list or object if nothing is there, and remembers what was, once.
fn ensure(draft: &mut Draft, record: &mut Record, path: &[&str], empty: Value) {
    if let Some(was) = draft.ensure(path, empty) {
        record.made.entry(path.join(".")).or_insert(was);
    }
}
