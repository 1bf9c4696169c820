//! What CloudWatch will cost a month, before it does: list prices of us-east-1, in US dollars.
//!
//! <https://aws.amazon.com/cloudwatch/pricing/>; other regions cost up to a few tenths more.

use std::time::Duration;

use super::watch::alarms;
use crate::{settings::Exporter, telemetry::catalogue};

/// Seconds of a month as AWS counts it: 730 hours.
const MONTH: f64 = 730.0 * 3600.0;
/// Metrics a month at a price each: the first so many, then the next.
const METRICS: [(f64, f64); 3] = [(10_000.0, 0.30), (240_000.0, 0.10), (750_000.0, 0.05)];
/// What is beyond all of them.
const METRICS_BEYOND: f64 = 0.02;
const CALL: f64 = 0.01 / 1000.0;
const GIGABYTE: f64 = 0.50;
/// A dashboard a month, beyond the first three of an account.
pub const DASHBOARD: f64 = 3.0;
/// An alarm a month: for each metric that it looks at, and for one of alarms.
const ALARM: (f64, f64) = (0.10, 0.50);
/// Bytes of a document for each metric that is one number, and for each value of a histogram.
const NUMBER: f64 = 60.0;
const HISTOGRAM: f64 = 1_500.0;

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// How metrics get there.
    pub exporter: Exporter,
    /// Nodes.
    pub pods: u32,
    /// Whether each pod has metrics of its own besides the cluster's.
    pub pod_dimension: bool,
    /// Between two looks.
    pub interval: Duration,
    /// Between two calls of the API.
    pub flush: Duration,
}

/// Dollars a month.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bill {
    /// How many metrics there are.
    pub metrics: f64,
    /// For them.
    pub for_metrics: f64,
    /// For calls of the API.
    pub for_calls: f64,
    /// For documents in logs.
    pub for_logs: f64,
}

impl Bill {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.for_metrics + self.for_calls + self.for_logs
    }
}

/// What the alarms cost a month, whatever the number of nodes.
#[must_use]
pub fn for_alarms() -> f64 {
    let of_metrics = alarms::alarms(&alarms::Limits::default());
    let metrics: usize = of_metrics.iter().map(|alarm| alarm.of.looks().len()).sum();
    metrics as f64 * ALARM.0 + alarms::composites().len() as f64 * ALARM.1
}

/// How many names the catalogue tells CloudWatch, and how many of them are histograms.
#[must_use]
pub fn told() -> (u32, u32) {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let names: usize = catalogue::all().map(|metric| metric.cloudwatch.len()).sum();
    let histograms = catalogue::all().filter(|metric| {
        let is_histogram = matches!(
            metric.kind,
            libkoorde::metrics::describe::Kind::Histogram(_)
        );
        is_histogram && !metric.cloudwatch.is_empty()
    });
    (count(names), count(histograms.count()))
}

/// The bill of a plan for so many names, of which some are histograms.
#[must_use]
pub fn bill(plan: &Plan, (names, histograms): (u32, u32)) -> Bill {
    if plan.exporter == Exporter::None {
        return Bill::default();
    }
    let (names, pods) = (f64::from(names), f64::from(plan.pods));
    let metrics = if plan.pod_dimension {
        names * (1.0 + pods)
    } else {
        names
    };
    let each = |every: Duration| pods * MONTH / every.as_secs_f64();
    let (for_calls, for_logs) = if plan.exporter == Exporter::Api {
        (each(plan.flush.max(plan.interval)) * CALL, 0.0)
    } else {
        let histograms = f64::from(histograms);
        let document = (names - histograms) * NUMBER + histograms * HISTOGRAM;
        (0.0, each(plan.interval) * document / 1e9 * GIGABYTE)
    };
    Bill {
        metrics,
        for_metrics: for_metrics(metrics),
        for_calls,
        for_logs,
    }
}

fn for_metrics(mut metrics: f64) -> f64 {
    let mut dollars = 0.0;
    for (most, price) in METRICS {
        let some = metrics.min(most);
        dollars += some * price;
        metrics -= some;
    }
    dollars + metrics * METRICS_BEYOND
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(exporter: Exporter, pods: u32, pod_dimension: bool, flush: u64) -> Plan {
        Plan {
            exporter,
            pods,
            pod_dimension,
            interval: Duration::from_secs(60),
            flush: Duration::from_secs(flush),
        }
    }

    #[test]
    fn the_bill_is_that_of_the_price_list() {
        // Layouts A, B, E of the project's research: 30 names, 50 pods; 30 days there, 730 h here.
        for (plan, metrics, calls) in [
            (plan(Exporter::Api, 50, false, 60), 9.00, 21.90),
            (plan(Exporter::Api, 50, false, 300), 9.00, 4.38),
            (plan(Exporter::Api, 50, true, 60), 459.00, 21.90),
            (plan(Exporter::Api, 500, true, 60), 3000.0 + 503.0, 219.0),
            (plan(Exporter::None, 50, true, 60), 0.0, 0.0),
        ] {
            let bill = bill(&plan, (30, 3));
            let dollars = (bill.for_metrics, bill.for_calls, bill.for_logs);
            assert!((dollars.0 - metrics).abs() < 0.01, "{plan:?}: {dollars:?}");
            assert!((dollars.1 - calls).abs() < 0.01, "{plan:?}: {dollars:?}");
        }
    }

    #[test]
    fn all_alarms_together_cost_no_more_than_four_dollars() {
        assert!((2.0..=4.0).contains(&for_alarms()), "{}", for_alarms());
    }

    #[test]
    fn by_default_fifty_pods_cost_no_more_than_twelve_dollars() {
        let defaults = crate::settings::CloudWatchSettings::default();
        for (exporter, most) in [(Exporter::Api, 12.0), (Exporter::EmfStdout, 13.5)] {
            let plan = Plan {
                exporter,
                pods: 50,
                pod_dimension: defaults.pod_dimension,
                interval: defaults.interval,
                flush: defaults.flush,
            };
            let bill = bill(&plan, told());
            assert!(bill.total() <= most, "{exporter:?}: {bill:?}");
        }
    }
}
