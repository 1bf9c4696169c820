//! What happened between two looks at the counters.
//!
//! All counts start at 0 with the process, and so does the ledger: the first interval has what was
//! counted before it, the last one, taken when all requests are done, has the rest.

use std::time::Duration;

use libkoorde::metrics::{
    Distributions, Source, Values,
    describe::{Metric, Published, Statistic, Unit},
};

/// What is told of one interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// When it ended, in milliseconds since the process's start: the time of day is asked for when it is
    /// sent, as until then a clock may be put right.
    pub at: u64,
    /// One for each metric that is told.
    pub data: Vec<Datum>,
}

/// One metric in one interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    /// Its name in CloudWatch.
    pub name: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// How it is to be looked at, and so how two are added up.
    pub statistic: Statistic,
    /// Values, each with how many there were; by value. Of a counter one: what it grew by.
    pub values: Vec<(f64, u64)>,
}

impl Datum {
    /// How CloudWatch spells the unit.
    #[must_use]
    pub const fn unit(&self) -> &'static str {
        match self.unit {
            Unit::One => "Count",
            Unit::Seconds => "Seconds",
            Unit::Bytes => "Bytes",
            Unit::Ratio => "None",
        }
    }

    /// Adds a later interval's datum of the same metric.
    fn add(&mut self, later: &Self) {
        if self.statistic == Statistic::Sum {
            let sum = self.sum() + later.sum();
            self.values = vec![(sum, 1)];
            return;
        }
        for (value, count) in &later.values {
            match self.values.binary_search_by(|(v, _)| v.total_cmp(value)) {
                Ok(at) => self.values[at].1 += count,
                Err(at) => self.values.insert(at, (*value, *count)),
            }
        }
        if self.statistic != Statistic::P99 {
            self.keep_ends();
        }
    }

    /// Of a level only the lowest and the highest are looked at: more would grow with an outage.
    fn keep_ends(&mut self) {
        let count = self.count();
        if let [(lowest, _), .., (highest, _)] = self.values[..] {
            self.values = vec![(lowest, count - 1), (highest, 1)];
        }
    }

    /// The sum of all values.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.values.iter().map(|(v, n)| v * *n as f64).sum()
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.values.iter().map(|(_, count)| count).sum()
    }
}

impl Interval {
    /// Adds a later one, so that both take the room of one and nothing is lost but the moment.
    pub fn add(&mut self, later: &Self) {
        self.at = later.at;
        for datum in &later.data {
            match self.data.iter_mut().find(|mine| mine.name == datum.name) {
                Some(mine) => mine.add(datum),
                None => self.data.push(datum.clone()),
            }
        }
    }
}

/// What has been told already.
#[derive(Debug)]
pub struct Ledger {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    metric: &'static Metric,
    published: &'static Published,
    values: Values,
    /// Counts at the last look: one of a counter, one a bin of a histogram.
    told: Vec<u64>,
}

impl Ledger {
    /// A ledger of what the catalogue tells CloudWatch.
    #[must_use]
    pub fn new(sources: &[Source]) -> Self {
        let entry = |source: &Source, published: &'static Published| Entry {
            metric: source.metric,
            published,
            values: source.values.clone(),
            told: Vec::new(),
        };
        let entries = sources.iter().flat_map(|source| {
            let told = source.metric.cloudwatch.iter();
            told.map(move |published| entry(source, published))
        });
        Self {
            entries: entries.collect(),
        }
    }

    /// What has happened since the last look, so long ago; histograms in which nothing was recorded
    /// are left out. A level that is told as a sum is told over time, in level-seconds: what all nodes
    /// tell in a period is its seconds times the level of all, however often they look.
    #[must_use]
    pub fn take(&mut self, since: Duration) -> Vec<Datum> {
        let entries = self.entries.iter_mut();
        entries.filter_map(|entry| entry.take(since)).collect()
    }
}

impl Entry {
    fn take(&mut self, since: Duration) -> Option<Datum> {
        let values = match &self.values {
            Values::Counters(counters) => {
                let total = counters
                    .each()
                    .filter(|(labels, _)| takes(self.published, labels));
                let total: u64 = total.map(|(_, count)| count).sum();
                let told = self.told.first().copied().unwrap_or_default();
                self.told = vec![total];
                vec![(scaled(self.metric, total.saturating_sub(told)), 1)]
            }
            Values::Gauges(gauges) => {
                let level: i64 = gauges.each().map(|(_, level)| level).sum();
                let level = scaled(self.metric, u64::try_from(level).unwrap_or_default());
                let is_sum = self.published.statistic == Statistic::Sum;
                let times = if is_sum { since.as_secs_f64() } else { 1.0 };
                vec![(level * times, 1)]
            }
            Values::Distributions(distributions) => {
                let values = grown(distributions, &mut self.told);
                if values.is_empty() {
                    return None;
                }
                values
            }
        };
        Some(Datum {
            name: self.published.name,
            unit: self.metric.unit,
            statistic: self.published.statistic,
            values,
        })
    }
}

fn takes(published: &Published, labels: &[(&'static str, libkoorde::metrics::Word)]) -> bool {
    let labels: Vec<(&str, &str)> = labels.iter().map(|(name, word)| (*name, &**word)).collect();
    published.takes(&labels)
}

/// Seconds are kept as nanoseconds, ratios as billionths.
fn scaled(metric: &Metric, value: u64) -> f64 {
    match metric.unit {
        Unit::Seconds | Unit::Ratio => value as f64 / 1e9,
        Unit::One | Unit::Bytes => value as f64,
    }
}

/// The bins that have grown, over all series.
fn grown(distributions: &Distributions, told: &mut Vec<u64>) -> Vec<(f64, u64)> {
    let mut now: Vec<u64> = Vec::new();
    for (_, one) in distributions.each() {
        let bins = one.bins();
        now.resize(now.len().max(bins.len()), 0);
        for (sum, count) in now.iter_mut().zip(bins) {
            *sum += count;
        }
    }
    told.resize(now.len(), 0);
    let any = distributions.each().next();
    let stands_for = |bin| any.as_ref().map_or(0.0, |(_, one)| one.stands_for(bin));
    let grown = now.iter().zip(told.iter()).enumerate();
    let grown = grown.filter(|(_, (now, told))| now > told);
    let values = grown.map(|(bin, (now, told))| (stands_for(bin), now - told));
    let values = values.collect();
    *told = now;
    values
}

#[cfg(test)]
mod tests {
    use libkoorde::{
        Metrics,
        metrics::{Book, count},
        outcome::{CacheResult, Tier},
    };

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn of<'a>(data: &'a [Datum], name: &str) -> &'a Datum {
        let found = data.iter().find(|datum| datum.name == name);
        found.unwrap_or_else(|| panic!("{name} is told"))
    }

    #[test]
    fn the_first_interval_has_what_was_counted_before_it_and_the_next_only_what_is_new() {
        let mut book = Book::default();
        let metrics = Metrics::new(&mut book);
        metrics.requests(CacheResult::Hit, Tier::Local).inc_by(5);
        metrics.requests(CacheResult::Miss, Tier::Origin).inc();
        metrics.requests(CacheResult::Validated, Tier::Origin).inc();
        let mut ledger = Ledger::new(book.sources());
        let first = ledger.take(MINUTE);
        for (name, sum) in [
            ("Requests", 7.0),
            ("Hits", 5.0),
            ("Misses", 2.0),
            ("Errors", 0.0),
        ] {
            assert_eq!(of(&first, name).values, [(sum, 1)], "{name}");
        }
        metrics.requests(CacheResult::Hit, Tier::Peer).inc();
        count(&metrics.shed, "resting");
        let second = ledger.take(MINUTE);
        assert_eq!(of(&second, "Requests").values, [(1.0, 1)]);
        assert_eq!(of(&second, "Shed").values, [(1.0, 1)]);
        assert_eq!(of(&ledger.take(MINUTE), "Requests").values, [(0.0, 1)]);
    }

    #[test]
    fn a_level_that_is_summed_is_the_same_however_often_it_is_looked_at() {
        let mut book = Book::default();
        let metrics = Metrics::new(&mut book);
        metrics.ring_arc.at(0).set_part(1, 4);
        metrics.ring_members.set(4);
        let mut ledger = Ledger::new(book.sources());
        let mut told = |every: u64| {
            let looks = (0..300 / every).map(|_| ledger.take(Duration::from_secs(every)));
            let looks: Vec<_> = looks.collect();
            assert!(
                looks
                    .iter()
                    .all(|data| of(data, "RingMembers").sum() == 4.0)
            );
            looks
                .iter()
                .map(|data| of(data, "RingArc").sum())
                .sum::<f64>()
        };
        for every in [1, 10, 60, 300] {
            assert!((told(every) - 75.0).abs() < 1e-9, "a quarter of 300 s");
        }
    }

    #[test]
    fn a_histogram_is_told_over_all_its_series_and_each_value_once() {
        let mut book = Book::default();
        let metrics = Metrics::new(&mut book);
        let mut ledger = Ledger::new(book.sources());
        assert!(
            ledger
                .take(MINUTE)
                .iter()
                .all(|datum| datum.name != "PeerDuration")
        );
        let calls = &metrics.peer_seconds;
        for code in ["ok", "refused"] {
            calls.of(&["fetch", code]).took(Duration::from_millis(100));
        }
        let data = ledger.take(MINUTE);
        let datum = of(&data, "PeerDuration");
        assert_eq!((datum.count(), datum.unit()), (2, "Seconds"));
        assert!((datum.sum() / 0.2 - 1.0).abs() < 0.015, "{datum:?}");
        assert!(
            ledger
                .take(MINUTE)
                .iter()
                .all(|datum| datum.name != "PeerDuration")
        );
    }

    #[test]
    fn two_intervals_in_the_room_of_one_lose_nothing() {
        let datum = |statistic, values: &[(f64, u64)]| Datum {
            name: "X",
            unit: Unit::One,
            statistic,
            values: values.to_vec(),
        };
        let interval = |at, datum| Interval {
            at,
            data: vec![datum],
        };
        let several = || vec![(1.0, 2), (2.0, 7), (3.0, 1)];
        for (statistic, one, two, expected) in [
            (
                Statistic::Sum,
                vec![(4.0, 1)],
                vec![(11.0, 1)],
                vec![(15.0, 1)],
            ),
            (
                Statistic::P99,
                vec![(1.0, 2), (2.0, 3)],
                vec![(2.0, 4), (3.0, 1)],
                several(),
            ),
            (
                Statistic::Minimum,
                vec![(1.0, 2), (2.0, 3)],
                vec![(2.0, 4), (3.0, 1)],
                vec![(1.0, 9), (3.0, 1)],
            ),
        ] {
            let mut merged = interval(1, datum(statistic, &one));
            merged.add(&interval(2, datum(statistic, &two)));
            assert_eq!(merged, interval(2, datum(statistic, &expected)));
        }
    }

    #[test]
    fn a_level_in_an_outage_of_any_length_is_its_two_ends() {
        let datum = |level: f64| Datum {
            name: "StoredBytes",
            unit: Unit::Bytes,
            statistic: Statistic::Maximum,
            values: vec![(level, 1)],
        };
        let mut merged = datum(500.0);
        for level in 0..1000 {
            merged.add(&datum(f64::from(level)));
        }
        assert_eq!(merged.values, [(0.0, 1000), (999.0, 1)]);
        let mut same = datum(7.0);
        same.add(&datum(7.0));
        assert_eq!(same.values, [(7.0, 2)]);
    }
}
