//! Counters and gauges: a fixed table of atomics, one for each combination of a metric's words.
//!
//! All are there from the start, at 0: what is counted between a process's start and the first look
//! at it is seen by that look. Finding one is a comparison of a few short words, without a lock.
//! Seconds are kept as nanoseconds, ratios as billionths.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::{
    describe::{Metric, Unit},
    table::{Table, Word},
};

/// One counter.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn inc(&self) {
        self.inc_by(1);
    }

    /// `times` more.
    pub fn inc_by(&self, times: u64) {
        self.0.fetch_add(times, Relaxed);
    }

    /// So many in all, as somebody else counts them; never less than before.
    pub fn raise(&self, total: u64) {
        self.0.fetch_max(total, Relaxed);
    }

    /// How many, since the process's start.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One gauge.
#[derive(Debug, Default)]
pub struct Level(AtomicI64);

impl Level {
    /// One more.
    pub fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One less.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    /// So many now.
    pub fn set(&self, level: i64) {
        self.0.store(level, Relaxed);
    }

    /// So large a part of the whole now, of a ratio; 0 where the whole is nothing.
    pub fn set_part(&self, part: u64, whole: u64) {
        let ratio = part as f64 / whole.max(1) as f64;
        self.set((ratio * NANOS) as i64);
    }

    /// How many now.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }

    /// One more until what comes back is dropped.
    #[must_use]
    pub fn held(level: &Self) -> Held<'_> {
        level.inc();
        Held(level)
    }
}

/// Counts as one in a [`Level`] until it is dropped.
#[derive(Debug)]
pub struct Held<'a>(&'a Level);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The counters of one metric.
#[derive(Clone, Debug)]
pub struct Counters(pub(super) Arc<Table<Count>>);

impl Counters {
    /// A counter that is counted before there is a book; see [`Book::adopt`](super::Book::adopt).
    #[must_use]
    pub fn before_the_book(metric: &'static Metric) -> Self {
        Self(Table::new(metric, &[]).into())
    }

    /// The only one of a metric without labels; else the first.
    fn first(&self) -> &Count {
        self.0.at(0)
    }

    /// One more of a metric without labels.
    pub fn inc(&self) {
        self.first().inc();
    }

    /// How many of a metric without labels.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.first().get()
    }

    /// The counter with these words, one a label, in their order. Words are of the catalogue's closed
    /// sets; with another the last counter is given, which is wrong and bounded.
    #[must_use]
    pub fn of(&self, words: &[&str]) -> &Count {
        self.0.of(words)
    }

    /// The one at `index`: labels in their order, the last of them changing first.
    #[must_use]
    pub fn at(&self, index: usize) -> &Count {
        self.0.at(index)
    }

    /// Each series: its labels and how many.
    pub fn each(&self) -> impl Iterator<Item = (&[(&'static str, Word)], u64)> {
        self.0.each().map(|(labels, count)| (labels, count.get()))
    }

    /// Each series that has something to tell: all that were counted, and those that are there from
    /// the start (see [`Metric::sparse`]), whether or not a scrape has room for them.
    pub fn told(&self) -> impl Iterator<Item = (&[(&'static str, Word)], u64)> {
        let each = self.each();
        each.filter(|(labels, value)| *value > 0 || self.0.metric.shows(&words(labels)))
    }
}

/// The gauges of one metric.
#[derive(Clone, Debug)]
pub struct Gauges(pub(super) Arc<Table<Level>>);

impl Gauges {
    fn first(&self) -> &Level {
        self.0.at(0)
    }

    /// One more of a metric without labels.
    pub fn inc(&self) {
        self.first().inc();
    }

    /// One less of a metric without labels.
    pub fn dec(&self) {
        self.first().dec();
    }

    /// So many of a metric without labels.
    pub fn set(&self, level: i64) {
        self.first().set(level);
    }

    /// How many of a metric without labels.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.first().get()
    }

    /// The gauge with these words; see [`Counters::of`].
    #[must_use]
    pub fn of(&self, words: &[&str]) -> &Level {
        self.0.of(words)
    }

    /// The one at `index`; see [`Counters::at`].
    #[must_use]
    pub fn at(&self, index: usize) -> &Level {
        self.0.at(index)
    }

    /// Sets one to 1 and the others to 0: a state out of a closed set.
    pub fn choose(&self, word: &str) {
        for (labels, level) in self.0.each() {
            level.set(i64::from(labels.iter().any(|(_, of)| of == word)));
        }
    }

    /// Each series: its labels and how many.
    pub fn each(&self) -> impl Iterator<Item = (&[(&'static str, Word)], i64)> {
        self.0.each().map(|(labels, level)| (labels, level.get()))
    }
}

fn words<'a>(labels: &'a [(&'static str, Word)]) -> Vec<(&'a str, &'a str)> {
    labels.iter().map(|(name, word)| (*name, &**word)).collect()
}

impl EncodeMetric for Counters {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (labels, count) in self.0.shown() {
            let value = count.get();
            if labels.is_empty() {
                counter(self.0.metric.unit, value, &mut encoder)?;
            } else {
                let mut one = encoder.encode_family(&labels)?;
                counter(self.0.metric.unit, value, &mut one)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

impl EncodeMetric for Gauges {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (labels, level) in self.0.each() {
            let value = level.get();
            if labels.is_empty() {
                gauge(self.0.metric.unit, value, &mut encoder)?;
            } else {
                let mut one = encoder.encode_family(&labels)?;
                gauge(self.0.metric.unit, value, &mut one)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

fn counter(unit: Unit, value: u64, to: &mut MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
    match unit {
        Unit::Seconds | Unit::Ratio => {
            to.encode_counter::<NoLabelSet, f64, f64>(&(value as f64 / NANOS), None)
        }
        Unit::One | Unit::Bytes => to.encode_counter::<NoLabelSet, u64, f64>(&value, None),
    }
}

fn gauge(unit: Unit, value: i64, to: &mut MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
    match unit {
        Unit::Seconds | Unit::Ratio => to.encode_gauge(&(value as f64 / NANOS)),
        Unit::One | Unit::Bytes => to.encode_gauge(&value),
    }
}

const NANOS: f64 = 1e9;
