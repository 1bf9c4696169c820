//! What the injector counts.

use std::time::Duration;

use libkoorde::metrics::{Book, Counters, Distributions, Gauges};

use super::{Outcome, catalogue};

/// What the injector counts.
#[derive(Debug)]
pub(super) struct InjectorMetrics {
    reviews: Counters,
    events: Counters,
    renewals: Counters,
    not_after: Gauges,
    seconds: Distributions,
}

impl InjectorMetrics {
    pub(super) fn new(book: &mut Book) -> Self {
        Self {
            reviews: book.counters(&catalogue::REVIEWS),
            events: book.counters(&catalogue::EVENTS),
            renewals: book.counters(&catalogue::RENEWALS),
            not_after: book.gauges(&catalogue::CERT_NOT_AFTER),
            seconds: book.distributions(&catalogue::REVIEW_SECONDS),
        }
    }

    /// A request that was no review, or too much of one.
    pub(super) fn bad(&self, reason: &'static str) {
        self.reviews.of(&["bad_request", reason]).inc();
    }

    pub(super) fn reviewed(&self, outcome: Outcome, time: Duration) {
        let (outcome, reason) = outcome.labels();
        self.reviews.of(&[outcome, reason]).inc();
        self.seconds.took(time);
    }

    /// `sent`, `same` (told before), `full`, `failed`.
    pub(super) fn event(&self, result: &'static str) {
        self.events.of(&[result]).inc();
    }

    /// `kept`, `renewed`, `failed`.
    pub(super) fn renewal(&self, result: &'static str) {
        self.renewals.of(&[result]).inc();
    }

    pub(super) fn serves_until(&self, unix: i64) {
        self.not_after.set(unix);
    }
}
