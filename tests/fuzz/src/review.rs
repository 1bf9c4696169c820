//! What an API server sends: either it is a review, which is then answered, with a patch that fits the pod
//! and is undone by `uninject`; or the error says why it is none.
//!
//! A review as JSON; or a pod, which is put into one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use json_patch::{Patch, patch};
use koorde_sidecar::{
    inject::{InjectSettings, Injected, Skip, inject, uninject},
    injector::{Outcome, answer},
};
use serde_json::{Value, json};

pub fn run(bytes: &[u8]) {
    let settings = InjectSettings::default();
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        assert!(answer(bytes, &settings).is_err());
        return;
    };
    let review = if value.get("request").is_some() {
        value
    } else {
        review(value)
    };
    let Ok(answered) = answer(review.to_string().as_bytes(), &settings) else {
        return;
    };
    assert_ne!(answered.outcome, Outcome::Failed, "a panic was caught");
    let response = &answered.review["response"];
    assert_eq!(response["uid"], review["request"]["uid"]);
    assert!(response["allowed"] == true || answered.outcome == Outcome::Refused);
    let Some(text) = response["patch"].as_str() else {
        return;
    };
    let operations = STANDARD.decode(text).expect("base64");
    let operations: Patch = serde_json::from_slice(&operations).expect("a patch");
    let pod = &review["request"]["object"];
    let mut injected = pod.clone();
    patch(&mut injected, &operations).expect("it fits");
    assert_eq!(
        inject(&injected, &settings),
        Injected::Skip(Skip::AlreadyInjected)
    );
    // A pod that says that it was injected before may have said so wrongly.
    if pod["metadata"]["annotations"]["koorde.dev/injected"].is_null() {
        let undo = uninject(&injected);
        patch(&mut injected, &undo).expect("it fits");
        assert_eq!(&injected, pod);
    }
}

fn review(pod: Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "operation": "CREATE",
            "namespace": "default",
            "object": pod,
        },
    })
}
