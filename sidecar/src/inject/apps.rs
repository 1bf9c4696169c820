//! The variables of the pod's other containers.

use serde_json::{Value, json};

use super::{
    ENDPOINT,
    annotations::Proxied,
    draft::Draft,
    plan::Plan,
    record::{Env, Record},
};

/// Where no proxy is to be used: here, metadata and credentials of clouds, and the cluster.
const NO_PROXY: &str = "localhost,127.0.0.1,::1,169.254.169.254,169.254.170.2,169.254.170.23,\
fd00:ec2::254,fd00:ec2::23,.svc,.cluster.local,$(KUBERNETES_SERVICE_HOST)";

/// Upper and lower case: curl reads `http_proxy` only in lower case. Not `HTTPS_PROXY`: what goes through
/// a CONNECT tunnel cannot be cached.
const PROXY: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Adds to one container what it lacks.
pub(super) fn add(draft: &mut Draft, record: &mut Record, plan: &Plan, list: &str, index: usize) {
    let at = index.to_string();
    let path = ["spec", list, &at];
    let container = draft.get(&path).unwrap_or(&Value::Null);
    let Some(name) = container["name"].as_str().map(str::to_owned) else {
        return;
    };
    let mut wanted = Vec::new();
    if variable(container, ENDPOINT).is_none() {
        wanted.push((ENDPOINT, plan.endpoint()));
    }
    let key = format!("{list}/{name}");
    let mut done = record.env.get(&key).cloned().unwrap_or_default();
    if is_proxied(plan, list, &name, container) && !has_own_proxy(container, &done) {
        for name in PROXY {
            if variable(container, name).is_none() {
                wanted.push((name, plan.endpoint()));
            }
        }
        except(draft, &mut done, list, &at, &mut wanted);
    }
    let variables = ["spec", list, &at, "env"];
    if !wanted.is_empty()
        && let Some(was) = draft.ensure(&variables, json!([]))
    {
        done.made = done.made.or(Some(was));
    }
    for (name, value) in wanted {
        draft.add(
            &["spec", list, &at, "env", "-"],
            json!({"name": name, "value": value}),
        );
        done.added.insert(name.to_owned());
    }
    if done != Env::default() {
        record.env.insert(key, done);
    }
}

/// The lists of exceptions: ours, after what was there.
fn except(
    draft: &mut Draft,
    done: &mut Env,
    list: &str,
    at: &str,
    wanted: &mut Vec<(&'static str, String)>,
) {
    let path = ["spec", list, at];
    let container = draft.get(&path).unwrap_or(&Value::Null).clone();
    let value = |name: &str| {
        let (_, found) = variable(&container, name)?;
        found["value"].as_str().map(str::to_owned)
    };
    let both = EXCEPTIONS.map(value);
    for (name, other) in [(EXCEPTIONS[0], &both[1]), (EXCEPTIONS[1], &both[0])] {
        match variable(&container, name) {
            None => {
                let former = other.as_deref().unwrap_or_default();
                let former = if former.ends_with(NO_PROXY) {
                    ""
                } else {
                    former
                };
                wanted.push((name, merged(former)));
            }
            Some((index, found)) => {
                // Without a value of its own (a reference) there is nothing to merge with.
                let former = found["value"].as_str();
                let lacks =
                    |former: &&str| !former.ends_with(NO_PROXY) && merged(former) != **former;
                if let Some(former) = former.filter(lacks) {
                    let index = index.to_string();
                    let path = ["spec", list, at, "env", &index, "value"];
                    draft.replace(&path, merged(former).into());
                    done.was
                        .entry(name.to_owned())
                        .or_insert_with(|| former.to_owned());
                }
            }
        }
    }
}

/// The exceptions that a container had, with ours.
pub(super) fn merged(former: &str) -> String {
    // Nothing goes by a proxy: that is all that can be said.
    if former.trim() == "*" {
        return former.to_owned();
    }
    let former = former.trim_end_matches(',');
    if former.is_empty() {
        NO_PROXY.to_owned()
    } else {
        format!("{former},{NO_PROXY}")
    }
}

fn is_proxied(plan: &Plan, list: &str, name: &str, container: &Value) -> bool {
    match &plan.proxied {
        Proxied::Nobody => false,
        Proxied::Apps => list == "containers" && !has_unknown_proxy(container),
        Proxied::Named(names) => names.iter().any(|named| named == name),
    }
}

/// Whether it may have a proxy or exceptions that nobody sees here: from a ConfigMap, a Secret or a field. What
/// we add would win over them. Whoever names the container knows.
fn has_unknown_proxy(container: &Value) -> bool {
    let from = container["envFrom"].as_array();
    let of_reference = |name: &&str| {
        variable(container, name).is_some_and(|(_, variable)| variable["valueFrom"].is_object())
    };
    from.is_some_and(|from| !from.is_empty()) || EXCEPTIONS.iter().any(of_reference)
}

/// Whether it chose a proxy itself; ours from an earlier pass is none.
fn has_own_proxy(container: &Value, done: &Env) -> bool {
    PROXY
        .iter()
        .any(|name| variable(container, name).is_some() && !done.added.contains(*name))
}

fn variable<'a>(container: &'a Value, name: &str) -> Option<(usize, &'a Value)> {
    let mut variables = container["env"].as_array()?.iter().enumerate();
    variables.find(|(_, variable)| variable["name"] == name)
}
