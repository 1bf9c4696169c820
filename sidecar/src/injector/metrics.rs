//! What the injector counts.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::Outcome;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// What the injector counts.
#[derive(Debug, Default)]
pub(super) struct InjectorMetrics {
    reviews: Family<ReviewLabels, Counter>,
    events: Family<ResultLabel, Counter>,
    renewals: Family<ResultLabel, Counter>,
    not_after: Gauge,
    seconds: Option<Histogram>,
}

impl InjectorMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("koorde_injector");
        let seconds = Histogram::new([0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0]);
        let metrics = Self {
            seconds: Some(seconds.clone()),
            ..Self::default()
        };
        registry.register(
            "reviews",
            "Reviews, by what became of the pod",
            metrics.reviews.clone(),
        );
        registry.register(
            "events",
            "Events for owners of pods, by what became of them",
            metrics.events.clone(),
        );
        registry.register(
            "renewals",
            "Looks at the certificates, by how they ended",
            metrics.renewals.clone(),
        );
        registry.register_with_unit(
            "cert_not_after",
            "When the certificate that is served ends, since 1970",
            Unit::Seconds,
            metrics.not_after.clone(),
        );
        registry.register_with_unit(
            "review",
            "From a review's last byte to its answer",
            Unit::Seconds,
            seconds,
        );
        metrics
    }

    /// A request that was no review, or too much of one.
    pub(super) fn bad(&self, reason: &'static str) {
        let outcome = "bad_request";
        self.reviews
            .get_or_create(&ReviewLabels { outcome, reason })
            .inc();
    }

    pub(super) fn reviewed(&self, outcome: Outcome, time: Duration) {
        let (outcome, reason) = outcome.labels();
        self.reviews
            .get_or_create(&ReviewLabels { outcome, reason })
            .inc();
        if let Some(seconds) = &self.seconds {
            seconds.observe(time.as_secs_f64());
        }
    }

    /// `sent`, `same` (told before), `full`, `failed`.
    pub(super) fn event(&self, result: &'static str) {
        self.events.get_or_create(&ResultLabel { result }).inc();
    }

    /// `kept`, `renewed`, `failed`.
    pub(super) fn renewal(&self, result: &'static str) {
        self.renewals.get_or_create(&ResultLabel { result }).inc();
    }

    pub(super) fn serves_until(&self, unix: i64) {
        self.not_after.set(unix);
    }
}
