//! The book of one process: every metric by its entry in a catalogue, and who reads them.

use prometheus_client::registry::{Registry, Unit as Suffix};

use super::{
    cells::{Counters, Gauges},
    describe::{Kind, Metric, Unit},
    distribution::Distributions,
    table::Table,
};

/// Everything counted in one process. Metrics are added at start, each under its entry of a
/// catalogue; from then on it is read.
#[derive(Debug, Default)]
pub struct Book {
    registry: Registry,
    upstreams: Vec<String>,
    sources: Vec<Source>,
}

/// A metric and where its values are.
#[derive(Clone, Debug)]
pub struct Source {
    /// What it is.
    pub metric: &'static Metric,
    /// Its values.
    pub values: Values,
}

/// The values of a metric.
#[derive(Clone, Debug)]
pub enum Values {
    /// Of a counter.
    Counters(Counters),
    /// Of a gauge.
    Gauges(Gauges),
    /// Of a histogram.
    Distributions(Distributions),
}

impl Book {
    /// A book in which these upstreams have series of their own; the first
    /// [`MAX_UPSTREAMS`](super::describe::MAX_UPSTREAMS) of them.
    #[must_use]
    pub fn with_upstreams(upstreams: Vec<String>) -> Self {
        Self {
            upstreams,
            ..Self::default()
        }
    }

    /// Adds a counter.
    pub fn counters(&mut self, metric: &'static Metric) -> Counters {
        debug_assert_eq!(metric.kind, Kind::Counter, "{}", metric.name);
        let counters = Counters(Table::new(metric, &self.upstreams).into());
        self.adopt(&counters);
        counters
    }

    /// Adds a counter that was there before the book.
    pub fn adopt(&mut self, counters: &Counters) {
        let metric = counters.0.metric;
        self.register(metric, counters.clone());
        self.keep(metric, Values::Counters(counters.clone()));
    }

    /// Adds a gauge.
    pub fn gauges(&mut self, metric: &'static Metric) -> Gauges {
        debug_assert_eq!(metric.kind, Kind::Gauge, "{}", metric.name);
        let gauges = Gauges(Table::new(metric, &self.upstreams).into());
        self.register(metric, gauges.clone());
        self.keep(metric, Values::Gauges(gauges.clone()));
        gauges
    }

    /// Adds a histogram.
    pub fn distributions(&mut self, metric: &'static Metric) -> Distributions {
        let distributions = Distributions::new(metric, &self.upstreams);
        self.register(metric, distributions.clone());
        self.keep(metric, Values::Distributions(distributions.clone()));
        distributions
    }

    /// Registers a metric that is made elsewhere and that only Prometheus sees, under its entry.
    pub fn register(
        &mut self,
        metric: &'static Metric,
        made: impl prometheus_client::registry::Metric,
    ) {
        let (stem, help) = (metric.stem(), metric.help);
        match metric.unit {
            Unit::One => self.registry.register(stem, help, made),
            Unit::Seconds => {
                self.registry
                    .register_with_unit(stem, help, Suffix::Seconds, made);
            }
            Unit::Bytes => {
                self.registry
                    .register_with_unit(stem, help, Suffix::Bytes, made);
            }
        }
    }

    /// What Prometheus is given.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// All counters, gauges and histograms, for exporters other than Prometheus.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    fn keep(&mut self, metric: &'static Metric, values: Values) {
        self.sources.push(Source { metric, values });
    }
}
