//! What becomes of exports: counted, and said once in a while.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use libkoorde::metrics::Counters;
use tokio::time::Instant;
use tracing::warn;

/// Between two lines in the log.
const QUIET: Duration = Duration::from_secs(300);

/// What becomes of exports, of traces and metrics together: a collector that is gone is one trouble.
#[derive(Clone, Debug)]
pub(super) struct Exports {
    outcomes: Counters,
    said: Arc<Mutex<Option<Instant>>>,
}

impl Exports {
    /// Counted in `outcomes`.
    pub(super) fn new(outcomes: Counters) -> Self {
        let said = Arc::default();
        Self { outcomes, said }
    }

    /// One has ended; `exporter` is a word of the catalogue.
    pub(super) fn ended(&self, exporter: &'static str, result: &Result<(), String>) {
        let outcome = if result.is_ok() { "ok" } else { "error" };
        self.outcomes.of(&[exporter, outcome]).inc();
        if let Err(error) = result
            && self.is_to_be_said()
        {
            warn!(%error, exporter, "The collector cannot be told.");
        }
    }

    fn is_to_be_said(&self) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is = said.is_none_or(|said| now - said >= QUIET);
        if is {
            *said = Some(now);
        }
        is
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::telemetry::catalogue;

    #[tokio::test(start_paused = true)]
    async fn trouble_is_counted_each_time_and_said_every_five_minutes() {
        let outcomes = Counters::before_the_book(&catalogue::EXPORTS);
        let exports = Exports::new(outcomes.clone());
        let of_both = exports.clone();
        for exporter in ["otlp_traces", "otlp_metrics"] {
            exports.ended(exporter, &Err("gone".to_owned()));
            exports.ended(exporter, &Ok(()));
            for (outcome, count) in [("ok", 1), ("error", 1), ("unknown", 0)] {
                assert_eq!(outcomes.of(&[exporter, outcome]).get(), count);
            }
        }
        advance(QUIET - Duration::from_secs(1)).await;
        assert!(!exports.is_to_be_said() && !of_both.is_to_be_said());
        advance(Duration::from_secs(1)).await;
        assert!(of_both.is_to_be_said() && !exports.is_to_be_said());
    }
}
