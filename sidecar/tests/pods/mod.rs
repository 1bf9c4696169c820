//! Properties over made-up pods.

use json_patch::patch;
use koorde_sidecar::inject::{InjectSettings, Injected, Skip, inject, uninject};
use proptest::{collection::vec, option, prelude::*};
use serde_json::{Map, Value, json};

/// A field that is absent, `null`, or something.
fn maybe(some: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![2 => Just(None), 1 => Just(Some(Value::Null)), 4 => some.prop_map(Some)]
}

fn object(fields: Vec<(&'static str, Option<Value>)>) -> Value {
    let some = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(some.collect())
}

fn variables() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        3 => "[A-Z]{1,5}",
        1 => Just("NO_PROXY".to_owned()),
        1 => Just("no_proxy".to_owned()),
        1 => Just("HTTP_PROXY".to_owned()),
        1 => Just("http_proxy".to_owned()),
        1 => Just("KOORDE_ENDPOINT".to_owned()),
    ];
    let value = prop_oneof![
        Just(json!({"value": "x.example"})),
        Just(json!({"value": ""})),
        Just(json!({"valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}})),
        Just(json!({})),
    ];
    vec((name, value), 0..4).prop_map(|variables| {
        let mut seen = Vec::new();
        let mut list = Vec::new();
        for (name, mut variable) in variables {
            if !seen.contains(&name) {
                variable["name"] = name.as_str().into();
                list.push(variable);
                seen.push(name);
            }
        }
        list.into()
    })
}

fn container() -> impl Strategy<Value = Value> {
    let ports = vec(1u16..9000, 0..3).prop_map(|ports| {
        ports
            .into_iter()
            .map(|port| json!({"containerPort": port}))
            .collect()
    });
    let fields = (maybe(variables()), maybe(ports), option::of("[a-z]{1,8}"));
    fields.prop_map(|(env, ports, unknown)| {
        let unknown = unknown.map(|word| json!({word: [1, 2.5, null]}));
        object(vec![("env", env), ("ports", ports), ("unknown", unknown)])
    })
}

fn containers(prefix: &'static str, least: usize) -> impl Strategy<Value = Value> {
    vec(container(), least..4).prop_map(move |mut containers| {
        for (index, container) in containers.iter_mut().enumerate() {
            container["name"] = format!("{prefix}-{index}").into();
        }
        containers.into()
    })
}

fn strings(keys: &'static str) -> impl Strategy<Value = Value> {
    vec((keys, "[a-z0-9]{0,5}"), 0..3).prop_map(|pairs| {
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| (key, Value::from(value)));
        Value::Object(pairs.collect::<Map<_, _>>())
    })
}

fn annotations() -> impl Strategy<Value = Value> {
    let asked = prop_oneof![
        Just(("http-proxy", "true")),
        Just(("http-proxy", "app-0")),
        Just(("position", "last")),
        Just(("cache-size", "64Mi")),
        Just(("role", "edge")),
        Just(("ring-port", "14000")),
        Just(("admin", "pod")),
    ];
    (strings("[a-z]{1,6}/[a-z]{1,3}"), vec(asked, 0..3)).prop_map(|(mut annotations, asked)| {
        for (key, value) in asked {
            annotations[format!("config.koorde.dev/{key}")] = value.into();
        }
        annotations
    })
}

fn metadata() -> impl Strategy<Value = Value> {
    let fields = (
        maybe(strings("[a-z]{1,4}")),
        maybe(annotations()),
        option::of("[a-z]{1,9}"),
    );
    fields.prop_map(|(labels, annotations, name)| {
        object(vec![
            ("labels", labels),
            ("annotations", annotations),
            ("name", name.map(Value::from)),
        ])
    })
}

fn pod() -> impl Strategy<Value = Value> {
    let volumes = vec("[a-z]{1,9}", 0..3).prop_map(|mut names| {
        names.sort();
        names.dedup();
        names
            .into_iter()
            .map(|name| json!({"name": name, "emptyDir": {}}))
            .collect()
    });
    let secrets = prop_oneof![
        Just(json!([])),
        Just(json!([{"name": "registry"}])),
        Just(json!([{"name": "a"}]))
    ];
    let policy = prop_oneof![Just("Always"), Just("OnFailure")].prop_map(Value::from);
    let fields = (
        maybe(metadata()),
        containers("app", 1),
        maybe(containers("init", 0)),
        maybe(volumes),
        maybe(secrets),
        maybe(policy),
    );
    fields.prop_map(|(metadata, containers, init, volumes, secrets, policy)| {
        let spec = object(vec![
            ("containers", Some(containers)),
            ("initContainers", init),
            ("volumes", volumes),
            ("imagePullSecrets", secrets),
            ("restartPolicy", policy),
        ]);
        object(vec![("metadata", metadata), ("spec", Some(spec))])
    })
}

fn settings() -> InjectSettings {
    let pairs = [
        "image_pull_secrets=[registry]",
        "seeds=[ring:4000]",
        "ring_secret={name: ring}",
    ];
    InjectSettings::load(None, &pairs.map(str::to_owned)).expect("they are right")
}

/// What the pod becomes, if it is changed.
fn injected(pod: &Value) -> Option<Value> {
    let mut changed = pod.clone();
    match inject(pod, &settings()) {
        Injected::Patch(operations) => patch(&mut changed, &operations).expect("it fits"),
        Injected::Skip(_) | Injected::Refuse(_) => return None,
    }
    Some(changed)
}

fn uninjected(pod: &Value) -> Value {
    let mut changed = pod.clone();
    patch(&mut changed, &uninject(pod)).expect("it fits");
    changed
}

/// Everything of `pod` without what is ours: no operation may touch it.
fn assert_contains(outer: &Value, inner: &Value, path: &str) {
    match (outer, inner) {
        (_, Value::Null) => {}
        (Value::Object(outer), Value::Object(inner)) => {
            for (key, value) in inner {
                assert_contains(
                    outer.get(key).unwrap_or(&Value::Null),
                    value,
                    &format!("{path}/{key}"),
                );
            }
        }
        (Value::Array(outer), Value::Array(inner)) => {
            let is_ours = |item: &&Value| item["name"] == "koorde";
            let outer: Vec<_> = outer.iter().filter(|item| !is_ours(item)).collect();
            assert!(outer.len() >= inner.len(), "{path}");
            for (index, (outer, inner)) in outer.iter().zip(inner).enumerate() {
                assert_contains(outer, inner, &format!("{path}/{index}"));
            }
        }
        (Value::String(outer), Value::String(inner)) => {
            assert!(outer.starts_with(inner.as_str()), "{path}")
        }
        _ => assert_eq!(outer, inner, "{path}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn uninject_after_inject_gives_back_exactly_what_was_there(pod in pod()) {
        if let Some(changed) = injected(&pod) {
            prop_assert_eq!(uninjected(&changed), pod);
        }
    }

    #[test]
    fn a_pod_that_was_injected_is_left_alone(pod in pod()) {
        if let Some(changed) = injected(&pod) {
            prop_assert_eq!(inject(&changed, &settings()), Injected::Skip(Skip::AlreadyInjected));
            prop_assert!(uninject(&uninjected(&changed)).is_empty());
        }
    }

    #[test]
    fn nothing_that_was_there_is_moved_or_lost(pod in pod()) {
        if let Some(changed) = injected(&pod) {
            assert_contains(&changed, &pod, "");
        }
    }

    #[test]
    fn what_another_webhook_dropped_or_added_is_mended_once(
        pod in pod(), policy in any::<bool>(), volume in any::<bool>(), sidecar in any::<bool>(),
        variables in any::<bool>(), added in container(),
    ) {
        let Some(mut changed) = injected(&pod) else { return Ok(()) };
        let spec = &mut changed["spec"];
        let inits = spec["initContainers"].as_array_mut().expect("there is one");
        let ours = inits.iter().position(|container| container["name"] == "koorde").expect("it is there");
        if policy {
            inits[ours].as_object_mut().expect("an object").remove("restartPolicy");
        }
        if sidecar {
            inits.remove(ours);
        }
        if volume {
            spec["volumes"].as_array_mut().expect("there is one").retain(|volume| volume["name"] != "koorde-no-token");
        }
        if variables {
            spec["containers"][0]["env"] = Value::Null;
        }
        let mut added = added;
        added["name"] = "added".into();
        added["ports"] = Value::Null;
        spec["containers"].as_array_mut().expect("a list").push(added);
        let mended = injected(&changed).unwrap_or_else(|| changed.clone());
        prop_assert_eq!(inject(&mended, &settings()), Injected::Skip(Skip::AlreadyInjected));
        let inits = mended["spec"]["initContainers"].as_array().expect("there is one");
        let ours: Vec<_> = inits.iter().filter(|container| container["name"] == "koorde").collect();
        prop_assert_eq!(ours.len(), 1);
        prop_assert_eq!(&ours[0]["restartPolicy"], "Always");
        for container in mended["spec"]["containers"].as_array().expect("a list") {
            let variables = container["env"].as_array().expect("it has some");
            let endpoints = variables.iter().filter(|variable| variable["name"] == "KOORDE_ENDPOINT");
            prop_assert_eq!(endpoints.count(), 1);
        }
        let bare = uninjected(&mended);
        let text = bare.to_string();
        prop_assert!(!text.contains("koorde-no-token") && !text.contains("koorde.dev/inject"), "{}", text);
    }

    #[test]
    fn no_json_makes_it_panic(text in "[{}\\[\\]\":,a-z0-9 ]{0,80}", pod in pod(), at in any::<prop::sample::Index>()) {
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            let _ = (inject(&value, &settings()), uninject(&value));
        }
        // A pod with any one field of a wrong type.
        let fields = ["/metadata", "/metadata/labels", "/metadata/annotations", "/spec", "/spec/containers",
            "/spec/containers/0", "/spec/containers/0/env", "/spec/initContainers", "/spec/volumes"];
        for wrong in [json!(1), json!("x"), json!([1]), json!([{}]), json!({"a": 1})] {
            let mut pod = pod.clone();
            if let Some(place) = pod.pointer_mut(fields[at.index(fields.len())]) {
                *place = wrong;
            }
            let _ = uninject(&pod);
            if let Injected::Patch(operations) = inject(&pod, &settings()) {
                prop_assert!(patch(&mut pod, &operations).is_ok());
            }
        }
    }
}
