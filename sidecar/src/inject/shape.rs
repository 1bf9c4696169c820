//! Where in an object its pods are.

use serde_json::Value;

/// Places of pod templates, by shape and not by kind, so that kinds nobody has heard of work: what most
/// workloads have, a CronJob's, and a pod itself. That one by its kind: others have `spec.containers`, too,
/// that are added to pods of their own (Prometheus, Alertmanager).
const PLACES: [&[&str]; 4] = [
    &[],
    &["spec", "template"],
    &["spec", "jobTemplate", "spec", "template"],
    &["template"],
];

/// Paths of all pods and pod templates in an object, or in the items of a List.
#[must_use]
pub fn templates(object: &Value) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let items = object.get("items").and_then(Value::as_array);
    match items {
        Some(items) => {
            for (index, item) in items.iter().enumerate() {
                let outer = ["items".to_owned(), index.to_string()];
                // A List in a List is none of Kubernetes'.
                found.extend(place(item).map(|path| [&outer[..], &path].concat()));
            }
        }
        None => found.extend(place(object)),
    }
    found
}

fn place(object: &Value) -> Option<Vec<String>> {
    let may_be_pod = matches!(object["kind"].as_str(), None | Some("Pod"));
    let is_pod = |path: &&&[&str]| {
        if path.is_empty() && !may_be_pod {
            return false;
        }
        let place = path.iter().try_fold(object, |value, name| value.get(name));
        let containers = place.and_then(|place| place.get("spec")?.get("containers"));
        containers.is_some_and(Value::is_array)
    };
    let path = PLACES.iter().find(is_pod)?;
    Some(path.iter().map(|&name| name.to_owned()).collect())
}
