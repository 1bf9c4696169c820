//! The book of one process: every metric by its entry in a catalogue, and who reads them.

use std::sync::{Mutex, PoisonError};

use prometheus_client::{
    encoding::text::encode,
    registry::{Registry, Unit as Suffix},
};

use super::{
    catalogue::SERIES_LEFT_OUT,
    cells::{Counters, Gauges},
    describe::{Kind, MAX_UPSTREAMS, Metric, Unit},
    distribution::Distributions,
    room::Room,
    table::{Table, When},
};

/// Most bytes of the labels of something that is made elsewhere.
const ELSEWHERE: usize = 256;

/// Everything counted in one process. Metrics are added at start, each under its entry of a
/// catalogue; from then on it is read.
#[derive(Debug)]
pub struct Book {
    registry: Registry,
    upstreams: Vec<String>,
    sources: Vec<Source>,
    left_out: Gauges,
    /// What metrics take that are made elsewhere.
    elsewhere: Room,
    /// One scrape at a time: each finds room for what it shows.
    scraped: Mutex<()>,
}

impl Default for Book {
    fn default() -> Self {
        Self::with_upstreams(Vec::new())
    }
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

impl Values {
    fn always(&self) -> Room {
        match self {
            Self::Counters(counters) => counters.0.always(),
            Self::Gauges(gauges) => gauges.0.always(),
            Self::Distributions(distributions) => distributions.table.always(),
        }
    }

    fn fit(&self, when: When, room: &mut Room) -> usize {
        match self {
            Self::Counters(counters) => counters.0.fit(when, |count| count.get() > 0, room),
            Self::Gauges(gauges) => gauges.0.fit(when, |_| true, room),
            Self::Distributions(of) => of.table.fit(when, |one| one.get().is_some(), room),
        }
    }
}

impl Book {
    /// A book in which these upstreams have series of their own; the first
    /// [`MAX_UPSTREAMS`](super::describe::MAX_UPSTREAMS) of them.
    #[must_use]
    pub fn with_upstreams(upstreams: Vec<String>) -> Self {
        let left_out = Gauges(Table::new(&SERIES_LEFT_OUT, &[]).into());
        let mut book = Self {
            registry: Registry::default(),
            upstreams,
            sources: Vec::new(),
            left_out: left_out.clone(),
            elsewhere: Room::default(),
            scraped: Mutex::default(),
        };
        book.add(&SERIES_LEFT_OUT, left_out.clone());
        book.keep(&SERIES_LEFT_OUT, Values::Gauges(left_out));
        book
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
        self.add(metric, counters.clone());
        self.keep(metric, Values::Counters(counters.clone()));
    }

    /// Adds a gauge.
    pub fn gauges(&mut self, metric: &'static Metric) -> Gauges {
        debug_assert_eq!(metric.kind, Kind::Gauge, "{}", metric.name);
        let gauges = Gauges(Table::new(metric, &self.upstreams).into());
        self.add(metric, gauges.clone());
        self.keep(metric, Values::Gauges(gauges.clone()));
        gauges
    }

    /// Adds a histogram.
    pub fn distributions(&mut self, metric: &'static Metric) -> Distributions {
        let distributions = Distributions::new(metric, &self.upstreams);
        self.add(metric, distributions.clone());
        self.keep(metric, Values::Distributions(distributions.clone()));
        distributions
    }

    /// Registers a metric that is made elsewhere and that only Prometheus sees, under its entry.
    pub fn register(
        &mut self,
        metric: &'static Metric,
        made: impl prometheus_client::registry::Metric,
    ) {
        let labels = [("", " ".repeat(ELSEWHERE).into())];
        let lines = Room::of_head(metric).with(Room::of_series(metric, &labels));
        self.elsewhere = self.elsewhere.with(lines);
        self.add(metric, made);
    }

    fn add(&mut self, metric: &'static Metric, made: impl prometheus_client::registry::Metric) {
        let (stem, help) = (metric.stem(), metric.help);
        match metric.unit {
            Unit::One | Unit::Ratio => self.registry.register(stem, help, made),
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

    /// Everything that has room in a scrape, as OpenMetrics 1.0.0; see
    /// [`MAX_SERIES`](super::MAX_SERIES) and [`MAX_BYTES`](super::MAX_BYTES).
    ///
    /// # Panics
    /// Never: writing to a string does not fail.
    #[must_use]
    pub fn open_metrics(&self) -> String {
        let _one = self.scraped.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_room();
        let mut text = String::with_capacity(16 << 10);
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }

    /// Decides what the next scrape shows.
    fn make_room(&self) {
        let always = self.sources.iter().map(|source| source.values.always());
        let always = always.fold(self.elsewhere, Room::with);
        let mut room = Room::WHOLE.without(always);
        let mut sources: Vec<&Source> = self.sources.iter().collect();
        // Large ones last: they leave out least of what they tell.
        sources.sort_by_key(|source| {
            let rank = source.metric.yields.map(|yields| yields.rank);
            (rank, source.metric.max_series(MAX_UPSTREAMS))
        });
        let mut left_out = 0;
        for when in [When::Counted, When::Room] {
            for source in &sources {
                left_out += source.values.fit(when, &mut room);
            }
        }
        let left_out = i64::try_from(left_out).unwrap_or(i64::MAX);
        self.left_out.set(left_out);
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
