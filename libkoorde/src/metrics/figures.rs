//! What was counted, as plain figures: of one node, or of many together.
//!
//! Merging is addition: the order in which members answer changes nothing. A gauge of many nodes has
//! a sum, a least and a most; the catalogue says which of them means something.

use std::collections::BTreeMap;

use super::{
    book::{Source, Values},
    describe::{Metric, Unit},
    distribution::{BINS, middle},
    table::Word,
};

/// One series: a metric's name and the words of its labels, in the catalogue's order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// The metric's name.
    pub metric: String,
    /// A word for each label.
    pub words: Vec<String>,
}

/// A gauge of one node, or of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// All together.
    pub sum: i64,
    /// The node that has least.
    pub least: i64,
    /// The node that has most.
    pub most: i64,
}

/// A distribution: how many values each fine bin has; a bin that is not there has none. Bins are
/// below [`Figures::BINS`].
pub type Bins = BTreeMap<u32, u64>;

/// All that was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Counters that are not 0.
    pub counts: BTreeMap<Series, u64>,
    /// Gauges.
    pub levels: BTreeMap<Series, Spread>,
    /// Histograms that keep fine bins.
    pub distributions: BTreeMap<Series, Bins>,
}

impl Series {
    fn new(metric: &Metric, labels: &[(&'static str, Word)]) -> Self {
        let words = labels.iter().map(|(_, word)| word.to_string());
        Self {
            metric: metric.name.to_owned(),
            words: words.collect(),
        }
    }

    /// Whether it is of this metric and its first words are these.
    fn is_of(&self, metric: &Metric, words: &[&str]) -> bool {
        let first = self.words.iter().map(String::as_str);
        self.metric == metric.name
            && words.len() <= self.words.len()
            && first.zip(words).all(|(mine, wanted)| mine == *wanted)
    }
}

impl Spread {
    /// Of one node.
    #[must_use]
    pub const fn of(level: i64) -> Self {
        Self {
            sum: level,
            least: level,
            most: level,
        }
    }

    fn add(&mut self, other: Self) {
        self.sum = self.sum.saturating_add(other.sum);
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }
}

impl Figures {
    /// Fine bins of a distribution.
    pub const BINS: u32 = BINS;

    /// What these sources have counted until now.
    #[must_use]
    pub fn of(sources: &[Source]) -> Self {
        let mut figures = Self::default();
        for Source { metric, values } in sources {
            match values {
                Values::Counters(counters) => {
                    let each = counters.each().filter(|(_, count)| *count > 0);
                    let each = each.map(|(labels, count)| (Series::new(metric, labels), count));
                    figures.counts.extend(each);
                }
                Values::Gauges(gauges) => {
                    let each = gauges.each();
                    let each = each.map(|(labels, n)| (Series::new(metric, labels), Spread::of(n)));
                    figures.levels.extend(each);
                }
                Values::Distributions(distributions) => {
                    let each = distributions.each();
                    let each = each.map(|(labels, one)| (labels, sparse(&one.bins())));
                    let each = each.filter(|(_, bins)| !bins.is_empty());
                    let each = each.map(|(labels, bins)| (Series::new(metric, labels), bins));
                    figures.distributions.extend(each);
                }
            }
        }
        figures
    }

    /// Adds another node's.
    pub fn merge(&mut self, other: &Self) {
        for (series, count) in &other.counts {
            let mine = self.counts.entry(series.clone()).or_default();
            *mine = mine.saturating_add(*count);
        }
        for (series, spread) in &other.levels {
            let mine = self.levels.entry(series.clone());
            mine.and_modify(|mine| mine.add(*spread)).or_insert(*spread);
        }
        for (series, bins) in &other.distributions {
            add(self.distributions.entry(series.clone()).or_default(), bins);
        }
    }

    /// What the same node has counted since `earlier`; its gauges as they are now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let count = |(series, count): (&Series, &u64)| {
            let before = earlier.counts.get(series).copied().unwrap_or(0);
            (series.clone(), count.saturating_sub(before))
        };
        let nothing = Bins::new();
        let bins = |(series, bins): (&Series, &Bins)| {
            let before = earlier.distributions.get(series).unwrap_or(&nothing);
            let less = bins.iter().map(|(bin, count)| {
                let before = before.get(bin).copied().unwrap_or(0);
                (*bin, count.saturating_sub(before))
            });
            let less = less.filter(|(_, count)| *count > 0);
            (series.clone(), less.collect())
        };
        Self {
            counts: self.counts.iter().map(count).collect(),
            levels: self.levels.clone(),
            distributions: self.distributions.iter().map(bins).collect(),
        }
    }

    /// The sum of a counter's series whose first words are these; none: of all.
    #[must_use]
    pub fn counted(&self, metric: &Metric, words: &[&str]) -> u64 {
        let all = self.counts.iter();
        all.filter(|(series, _)| series.is_of(metric, words))
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// A gauge, of a metric without labels; none if nobody has told it.
    #[must_use]
    pub fn level(&self, metric: &Metric) -> Option<Spread> {
        let mut all = self.levels.iter();
        let found = all.find(|(series, _)| series.is_of(metric, &[]));
        found.map(|(_, spread)| *spread)
    }

    /// The value, in the metric's unit, that this part (0 to 1) of all recorded ones do not exceed;
    /// none if there are none.
    #[must_use]
    pub fn percentile(&self, metric: &Metric, part: f64) -> Option<f64> {
        let mut all = Bins::new();
        for (series, bins) in &self.distributions {
            if series.is_of(metric, &[]) {
                add(&mut all, bins);
            }
        }
        percentile(&all, metric.unit, part)
    }
}

/// The value that this part of those in the bins do not exceed.
#[must_use]
pub fn percentile(bins: &Bins, unit: Unit, part: f64) -> Option<f64> {
    let count = bins
        .values()
        .fold(0_u64, |sum, count| sum.saturating_add(*count));
    let rank = (part.clamp(0.0, 1.0) * count as f64).ceil().max(1.0) as u64;
    let mut seen = 0_u64;
    let bin = bins.iter().find_map(|(bin, count)| {
        seen = seen.saturating_add(*count);
        (seen >= rank).then_some(*bin)
    })?;
    let scale = match unit {
        Unit::Seconds | Unit::Ratio => 1e-9,
        Unit::One | Unit::Bytes => 1.0,
    };
    Some(middle(bin as usize) * scale)
}

fn add(mine: &mut Bins, other: &Bins) {
    for (bin, count) in other {
        let mine = mine.entry(*bin).or_default();
        *mine = mine.saturating_add(*count);
    }
}

fn sparse(bins: &[u64]) -> Bins {
    let bins = (0..).zip(bins);
    bins.filter(|(_, count)| **count > 0)
        .map(|(bin, count)| (bin, *count))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::metrics::{
        Book, Metrics,
        catalogue::{CACHE_REQUESTS, CACHE_STORED_BYTES, ORIGIN_SECONDS},
    };

    fn series() -> impl Strategy<Value = Series> {
        ("[ab]", proptest::collection::vec("[xy]", 0..2))
            .prop_map(|(metric, words)| Series { metric, words })
    }

    fn figures(most: u64) -> impl Strategy<Value = Figures> {
        let number = move || prop_oneof![0_u64..9, Just(most)];
        let level = prop_oneof![-9_i64..9, Just(i64::MAX)];
        let bins = proptest::collection::btree_map(0_u32..5, number(), 0..4);
        (
            proptest::collection::btree_map(series(), number(), 0..4),
            proptest::collection::btree_map(series(), level.prop_map(Spread::of), 0..4),
            proptest::collection::btree_map(series(), bins, 0..4),
        )
            .prop_map(|(counts, levels, distributions)| Figures {
                counts,
                levels,
                distributions,
            })
    }

    fn merged(all: &[&Figures]) -> Figures {
        let mut sum = Figures::default();
        all.iter().for_each(|one| sum.merge(one));
        sum
    }

    proptest! {
        #[test]
        fn the_order_in_which_members_answer_changes_nothing(
            a in figures(u64::MAX), b in figures(u64::MAX), c in figures(u64::MAX),
        ) {
            prop_assert_eq!(merged(&[&a]), a.clone());
            prop_assert_eq!(merged(&[&a, &b]), merged(&[&b, &a]));
            // Saturated sums of gauges alone depend on it: those below and above no number has room for.
            let counts = |all: &[&Figures]| {
                let all = merged(all);
                (all.counts, all.distributions)
            };
            prop_assert_eq!(counts(&[&a, &b, &c]), counts(&[&merged(&[&b, &c]), &a]));
        }

        #[test]
        fn what_was_before_and_what_came_since_are_all(
            before in figures(u64::MAX / 2), grown in figures(u64::MAX / 2),
        ) {
            let now = merged(&[&before, &grown]);
            let again = merged(&[&before, &now.since(&before)]);
            prop_assert_eq!(&again.counts, &now.counts);
            let full = |figures: &Figures| {
                let mut all = figures.distributions.clone();
                all.retain(|_, bins| { bins.retain(|_, n| *n > 0); !bins.is_empty() });
                all
            };
            prop_assert_eq!(full(&again), full(&now));
        }
    }

    #[test]
    fn two_nodes_together_have_the_percentiles_of_all_their_requests() {
        let node = |milliseconds: std::ops::Range<u64>| {
            let mut book = Book::default();
            let metrics = Metrics::new(&mut book);
            for ms in milliseconds {
                metrics.origin_seconds.at(0).took(Duration::from_millis(ms));
            }
            metrics.stored_bytes.set(7);
            metrics.requests.of(&["hit", "local"]).inc_by(2);
            metrics.requests.of(&["hit", "peer"]).inc();
            Figures::of(book.sources())
        };
        let all = merged(&[&node(1..51), &node(51..101)]);
        for (part, value) in [(0.5, 0.050), (0.99, 0.099), (0.0, 0.001), (1.0, 0.100)] {
            let told = all.percentile(&ORIGIN_SECONDS, part).expect("recorded");
            assert!((told - value).abs() / value < 0.015, "{part}: {told}");
        }
        assert_eq!(all.counted(&CACHE_REQUESTS, &["hit"]), 6);
        assert_eq!(all.counted(&CACHE_REQUESTS, &["hit", "peer"]), 2);
        let stored = all.level(&CACHE_STORED_BYTES).expect("told");
        assert_eq!((stored.sum, stored.least, stored.most), (14, 7, 7));
        assert_eq!(
            Figures::default().percentile(&ORIGIN_SECONDS, 0.5),
            None,
            "of nothing"
        );
    }
}
