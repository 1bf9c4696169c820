//! Histograms that are exact at Prometheus's few bounds, and fine enough for percentiles elsewhere.
//!
//! Recording is three additions to atomics. Values are whole: nanoseconds, or milliseconds where all
//! bounds are seconds and more; bytes; hops.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::{
    describe::{Kind, Metric, Unit},
    table::{Table, Word},
};

/// Parts of an octave. What stands for a part is at most 1/(2 · 40 + 1) = 1.24 % from anything in it.
const PARTS: usize = 40;
/// Octaves: up to 2^37 − 1, which is 137 s in nanoseconds; what is above counts as that.
const OCTAVES: usize = 37;
/// Fine bins.
pub(super) const BINS: u32 = (OCTAVES * PARTS) as u32;

/// One histogram.
#[derive(Debug)]
pub struct Distribution {
    scale: f64,
    /// Durations are milliseconds.
    is_coarse: bool,
    bounds: Vec<u64>,
    below: Vec<AtomicU64>,
    sum: AtomicU64,
    fine: Option<Box<[AtomicU64]>>,
}

/// A value that stands for all near it, and how many there were.
pub type Bin = (f64, u64);

impl Distribution {
    fn new(metric: &Metric) -> Self {
        let bounds = match metric.kind {
            Kind::Histogram(bounds) => bounds,
            _ => &[],
        };
        let is_coarse = metric.unit == Unit::Seconds
            && metric.cloudwatch.is_empty()
            && bounds.first().is_some_and(|bound| *bound >= 1.0);
        let scale = match metric.unit {
            // In nanoseconds a sum of ages has no room: 200,000 hits on what is a day old.
            Unit::Seconds if is_coarse => 1e-3,
            Unit::Seconds | Unit::Ratio => 1e-9,
            Unit::One | Unit::Bytes => 1.0,
        };
        let zeros = |n: usize| (0..n).map(|_| AtomicU64::new(0));
        Self {
            scale,
            is_coarse,
            bounds: bounds.iter().map(|b| (b / scale).round() as u64).collect(),
            below: zeros(bounds.len() + 1).collect(),
            sum: AtomicU64::new(0),
            // Twelve kilobytes that only percentiles elsewhere need.
            fine: (!metric.cloudwatch.is_empty()).then(|| zeros(OCTAVES * PARTS).collect()),
        }
    }

    /// Records a duration, of a histogram of seconds.
    pub fn took(&self, duration: Duration) {
        let whole = if self.is_coarse {
            duration.as_millis()
        } else {
            duration.as_nanos()
        };
        self.record(u64::try_from(whole).unwrap_or(u64::MAX));
    }

    /// Records a whole value.
    pub fn record(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.below[at].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
        if let Some(fine) = &self.fine {
            fine[bin(value)].fetch_add(1, Relaxed);
        }
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets().into_iter().sum()
    }

    /// Their sum, in the metric's unit.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum.load(Relaxed) as f64 * self.scale
    }

    /// How many there are up to each bound of the catalogue, and above the one before it; the last, of
    /// those above all.
    #[must_use]
    pub fn buckets(&self) -> Vec<u64> {
        self.below.iter().map(|count| count.load(Relaxed)).collect()
    }

    /// How many there are of each fine bin since the start; empty where nobody is told percentiles.
    #[must_use]
    pub fn bins(&self) -> Vec<u64> {
        let fine = self.fine.iter().flatten();
        fine.map(|count| count.load(Relaxed)).collect()
    }

    /// What stands for the values of a fine bin, in the metric's unit.
    #[must_use]
    pub fn stands_for(&self, bin: usize) -> f64 {
        middle(bin) * self.scale
    }
}

/// The fine bin of a value.
fn bin(value: u64) -> usize {
    let value = value.clamp(1, (1 << OCTAVES) - 1);
    let octave = 63 - value.leading_zeros() as usize;
    let above = (value - (1 << octave)) as usize;
    octave * PARTS + ((above * PARTS) >> octave)
}

/// The value whose relative distance to both ends of a bin is the same. A bin of one whole number is
/// that number.
pub(super) fn middle(bin: usize) -> f64 {
    let (octave, part) = (bin / PARTS, bin % PARTS);
    let start = |part: usize| (1_u64 << octave) + (part << octave).div_ceil(PARTS) as u64;
    let (low, high) = (start(part), start(part + 1).saturating_sub(1));
    let (low, high) = (low as f64, high.max(low) as f64);
    2.0 * low * high / (low + high)
}

/// The histograms of one metric; those that nothing was recorded in take no memory and no series.
#[derive(Clone, Debug)]
pub struct Distributions {
    metric: &'static Metric,
    pub(super) table: Arc<Table<OnceLock<Distribution>>>,
}

impl Distributions {
    pub(super) fn new(metric: &'static Metric, upstreams: &[String]) -> Self {
        Self {
            metric,
            table: Arc::new(Table::new(metric, upstreams)),
        }
    }

    /// The one at `index`; see [`Counters::at`](super::Counters::at).
    pub fn at(&self, index: usize) -> &Distribution {
        let new = || Distribution::new(self.metric);
        self.table.at(index).get_or_init(new)
    }

    /// The one with these words; see [`Counters::of`](super::Counters::of).
    pub fn of(&self, words: &[&str]) -> &Distribution {
        let new = || Distribution::new(self.metric);
        self.table.of(words).get_or_init(new)
    }

    /// Records a duration where there are no labels.
    pub fn took(&self, duration: Duration) {
        self.at(0).took(duration);
    }

    /// Those of a scrape.
    fn shown(&self) -> impl Iterator<Item = (&[(&'static str, Word)], &Distribution)> {
        let shown = self.table.shown();
        shown.filter_map(|(labels, one)| Some((labels, one.get()?)))
    }

    /// Each in which something may have been recorded, with its labels.
    pub fn each(&self) -> impl Iterator<Item = (&[(&'static str, Word)], &Distribution)> {
        let each = self.table.each();
        each.filter_map(|(labels, one)| Some((labels, one.get()?)))
    }
}

impl EncodeMetric for Distributions {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Kind::Histogram(bounds) = self.metric.kind else {
            return Ok(());
        };
        for (labels, one) in self.shown() {
            let bounds = bounds.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(one.buckets()).collect();
            // Of the same moment as the buckets: +Inf and the count must agree.
            let count = buckets.iter().map(|(_, count)| count).sum();
            let sum = one.sum();
            if labels.is_empty() {
                encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            } else {
                let mut one = encoder.encode_family(&labels)?;
                one.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }

    fn is_empty(&self) -> bool {
        self.shown().next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_stands_for_a_value_is_within_one_and_a_half_percent_of_it(value in 1_u64..1 << OCTAVES) {
            let told = middle(bin(value));
            let error = (told - value as f64).abs() / value as f64;
            prop_assert!(error <= 0.015, "{value} became {told}");
        }

        #[test]
        fn a_larger_value_is_never_in_a_smaller_bin(a in 0_u64..u64::MAX, b in 0_u64..u64::MAX) {
            prop_assert_eq!(bin(a.max(b)), bin(a).max(bin(b)));
        }
    }

    #[test]
    fn prometheus_is_told_exact_bounds_the_sum_and_infinity() {
        let mut book = super::super::Book::default();
        let hops = book.distributions(&super::super::catalogue::RING_LOOKUP_HOPS);
        for value in [0, 1, 1, 12, 13, 99] {
            hops.at(0).record(value);
        }
        let text = book.open_metrics();
        for line in [
            "koorde_ring_lookup_hops_sum 126.0\n",
            "koorde_ring_lookup_hops_count 6\n",
            "koorde_ring_lookup_hops_bucket{le=\"0.0\"} 1\n",
            "koorde_ring_lookup_hops_bucket{le=\"1.0\"} 3\n",
            "koorde_ring_lookup_hops_bucket{le=\"12.0\"} 4\n",
            "koorde_ring_lookup_hops_bucket{le=\"16.0\"} 5\n",
            "koorde_ring_lookup_hops_bucket{le=\"+Inf\"} 6\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_sum_of_ages_has_room_for_years() {
        let mut book = super::super::Book::default();
        let ages = book.distributions(&super::super::catalogue::CACHE_STORED_AGE);
        let month = Duration::from_secs(30 * 86_400);
        for _ in 0..20_000 {
            ages.took(month);
        }
        let sum = ages.at(0).sum() / (20_000.0 * month.as_secs_f64());
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn small_whole_numbers_stand_for_themselves() {
        for value in 1..40 {
            assert!((middle(bin(value)) - value as f64).abs() < 1e-9, "{value}");
        }
        assert!(bin(u64::MAX) < OCTAVES * PARTS);
    }
}
