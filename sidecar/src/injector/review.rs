//! AdmissionReview v1: from a request's bytes to the answer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::inject::{InjectSettings, Injected, inject};

/// What the API server is told, and what of it is counted and told to others.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The AdmissionReview to send.
    pub review: Value,
    /// What became of the pod.
    pub outcome: Outcome,
    /// What its owner is told; nothing in a dry run.
    pub event: Option<Event>,
}

/// What became of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It has a sidecar now.
    Injected,
    /// It stays as it is, for this reason.
    Skipped(&'static str),
    /// It is not let through.
    Refused,
    /// Our own trouble: it is let through as it is.
    Failed,
}

impl Outcome {
    /// Outcome and reason, for labels.
    #[must_use]
    pub const fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Injected => ("injected", ""),
            Self::Skipped(reason) => ("skipped", reason),
            Self::Refused => ("refused", ""),
            Self::Failed => ("failed", ""),
        }
    }
}

/// Something that the owner of a pod is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The namespace of both.
    pub namespace: String,
    /// The owner, as in `ownerReferences`: `apiVersion`, `kind`, `name`, `uid`.
    pub owner: [String; 4],
    /// Whether something is wrong.
    pub is_warning: bool,
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// Values in a review, at most: each takes a hundred bytes of memory however short it is written. Pods have some
/// thousand.
const MAX_VALUES: usize = 100_000;

/// Whether a text of JSON has too many values, by what begins or parts them; those in strings count, too, as
/// nothing has read it yet.
fn is_too_much(body: &[u8]) -> bool {
    let marks = body
        .iter()
        .filter(|byte| matches!(byte, b'{' | b'[' | b','));
    marks.take(MAX_VALUES + 1).count() > MAX_VALUES
}

/// Answers a review.
///
/// # Errors
/// It is none; the message says why. Everything that is one gets an answer.
pub fn answer(body: &[u8], settings: &InjectSettings) -> Result<Answer, String> {
    if is_too_much(body) {
        return Err(format!("it has more than {MAX_VALUES} values"));
    }
    let review: Value =
        serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
    let version = review["apiVersion"].as_str().unwrap_or_default();
    if version != "admission.k8s.io/v1" || review["kind"] != "AdmissionReview" {
        return Err(format!(
            "apiVersion = {version:?}, kind = {}: must be an AdmissionReview of admission.k8s.io/v1",
            review["kind"]
        ));
    }
    let request = &review["request"];
    let Some(uid) = request["uid"].as_str().filter(|uid| !uid.is_empty()) else {
        return Err("request.uid: must be there".into());
    };
    let (response, outcome, event) = decide(request, settings);
    let mut response = response;
    response["uid"] = uid.into();
    Ok(Answer {
        review: json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": response,
        }),
        outcome,
        event: event.filter(|_| request["dryRun"] != true),
    })
}

fn decide(request: &Value, settings: &InjectSettings) -> (Value, Outcome, Option<Event>) {
    let kind = &request["kind"];
    let is_pod = kind["kind"] == "Pod" && kind["version"] == "v1" && kind["group"] == "";
    let is_whole = request["subResource"]
        .as_str()
        .unwrap_or_default()
        .is_empty();
    if !is_pod || !is_whole || request["operation"] != "CREATE" {
        return (
            json!({"allowed": true}),
            Outcome::Skipped("not_a_new_pod"),
            None,
        );
    }
    let pod = &request["object"];
    // A mistake of ours must not keep pods from starting.
    let injected = catch_unwind(AssertUnwindSafe(|| inject(pod, settings)));
    let event = |is_warning, reason, message: &str| event(request, is_warning, reason, message);
    match injected {
        Ok(Injected::Patch(patch)) => {
            let patch = serde_json::to_vec(&patch).unwrap_or_default();
            let response = json!({
                "allowed": true,
                "patchType": "JSONPatch",
                "patch": STANDARD.encode(patch),
                "auditAnnotations": {"inject": "injected"},
            });
            let event = event(false, "Injected", "The koorde sidecar was added to a pod");
            (response, Outcome::Injected, event)
        }
        Ok(Injected::Skip(skip)) => {
            let mut response = json!({
                "allowed": true,
                "auditAnnotations": {"inject": format!("skipped: {}", skip.as_str())},
            });
            let mut told = None;
            if skip.is_surprise() {
                let message = format!("koorde: no sidecar was added: {skip}");
                told = event(true, "InjectionSkipped", &message);
                response["warnings"] = json!([message]);
            }
            (response, Outcome::Skipped(skip.as_str()), told)
        }
        Ok(Injected::Refuse(message)) => {
            let message = format!("koorde: {message}");
            let event = event(true, "InjectionRefused", &message);
            let status = json!({"code": 422, "reason": "Invalid", "message": message});
            (
                json!({"allowed": false, "status": status}),
                Outcome::Refused,
                event,
            )
        }
        Err(_) => {
            let warning = "koorde: no sidecar was added: the injector failed";
            let event = event(true, "InjectionFailed", warning);
            (
                json!({"allowed": true, "warnings": [warning]}),
                Outcome::Failed,
                event,
            )
        }
    }
}

/// For the controller that makes the pod; whoever makes one by hand sees the warning.
fn event(request: &Value, is_warning: bool, reason: &'static str, message: &str) -> Option<Event> {
    let owners = request["object"]["metadata"]["ownerReferences"].as_array();
    let owner = owners?.iter().find(|owner| owner["controller"] == true)?;
    let field = |name: &str| owner[name].as_str().map(str::to_owned);
    Some(Event {
        namespace: request["namespace"].as_str()?.to_owned(),
        owner: [
            field("apiVersion")?,
            field("kind")?,
            field("name")?,
            field("uid")?,
        ],
        is_warning,
        reason,
        message: message.chars().take(1000).collect(),
    })
}

#[cfg(test)]
mod tests {
    use json_patch::Patch;

    use super::*;

    fn review(object: Value) -> Value {
        json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "u-1",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "operation": "CREATE",
                "namespace": "web",
                "object": object,
            },
        })
    }

    fn pod() -> Value {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "o-1", "controller": true});
        json!({
            "metadata": {"generateName": "web-1-", "ownerReferences": [owner]},
            "spec": {"containers": [{"name": "web"}]},
        })
    }

    fn ask(review: &Value) -> Result<Answer, String> {
        answer(review.to_string().as_bytes(), &InjectSettings::default())
    }

    #[test]
    fn a_pod_is_patched_and_its_owner_told() {
        let answer = ask(&review(pod())).expect("a review");
        let response = &answer.review["response"];
        assert_eq!(
            (&response["uid"], &response["allowed"]),
            (&json!("u-1"), &json!(true))
        );
        let patch = STANDARD.decode(response["patch"].as_str().expect("a patch"));
        let patch: Patch = serde_json::from_slice(&patch.expect("base64")).expect("a patch");
        let mut pod = pod();
        json_patch::patch(&mut pod, &patch).expect("it fits");
        assert_eq!(pod["spec"]["initContainers"][0]["name"], "koorde");
        let event = answer.event.expect("its owner is told");
        assert_eq!(
            (event.owner[2].as_str(), event.is_warning),
            ("web-1", false)
        );
    }

    #[test]
    fn a_dry_run_has_the_same_answer_and_no_event() {
        let mut dry = review(pod());
        dry["request"]["dryRun"] = true.into();
        let (dry, real) = (
            ask(&dry).expect("a review"),
            ask(&review(pod())).expect("a review"),
        );
        assert_eq!((dry.review, dry.event), (real.review, None));
    }

    #[test]
    fn what_is_skipped_or_refused_says_so() {
        let mut host = pod();
        host["spec"]["hostNetwork"] = true.into();
        let answer = ask(&review(host)).expect("a review");
        assert_eq!(answer.outcome, Outcome::Skipped("host_network"));
        assert_eq!(answer.review["response"]["allowed"], true);
        assert!(answer.review["response"]["warnings"][0].is_string() && answer.event.is_some());

        let mut typo = pod();
        typo["metadata"]["annotations"]["config.koorde.dev/rolle"] = "edge".into();
        let answer = ask(&review(typo)).expect("a review");
        assert_eq!(answer.outcome, Outcome::Refused);
        let status = &answer.review["response"]["status"];
        assert!(
            status["message"]
                .as_str()
                .is_some_and(|text| text.contains("config.koorde.dev/rolle")),
            "{status}"
        );
    }

    #[test]
    fn a_review_of_millions_of_small_values_is_not_read_at_all() {
        for (one, count) in [("{},", 1 << 20), ("[", 3 << 20), ("0,", 3 << 19)] {
            let body = one.repeat(count);
            let error = answer(body.as_bytes(), &InjectSettings::default()).expect_err("too much");
            assert!(error.contains("more than 100000 values"), "{error}");
        }
        // As large as objects may be, in one string.
        let mut large = pod();
        large["metadata"]["annotations"]["a"] = "x".repeat(1 << 20).into();
        assert!(ask(&review(large)).is_ok());
    }

    #[test]
    fn everything_else_is_let_through_or_named() {
        for (path, value) in [
            ("/request/operation", json!("UPDATE")),
            ("/request/kind/kind", json!("Deployment")),
            ("/request/object", json!(null)),
            ("/request/object", json!({"spec": {"containers": [1]}})),
        ] {
            let mut review = review(pod());
            *review.pointer_mut(path).expect("it is there") = value;
            let answer = ask(&review).expect("a review");
            assert_eq!(answer.review["response"]["allowed"], true, "{path}");
            assert!(answer.review["response"].get("patch").is_none(), "{path}");
        }
        for body in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}"#,
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}"#,
        ] {
            assert!(
                answer(body.as_bytes(), &InjectSettings::default()).is_err(),
                "{body}"
            );
        }
    }
}
