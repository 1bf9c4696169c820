//! Every metric of the injector besides those of its listeners.

use libkoorde::{
    catalogue,
    metrics::describe::{Metric, label},
};

const OUTCOMES: &[&str] = &["injected", "skipped", "refused", "failed", "bad_request"];
/// Why a pod was skipped, and what was wrong with what was no review; empty for other outcomes.
const REASONS: &[&str] = &[
    "",
    "told_not_to",
    "already_injected",
    "host_network",
    "windows",
    "static_pod",
    "name_taken",
    "port_taken",
    "pod_resources",
    "not_a_pod",
    "not_a_new_pod",
    "busy",
    "too_large",
    "broken",
    "slow",
    "no_review",
];
const SECONDS: &[f64] = &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0];

catalogue! {
    REVIEWS = Metric::counter(
        "koorde_injector_reviews_total",
        "Reviews, by what became of the pod",
    )
    .by(&[label("outcome", OUTCOMES), label("reason", REASONS)])
    .sparse_but(&[
        ("outcome", "failed"),
        ("outcome", "bad_request"),
        ("reason", ""),
        ("reason", "busy"),
        ("reason", "too_large"),
        ("reason", "broken"),
        ("reason", "slow"),
        ("reason", "no_review"),
    ]);
    REVIEW_SECONDS = Metric::histogram(
        "koorde_injector_review_seconds",
        "From a review's last byte to its answer",
        SECONDS,
    );
    EVENTS = Metric::counter(
        "koorde_injector_events_total",
        "Events for owners of pods, by what became of them; same: told before",
    )
    .by(&[label("result", &["sent", "same", "full", "failed"])]);
    RENEWALS = Metric::counter(
        "koorde_injector_renewals_total",
        "Looks at the certificates, by how they ended",
    )
    .by(&[label("result", &["kept", "renewed", "failed"])]);
    CERT_NOT_AFTER = Metric::gauge(
        "koorde_injector_cert_not_after_seconds",
        "When the certificate that is served ends, since 1970-01-01",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{inject::Skip, injector::Outcome};

    #[test]
    fn what_the_alert_adds_up_is_there_before_it_happens() {
        for (outcome, reason, shows) in [
            ("failed", "", true),
            ("bad_request", "slow", true),
            ("skipped", "windows", false),
        ] {
            let labels = [("outcome", outcome), ("reason", reason)];
            assert_eq!(REVIEWS.shows(&labels), shows, "{labels:?}");
        }
    }

    #[test]
    fn every_reason_to_skip_a_pod_is_in_the_catalogue() {
        for skip in [
            Skip::ToldNotTo,
            Skip::AlreadyInjected,
            Skip::HostNetwork,
            Skip::Windows,
            Skip::StaticPod,
            Skip::PodResources,
            Skip::NameTaken(String::new()),
            Skip::NotAPod(String::new()),
        ] {
            let (outcome, reason) = Outcome::Skipped(skip.as_str()).labels();
            assert!(
                OUTCOMES.contains(&outcome) && REASONS.contains(&reason),
                "{reason}"
            );
        }
    }
}
